/* Sources of an ordered walk: where each stands, and the order of what they stand on. */
#ifndef EKV_SOURCE_H
#define EKV_SOURCE_H

#include "run.h"

enum { EKV_SOURCE_PREFIX = 16 };

/* A source and the begin of the key that it stands on, zeroes behind it if it is shorter.
 * `place.address` is the record's, 0: the source is at its end. */
struct ekv_source {
    struct ekv_run_cursor place;
    uint8_t space;
    uint8_t prefix_size;
    bool whole; /* the prefix is the whole key */
    bool removed;
    uint8_t prefix[EKV_SOURCE_PREFIX];
};

/* Takes what the source's place leads to, and verifies it, so that no damaged key gets a place in
 * the order. Flash: reads the record. Errors: EKV_CORRUPT. */
EKV_MUST_CHECK int ekv_source_take(const struct ekv_log *log, struct ekv_source *source,
                                   const struct ekv_found *found);

/* Orders the keys of two sources that are not at their end. Flash: nothing, unless their first
 * EKV_SOURCE_PREFIX bytes are the same. */
EKV_MUST_CHECK int ekv_source_compare(const struct ekv_log *log, const struct ekv_source *one,
                                      const struct ekv_source *two, int *order);

#endif
