/* `get` and `ls` of what was: old versions, moments, deleted keys; and of what cannot be mounted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "look.h"

/* What of a key is asked for, and what that comes to. */
struct wanted {
    uint64_t version;
    bool exact; /* this version and no other */
    bool deleted;
};

static bool resolve(const struct look *look, const struct look_choice *choice,
                    struct wanted *wanted)
{
    *wanted = (struct wanted){.version = SURVEY_NOW, .deleted = choice->deleted};
    if (choice->at)
        return look_moment(look, "--at", choice->at, &wanted->version);
    if (!choice->version)
        return true;
    char *end;
    errno = 0;
    wanted->version = strtoull(choice->version, &end, 10);
    wanted->exact = true;
    if (errno == 0 && *end == 0 && *choice->version >= '0' && *choice->version <= '9')
        return true;
    message(look->tool, "--version '%s' is no number; 'ekv history' lists the versions of a key",
            choice->version);
    return false;
}

/* The record that is meant, of the key whose records begin at `index`; NULL when there is none. */
static const struct survey_record *choose(const struct survey *survey, uint32_t index,
                                          const struct wanted *wanted, bool *certain)
{
    *certain = true;
    if (wanted->deleted)
        return survey_deleted(survey, index);
    if (!wanted->exact)
        return survey_visible(survey, index, wanted->version, certain);
    for (uint32_t end = survey_key_end(survey, index); index < end; index++)
        if (survey->records[index].version == wanted->version)
            return &survey->records[index];
    return NULL;
}

/* --- get ------------------------------------------------------------------------------------- */

static int explain_nothing(const struct look *look, struct ekv_key key, const struct wanted *wanted,
                           const struct survey_record *record)
{
    const char *name = key_text(key.bytes, key.size);
    if (record)
        message(look->tool, "'%s' was removed by version %llu", name,
                (unsigned long long)record->version);
    else if (wanted->exact)
        message(look->tool, "'%s' has no version %llu here; 'ekv history' lists those it has", name,
                (unsigned long long)wanted->version);
    else if (wanted->version != SURVEY_NOW)
        message(look->tool, "'%s' was not there at version %llu, or nothing is left of it", name,
                (unsigned long long)wanted->version);
    else
        message(look->tool, "there is no key '%s'", name);
    return STATUS_NO;
}

static int write_to(const struct look *look, const struct survey_record *record, const char *path)
{
    if (!path)
        return look_write_value(look, record, stdout, "standard output");
    FILE *output = fopen(path, "we");
    int status = STATUS_FAILED;
    if (output)
        status = look_write_value(look, record, output, path);
    if (!output || fclose(output) != 0) {
        message(look->tool, "%s cannot be written: %s", path, strerror(errno));
        return STATUS_FAILED;
    }
    return status;
}

static int get(const struct look *look, struct ekv_key key, const struct look_choice *choice,
               const char *path)
{
    const struct survey_record *record = NULL;
    struct wanted wanted;
    uint32_t first, end;
    bool certain = true;
    if (!resolve(look, choice, &wanted))
        return STATUS_FAILED;
    if (survey_key_find(&look->survey, key, &first, &end) == EKV_OK)
        record = choose(&look->survey, first, &wanted, &certain);
    if (!record || record->kind == EKV_RECORD_DELETE)
        return explain_nothing(look, key, &wanted, record);
    if (!certain)
        message(look->tool,
                "this is the last version before then that is left; newer ones may be gone since");
    if (record->valid && record->state != SURVEY_COMMITTED)
        message(look->tool, "version %llu is of a transaction that %s",
                (unsigned long long)record->version,
                record->state == SURVEY_PENDING ? "was never committed"
                                                : "cannot be told to have been committed");
    return write_to(look, record, path);
}

int look_get(struct tool *tool, struct ekv_key key, const struct look_choice *choice,
             const char *path)
{
    struct look look;
    /* A time is found among the commits of all keys. */
    bool alone = !choice->at;
    if (look_open(tool, &look, alone ? &key : NULL) != EKV_OK)
        return STATUS_FAILED;
    int status = get(&look, key, choice, path);
    look_close(&look);
    return status;
}

