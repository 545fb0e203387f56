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

/* True if a mount of ekvfs has this number here. */
static bool is_ours(int mount)
{
    char line[4096];
    bool ours = false;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    while (mounts && !ours && fgets(line, sizeof line, mounts))
        ours = atoi(line) == mount && strstr(line, " - fuse");
    if (mounts)
        fclose(mounts);
    return ours;
}

/* True if an entry of /proc/PID/fdinfo is the file with this inode number on a mount of ours. */
static bool is_file(int directory, const char *entry, uint64_t id)
{
    char text[STATUS_SIZE];
    int fd = openat(directory, entry, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    text[size > 0 ? size : 0] = 0;
    const char *inode = strstr(text, "\nino:"), *mount = strstr(text, "\nmnt_id:");
    return inode && mount && strtoull(inode + 5, NULL, 10) == id && is_ours(atoi(mount + 8));
}

/* The links in /proc/PID/fd would say it as well, but to read one waits for an execve(2) of the
 * process, and that may be waiting for the answer to the close of a descriptor here. */
static bool holds(pid_t pid, uint64_t id)
{
    char path[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/fdinfo", (int)pid);
    DIR *directory = opendir(path);
    if (!directory)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(directory));)
        found = entry->d_name[0] != '.' && is_file(dirfd(directory), entry->d_name, id);
    closedir(directory);
    return found;
}

bool process_holds(pid_t pid, uint64_t id)
{
    for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
        if (holds(pid, id))
            return true;
        pid = status_number(pid, "\nPPid:");
    }
    return false;
}
