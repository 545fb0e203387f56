/* Files that are open or hold uncommitted changes.
 *
 * Invariants: a dirty file is loaded, and has space reserved for its size unless it is dead; what
 * of a large one lies on flash (spill.h) is reserved there. While a commit writes the content out
 * it holds the file's lock shared, so readers go on and writers wait; a change that slips in
 * between that and the end of the commit leaves the file dirty. Content stays in memory after a
 * commit as long as somebody has the file open for writing.
 *
 * After a crash the store has what was last committed, whole.
 */
#include "file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "loop.h"
#include "report.h"
#include "spill.h"
#include "xattr.h"

enum { KEPT_SIZE_MAX = 64 * 1024, COMPARE_SIZE = 64 * 1024 };

/* --- References --------------------------------------------------------------------------------
 */

static struct file *file_new(struct node *node)
{
    struct file *file = calloc(1, sizeof *file);
    if (file) {
        pthread_rwlock_init(&file->lock, NULL);
        file->node = node;
    }
    return file;
}

/* With the node table's lock held. */
static struct file *obtain(struct fs *fs, struct node *node)
{
    struct file *file = node->file;
    if (!file) {
        file = file_new(node);
        if (file) {
            node->refs++;
            __atomic_store_n(&node->file, file, __ATOMIC_RELEASE);
            file->next = fs->files;
            if (fs->files)
                fs->files->previous = file;
            fs->files = file;
        }
    }
    if (file)
        file->refs++;
    return file;
}

struct file *file_obtain(struct fs *fs, struct node *node)
{
    pthread_mutex_lock(&fs->nodes.lock);
    struct file *file = obtain(fs, node);
    pthread_mutex_unlock(&fs->nodes.lock);
    return file;
}

int file_open(struct fs *fs, struct node *node, struct file **file)
{
    *file = NULL;
    pthread_mutex_lock(&fs->nodes.lock);
    while (node->removing) {
        loop_hand_over();
        pthread_cond_wait(&fs->nodes.moved, &fs->nodes.lock);
    }
    bool stale = node->unlinked && !node->file;
    if (!stale)
        *file = obtain(fs, node);
    pthread_mutex_unlock(&fs->nodes.lock);
    return stale ? ESTALE : *file ? 0 : ENOMEM;
}

struct file *file_of(struct fs *fs, struct node *node)
{
    pthread_mutex_lock(&fs->nodes.lock);
    struct file *file = node->file;
    if (file)
        file->refs++;
    pthread_mutex_unlock(&fs->nodes.lock);
    return file;
}

void file_release(struct fs *fs, struct file *file)
{
    if (!file)
        return;
    pthread_mutex_lock(&fs->nodes.lock);
    assert(file->refs > 0);
    bool last = --file->refs == 0;
    if (last) {
        __atomic_store_n(&file->node->file, NULL, __ATOMIC_RELEASE);
        if (file->next)
            file->next->previous = file->previous;
        if (file->previous)
            file->previous->next = file->next;
        else
            fs->files = file->next;
    }
    pthread_mutex_unlock(&fs->nodes.lock);
    if (!last)
        return;
    space_release(&fs->space, &file->reserved);
    node_unref(&fs->nodes, file->node);
    pthread_rwlock_destroy(&file->lock);
    assert(!file->spill);
    buffer_give(file->data, file->capacity);
    free(file->xattrs);
    free(file);
}

void file_writer_begin(struct fs *fs, struct file *file)
{
    pthread_mutex_lock(&fs->nodes.lock);
    file->writers++;
    pthread_mutex_unlock(&fs->nodes.lock);
}

bool file_writer_end(struct fs *fs, struct file *file)
{
    pthread_mutex_lock(&fs->nodes.lock);
    bool last = --file->writers == 0;
    pthread_mutex_unlock(&fs->nodes.lock);
    return last;
}

static bool has_writers(struct fs *fs, const struct file *file)
{
    pthread_mutex_lock(&fs->nodes.lock);
    bool has = file->writers > 0;
    pthread_mutex_unlock(&fs->nodes.lock);
    return has;
}

