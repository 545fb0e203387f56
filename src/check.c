/* Verifies a mounted store: every key readable, runs in order, counts exact, sectors owned once.
 *
 * The live counts are verified by taking every current value off them: what is left must be zero;
 * then everything is put back. Nothing is written to flash.
 */
#include <string.h>

#include "lookup.h"
#include "value.h"

struct check {
    struct ekv *db;
    void (*report)(void *context, const struct ekv_finding *finding);
    void *context;
    uint32_t findings;
    uint32_t keys[2]; /* in each key space */
};

static void find(struct check *check, const char *code, uint32_t address, const char *text)
{
    struct ekv_finding finding = {code, address, text};
    check->findings++;
    if (check->report)
        check->report(check->context, &finding);
}

/* Compares the keys of two records in the log. */
static int compare_records(struct ekv *db, uint32_t a, uint32_t b, int *order)
{
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_record one, two;
    struct ekv_key key;
    int error = ekv_record_read(&db->log, a, &one);
    if (!error)
        error = ekv_record_read(&db->log, b, &two);
    if (!error)
        error = ekv_record_key(&db->log, &one, prefix, &key);
    return error ? error : ekv_record_compare(&db->log, &two, key, order);
}

/* Walks a run: order, fingerprints through lookups, records. */
static int check_run(struct check *check, const struct ekv_run *run)
{
    struct ekv *db = check->db;
    struct ekv_run_cursor cursor;
    uint32_t last = 0, seen = 0;
    int error = ekv_run_first(&db->index, run, &cursor);
    while (!error) {
        struct ekv_record record;
        uint32_t sequence;
        int order = -1;
        error = ekv_entry_read(&db->log, cursor.address, run->sequence, &record, &sequence);
        if (!error)
            error = ekv_record_verify(&db->log, &record, sequence);
        if (error == EKV_CORRUPT)
            find(check, "record-crc", cursor.address, "a record in the index is damaged");
        else if (!error && last)
            error = compare_records(db, last, cursor.address, &order);
        if (!error && order > 0)
            find(check, "run-order", cursor.address, "the keys of a run do not ascend");
        if (error == EKV_OK)
            last = cursor.address;
        if (error == EKV_IO)
            return error;
        if (++seen > run->entry_count) {
            find(check, "run-count", run->root, "a run has more entries than the manifest says");
            return EKV_OK;
        }
        error = ekv_run_next(&db->index, run, &cursor);
    }
    if (error == EKV_CORRUPT)
        find(check, "page-crc", run->root, "a page of a run is damaged");
    return error == EKV_IO ? error : EKV_OK;
}

static int verify_piece(struct ekv *db, const struct ekv_record *record, void *context)
{
    uint32_t sequence;
    (void)context;
    int error = ekv_log_sequence(&db->log, record->address, &sequence);
    return error ? error : ekv_record_verify(&db->log, record, sequence);
}

/* Deals with the entry at `address` if it is its key's current record: verifies it, and takes it
 * off the live counts or (`restore`) puts it back. */
static int check_entry(struct check *check, uint32_t address, bool restore)
{
    struct ekv *db = check->db;
    struct ekv_found current;
    struct ekv_record record;
    int error = ekv_record_read(&db->log, address, &record);
    if (!error)
        error = ekv_lookup_same(db, &record, &current);
    if (error || current.record.address != address)
        return error == EKV_IO ? error : EKV_OK;
    if (ekv_record_kind(&record) == EKV_RECORD_DELETE)
        return EKV_OK;
    if (!restore) {
        check->keys[ekv_record_space(&record)]++;
        error = ekv_value_visit(db, &record, verify_piece, NULL);
        if (error == EKV_CORRUPT || error == EKV_NOT_FOUND) {
            find(check, "value-crc", address, "a value cannot be read whole");
            return EKV_OK;
        }
    }
    return error ? error : ekv_value_count(db, &record, restore);
}

/* Every entry of the memtable and of all runs. */
static int each_entry(struct check *check, bool restore)
{
    struct ekv *db = check->db;
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < db->memtable.count; i++)
        error = check_entry(check, db->memtable.slots[i].address, restore);
    for (uint32_t i = 0; !error && i < db->catalog.run_count; i++) {
        const struct ekv_run *run = &db->catalog.runs[i];
        struct ekv_run_cursor cursor;
        error = ekv_run_first(&db->index, run, &cursor);
        while (!error) {
            error = check_entry(check, cursor.address, restore);
            if (!error)
                error = ekv_run_next(&db->index, run, &cursor);
        }
        if (error == EKV_NOT_FOUND)
            error = EKV_OK;
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
    if (db->catalog.live_size != 0)
        find(check, "live-size", 0, "the live size is not what the live records add up to");
}

static int check_all(struct check *check)
{
    struct ekv *db = check->db;
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < db->catalog.run_count; i++)
        error = check_run(check, &db->catalog.runs[i]);
    if (error || check->findings > 0)
        return error;
    error = each_entry(check, false);
    if (!error && check->findings == 0)
        check_counts(check);
    int restored = each_entry(check, true);
    return error ? error : restored;
}

int ekv_check(struct ekv *db, void (*report)(void *context, const struct ekv_finding *finding),
              void *context)
{
    struct check check = {.db = db, .report = report, .context = context};
    ekv_lock_write(db);
    if (db->read_only && !db->failed && db->damaged)
        find(&check, "log-damage", 0, "the log is damaged behind its replay position");
    int error = check_all(&check);
    ekv_unlock_write(db);
    if (error == EKV_CORRUPT)
        find(&check, "store", 0, "the walk over the store met damage");
    return check.findings > 0 ? EKV_CORRUPT : error;
}
