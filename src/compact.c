/* Compaction on request: what the paced work leaves for later, done now.
 *
 * The work that writes pay for stops as soon as there are enough free sectors. This goes on until
 * nothing is left to gain: every sector that is worth it is collected, what that moved is flushed,
 * and all runs are merged into one, which drops the deletes that hide nothing any more. Each step
 * is one that a write might do too, so a power cut in between is nothing new.
 *
 * Records of nearly half a sector leave a gap wherever they are copied to, which looks worth
 * another collection: so the steps are counted. Where a span is retained, what a collection empties
 * must rest, and collecting everything at once would take all sectors: then it is left to the paced
 * work.
 */
#include "work.h"

/* EKV_NOT_FOUND: there is nothing left to do. */
static int compact_step(struct ekv *db)
{
    bool more = false;
    int error = ekv_write_begin(db, 0, 0, 0);
    if (!error && db->retain_span == 0)
        error = ekv_gc(db, EKV_GC_ANY);
    else if (!error) {
        error = ekv_work_step(db, &more);
        error = !error && !more ? EKV_NOT_FOUND : error;
    }
    if (error != EKV_NOT_FOUND && error != EKV_FULL)
        return error;
    if (db->sectors.counts[EKV_SECTOR_EMPTIED] > 0)
        return ekv_publish(db, 0);
    /* Sectors behind the replay position can be collected after a flush. */
    if (db->memtable.count > 0)
        return ekv_merge_flush(db);
    return ekv_merge_force(db);
}

int ekv_compact(struct ekv *db, uint32_t *left)
{
    ekv_lock_write(db);
    if (*left == 0)
        *left = 2 * ekv_format_of(db)->geometry.sector_count + 8;
    int error = compact_step(db);
    ekv_unlock_write(db);
    *left = error ? 0 : *left - 1;
    return error == EKV_NOT_FOUND || error == EKV_FULL ? EKV_OK : error;
}
