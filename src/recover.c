/* Replays the log at mount, and recovers from a power cut at the first write.
 *
 * A power cut leaves one program in flight: its page may read well now and differently later. Only
 * records that touch the last page written can be part of it; everything before is proven by the
 * programs that followed. Mount decides once what it reads there; recovery then copies the live
 * records of that page to a new log sector and writes a checkpoint that begins replay there, so
 * that nothing refers to the page any more. The manifest's own last frames may be unstable for the
 * same reason: the checkpoint goes into a new chain.
 *
 * After a clean close the log goes on behind the close record with an open record. If power is lost
 * while that is programmed, the next session programs the same bytes at the same place again.
 */
#include "recover.h"

#include <assert.h>
#include <string.h>

#include "value.h"

/* --- Sectors of runs ------------------------------------------------------------------------- */

static int own_sector(void *context, uint32_t sector)
{
    struct ekv *db = context;
    enum ekv_sector_state state;
    if (sector >= ekv_format_of(db)->geometry.sector_count)
        return ekv_corrupt();
    state = ekv_sector_state(&db->sectors, sector);
    if (state == EKV_SECTOR_FREE)
        ekv_sector_set(&db->sectors, sector, EKV_SECTOR_INDEX);
    else if (state != EKV_SECTOR_INDEX)
        return ekv_corrupt();
    if (db->sectors.lives[sector] == UINT8_MAX)
        return ekv_corrupt();
    db->sectors.lives[sector]++;
    ekv_sector_clean(&db->sectors, sector);
    return EKV_OK;
}

static int own_runs(struct ekv *db)
{
    for (uint32_t i = 0; i < db->catalog.run_count; i++) {
        int error = ekv_run_sectors(&db->index, &db->catalog.runs[i], own_sector, db);
        if (error)
            return error;
    }
    return EKV_OK;
}

/* --- Replay ---------------------------------------------------------------------------------- */

/* Makes a record of the log current, as the write that appended it did. */
static int replay_record(struct ekv *db, const struct ekv_record *record)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_found old;
    uint32_t sequence;
    uint64_t version;
    int found = ekv_lookup_same(db, record, &old);
    if (found < 0)
        return found;
    if (db->memtable.count == db->memtable.capacity)
        return EKV_MEMORY; /* written with a larger memtable, and not closed */
    int error = ekv_log_sequence(&db->log, record->address, &sequence);
    if (!error)
        error = ekv_record_version(&db->log, record, sequence, &version);
    if (error)
        return error;
    db->last_version = version > db->last_version ? version : db->last_version;
    uint32_t offset = ekv_offset_of(format, record->address);
    if (ekv_position(format, sequence, offset) < db->catalog.counted)
        return ekv_point(db, record, true);
    return ekv_apply(db, record, found == EKV_OK ? &old : NULL);
}

/* Replays the records of a transaction whose commit record is at the log's end. They lie between
 * the first one's address and here; others (moved ones) between them are done already. */
static int replay_transaction(struct ekv *db, const struct ekv_record *commit)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint8_t value[EKV_COMMIT_SIZE];
    if (commit->layout.value_size != sizeof value)
        return ekv_corrupt();
    int error = ekv_record_bytes(&db->log, commit, commit->layout.head_size, value, sizeof value);
    if (error)
        return error;
    uint32_t left = ekv_load32(value), address = ekv_load32(value + 4);
    uint32_t sequence,
        steps = format->geometry.sector_count * format->geometry.sector_size / EKV_CRC_SIZE;
    error = ekv_log_sequence(&db->log, address, &sequence);
    while (!error && address != commit->address && steps-- > 0) {
        struct ekv_record record;
        error = ekv_record_read(&db->log, address, &record);
        if (!error)
            error = ekv_record_verify(&db->log, &record, sequence);
        if (error == EKV_OK) {
            uint8_t kind = ekv_record_kind(&record);
            bool pending = kind <= EKV_RECORD_HEAD && !(record.layout.type & EKV_RECORD_COMMITS);
            if (pending && left-- == 0)
                return ekv_corrupt();
            if (pending)
                error = replay_record(db, &record);
            address += record.layout.size;
            continue;
        }
        struct ekv_stamp_b stamp;
        if (error == EKV_IO)
            return error;
        error = ekv_sector_stamp_read(&db->sectors, ekv_sector_of(format, address), &stamp);
        if (error)
            break;
        address = ekv_address(format, stamp.next, format->body_offset);
        error = ekv_log_sequence(&db->log, address, &sequence);
    }
    if (error == EKV_NOT_FOUND || left != 0)
        return ekv_corrupt();
    return error;
}

