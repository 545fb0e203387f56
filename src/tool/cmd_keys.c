/* `ekv get`, `ekv put`, `ekv rm`: single keys of an image that nobody has mounted, and reading one
 * that somebody has.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "look.h"
#include "store.h"

enum { PIECE_SIZE = 64 * 1024, LETTER_VERSION = 256, LETTER_AT };

/* --- get ------------------------------------------------------------------------------------- */

static const struct option_spec get_options[] = {
    {"output", 'o', "FILE", "write the value into FILE, not to standard output"},
    {"version", LETTER_VERSION, "SEQ", "this version, of those that 'ekv history' lists"},
    {"at", LETTER_AT, "MOMENT", "the value at a version or a time (2026-11-21T10:00:00)"},
    {0},
};

/* Copies the value to `output`, piece by piece; `name` is the file's for messages. */
static int copy_value(struct tool *tool, struct store *store, struct ekv_key key, FILE *output,
                      const char *name)
{
    uint8_t *piece = allocate(PIECE_SIZE);
    uint64_t offset = 0;
    size_t size = PIECE_SIZE;
    int status = STATUS_OK;
    while (status == STATUS_OK && size == PIECE_SIZE) {
        int error = ekv_get(store->db, key, offset, piece, PIECE_SIZE, &size);
        if (error) {
            message(tool, "the value of '%s' cannot be read at byte %llu: %s",
                    key_text(key.bytes, key.size), (unsigned long long)offset, result_text(error));
            status = STATUS_FAILED;
        } else if (fwrite(piece, 1, size, output) != size) {
            message(tool, "%s cannot be written: %s", name, strerror(errno));
            status = STATUS_FAILED;
        }
        offset += size;
    }
    free(piece);
    return status;
}

static int get_value(struct tool *tool, struct store *store, struct ekv_key key, const char *path)
{
    struct ekv_entry entry;
    int error = ekv_find(store->db, key, &entry);
    if (error == EKV_NOT_FOUND) {
        message(tool, "there is no key '%s'", key_text(key.bytes, key.size));
        return STATUS_NO;
    }
    if (error) {
        message(tool, "'%s' cannot be looked up: %s", key_text(key.bytes, key.size),
                result_text(error));
        return STATUS_FAILED;
    }
    if (!path)
        return copy_value(tool, store, key, stdout, "standard output");
    FILE *output = fopen(path, "we");
    if (!output) {
        message(tool, "%s cannot be written: %s", path, strerror(errno));
        return STATUS_FAILED;
    }
    int status = copy_value(tool, store, key, output, path);
    if (fclose(output) != 0 && status == STATUS_OK) {
        message(tool, "%s cannot be written: %s", path, strerror(errno));
        status = STATUS_FAILED;
    }
    return status;
}

static int run_get(struct tool *tool)
{
    struct store store;
    struct look_choice choice = {0};
    const char *value, *path = NULL;
    char **operands;
    int count, option;
    while ((option = tool_option(tool, &value)) > 0) {
        path = option == 'o' ? value : path;
        choice.version = option == LETTER_VERSION ? value : choice.version;
        choice.at = option == LETTER_AT ? value : choice.at;
    }
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 1, 1, &operands, &count))
        return STATUS_FAILED;
    if (choice.version && choice.at) {
        message(tool, "--version and --at ask for different things: use one of them");
        return STATUS_FAILED;
    }
    struct ekv_key key = ekv_key(operands[0], strlen(operands[0]));
    path = path && strcmp(path, "-") == 0 ? NULL : path;
    if (choice.version || choice.at)
        return look_get(tool, key, &choice, path);
    int error = store_open_mounted(tool, &store, false);
    if (store_is_broken(error)) /* shows what there is, and that it may not be all */
        look_get(tool, key, &choice, path);
    if (error)
        return STATUS_FAILED;
    int status = get_value(tool, &store, key, path);
    return store_close(tool, &store) ? STATUS_FAILED : status;
}

const struct command command_get = {
    .name = "get",
    .operands = "KEY",
    .summary = "Write the value of KEY, byte for byte and nothing else",
    .details =
        "Of a store that cannot be mounted it is what can be read. Exits with 1 when there is\n"
        "no such key.\n",
    .options = get_options,
    .run = run_get,
    .few_reads = true,
};

/* --- put ------------------------------------------------------------------------------------- */

/* Reads all of a file; NULL, with a message, when that fails. */
static uint8_t *read_all(struct tool *tool, int file, const char *name, size_t *size)
{
    size_t capacity = PIECE_SIZE;
    uint8_t *bytes = allocate(capacity);
    *size = 0;
    for (;;) {
        if (*size == capacity)
            bytes = allocate_again(bytes, capacity *= 2);
        ssize_t got = read(file, bytes + *size, capacity - *size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            message(tool, "%s cannot be read: %s", name, strerror(errno));
            free(bytes);
            return NULL;
        }
        if (got == 0)
            return bytes;
        *size += (size_t)got;
    }
}

