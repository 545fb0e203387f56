/* The guard sleeps until the thread that started it is gone. Then the daemon ends by itself within
 * a moment, or never: in that case the connection is aborted, which answers all that wait with an
 * error. The mountpoint stays, so that nobody writes below it unawares.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { END_MS = 500 }; /* a daemon whose threads can go has gone by then */

/* Blanks and such are octal in mountinfo. */
static void unescape(char *path)
{
    char *to = path;
    for (const char *from = path; *from; to++) {
        unsigned int byte;
        bool escaped = from[0] == '\\' && sscanf(from + 1, "%3o", &byte) == 1;
        *to = escaped ? (char)byte : *from;
        from += escaped ? 4 : 1;
    }
    *to = 0;
}

/* The minor number of the mount's device, by which the kernel names its connection; -1 without one.
 * Asks nothing of the mount itself. */
static int connection_of(const char *mountpoint)
{
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t size = 0;
    int minor = -1;
    while (mounts && getline(&line, &size, mounts) > 0) {
        char path[4096];
        int number;
        if (sscanf(line, "%*d %*d %*d:%d %*s %4095s", &number, path) != 2)
            continue;
        unescape(path);
        if (strcmp(path, mountpoint) == 0)
            minor = number; /* of several at one place the last is on top */
    }
    free(line);
    if (mounts)
        fclose(mounts);
    return minor;
}

/* The file of the control file system that aborts the connection; -1: there is none. Opened while
 * the connection is ours, it does nothing once that is gone, although the number may be another
 * mount's then. */
static int open_abort(int minor)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/fs/fuse/connections/%d/abort", minor);
    return open(path, O_WRONLY | O_CLOEXEC);
}

/* By the control file system, which lets the owner of the mount do so; else by force, which only
 * root may use, and which does not unmount what is in use. */
static void abort_connection(int fd, int minor, const char *mountpoint)
{
    if (fd >= 0 && write(fd, "1", 1) == 1)
        return;
    if (connection_of(mountpoint) == minor && open(mountpoint, O_PATH | O_CLOEXEC) >= 0)
        (void)umount2(mountpoint, MNT_FORCE | UMOUNT_NOFOLLOW);
}

static void watch(pid_t daemon, const char *mountpoint)
{
    sigset_t all, wanted;
    siginfo_t info;
    sigfillset(&all);
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    int minor = connection_of(mountpoint), fd = pidfd_open(daemon, 0), abort = open_abort(minor);
    if (sigprocmask(SIG_BLOCK, &all, NULL) != 0 || prctl(PR_SET_PDEATHSIG, SIGUSR1) != 0 || fd < 0)
        return;
    (void)prctl(PR_SET_NAME, "ekvfs-guard");
    while (getppid() == daemon && sigwaitinfo(&wanted, &info) < 0)
        ;
    struct pollfd poll_for = {.fd = fd, .events = POLLIN};
    if (poll(&poll_for, 1, END_MS) == 0 && minor >= 0)
        abort_connection(abort, minor, mountpoint);
}

pid_t guard_start(const char *mountpoint)
{
    pid_t daemon = getpid(), guard = fork();
    if (guard != 0)
        return guard;
    if (close_range(0, ~0u, 0) == 0)
        watch(daemon, mountpoint);
    _exit(0);
}

void guard_stop(pid_t guard)
{
    if (guard <= 0)
        return;
    kill(guard, SIGKILL);
    waitpid(guard, NULL, 0);
}
