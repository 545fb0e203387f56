/* The lock on an image or a device, and who holds it.
 *
 * The process that took the lock may have left it to a child, so what /proc/locks names would
 * mislead: whoever has the file open is looked for instead.
 */
#define _GNU_SOURCE
#include "lock.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "mtd.h"

static bool is_same(const struct stat *one, const struct stat *other)
{
    if (mtd_is_device(one) && mtd_is_device(other)) /* the read-only twin has the odd number */
        return minor(one->st_rdev) / 2 == minor(other->st_rdev) / 2;
    return one->st_ino == other->st_ino && one->st_dev == other->st_dev;
}

/* Whether a process has the file open. */
static bool has_open(const char *process, const struct stat *status)
{
    char path[600];
    struct stat other;
    bool found = false;
    snprintf(path, sizeof path, "/proc/%s/fd", process);
    DIR *files = opendir(path);
    for (struct dirent *entry; files && !found && (entry = readdir(files));) {
        snprintf(path, sizeof path, "/proc/%s/fd/%s", process, entry->d_name);
        found = stat(path, &other) == 0 && is_same(&other, status);
    }
    if (files)
        closedir(files);
    return found;
}

static void find_holder(const struct stat *status, char *text, size_t size)
{
    char path[300], command[40] = "";
    text[0] = 0;
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; processes && !text[0] && (entry = readdir(processes));) {
        long process = strtol(entry->d_name, NULL, 10);
        if (process <= 0 || process == (long)getpid() || !has_open(entry->d_name, status))
            continue;
        snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        FILE *file = fopen(path, "re");
        if (file && fgets(command, sizeof command, file))
            command[strcspn(command, "\n")] = 0;
        if (file)
            fclose(file);
        snprintf(text, size, " by %s (process %ld)", command[0] ? command : "a program", process);
    }
    if (processes)
        closedir(processes);
}

/* umount(8) returns before the daemon has closed its image, and what comes next in a script wants
 * that very image: so a lock that is held is tried again for a second. */
enum { TRIES = 50, PAUSE_MS = 20 };

int lock_take(int file, bool exclusive, char *holder, size_t holder_size)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    struct stat status;
    holder[0] = 0;
    for (int tries = TRIES;; tries--) {
        if (flock(file, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0)
            return EKV_OK;
        if (errno != EWOULDBLOCK)
            return EKV_IO;
        if (tries == 0)
            break;
        nanosleep(&pause, NULL);
    }
    if (fstat(file, &status) == 0)
        find_holder(&status, holder, holder_size);
    return EKV_BUSY;
}

void lock_explain(char *text, size_t size, const char *name, const char *holder, const char *what,
                  bool exclusive)
{
    snprintf(text, size, "%s is in use%s: unmount it or end that program first%s%s%s", name, holder,
             exclusive ? ", or open the " : "", exclusive ? what : "",
             exclusive ? " read-only" : "");
}
