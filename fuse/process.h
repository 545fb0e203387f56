/* What /proc tells of the processes that write files. */
#ifndef EKVFS_PROCESS_H
#define EKVFS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Whether two thread ids belong to one process. When in doubt they do. */
bool process_same(pid_t one, pid_t other);

/* Whether a process, or one that it descends from, has the file with this inode number open, on a
 * mount of ours. When in doubt (kernels before 5.14 do not say) it has not. */
bool process_holds(pid_t pid, uint64_t id);

#endif
