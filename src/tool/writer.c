/* Many changes, in transactions.
 *
 * The transaction's table begins small and doubles. A store that becomes full says what was
 * committed before, since that stays. On a terminal, the count goes by while it works.
 */
#define _GNU_SOURCE
#include "writer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    PIECE_SIZE = 64 * 1024,
    CHANGES_MAX = 256,
    SIZE_MAX_PART = 16, /* of the store, for a transaction */
    PROGRESS_EVERY = 200000,
};

void writer_open(struct writer *writer, struct tool *tool, struct store *store, bool whole)
{
    struct ekv_stat stat;
    ekv_stat(store->db, &stat);
    *writer = (struct writer){.tool = tool, .store = store, .whole = whole};
    /* What the memtable takes is committed by one record; more would be a run for each. */
    writer->changes_max = stat.memtable_capacity / 2;
    if (writer->changes_max > CHANGES_MAX)
        writer->changes_max = CHANGES_MAX;
    writer->size_max = stat.capacity_size / SIZE_MAX_PART;
}

/* --- Progress -------------------------------------------------------------------------------- */

static void show_progress(struct writer *writer)
{
    struct timespec moment;
    if (!isatty(STDERR_FILENO))
        return;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    uint64_t time = (uint64_t)moment.tv_sec * 1000000 + (uint64_t)moment.tv_nsec / 1000;
    if (writer->progress_time == 0)
        writer->progress_time = time;
    if (time - writer->progress_time < PROGRESS_EVERY)
        return;
    writer->progress_time = time;
    writer->progress_shown = true;
    fprintf(stderr, "\r%s: %llu keys, %s \033[K", writer->tool->program,
            (unsigned long long)(writer->counts.puts + writer->counts.unchanged),
            size_text(writer->counts.size));
}

static void clear_progress(struct writer *writer)
{
    if (writer->progress_shown)
        fputs("\r\033[K", stderr);
    writer->progress_shown = false;
}

/* --- Messages -------------------------------------------------------------------------------- */

/* What of an earlier transaction stays when this one fails. */
static const char *kept_text(const struct writer *writer)
{
    static char text[120];
    text[0] = 0;
    if (writer->whole)
        return "; nothing was changed";
    if (writer->committed.puts + writer->committed.deletes > 0)
        snprintf(text, sizeof text, "; the %llu keys before are stored",
                 (unsigned long long)(writer->committed.puts + writer->committed.deletes +
                                      writer->committed.unchanged));
    return text;
}

static int explain(struct writer *writer, struct ekv_key key, size_t size, int error)
{
    struct ekv_stat stat;
    struct tool *tool = writer->tool;
    const struct image *image = &writer->store->image;
    clear_progress(writer);
    ekv_stat(writer->store->db, &stat);
    const char *name = key.bytes ? key_text(key.bytes, key.size) : "the last keys";
    if (error == EKV_FULL || error == EKV_PINNED)
        message(tool, "%s is full: %zu bytes for '%s' do not fit (%s of %s are in use)%s",
                tool->image, size, name, size_text(stat.live_size + stat.reserved_size),
                size_text(stat.capacity_size), kept_text(writer));
    else if (error == EKV_TOO_LARGE && key.size > stat.key_size_max)
        message(tool, "the key '%s' has %u bytes: this store takes up to %u%s", name, key.size,
                stat.key_size_max, kept_text(writer));
    else
        message(tool, "'%s' cannot be stored: %s%s", name,
                image->error[0] ? image->error : result_text(error), kept_text(writer));
    return error;
}

/* --- Transactions ---------------------------------------------------------------------------- */

static int begin(struct writer *writer)
{
    if (writer->open)
        return EKV_OK;
    if (!writer->table) {
        writer->table_size = TRANSACTION_TABLE_SIZE;
        writer->table = allocate(writer->table_size);
    }
    int error = ekv_txn_begin(&writer->txn, writer->store->db, writer->table, writer->table_size);
    writer->open = !error;
    writer->changes = writer->size = 0;
    return error;
}

