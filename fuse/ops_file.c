/* Requests about open files.
 *
 * When what was written is committed: at the FLUSH of the process that wrote (its close), at FSYNC,
 * at RELEASE. A FLUSH by anybody else is a copy of the descriptor being closed, such as by a
 * command that a shell started in the middle of its own output, and commits nothing; nor does one
 * that follows only a creation or a truncation. A value whose last write found no space is no whole
 * one: closing it leaves what was committed before, unless it was opened for appending.
 */
#include "handle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

enum { READ_SMALL = 16 * 1024 }; /* a read that needs no memory of its own */

/* --- Opening -----------------------------------------------------------------------------------
 */

static void handle_close(struct fs *fs, struct opened *opened)
{
    struct handle *handle = (struct handle *)opened;
    opened_remove(fs, opened);
    if (handle->file && handle->writes)
        file_writer_end(fs, handle->file);
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
    opened_add(fs, &handle->opened);
    handle->file = file;
    handle->writes = (flags & O_ACCMODE) != O_RDONLY;
    handle->appends = flags & O_APPEND;
    if (handle->writes)
        file_writer_begin(fs, file);
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
    if (handle)
        handle->text = control_text(fs, node->control, &handle->text_size);
    if (!handle || !handle->text) {
        free(handle);
        fuse_reply_err(request, ENOMEM);
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
    int error = was_lost(fs, node) ? EIO : 0;
    if (!error && fs->store.read_only && (info->flags & O_ACCMODE) != O_RDONLY)
        error = EROFS;
    struct file *file = error ? NULL : file_obtain(fs, node);
    struct handle *handle = file ? handle_new(fs, file, info->flags) : NULL;
    if (!error && !handle) {
        file_release(fs, file);
        error = ENOMEM;
    }
    if (!error && info->flags & O_TRUNC && handle->writes)
        error = file_resize(fs, file, 0);
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
    struct node *parent = node_by_id(&fs->nodes, parent_id), *node = NULL;
    bool existed = false;
    int error = !parent ? ESTALE : parent->kind == NODE_CONTROL ? EPERM : 0;
    if (!error && fs->store.read_only)
        error = EROFS;
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
        set_caching(handle, info);
        node_looked_up(&fs->nodes, node);
        if (fuse_reply_create(request, &entry, info) == 0) {
            node_unref(&fs->nodes, node);
            return;
        }
        node_forget(&fs->nodes, node->id, 1);
    }
    if (handle)
        handle_free(fs, handle);
    else
        file_release(fs, file);
    node_unref(&fs->nodes, node);
}

/* --- Data --------------------------------------------------------------------------------------
 */

/* Part of a generated text, copied: the handle may be released the moment that the reply is out. */
static size_t read_text(const struct handle *handle, size_t offset, char *buffer, size_t size)
{
    size_t left = offset < handle->text_size ? handle->text_size - offset : 0;
    size_t got = left < size ? left : size;
    memcpy(buffer, handle->text + (left ? offset : 0), got);
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

/* Whether two thread ids belong to one process. When in doubt they do. */
static bool same_process(pid_t one, pid_t other)
{
    if (one == other || one == 0 || other == 0)
        return true;
    char path[64], line[128];
    snprintf(path, sizeof path, "/proc/%d/status", (int)one);
    FILE *file = fopen(path, "re");
    int group = 0, other_group = 0;
    while (file && fgets(line, sizeof line, file) && sscanf(line, "Tgid: %d", &group) != 1)
        ;
    if (file)
        fclose(file);
    if (group == 0) /* the writer is gone: it cannot be the one that closes now */
        return false;
    snprintf(path, sizeof path, "/proc/%d/status", (int)other);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "Tgid: %d", &other_group) != 1)
        ;
    if (file)
        fclose(file);
    return group == other_group;
}

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

void op_flush(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct handle *handle = handle_of(info);
    int error = 0;
    (void)id;
    if (handle->file && handle->wrote && same_process(handle->pid, fuse_req_ctx(request)->pid))
        error = close_broken(handle) ? ENOSPC : commit_handle(fs, handle);
    fuse_reply_err(request, error);
}

void op_fsync(fuse_req_t request, fuse_ino_t id, int data_only, struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct handle *handle = handle_of(info);
    (void)id;
    (void)data_only;
    int error = handle->file ? commit_handle(fs, handle) : 0;
    if (!error)
        error = store_sync(&fs->store);
    fuse_reply_err(request, error);
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
        if (last && close_broken(handle))
            file_discard(fs, handle->file);
        else if ((mine || last) && !close_broken(handle))
            error = file_commit(fs, handle->file);
        if (error) {
            struct node *node = handle->file->node;
            pthread_mutex_lock(&fs->nodes.lock);
            node->lost = true;
            report_failure(error, "the last changes of \"%.*s\" were lost: %s",
                           (int)node->name_size, node->name, strerror(error));
            pthread_mutex_unlock(&fs->nodes.lock);
        }
    }
    handle_free(fs, handle);
    fuse_reply_err(request, 0);
}
