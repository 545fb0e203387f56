/* The manifest as it is written: which sectors of the ring its chain takes, one after the other. */
#ifndef EKV_CHAIN_H
#define EKV_CHAIN_H

#include "sector.h"

enum { EKV_CHAIN_READY_MAX = 3 };

struct ekv_manifest {
    struct ekv_sectors *sectors;
    uint32_t sector;   /* of the chain, that frames are appended to */
    uint32_t sequence; /* of that sector */
    uint32_t base;     /* sequence number of the chain's first sector */
    uint32_t offset;
    uint32_t frame_size; /* of the frame in sectors->scratch, 0: none begun */
    uint32_t frame_limit;
    uint32_t guarded[2][2]; /* sequence ranges of chains that must not be overwritten yet */
    uint32_t end[2];        /* sequence and offset behind the last group that load read */
    uint32_t ready[EKV_CHAIN_READY_MAX]; /* sectors of the ring that were erased ahead */
    uint32_t ready_count;
    uint32_t run_count; /* of the order that the chain ends with */
    uint8_t *copy;      /* a page: to hold a frame while others are read */
    bool resting;       /* emptied sectors are not free at the next mount but rest */
    bool settled;       /* by ekv_manifest_settle */
    bool torn;          /* mount: behind the last whole frame something was programmed */
    bool failed;
};

/* The most sectors of one chain: a third of the ring. */
uint32_t ekv_chain_max(const struct ekv_manifest *manifest);

/* Erases the next ring sector that nobody needs, unless it is ready, and makes it the chain's
 * newest; `base` EKV_NO_SECTOR begins a new chain with it. After a power cut (`suspect`) a sector
 * of the ring may hold a stamp that reads well only sometimes, with the number that would come
 * next: so each sector of the ring then counts on from a number of its own. So it is after a stamp
 * that failed, which may read well all the same; a chain that had begun already cannot skip a
 * number and ends there. Errors: EKV_IO. Flash: an erase, two programs; a sync within a chain.
 * Power cut: the chain is as before, or has a sector without frames. */
EKV_MUST_CHECK int ekv_chain_extend(struct ekv_manifest *manifest, uint32_t sequence, uint32_t base,
                                    bool suspect);

/* Erases a ring sector that comes next, so that `count` are ready. EKV_NOT_FOUND: they are, or no
 * other can be. A mount does not know of them. Flash: an erase and a program. Power cut: nothing
 * changed. */
EKV_MUST_CHECK int ekv_chain_prepare(struct ekv_manifest *manifest, uint32_t count);

#endif
