/* A window of a file in memory, which survives that the file is truncated or its disk is full.
 *
 * What the kernel cannot read or keep of a mapped file it tells by a signal (SIGBUS), which would
 * end the process. While a mapping is open that signal is caught for it: the page in question is
 * taken from the file as far as it is there, zeroes otherwise, and belongs to the process alone
 * from then on; `*lost` says so. Signals for other memory go where they went before.
 */
#ifndef EKV_HOST_MAPPING_H
#define EKV_HOST_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* Private but for `bytes`: the window. Must not move while it is open. */
struct mapping {
    uint8_t *bytes;
    uint8_t *base; /* of the page that the window begins in */
    size_t size;   /* from there on */
    uint64_t offset;
    int file;
    int slot;
    bool writable;
    bool *lost;
};

/* Mappings that can be open at a time. */
enum { MAPPING_COUNT_MAX = 64 };

/* Maps `size` bytes of a file from `offset` on. `writable`: what is stored in the window is in the
 * file at once, and durable after an fdatasync; who stores must look at `*lost` afterwards (see
 * mapping_lost). Not every file system can do that; the file is open for it.
 * Errors (errno tells why): EKV_MEMORY; EKV_BUSY: as many as can be are open. */
EKV_MUST_CHECK int mapping_open(struct mapping *mapping, int file, uint64_t offset, size_t size,
                                bool writable, bool *lost);

/* Does nothing with one that is not open, all zeroes but a `slot` of -1. */
void mapping_close(struct mapping *mapping);

/* Whether anything that was read or stored up to here was not the file's. */
bool mapping_lost(const struct mapping *mapping);

#endif
