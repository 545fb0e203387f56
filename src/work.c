/* Paces the background work and keeps the reserve.
 *
 * After every write: at most one merge step, one collected sector and one erase, and the erase only
 * if the write had none; the writes of a transaction share one for each sector that they fill.
 * `floor` sectors stay free or ready whatever is written, so that gc has room to copy, a flush its
 * pages, and a recovery after a power cut its new log. Puts leave one more than deletes, so that a
 * full store can be emptied.
 */
#include "work.h"

#include <assert.h>

#include "recover.h"
#include "reserve.h"

enum {
    MERGE_PACE = 7,      /* writes that pay for a step of a merge, at most */
    MERGE_PACE_HOST = 3, /* ... with memory for more keys than the default: fewer runs to ask */
    MERGE_SPARE = 2,     /* runs that may still come when it ends */
    MANIFEST_PACE = 8,   /* writes that pay for an erase in the manifest's ring, if it is due */
    READY_AHEAD = 4,     /* writes like the largest of late that ready sectors should last for */
    READY_FADE = 16,     /* writes in which the largest one of late is forgotten */
    BLOAT_PART = 8, /* the part of the flash that the index may take beside one run of all keys */
    VAIN_MAX = 4,   /* collections in a row that gained nothing */
    VAIN_PINNED_MAX = 64, /* ... while a snapshot is open, for which what is emptied may rest */
    MANY = 16,            /* sectors; who takes more does not look for the best of all to collect */
};

static uint32_t body_size(const struct ekv *db)
{
    const struct ekv_format *format = ekv_format_of(db);
    return ekv_format_record_size_max(format);
}

/* Sectors that one run of all keys takes. */
static uint32_t bottom_sectors(const struct ekv *db)
{
    uint64_t keys = (uint64_t)db->catalog.keys + db->catalog.keys_aside;
    return (uint32_t)(keys * (ekv_format_of(db)->pointer_size + 2u) / body_size(db));
}

/* Sectors that stay available after a put; after a delete one less. */
static uint32_t floor_of(const struct ekv *db)
{
    return ekv_reserve_log(db) + ekv_reserve_index(db);
}

/* Sectors that are emptied ahead of the need, so that one edit frees several. On small flash what
 * they hold back costs more than edits do. */
static uint32_t ahead_of(const struct ekv *db)
{
    return ekv_format_of(db)->geometry.sector_count <= 16 ? 0 : 3;
}

/* Index sectors in use: the bottom run, the runs above it, what a run takes beside its entries, and
 * sectors that are not full. What a merge takes until it is done is kept back by the floor. */
static uint32_t index_sectors(const struct ekv *db)
{
    enum { RUN_OVERHEAD = 80 };
    uint32_t count = ekv_format_of(db)->geometry.sector_count;
    uint64_t entry = ekv_format_of(db)->pointer_size + 2;
    uint64_t bytes =
        2 * (uint64_t)db->memtable.limit * entry + db->catalog.run_capacity / 2 * RUN_OVERHEAD;
    return bottom_sectors(db) + (uint32_t)(bytes / body_size(db)) + (count <= 16 ? 1 : 2);
}

/* The smallest flash has room for one log sector beside the head. A recovery must be able to empty
 * that into a new head, so all keys must find a slot in the memtable. */
static uint64_t tiny_capacity(const struct ekv *db)
{
    uint64_t keys = (uint64_t)db->catalog.keys + db->catalog.keys_aside;
    if (keys >= db->memtable.capacity)
        return 0;
    return (uint64_t)body_size(db) * (ekv_reserve_log(db) < 2 ? 5 : 9) / 10;
}

uint64_t ekv_capacity(const struct ekv *db)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t taken = format->ring_count + 2 + ekv_reserve_log(db) + ekv_reserve_index_least(db) +
                     index_sectors(db) + db->sectors.counts[EKV_SECTOR_RETIRED];
    if (taken >= format->geometry.sector_count || ekv_reserve_log(db) < 3)
        return tiny_capacity(db);
    uint64_t sectors = format->geometry.sector_count - taken;
    return sectors * body_size(db) * 23 / 25; /* 92 % */
}

