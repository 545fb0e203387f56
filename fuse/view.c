/* Views and batches.
 *
 * A view that ends waits until nobody uses the engine's handle that it stands for; nobody may wait
 * for the writer lock while using one, since whoever ends a view holds that. The lock prefers
 * readers, so that a walk may look keys up on its way.
 */
#include "view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

enum { LOAD_SMALL = 1024 };

/* --- Staging -----------------------------------------------------------------------------------
 */

static int staging_begin(struct staging *staging, struct ekv *db)
{
    staging->table = NULL;
    staging->table_size = sizeof staging->small;
    return ekv_txn_begin(&staging->txn, db, staging->small, sizeof staging->small);
}

static int staging_grow(struct staging *staging)
{
    size_t size = 2 * staging->table_size;
    void *table = malloc(size);
    if (!table)
        return EKV_MEMORY;
    int error = ekv_txn_grow(&staging->txn, table, size);
    if (error) {
        free(table);
        return error;
    }
    free(staging->table);
    staging->table = table;
    staging->table_size = size;
    return EKV_OK;
}

/* `value` NULL: a removal. */
static int staging_write(struct staging *staging, struct ekv_key key, const void *value,
                         size_t size)
{
    int error = EKV_MEMORY;
    for (int tries = 2; tries > 0 && error == EKV_MEMORY; tries--) {
        error = value ? ekv_txn_put(&staging->txn, key, value, size)
                      : ekv_txn_delete(&staging->txn, key);
        if (error == EKV_MEMORY && tries > 1) {
            error = staging_grow(staging);
            if (error)
                break;
            error = EKV_MEMORY; /* there is room now: once more */
        }
    }
    return error;
}

static void staging_free(struct staging *staging)
{
    free(staging->table);
    staging->table = NULL;
}

/* --- Use and end -------------------------------------------------------------------------------
 */

static int enter(struct view *view)
{
    if (!view->top)
        return 0;
    pthread_rwlock_rdlock(&view->lock);
    if (!view->ended)
        return 0;
    pthread_rwlock_unlock(&view->lock);
    return ENOENT;
}

static void leave(struct view *view)
{
    if (view->top)
        pthread_rwlock_unlock(&view->lock);
}

bool view_ended(struct view *view)
{
    if (enter(view))
        return true;
    leave(view);
    return false;
}

/* --- Reading -----------------------------------------------------------------------------------
 */

int view_find(struct view *view, struct ekv_key key, struct ekv_entry *entry)
{
    int error = enter(view);
    if (error)
        return error;
    if (view->past)
        error = past_find(view->past, view->version, key, entry);
    else if (view->staging)
        error = ekv_txn_find(&view->staging->txn, key, entry);
    else if (view->snapshot)
        error = ekv_snapshot_find(view->snapshot, key, entry);
    else
        error = ekv_find(view->store->db, key, entry);
    leave(view);
    return view->past ? error : store_errno(error);
}

int view_get(struct view *view, struct ekv_key key, uint64_t offset, void *buffer, size_t capacity,
             size_t *size)
{
    int error = enter(view);
    if (error)
        return error;
    if (view->past)
        error = past_get(view->past, view->version, key, offset, buffer, capacity, size);
    else if (view->staging)
        error = ekv_txn_get(&view->staging->txn, key, offset, buffer, capacity, size);
    else if (view->snapshot)
        error = ekv_snapshot_get(view->snapshot, key, offset, buffer, capacity, size);
    else
        error = ekv_get(view->store->db, key, offset, buffer, capacity, size);
    leave(view);
    return view->past ? error : store_errno(error);
}

int view_attr(struct view *view, const void *key, size_t size, struct attr_record *record,
              struct ekv_entry *entry)
{
    uint8_t bytes[ATTR_RECORD_MAX];
    size_t count = 0;
    attr_clear(record);
    struct ekv_key aside = aside_key(key, size);
    int error = view_get(view, aside, 0, bytes, sizeof bytes, &count);
    if (!error && entry)
        error = view_find(view, aside, entry);
    if (!error)
        (void)attr_decode(bytes, count, record); /* of a later version: the defaults hold */
    return error;
}

