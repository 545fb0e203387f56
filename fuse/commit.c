/* Commits what open files hold: the value as a whole, and what is kept beside it.
 *
 * In a transaction that is a staged write; what says nothing different from before is left out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "report.h"
#include "spill.h"

enum { COMMIT_TIME_SLACK = 1000000 };

/* Whether the store has these very bytes already. */
static int same_as_stored(const struct file *file, struct ekv_key key, bool *same)
{
    struct ekv_entry entry;
    *same = false;
    int error = view_find(file->node->view, key, &entry);
    if (error || entry.size != file->size)
        return error == ENOENT ? 0 : error;
    size_t done = 0;
    error = file_compare(file, key, &done);
    *same = !error && done == file->size;
    return error;
}

/* The mtime is the commit time. If somebody was told another one before, that one stands: as the
 * commit time while the difference is small, beside the value otherwise. */
static void settle_mtime(struct fs *fs, struct file *file)
{
    if (!file->mtime_seen || file->attr.set & ATTR_MTIME)
        return;
    if (file->mtime >= fs->store.last_time && store_now() - file->mtime < COMMIT_TIME_SLACK) {
        fs->store.commit_time = file->mtime;
        return;
    }
    struct timespec time = {.tv_sec = file->mtime / 1000000,
                            .tv_nsec = file->mtime % 1000000 * 1000};
    attr_set_mtime(&file->attr, time);
    file->attr_dirty = true;
    if (view_is_live(file->node->view)) /* else the kernel goes on with the ctime it was told */
        notify_attr(&fs->notify, file->node->id);
}

/* The value is on flash already. */
static int commit_spill(struct file *file, const struct key *key, const struct attr_record *record,
                        bool *committed)
{
    struct batch *batch = spill_batch(file);
    int error = record ? batch_attr(batch, key->bytes, key->size, record) : 0;
    return error ? error : batch_commit_appended(batch, ekv_key(key->bytes, key->size), committed);
}

/* `committed` is told of a file that spills. */
static int commit_value(struct file *file, const struct key *key, bool same, bool *committed)
{
    struct attr_record record;
    struct view *view = file->node->view;
    struct ekv_key name = ekv_key(key->bytes, key->size);
    bool aside = file->attr_dirty;
    if (file->created || aside || !view_is_live(view)) {
        int error = view_attr_to_change(view, key->bytes, key->size, &record);
        if (error && error != ENOENT)
            return error;
        if (!same && record.file.set & ATTR_MTIME) { /* a time that was set is over */
            record.file.set &= (uint8_t)~ATTR_MTIME;
            aside |= !view_is_live(view); /* the order of writes in a transaction cannot tell */
        }
        if (file->created) { /* nothing of an earlier file of that name stays */
            aside = record.has_file || file->attr.set || file->xattrs_dirty;
            memset(&record.file, 0, sizeof record.file);
            record.file_xattrs.size = 0;
        }
        if (file->xattrs_dirty)
            record.file_xattrs = *file->xattrs;
        attr_merge(&record.file, &file->attr);
        record.has_file = true;
    }
    if (file->spill)
        return commit_spill(file, key, aside ? &record : NULL, committed);
    if (!aside)
        return same ? 0 : view_put(view, name, file->data, file->size);
    struct batch batch;
    int error = batch_begin(&batch, view);
    if (error)
        return error;
    if (!same)
        error = batch_put(&batch, name, file->data, file->size);
    if (!error)
        error = batch_attr(&batch, key->bytes, key->size, &record);
    if (!error)
        return batch_commit(&batch);
    batch_abort(&batch);
    return error;
}

/* With the file's lock: for writing, if it spills. */
static int commit_content(struct fs *fs, struct file *file, const struct key *key)
{
    bool same = false;
    int error = 0;
    if (file->spill) {
        error = spill_complete(file, key);
        if (error == EAGAIN) /* as a whole, then */
            error = spill_undo(file);
    }
    if (!error && !file->created && !file->spill)
        error = same_as_stored(file, ekv_key(key->bytes, key->size), &same);
    if (error)
        return error;
    if (!same)
        settle_mtime(fs, file);
    bool spilled = file->spill, committed = false;
    error = commit_value(file, key, same, &committed);
    fs->store.commit_time = 0;
    if (spilled && committed)
        file_spilled(fs, file);
    return error;
}

