/* Sectors: who owns each, how live each is, which are erased, and wear leveling.
 *
 * A sector is free (its content is of no use), ready (erased and stamped), or in use by the log,
 * the index or the manifest; limbo is a log sector that only open snapshots still need; retired is
 * one whose erase or program failed.
 */
#ifndef EKV_SECTOR_H
#define EKV_SECTOR_H

#include "ekv.h"
#include "format.h"
#include "mend.h"

enum ekv_sector_state {
    EKV_SECTOR_FREE = 0,
    EKV_SECTOR_READY = 1,
    EKV_SECTOR_LOG = 2,
    EKV_SECTOR_INDEX = 3,
    EKV_SECTOR_MANIFEST = 4,
    EKV_SECTOR_LIMBO = 5,
    EKV_SECTOR_RETIRED = 6,
    EKV_SECTOR_EMPTIED = 7, /* by gc; free once the manifest has said so */
    EKV_SECTOR_STATE_COUNT = 8,
    EKV_SECTOR_DIRTY = 8, /* flag: state or live count differs from what the manifest says */
};

enum {
    EKV_READY_MAX = 8,   /* runs of sectors */
    EKV_AHEAD_MAX = 255, /* sectors that are erased before one sync of a host */
    EKV_READY_TARGET = 3,
    EKV_VIRGIN_STEP = 8, /* the saved virgin mark runs ahead of the true one by up to so many */
    EKV_DISTRUST_MAX = 8,
    EKV_FAILURES_MAX = 4, /* failures in a row after which the flash itself counts as failing */
    EKV_LIVE_MAX = 240,   /* units of live count in a full sector */
};

struct ekv_sectors {
    struct ekv_flash flash;
    struct ekv_mends mends;
    struct ekv_format format;
    const struct ekv_locks *locks;
    void *lock_context;
    uint8_t *states;     /* a nibble a sector */
    uint8_t *lives;      /* live units of a log sector, generation of a limbo one */
    uint32_t *sequences; /* of log sectors, 0: not known; NULL: their stamps are read each time */
    uint32_t counts[EKV_SECTOR_STATE_COUNT];
    uint32_t ready[EKV_READY_MAX]; /* runs in the order of their erase: the first sector, and in
                                      the upper byte how many follow it */
    uint32_t virgin;
    uint32_t virgin_saved;
    uint32_t cursor; /* where the search for a free sector goes on */
    uint32_t erase_count_max;
    uint32_t distrusted[EKV_DISTRUST_MAX]; /* in use, a program failed in them */
    uint32_t distrusted_count;
    uint32_t failures; /* of programs and erases since the last that went well */
    bool freed_since_sync;
    bool erased_since_sync;
    uint8_t ready_runs;
    uint32_t wanted; /* on a host: sectors that the write that goes on may still take */
    uint64_t erases, programs, programmed_size;
    uint8_t scratch[EKV_PAGE_SIZE]; /* for stamps and manifest frames while they are written */
};

/* `memory` holds ekv_sectors_memory_size bytes; `sequences` is NULL or holds one for each sector.
 * All sectors begin free, the ring as manifest. */
size_t ekv_sectors_memory_size(uint32_t sector_count);
void ekv_sectors_init(struct ekv_sectors *sectors, const struct ekv_flash *flash, uint64_t store_id,
                      uint8_t *memory, uint32_t *sequences);

enum ekv_sector_state ekv_sector_state(const struct ekv_sectors *sectors, uint32_t sector);
void ekv_sector_set(struct ekv_sectors *sectors, uint32_t sector, enum ekv_sector_state state);
/* The first dirty sector at or after `sector`; the number of sectors if there is none. */
uint32_t ekv_sector_next_dirty(const struct ekv_sectors *sectors, uint32_t sector);
void ekv_sector_clean(struct ekv_sectors *sectors, uint32_t sector);

/* Reads what the store has on flash: everything above this layer reads through it. */
static inline int ekv_sectors_read(const struct ekv_sectors *sectors, uint32_t address,
                                   void *buffer, uint32_t size)
{
    return ekv_mends_read(&sectors->mends, &sectors->flash, address, buffer, size);
}

/* The same where it lies in the mapped flash, or read into `buffer`: `bytes` says which. */
EKV_MUST_CHECK int ekv_sectors_view(const struct ekv_sectors *sectors, uint32_t address,
                                    void *buffer, uint32_t size, const uint8_t **bytes);

/* Live units of the record at [address, address + size). They telescope: records that fill a sector
 * add up to at most EKV_LIVE_MAX. */
uint32_t ekv_sector_units(const struct ekv_sectors *sectors, uint32_t address, uint32_t size);

