/* History: the versions of one key that the log still holds, the newest first.
 *
 * No index leads to old versions. Each step walks over all log sectors, those too that are free and
 * not erased yet, for the newest version below the last one given. A record counts if it was
 * committed: by itself, by a commit record that covers it, or, if a transaction was committed as a
 * run, by an entry of the index.
 */
#include <string.h>

#include "lookup.h"
#include "retain.h"
#include "value.h"

/* A place in the log and the record there. */
struct place {
    uint32_t sector;
    uint32_t offset;
    struct ekv_found found;
};

/* Reads the record at a place. EKV_NOT_FOUND: the sector's records end before it. */
static int read_place(struct ekv *db, struct place *place)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t end = place->sector == db->log.sector ? db->log.offset : format->geometry.sector_size;
    if (place->offset >= end)
        return EKV_NOT_FOUND;
    int error = ekv_record_step(&db->log, ekv_address(format, place->sector, place->offset),
                                place->found.sequence, &place->found.record);
    if (!error)
        place->offset = ekv_offset_of(format, place->found.record.address);
    return error;
}

/* Puts a place at the begin of a sector. EKV_NOT_FOUND: it holds no log, or what a crash left
 * behind the log's end. */
static int enter(struct ekv *db, uint32_t sector, struct place *place, struct ekv_stamp_b *stamp)
{
    const struct ekv_format *format = ekv_format_of(db);
    if (sector < format->ring_count || sector >= format->geometry.sector_count)
        return EKV_NOT_FOUND;
    int error = ekv_sector_stamp_read(&db->sectors, sector, stamp);
    if (error)
        return error;
    place->sector = sector;
    place->offset = format->body_offset;
    place->found.sequence = stamp->sequence;
    return stamp->kind == EKV_KIND_LOG && stamp->sequence <= db->log.sequence ? EKV_OK
                                                                              : EKV_NOT_FOUND;
}

/* The next record behind a place, in the successor of its sector if it was the last. */
static int advance(struct ekv *db, struct place *place)
{
    struct ekv_stamp_b stamp;
    uint32_t sequence = place->found.sequence;
    place->offset += place->found.record.layout.size;
    int error = read_place(db, place);
    if (error != EKV_NOT_FOUND || place->sector == db->log.sector)
        return error;
    error = ekv_sector_stamp_read(&db->sectors, place->sector, &stamp);
    if (!error)
        error = enter(db, stamp.next, place, &stamp);
    if (!error && stamp.sequence != sequence + 1)
        error = EKV_NOT_FOUND;
    return error ? error : read_place(db, place);
}

/* True if the commit record covers what lies at `position`. */
static int covers(struct ekv *db, const struct ekv_found *commit, uint64_t position, bool *yes)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint8_t value[EKV_COMMIT_SIZE];
    struct ekv_stamp_b stamp;
    struct place first;
    *yes = false;
    if (commit->record.layout.value_size != sizeof value)
        return EKV_OK;
    int error = ekv_record_bytes(&db->log, &commit->record, commit->record.layout.head_size, value,
                                 sizeof value);
    uint32_t address = ekv_load32(value + 4);
    if (!error)
        error = enter(db, ekv_sector_of(format, address), &first, &stamp);
    if (error)
        return error == EKV_NOT_FOUND ? EKV_OK : error;
    *yes = stamp.sequence <= commit->sequence &&
           ekv_position(format, stamp.sequence, ekv_offset_of(format, address)) <= position;
    return EKV_OK;
}

/* Follows the log behind a pending record to the commit that decides on it. Another commit before
 * that, or a later record of the key in the same transaction, decides against it. */
static int was_committed(struct ekv *db, struct place place, struct ekv_key key, bool *yes)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint64_t position = ekv_position(format, place.found.sequence, place.offset);
    uint32_t steps = ekv_flash_size(&db->sectors.flash) / EKV_CRC_SIZE;
    *yes = false;
    while (steps-- > 0) {
        int order = 1;
        int error = advance(db, &place);
        if (!error)
            error = ekv_record_verify(&db->log, &place.found.record, place.found.sequence);
        if (error)
            return error == EKV_IO ? error : EKV_OK;
        uint8_t kind = ekv_record_kind(&place.found.record);
        uint8_t flags = place.found.record.layout.type & (EKV_RECORD_COMMITS | EKV_RECORD_MOVED);
        if (kind == EKV_RECORD_COMMIT)
            return covers(db, &place.found, position, yes);
        if (flags == EKV_RECORD_COMMITS)
            return EKV_OK;
        if (kind <= EKV_RECORD_HEAD && flags == 0)
            error = ekv_record_compare(&db->log, &place.found.record, key, &order);
        if (error || order == 0)
            return error;
    }
    return EKV_OK;
}

/* Where the whole records from the begin of a place's sector on end. */
static int sector_end(struct ekv *db, struct place place, uint32_t *end)
{
    const struct ekv_format *format = ekv_format_of(db);
    int error = EKV_OK;
    *end = format->body_offset;
    while (!error && *end < format->geometry.sector_size) {
        error = ekv_record_find(&db->log, ekv_address(format, place.sector, *end),
                                place.found.sequence, &place.found.record);
        if (!error)
            *end =
                ekv_offset_of(format, place.found.record.address) + place.found.record.layout.size;
    }
    return error == EKV_IO ? error : EKV_OK;
}

