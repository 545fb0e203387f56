/* Owns the buckets. Invariant: a hash stands at most once in its bucket. Nothing of it is on flash;
 * after a mount it is empty. */
#include "cache.h"

#include <string.h>

uint32_t ekv_cache_count(uint32_t count)
{
    uint32_t slots = EKV_CACHE_WAYS;
    if (count < EKV_CACHE_WAYS)
        return 0;
    while (slots * 2 <= count && slots < EKV_CACHE_COUNT_MAX)
        slots *= 2;
    return slots;
}

void ekv_cache_init(struct ekv_cache *cache, struct ekv_slot *slots, uint32_t count)
{
    cache->slots = slots;
    cache->off = count == 0;
    cache->bucket_mask = cache->off ? 0 : count / EKV_CACHE_WAYS - 1;
    ekv_cache_clear(cache);
}

void ekv_cache_clear(struct ekv_cache *cache)
{
    if (!cache->off)
        memset(cache->slots, 0,
               (cache->bucket_mask + (size_t)1) * EKV_CACHE_WAYS * sizeof cache->slots[0]);
}

static struct ekv_slot *bucket_of(const struct ekv_cache *cache, uint32_t hash)
{
    return cache->slots + (size_t)(hash & cache->bucket_mask) * EKV_CACHE_WAYS;
}

/* The way that holds a hash, EKV_CACHE_WAYS if none does. */
static uint32_t way_of(const struct ekv_slot *bucket, uint32_t hash)
{
    uint32_t way = 0;
    while (way < EKV_CACHE_WAYS && (bucket[way].hash != hash || bucket[way].address == 0))
        way++;
    return way;
}

bool ekv_cache_find(const struct ekv_cache *cache, uint32_t hash, uint32_t *address)
{
    if (cache->off)
        return false;
    const struct ekv_slot *bucket = bucket_of(cache, hash);
    uint32_t way = way_of(bucket, hash);
    if (way < EKV_CACHE_WAYS)
        *address = bucket[way].address;
    return way < EKV_CACHE_WAYS;
}

void ekv_cache_note(struct ekv_cache *cache, uint32_t hash, uint32_t address)
{
    if (cache->off)
        return;
    struct ekv_slot *bucket = bucket_of(cache, hash);
    uint32_t way = way_of(bucket, hash);
    if (way == EKV_CACHE_WAYS) {
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
        bucket[way].address = 0;
}
