/* Finds the current record of a key, and changes which one that is.
 *
 * Newest first: the memtable, then each run from the newest to the oldest; the first record of the
 * key with a version in reach is the answer. A key's records may stand in a source several times,
 * newest version first.
 */
#include "lookup.h"

#include <assert.h>
#include <string.h>

#include "value.h"

/* Looks where the cache says that the key is. EKV_NOT_FOUND: that says nothing. */
static int lookup_cached(struct ekv *db, struct ekv_key key, uint32_t address, uint64_t limit,
                         struct ekv_found *found)
{
    uint64_t version = 0;
    int order = 0;
    int error = ekv_found_at(&db->log, address, found);
    if (!error)
        error = ekv_record_compare(&db->log, &found->record, key, &order);
    if (!error && order == 0 && limit != EKV_VERSION_MAX)
        error = ekv_record_version(&db->log, &found->record, found->sequence, &version);
    return error || order != 0 || version > limit ? EKV_NOT_FOUND : EKV_OK;
}

static int lookup_stored(struct ekv *db, struct ekv_key key, uint32_t hash, uint64_t limit,
                         struct ekv_found *found)
{
    uint32_t index;
    int error = ekv_memtable_find(&db->memtable, &db->log, key, hash, limit, &index);
    if (!error)
        return ekv_found_at(&db->log, db->memtable.slots[index].address, found);
    for (uint32_t i = 0; error == EKV_NOT_FOUND && i < db->catalog.run_count; i++)
        error = ekv_run_find(&db->index, &db->catalog.runs[i], key, hash, limit, found);
    return error;
}

/* Without locks a reader is alone, and may leave in the cache what it found. */
static int lookup(struct ekv *db, struct ekv_key key, uint32_t hash, uint64_t limit,
                  struct ekv_found *found)
{
    uint32_t address;
    enum ekv_cache_answer answer = ekv_cache_find(&db->cache, hash, &address);
    int error = EKV_NOT_FOUND;
    if (answer == EKV_CACHE_PLACE)
        error = lookup_cached(db, key, address, limit, found);
    if (error != EKV_NOT_FOUND || answer == EKV_CACHE_NONE)
        return error;
    error = lookup_stored(db, key, hash, limit, found);
    if (!error && !db->locks && limit == EKV_VERSION_MAX &&
        ekv_record_kind(&found->record) != EKV_RECORD_DELETE)
        ekv_cache_note(&db->cache, hash, found->record.address);
    return error;
}

int ekv_lookup(struct ekv *db, struct ekv_key key, uint64_t limit, struct ekv_found *found)
{
    return lookup(db, key, ekv_key_hash(key), limit, found);
}

int ekv_lookup_live(struct ekv *db, struct ekv_key key, uint64_t limit, struct ekv_found *found)
{
    int error = ekv_lookup(db, key, limit, found);
    if (error || ekv_record_kind(&found->record) != EKV_RECORD_DELETE)
        return error;
    error = ekv_record_verify(&db->log, &found->record, found->sequence);
    return error ? error : EKV_NOT_FOUND;
}

int ekv_lookup_same(struct ekv *db, const struct ekv_record *record, struct ekv_found *found)
{
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_key key;
    uint32_t hash;
    int error = ekv_record_key(&db->log, record, prefix, &key);
    if (!error)
        error = ekv_record_hash(&db->log, record, &hash);
    return error ? error : lookup(db, key, hash, EKV_VERSION_MAX, found);
}

int ekv_lookup_older(struct ekv *db, const struct ekv_record *record, uint64_t version)
{
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_found older;
    struct ekv_key key;
    int error = ekv_record_key(&db->log, record, prefix, &key);
    return error ? error : ekv_lookup_key(db, key, record, version - 1, &older);
}

int ekv_lookup_key(struct ekv *db, struct ekv_key key, const struct ekv_record *record,
                   uint64_t limit, struct ekv_found *found)
{
    uint32_t hash;
    int error = ekv_record_hash(&db->log, record, &hash);
    return error ? error : lookup(db, key, hash, limit, found);
}

int ekv_is_indexed(struct ekv *db, const struct ekv_found *at, bool *indexed)
{
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_found found;
    struct ekv_key key;
    uint64_t version;
    *indexed = false;
    int error = ekv_record_version(&db->log, &at->record, at->sequence, &version);
    if (!error)
        error = ekv_record_key(&db->log, &at->record, prefix, &key);
    if (!error)
        error = ekv_lookup_key(db, key, &at->record, version, &found);
    *indexed = error == EKV_OK && found.record.address == at->record.address;
    return error == EKV_NOT_FOUND ? EKV_OK : error;
}

int ekv_is_retained(const struct ekv *db, const struct ekv_record *newest,
                    const struct ekv_record *older, bool *retained)
{
    uint8_t mine = 0, its = 0;
    *retained = false;
    if (db->retain_count < 2 || !ekv_type_is_counted(newest->layout.type))
        return EKV_OK;
    int error = ekv_record_ordinal(&db->log, newest, &mine);
    if (!error)
        error = ekv_record_ordinal(&db->log, older, &its);
    *retained = mine != its && (uint8_t)(mine - its) < db->retain_count;
    return error;
}

/* True if what stands at this place of the memtable must stay there although `newest` is a newer
 * version of its key: a snapshot sees it or it is retained. */