/* --- Content -----------------------------------------------------------------------------------
 */

/* Room in memory for a content of `size` bytes. */
static bool make_room(struct file *file, size_t size)
{
    size -= file->base;
    if (size <= file->capacity)
        return true;
    size_t capacity = file->capacity + file->capacity / 2;
    if (capacity < size)
        capacity = size;
    if (capacity < 256)
        capacity = 256;
    uint8_t *data = buffer_take(size, &capacity);
    if (data) {
        if (file->size > file->base)
            memcpy(data, file->data, file->size - file->base);
        buffer_give(file->data, file->capacity);
    } else {
        data = realloc(file->data, capacity);
    }
    if (!data)
        return false;
    file->data = data;
    file->capacity = capacity;
    return true;
}

/* With the writer lock, if it spills. */
static void drop_content(struct file *file)
{
    spill_drop(file);
    buffer_give(file->data, file->capacity);
    file->data = NULL;
    file->size = file->capacity = 0;
    file->loaded = false;
}

/* Reads the committed value into memory. With the file's lock held for writing. */
static int load(struct fs *fs, struct file *file)
{
    if (file->loaded)
        return 0;
    drop_content(file);
    int error = file_load_committed(fs, file, &file->data, &file->size);
    if (error)
        return error;
    file->capacity = file->size ? file->size : 1;
    file->loaded = true;
    return 0;
}

static int read_store(struct fs *fs, struct file *file, uint64_t offset, void *buffer, size_t size,
                      size_t *got)
{
    struct key key = {0};
    uint64_t moves = 0;
    int error;
    do {
        error = node_key(&fs->nodes, file->node, &key, &moves);
        if (!error)
            error =
                view_get(file->node->view, ekv_key(key.bytes, key.size), offset, buffer, size, got);
    } while (node_moved(&fs->nodes, moves));
    key_free(&key);
    return error;
}

/* Reads what is loaded. With the file's lock. */
static int read_loaded(const struct file *file, uint64_t offset, uint8_t *buffer, size_t size,
                       size_t *got)
{
    int error = 0;
    if (offset >= file->size)
        return 0;
    if (offset < file->base)
        error = spill_read(file, (size_t)offset, buffer, size, got);
    if (error || *got == size)
        return error;
    size_t begin = (size_t)offset + *got;
    size_t length = file->size - begin < size - *got ? file->size - begin : size - *got;
    if (length > 0) /* otherwise there may be no memory */
        memcpy(buffer + *got, file->data + (begin - file->base), length);
    *got += length;
    return 0;
}

int file_compare(const struct file *file, struct ekv_key key, size_t *same)
{
    uint8_t *piece = malloc(COMPARE_SIZE);
    int error = piece ? 0 : ENOMEM;
    bool differs = false;
    while (!error && !differs && *same < file->size) {
        size_t left = file->size - *same, most = left < COMPARE_SIZE ? left : COMPARE_SIZE, got;
        error = view_get(file->node->view, key, *same, piece, most, &got);
        differs = error || got < most || memcmp(piece, file->data + *same, most) != 0;
        if (!differs)
            *same += most;
    }
    free(piece);
    return error == ENOENT ? 0 : error;
}

int file_read(struct fs *fs, struct file *file, uint64_t offset, void *buffer, size_t size,
              size_t *got)
{
    int error = 0;
    *got = 0;
    for (;;) {
        pthread_rwlock_rdlock(&file->lock);
        bool loaded = file->loaded;
        if (loaded)
            error = read_loaded(file, offset, buffer, size, got);
        uint64_t change = file->change;
        pthread_rwlock_unlock(&file->lock);
        if (loaded)
            return error;
        error = read_store(fs, file, offset, buffer, size, got);
        pthread_rwlock_rdlock(&file->lock);
        bool same = file->change == change && !(file->loaded && error);
        pthread_rwlock_unlock(&file->lock);
        if (same)
            return error;
    }
}

