/* Flushing: the memtable becomes the newest run. */
#ifndef EKV_FLUSH_H
#define EKV_FLUSH_H

#include "lookup.h"
#include "publish.h"

/* Writes the memtable as a run and moves the replay position to the log's head.
 * Errors: EKV_FULL (no sector for the run's pages: nothing changed but pages that nobody names).
 * Flash: about 4.2 bytes a key and 1.1 for the filter, a manifest edit.
 * Power cut: the log is replayed as before it, or the run is there. */
EKV_MUST_CHECK int ekv_flush(struct ekv *db);

/* Writes a table as a run that is not part of the store yet: ekv_flush_built makes it the newest,
 * ekv_own_again gives it up. Flash: the run's pages. Power cut: nothing changed. */
EKV_MUST_CHECK int ekv_flush_build(struct ekv *db, const struct ekv_memtable *table);

/* Names the run that was built last; what the memtable holds must be in it. */
EKV_MUST_CHECK int ekv_flush_built(struct ekv *db);

/* Number of the log sector in which replay would begin after a flush: that of the head, or of the
 * first record of a transaction that is appending and that a commit record will cover. */
uint32_t ekv_flush_sequence(const struct ekv *db);

/* Bytes, and sectors, that the flush of a full memtable can take. */
uint32_t ekv_flush_size(const struct ekv *db);
uint32_t ekv_flush_sectors(const struct ekv *db);

#endif
