/* Quantities as people write them on a command line: sizes and what a store shall retain. */
#ifndef EKV_HOST_QUANTITY_H
#define EKV_HOST_QUANTITY_H

#include <stdbool.h>
#include <stdint.h>

/* A size in bytes: decimal or 0x..., with K, M or G (or KiB, MiB,
 * GiB) behind it for powers of 1,024. False if the text
 * is no such number, or too large for 64 bits. */
bool quantity_size(const char *text, uint64_t *size);

/* What to retain: "8" versions of each key, or a span of time with its unit, such as "90s", "30m",
 * "12h", "7d" or "2w". One of the two is set, the other 0. False if it is neither, or out of the
 * range of struct ekv_mount_options. */
bool quantity_retention(const char *text, uint32_t *count, uint32_t *seconds);

#endif
