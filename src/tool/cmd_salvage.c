/* `ekv salvage`: everything that can still be read, into a directory or a new image.
 *
 * What is current is what a mount shows. Where the newest version of a key is damaged, or with it
 * what would tell, the newest one that is whole takes its place, and that is said.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "salvage.h"

static const struct option_spec options[] = {
    {"output", 'o', "DIR|IMAGE", "where to; a new image if the name ends in .img or .bin"},
    {"deleted", 'd', NULL, "also keys that were removed"},
    {"old", 'O', NULL, "also the older versions of all keys"},
    {0},
};

/* --- What ------------------------------------------------------------------------------------ */

static void add(struct salvage *salvage, const struct survey_record *record, enum salvage_kind kind)
{
    salvage->items[salvage->count++] = (struct salvage_item){record, kind};
}

static bool is_whole(const struct survey_record *record)
{
    return record->valid && record->state == SURVEY_COMMITTED && !record->copy;
}

/* The newest record that is newer than `top` and damaged; NULL if there is none. */
static const struct survey_record *newest_damaged(const struct survey *survey, uint32_t first,
                                                  uint32_t end, const struct survey_record *top)
{
    for (uint32_t i = first; i < end && &survey->records[i] != top; i++)
        if (!survey->records[i].valid && !survey->records[i].torn)
            return &survey->records[i];
    return NULL;
}

/* The newest version of a key that is whole. */
static const struct survey_record *newest_whole(const struct survey *survey, uint32_t first,
                                                uint32_t end)
{
    for (uint32_t i = first; i < end; i++)
        if (is_whole(&survey->records[i]))
            return &survey->records[i];
    return NULL;
}

/* What takes the place of a damaged version: itself, if it can be put right, or an older one. */
static const struct survey_record *replace(struct salvage *salvage,
                                           const struct survey_record *damaged,
                                           const struct survey_record *older)
{
    const char *name = key_text(damaged->key, damaged->key_size);
    if (damaged->mendable && damaged->flags & EKV_RECORD_COMMITS) {
        message(salvage->tool, "version %llu of '%s' had one flipped bit, which is put right",
                (unsigned long long)damaged->version, name);
        return damaged;
    }
    if (older)
        message(salvage->tool,
                "the newest version of '%s' is damaged: version %llu takes its place", name,
                (unsigned long long)older->version);
    else
        message(salvage->tool, "'%s' is skipped: it is damaged, and no older version is there",
                name);
    salvage->lost += !older;
    return older;
}

static bool is_in_use(const struct survey *survey, const struct survey_record *record)
{
    uint32_t sector = ekv_sector_of(&survey->format, record->address);
    return survey->sectors[sector].role == SURVEY_LOG;
}

/* The versions of one key: the current one, the last one of a key that is gone, older ones. */
static void choose_key(struct salvage *salvage, uint32_t first, uint32_t end)
{
    const struct survey *survey = &salvage->look->survey;
    const struct survey_record *top = survey_visible(survey, first, SURVEY_NOW, NULL);
    enum salvage_kind kind = SALVAGE_CURRENT;
    const struct survey_record *damaged = newest_damaged(survey, first, end, top);
    if (damaged)
        top = replace(salvage, damaged, top ? top : newest_whole(survey, first, end));
    const struct survey_record *newest = newest_whole(survey, first, end);
    bool newer = newest && (!top || newest->version > top->version);
    if (newer && survey->manifest.index_damaged && is_in_use(survey, newest)) {
        if (newest->kind != EKV_RECORD_DELETE)
            message(
                salvage->tool,
                top ? "nothing leads to the newest version of '%s' any more: %llu, which is taken"
                    : "nothing leads to '%s' any more, which perhaps was removed: version %llu "
                      "is taken",
                key_text(newest->key, newest->key_size), (unsigned long long)newest->version);
        top = newest;
    }
    if ((!top || top->kind == EKV_RECORD_DELETE) && salvage->deleted) {
        top = survey_deleted(survey, first);
        kind = SALVAGE_DELETED;
    }
    if (top && top->kind != EKV_RECORD_DELETE)
        add(salvage, top, kind);
    for (uint32_t i = first; salvage->old && i < end; i++) {
        const struct survey_record *record = &survey->records[i];
        if (is_whole(record) && record != top && record->space == EKV_USER)
            add(salvage, record, SALVAGE_OLD);
    }
}

static int compare_items(const void *left, const void *right)
{
    const struct salvage_item *a = left, *b = right;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return a->record < b->record ? -1 : a->record > b->record; /* the table's order */
}

/* What is broken and does not say whose it is. */
static void find_doubts(struct salvage *salvage)
{
    static const char *const codes[] = {"page-pointer", "page-entries", "commit-count",
                                        "replay-position", NULL};
    const struct survey *survey = &salvage->look->survey;
    for (uint32_t i = 0; i < survey->finding_count; i++) {
        const struct survey_finding *finding = &survey->findings[i];
        const char *const *code = codes;
        bool nameless = strcmp(finding->code, "record-crc") == 0 && !finding->key;
        while (*code && strcmp(*code, finding->code) != 0)
            code++;
        if ((!*code && !nameless) || finding->note)
            continue;
        message(salvage->tool, "at 0x%08llx: %s; what hangs on it may be lost, or older",
                (unsigned long long)survey_offset(survey, finding->address), finding->text);
        salvage->doubts++;
    }
}

