/* What /proc tells of the processes that write files. */
#ifndef EKVFS_PROCESS_H
#define EKVFS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Whether two thread ids belong to one process. When in doubt they do. */
bool process_same(pid_t one, pid_t other);

/* Whether a process, or one that it descends from, has a file open whose path ends in this name, or
 * names. When in doubt it has not. */
bool process_holds(pid_t pid, const char *name, size_t name_size);

#endif
