/* What changes names and attributes: mkdir, symlink, unlink, rmdir, attributes.
 *
 * Each function takes the writer lock, looks, and commits once. A directory whose last name is
 * removed gets a record of its own in the same commit, so it stays. A full store can always be
 * emptied: what only keeps a directory is left out when there is no space for it.
 */
#include "change.h"

#include <errno.h>
#include <string.h>

#include "report.h"

int change_admit(struct fs *fs, size_t key_size, uint64_t value_size)
{
    uint64_t reserved = 0;
    uint64_t cost = space_cost(&fs->space, key_size, value_size);
    int error = space_reserve(&fs->space, &reserved, cost, 0);
    if (!error)
        space_release(&fs->space, &reserved);
    return error;
}

/* A known file of that name with a reference, NULL if nobody has it open or changed. */
static struct file *open_file(struct fs *fs, struct node *parent, const char *name,
                              struct node **node)
{
    *node = node_by_name(&fs->nodes, parent, name, strlen(name));
    return *node ? file_of(fs, *node) : NULL;
}

static bool is_new(struct file *file)
{
    uint64_t size;
    int64_t mtime;
    struct attr attr;
    bool created;
    return file && file_differs(file, &size, &mtime, &attr, &created) && created;
}

/* Looks a name up that is to be made. */
static int find_free(struct fs *fs, struct node *parent, const char *name, struct tree_name *found)
{
    int error = tree_find(fs, parent, name, strlen(name), found);
    if (error == EINVAL)
        error = report_refusal(EINVAL,
                               "the name \"%s\" cannot be used here: write %%25 for a %%, and see "
                               "\"Keys are paths\" in the manual",
                               name);
    if (error || found->exists)
        return error ? error : EEXIST;
    struct node *node;
    struct file *file = open_file(fs, parent, name, &node);
    error = is_new(file) ? EEXIST : 0;
    file_release(fs, file);
    node_unref(&fs->nodes, node);
    return error;
}

int change_record(struct fs *fs, struct batch *batch, struct node *directory)
{
    struct key prefix = {0};
    int error = 0;
    for (; !directory->top && !directory->recorded && !error; directory = directory->parent) {
        struct attr_record record;
        error = node_key(&fs->nodes, directory, &prefix, NULL);
        if (!error)
            error = view_attr_to_change(directory->view, prefix.bytes, prefix.size, &record);
        if (error == ENOENT)
            error = 0;
        if (error || record.has_directory)
            break;
        record.has_directory = true;
        error = batch_attr(batch, prefix.bytes, prefix.size, &record);
    }
    key_free(&prefix);
    return error;
}

/* --- Making names ------------------------------------------------------------------------------
 */

static int mkdir_locked(struct fs *fs, struct node *parent, const char *name,
                        const struct attr *attr, struct tree_name *found)
{
    int error = find_free(fs, parent, name, found);
    struct key *key = &found->entry.key;
    if (!error && found->entry.path_kind == PATH_VALUE)
        error = EINVAL;
    if (!error)
        error = change_admit(fs, key->size, ATTR_PLAIN_MAX);
    if (!error && found->entry.path_kind == PATH_NAME) {
        if (key->size >= fs->store.key_size_max)
            return ENAMETOOLONG;
        if (!key_reserve(key, key->size + 1))
            return ENOMEM;
        key->bytes[key->size++] = '/';
    }
    struct attr_record record;
    if (!error)
        error = view_attr_to_change(parent->view, key->bytes, key->size, &record);
    if (error && error != ENOENT)
        return error;
    record.has_directory = true;
    record.directory = *attr;
    if (parent->top || parent->recorded) {
        uint8_t bytes[ATTR_RECORD_MAX];
        size_t size = attr_encode(&record, bytes);
        return view_put(parent->view, aside_key(key->bytes, key->size), bytes, size);
    }
    struct batch batch;
    error = batch_begin(&batch, parent->view);
    if (error)
        return error;
    error = batch_attr(&batch, key->bytes, key->size, &record);
    if (!error)
        error = change_record(fs, &batch, parent);
    if (!error)
        return batch_commit(&batch);
    batch_abort(&batch);
    return error;
}

