/* Transactions: records appended as pending, and a commit record that makes all of them count.
 *
 * A pending record is found through the transaction's own table alone. A commit record covers the
 * pending records from an address on; so between them there may be no other commit, no other
 * transaction's record and no snapshot: whoever does that clears `db->appending`, and a transaction
 * that was interrupted appends its records once more before it commits. So records lie in the log
 * in the order of their commits, and their positions can be their versions.
 *
 * A transaction of more keys than the memtable takes is committed as a run of its own: its table is
 * sorted, the manifest edit that names the run is the commit. So is one that was interrupted and
 * has no room to append its records once more.
 *
 * A power cut before the commit record (or that edit) is durable leaves pending records that
 * nothing refers to; gc drops them.
 */
#include "snapshot.h"

#include <assert.h>

#include "append.h"
#include "own.h"
#include "work.h"

enum {
    RUN_ENTRY_SIZE = 6, /* bytes that a key takes in a run, its part of pages and filter included */
};

static struct ekv_memtable table_of(const struct ekv_txn *txn)
{
    return (struct ekv_memtable){
        .slots = txn->entries, .count = txn->count, .capacity = txn->capacity};
}

int ekv_txn_begin(struct ekv_txn *txn, struct ekv *db, void *memory, size_t memory_size)
{
    if ((uintptr_t)memory % sizeof(uint32_t) != 0)
        return EKV_INVALID;
    ekv_lock_write(db);
    *txn = (struct ekv_txn){.db = db, .entries = memory, .next = db->txns};
    txn->capacity = (uint32_t)(memory_size / EKV_TXN_ENTRY_SIZE);
    ekv_snapshot_link(&txn->begin, db);
    db->txns = txn;
    ekv_unlock_write(db);
    return EKV_OK;
}

int ekv_txn_grow(struct ekv_txn *txn, void *memory, size_t memory_size)
{
    struct ekv_slot *from = txn->entries, *to = memory;
    if ((uintptr_t)memory % sizeof(uint32_t) != 0 || memory_size / EKV_TXN_ENTRY_SIZE < txn->count)
        return EKV_INVALID;
    ekv_lock_write(txn->db);
    for (uint32_t i = 0; i < txn->count; i++)
        to[i] = from[i];
    txn->entries = memory;
    txn->capacity = (uint32_t)(memory_size / EKV_TXN_ENTRY_SIZE);
    ekv_unlock_write(txn->db);
    return EKV_OK;
}

static void end(struct ekv_txn *txn)
{
    struct ekv *db = txn->db;
    struct ekv_txn **link = &db->txns;
    while (*link != txn)
        link = &(*link)->next;
    *link = txn->next;
    if (db->appending == txn)
        db->appending = NULL;
    db->reserved_size -= txn->pending_size;
    if (txn->begin.db)
        ekv_snapshot_unlink(&txn->begin);
    txn->db = NULL;
}

void ekv_txn_unpin(struct ekv_txn *txn)
{
    ekv_lock_write(txn->db);
    if (txn->begin.db)
        ekv_snapshot_unlink(&txn->begin); /* its version still says what came since */
    txn->begin.db = NULL;
    ekv_unlock_write(txn->db);
}

/* Notes that the transaction's record at `address` was appended. */
static void appended(struct ekv_txn *txn, uint32_t address, bool first)
{
    struct ekv *db = txn->db;
    const struct ekv_format *format = ekv_format_of(db);
    if (first) {
        txn->first = address;
        txn->first_position =
            ekv_position(format, db->log.sequence, ekv_offset_of(format, address));
        txn->record_count = 0;
        db->appending = txn;
    }
    if (db->appending == txn)
        txn->record_count++;
    else
        db->appending = NULL;
}

/* How a record of the transaction is written. What it replaces is looked up only for its ordinal; a
 * key that somebody else changed since cannot be committed. */
