/* Verifies a mounted store: every sector in use stamped as what it is, every page and filter whole,
 * every key found where it must be, every value readable, counts exact.
 *
 * It goes on after a finding, so that one damaged page does not hide another. Only counts are not
 * compared when something could not be read. The live counts are verified by taking every current
 * value off them: what is left must be zero; then everything is put back. That is done modulo 256,
 * whatever the counts on flash say. Nothing is written to flash.
 */
#include <string.h>

#include "lookup.h"
#include "value.h"
#include "walk.h"

struct check {
    struct ekv *db;
    void (*report)(void *context, const struct ekv_finding *finding);
    void *context;
    uint32_t findings;
    bool unreadable;    /* something was, or was not where it must be: counts cannot be compared */
    uint32_t keys[2];   /* in each key space */
    uint64_t live_size; /* of all that is current */
    uint64_t taken_off; /* records taken off the live counts, and not put back yet */
    bool restoring;     /* the second walk, which puts them back and finds nothing */
};

static void find(struct check *check, const char *code, uint32_t address, const char *text)
{
    struct ekv_finding finding = {code, address, text};
    if (check->restoring)
        return; /* found before */
    check->findings++;
    if (check->report)
        check->report(check->context, &finding);
}

/* A finding that leaves part of the store unread, or read wrongly. */
static void find_unreadable(struct check *check, const char *code, uint32_t address,
                            const char *text)
{
    check->unreadable = true;
    find(check, code, address, text);
}

/* --- Sectors --------------------------------------------------------------------------------- */

static int check_stamp_a(struct check *check, uint32_t sector)
{
    const struct ekv_format *format = ekv_format_of(check->db);
    const struct ekv_geometry *geometry = &format->geometry;
    uint8_t bytes[EKV_STAMP_A_SIZE];
    struct ekv_stamp_a stamp;
    uint32_t address = ekv_address(format, sector, 0);
    int error = ekv_sectors_read(&check->db->sectors, address, bytes, sizeof bytes);
    if (error)
        return error;
    if (ekv_stamp_a_decode(bytes, &stamp) || stamp.sector != sector ||
        stamp.store_id != format->store_id || stamp.geometry.sector_size != geometry->sector_size ||
        stamp.geometry.sector_count != geometry->sector_count ||
        stamp.geometry.write_unit != geometry->write_unit)
        find(check, "stamp-a", address, "a sector in use has no valid stamp of its erase");
    return EKV_OK;
}

/* Whether a sector of the ring belongs to the chain that was read. */
static bool in_chain(const struct ekv_manifest *manifest, const struct ekv_stamp_b *stamp)
{
    return stamp->kind == EKV_KIND_MANIFEST && stamp->sequence >= manifest->base &&
           stamp->sequence <= manifest->sequence;
}

static int check_sector(struct check *check, uint32_t sector)
{
    struct ekv *db = check->db;
    struct ekv_stamp_b stamp = {0};
    enum ekv_sector_state state = ekv_sector_state(&db->sectors, sector);
    bool index = state == EKV_SECTOR_INDEX, ring = state == EKV_SECTOR_MANIFEST;
    uint32_t address = ekv_address(ekv_format_of(db), sector, 0);
    if (state == EKV_SECTOR_FREE || state == EKV_SECTOR_READY || state == EKV_SECTOR_RETIRED)
        return EKV_OK;
    if (state == EKV_SECTOR_LOG && db->sectors.lives[sector] == 0)
        return EKV_OK; /* perhaps free since the manifest was written, and erased */
    int error = ekv_sector_stamp_read(&db->sectors, sector, &stamp);
    if (error < 0 || (ring && (error || !in_chain(&db->manifest, &stamp))))
        return error < 0 ? error : EKV_OK; /* an older chain, or torn when it was begun */
    uint8_t kind = index ? EKV_KIND_INDEX : EKV_KIND_LOG;
    if (!ring && sector != db->log.next && (error || stamp.kind != kind))
        find(check, "stamp-b", address, "a sector in use has no valid stamp of its use");
    else if (!error && !ring && !index && stamp.sequence > db->log.sequence)
        find(check, "log-sequence", address, "a log sector is younger than the head of the log");
    return check_stamp_a(check, sector);
}

/* The successor that the head names must have nothing in it. */
static void check_next(struct check *check)
{
    const struct ekv *db = check->db;
    uint32_t next = db->log.next;
    bool used = next == db->log.sector || next >= ekv_format_of(db)->geometry.sector_count;
    if (next == EKV_NO_SECTOR)
        return;
    enum ekv_sector_state state = used ? EKV_SECTOR_LOG : ekv_sector_state(&db->sectors, next);
    if (used || state == EKV_SECTOR_MANIFEST || state == EKV_SECTOR_INDEX ||
        (state == EKV_SECTOR_LOG && db->sectors.lives[next] > 0))
        find(check, "log-next", ekv_address(ekv_format_of(db), db->log.sector, 0),
             "the head of the log names a successor that is in use");
}

