/* Chooses what to merge and merges it.
 *
 * Tiered: `tier` runs of a level become one run of the next; the deepest level, whose runs repeat
 * each other most, folds sooner and into its own level while the outcome is not much larger than a
 * run of that level (lazy leveling: Dayan and Idreos, Dostoevsky, 2018).
 *
 * Of the entries of one key the newest is kept, older ones while a snapshot sees them or they are
 * retained; a delete goes when the oldest run is among the inputs and no snapshot is open. Between
 * two steps gc may have freed sectors that entries point to: stale ones are skipped, and the output
 * carries the largest sequence number of its inputs, so that entries which become stale later are
 * known as such.
 */
#include "merge.h"

#include <assert.h>
#include <string.h>

#include "own.h"
#include "reserve.h"
#include "value.h"
#include "walk.h"

enum { ENTRIES_MAX = 128 }; /* of a step that finds many hidden ones */

struct shape {
    uint32_t tier; /* runs of a level that make one of the next */
    uint32_t fold; /* runs of the deepest level that become one */
};

static struct shape shape_of(const struct ekv *db)
{
    if (db->catalog.run_capacity <= 8)
        return (struct shape){3, 2};
    if (db->catalog.run_capacity <= 18)
        return (struct shape){4, 4};
    return (struct shape){12, 3};
}

/* --- Choosing -------------------------------------------------------------------------------- */

static uint32_t level_end(const struct ekv_catalog *catalog, uint32_t begin)
{
    uint32_t end = begin;
    while (end < catalog->run_count && catalog->runs[end].level == catalog->runs[begin].level)
        end++;
    return end;
}

/* Entries of a full run of a level. A larger memtable than the default is seldom full when it is
 * flushed: so many sectors of log come first. */
static uint64_t level_size(const struct ekv *db, uint32_t level)
{
    uint64_t size = ekv_min(db->memtable.limit, db->memtable_default);
    while (level-- > 0)
        size *= shape_of(db).tier;
    return size;
}

static uint8_t output_level(const struct ekv *db, uint32_t begin, uint32_t end)
{
    const struct ekv_catalog *catalog = &db->catalog;
    uint8_t level = catalog->runs[end - 1].level;
    uint64_t sum = 0;
    if (catalog->runs[begin].level != level)
        return level;
    for (uint32_t i = begin; i < end; i++)
        sum += catalog->runs[i].entry_count;
    bool deepest = end == catalog->run_count;
    uint64_t keys = (uint64_t)catalog->keys + catalog->keys_aside;
    if (deepest && ekv_min((uint32_t)sum, (uint32_t)keys) <= 2 * level_size(db, level))
        return level;
    return level < 15 ? level + 1 : level;
}

static void begin_merge(struct ekv *db, uint32_t begin, uint32_t end)
{
    struct ekv_merge *merge = &db->merge;
    uint32_t sequence = 0, entries = 0;
    merge->count = ekv_min(end - begin, merge->input_max);
    begin = end - merge->count;
    merge->newest_id = db->catalog.runs[begin].id;
    merge->oldest = end == db->catalog.run_count;
    for (uint32_t i = begin; i < end; i++) {
        sequence = ekv_max(sequence, db->catalog.runs[i].sequence);
        entries += db->catalog.runs[i].entry_count;
    }
    ekv_build_begin(&merge->builder, db->catalog.next_run_id++, output_level(db, begin, end),
                    sequence);
    ekv_build_expect(&merge->builder, entries);
    merge->entries = entries;
    merge->entries = entries;
    for (uint32_t i = 0; i < merge->count; i++)
        merge->inputs[i].place.address = UINT32_MAX; /* not opened yet */
    merge->phase = EKV_MERGE_ENTRIES;
}

bool ekv_merge_urgent(const struct ekv *db)
{
    return db->catalog.run_count + 2 >= db->catalog.run_capacity;
}

