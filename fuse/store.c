/* The mounted store: locks, views, batches, background work.
 *
 * Lock order, outermost first: the writer lock, a file's lock, the node table's lock, the engine's.
 * The worker takes the writer lock for one step at a time, after a pause without commits, and lets
 * every waiting writer go first.
 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "report.h"

enum { WORKER_PAUSE_NS = 20 * 1000 * 1000 };

/* --- What the engine is given ------------------------------------------------------------------
 */

static void lock_read(void *context)
{
    pthread_rwlock_rdlock(&((struct store *)context)->engine_lock);
}

static void lock_write(void *context)
{
    pthread_rwlock_wrlock(&((struct store *)context)->engine_lock);
}

static void unlock(void *context)
{
    pthread_rwlock_unlock(&((struct store *)context)->engine_lock);
}

static const struct ekv_locks locks = {lock_read, unlock, lock_write, unlock};

int64_t store_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Commit times never go back during a mount, so that the store at a time is one moment. */
static int64_t commit_clock(void *context)
{
    struct store *store = context;
    int64_t now = store->commit_time ? store->commit_time : store_now();
    if (now < store->last_time)
        now = store->last_time;
    store->last_time = now;
    return now;
}

int store_open(struct store *store, const struct ekv_flash *flash,
               const struct store_options *options)
{
    memset(store, 0, sizeof *store);
    store->read_only = options->read_only;
    store->sync = options->sync;
    store->geometry = flash->geometry;
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&store->engine_lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    pthread_mutex_init(&store->writer, NULL);
    pthread_mutex_init(&store->worker_lock, NULL);
    pthread_cond_init(&store->worker_wake, NULL);

    struct ekv_mount_options mount = {
        .read_only = options->read_only,
        .memtable_count = options->memtable_count,
        .retain_count = options->retain_count,
        .retain_seconds = options->retain_seconds,
        .locks = &locks,
        .lock_context = store,
        .now = commit_clock,
        .now_context = store,
    };
    size_t size = ekv_memory_size(&flash->geometry, &mount);
    store->memory = malloc(size ? size : 1);
    if (!store->memory)
        return EKV_MEMORY;
    int error = ekv_mount(&store->db, flash, &mount, store->memory, size);
    if (error) {
        free(store->memory);
        return error;
    }
    struct ekv_stat stat;
    ekv_stat(store->db, &stat);
    store->key_size_max = stat.key_size_max;
    return EKV_OK;
}

/* --- Background work ---------------------------------------------------------------------------
 */

static bool work_step(struct store *store)
{
    bool more = false;
    pthread_mutex_lock(&store->writer);
    int error = ekv_work(store->db, &more);
    pthread_mutex_unlock(&store->writer);
    if (error)
        report_failure(EIO, "background work failed: errors of the flash or damaged data; unmount "
                            "and run `ekv check` on the image");
    return more && !error;
}

static void pause_worker(struct store *store)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WORKER_PAUSE_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    while (!store->worker_stop &&
           pthread_cond_timedwait(&store->worker_wake, &store->worker_lock, &until) != ETIMEDOUT)
        ;
}

static void *worker_main(void *context)
{
    struct store *store = context;
    pthread_mutex_lock(&store->worker_lock);
    while (!store->worker_stop) {
        if (!store->work_due) {
            pthread_cond_wait(&store->worker_wake, &store->worker_lock);
            continue;
        }
        store->work_due = false;
        pause_worker(store);
        if (store->work_due) /* somebody wrote meanwhile: not idle yet */
            continue;
        bool more = true;
        while (more && !store->worker_stop && !store->work_due) {
            pthread_mutex_unlock(&store->worker_lock);
            if (atomic_load(&store->writers_waiting) == 0)
                more = work_step(store);
            pthread_mutex_lock(&store->worker_lock);
        }
    }
    pthread_mutex_unlock(&store->worker_lock);
    return NULL;
}

int store_start(struct store *store)
{
    if (store->read_only)
        return 0;
    int error = pthread_create(&store->worker, NULL, worker_main, store);
    store->worker_running = !error;
    return error;
}

