/* The public API: memory, format, mount, unmount, and the operations of one key.
 *
 * Everything that changes the store goes through one shape: take the lock, make room, append,
 * program, point the memtable at it, pay for background work, let the lock go. The commit point is
 * the program of the record.
 */
#include "ekv.h"

#include <assert.h>
#include <string.h>

#include "append.h"
#include "damage.h"
#include "recover.h"
#include "replay.h"
#include "retain.h"
#include "work.h"

enum {
    MEMTABLE_MIN = 8,
    MEMTABLE_MAX = 1 << 16,
    REPLAY_MIN = 4,
    REPLAY_MAX = 32,
    INPUTS_MAX = 12, /* of a merge */
    TINY = 16,       /* sectors */
    FEW = 32,
    FEW_PART = 36,
};

/* --- Memory ---------------------------------------------------------------------------------- */

static uint32_t memtable_default(const struct ekv_geometry *geometry)
{
    return geometry->sector_count <= FEW ? 112 : 512;
}

static uint32_t memtable_count(const struct ekv_geometry *geometry,
                               const struct ekv_mount_options *options)
{
    uint32_t count = options ? options->memtable_count : 0;
    /* A flush must not take more than a thirty-second of the flash. */
    uint32_t most = (geometry->sector_count / 32 + 1) * (geometry->sector_size / 8);
    if (count == 0)
        return memtable_default(geometry);
    return ekv_min(ekv_max(count, MEMTABLE_MIN), ekv_min(most, MEMTABLE_MAX));
}

/* Slots of the memtable, of which on the smallest flash a recovery uses more than others. */
static uint32_t slot_count(const struct ekv_geometry *geometry, uint32_t count)
{
    return geometry->sector_count <= TINY ? ekv_max(count, memtable_default(geometry)) : count;
}

/* Keys after which a flush is due. Where sectors are few, a merge of twice as many and a flush must
 * fit into one. */
static uint32_t memtable_limit(const struct ekv_geometry *geometry, uint32_t count)
{
    return geometry->sector_count <= FEW ? ekv_min(count, geometry->sector_size / FEW_PART) : count;
}

/* Sectors of log after which a flush is due: an eighth of the flash, of a small one a quarter. */
static uint32_t replay_max(const struct ekv_geometry *geometry)
{
    uint32_t count = geometry->sector_count;
    return ekv_max(ekv_min(REPLAY_MIN, count / 4), ekv_min(REPLAY_MAX, count / 8));
}

static uint32_t cache_count(const struct ekv_mount_options *options)
{
    return options ? ekv_cache_count(options->cache_count) : 0;
}

/* The parts of the memory, in order; each begins at a multiple of eight. */
struct plan {
    size_t states, sequences, slots, hints, runs, inputs, log_pages, merge_pages, cache, size;
    uint32_t run_capacity, input_max, merge_page_count;
};

static size_t take(size_t *at, size_t size)
{
    size_t begin = *at;
    *at += (size + 7) / 8 * 8;
    return begin;
}

static struct plan plan_of(const struct ekv_geometry *geometry, uint32_t slots, uint32_t cached)
{
    struct plan plan;
    size_t at = 0;
    uint32_t height = ekv_build_height(geometry), few = memtable_default(geometry);
    take(&at, sizeof(struct ekv));
    plan.states = take(&at, ekv_sectors_memory_size(geometry->sector_count));
    plan.sequences = take(&at, cached ? geometry->sector_count * sizeof(uint32_t) : 0);
    plan.slots = take(&at, slots * sizeof(struct ekv_slot));
    plan.hints = take(&at, ekv_memtable_hint_size(slots));
    plan.run_capacity = ekv_format_run_count_max(geometry->sector_count) + 1;
    plan.input_max = ekv_min(INPUTS_MAX, (plan.run_capacity + 1) / 2);
    plan.runs = take(&at, plan.run_capacity * sizeof(struct ekv_run));
    plan.inputs = take(&at, plan.input_max * sizeof(struct ekv_source));
    plan.log_pages = take(&at, (1 + height) * EKV_PAGE_SIZE);
    /* Who has memory for more keys gets a byte a key more: large filters take fewer walks then. */
    plan.merge_page_count = height + (slots > few ? (slots - few) / EKV_PAGE_SIZE : 0);
    plan.merge_pages = take(&at, plan.merge_page_count * EKV_PAGE_SIZE);
    plan.cache = take(&at, ekv_cache_size(cached));
    plan.size = at;
    return plan;
}

