/* Owns the buckets. Invariants: a hash stands at most once in its bucket; a bucket that is not
 * partial holds the hash of every key that the index has had since it was empty, of removed ones,
 * too: another key may have the same. Nothing of it is on flash; after a mount it is empty. */
#include "cache.h"

#include <string.h>

/* In the place of an address. */
enum { NOTHING = 0, REMOVED = 1 };

uint32_t ekv_cache_count(uint32_t count)
{
    uint32_t slots = EKV_CACHE_WAYS;
    if (count < EKV_CACHE_WAYS)
        return 0;
    while (slots * 2 <= count && slots < EKV_CACHE_COUNT_MAX)
        slots *= 2;
    return slots;
}

size_t ekv_cache_size(uint32_t count)
{
    return count * sizeof(struct ekv_slot) + (count / EKV_CACHE_WAYS + 7) / 8;
}

void ekv_cache_init(struct ekv_cache *cache, void *memory, uint32_t count)
{
    cache->slots = memory;
    cache->partial = (uint8_t *)memory + count * sizeof(struct ekv_slot);
    cache->off = count == 0;
    cache->bucket_mask = cache->off ? 0 : count / EKV_CACHE_WAYS - 1;
    ekv_cache_clear(cache, false);
}

void ekv_cache_clear(struct ekv_cache *cache, bool complete)
{
    uint32_t count = cache->bucket_mask + 1;
    if (cache->off)
        return;
    memset(cache->slots, 0, count * EKV_CACHE_WAYS * sizeof cache->slots[0]);
    memset(cache->partial, complete ? 0 : 0xff, (count + 7) / 8);
}

static struct ekv_slot *bucket_of(const struct ekv_cache *cache, uint32_t hash)
{
    return cache->slots + (size_t)(hash & cache->bucket_mask) * EKV_CACHE_WAYS;
}

/* The way that holds a hash, EKV_CACHE_WAYS if none does. */
static uint32_t way_of(const struct ekv_slot *bucket, uint32_t hash)
{
    uint32_t way = 0;
    while (way < EKV_CACHE_WAYS && (bucket[way].hash != hash || bucket[way].address == NOTHING))
        way++;
    return way;
}

enum ekv_cache_answer ekv_cache_find(const struct ekv_cache *cache, uint32_t hash,
                                     uint32_t *address)
{
    if (cache->off)
        return EKV_CACHE_UNKNOWN;
    const struct ekv_slot *bucket = bucket_of(cache, hash);
    uint32_t number = hash & cache->bucket_mask, way = way_of(bucket, hash);
    if (way == EKV_CACHE_WAYS)
        return cache->partial[number / 8] >> number % 8 & 1 ? EKV_CACHE_UNKNOWN : EKV_CACHE_NONE;
    *address = bucket[way].address;
    return *address == REMOVED ? EKV_CACHE_UNKNOWN : EKV_CACHE_PLACE;
}

void ekv_cache_note(struct ekv_cache *cache, uint32_t hash, uint32_t address)
{
    if (cache->off)
        return;
    struct ekv_slot *bucket = bucket_of(cache, hash);
    uint32_t number = hash & cache->bucket_mask, way = way_of(bucket, hash);
    if (way == EKV_CACHE_WAYS) {
        if (bucket[EKV_CACHE_WAYS - 1].address != NOTHING)
            cache->partial[number / 8] |= (uint8_t)(1u << number % 8);
        memmove(bucket + 1, bucket, (EKV_CACHE_WAYS - 1) * sizeof bucket[0]);
        way = 0;
    }
    bucket[way] = (struct ekv_slot){address, hash};
}

void ekv_cache_forget(struct ekv_cache *cache, uint32_t hash)
{
    if (cache->off)
        return;
    struct ekv_slot *bucket = bucket_of(cache, hash);
    uint32_t way = way_of(bucket, hash);
    if (way < EKV_CACHE_WAYS)
        bucket[way].address = REMOVED;
}
