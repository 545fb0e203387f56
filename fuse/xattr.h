/* User extended attributes of nodes, with -o xattr: committed like permissions, at once or with the
 * content that a file is being given.
 *
 * Functions return 0 or an errno.
 */
#ifndef EKVFS_XATTR_H
#define EKVFS_XATTR_H

#include "file.h"

/* One is set, or removed if `value` is NULL; `name` is without "user.", `flags` are setxattr's. */
struct xattr_change {
    const char *name;
    size_t name_size;
    const void *value;
    size_t value_size;
    int flags;
};

/* ENODATA, EEXIST; ENOSPC: a set has no room for it. Then nothing changed. */
EKV_MUST_CHECK int xattr_apply(struct xattrs *xattrs, const struct xattr_change *change);

/* What a node has, uncommitted changes included. ENOENT: it has no name any more. */
EKV_MUST_CHECK int xattr_of_node(struct fs *fs, struct node *node, struct xattrs *xattrs);

/* Changes what is to be committed with a file's content; `*kept` false, and nothing done, if there
 * is nothing to commit it with. With the writer lock held. */
EKV_MUST_CHECK int xattr_change_file(struct fs *fs, struct file *file,
                                     const struct xattr_change *change, bool *kept);

/* Keeps what a file has, before it loses its name: with its lock and the writer lock. */
EKV_MUST_CHECK int xattr_keep(struct fs *fs, struct file *file);

#endif
