/* Owns the order of a memtable: keys ascending, versions of one key descending.
 *
 * An exact lookup walks the hashes in RAM and reads the log only where one matches, as long as the
 * table is one that firmware has; a lookup by order, and an exact one in a host's memtable or the
 * table of a large transaction, is a binary search with one read of the log a step. A host's
 * memtable has hints by which most searches for what is not there end before they begin. Nothing
 * here is on flash: after a power cut the memtable is built again from the log.
 */
#include "memtable.h"

#include <assert.h>
#include <string.h>

/* Hashes; to walk more of them costs more than the reads of a binary search. */
enum { WALK_MAX = 1024 };

int ekv_memtable_bound(const struct ekv_memtable *table, const struct ekv_log *log,
                       struct ekv_key key, bool after, uint32_t *index)
{
    uint32_t low = 0, high = table->count, stride = 0;
    bool at_end = table->appended && !table->ascends;
    if (table->ascends) {
        low = ekv_min(table->near, high);
        stride = 2;
    }
    while (low < high) {
        struct ekv_record record;
        int order;
        uint32_t middle = at_end ? high - 1 : low + (high - low) / 2;
        if (stride > 0 && stride < high - low) {
            middle = low + stride - 1;
            stride *= 2;
        }
        at_end = false;
        int error = ekv_record_at(log, table->slots[middle].address, &record);
        if (!error)
            error = ekv_record_compare(log, &record, key, &order);
        if (error)
            return error;
        if (order > 0 || (after && order == 0)) {
            low = middle + 1;
        } else {
            high = middle;
            stride = 0;
        }
    }
    *index = low;
    return EKV_OK;
}

/* --- Hints ----------------------------------------------------------------------------------- */

uint32_t ekv_memtable_hint_size(uint32_t capacity)
{
    uint32_t size = 1;
    while (size <= capacity / 2)
        size *= 2;
    return capacity > WALK_MAX ? size : 0;
}

void ekv_memtable_init(struct ekv_memtable *table, struct ekv_slot *slots, uint32_t capacity,
                       uint8_t *hints)
{
    uint32_t size = ekv_memtable_hint_size(capacity);
    *table = (struct ekv_memtable){
        .slots = slots, .capacity = capacity, .limit = capacity, .hints = size > 0 ? hints : NULL};
    table->hint_mask = size * 8 - 1;
    ekv_memtable_clear(table);
}

void ekv_memtable_clear(struct ekv_memtable *table)
{
    table->count = 0;
    if (table->hints)
        memset(table->hints, 0, table->hint_mask / 8 + 1);
}

/* The two bits of a hash. */
static uint32_t hint_at(const struct ekv_memtable *table, uint32_t hash, bool second)
{
    return (second ? hash >> 16 | hash << 16 : hash) & table->hint_mask;
}

static bool hint(const struct ekv_memtable *table, uint32_t hash)
{
    uint32_t one = hint_at(table, hash, false), two = hint_at(table, hash, true);
    return table->hints[one / 8] >> one % 8 & table->hints[two / 8] >> two % 8 & 1;
}

static void hint_set(struct ekv_memtable *table, uint32_t hash)
{
    uint32_t one = hint_at(table, hash, false), two = hint_at(table, hash, true);
    table->hints[one / 8] |= (uint8_t)(1u << one % 8);
    table->hints[two / 8] |= (uint8_t)(1u << two % 8);
}

/* --- Slots ----------------------------------------------------------------------------------- */

/* The first slot with a hash, from `index` on; `count` if there is none. */
static uint32_t next_with(const struct ekv_memtable *table, uint32_t hash, uint32_t index)
{
    while (index < table->count && table->slots[index].hash != hash)
        index++;
    return index;
}

int ekv_memtable_find(const struct ekv_memtable *table, const struct ekv_log *log,
                      struct ekv_key key, uint32_t hash, uint64_t limit, uint32_t *index)
{
    bool walk = table->count <= WALK_MAX && !table->hints;
    uint32_t i = 0;
    if (table->hints && !hint(table, hash))
        return EKV_NOT_FOUND;
    int error = walk ? EKV_OK : ekv_memtable_bound(table, log, key, false, &i);
    for (; !error; i++) {
        struct ekv_record record;
        uint64_t version = 0;
        int order;
        if (walk)
            i = next_with(table, hash, i);
        if (i >= table->count || table->slots[i].hash != hash)
            return EKV_NOT_FOUND; /* the places of a key follow its bound */
        error = ekv_record_at(log, table->slots[i].address, &record);
        if (!error)
            error = ekv_record_compare(log, &record, key, &order);
        if (!error && order == 0 && limit != EKV_VERSION_MAX)
            error = ekv_log_version(log, table->slots[i].address, &version);
        *index = i;
        if (!error && order == 0 && version <= limit)
            return EKV_OK;
    }
    return error;
}

void ekv_memtable_insert(struct ekv_memtable *table, uint32_t index, struct ekv_slot slot)
{
    assert(table->count < table->capacity && index <= table->count);
    table->appended = index == table->count;
    memmove(table->slots + index + 1, table->slots + index, (table->count - index) * sizeof slot);
    table->slots[index] = slot;
    table->count++;
    if (table->hints)
        hint_set(table, slot.hash);
}

void ekv_memtable_remove(struct ekv_memtable *table, uint32_t index)
{
    assert(index < table->count);
    memmove(table->slots + index, table->slots + index + 1,
            (table->count - index - 1) * sizeof table->slots[0]);
    table->count--;
}
