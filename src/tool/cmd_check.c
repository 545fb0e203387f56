/* `ekv check`, also called fsck.ekv: verifies every checksum and every invariant of a store.
 *
 * It never writes: what a loss of power left is recovered by the next mount, and what is damaged
 * otherwise is reported and not repaired by guessing. Exit statuses are those of fsck(8): 0 clean,
 * 4 errors, 8 could not look, 16 wrong use.
 */
#define _GNU_SOURCE
#include <string.h>

#include "look.h"
#include "store.h"

static const struct option_spec options[] = {
    {"automatic", 'a', NULL, "for fsck(8); nothing is ever repaired"},
    {"preen", 'p', NULL, "the same"},
    {"yes", 'y', NULL, "the same"},
    {"no", 'n', NULL, "the same"},
    {"force", 'f', NULL, "the same: everything is always verified"},
    {"verbose", 'V', NULL, NULL}, /* these too come from fsck(8) */
    {"verbose", 'v', NULL, NULL},
    {"interactive", 'r', NULL, NULL},
    {"deep", 'd', NULL, "also what no mount reads; names the keys that damage touches"},
    {0},
};

enum { KNOWN_MAX = 4096 };

struct report {
    struct tool *tool;
    uint64_t count;
    bool deep;
    struct look *look; /* NULL: not looked at without a mount */
    struct place {
        const char *code;
        int64_t offset;
    } known[KNOWN_MAX]; /* what was told already */
    uint32_t known_count;
};

/* `offset`: in the image; before its begin for what a part of a dump lacks. */
static void print_line(const struct report *report, const struct survey_finding *finding,
                       int64_t offset)
{
    offset += (int64_t)report->tool->offset;
    if (report->tool->json) {
        json_t *object =
            json_pack("{s:s, s:s, s:I, s:s}", "schema", "ekv.finding.1", "code", finding->code,
                      "offset", (json_int_t)offset, "text", finding->text);
        if (finding->key)
            json_set_bytes(object, "key", finding->key, finding->key_size);
        if (finding->key && finding->space != EKV_USER)
            json_object_set_new(object, "space", json_string(SPACE_ATTRIBUTES));
        if (finding->note)
            json_object_set_new(object, "note", json_true());
        json_line(object);
        return;
    }
    printf("%s0x%08llx %s: %s", offset < 0 ? "-" : "",
           (unsigned long long)(offset < 0 ? -offset : offset), finding->code, finding->text);
    if (finding->key)
        printf(" (%s '%s')", finding->space == EKV_USER ? "key" : "attributes of",
               key_text(finding->key, finding->key_size));
    puts(finding->note ? "; in what is not in use" : "");
}

/* The key of the record that lies at an address, if one does. */
static void name_key(const struct report *report, struct survey_finding *finding)
{
    const struct survey *survey = report->look ? &report->look->survey : NULL;
    for (uint32_t i = 0; survey && i < survey->record_count; i++) {
        const struct survey_record *record = &survey->records[i];
        int64_t address = survey_offset(survey, record->address);
        if (finding->address == 0 || address != finding->address)
            continue;
        finding->key = record->key;
        finding->key_size = record->key_size;
        finding->space = record->space;
        return;
    }
}

static void print_finding(void *context, const struct ekv_finding *finding)
{
    struct report *report = context;
    struct survey_finding line = {
        .code = finding->code, .address = finding->address, .text = finding->text};
    name_key(report, &line);
    report->count++;
    if (report->known_count < KNOWN_MAX)
        report->known[report->known_count++] = (struct place){finding->code, finding->address};
    print_line(report, &line, finding->address);
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
        printf("%s: %llu error%s; 'ekv salvage' gets out what can be read\n", tool->image,
               (unsigned long long)report->count, report->count == 1 ? "" : "s");
    else
        printf("%s: clean, %llu keys, %s in use%s\n", tool->image, (unsigned long long)stat.keys,
               size_text(stat.live_size),
               stat.recovered && !store->image.copied
                   ? "; it was not closed, which the next write makes good"
                   : "");
}