/* --- ls -------------------------------------------------------------------------------------- */

struct lister {
    const struct look *look;
    const struct look_list *list;
    struct wanted wanted;
    bool escape;
    uint32_t count, uncertain;
    const uint8_t *directory; /* the last one that was printed */
    uint32_t directory_size;
};

static void print_line(const struct lister *lister, const struct survey_record *record,
                       const uint8_t *key, uint32_t size)
{
    if (lister->list->long_form && record)
        printf("%10llu  %-20s  %10llu  ", (unsigned long long)record->version,
               time_text(record->time), (unsigned long long)record->size);
    else if (lister->list->long_form)
        printf("%10s  %-20s  %10s  ", "-", "-", "-");
    print_bytes(key, size, lister->escape);
    putchar(lister->list->null ? 0 : '\n');
}

static void print_json(const struct lister *lister, const struct survey_record *record,
                       bool certain)
{
    json_t *object = json_pack("{s:s}", "schema", "ekv.key.1");
    look_json_key(object, record);
    json_object_set_new(object, "version", json_integer((json_int_t)record->version));
    json_set_time(object, record->time);
    json_object_set_new(object, "size", json_integer((json_int_t)record->size));
    if (lister->list->choice.at)
        json_object_set_new(object, "certain", json_boolean(certain));
    if (lister->list->choice.deleted)
        json_object_set_new(object, "deleted", json_true());
    json_line(object);
}

static void print_directory(struct lister *lister, const uint8_t *key, uint32_t size)
{
    if (lister->directory_size == size && memcmp(lister->directory, key, size) == 0)
        return;
    lister->directory = key;
    lister->directory_size = size;
    if (!lister->look->tool->json) {
        print_line(lister, NULL, key, size);
        return;
    }
    json_t *object = json_pack("{s:s}", "schema", "ekv.prefix.1");
    json_set_bytes(object, "prefix", key, size);
    json_line(object);
}

static void list_key(struct lister *lister, const struct survey_record *record, bool certain)
{
    uint32_t prefix = (uint32_t)strlen(lister->list->prefix);
    if (record->key_size < prefix || memcmp(record->key, lister->list->prefix, prefix) != 0)
        return;
    lister->count++;
    lister->uncertain += !certain;
    const uint8_t *slash = NULL;
    if (!lister->list->recursive && record->key_size > prefix)
        slash = memchr(record->key + prefix, '/', record->key_size - prefix);
    if (slash)
        print_directory(lister, record->key, (uint32_t)(slash - record->key) + 1);
    else if (lister->look->tool->json)
        print_json(lister, record, certain);
    else
        print_line(lister, record, record->key, record->key_size);
}

static int ls(const struct look *look, const struct look_list *list)
{
    const struct survey *survey = &look->survey;
    struct lister lister = {.look = look, .list = list};
    lister.escape = !list->null && isatty(STDOUT_FILENO);
    if (!resolve(look, &list->choice, &lister.wanted))
        return STATUS_FAILED;
    for (uint32_t i = 0, end; i < survey->record_count && !ferror(stdout); i = end) {
        bool certain;
        end = survey_key_end(survey, i);
        const struct survey_record *record = choose(survey, i, &lister.wanted, &certain);
        if (record && record->space == EKV_USER && record->kind != EKV_RECORD_DELETE)
            list_key(&lister, record, certain);
    }
    if (lister.uncertain > 0)
        message(look->tool,
                "%u of these may have had another value then, which is gone since; from version "
                "%llu on everything is known",
                lister.uncertain, (unsigned long long)survey->complete);
    if (lister.count > 0 || *list->prefix == 0)
        return STATUS_OK;
    message(look->tool, "no key begins with '%s'", key_text(list->prefix, strlen(list->prefix)));
    return STATUS_NO;
}

int look_ls(struct tool *tool, const struct look_list *list)
{
    struct look look;
    if (look_open(tool, &look, NULL) != EKV_OK)
        return STATUS_FAILED;
    int status = ls(&look, list);
    look_close(&look);
    return status;
}
