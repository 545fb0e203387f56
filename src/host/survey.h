/* A tolerant scan of everything that the bytes of a flash, or of a part of one, still hold.
 *
 * It needs no mount, no manifest and no undamaged structure: it goes from the stamps and checksums
 * alone, and goes on after whatever is broken. It finds stores in larger dumps, says of each sector
 * what is in it, lists every put, delete and head record of all log sectors (those not yet erased
 * included) with its version and whether it was committed, and puts large values together again.
 *
 * Nothing is ever written. Functions return EKV_OK or a negative result; what is broken is a
 * finding and no error. A survey copies the keys, so it may be kept while the store goes on; values
 * are read from flash when they are asked for, and verified then: EKV_NOT_FOUND says that they are
 * gone. Of a store that is in use a survey is made under its read lock.
 */
#ifndef EKV_HOST_SURVEY_H
#define EKV_HOST_SURVEY_H

#include "ekv.h"
#include "format.h"

/* --- What is looked at ----------------------------------------------------------------------- */

/* The bytes of a dump: in memory, or (`bytes` NULL) read through a flash. Must outlive the survey.
 */
struct survey_source {
    const uint8_t *bytes;
    const struct ekv_flash *flash;
    uint64_t size;
};

struct survey_source survey_source_of_bytes(const void *bytes, uint64_t size);
/* All of a flash; its geometry is used for its size only. */
struct survey_source survey_source_of_flash(const struct ekv_flash *flash);

/* A store that lies in a dump. `offset` is where its first byte lies; below 0 when the dump begins
 * in the middle of it. */
struct survey_place {
    int64_t offset;
    struct ekv_geometry geometry;
    uint64_t store_id;
    uint32_t stamp_count;    /* sectors whose stamp A says all this */
    uint32_t manifest_count; /* sectors of these that hold a part of a manifest */
    uint32_t used_count;     /* sectors of these that are in use, or were since their last erase */
};

/* Finds the stores in a dump by their stamps, wherever they lie. `places` is malloc'ed, the most
 * likely store first; one that was formatted over comes behind the one that took its place. With
 * `offset` (may be NULL) only stores that begin there.
 * Errors: EKV_NO_STORE, EKV_MEMORY, EKV_IO. Flash: reads all of it once. */
EKV_MUST_CHECK int survey_find(const struct survey_source *source, const int64_t *offset,
                               struct survey_place **places, uint32_t *count);

/* --- What is found --------------------------------------------------------------------------- */

enum survey_role {
    SURVEY_MISSING,  /* not in this dump */
    SURVEY_MANIFEST, /* of the ring, in use or from before */
    SURVEY_LOG,      /* in use, or not known not to be */
    SURVEY_INDEX,    /* the same */
    SURVEY_STALE,    /* free, with what it held before */
    SURVEY_READY,    /* free, erased and stamped */
    SURVEY_BLANK,    /* reads 0xff: never used, or its erase was cut off */
    SURVEY_FOREIGN,  /* free, with bytes of something else: of before the format */
    SURVEY_RETIRED,  /* an erase or program of it failed */
    SURVEY_DAMAGED,  /* in use, but what it is cannot be read any more */
    SURVEY_ROLE_COUNT,
};

/* "log", "stale", ... */
const char *survey_role_name(enum survey_role role);

struct survey_sector {
    uint8_t role; /* enum survey_role */
    uint8_t kind; /* enum ekv_sector_kind as stamp B says; 0: not in use, or not readable */
    bool stamped; /* stamp A is good: `erase_count` is known */
    bool solved;  /* stamp B is broken; kind and sequence follow from what lies in it */
    bool torn;    /* ends in bytes that are no record */
    uint32_t erase_count;
    uint32_t sequence;
    uint32_t next;         /* as stamp B says; also for manifest sectors */
    uint32_t previous_end; /* as stamp B says */
    uint32_t used_size;    /* bytes up to the end of what was programmed, stamps included */
    uint32_t live_size;    /* bytes of current records and of the pieces of their values */
    uint32_t record_count; /* records, pages or frames that are good */
    uint32_t broken_count; /* places where something is broken */
};

enum survey_state {
    SURVEY_COMMITTED,
    SURVEY_PENDING, /* of a transaction that was aborted, cut off, or is not committed yet */
    SURVEY_UNKNOWN, /* what would tell is not there any more, or the record is damaged */
};

