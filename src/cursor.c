/* Cursors: one ordered walk over the transaction's table, the memtable and all runs.
 *
 * Each source stands on its next candidate in the direction of the walk; the sources are kept in
 * the order of their keys, so a step moves one of them and finds its new place. When anything
 * changed under the cursor (`db->change`), or the direction turns, the sources are placed anew from
 * the key that the cursor stands on: its record cannot be erased while the cursor's snapshot is
 * open.
 */
#include "snapshot.h"

#include <assert.h>
#include <string.h>

#include "lookup.h"
#include "value.h"

enum { SOURCES_MAX = EKV_RUN_COUNT_MAX + 2 };

/* A source, with a place in a table in `place.pages[0]` or one in a run, and the version there. */
struct source {
    struct ekv_source at;
    uint64_t version;
};

/* What a cursor holds of a walk: the sources, and those not at their end in the order in which the
 * walk meets their keys; and the record that the cursor stands on, once somebody has asked for it.
 */
struct places {
    struct source sources[SOURCES_MAX];
    struct ekv_found standing;
    uint8_t order[SOURCES_MAX];
    uint32_t ordered;
};

/* What a walk needs to know of the sources: which table or run each is. */
struct walk {
    struct ekv *db;
    struct ekv_cursor *cursor;
    struct places *places;
    struct source *sources;
    uint32_t count;
    struct ekv_memtable own; /* the transaction's table */
};

static struct places *places_of(struct ekv_cursor *cursor)
{
    return (struct places *)(void *)cursor->sources;
}

static struct walk walk_of(struct ekv_cursor *cursor)
{
    struct walk walk = {.db = cursor->db, .cursor = cursor, .places = places_of(cursor)};
    walk.sources = walk.places->sources;
    walk.count = 2 + cursor->db->catalog.run_count;
    if (cursor->txn)
        walk.own = (struct ekv_memtable){.slots = cursor->txn->entries,
                                         .count = cursor->txn->count,
                                         .capacity = cursor->txn->capacity};
    return walk;
}

/* The table of sources 0 (the transaction's) and 1 (the memtable). */
static const struct ekv_memtable *table_of(const struct walk *walk, uint32_t number)
{
    return number == 0 ? &walk->own : &walk->db->memtable;
}

static const struct ekv_run *run_of(const struct walk *walk, uint32_t number)
{
    return &walk->db->catalog.runs[number - 2];
}

/* Takes what the source stands on: the record's address, the begin of its key. That of a run was
 * found with `error` and is in `found`; that of a table is read. */
static int settle(const struct walk *walk, uint32_t number, int error, struct ekv_found *found)
{
    struct source *source = &walk->sources[number];
    const struct ekv_log *log = &walk->db->log;
    if (number < 2) {
        const struct ekv_memtable *table = table_of(walk, number);
        uint32_t index = source->at.place.pages[0];
        source->at.place.address = index < table->count ? table->slots[index].address : 0;
    }
    if (error == EKV_NOT_FOUND)
        source->at.place.address = 0;
    if (error < 0 || source->at.place.address == 0)
        return error < 0 ? error : EKV_OK;
    if (number < 2)
        error = ekv_found_at(log, source->at.place.address, found);
    if (!error)
        error = ekv_source_take(log, &source->at, found);
    return error ? error
                 : ekv_record_version(log, &found->record, found->sequence, &source->version);
}

/* Places a source at the first entry >= key (last <= key, walking back). */
static int place(const struct walk *walk, uint32_t number, struct ekv_key key, int direction)
{
    struct source *source = &walk->sources[number];
    struct ekv_found found;
    int error;
    if (number < 2) {
        error = ekv_memtable_bound(table_of(walk, number), &walk->db->log, key, direction < 0,
                                   &source->at.place.pages[0]);
        if (!error && direction < 0)
            source->at.place.pages[0]--; /* wraps to the end when there is none */
    } else if (direction > 0) {
        error =
            ekv_run_seek(&walk->db->index, run_of(walk, number), key, &source->at.place, &found);
    } else {
        error = ekv_run_seek_back(&walk->db->index, run_of(walk, number), key, &source->at.place,
                                  &found);
    }
    return settle(walk, number, error, &found);
}

