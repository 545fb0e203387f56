/* What cursors and merges have in common: of the key that a source stands on they keep the begin,
 * which orders most keys without another read.
 */
#include "source.h"

#include <string.h>

int ekv_source_take(const struct ekv_log *log, struct ekv_source *source,
                    const struct ekv_found *found)
{
    const struct ekv_record *record = &found->record;
    uint32_t size = ekv_min(record->layout.key_size, EKV_SOURCE_PREFIX);
    int error = ekv_record_verify(log, record, found->sequence);
    if (error)
        return error;
    source->removed = ekv_record_kind(record) == EKV_RECORD_DELETE;
    source->space = ekv_record_space(record);
    source->prefix_size = (uint8_t)size;
    source->whole = size == record->layout.key_size;
    memset(source->prefix, 0, sizeof source->prefix);
    return ekv_record_bytes(log, record, record->layout.head_size, source->prefix, size);
}

int ekv_source_compare(const struct ekv_log *log, const struct ekv_source *one,
                       const struct ekv_source *two, int *order)
{
    *order = (int)one->space - (int)two->space;
    if (*order == 0)
        *order = memcmp(one->prefix, two->prefix, EKV_SOURCE_PREFIX);
    if (*order != 0 || one->place.address == two->place.address)
        return EKV_OK;
    if (one->whole && two->whole) {
        *order = (int)one->prefix_size - (int)two->prefix_size;
        return EKV_OK;
    }
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_record record, other;
    struct ekv_key key;
    int error = ekv_record_at(log, one->place.address, &record);
    if (!error)
        error = ekv_record_at(log, two->place.address, &other);
    if (!error)
        error = ekv_record_key(log, &record, prefix, &key);
    return error ? error : ekv_record_compare(log, &other, key, order);
}