int change_mkdir(struct fs *fs, struct node *parent, const char *name, const struct attr *attr)
{
    struct tree_name found;
    store_write(&fs->store);
    int error = mkdir_locked(fs, parent, name, attr, &found);
    if (!error)
        tree_touch(fs, parent);
    store_write_end(&fs->store);
    key_free(&found.entry.key);
    return error;
}

static int symlink_locked(struct fs *fs, struct node *parent, const char *name, const char *target,
                          const struct attr *attr, struct tree_name *found)
{
    int error = find_free(fs, parent, name, found);
    struct key *key = &found->entry.key;
    if (!error && found->entry.path_kind == PATH_PART)
        error = EINVAL;
    if (!error)
        error = change_admit(fs, 2 * key->size, strlen(target) + ATTR_PLAIN_MAX);
    struct attr_record record;
    if (!error)
        error = view_attr(parent->view, key->bytes, key->size, &record, NULL);
    if (error && error != ENOENT)
        return error;
    record.has_file = true;
    record.file = *attr;
    record.file.set |= ATTR_SYMLINK;
    record.file_xattrs.size = 0;
    struct batch batch;
    error = batch_begin(&batch, parent->view);
    if (error)
        return error;
    error = batch_put(&batch, ekv_key(key->bytes, key->size), target, strlen(target));
    if (!error)
        error = batch_attr(&batch, key->bytes, key->size, &record);
    if (!error)
        return batch_commit(&batch);
    batch_abort(&batch);
    return error;
}

int change_symlink(struct fs *fs, struct node *parent, const char *name, const char *target,
                   const struct attr *attr)
{
    struct tree_name found;
    store_write(&fs->store);
    int error = symlink_locked(fs, parent, name, target, attr, &found);
    if (!error)
        tree_touch(fs, parent);
    store_write_end(&fs->store);
    key_free(&found.entry.key);
    return error;
}

/* --- Removing names ----------------------------------------------------------------------------
 */

/* Whether a directory must get a record because it is about to lose its only name. */
static int needs_keeping(struct fs *fs, struct node *directory, struct key *prefix,
                         struct attr_record *record, bool *needed)
{
    *needed = false;
    if (directory->top)
        return 0;
    int error = node_key(&fs->nodes, directory, prefix, NULL);
    if (!error)
        error = view_attr_to_change(directory->view, prefix->bytes, prefix->size, record);
    if ((error && error != ENOENT) || record->has_directory)
        return error;
    struct walk walk;
    struct walk_entry entry = {0};
    error = walk_open(&walk, directory->view, prefix, node_place(directory));
    if (error)
        return error;
    error = walk_next(&walk, &entry);
    if (!error)
        error = walk_next(&walk, &entry);
    *needed = error == ENOENT;
    walk_close(&walk);
    key_free(&entry.key);
    return error == ENOENT ? 0 : error;
}

int change_keep(struct fs *fs, struct batch *batch, struct node *directory)
{
    struct key prefix = {0};
    struct attr_record record;
    bool needed;
    int error = needs_keeping(fs, directory, &prefix, &record, &needed);
    if (!error && needed) {
        record.has_directory = true;
        memset(&record.directory, 0, sizeof record.directory);
        error = batch_attr(batch, prefix.bytes, prefix.size, &record);
        if (!error)
            error = change_record(fs, batch, directory->parent);
        if (error == ENOSPC)
            error = 0;
    }
    key_free(&prefix);
    return error;
}

