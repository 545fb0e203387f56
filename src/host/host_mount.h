/* Mounting with memory of the heap, as much as it takes. */
#ifndef EKV_HOST_MOUNT_H
#define EKV_HOST_MOUNT_H

#include "ekv.h"

/* As ekv_mount, with malloc'ed memory; `*memory` is the caller's to free after ekv_unmount, NULL on
 * error. A log that was written with a larger memtable than `options` asks for, and not closed,
 * gets the larger one for this mount.
 * Errors: as ekv_mount; EKV_MEMORY: there is none. Flash: as ekv_mount, again for each larger one.
 */
EKV_MUST_CHECK int host_mount(struct ekv **db, const struct ekv_flash *flash,
                              const struct ekv_mount_options *options, void **memory);

#endif
