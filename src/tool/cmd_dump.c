/* `ekv dump`: all keys and values as one stream, for load and for the tools of others; or the bytes
 * of the flash as they are. */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "change.h"
#include "files.h"
#include "raw.h"
#include "scan.h"
#include "textdump.h"

enum {
    LETTER_JSONL = 256,
    LETTER_TAR,
    LETTER_LMDB,
    LETTER_RAW,
    LMDB_KEY_MAX = 511,
    LMDB_PAGE = 4096
};

static const struct option_spec options[] = {
    {"print", 'p', NULL, "characters as they are, not in hexadecimal"},
    {"attributes", 'a', NULL, "what ekvfs keeps beside keys too, as a second database"},
    {"lmdb", LETTER_LMDB, NULL, "for mdb_load: say how large a map it needs"},
    {"jsonl", LETTER_JSONL, NULL, "lines of JSON, as 'ekv apply' takes them (also --json)"},
    {"tar", LETTER_TAR, NULL, "a tar archive of the files that ekvfs would show"},
    {"raw", LETTER_RAW, NULL, "every byte of the flash, as an image: for copies of devices"},
    {0},
};

struct dump_job {
    struct tool *tool;
    struct ekv *db;
    const char *prefix;
    bool print, attributes, lmdb, jsonl, tar, raw;
    struct textdump_form form;
};

/* --- Walking --------------------------------------------------------------------------------- */

/* Calls `item` for every key of a space that begins with the prefix. */
static int walk(struct dump_job *job, uint8_t space,
                int (*item)(struct dump_job *job, struct scan *scan))
{
    struct scan scan;
    size_t prefix_size = strlen(job->prefix);
    scan_open(&scan, job->db, space);
    int error = scan_seek(&scan, job->prefix, prefix_size);
    while (!error && scan.valid && !ferror(stdout) && scan.key_size >= prefix_size &&
           memcmp(scan.key, job->prefix, prefix_size) == 0) {
        error = item(job, &scan);
        if (!error)
            error = scan_next(&scan);
    }
    if (error && error != EKV_INVALID)
        message(job->tool, "%s cannot be read to its end, at '%s': %s", job->tool->image,
                key_text(scan.key, scan.valid ? scan.key_size : 0), result_text(error));
    scan_close(&scan);
    return error;
}

static int print_json(struct dump_job *job, struct scan *scan)
{
    (void)job;
    int error = scan_value(scan);
    if (!error)
        change_print_put(scan_key(scan), scan->value, scan->entry.size);
    return error;
}

static int print_text(struct dump_job *job, struct scan *scan)
{
    int error = scan_value(scan);
    if (error)
        return error;
    textdump_item(&job->form, scan->key, scan->key_size);
    textdump_item(&job->form, scan->value, scan->entry.size);
    return EKV_OK;
}

/* LMDB takes no empty key and none over 511 bytes: better said before than found by mdb_load. A
 * map with room for each key's and value's pages is large enough. */
static int measure(struct dump_job *job, struct scan *scan)
{
    if (scan->key_size == 0 || scan->key_size > LMDB_KEY_MAX) {
        message(job->tool, "the key '%s' has %zu bytes: LMDB takes keys of 1 to %d",
                key_text(scan->key, scan->key_size), scan->key_size, LMDB_KEY_MAX);
        return EKV_INVALID;
    }
    job->form.map_size += 2 * (scan->key_size + scan->entry.size) + 64;
    if (scan->entry.size > LMDB_PAGE / 4)
        job->form.map_size += LMDB_PAGE;
    return EKV_OK;
}

/* --- Forms ----------------------------------------------------------------------------------- */

static int dump_database(struct dump_job *job, uint8_t space, const char *name)
{
    int error = EKV_OK;
    job->form = (struct textdump_form){.print = job->print, .database = name};
    if (job->lmdb) {
        job->form.map_size = 1024 * 1024;
        error = walk(job, space, measure);
        job->form.map_size = (job->form.map_size + LMDB_PAGE - 1) / LMDB_PAGE * LMDB_PAGE;
    }
    if (error)
        return error;
    textdump_begin(&job->form);
    error = walk(job, space, print_text);
    if (!error)
        textdump_end();
    return error;
}

static int dump(struct dump_job *job)
{
    if (job->tar)
        return files_write_tar(job->tool, job->db, job->prefix);
    if (job->jsonl) {
        int error = walk(job, EKV_USER, print_json);
        return error ? error : walk(job, EKV_ASIDE, print_json);
    }
    if (!job->attributes)
        return dump_database(job, EKV_USER, NULL);
    int error = dump_database(job, EKV_USER, TEXTDUMP_KEYS);
    return error ? error : dump_database(job, EKV_ASIDE, TEXTDUMP_ATTRIBUTES);
}

static bool check_options(const struct dump_job *job)
{
    if (job->tar + job->jsonl + job->raw + (job->print || job->attributes || job->lmdb) > 1) {
        message(job->tool, "one form at a time, please: --jsonl, --tar, --raw, or none of them");
        return false;
    }
    if (job->tar && isatty(STDOUT_FILENO)) {
        message(job->tool, "an archive is nothing for a terminal: send it into a file or a pipe");
        return false;
    }
    return true;
}

static int run(struct tool *tool)
{
    struct dump_job job = {.tool = tool, .prefix = ""};
    struct store store;
    const char *value;
    char **operands;
    int count, option;
    while ((option = tool_option(tool, &value)) > 0) {
        job.print |= option == 'p';
        job.attributes |= option == 'a';
        job.lmdb |= option == LETTER_LMDB;
        job.jsonl |= option == LETTER_JSONL;
        job.tar |= option == LETTER_TAR;
        job.raw |= option == LETTER_RAW;
    }
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    job.jsonl |= tool->json;
    if (!tool_operands(tool, 0, job.raw ? 0 : 1, &operands, &count) || !check_options(&job))
        return STATUS_FAILED;
    if (job.raw)
        return raw_dump(tool);
    if (store_open_mounted(tool, &store, false) != EKV_OK)
        return STATUS_FAILED;
    if (count > 0)
        job.prefix = operands[0];
    job.db = store.db;
    int error = dump(&job);
    int closed = store_close(tool, &store);
    return error || closed ? STATUS_FAILED : STATUS_OK;
}

const struct command command_dump = {
    .name = "dump",
    .operands = "[PREFIX]",
    .summary = "Write all keys and values as a stream, for 'ekv load' and other tools",
    .details =
        "The form is that of db_dump and mdb_dump, which db_load of Berkeley DB and mdb_load of\n"
        "LMDB read. In it, what ekvfs keeps beside keys (permissions, times, symbolic links,\n"
        "empty directories) is left out unless --attributes adds it; --jsonl and --tar hold it.\n"
        "With PREFIX, only the keys that begin with it. Works on a mounted image too.\n"
        "With --raw it is no store that is read but the flash: what comes out is an image.\n",
    .options = options,
    .run = run,
};
