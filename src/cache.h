/* The cache: where in the log the current records of some keys lie, in memory that a host gives.
 *
 * A key that is in it is found by one read of its record, and with none of the index. It holds live
 * records alone, never a removal: so what it names cannot be erased before it is moved, replaced or
 * removed, which all say so here.
 */
#ifndef EKV_CACHE_H
#define EKV_CACHE_H

#include "memtable.h"

enum { EKV_CACHE_WAYS = 4, EKV_CACHE_COUNT_MAX = 1 << 26 };

/* A bucket is EKV_CACHE_WAYS slots, the newest first; address 0: nothing. */
struct ekv_cache {
    struct ekv_slot *slots;
    uint32_t bucket_mask; /* their number less one */
    bool off;             /* no memory was given */
};

/* Slots of a cache that was asked to hold `count` keys: as many in whole buckets, rounded down to a
 * power of two. */
uint32_t ekv_cache_count(uint32_t count);

/* `slots` are `count`, which may be 0. */
void ekv_cache_init(struct ekv_cache *cache, struct ekv_slot *slots, uint32_t count);
void ekv_cache_clear(struct ekv_cache *cache);

/* The address of a key with this hash. False: none is known. It may be another key's. */
bool ekv_cache_find(const struct ekv_cache *cache, uint32_t hash, uint32_t *address);

/* Notes where the current record of a key lies, in place of what is known of keys with its hash. */
void ekv_cache_note(struct ekv_cache *cache, uint32_t hash, uint32_t address);
void ekv_cache_forget(struct ekv_cache *cache, uint32_t hash);

#endif