static int write_new(struct ekv_txn *txn, struct ekv_key key, struct ekv_write *write)
{
    struct ekv *db = txn->db;
    struct ekv_found old;
    int found = EKV_NOT_FOUND;
    if (db->retain_count > 1)
        found = ekv_lookup(db, key, txn->begin.version, &old);
    return found < 0 ? found : ekv_write_new(db, key, false, found == EKV_OK ? &old : NULL, write);
}

/* Bytes that are kept for a key of a transaction until its end: its record, and its entry in the
 * run that may commit it. */
static uint64_t staged_size(const struct ekv *db, struct ekv_key key, uint64_t size)
{
    return ekv_value_log_size(db, key, size) + RUN_ENTRY_SIZE;
}

/* Bytes that are reserved for a key that the transaction wrote already; 0 if it did not (`found`
 * is not EKV_OK). */
static int reserved_size(struct ekv_txn *txn, struct ekv_key key, int found, uint32_t index,
                         uint64_t *reserved)
{
    const struct ekv_slot *slots = txn->entries;
    struct ekv *db = txn->db;
    struct ekv_record record;
    uint64_t size = 0;
    *reserved = 0;
    if (found != EKV_OK)
        return EKV_OK;
    int error = ekv_record_at(&db->log, slots[index].address, &record);
    if (!error && ekv_record_kind(&record) != EKV_RECORD_DELETE)
        error = ekv_value_size(db, &record, &size);
    *reserved = staged_size(db, key, size);
    return error;
}

/* True if the transaction's record at `address` is given the value where it is: that has the same
 * size, nothing of the record was programmed yet, and no cursor stands on it. */
static bool rewrite(struct ekv_txn *txn, uint32_t address, const void *value, size_t size)
{
    struct ekv *db = txn->db;
    struct ekv_record record;
    uint8_t time[EKV_RECORD_TIME_SIZE];
    if (!ekv_is_writable(db) || !ekv_log_is_buffered(&db->log, address) ||
        ekv_record_read(&db->log, address, &record))
        return false;
    if (ekv_record_kind(&record) != EKV_RECORD_PUT || record.layout.value_size != size)
        return false;
    for (const struct ekv_snapshot *at = db->snapshots; at; at = at->next)
        if (at->standing == address)
            return false;
    ekv_log_rewrite(&db->log, &record, record.layout.head_size + record.layout.key_size, value,
                    (uint32_t)size);
    if (record.layout.type & EKV_RECORD_TIMED && db->now) {
        ekv_store(time, (uint64_t)db->now(db->now_context), sizeof time);
        ekv_log_rewrite(&db->log, &record, ekv_record_time_offset(&record.layout), time,
                        sizeof time);
    }
    db->change++; /* cursors over the transaction look again */
    return true;
}

/* Where a key is, or goes, in the transaction's table, and the record to come there. */
struct place {
    struct ekv_slot slot;
    int found;
    uint32_t index;
};

static int place_find(struct ekv_txn *txn, struct ekv_key key, struct place *place)
{
    struct ekv *db = txn->db;
    struct ekv_memtable table = table_of(txn);
    place->slot.hash = ekv_key_hash(key);
    place->found =
        ekv_memtable_find(&table, &db->log, key, place->slot.hash, EKV_VERSION_MAX, &place->index);
    if (place->found != EKV_NOT_FOUND)
        return place->found;
    if (txn->count == txn->capacity)
        return EKV_MEMORY;
    return ekv_memtable_bound(&table, &db->log, key, false, &place->index);
}

/* Puts the record into the table and reserves `staged` bytes; not after an `error` of appending it.
 */
static int place_fill(struct ekv_txn *txn, const struct place *place, uint64_t staged, int error)
{
    struct ekv *db = txn->db;
    struct ekv_memtable table = table_of(txn);
    if (error) {
        db->appending = NULL; /* there may be a record now that is not in the table */
        return error;
    }
    appended(txn, place->slot.address, txn->count == 0);
    txn->pending_size += staged;
    db->reserved_size += staged;
    db->change++; /* cursors over the transaction look again */
    if (place->found == EKV_OK) {
        table.slots[place->index] = place->slot;
        return EKV_OK;
    }
    ekv_memtable_insert(&table, place->index, place->slot);
    txn->count = table.count;
    return EKV_OK;
}

