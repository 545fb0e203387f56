/* Owns the order of a memtable: keys ascending, versions of one key descending.
 *
 * An exact lookup walks the hashes in RAM and reads the log only where one matches, as long as the
 * table is one that firmware has; a lookup by order, and an exact one in the table of a large
 * transaction on a host, is a binary search with one read of the log a step. Nothing here is on
 * flash: after a power cut the memtable is built again from the log.
 */
#include "memtable.h"

#include <assert.h>
#include <string.h>

/* Hashes; to walk more of them costs more than the reads of a binary search. */
enum { WALK_MAX = 1024 };

static int record_at(const struct ekv_log *log, uint32_t address, struct ekv_record *record)
{
    int error = ekv_record_read(log, address, record);
    return error == EKV_NOT_FOUND ? EKV_CORRUPT : error;
}

int ekv_memtable_bound(const struct ekv_memtable *table, const struct ekv_log *log,
                       struct ekv_key key, bool after, uint32_t *index)
{
    uint32_t low = 0, high = table->count;
    while (low < high) {
        struct ekv_record record;
        int order;
        uint32_t middle = low + (high - low) / 2;
        int error = record_at(log, table->slots[middle].address, &record);
        if (!error)
            error = ekv_record_compare(log, &record, key, &order);
        if (error)
            return error;
        if (order > 0 || (after && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    *index = low;
    return EKV_OK;
}

int ekv_memtable_find(const struct ekv_memtable *table, const struct ekv_log *log,
                      struct ekv_key key, uint32_t hash, uint64_t limit, uint32_t *index)
{
    bool walk = table->count <= WALK_MAX;
    uint32_t first = 0;
    int error = walk ? EKV_OK : ekv_memtable_bound(table, log, key, false, &first);
    for (uint32_t i = first; !error && i < table->count; i++) {
        struct ekv_record record;
        uint64_t version = 0;
        int order;
        if (table->slots[i].hash != hash && walk)
            continue;
        if (table->slots[i].hash != hash)
            break; /* the places of a key follow its bound */
        error = record_at(log, table->slots[i].address, &record);
        if (!error)
            error = ekv_record_compare(log, &record, key, &order);
        if (!error && order == 0 && limit != EKV_VERSION_MAX)
            error = ekv_log_version(log, table->slots[i].address, &version);
        *index = i;
        if (!error && order == 0 && version <= limit)
            return EKV_OK;
    }
    return error ? error : EKV_NOT_FOUND;
}

void ekv_memtable_insert(struct ekv_memtable *table, uint32_t index, struct ekv_slot slot)
{
    assert(table->count < table->capacity && index <= table->count);
    memmove(table->slots + index + 1, table->slots + index, (table->count - index) * sizeof slot);
    table->slots[index] = slot;
    table->count++;
}

void ekv_memtable_remove(struct ekv_memtable *table, uint32_t index)
{
    assert(index < table->count);
    memmove(table->slots + index, table->slots + index + 1,
            (table->count - index - 1) * sizeof table->slots[0]);
    table->count--;
}