int store_close(struct store *store)
{
    if (store->worker_running) {
        pthread_mutex_lock(&store->worker_lock);
        store->worker_stop = true;
        pthread_cond_signal(&store->worker_wake);
        pthread_mutex_unlock(&store->worker_lock);
        pthread_join(store->worker, NULL);
    }
    int synced = store->read_only ? EKV_OK : ekv_sync(store->db);
    int error = ekv_unmount(store->db);
    free(store->memory);
    pthread_rwlock_destroy(&store->engine_lock);
    pthread_mutex_destroy(&store->writer);
    pthread_mutex_destroy(&store->worker_lock);
    pthread_cond_destroy(&store->worker_wake);
    return error ? error : synced;
}

int store_errno(int result)
{
    switch (result) {
    case EKV_OK:
        return 0;
    case EKV_NOT_FOUND:
        return ENOENT;
    case EKV_CONFLICT:
        return EAGAIN;
    case EKV_FULL:
        return report_refusal(ENOSPC, "no space left: remove keys, or use a larger image");
    case EKV_PINNED:
        return report_refusal(ENOSPC, "no space left until a snapshot, a transaction or an open "
                                      "directory is closed that still needs old versions");
    case EKV_TOO_LARGE:
        return EFBIG;
    case EKV_READ_ONLY:
        return EROFS;
    case EKV_MEMORY:
        return ENOMEM;
    case EKV_BUSY:
        return EBUSY;
    case EKV_INVALID:
        return EINVAL;
    case EKV_CORRUPT:
        return report_failure(EIO, "the image is damaged: unmount and run `ekv check` on it");
    default:
        return report_failure(EIO, "reading or writing the image failed (result %d)", result);
    }
}

void store_write(struct store *store)
{
    atomic_fetch_add(&store->writers_waiting, 1);
    pthread_mutex_lock(&store->writer);
    atomic_fetch_sub(&store->writers_waiting, 1);
}

void store_write_end(struct store *store)
{
    pthread_mutex_unlock(&store->writer);
}

/* After a commit: wakes the worker, and makes it durable if that was asked for. */
static int committed(struct store *store)
{
    atomic_fetch_add(&store->commits, 1);
    pthread_mutex_lock(&store->worker_lock);
    bool was_due = store->work_due;
    store->work_due = true;
    if (!was_due)
        pthread_cond_signal(&store->worker_wake);
    pthread_mutex_unlock(&store->worker_lock);
    return store->sync ? ekv_sync(store->db) : EKV_OK;
}

int store_sync(struct store *store)
{
    if (store->read_only)
        return 0;
    store_write(store);
    int error = ekv_sync(store->db);
    store_write_end(store);
    return store_errno(error);
}

int store_put(struct store *store, struct ekv_key key, const void *value, size_t size)
{
    int error = ekv_put(store->db, key, value, size);
    if (!error)
        error = committed(store);
    return store_errno(error);
}

int store_delete(struct store *store, struct ekv_key key)
{
    int error = ekv_delete(store->db, key);
    if (error == EKV_NOT_FOUND)
        return 0;
    if (!error)
        error = committed(store);
    return store_errno(error);
}

/* --- Views -------------------------------------------------------------------------------------
 */

int view_find(const struct view *view, struct ekv_key key, struct ekv_entry *entry)
{
    int error;
    if (view->txn)
        error = ekv_txn_find(view->txn, key, entry);
    else if (view->snapshot)
        error = ekv_snapshot_find(view->snapshot, key, entry);
    else
        error = ekv_find(view->store->db, key, entry);
    return store_errno(error);
}

int view_get(const struct view *view, struct ekv_key key, uint64_t offset, void *buffer,
             size_t capacity, size_t *size)
{
    int error;
    if (view->txn)
        error = ekv_txn_get(view->txn, key, offset, buffer, capacity, size);
    else if (view->snapshot)
        error = ekv_snapshot_get(view->snapshot, key, offset, buffer, capacity, size);
    else
        error = ekv_get(view->store->db, key, offset, buffer, capacity, size);
    return store_errno(error);
}

void view_cursor_open(const struct view *view, struct ekv_cursor *cursor, uint8_t space)
{
    if (view->txn)
        ekv_cursor_open_txn(cursor, view->txn, space);
    else if (view->snapshot)
        ekv_cursor_open_snapshot(cursor, view->snapshot, space);
    else
        ekv_cursor_open(cursor, view->store->db, space);
}