static bool is_known(const struct report *report, const char *code, int64_t offset)
{
    for (uint32_t i = 0; i < report->known_count; i++)
        if (report->known[i].offset == offset && strcmp(report->known[i].code, code) == 0)
            return true;
    return false;
}

/* What the bytes tell without a mount, beside what was told. */
static void print_deep(struct report *report)
{
    const struct survey *survey = report->look ? &report->look->survey : NULL;
    for (uint32_t i = 0; survey && i < survey->finding_count; i++) {
        const struct survey_finding *finding = &survey->findings[i];
        int64_t offset = survey_offset(survey, finding->address);
        if (is_known(report, finding->code, offset))
            continue;
        report->count += !finding->note;
        print_line(report, finding, offset);
    }
}

/* For a store that no mount takes, with this answer. */
static int check_unmounted(struct report *report, int error)
{
    struct ekv_finding finding = {"mount", 0, "the store cannot be mounted"};
    if (error == EKV_NO_STORE) /* though a sector says that there is one */
        finding = (struct ekv_finding){"no-manifest", 0, "no checkpoint of the manifest is whole"};
    print_finding(report, &finding);
    print_deep(report);
    print_verdict(report->tool, NULL, report);
    return FSCK_ERRORS;
}

static int check_mounted(struct report *report, struct store *store)
{
    struct tool *tool = report->tool;
    int error = ekv_check(store->db, print_finding, report);
    if (error == EKV_CORRUPT && report->count == 0) /* an error is an error, told or not */
        print_finding(report, &(struct ekv_finding){"corrupt", 0, "the store is damaged"});
    print_deep(report);
    if (error && error != EKV_CORRUPT)
        message(tool, "%s cannot be checked to its end: %s", tool->image, result_text(error));
    else
        print_verdict(tool, store, report);
    int closed = store_close(tool, store);
    if ((error && error != EKV_CORRUPT) || closed)
        return FSCK_FAILED;
    return report->count > 0 ? FSCK_ERRORS : FSCK_OK;
}

static int check_store(struct report *report)
{
    struct tool *tool = report->tool;
    struct store store;
    int error = store_open(tool, &store, false);
    if (error)
        return report->look ? check_unmounted(report, EKV_CORRUPT) : FSCK_FAILED;
    error = store_mount(&store);
    if (!error)
        return check_mounted(report, &store);
    bool broken = error == EKV_CORRUPT || error == EKV_NO_STORE;
    if (!broken)
        store_explain(tool, &store, error);
    return broken || report->look ? check_unmounted(report, error) : FSCK_FAILED;
}

static int check(struct report *report)
{
    struct look look;
    if (!report->deep)
        return check_store(report);
    if (look_open(report->tool, &look, NULL) != EKV_OK)
        return FSCK_FAILED;
    report->look = &look;
    int status = check_store(report);
    look_close(&look);
    return status;
}

static int run(struct tool *tool)
{
    const char *value;
    char **operands;
    int count, option;
    struct report report = {.tool = tool};
    while ((option = tool_option(tool, &value)) > 0)
        report.deep |= option == 'd';
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
    return check(&report);
}

const struct command command_check = {
    .name = "check",
    .operands = "[IMAGE]",
    .summary = "Verify every checksum and every invariant of a store",
    .details =
        "A line for each error: where, a stable code, what. Nothing is written. With --deep the\n"
        "bytes are also looked at without a mount, and the keys that are hit are named; it works\n"
        "on what cannot be mounted, on parts of a flash and on dumps. Exits with 0\n"
        "when the store is clean, 4 when it is not, 8 when it could not be looked at, 16 for\n"
        "wrong use, as fsck(8) expects. Also called as fsck.ekv.\n",
    .options = options,
    .run = run,
    .usage_status = FSCK_USAGE,
};
