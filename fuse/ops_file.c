/* Requests about open files.
 *
 * What was written is committed at FSYNC, at RELEASE (the last descriptor is closed, but nobody
 * waits for that), and at the FLUSH that a close sends, if it seems to be the last. It is not when
 * nothing was written yet, nor when the process or one that it descends from still has the file
 * open: a shell closes copies of a descriptor in the middle of its output, and so do the commands
 * that it starts. A program that opened, wrote and closed is not suspected of that.
 *
 * A value whose last write found no space is no whole one: closing it leaves what was committed
 * before, unless it was opened for appending. So does a close that was told that it failed.
 *
 * While a value is being replaced from its beginning, other processes that open it to read get the
 * old one, whole.
 */
#include "handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "defer.h"
#include "process.h"
#include "report.h"

enum {
    READ_SMALL = 16 * 1024, /* a read that needs no memory of its own */
    HOLDER_PATH_MAX = 512,
};

/* --- Opening -----------------------------------------------------------------------------------
 */

static void handle_close(struct fs *fs, struct opened *opened)
{
    struct handle *handle = (struct handle *)opened;
    opened_remove(fs, opened);
    if (handle->file && handle->writes && file_writer_end(fs, handle->file))
        file_abandon_spill(fs, handle->file);
    file_release(fs, handle->file);
    free(handle->text);
    free(handle);
}

static void handle_free(struct fs *fs, struct handle *handle)
{
    handle_close(fs, &handle->opened);
}

static struct handle *handle_new(struct fs *fs, struct file *file, int flags)
{
    struct handle *handle = calloc(1, sizeof *handle);
    if (!handle)
        return NULL;
    handle->opened.close = handle_close;
    handle->file = file;
    handle->writes = (flags & O_ACCMODE) != O_RDONLY;
    handle->appends = flags & O_APPEND;
    if (handle->writes)
        file_writer_begin(fs, file);
    opened_add(fs, &handle->opened);
    return handle;
}

static void set_caching(const struct handle *handle, struct fuse_file_info *info)
{
    info->fh = (uintptr_t)handle;
    info->keep_cache = 1;
    info->noflush = !handle->writes;
}

static void open_control(fuse_req_t request, struct fs *fs, struct node *node,
                         struct fuse_file_info *info)
{
    struct handle *handle = NULL;
    if ((info->flags & O_ACCMODE) != O_RDONLY) {
        fuse_reply_err(request, EACCES);
        return;
    }
    handle = calloc(1, sizeof *handle);
    int error = handle ? control_text(fs, node, &handle->text, &handle->text_size) : ENOMEM;
    if (error) {
        free(handle);
        fuse_reply_err(request, error);
        return;
    }
    handle->opened.close = handle_close;
    opened_add(fs, &handle->opened);
    info->fh = (uintptr_t)handle;
    info->direct_io = 1;
    info->noflush = 1;
    if (fuse_reply_open(request, info) != 0)
        handle_free(fs, handle);
}

/* Gives a reader the value that stands until its replacement is closed. */
static int open_old(struct fs *fs, struct handle *handle, struct fuse_file_info *info)
{
    uint8_t *value;
    size_t size;
    int error = file_load_committed(fs, handle->file, &value, &size);
    if (error)
        return error;
    file_release(fs, handle->file);
    handle->file = NULL;
    handle->text = (char *)value;
    handle->text_size = size;
    info->direct_io = 1; /* the kernel's pages are those of the new one */
    return 0;
}

static bool was_lost(struct fs *fs, struct node *node)
{
    pthread_mutex_lock(&fs->nodes.lock);
    bool lost = node->lost;
    node->lost = false;
    pthread_mutex_unlock(&fs->nodes.lock);
    return lost;
}

void op_open(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct node *node = node_by_id(&fs->nodes, id);
    if (!node) {
        fuse_reply_err(request, ESTALE);
        return;
    }
    if (node->kind == NODE_CONTROL) {
        open_control(request, fs, node, info);
        return;
    }
    if (defer(request, fs, node, info))
        return;
    int error = was_lost(fs, node) ? EIO : 0;
    if (!error && view_is_read_only(node->view) && (info->flags & O_ACCMODE) != O_RDONLY)
        error = EROFS;
    struct file *file = NULL;
    if (!error)
        error = file_open(fs, node, &file);
    struct handle *handle = file ? handle_new(fs, file, info->flags) : NULL;
    if (!error && !handle) {
        file_release(fs, file);
        error = ENOMEM;
    }
    pid_t pid = fuse_req_ctx(request)->pid;
    if (!error && info->flags & O_TRUNC && handle->writes) {
        error = file_resize(fs, file, 0);
        atomic_store(&file->owner, pid);
    }
    if (!error && node->view->past) /* looked up in a survey once, not for each piece */
        error = file_detach(fs, file);
    if (!error && !handle->writes && file_is_replaced(file) && !process_same(file->owner, pid))
        error = open_old(fs, handle, info);
    if (error) {
        if (handle)
            handle_free(fs, handle);
        fuse_reply_err(request, error);
        return;
    }
    handle->truncated = info->flags & O_TRUNC && handle->writes;
    set_caching(handle, info);
    if (fuse_reply_open(request, info) != 0)
        handle_free(fs, handle);
}