/* Space for the file at a size. Its name may change, but seldom to a much longer one. */
static int reserve(struct fs *fs, struct file *file, uint64_t size)
{
    if (file->dead)
        return 0;
    if (file->reserved == 0)
        file->key_size = node_key_size(&fs->nodes, file->node);
    uint64_t staged = file->base ? space_cost(&fs->space, file->key_size, file->base) : 0;
    return space_reserve(&fs->space, &file->reserved, space_cost(&fs->space, file->key_size, size),
                         staged);
}

static void changed(struct file *file)
{
    file->dirty = true;
    file->change++;
    file->mtime = store_now();
    file->mtime_seen = false;
    file->broken = false;
    file->attr.set &= (uint8_t)~ATTR_MTIME; /* what was set explicitly is over */
}

/* What lies beyond the old size is zeroes up to `zeroed`; the rest the caller fills. */
static int resize(struct fs *fs, struct file *file, uint64_t size, uint64_t zeroed)
{
    if (size > file->size || !file->dirty) {
        int error = reserve(fs, file, size);
        if (error)
            return error;
        if (!make_room(file, (size_t)size))
            return ENOMEM;
        if (zeroed > file->size)
            memset(file->data + (file->size - file->base), 0, (size_t)zeroed - file->size);
    }
    file->size = (size_t)size;
    return 0;
}

/* What is written after the end of its transaction would be lost without a word. */
static int refuse_ended(const struct file *file)
{
    if (view_is_live(file->node->view) || !view_ended(file->node->view))
        return 0;
    return report_refusal(EIO, "the transaction that the file was in has ended");
}

/* Locks the file for a change of `size` bytes at `offset`; the writer lock, too, if that may change
 * what is on flash of it. */
static bool lock_to_change(struct fs *fs, struct file *file, uint64_t offset, size_t size)
{
    pthread_rwlock_wrlock(&file->lock);
    if (!spill_is_due(file, offset, size))
        return false;
    pthread_rwlock_unlock(&file->lock);
    store_write(&fs->store);
    pthread_rwlock_wrlock(&file->lock);
    return true;
}

static void unlock_changed(struct fs *fs, struct file *file, bool writer)
{
    pthread_rwlock_unlock(&file->lock);
    if (writer)
        store_write_end(&fs->store);
}

/* What spills is in memory as a whole again. */
static int bring_back(struct fs *fs, struct file *file)
{
    int error = spill_undo(file);
    return error ? error : reserve(fs, file, file->size);
}

static int write_memory(struct fs *fs, struct file *file, uint64_t offset, const void *bytes,
                        size_t size)
{
    uint64_t end = offset + size;
    int error = 0;
    if (end > file->size || !file->dirty)
        error = resize(fs, file, end > file->size ? end : file->size, offset);
    if (!error)
        memcpy(file->data + ((size_t)offset - file->base), bytes, size);
    return error;
}

/* What comes at the end of a spill need not be in memory first. */
static int write_through(struct fs *fs, struct file *file, const void *bytes, size_t size)
{
    int error = reserve(fs, file, file->size + size);
    if (!error)
        error = spill_add(file, bytes, size);
    if (!error)
        file->size = file->base = file->size + size;
    return error;
}

int file_write(struct fs *fs, struct file *file, uint64_t offset, const void *bytes, size_t size)
{
    int ended = refuse_ended(file);
    if (ended)
        return ended;
    if (offset > SIZE_MAX / 2 - size)
        return EFBIG;
    bool writer = lock_to_change(fs, file, offset, size);
    int error = load(fs, file);
    if (!error && file->spill && offset < file->base)
        error = bring_back(fs, file);
    bool behind = offset >= file->size;
    if (!error && size > 0 && spill_takes(file, offset, size))
        error = write_through(fs, file, bytes, size);
    else if (!error && size > 0)
        error = write_memory(fs, file, offset, bytes, size);
    if (!error && size > 0) {
        changed(file);
        file->sequential &= behind;
        if (writer && file->sequential)
            error = spill_more(fs, file);
    }
    if (!error && file->spill)
        error = reserve(fs, file, file->size); /* less, for what is on flash by now */
    file->broken = error == ENOSPC || error == EFBIG;
    unlock_changed(fs, file, writer);
    return error;
}

