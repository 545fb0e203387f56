/* Merging runs: tiers of like-sized runs become one run of the next level, a page a step. */
#ifndef EKV_MERGE_H
#define EKV_MERGE_H

#include "flush.h"

/* Does one step of the running merge, or begins one if a level has enough runs; `busy` says whether
 * there was anything to do. Errors: EKV_FULL (waits for gc; the merge stays).
 * Flash: one page, or the manifest edit that ends the merge.
 * Power cut: before that edit the inputs are the store's runs, after it the output is. */
EKV_MUST_CHECK int ekv_merge_step(struct ekv *db, bool *busy);

/* Merges runs to the end, whatever their levels, to free index sectors: all of them, or the newest
 * if there are too many. Called until there is one run, it needs ekv_reserve_index sectors at a
 * time. EKV_NOT_FOUND: there is one run or none. */
EKV_MUST_CHECK int ekv_merge_force(struct ekv *db);

/* Flushes the memtable; before that it merges, if there are too many runs or is no room for
 * another. Errors: EKV_FULL: even ekv_reserve_index sectors were not there. */
EKV_MUST_CHECK int ekv_merge_flush(struct ekv *db);

/* Steps until another flush may come. */
EKV_MUST_CHECK int ekv_merge_drain(struct ekv *db);

/* True if another flush would leave the store with too many runs: merges must end first. */
bool ekv_merge_urgent(const struct ekv *db);

#endif
