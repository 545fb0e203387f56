/* After a transaction was committed: what nodes, open files and the kernel know of the live store
 * is made true again. */
#ifndef EKVFS_SETTLE_H
#define EKVFS_SETTLE_H

#include "fs.h"

struct node_list {
    struct node **nodes; /* with references */
    size_t count, capacity;
};

struct settlement {
    struct view *stage;
    struct node_list removing;         /* nodes that are about to lose their names */
    struct node_list changing;         /* those that are about to get another value */
    const struct touched_entry *entry; /* that is being settled */
    struct touched *known;             /* directories that were looked for */
    uint64_t stale;                    /* a directory whose listing is to be forgotten; 0: none */
    uint64_t told_parent;              /* the last name that the kernel was told to forget */
    size_t told_size;
    char told[PATH_NAME_MAX + 1];
    int error;
};

/* First, without the writer lock: whoever opens a file that is going to be changed, or asks for its
 * size, waits from here on until settle_end, and the kernel has forgotten what it knew. So nobody
 * reads a new value with an old size. Those who are reading get a moment to finish. */
EKV_MUST_CHECK int settle_begin(struct settlement *settlement, struct fs *fs, struct view *stage);

/* Right before the commit, with the writer lock as it: files that it removes and somebody has open
 * get their content, and nobody opens any of them until settle_release. */
EKV_MUST_CHECK int settle_prepare(struct settlement *settlement, struct fs *fs);

/* After it, before the stage is closed: renews nodes and files, and queues notifications. */
void settle_committed(struct settlement *settlement, struct fs *fs);

/* After settle_prepare and what came then. */
void settle_release(struct settlement *settlement, struct fs *fs);

/* At the end, without the writer lock, whether it was committed or not: waits until the kernel has
 * taken what was queued. */
void settle_end(struct settlement *settlement, struct fs *fs);

#endif