static bool choose(struct ekv *db)
{
    const struct ekv_catalog *catalog = &db->catalog;
    struct shape shape = shape_of(db);
    uint32_t longest_begin = 0, longest_end = 0;
    for (uint32_t begin = 0; begin < catalog->run_count;) {
        uint32_t end = level_end(catalog, begin);
        bool deepest = end == catalog->run_count;
        if (end - begin >= (deepest ? shape.fold : shape.tier)) {
            begin_merge(db, begin, end);
            return true;
        }
        if (end - begin > longest_end - longest_begin) {
            longest_begin = begin;
            longest_end = end;
        }
        begin = end;
    }
    if (!ekv_merge_urgent(db))
        return false;
    if (longest_end - longest_begin < 2) { /* a run a level: the two newest become one */
        longest_begin = 0;
        longest_end = 2;
    }
    begin_merge(db, longest_begin, longest_end);
    return true;
}

/* --- Inputs ---------------------------------------------------------------------------------- */

static struct ekv_run *input_run(struct ekv *db, uint32_t input)
{
    struct ekv_catalog *catalog = &db->catalog;
    uint32_t first = 0;
    while (first < catalog->run_count && catalog->runs[first].id != db->merge.newest_id)
        first++;
    assert(first + input < catalog->run_count);
    return &catalog->runs[first + input];
}

static int input_next(struct ekv *db, uint32_t number)
{
    struct ekv_found found;
    struct ekv_source *input = &db->merge.inputs[number];
    int error = ekv_run_next(&db->index, input_run(db, number), &input->place, &found);
    if (error)
        return error == EKV_NOT_FOUND ? EKV_OK : error;
    return ekv_source_take(&db->log, input, &found);
}

/* Reads what an input stands on anew, moving past entries that became stale. */
static int input_load(struct ekv *db, uint32_t number)
{
    struct ekv_found found;
    struct ekv_source *input = &db->merge.inputs[number];
    const struct ekv_run *run = input_run(db, number);
    if (input->place.address == 0)
        return EKV_OK;
    bool begun = input->place.address != UINT32_MAX;
    int error = begun ? ekv_entry_read(&db->log, input->place.address, run->sequence, &found)
                      : ekv_run_first(&db->index, run, &input->place, &found);
    if (begun && error == EKV_NOT_FOUND)
        return input_next(db, number);
    if (error)
        return error == EKV_NOT_FOUND ? EKV_OK : error;
    return ekv_source_take(&db->log, input, &found);
}

/* The input with the smallest key, the newest of equal ones. EKV_NOT_FOUND: all are through. */
static int smallest(struct ekv *db, uint32_t *number)
{
    bool found = false;
    for (uint32_t i = 0; i < db->merge.count; i++) {
        int order = -1;
        if (db->merge.inputs[i].place.address == 0)
            continue;
        const struct ekv_source *inputs = db->merge.inputs;
        int error =
            found ? ekv_source_compare(&db->log, &inputs[i], &inputs[*number], &order) : EKV_OK;
        if (error)
            return error;
        if (order < 0)
            *number = i;
        found = true;
    }
    return found ? EKV_OK : EKV_NOT_FOUND;
}

/* --- Merging --------------------------------------------------------------------------------- */

/* The entries of one key, as they are passed over. */
struct passed {
    struct ekv_record newest;
    uint32_t before; /* address of the entry before */
    bool begun;
    bool gone; /* with a delete that nobody needs the older versions go, too */
};

/* Keeps the entry if it is the newest, seen by a snapshot, or retained. Behind a copy the original
 * may still be there, which is the same version. */
