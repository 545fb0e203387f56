/* The catalog: what a store consists of beside its log, and the items of the manifest that say so.
 */
#ifndef EKV_CATALOG_H
#define EKV_CATALOG_H

#include "run.h"

/* What the manifest says beside the table of sectors. */
struct ekv_catalog {
    struct ekv_run *runs; /* newest first */
    uint32_t run_count;
    uint32_t run_capacity; /* one more than a store ever has */
    uint32_t next_run_id;
    uint32_t replay_sector; /* mount reads the log from here on ... */
    uint32_t replay_sequence;
    uint32_t replay_offset;
    uint64_t flushed;    /* what was committed before this log position is in the runs already */
    uint64_t counted;    /* ... and sector states and counts are as of this log position */
    uint32_t keys;       /* live keys in EKV_USER */
    uint32_t keys_aside; /* and in EKV_ASIDE */
    uint64_t live_size;
    uint32_t retain_count;
    uint32_t retain_seconds;
    char label[32];
};

/* Encode an item, the byte that says which included. */
void ekv_catalog_store_encode(const struct ekv_catalog *catalog, uint8_t *item);
void ekv_catalog_state_encode(const struct ekv_catalog *catalog, struct ekv_sectors *sectors,
                              uint8_t *item); /* moves the virgin mark ahead */
void ekv_catalog_run_encode(const struct ekv_run *run, uint8_t *item);
void ekv_catalog_order_encode(const struct ekv_catalog *catalog, uint8_t *item);

/* Applies the items of a frame, the `size` bytes at `at`.
 * Errors: EKV_CORRUPT. Flash: nothing. */
EKV_MUST_CHECK int ekv_catalog_apply(struct ekv_catalog *catalog, struct ekv_sectors *sectors,
                                     const uint8_t *at, uint32_t size);

#endif