size_t ekv_memory_size(const struct ekv_geometry *geometry, const struct ekv_mount_options *options)
{
    if (ekv_geometry_check(geometry))
        return 0;
    uint32_t slots = slot_count(geometry, memtable_count(geometry, options));
    return plan_of(geometry, slots, cache_count(options)).size;
}

static int lay_out(struct ekv **db, const struct ekv_flash *flash, uint64_t store_id,
                   const struct ekv_mount_options *options, void *memory, size_t memory_size)
{
    const struct ekv_geometry *geometry = &flash->geometry;
    int error = ekv_geometry_check(geometry);
    if (error)
        return error;
    uint32_t count = memtable_count(geometry, options), cached = cache_count(options);
    uint32_t slots = slot_count(geometry, count);
    struct plan plan = plan_of(geometry, slots, cached);
    uint8_t *bytes = memory;
    if (!memory || memory_size < plan.size || (uintptr_t)memory % 8 != 0)
        return EKV_MEMORY;
    struct ekv *self = memory;
    memset(self, 0, sizeof *self);
    ekv_sectors_init(&self->sectors, flash, store_id, bytes + plan.states,
                     cached ? (uint32_t *)(void *)(bytes + plan.sequences) : NULL);
    if (self->sectors.format.ring_count + 5 > geometry->sector_count)
        return EKV_GEOMETRY; /* sectors too small for a manifest of so many */
    self->log.sectors = &self->sectors;
    self->log.pages = bytes + plan.log_pages;
    self->index.log = &self->log;
    self->index.page = &self->page;
    self->index.sector = EKV_NO_SECTOR;
    ekv_memtable_init(&self->memtable, (struct ekv_slot *)(void *)(bytes + plan.slots), slots,
                      bytes + plan.hints);
    self->memtable.limit = memtable_limit(geometry, count);
    self->memtable_default = memtable_default(geometry);
    ekv_cache_init(&self->cache, bytes + plan.cache, cached);
    self->catalog.runs = (struct ekv_run *)(void *)(bytes + plan.runs);
    self->catalog.run_capacity = plan.run_capacity;
    self->merge.inputs = (struct ekv_source *)(void *)(bytes + plan.inputs);
    self->merge.input_max = plan.input_max;
    self->catalog.next_run_id = 1;
    self->generation = 1;
    self->manifest.sectors = &self->sectors;
    self->manifest.copy = self->log.pages + EKV_PAGE_SIZE;
    self->builder.index = self->merge.builder.index = &self->index;
    self->builder.pages = self->log.pages + EKV_PAGE_SIZE;
    self->merge.builder.pages = bytes + plan.merge_pages;
    self->builder.height_max = self->merge.builder.height_max = ekv_build_height(geometry);
    self->builder.page_count = ekv_build_height(geometry);
    ekv_log_widen(&self->log, self->builder.page_count); /* ekv_recover wants another page */
    self->merge.builder.page_count = plan.merge_page_count;
    self->replay_max = replay_max(geometry);
    *db = self;
    return EKV_OK;
}

/* --- Format, probe --------------------------------------------------------------------------- */

static int close_log(struct ekv *db)
{
    uint8_t value[EKV_CLOSE_SIZE];
    uint32_t address = UINT32_MAX;
    if (db->index.sector != EKV_NO_SECTOR &&
        db->index.offset < ekv_format_of(db)->geometry.sector_size)
        address = ekv_address(ekv_format_of(db), db->index.sector, db->index.offset);
    ekv_store32(value, address);
    ekv_store(value + 4, db->sectors.virgin, 3);
    return ekv_log_append_mark(&db->log, EKV_RECORD_CLOSE | EKV_RECORD_COMMITS, value,
                               sizeof value);
}