/* A put, delete or head record. Times are microseconds since 1970, 0: not known. */
struct survey_record {
    const uint8_t *key; /* lives as long as the survey */
    uint32_t key_size;
    uint8_t space; /* EKV_USER, EKV_ASIDE */
    uint8_t kind;  /* EKV_RECORD_PUT, _DELETE, _HEAD */
    uint8_t flags; /* EKV_RECORD_* */
    uint8_t state; /* enum survey_state */
    bool valid;    /* its checksum is right */
    bool torn;     /* at the end of the log, where power was lost: never committed */
    bool mendable; /* it is not, but one flipped bit behind the head explains that */
    bool current;  /* what a mount shows; also a delete that still hides something */
    bool indexed;  /* a run of the newest manifest points at it */
    bool in_run;   /* a run of any manifest does */
    bool copy;     /* the same version is there before it, in better shape or newer */
    uint64_t version;
    uint64_t position; /* in the log; of a copy that gc made it is larger than the version */
    uint64_t begin;    /* its transaction is visible from this version on */
    uint64_t commit;   /* names its transaction: position of the commit record, or its version */
    int64_t time;      /* when it was written: in a transaction that may be before the commit */
    uint64_t size;     /* of the value */
    uint32_t address;  /* in the flash */
    uint32_t record_size;
};

/* Something broken. `code` is stable, the address counts from the begin of the flash. With `note`
 * it is nothing that a mount would ever read. */
struct survey_finding {
    const char *code;
    const char *text;
    uint32_t address;
    bool note;
    const uint8_t *key; /* NULL, or the key it touches */
    uint32_t key_size;
    uint8_t space;
};

struct survey_run {
    uint32_t id, root, entry_count, sequence, filter;
    uint16_t filter_blocks;
    uint8_t level, height;
    bool current;
};

/* What the newest readable state of the manifest says. */
struct survey_manifest {
    bool found;         /* a whole checkpoint was read */
    bool whole;         /* and nothing behind it is damaged: a mount sees the same */
    bool torn;          /* and behind that bytes were programmed that are none of it */
    bool index_damaged; /* a page or an entry of a current run is lost: so is the way to its keys */
    uint32_t sequence;
    uint32_t retain; /* versions of each key to keep; with the top bit set, a span in seconds */
    char label[32];
    uint32_t next_run_id, replay_sector, replay_sequence, replay_offset;
    uint64_t counted, flushed, live_size;
    uint32_t keys, keys_aside, virgin, erase_count_max;
    struct survey_run
        *runs; /* of all manifests that can be read; the current ones in order first */
    uint32_t run_count;
};

struct survey {
    struct survey_source source;
    struct survey_place place;
    struct ekv_format format;
    struct survey_manifest manifest;
    struct survey_sector *sectors; /* geometry.sector_count of them */
    struct survey_record *records; /* by space, key, version (newest first), copies last */
    uint32_t record_count;
    struct survey_finding *findings;
    uint32_t finding_count;
    uint64_t newest;   /* version committed last */
    uint64_t oldest;   /* the oldest committed one whose record is there */
    uint64_t complete; /* of the log from this position on nothing is missing */
    struct survey_parts *parts;
};

struct survey_options {
    const struct ekv_key *key; /* NULL: all keys; else this one only, at far less cost */
};

/* Looks at a store at a place that survey_find found, or that the caller knows.
 * `options` may be NULL. On error there is nothing to close.
 * Errors: EKV_MEMORY, EKV_IO, EKV_GEOMETRY. Flash: reads all log, index and manifest sectors. */
EKV_MUST_CHECK int survey_open(struct survey *survey, const struct survey_source *source,
                               const struct survey_place *place,
                               const struct survey_options *options);
void survey_close(struct survey *survey);

/* --- Versions of keys ------------------------------------------------------------------------ */

/* Index behind the records of the key that `index` belongs to: for loops from key to key. */
uint32_t survey_key_end(const struct survey *survey, uint32_t index);

/* The records of a key: [*first, *end). EKV_NOT_FOUND: there is none. */
int survey_key_find(const struct survey *survey, struct ekv_key key, uint32_t *first,
                    uint32_t *end);

