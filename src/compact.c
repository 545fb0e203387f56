/* Compaction on request: what the paced work leaves for later, done now.
 *
 * The work that writes pay for stops as soon as there are enough free sectors. This goes on until
 * nothing is left to gain: every sector that is worth it is collected, what that moved is flushed,
 * and all runs are merged into one, which drops the deletes that hide nothing any more. Each step
 * is one that a write might do too, so a power cut in between is nothing new.
 */
#include "work.h"

/* EKV_NOT_FOUND: there is nothing left to do. */
static int compact_step(struct ekv *db)
{
    int error = ekv_write_begin(db, 0, 0, 0);
    if (!error)
        error = ekv_gc(db);
    if (error != EKV_NOT_FOUND && error != EKV_FULL)
        return error;
    if (db->sectors.counts[EKV_SECTOR_EMPTIED] > 0)
        return ekv_publish(db, 0);
    /* Sectors behind the replay position can be collected after a flush. */
    if (db->memtable.count > 0) {
        error = ekv_merge_drain(db);
        return error ? error : ekv_flush(db);
    }
    return ekv_merge_force(db);
}

int ekv_compact(struct ekv *db, bool *more)
{
    ekv_lock_write(db);
    int error = compact_step(db);
    ekv_unlock_write(db);
    *more = error == EKV_OK;
    return error == EKV_NOT_FOUND || error == EKV_FULL ? EKV_OK : error;
}
