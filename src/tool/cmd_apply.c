/* `ekv apply`: many puts and deletes as one transaction, all of them or none.
 *
 * All lines are read, and their conditions looked at, before anything is written: a mistake costs
 * the flash nothing. Of several changes of a key only the last is made, and they are made in the
 * order of the keys, in which the engine adds them to a large transaction fastest.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "change.h"
#include "scan.h"
#include "writer.h"

/* Looks whether the store, as it was before, fulfils the conditions of a change. EKV_CONFLICT after
 * a message that it does not. */
static int check_conditions(const struct input *input, struct store *store,
                            const struct change *change)
{
    struct ekv_entry entry;
    if (!change->if_absent && !change->if_version)
        return EKV_OK;
    const char *name = key_text(change->key.bytes, change->key.size);
    int error = ekv_find(store->db, change->key, &entry);
    if (error < 0) {
        input_complain(input, "'%s' cannot be looked up: %s", name, result_text(error));
        return error;
    }
    bool there = error == EKV_OK;
    if (change->if_absent && there) {
        input_complain(input, "'%s' is there already, in version %llu; nothing was changed", name,
                       (unsigned long long)entry.version);
        return EKV_CONFLICT;
    }
    if (change->if_version && !there) {
        input_complain(input, "'%s' is not there, let alone in version %llu; nothing was changed",
                       name, (unsigned long long)change->version);
        return EKV_CONFLICT;
    }
    if (change->if_version && entry.version != change->version) {
        input_complain(input, "'%s' is in version %llu, not %llu; nothing was changed", name,
                       (unsigned long long)entry.version, (unsigned long long)change->version);
        return EKV_CONFLICT;
    }
    return EKV_OK;
}

struct list {
    struct numbered {
        struct change change;
        size_t number;
    } * items;
    size_t count, capacity;
};

static int read_line(struct input *input, struct store *store, struct list *list, const char *line,
                     size_t size)
{
    struct change change;
    if (change_is_blank(line, size))
        return EKV_OK;
    if (!change_parse(input, line, size, &change))
        return EKV_INVALID;
    int error = check_conditions(input, store, &change);
    if (error) {
        change_free(&change);
        return error;
    }
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->items = allocate_again(list->items, list->capacity * sizeof *list->items);
    }
    list->items[list->count] = (struct numbered){change, list->count};
    list->count++;
    return EKV_OK;
}

static int compare_keys(const struct change *one, const struct change *other)
{
    if (one->key.space != other->key.space)
        return one->key.space < other->key.space ? -1 : 1;
    return key_compare(one->key.bytes, one->key.size, other->key.bytes, other->key.size);
}

static int compare(const void *one, const void *other)
{
    const struct numbered *a = one, *b = other;
    int order = compare_keys(&a->change, &b->change);
    return order ? order : (a->number > b->number) - (a->number < b->number);
}

static int make_changes(struct writer *writer, struct list *list)
{
    int error = EKV_OK;
    if (list->count > 0)
        qsort(list->items, list->count, sizeof *list->items, compare);
    for (size_t i = 0; i < list->count && !error; i++) {
        const struct change *change = &list->items[i].change;
        if (i + 1 < list->count && compare_keys(change, &list->items[i + 1].change) == 0)
            continue;
        if (change->remove)
            error = writer_delete(writer, change->key);
        else
            error = writer_put(writer, change->key, change->value, change->value_size);
    }
    return error ? error : writer_commit(writer);
}

static void report(const struct tool *tool, const struct store *store,
                   const struct writer_counts *counts)
{
    struct ekv_stat stat;
    ekv_stat(store->db, &stat);
    if (tool->json)
        json_line(json_pack("{s:s, s:I, s:I, s:I, s:I}", "schema", "ekv.apply.1", "puts",
                            (json_int_t)counts->puts, "deletes", (json_int_t)counts->deletes,
                            "unchanged", (json_int_t)counts->unchanged, "version",
                            (json_int_t)stat.version));
    else
        printf("%llu put, %llu removed, %llu unchanged: version %llu\n",
               (unsigned long long)counts->puts, (unsigned long long)counts->deletes,
               (unsigned long long)counts->unchanged, (unsigned long long)stat.version);
}

static int apply(struct tool *tool, struct input *input)
{
    struct store store;
    struct writer writer;
    struct list list = {0};
    char *line;
    size_t size;
    int error = store_open_mounted(tool, &store, true);
    if (error)
        return STATUS_FAILED;
    writer_open(&writer, tool, &store, true);
    while (!error && input_line(input, &line, &size))
        error = read_line(input, &store, &list, line, size);
    if (!error && input->failed)
        error = EKV_IO;
    if (!error)
        error = make_changes(&writer, &list);
    if (!error)
        report(tool, &store, &writer.counts);
    writer_close(&writer);
    for (size_t i = 0; i < list.count; i++)
        change_free(&list.items[i].change);
    free(list.items);
    int closed = store_close(tool, &store);
    return error == EKV_CONFLICT ? STATUS_NO : error || closed ? STATUS_FAILED : STATUS_OK;
}

static int run(struct tool *tool)
{
    struct input input;
    const char *value;
    char **operands;
    int count, option = tool_option(tool, &value);
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 0, 1, &operands, &count) ||
        !input_open(tool, &input, count > 0 ? operands[0] : NULL))
        return STATUS_FAILED;
    int status = apply(tool, &input);
    input_close(&input);
    return status;
}

const struct command command_apply = {
    .name = "apply",
    .operands = "[FILE|-]",
    .summary = "Make many changes as one transaction: all of them, or none",
    .details =
        "Each line is a change, in JSON: "
        "{\"op\":\"put\",\"key\":\"net/ip\",\"value\":\"10.0.0.1\"} or\n"
        "{\"op\":\"del\",\"key\":\"net/ip\"}; what is not UTF-8 goes into \"key_base64\" and\n"
        "\"value_base64\". With \"if_absent\":true or \"if_version\":N the change is only made if "
        "the\n"
        "store, as it was before, has no such key, or this version of it; else nothing is\n"
        "changed, and the exit status is 1. Of several changes of a key the last counts. To\n"
        "delete what is not there is no error, and a value that is there already is not\n"
        "written again. The image must not be mounted.\n",
    .run = run,
};
