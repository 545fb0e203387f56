/* `ekv diff`: what changed between two stores.
 *
 * Two walks in the order of the keys go on together, so stores of any size are compared with two
 * keys and two values in memory. Of values as large as one another, bytes decide.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "change.h"
#include "host/attr.h"
#include "scan.h"
#include "store.h"

enum { LETTER_PATCH = 256, PIECE_SIZE = 64 * 1024 };

static const struct option_spec options[] = {
    {"patch", LETTER_PATCH, NULL, "lines for 'ekv apply', which makes B of A"},
    {"brief", 'q', NULL, "print nothing: the exit status says it"},
    {0},
};

struct side {
    struct tool tool; /* with the image of this side */
    struct store store;
    struct scan scan;
};

struct diff_job {
    struct tool *tool;
    bool patch, brief;
    bool differ;
    struct side a, b;
    uint8_t *pieces[2];
};

/* --- Comparing ------------------------------------------------------------------------------- */

static int same_value(struct diff_job *job, bool *same)
{
    uint64_t size = job->a.scan.entry.size;
    *same = size == job->b.scan.entry.size;
    for (uint64_t offset = 0; *same && offset < size;) {
        size_t got[2];
        int error =
            ekv_cursor_read(&job->a.scan.cursor, offset, job->pieces[0], PIECE_SIZE, &got[0]);
        if (!error)
            error =
                ekv_cursor_read(&job->b.scan.cursor, offset, job->pieces[1], PIECE_SIZE, &got[1]);
        if (!error && (got[0] != got[1] || got[0] == 0))
            error = EKV_CORRUPT;
        if (error)
            return error;
        *same = memcmp(job->pieces[0], job->pieces[1], got[0]) == 0;
        offset += got[0];
    }
    return EKV_OK;
}

/* --- Printing -------------------------------------------------------------------------------- */

static void print_json(const struct scan *a, const struct scan *b)
{
    const struct scan *there = b ? b : a;
    json_t *object = json_pack("{s:s, s:s}", "schema", "ekv.diff.1", "change",
                               !a   ? "added"
                               : !b ? "removed"
                                    : "changed");
    if (there->space == EKV_ASIDE)
        json_object_set_new(object, "space", json_string(SPACE_ATTRIBUTES));
    json_set_bytes(object, "key", there->key, there->key_size);
    const struct scan *sides[] = {a, b};
    static const char *const names[] = {"a", "b"};
    for (int i = 0; i < 2; i++) {
        if (!sides[i])
            continue;
        json_t *side = json_pack("{s:I, s:I}", "version", (json_int_t)sides[i]->entry.version,
                                 "size", (json_int_t)sides[i]->entry.size);
        json_set_time(side, sides[i]->entry.time);
        json_object_set_new(object, names[i], side);
    }
    json_line(object);
}

/* The record beside the key that a scan stands on; size 0 when there is none. */
static int get_record(struct ekv *db, const struct scan *scan, uint8_t bytes[ATTR_RECORD_MAX],
                      size_t *size, struct ekv_entry *entry)
{
    struct ekv_key key = scan_key(scan);
    key.space = EKV_ASIDE;
    *size = 0;
    int error = ekv_find(db, key, entry);
    if (!error)
        error = ekv_get(db, key, 0, bytes, ATTR_RECORD_MAX, size);
    return error == EKV_NOT_FOUND ? EKV_OK : error;
}

/* A time that somebody set counts while its record is as new as the value. Where the record is the
 * same on both sides, and so no change of its own, it is put behind the value once more. */
static int patch_record(struct diff_job *job, const struct scan *b)
{
    uint8_t bytes[2][ATTR_RECORD_MAX];
    size_t size[2];
    struct ekv_entry entry;
    int error = get_record(job->a.store.db, b, bytes[0], &size[0], &entry);
    if (!error)
        error = get_record(job->b.store.db, b, bytes[1], &size[1], &entry);
    if (error || size[0] != size[1] || size[1] == 0 || entry.version < b->entry.version ||
        memcmp(bytes[0], bytes[1], size[1]) != 0)
        return error;
    struct ekv_key key = scan_key(b);
    key.space = EKV_ASIDE;
    change_print_put(key, bytes[1], size[1]);
    return EKV_OK;
}

static int patch_value(struct diff_job *job, struct scan *b)
{
    int error = scan_value(b);
    if (error)
        return error;
    change_print_put(scan_key(b), b->value, b->entry.size);
    return b->space == EKV_USER ? patch_record(job, b) : EKV_OK;
}

