/* Requests about names and attributes, between the kernel and tree, change and control.
 *
 * The daemon is the only writer of the image, so names (also missing ones), attributes and data may
 * be cached for ever; only the attributes of a file with uncommitted changes may not.
 */
#include "handle.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "change.h"
#include "defer.h"
#include "report.h"

/* --- Replies -----------------------------------------------------------------------------------
 */

void entry_from_info(struct fs *fs, struct node *node, const struct info *info,
                     struct fuse_entry_param *entry)
{
    bool lasts = info->settled && !defer_is_changing(fs, node);
    *entry = (struct fuse_entry_param){.ino = node->id,
                                       .generation = node->generation,
                                       .attr_timeout = lasts ? FOREVER : 0,
                                       .entry_timeout = node->view->top == node ? 0 : FOREVER};
    tree_stat(fs, node, info, &entry->attr);
}

int entry_fill(struct fs *fs, struct node *node, struct fuse_entry_param *entry)
{
    struct info info;
    if (node->kind == NODE_CONTROL) {
        *entry = (struct fuse_entry_param){.ino = node->id,
                                           .generation = node->generation,
                                           .entry_timeout = control_lasts(node) ? FOREVER : 0};
        control_stat(fs, node, &entry->attr);
        return 0;
    }
    int error = tree_info(fs, node, &info);
    if (!error)
        entry_from_info(fs, node, &info, entry);
    return error;
}

static void reply_error(fuse_req_t request, int error)
{
    fuse_reply_err(request, error);
}

void reply_entry(fuse_req_t request, struct fs *fs, struct node *node)
{
    struct fuse_entry_param entry;
    int error = entry_fill(fs, node, &entry);
    if (error) {
        reply_error(request, error);
    } else {
        node_looked_up(&fs->nodes, node);
        if (fuse_reply_entry(request, &entry) != 0) /* interrupted: the kernel does not know it */
            file_forget(fs, node->id, 1);
    }
    node_unref(&fs->nodes, node);
}

void reply_attr(fuse_req_t request, struct fs *fs, struct node *node)
{
    struct fuse_entry_param entry;
    int error = entry_fill(fs, node, &entry);
    if (error)
        reply_error(request, error);
    else
        fuse_reply_attr(request, &entry.attr, entry.attr_timeout);
}

int changeable(struct fs *fs, fuse_ino_t id, struct node **node)
{
    *node = node_by_id(&fs->nodes, id);
    if (!*node)
        return ESTALE;
    if (view_is_read_only((*node)->view))
        return EROFS;
    if ((*node)->kind == NODE_CONTROL)
        return EPERM;
    return view_ended((*node)->view) ? ENOENT : 0;
}

/* The same, but replies itself and returns NULL if it cannot be changed. */
static struct node *changeable_or_reply(fuse_req_t request, struct fs *fs, fuse_ino_t id)
{
    struct node *node;
    int error = changeable(fs, id, &node);
    if (error)
        reply_error(request, error);
    return error ? NULL : node;
}

/* Whether a name is `.ekv` in the mountpoint. */
static bool is_control(const struct fs *fs, const struct node *parent, const char *name)
{
    return parent == fs->nodes.root && control_find(CONTROL_NONE, name);
}

/* --- Lookup ------------------------------------------------------------------------------------
 */

static void reply_missing(fuse_req_t request)
{
    struct fuse_entry_param entry = {.entry_timeout = FOREVER};
    fuse_reply_entry(request, &entry);
}

/* A name whose file is not committed yet is only known by its node. */
static struct node *uncommitted(struct fs *fs, struct node *parent, const char *name)
{
    struct node *node = node_by_name(&fs->nodes, parent, name, strlen(name));
    struct file *file = node ? file_of(fs, node) : NULL;
    bool new = file &&atomic_load(&file->created);
    file_release(fs, file);
    if (!new)
        node_unref(&fs->nodes, node);
    return new ? node : NULL;
}

/* Finds a name in the store and what is to be told of it. `*node` NULL: it is not there; else with
 * a reference. */
static int find_stored(struct fs *fs, struct node *parent, const char *name, struct node **node,
                       struct fuse_entry_param *reply)
{
    struct tree_name found;
    unsigned long long changes = atomic_load(&fs->store.changes);
    int error = tree_find(fs, parent, name, strlen(name), &found);
    const struct walk_entry *entry = &found.entry;
    *node = NULL;
    if (!error && found.exists) {
        *node = node_obtain(&fs->nodes, parent, name, strlen(name),
                            entry->directory ? NODE_DIRECTORY : NODE_FILE, entry->path_kind,
                            entry->bytes_size, &entry->key);
        error = *node ? 0 : ENOMEM;
    }
    struct file *file = *node ? file_of(fs, *node) : NULL;
    if (*node && (file || atomic_load(&fs->store.changes) != changes)) {
        error = entry_fill(fs, *node, reply);
    } else if (*node) {
        struct info info;
        tree_info_found(fs, *node, entry, &info);
        entry_from_info(fs, *node, &info, reply);
    }
    file_release(fs, file);
    key_free(&found.entry.key);
    if (error) {
        node_unref(&fs->nodes, *node);
        *node = NULL;
    }
    return error == EINVAL ? 0 : error;
}

