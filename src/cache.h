/* The cache: where in the log the current records of some keys lie, in memory that a host gives.
 *
 * A key that is in it is found by one read of its record, and with none of the index. It holds live
 * records alone, never a removal: so what it names cannot be erased before it is moved, replaced or
 * removed, which all say so here. Of a store that was empty at its mount it hears of every key:
 * then it knows, too, which keys are not there.
 */
#ifndef EKV_CACHE_H
#define EKV_CACHE_H

#include "memtable.h"

enum { EKV_CACHE_WAYS = 4, EKV_CACHE_COUNT_MAX = 1 << 26 };

enum ekv_cache_answer {
    EKV_CACHE_UNKNOWN,
    EKV_CACHE_PLACE, /* a key with the hash lies there */
    EKV_CACHE_NONE,  /* there is no key with the hash, and was none since the store was empty */
};

/* A bucket is EKV_CACHE_WAYS slots, the newest first. */
struct ekv_cache {
    struct ekv_slot *slots;
    uint8_t *partial;     /* bits: keys may be there whose hash the bucket does not hold */
    uint32_t bucket_mask; /* their number less one */
    bool off;             /* no memory was given */
};

/* Slots of a cache that was asked to hold `count` keys: as many in whole buckets, rounded down to a
 * power of two. */
uint32_t ekv_cache_count(uint32_t count);

/* Bytes that so many slots take, aligned as they are. */
size_t ekv_cache_size(uint32_t count);

/* `memory` is of that size; `count` may be 0. */
void ekv_cache_init(struct ekv_cache *cache, void *memory, uint32_t count);

/* Forgets everything. `complete`: the index is empty, so it will hear of every key. */
void ekv_cache_clear(struct ekv_cache *cache, bool complete);

/* What is known of keys with this hash. The address may be another key's than the one meant. */
enum ekv_cache_answer ekv_cache_find(const struct ekv_cache *cache, uint32_t hash,
                                     uint32_t *address);

/* Notes where the current record of a key lies, in place of what is known of keys with its hash. */
void ekv_cache_note(struct ekv_cache *cache, uint32_t hash, uint32_t address);
void ekv_cache_forget(struct ekv_cache *cache, uint32_t hash);

#endif