static int check_sectors(struct check *check)
{
    check_next(check);
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < ekv_format_of(check->db)->geometry.sector_count; i++)
        error = check_sector(check, i);
    return error;
}

/* --- Runs ------------------------------------------------------------------------------------ */

/* A walk over the entries of a run, in order. */
struct walk {
    struct check *check;
    const struct ekv_run *run;
    int (*visit)(struct walk *walk, uint32_t address);
    uint64_t seen; /* entries, stale ones too */
    uint32_t last; /* address of the entry before that could be read, 0: none */
    bool pages;    /* the walk that finds damaged pages */
    bool damaged;  /* it found one */
};

static int walk_page(void *context, uint32_t address, const struct ekv_page *page)
{
    struct walk *walk = context;
    int error = EKV_OK;
    if (!page && walk->pages)
        find_unreadable(walk->check, "page-crc", address, "a page of a run is damaged");
    walk->damaged |= !page;
    uint32_t count = page && page->level == 0 ? page->count : 0;
    for (uint32_t i = 0; !error && i < count; i++) {
        uint32_t entry;
        error = ekv_leaf_entry(&walk->check->db->index, address, i, &entry);
        if (!error)
            error = walk->visit(walk, entry);
    }
    return error;
}

static int walk_run(struct walk *walk)
{
    return ekv_run_walk(&walk->check->db->index, walk->run, walk_page, walk);
}

/* Compares a record with the entry before it: the keys ascend, and of one key the newest version
 * comes first. */
static int check_order(struct check *check, uint32_t last, const struct ekv_record *record)
{
    struct ekv *db = check->db;
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_record before;
    struct ekv_key key;
    uint64_t version, before_version;
    int order;
    int error = ekv_record_read(&db->log, last, &before);
    if (!error)
        error = ekv_record_key(&db->log, &before, prefix, &key);
    if (!error)
        error = ekv_record_compare(&db->log, record, key, &order);
    if (!error && order == 0)
        error = ekv_log_version(&db->log, last, &before_version);
    if (!error && order == 0)
        error = ekv_log_version(&db->log, record->address, &version);
    if (!error && (order > 0 || (order == 0 && version >= before_version)))
        find_unreadable(check, "run-order", record->address, "the keys of a run do not ascend");
    return error;
}

/* Whether filter, separators and fingerprints of the run lead to the entry. */
static int check_found(struct check *check, const struct ekv_run *run,
                       const struct ekv_record *record)
{
    struct ekv *db = check->db;
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_found found;
    struct ekv_key key;
    uint32_t hash;
    uint64_t version;
    int error = ekv_record_key(&db->log, record, prefix, &key);
    if (!error)
        error = ekv_record_hash(&db->log, record, &hash);
    if (!error)
        error = ekv_log_version(&db->log, record->address, &version);
    if (!error)
        error = ekv_run_find(&db->index, run, key, hash, version, &found);
    if (error == EKV_IO)
        return error;
    if (error || found.record.address != record->address)
        find_unreadable(check, "run-lookup", record->address,
                        "an entry of a run is not found by its key");
    return EKV_OK;
}

/* An entry leads to no valid record: of its own fault, or because of the sector's stamp, which was
 * found by itself if anything is live in the sector. */
static void lost_record(struct check *check, uint32_t address)
{
    struct ekv *db = check->db;
    uint32_t sector = ekv_sector_of(ekv_format_of(db), address);
    struct ekv_stamp_b stamp;
    check->unreadable = true;
    if (sector < ekv_format_of(db)->geometry.sector_count &&
        ekv_sector_state(&db->sectors, sector) == EKV_SECTOR_LOG && db->sectors.lives[sector] > 0 &&
        (ekv_sector_stamp_read(&db->sectors, sector, &stamp) || stamp.kind != EKV_KIND_LOG ||
         stamp.sequence > db->log.sequence))
        return;
    find(check, "record-crc", address, "an entry of the index leads to no valid record");
}

static int check_run_entry(struct walk *walk, uint32_t address)
{
    struct check *check = walk->check;
    struct ekv *db = check->db;
    struct ekv_found found;
    walk->seen++;
    int error = ekv_entry_read(&db->log, address, walk->run->sequence, &found);
    if (!error)
        error = ekv_record_verify(&db->log, &found.record, found.sequence);
    if (error == EKV_CORRUPT)
        lost_record(check, address);
    if (error)
        return error == EKV_IO ? error : EKV_OK;
    if (walk->last)
        error = check_order(check, walk->last, &found.record);
    walk->last = address;
    return error ? error : check_found(check, walk->run, &found.record);
}

