/* `ekv log` and `ekv history`: what was committed when, as far as flash still holds it.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "look.h"

/* --- log ------------------------------------------------------------------------------------- */

static const struct option_spec log_options[] = {
    {"max-count", 'n', "N", "no more than the N newest"},
    {"all", 'a', NULL, "also what hosts keep beside keys (modes, times, links)"},
    {0},
};

struct log_request {
    const char *prefix;
    uint64_t limit;
    bool all;
};

static bool is_shown(const struct log_request *request, const struct survey_record *record)
{
    size_t size = strlen(request->prefix);
    return (request->all || record->space == EKV_USER) && record->key_size >= size &&
           memcmp(record->key, request->prefix, size) == 0;
}

static const char *operation_of(const struct survey_record *record)
{
    return record->kind == EKV_RECORD_DELETE ? "remove" : "put";
}

static void log_json(const struct log_request *request,
                     const struct survey_transaction *transaction)
{
    json_t *object =
        json_pack("{s:s, s:I, s:b}", "schema", "ekv.transaction.1", "version",
                  (json_int_t)transaction->version, "complete", (int)transaction->complete);
    json_t *operations = json_array();
    json_set_time(object, transaction->time);
    for (uint32_t i = 0; i < transaction->count; i++) {
        const struct survey_record *record = transaction->records[i];
        if (!is_shown(request, record))
            continue;
        json_t *operation = json_pack("{s:s, s:I}", "operation", operation_of(record), "version",
                                      (json_int_t)record->version);
        look_json_key(operation, record);
        if (record->kind != EKV_RECORD_DELETE)
            json_object_set_new(operation, "size", json_integer((json_int_t)record->size));
        json_array_append_new(operations, operation);
    }
    json_object_set_new(object, "operations", operations);
    json_line(object);
}

static void log_text(const struct log_request *request,
                     const struct survey_transaction *transaction)
{
    printf("version %llu  %s%s\n", (unsigned long long)transaction->version,
           time_text(transaction->time),
           transaction->complete ? "" : "  (more was committed with it, which is gone)");
    for (uint32_t i = 0; i < transaction->count; i++) {
        const struct survey_record *record = transaction->records[i];
        if (!is_shown(request, record))
            continue;
        if (record->kind == EKV_RECORD_DELETE)
            printf("    %-6s  %10s  ", operation_of(record), "");
        else
            printf("    %-6s  %10llu  ", operation_of(record), (unsigned long long)record->size);
        print_bytes(record->key, record->key_size, true);
        puts(record->space == EKV_USER ? "" : "  (attributes)");
    }
}

static int print_log(const struct look *look, const struct log_request *request)
{
    struct survey_transaction *list;
    uint32_t count, printed = 0;
    if (survey_transactions(&look->survey, &list, &count) != EKV_OK) {
        message(look->tool, "%s", result_text(EKV_MEMORY));
        return STATUS_FAILED;
    }
    for (uint32_t i = 0; i < count && printed < request->limit && !ferror(stdout); i++) {
        bool any = false;
        for (uint32_t j = 0; j < list[i].count && !any; j++)
            any = is_shown(request, list[i].records[j]);
        if (any && look->tool->json)
            log_json(request, &list[i]);
        else if (any)
            log_text(request, &list[i]);
        printed += any;
    }
    free(list);
    if (printed > 0 || *request->prefix == 0)
        return STATUS_OK;
    message(look->tool, "nothing is known of keys that begin with '%s'",
            key_text(request->prefix, strlen(request->prefix)));
    return STATUS_NO;
}

static int run_log(struct tool *tool)
{
    struct log_request request = {.prefix = "", .limit = UINT64_MAX};
    struct look look;
    const char *value;
    char **operands;
    int count, option;
    while ((option = tool_option(tool, &value)) > 0) {
        request.all |= option == 'a';
        if (option == 'n' &&
            !option_size(tool, "--max-count", value, 0, UINT64_MAX, &request.limit))
            return STATUS_FAILED;
    }
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 0, 1, &operands, &count) || look_open(tool, &look, NULL) != EKV_OK)
        return STATUS_FAILED;
    if (count > 0)
        request.prefix = operands[0];
    int status = print_log(&look, &request);
    look_close(&look);
    return status;
}