/* True if a place is sure to hold what was programmed there. What lies at the end of a sector may
 * have been in flight when power was lost: recovery copied what counted, and the rest may read well
 * by chance. The next session says in the stamp of its first sector what is proven; where that was
 * used again, the last page is in doubt, and whatever lies behind a record that is not whole: that
 * counts if it holds what retention promises. */
static int is_proven(struct ekv *db, const struct place *place, bool *proven)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t end = place->offset + place->found.record.layout.size, last;
    *proven = true;
    if (place->found.sequence == db->log.sequence)
        return EKV_OK;
    for (uint32_t i = format->ring_count; i < format->geometry.sector_count; i++) {
        struct ekv_stamp_b stamp;
        int error = ekv_sector_stamp_read(&db->sectors, i, &stamp);
        if (error < 0)
            return error;
        bool resumed = stamp.previous_end & EKV_END_RESUMED;
        if (error || stamp.kind != EKV_KIND_LOG ||
            stamp.sequence - place->found.sequence != (resumed ? 2 : 1))
            continue;
        *proven = end <= (stamp.previous_end & ~(uint32_t)EKV_END_RESUMED);
        return EKV_OK;
    }
    int error = sector_end(db, *place, &last);
    *proven = !error && end <= ((last - 1) & ~(uint32_t)(EKV_PAGE_SIZE - 1));
    return error || *proven ? error : ekv_retain_needs(db, &place->found, proven);
}

/* True if the record is a whole, committed version. */
static int is_version(struct ekv *db, const struct place *place, struct ekv_key key, bool *yes)
{
    const struct ekv_found *found = &place->found;
    bool proven;
    *yes = false;
    int error = ekv_record_verify(&db->log, &found->record, found->sequence);
    if (!error)
        error = ekv_value_whole(db, found);
    if (error)
        return error == EKV_IO ? error : EKV_OK;
    error = is_proven(db, place, &proven);
    if (!error && proven) {
        *yes = found->record.layout.type & (EKV_RECORD_COMMITS | EKV_RECORD_MOVED);
        if (!*yes)
            error = was_committed(db, *place, key, yes);
    }
    if (!error && !*yes)
        error = ekv_is_indexed(db, found, yes);
    return error;
}

/* Takes the record at a place if it is a version of the key below the last one given and newer than
 * the best so far; of two copies of a version the one that was written later. */
static int consider(struct ekv_history *history, const struct place *place, uint64_t *best)
{
    struct ekv *db = history->db;
    const struct ekv_found *found = &place->found;
    uint64_t version;
    int order = 1;
    bool yes;
    if (ekv_record_kind(&found->record) > EKV_RECORD_HEAD ||
        found->record.layout.key_size != history->key.size)
        return EKV_OK;
    int error = ekv_record_compare(&db->log, &found->record, history->key, &order);
    if (error || order != 0)
        return error;
    error = ekv_record_version(&db->log, &found->record, found->sequence, &version);
    if (error || version > history->limit || version < *best ||
        (version == *best && found->sequence <= history->sequence))
        return error;
    error = is_version(db, place, history->key, &yes);
    if (error || !yes)
        return error;
    *best = version;
    history->address = found->record.address;
    history->sequence = found->sequence;
    return EKV_OK;
}

static int consider_sector(struct ekv_history *history, uint32_t sector, uint64_t *best)
{
    struct ekv_stamp_b stamp;
    struct place place;
    int error = enter(history->db, sector, &place, &stamp);
    while (!error) {
        error = read_place(history->db, &place);
        if (!error)
            error = consider(history, &place, best);
        place.offset += place.found.record.layout.size;
    }
    return error == EKV_NOT_FOUND ? EKV_OK : error;
}

/* The record that the history stands on. */
static int current(struct ekv_history *history, struct ekv_found *found)
{
    found->sequence = history->sequence;
    if (history->address == 0)
        return EKV_NOT_FOUND;
    int error = ekv_record_read(&history->db->log, history->address, &found->record);
    if (!error)
        error = ekv_record_verify(&history->db->log, &found->record, found->sequence);
    return error == EKV_CORRUPT ? EKV_NOT_FOUND : error; /* its sector was used again */
}

void ekv_history_open(struct ekv_history *history, struct ekv *db, struct ekv_key key,
                      uint64_t version)
{
    *history = (struct ekv_history){.db = db, .key = key, .limit = version};
}

int ekv_history_next(struct ekv_history *history, struct ekv_entry *entry)
{
    struct ekv *db = history->db;
    struct ekv_found found;
    uint64_t best = 0;
    int error = EKV_OK;
    ekv_lock_read(db);
    history->address = history->sequence = 0;
    for (uint32_t i = 0; !error && i < ekv_format_of(db)->geometry.sector_count; i++)
        error = consider_sector(history, i, &best);
    if (!error)
        error = current(history, &found);
    if (!error)
        error = ekv_entry_of(db, &found, entry);
    if (!error)
        history->limit = best - 1;
    ekv_unlock_read(db);
    return error;
}

int ekv_history_get(struct ekv_history *history, uint64_t offset, void *buffer, size_t capacity,
                    size_t *size)
{
    struct ekv *db = history->db;
    struct ekv_found found;
    size_t copied = 0;
    ekv_lock_read(db);
    int error = current(history, &found);
    if (!error && ekv_record_kind(&found.record) != EKV_RECORD_DELETE)
        error = ekv_value_read(db, &found, offset, buffer, capacity, &copied);
    error = error == EKV_CORRUPT ? EKV_NOT_FOUND : error; /* a piece's sector was used again */
    ekv_unlock_read(db);
    if (size)
        *size = copied;
    return error;
}
