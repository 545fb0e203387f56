/* The lock that keeps a second opener away from an image or a device. */
#ifndef EKV_HOST_LOCK_H
#define EKV_HOST_LOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "error.h"

/* Takes a lock (flock) on an open file, waiting for a second at most: exclusive for a writer,
 * shared for readers. It ends with the last descriptor of that open file.
 * Errors: EKV_BUSY, and in `holder` who has the file open, as " by ekvfs (process 12)" or "";
 * EKV_IO, and errno says why. */
EKV_MUST_CHECK int lock_take(int file, bool exclusive, char *holder, size_t holder_size);

/* The whole sentence about a file that is in use. `what` is "image" or "device". */
void lock_explain(char *text, size_t size, const char *name, const char *holder, const char *what,
                  bool exclusive);

#endif
