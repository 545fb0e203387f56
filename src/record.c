/* Appends single records and copies them.
 *
 * A record is begun, filled and ended; nothing of it can be read before its end, which writes the
 * checksum over all of it, so a power cut leaves a whole record or a torn tail. What is copied is
 * verified before, so that a damaged record never gets a good checksum.
 */
#include "record.h"

enum { PIECE = 64 };

void ekv_write_time(struct ekv *db, struct ekv_write *write)
{
    if (!db->now)
        return;
    write->flags |= EKV_RECORD_TIMED;
    write->time = db->now(db->now_context);
}

int ekv_write_new(struct ekv *db, struct ekv_key key, bool commits, const struct ekv_found *old,
                  struct ekv_write *write)
{
    *write = (struct ekv_write){0};
    if (key.space == EKV_ASIDE)
        write->flags |= EKV_RECORD_ASIDE;
    if (commits)
        write->flags |= EKV_RECORD_COMMITS;
    ekv_write_time(db, write);
    if (db->retain_count < 2)
        return EKV_OK;
    write->flags |= EKV_RECORD_COUNTED;
    int error = old ? ekv_record_ordinal(&db->log, &old->record, &write->ordinal) : EKV_OK;
    write->ordinal++;
    return error;
}

static int write_key(struct ekv *db, struct ekv_key key, uint32_t size)
{
    uint8_t piece[PIECE];
    uint32_t done = key.rest ? ekv_min(size, EKV_KEY_PREFIX) : size;
    int error = ekv_log_write(&db->log, key.bytes, done);
    while (!error && done < size) {
        uint32_t length = ekv_min(size - done, PIECE);
        error = ekv_log_read(&db->log, key.rest + done, piece, length);
        if (!error)
            error = ekv_log_write(&db->log, piece, length);
        done += length;
    }
    return error;
}

int ekv_record_end(struct ekv *db, const struct ekv_write *write, int error)
{
    uint8_t bytes[EKV_RECORD_TIME_SIZE];
    if (!error && write->flags & EKV_RECORD_MOVED) {
        ekv_store(bytes, write->version, EKV_RECORD_VERSION_SIZE);
        error = ekv_log_write(&db->log, bytes, EKV_RECORD_VERSION_SIZE);
    }
    if (!error && write->flags & EKV_RECORD_TIMED) {
        ekv_store(bytes, (uint64_t)write->time, EKV_RECORD_TIME_SIZE);
        error = ekv_log_write(&db->log, bytes, EKV_RECORD_TIME_SIZE);
    }
    if (!error && write->flags & EKV_RECORD_COUNTED)
        error = ekv_log_write(&db->log, &write->ordinal, EKV_RECORD_ORDINAL_SIZE);
    if (!error)
        error = ekv_log_end(&db->log);
    ekv_log_drop(&db->log);
    return error;
}

int ekv_record_append_parts(struct ekv *db, uint8_t kind, struct ekv_key key, uint32_t key_size,
                            const struct ekv_write *write, const uint8_t *head, uint32_t head_size,
                            const void *value, uint32_t size, uint32_t *address)
{
    struct ekv_record_layout layout = {
        .type = kind | write->flags, .key_size = key_size, .value_size = head_size + size};
    int error = ekv_log_begin(&db->log, &layout, address);
    if (!error)
        error = write_key(db, key, key_size);
    if (!error)
        error = ekv_log_write(&db->log, head, head_size);
    if (!error)
        error = ekv_log_write(&db->log, value, size);
    return ekv_record_end(db, write, error);
}

int ekv_record_append(struct ekv *db, uint8_t kind, struct ekv_key key,
                      const struct ekv_write *write, const void *value, uint32_t size,
                      uint32_t *address)
{
    return ekv_record_append_parts(db, kind, key, key.size, write, NULL, 0, value, size, address);
}

int ekv_record_copy_bytes(struct ekv *db, const struct ekv_record *record, uint32_t offset,
                          uint32_t size)
{
    uint8_t piece[PIECE];
    for (uint32_t end = offset + size; offset < end;) {
        uint32_t length = ekv_min(end - offset, PIECE);
        int error = ekv_record_bytes(&db->log, record, offset, piece, length);
        if (error)
            return error;
        error = ekv_log_write(&db->log, piece, length);
        if (error)
            return error;
        offset += length;
    }
    return EKV_OK;
}

int ekv_write_of(struct ekv *db, const struct ekv_found *found, struct ekv_write *write)
{
    uint8_t type = found->record.layout.type;
    write->flags = type & (EKV_RECORD_ASIDE | EKV_RECORD_TIMED);
    if (ekv_type_is_counted(type))
        write->flags |= EKV_RECORD_COUNTED;
    int error = ekv_record_version(&db->log, &found->record, found->sequence, &write->version);
    if (!error)
        error = ekv_record_time(&db->log, &found->record, &write->time);
    if (!error)
        error = ekv_record_ordinal(&db->log, &found->record, &write->ordinal);
    return error;
}

int ekv_record_copy(struct ekv *db, const struct ekv_found *found, uint8_t flags, uint32_t *address)
{
    const struct ekv_record *record = &found->record;
    struct ekv_write write;
    uint32_t copy;
    /* Checked before, so that what is copied is never a damaged record under a good crc. */
    int error = ekv_record_verify(&db->log, record, found->sequence);
    if (!error)
        error = ekv_write_of(db, found, &write);
    if (error)
        return error;
    write.flags |= flags;
    struct ekv_record_layout layout = record->layout;
    layout.type = ekv_record_kind(record) | write.flags;
    error = ekv_log_begin(&db->log, &layout, &copy);
    if (!error)
        error = ekv_record_copy_bytes(db, record, record->layout.head_size,
                                      record->layout.key_size + record->layout.value_size);
    error = ekv_record_end(db, &write, error);
    if (!error)
        *address = copy;
    return error;
}