void op_create(fuse_req_t request, fuse_ino_t parent_id, const char *name, mode_t mode,
               struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct node *parent, *node = NULL;
    bool existed = false;
    int error = changeable(fs, parent_id, &parent);
    if (!error)
        error = name_create(request, fs, parent, name, mode, &node, &existed);
    if (error) {
        fuse_reply_err(request, error);
        return;
    }
    struct file *file = file_of(fs, node);
    file_release(fs, file); /* name_create's reference is the handle's from here on */
    struct handle *handle = NULL;
    struct fuse_entry_param entry;
    if (existed && info->flags & O_EXCL)
        error = EEXIST;
    if (!error && !(handle = handle_new(fs, file, info->flags)))
        error = ENOMEM;
    if (handle)
        handle->truncated = !existed || info->flags & O_TRUNC;
    if (!error && existed && info->flags & O_TRUNC)
        error = file_resize(fs, file, 0);
    if (!error)
        error = entry_fill(fs, node, &entry);
    if (error) {
        fuse_reply_err(request, error);
    } else {
        /* Whatever changes it from here on, before its first commit, comes through the kernel; what
         * that commit changes is told (commit.c). */
        if (!existed && view_is_live(node->view) && !defer_is_changing(fs, node))
            entry.attr_timeout = FOREVER;
        set_caching(handle, info);
        node_looked_up(&fs->nodes, node);
        if (fuse_reply_create(request, &entry, info) == 0) {
            node_unref(&fs->nodes, node);
            return;
        }
        file_forget(fs, node->id, 1);
    }
    if (handle)
        handle_free(fs, handle);
    else
        file_release(fs, file);
    node_unref(&fs->nodes, node);
}

/* A handle that may still be written to, as far as can be told at once. */
struct holder {
    uint64_t id; /* of the file */
    pid_t pid;
    size_t start;
    char path[HOLDER_PATH_MAX]; /* from `start` on: the end of the file's path */
};

/* As much of a node's path as there is room for, from the root of its view on. */
static void note_path(struct holder *holder, const struct node *node)
{
    holder->start = sizeof holder->path;
    for (bool top = false; !top && node->name_size < holder->start; node = node->parent) {
        if (holder->start < sizeof holder->path)
            holder->path[--holder->start] = '/';
        holder->start -= node->name_size;
        memcpy(holder->path + holder->start, node->name, node->name_size);
        top = node->top;
    }
}

/* Whether a handle is open for writing in the view: certainly, or perhaps: then who closed a
 * descriptor of it last is noted. */
static bool holds(const struct opened *opened, const struct view *view, struct holder *holder)
{
    const struct handle *handle = (const struct handle *)opened;
    if (opened->close != handle_close || !handle->writes)
        return false;
    const struct node *node = handle->file->node;
    if (node->view != view || node->unlinked)
        return false;
    holder->pid = handle->wrote ? 0 : handle->closer;
    holder->id = node->id;
    note_path(holder, node);
    return true;
}

/* The kernel tells some time after a close that it was the last one; the process that closed can
 * be asked. */
int handle_any_open(struct fs *fs, const struct view *view)
{
    struct holder *holders = NULL, busy = {0};
    size_t count = 0, capacity = 0;
    bool found = false, memory = true;
    pthread_mutex_lock(&fs->nodes.lock);
    for (struct opened *opened = fs->opened; opened && !found && memory; opened = opened->next) {
        if (!holds(opened, view, &busy))
            continue;
        found = busy.pid == 0;
        if (!found && count == capacity) {
            capacity = 2 * capacity + 8;
            struct holder *more = realloc(holders, capacity * sizeof *holders);
            memory = more;
            holders = more ? more : holders;
        }
        if (!found && memory)
            holders[count++] = busy;
    }
    pthread_mutex_unlock(&fs->nodes.lock);
    for (size_t i = 0; i < count && !found; i++) {
        busy = holders[i];
        found = process_holds(busy.pid, busy.id);
    }
    free(holders);
    if (!memory)
        return ENOMEM;
    return !found ? 0
                  : report_refusal(EBUSY, "not committed: \"%.*s\" in it is open for writing",
                                   (int)(sizeof busy.path - busy.start), busy.path + busy.start);
}

/* --- Data --------------------------------------------------------------------------------------
 */

/* Part of a generated text, copied: the handle may be released the moment that the reply is out. */
static size_t read_text(const struct handle *handle, size_t offset, char *buffer, size_t size)
{
    size_t left = offset < handle->text_size ? handle->text_size - offset : 0;
    size_t got = left < size ? left : size;
    if (got)
        memcpy(buffer, handle->text + offset, got);
    return got;
}

