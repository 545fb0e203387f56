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

/* The items that a frame of the manifest holds: a byte that says which, then its fields. */
enum ekv_item {
    EKV_ITEM_STORE = 1,   /* retain 4 (top bit: seconds, else versions), label 31 */
    EKV_ITEM_STATE = 2,   /* counters */
    EKV_ITEM_RUN = 3,     /* a run's fields */
    EKV_ITEM_ORDER = 4,   /* count 1, run ids newest first */
    EKV_ITEM_LOG = 5,     /* first sector 3, count 1, count x (distance, live units) */
    EKV_ITEM_FREE = 6,    /* first sector 3, count 1, count x distance to the one before */
    EKV_ITEM_RETIRED = 7, /* the same */
    EKV_ITEM_RESTING = 8, /* as EKV_ITEM_LOG, with the generation in which each was emptied */
};

enum {
    EKV_ITEM_STORE_SIZE = 35,
    EKV_RETAIN_SECONDS_MAX = 0x7fffffff,
    EKV_ITEM_STATE_SIZE = 46,
    EKV_ITEM_RUN_SIZE = 24,
    EKV_ITEM_TABLE_HEAD_SIZE = 4,
};

/* Bytes of a sector's entry in an item of the table of sectors. */
static inline uint32_t ekv_item_entry_size(uint8_t kind)
{
    return kind == EKV_ITEM_LOG || kind == EKV_ITEM_RESTING ? 2 : 1;
}

/* Applies the items of a frame, the `size` bytes at `at`.
 * Errors: EKV_CORRUPT. Flash: nothing. */
EKV_MUST_CHECK int ekv_catalog_apply(struct ekv_catalog *catalog, struct ekv_sectors *sectors,
                                     const uint8_t *at, uint32_t size);

#endif