static void choose(struct salvage *salvage)
{
    const struct survey *survey = &salvage->look->survey;
    size_t prefix = strlen(salvage->prefix);
    salvage->items = allocate((size_t)survey->record_count * sizeof *salvage->items);
    for (uint32_t i = 0, end; i < survey->record_count; i = end) {
        const struct survey_record *record = &survey->records[i];
        end = survey_key_end(survey, i);
        if (record->key_size >= prefix && memcmp(record->key, salvage->prefix, prefix) == 0)
            choose_key(salvage, i, end);
    }
    if (!*salvage->prefix)
        find_doubts(salvage);
    if (salvage->count)
        qsort(salvage->items, salvage->count, sizeof *salvage->items, compare_items);
}

bool salvage_value(struct salvage *salvage, const struct survey_record *record, uint8_t **value,
                   uint64_t *size)
{
    const char *name = key_text(record->key, record->key_size);
    uint64_t lost;
    int error = survey_value(&salvage->look->survey, record, value, size, &lost);
    if (!error && *size > 0 && lost == *size) {
        free(*value);
        error = EKV_NOT_FOUND;
    }
    if (error) {
        message(salvage->tool, "version %llu of '%s' is skipped: nothing of its value is left",
                (unsigned long long)record->version, name);
        salvage->lost++;
        return false;
    }
    if (lost > 0) {
        message(salvage->tool,
                "'%s', version %llu: %llu of its %llu bytes are lost, and zeroes now", name,
                (unsigned long long)record->version, (unsigned long long)lost,
                (unsigned long long)*size);
        salvage->damaged++;
    }
    return true;
}

/* --- The command ----------------------------------------------------------------------------- */

static bool ends_in(const char *text, const char *end)
{
    size_t size = strlen(text), length = strlen(end);
    return size > length && strcmp(text + size - length, end) == 0;
}

static void report(const struct salvage *salvage)
{
    const uint64_t *counts = salvage->counts;
    if (salvage->tool->json) {
        json_t *object = json_pack("{s:s}", "schema", "ekv.salvage.1");
        json_set_bytes(object, "output", salvage->output, strlen(salvage->output));
        json_add(object,
                 json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "keys", (json_int_t)counts[0],
                           "deleted", (json_int_t)counts[1], "old", (json_int_t)counts[2],
                           "damaged", (json_int_t)salvage->damaged, "lost",
                           (json_int_t)salvage->lost, "doubts", (json_int_t)salvage->doubts));
        json_line(object);
        return;
    }
    printf("%s: %llu key%s", salvage->output, (unsigned long long)counts[0],
           counts[0] == 1 ? "" : "s");
    if (salvage->deleted)
        printf(", %llu deleted", (unsigned long long)counts[1]);
    if (salvage->old)
        printf(", %llu older versions", (unsigned long long)counts[2]);
    if (salvage->damaged)
        printf(", %llu with parts missing", (unsigned long long)salvage->damaged);
    if (salvage->lost)
        printf(", %llu skipped", (unsigned long long)salvage->lost);
    if (salvage->doubts)
        printf(", %llu in doubt", (unsigned long long)salvage->doubts);
    putchar('\n');
}

/* Into a directory, or a new image: that goes by its name. False, with a message, if it is neither.
 */
static bool choose_output(const struct salvage *salvage, bool *image)
{
    struct stat status;
    if (!salvage->output) {
        message(salvage->tool, "where to? Name a directory or a new image with -o");
        return false;
    }
    bool there = stat(salvage->output, &status) == 0;
    *image = !there && (ends_in(salvage->output, ".img") || ends_in(salvage->output, ".bin"));
    if (!there || S_ISDIR(status.st_mode))
        return true;
    message(salvage->tool, "%s exists: a new image or a directory is written, nothing else",
            salvage->output);
    return false;
}

static int run(struct tool *tool)
{
    struct salvage salvage = {.tool = tool, .prefix = ""};
    struct look look;
    const char *value;
    char **operands;
    int count, option;
    bool image;
    while ((option = tool_option(tool, &value)) > 0) {
        salvage.output = option == 'o' ? value : salvage.output;
        salvage.deleted |= option == 'd';
        salvage.old |= option == 'O';
    }
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 0, 1, &operands, &count))
        return STATUS_FAILED;
    if (count > 0)
        salvage.prefix = operands[0];
    if (!choose_output(&salvage, &image) || look_open(tool, &look, NULL) != EKV_OK)
        return STATUS_FAILED;
    salvage.look = &look;
    choose(&salvage);
    int status = image ? salvage_image(&salvage) : salvage_tree(&salvage);
    if (status == STATUS_OK) {
        report(&salvage);
        status = salvage.damaged || salvage.lost || salvage.doubts ? STATUS_NO : STATUS_OK;
    }
    free(salvage.items);
    look_close(&look);
    return status;
}

const struct command command_salvage = {
    .name = "salvage",
    .operands = "[PREFIX]",
    .summary = "Get everything readable out of a broken image",
    .details =
        "Needs no manifest, no index, not even the begin of the flash. In a directory, keys are\n"
        "files as ekvfs names them, with the time of their commit; removed ones are below\n"
        ".ekv/deleted, older versions are .ekv/history/KEY/VERSION. A new image has the geometry\n"
        "of the old one; removed keys are there again, older versions are in its history.\n"
        "Exits with 1 when a value could not be had, or not whole, or when that is in doubt:\n"
        "stderr says which.\n",
    .options = options,
    .run = run,
};