/* A line for a key that is not the same on both sides; `a` or `b` is NULL where it is not there. */
static int print_change(struct diff_job *job, struct scan *a, struct scan *b)
{
    job->differ = true;
    if (job->brief)
        return EKV_OK;
    if (job->patch && b)
        return patch_value(job, b);
    if (job->patch) {
        change_print_delete(scan_key(a));
        return EKV_OK;
    }
    if (job->tool->json) {
        print_json(a, b);
        return EKV_OK;
    }
    const struct scan *there = b ? b : a;
    printf("%c ", !a ? '+' : !b ? '-' : '~');
    print_bytes(there->key, there->key_size, true);
    printf("%s\n", there->space == EKV_ASIDE ? " (attributes)" : "");
    return EKV_OK;
}

/* --- Walking --------------------------------------------------------------------------------- */

static int step(struct diff_job *job)
{
    struct scan *a = &job->a.scan, *b = &job->b.scan;
    int order = !a->valid   ? 1
                : !b->valid ? -1
                            : key_compare(a->key, a->key_size, b->key, b->key_size);
    bool same = false;
    int error = EKV_OK;
    if (order == 0)
        error = same_value(job, &same);
    if (!error && !same)
        error = print_change(job, order <= 0 ? a : NULL, order >= 0 ? b : NULL);
    if (!error && order <= 0)
        error = scan_next(a);
    if (!error && order >= 0)
        error = scan_next(b);
    return error;
}

static int compare_space(struct diff_job *job, uint8_t space)
{
    struct scan *a = &job->a.scan, *b = &job->b.scan;
    scan_open(a, job->a.store.db, space);
    scan_open(b, job->b.store.db, space);
    int error = scan_next(a);
    if (!error)
        error = scan_next(b);
    while (!error && (a->valid || b->valid) && !ferror(stdout) && !(job->brief && job->differ))
        error = step(job);
    if (error)
        message(job->tool, "%s and %s cannot be compared to their end: %s", job->a.tool.image,
                job->b.tool.image, result_text(error));
    scan_close(a);
    scan_close(b);
    return error;
}

static int compare(struct diff_job *job)
{
    job->pieces[0] = allocate(PIECE_SIZE);
    job->pieces[1] = allocate(PIECE_SIZE);
    int error = compare_space(job, EKV_USER);
    if (!error)
        error = compare_space(job, EKV_ASIDE);
    free(job->pieces[0]);
    free(job->pieces[1]);
    return error ? STATUS_FAILED : job->differ ? STATUS_NO : STATUS_OK;
}

static int open_both(struct diff_job *job)
{
    int status = STATUS_FAILED;
    if (store_open_mounted(&job->a.tool, &job->a.store, false) != EKV_OK)
        return STATUS_FAILED;
    if (store_open_mounted(&job->b.tool, &job->b.store, false) == EKV_OK) {
        status = compare(job);
        if (store_close(&job->b.tool, &job->b.store) != EKV_OK)
            status = STATUS_FAILED;
    }
    return store_close(&job->a.tool, &job->a.store) ? STATUS_FAILED : status;
}

static int run(struct tool *tool)
{
    struct diff_job job = {.tool = tool};
    char **operands;
    const char *value;
    int count, option;
    while ((option = tool_option(tool, &value)) > 0) {
        job.patch |= option == LETTER_PATCH;
        job.brief |= option == 'q';
    }
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    int wanted = tool->image ? 1 : 2;
    if (!tool_operands(tool, wanted, wanted, &operands, &count))
        return STATUS_FAILED;
    job.a.tool = job.b.tool = *tool;
    if (!tool->image)
        job.a.tool.image = *operands++;
    job.b.tool.image = *operands;
    return open_both(&job);
}

const struct command command_diff = {
    .name = "diff",
    .operands = "A B",
    .summary = "Compare two stores: a line for each key that was added, changed or removed",
    .details =
        "A line is '+ KEY' for a key that only B has, '- KEY' for one that only A has, '~ KEY'\n"
        "for another value; '(attributes)' behind it means what ekvfs keeps beside keys. A may\n"
        "be named with -C. Exits with 0 when there is no difference, 1 when there is, 2 when\n"
        "they cannot be compared, as diff(1).\n",
    .options = options,
    .run = run,
};
