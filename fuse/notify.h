/* Tells the kernel that something it keeps is no longer so.
 *
 * A thread of its own sends these, because the kernel may need an answer to the very request that
 * causes them before it takes them. Whoever asks must hold no lock that a request could wait for
 * only if it also waits (notify_settle).
 */
#ifndef EKVFS_NOTIFY_H
#define EKVFS_NOTIFY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fuse_session;
struct notification;

struct notify {
    struct fuse_session *session; /* NULL: not started, nothing is sent */
    pthread_mutex_t lock;
    pthread_cond_t wake, settled;
    struct notification *first, **last;
    uint64_t queued, sent;
    pthread_t thread;
    bool stop;
};

void notify_init(struct notify *notify);
/* After the last fork. An errno. */
int notify_start(struct notify *notify, struct fuse_session *session);
void notify_stop(struct notify *notify);

/* Data and attributes of a node. */
void notify_inode(struct notify *notify, uint64_t id);
/* Attributes alone. */
void notify_attr(struct notify *notify, uint64_t id);
/* A name in a directory, whether it was there or missing. */
void notify_entry(struct notify *notify, uint64_t parent, const char *name, size_t name_size);

/* Waits until the kernel has taken all that was asked before. */
void notify_settle(struct notify *notify);

#endif