static int write(struct ekv_txn *txn, struct ekv_key key, uint8_t kind, const void *value,
                 size_t size)
{
    struct ekv *db = txn->db;
    const struct ekv_slot *slots = txn->entries;
    struct ekv_write how;
    struct place place;
    int error = place_find(txn, key, &place);
    if (error)
        return error;
    if (place.found == EKV_OK && kind == EKV_RECORD_PUT &&
        rewrite(txn, slots[place.index].address, value, size))
        return EKV_OK;
    uint64_t staged = staged_size(db, key, size), before;
    error = reserved_size(txn, key, place.found, place.index, &before);
    if (error)
        return error;
    /* What it replaces is garbage from then on. */
    uint64_t growth = kind == EKV_RECORD_DELETE || staged < before ? 0 : staged - before;
    error = ekv_write_begin(db, ekv_value_log_size(db, key, size), growth, 0);
    if (!error)
        error = write_new(txn, key, &how);
    if (error)
        return error;
    if (kind == EKV_RECORD_DELETE)
        error = ekv_record_append(db, kind, key, &how, NULL, 0, &place.slot.address);
    else
        error = ekv_value_append(db, key, &how, value, size, &place.slot.address);
    return place_fill(txn, &place, staged - before, error);
}

static int locked_write(struct ekv_txn *txn, struct ekv_key key, uint8_t kind, const void *value,
                        size_t size)
{
    struct ekv *db = txn->db;
    if (key.size > ekv_format_key_size_max(ekv_format_of(db)) || size > UINT32_MAX)
        return EKV_TOO_LARGE;
    ekv_lock_write(db);
    int error = ekv_write_end(db, write(txn, key, kind, value, size));
    ekv_unlock_write(db);
    return error;
}

int ekv_txn_put(struct ekv_txn *txn, struct ekv_key key, const void *value, size_t size)
{
    return locked_write(txn, key, EKV_RECORD_PUT, value, size);
}

/* Adds to the value that the transaction has, of which every head but the last is garbage. */
static int extend(struct ekv_txn *txn, struct ekv_key key, const void *bytes, size_t size)
{
    struct ekv *db = txn->db;
    const struct ekv_slot *slots = txn->entries;
    struct ekv_write how;
    struct ekv_found old;
    struct place place;
    uint64_t staged = staged_size(db, key, size);
    int error = place_find(txn, key, &place);
    if (!error)
        error = ekv_write_begin(
            db, ekv_value_log_size(db, key, size) + ekv_value_lists_size(db, key), staged, 0);
    if (!error)
        error = write_new(txn, key, &how);
    if (!error && place.found == EKV_OK) /* a collection may have moved it just now */
        error = ekv_found_at(&db->log, slots[place.index].address, &old);
    if (error)
        return error;
    bool begun = place.found == EKV_OK && ekv_record_kind(&old.record) != EKV_RECORD_DELETE;
    if (begun && ekv_record_kind(&old.record) != EKV_RECORD_HEAD)
        return EKV_INVALID;
    error = ekv_value_extend(db, key, &how, begun ? &old : NULL, bytes, size, &place.slot.address);
    error = place_fill(txn, &place, staged, error);
    db->appending = NULL; /* a commit would cover all heads: it begins with the last once more */
    return error;
}

int ekv_txn_append(struct ekv_txn *txn, struct ekv_key key, const void *bytes, size_t size)
{
    struct ekv *db = txn->db;
    if (size == 0)
        return EKV_INVALID;
    if (key.size > ekv_format_key_size_max(ekv_format_of(db)) || size > UINT32_MAX)
        return EKV_TOO_LARGE;
    ekv_lock_write(db);
    int error = ekv_write_end(db, extend(txn, key, bytes, size));
    ekv_unlock_write(db);
    return error;
}