static int probe_at(const struct ekv_flash *flash, uint32_t address, struct ekv_stamp_a *stamp)
{
    uint8_t bytes[EKV_STAMP_A_SIZE];
    int error = ekv_flash_read(flash, address, bytes, sizeof bytes);
    if (error)
        return error == EKV_CORRUPT ? EKV_NO_STORE : error;
    error = ekv_stamp_a_decode(bytes, stamp);
    if (!error && (uint64_t)stamp->sector * stamp->geometry.sector_size != address)
        return EKV_NO_STORE;
    return error;
}

/* Finds a stamp at the begin of one of the first sectors: any of them may have been hit by a power
 * cut, not all. */
static int probe(const struct ekv_flash *flash, struct ekv_stamp_a *stamp)
{
    int answer = probe_at(flash, 0, stamp);
    if (answer != EKV_NO_STORE)
        return answer;
    for (uint32_t size = EKV_SECTOR_SIZE_MIN; size <= EKV_SECTOR_SIZE_MAX; size *= 2) {
        for (uint32_t i = 1; i < EKV_SECTOR_COUNT_MIN; i++) {
            int error = probe_at(flash, i * size, stamp);
            if (!error && stamp->geometry.sector_size == size)
                return EKV_OK;
            if (error == EKV_IO)
                return error;
            if (error == EKV_VERSION)
                answer = error;
        }
    }
    return answer;
}

static bool same_geometry(const struct ekv_geometry *a, const struct ekv_geometry *b)
{
    return a->sector_size == b->sector_size && a->sector_count == b->sector_count &&
           a->write_unit == b->write_unit;
}

/* Stamps a sector of an older store's ring so that the store is void: of it, one that its newest
 * chains do not lie in. `mark` is EKV_NO_SECTOR if there is no store. */
static int mark_void(struct ekv *db, uint32_t *mark)
{
    static const struct ekv_stamp_b last = {
        .kind = EKV_KIND_MANIFEST, .sequence = EKV_SEQUENCE_VOID, .virgin = EKV_NO_SECTOR};
    struct ekv_sectors *sectors = &db->sectors;
    uint64_t store_id = sectors->format.store_id;
    uint32_t least = UINT32_MAX;
    struct ekv_stamp_a old;
    *mark = EKV_NO_SECTOR;
    if (probe(&sectors->flash, &old) || !same_geometry(&old.geometry, &sectors->format.geometry))
        return EKV_OK;
    ekv_format_name(&sectors->format, old.store_id);
    for (uint32_t i = 0; i < sectors->format.ring_count; i++) {
        struct ekv_stamp_b stamp;
        if (ekv_sector_stamp_read(sectors, i, &stamp) || stamp.kind != EKV_KIND_MANIFEST)
            stamp.sequence = 0;
        if (*mark != EKV_NO_SECTOR && stamp.sequence >= least)
            continue;
        *mark = i;
        least = stamp.sequence;
    }
    int error = ekv_sector_erase(sectors, *mark);
    if (!error)
        error = ekv_sector_stamp(sectors, *mark, &last);
    ekv_format_name(&sectors->format, store_id);
    return error;
}

/* Erases the manifest's ring. An older store on it must not lose its newest edits alone: so it is
 * void before they go, and the sector that says so goes last. */
static int erase_ring(struct ekv *db)
{
    uint32_t mark;
    int error = mark_void(db, &mark);
    for (uint32_t i = 0; !error && i < ekv_format_of(db)->ring_count; i++)
        if (i != mark)
            error = ekv_sector_erase(&db->sectors, i);
    if (!error && mark != EKV_NO_SECTOR)
        error = ekv_sector_erase(&db->sectors, mark);
    return error;
}

static bool is_retention(uint32_t count, uint32_t seconds)
{
    return count <= EKV_RETAIN_MAX && seconds <= EKV_RETAIN_SECONDS_MAX &&
           (count == 0 || seconds == 0);
}

