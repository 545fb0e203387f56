/* The log: records appended to a chain of sectors, and read back.
 *
 * Records gather in a buffer of a few program pages, of which the oldest is programmed when all are
 * full; or all, when ekv_log_flush says that what was appended must be durable. Until then a record
 * can be given another value of the same size where it is.
 */
#ifndef EKV_LOG_H
#define EKV_LOG_H

#include "sector.h"

struct ekv_log {
    struct ekv_sectors *sectors;
    uint32_t sector;   /* the head: where records are appended */
    uint32_t sequence; /* of the head sector */
    uint32_t offset;   /* where the next record goes */
    uint32_t flushed;  /* up to here the head is programmed; the rest is in `pages` */
    uint32_t next;     /* the head's successor: erased, stamped, named by the head's stamp B */
    uint32_t crc;      /* of the record being written */
    uint32_t record_begin, record_end;
    bool open;         /* a record was begun and not ended */
    bool failed;       /* nothing may be appended in this sector any more: recover.h */
    bool last_resort;  /* it may roll into its last sector without a successor */
    bool settled;      /* replay has found the head: all log sectors are stamped */
    uint8_t *pages;    /* the buffer: from the page on that `flushed` lies in */
    uint32_t page_max; /* that it may hold; see ekv_log_narrow */
    uint8_t *copy;     /* NULL, or a page as mount read it: its flash may be unstable */
    uint32_t copy_address;
    uint32_t copy_size; /* the page, or it and the next one, which was blank; or what a failed
                           program left in the buffer */
};

/* A record as its first bytes tell it. `peek_size` bytes of the log from its address on are at
 * hand: where they lie in the mapped flash, the rest of its sector, or else copies of the first
 * ones. */
enum { EKV_RECORD_PEEK = 24 };

struct ekv_record {
    struct ekv_record_layout layout;
    uint32_t address;
    uint32_t peek_size;
    const uint8_t *mapped; /* NULL: they are in `peek` */
    uint8_t peek[EKV_RECORD_PEEK];
};

static inline const uint8_t *ekv_record_peek(const struct ekv_record *record)
{
    return record->mapped ? record->mapped : record->peek;
}

static inline uint8_t ekv_record_kind(const struct ekv_record *record)
{
    return ekv_type_kind(record->layout.type);
}

/* --- Appending ------------------------------------------------------------------------------- */

/* Starts a log in a ready sector with this sequence number. `previous_end`: offset in the sector
 * that was the head before, up to which its records are proven; 0 for the first. If there is no
 * second sector for its successor, the log cannot leave the first. Errors: EKV_FULL; the log is as
 * before then. Flash: takes two ready sectors, programs one stamp. */
EKV_MUST_CHECK int ekv_log_start(struct ekv_log *log, uint32_t sequence, uint32_t previous_end);

/* Appends a record: begin, write its `key_size + value_size` bytes (and version and time if its
 * flags say so) in any pieces, end. `begin` moves to the successor sector if the record does not
 * fit. Errors: EKV_FULL (no sector left for a successor). A record that cannot be ended is dropped
 * with ekv_log_drop.
 * Power cut: what was not flushed may be missing, in order. */
EKV_MUST_CHECK int ekv_log_begin(struct ekv_log *log, struct ekv_record_layout *layout,
                                 uint32_t *address);
EKV_MUST_CHECK int ekv_log_write(struct ekv_log *log, const void *data, uint32_t size);
EKV_MUST_CHECK int ekv_log_end(struct ekv_log *log);

/* Forgets a record that was begun and cannot be ended. What of it is on flash already, nothing can
 * be appended behind: the log has failed then. */
void ekv_log_drop(struct ekv_log *log);

/* Programs what is buffered. Errors: EKV_IO: what was buffered is still read from the buffer, and
 * the log has failed. Flash: a program for each page, or none. */
EKV_MUST_CHECK int ekv_log_flush(struct ekv_log *log);

/* The pages of the buffer behind the first are those in which flushes build runs and large values
 * their trees. A flush programs the log before; who appends while those pages are in use has the
 * buffer programmed up to its last page and makes do with that one until ekv_log_widen.
 * Errors: EKV_IO, as ekv_log_flush; then it is not narrow. */
EKV_MUST_CHECK int ekv_log_narrow(struct ekv_log *log);
void ekv_log_widen(struct ekv_log *log, uint32_t page_max);

/* True if nothing of what lies at this address of the log was programmed yet. */
bool ekv_log_is_buffered(const struct ekv_log *log, uint32_t address);

/* Gives a buffered record other bytes from `offset` of it on, and its checksum. Flash: nothing. */
void ekv_log_rewrite(struct ekv_log *log, const struct ekv_record *record, uint32_t offset,
                     const void *bytes, uint32_t size);

/* Bytes that a record may still take in the head sector. */
uint32_t ekv_log_room(const struct ekv_log *log);

/* Moves the head to its successor sector. Errors: EKV_FULL; EKV_IO: the log has failed. */
EKV_MUST_CHECK int ekv_log_roll(struct ekv_log *log);

/* Close and open records use the room that every sector keeps for them. */
EKV_MUST_CHECK int ekv_log_append_mark(struct ekv_log *log, uint8_t kind, const void *value,
                                       uint32_t size);

/* True if a close record and the open behind it fit into the head sector. */
bool ekv_log_can_close(const struct ekv_log *log);

/* Position of the next record. */
static inline uint64_t ekv_log_position(const struct ekv_log *log)
{
    return ekv_position(&log->sectors->format, log->sequence, log->offset);
}

