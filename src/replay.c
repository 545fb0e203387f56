/* Replays the log at mount: from the position in the manifest to wherever the log ends.
 *
 * Where it ends is decided once: a power cut may have left the last page readable now and not
 * later. Mount writes nothing. If the last record is a close record with blank flash behind it, the
 * next write goes on there; otherwise the store is unclean, and the first write begins with a
 * recovery.
 *
 * A torn end is expected. Damage that no power cut explains (a whole record behind the torn one, in
 * a page that cannot have been in flight) ends the replay with EKV_CORRUPT; what would explain it
 * is suspected then, so that the mount can begin again with that put right.
 */
#include "replay.h"

#include <assert.h>
#include <string.h>

#include "damage.h"
#include "own.h"
#include "value.h"

/* --- Replay ---------------------------------------------------------------------------------- */

/* Makes a record of the log current, as the write that appended it did. */
static int replay_record(struct ekv *db, const struct ekv_record *record)
{
    struct ekv_found old;
    uint32_t sequence;
    uint64_t version;
    int found = ekv_lookup_same(db, record, &old);
    if (found == EKV_CORRUPT) {
        /* What it replaces cannot be read, so it cannot be counted out. */
        db->read_only = true;
        found = EKV_NOT_FOUND;
    }
    if (found < 0)
        return found;
    int error = ekv_log_sequence(&db->log, record->address, &sequence);
    if (!error)
        error = ekv_record_version(&db->log, record, sequence, &version);
    if (error)
        return error;
    db->last_version = version > db->last_version ? version : db->last_version;
    /* What counts is where it was committed: a pending record may lie far before its commit. */
    if (ekv_log_position(&db->log) < db->catalog.counted)
        return ekv_point(db, record, record->layout.type & EKV_RECORD_MOVED);
    error = ekv_apply_counts(db, record, found == EKV_OK ? &old : NULL);
    if (error == EKV_CORRUPT) /* a piece of one of the two is damaged: the same */
        db->read_only = true;
    else if (error)
        return error;
    return ekv_point(db, record, false);
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
            bool pending = kind <= EKV_RECORD_HEAD &&
                           !(record.layout.type & (EKV_RECORD_COMMITS | EKV_RECORD_MOVED));
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
    if (ekv_record_kind(record) <= EKV_RECORD_COMMIT &&
        ekv_log_position(&db->log) < db->catalog.flushed)
        return EKV_OK; /* in a run, or pending */
    switch (ekv_record_kind(record)) {
    case EKV_RECORD_PUT:
    case EKV_RECORD_HEAD:
    case EKV_RECORD_DELETE:
        if (!(record->layout.type & EKV_RECORD_COMMITS))
            return EKV_OK; /* until its commit record, or an older version that was retained */
        return replay_record(db, record);
    case EKV_RECORD_COMMIT:
        return replay_transaction(db, record);
    case EKV_RECORD_CLOSE:
        return replay_close(db, record);
    default:
        return EKV_OK;
    }
}

/* --- Reading what may be unstable ------------------------------------------------------------ */

/* Power may have been lost while the last page of the log was programmed: it may read well now and
 * differently later. So each page is read once, into `copy`, and everything is decided on, and
 * later read from, that copy. A page is known to be good when a later one is not blank. The second
 * buffer is to look ahead with. */

static uint8_t *ahead_of(struct ekv *db)
{
    return db->merge.builder.pages + EKV_PAGE_SIZE;
}

/* Makes the page at `address` the copied one, unless it is blank. */
static int copy_page(struct ekv *db, uint32_t address)
{
    uint8_t *ahead = ahead_of(db);
    address -= address % EKV_PAGE_SIZE;
    if (db->log.copy && db->log.copy_address == address)
        return EKV_OK;
    db->log.copy_size = EKV_PAGE_SIZE; /* what lies behind it is overwritten */
    int error = ekv_sectors_read(&db->sectors, address, ahead, EKV_PAGE_SIZE);
    if (error)
        return error;
    bool blank = true;
    for (uint32_t i = 0; i < EKV_PAGE_SIZE && blank; i++)
        blank = ahead[i] == 0xff;
    if (blank && db->log.copy && address == db->log.copy_address + EKV_PAGE_SIZE)
        db->log.copy_size = 2 * EKV_PAGE_SIZE;
    if (blank)
        return EKV_NOT_FOUND;
    db->log.copy = db->merge.builder.pages;
    db->log.copy_address = address;
    memcpy(db->log.copy, ahead, EKV_PAGE_SIZE);
    return EKV_OK;
}

/* Makes the page in which a record ends the copied one. What the record has there may be all 0xff:
 * then the last page before it that is not blank, and both are read from memory. */
static int copy_end(struct ekv *db, uint32_t address, uint32_t end)
{
    uint32_t page = end - end % EKV_PAGE_SIZE;
    int error = copy_page(db, page);
    if (error != EKV_NOT_FOUND)
        return error;
    while (error == EKV_NOT_FOUND && page > address) {
        page -= EKV_PAGE_SIZE;
        error = copy_page(db, page);
    }
    if (!error)
        error = copy_page(db, page + EKV_PAGE_SIZE);
    return error == EKV_NOT_FOUND && page <= end ? EKV_OK : error;
}

