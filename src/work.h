/* Room for what is written, and the work that each write pays for. */
#ifndef EKV_WORK_H
#define EKV_WORK_H

#include "gc.h"
#include "merge.h"

/* Bytes of live records that the log can hold. */
uint64_t ekv_capacity(const struct ekv *db);

/* Bytes of records that can still be written. */
uint64_t ekv_space(const struct ekv *db);

/* Makes the store ready for a write of up to `size` bytes of log and `slots` keys: recovers after a
 * power cut, reopens after a clean close, checks that the live data will fit (`growth` bytes more;
 * 0 for what only frees), collects until there are sectors, flushes a full memtable.
 * Errors: EKV_READ_ONLY, EKV_FULL, EKV_PINNED: nothing changed for any reader. */
EKV_MUST_CHECK int ekv_write_begin(struct ekv *db, uint64_t size, uint64_t growth, uint32_t slots);

/* Ends an operation that ekv_write_begin began and that has come to `error`, which it returns. Pays
 * for a write that went well: a merge step, a collection if sectors run low, an erase; what fails
 * of these shows at a later write, since the write they follow is durable already. */
EKV_MUST_CHECK int ekv_write_end(struct ekv *db, int error);

/* One step of that work; `more` says whether another one would find something to do. */
EKV_MUST_CHECK int ekv_work_step(struct ekv *db, bool *more);

#endif
