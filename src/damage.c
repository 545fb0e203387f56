/* Tells damage from what power cuts leave.
 *
 * A program is started after the one before it has returned, so whatever is whole proves all that
 * was programmed earlier. Within one program nothing is proven: power may have been lost in the
 * middle of it. An unmount programs the close record alone, and after a barrier.
 *
 * Nothing is repaired on flash. Where a checksum tells that one bit was flipped (mend.h), replay is
 * done again with that bit put right in memory, so that no other key is lost for it. A value is not
 * answered from that: its key answers EKV_CORRUPT. The key, the sizes and whatever else replay
 * needs are taken from it.
 */
#include "damage.h"

#include "crc32c.h"

enum { BLANK_PIECE = 128 };

static int whole_record(struct ekv *db, uint32_t sector, uint32_t sequence, uint32_t offset,
                        struct ekv_record *record)
{
    int error = ekv_record_read(&db->log, ekv_address(ekv_format_of(db), sector, offset), record);
    return error ? error : ekv_record_verify(&db->log, record, sequence);
}

/* True for a record that ends a program: whatever commits is programmed at once. */
static bool ends_program(uint8_t type)
{
    return (type & EKV_RECORD_COMMITS) && !(type & EKV_RECORD_MOVED);
}

/* Whether the bytes from the log's place to `end` are one record that ended its program, but for
 * one bit. */
static int ended_program(struct ekv *db, uint32_t end, bool *ended)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t address = ekv_address(format, db->log.sector, db->log.offset);
    struct ekv_mend mend;
    uint8_t type = 0;
    int error =
        ekv_record_flipped(&db->log, address, end - db->log.offset, db->log.sequence, &mend, &type);
    *ended = !error && ends_program(type);
    return error == EKV_NOT_FOUND ? EKV_OK : error;
}

/* Moves `at` on to the next place of the head sector where a record could begin: none begins with
 * 0xff. The sector's end: there is none. */
static int next_written(struct ekv *db, uint32_t *at)
{
    uint8_t piece[BLANK_PIECE];
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t size = format->geometry.sector_size;
    while (*at < size) {
        uint32_t length = ekv_min(size - *at, BLANK_PIECE);
        int error = ekv_log_read(&db->log, ekv_address(format, db->log.sector, *at), piece, length);
        for (uint32_t i = 0; !error && i < length; i += format->alignment) {
            if (piece[i] == 0xff)
                continue;
            *at += i;
            return EKV_OK;
        }
        if (error)
            return error;
        *at += ekv_align(length, format->alignment);
    }
    return EKV_OK;
}

int ekv_damage_behind(struct ekv *db, bool proven, uint32_t *offset)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_record record = {.mapped = NULL};
    uint32_t sector = db->log.sector, begin = db->log.offset, flight = begin;
    int error = ekv_record_read(&db->log, ekv_address(format, sector, begin), &record);
    if (error < 0)
        return error;
    if (!error)
        flight += record.layout.size - 1;
    /* Of a head that lies in two pages the second may have been in flight, and say any size. */
    uint32_t room = ekv_page_room(begin), kind = ekv_record_peek(&record)[0] & EKV_RECORD_KIND_MASK;
    if (kind >= EKV_RECORD_PUT && kind <= (EKV_RECORD_HEAD | EKV_RECORD_COUNTED) &&
        room < (error ? (uint32_t)EKV_RECORD_HEAD_MAX : record.layout.head_size))
        flight = ekv_max(flight, begin + room);
    *offset = 0;
    for (uint32_t at = begin + format->alignment;; at += format->alignment) {
        error = next_written(db, &at);
        if (error)
            return error;
        if (at >= format->geometry.sector_size)
            return EKV_NOT_FOUND;
        error = whole_record(db, sector, db->log.sequence, at, &record);
        if (error == EKV_IO)
            return error;
        if (error)
            continue;
        if (*offset == 0 && !proven) {
            error = ended_program(db, at, &proven);
            if (error)
                return error;
        }
        *offset = *offset ? *offset : at;
        if (proven || at / EKV_PAGE_SIZE > flight / EKV_PAGE_SIZE ||
            ekv_record_kind(&record) >= EKV_RECORD_CLOSE)
            return EKV_OK;
        proven |= ends_program(record.layout.type); /* if another one follows */
    }
}

int ekv_damage_find(struct ekv *db, uint32_t end)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_record record;
    struct ekv_mend mend;
    uint32_t begin = db->log.offset, address = ekv_address(format, db->log.sector, begin);
    uint8_t type;
    int error = ekv_record_flipped(&db->log, address, end - begin, db->log.sequence, &mend, &type);
    if (error)
        return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
    error = ekv_record_read(&db->log, address, &record);
    if (!error && ekv_record_kind(&record) <= EKV_RECORD_LIST) {
        uint32_t value = address + record.layout.head_size + record.layout.key_size;
        mend.value = mend.address >= value && mend.address - value < record.layout.value_size;
    }
    db->sectors.mends.suspect = mend;
    return error == EKV_IO ? error : ekv_corrupt();
}