int ekv_format(const struct ekv_flash *flash, const struct ekv_format_options *options,
               void *memory, size_t memory_size)
{
    struct ekv *db;
    int error = lay_out(&db, flash, options->store_id, NULL, memory, memory_size);
    if (error)
        return error;
    if (options->label) {
        size_t size = strlen(options->label);
        if (size >= sizeof db->catalog.label)
            return EKV_INVALID;
        memcpy(db->catalog.label, options->label, size);
    }
    if (!is_retention(options->retain_count, options->retain_seconds))
        return EKV_INVALID;
    db->catalog.retain_count = options->retain_count;
    db->catalog.retain_seconds = options->retain_seconds;
    error = erase_ring(db);
    if (options->blank)
        db->sectors.virgin = db->sectors.format.ring_count;
    ekv_sectors_virgin_save(&db->sectors);
    if (!error)
        error = ekv_log_start(&db->log, 1, 0);
    if (error)
        return error;
    db->catalog.replay_sector = db->log.sector;
    db->catalog.replay_sequence = db->log.sequence;
    db->catalog.replay_offset = db->log.offset;
    db->catalog.flushed = db->catalog.counted = ekv_log_position(&db->log);
    error = ekv_manifest_create(&db->manifest, &db->catalog);
    if (!error)
        error = close_log(db);
    return error ? error : ekv_flash_sync(flash, false);
}

int ekv_probe(struct ekv_flash *flash)
{
    struct ekv_stamp_a stamp;
    int error = probe(flash, &stamp);
    if (error)
        return error;
    uint64_t size = (uint64_t)stamp.geometry.sector_size * stamp.geometry.sector_count;
    if (size > ekv_flash_size(flash))
        return EKV_GEOMETRY;
    flash->geometry = stamp.geometry;
    return EKV_OK;
}

/* --- Mount, unmount -------------------------------------------------------------------------- */

/* Sectors that rested in the sessions before go on resting, or are free if no span is retained. */
static void retain_span(struct ekv *db, const struct ekv_mount_options *options)
{
    uint32_t seconds = options->retain_seconds;
    if (seconds == 0 && options->retain_count == 0)
        seconds = db->catalog.retain_seconds;
    if (db->now)
        db->retain_span = (int64_t)seconds * 1000000;
    db->manifest.resting = db->retain_span > 0;
    ekv_publish_limbo(db);
}

/* Lays the store out and replays it; while that fails for damage that one bit explains, once more
 * with the bit put right in memory. */
static int replay(struct ekv **db, const struct ekv_flash *flash, uint64_t store_id,
                  const struct ekv_mount_options *options, void *memory, size_t memory_size)
{
    struct ekv_mends mends = {.count = 0};
    int error;
    do {
        error = lay_out(db, flash, store_id, options, memory, memory_size);
        if (error)
            return error;
        struct ekv *self = *db;
        self->sectors.mends = mends;
        self->retain_count = options->retain_seconds > 0 ? 1 : options->retain_count;
        error = ekv_replay(self);
        mends = self->sectors.mends;
        /* Of a manifest without its last edit there is more to replay than memory may hold. */
    } while ((error == EKV_CORRUPT || error == EKV_MEMORY) && ekv_mends_take(&mends));
    return error || mends.count == 0 ? error : ekv_damage_settle(*db);
}

int ekv_mount(struct ekv **db, const struct ekv_flash *flash,
              const struct ekv_mount_options *options, void *memory, size_t memory_size)
{
    static const struct ekv_mount_options none;
    struct ekv_stamp_a stamp;
    struct ekv *self;
    int error = ekv_geometry_check(&flash->geometry);
    if (!error)
        error = probe(flash, &stamp);
    if (error)
        return error;
    if (!same_geometry(&flash->geometry, &stamp.geometry))
        return EKV_GEOMETRY;
    options = options ? options : &none;
    if (!is_retention(options->retain_count, options->retain_seconds) ||
        (options->retain_seconds > 0 && !options->now))
        return EKV_INVALID;
    error = replay(&self, flash, stamp.store_id, options, memory, memory_size);
    if (error)
        return error;
    self->sectors.cursor = self->log.sector + 1; /* where the last session went on */
    self->sectors.freed_since_sync = true;       /* a killed process may have left it unsynced */
    self->read_only |= options->read_only;
    self->locks = self->sectors.locks = options->locks;
    self->lock_context = self->sectors.lock_context = options->lock_context;
    self->now = options->now;
    self->now_context = options->now_context;
    retain_span(self, options);
    if (self->last_version == 0)
        self->last_version = ekv_log_position(&self->log) - 1;
    ekv_cache_clear(&self->cache, self->catalog.run_count == 0 && self->memtable.count == 0);
    *db = self;
    return EKV_OK;
}

