/* What there is.
 *
 * The time of a value is that of its commit, unless its record of attributes is as new and names
 * another. The time of a directory is that of the last change of its names by this mount, else its
 * record's.
 */
#include "tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct timespec from_microseconds(int64_t time)
{
    return (struct timespec){.tv_sec = time / 1000000, .tv_nsec = time % 1000000 * 1000};
}

/* --- Names -------------------------------------------------------------------------------------
 */

static int append(struct key *key, const void *bytes, size_t size)
{
    if (!key_reserve(key, key->size + size))
        return ENOMEM;
    memcpy(key->bytes + key->size, bytes, size);
    key->size += size;
    return 0;
}

static int find_attr(struct view *view, struct walk_entry *entry)
{
    struct attr_record record;
    int error = view_attr(view, entry->key.bytes, entry->key.size, &record, &entry->attr_entry);
    entry->no_record = error == ENOENT;
    entry->shared = !error && record.has_file && record.has_directory;
    entry->has_attr = !error && (entry->directory ? record.has_directory : record.has_file);
    if (entry->has_attr)
        entry->attr = entry->directory ? record.directory : record.file;
    return error == ENOENT ? 0 : error;
}

static int find_file(struct view *view, struct tree_name *found)
{
    struct walk_entry *entry = &found->entry;
    entry->directory = false;
    int error = view_find(view, ekv_key(entry->key.bytes, entry->key.size), &entry->entry);
    found->exists = !error;
    if (!error)
        error = find_attr(view, entry);
    return error == ENOENT ? 0 : error;
}

static int find_part(struct view *view, struct tree_name *found)
{
    struct walk_entry *entry = &found->entry;
    entry->directory = true;
    int error = find_attr(view, entry);
    found->exists = entry->has_attr;
    if (error || found->exists)
        return error;
    bool empty = true;
    error = walk_is_empty(view, &entry->key, path_enter(PATH_PART, entry->name_size), &empty);
    found->exists = !empty;
    return error;
}

/* Whether a prefix is that of a directory: it has a record, or a key lies below it. */
static int find_directory(struct view *view, struct tree_name *found)
{
    struct walk_entry *entry = &found->entry;
    const struct key *prefix = &entry->key;
    struct flat *flat = view_is_live(view) ? &view->store->flat : NULL;
    entry->directory = true;
    if (flat && flat_knows(flat, prefix->bytes, prefix->size))
        return 0;
    int error = find_attr(view, entry);
    found->exists = entry->has_attr;
    if (error || found->exists)
        return error;
    return flat ? flat_has_prefix(flat, view, prefix->bytes, prefix->size, &found->exists)
                : view_has_prefix(view, EKV_USER, prefix->bytes, prefix->size, &found->exists);
}

/* A whole component: a directory if anything makes it one, else a file. */
static int find_component(struct view *view, size_t max, struct tree_name *found)
{
    struct walk_entry *entry = &found->entry;
    if (entry->key.size == max) /* no key goes on behind it */
        return find_file(view, found);
    int error = append(&entry->key, "/", 1);
    if (!error)
        error = find_directory(view, found);
    if (!error && found->exists)
        return 0;
    entry->directory = false;
    entry->key.size--;
    return error ? error : find_file(view, found);
}

/* The kernel looks a name up right before it creates it: that it is missing need not be found out
 * twice, as long as nothing was committed in between. */
static bool known_missing(struct fs *fs, const struct key *key, unsigned long long changes)
{
    pthread_mutex_lock(&fs->nodes.lock);
    bool known = fs->missing_changes == changes && fs->missing.size == key->size &&
                 fs->missing.bytes && memcmp(fs->missing.bytes, key->bytes, key->size) == 0;
    pthread_mutex_unlock(&fs->nodes.lock);
    return known;
}

