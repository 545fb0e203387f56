/* `ekv ls`: the keys of a store in order.
 *
 * Without -R what lies behind the next '/' is one line, and the cursor jumps over it, so that the
 * top of a large store is listed at once.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "look.h"
#include "store.h"

enum { LETTER_AT = 256 };

static const struct option_spec options[] = {
    {"long", 'l', NULL, "version, time and size of each key too"},
    {"recursive", 'R', NULL, "every key, not one line for all behind the next /"},
    {"null", '0', NULL, "end each key with a NUL byte, not a newline"},
    {"deleted", 'd', NULL, "keys that were removed, whose last value is still there"},
    {"at", LETTER_AT, "MOMENT", "as it was at a version or a time (2026-11-21T10:00:00)"},
    {0},
};

struct listing {
    struct tool *tool;
    struct store store;
    struct ekv_cursor cursor;
    const char *prefix;
    size_t prefix_size;
    bool long_form, recursive, null, escape;
    uint8_t *key;
    size_t key_capacity;
    uint64_t count;
};

static void print_end(const struct listing *listing)
{
    putchar(listing->null ? 0 : '\n');
}

static void print_directory(const struct listing *listing, size_t size)
{
    if (listing->tool->json) {
        json_t *object = json_pack("{s:s}", "schema", "ekv.prefix.1");
        json_set_bytes(object, "prefix", listing->key, size);
        json_line(object);
        return;
    }
    if (listing->long_form)
        printf("%10s  %-20s  %10s  ", "-", "-", "-");
    print_bytes(listing->key, size, listing->escape);
    print_end(listing);
}

static int print_key(struct listing *listing, size_t size)
{
    struct ekv_entry entry = {0};
    int error = EKV_OK;
    if (listing->long_form || listing->tool->json)
        error = ekv_cursor_entry(&listing->cursor, &entry);
    if (error)
        return error;
    if (listing->tool->json) {
        json_t *object = json_pack("{s:s}", "schema", "ekv.key.1");
        json_set_bytes(object, "key", listing->key, size);
        json_object_set_new(object, "version", json_integer((json_int_t)entry.version));
        json_set_time(object, entry.time);
        json_object_set_new(object, "size", json_integer((json_int_t)entry.size));
        json_line(object);
        return EKV_OK;
    }
    if (listing->long_form)
        printf("%10llu  %-20s  %10llu  ", (unsigned long long)entry.version, time_text(entry.time),
               (unsigned long long)entry.size);
    print_bytes(listing->key, size, listing->escape);
    print_end(listing);
    return EKV_OK;
}

/* Jumps behind all keys that begin with the first `size` bytes of the key, of which the last is a
 * '/'. */
static int skip_directory(struct listing *listing, size_t size)
{
    listing->key[size - 1]++; /* '0', the byte after '/' */
    int error = ekv_cursor_seek(&listing->cursor, ekv_key(listing->key, size));
    listing->key[size - 1]--;
    return error;
}

static int step(struct listing *listing, bool *done)
{
    size_t size;
    int error = ekv_cursor_key(&listing->cursor, listing->key, listing->key_capacity, &size);
    if (error)
        return error;
    *done = size < listing->prefix_size ||
            memcmp(listing->key, listing->prefix, listing->prefix_size) != 0;
    if (*done)
        return EKV_OK;
    listing->count++;
    const uint8_t *slash = NULL;
    if (!listing->recursive)
        slash = memchr(listing->key + listing->prefix_size, '/', size - listing->prefix_size);
    if (slash) {
        print_directory(listing, (size_t)(slash - listing->key) + 1);
        return skip_directory(listing, (size_t)(slash - listing->key) + 1);
    }
    error = print_key(listing, size);
    return error ? error : ekv_cursor_next(&listing->cursor);
}

static int list(struct listing *listing)
{
    struct ekv_stat stat;
    bool done = false;
    ekv_stat(listing->store.db, &stat);
    listing->key_capacity = stat.key_size_max;
    listing->key = allocate(listing->key_capacity);
    ekv_cursor_open(&listing->cursor, listing->store.db, EKV_USER);
    int error = ekv_cursor_seek(&listing->cursor, ekv_key(listing->prefix, listing->prefix_size));
    while (!error && !done && !ferror(stdout))
        error = step(listing, &done);
    ekv_cursor_close(&listing->cursor);
    free(listing->key);
    return error == EKV_NOT_FOUND ? EKV_OK : error;
}

/* Lists what a mount does not show, or what cannot be mounted. */
static int list_old(struct tool *tool, const struct listing *listing,
                    const struct look_choice *choice)
{
    struct look_list list = {.choice = *choice,
                             .prefix = listing->prefix,
                             .long_form = listing->long_form,
                             .recursive = listing->recursive,
                             .null = listing->null};
    return look_ls(tool, &list);
}

static int run(struct tool *tool)
{
    struct listing listing = {.tool = tool, .prefix = ""};
    struct look_choice choice = {0};
    char **operands;
    const char *value;
    int count, option;
    while ((option = tool_option(tool, &value)) > 0) {
        listing.long_form |= option == 'l';
        listing.recursive |= option == 'R';
        listing.null |= option == '0';
        choice.deleted |= option == 'd';
        choice.at = option == LETTER_AT ? value : choice.at;
    }
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 0, 1, &operands, &count))
        return STATUS_FAILED;
    if (count > 0)
        listing.prefix = operands[0];
    if (choice.deleted && choice.at) {
        message(tool, "--deleted and --at ask for different things: use one of them");
        return STATUS_FAILED;
    }
    if (choice.deleted || choice.at)
        return list_old(tool, &listing, &choice);
    int error = store_open_mounted(tool, &listing.store, false);
    if (store_is_broken(error)) /* shows what there is, and that it may not be all */
        list_old(tool, &listing, &choice);
    if (error)
        return STATUS_FAILED;
    listing.prefix_size = strlen(listing.prefix);
    listing.escape = !listing.null && isatty(STDOUT_FILENO);
    error = list(&listing);
    if (error)
        message(tool, "%s: the keys cannot all be listed: %s", tool->image, result_text(error));
    int closed = store_close(tool, &listing.store);
    if (error || closed)
        return STATUS_FAILED;
    if (listing.count == 0 && listing.prefix_size > 0) {
        message(tool, "no key begins with '%s'", key_text(listing.prefix, listing.prefix_size));
        return STATUS_NO;
    }
    return STATUS_OK;
}

const struct command command_ls = {
    .name = "ls",
    .operands = "[PREFIX]",
    .summary = "List the keys that begin with PREFIX, one a line",
    .details =
        "A terminal gets bytes that are no text as \\x07; anything else gets the keys as they\n"
        "are. Without -R, keys that go on behind the next '/' are one line that ends in '/'.\n"
        "A store that cannot be mounted is listed as far as it can be read. Exits with 1 when no\n"
        "key begins with PREFIX.\n",
    .options = options,
    .run = run,
    .few_reads = true,
};
