/* Space that is promised to files with uncommitted changes.
 *
 * `available` is what the engine can still take. It is looked up again after every change.
 */
#include "space.h"

#include <errno.h>

#include "report.h"

enum { RECORD_MARGIN = 48, CHUNK_MARGIN = 96 };

void space_init(struct space *space, struct store *store)
{
    struct ekv_stat stat;
    ekv_stat(store->db, &stat);
    *space = (struct space){.store = store,
                            .capacity = stat.capacity_size,
                            .record_overhead = (uint32_t)stat.record_overhead,
                            .changes = UINT64_MAX};
    pthread_mutex_init(&space->lock, NULL);
}

uint64_t space_cost(const struct space *space, size_t key_size, uint64_t value_size)
{
    uint64_t sector_size = space->store->geometry.sector_size;
    uint64_t cost = value_size + key_size + space->record_overhead + RECORD_MARGIN;
    if (cost > sector_size / 2)
        cost += (value_size / (sector_size - CHUNK_MARGIN) + 2) * CHUNK_MARGIN;
    return cost;
}

static void look(struct space *space)
{
    struct ekv_stat stat;
    uint64_t changes = atomic_load(&space->store->changes);
    if (space->changes == changes)
        return;
    space->changes = changes;
    ekv_stat(space->store->db, &stat);
    uint64_t used = stat.live_size + stat.reserved_size;
    space->capacity = stat.capacity_size;
    space->available = used < stat.capacity_size ? stat.capacity_size - used : 0;
}

int space_reserve(struct space *space, uint64_t *reserved, uint64_t cost)
{
    int error = 0;
    pthread_mutex_lock(&space->lock);
    uint64_t others = space->reserved - *reserved;
    look(space);
    if (cost > space->capacity)
        error = report_refusal(EFBIG,
                               "a value of %llu bytes does not fit into this image: it can "
                               "hold %llu in all",
                               (unsigned long long)cost, (unsigned long long)space->capacity);
    else if (cost > *reserved && others + cost > space->available)
        error = report_refusal(ENOSPC,
                               "no space left: %llu bytes are needed, %llu are free; remove keys, "
                               "or use a larger image",
                               (unsigned long long)(others + cost),
                               (unsigned long long)space->available);
    if (!error) {
        space->reserved = others + cost;
        *reserved = cost;
    }
    pthread_mutex_unlock(&space->lock);
    return error;
}

void space_release(struct space *space, uint64_t *reserved)
{
    pthread_mutex_lock(&space->lock);
    space->reserved -= *reserved;
    *reserved = 0;
    pthread_mutex_unlock(&space->lock);
}

void space_stat(struct space *space, struct ekv_stat *stat, uint64_t *available)
{
    ekv_stat(space->store->db, stat);
    pthread_mutex_lock(&space->lock);
    uint64_t used = stat->live_size + stat->reserved_size + space->reserved;
    *available = used < stat->capacity_size ? stat->capacity_size - used : 0;
    pthread_mutex_unlock(&space->lock);
}
