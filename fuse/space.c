/* Space that is promised to files with uncommitted changes.
 *
 * `available` is what the engine can still take. It is looked up each time, since background work
 * changes it too.
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
                            .record_overhead = (uint32_t)stat.record_overhead};
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

/* What cannot be written as long as snapshots, transactions and listings need what was there. */
static uint64_t pinned_size(const struct ekv_stat *stat)
{
    uint32_t sectors = stat->geometry.sector_count - stat->sectors_manifest - stat->sectors_retired;
    return stat->capacity_size * stat->sectors_pinned / sectors;
}

static void look(struct space *space)
{
    struct ekv_stat stat;
    ekv_stat(space->store->db, &stat);
    space->pinned = pinned_size(&stat);
    uint64_t used = stat.live_size + stat.reserved_size + space->pinned;
    space->capacity = stat.capacity_size;
    space->available = used < stat.capacity_size ? stat.capacity_size - used : 0;
}

int space_reserve(struct space *space, uint64_t *reserved, uint64_t cost, uint64_t staged)
{
    int error = 0;
    pthread_mutex_lock(&space->lock);
    uint64_t others = space->reserved - *reserved, whole = cost;
    cost = cost > staged ? cost - staged : 0;
    look(space);
    if (whole > space->capacity)
        error = report_refusal(EFBIG,
                               "a value of %llu bytes does not fit into this image: it can "
                               "hold %llu in all",
                               (unsigned long long)whole, (unsigned long long)space->capacity);
    else if (cost > *reserved && others + cost > space->available && space->pinned > 0)
        error =
            report_refusal(ENOSPC,
                           "no space left: %llu bytes are needed, %llu are free; snapshots and "
                           "transactions pin %llu bytes of old versions until they are removed",
                           (unsigned long long)(others + cost),
                           (unsigned long long)space->available, (unsigned long long)space->pinned);
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
    uint64_t used = stat->live_size + stat->reserved_size + space->reserved + pinned_size(stat);
    *available = used < stat->capacity_size ? stat->capacity_size - used : 0;
    pthread_mutex_unlock(&space->lock);
}