static int check_filter(struct check *check, const struct ekv_run *run)
{
    uint32_t blocks = run->filter ? run->filter_blocks : 0;
    for (uint32_t i = 0; i < blocks; i++) {
        uint8_t buffer[EKV_FILTER_BLOCK_SIZE];
        const uint8_t *bits;
        uint32_t address = run->filter;
        int error = ekv_filter_address(&check->db->index, run, i, &address);
        if (!error)
            error = ekv_filter_read(&check->db->index, run, i, buffer, &bits);
        if (error == EKV_IO)
            return error;
        if (error)
            find(check, "filter-crc", address,
                 "a block of a filter is damaged: lookups are slower");
    }
    return EKV_OK;
}

static int check_run(struct check *check, const struct ekv_run *run)
{
    struct walk walk = {.check = check, .run = run, .visit = check_run_entry, .pages = true};
    int error = walk_run(&walk);
    if (!error && !walk.damaged && walk.seen != run->entry_count)
        find_unreadable(check, "run-count", run->root,
                        "a run has not as many entries as the manifest says");
    return error ? error : check_filter(check, run);
}

/* --- Values ---------------------------------------------------------------------------------- */

/* A value while its records pass by. */
struct value_passage {
    struct check *check;
    const struct ekv_record *owner;
    uint64_t offset; /* in the value, where the next piece must begin */
};

/* A piece repeats its owner's key, up to a limit, and says where in the value it begins: that is
 * how a collection finds its way to it. */
static int check_piece(struct value_passage *value, const struct ekv_record *piece)
{
    struct ekv *db = value->check->db;
    uint8_t prefix[EKV_KEY_PREFIX], bytes[EKV_PIECE_OFFSET_SIZE];
    struct ekv_key key;
    struct ekv_record begin = *value->owner;
    int order;
    begin.layout.key_size = ekv_min(begin.layout.key_size, ekv_owner_size_max(db));
    int error = ekv_record_key(&db->log, piece, prefix, &key);
    if (!error)
        error = ekv_record_compare(&db->log, &begin, key, &order);
    if (!error)
        error = ekv_record_bytes(&db->log, piece, piece->layout.head_size + piece->layout.key_size,
                                 bytes, sizeof bytes);
    if (!error && (order != 0 || ekv_load32(bytes) != value->offset))
        find(value->check, "value-piece", piece->address,
             "a piece of a value names another owner or place");
    if (ekv_record_kind(piece) == EKV_RECORD_CHUNK)
        value->offset += piece->layout.value_size - EKV_PIECE_OFFSET_SIZE;
    return error;
}

static int verify_record(struct ekv *db, const struct ekv_record *record, void *context)
{
    struct value_passage *value = context;
    uint32_t sequence;
    int error = ekv_log_sequence(&db->log, record->address, &sequence);
    if (!error)
        error = ekv_record_verify(&db->log, record, sequence);
    if (error || ekv_record_kind(record) <= EKV_RECORD_HEAD)
        return error;
    return check_piece(value, record);
}

/* Adds a record to the live counts or takes it off, modulo 256: what comes from flash may lie. */
static void count_units(struct ekv *db, const struct ekv_record *record, uint32_t sign)
{
    uint32_t sector = ekv_sector_of(ekv_format_of(db), record->address);
    uint32_t units = ekv_sector_units(&db->sectors, record->address, record->layout.size);
    if (ekv_sector_state(&db->sectors, sector) == EKV_SECTOR_LOG)
        db->sectors.lives[sector] = (uint8_t)(db->sectors.lives[sector] + sign * units);
}

static int count(struct ekv *db, const struct ekv_record *record, void *context)
{
    struct check *check = context;
    if (check->restoring && check->taken_off == 0)
        return EKV_OK; /* an error ended the first walk here */
    count_units(db, record, check->restoring ? 1 : UINT32_MAX);
    check->live_size += record->layout.size;
    check->taken_off += check->restoring ? UINT64_MAX : 1;
    return EKV_OK;
}

/* Whether the entry at `address` is its key's current record. What cannot be read is none: that was
 * found with the runs. An entry that is not must be older. */
static int is_current(struct check *check, uint32_t address, struct ekv_record *record, bool *is)
{
    struct ekv *db = check->db;
    struct ekv_found current;
    uint64_t version, current_version;
    *is = false;
    int error = ekv_record_read(&db->log, address, record);
    if (error || ekv_record_kind(record) > EKV_RECORD_HEAD)
        return error == EKV_IO ? error : EKV_OK;
    error = ekv_lookup_same(db, record, &current);
    if (error)
        return error == EKV_IO ? error : EKV_OK;
    *is = current.record.address == address;
    error = ekv_log_version(&db->log, address, &version);
    if (!error)
        error = ekv_log_version(&db->log, current.record.address, &current_version);
    if (!error && version > current_version)
        find_unreadable(check, "run-age", address, "an older run has a newer version of a key");
    return error == EKV_IO ? error : EKV_OK;
}

