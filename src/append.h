/* Appending values to the log: inline in a put record, or in chunks under a head record, as value.h
 * describes them.
 */
#ifndef EKV_APPEND_H
#define EKV_APPEND_H

#include "value.h"

/* Appends a value and returns the address of its put or head record. Nothing refers to it yet.
 * Errors: EKV_FULL, EKV_TOO_LARGE (more chunks than a tree under so long a key can have: never
 * below 100 MiB), EKV_READ_ONLY. Flash: 1.02 x the size programmed, at most. */
EKV_MUST_CHECK int ekv_value_append(struct ekv *db, struct ekv_key key,
                                    const struct ekv_write *write, const void *value, size_t size,
                                    uint32_t *address);

/* Appends a value that is `old`, a pending one in chunks (NULL: empty), and more bytes behind: the
 * chunks of `old` are part of it, its head and last lists are written anew. It is in chunks, too.
 * Errors: as above. Flash: the bytes, and EKV_VALUE_LEVELS lists. */
EKV_MUST_CHECK int ekv_value_extend(struct ekv *db, struct ekv_key key,
                                    const struct ekv_write *write, const struct ekv_found *old,
                                    const void *bytes, size_t size, uint32_t *address);

/* Bytes of log that a value takes, at most. */
uint64_t ekv_value_log_size(const struct ekv *db, struct ekv_key key, uint64_t size);

/* Bytes that the lists take, at most, which ekv_value_extend writes anew. */
uint64_t ekv_value_lists_size(const struct ekv *db, struct ekv_key key);

#endif
