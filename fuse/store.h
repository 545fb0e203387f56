/* The mounted store as the file system uses it: locks, views, batches, background work.
 *
 * Reading needs no lock of ours: the engine takes the readers-writer lock that it was given and
 * never holds it during an erase. Whoever changes the store holds the writer lock (store_write),
 * from the first look at what it is going to change until the change is committed.
 *
 * Functions return 0 or an errno.
 */
#ifndef EKVFS_STORE_H
#define EKVFS_STORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "attr.h"
#include "ekv.h"

struct store {
    struct ekv *db;
    struct ekv_geometry geometry;
    uint32_t key_size_max;
    bool read_only;
    bool sync;           /* every commit is made durable */
    void *memory;        /* the engine's */
    int64_t commit_time; /* what the engine is told that it is, 0: what it is */
    int64_t last_time;   /* of the newest commit by this mount */

    pthread_rwlock_t engine_lock;
    pthread_mutex_t writer;
    atomic_uint writers_waiting;
    atomic_ullong commits; /* by this mount */

    pthread_mutex_t worker_lock;
    pthread_cond_t worker_wake;
    pthread_t worker;
    bool worker_running;
    bool worker_stop;
    bool work_due;
};

/* What the store looks like to somebody: as it is, or inside a transaction or a snapshot. */
struct view {
    struct store *store;
    struct ekv_txn *txn;
    struct ekv_snapshot *snapshot;
};

struct store_options {
    bool read_only;
    bool sync;
    uint32_t memtable_count;
    uint32_t retain_count; /* these two as in struct ekv_mount_options */
    uint32_t retain_seconds;
};

/* Mounts the engine. Returns the engine's result, not an errno. */
EKV_MUST_CHECK int store_open(struct store *store, const struct ekv_flash *flash,
                              const struct store_options *options);

/* Starts background work: after the last fork. */
EKV_MUST_CHECK int store_start(struct store *store);

/* Stops background work, makes everything durable and unmounts. The engine's result. */
EKV_MUST_CHECK int store_close(struct store *store);

/* The errno for a result of the engine; 0 for EKV_OK. */
int store_errno(int result);

/* The writer lock. */
void store_write(struct store *store);
void store_write_end(struct store *store);

EKV_MUST_CHECK int store_sync(struct store *store);

/* Now, in microseconds since 1970. */
int64_t store_now(void);

/* --- Reading -----------------------------------------------------------------------------------
 */

/* ENOENT: there is no such key. */
EKV_MUST_CHECK int view_find(const struct view *view, struct ekv_key key, struct ekv_entry *entry);
EKV_MUST_CHECK int view_get(const struct view *view, struct ekv_key key, uint64_t offset,
                            void *buffer, size_t capacity, size_t *size);
void view_cursor_open(const struct view *view, struct ekv_cursor *cursor, uint8_t space);

/* The attributes under a key, and their version in `entry`; ENOENT if there are none. */
EKV_MUST_CHECK int view_attr(const struct view *view, const void *key, size_t size,
                             struct attr_record *record, struct ekv_entry *entry);

/* A whole value in fresh memory (at least one byte), the caller's to free. */
EKV_MUST_CHECK int view_load(const struct view *view, struct ekv_key key, uint8_t **value,
                             size_t *size);

/* Whether any key of a space begins with `prefix`. With `attr` the first such record's. */
EKV_MUST_CHECK int view_has_prefix(const struct view *view, uint8_t space, const void *prefix,
                                   size_t size, bool *found);

/* --- Changing ----------------------------------------------------------------------------------
 */

/* Changes that are committed together, under the writer lock. */
struct batch {
    struct store *store;
    struct ekv_txn txn;
    void *table; /* NULL while `small` does */
    size_t table_size;
    uint64_t small[32];
};

EKV_MUST_CHECK int batch_begin(struct batch *batch, struct store *store);
EKV_MUST_CHECK int batch_put(struct batch *batch, struct ekv_key key, const void *value,
                             size_t size);
/* Nothing happens if the key is not there. */
EKV_MUST_CHECK int batch_delete(struct batch *batch, struct ekv_key key);
/* Puts the record, or deletes the key when it says nothing. */
EKV_MUST_CHECK int batch_attr(struct batch *batch, const void *key, size_t size,
                              const struct attr_record *record);
/* Ends the batch either way; with -o sync the commit is durable when this returns. */
EKV_MUST_CHECK int batch_commit(struct batch *batch);
void batch_abort(struct batch *batch);

/* A single put or delete, without a batch. */
EKV_MUST_CHECK int store_put(struct store *store, struct ekv_key key, const void *value,
                             size_t size);
EKV_MUST_CHECK int store_delete(struct store *store, struct ekv_key key);

static inline struct ekv_key aside_key(const void *bytes, size_t size)
{
    return (struct ekv_key){bytes, (uint32_t)size, EKV_ASIDE, 0};
}

#endif
