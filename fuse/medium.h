/* The image that a store lies in: opening, creating, and what is wrong with it in words. */
#ifndef EKVFS_MEDIUM_H
#define EKVFS_MEDIUM_H

#include "host/image.h"
#include "options.h"
#include "store.h"

/* Opens the image and mounts the store in it; creates a missing one if that was asked for. False:
 * one line on stderr says why, and nothing was written to what was there before. */
bool medium_open(struct image *image, struct store *store, const struct options *options);

/* Closes both. False: not all of it could be written, one line says so. */
bool medium_close(struct image *image, struct store *store);

#endif
