/* Collection: live records of a sector move to the log's head, and the sector is empty. */
#ifndef EKV_GC_H
#define EKV_GC_H

#include "flush.h"

enum {
    EKV_GC_EXACTLY,
    EKV_GC_EARLY = EKV_LIVE_MAX / 4,
    EKV_GC_ANY = EKV_LIVE_MAX * 19 / 20,
    EKV_GC_MANY,
};

/* Collects the log sector with the least live in it, if that is less than `most` (of EKV_LIVE_MAX;
 * EKV_GC_ANY: all that is worth it; EKV_GC_EXACTLY: the same, by looking each record up, deletes
 * and records of open transactions included; EKV_GC_MANY, for who takes many: the next one with
 * nothing to move, which takes no walk over all sectors, or any). EKV_NOT_FOUND: there is none.
 * Errors: EKV_FULL (no sector to move records to).
 * Flash: reads the sector and looks each record up; programs what is live.
 * Power cut: records are found at their old or their new place. */
EKV_MUST_CHECK int ekv_gc(struct ekv *db, uint32_t most);

/* Empties the log sector that was the head before the recovery that is going on, if its records fit
 * into the head, with `spare` bytes to be left, and into the memtable; up to offset `in_run` they
 * have no slot there yet. Errors: EKV_FULL: they do not fit, nothing was moved. */
EKV_MUST_CHECK int ekv_gc_head(struct ekv *db, uint32_t sector, uint32_t sequence, uint32_t in_run,
                               uint32_t spare);

/* True if there is a sector to collect in which a program failed. */
bool ekv_gc_bad(const struct ekv *db);

/* Moves one record to the head if something still refers to it. */
EKV_MUST_CHECK int ekv_gc_record(struct ekv *db, const struct ekv_found *found);

#endif