static int replay_close(struct ekv *db, const struct ekv_record *record)
{
    uint8_t value[EKV_CLOSE_SIZE];
    const struct ekv_format *format = ekv_format_of(db);
    if (record->layout.value_size != sizeof value)
        return ekv_corrupt();
    int error = ekv_record_bytes(&db->log, record, record->layout.head_size, value, sizeof value);
    if (error)
        return error;
    uint32_t address = ekv_load32(value);
    uint32_t sector = ekv_sector_of(format, address);
    uint32_t virgin = (uint32_t)ekv_load(value + 4, 3);
    db->closed = true;
    if (virgin <= db->sectors.virgin)
        db->sectors.virgin = virgin;
    db->index.sector = EKV_NO_SECTOR;
    if (sector < format->geometry.sector_count &&
        ekv_sector_state(&db->sectors, sector) == EKV_SECTOR_INDEX) {
        db->index.sector = sector;
        db->index.offset = ekv_offset_of(format, address);
    }
    return EKV_OK;
}

static int replay_one(struct ekv *db, const struct ekv_record *record)
{
    db->closed = false;
    switch (ekv_record_kind(record)) {
    case EKV_RECORD_PUT:
    case EKV_RECORD_HEAD:
    case EKV_RECORD_DELETE:
        if (!(record->layout.type & EKV_RECORD_COMMITS))
            return EKV_OK; /* until its commit record */
        return replay_record(db, record);
    case EKV_RECORD_COMMIT:
        return replay_transaction(db, record);
    case EKV_RECORD_CLOSE:
        return replay_close(db, record);
    default:
        return EKV_OK;
    }
}

/* Looks for a whole record behind the place where the log of this sector seems to end. One in a
 * later page than what was in flight there cannot come from a power cut. */
static int find_resumption(struct ekv *db, uint32_t *offset)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_record record;
    uint32_t at = db->log.offset;
    uint32_t flight = at;
    uint32_t head = ekv_address(format, db->log.sector, 0);
    int error = ekv_record_read(&db->log, head + at, &record);
    if (!error)
        flight = at + record.layout.size - 1;
    if (error < 0)
        return error;
    for (at += format->alignment; at < format->geometry.sector_size; at += format->alignment) {
        if (at / EKV_PAGE_SIZE <= flight / EKV_PAGE_SIZE)
            continue;
        error = ekv_record_read(&db->log, head + at, &record);
        if (!error)
            error = ekv_record_verify(&db->log, &record, db->log.sequence);
        if (error == EKV_OK) {
            *offset = at;
            return EKV_OK;
        }
        if (error == EKV_IO)
            return error;
    }
    return EKV_NOT_FOUND;
}

/* Puts the replay's place at the begin of a log sector. EKV_NOT_FOUND if it is not the one that
 * `sequence` says. */
static int enter_sector(struct ekv *db, uint32_t sector, uint32_t sequence, uint32_t offset,
                        struct ekv_stamp_b *stamp)
{
    const struct ekv_format *format = ekv_format_of(db);
    if (sector < format->ring_count || sector >= format->geometry.sector_count)
        return EKV_NOT_FOUND;
    int error = ekv_sector_stamp_read(&db->sectors, sector, stamp);
    if (error)
        return error;
    if (stamp->kind != EKV_KIND_LOG || stamp->sequence != sequence)
        return EKV_NOT_FOUND;
    enum ekv_sector_state state = ekv_sector_state(&db->sectors, sector);
    if (state == EKV_SECTOR_FREE)
        ekv_sector_set(&db->sectors, sector, EKV_SECTOR_LOG);
    else if (state != EKV_SECTOR_LOG)
        return ekv_corrupt();
    db->sectors.virgin =
        ekv_max(db->sectors.virgin, ekv_min(stamp->virgin, format->geometry.sector_count));
    db->sectors.virgin_saved = db->sectors.virgin;
    db->log.sector = sector;
    db->log.sequence = sequence;
    db->log.offset = db->log.flushed = offset;
    db->log.next = stamp->next;
    return EKV_OK;
}

/* Where no record follows: the log goes on in the successor, or behind damage, or it ends here. */
static int replay_onward(struct ekv *db, bool *ended)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t end = db->log.offset;
    struct ekv_log here = db->log;
    struct ekv_stamp_b stamp;
    int error = enter_sector(db, here.next, here.sequence + 1, format->body_offset, &stamp);
    if (error == EKV_OK && stamp.previous_end == end)
        return EKV_OK;
    if (error < 0)
        return error;
    bool goes_on = error == EKV_OK;
    db->log = here;
    error = find_resumption(db, &db->log.offset);
    if (error == EKV_OK) {
        db->log.flushed = db->log.offset;
        db->read_only = db->damaged = true; /* nothing is written over what is left */
        return EKV_OK;
    }
    if (error != EKV_NOT_FOUND)
        return error;
    if (goes_on) {
        db->read_only = db->damaged = true;
        return enter_sector(db, here.next, here.sequence + 1, format->body_offset, &stamp);
    }
    db->log.offset = db->log.flushed = end;
    *ended = true;
    return EKV_OK;
}