int ekv_unmount(struct ekv *db)
{
    int error = EKV_OK;
    ekv_lock_write(db);
    if (db->snapshots || db->txns) {
        ekv_unlock_write(db);
        return EKV_BUSY;
    }
    bool opened = !db->closed && !db->unclean;
    ekv_mend(db);
    if (ekv_is_writable(db) && opened && !db->log.failed) {
        /* Whoever mounts it next may have the default memory alone. */
        if (db->memtable.count > db->memtable_default) {
            error = ekv_merge_drain(db);
            if (!error)
                error = ekv_flush(db);
        }
        int closed = ekv_log_flush(&db->log);
        if (!closed && !ekv_log_can_close(&db->log))
            closed = ekv_log_roll(&db->log);
        if (!closed) /* the close record proves what came before it */
            closed = ekv_flash_sync(&db->sectors.flash, true);
        if (!closed)
            closed = close_log(db);
        if (closed == EKV_FULL)
            closed = EKV_OK; /* the next mount recovers */
        error = error && error != EKV_FULL ? error : closed;
    }
    /* Even if nothing was written: who wrote before may have been killed before it was certain. */
    if (!error && (opened || ekv_is_writable(db)))
        error = ekv_flash_sync(&db->sectors.flash, false);
    ekv_unlock_write(db);
    return error;
}

int ekv_sync(struct ekv *db)
{
    return ekv_flash_sync(&db->sectors.flash, false);
}

int ekv_work(struct ekv *db, bool *more)
{
    int error = EKV_OK;
    *more = false;
    ekv_lock_write(db);
    /* A store that nobody wrote to in this session has nothing to do. */
    if (ekv_is_writable(db) && !db->unclean && !db->closed) {
        db->erases_before = db->sectors.erases;
        error = db->log.failed ? EKV_OK : ekv_work_step(db, more);
        ekv_mend(db);
    }
    ekv_unlock_write(db);
    return error;
}

/* --- Single operations ----------------------------------------------------------------------- */

/* Makes the record just appended the key's current one: durable first, visible then. */
static int commit(struct ekv *db, uint32_t address, const struct ekv_found *old)
{
    struct ekv_record record;
    int error = ekv_record_read(&db->log, address, &record); /* most of it is still in the buffer */
    int flushed = ekv_log_flush(&db->log);
    if (flushed)
        return flushed;
    if (!error)
        error = ekv_apply(db, &record, old);
    if (error) {
        db->failed = true; /* on flash, but not in memory */
        return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
    }
    db->appending = NULL;
    db->last_version = ekv_log_position(&db->log) - 1;
    return EKV_OK;
}

/* EKV_CONFLICT unless `expected` (NULL: any) is the version that the key has, 0 for none. */
static int expect(struct ekv *db, const struct ekv_found *old, const uint64_t *expected)
{
    uint64_t version = 0;
    int error = EKV_OK;
    if (!expected)
        return EKV_OK;
    if (old && ekv_record_kind(&old->record) != EKV_RECORD_DELETE)
        error = ekv_record_version(&db->log, &old->record, old->sequence, &version);
    return error || version == *expected ? error : EKV_CONFLICT;
}

static int put(struct ekv *db, struct ekv_key key, const uint64_t *expected, const void *value,
               size_t size)
{
    struct ekv_found old;
    struct ekv_write write;
    uint32_t address;
    uint64_t log_size = ekv_value_log_size(db, key, size);
    int error = ekv_write_begin(db, log_size, log_size, 1);
    if (error)
        return error;
    int found = ekv_lookup(db, key, EKV_VERSION_MAX, &old);
    if (found < 0)
        return found;
    const struct ekv_found *replaced = found == EKV_OK ? &old : NULL;
    error = expect(db, replaced, expected);
    if (!error)
        error = ekv_write_new(db, key, true, replaced, &write);
    if (!error)
        error = ekv_value_append(db, key, &write, value, size, &address);
    return error ? error : commit(db, address, replaced);
}