/* Every version: as a moment for the functions below. */
#define SURVEY_NOW UINT64_MAX

/* Among the records of one key from `index` on: the one that was current at `version`, a removal
 * too; NULL if there is none. At SURVEY_NOW it is what a mount shows; else the newest committed one
 * whose transaction was committed at `version`. `certain` (may be NULL): no version in between can
 * have been erased meanwhile. */
const struct survey_record *survey_visible(const struct survey *survey, uint32_t index,
                                           uint64_t version, bool *certain);

/* The newest committed version of a key that is not there now, or NULL: what undelete gives back.
 */
const struct survey_record *survey_deleted(const struct survey *survey, uint32_t index);

/* The newest version that was committed at or before a time. EKV_NOT_FOUND: none was, or no time
 * is known. Errors: EKV_MEMORY. */
EKV_MUST_CHECK int survey_time_version(const struct survey *survey, int64_t time,
                                       uint64_t *version);

/* --- Transactions ---------------------------------------------------------------------------- */

/* Committed together: `count` records from `records` on, ascending by space and key. Not
 * `complete`: its commit record says that it wrote more than is there. */
struct survey_transaction {
    uint64_t version; /* names it; the store is as after it at this version */
    int64_t time;     /* of the commit; of one that a run committed, its last record's */
    const struct survey_record **records;
    uint32_t count;
    bool complete;
};

/* All, newest first; free() the array, of which `records` is a part. Errors: EKV_MEMORY. */
EKV_MUST_CHECK int survey_transactions(const struct survey *survey,
                                       struct survey_transaction **transactions, uint32_t *count);

/* --- Values ---------------------------------------------------------------------------------- */

/* Reads the value of a record into malloc'ed memory. What cannot be read is zeroes, and counted in
 * `lost` (bytes); other copies of the version are asked too. Where one flipped bit explains a wrong
 * checksum, of the record or of a piece of its value, it is put right.
 * Errors: EKV_NOT_FOUND (the record itself is gone: erased or overwritten), EKV_MEMORY, EKV_IO. */
EKV_MUST_CHECK int survey_value(const struct survey *survey, const struct survey_record *record,
                                uint8_t **value, uint64_t *size, uint64_t *lost);

/* Calls `visit` with each part of the value that can be read, in order: `size` bytes at `offset`
 * of it, which lie at `address` in the flash. Stops when it returns other than EKV_OK, and returns
 * that. `lost` as above. */
EKV_MUST_CHECK int
survey_value_visit(const struct survey *survey, const struct survey_record *record,
                   int (*visit)(void *context, uint64_t offset, const uint8_t *bytes, uint32_t size,
                                uint32_t address),
                   void *context, uint64_t *lost);

/* --- What lies in a sector ------------------------------------------------------------------- */

enum survey_item_kind {
    SURVEY_STAMP_A,
    SURVEY_STAMP_B,
    SURVEY_RECORD,
    SURVEY_PAGE, /* of the run `number` */
    SURVEY_FRAME,
    SURVEY_EMPTY,   /* 0xff */
    SURVEY_UNCLEAR, /* anything else */
};

/* `bytes` are those of the whole item, and live for the duration of the call. */
struct survey_item {
    enum survey_item_kind kind;
    bool valid;
    uint32_t offset, size;
    const uint8_t *bytes;
    struct ekv_record_layout layout; /* of a record */
    uint32_t number;                 /* of a page: its run; of a frame: its type */
};

/* Calls `visit` with everything in a sector, in the order of its offsets, without gaps. Stops when
 * it returns other than EKV_OK, and returns that. Errors: EKV_NOT_FOUND (the sector is missing). */
EKV_MUST_CHECK int survey_sector_visit(const struct survey *survey, uint32_t sector,
                                       int (*visit)(void *context, const struct survey_item *item),
                                       void *context);

/* Reads bytes of the flash. EKV_NOT_FOUND: they are not in the dump. */
EKV_MUST_CHECK int survey_read(const struct survey *survey, uint32_t address, void *buffer,
                               uint32_t size);

/* The address's place in the dump. */
static inline int64_t survey_offset(const struct survey *survey, uint32_t address)
{
    return survey->place.offset + (int64_t)address;
}

#endif