uint64_t ekv_space(const struct ekv *db)
{
    /* Copies that gc makes carry their version. */
    uint64_t keys = (uint64_t)db->catalog.keys + db->catalog.keys_aside;
    uint64_t live = db->catalog.live_size + keys * EKV_RECORD_VERSION_SIZE;
    uint64_t capacity = ekv_capacity(db);
    return live < capacity ? capacity - live : 0;
}

static uint32_t sectors_for(const struct ekv *db, uint64_t size)
{
    uint32_t room = ekv_log_room(&db->log);
    if (size <= room)
        return 0;
    return (uint32_t)((size - room) / body_size(db)) + (size > body_size(db) ? 2 : 1);
}

/* What else can give sectors: the manifest frees emptied ones, a flush moves the replay position
 * past log sectors, a merge frees the runs it replaces. EKV_NOT_FOUND: nothing else can. */
static int find_more(struct ekv *db)
{
    if (db->sectors.counts[EKV_SECTOR_EMPTIED] > 0)
        return ekv_publish(db, 0);
    if (db->merge.phase != EKV_MERGE_IDLE) {
        int error = ekv_merge_force(db);
        if (error != EKV_FULL)
            return error;
    }
    if (db->catalog.replay_sequence < ekv_flush_sequence(db))
        return ekv_merge_flush(db);
    int error = ekv_merge_force(db);
    if ((error != EKV_NOT_FOUND && error != EKV_FULL) ||
        db->catalog.replay_sequence == db->log.sequence)
        return error;
    db->appending = NULL; /* what it wrote over lies in sectors that replay needs until then */
    return ekv_merge_flush(db);
}

/* Bytes of log that could be written now and after the next edit of the manifest. */
static uint64_t room_of(const struct ekv *db)
{
    uint64_t sectors = ekv_sectors_available(&db->sectors) +
                       db->sectors.counts[EKV_SECTOR_EMPTIED] - db->emptied_seen;
    return sectors * body_size(db) + ekv_log_room(&db->log);
}

/* With a span that is retained, time alone makes sectors free. */
static void release_rested(struct ekv *db)
{
    if (db->retain_span > 0 && db->sectors.counts[EKV_SECTOR_LIMBO] > 0)
        ekv_publish_limbo(db);
}

/* A collection gives no room at once if what it empties must rest: it is done ahead of the need
 * then, while there is more room than `floor`, and not when there is none. */
static bool may_collect(const struct ekv *db, uint32_t floor)
{
    return db->retain_span == 0 || db->sectors.counts[EKV_SECTOR_LIMBO] == 0 ||
           ekv_sectors_available(&db->sectors) > floor;
}

static int collect_room(struct ekv *db, uint64_t size, uint32_t floor)
{
    uint32_t tries = 2 * ekv_format_of(db)->geometry.sector_count, vain = 0;
    if (ekv_sectors_available(&db->sectors) < sectors_for(db, size) + floor)
        release_rested(db);
    uint32_t vain_max = db->snapshots ? VAIN_PINNED_MAX : VAIN_MAX;
    for (; tries > 0 && vain < vain_max; tries--) {
        uint32_t need = sectors_for(db, size) + floor;
        uint32_t available = ekv_sectors_available(&db->sectors);
        uint32_t emptied = db->sectors.counts[EKV_SECTOR_EMPTIED];
        uint64_t room = room_of(db);
        if (available >= need)
            return EKV_OK;
        int error = EKV_NOT_FOUND;
        if (ekv_reserve_surplus(db) > ekv_format_of(db)->geometry.sector_count / BLOAT_PART)
            error = ekv_merge_force(db);
        else if (available + emptied < need && (available > 1 || emptied == 0) &&
                 may_collect(db, floor))
            error = ekv_gc(db, vain > 0                                ? EKV_GC_EXACTLY
                               : need > floor + MANY && !db->snapshots ? EKV_GC_MANY
                                                                       : EKV_GC_ANY);
        vain = error || room_of(db) > room ? 0 : vain + 1;
        if (error == EKV_NOT_FOUND || error == EKV_FULL)
            error = find_more(db);
        if (error == EKV_NOT_FOUND || error == EKV_FULL)
            break;
        if (error)
            return error;
    }
    return db->sectors.counts[EKV_SECTOR_LIMBO] > 0 ? EKV_PINNED : EKV_FULL;
}

