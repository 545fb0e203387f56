/* Preloaded into ekvfs by test_mount_promises.sh: each fdatasync that goes well leaves a copy of
 * what it made durable, the whole image, at EKV_SYNC_COPY. What a crash of the host may lose is
 * then what that copy lacks.
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

/* The engine syncs from one thread at a time: all of its writers hold a lock. */
int fdatasync(int file)
{
    int (*next)(int);
    *(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
    int result = next(file);
    const char *path = getenv("EKV_SYNC_COPY");
    if (result == 0 && path)
        copy(file, path);
    return result;
}