/* Commits the removal of what was found; `record` is its record of attributes as it shall be. */
static int remove_found(struct fs *fs, struct node *parent, const struct tree_name *found)
{
    const struct key *key = &found->entry.key;
    struct attr_record record;
    struct batch batch;
    int error = 0;
    if (!found->entry.directory && found->entry.no_record)
        error = ENOENT;
    else if (!found->entry.directory && found->entry.has_attr && !found->entry.shared)
        attr_clear(&record); /* nothing of it stays */
    else
        error = view_attr_to_change(parent->view, key->bytes, key->size, &record);
    bool has_record = !error;
    if (error && error != ENOENT)
        return error;
    if (!has_record && !found->entry.directory && (parent->top || parent->recorded))
        return view_delete(parent->view, ekv_key(key->bytes, key->size));
    error = batch_begin(&batch, parent->view);
    if (error)
        return error;
    if (!found->entry.directory)
        error = batch_delete(&batch, ekv_key(key->bytes, key->size));
    if (found->entry.directory)
        record.has_directory = false;
    else
        record.has_file = false;
    if (!error && has_record)
        error = batch_attr(&batch, key->bytes, key->size, &record);
    if (!error)
        error = change_keep(fs, &batch, parent);
    if (!error)
        return batch_commit(&batch);
    batch_abort(&batch);
    return error;
}

static void forget_name(struct fs *fs, struct node *parent, struct node *node, struct file *file,
                        const struct info *info)
{
    if (node)
        node_unlink(&fs->nodes, node);
    if (file)
        file_die(fs, file, &info->attr,
                 (int64_t)info->mtime.tv_sec * 1000000 + info->mtime.tv_nsec / 1000);
    tree_touch(fs, parent);
}

static int unlink_locked(struct fs *fs, struct node *parent, const char *name, struct node *node)
{
    struct tree_name found;
    struct info info = {0};
    int error = tree_find(fs, parent, name, strlen(name), &found);
    bool stored = !error && found.exists;
    struct file *file = file_before_removal(fs, node, stored ? &found.entry.entry : NULL);
    if (error == EINVAL || (!error && !found.exists && !is_new(file)))
        error = ENOENT;
    if (stored && found.entry.directory)
        error = EISDIR;
    if (!error && stored)
        tree_info_found(fs, node, &found.entry, &info);
    if (!error && stored && file)
        error = file_detach(fs, file);
    if (!error) {
        node_move_begin(&fs->nodes, node, NULL);
        if (found.exists)
            error = remove_found(fs, parent, &found);
        if (!error)
            forget_name(fs, parent, node, file, &info);
        node_move_end(&fs->nodes, node, NULL);
    }
    key_free(&found.entry.key);
    file_release(fs, file);
    return error;
}

int change_unlink(struct fs *fs, struct node *parent, const char *name)
{
    store_write(&fs->store);
    struct node *node = node_by_name(&fs->nodes, parent, name, strlen(name));
    node_set_removing(&fs->nodes, node, true);
    int error = unlink_locked(fs, parent, name, node);
    node_set_removing(&fs->nodes, node, false);
    store_write_end(&fs->store);
    node_unref(&fs->nodes, node);
    return error;
}

static int rmdir_locked(struct fs *fs, struct node *parent, const char *name, struct node *node)
{
    struct tree_name found;
    bool empty = false;
    int error = tree_find(fs, parent, name, strlen(name), &found);
    if (!error && !found.exists)
        error = ENOENT;
    if (!error && !found.entry.directory)
        error = ENOTDIR;
    if (!error)
        error = tree_is_empty(parent, &found, &empty);
    if (!error && (!empty || (node && file_any_new(fs, node))))
        error = ENOTEMPTY;
    if (!error)
        error = remove_found(fs, parent, &found);
    key_free(&found.entry.key);
    if (error)
        return error == EINVAL ? ENOENT : error;
    if (node) {
        tree_keep(fs, node, &found.entry.attr);
        node_unlink(&fs->nodes, node);
    }
    tree_touch(fs, parent);
    return 0;
}

