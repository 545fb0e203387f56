/* Preloaded into ekvfs by test_mount_promises.sh: each fdatasync that goes well leaves a copy of
 * what it made durable, the whole image, at EKV_SYNC_COPY. What a crash of the host may lose is
 * then what that copy lacks. And each takes as long as there is a file at EKV_SYNC_HOLD, to which
 * it adds a line first, but a minute at most: a slow disk.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void copy(int file, const char *path)
{
    static char buffer[65536];
    char fresh[4096];
    ssize_t got = 0;
    off_t offset = 0;
    snprintf(fresh, sizeof fresh, "%s.new", path);
    int to = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    while (to >= 0 && (got = pread(file, buffer, sizeof buffer, offset)) > 0) {
        if (write(to, buffer, (size_t)got) != got)
            abort();
        offset += got;
    }
    if (to < 0 || got < 0 || close(to) != 0 || rename(fresh, path) != 0)
        abort();
}

static void hold(const char *path)
{
    int file = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file < 0)
        return;
    if (write(file, "held\n", 5) != 5 || close(file) != 0)
        abort();
    for (int i = 0; i < 60 * 1000 && access(path, F_OK) == 0; i++)
        usleep(1000);
}

/* The engine syncs from one thread at a time: all of its writers hold a lock. */
int fdatasync(int file)
{
    int (*next)(int);
    *(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
    const char *path = getenv("EKV_SYNC_HOLD");
    if (path)
        hold(path);
    int result = next(file);
    path = getenv("EKV_SYNC_COPY");
    if (result == 0 && path)
        copy(file, path);
    return result;
}
