/* Writes the memtable as a run. In one go: 512 entries are nine pages, less than a tenth of an
 * erase.
 *
 * The run is named by a manifest edit that also says where replay begins from now on, so after a
 * power cut either the run is there and the log before that place is not replayed, or the other way
 * round.
 */
#include "flush.h"

#include <assert.h>
#include <string.h>

#include "own.h"

uint32_t ekv_flush_size(const struct ekv *db)
{
    return db->memtable.limit * (ekv_format_of(db)->pointer_size + 1) * 5 / 4 +
           db->memtable.limit / EKV_FILTER_KEYS * EKV_FILTER_BLOCK_SIZE + 2 * EKV_PAGE_SIZE;
}

uint32_t ekv_flush_sectors(const struct ekv *db)
{
    const struct ekv_format *format = ekv_format_of(db);
    return ekv_flush_size(db) / (format->geometry.sector_size - format->body_offset) + 1;
}

/* True if the slot, whose record is `record`, repeats the key of the one before it in a version
 * that nobody sees and that is not retained. `newest` is the record of the newest version of the
 * key of the slots so far. */
static int is_hidden(struct ekv *db, const struct ekv_slot *slots, uint32_t index,
                     const struct ekv_record *record, struct ekv_record *newest, bool *hidden)
{
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_record newer;
    struct ekv_key key;
    uint64_t version, newer_version;
    bool retained;
    int error = EKV_OK, order = 1;
    *hidden = false;
    if (index > 0 && slots[index].hash == slots[index - 1].hash) {
        error = ekv_record_read(&db->log, slots[index - 1].address, &newer);
        if (!error)
            error = ekv_record_key(&db->log, record, prefix, &key);
        if (!error)
            error = ekv_record_compare(&db->log, &newer, key, &order);
    }
    if (!error && order != 0)
        *newest = *record;
    if (error || order != 0)
        return error;
    error = ekv_is_retained(db, newest, record, &retained);
    if (!error)
        error = ekv_log_version(&db->log, slots[index].address, &version);
    if (!error)
        error = ekv_log_version(&db->log, slots[index - 1].address, &newer_version);
    *hidden = !error && !retained && !ekv_snapshot_between(db, version, newer_version);
    return error;
}

static int add_all(struct ekv *db, const struct ekv_memtable *table)
{
    struct ekv_record record, newest;
    for (uint32_t i = 0; i < table->count; i++) {
        bool hidden = false;
        uint32_t address = table->slots[i].address;
        int error = ekv_record_read(&db->log, address, &record);
        if (!error)
            error = is_hidden(db, table->slots, i, &record, &newest, &hidden);
        if (!error && !hidden)
            error = ekv_build_add(&db->builder, address, &record);
        if (error)
            return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
    }
    return ekv_build_finish(&db->builder);
}

static int build(struct ekv *db, const struct ekv_memtable *table)
{
    ekv_build_begin(&db->builder, db->catalog.next_run_id++, 0, db->log.sequence);
    ekv_build_expect(&db->builder, table->count);
    int error = add_all(db, table);
    bool done = db->catalog.run_count == 0; /* nothing below it that a filter could spare */
    if (!error && !done)
        ekv_build_filter_begin(&db->builder, table);
    while (!error && !done)
        error = ekv_build_filter_step(&db->builder, &done);
    if (error && db->builder.run.root != 0)
        ekv_own_again(db); /* pages were written that no run has */
    return error;
}

/* The transaction at whose first record replay has to begin: its commit record will ask for all of
 * them, and for nothing else before the head. One with more keys than the memtable takes will be
 * committed as a run. */
static const struct ekv_txn *replayed_txn(const struct ekv *db)
{
    const struct ekv_txn *txn = db->appending;
    return txn && txn->record_count > 0 && txn->count <= db->memtable.limit ? txn : NULL;
}

uint32_t ekv_flush_sequence(const struct ekv *db)
{
    const struct ekv_txn *txn = replayed_txn(db);
    return txn ? ekv_position_sequence(ekv_format_of(db), txn->first_position) : db->log.sequence;
}

/* Replay begins at the head from now on, or at the first record of a transaction that is still
 * appending. */
static void replay_position(struct ekv *db)
{
    struct ekv_catalog *catalog = &db->catalog;
    const struct ekv_format *format = ekv_format_of(db);
    const struct ekv_txn *txn = replayed_txn(db);
    catalog->flushed = ekv_log_position(&db->log);
    catalog->replay_sequence = ekv_flush_sequence(db);
    catalog->replay_sector = txn ? ekv_sector_of(format, txn->first) : db->log.sector;
    catalog->replay_offset = txn ? ekv_offset_of(format, txn->first) : db->log.offset;
}

int ekv_flush_build(struct ekv *db, const struct ekv_memtable *table)
{
    assert(table->count > 0 && db->catalog.run_count + 1 < db->catalog.run_capacity);
    int error = ekv_log_flush(&db->log);
    return error ? error : build(db, table);
}

/* Everything in the memtable is in a run now. */
static int publish(struct ekv *db, uint32_t added)
{
    ekv_memtable_clear(&db->memtable);
    db->rewritten = false;
    replay_position(db);
    db->change++;
    db->flushes++;
    int error = ekv_publish(db, added);
    /* If a crash of the host took the edit and left the log behind it, a replay would need slots
     * for the keys of two memtables. */
    if (error || added == 0)
        return error;
    error = ekv_flash_sync(&db->sectors.flash, true);
    db->failed |= error != EKV_OK;
    return error;
}

int ekv_flush_built(struct ekv *db)
{
    struct ekv_catalog *catalog = &db->catalog;
    memmove(catalog->runs + 1, catalog->runs, catalog->run_count * sizeof catalog->runs[0]);
    catalog->runs[0] = db->builder.run;
    catalog->run_count++;
    return publish(db, db->builder.run.id);
}

int ekv_flush(struct ekv *db)
{
    bool empty = db->memtable.count == 0;
    int error = empty ? ekv_log_flush(&db->log) : ekv_flush_build(db, &db->memtable);
    if (error)
        return error;
    return empty ? publish(db, 0) : ekv_flush_built(db);
}