static int merge_entry(struct ekv *db, struct passed *passed, uint32_t address)
{
    struct ekv_record record;
    uint64_t version, newer;
    bool kept = false;
    int error = ekv_record_read(&db->log, address, &record);
    if (!error && !passed->begun) {
        passed->newest = record;
        passed->gone =
            db->merge.oldest && !db->snapshots && ekv_record_kind(&record) == EKV_RECORD_DELETE;
        kept = !passed->gone;
    } else if (!error && !passed->gone && (db->snapshots || db->retain_count > 1)) {
        error = ekv_log_version(&db->log, address, &version);
        if (!error)
            error = ekv_log_version(&db->log, passed->before, &newer);
        if (!error && version != newer)
            error = ekv_is_retained(db, &passed->newest, &record, &kept);
        kept = !error && (kept || ekv_snapshot_between(db, version, newer));
    }
    if (!error && kept)
        error = ekv_build_add(&db->merge.builder, address, &record);
    passed->before = address;
    passed->begun = true;
    return error;
}

/* Passes over all entries with the key that input `first` stands on. The builder has room for
 * them. */
static int merge_key(struct ekv *db, uint32_t first)
{
    struct ekv_merge *merge = &db->merge;
    struct ekv_source key = merge->inputs[first];
    struct passed passed = {0};
    int error = EKV_OK;
    for (uint32_t i = first; !error && i < merge->count; i++) {
        while (!error && merge->inputs[i].place.address != 0) {
            int order;
            error = ekv_source_compare(&db->log, &merge->inputs[i], &key, &order);
            if (error || order != 0)
                break;
            error = merge_entry(db, &passed, merge->inputs[i].place.address);
            if (!error)
                error = input_next(db, i);
        }
    }
    return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
}

static int entries_step(struct ekv *db)
{
    struct ekv_merge *merge = &db->merge;
    uint64_t programs = db->sectors.programs;
    for (uint32_t i = 0; i < merge->count; i++) {
        int error = input_load(db, i);
        if (error)
            return error;
    }
    for (uint32_t i = 0; i < ENTRIES_MAX && db->sectors.programs == programs; i++) {
        uint32_t number = 0;
        if (!ekv_build_room(&merge->builder))
            return EKV_FULL;
        int error = smallest(db, &number);
        if (error == EKV_NOT_FOUND) {
            merge->phase = EKV_MERGE_FINISH;
            return EKV_OK;
        }
        if (!error)
            error = merge_key(db, number);
        if (error)
            return error;
    }
    return EKV_OK;
}

static int release_sector(void *context, uint32_t sector)
{
    struct ekv *db = context;
    if (sector >= ekv_format_of(db)->geometry.sector_count ||
        ekv_sector_state(&db->sectors, sector) != EKV_SECTOR_INDEX ||
        db->sectors.lives[sector] == 0)
        return ekv_corrupt();
    if (--db->sectors.lives[sector] == 0 && sector != db->index.sector)
        ekv_sector_set(&db->sectors, sector, EKV_SECTOR_FREE);
    return EKV_OK;
}

/* Puts the output in the place of the inputs. Their sectors are not used again before the edit is
 * durable: nothing is erased in between. */
static int commit(struct ekv *db)
{
    struct ekv_merge *merge = &db->merge;
    struct ekv_catalog *catalog = &db->catalog;
    struct ekv_run *first = input_run(db, 0);
    struct ekv_run *behind = first + merge->count;
    uint32_t kept = merge->builder.run.entry_count > 0;
    int error = ekv_log_flush(&db->log); /* while nothing is changed */
    if (error)
        return error;
    for (uint32_t i = 0; i < merge->count; i++) {
        bool damaged;
        error = ekv_run_sectors(&db->index, first + i, release_sector, db, &damaged);
        if (error || damaged) { /* some are free that are still in use */
            db->failed = true;
            return error ? error : ekv_corrupt();
        }
    }
    if (kept)
        *first = merge->builder.run;
    memmove(first + kept, behind,
            (size_t)(catalog->runs + catalog->run_count - behind) * sizeof *first);
    catalog->run_count -= merge->count - kept;
    merge->phase = EKV_MERGE_IDLE;
    db->change++;
    db->merges++;
    db->sectors.freed_since_sync = true;
    return ekv_publish(db, kept ? merge->builder.run.id : 0);
}