/* If the entry is current: verifies its value and takes it off the live counts, or, while
 * restoring, puts it back. */
static int check_entry(struct check *check, uint32_t address)
{
    struct ekv_record record;
    struct value_passage value = {.check = check, .owner = &record};
    bool current;
    int error = is_current(check, address, &record, &current);
    if (error || !current || ekv_record_kind(&record) == EKV_RECORD_DELETE)
        return error;
    check->keys[ekv_record_space(&record)]++;
    error = ekv_value_visit(check->db, &record, true, verify_record, &value);
    if (error == EKV_CORRUPT || error == EKV_NOT_FOUND) {
        find_unreadable(check, "value-crc", address, "a value cannot be read whole");
        return EKV_OK;
    }
    return error ? error : ekv_value_visit(check->db, &record, true, count, check);
}

/* The same for an entry of a run: stale ones do not count, damaged ones were found before. */
static int check_run_value(struct walk *walk, uint32_t address)
{
    struct ekv_log *log = &walk->check->db->log;
    struct ekv_found found;
    int error = ekv_entry_read(log, address, walk->run->sequence, &found);
    if (!error)
        error = ekv_record_verify(log, &found.record, found.sequence);
    if (error)
        return error == EKV_IO ? error : EKV_OK;
    return check_entry(walk->check, address);
}

/* Every entry of the memtable and of all runs. */
static int each_entry(struct check *check)
{
    struct ekv *db = check->db;
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < db->memtable.count; i++)
        error = check_entry(check, db->memtable.slots[i].address);
    for (uint32_t i = 0; !error && i < db->catalog.run_count; i++) {
        struct walk walk = {.check = check, .run = &db->catalog.runs[i], .visit = check_run_value};
        error = walk_run(&walk);
    }
    return error;
}

static void check_counts(struct check *check)
{
    struct ekv *db = check->db;
    uint32_t count = ekv_format_of(db)->geometry.sector_count;
    for (uint32_t i = 0; i < count; i++)
        if (ekv_sector_state(&db->sectors, i) == EKV_SECTOR_LOG && db->sectors.lives[i] != 0)
            find(check, "live-count", ekv_address(ekv_format_of(db), i, 0),
                 "a sector's live count is not what its live records add up to");
    if (check->keys[EKV_USER] != db->catalog.keys ||
        check->keys[EKV_ASIDE] != db->catalog.keys_aside)
        find(check, "key-count", 0, "the number of keys is not the one in the manifest");
    if (check->live_size != db->catalog.live_size)
        find(check, "live-size", 0, "the live size is not what the live records add up to");
}

/* A bit that the mount has put right in memory. */
static void find_mend(struct check *check, uint32_t address)
{
    const struct ekv_format *format = ekv_format_of(check->db);
    enum ekv_sector_state state =
        ekv_sector_state(&check->db->sectors, ekv_sector_of(format, address));
    if (ekv_offset_of(format, address) == 0)
        find(check, "stamp-b", address, "a bit of a stamp that the mount needs is wrong");
    else if (state == EKV_SECTOR_MANIFEST)
        find(check, "frame-crc", address, "a bit of the manifest is wrong");
    else if (state == EKV_SECTOR_INDEX)
        find(check, "page-crc", address, "a bit of a page of a run is wrong");
    else
        find(check, "log-damage", address, "a bit of a record that replay needs is wrong");
}

static int check_all(struct check *check)
{
    struct ekv *db = check->db;
    int error = check_sectors(check);
    for (uint32_t i = 0; !error && i < db->catalog.run_count; i++)
        error = check_run(check, &db->catalog.runs[i]);
    if (error)
        return error;
    error = each_entry(check);
    if (!error && !check->unreadable)
        check_counts(check);
    check->restoring = true;
    int restored = each_entry(check);
    if (restored || check->taken_off != 0)
        db->failed = true; /* the counts in memory are not what they were */
    return error ? error : restored;
}

int ekv_check(struct ekv *db, void (*report)(void *context, const struct ekv_finding *finding),
              void *context)
{
    struct check check = {.db = db, .report = report, .context = context};
    ekv_lock_write(db);
    for (uint32_t i = 0; i < db->sectors.mends.count; i++)
        find_mend(&check, db->sectors.mends.list[i].begin);
    if (db->astray)
        find_unreadable(&check, "log-damage", 0, "the log is damaged behind its replay position");
    int error = check_all(&check);
    ekv_unlock_write(db);
    if (error == EKV_CORRUPT)
        find(&check, "store", 0, "the walk over the store met damage");
    return check.findings > 0 ? EKV_CORRUPT : error;
}
