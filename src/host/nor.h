/* A NOR flash in RAM for tests and benchmarks: it refuses illegal use, counts and times every
 * operation, loses its power at a chosen one, and fails where it is told to.
 *
 * Everything it does by chance comes from one seed, so that each run can be repeated. A flash is
 * used by one thread at a time.
 *
 * What is legal: a program of bytes that were erased, by an erase that returned, since the last
 * program touched them; in multiples of the write unit, within the flash. One exception, without
 * `program_once`: the same bytes once more over those whose program was cut. Anything else is a
 * mistake of the engine: `illegal` is called with a sentence, or the process aborts with it.
 */
#ifndef EKV_HOST_NOR_H
#define EKV_HOST_NOR_H

#include "flash.h"

/* What the power cut leaves of the operation that it hits:
 *
 *                 program                               erase
 *   INVISIBLE     nothing                               nothing
 *   BYTES         the first some bytes                  one half erased, the other as it was
 *   BITS          some of the bits that it clears       some bits erased
 *   GARBLED       any bits cleared, also others;        any bytes; sometimes unstable
 *                 sometimes unstable
 *   UNSTABLE      looks complete, later reads differ    looks blank, later reads differ
 *   COMPLETE      all of it                             all of it
 *   RANDOM        one of these, by the seed */
enum nor_cut {
    NOR_CUT_INVISIBLE,
    NOR_CUT_BYTES,
    NOR_CUT_BITS,
    NOR_CUT_GARBLED,
    NOR_CUT_UNSTABLE,
    NOR_CUT_COMPLETE,
    NOR_CUT_COUNT,
    NOR_CUT_RANDOM = NOR_CUT_COUNT,
};

/* How a chip comes: all erased and known to be, or full of stale bytes. */
enum nor_start { NOR_FRESH, NOR_AGED };

enum nor_operation { NOR_READ = 1, NOR_PROGRAM = 2, NOR_ERASE = 4 };

#define NOR_ANY_SECTOR UINT32_MAX
#define NOR_FOR_GOOD   UINT32_MAX
enum { NOR_FAILURE_COUNT = 8 };

/* Operations that return an error: those of `operations` (a sum of enum nor_operation) that touch
 * `sector` (or NOR_ANY_SECTOR), after `after` of them went well, `times` times or NOR_FOR_GOOD.
 * What a failed program or erase leaves is as garbled as after a cut, and not known to be erased.
 */
struct nor_failure {
    unsigned operations;
    uint32_t sector;
    uint32_t after;
    uint32_t times;
    bool met; /* set when it has happened */
};

/* What was asked of the flash since nor_init or nor_count_reset. A program call that crosses a
 * 256-byte page counts once for each page. Time in nanoseconds: a read 1000 + 20 a byte, a program
 * 30,000 + 1450 a byte, an erase 45,000,000 (for each 4096 bytes of larger sectors). */
struct nor_counts {
    uint64_t reads, read_size;
    uint64_t programs, programmed_size;
    uint64_t erases;
    uint64_t time;
};

/* What of a flash is neither array nor geometry; copied whole by snapshots. */
struct nor_state {
    uint64_t random;
    bool powered;
    uint64_t cut_in; /* programs and erases until the cut, itself included; 0: none comes */
    enum nor_cut cut_mode;
    uint64_t operations; /* programs and erases so far, calls */
    uint64_t read_limit; /* reads left until they are taken for a hang; 0: no limit */
    uint32_t failure_count;
    struct nor_failure failures[NOR_FAILURE_COUNT];
    struct nor_counts counts;
};

struct nor_snapshot;

/* The fields above `sector_states` may be read, `illegal` and `illegal_context` set. */
struct nor {
    struct ekv_flash flash; /* for ekv_mount; its context is this struct, so it must not move */
    struct nor_state now;
    uint8_t *bytes;                                       /* what the flash holds */
    uint32_t *erase_counts;                               /* of each sector */
    void (*illegal)(void *context, const char *sentence); /* must not return */
    void *illegal_context;
    uint8_t *sector_states; /* NOR_SECTOR_*; whether a sector was changed since `base` */
    uint8_t *others;        /* a bit that differs from `bytes` is unstable */
    uint8_t *byte_states;
    uint8_t *attempts; /* what a cut program was to write */
    uint8_t *block;    /* holds the four above and `bytes` */
    const struct nor_snapshot *base;
};

/* Makes a flash. Returns false when there is no memory. */
bool nor_init(struct nor *nor, const struct ekv_geometry *geometry, enum nor_start start,
              uint64_t seed);
void nor_free(struct nor *nor);

/* Restarts the chances from a seed. */
void nor_seed(struct nor *nor, uint64_t seed);

/* A number by chance, below `limit`, from the flash's seed. */
uint64_t nor_random(struct nor *nor, uint64_t limit);

/* Gives the engine the array to read in place, as a memory-mapped chip would. Unstable bits are
 * then settled, by chance, at each nor_power_on instead of at each read. */
void nor_map(struct nor *nor);

/* The `operation`-th program or erase from now on (1: the next) loses the power; all that follow
 * fail until nor_power_on. 0 takes the cut back. */
void nor_cut_at(struct nor *nor, uint64_t operation, enum nor_cut mode);

/* Power returns: operations work again, no cut is planned. Unstable bits stay so until their
 * sector is erased. */
void nor_power_on(struct nor *nor);

/* Whether a bit that is unstable is left anywhere. */
bool nor_is_unstable(const struct nor *nor);

/* Adds a failure; at most NOR_FAILURE_COUNT at a time. */
void nor_fail(struct nor *nor, struct nor_failure failure);
void nor_fail_none(struct nor *nor);

/* Takes more than `reads` reads from now on for a hang, which is illegal use; 0: no limit. */
void nor_read_limit(struct nor *nor, uint64_t reads);

void nor_count_reset(struct nor *nor);

/* Changes bits behind the engine's back: the byte at `address` is exclusive-ored. */
void nor_flip(struct nor *nor, uint32_t address, uint8_t bits);

/* Remembers the whole flash, chances, counts and planned failures included. Restoring the snapshot
 * that was last taken or restored copies only what changed since. */
struct nor_snapshot *nor_snapshot_new(struct nor *nor);
void nor_snapshot_free(struct nor_snapshot *snapshot);
void nor_snapshot_take(struct nor *nor, struct nor_snapshot *snapshot);
void nor_snapshot_restore(struct nor *nor, const struct nor_snapshot *snapshot);

/* The array to and from a file. What is loaded counts as erased where it is 0xff, as programmed
 * elsewhere. Return false, with errno, when the file cannot be used or has another size. */
bool nor_save(const struct nor *nor, const char *path);
bool nor_load(struct nor *nor, const char *path);

#endif