static void lookup_stored(fuse_req_t request, struct fs *fs, struct node *parent, const char *name)
{
    struct fuse_entry_param reply;
    struct node *node;
    int error, tries = 100;
    do /* a node that was found and is gone by now was replaced */
        error = find_stored(fs, parent, name, &node, &reply);
    while (error == ENOENT && --tries > 0);
    if (error) {
        reply_error(request, error);
    } else if (!node) {
        reply_missing(request);
    } else {
        node_looked_up(&fs->nodes, node);
        if (fuse_reply_entry(request, &reply) != 0)
            file_forget(fs, node->id, 1);
        node_unref(&fs->nodes, node);
    }
}

void op_lookup(fuse_req_t request, fuse_ino_t parent_id, const char *name)
{
    struct fs *fs = request_fs(request);
    struct node *parent = node_by_id(&fs->nodes, parent_id);
    if (!parent) {
        reply_error(request, ESTALE);
        return;
    }
    bool self = strcmp(name, ".") == 0; /* asked for by nfsd */
    if (self || strcmp(name, "..") == 0) {
        struct node *node = self || !parent->parent ? parent : parent->parent;
        node_ref(&fs->nodes, node);
        reply_entry(request, fs, node);
        return;
    }
    struct node *node;
    if (parent->kind == NODE_CONTROL || is_control(fs, parent, name))
        control_lookup(request, fs, parent, name);
    else if ((node = uncommitted(fs, parent, name)))
        reply_entry(request, fs, node);
    else
        lookup_stored(request, fs, parent, name);
}

void op_forget(fuse_req_t request, fuse_ino_t id, uint64_t count)
{
    file_forget(request_fs(request), id, count);
    fuse_reply_none(request);
}

void op_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        file_forget(request_fs(request), forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(request);
}

/* --- Attributes --------------------------------------------------------------------------------
 */

void op_getattr(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct node *node = node_by_id(&fs->nodes, id);
    (void)info;
    if (!node)
        reply_error(request, ESTALE);
    else if (!defer(request, fs, node, NULL))
        reply_attr(request, fs, node);
}

static int set_size(struct fs *fs, struct node *node, uint64_t size, pid_t pid,
                    struct fuse_file_info *info)
{
    struct handle *handle = info ? handle_of(info) : NULL;
    if (handle && handle->file) {
        int error = file_resize(fs, handle->file, size);
        if (!error) {
            handle->wrote = true;
            handle->pid = pid;
            atomic_store(&handle->file->owner, pid);
        }
        return error;
    }
    struct file *file = file_obtain(fs, node);
    if (!file)
        return ENOMEM;
    uint64_t old_size;
    int64_t mtime;
    struct attr attr;
    bool created;
    bool others = file_differs(file, &old_size, &mtime, &attr, &created);
    int error = file_resize(fs, file, size);
    if (!error && !others) /* else whoever is writing commits it */
        error = file_commit(fs, file);
    file_release(fs, file);
    return error;
}

static struct attr attr_from(const struct stat *stat, int set)
{
    struct attr attr = {0};
    if (set & FUSE_SET_ATTR_MODE) {
        attr.set |= ATTR_MODE;
        attr.mode = stat->st_mode & 07777;
    }
    if (set & FUSE_SET_ATTR_UID) {
        attr.set |= ATTR_UID;
        attr.uid = stat->st_uid;
    }
    if (set & FUSE_SET_ATTR_GID) {
        attr.set |= ATTR_GID;
        attr.gid = stat->st_gid;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (set & FUSE_SET_ATTR_MTIME_NOW)
        attr_set_mtime(&attr, now);
    else if (set & FUSE_SET_ATTR_MTIME)
        attr_set_mtime(&attr, stat->st_mtim);
    return attr;
}

static void set_atime(struct fs *fs, struct node *node, const struct stat *stat, int set)
{
    pthread_mutex_lock(&fs->nodes.lock);
    node->has_atime = true;
    if (set & FUSE_SET_ATTR_ATIME_NOW)
        clock_gettime(CLOCK_REALTIME, &node->atime);
    else
        node->atime = stat->st_atim;
    pthread_mutex_unlock(&fs->nodes.lock);
}

void op_setattr(fuse_req_t request, fuse_ino_t id, struct stat *stat, int set,
                struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct node *node = changeable_or_reply(request, fs, id);
    if (!node)
        return;
    int error = 0;
    if (set & FUSE_SET_ATTR_SIZE)
        error = set_size(fs, node, (uint64_t)stat->st_size, fuse_req_ctx(request)->pid, info);
    struct attr attr = attr_from(stat, set);
    if (!error && attr.set)
        error = change_attr(fs, node, &attr);
    if (!error && set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW))
        set_atime(fs, node, stat, set);
    if (error)
        reply_error(request, error);
    else
        reply_attr(request, fs, node);
}

