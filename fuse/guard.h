/* A process beside the daemon that ends the mount's connection when the daemon was killed and
 * cannot go.
 *
 * A thread that tells the kernel to forget a name (notify.h) waits, uninterruptible, for the lock
 * of the directory. Who holds it may be waiting for an answer that nobody gives any more after a
 * kill -9; and as long as that thread is there the kernel takes the mount for served. Without the
 * guard both would wait for ever, until `umount -f`.
 */
#ifndef EKVFS_GUARD_H
#define EKVFS_GUARD_H

#include <sys/types.h>

/* Starts the guard of the mount at an absolute path; by the thread that lives longest, before there
 * are others. Without a guard (-1) the mount is as good but for this. */
pid_t guard_start(const char *mountpoint);
void guard_stop(pid_t guard);

#endif