static int make_room(struct ekv *db, uint64_t size, uint32_t floor)
{
    int error = collect_room(db, size, floor);
    if (db->retain_count < 2 || (error != EKV_FULL && error != EKV_PINNED))
        return error;
    db->pressed = true;
    error = collect_room(db, size, floor);
    db->pressed = false;
    return error;
}

static int reopen(struct ekv *db)
{
    if (db->unclean || db->log.failed)
        return ekv_recover(db);
    if (!db->closed)
        return EKV_OK;
    int error = ekv_log_append_mark(&db->log, EKV_RECORD_OPEN | EKV_RECORD_COMMITS, NULL, 0);
    if (!error)
        db->closed = false;
    return error;
}

static bool flush_due(const struct ekv *db, uint32_t slots)
{
    return db->memtable.count + slots > db->memtable.limit ||
           ekv_flush_sequence(db) - db->catalog.replay_sequence >= db->replay_max;
}

/* `alone`: the write is a transaction of its own. */
static void note_write(struct ekv *db, uint64_t size, bool alone)
{
    uint32_t faded = db->recent_size - db->recent_size / READY_FADE;
    uint32_t most = EKV_READY_TARGET * body_size(db);
    db->batch_size = alone ? 0 : db->reserved_size;
    if (db->batch_size == 0)
        db->erases_before = db->sectors.erases;
    size += db->batch_size;
    db->recent_size = ekv_max(faded, size < most ? (uint32_t)size : most);
}

int ekv_write_begin(struct ekv *db, uint64_t size, uint64_t growth, uint32_t slots)
{
    if (!ekv_is_writable(db))
        return EKV_READ_ONLY;
    note_write(db, size, slots == 1);
    int error = reopen(db);
    if (!error) { /* a recovery adds a run: sessions that are all cut short must not pile them up */
        error = ekv_merge_drain(db);
        if (error == EKV_FULL)
            error = EKV_OK;
    }
    if (error)
        return error;
    if (growth > 0 && db->reserved_size + growth > ekv_space(db))
        return EKV_FULL;
    uint32_t floor = floor_of(db);
    error = make_room(db, size, growth > 0 ? floor : floor - 1);
    if (db->log.next == EKV_NO_SECTOR) {
        error = ekv_sectors_available(&db->sectors) < 2 ? EKV_FULL : ekv_restart(db);
        if (error == EKV_FULL && size <= ekv_log_room(&db->log) && growth == 0)
            error = EKV_OK;
        if (error)
            return error;
    }
    /* What frees space may use all but the sector that a recovery needs. */
    if ((error == EKV_FULL || error == EKV_PINNED) && growth == 0 &&
        ekv_sectors_available(&db->sectors) > sectors_for(db, size))
        error = EKV_OK;
    if (!error && flush_due(db, slots))
        error = ekv_merge_flush(db);
    ekv_sectors_want(&db->sectors, sectors_for(db, size));
    return error;
}

/* Collects while sectors run low, a few ahead of the need, so that one edit frees several. */
static int gc_step(struct ekv *db, uint32_t low, bool *more)
{
    uint32_t available = ekv_sectors_available(&db->sectors);
    uint32_t emptied = db->sectors.counts[EKV_SECTOR_EMPTIED];
    int error = EKV_NOT_FOUND;
    if (available <= low + ahead_of(db))
        release_rested(db);
    if (available <= low && emptied > 0) {
        *more = true;
        return ekv_publish(db, 0);
    }
    if (ekv_gc_bad(db) || (available + emptied <= low + ahead_of(db) && may_collect(db, low)))
        error = ekv_gc(db, EKV_GC_ANY);
    else if (db->retain_span > 0 &&
             may_collect(db, low)) /* what is emptied early has rested early */
        error = ekv_gc(db, EKV_GC_EARLY);
    /* The head is young now and has room for what is live in the sectors behind it; later it might
     * not have. */
    if (error == EKV_NOT_FOUND && available + emptied <= low &&
        db->catalog.replay_sequence < ekv_flush_sequence(db))
        error = ekv_merge_flush(db);
    *more |= error == EKV_OK;
    return error;
}

/* Sectors that the next writes may take: those should find them erased. No more, since what is
 * ready at an unmount was erased for nothing. */
