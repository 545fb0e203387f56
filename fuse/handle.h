/* What the kernel's file handles stand for. */
#ifndef EKVFS_HANDLE_H
#define EKVFS_HANDLE_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "control.h"
#include "file.h"
#include "tree.h"

/* How long the kernel may keep what only this mount changes, in seconds. */
#define FOREVER 1e9

/* An open file. `file` NULL: a generated one, whose content is `text`. */
struct handle {
    struct opened opened; /* first */
    struct file *file;
    atomic_bool writes; /* opened for writing */
    bool appends;       /* opened with O_APPEND: each write is a whole by itself */
    atomic_bool wrote;  /* something since the last commit */
    bool truncated;     /* by O_TRUNC or creation, and nothing was committed since */
    bool failed;        /* the last close was told that the commit failed */
    bool shared;        /* a copy of the descriptor was closed before anything was written */
    pid_t pid;          /* who wrote last; 0: nobody knows */
    atomic_int closer;  /* who closed a descriptor last; 0: nobody did */
    char *text;
    size_t text_size;
};

static inline struct fs *request_fs(fuse_req_t request)
{
    return fuse_req_userdata(request);
}

static inline struct handle *handle_of(const struct fuse_file_info *info)
{
    return (struct handle *)(uintptr_t)info->fh;
}

/* EBUSY: a file of a view is open for writing. */
EKV_MUST_CHECK int handle_any_open(struct fs *fs, const struct view *view);

/* The directory that a request wants to change something in, or whose attributes: an errno if that
 * is not possible. */
EKV_MUST_CHECK int changeable(struct fs *fs, fuse_ino_t id, struct node **node);

/* Tells the kernel of a node, whose reference is given up. */
void reply_entry(fuse_req_t request, struct fs *fs, struct node *node);

/* Answers with a node's attributes, and gives back the reference. */
void reply_attr(fuse_req_t request, struct fs *fs, struct node *node);

/* Fills what the kernel is told of a node's entry. */
EKV_MUST_CHECK int entry_fill(struct fs *fs, struct node *node, struct fuse_entry_param *entry);
void entry_from_info(struct fs *fs, struct node *node, const struct info *info,
                     struct fuse_entry_param *entry);

/* The attributes that a new name gets: only what differs from the defaults. */
struct attr new_attr(fuse_req_t request, struct fs *fs, struct node *parent, mode_t mode,
                     bool directory);

/* Requests in control directories; in a rename one side at least is in one. */
void control_lookup(fuse_req_t request, struct fs *fs, struct node *parent, const char *name);
void control_mkdir(fuse_req_t request, struct fs *fs, struct node *parent, const char *name,
                   mode_t mode);
EKV_MUST_CHECK int control_rmdir(struct fs *fs, struct node *parent, const char *name);
EKV_MUST_CHECK int control_rename(struct fs *fs, struct node *parent, const char *name,
                                  struct node *new_parent, const char *new_name, unsigned flags);

/* The operations, by file: names, open files, directories. */
void op_lookup(fuse_req_t request, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t request, fuse_ino_t id, uint64_t count);
void op_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets);
void op_getattr(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info);
void op_setattr(fuse_req_t request, fuse_ino_t id, struct stat *attr, int set,
                struct fuse_file_info *info);
void op_readlink(fuse_req_t request, fuse_ino_t id);
void op_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void op_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t request, fuse_ino_t id, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t request, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t request, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags);
void op_statfs(fuse_req_t request, fuse_ino_t id);

void op_getxattr(fuse_req_t request, fuse_ino_t id, const char *name, size_t room);
void op_listxattr(fuse_req_t request, fuse_ino_t id, size_t room);
void op_setxattr(fuse_req_t request, fuse_ino_t id, const char *name, const char *value,
                 size_t size, int flags);
void op_removexattr(fuse_req_t request, fuse_ino_t id, const char *name);

void op_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *info);
void op_open(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info);
void op_read(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
             struct fuse_file_info *info);
void op_write(fuse_req_t request, fuse_ino_t id, const char *bytes, size_t size, off_t offset,
              struct fuse_file_info *info);
void op_flush(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info);
void op_release(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info);
void op_fsync(fuse_req_t request, fuse_ino_t id, int data_only, struct fuse_file_info *info);
void op_fallocate(fuse_req_t request, fuse_ino_t id, int mode, off_t offset, off_t length,
                  struct fuse_file_info *info);

void op_opendir(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info);
void op_readdir(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
                struct fuse_file_info *info);
void op_readdirplus(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
                    struct fuse_file_info *info);
void op_releasedir(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info);
void op_fsyncdir(fuse_req_t request, fuse_ino_t id, int data_only, struct fuse_file_info *info);

/* Makes the node of a new file that is open already. Returns its entry in `entry`. */
EKV_MUST_CHECK int name_create(fuse_req_t request, struct fs *fs, struct node *parent,
                               const char *name, mode_t mode, struct node **node, bool *existed);

#endif