void op_readlink(fuse_req_t request, fuse_ino_t id)
{
    struct fs *fs = request_fs(request);
    struct node *node = node_by_id(&fs->nodes, id);
    struct file *file = node ? file_obtain(fs, node) : NULL;
    char target[PATH_MAX];
    size_t size = 0;
    int error = !node ? ESTALE : !file ? ENOMEM : 0;
    if (!error)
        error = file_read(fs, file, 0, target, sizeof target - 1, &size);
    target[size] = 0;
    if (error)
        reply_error(request, error);
    else
        fuse_reply_readlink(request, target);
    file_release(fs, file);
}

/* --- New names ---------------------------------------------------------------------------------
 */

struct attr new_attr(fuse_req_t request, struct fs *fs, struct node *parent, mode_t mode,
                     bool directory)
{
    const struct fuse_ctx *context = fuse_req_ctx(request);
    struct attr attr = {.mode = mode & 07777, .uid = context->uid, .gid = context->gid};
    if (parent->gives_group) {
        attr.gid = parent->group;
        attr.mode |= directory ? S_ISGID : 0;
    }
    if (attr.mode != (directory ? fs->directory_mode : fs->file_mode))
        attr.set |= ATTR_MODE;
    if (attr.uid != fs->uid)
        attr.set |= ATTR_UID;
    if (attr.gid != fs->gid)
        attr.set |= ATTR_GID;
    return attr;
}

/* Replies with the node of a name that was just committed. */
static void reply_new(fuse_req_t request, struct fs *fs, struct node *parent, const char *name,
                      int error)
{
    if (error)
        reply_error(request, error);
    else
        lookup_stored(request, fs, parent, name);
}

void op_mkdir(fuse_req_t request, fuse_ino_t parent_id, const char *name, mode_t mode)
{
    struct fs *fs = request_fs(request);
    struct node *parent = node_by_id(&fs->nodes, parent_id);
    if (parent && parent->kind == NODE_CONTROL) {
        control_mkdir(request, fs, parent, name, mode);
        return;
    }
    parent = changeable_or_reply(request, fs, parent_id);
    if (!parent)
        return;
    struct attr attr = new_attr(request, fs, parent, mode, true);
    reply_new(request, fs, parent, name, change_mkdir(fs, parent, name, &attr));
}

void op_symlink(fuse_req_t request, const char *target, fuse_ino_t parent_id, const char *name)
{
    struct fs *fs = request_fs(request);
    struct node *parent = changeable_or_reply(request, fs, parent_id);
    if (!parent)
        return;
    struct attr attr = new_attr(request, fs, parent, fs->file_mode, false);
    attr.set &= (uint8_t)~ATTR_MODE;
    reply_new(request, fs, parent, name, change_symlink(fs, parent, name, target, &attr));
}

int name_create(fuse_req_t request, struct fs *fs, struct node *parent, const char *name,
                mode_t mode, struct node **node, bool *existed)
{
    struct tree_name found;
    *node = NULL;
    int error = tree_find(fs, parent, name, strlen(name), &found);
    const struct walk_entry *entry = &found.entry;
    if (error == EINVAL || (!error && !found.exists && entry->path_kind == PATH_PART))
        error = report_refusal(EINVAL,
                               "the name \"%s\" cannot be used here: write %%25 for a %%, and see "
                               "\"Keys are paths\" in the manual",
                               name);
    if (!error && found.exists && entry->directory)
        error = EISDIR;
    if (!error && !found.exists)
        error = change_admit(fs, entry->key.size, 0);
    if (!error) {
        *node = node_obtain(&fs->nodes, parent, name, strlen(name), NODE_FILE, entry->path_kind,
                            entry->bytes_size, &entry->key);
        error = *node ? 0 : ENOMEM;
    }
    struct file *file = error ? NULL : file_obtain(fs, *node);
    if (!error && !file)
        error = ENOMEM;
    *existed = !error && (found.exists || atomic_load(&file->created));
    if (!error && !*existed) {
        struct attr attr = new_attr(request, fs, parent, mode, false);
        file_create(file, &attr);
        tree_touch(fs, parent);
    }
    key_free(&found.entry.key);
    if (error) {
        node_unref(&fs->nodes, *node);
        *node = NULL;
    }
    return error; /* the reference to the file keeps it; op_create takes it over */
}

