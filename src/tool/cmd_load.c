/* `ekv load`: puts what a stream holds into a store: a dump, lines of JSON, a tar archive. */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "change.h"
#include "files.h"
#include "raw.h"
#include "textdump.h"

enum { LETTER_JSONL = 256, LETTER_TAR, LETTER_TEXT, LETTER_ATOMIC, LETTER_OWNER, LETTER_RAW };
enum form { FORM_UNKNOWN, FORM_TEXT, FORM_JSONL, FORM_TAR };

static const struct option_spec options[] = {
    {"atomic", LETTER_ATOMIC, NULL, "one transaction: all of it, or nothing"},
    {"text", LETTER_TEXT, NULL, "it is what db_dump, mdb_dump or 'ekv dump' wrote"},
    {"jsonl", LETTER_JSONL, NULL, "it is lines of JSON, as 'ekv apply' takes them"},
    {"tar", LETTER_TAR, NULL, "it is a tar archive, which may be compressed"},
    {"touch", 'm', NULL, "of an archive: do not keep the times of the files"},
    {"same-owner", LETTER_OWNER, NULL, "of an archive: keep the owners of the files"},
    {"raw", LETTER_RAW, NULL, "it is an image: make the flash hold the same bytes"},
    {"force", 'f', NULL, "with --raw: overwrite what the flash holds"},
    {0},
};

struct load_job {
    struct tool *tool;
    enum form form;
    bool atomic, raw, force;
    struct files_options files;
};

/* --- What it is ------------------------------------------------------------------------------ */

static bool begins(const uint8_t *bytes, size_t size, const char *text, size_t length)
{
    return size >= length && memcmp(bytes, text, length) == 0;
}

/* A tar header has "ustar" in its middle; old ones have nothing but a name and numbers. */
static enum form guess(const uint8_t *bytes, size_t size)
{
    size_t blank = 0;
    if (begins(bytes, size, "VERSION=", 8))
        return FORM_TEXT;
    if (size > 262 && memcmp(bytes + 257, "ustar", 5) == 0)
        return FORM_TAR;
    if (begins(bytes, size, "\x1f\x8b", 2) || begins(bytes, size, "BZh", 3) ||
        begins(bytes, size,
               "\xfd"
               "7zXZ",
               5) ||
        begins(bytes, size, "\x28\xb5\x2f\xfd", 4) || begins(bytes, size, "\x04\x22\x4d\x18", 4))
        return FORM_TAR;
    while (blank < size && strchr(" \t\r\n", bytes[blank]) && bytes[blank])
        blank++;
    if (blank < size && bytes[blank] == '{')
        return FORM_JSONL;
    while (blank < size && bytes[blank] == 0)
        blank++;
    return size >= 512 && blank == size ? FORM_TAR : FORM_UNKNOWN; /* an empty archive */
}

static bool choose_form(struct load_job *job, struct input *input)
{
    size_t size;
    const uint8_t *bytes = input_peek(input, 512, &size);
    if (input->failed)
        return false;
    if (size == 0) {
        message(job->tool, "%s is empty: there is nothing to load", input->name);
        return false;
    }
    if (job->form == FORM_UNKNOWN)
        job->form = guess(bytes, size);
    if (job->form == FORM_UNKNOWN)
        message(job->tool,
                "%s is neither a dump nor lines of JSON nor a tar archive (--text, --jsonl and "
                "--tar say which)",
                input->name);
    return job->form != FORM_UNKNOWN;
}

/* --- Loading --------------------------------------------------------------------------------- */

static int load_text(struct input *input, struct writer *writer)
{
    struct textdump dump;
    int found, error = EKV_OK;
    textdump_open(&dump, input);
    while (!error && (found = textdump_next(&dump)) != 0)
        error = found < 0 ? EKV_INVALID : writer_put(writer, dump.key, dump.value, dump.value_size);
    textdump_close(&dump);
    return error;
}

static int load_line(struct input *input, struct writer *writer, const char *line, size_t size)
{
    struct change change;
    if (change_is_blank(line, size))
        return EKV_OK;
    if (!change_parse(input, line, size, &change))
        return EKV_INVALID;
    int error = EKV_INVALID;
    if (change.if_absent || change.if_version)
        input_complain(input, "conditions are for 'ekv apply', not for load");
    else if (change.remove)
        error = writer_delete(writer, change.key);
    else
        error = writer_put(writer, change.key, change.value, change.value_size);
    change_free(&change);
    return error;
}

static int load_jsonl(struct input *input, struct writer *writer)
{
    char *line;
    size_t size;
    int error = EKV_OK;
    while (!error && input_line(input, &line, &size))
        error = load_line(input, writer, line, size);
    return !error && input->failed ? EKV_INVALID : error;
}