int view_attr(const struct view *view, const void *key, size_t size, struct attr_record *record,
              struct ekv_entry *entry)
{
    uint8_t bytes[ATTR_RECORD_MAX];
    size_t count = 0;
    memset(record, 0, sizeof *record);
    struct ekv_key aside = aside_key(key, size);
    int error = view_get(view, aside, 0, bytes, sizeof bytes, &count);
    if (!error && entry)
        error = view_find(view, aside, entry);
    if (!error && !attr_decode(bytes, count, record))
        memset(record, 0, sizeof *record); /* of a later version: the defaults hold */
    return error;
}

int view_load(const struct view *view, struct ekv_key key, uint8_t **value, size_t *size)
{
    struct ekv_entry entry;
    *value = NULL;
    int error = view_find(view, key, &entry);
    if (error)
        return error;
    *value = malloc(entry.size ? (size_t)entry.size : 1);
    if (!*value)
        return ENOMEM;
    error = view_get(view, key, 0, *value, (size_t)entry.size, size);
    if (error) {
        free(*value);
        *value = NULL;
    }
    return error;
}

int view_has_prefix(const struct view *view, uint8_t space, const void *prefix, size_t size,
                    bool *found)
{
    struct ekv_cursor cursor;
    uint8_t *key = malloc(size ? size : 1);
    *found = false;
    if (!key)
        return ENOMEM;
    view_cursor_open(view, &cursor, space);
    int error = ekv_cursor_seek(&cursor, (struct ekv_key){prefix, (uint32_t)size, space, 0});
    if (!error) {
        size_t key_size;
        error = ekv_cursor_key(&cursor, key, size, &key_size);
        if (error == EKV_TOO_LARGE)
            error = EKV_OK;
        *found = !error && key_size >= size && memcmp(key, prefix, size) == 0;
    }
    ekv_cursor_close(&cursor);
    free(key);
    return error == EKV_NOT_FOUND ? 0 : store_errno(error);
}

/* --- Batches -----------------------------------------------------------------------------------
 */

int batch_begin(struct batch *batch, struct store *store)
{
    batch->store = store;
    batch->table = NULL;
    batch->table_size = sizeof batch->small;
    return store_errno(ekv_txn_begin(&batch->txn, store->db, batch->small, sizeof batch->small));
}

static int grow(struct batch *batch)
{
    size_t size = 2 * batch->table_size;
    void *table = malloc(size);
    if (!table)
        return EKV_MEMORY;
    int error = ekv_txn_grow(&batch->txn, table, size);
    if (error) {
        free(table);
        return error;
    }
    free(batch->table);
    batch->table = table;
    batch->table_size = size;
    return EKV_OK;
}

int batch_put(struct batch *batch, struct ekv_key key, const void *value, size_t size)
{
    int error = ekv_txn_put(&batch->txn, key, value, size);
    if (error == EKV_MEMORY) {
        error = grow(batch);
        if (!error)
            error = ekv_txn_put(&batch->txn, key, value, size);
    }
    return store_errno(error);
}

int batch_delete(struct batch *batch, struct ekv_key key)
{
    int error = ekv_txn_delete(&batch->txn, key);
    if (error == EKV_MEMORY) {
        error = grow(batch);
        if (!error)
            error = ekv_txn_delete(&batch->txn, key);
    }
    return error == EKV_NOT_FOUND ? 0 : store_errno(error);
}

int batch_attr(struct batch *batch, const void *key, size_t size, const struct attr_record *record)
{
    uint8_t bytes[ATTR_RECORD_MAX];
    size_t count = attr_encode(record, bytes);
    if (count == 0)
        return batch_delete(batch, aside_key(key, size));
    return batch_put(batch, aside_key(key, size), bytes, count);
}

int batch_commit(struct batch *batch)
{
    int error = ekv_txn_commit(&batch->txn);
    if (error)
        ekv_txn_abort(&batch->txn);
    free(batch->table);
    if (!error)
        error = committed(batch->store);
    return store_errno(error);
}

void batch_abort(struct batch *batch)
{
    ekv_txn_abort(&batch->txn);
    free(batch->table);
}