static int locked_put(struct ekv *db, struct ekv_key key, const uint64_t *expected,
                      const void *value, size_t size)
{
    if (key.size > ekv_format_key_size_max(ekv_format_of(db)))
        return EKV_TOO_LARGE;
    if (size >= ekv_flash_size(&db->sectors.flash))
        return EKV_FULL;
    ekv_lock_write(db);
    int error = ekv_write_end(db, put(db, key, expected, value, size));
    ekv_unlock_write(db);
    return error;
}

int ekv_put(struct ekv *db, struct ekv_key key, const void *value, size_t size)
{
    return locked_put(db, key, NULL, value, size);
}

int ekv_put_if(struct ekv *db, struct ekv_key key, uint64_t version, const void *value, size_t size)
{
    return locked_put(db, key, &version, value, size);
}

static int delete (struct ekv *db, struct ekv_key key)
{
    struct ekv_found old;
    struct ekv_write write;
    uint32_t address;
    int error = ekv_lookup_live(db, key, EKV_VERSION_MAX, &old);
    if (!error)
        error = ekv_write_begin(db, ekv_value_log_size(db, key, 0), 0, 1);
    if (!error) /* gc may have moved it */
        error = ekv_lookup_live(db, key, EKV_VERSION_MAX, &old);
    if (!error)
        error = ekv_write_new(db, key, true, &old, &write);
    if (!error)
        error = ekv_record_append(db, EKV_RECORD_DELETE, key, &write, NULL, 0, &address);
    return error ? error : commit(db, address, &old);
}

int ekv_delete(struct ekv *db, struct ekv_key key)
{
    ekv_lock_write(db);
    int error = ekv_write_end(db, delete (db, key));
    ekv_unlock_write(db);
    return error;
}

int ekv_get(struct ekv *db, struct ekv_key key, uint64_t offset, void *buffer, size_t capacity,
            size_t *size)
{
    ekv_lock_read(db);
    int error = ekv_read_at(db, key, EKV_VERSION_MAX, offset, buffer, capacity, size);
    ekv_unlock_read(db);
    return error;
}

int ekv_find(struct ekv *db, struct ekv_key key, struct ekv_entry *entry)
{
    ekv_lock_read(db);
    int error = ekv_find_at(db, key, EKV_VERSION_MAX, entry);
    ekv_unlock_read(db);
    return error;
}

void ekv_stat(struct ekv *db, struct ekv_stat *stat)
{
    const struct ekv_sectors *sectors = &db->sectors;
    ekv_lock_read(db);
    *stat = (struct ekv_stat){
        .store_id = sectors->format.store_id,
        .geometry = sectors->format.geometry,
        .key_size_max = ekv_format_key_size_max(&sectors->format),
        .keys = db->catalog.keys,
        .live_size = db->catalog.live_size,
        .capacity_size = db->catalog.live_size + ekv_space(db),
        .record_overhead = 16 + 2u * sectors->format.pointer_size,
        .version = db->last_version,
        .sectors_log = sectors->counts[EKV_SECTOR_LOG],
        .sectors_index = sectors->counts[EKV_SECTOR_INDEX],
        .sectors_manifest = sectors->counts[EKV_SECTOR_MANIFEST],
        .sectors_free = sectors->counts[EKV_SECTOR_FREE] + sectors->counts[EKV_SECTOR_EMPTIED],
        .sectors_ready = sectors->counts[EKV_SECTOR_READY],
        .sectors_pinned = sectors->counts[EKV_SECTOR_LIMBO],
        .sectors_retired = sectors->counts[EKV_SECTOR_RETIRED],
        .runs = db->catalog.run_count,
        .memtable_count = db->memtable.count,
        .memtable_capacity = db->memtable.limit,
        .erases = sectors->erases,
        .programs = sectors->programs,
        .programmed_size = sectors->programmed_size,
        .flushes = db->flushes,
        .merges = db->merges,
        .collections = db->collections,
        .reserved_size = db->reserved_size,
        .read_only = !ekv_is_writable(db),
        .damaged = db->damaged,
        .recovered = db->recovered,
    };
    memcpy(stat->label, db->catalog.label, sizeof stat->label);
    ekv_unlock_read(db);
}