static int load_tar(struct load_job *job, struct input *input, struct writer *writer)
{
    struct files files;
    struct file_entry entry;
    struct ekv_stat stat;
    int found, error = EKV_OK;
    ekv_stat(writer->store->db, &stat);
    if (!files_open_tar(job->tool, &files, input, &job->files, stat.capacity_size))
        return EKV_INVALID;
    while (!error && (found = files_next(&files, &entry)) != 0) {
        if (found < 0) {
            error = EKV_INVALID;
            break;
        }
        error = file_entry_put(writer, &entry);
        file_entry_free(&entry);
    }
    files_close(&files);
    return error;
}

static int load_all(struct load_job *job, struct input *input, struct writer *writer)
{
    int error = job->form == FORM_TEXT    ? load_text(input, writer)
                : job->form == FORM_JSONL ? load_jsonl(input, writer)
                                          : load_tar(job, input, writer);
    return error ? error : writer_commit(writer);
}

static void report(const struct load_job *job, const struct writer_counts *counts)
{
    if (job->tool->json)
        json_line(json_pack("{s:s, s:I, s:I, s:I, s:I}", "schema", "ekv.load.1", "puts",
                            (json_int_t)counts->puts, "deletes", (json_int_t)counts->deletes,
                            "unchanged", (json_int_t)counts->unchanged, "size",
                            (json_int_t)counts->size));
    else
        printf("%llu put, %llu removed, %llu unchanged: %s of values\n",
               (unsigned long long)counts->puts, (unsigned long long)counts->deletes,
               (unsigned long long)counts->unchanged, size_text(counts->size));
}

static int load(struct load_job *job, struct input *input)
{
    struct store store;
    struct writer writer;
    if (!choose_form(job, input) || store_open_mounted(job->tool, &store, true) != EKV_OK)
        return STATUS_FAILED;
    writer_open(&writer, job->tool, &store, job->atomic);
    int error = load_all(job, input, &writer);
    /* What came before the mistake is good, and those who want all or nothing have --atomic. */
    if (error == EKV_INVALID && !job->atomic && writer_commit(&writer) == EKV_OK &&
        writer.committed.puts + writer.committed.deletes > 0)
        message(job->tool, "what came before is stored: %llu keys",
                (unsigned long long)(writer.committed.puts + writer.committed.unchanged));
    writer_close(&writer);
    if (!error)
        report(job, &writer.counts);
    int closed = store_close(job->tool, &store);
    return error || closed ? STATUS_FAILED : STATUS_OK;
}

static int run(struct tool *tool)
{
    struct load_job job = {.tool = tool, .files.time_max = INT64_MAX};
    struct input input;
    const char *value;
    char **operands;
    int count, option;
    while ((option = tool_option(tool, &value)) > 0) {
        job.atomic |= option == LETTER_ATOMIC;
        job.raw |= option == LETTER_RAW;
        job.force |= option == 'f';
        job.files.no_times |= option == 'm';
        job.files.same_owner |= option == LETTER_OWNER;
        if (option == LETTER_TEXT || option == LETTER_JSONL || option == LETTER_TAR)
            job.form = option == LETTER_TEXT    ? FORM_TEXT
                       : option == LETTER_JSONL ? FORM_JSONL
                                                : FORM_TAR;
    }
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (job.raw ? job.form != FORM_UNKNOWN || job.atomic : job.force) {
        message(tool, "--raw goes with no other form and not with --atomic, --force only with it");
        return STATUS_FAILED;
    }
    if (!tool_operands(tool, 0, 1, &operands, &count) ||
        !input_open(tool, &input, count > 0 ? operands[0] : NULL))
        return STATUS_FAILED;
    int status = job.raw ? raw_load(tool, &input, job.force) : load(&job, &input);
    input_close(&input);
    return status;
}

const struct command command_load = {
    .name = "load",
    .operands = "[FILE|-]",
    .summary = "Put what a dump, lines of JSON or a tar archive holds into a store",
    .details =
        "Reads what 'ekv dump', db_dump, mdb_dump and tar write; which it is shows at its\n"
        "begin. The files of an archive become keys as in a mount. Keys that the store has\n"
        "already are replaced, others stay, and a value that is there already is not written\n"
        "again. Commits every few hundred keys; --atomic makes it one transaction. The image\n"
        "must not be mounted. With --raw, all of the flash is replaced by the bytes of an image;\n"
        "sectors that hold them already are left alone, and what was written is read again.\n"
        "When the power fails meanwhile, do it again.\n",
    .options = options,
    .run = run,
};