/* The record at `address`, read and checked through the copy. EKV_NOT_FOUND: there is none. */
static int read_once(struct ekv *db, uint32_t address, struct ekv_record *record)
{
    int error = copy_page(db, address);
    if (!error)
        error = ekv_record_read(&db->log, address, record);
    uint32_t end = error ? address : address + record->layout.size - 1;
    if (!error)
        error = copy_end(db, address, end);
    if (!error) /* anew: its head may lie in the page that was just copied */
        error = ekv_record_read(&db->log, address, record);
    if (!error && address + record->layout.size - 1 != end)
        return EKV_NOT_FOUND;
    if (!error)
        error = ekv_record_verify(&db->log, record, db->log.sequence);
    return error == EKV_CORRUPT ? EKV_NOT_FOUND : error;
}

/* --- Where the log goes on ------------------------------------------------------------------- */

/* A place in the log, to come back to. */
struct place {
    uint32_t sector, sequence, offset, next;
};

static struct place place_of(const struct ekv_log *log)
{
    return (struct place){log->sector, log->sequence, log->offset, log->next};
}

static void go_to(struct ekv_log *log, struct place place)
{
    log->sector = place.sector;
    log->sequence = place.sequence;
    log->offset = log->flushed = place.offset;
    log->next = place.next;
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
    if (state == EKV_SECTOR_RETIRED)
        return EKV_NOT_FOUND; /* its stamp failed, and looks whole all the same */
    if (ekv_own_usable(state))
        ekv_sector_set(&db->sectors, sector, EKV_SECTOR_LOG);
    else if (state != EKV_SECTOR_LOG)
        return ekv_corrupt();
    db->sectors.virgin =
        ekv_max(db->sectors.virgin, ekv_min(stamp->virgin, format->geometry.sector_count));
    db->sectors.virgin_saved = db->sectors.virgin;
    go_to(&db->log, (struct place){sector, sequence, offset, stamp->next});
    return EKV_OK;
}

/* A close record that was in flight when power was lost may have read well at one mount, which went
 * on behind it with an open record, and be unreadable now: the open record stands for both. */
static int skip_close(struct ekv *db)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_record_layout close = {.type = EKV_RECORD_CLOSE, .value_size = EKV_CLOSE_SIZE};
    struct ekv_record record;
    ekv_record_measure(format, &close);
    uint32_t offset = db->log.offset + close.size;
    if (offset >= format->geometry.sector_size)
        return EKV_NOT_FOUND;
    int error = read_once(db, ekv_address(format, db->log.sector, offset), &record);
    if (error || ekv_record_kind(&record) != EKV_RECORD_OPEN)
        return error ? error : EKV_NOT_FOUND;
    db->log.offset = db->log.flushed = offset;
    return EKV_OK;
}

/* Enters the sector that the head's stamp names, if the log went on there. EKV_NOT_FOUND: it did
 * not, or a recovery began a log of its own there, from an older head. */
static int enter_successor(struct ekv *db, struct place here, struct ekv_stamp_b *stamp)
{
    if (here.next >= ekv_format_of(db)->geometry.sector_count)
        return EKV_NOT_FOUND;
    int error = ekv_sector_stamp_read(&db->sectors, here.next, stamp);
    if (error || stamp->previous_end == 0 || stamp->previous_end & EKV_END_RESUMED)
        return error ? error : EKV_NOT_FOUND; /* a recovery began it, from another head */
    return enter_sector(db, here.next, here.sequence + 1, ekv_format_of(db)->body_offset, stamp);
}

/* True if a crash of the host explains that no record begins at `here` though one did: up to `end`,
 * where the sector before said it ended (`whole`) or a later record begins. A block that was not
 * written back is blank from some place on, and no record stands behind that. What the manifest has
 * counted was synced before. */
static int is_lost(struct ekv *db, struct place here, uint32_t end, bool whole, bool *lost)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t begin = here.offset;
    int error = EKV_OK;
    *lost = false;
    if (!ekv_flash_unordered(&db->sectors.flash) ||
        ekv_position(format, here.sequence, begin) < db->catalog.counted)
        return EKV_OK;
    while (!error && begin < end && !*lost) {
        uint8_t last = 0;
        uint32_t block = ekv_align(begin + 1, EKV_HOST_BLOCK);
        if (block > end && !whole)
            break;
        begin = ekv_min(block, end);
        error =
            ekv_sectors_read(&db->sectors, ekv_address(format, here.sector, begin - 1), &last, 1);
        *lost = last == 0xff;
    }
    return error;
}