void op_read(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
             struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct handle *handle = handle_of(info);
    char small[READ_SMALL];
    size_t got = 0;
    char *buffer = size <= sizeof small ? small : malloc(size);
    int error = buffer ? 0 : ENOMEM;
    (void)id;
    if (!error && !handle->file)
        got = read_text(handle, (size_t)offset, buffer, size);
    else if (!error)
        error = file_read(fs, handle->file, (uint64_t)offset, buffer, size, &got);
    if (error)
        fuse_reply_err(request, error == ENOENT ? ESTALE : error);
    else
        fuse_reply_buf(request, buffer, got);
    if (buffer != small)
        free(buffer);
}

void op_write(fuse_req_t request, fuse_ino_t id, const char *bytes, size_t size, off_t offset,
              struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct handle *handle = handle_of(info);
    (void)id;
    int error = file_write(fs, handle->file, (uint64_t)offset, bytes, size);
    if (error) {
        handle->wrote |= error == ENOSPC || error == EFBIG;
        fuse_reply_err(request, error);
        return;
    }
    handle->wrote = true;
    handle->pid = info->writepage ? 0 : fuse_req_ctx(request)->pid;
    atomic_store(&handle->file->owner, handle->pid);
    fuse_reply_write(request, size);
}

void op_fallocate(fuse_req_t request, fuse_ino_t id, int mode, off_t offset, off_t length,
                  struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct node *node = node_by_id(&fs->nodes, id);
    struct handle *handle = handle_of(info);
    struct info now;
    if (mode != 0 || !node || !handle->file) {
        fuse_reply_err(request, EOPNOTSUPP);
        return;
    }
    int error = tree_info(fs, node, &now);
    if (!error && (uint64_t)offset + (uint64_t)length > now.size) {
        error = file_resize(fs, handle->file, (uint64_t)offset + (uint64_t)length);
        handle->wrote = true;
        handle->pid = fuse_req_ctx(request)->pid;
    }
    fuse_reply_err(request, error);
}

/* --- Commit ------------------------------------------------------------------------------------
 */

static int commit_handle(struct fs *fs, struct handle *handle)
{
    int error = file_commit(fs, handle->file);
    if (!error)
        handle->wrote = handle->truncated = false;
    return error;
}

static bool close_broken(const struct handle *handle)
{
    return !handle->appends && file_is_broken(handle->file);
}

/* Whether a close by `pid` ends the writing, as far as can be told. */
static bool is_last_close(const struct handle *handle, pid_t pid)
{
    if (!handle->shared && process_same(handle->pid, pid))
        return true;
    return !process_holds(pid, handle->file->node->id);
}

void op_flush(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct handle *handle = handle_of(info);
    int error = 0;
    (void)id;
    handle->closer = fuse_req_ctx(request)->pid;
    if (handle->file && !handle->wrote)
        handle->shared = true; /* there are more descriptors of it */
    else if (handle->file && is_last_close(handle, fuse_req_ctx(request)->pid))
        error = close_broken(handle) ? ENOSPC : commit_handle(fs, handle);
    handle->failed = error;
    fuse_reply_err(request, error);
}

void op_fsync(fuse_req_t request, fuse_ino_t id, int data_only, struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct handle *handle = handle_of(info);
    (void)id;
    (void)data_only;
    int error = handle->file ? commit_handle(fs, handle) : 0;
    if (!error && handle->file && view_is_live(handle->file->node->view))
        error = store_sync(&fs->store);
    fuse_reply_err(request, error);
}

/* The kernel has pages of what is given up: who opens the file waits until it has forgotten them.
 */
static void discard(struct fs *fs, struct file *file)
{
    struct node *node = file->node;
    defer_begin(fs, node);
    file_discard(fs, file);
    notify_settle(&fs->notify);
    defer_end(fs, &node, 1);
}

/* Nobody learns what this returns: a failure is told to the system log and to the next open. */
void op_release(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct handle *handle = handle_of(info);
    (void)id;
    if (handle->file && handle->writes) {
        bool mine = handle->wrote || handle->truncated;
        handle->writes = false;
        bool last = file_writer_end(fs, handle->file);
        int error = 0;
        bool given_up = handle->failed || close_broken(handle);
        if (last && given_up)
            discard(fs, handle->file);
        else if ((mine || last) && !given_up)
            error = file_commit(fs, handle->file);
        if (error) {
            struct node *node = handle->file->node;
            pthread_mutex_lock(&fs->nodes.lock);
            node->lost = true;
            report_failure(error, "the last changes of \"%.*s\" were lost: %s",
                           (int)node->name_size, node->name, strerror(error));
            pthread_mutex_unlock(&fs->nodes.lock);
            notify_attr(&fs->notify, node->id); /* it may know those of a file that never was */
        }
        if (last)
            file_abandon_spill(fs, handle->file);
    }
    handle_free(fs, handle);
    fuse_reply_err(request, 0);
}