/* Keeps a page of the index that is put right: readers of a mapped flash want it in place. */
static int keep_page(struct ekv *db, struct ekv_mend *mend, uint32_t *kept)
{
    uint32_t page = mend->address - mend->address % EKV_PAGE_SIZE;
    if (*kept == db->builder.page_count) {
        mend->mask = 0; /* no more memory: it is damaged, as more than a bit would make it */
        return EKV_OK;
    }
    int error = ekv_sectors_read(&db->sectors, page, db->builder.pages + *kept * EKV_PAGE_SIZE,
                                 EKV_PAGE_SIZE);
    if (!error)
        mend->page = (uint8_t)++ * kept;
    return error;
}

int ekv_damage_settle(struct ekv *db)
{
    struct ekv_mends *mends = &db->sectors.mends;
    struct ekv_log *log = &db->log;
    uint32_t kept = 0;
    db->read_only = db->damaged = true;
    mends->pages = db->builder.pages; /* nothing is built any more */
    for (uint32_t i = 0; i < mends->count; i++) {
        struct ekv_mend *mend = &mends->list[i];
        uint32_t sector = ekv_sector_of(ekv_format_of(db), mend->address);
        if (db->sectors.flash.map && ekv_sector_state(&db->sectors, sector) == EKV_SECTOR_INDEX) {
            int error = keep_page(db, mend, &kept);
            if (error)
                return error;
        }
        if (!mend->value)
            continue;
        if (log->copy && mend->address - log->copy_address < log->copy_size)
            log->copy[mend->address - log->copy_address] ^= mend->mask;
        mend->mask = 0;
    }
    return EKV_OK;
}

int ekv_damage_stamp(struct ekv *db, uint32_t sector)
{
    struct ekv_stamp_b stamp;
    struct ekv_mend mend;
    if (sector < ekv_format_of(db)->geometry.sector_count &&
        ekv_sector_stamp_flipped(&db->sectors, sector, &stamp, &mend))
        db->sectors.mends.suspect = mend;
    return ekv_corrupt();
}

/* True if a log sector holds something that was committed in it, and not only copied to it, as an
 * interrupted recovery does. */
static int holds_commit(struct ekv *db, uint32_t sector, uint32_t sequence, bool *holds)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t offset = format->body_offset;
    *holds = false;
    while (offset < format->geometry.sector_size && !*holds) {
        struct ekv_record record;
        int error = whole_record(db, sector, sequence, offset, &record);
        if (error)
            return error == EKV_IO ? error : EKV_OK;
        *holds =
            (record.layout.type & EKV_RECORD_COMMITS) && !(record.layout.type & EKV_RECORD_MOVED);
        offset += record.layout.size;
    }
    return EKV_OK;
}

/* The manifest does not end in blank flash: either an edit was in flight when power was lost, and
 * the log ends here, or the edit was damaged and the store went on. */
static int check_manifest(struct ekv *db)
{
    uint32_t count = ekv_format_of(db)->geometry.sector_count;
    bool recovering = false;
    if (ekv_log_position(&db->log) <=
        ekv_position(ekv_format_of(db), 1, ekv_format_of(db)->body_offset))
        return EKV_OK; /* a format was cut off; what lies in the sectors is of the store before it
                        */
    for (uint32_t i = ekv_format_of(db)->ring_count; i < count; i++) {
        struct ekv_stamp_b stamp;
        bool holds = false;
        int error = ekv_sector_stamp_read(&db->sectors, i, &stamp);
        bool later = !error && stamp.kind == EKV_KIND_LOG && stamp.sequence > db->log.sequence;
        if (later)
            error = holds_commit(db, i, stamp.sequence, &holds);
        recovering |= later && stamp.sequence == db->log.sequence + 2;
        if (error < 0)
            return error;
        if (holds)
            return ekv_corrupt();
    }
    /* A recovery writes to the manifest behind a close record, when it has begun a new log. */
    return db->closed && !recovering ? ekv_corrupt() : EKV_OK;
}

int ekv_damage_end(struct ekv *db)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_record record;
    uint32_t next = db->log.next;
    if (!db->closed && next >= format->ring_count && next < format->geometry.sector_count) {
        struct ekv_stamp_b stamp;
        /* One that is whole: the log ended in a hole before it. A crash of the host can take a
         * stamp only with the block that it lies in. */
        int error = ekv_sector_stamp_read(&db->sectors, next, &stamp);
        bool apart =
            ekv_flash_unordered(&db->sectors.flash) &&
            format->body_offset / EKV_HOST_BLOCK != ekv_stamp_b_offset(format) / EKV_HOST_BLOCK;
        if (error == EKV_NOT_FOUND && !apart)
            error = whole_record(db, next, db->log.sequence + 1, format->body_offset, &record);
        else
            error = error < 0 ? error : EKV_NOT_FOUND;
        if (error == EKV_OK)
            return ekv_damage_stamp(db, next);
        if (error == EKV_IO)
            return error;
    }
    return db->manifest.torn ? check_manifest(db) : EKV_OK;
}
