/* The file system: the parts that an operation needs, and the defaults of the mount. */
#ifndef EKVFS_FS_H
#define EKVFS_FS_H

#include <sys/types.h>

#include "node.h"
#include "notify.h"
#include "space.h"
#include "view.h"

struct deferred;
struct file;
struct fs;

/* What the kernel holds open: listed, so that all is closed however the mount ends. */
struct opened {
    struct opened *next, *previous;
    void (*close)(struct fs *fs, struct opened *opened);
};

void opened_add(struct fs *fs, struct opened *opened);
void opened_remove(struct fs *fs, struct opened *opened);
/* When no request comes any more. */
void opened_close_all(struct fs *fs);

struct fs {
    struct store store;
    struct view live;   /* the store as it is */
    struct view *views; /* those that have a name; under the node table's lock */
    struct space space;
    struct past_cache past;
    struct node_table nodes;
    struct notify notify;
    struct file *files;                 /* all of them, under the node table's lock */
    struct opened *opened;              /* likewise */
    struct deferred *deferred;          /* requests, likewise */
    struct key missing;                 /* looked up last and not there; likewise */
    unsigned long long missing_changes; /* of the store, then */
    bool xattrs;                        /* extended attributes are kept */
    uid_t uid;                          /* whose everything is that says nothing else */
    gid_t gid;
    mode_t file_mode; /* permissions of what says nothing else */
    mode_t directory_mode;
    int64_t mount_time; /* microseconds since 1970: the time of what has none */
};

#endif