static int is_wanted(struct ekv *db, uint32_t index, const struct ekv_record *newest, bool *wanted)
{
    struct ekv_record record;
    uint64_t version;
    uint32_t address = db->memtable.slots[index].address;
    int error = ekv_record_at(&db->log, address, &record);
    if (error)
        return error;
    error = ekv_is_retained(db, newest, &record, wanted);
    if (error || *wanted || !db->snapshots)
        return error;
    error = ekv_log_version(&db->log, address, &version);
    if (!error)
        *wanted = ekv_snapshot_between(db, version, EKV_VERSION_MAX);
    return error;
}

/* Takes the versions of a key that nobody wants any more out of the memtable: those in the slots
 * from `index` on. What is left there is found by a collection through its ordinal alone. */
static int trim(struct ekv *db, struct ekv_key key, uint32_t index, const struct ekv_record *newest)
{
    while (index < db->memtable.count) {
        struct ekv_record record;
        bool wanted;
        int order;
        int error = ekv_record_at(&db->log, db->memtable.slots[index].address, &record);
        if (error)
            return error;
        error = ekv_record_compare(&db->log, &record, key, &order);
        if (error || order != 0)
            return error;
        error = is_wanted(db, index, newest, &wanted);
        if (error)
            return error;
        if (wanted)
            index++;
        else
            ekv_memtable_remove(&db->memtable, index);
    }
    return EKV_OK;
}

static int point(struct ekv *db, struct ekv_key key, uint32_t hash, const struct ekv_record *record,
                 bool moved)
{
    struct ekv_slot slot = {record->address, hash};
    struct ekv_memtable *table = &db->memtable;
    uint32_t index;
    int error = ekv_memtable_find(table, &db->log, key, hash, EKV_VERSION_MAX, &index);
    if (error < 0)
        return error;
    bool found = error == EKV_OK, wanted = false;
    db->change++;
    ekv_cache_forget(&db->cache, hash);
    /* A copy of the same version serves every snapshot that the original served. */
    error = !found  ? ekv_memtable_bound(table, &db->log, key, false, &index)
            : moved ? EKV_OK
                    : is_wanted(db, index, record, &wanted);
    if (error)
        return error;
    bool replaces = found && (!wanted || table->count == table->capacity);
    if (!replaces && table->count == table->capacity)
        return EKV_MEMORY; /* replayed, and written with a larger memtable */
    if (ekv_record_kind(record) != EKV_RECORD_DELETE)
        ekv_cache_note(&db->cache, hash, record->address);
    table->near = index + 1;
    if (replaces) {
        table->slots[index] = slot;
        return EKV_OK;
    }
    ekv_memtable_insert(table, index, slot);
    return db->retain_count > 1 && found ? trim(db, key, index + 1, record) : EKV_OK;
}

int ekv_point(struct ekv *db, const struct ekv_record *record, bool moved)
{
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_key key;
    uint32_t hash;
    int error = ekv_record_key(&db->log, record, prefix, &key);
    if (!error)
        error = ekv_record_hash(&db->log, record, &hash);
    return error ? error : point(db, key, hash, record, moved);
}

static void count_key(struct ekv *db, const struct ekv_record *record, int32_t by)
{
    uint32_t *keys =
        ekv_record_space(record) == EKV_USER ? &db->catalog.keys : &db->catalog.keys_aside;
    if (ekv_record_kind(record) != EKV_RECORD_DELETE)
        *keys += (uint32_t)by;
}

int ekv_apply_counts(struct ekv *db, const struct ekv_record *record, const struct ekv_found *old)
{
    /* Off first: the two may share pieces, which must not be counted twice even for a moment. */
    int error = old ? ekv_value_count(db, &old->record, false) : EKV_OK;
    if (!error)
        error = ekv_value_count(db, record, true);
    if (error)
        return error;
    count_key(db, record, 1);
    if (old)
        count_key(db, &old->record, -1);
    return EKV_OK;
}

int ekv_apply(struct ekv *db, const struct ekv_record *record, const struct ekv_found *old)
{
    int error = ekv_apply_counts(db, record, old);
    return error ? error : ekv_point(db, record, false);
}

int ekv_entry_of(struct ekv *db, const struct ekv_found *found, struct ekv_entry *entry)
{
    entry->removed = ekv_record_kind(&found->record) == EKV_RECORD_DELETE;
    int error = ekv_record_verify(&db->log, &found->record, found->sequence);
    if (!error)
        error = ekv_record_version(&db->log, &found->record, found->sequence, &entry->version);
    if (!error)
        error = ekv_record_time(&db->log, &found->record, &entry->time);
    return error ? error : ekv_value_size(db, &found->record, &entry->size);
}

int ekv_read_at(struct ekv *db, struct ekv_key key, uint64_t limit, uint64_t offset, void *buffer,
                size_t capacity, size_t *size)
{
    struct ekv_found found;
    size_t copied = 0;
    int error = ekv_lookup_live(db, key, limit, &found);
    if (!error)
        error = ekv_value_read(db, &found, offset, buffer, capacity, &copied);
    if (size)
        *size = copied;
    return error;
}

int ekv_find_at(struct ekv *db, struct ekv_key key, uint64_t limit, struct ekv_entry *entry)
{
    struct ekv_found found;
    int error = ekv_lookup_live(db, key, limit, &found);
    return error ? error : ekv_entry_of(db, &found, entry);
}
