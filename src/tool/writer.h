/* Many changes to a store: in one transaction, or in as many of a bounded size as they take. */
#ifndef EKV_TOOL_WRITER_H
#define EKV_TOOL_WRITER_H

#include "store.h"

/* What was done, counted when it was written; `committed` when it is there for good. */
struct writer_counts {
    uint64_t puts;
    uint64_t deletes;
    uint64_t unchanged; /* had these bytes already: nothing was written */
    uint64_t size;      /* bytes of the values put */
};

struct writer {
    struct writer_counts counts, committed;

    struct tool *tool;
    struct store *store;
    struct ekv_txn txn;
    bool open;
    bool whole; /* one transaction */
    void *table;
    size_t table_size;
    uint64_t changes_max, size_max; /* of a transaction, unless `whole` */
    uint64_t changes, size;         /* of this one */
    uint8_t *buffer;
    uint64_t progress_time;
    bool progress_shown;
};

enum { TRANSACTION_TABLE_SIZE = 256 * EKV_TXN_ENTRY_SIZE }; /* to begin with */

/* Doubles a transaction's table, which was made by `allocate`. */
EKV_MUST_CHECK int transaction_grow(struct ekv_txn *txn, void **table, size_t *table_size);

/* Begins; nothing is written yet. */
void writer_open(struct writer *writer, struct tool *tool, struct store *store, bool whole);

/* Stores a value, unless the key has just this one. Says what is wrong. */
EKV_MUST_CHECK int writer_put(struct writer *writer, struct ekv_key key, const void *value,
                              size_t size);

/* Deletes a key; nothing happens when it is not there. Says what is wrong. */
EKV_MUST_CHECK int writer_delete(struct writer *writer, struct ekv_key key);

/* Reads all of a small value as it will be after the commit; EKV_NOT_FOUND without a message. */
EKV_MUST_CHECK int writer_get(struct writer *writer, struct ekv_key key, void *buffer,
                              size_t capacity, size_t *size);

/* Commits what is not committed yet. Says what is wrong; then nothing of the last transaction is
 * there. */
EKV_MUST_CHECK int writer_commit(struct writer *writer);

/* Gives up what is not committed, and frees the writer; also after writer_commit. */
void writer_close(struct writer *writer);

#endif