/* --- Reading --------------------------------------------------------------------------------- */

/* Reads bytes of the log, buffered ones too. */
EKV_MUST_CHECK int ekv_log_read(const struct ekv_log *log, uint32_t address, void *buffer,
                                uint32_t size);

/* Sequence number of the log sector that holds `address`. EKV_NOT_FOUND: no log sector.
 * EKV_CORRUPT: one whose stamp B is damaged by more than a bit. */
EKV_MUST_CHECK int ekv_log_sequence(const struct ekv_log *log, uint32_t address,
                                    uint32_t *sequence);

/* Decodes the record at `address`. EKV_NOT_FOUND: no record can begin there. */
EKV_MUST_CHECK int ekv_record_read(const struct ekv_log *log, uint32_t address,
                                   struct ekv_record *record);

/* The same for an address that the store itself points to: EKV_CORRUPT if no record is there. */
EKV_MUST_CHECK int ekv_record_at(const struct ekv_log *log, uint32_t address,
                                 struct ekv_record *record);

/* Checks a record's crc. EKV_CORRUPT if it does not match. */
EKV_MUST_CHECK int ekv_record_verify(const struct ekv_log *log, const struct ekv_record *record,
                                     uint32_t sequence);

/* The same, and `size` bytes of the record from `offset` on, which are nothing after an error. */
EKV_MUST_CHECK int ekv_record_verified(const struct ekv_log *log, const struct ekv_record *record,
                                       uint32_t sequence, uint32_t offset, void *buffer,
                                       uint32_t size);

/* The record at `address`, decoded and checked; to walk through a sector with. A close record that
 * was cut by a loss of power may be unreadable, while the open record that a mount programmed
 * behind it is there: then that one. EKV_NOT_FOUND: neither. */
EKV_MUST_CHECK int ekv_record_find(const struct ekv_log *log, uint32_t address, uint32_t sequence,
                                   struct ekv_record *record);

/* As ekv_record_read for whoever walks over a sector and does not check each record: steps over a
 * close record as ekv_record_find does. The record may lie behind `address` then. */
EKV_MUST_CHECK int ekv_record_step(const struct ekv_log *log, uint32_t address, uint32_t sequence,
                                   struct ekv_record *record);

/* Takes `size` bytes at `address` for a record with a wrong checksum: the one flipped bit that
 * explains it, and the record's type without that. EKV_NOT_FOUND: no single bit does. */
EKV_MUST_CHECK int ekv_record_flipped(const struct ekv_log *log, uint32_t address, uint32_t size,
                                      uint32_t sequence, struct ekv_mend *mend, uint8_t *type);

/* Reads from the record's bytes at `offset` (its head included). */
EKV_MUST_CHECK int ekv_record_bytes(const struct ekv_log *log, const struct ekv_record *record,
                                    uint32_t offset, void *buffer, uint32_t size);

/* The version that a record wrote: its own position, or the one it carries. */
EKV_MUST_CHECK int ekv_record_version(const struct ekv_log *log, const struct ekv_record *record,
                                      uint32_t sequence, uint64_t *version);
/* Version of what a log address holds. EKV_CORRUPT if it holds no record. */
EKV_MUST_CHECK int ekv_log_version(const struct ekv_log *log, uint32_t address, uint64_t *version);

/* Every version is at most this. */
#define EKV_VERSION_MAX UINT64_MAX

EKV_MUST_CHECK int ekv_record_time(const struct ekv_log *log, const struct ekv_record *record,
                                   int64_t *time);

/* The ordinal that a record carries: the number of versions its key has had, modulo 256. 0 for a
 * record without one. */
EKV_MUST_CHECK int ekv_record_ordinal(const struct ekv_log *log, const struct ekv_record *record,
                                      uint8_t *ordinal);

/* A key that lies in the log: where it lies, if it is mapped, or else `prefix` holds its first
 * EKV_KEY_PREFIX bytes, which is all that a separator is compared with, and `key->rest` says where
 * it is. So that a collection needs no buffer for long keys. */
enum { EKV_KEY_PREFIX = EKV_SEPARATOR_SIZE_MAX };

EKV_MUST_CHECK int ekv_record_key(const struct ekv_log *log, const struct ekv_record *record,
                                  uint8_t prefix[EKV_KEY_PREFIX], struct ekv_key *key);

/* Orders `key` against a record's key: *order is < 0, 0 or > 0. */
EKV_MUST_CHECK int ekv_record_compare(const struct ekv_log *log, const struct ekv_record *record,
                                      struct ekv_key key, int *order);
EKV_MUST_CHECK int ekv_record_hash(const struct ekv_log *log, const struct ekv_record *record,
                                   uint32_t *hash);
uint32_t ekv_key_hash(struct ekv_key key);

static inline uint8_t ekv_record_space(const struct ekv_record *record)
{
    return record->layout.type & EKV_RECORD_ASIDE ? EKV_ASIDE : EKV_USER;
}

/* A record found: what it is, and the sequence number of its sector. */
struct ekv_found {
    struct ekv_record record;
    uint32_t sequence;
};

/* ekv_record_at, and the sequence number of its sector. */
EKV_MUST_CHECK int ekv_found_at(const struct ekv_log *log, uint32_t address,
                                struct ekv_found *found);

/* Fails with EKV_CORRUPT in one place, so that one breakpoint finds every damage. */
int ekv_corrupt(void);

#endif