int change_rmdir(struct fs *fs, struct node *parent, const char *name)
{
    store_write(&fs->store);
    struct node *node = node_by_name(&fs->nodes, parent, name, strlen(name));
    int error = rmdir_locked(fs, parent, name, node);
    store_write_end(&fs->store);
    node_unref(&fs->nodes, node);
    return error;
}

/* --- Attributes --------------------------------------------------------------------------------
 */

/* What is kept beside a node, and when that was changed. */
static int find_record(struct node *node, const struct key *key, const struct info *info,
                       struct attr_record *record)
{
    struct ekv_entry value;
    int error = view_attr_to_change(node->view, key->bytes, key->size, record);
    if (error && error != ENOENT)
        return error;
    if (node->kind == NODE_DIRECTORY) {
        record->has_directory = true;
        if (node->entries_changed) /* else the time of the record would count again */
            attr_set_mtime(&record->directory, info->mtime);
        return 0;
    }
    record->has_file = true;
    return view_find(node->view, ekv_key(key->bytes, key->size), &value);
}

/* Commits a record; the one of a directory makes that stay, and so all above it. */
static int put_record(struct fs *fs, struct node *node, const struct key *key,
                      const struct attr_record *record)
{
    uint8_t bytes[ATTR_RECORD_MAX];
    size_t size = attr_encode(record, bytes);
    const struct node *parent = node->top ? NULL : node->parent;
    bool above = parent && node->kind == NODE_DIRECTORY && !parent->top && !parent->recorded;
    int error = change_admit(fs, key->size, size);
    if (error)
        return error;
    struct ekv_key aside = aside_key(key->bytes, key->size);
    if (!above)
        return size ? view_put(node->view, aside, bytes, size) : view_delete(node->view, aside);
    struct batch batch;
    error = batch_begin(&batch, node->view);
    if (error)
        return error;
    error = batch_attr(&batch, key->bytes, key->size, record);
    if (!error)
        error = change_record(fs, &batch, node->parent);
    if (!error)
        return batch_commit(&batch);
    batch_abort(&batch);
    return error;
}

/* One of the two is given. */
static int attr_locked(struct fs *fs, struct node *node, const struct attr *attr,
                       const struct xattr_change *xattr)
{
    struct attr_record record;
    struct key key = {0};
    struct info info;
    bool directory = node->kind == NODE_DIRECTORY;
    int error = tree_info(fs, node, &info);
    if (!error)
        error = node_key(&fs->nodes, node, &key, NULL);
    if (!error)
        error = find_record(node, &key, &info, &record);
    if (!error && attr)
        attr_merge(directory ? &record.directory : &record.file, attr);
    if (!error && xattr)
        error = xattr_apply(directory ? &record.directory_xattrs : &record.file_xattrs, xattr);
    if (!error)
        error = put_record(fs, node, &key, &record);
    key_free(&key);
    return error;
}

int change_attr(struct fs *fs, struct node *node, const struct attr *attr)
{
    if (node->view->top == node) {
        pthread_mutex_lock(&fs->nodes.lock);
        attr_merge(&node->view->attr, attr);
        pthread_mutex_unlock(&fs->nodes.lock);
        return 0;
    }
    store_write(&fs->store);
    struct file *file = node->kind == NODE_FILE ? file_of(fs, node) : NULL;
    bool kept = file ? file_set_attr(file, attr)
                     : node->kind == NODE_DIRECTORY && tree_change_kept(fs, node, attr);
    int error = 0;
    if (!kept)
        error = attr_locked(fs, node, attr, NULL);
    file_release(fs, file);
    store_write_end(&fs->store);
    return error;
}

int change_xattr(struct fs *fs, struct node *node, const struct xattr_change *change)
{
    store_write(&fs->store);
    struct file *file = node->kind == NODE_FILE ? file_of(fs, node) : NULL;
    bool kept = false;
    int error = file ? xattr_change_file(fs, file, change, &kept) : 0;
    if (!error && !kept)
        error = attr_locked(fs, node, NULL, change);
    file_release(fs, file);
    store_write_end(&fs->store);
    return error;
}