int transaction_grow(struct ekv_txn *txn, void **table, size_t *table_size)
{
    void *larger = allocate(2 * *table_size);
    int error = ekv_txn_grow(txn, larger, 2 * *table_size);
    if (error) {
        free(larger);
        return error;
    }
    free(*table);
    *table = larger;
    *table_size *= 2;
    return EKV_OK;
}

static int grow(struct writer *writer)
{
    return transaction_grow(&writer->txn, &writer->table, &writer->table_size);
}

static int end_transaction(struct writer *writer)
{
    if (!writer->open)
        return EKV_OK;
    int error = ekv_txn_commit(&writer->txn);
    if (error) {
        ekv_txn_abort(&writer->txn);
        writer->open = false;
        return error;
    }
    writer->open = false;
    writer->committed = writer->counts;
    return EKV_OK;
}

/* Whether the key has just this value. Attributes that are older than their value are not the same:
 * the time among them does not count any more. */
static bool is_same(struct writer *writer, struct ekv_key key, const uint8_t *value, size_t size)
{
    struct ekv_entry entry, of_value;
    if (ekv_txn_find(&writer->txn, key, &entry) != EKV_OK || entry.size != size)
        return false;
    if (key.space == EKV_ASIDE &&
        ekv_txn_find(&writer->txn, ekv_key(key.bytes, key.size), &of_value) == EKV_OK &&
        of_value.version > entry.version)
        return false;
    if (!writer->buffer)
        writer->buffer = allocate(PIECE_SIZE);
    for (size_t offset = 0, got = 0; offset < size; offset += got)
        if (ekv_txn_get(&writer->txn, key, offset, writer->buffer, PIECE_SIZE, &got) != EKV_OK ||
            got == 0 || memcmp(writer->buffer, value + offset, got) != 0)
            return false;
    return true;
}

/* Counts a change that was made, and commits when the transaction is large enough. */
static int count(struct writer *writer, struct ekv_key key, size_t size)
{
    show_progress(writer);
    writer->changes++;
    writer->size += size + key.size;
    if (writer->whole || (writer->changes < writer->changes_max && writer->size < writer->size_max))
        return EKV_OK;
    int error = end_transaction(writer);
    return error ? explain(writer, key, size, error) : EKV_OK;
}

int writer_put(struct writer *writer, struct ekv_key key, const void *value, size_t size)
{
    int error = begin(writer);
    if (!error && is_same(writer, key, value, size)) {
        writer->counts.unchanged++;
        show_progress(writer);
        return EKV_OK;
    }
    if (!error)
        error = ekv_txn_put(&writer->txn, key, value, size);
    if (error == EKV_MEMORY) {
        error = grow(writer);
        if (!error)
            error = ekv_txn_put(&writer->txn, key, value, size);
    }
    if (error)
        return explain(writer, key, size, error);
    writer->counts.puts++;
    writer->counts.size += size;
    return count(writer, key, size);
}

int writer_delete(struct writer *writer, struct ekv_key key)
{
    int error = begin(writer);
    if (!error)
        error = ekv_txn_delete(&writer->txn, key);
    if (error == EKV_MEMORY) {
        error = grow(writer);
        if (!error)
            error = ekv_txn_delete(&writer->txn, key);
    }
    if (error == EKV_NOT_FOUND)
        return EKV_OK;
    if (error)
        return explain(writer, key, 0, error);
    writer->counts.deletes++;
    return count(writer, key, 0);
}

int writer_get(struct writer *writer, struct ekv_key key, void *buffer, size_t capacity,
               size_t *size)
{
    int error = begin(writer);
    if (!error)
        error = ekv_txn_get(&writer->txn, key, 0, buffer, capacity, size);
    return error && error != EKV_NOT_FOUND ? explain(writer, key, 0, error) : error;
}

int writer_commit(struct writer *writer)
{
    int error = end_transaction(writer);
    return error ? explain(writer, ekv_key(NULL, 0), writer->size, error) : EKV_OK;
}

void writer_close(struct writer *writer)
{
    clear_progress(writer);
    if (writer->open)
        ekv_txn_abort(&writer->txn);
    writer->open = false;
    free(writer->table);
    free(writer->buffer);
}
