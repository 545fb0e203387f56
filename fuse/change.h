/* What changes names and attributes. Each function takes the writer lock, and is one commit: done
 * or not done. They return 0 or an errno. */
#ifndef EKVFS_CHANGE_H
#define EKVFS_CHANGE_H

#include "tree.h"
#include "xattr.h"

EKV_MUST_CHECK int change_mkdir(struct fs *fs, struct node *parent, const char *name,
                                const struct attr *attr);
EKV_MUST_CHECK int change_symlink(struct fs *fs, struct node *parent, const char *name,
                                  const char *target, const struct attr *attr);
EKV_MUST_CHECK int change_unlink(struct fs *fs, struct node *parent, const char *name);
EKV_MUST_CHECK int change_rmdir(struct fs *fs, struct node *parent, const char *name);

/* `flags` are renameat2's. */
EKV_MUST_CHECK int change_rename(struct fs *fs, struct node *parent, const char *name,
                                 struct node *new_parent, const char *new_name, unsigned flags);

/* Sets attributes of a node beside the others. */
EKV_MUST_CHECK int change_attr(struct fs *fs, struct node *node, const struct attr *attr);

/* Sets or removes an extended attribute. ENODATA, EEXIST, ENOSPC. */
EKV_MUST_CHECK int change_xattr(struct fs *fs, struct node *node,
                                const struct xattr_change *change);

/* --- For those above ---------------------------------------------------------------------------
 */

/* Refuses what would use space that open files have reserved. */
EKV_MUST_CHECK int change_admit(struct fs *fs, size_t key_size, uint64_t value_size);

/* Adds to a batch that removes the only name of a directory what makes the directory stay. */
EKV_MUST_CHECK int change_keep(struct fs *fs, struct batch *batch, struct node *directory);

/* Adds what a directory that gets a directory needs: records of its own and of all above it. */
EKV_MUST_CHECK int change_record(struct fs *fs, struct batch *batch, struct node *directory);

/* What a path stands for in the store: a file's key, or all below a directory's prefix. */
struct subtree {
    const struct key *key;
    bool directory;
};

/* Deletes it, or puts a copy of it somewhere else, as it was at a snapshot. */
EKV_MUST_CHECK int subtree_delete(struct batch *batch, struct view *then,
                                  const struct subtree *subtree);
EKV_MUST_CHECK int subtree_copy(struct batch *batch, struct view *then, const struct subtree *from,
                                const struct subtree *to);

/* Renames a file that was just found in a view which the batch does not change before its end. */
EKV_MUST_CHECK int subtree_move_file(struct batch *batch, struct view *view,
                                     const struct walk_entry *file, const struct key *to);

/* The same in two steps, for where nothing keeps what was there: all of it is read into memory, and
 * put somewhere else. `*held` is to be freed whatever this returns. */
struct held;
EKV_MUST_CHECK int subtree_hold(struct view *view, const struct subtree *from, struct held **held);
/* Whether no key would be longer than `key_size_max` there. */
bool held_fits(const struct held *held, const struct subtree *to, size_t key_size_max);
EKV_MUST_CHECK int subtree_put(struct batch *batch, const struct held *held,
                               const struct subtree *to);
void held_free(struct held *held);

#endif