const struct command command_log = {
    .name = "log",
    .operands = "[PREFIX]",
    .summary = "List what was committed, newest first",
    .details = "A line for each transaction, with its version and the time of its commit, and one\n"
               "for each key that it changed, with the value's size. Only what is still on flash\n"
               "is listed. A version is what 'get --version' and '--at' take.\n",
    .options = log_options,
    .run = run_log,
};

/* --- history --------------------------------------------------------------------------------- */

static const struct option_spec history_options[] = {
    {"attributes", 'a', NULL, "what hosts keep beside the key: modes, times, links"},
    {0},
};

/* Bytes of a version's value that cannot be read any more. */
static uint64_t lost_of(const struct look *look, const struct survey_record *record)
{
    uint8_t *value;
    uint64_t size, lost;
    if (!record->valid || survey_value(&look->survey, record, &value, &size, &lost) != EKV_OK)
        return record->size;
    free(value);
    return lost;
}

static void history_json(const struct look *look, const struct survey_record *record, uint64_t lost)
{
    json_t *object = json_pack("{s:s}", "schema", "ekv.version.1");
    look_json_key(object, record);
    json_object_set_new(object, "version", json_integer((json_int_t)record->version));
    json_set_time(object, record->time);
    json_add(object,
             json_pack("{s:s, s:I, s:I, s:I, s:b}", "state", look_state(record), "transaction",
                       (json_int_t)record->commit, "offset",
                       (json_int_t)(survey_offset(&look->survey, record->address) +
                                    (int64_t)look->tool->offset),
                       "sector", (json_int_t)ekv_sector_of(&look->survey.format, record->address),
                       "moved", (int)(record->position != record->version)));
    if (record->kind != EKV_RECORD_DELETE)
        json_add(object, json_pack("{s:I, s:I}", "size", (json_int_t)record->size, "lost",
                                   (json_int_t)lost));
    json_line(object);
}

static void history_text(const struct look *look, const struct survey_record *record, uint64_t lost)
{
    const struct survey *survey = &look->survey;
    uint32_t sector = ekv_sector_of(&survey->format, record->address);
    char size[24] = "-";
    if (record->kind != EKV_RECORD_DELETE)
        snprintf(size, sizeof size, "%llu", (unsigned long long)record->size);
    printf(
        "%10llu  %-20s  %10s  %-11s  0x%08llx  sector %u, %s", (unsigned long long)record->version,
        time_text(record->time), size, look_state(record),
        (unsigned long long)(survey_offset(survey, record->address) + (int64_t)look->tool->offset),
        sector, survey_role_name(survey->sectors[sector].role));
    if (lost > 0)
        printf(", %llu bytes lost", (unsigned long long)lost);
    putchar('\n');
}

static int print_history(const struct look *look, struct ekv_key key)
{
    uint32_t first, end;
    if (survey_key_find(&look->survey, key, &first, &end) != EKV_OK) {
        message(look->tool, "nothing is known of a key '%s'", key_text(key.bytes, key.size));
        return STATUS_NO;
    }
    for (uint32_t i = first; i < end && !ferror(stdout); i++) {
        const struct survey_record *record = &look->survey.records[i];
        if (record->copy)
            continue;
        uint64_t lost = record->kind == EKV_RECORD_DELETE ? 0 : lost_of(look, record);
        if (look->tool->json)
            history_json(look, record, lost);
        else
            history_text(look, record, lost);
    }
    return STATUS_OK;
}

static int run_history(struct tool *tool)
{
    struct look look;
    const char *value;
    char **operands;
    int count, option;
    bool attributes = false;
    while ((option = tool_option(tool, &value)) > 0)
        attributes = true;
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 1, 1, &operands, &count))
        return STATUS_FAILED;
    struct ekv_key key = ekv_key(operands[0], strlen(operands[0]));
    key.space = attributes ? EKV_ASIDE : EKV_USER;
    if (look_open(tool, &look, &key) != EKV_OK)
        return STATUS_FAILED;
    int status = print_history(&look, key);
    look_close(&look);
    return status;
}

const struct command command_history = {
    .name = "history",
    .operands = "KEY",
    .summary = "List the versions of KEY that are still on flash, newest first",
    .details =
        "A line for each: version, time of the commit, size of the value, state, where it lies.\n"
        "States: current, old, removed (KEY was removed then), uncommitted (of a transaction\n"
        "that was aborted or cut off), torn (power was lost then), damaged, unknown (what would\n"
        "tell is gone).\n"
        "'ekv get --version N KEY' reads one. Exits with 1 when nothing is known of KEY.\n",
    .options = history_options,
    .run = run_history,
};