static int lookup(struct ekv_txn *txn, struct ekv_key key, struct ekv_found *found)
{
    struct ekv *db = txn->db;
    struct ekv_memtable table = table_of(txn);
    uint32_t index;
    int error =
        ekv_memtable_find(&table, &db->log, key, ekv_key_hash(key), EKV_VERSION_MAX, &index);
    if (error == EKV_NOT_FOUND)
        return ekv_lookup_live(db, key, txn->begin.db ? txn->begin.version : EKV_VERSION_MAX,
                               found);
    if (error)
        return error;
    error = ekv_found_at(&db->log, table.slots[index].address, found);
    if (error)
        return error;
    return ekv_record_kind(&found->record) == EKV_RECORD_DELETE ? EKV_NOT_FOUND : EKV_OK;
}

int ekv_txn_delete(struct ekv_txn *txn, struct ekv_key key)
{
    struct ekv_found found;
    ekv_lock_read(txn->db);
    int error = lookup(txn, key, &found);
    ekv_unlock_read(txn->db);
    return error ? error : locked_write(txn, key, EKV_RECORD_DELETE, NULL, 0);
}

int ekv_txn_get(struct ekv_txn *txn, struct ekv_key key, uint64_t offset, void *buffer,
                size_t capacity, size_t *size)
{
    struct ekv_found found;
    size_t copied = 0;
    ekv_lock_read(txn->db);
    int error = lookup(txn, key, &found);
    if (!error)
        error = ekv_value_read(txn->db, &found, offset, buffer, capacity, &copied);
    ekv_unlock_read(txn->db);
    if (size)
        *size = copied;
    return error;
}

int ekv_txn_find(struct ekv_txn *txn, struct ekv_key key, struct ekv_entry *entry)
{
    struct ekv_found found;
    ekv_lock_read(txn->db);
    int error = lookup(txn, key, &found);
    if (!error)
        error = ekv_entry_of(txn->db, &found, entry);
    ekv_unlock_read(txn->db);
    return error;
}

/* --- Commit ---------------------------------------------------------------------------------- */

static int changed(struct ekv_txn *txn, int error, const struct ekv_found *found)
{
    uint64_t version;
    if (error)
        return error == EKV_NOT_FOUND ? EKV_OK : error;
    error = ekv_record_verify(&txn->db->log, &found->record, found->sequence);
    if (!error)
        error = ekv_record_version(&txn->db->log, &found->record, found->sequence, &version);
    if (error)
        return error;
    return version > txn->begin.version ? EKV_CONFLICT : EKV_OK;
}

int ekv_txn_check(struct ekv_txn *txn, struct ekv_key key)
{
    struct ekv_found found;
    ekv_lock_read(txn->db);
    int error = ekv_lookup(txn->db, key, EKV_VERSION_MAX, &found);
    error = changed(txn, error, &found);
    ekv_unlock_read(txn->db);
    return error;
}

/* Checks the keys it wrote, from place `*index` of its table on, up to the first that was changed.
 */
static int check_from(struct ekv_txn *txn, uint32_t *index, struct ekv_record *record)
{
    struct ekv *db = txn->db;
    const struct ekv_slot *slots = txn->entries;
    if (db->last_version <= txn->begin.version)
        return EKV_OK; /* nobody committed anything since */
    for (; *index < txn->count; (*index)++) {
        struct ekv_found found;
        int error = ekv_record_at(&db->log, slots[*index].address, record);
        if (error)
            return error;
        error = ekv_lookup_same(db, record, &found);
        error = changed(txn, error, &found);
        if (error)
            return error;
    }
    return EKV_OK;
}

int ekv_txn_conflict(struct ekv_txn *txn, uint32_t *place, void *buffer, size_t capacity,
                     size_t *size, uint8_t *space)
{
    struct ekv *db = txn->db;
    struct ekv_record record;
    ekv_lock_read(db);
    int error = check_from(txn, place, &record);
    if (error == EKV_CONFLICT) {
        *size = record.layout.key_size;
        *space = ekv_record_space(&record);
        error = ekv_record_bytes(&db->log, &record, record.layout.head_size, buffer,
                                 (uint32_t)(*size < capacity ? *size : capacity));
        (*place)++;
        if (!error && *size > capacity)
            error = EKV_TOO_LARGE;
    } else if (error == EKV_OK) {
        error = EKV_NOT_FOUND;
    }
    ekv_unlock_read(db);
    return error;
}

