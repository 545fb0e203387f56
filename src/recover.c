/* Recovers from a power cut, at the first write after it.
 *
 * A power cut leaves one program in flight, in the manifest or in the log. First the manifest: what
 * mount read of it goes into a new chain, before any sector that is free by it is erased. A frame
 * that mount did not see, because it read badly, might name such a sector, and be read well later.
 *
 * Then the log. Only records that touch the last page written can have been in flight; everything
 * before is proven by the programs that followed. Mount read that page once; recovery copies its
 * live records, from that reading, to a new log sector and publishes that replay begins there, so
 * that nothing refers to the page any more.
 *
 * After a clean close the log goes on behind the close record with an open record. If power is lost
 * while that is programmed and nothing of it shows, the next session programs the same bytes at the
 * same place again.
 *
 * A log whose head could not be programmed is left in the same way: its last page is read from the
 * buffer, so that what was not programmed yet (copies that gc made, records of open transactions)
 * is not lost. The edit makes certain that the operation that failed is not there.
 */
#include "recover.h"

#include <assert.h>
#include <string.h>

#include "gc.h"
#include "own.h"
#include "reserve.h"
#include "value.h"

/* True if no more sectors are left than a collection leaves. */
static bool is_scarce(const struct ekv *db)
{
    return ekv_sectors_available(&db->sectors) <= ekv_reserve_index(db) + 1;
}

/* Offset in the old head up to which everything is in a run: the edit that says so proves it. */
static uint32_t flushed_end(const struct ekv *db, uint32_t sequence)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint64_t begin = ekv_position(format, sequence, format->body_offset);
    uint64_t flushed = db->catalog.flushed;
    return format->body_offset + (flushed > begin ? (uint32_t)(flushed - begin) : 0);
}

/* Moves what is live in the last page of the old log. What was flushed has no slot in the memtable,
 * and may begin in a page before it. */
static int move_suspects(struct ekv *db, uint32_t sector, uint32_t sequence, uint32_t end)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_found found = {.sequence = sequence};
    struct ekv_record_layout close = {.type = EKV_RECORD_CLOSE, .value_size = EKV_CLOSE_SIZE};
    uint32_t head = ekv_address(format, sector, 0);
    ekv_record_measure(format, &close);
    if (!db->log.copy || ekv_sector_of(format, db->log.copy_address) != sector)
        return EKV_OK;
    uint32_t page = db->log.copy_address - head;
    for (uint32_t offset = flushed_end(db, sequence); offset < end;) {
        int error = ekv_record_find(&db->log, head + offset, sequence, &found.record);
        /* A close record that was in flight once, and an open record behind it that was now: mount
         * has read it well, and it is not in the page that was kept. */
        if (error == EKV_NOT_FOUND && offset < page && offset + close.size == end)
            return EKV_OK;
        if (error)
            return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
        offset = ekv_offset_of(format, found.record.address) + found.record.layout.size;
        if (offset <= page)
            continue; /* proven by the program that followed */
        error = ekv_gc_record(db, &found);
        if (error)
            return error;
    }
    return EKV_OK;
}

/* Without a sector for a run: everything current that the memtable points to is written to the new
 * log. Deletes that hide nothing and what only snapshots see stay, as long as their sectors do. */
static int rewrite_memtable(struct ekv *db, uint32_t old_sequence)
{
    for (uint32_t i = 0; i < db->memtable.count; i++) {
        struct ekv_found found;
        uint32_t address = db->memtable.slots[i].address;
        int error = ekv_found_at(&db->log, address, &found);
        if (!error && found.sequence <= old_sequence)
            error = ekv_gc_record(db, &found);
        if (error)
            return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
    }
    return EKV_OK;
}

/* Bytes that rewrite_memtable appends for records that do not lie in sector `but`. */
static int rewritten_size(const struct ekv *db, uint32_t but, uint32_t old_sequence, uint32_t *size)
{
    const struct ekv_format *format = ekv_format_of(db);
    *size = 0;
    for (uint32_t i = 0; i < db->memtable.count; i++) {
        struct ekv_found found;
        uint32_t address = db->memtable.slots[i].address;
        int error = ekv_found_at(&db->log, address, &found);
        if (error)
            return error;
        found.record.layout.type |= EKV_RECORD_MOVED;
        ekv_record_measure(format, &found.record.layout);
        if (found.sequence <= old_sequence && ekv_sector_of(format, address) != but)
            *size += found.record.layout.size;
    }
    return EKV_OK;
}

/* Where sectors are few each recovery must leave as many as it found, since another power cut may
 * come right after it: the old head is emptied if it can be. */