int file_resize(struct fs *fs, struct file *file, uint64_t size)
{
    int ended = refuse_ended(file);
    if (ended)
        return ended;
    if (size > SIZE_MAX / 2)
        return EFBIG;
    bool writer = lock_to_change(fs, file, size, 0);
    int error = 0;
    if (size == 0)
        spill_drop(file);
    if (size == 0 && !file->loaded) { /* no need to read what is dropped */
        file->loaded = true;
        file->size = 0;
    } else {
        error = load(fs, file);
    }
    if (!error && file->spill && size < file->base)
        error = bring_back(fs, file);
    if (!error)
        error = resize(fs, file, size, size);
    if (!error)
        changed(file);
    if (!error)
        file->sequential = size == 0;
    if (!error && size == 0) {
        file->same = 0;
        file->replaced = !file->created;
    } else if (error && !file->dirty && !file->created) {
        drop_content(file);
    }
    unlock_changed(fs, file, writer);
    return error;
}

void file_create(struct file *file, const struct attr *attr)
{
    pthread_rwlock_wrlock(&file->lock);
    file->loaded = true;
    file->created = true;
    file->sequential = true;
    changed(file);
    file->attr = *attr;
    pthread_rwlock_unlock(&file->lock);
}

int file_detach(struct fs *fs, struct file *file)
{
    pthread_rwlock_wrlock(&file->lock);
    int error = load(fs, file);
    if (!error && file->spill)
        error = bring_back(fs, file);
    if (!error)
        error = xattr_keep(fs, file);
    pthread_rwlock_unlock(&file->lock);
    return error;
}

struct file *file_before_removal(struct fs *fs, struct node *node, const struct ekv_entry *value)
{
    struct file *file = node ? file_of(fs, node) : NULL;
    if (file || !node || node->kind != NODE_FILE || !value || value->size > KEPT_SIZE_MAX)
        return file;
    return file_obtain(fs, node);
}

void file_forget(struct fs *fs, uint64_t id, uint64_t count)
{
    file_release(fs, node_forget(&fs->nodes, id, count));
}

/* Keeps the file as long as the kernel knows the node. */
static void keep(struct fs *fs, struct file *file)
{
    struct node *node = file->node;
    pthread_mutex_lock(&fs->nodes.lock);
    if (!node->kept && node->lookups > 0) {
        node->kept = file;
        file->refs++;
    }
    pthread_mutex_unlock(&fs->nodes.lock);
}

void file_die(struct fs *fs, struct file *file, const struct attr *attr, int64_t mtime)
{
    pthread_rwlock_wrlock(&file->lock);
    if (!file->dirty)
        file->mtime = mtime;
    if (!file->created) {
        struct attr merged = *attr;
        if (file->dirty)
            merged.set &= (uint8_t)~ATTR_MTIME;
        attr_merge(&merged, &file->attr);
        file->attr = merged;
    }
    file->dead = true;
    file->change++;
    space_release(&fs->space, &file->reserved);
    bool small = file->size <= KEPT_SIZE_MAX;
    pthread_rwlock_unlock(&file->lock);
    if (small)
        keep(fs, file);
}

/* --- Attributes --------------------------------------------------------------------------------
 */

void attr_merge(struct attr *attr, const struct attr *over)
{
    attr->set |= over->set;
    if (over->set & ATTR_MODE)
        attr->mode = over->mode;
    if (over->set & ATTR_UID)
        attr->uid = over->uid;
    if (over->set & ATTR_GID)
        attr->gid = over->gid;
    if (over->set & ATTR_MTIME) {
        attr->mtime_seconds = over->mtime_seconds;
        attr->mtime_nanoseconds = over->mtime_nanoseconds;
    }
}

