/* The mounted store as the file system uses it: locks, durability, background work.
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

#include "ekv.h"
#include "flat.h"
#include "host/attr.h"

struct store {
    struct ekv *db;
    const struct ekv_flash *flash; /* that it lies in */
    struct ekv_flash engine_flash; /* the same, as the engine is given it */
    struct ekv_flash_driver driver;
    atomic_bool slow; /* the last sync took longer than others should wait */
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
    atomic_ullong changes; /* counts commits, and writes inside transactions */
    struct flat flat;      /* of the store as it is */

    pthread_mutex_t worker_lock;
    pthread_cond_t worker_wake;
    pthread_t worker;
    bool worker_running;
    bool worker_stop;
    bool work_due;
};

/* `medium_error` is where the medium keeps its sentence about the last failure, as long as it is
 * open. */
struct store_options {
    const char *medium_error;
    bool read_only;
    bool sync;
    uint32_t memtable_count; /* these four as in struct ekv_mount_options */
    uint32_t cache_count;
    uint32_t retain_count;
    uint32_t retain_seconds;
};

/* Mounts the engine; `flash` stays until the end. Returns the engine's result, not an errno. */
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

/* The engine's read lock: for who reads the flash itself. */
void store_read(struct store *store);
void store_read_end(struct store *store);

EKV_MUST_CHECK int store_sync(struct store *store);

/* Now, in microseconds since 1970. */
int64_t store_now(void);

/* After a change: background work is due. `commit`: it is durable when this returns, if that was
 * asked for. The engine's result. */
EKV_MUST_CHECK int store_changed(struct store *store, bool commit);

static inline struct ekv_key aside_key(const void *bytes, size_t size)
{
    return (struct ekv_key){bytes, (uint32_t)size, EKV_ASIDE, 0};
}

#endif
