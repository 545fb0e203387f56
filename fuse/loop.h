/* The threads that answer requests: one of them at a time takes requests from the kernel.
 *
 * A request that is answered at once is answered by the thread that took it, which then takes the
 * next: a kernel that finds several threads waiting wakes another one for each request, and half of
 * what a small operation costs are these changes of threads. Whoever is about to wait, for a lock,
 * an erase or a disk, says so (loop_hand_over), and a thread that stands by takes the requests
 * from there on. It does so by itself from a thread that has not come back for some milliseconds.
 */
#ifndef EKVFS_LOOP_H
#define EKVFS_LOOP_H

struct fuse_session;

/* Answers requests until the file system is unmounted or a signal ends the session: after the last
 * fork, from the thread that gets the signals. Negative: an errno, requests could not be taken or
 * threads not be started. */
int loop_run(struct fuse_session *session);

/* The caller is going to wait or to be busy for long: requests are taken by another thread from
 * here on. Costs a change of threads if the caller took its request from the kernel, else nothing;
 * may be called with any lock held, and from any thread. */
void loop_hand_over(void);

#endif
