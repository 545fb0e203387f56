/* The memtable: pointers to the newest records of the log, sorted by key, in the caller's memory.
 *
 * A key may stand in it several times, newest version first, while snapshots need the older ones.
 * A transaction's own writes are a memtable too.
 */
#ifndef EKV_MEMTABLE_H
#define EKV_MEMTABLE_H

#include "log.h"

struct ekv_slot {
    uint32_t address;
    uint32_t hash;
};

/* `hints` is NULL, or what says of most hashes that no slot has them: bits, of which every hash
 * that was inserted since the last clear has set two. */
struct ekv_memtable {
    struct ekv_slot *slots;
    uint32_t count;
    uint32_t capacity;
    uint32_t limit; /* keys after which a flush is due */
    bool appended;  /* the last insertion was at the end: the next may be, too */
    uint8_t *hints;
    uint32_t hint_mask; /* number of bits less one */
    bool ascends;       /* keys are looked for in order: */
    uint32_t near;      /* places before this one have smaller keys */
};

/* Bytes of hints for a memtable of so many keys; 0 where its hashes are walked through. */
uint32_t ekv_memtable_hint_size(uint32_t capacity);

/* `hints` are the bytes that ekv_memtable_hint_size gives. */
void ekv_memtable_init(struct ekv_memtable *table, struct ekv_slot *slots, uint32_t capacity,
                       uint8_t *hints);
void ekv_memtable_clear(struct ekv_memtable *table);

/* Finds the newest entry of `key` whose version is at most `limit`; its address and place.
 * EKV_NOT_FOUND if there is none. Flash: one read for each entry with the same hash. */
EKV_MUST_CHECK int ekv_memtable_find(const struct ekv_memtable *table, const struct ekv_log *log,
                                     struct ekv_key key, uint32_t hash, uint64_t limit,
                                     uint32_t *index);

/* The first place whose key is >= `key` (> `key` with `after`). Flash: log2(count) reads, or, if it
 * ascends, about twice the logarithm of how many places it goes on. */
EKV_MUST_CHECK int ekv_memtable_bound(const struct ekv_memtable *table, const struct ekv_log *log,
                                      struct ekv_key key, bool after, uint32_t *index);

/* Inserts a slot at a place found by the two above. The table must have room. */
void ekv_memtable_insert(struct ekv_memtable *table, uint32_t index, struct ekv_slot slot);
void ekv_memtable_remove(struct ekv_memtable *table, uint32_t index);

#endif