/* Bytes of log that the records take once more, with what stays unused at the ends of sectors; the
 * pieces of large values stay where they are. */
static int restage_size(const struct ekv_txn *txn, uint64_t *size)
{
    const struct ekv *db = txn->db;
    const struct ekv_slot *slots = txn->entries;
    uint32_t body = ekv_format_record_size_max(ekv_format_of(db)), room = body;
    *size = 0;
    for (uint32_t i = 0; i < txn->count; i++) {
        struct ekv_record record;
        int error = ekv_record_at(&db->log, slots[i].address, &record);
        if (error)
            return error;
        if (record.layout.size > room) {
            *size += room;
            room = body;
        }
        *size += record.layout.size;
        room -= record.layout.size;
    }
    return EKV_OK;
}

/* Appends all records once more, so that nothing stands between them; but while the lock is let go
 * for an erase somebody may come between these, too. */
static int restage(struct ekv_txn *txn)
{
    struct ekv *db = txn->db;
    struct ekv_slot *slots = txn->entries;
    for (uint32_t i = 0; i < txn->count; i++) {
        struct ekv_found found;
        int error = ekv_found_at(&db->log, slots[i].address, &found);
        if (!error)
            error = ekv_record_copy(db, &found, 0, &slots[i].address);
        if (error) {
            db->appending = NULL;
            return error;
        }
        appended(txn, slots[i].address, i == 0);
    }
    return EKV_OK;
}

static int apply_each(struct ekv_txn *txn, bool counts_only)
{
    struct ekv *db = txn->db;
    const struct ekv_slot *slots = txn->entries;
    for (uint32_t i = 0; i < txn->count; i++) {
        struct ekv_record record;
        struct ekv_found old;
        int error = ekv_record_at(&db->log, slots[i].address, &record);
        if (error)
            return error;
        int found = ekv_lookup_same(db, &record, &old);
        if (found < 0)
            return found;
        if (counts_only)
            error = ekv_apply_counts(db, &record, found == EKV_OK ? &old : NULL);
        else
            error = ekv_apply(db, &record, found == EKV_OK ? &old : NULL);
        if (error)
            return error;
    }
    return EKV_OK;
}

/* The table is sorted: each key's place is behind that of the one before. */
static int apply_all(struct ekv_txn *txn, bool counts_only)
{
    struct ekv_memtable *table = &txn->db->memtable;
    table->near = 0;
    table->ascends = true;
    int error = apply_each(txn, counts_only);
    table->ascends = false;
    return error;
}

/* The commit record, and all keys into the memtable. */
static int commit_by_record(struct ekv_txn *txn)
{
    struct ekv *db = txn->db;
    uint8_t value[EKV_COMMIT_SIZE];
    uint32_t address;
    struct ekv_write how = {.flags = EKV_RECORD_COMMITS};
    ekv_write_time(db, &how);
    ekv_store32(value, txn->record_count);
    ekv_store32(value + 4, txn->first);
    int error = ekv_record_append(db, EKV_RECORD_COMMIT, ekv_key(NULL, 0), &how, value,
                                  sizeof value, &address);
    if (!error)
        error = ekv_log_flush(&db->log);
    if (error)
        return error;
    error = apply_all(txn, false);
    db->failed |= error != EKV_OK; /* committed on flash, not in memory */
    db->last_version = ekv_log_position(&db->log) - 1;
    return error;
}

/* True if a snapshot, cursor or transaction was opened since the begin: it must not see the records
 * that were appended before it, so their positions cannot be their versions. */
static bool is_overtaken(const struct ekv_txn *txn)
{
    for (const struct ekv_snapshot *at = txn->db->snapshots; at; at = at->next)
        if (at != &txn->begin && at->version > txn->begin.version)
            return true;
    return false;
}

/* The table as a run, for transactions that the memtable does not hold. EKV_NOT_FOUND: somebody
 * came between while the lock was let go for an erase, and must not see the records where they are;
 * nothing changed. */