int view_attr_to_change(struct view *view, const void *key, size_t size, struct attr_record *record)
{
    struct ekv_entry entry, value;
    int error = view_attr(view, key, size, record, &entry);
    if (error || !(record->file.set & ATTR_MTIME))
        return error;
    error = view_find(view, ekv_key(key, size), &value);
    if (!error && entry.version < value.version)
        record->file.set &= (uint8_t)~ATTR_MTIME;
    return error == ENOENT ? 0 : error;
}

int view_load(struct view *view, struct ekv_key key, uint8_t **value, size_t *size)
{
    struct ekv_entry entry = {0};
    uint8_t small[LOAD_SMALL]; /* a small value is looked up once */
    *value = NULL;
    int error = view_get(view, key, 0, small, sizeof small, size);
    if (error)
        return error;
    if (*size < sizeof small) {
        *value = malloc(*size ? *size : 1);
        if (*value)
            memcpy(*value, small, *size);
        return *value ? 0 : ENOMEM;
    }
    error = view_find(view, key, &entry);
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

int view_has_prefix(struct view *view, uint8_t space, const void *prefix, size_t size, bool *found)
{
    struct view_cursor cursor;
    *found = false;
    struct ekv_key key = {prefix, (uint32_t)size, space, 0};
    int error = view_cursor_open(view, &cursor, space);
    if (error)
        return error;
    if (!view->past) {
        error = store_errno(ekv_cursor_seek_prefix(&cursor.cursor, key));
        *found = !error;
    } else {
        error = past_seek(&cursor.past, key);
        const struct survey_record *record = error ? NULL : cursor.past.record;
        *found = record && record->key_size >= size && memcmp(record->key, prefix, size) == 0;
    }
    view_cursor_close(&cursor);
    return error == ENOENT ? 0 : error;
}

/* --- Cursors -----------------------------------------------------------------------------------
 */

int view_cursor_open(struct view *view, struct view_cursor *cursor, uint8_t space)
{
    int error = enter(view);
    cursor->view = NULL;
    if (error)
        return error;
    cursor->view = view;
    if (view->past)
        cursor->past =
            (struct past_cursor){.past = view->past, .version = view->version, .space = space};
    else if (view->staging)
        ekv_cursor_open_txn(&cursor->cursor, &view->staging->txn, space);
    else if (view->snapshot)
        ekv_cursor_open_snapshot(&cursor->cursor, view->snapshot, space);
    else
        ekv_cursor_open(&cursor->cursor, view->store->db, space);
    return 0;
}

void view_cursor_close(struct view_cursor *cursor)
{
    if (!cursor->view)
        return;
    if (!cursor->view->past)
        ekv_cursor_close(&cursor->cursor);
    leave(cursor->view);
    cursor->view = NULL;
}

int view_cursor_seek(struct view_cursor *cursor, struct ekv_key key)
{
    if (cursor->view->past)
        return past_seek(&cursor->past, key);
    return store_errno(ekv_cursor_seek(&cursor->cursor, key));
}

int view_cursor_next(struct view_cursor *cursor)
{
    if (cursor->view->past)
        return past_next(&cursor->past);
    return store_errno(ekv_cursor_next(&cursor->cursor));
}

int view_cursor_key(struct view_cursor *cursor, void *buffer, size_t capacity, size_t *size)
{
    if (cursor->view->past) {
        const struct survey_record *record = cursor->past.record;
        *size = record->key_size;
        memcpy(buffer, record->key, *size < capacity ? *size : capacity);
        return 0;
    }
    int error = ekv_cursor_key(&cursor->cursor, buffer, capacity, size);
    return error == EKV_TOO_LARGE ? 0 : store_errno(error);
}

int view_cursor_entry(struct view_cursor *cursor, struct ekv_entry *entry)
{
    if (cursor->view->past) {
        past_entry(cursor->past.record, entry);
        return 0;
    }
    return store_errno(ekv_cursor_entry(&cursor->cursor, entry));
}

int view_cursor_read(struct view_cursor *cursor, void *buffer, size_t capacity, size_t *size)
{
    if (cursor->view->past) {
        const struct survey_record *record = cursor->past.record;
        struct ekv_key key = {record->key, record->key_size, record->space, 0};
        return past_get(cursor->view->past, cursor->view->version, key, 0, buffer, capacity, size);
    }
    return store_errno(ekv_cursor_read(&cursor->cursor, 0, buffer, capacity, size));
}

/* --- Batches -----------------------------------------------------------------------------------
 */

int batch_begin(struct batch *batch, struct view *view)
{
    batch->view = view;
    batch->wrote = batch->flat = false;
    batch->staging = &batch->own;
    if (view_is_live(view))
        return store_errno(staging_begin(&batch->own, view->store->db));
    if (view_is_read_only(view))
        return EROFS;
    batch->staging = view->staging;
    return view->ended ? ENOENT : 0;
}

static int batch_write(struct batch *batch, struct ekv_key key, const void *value, size_t size)
{
    struct view *view = batch->view;
    enum touched_kind kind = key.space == EKV_USER ? TOUCHED_PUT : TOUCHED_PUT_ASIDE;
    if (view->touched && !touched_write(view->touched, kind, key.bytes, key.size))
        return ENOMEM;
    if (view_is_live(view) && value)
        flat_put_begin(&view->store->flat, key.bytes, key.size, &batch->flat);
    int error = staging_write(batch->staging, key, value, size);
    batch->wrote |= !error;
    return store_errno(error);
}

int batch_put(struct batch *batch, struct ekv_key key, const void *value, size_t size)
{
    return batch_write(batch, key, value ? value : "", size);
}

int batch_delete(struct batch *batch, struct ekv_key key)
{
    int error = batch_write(batch, key, NULL, 0);
    return error == ENOENT ? 0 : error;
}

int batch_attr(struct batch *batch, const void *key, size_t size, const struct attr_record *record)
{
    uint8_t bytes[ATTR_RECORD_MAX];
    size_t count = attr_encode(record, bytes);
    if (count == 0)
        return batch_delete(batch, aside_key(key, size));
    return batch_put(batch, aside_key(key, size), bytes, count);
}

/* `committed` false: it failed, and is open as it was. */
static int staging_commit(struct staging *staging, struct store *store, bool *committed)
{
    int error = ekv_txn_commit(&staging->txn);
    *committed = !error;
    if (error)
        return error;
    staging_free(staging);
    return store_changed(store, true);
}

int batch_commit(struct batch *batch)
{
    struct store *store = batch->view->store;
    if (!view_is_live(batch->view))
        return store_errno(store_changed(store, false));
    bool committed;
    int error = staging_commit(batch->staging, store, &committed);
    flat_put_end(&store->flat, &batch->flat);
    if (!committed)
        batch_abort(batch);
    return store_errno(error);
}

int batch_commit_appended(struct batch *batch, struct ekv_key key, bool *committed)
{
    struct store *store = batch->view->store;
    flat_put_begin(&store->flat, key.bytes, key.size, &batch->flat);
    int error = staging_commit(batch->staging, store, committed);
    flat_put_end(&store->flat, &batch->flat);
    return store_errno(error);
}

void batch_unpin(struct batch *batch)
{
    ekv_txn_unpin(&batch->staging->txn);
}

int batch_append(struct batch *batch, struct ekv_key key, const void *bytes, size_t size)
{
    int error = ekv_txn_append(&batch->staging->txn, key, bytes, size);
    if (!error)
        error = store_changed(batch->view->store, false);
    return store_errno(error);
}

int batch_get(struct batch *batch, struct ekv_key key, uint64_t offset, void *buffer,
              size_t capacity, size_t *size)
{
    return store_errno(ekv_txn_get(&batch->staging->txn, key, offset, buffer, capacity, size));
}

bool batch_conflicts(struct batch *batch, const void *key, size_t size)
{
    struct ekv_txn *txn = &batch->staging->txn;
    return ekv_txn_check(txn, ekv_key(key, size)) != EKV_OK ||
           ekv_txn_check(txn, aside_key(key, size)) != EKV_OK;
}

void batch_abort(struct batch *batch)
{
    if (!view_is_live(batch->view)) {
        batch->view->damaged |= batch->wrote;
        atomic_fetch_add(&batch->view->store->changes, 1);
        return;
    }
    ekv_txn_abort(&batch->staging->txn);
    staging_free(batch->staging);
    flat_put_end(&batch->view->store->flat, &batch->flat);
}

/* In a stage one write is a batch that cannot fail half-way. */
static int stage_write(struct view *view, struct ekv_key key, const void *value, size_t size)
{
    struct batch batch;
    int error = batch_begin(&batch, view);
    if (!error)
        error = value ? batch_put(&batch, key, value, size) : batch_delete(&batch, key);
    return error ? error : batch_commit(&batch);
}

int view_put(struct view *view, struct ekv_key key, const void *value, size_t size)
{
    if (!view_is_live(view))
        return stage_write(view, key, value ? value : "", size);
    bool flat = false;
    flat_put_begin(&view->store->flat, key.bytes, key.size, &flat);
    int error = ekv_put(view->store->db, key, value, size);
    flat_put_end(&view->store->flat, &flat);
    if (!error)
        error = store_changed(view->store, true);
    return store_errno(error);
}

int view_delete(struct view *view, struct ekv_key key)
{
    if (!view_is_live(view))
        return stage_write(view, key, NULL, 0);
    int error = ekv_delete(view->store->db, key);
    if (error == EKV_NOT_FOUND)
        return 0;
    if (!error)
        error = store_changed(view->store, true);
    return store_errno(error);
}

/* --- Views that end ----------------------------------------------------------------------------
 */

static bool make_parts(struct view *view)
{
    view->snapshot = malloc(sizeof *view->snapshot);
    if (view->kind != VIEW_STAGE)
        return view->snapshot;
    view->staging = malloc(sizeof *view->staging);
    view->touched = touched_new();
    return view->snapshot && view->staging && view->touched;
}

struct view *view_new(struct store *store, enum view_kind kind, const struct attr *attr)
{
    struct view *view = calloc(1, sizeof *view);
    if (!view)
        return NULL;
    *view = (struct view){
        .kind = kind, .store = store, .attr = *attr, .time = store_now(), .held = true};
    pthread_rwlock_init(&view->lock, NULL);
    if (!make_parts(view) || (view->staging && staging_begin(view->staging, store->db) != EKV_OK)) {
        view_free(view);
        return NULL;
    }
    ekv_snapshot_open(view->snapshot, store->db);
    struct ekv_stat stat;
    ekv_stat(store->db, &stat);
    view->begin = stat.version;
    return view;
}

struct view *view_new_past(struct past *past, uint64_t version, bool settled)
{
    struct view *view = calloc(1, sizeof *view);
    if (!view)
        return NULL;
    *view = (struct view){.kind = VIEW_PAST,
                          .store = past->store,
                          .past = past,
                          .version = version,
                          .settled = settled,
                          .attr = {.set = ATTR_MODE, .mode = 0555},
                          .time = store_now()};
    pthread_rwlock_init(&view->lock, NULL);
    return view;
}

int view_commit(struct view *view)
{
    bool committed, flat = false;
    pthread_rwlock_wrlock(&view->lock);
    flat_put_begin(&view->store->flat, NULL, 0, &flat);
    int error = staging_commit(view->staging, view->store, &committed);
    flat_put_end(&view->store->flat, &flat);
    view->ended = committed;
    pthread_rwlock_unlock(&view->lock);
    if (committed && error) /* it is committed, but perhaps not durable */
        report_failure(EIO, "a transaction was committed, but the image could not be synced");
    return committed ? 0 : store_errno(error);
}

void view_end(struct view *view)
{
    pthread_rwlock_wrlock(&view->lock);
    if (view->staging && !view->ended) {
        ekv_txn_abort(&view->staging->txn);
        staging_free(view->staging);
    }
    ekv_snapshot_close(view->snapshot);
    view->ended = true;
    view->held = false;
    pthread_rwlock_unlock(&view->lock);
    atomic_fetch_add(&view->store->changes, 1); /* its space is free again */
}

void view_free(struct view *view)
{
    pthread_rwlock_destroy(&view->lock);
    past_close(view->past);
    touched_free(view->touched);
    free(view->staging);
    free(view->snapshot);
    free(view);
}
