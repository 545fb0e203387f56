/* Single records: how they are appended to the log's head, and copied there. */
#ifndef EKV_RECORD_H
#define EKV_RECORD_H

#include "state.h"

/* How a record is to be written beside its key and value. */
struct ekv_write {
    uint8_t flags;    /* of EKV_RECORD_* */
    uint64_t version; /* with EKV_RECORD_MOVED */
    int64_t time;     /* with EKV_RECORD_TIMED */
    uint8_t ordinal;  /* with EKV_RECORD_COUNTED */
};

/* The time as the caller's clock tells it, if there is one. */
void ekv_write_time(struct ekv *db, struct ekv_write *write);

/* Flags, time and ordinal for a new record of `key`, which replaces `old` (NULL: there was none).
 */
EKV_MUST_CHECK int ekv_write_new(struct ekv *db, struct ekv_key key, bool commits,
                                 const struct ekv_found *old, struct ekv_write *write);

/* Flags, version, time and ordinal of a record, for its copy. */
EKV_MUST_CHECK int ekv_write_of(struct ekv *db, const struct ekv_found *found,
                                struct ekv_write *write);

/* Appends a record without chunks. */
EKV_MUST_CHECK int ekv_record_append(struct ekv *db, uint8_t kind, struct ekv_key key,
                                     const struct ekv_write *write, const void *value,
                                     uint32_t size, uint32_t *address);

/* The same for a key of which `key_size` bytes count, and a value of {head, value}: `head` is a few
 * bytes that come before the value's. */
EKV_MUST_CHECK int ekv_record_append_parts(struct ekv *db, uint8_t kind, struct ekv_key key,
                                           uint32_t key_size, const struct ekv_write *write,
                                           const uint8_t *head, uint32_t head_size,
                                           const void *value, uint32_t size, uint32_t *address);

/* Ends a record that ekv_log_begin began: version, time and ordinal as `write` says, then the
 * checksum. With an `error` from writing it, drops it instead. Returns `error`, or that of the end.
 */
EKV_MUST_CHECK int ekv_record_end(struct ekv *db, const struct ekv_write *write, int error);

/* Copies a record (a put, a delete, a head, or a pending one) to the log's head as it is, with its
 * version, time and ordinal; `flags` replaces EKV_RECORD_COMMITS. Verifies it while copying. After
 * an error `address` is what it was. */
EKV_MUST_CHECK int ekv_record_copy(struct ekv *db, const struct ekv_found *found, uint8_t flags,
                                   uint32_t *address);

/* Writes bytes of a record, from `offset` in it on, into the record that was begun. */
EKV_MUST_CHECK int ekv_record_copy_bytes(struct ekv *db, const struct ekv_record *record,
                                         uint32_t offset, uint32_t size);

#endif