/* Where no record follows: the log goes on in the successor, or behind damage, or it ends here. */
static int go_on(struct ekv *db, bool *ended)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct place here = place_of(&db->log);
    struct ekv_stamp_b stamp;
    int next = enter_successor(db, here, &stamp);
    if (next < 0 || (next == EKV_OK && stamp.previous_end == here.offset))
        return next;
    uint32_t end;
    go_to(&db->log, here);
    int error = ekv_damage_behind(db, next == EKV_OK, &end);
    if (error < 0)
        return error;
    bool inside = error == EKV_OK;
    *ended = !inside && next != EKV_OK;
    if (*ended)
        return EKV_OK;
    if (!inside)
        end = ekv_min(stamp.previous_end, format->geometry.sector_size);
    error = is_lost(db, here, end, !inside, ended);
    if (error || *ended)
        return error;
    if (end > here.offset)
        return ekv_damage_find(db, end);
    db->read_only = db->astray = true; /* nothing is written over what is left */
    return enter_sector(db, here.next, here.sequence + 1, format->body_offset, &stamp);
}

static int replay_log(struct ekv *db)
{
    const struct ekv_catalog *catalog = &db->catalog;
    struct ekv_stamp_b stamp;
    uint32_t rolls = 0;
    bool ended = false;
    int error = enter_sector(db, catalog->replay_sector, catalog->replay_sequence,
                             catalog->replay_offset, &stamp);
    if (error == EKV_NOT_FOUND)
        return ekv_damage_stamp(db, catalog->replay_sector);
    while (!error && !ended) {
        struct ekv_record record;
        uint32_t address = ekv_address(ekv_format_of(db), db->log.sector, db->log.offset);
        error = EKV_NOT_FOUND;
        if (db->log.offset < ekv_format_of(db)->geometry.sector_size)
            error = read_once(db, address, &record);
        if (error == EKV_OK) {
            error = replay_one(db, &record);
            db->log.offset += record.layout.size;
            db->log.flushed = db->log.offset;
            continue;
        }
        if (error == EKV_NOT_FOUND)
            error = skip_close(db);
        if (error == EKV_NOT_FOUND)
            error = rolls++ > ekv_format_of(db)->geometry.sector_count * 2 ? ekv_corrupt()
                                                                           : go_on(db, &ended);
    }
    return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
}

/* Whether a sector is blank from an offset on. */
static int is_blank(struct ekv *db, uint32_t sector, uint32_t offset, bool *blank)
{
    const struct ekv_format *format = ekv_format_of(db);
    *blank = true;
    db->page.run_id = 0;
    while (*blank && offset < format->geometry.sector_size) {
        uint32_t address = ekv_address(format, sector, offset);
        uint32_t size = ekv_page_room(address);
        int error = ekv_sectors_read(&db->sectors, address, db->page.bytes, size);
        if (error)
            return error;
        for (uint32_t i = 0; i < size && *blank; i++)
            *blank = db->page.bytes[i] == 0xff;
        offset += size;
    }
    return EKV_OK;
}

/* True if all that the next session will program without an erase is blank: the log behind its end,
 * the successor, the index behind its end. */
static int is_untouched(struct ekv *db, bool *untouched)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t next = db->log.next;
    int error = is_blank(db, db->log.sector, db->log.offset, untouched);
    if (!error && *untouched && next < format->geometry.sector_count)
        error = is_blank(db, next, ekv_stamp_b_offset(format), untouched);
    if (!error && *untouched && db->index.sector != EKV_NO_SECTOR)
        error = is_blank(db, db->index.sector, db->index.offset, untouched);
    return error;
}

/* A recovery that went wrong may have erased the successor that the head names: without the stamp
 * of its erase it cannot be rolled into. */
static bool can_roll(const struct ekv *db)
{
    uint32_t next = db->log.next;
    return next >= ekv_format_of(db)->geometry.sector_count ||
           ekv_sector_erase_count(&db->sectors, next) > 0;
}

int ekv_replay(struct ekv *db)
{
    bool damaged = false;
    int error = ekv_manifest_load(&db->manifest, &db->catalog);
    if (db->retain_count == 0)
        db->retain_count = db->catalog.retain_count; /* the memtable goes by it */
    if (!error)
        error = ekv_own_runs(db, &damaged);
    db->read_only |= damaged;
    if (!error && damaged && ekv_mends_can_take(&db->sectors.mends))
        return ekv_corrupt();
    if (!error)
        error = replay_log(db);
    if (!error)
        error = ekv_damage_end(db);
    if (error)
        return error;
    bool untouched = false;
    if (db->closed && !ekv_format_of(db)->geometry.program_once)
        error = is_untouched(db, &untouched);
    if (error)
        return error;
    db->closed = untouched && can_roll(db);
    if (!db->closed)
        db->sectors.virgin = db->sectors.virgin_saved; /* those before it may have been tried */
    db->unclean = !db->closed;
    if (!db->unclean)
        db->log.copy = NULL; /* the close record proves what came before it */
    if (db->unclean)
        db->index.sector = EKV_NO_SECTOR;
    else if (db->log.next < ekv_format_of(db)->geometry.sector_count &&
             ekv_own_usable(ekv_sector_state(&db->sectors, db->log.next)))
        ekv_sector_set(&db->sectors, db->log.next, EKV_SECTOR_LOG);
    db->recovered = db->unclean;
    db->damaged = db->read_only;
    db->log.settled = true;
    return EKV_OK;
}