int file_commit_locked(struct fs *fs, struct file *file)
{
    struct key key = {0};
    pthread_rwlock_rdlock(&file->lock);
    bool spilled = file->spill; /* which only the writer lock changes */
    if (spilled) {
        pthread_rwlock_unlock(&file->lock);
        pthread_rwlock_wrlock(&file->lock);
    }
    uint64_t change = file->change;
    bool needed = (file->dirty || file->created || file->attr_dirty) && !file->dead;
    int error = needed ? node_key(&fs->nodes, file->node, &key, NULL) : 0;
    if (needed && !error && key.size > fs->store.key_size_max)
        error = ENAMETOOLONG;
    if (needed && !error)
        error = commit_content(fs, file, &key);
    bool settled = spilled && !file->dirty;
    pthread_rwlock_unlock(&file->lock);
    if (needed && !error && !settled)
        file_settled(fs, file, change);
    key_free(&key);
    return error;
}

int file_commit(struct fs *fs, struct file *file)
{
    store_write(&fs->store);
    int error = file_commit_locked(fs, file);
    store_write_end(&fs->store);
    return error;
}

/* The next file after `previous` (NULL: the first), with a reference, giving up that of
 * `previous`. */
static struct file *next_file(struct fs *fs, struct file *previous)
{
    pthread_mutex_lock(&fs->nodes.lock);
    struct file *file = previous ? previous->next : fs->files;
    if (file)
        file->refs++;
    pthread_mutex_unlock(&fs->nodes.lock);
    file_release(fs, previous);
    return file;
}

bool file_any_new(struct fs *fs, const struct node *directory)
{
    bool any = false;
    pthread_mutex_lock(&fs->nodes.lock);
    for (struct file *file = fs->files; file && !any; file = file->next)
        any =
            file->node->parent == directory && !file->node->unlinked && atomic_load(&file->created);
    pthread_mutex_unlock(&fs->nodes.lock);
    return any;
}

int file_commit_view(struct fs *fs, const struct view *view)
{
    int result = 0;
    for (struct file *file = next_file(fs, NULL); file; file = next_file(fs, file)) {
        bool due = file->node->view == view && !file_is_broken(file);
        int error = due ? file_commit_locked(fs, file) : 0;
        if (error)
            result = error;
    }
    return result;
}

void file_abandon(struct fs *fs, const struct view *view)
{
    for (struct file *file = next_file(fs, NULL); file; file = next_file(fs, file)) {
        if (file->node->view != view)
            continue;
        pthread_rwlock_wrlock(&file->lock);
        file->dead = true;
        file->change++;
        space_release(&fs->space, &file->reserved);
        pthread_rwlock_unlock(&file->lock);
    }
}

int file_commit_all(struct fs *fs)
{
    int result = 0;
    for (struct file *file = next_file(fs, NULL); file; file = next_file(fs, file)) {
        bool due = view_is_live(file->node->view) && !file_is_broken(file);
        int error = due ? file_commit(fs, file) : 0;
        if (error)
            result = report_failure(error, "the last changes of \"%.*s\" were lost: %s",
                                    (int)file->node->name_size, file->node->name, strerror(error));
    }
    return result;
}

int file_commit_new(struct fs *fs, const struct node *directory)
{
    int result = 0;
    for (struct file *file = next_file(fs, NULL); file; file = next_file(fs, file)) {
        pthread_mutex_lock(&fs->nodes.lock);
        bool here = directory ? file->node->parent == directory : view_is_live(file->node->view);
        pthread_mutex_unlock(&fs->nodes.lock);
        pthread_rwlock_rdlock(&file->lock);
        bool new = file->created && file->size == 0;
        pthread_rwlock_unlock(&file->lock);
        int error = here && new ? file_commit(fs, file) : 0;
        if (error)
            result = error;
    }
    return result;
}
