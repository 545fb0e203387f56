/* The mounted store: locks, durability, background work.
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

#include "host/host_mount.h"
#include "loop.h"
#include "report.h"

enum { WORKER_PAUSE_NS = 20 * 1000 * 1000, SLOW_NS = 200 * 1000 };

/* --- What the engine is given ------------------------------------------------------------------
 */

/* A chip, which is not mapped. */
static bool is_chip(const struct store *store)
{
    return store->flash->map == NULL;
}

/* What is not mapped the engine reads through one buffer: only one reader at a time. */
static void lock_read(void *context)
{
    struct store *store = context;
    if (is_chip(store))
        pthread_rwlock_wrlock(&store->engine_lock);
    else
        pthread_rwlock_rdlock(&store->engine_lock);
}

static void lock_write(void *context)
{
    pthread_rwlock_wrlock(&((struct store *)context)->engine_lock);
}

/* Of the one medium that this process has open. */
static const char *medium_error = "";

static void unlock(void *context)
{
    pthread_rwlock_unlock(&((struct store *)context)->engine_lock);
}

static const struct ekv_locks locks = {lock_read, unlock, lock_write, unlock};

/* What may take long lets the other requests go on meanwhile: the disk, and all that is written to
 * a chip. */
static int flash_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    const struct ekv_flash *flash = ((const struct store *)context)->flash;
    return flash->driver->read(flash->context, address, buffer, size);
}

static int flash_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    const struct store *store = context;
    if (is_chip(store))
        loop_hand_over();
    return store->flash->driver->program(store->flash->context, address, data, size);
}

static int flash_erase(void *context, uint32_t sector)
{
    const struct store *store = context;
    if (is_chip(store))
        loop_hand_over();
    return store->flash->driver->erase(store->flash->context, sector);
}

/* Where there is no disk below, a sync takes less time than a change of threads. The first one that
 * does take long is noticed by the thread that stands by. */
static int flash_sync(void *context, bool barrier_only)
{
    struct store *store = context;
    struct timespec begin, end;
    if (atomic_load(&store->slow))
        loop_hand_over();
    clock_gettime(CLOCK_MONOTONIC, &begin);
    int error = store->flash->driver->sync(store->flash->context, barrier_only);
    clock_gettime(CLOCK_MONOTONIC, &end);
    int64_t took = (int64_t)(end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec;
    atomic_store(&store->slow, took > SLOW_NS);
    return error;
}

static void flash_prefetch(void *context, uint32_t address, uint32_t size)
{
    const struct ekv_flash *flash = ((const struct store *)context)->flash;
    flash->driver->prefetch(flash->context, address, size);
}

/* The same flash, with these around its driver. */
static void wrap_flash(struct store *store, const struct ekv_flash *flash)
{
    store->flash = flash;
    store->geometry = flash->geometry;
    store->driver = (struct ekv_flash_driver){
        .read = flash_read,
        .program = flash_program,
        .erase = flash_erase,
        .sync = flash->driver->sync ? flash_sync : NULL,
        .prefetch = flash->driver->prefetch ? flash_prefetch : NULL,
    };
    store->engine_flash = *flash;
    store->engine_flash.driver = &store->driver;
    store->engine_flash.context = store;
}

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
    medium_error = options->medium_error;
    store->read_only = options->read_only;
    store->sync = options->sync;
    wrap_flash(store, flash);
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&store->engine_lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    pthread_mutex_init(&store->writer, NULL);
    flat_init(&store->flat);
    pthread_mutex_init(&store->worker_lock, NULL);
    pthread_cond_init(&store->worker_wake, NULL);

    struct ekv_mount_options mount = {
        .read_only = options->read_only,
        .memtable_count = options->memtable_count,
        .cache_count = options->cache_count,
        .retain_count = options->retain_count,
        .retain_seconds = options->retain_seconds,
        .locks = &locks,
        .lock_context = store,
        .now = commit_clock,
        .now_context = store,
    };
    int error = host_mount(&store->db, &store->engine_flash, &mount, &store->memory);
    if (error)
        return error;
    struct ekv_stat stat;
    ekv_stat(store->db, &stat);
    store->key_size_max = stat.key_size_max;
    store->read_only |= stat.damaged;
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
    flat_end(&store->flat);
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
        return report_refusal(ENOSPC, "no space left: snapshots and transactions pin old versions "
                                      "until they are removed");
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
        return report_failure(EIO, "reading or writing the image failed: %s",
                              *medium_error ? medium_error : "it does not say why");
    }
}

void store_write(struct store *store)
{
    if (pthread_mutex_trylock(&store->writer) == 0)
        return;
    loop_hand_over();
    atomic_fetch_add(&store->writers_waiting, 1);
    pthread_mutex_lock(&store->writer);
    atomic_fetch_sub(&store->writers_waiting, 1);
}

void store_write_end(struct store *store)
{
    pthread_mutex_unlock(&store->writer);
}

int store_changed(struct store *store, bool commit)
{
    atomic_fetch_add(&store->changes, 1);
    pthread_mutex_lock(&store->worker_lock);
    bool was_due = store->work_due;
    store->work_due = true;
    if (!was_due)
        pthread_cond_signal(&store->worker_wake);
    pthread_mutex_unlock(&store->worker_lock);
    return commit && store->sync ? ekv_sync(store->db) : EKV_OK;
}

void store_read(struct store *store)
{
    lock_read(store);
}

void store_read_end(struct store *store)
{
    unlock(store);
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