static int finish_step(struct ekv *db)
{
    struct ekv_merge *merge = &db->merge;
    int error = ekv_build_finish(&merge->builder);
    if (error)
        return error;
    if (merge->oldest || merge->builder.run.entry_count == 0)
        return commit(db);
    ekv_build_filter_begin(&merge->builder, NULL);
    merge->phase = EKV_MERGE_FILTER;
    return EKV_OK;
}

static int filter_step(struct ekv *db)
{
    bool done;
    int error = ekv_build_filter_step(&db->merge.builder, &done);
    return error || !done ? error : commit(db);
}

/* A merge that met an error cannot go on from where it stood. It begins anew after the next flush,
 * or when there is no other way; never if it met damage, which would be there again. */
static bool may_try_again(const struct ekv *db)
{
    return db->merge.error != EKV_CORRUPT &&
           (db->merge.pause != db->flushes || ekv_merge_urgent(db));
}

static int one_step(struct ekv *db)
{
    struct ekv_merge *merge = &db->merge;
    int error = EKV_OK;
    if (merge->phase == EKV_MERGE_ENTRIES)
        error = entries_step(db);
    else if (merge->phase == EKV_MERGE_FINISH)
        error = finish_step(db);
    else if (merge->phase == EKV_MERGE_FILTER)
        error = filter_step(db);
    if (!error || (error == EKV_FULL && !merge->builder.broken))
        return error;
    if (!db->failed)
        ekv_own_again(db);
    merge->error = error;
    merge->pause = db->flushes;
    return error;
}

int ekv_merge_step(struct ekv *db, bool *busy)
{
    *busy = db->merge.phase != EKV_MERGE_IDLE;
    if (!*busy && db->merge.error && !may_try_again(db))
        return ekv_merge_urgent(db) ? db->merge.error : EKV_OK;
    *busy = *busy || choose(db);
    return *busy ? one_step(db) : EKV_OK;
}

/* A merge of some of the runs must not take what one of all of them needs. */
int ekv_merge_drain(struct ekv *db)
{
    int error = EKV_OK;
    bool busy = true;
    while (!error && busy && ekv_merge_urgent(db)) {
        if (ekv_sectors_available(&db->sectors) <= ekv_reserve_index(db))
            error = ekv_merge_force(db);
        else
            error = ekv_merge_step(db, &busy);
    }
    return error;
}

/* Merges until a flush leaves room for the next merge of all runs. */
static int make_room(struct ekv *db)
{
    int error = EKV_OK;
    for (uint32_t i = db->catalog.run_count; !error && i > 1 && !ekv_reserve_holds_flush(db); i--)
        error = ekv_merge_force(db);
    return error;
}

int ekv_merge_flush(struct ekv *db)
{
    int error = ekv_merge_drain(db);
    if (!error)
        error = make_room(db);
    if (error == EKV_FULL) {
        ekv_own_again(db); /* a merge that found no room for its pages is given up with them */
        error = make_room(db);
    }
    return error == EKV_NOT_FOUND || !error ? ekv_flush(db) : error;
}

int ekv_merge_force(struct ekv *db)
{
    int error = EKV_OK;
    bool busy = true;
    if (db->merge.phase == EKV_MERGE_IDLE) {
        if (db->merge.error == EKV_CORRUPT)
            return EKV_CORRUPT;
        uint32_t count = db->catalog.run_count, most = db->merge.input_max;
        if (count < 2)
            return EKV_NOT_FOUND;
        /* Just enough of the newest, which are small, that the next merge takes all. */
        if (count > most)
            count = ekv_min(count - most + 1, most);
        begin_merge(db, 0, count);
    }
    while (!error && busy && db->merge.phase != EKV_MERGE_IDLE)
        error = one_step(db);
    return error;
}