static int empty_head(struct ekv *db, uint32_t sector, uint32_t sequence)
{
    uint32_t spare;
    /* With retention its stamp tells which records of the sector before count for history. */
    bool retains = db->retain_count > 1 || db->retain_span > 0;
    if (sector == EKV_NO_SECTOR || retains || !is_scarce(db))
        return EKV_OK;
    int error = rewritten_size(db, sector, sequence, &spare);
    if (!error)
        error = ekv_gc_head(db, sector, sequence, flushed_end(db, sequence), spare);
    return error == EKV_FULL ? EKV_OK : error;
}

/* Whether the memtable becomes a run. That takes a sector; if few are left and the records fit into
 * the head they are written there. */
static int becomes_run(const struct ekv *db, uint32_t old_sequence, bool *run)
{
    uint32_t size;
    *run = db->memtable.count == 0;
    int error = rewritten_size(db, EKV_NO_SECTOR, old_sequence, &size);
    if (!error && ekv_sectors_available(&db->sectors) > 0 &&
        db->catalog.run_count + 1 < db->catalog.run_capacity)
        *run |= !is_scarce(db) || size > ekv_log_room(&db->log);
    return error;
}

static int move_away(struct ekv *db, uint32_t old_sector, uint32_t old_sequence, uint32_t old_end)
{
    uint32_t sector = db->log.sector, sequence = db->log.sequence;
    bool run;
    int error = move_suspects(db, old_sector, old_sequence, old_end);
    if (!error)
        error = empty_head(db, old_sector, old_sequence);
    if (error)
        return error;
    db->log.copy = NULL;
    error = becomes_run(db, old_sequence, &run);
    if (!error && run)
        error = ekv_flush(db);
    if (error ? error != EKV_FULL : run)
        return error;
    db->rewritten = true;
    db->log.last_resort = true; /* what was in use until now can be collected then */
    error = rewrite_memtable(db, old_sequence);
    db->log.last_resort = false;
    if (error)
        return error;
    db->catalog.replay_sector = sector;
    db->catalog.replay_sequence = sequence;
    db->catalog.replay_offset = ekv_format_of(db)->body_offset;
    db->catalog.flushed = 0; /* nothing is in a run that was not before */
    return ekv_publish(db, 0);
}

/* Keeps the page that the log of this session ends in, or all those that are still in the buffer.
 */
static int copy_tail(struct ekv *db)
{
    struct ekv_log *log = &db->log;
    const struct ekv_format *format = ekv_format_of(db);
    if (log->offset == format->body_offset)
        return EKV_OK; /* nothing was appended in this sector */
    uint32_t first = ekv_min(log->flushed, log->offset - 1) / EKV_PAGE_SIZE;
    uint32_t address = ekv_address(format, log->sector, first * EKV_PAGE_SIZE);
    uint32_t size = ((log->offset - 1) / EKV_PAGE_SIZE + 1 - first) * EKV_PAGE_SIZE;
    assert(size <= db->builder.page_count * EKV_PAGE_SIZE);
    memmove(db->builder.pages, log->pages, size); /* the buffer begins a page before */
    uint32_t flushed = log->flushed % EKV_PAGE_SIZE;
    if (log->flushed == log->offset)
        flushed = EKV_PAGE_SIZE; /* nothing is buffered */
    int error = ekv_sectors_read(&db->sectors, address, db->builder.pages, flushed);
    if (error)
        return error;
    uint32_t used = log->offset - first * EKV_PAGE_SIZE;
    memset(db->builder.pages + used, 0xff, size - used);
    ekv_log_widen(log, 1); /* the new log must not fill those pages */
    log->copy = db->builder.pages;
    log->copy_address = address;
    log->copy_size = size;
    return EKV_OK;
}

/* Gives up the successor of the old head: it is free now, or (EKV_SECTOR_EMPTIED) as soon as the
 * manifest says so. Nothing is live in it; where something is, the stamp that named it lied. */
static void free_next(struct ekv *db, uint32_t next, enum ekv_sector_state state)
{
    if (next < ekv_format_of(db)->geometry.sector_count &&
        ekv_sector_state(&db->sectors, next) == EKV_SECTOR_LOG && db->sectors.lives[next] == 0)
        ekv_sector_set(&db->sectors, next, state);
}

/* Up to where the old head's records are proven: by the program that followed, or by the flush. The
 * last page written is what was in flight; it may lie behind the records' end. */
static uint32_t proven_end(const struct ekv *db)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t end = ekv_max(format->body_offset, ekv_offset_of(format, db->log.copy_address));
    if (!db->log.copy || ekv_sector_of(format, db->log.copy_address) != db->log.sector)
        return db->log.offset;
    end = ekv_max(end, flushed_end(db, db->log.sequence));
    return ekv_min(end, db->log.offset);
}

/* A crash of the host may have left sectors of the log behind what it took of it. They count for
 * nothing, but their numbers come again, and their records would be old versions of their keys that
 * never were. */