static uint32_t ready_target(const struct ekv *db, uint32_t low)
{
    const struct ekv_memtable *table = &db->memtable;
    uint32_t pages = db->merge.phase != EKV_MERGE_IDLE ? 2 : 0;
    uint64_t size = (uint64_t)READY_AHEAD * db->recent_size;
    if (ekv_sectors_available(&db->sectors) <= low + ahead_of(db))
        size += body_size(db) / 4; /* for what collections copy */
    uint32_t target = sectors_for(db, size);
    if (table->count + table->limit / 8 >= table->limit)
        pages += ekv_flush_size(db) / EKV_PAGE_SIZE;
    if (pages * EKV_PAGE_SIZE > ekv_index_room(&db->index))
        target++;
    return ekv_min(target, ekv_min(EKV_READY_TARGET, low + 1));
}

/* Steps that the merge that goes on still takes, at most: of most keys one entry is left. */
static uint64_t merge_steps(const struct ekv *db)
{
    enum {
        PAGE_ENTRIES = 60,
        FILTER_ENTRIES = EKV_PAGE_SIZE / EKV_FILTER_BLOCK_SIZE * EKV_FILTER_KEYS
    };
    const struct ekv_merge *merge = &db->merge;
    uint64_t keys = (uint64_t)db->catalog.keys + db->catalog.keys_aside;
    uint64_t built = merge->builder.run.entry_count, filtered = 0;
    uint64_t entries = keys < merge->entries ? keys : merge->entries;
    if (merge->phase != EKV_MERGE_ENTRIES || entries < built)
        entries = built;
    if (merge->phase == EKV_MERGE_FILTER)
        filtered = (uint64_t)merge->builder.filter_next * EKV_FILTER_KEYS;
    if (merge->oldest || filtered > entries)
        filtered = entries;
    return (entries - built) / PAGE_ENTRIES + (entries - filtered) / FILTER_ENTRIES + 1;
}

/* Writes that pay for one step of a merge: as many as may be, so that no batch of writes meets much
 * of a merge, if that is to end before the runs which come meanwhile are too many. */
static uint32_t merge_pace(const struct ekv *db)
{
    uint32_t runs = db->catalog.run_count + MERGE_SPARE;
    uint32_t most = db->memtable.limit > db->memtable_default ? MERGE_PACE_HOST : MERGE_PACE;
    if (runs >= db->catalog.run_capacity)
        return 1;
    if (db->merge.phase == EKV_MERGE_IDLE)
        return most;
    uint64_t writes = (uint64_t)(db->catalog.run_capacity - runs) * db->memtable.limit;
    writes /= merge_steps(db);
    return ekv_max(1, writes < most ? (uint32_t)writes : most);
}

/* A write may erase ahead of the need if it had no erase itself; those of a transaction together as
 * often as they begin a sector. */
static bool may_erase(const struct ekv *db)
{
    uint64_t erases = db->sectors.erases - db->erases_before;
    return erases <= db->batch_size / body_size(db);
}

static int work_step(struct ekv *db, bool merge, bool *more)
{
    uint32_t low = floor_of(db);
    int error = EKV_OK;
    *more = false;
    if (merge)
        error = ekv_merge_step(db, more);
    if (!error)
        error = gc_step(db, low, more);
    if (error == EKV_NOT_FOUND || error == EKV_FULL)
        error = EKV_OK;
    if (!error && may_erase(db) && db->writes % MANIFEST_PACE == 0) {
        error = ekv_manifest_prepare(&db->manifest, &db->catalog);
        if (error == EKV_NOT_FOUND || error == EKV_IO) /* the edit that needs it will say so */
            error = EKV_OK;
    }
    if (!error && may_erase(db) && db->sectors.counts[EKV_SECTOR_FREE] > 0 &&
        db->sectors.counts[EKV_SECTOR_READY] < ready_target(db, low)) {
        error = ekv_sector_prepare(&db->sectors);
        *more = true;
    }
    return error == EKV_FULL ? EKV_OK : error;
}

int ekv_work_step(struct ekv *db, bool *more)
{
    return work_step(db, true, more);
}

int ekv_write_end(struct ekv *db, int error)
{
    bool more;
    assert(error || (!db->unclean && !db->closed));
    if (!error && ekv_is_writable(db))
        (void)!work_step(db, ++db->writes % merge_pace(db) == 0, &more);
    ekv_mend(db);
    return error;
}
