/* After a transaction was committed: what nodes, open files and the kernel know of the live store
 * is made true again. All with the writer lock held. */
#ifndef EKVFS_SETTLE_H
#define EKVFS_SETTLE_H

#include "fs.h"

struct settlement {
    struct view *stage;
    struct node **removing; /* nodes that are about to lose their names, with references */
    size_t count, capacity;
    const struct touched_entry *entry; /* that is being settled */
    struct key existing;               /* prefix of a directory that is there */
    uint64_t told_parent;              /* the last name that the kernel was told to forget */
    size_t told_size;
    char told[PATH_NAME_MAX + 1];
    int error;
};

/* Before the commit: files that it removes and somebody has open get their content, and nobody
 * opens any of them until settle_end. */
EKV_MUST_CHECK int settle_prepare(struct settlement *settlement, struct fs *fs, struct view *stage);

/* After it, before the stage is closed: renews nodes and files, and queues notifications. Who asked
 * for the commit waits for these (notify_settle) when it has let go of the lock. */
void settle_committed(struct settlement *settlement, struct fs *fs);

/* At the end, whether it was committed or not. */
void settle_end(struct settlement *settlement, struct fs *fs);

#endif