static void remember_missing(struct fs *fs, const struct key *key, unsigned long long changes)
{
    pthread_mutex_lock(&fs->nodes.lock);
    fs->missing_changes = changes;
    if (!key_set(&fs->missing, key->bytes, key->size))
        fs->missing.size = SIZE_MAX;
    pthread_mutex_unlock(&fs->nodes.lock);
}

/* Notes for a transaction that the name was looked up. */
static void note(struct touched *touched, struct tree_name *found)
{
    struct walk_entry *entry = &found->entry;
    struct key *key = &entry->key;
    if (entry->directory) {
        uint8_t part = path_enter(entry->path_kind, entry->name_size).part_length;
        touched_read(touched, TOUCHED_DIRECTORY, part, key->bytes, key->size);
        return;
    }
    touched_read(touched, TOUCHED_VALUE, 0, key->bytes, key->size);
    if (!found->exists && entry->path_kind == PATH_NAME && append(key, "/", 1) == 0)
        touched_read(touched, TOUCHED_DIRECTORY, 0, key->bytes, key->size--);
}

/* Whether the kernel knows the name as a file's, so that it is no directory's. */
static bool known_file(struct fs *fs, struct node *parent, const char *name, size_t name_size)
{
    struct node *node = node_by_name(&fs->nodes, parent, name, name_size);
    bool known = node && node->kind == NODE_FILE;
    node_unref(&fs->nodes, node);
    return known;
}

static int find_live_component(struct fs *fs, struct view *view, struct tree_name *found)
{
    unsigned long long changes = atomic_load(&fs->store.changes);
    if (known_missing(fs, &found->entry.key, changes))
        return 0;
    int error = find_component(view, fs->store.key_size_max, found);
    if (!error && !found->exists)
        remember_missing(fs, &found->entry.key, changes);
    return error;
}

static int find(struct fs *fs, struct node *parent, const char *name, size_t name_size,
                struct tree_name *found)
{
    struct walk_entry *entry = &found->entry;
    uint8_t bytes[PATH_NAME_MAX];
    memset(found, 0, sizeof *found);
    if (name_size > PATH_NAME_MAX)
        return ENAMETOOLONG;
    entry->path_kind = path_decode(node_place(parent), name, name_size, bytes, &entry->bytes_size);
    if (entry->path_kind == PATH_INVALID)
        return EINVAL;
    memcpy(entry->name, name, name_size);
    entry->name_size = name_size;
    int error = node_key(&fs->nodes, parent, &entry->key, NULL);
    if (error)
        return error;
    if (entry->path_kind == PATH_VALUE)
        entry->key.size--;
    else
        error = append(&entry->key, bytes, entry->bytes_size);
    if (!error && entry->key.size > fs->store.key_size_max)
        error = ENAMETOOLONG;
    if (error)
        return error;
    if (entry->path_kind == PATH_VALUE)
        return find_file(parent->view, found);
    if (entry->path_kind == PATH_PART)
        return find_part(parent->view, found);
    if (known_file(fs, parent, name, name_size))
        return find_file(parent->view, found);
    if (parent->view == &fs->live)
        return find_live_component(fs, parent->view, found);
    return find_component(parent->view, fs->store.key_size_max, found);
}

int tree_find(struct fs *fs, struct node *parent, const char *name, size_t name_size,
              struct tree_name *found)
{
    int error = find(fs, parent, name, name_size, found);
    if (!error && parent->view->touched)
        note(parent->view->touched, found);
    return error;
}

int tree_is_empty(struct node *parent, const struct tree_name *found, bool *empty)
{
    const struct walk_entry *entry = &found->entry;
    struct path_place place = path_enter(entry->path_kind, entry->name_size);
    if (parent->view->touched)
        touched_read(parent->view->touched, TOUCHED_NAMES, place.part_length, entry->key.bytes,
                     entry->key.size);
    return walk_is_empty(parent->view, &entry->key, place, empty);
}

/* --- Stat --------------------------------------------------------------------------------------
 */

