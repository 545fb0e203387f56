/* What /proc tells of the processes that write files.
 *
 * Where /proc says nothing (another pid namespace, no permission, a process that has just ended)
 * the answer is the one that leads to a commit.
 */
#include "process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANCESTORS_MAX = 4, STATUS_SIZE = 1024 };

/* A number from /proc/PID/status; 0 if there is none. */
static int status_number(pid_t pid, const char *field)
{
    char path[64], status[STATUS_SIZE];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, status, sizeof status - 1);
    close(fd);
    if (size <= 0)
        return 0;
    status[size] = 0;
    const char *found = strstr(status, field);
    return found ? atoi(found + strlen(field)) : 0;
}

bool process_same(pid_t one, pid_t other)
{
    if (one == other || one == 0 || other == 0)
        return true;
    int group = status_number(one, "\nTgid:");
    return group != 0 && group == status_number(other, "\nTgid:");
}

static bool ends_with(const char *link, size_t size, const char *name, size_t name_size)
{
    static const char deleted[] = " (deleted)";
    size_t mark = sizeof deleted - 1;
    if (size > mark && memcmp(link + size - mark, deleted, mark) == 0)
        size -= mark;
    return size > name_size && link[size - name_size - 1] == '/' &&
           memcmp(link + size - name_size, name, name_size) == 0;
}

static bool holds(pid_t pid, const char *name, size_t name_size)
{
    char path[64], link[4096];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    if (!directory)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(directory));) {
        ssize_t size = readlinkat(dirfd(directory), entry->d_name, link, sizeof link);
        found = size > 0 && ends_with(link, (size_t)size, name, name_size);
    }
    closedir(directory);
    return found;
}

bool process_holds(pid_t pid, const char *name, size_t name_size)
{
    for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
        if (holds(pid, name, name_size))
            return true;
        pid = status_number(pid, "\nPPid:");
    }
    return false;
}
