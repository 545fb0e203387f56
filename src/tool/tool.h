/* What every command of `ekv` shares: its words, its messages, its output, its store.
 *
 * A command is a function that gets the words behind its name. It takes its options one by one
 * from tool_option, then its operands, and returns the exit status. Data go to standard output,
 * each message is one line on standard error that says what is wrong and what to do.
 */
#ifndef EKV_TOOL_H
#define EKV_TOOL_H

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "ekv.h"

/* Exit statuses of all commands but `check`, which has those of fsck(8). */
enum { STATUS_OK = 0, STATUS_NO = 1, STATUS_FAILED = 2 };
enum { FSCK_OK = 0, FSCK_ERRORS = 4, FSCK_FAILED = 8, FSCK_USAGE = 16 };

enum { OPTION_MAX = 32, OPTION_END = 0, OPTION_WRONG = -1, OPTION_HELP = -2 };

/* An option of a command. `letter` is its short form, or a number from 256 on for none. */
struct option_spec {
    const char *name;
    int letter;
    const char *argument; /* its name in the help, NULL: takes none */
    const char *help;     /* NULL: not in the help */
};

struct tool;

struct command {
    const char *name; /* one word, or two: "bench replay" */
    const char *operands;
    const char *summary;
    const char *details; /* for --help, may be NULL; lines of up to 80 columns */
    const struct option_spec *options;
    int (*run)(struct tool *tool);
    int usage_status;
    bool few_reads; /* reads little of the flash: a device is then not read into memory first */
};

struct tool {
    const char *program; /* as it was called: "ekv", "mkfs.ekv", "fsck.ekv" */
    const struct command *command;
    const char *image; /* of -C, or NULL */
    uint64_t offset;
    bool offset_given;
    bool json;
    int argc; /* the command's words, argv[0] being its name */
    char **argv;
    bool options_ready;
    struct option long_options[OPTION_MAX + 8];
    char short_options[3 * OPTION_MAX];
};

/* --- Words (arguments.c) --------------------------------------------------------------------- */

/* Options that each command takes, before or behind its name. */
extern const struct option_spec global_options[];

/* The next option's letter, its argument in `value`; OPTION_END when only operands are left. After
 * OPTION_WRONG and OPTION_HELP everything is said: return tool_option_status. */
int tool_option(struct tool *tool, const char **value);
int tool_option_status(const struct tool *tool, int option);

/* Operands that are left; false, and a message, when there are not `min` to `max` of them. */
bool tool_operands(struct tool *tool, int min, int max, char ***operands, int *count);

/* Reads a size for an option (host/quantity.h): says what is wrong when it is none, or not in min
 * to max. */
bool option_size(struct tool *tool, const char *name, const char *text, uint64_t min, uint64_t max,
                 uint64_t *size);

void command_help(const struct tool *tool, const struct command *command);

/* --- Messages and output (output.c) ---------------------------------------------------------- */

/* Prints one line "PROGRAM: ..." on standard error. */
void message(const struct tool *tool, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Memory, or the end of the process with a message. */
void *allocate(size_t size);
void *allocate_again(void *memory, size_t size);

/* A sentence for a result of the engine. */
const char *result_text(int result);

/* Writes bytes to standard output: as they are, or escaped (\n, \\, \x07) for a terminal and for
 * messages. `key_text` makes a string that lives until the next but three calls. */
void print_bytes(const void *bytes, size_t size, bool escape);
const char *key_text(const void *bytes, size_t size);

/* Sets NAME to a text that is UTF-8, NAME_base64 to any other bytes. */
void json_set_bytes(json_t *object, const char *name, const void *bytes, size_t size);

/* Moves the members of `more` into the object. */
void json_add(json_t *object, json_t *more);

/* Prints an object as one line and gives it back. */
void json_line(json_t *object);

/* Prints the members of an object as lines "name value" and gives it back. */
void print_figures(json_t *object);

/* "4 MiB", "1.5 KiB", "100 B"; lives until the next but three calls. */
const char *size_text(uint64_t size);

/* A store's id, sixteen hexadecimal digits. Lives until the next but three calls. */
const char *id_text(uint64_t store_id);

/* ISO 8601 in local time, or "-" for no time. Lives until the next but three calls. */
const char *time_text(int64_t microseconds);

/* The name in JSON of the key space where hosts keep what belongs to a key. */
#define SPACE_ATTRIBUTES "attributes"

/* Sets "time" to ISO 8601 in UTC, unless there is no time. */
void json_set_time(json_t *object, int64_t microseconds);

/* Seconds since 1970 of SOURCE_DATE_EPOCH. False when it is not set, or is no number. */
bool source_date_epoch(int64_t *seconds);

/* --- The commands ---------------------------------------------------------------------------- */

extern const struct command command_log, command_history, command_map, command_sector, command_wear,
    command_salvage;
extern const struct command command_format, command_info, command_stat, command_ls, command_get,
    command_put, command_rm, command_apply, command_dump, command_load, command_diff,
    command_compact, command_shell, command_check, command_bench_replay, command_bench_compare;

/* All of them, up to a NULL. */
extern const struct command *const commands[];

#endif