static void info_of_directory(struct fs *fs, struct node *node, const struct walk_entry *entry,
                              struct info *info)
{
    pthread_mutex_lock(&fs->nodes.lock);
    int64_t changed = node->entries_changed;
    pthread_mutex_unlock(&fs->nodes.lock);
    int64_t recorded = entry->has_attr ? entry->attr_entry.time : 0;
    info->directory = true;
    node->recorded |= entry->has_attr;
    if (entry->has_attr)
        info->attr = entry->attr;
    info->ctime = from_microseconds(changed > recorded ? changed
                                    : recorded         ? recorded
                                                       : fs->mount_time);
    info->mtime = info->ctime;
    /* An explicit time counts until a name changes after it was set. */
    if (entry->has_attr && entry->attr.set & ATTR_MTIME && changed <= recorded)
        info->mtime = (struct timespec){.tv_sec = entry->attr.mtime_seconds,
                                        .tv_nsec = entry->attr.mtime_nanoseconds};
}

/* The root of a view that has a name: its attributes are no part of the store. */
static void info_of_top(struct fs *fs, struct node *node, struct info *info)
{
    pthread_mutex_lock(&fs->nodes.lock);
    int64_t time = node->entries_changed ? node->entries_changed : node->view->time;
    *info = (struct info){.directory = true,
                          .settled = true,
                          .attr = node->view->attr,
                          .mtime = from_microseconds(time),
                          .ctime = from_microseconds(time)};
    pthread_mutex_unlock(&fs->nodes.lock);
    if (info->attr.set & ATTR_MTIME)
        info->mtime = (struct timespec){.tv_sec = info->attr.mtime_seconds,
                                        .tv_nsec = info->attr.mtime_nanoseconds};
}

static void info_of_file(struct fs *fs, const struct walk_entry *entry, struct info *info)
{
    int64_t time = entry->entry.time ? entry->entry.time : fs->mount_time;
    info->size = entry->entry.size;
    info->mtime = info->ctime = from_microseconds(time);
    if (!entry->has_attr)
        return;
    info->attr = entry->attr;
    if (entry->attr_entry.time > time)
        info->ctime = from_microseconds(entry->attr_entry.time);
    if (entry->attr.set & ATTR_MTIME && entry->attr_entry.version >= entry->entry.version)
        info->mtime = (struct timespec){.tv_sec = entry->attr.mtime_seconds,
                                        .tv_nsec = entry->attr.mtime_nanoseconds};
}

/* Lays over it what an open file has that is not committed. */
static void overlay(struct file *file, struct info *info)
{
    struct attr attr;
    int64_t mtime;
    bool created;
    uint64_t size;
    if (!file_differs(file, &size, &mtime, &attr, &created))
        return;
    info->settled = false;
    info->size = size;
    info->mtime = info->ctime = from_microseconds(mtime);
    if (created)
        info->attr = attr;
    else
        attr_merge(&info->attr, &attr);
    if (attr.set & ATTR_MTIME)
        info->mtime =
            (struct timespec){.tv_sec = attr.mtime_seconds, .tv_nsec = attr.mtime_nanoseconds};
}

void tree_info_found(struct fs *fs, struct node *node, const struct walk_entry *entry,
                     struct info *info)
{
    memset(info, 0, sizeof *info);
    info->settled = true;
    if (entry->directory)
        info_of_directory(fs, node, entry, info);
    else
        info_of_file(fs, entry, info);
}

static int find_node(struct fs *fs, struct node *node, struct walk_entry *entry)
{
    uint64_t moves;
    int error;
    do {
        error = node_key(&fs->nodes, node, &entry->key, &moves);
        if (!error && !entry->directory)
            error =
                view_find(node->view, ekv_key(entry->key.bytes, entry->key.size), &entry->entry);
        if (!error)
            error = find_attr(node->view, entry);
    } while (node_moved(&fs->nodes, moves));
    return error;
}

