/* From an image and a mountpoint to a mount that serves requests, and back. */
#ifndef EKVFS_MOUNT_H
#define EKVFS_MOUNT_H

#include "options.h"

/* Serves the mount until it is unmounted or told to end. Returns the exit code. */
int mount_serve(const struct options *options);

#endif