static int replay_log(struct ekv *db)
{
    const struct ekv_catalog *catalog = &db->catalog;
    struct ekv_stamp_b stamp;
    uint32_t rolls = 0;
    bool ended = false;
    int error = enter_sector(db, catalog->replay_sector, catalog->replay_sequence,
                             catalog->replay_offset, &stamp);
    if (error)
        return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
    while (!ended) {
        struct ekv_record record;
        uint32_t address = ekv_address(ekv_format_of(db), db->log.sector, db->log.offset);
        error = ekv_record_read(&db->log, address, &record);
        if (!error)
            error = ekv_record_verify(&db->log, &record, db->log.sequence);
        if (error == EKV_OK) {
            error = replay_one(db, &record);
            db->log.offset += record.layout.size;
            db->log.flushed = db->log.offset;
        } else if (error != EKV_IO) {
            if (rolls++ > ekv_format_of(db)->geometry.sector_count * 2)
                return ekv_corrupt();
            error = replay_onward(db, &ended);
        }
        if (error)
            return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
    }
    return EKV_OK;
}

int ekv_replay(struct ekv *db)
{
    int error = ekv_manifest_load(&db->manifest, &db->catalog);
    if (!error)
        error = own_runs(db);
    if (!error)
        error = replay_log(db);
    if (error)
        return error;
    if (ekv_format_of(db)->geometry.program_once)
        db->closed = false;
    db->unclean = !db->closed;
    if (db->unclean)
        db->index.sector = EKV_NO_SECTOR;
    else if (ekv_sector_state(&db->sectors, db->log.next) == EKV_SECTOR_FREE)
        ekv_sector_set(&db->sectors, db->log.next, EKV_SECTOR_LOG);
    db->recovered = db->unclean;
    return EKV_OK;
}

/* --- Recovery -------------------------------------------------------------------------------- */

/* Moves what is live in the last page of the old log. */
static int move_suspects(struct ekv *db, const struct ekv_log *old)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_found found = {.sequence = old->sequence};
    uint32_t page = (old->offset - 1) / EKV_PAGE_SIZE * EKV_PAGE_SIZE;
    for (uint32_t offset = format->body_offset; offset < old->offset;) {
        int error =
            ekv_record_read(&db->log, ekv_address(format, old->sector, offset), &found.record);
        if (error)
            return error == EKV_NOT_FOUND ? EKV_OK : error;
        offset += found.record.layout.size;
        if (offset <= page)
            continue;
        error = ekv_record_verify(&db->log, &found.record, old->sequence);
        if (!error)
            error = ekv_gc_record(db, &found);
        if (error)
            return error == EKV_CORRUPT ? EKV_OK : error;
    }
    return EKV_OK;
}

/* Without a sector for a run: everything that the memtable points to is written to the new log. */
static int rewrite_memtable(struct ekv *db, const struct ekv_log *old)
{
    for (uint32_t i = 0; i < db->memtable.count; i++) {
        struct ekv_found found;
        uint32_t address = db->memtable.slots[i].address;
        int error = ekv_record_read(&db->log, address, &found.record);
        if (!error)
            error = ekv_log_sequence(&db->log, address, &found.sequence);
        if (!error && found.sequence <= old->sequence)
            error = ekv_gc_record(db, &found);
        if (error)
            return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
    }
    return ekv_log_flush(&db->log);
}

int ekv_recover(struct ekv *db)
{
    struct ekv_log old = db->log;
    if (old.next < ekv_format_of(db)->geometry.sector_count &&
        ekv_sector_state(&db->sectors, old.next) == EKV_SECTOR_LOG)
        ekv_sector_set(&db->sectors, old.next, EKV_SECTOR_FREE);
    int error = ekv_log_start(&db->log, old.sequence + 2);
    if (error)
        return error;
    uint32_t sector = db->log.sector, sequence = db->log.sequence;
    error = move_suspects(db, &old);
    if (error)
        return error;
    bool room = ekv_sectors_available(&db->sectors) >= ekv_flush_sectors(db);
    db->unclean = false;
    db->checkpoint = true;
    if (room)
        return ekv_flush(db);
    error = rewrite_memtable(db, &old);
    if (error)
        return error;
    db->catalog.replay_sector = sector;
    db->catalog.replay_sequence = sequence;
    db->catalog.replay_offset = ekv_format_of(db)->body_offset;
    return ekv_publish(db, 0);
}