static void find_kept(struct fs *fs, struct node *directory, struct attr *attr)
{
    pthread_mutex_lock(&fs->nodes.lock);
    if (directory->last)
        *attr = *directory->last;
    pthread_mutex_unlock(&fs->nodes.lock);
}

void tree_keep(struct fs *fs, struct node *directory, const struct attr *attr)
{
    struct attr *copy = malloc(sizeof *copy);
    if (copy) /* else the defaults hold */
        *copy = *attr;
    pthread_mutex_lock(&fs->nodes.lock);
    free(directory->last);
    directory->last = copy;
    pthread_mutex_unlock(&fs->nodes.lock);
}

bool tree_change_kept(struct fs *fs, struct node *directory, const struct attr *attr)
{
    pthread_mutex_lock(&fs->nodes.lock);
    bool unlinked = directory->unlinked;
    if (unlinked && directory->last)
        attr_merge(directory->last, attr);
    pthread_mutex_unlock(&fs->nodes.lock);
    return unlinked;
}

int tree_info(struct fs *fs, struct node *node, struct info *info)
{
    struct walk_entry entry = {0};
    unsigned long long changes;
    int error = 0;
    if (node->view->top == node) {
        info_of_top(fs, node, info);
        return 0;
    }
    struct file *file = file_of(fs, node);
    entry.directory = node->kind == NODE_DIRECTORY;
    if (file && atomic_load(&file->created)) { /* the store knows nothing of it */
        memset(info, 0, sizeof *info);
        info->settled = true;
        overlay(file, info);
        if (!info->settled) {
            file_release(fs, file);
            return 0;
        }
    }
    do { /* the store and the file must be of one moment */
        changes = atomic_load(&fs->store.changes);
        error = find_node(fs, node, &entry);
        if (error == ENOENT) { /* not committed yet, or removed and still open */
            memset(&entry.entry, 0, sizeof entry.entry);
            entry.has_attr = false;
            if (!file) /* removed just now: what it was may have been kept */
                file = file_of(fs, node);
        }
        if (!error || error == ENOENT)
            tree_info_found(fs, node, &entry, info);
        if (error == ENOENT && entry.directory)
            find_kept(fs, node, &info->attr);
        if (file)
            overlay(file, info);
        if (error == ENOENT && (entry.directory || !info->settled))
            error = 0;
    } while (file && atomic_load(&fs->store.changes) != changes);
    key_free(&entry.key);
    file_release(fs, file);
    return error;
}

void tree_stat(const struct fs *fs, struct node *node, const struct info *info, struct stat *stat)
{
    const struct attr *attr = &info->attr;
    memset(stat, 0, sizeof *stat);
    mode_t mode = info->directory ? fs->directory_mode : fs->file_mode;
    if (attr->set & ATTR_MODE)
        mode = attr->mode;
    if (info->directory)
        mode |= S_IFDIR;
    else if (attr->set & ATTR_SYMLINK)
        mode = S_IFLNK | 0777;
    else
        mode |= S_IFREG;
    stat->st_ino = node->id;
    stat->st_mode = mode;
    stat->st_nlink = 1;
    stat->st_uid = attr->set & ATTR_UID ? attr->uid : fs->uid;
    stat->st_gid = attr->set & ATTR_GID ? attr->gid : fs->gid;
    stat->st_size = (off_t)info->size;
    stat->st_blocks = (blkcnt_t)((info->size + 511) / 512);
    stat->st_blksize = 4096;
    stat->st_mtim = info->mtime;
    stat->st_ctim = info->ctime;
    stat->st_atim = node->has_atime ? node->atime : info->mtime;
    if (info->directory) { /* what new names in it inherit */
        node->gives_group = stat->st_mode & S_ISGID;
        node->group = stat->st_gid;
    }
}

void tree_touch(struct fs *fs, struct node *directory)
{
    pthread_mutex_lock(&fs->nodes.lock);
    directory->entries_changed = store_now();
    directory->changes++;
    pthread_mutex_unlock(&fs->nodes.lock);
}