static int commit_by_run(struct ekv_txn *txn)
{
    struct ekv *db = txn->db;
    struct ekv_memtable table = table_of(txn);
    int error = ekv_flush_build(db, &table);
    if (error)
        return error;
    if (is_overtaken(txn) && db->appending != txn) {
        ekv_own_again(db);
        return EKV_NOT_FOUND;
    }
    db->appending = NULL;
    error = apply_all(txn, true);
    ekv_cache_clear(&db->cache, false); /* the run alone says where the keys are now */
    if (!error)
        error = ekv_flush_built(db);
    db->failed |= error != EKV_OK; /* counted already, and perhaps committed */
    db->last_version = ekv_log_position(&db->log) - 1;
    return error;
}

/* Makes room for `again` bytes of records and the commit, as a run or a record. */
static int make_ready(struct ekv_txn *txn, uint64_t again, bool by_run)
{
    struct ekv *db = txn->db;
    uint64_t run = ekv_flush_sectors(db) * (uint64_t)ekv_format_of(db)->geometry.sector_size +
                   (uint64_t)txn->count * RUN_ENTRY_SIZE;
    return ekv_write_begin(db, EKV_PAGE_SIZE + again + (by_run ? run : 0), 0,
                           by_run ? db->memtable.limit + 1 : txn->count);
}

/* Records that something came between are appended once more. If there is no room for that, and
 * nobody has looked at the store meanwhile, they can stay where they are: a run names each of them.
 * Who looks at the past then sees them from where they were appended on. */
static int gather(struct ekv_txn *txn, bool *by_run)
{
    uint64_t again;
    int error = restage_size(txn, &again);
    if (!error)
        error = make_ready(txn, again, *by_run);
    if (!error)
        return restage(txn);
    if (is_overtaken(txn) || (error != EKV_FULL && error != EKV_PINNED))
        return error;
    *by_run = true;
    return make_ready(txn, 0, true);
}

/* Makes sure that the commit record needs no other sector: taking one can let the lock go. */
static int roll_ahead(struct ekv *db)
{
    struct ekv_record_layout layout = {.type = EKV_RECORD_COMMIT, .value_size = EKV_COMMIT_SIZE};
    ekv_record_measure(ekv_format_of(db), &layout);
    return layout.size > ekv_log_room(&db->log) ? ekv_log_roll(&db->log) : EKV_OK;
}

static int commit(struct ekv_txn *txn)
{
    enum { TRIES = 4 };
    struct ekv *db = txn->db;
    bool by_run = txn->count > db->memtable.limit;
    struct ekv_record record;
    uint32_t index = 0;
    int error = check_from(txn, &index, &record);
    if (!error && db->appending == txn)
        error = make_ready(txn, 0, by_run);
    for (uint32_t i = 0; !error && i < TRIES; i++) {
        if (db->appending != txn) /* interrupted before, or while the lock was let go */
            error = gather(txn, &by_run);
        if (!error && !by_run)
            error = roll_ahead(db);
        if (!error && (by_run || db->appending == txn)) {
            error = by_run ? commit_by_run(txn) : commit_by_record(txn);
            if (error != EKV_NOT_FOUND)
                return error;
            error = EKV_OK;
        }
        /* Where readers come and go all the time somebody would come between every time: they wait
         * for the erases of the next try. */
        db->sectors.locks = NULL;
    }
    return error ? error : EKV_PINNED;
}

int ekv_txn_commit(struct ekv_txn *txn)
{
    struct ekv *db = txn->db;
    int error = EKV_OK;
    ekv_lock_write(db);
    bool wrote = txn->count > 0;
    if (wrote) {
        error = commit(txn);
        db->sectors.locks = db->locks;
    }
    if (!error)
        end(txn);
    if (wrote)
        error = ekv_write_end(db, error);
    ekv_unlock_write(db);
    return error;
}

void ekv_txn_abort(struct ekv_txn *txn)
{
    struct ekv *db = txn->db;
    ekv_lock_write(db);
    end(txn);
    ekv_unlock_write(db);
}