static int advance(const struct walk *walk, uint32_t number, int direction)
{
    struct source *source = &walk->sources[number];
    struct ekv_found found;
    int error = EKV_OK;
    if (number < 2)
        source->at.place.pages[0] += direction > 0 ? 1u : UINT32_MAX;
    else if (direction > 0)
        error = ekv_run_next(&walk->db->index, run_of(walk, number), &source->at.place, &found);
    else
        error = ekv_run_previous(&walk->db->index, run_of(walk, number), &source->at.place, &found);
    return settle(walk, number, error, &found);
}

static int compare(const struct walk *walk, const struct source *one, const struct source *two,
                   int *order)
{
    return ekv_source_compare(&walk->db->log, &one->at, &two->at, order);
}

/* Moves the first source to its place in the order, or out of it at its end; of those with the same
 * key the newer one comes first, since gc's copy in it has the version of the original in the older
 * one. Most stay the first. */
static int settle_order(const struct walk *walk, int direction)
{
    struct places *places = walk->places;
    uint32_t number = places->order[0], at = 1;
    const struct source *source = &walk->sources[number];
    bool ended = source->at.place.address == 0;
    for (; !ended && at < places->ordered; at++) {
        int order;
        int error = compare(walk, source, &walk->sources[places->order[at]], &order);
        if (error)
            return error;
        if (order * direction < 0 || (order == 0 && number < places->order[at]))
            break;
    }
    if (ended)
        at = places->ordered--;
    if (at > 1)
        memmove(places->order, places->order + 1, at - 1);
    places->order[at - 1] = (uint8_t)number;
    return EKV_OK;
}

static int enter_all(const struct walk *walk, int direction)
{
    struct places *places = walk->places;
    int error = EKV_OK;
    places->ordered = 0;
    for (uint32_t i = 0; !error && i < walk->count; i++) {
        memmove(places->order + 1, places->order, places->ordered++);
        places->order[0] = (uint8_t)i;
        error = settle_order(walk, direction);
    }
    return error;
}

/* Takes all entries of the next key off the sources. `address` is the one that the cursor's moment
 * sees; EKV_NOT_FOUND: none, or a removal. */
static int take(const struct walk *walk, int direction, uint32_t *address)
{
    const struct places *places = walk->places;
    struct source key = walk->sources[places->order[0]];
    uint64_t newest = 0;
    bool found = false, own = false, removed = false;
    int order = 0;
    do {
        uint32_t number = places->order[0];
        const struct source *source = &walk->sources[number];
        bool visible = number == 0 || source->version <= walk->cursor->own.version;
        if (visible && !own && (!found || source->version > newest || number == 0)) {
            *address = source->at.place.address;
            removed = source->at.removed;
            newest = source->version;
            found = true;
            own = number == 0;
        }
        int error = advance(walk, number, direction);
        if (!error)
            error = settle_order(walk, direction);
        if (!error && places->ordered > 0)
            error = compare(walk, &walk->sources[places->order[0]], &key, &order);
        if (error)
            return error;
    } while (order == 0 && places->ordered > 0);
    return found && !removed ? EKV_OK : EKV_NOT_FOUND;
}

/* Whether the key that a source stands on begins with another. */
static int begins_with(const struct walk *walk, const struct source *source, struct ekv_key key,
                       bool *begins)
{
    const uint8_t *bytes = key.bytes;
    uint32_t done = ekv_min(source->at.prefix_size, key.size);
    *begins = memcmp(source->at.prefix, bytes, done) == 0;
    if (!*begins || done == key.size)
        return EKV_OK;
    struct ekv_record record;
    int error = ekv_record_at(&walk->db->log, source->at.place.address, &record);
    *begins = !error && record.layout.key_size >= key.size;
    while (!error && *begins && done < key.size) {
        uint8_t piece[32];
        uint32_t size = ekv_min(key.size - done, sizeof piece);
        error =
            ekv_record_bytes(&walk->db->log, &record, record.layout.head_size + done, piece, size);
        *begins = !error && memcmp(piece, bytes + done, size) == 0;
        done += size;
    }
    return error;
}

/* Walks on to the next key that is there; with a `prefix` only as far as keys begin with it, those
 * that were removed too. */
