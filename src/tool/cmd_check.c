/* `ekv check`, also called fsck.ekv: verifies every checksum and every invariant of a store.
 *
 * It never writes: what a loss of power left is recovered by the next mount, and what is damaged
 * otherwise is reported and not repaired by guessing. Exit statuses are those of fsck(8): 0 clean,
 * 4 errors, 8 could not look, 16 wrong use.
 */
#define _GNU_SOURCE
#include <string.h>

#include "store.h"

static const struct option_spec options[] = {
    {"automatic", 'a', NULL, "for fsck(8); nothing is ever repaired"},
    {"preen", 'p', NULL, "the same"},
    {"yes", 'y', NULL, "the same"},
    {"no", 'n', NULL, "the same"},
    {"force", 'f', NULL, "the same: everything is always verified"},
    {0},
};

struct report {
    struct tool *tool;
    uint64_t count;
};

static void print_finding(void *context, const struct ekv_finding *finding)
{
    struct report *report = context;
    report->count++;
    if (report->tool->json)
        json_line(json_pack(
            "{s:s, s:s, s:I, s:s}", "schema", "ekv.finding.1", "code", finding->code, "offset",
            (json_int_t)(finding->address + report->tool->offset), "text", finding->text));
    else
        printf("0x%08llx %s: %s\n", (unsigned long long)(finding->address + report->tool->offset),
               finding->code, finding->text);
}

static void print_verdict(struct tool *tool, const struct store *store, const struct report *report)
{
    struct ekv_stat stat = {0};
    if (store)
        ekv_stat(store->db, &stat);
    if (tool->json) {
        json_t *object = json_pack("{s:s}", "schema", "ekv.check.1");
        json_set_bytes(object, "image", tool->image, strlen(tool->image));
        json_add(object,
                 json_pack("{s:b, s:b, s:I, s:I, s:I}", "clean", (int)(report->count == 0),
                           "recovered", (int)stat.recovered, "findings", (json_int_t)report->count,
                           "keys", (json_int_t)stat.keys, "live_size", (json_int_t)stat.live_size));
        json_line(object);
    } else if (report->count > 0)
        printf("%s: %llu error%s; copy out what can be read with 'ekv get', then format anew\n",
               tool->image, (unsigned long long)report->count, report->count == 1 ? "" : "s");
    else
        printf("%s: clean, %llu keys, %s in use%s\n", tool->image, (unsigned long long)stat.keys,
               size_text(stat.live_size),
               stat.recovered && !store->image.copied
                   ? "; it was not closed, which the next write makes good"
                   : "");
}

static int check(struct tool *tool)
{
    struct store store;
    struct report report = {tool, 0};
    int error = store_open(tool, &store, false);
    if (error)
        return FSCK_FAILED;
    error = store_mount(&store);
    if (error == EKV_CORRUPT) {
        print_finding(&report, &(struct ekv_finding){"mount", 0, "the store cannot be mounted"});
        print_verdict(tool, NULL, &report);
        return FSCK_ERRORS;
    }
    if (error) {
        store_explain(tool, &store, error);
        return FSCK_FAILED;
    }
    error = ekv_check(store.db, print_finding, &report);
    if (error == EKV_CORRUPT && report.count == 0) /* an error is an error, told or not */
        print_finding(&report, &(struct ekv_finding){"corrupt", 0, "the store is damaged"});
    if (error && error != EKV_CORRUPT)
        message(tool, "%s cannot be checked to its end: %s", tool->image, result_text(error));
    else
        print_verdict(tool, &store, &report);
    int closed = store_close(tool, &store);
    if ((error && error != EKV_CORRUPT) || closed)
        return FSCK_FAILED;
    return report.count > 0 ? FSCK_ERRORS : FSCK_OK;
}

static int run(struct tool *tool)
{
    const char *value;
    char **operands;
    int count, option;
    while ((option = tool_option(tool, &value)) > 0)
        ;
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 0, 1, &operands, &count))
        return FSCK_USAGE;
    if (count > 0 && tool->image) {
        message(tool, "one image at a time, please: %s and %s are two", tool->image, operands[0]);
        return FSCK_USAGE;
    }
    if (count > 0)
        tool->image = operands[0];
    if (!tool->image) {
        message(tool, "which image? Name it with -C IMAGE");
        return FSCK_USAGE;
    }
    return check(tool);
}

const struct command command_check = {
    .name = "check",
    .operands = "[IMAGE]",
    .summary = "Verify every checksum and every invariant of a store",
    .details =
        "A line for each error: where, a stable code, what. Nothing is written. Exits with 0\n"
        "when the store is clean, 4 when it is not, 8 when it could not be looked at, 16 for\n"
        "wrong use, as fsck(8) expects. Also called as fsck.ekv.\n",
    .options = options,
    .run = run,
    .usage_status = FSCK_USAGE,
};