/* Adds a record to its sector's live count, or takes it off. Removing answers EKV_CORRUPT, and does
 * nothing, if the count is smaller than that: it came from flash. */
void ekv_sector_live_add(struct ekv_sectors *sectors, uint32_t address, uint32_t size);
EKV_MUST_CHECK int ekv_sector_live_remove(struct ekv_sectors *sectors, uint32_t address,
                                          uint32_t size);

/* A program failed in this sector: it is retired as soon as it would be free. Only as many as
 * EKV_DISTRUST_MAX are remembered, and none across a mount: the next use of such a sector then
 * fails again. */
void ekv_sector_distrust(struct ekv_sectors *sectors, uint32_t sector);
bool ekv_sector_distrusted(const struct ekv_sectors *sectors, uint32_t sector);

/* True when so many programs and erases failed in a row that it is not the sectors that are bad. */
static inline bool ekv_sectors_failing(const struct ekv_sectors *sectors)
{
    return sectors->failures >= EKV_FAILURES_MAX;
}

/* Free and ready sectors together. */
static inline uint32_t ekv_sectors_available(const struct ekv_sectors *sectors)
{
    return sectors->counts[EKV_SECTOR_FREE] + sectors->counts[EKV_SECTOR_READY];
}

/* Erases one free sector and stamps it, or takes a virgin one that reads blank. A sector that fails
 * is retired and another one tried, until the flash as a whole counts as failing. The write lock is
 * let go for the erase.
 * Errors: EKV_FULL (no sector is free). Flash: a sync if sectors were freed, one erase, one
 * program. Power cut: the sector is free. */
EKV_MUST_CHECK int ekv_sector_prepare(struct ekv_sectors *sectors);

/* The write that begins may take so many sectors. On a host, where a sync is dear and an erase is
 * not, they are then prepared many at a time. Flash: nothing. */
void ekv_sectors_want(struct ekv_sectors *sectors, uint32_t count);

/* Takes a ready sector (preparing one if there is none, and on a host those that are wanted) for
 * `state`; stamp B is still to come.
 * Errors: EKV_FULL. Flash: on a host a sync barrier if sectors were erased since the last. */
EKV_MUST_CHECK int ekv_sector_take(struct ekv_sectors *sectors, enum ekv_sector_state state,
                                   uint32_t *sector);

/* Erases and stamps a given sector: those of the manifest's ring. */
EKV_MUST_CHECK int ekv_sector_erase(struct ekv_sectors *sectors, uint32_t sector);

/* Whether the sector has stamp A of this store and reads blank behind it. Proves nothing alone: a
 * program that was cut can look like that. Flash: reads the sector. */
EKV_MUST_CHECK int ekv_sector_looks_erased(const struct ekv_sectors *sectors, uint32_t sector,
                                           bool *erased);

/* Writes and reads stamp B. Reading: EKV_NOT_FOUND if the sector was not put to use. */
EKV_MUST_CHECK int ekv_sector_stamp(struct ekv_sectors *sectors, uint32_t sector,
                                    const struct ekv_stamp_b *stamp);
EKV_MUST_CHECK int ekv_sector_stamp_read(const struct ekv_sectors *sectors, uint32_t sector,
                                         struct ekv_stamp_b *stamp);
/* True for a sector of the log, also one that gc has emptied. */
bool ekv_sector_holds_log(const struct ekv_sectors *sectors, uint32_t sector);

/* The sequence number of a log sector if memory holds it, 0 otherwise. */
static inline uint32_t ekv_sector_known_sequence(const struct ekv_sectors *sectors, uint32_t sector)
{
    return sectors->sequences ? sectors->sequences[sector] : 0;
}

/* Puts the sequence number of a log sector into memory, where there is some for it.
 * ekv_sector_stamp does; whoever has read it may, unless others read at the same time. */
void ekv_sector_note_sequence(const struct ekv_sectors *sectors, uint32_t sector,
                              uint32_t sequence);

/* True if one bit explains that stamp B cannot be read: `stamp` is then what it says without that.
 */
bool ekv_sector_stamp_flipped(const struct ekv_sectors *sectors, uint32_t sector,
                              struct ekv_stamp_b *stamp, struct ekv_mend *mend);
/* 0 for a sector that has no valid stamp A. */
uint32_t ekv_sector_erase_count(const struct ekv_sectors *sectors, uint32_t sector);

/* Programs within one page; counts it. A sector in use in which it fails is distrusted. */
EKV_MUST_CHECK int ekv_sector_program(struct ekv_sectors *sectors, uint32_t address,
                                      const void *data, uint32_t size);

/* Moves the virgin mark that is about to be written to flash ahead; returns it. */
uint32_t ekv_sectors_virgin_save(struct ekv_sectors *sectors);

#endif