static int walk_on(struct walk *walk, int direction, const struct ekv_key *prefix)
{
    struct places *places = walk->places;
    places->standing.record.address = 0; /* another record may lie there by now */
    while (places->ordered > 0 && walk->sources[places->order[0]].at.space == walk->cursor->space) {
        uint32_t address;
        bool within = true;
        int error = EKV_OK;
        if (prefix)
            error = begins_with(walk, &walk->sources[places->order[0]], *prefix, &within);
        if (!error && !within)
            break;
        if (!error)
            error = take(walk, direction, &address);
        if (error == EKV_OK)
            walk->cursor->own.standing = address;
        if (error != EKV_NOT_FOUND)
            return error;
    }
    walk->cursor->own.standing = 0;
    walk->cursor->direction = 0;
    return EKV_NOT_FOUND;
}

/* Places all sources; their order is still to be found. */
static int place_all(struct walk *walk, struct ekv_key key, int direction)
{
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < walk->count; i++)
        error = place(walk, i, key, direction);
    walk->cursor->direction = (int8_t)direction;
    walk->cursor->change = walk->db->change;
    return error;
}

static int seek(struct ekv_cursor *cursor, struct ekv_key key, int direction, bool within)
{
    key.space = cursor->space;
    ekv_lock_read(cursor->db);
    struct walk walk = walk_of(cursor);
    int error = place_all(&walk, key, direction);
    if (!error)
        error = enter_all(&walk, direction);
    if (!error)
        error = walk_on(&walk, direction, within ? &key : NULL);
    ekv_unlock_read(cursor->db);
    return error;
}

int ekv_cursor_seek(struct ekv_cursor *cursor, struct ekv_key key)
{
    return seek(cursor, key, 1, false);
}

int ekv_cursor_seek_back(struct ekv_cursor *cursor, struct ekv_key key)
{
    return seek(cursor, key, -1, false);
}

int ekv_cursor_seek_prefix(struct ekv_cursor *cursor, struct ekv_key prefix)
{
    return seek(cursor, prefix, 1, true);
}

/* Places the sources beyond the key that the cursor stands on. */
static int place_beyond(struct walk *walk, int direction)
{
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_record record;
    struct ekv_key key;
    uint32_t passed;
    int order = 1;
    int error = ekv_record_at(&walk->db->log, walk->cursor->own.standing, &record);
    if (!error)
        error = ekv_record_key(&walk->db->log, &record, prefix, &key);
    if (!error)
        error = place_all(walk, key, direction);
    if (!error)
        error = enter_all(walk, direction);
    if (!error && walk->places->ordered > 0) {
        uint32_t first = walk->sources[walk->places->order[0]].at.place.address;
        error = ekv_record_at(&walk->db->log, first, &record);
        if (!error)
            error = ekv_record_compare(&walk->db->log, &record, key, &order);
    }
    if (error || order != 0)
        return error;
    error = take(walk, direction, &passed);
    return error == EKV_NOT_FOUND ? EKV_OK : error;
}

/* Places the sources at the end of the key space that a walk begins from. */
static int place_end(struct walk *walk, int direction)
{
    struct ekv_key key = {"", 0, walk->cursor->space, 0};
    /* All keys of the space lie before the empty key of the next one, which may itself be there. */
    key.space += direction < 0;
    int error = place_all(walk, key, direction);
    for (uint32_t i = 0; !error && direction < 0 && i < walk->count; i++)
        while (!error && walk->sources[i].at.place.address != 0 &&
               walk->sources[i].at.space > walk->cursor->space)
            error = advance(walk, i, direction);
    return error ? error : enter_all(walk, direction);
}

static int step(struct ekv_cursor *cursor, int direction)
{
    int error = EKV_OK;
    ekv_lock_read(cursor->db);
    struct walk walk = walk_of(cursor);
    if (cursor->own.standing == 0)
        error = place_end(&walk, direction);
    else if (cursor->direction != direction || cursor->change != cursor->db->change)
        error = place_beyond(&walk, direction);
    if (!error)
        error = walk_on(&walk, direction, NULL);
    ekv_unlock_read(cursor->db);
    return error;
}

int ekv_cursor_next(struct ekv_cursor *cursor)
{
    return step(cursor, 1);
}

int ekv_cursor_previous(struct ekv_cursor *cursor)
{
    return step(cursor, -1);
}

/* --- Opening, reading ------------------------------------------------------------------------ */

/* Every cursor has a snapshot of its own in the list, of the moment that it shows: what it stands
 * on must stay where it is. */
static void begin(struct ekv_cursor *cursor, struct ekv *db, struct ekv_txn *txn,
                  const struct ekv_snapshot *moment, uint8_t space)
{
    static_assert(sizeof cursor->sources >= sizeof(struct places),
                  "a cursor has room for every source");
    cursor->db = db;
    cursor->txn = txn;
    cursor->direction = 0;
    cursor->space = space;
    ekv_lock_write(db);
    ekv_snapshot_link(&cursor->own, db);
    if (moment)
        cursor->own.version = moment->version;
    ekv_unlock_write(db);
}