/* The value that an operand means: text, "-" or "@FILE". The caller frees it. */
static uint8_t *read_value(struct tool *tool, const char *text, size_t *size)
{
    if (strcmp(text, "-") == 0)
        return read_all(tool, STDIN_FILENO, "standard input", size);
    if (text[0] != '@') {
        *size = strlen(text);
        return memcpy(allocate(*size), text, *size);
    }
    int file = open(text + 1, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        message(tool, "%s cannot be read: %s", text + 1, strerror(errno));
        return NULL;
    }
    uint8_t *bytes = read_all(tool, file, text + 1, size);
    close(file);
    return bytes;
}

static int put_value(struct tool *tool, struct store *store, struct ekv_key key,
                     const uint8_t *value, size_t size)
{
    struct ekv_stat stat;
    ekv_stat(store->db, &stat);
    int error = ekv_put(store->db, key, value, size);
    if (error == EKV_FULL || error == EKV_PINNED)
        message(tool, "%s is full: %zu bytes do not fit (%s of %s are in use); remove keys first",
                tool->image, size, size_text(stat.live_size), size_text(stat.capacity_size));
    else if (error == EKV_TOO_LARGE && key.size > stat.key_size_max)
        message(tool, "the key has %u bytes: this store takes up to %u", key.size,
                stat.key_size_max);
    else if (error)
        message(tool, "'%s' cannot be stored: %s", key_text(key.bytes, key.size),
                store->image.error[0] ? store->image.error : result_text(error));
    return error;
}

static int run_put(struct tool *tool)
{
    struct store store;
    const char *text;
    char **operands;
    size_t size;
    int count, option = tool_option(tool, &text);
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 2, 2, &operands, &count))
        return STATUS_FAILED;
    uint8_t *value = read_value(tool, operands[1], &size);
    if (!value)
        return STATUS_FAILED;
    int error = store_open_mounted(tool, &store, true);
    if (!error) {
        error = put_value(tool, &store, ekv_key(operands[0], strlen(operands[0])), value, size);
        int closed = store_close(tool, &store);
        error = error ? error : closed;
    }
    free(value);
    return error ? STATUS_FAILED : STATUS_OK;
}

const struct command command_put = {
    .name = "put",
    .operands = "KEY VALUE|-|@FILE",
    .summary = "Store a value: VALUE itself, standard input (-) or what a file holds (@FILE)",
    .details = "Nothing is added to the value, no newline either. The image must not be mounted.\n"
               "A value that begins with '@' or is '-' goes through standard input.\n",
    .run = run_put,
};

/* --- rm -------------------------------------------------------------------------------------- */

static const struct option_spec rm_options[] = {
    {"force", 'f', NULL, "no complaint about keys that are not there"},
    {0},
};

static int remove_one(struct store *store, struct ekv_key key)
{
    uint32_t table[2 * EKV_TXN_ENTRY_SIZE / sizeof(uint32_t)];
    struct ekv_txn txn;
    int error = ekv_txn_begin(&txn, store->db, table, sizeof table);
    if (error)
        return error;
    error = file_remove(&txn, key);
    if (!error)
        error = ekv_txn_commit(&txn);
    if (error)
        ekv_txn_abort(&txn);
    return error;
}

static int remove_keys(struct tool *tool, struct store *store, char **keys, int count, bool force)
{
    int status = STATUS_OK;
    for (int i = 0; i < count && status != STATUS_FAILED; i++) {
        size_t size = strlen(keys[i]);
        int error = remove_one(store, ekv_key(keys[i], size));
        if (error == EKV_NOT_FOUND && force)
            continue;
        if (error == EKV_NOT_FOUND)
            message(tool, "there is no key '%s'", key_text(keys[i], size));
        else if (error)
            message(tool, "'%s' cannot be removed: %s", key_text(keys[i], size),
                    store->image.error[0] ? store->image.error : result_text(error));
        if (error)
            status = error == EKV_NOT_FOUND ? STATUS_NO : STATUS_FAILED;
    }
    return status;
}

static int run_rm(struct tool *tool)
{
    struct store store;
    const char *text;
    char **operands;
    int count, option;
    bool force = false;
    while ((option = tool_option(tool, &text)) > 0)
        force = true;
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 1, INT32_MAX, &operands, &count) ||
        store_open_mounted(tool, &store, true) != EKV_OK)
        return STATUS_FAILED;
    int status = remove_keys(tool, &store, operands, count, force);
    return store_close(tool, &store) ? STATUS_FAILED : status;
}

const struct command command_rm = {
    .name = "rm",
    .operands = "KEY...",
    .summary = "Remove keys",
    .details =
        "Each key is removed for itself, with what ekvfs keeps beside it; exits with 1 when one\n"
        "was not there. The image must not be mounted.\n",
    .options = rm_options,
    .run = run_rm,
};
