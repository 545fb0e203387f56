/* Decides for each record of the log whether retention keeps it.
 *
 * That an older record was committed is known from its flags, or, if it was part of a transaction,
 * from the index: memtable, flushes and merges keep the entries of retained records until the
 * records are moved. What an aborted transaction left has neither.
 *
 * A power cut between a copy and the erase of its original leaves both; they say the same.
 */
#include "retain.h"

#include "lookup.h"
#include "value.h"

/* True if the record's flags or the index say that it was committed. Of records without an ordinal
 * only the last before retention began is in the index. */
static int was_committed(struct ekv *db, const struct ekv_found *older, bool *committed)
{
    uint8_t type = older->record.layout.type;
    *committed =
        type & EKV_RECORD_MOVED || (type & EKV_RECORD_COMMITS && ekv_type_is_counted(type));
    return *committed ? EKV_OK : ekv_is_indexed(db, older, committed);
}

int ekv_retain_needs(struct ekv *db, const struct ekv_found *older, bool *needed)
{
    struct ekv_found current;
    *needed = false;
    if (db->retain_count < 2)
        return EKV_OK;
    int error = ekv_lookup_same(db, &older->record, &current);
    if (error)
        return error == EKV_NOT_FOUND ? EKV_OK : error;
    if (db->pressed && ekv_record_kind(&current.record) == EKV_RECORD_DELETE)
        return EKV_OK;
    error = ekv_is_retained(db, &current.record, &older->record, needed);
    return error || !*needed ? error : was_committed(db, older, needed);
}

int ekv_retain_move(struct ekv *db, const struct ekv_found *older)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_record_layout layout = older->record.layout;
    uint32_t address;
    int error = ekv_value_whole(db, older);
    if (error) /* once a piece was moved, an older copy of its head leads nowhere */
        return error == EKV_CORRUPT ? EKV_OK : error;
    layout.type |= EKV_RECORD_MOVED | EKV_RECORD_COUNTED;
    ekv_record_measure(format, &layout);
    if (layout.size > ekv_format_record_size_max(format))
        return EKV_OK; /* from before retention began, and now a byte too large */
    return ekv_record_copy(db, older, EKV_RECORD_MOVED | EKV_RECORD_COUNTED, &address);
}

/* True if a head's key is the owner that a piece names, or begins with it where that name is cut.
 */
static int is_owner(struct ekv *db, const struct ekv_record *head, const struct ekv_record *piece,
                    bool *owner)
{
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_record begin = *head;
    struct ekv_key key;
    int order;
    *owner = false;
    if (piece->layout.key_size >= ekv_owner_size_max(db))
        begin.layout.key_size = ekv_min(begin.layout.key_size, piece->layout.key_size);
    if (begin.layout.key_size != piece->layout.key_size)
        return EKV_OK;
    int error = ekv_record_key(&db->log, piece, prefix, &key);
    if (!error)
        error = ekv_record_compare(&db->log, &begin, key, &order);
    *owner = !error && order == 0;
    return error;
}

/* EKV_OK if the record is a retained head that holds the piece. */
static int head_holds(struct ekv *db, const struct ekv_found *head, const struct ekv_found *piece)
{
    bool yes;
    uint32_t above;
    if (ekv_record_kind(&head->record) != EKV_RECORD_HEAD)
        return EKV_NOT_FOUND;
    int error = is_owner(db, &head->record, &piece->record, &yes);
    if (!error && yes)
        error = ekv_record_verify(&db->log, &head->record, head->sequence);
    if (!error && yes)
        error = ekv_retain_needs(db, head, &yes);
    if (error || !yes)
        return error == EKV_IO ? error : EKV_NOT_FOUND;
    error = ekv_value_holds(db, &head->record, &piece->record, &above);
    return error == EKV_CORRUPT ? EKV_NOT_FOUND : error; /* an older copy of the head */
}

static int head_in_sector(struct ekv *db, uint32_t sector, const struct ekv_found *piece,
                          struct ekv_found *head)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t address = ekv_address(format, sector, 0);
    uint32_t end = sector == db->log.sector ? db->log.offset : format->geometry.sector_size;
    int error = ekv_log_sequence(&db->log, address, &head->sequence);
    for (uint32_t offset = format->body_offset; !error && offset < end;) {
        error = ekv_record_step(&db->log, address + offset, head->sequence, &head->record);
        if (error)
            break;
        offset = ekv_offset_of(format, head->record.address) + head->record.layout.size;
        error = head_holds(db, head, piece);
        if (error != EKV_NOT_FOUND)
            return error;
        error = EKV_OK;
    }
    return error ? error : EKV_NOT_FOUND;
}

int ekv_retain_head(struct ekv *db, const struct ekv_found *piece, struct ekv_found *head)
{
    uint32_t count = ekv_format_of(db)->geometry.sector_count;
    if (db->retain_count < 2)
        return EKV_NOT_FOUND;
    for (uint32_t i = 0; i < count; i++) {
        if (ekv_sector_state(&db->sectors, i) != EKV_SECTOR_LOG)
            continue;
        int error = head_in_sector(db, i, piece, head);
        if (error != EKV_NOT_FOUND)
            return error;
    }
    return EKV_NOT_FOUND;
}