void ekv_cursor_open(struct ekv_cursor *cursor, struct ekv *db, uint8_t space)
{
    begin(cursor, db, NULL, NULL, space);
}

void ekv_cursor_open_snapshot(struct ekv_cursor *cursor, struct ekv_snapshot *snapshot,
                              uint8_t space)
{
    begin(cursor, snapshot->db, NULL, snapshot, space);
}

void ekv_cursor_open_txn(struct ekv_cursor *cursor, struct ekv_txn *txn, uint8_t space)
{
    begin(cursor, txn->db, txn, txn->begin.db ? &txn->begin : NULL, space);
}

void ekv_cursor_close(struct ekv_cursor *cursor)
{
    ekv_snapshot_close(&cursor->own);
}

/* The record that the cursor stands on. It stays where it is, so it is read once. */
static int current(struct ekv_cursor *cursor, struct ekv_found **found)
{
    uint32_t address = cursor->own.standing;
    *found = &places_of(cursor)->standing;
    if (address == 0)
        return EKV_NOT_FOUND;
    if ((*found)->record.address == address)
        return EKV_OK;
    int error = ekv_found_at(&cursor->db->log, address, *found);
    if (error)
        (*found)->record.address = 0;
    return error;
}

/* Finds the head record of a value anew: that which the cursor stands on stays where it is, the
 * pieces of its value do not. */
static int find_head(struct ekv_cursor *cursor, struct ekv_found *found)
{
    struct ekv *db = cursor->db;
    struct walk walk = walk_of(cursor);
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_key key;
    uint32_t hash, index;
    int error = ekv_record_key(&db->log, &found->record, prefix, &key);
    if (!error)
        error = ekv_record_hash(&db->log, &found->record, &hash);
    if (!error)
        error = ekv_memtable_find(&walk.own, &db->log, key, hash, EKV_VERSION_MAX, &index);
    if (error == EKV_NOT_FOUND)
        return ekv_lookup_key(db, key, &found->record, cursor->own.version, found);
    return error ? error : ekv_found_at(&db->log, walk.own.slots[index].address, found);
}

/* The record of the value that the cursor shows: mostly the one it stands on, or else in `copy`. */
static int current_value(struct ekv_cursor *cursor, struct ekv_found *copy,
                         struct ekv_found **found)
{
    int error = current(cursor, found);
    if (error || cursor->change == cursor->db->change ||
        ekv_record_kind(&(*found)->record) != EKV_RECORD_HEAD)
        return error;
    *copy = **found;
    *found = copy;
    error = find_head(cursor, copy);
    return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
}

int ekv_cursor_key(struct ekv_cursor *cursor, void *buffer, size_t capacity, size_t *size)
{
    struct ekv_found *found;
    ekv_lock_read(cursor->db);
    int error = current(cursor, &found);
    if (!error) {
        const struct ekv_record *record = &found->record;
        *size = record->layout.key_size;
        uint32_t length = *size < capacity ? (uint32_t)*size : (uint32_t)capacity;
        error =
            ekv_record_bytes(&cursor->db->log, record, record->layout.head_size, buffer, length);
    }
    ekv_unlock_read(cursor->db);
    return error ? error : *size > capacity ? EKV_TOO_LARGE : EKV_OK;
}

int ekv_cursor_entry(struct ekv_cursor *cursor, struct ekv_entry *entry)
{
    struct ekv_found copy, *found;
    ekv_lock_read(cursor->db);
    int error = current_value(cursor, &copy, &found);
    if (!error)
        error = ekv_entry_of(cursor->db, found, entry);
    ekv_unlock_read(cursor->db);
    return error;
}

int ekv_cursor_read(struct ekv_cursor *cursor, uint64_t offset, void *buffer, size_t capacity,
                    size_t *size)
{
    struct ekv_found copy, *found;
    size_t copied = 0;
    ekv_lock_read(cursor->db);
    int error = current_value(cursor, &copy, &found);
    if (!error)
        error = ekv_value_read(cursor->db, found, offset, buffer, capacity, &copied);
    ekv_unlock_read(cursor->db);
    if (size)
        *size = copied;
    return error;
}