static int erase_later(struct ekv *db, uint32_t sequence)
{
    uint32_t count = ekv_format_of(db)->geometry.sector_count;
    for (uint32_t i = 0; ekv_flash_unordered(&db->sectors.flash) && i < count; i++) {
        struct ekv_stamp_b stamp;
        if (!ekv_own_usable(ekv_sector_state(&db->sectors, i)))
            continue;
        int error = ekv_sector_stamp_read(&db->sectors, i, &stamp);
        if (!error && stamp.kind == EKV_KIND_LOG && stamp.sequence > sequence)
            error = ekv_sector_erase(&db->sectors, i);
        if (error < 0)
            return error;
    }
    return EKV_OK;
}

static int recover(struct ekv *db)
{
    uint32_t sector = db->log.sector, sequence = db->log.sequence, end = db->log.offset;
    uint32_t next = db->log.next == sector ? EKV_NO_SECTOR : db->log.next;
    /* While nothing shows of an open record that failed, the next mount takes the log for closed
     * and goes on in it: then the successor must be as it is until the new log counts, and must be
     * nobody's from then on, for it has no stamp. */
    bool closed = db->closed;
    /* Records behind what the manifest counts prove its last frame. Without any, nothing was
     * counted since. */
    bool replayed = ekv_log_position(&db->log) > db->catalog.counted;
    int error = EKV_OK;
    if (!db->log.failed) /* else the manifest is this session's, and certain */
        error = ekv_manifest_settle(&db->manifest, &db->catalog, replayed);
    if (error)
        return error;
    free_next(db, next, closed ? EKV_SECTOR_EMPTIED : EKV_SECTOR_FREE);
    /* Its stamp may have been in flight: then it must not stay, as nobody may be able to read it.
     */
    if (end == ekv_format_of(db)->body_offset && sequence != db->catalog.replay_sequence) {
        ekv_sector_set(&db->sectors, sector, EKV_SECTOR_FREE);
        sector = EKV_NO_SECTOR;
    }
    error = erase_later(db, sequence);
    if (!error)
        error = ekv_log_start(&db->log, sequence + 2, proven_end(db) | EKV_END_RESUMED);
    if (error)
        return error;
    error = move_away(db, sector, sequence, end);
    db->failed |= error != EKV_OK;
    db->closed &= error != EKV_OK;
    return error;
}

/* The new log counts, or there is none yet: then the old one is read from its buffer as before. If
 * it failed half-way, the store is read-only and what was kept is still read. */
static void release_tail(struct ekv *db, uint32_t old_sequence, int error)
{
    struct ekv_log *log = &db->log;
    if (error && log->sequence != old_sequence)
        return;
    if (error && log->copy)
        memmove(log->pages, log->copy, log->copy_size);
    log->copy = NULL;
    ekv_log_widen(log, db->builder.page_count);
}

int ekv_recover(struct ekv *db)
{
    bool in_session = db->log.failed;
    uint32_t sequence = db->log.sequence;
    ekv_cache_clear(&db->cache, false); /* what it names may lie in what was in flight */
    int error = in_session ? copy_tail(db) : EKV_OK;
    if (!error) {
        db->unclean = true;
        db->appending = NULL; /* its records lie before the place where replay will begin */
        error = recover(db);
        db->unclean = error && !in_session;
    }
    if (in_session)
        release_tail(db, sequence, error);
    return error;
}

void ekv_mend(struct ekv *db)
{
    if (!db->log.failed || !ekv_is_writable(db))
        return;
    db->failed = ekv_recover(db) != EKV_OK;
}

/* EKV_FULL if the free sectors do not take what the memtable points to. */
static int rewrite_check(const struct ekv *db)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t sectors = 1, used = 0, room = ekv_format_record_size_max(format);
    for (uint32_t i = 0; i < db->memtable.count; i++) {
        struct ekv_record record;
        int error = ekv_record_read(&db->log, db->memtable.slots[i].address, &record);
        if (error)
            return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
        record.layout.type |= EKV_RECORD_MOVED;
        ekv_record_measure(format, &record.layout);
        sectors += used + record.layout.size > room;
        used = used + record.layout.size > room ? record.layout.size : used + record.layout.size;
    }
    return sectors <= ekv_sectors_available(&db->sectors) ? EKV_OK : EKV_FULL;
}

int ekv_restart(struct ekv *db)
{
    uint32_t sector = db->log.sector, sequence = db->log.sequence;
    int error = rewrite_check(db);
    if (error)
        return error;
    db->appending = NULL;
    error = ekv_log_flush(&db->log);
    if (!error)
        error = ekv_log_start(&db->log, sequence + 1, db->log.offset);
    db->unclean = true; /* nothing is flushed on the way */
    if (!error)
        error = move_away(db, sector, sequence, 0);
    db->unclean = false;
    if (error)
        db->failed = true;
    return error;
}