bool file_differs(struct file *file, uint64_t *size, int64_t *mtime, struct attr *attr,
                  bool *created)
{
    pthread_rwlock_wrlock(&file->lock);
    bool differs = file->dirty || file->created || file->dead;
    if (differs) {
        *size = file->size;
        *mtime = file->mtime;
        *attr = file->attr;
        *created = file->created || file->dead;
        file->mtime_seen = true;
    }
    pthread_rwlock_unlock(&file->lock);
    return differs;
}

bool file_set_attr(struct file *file, const struct attr *attr)
{
    pthread_rwlock_wrlock(&file->lock);
    bool kept = file->dirty || file->created || file->dead;
    if (kept) {
        attr_merge(&file->attr, attr);
        file->attr_dirty = true;
        file->change++;
    }
    pthread_rwlock_unlock(&file->lock);
    return kept;
}

/* --- What is committed ---
 */

/* The store says all there is to say, but for the content. */
static void forget_changes(struct file *file)
{
    file->dirty = file->attr_dirty = file->xattrs_dirty = file->replaced = false;
    file->sequential = false;
    memset(&file->attr, 0, sizeof file->attr);
    free(file->xattrs);
    file->xattrs = NULL;
}

bool file_is_replaced(struct file *file)
{
    pthread_rwlock_rdlock(&file->lock);
    bool replaced = file->replaced && !file->dead;
    pthread_rwlock_unlock(&file->lock);
    return replaced;
}

int file_load_committed(struct fs *fs, struct file *file, uint8_t **value, size_t *size)
{
    struct key key = {0};
    uint64_t moves = 0;
    int error;
    *value = NULL;
    do {
        free(*value);
        error = node_key(&fs->nodes, file->node, &key, &moves);
        if (!error)
            error = view_load(file->node->view, ekv_key(key.bytes, key.size), value, size);
    } while (node_moved(&fs->nodes, moves));
    key_free(&key);
    return error;
}

bool file_is_broken(struct file *file)
{
    pthread_rwlock_rdlock(&file->lock);
    bool broken = file->broken;
    pthread_rwlock_unlock(&file->lock);
    return broken;
}

void file_discard(struct fs *fs, struct file *file)
{
    struct node *node = file->node;
    store_write(&fs->store);
    pthread_rwlock_wrlock(&file->lock);
    bool created = file->created && !file->dead;
    spill_drop(file);
    if (created) {
        file->dead = true;
        space_release(&fs->space, &file->reserved);
    } else if (!file->dead && file->dirty) {
        drop_content(file);
        forget_changes(file);
        space_release(&fs->space, &file->reserved);
    }
    file->broken = false;
    file->change++;
    pthread_rwlock_unlock(&file->lock);
    pthread_mutex_lock(&fs->nodes.lock);
    if (created && !node->unlinked) {
        node->parent->changes++;
        notify_entry(&fs->notify, node->parent->id, node->name, node->name_size);
    }
    pthread_mutex_unlock(&fs->nodes.lock);
    if (created)
        node_unlink(&fs->nodes, node);
    store_write_end(&fs->store);
    notify_inode(&fs->notify, node->id);
}

void file_renew(struct file *file)
{
    pthread_rwlock_wrlock(&file->lock);
    if (!file->dirty && !file->created && !file->dead)
        drop_content(file);
    file->change++;
    pthread_rwlock_unlock(&file->lock);
}

void file_settled(struct fs *fs, struct file *file, uint64_t change)
{
    bool keep = has_writers(fs, file);
    pthread_rwlock_wrlock(&file->lock);
    file->created = false;
    if (file->change == change) {
        file->broken = false;
        forget_changes(file);
        space_release(&fs->space, &file->reserved);
        if (!keep)
            drop_content(file);
    }
    pthread_rwlock_unlock(&file->lock);
}

void file_spilled(struct fs *fs, struct file *file)
{
    spill_committed(file);
    file->created = file->broken = false;
    forget_changes(file);
    space_release(&fs->space, &file->reserved);
    drop_content(file);
}

void file_abandon_spill(struct fs *fs, struct file *file)
{
    pthread_rwlock_rdlock(&file->lock);
    bool spills = file->spill;
    pthread_rwlock_unlock(&file->lock);
    if (spills)
        file_discard(fs, file);
}
