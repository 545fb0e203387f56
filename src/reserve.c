/* What a store must keep free to be emptied, whenever its power is lost.
 *
 * A delete needs a place in the log and one in the memtable. The log is made room in by
 * collections, the memtable by a flush, and the index that flushes fill by a merge of all runs,
 * after which no delete that was flushed is needed any more. So the order is: the index first.
 * Sectors in which all runs can become one, and the memtable another, are left by everybody else:
 * then merge and flush never lack room, whatever the index looks like, and a power cut before their
 * edit gives the sectors back.
 *
 * Beside those the log has three: one that a collection fills before the sector that it empties is
 * free, one that a recovery takes beside the old head, which may be full, and one that puts leave
 * to deletes. Small flash has fewer and must hold less: see ekv_capacity.
 */
#include "reserve.h"

enum { TINY = 5, SMALL = 8 }; /* sectors beside the manifest's */

/* Bytes of a sector that pages of runs can fill. */
static uint32_t index_body(const struct ekv *db)
{
    const struct ekv_format *format = ekv_format_of(db);
    return format->geometry.sector_size - format->body_offset;
}

/* Bytes of index that a run of so many entries takes. What must lie within a page leaves less than
 * its own size unused before it. More than one leaf take inner pages beside a byte for each entry,
 * and a builder wants room for a page of each level before it writes one. */
static uint64_t run_size(const struct ekv *db, uint64_t entries)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint64_t leaf = entries * (format->pointer_size + 1u) + EKV_PAGE_HEAD_SIZE;
    if (leaf <= EKV_PAGE_SIZE)
        return 2 * (uint64_t)ekv_align((uint32_t)leaf, format->geometry.write_unit);
    uint64_t margin = (uint64_t)db->builder.height_max * EKV_PAGE_SIZE;
    if (format->geometry.sector_size < 4 * EKV_PAGE_SIZE)
        margin *= 2; /* only one of two pages is whole */
    return entries * (format->pointer_size + 2u) + margin;
}

static uint64_t filter_size(const struct ekv *db, uint64_t entries)
{
    uint32_t size = (uint32_t)(entries / EKV_FILTER_KEYS + 1) * EKV_FILTER_BLOCK_SIZE;
    return EKV_FILTER_BLOCK_SIZE + ekv_align(size, ekv_format_of(db)->geometry.write_unit);
}

static uint64_t flush_size(const struct ekv *db)
{
    return run_size(db, db->memtable.limit) + filter_size(db, db->memtable.limit);
}

/* Live keys, and those in the memtable that may be deletes of keys in the runs. */
static uint64_t keys_most(const struct ekv *db)
{
    return (uint64_t)db->catalog.keys + db->catalog.keys_aside + db->memtable.limit;
}

/* Bytes of index that ekv_merge_force takes until all runs are one, with a memtable flushed before.
 * Only the merge of all drops what nobody needs. */
static uint64_t merged_size(const struct ekv *db)
{
    const struct ekv_catalog *catalog = &db->catalog;
    uint64_t all = db->memtable.limit, newest = 0, size = 0;
    for (uint32_t i = 0; i < catalog->run_count; i++) {
        all += catalog->runs[i].entry_count;
        if (i + db->merge.input_max <= catalog->run_count)
            newest = all;
    }
    if (catalog->run_count >= db->merge.input_max)
        size = run_size(db, newest) + filter_size(db, newest);
    if (!db->snapshots && db->retain_count < 2 && all > keys_most(db))
        all = keys_most(db); /* one version of each key */
    return size + run_size(db, all);
}

static uint32_t bodies_for(const struct ekv *db, uint64_t size)
{
    return (uint32_t)((size + index_body(db) - 1) / index_body(db));
}

/* With more than a sector, what a flush takes is counted apart: a power cut behind it loses the
 * rest of the sector that it began. */
static uint32_t sectors_of(const struct ekv *db, uint64_t merged)
{
    uint64_t flushed = flush_size(db);
    if (merged + flushed <= index_body(db))
        return 1;
    return bodies_for(db, merged) + bodies_for(db, flushed);
}

uint32_t ekv_reserve_index(const struct ekv *db)
{
    uint64_t merged = merged_size(db), taken = 0;
    if (db->merge.phase != EKV_MERGE_IDLE) /* this much it need not take any more */
        taken = (uint64_t)db->merge.builder.run.entry_count * (ekv_format_of(db)->pointer_size + 2);
    return sectors_of(db, merged - (taken < merged ? taken : merged));
}

uint32_t ekv_reserve_index_least(const struct ekv *db)
{
    return sectors_of(db, run_size(db, keys_most(db)));
}

bool ekv_reserve_holds_flush(const struct ekv *db)
{
    uint64_t merged = merged_size(db), flushed = flush_size(db), room = ekv_index_room(&db->index);
    uint32_t available = ekv_sectors_available(&db->sectors);
    uint32_t taken = flushed > room ? bodies_for(db, flushed) : 0;
    if (available > bodies_for(db, merged) + taken)
        return true; /* one is left for a recovery */
    if (ekv_reserve_surplus(db) > 0 || (taken > 0 && merged + flushed <= index_body(db)))
        return false;
    return room + (uint64_t)available * index_body(db) >= merged + flushed;
}

uint32_t ekv_reserve_log(const struct ekv *db)
{
    uint32_t count = ekv_format_of(db)->geometry.sector_count - ekv_format_of(db)->ring_count;
    return count <= TINY ? 1 : count <= SMALL ? 2 : 3;
}

uint32_t ekv_reserve_collection(const struct ekv *db)
{
    return ekv_reserve_index(db) + (ekv_reserve_log(db) > 2);
}

uint32_t ekv_reserve_surplus(const struct ekv *db)
{
    uint32_t merged = bodies_for(db, run_size(db, keys_most(db))) + 1;
    uint32_t used = db->sectors.counts[EKV_SECTOR_INDEX];
    return db->catalog.run_count > 1 && used > merged ? used - merged : 0;
}