void op_mknod(fuse_req_t request, fuse_ino_t parent_id, const char *name, mode_t mode, dev_t device)
{
    struct fs *fs = request_fs(request);
    struct node *parent = changeable_or_reply(request, fs, parent_id), *node;
    bool existed;
    (void)device;
    if (!parent)
        return;
    if (!S_ISREG(mode)) {
        reply_error(request, report_refusal(EPERM, "only files, directories and symbolic links can "
                                                   "be kept in a store"));
        return;
    }
    int error = name_create(request, fs, parent, name, mode, &node, &existed);
    if (error) {
        reply_error(request, error);
        return;
    }
    struct file *file = file_of(fs, node);
    error = existed ? EEXIST : file_commit(fs, file);
    file_release(fs, file);
    file_release(fs, file); /* name_create's */
    if (error) {
        node_unref(&fs->nodes, node);
        reply_error(request, error);
    } else {
        reply_entry(request, fs, node);
    }
}

void op_link(fuse_req_t request, fuse_ino_t id, fuse_ino_t parent_id, const char *name)
{
    (void)id;
    (void)parent_id;
    (void)name;
    reply_error(request,
                report_refusal(EPERM, "hard links are not possible: a key has one value of "
                                      "its own"));
}

/* --- Removing and renaming ---------------------------------------------------------------------
 */

void op_unlink(fuse_req_t request, fuse_ino_t parent_id, const char *name)
{
    struct fs *fs = request_fs(request);
    struct node *parent = changeable_or_reply(request, fs, parent_id);
    if (parent)
        reply_error(request, change_unlink(fs, parent, name));
}

void op_rmdir(fuse_req_t request, fuse_ino_t parent_id, const char *name)
{
    struct fs *fs = request_fs(request);
    struct node *parent = node_by_id(&fs->nodes, parent_id);
    if (parent && (parent->kind == NODE_CONTROL || is_control(fs, parent, name))) {
        reply_error(request, control_rmdir(fs, parent, name));
        return;
    }
    parent = changeable_or_reply(request, fs, parent_id);
    if (parent)
        reply_error(request, change_rmdir(fs, parent, name));
}

static int rename_node(struct fs *fs, fuse_ino_t parent_id, const char *name,
                       fuse_ino_t new_parent_id, const char *new_name, unsigned flags)
{
    struct node *parent = node_by_id(&fs->nodes, parent_id);
    struct node *new_parent = node_by_id(&fs->nodes, new_parent_id);
    if (!parent || !new_parent)
        return ESTALE;
    if (parent->kind == NODE_CONTROL || new_parent->kind == NODE_CONTROL ||
        is_control(fs, parent, name) || is_control(fs, new_parent, new_name))
        return control_rename(fs, parent, name, new_parent, new_name, flags);
    int error = changeable(fs, parent_id, &parent);
    if (!error)
        error = changeable(fs, new_parent_id, &new_parent);
    if (!error && parent->view != new_parent->view)
        error = report_refusal(EPERM,
                               "\"%s\" cannot be moved into or out of a transaction: copy "
                               "it",
                               name);
    return error ? error : change_rename(fs, parent, name, new_parent, new_name, flags);
}

void op_rename(fuse_req_t request, fuse_ino_t parent_id, const char *name, fuse_ino_t new_parent_id,
               const char *new_name, unsigned flags)
{
    reply_error(request,
                rename_node(request_fs(request), parent_id, name, new_parent_id, new_name, flags));
}

void op_statfs(fuse_req_t request, fuse_ino_t id)
{
    struct fs *fs = request_fs(request);
    struct ekv_stat stat;
    uint64_t available;
    enum { BLOCK = 512 };
    (void)id;
    space_stat(&fs->space, &stat, &available);
    uint64_t more = available / (stat.record_overhead + 16); /* of the smallest keys */
    struct statvfs reply = {
        .f_bsize = 4096,
        .f_frsize = BLOCK,
        .f_blocks = stat.capacity_size / BLOCK,
        .f_bfree = available / BLOCK,
        .f_bavail = available / BLOCK,
        .f_files = stat.keys + more,
        .f_ffree = more,
        .f_favail = more,
        .f_namemax = PATH_NAME_MAX,
    };
    fuse_reply_statfs(request, &reply);
}
