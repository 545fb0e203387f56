/* The simulated flash with a tally of what each kind of sector costs. */
#ifndef EKV_TOOL_BENCH_FLASH_H
#define EKV_TOOL_BENCH_FLASH_H

#include "host/nor.h"

/* What an operation touched: the stamps at the begin of a sector, or its content. */
enum bench_area {
    BENCH_STAMPS,
    BENCH_LOG,
    BENCH_INDEX,
    BENCH_MANIFEST,
    BENCH_STALE, /* not put to use since the start */
    BENCH_AREA_COUNT,
};

struct bench_flash {
    struct ekv_flash flash; /* for ekv_mount; its context is this struct, so it must not move */
    struct nor *nor;
    struct nor_counts tally[BENCH_AREA_COUNT]; /* erases count for what the sector was before */
    uint8_t *kinds;                            /* of each sector, enum bench_area */
    uint32_t stamp_b_offset;
    uint32_t body_offset;
};

/* Puts the tally before a flash. The store must be formatted through it. */
void bench_flash_init(struct bench_flash *bench, struct nor *nor, uint64_t store_id);
void bench_flash_free(struct bench_flash *bench);

const char *bench_area_name(enum bench_area area);

struct nor_counts bench_counts_between(const struct nor_counts *from, const struct nor_counts *to);
void bench_counts_add(struct nor_counts *sum, const struct nor_counts *more);

#endif
