/* Views that have a name in `.ekv`: transactions that are staged, snapshots. */
#ifndef EKVFS_STAGE_H
#define EKVFS_STAGE_H

#include "fs.h"

/* Begins one: a new name in the control directory `parent`. `*node` is its root, with a reference.
 * EEXIST. */
EKV_MUST_CHECK int stage_begin(struct fs *fs, struct node *parent, const char *name,
                               enum view_kind kind, const struct attr *attr, struct node **node);

/* Commits a transaction, and waits until the kernel knows. EAGAIN: others changed what it read or
 * wrote; EBUSY: a file in it is open for writing; ENOSPC. Then it stays as it is. */
EKV_MUST_CHECK int stage_commit(struct fs *fs, struct node *parent, const char *name);

/* Aborts a transaction or releases a snapshot, whatever is in it. */
EKV_MUST_CHECK int stage_end(struct fs *fs, struct node *parent, const char *name);

/* All of them, when no request comes any more. */
void stage_end_all(struct fs *fs);

/* How many there are of a kind. */
uint64_t stage_count(struct fs *fs, enum view_kind kind);

#endif
