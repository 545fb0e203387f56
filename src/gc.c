/* Chooses victims and empties them.
 *
 * A record is live if looking its key up leads to it; a pending one if its transaction's table
 * holds it; a piece of a value if its owner's current tree does. Retained records (retain.h) are
 * moved as well, but not counted: with retention the oldest sectors are looked into first, record
 * by record, since the live count does not tell what a collection gains. Victims lie before the
 * replay position, so that no replay ever meets a collected sector. An emptied sector is not free
 * before the manifest says so (publish.h), and if snapshots still see what is in it, it stays in
 * limbo.
 */
#include "gc.h"

#include <assert.h>

#include "holder.h"
#include "merge.h"
#include "reserve.h"
#include "retain.h"
#include "value.h"

enum { SNAPSHOT_LOOKS = 16, DELETES_LOOKS = 8, COLD_EVERY = 8, COLD_SPREAD = 64 };

/* --- Moving records -------------------------------------------------------------------------- */

static int make_slot(struct ekv *db)
{
    /* What a recovery moves was replayed: it has its slot. So has what is rewritten. */
    if (db->memtable.count < db->memtable.limit || db->unclean || db->log.last_resort)
        return EKV_OK;
    return ekv_merge_flush(db);
}

/* Points the memtable at a copy. If that fails the copy must not stay in the log: a replay would
 * take it for counted. So the log goes on elsewhere. */
static int point_at(struct ekv *db, uint32_t address)
{
    struct ekv_record record;
    int error = ekv_record_read(&db->log, address, &record);
    if (!error)
        error = ekv_point(db, &record, true);
    if (error)
        db->log.failed = true;
    return error;
}

static int move_current(struct ekv *db, const struct ekv_found *found)
{
    const struct ekv_record *record = &found->record;
    struct ekv_moves moves = {.count = 1};
    uint32_t address;
    int error = make_slot(db);
    if (!error)
        error = ekv_record_copy(db, found, EKV_RECORD_MOVED | EKV_RECORD_COMMITS, &address);
    if (error)
        return error;
    moves.records[0].from = record->address;
    moves.records[0].from_size = record->layout.size;
    moves.records[0].to = address;
    moves.records[0].to_size = db->log.record_end - db->log.record_begin;
    error = point_at(db, address);
    if (error || ekv_record_kind(record) == EKV_RECORD_DELETE)
        return error;
    return ekv_value_moved(db, &moves);
}

static int move_pending(struct ekv *db, const struct ekv_found *found)
{
    db->appending = NULL;
    return ekv_record_copy(db, found, 0, &ekv_pending_slot(db, found->record.address)->address);
}

/* EKV_NOT_FOUND for a delete that hides nothing any more: without it the key is not there either.
 */
static int is_needed(struct ekv *db, const struct ekv_found *found)
{
    uint64_t version;
    if (ekv_record_kind(&found->record) != EKV_RECORD_DELETE || db->snapshots || db->unclean)
        return EKV_OK;
    int error = ekv_record_version(&db->log, &found->record, found->sequence, &version);
    return error ? error : ekv_lookup_older(db, &found->record, version);
}

/* Why a collection moves a put, head or delete record. */
enum need { NOT_NEEDED, CURRENT, RETAINED, PENDING };

static int need_of(struct ekv *db, const struct ekv_found *found, enum need *need)
{
    struct ekv_found current;
    bool retained;
    *need = NOT_NEEDED;
    int error = ekv_lookup_same(db, &found->record, &current);
    if (error < 0)
        return error;
    if (error == EKV_OK && current.record.address == found->record.address) {
        error = is_needed(db, found);
        *need = error == EKV_OK ? CURRENT : NOT_NEEDED;
        return error == EKV_NOT_FOUND ? EKV_OK : error;
    }
    error = ekv_retain_needs(db, found, &retained);
    if (retained)
        *need = RETAINED;
    else if (!(found->record.layout.type & EKV_RECORD_COMMITS) &&
             ekv_pending_slot(db, found->record.address))
        *need = PENDING;
    return error;
}

static int move_key(struct ekv *db, const struct ekv_found *found)
{
    enum need need;
    int error = need_of(db, found, &need);
    if (error || need == NOT_NEEDED)
        return error;
    return need == CURRENT    ? move_current(db, found)
           : need == RETAINED ? ekv_retain_move(db, found)
                              : move_pending(db, found);
}

/* --- Moving pieces of values ----------------------------------------------------------------- */

/* Moves the piece if the value of `head` holds it. */
static int move_from(struct ekv *db, const struct ekv_found *head, const struct ekv_found *piece)
{
    struct ekv_moves moves;
    int error = make_slot(db);
    if (!error)
        error = ekv_value_move_piece(db, head, piece, &moves);
    if (!error)
        error = point_at(db, moves.records[moves.count - 1].to);
    return error ? error : ekv_value_moved(db, &moves);
}

/* A pending head keeps its pieces too; its pieces are not counted yet. */
static int move_pending_piece(struct ekv *db, const struct ekv_found *piece)
{
    struct ekv_found head;
    struct ekv_slot *slot;
    uint32_t above;
    int error = ekv_pending_head(db, piece, &head, &slot, &above);
    if (error)
        return error;
    db->appending = NULL;
    return ekv_value_move_uncounted(db, &head, piece, 0, &slot->address);
}

/* Moves the piece if `head` is its key's current record and the value holds it. An older version of
 * the value, which a snapshot sees, is not counted. */
static int move_from_current(struct ekv *db, const struct ekv_found *head,
                             const struct ekv_found *piece)
{
    struct ekv_found current;
    int error = ekv_lookup_same(db, &head->record, &current);
    if (!error && current.record.address != head->record.address)
        error = EKV_NOT_FOUND;
    return error ? error : move_from(db, head, piece);
}

static int move_piece(struct ekv *db, const struct ekv_found *piece)
{
    struct ekv_found head;
    uint32_t address;
    int error = ekv_lookup_same(db, &piece->record, &head);
    if (!error)
        error = move_from(db, &head, piece);
    if (error == EKV_NOT_FOUND && db->txns)
        error = move_pending_piece(db, piece);
    if (error == EKV_NOT_FOUND && ekv_owner_is_cut(db, &piece->record))
        error = ekv_owners_visit(db, piece, move_from_current);
    if (error != EKV_NOT_FOUND)
        return error;
    error = ekv_retain_head(db, piece, &head);
    if (!error)
        error = ekv_value_move_uncounted(db, &head, piece, EKV_RECORD_MOVED | EKV_RECORD_COUNTED,
                                         &address);
    return error == EKV_NOT_FOUND ? EKV_OK : error;
}

int ekv_gc_record(struct ekv *db, const struct ekv_found *found)
{
    switch (ekv_record_kind(&found->record)) {
    case EKV_RECORD_PUT:
    case EKV_RECORD_HEAD:
    case EKV_RECORD_DELETE:
        return move_key(db, found);
    case EKV_RECORD_CHUNK:
    case EKV_RECORD_LIST:
        return move_piece(db, found);
    default:
        return EKV_OK;
    }
}

/* --- Sectors --------------------------------------------------------------------------------- */

/* True if a log sector may be collected: before the replay position, and not the head's. */
static bool may_collect(const struct ekv *db, uint32_t sector, uint32_t *sequence)
{
    struct ekv_stamp_b stamp;
    if (sector == db->log.sector || sector == db->log.next || sector == db->catalog.replay_sector)
        return false;
    *sequence = ekv_sector_known_sequence(&db->sectors, sector);
    if (*sequence == 0) {
        if (ekv_sector_stamp_read(&db->sectors, sector, &stamp) || stamp.kind != EKV_KIND_LOG)
            return false;
        *sequence = stamp.sequence;
    }
    return *sequence < db->catalog.replay_sequence;
}

/* The sequence number from which on sectors can hold records of open transactions. */
static uint32_t pending_sequence(const struct ekv *db)
{
    uint32_t oldest = UINT32_MAX;
    for (const struct ekv_txn *txn = db->txns; txn; txn = txn->next)
        if (txn->count > 0)
            oldest = ekv_min(oldest, ekv_position_sequence(ekv_format_of(db), txn->begin.version));
    return oldest;
}

/* Rank of a victim: the least live first, of equals the oldest. */
static uint64_t rank_of(const struct ekv *db, uint32_t sector, uint32_t sequence)
{
    return (uint64_t)db->sectors.lives[sector] << 32 | sequence;
}

/* The next sector by rank behind `after` among those older than `before`. */
static int choose(const struct ekv *db, uint32_t most, uint32_t before, uint64_t after,
                  uint32_t *victim, uint32_t *sequence)
{
    uint32_t count = ekv_format_of(db)->geometry.sector_count;
    uint64_t best = (uint64_t)most << 32;
    int found = EKV_NOT_FOUND;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t its;
        if (ekv_sector_state(&db->sectors, i) != EKV_SECTOR_LOG || rank_of(db, i, 0) > best ||
            rank_of(db, i, UINT32_MAX) <= after || !may_collect(db, i, &its) || its >= before ||
            rank_of(db, i, its) >= best || rank_of(db, i, its) <= after)
            continue;
        best = rank_of(db, i, its);
        *victim = i;
        *sequence = its;
        found = EKV_OK;
    }
    return found;
}

/* A sector in which a program failed: it is retired when it is empty. */
static int choose_distrusted(const struct ekv *db, uint32_t *victim, uint32_t *sequence)
{
    for (uint32_t i = 0; i < db->sectors.distrusted_count; i++) {
        *victim = db->sectors.distrusted[i];
        if (ekv_sector_state(&db->sectors, *victim) == EKV_SECTOR_LOG &&
            db->sectors.lives[*victim] <= EKV_LIVE_MAX && may_collect(db, *victim, sequence))
            return EKV_OK;
    }
    return EKV_NOT_FOUND;
}

/* Every eighth time, or as soon after it as there is room: a sector erased much less often than the
 * most erased one, whatever is live in it, so that cold data does not keep its sectors young while
 * others wear out. */
static int choose_cold(struct ekv *db, uint32_t *victim, uint32_t *sequence)
{
    uint32_t count = ekv_format_of(db)->geometry.sector_count, seen = 0;
    if (db->collections < db->cold_next || db->sectors.erase_count_max <= COLD_SPREAD)
        return EKV_NOT_FOUND;
    uint32_t sector = (uint32_t)(db->cold_next / COLD_EVERY * 16 % count);
    for (uint32_t i = 0; i < count && seen < 16;
         i++, sector = sector + 1 < count ? sector + 1 : 0) {
        if (ekv_sector_state(&db->sectors, sector) != EKV_SECTOR_LOG ||
            db->sectors.lives[sector] > EKV_LIVE_MAX)
            continue;
        seen++;
        uint32_t erased = ekv_sector_erase_count(&db->sectors, sector);
        if (erased + COLD_SPREAD < db->sectors.erase_count_max &&
            may_collect(db, sector, sequence)) {
            *victim = sector;
            return EKV_OK;
        }
    }
    db->cold_next = db->collections + COLD_EVERY;
    return EKV_NOT_FOUND;
}

bool ekv_gc_bad(const struct ekv *db)
{
    uint32_t victim, sequence;
    return choose_distrusted(db, &victim, &sequence) == EKV_OK;
}

/* True if the record of a sector that is being emptied need not be looked up: nothing that counts
 * is left there. Deletes do not count, and a small record may be less than a unit. `pending`: from
 * that sequence number on the records of open transactions do not count either. */
static bool is_left_over(const struct ekv *db, const struct ekv_found *found, uint32_t pending)
{
    const struct ekv_record *record = &found->record;
    uint32_t sector = ekv_sector_of(ekv_format_of(db), record->address);
    return db->sectors.lives[sector] == 0 && db->retain_count < 2 && found->sequence < pending &&
           ekv_record_kind(record) != EKV_RECORD_DELETE &&
           ekv_sector_units(&db->sectors, record->address, record->layout.size) > 0;
}

/* `seen`: whether a snapshot needs anything of the sector that was not moved. */
static int move_all(struct ekv *db, uint32_t sector, uint32_t sequence, bool *seen)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_found found = {.sequence = sequence};
    uint32_t pending = pending_sequence(db);
    for (uint32_t offset = format->body_offset; offset < format->geometry.sector_size;) {
        uint32_t address = ekv_address(format, sector, offset);
        int error = ekv_record_find(&db->log, address, sequence, &found.record);
        if (error == EKV_NOT_FOUND)
            return EKV_OK; /* the end; what is live behind damage shows in the count */
        if (!error && !is_left_over(db, &found, pending))
            error = ekv_gc_record(db, &found);
        if (!error && db->snapshots && !*seen) /* a copy serves whoever saw the original */
            error = ekv_is_seen(db, &found, seen);
        if (error)
            return error;
        offset = ekv_offset_of(format, found.record.address) + found.record.layout.size;
    }
    return EKV_OK;
}

/* Bytes that a collection writes to move the piece of a value and what refers to it; 0: none. In
 * doubt the piece is moved. */
static int piece_size(struct ekv *db, const struct ekv_found *piece, uint32_t *size)
{
    struct ekv_found head;
    struct ekv_slot *slot;
    uint32_t sector = ekv_sector_of(ekv_format_of(db), piece->record.address), above = 0;
    *size = 0;
    int error = ekv_lookup_same(db, &piece->record, &head);
    if (!error)
        error = ekv_value_holds(db, &head.record, &piece->record, &above);
    if (error == EKV_NOT_FOUND)
        error = ekv_pending_head(db, piece, &head, &slot, &above);
    if (error == EKV_NOT_FOUND && ekv_owner_is_cut(db, &piece->record) &&
        db->sectors.lives[sector] > 0)
        error = EKV_OK;
    if (error == EKV_NOT_FOUND)
        error = ekv_retain_head(db, piece, &head);
    if (error == EKV_OK)
        *size = piece->record.layout.size + above;
    return error == EKV_NOT_FOUND ? EKV_OK : error;
}

/* Bytes that a collection writes to move the record; 0 if it does not. */
static int copy_size(struct ekv *db, const struct ekv_found *found, uint32_t *size)
{
    enum need need;
    struct ekv_record_layout copy = found->record.layout;
    *size = 0;
    if (ekv_record_kind(&found->record) > EKV_RECORD_LIST)
        return EKV_OK;
    if (ekv_record_kind(&found->record) > EKV_RECORD_HEAD)
        return piece_size(db, found, size);
    int error = need_of(db, found, &need);
    if (error || need == NOT_NEEDED)
        return error;
    if (need != PENDING)
        copy.type |= EKV_RECORD_MOVED;
    if (need == RETAINED)
        copy.type |= EKV_RECORD_COUNTED;
    ekv_record_measure(ekv_format_of(db), &copy);
    *size = copy.size;
    return EKV_OK;
}

/* Bytes of log that a collection of the sector takes: what it copies, and what that leaves unused
 * at the end of the head. `moves`: how many records it copies of those that begin before an offset.
 */
static int count_copies(struct ekv *db, uint32_t victim, uint32_t sequence, uint32_t before,
                        uint32_t *size, uint32_t *moves)
{
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_found found = {.sequence = sequence};
    uint32_t room = ekv_log_room(&db->log), pending = pending_sequence(db);
    *size = *moves = 0;
    for (uint32_t offset = format->body_offset; offset < format->geometry.sector_size;) {
        uint32_t copy;
        int error =
            ekv_record_find(&db->log, ekv_address(format, victim, offset), sequence, &found.record);
        if (error)
            return error == EKV_NOT_FOUND ? EKV_OK : error;
        copy = 0;
        if (!is_left_over(db, &found, pending))
            error = copy_size(db, &found, &copy);
        if (error)
            return error;
        *moves += copy > 0 && offset < before;
        if (copy > room) {
            *size += room;
            room = ekv_format_record_size_max(format);
        }
        *size += copy;
        room -= ekv_min(copy, room);
        offset = ekv_offset_of(format, found.record.address) + found.record.layout.size;
    }
    return EKV_OK;
}

static int exact_size(struct ekv *db, uint32_t victim, uint32_t sequence, uint32_t *size)
{
    uint32_t moves;
    return count_copies(db, victim, sequence, 0, size, &moves);
}

/* Bytes of a log sector that the live count says are live. */
static uint32_t live_size(const struct ekv *db, uint32_t sector)
{
    uint64_t size = ekv_format_of(db)->geometry.sector_size;
    return (uint32_t)(db->sectors.lives[sector] * size / EKV_LIVE_MAX);
}

/* Bytes that the live records of a sector take elsewhere: a copy made for the first time also
 * carries its version, and the last record before each end of a sector may not fit. `deletes`:
 * bytes of deletes, which do not count as live. */
static int moved_size(const struct ekv *db, uint32_t victim, uint32_t sequence, uint32_t *size,
                      uint32_t *deletes)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t body = ekv_format_record_size_max(format), largest = 0, growth = 0;
    uint32_t live = db->sectors.lives[victim];
    struct ekv_record record;
    *size = live_size(db, victim);
    *deletes = 0;
    for (uint32_t offset = format->body_offset; offset < format->geometry.sector_size;) {
        int error =
            ekv_record_find(&db->log, ekv_address(format, victim, offset), sequence, &record);
        if (error == EKV_NOT_FOUND)
            break;
        if (error)
            return error;
        largest = ekv_max(largest, record.layout.size);
        if (ekv_record_kind(&record) == EKV_RECORD_DELETE)
            *deletes += record.layout.size;
        else if (ekv_record_kind(&record) <= EKV_RECORD_HEAD &&
                 !(record.layout.type & EKV_RECORD_MOVED))
            growth += ekv_align(EKV_RECORD_VERSION_SIZE, format->alignment);
        offset = ekv_offset_of(format, record.address) + record.layout.size;
    }
    if (live > 0)
        *size += growth * live / EKV_LIVE_MAX + ekv_min(largest, body / 2);
    return EKV_OK;
}

/* EKV_OK if what a collection copies, `size` bytes, is at most `limit` and the log has room for it,
 * without the sector that a recovery would need. */
static int is_worth(const struct ekv *db, uint32_t size, uint32_t limit)
{
    uint32_t body = ekv_format_record_size_max(ekv_format_of(db));
    uint32_t available = ekv_sectors_available(&db->sectors), kept = ekv_reserve_collection(db);
    uint64_t room = ekv_log_room(&db->log);
    if (available > kept)
        room += (uint64_t)(available - kept) * body;
    if (size > limit)
        return EKV_NOT_FOUND;
    return size <= room ? EKV_OK : EKV_FULL;
}

/* Where live counts do not tell what must be moved: a sector of which at most half must be, looked
 * into record by record, in rotation; if there is none, that of which the least must be, if that is
 * less than `best`. */
static int choose_exactly(struct ekv *db, uint32_t best, uint32_t *victim, uint32_t *sequence)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t count = format->geometry.sector_count, body = ekv_format_record_size_max(format);
    int found = EKV_NOT_FOUND;
    for (uint32_t i = 0; i < count && (found == EKV_NOT_FOUND || best > body / 2); i++) {
        uint32_t sector = db->gc_next, its, size;
        db->gc_next = sector + 1 < count ? sector + 1 : 0;
        if (ekv_sector_state(&db->sectors, sector) != EKV_SECTOR_LOG ||
            live_size(db, sector) >= best || !may_collect(db, sector, &its))
            continue;
        int error = exact_size(db, sector, its, &size);
        if (error)
            return error;
        if (size >= best)
            continue;
        best = size;
        *victim = sector;
        *sequence = its;
        found = EKV_OK;
    }
    return found == EKV_OK ? is_worth(db, best, best) : found;
}

/* The victim by rank. Sectors of which deletes are a good part are looked into record by record,
 * a few of them, since what their live counts promise they need not keep. */
static int choose_by_rank(struct ekv *db, uint32_t most, uint32_t before, uint32_t *victim,
                          uint32_t *sequence)
{
    uint32_t body = ekv_format_record_size_max(ekv_format_of(db)), best = UINT32_MAX;
    uint32_t sector, its, size, deletes = body;
    uint64_t after = 0;
    for (uint32_t i = 0; i < DELETES_LOOKS && deletes > body / 4 && best > body / 2; i++) {
        int error = choose(db, most, before, after, &sector, &its);
        if (error == EKV_NOT_FOUND)
            break;
        if (!error)
            error = moved_size(db, sector, its, &size, &deletes);
        if (!error && deletes > body / 4)
            error = exact_size(db, sector, its, &size);
        if (error)
            return error;
        after = rank_of(db, sector, its);
        if (size >= best)
            continue;
        best = size;
        *victim = sector;
        *sequence = its;
    }
    return is_worth(db, best, body);
}

/* Distrusted and cold sectors first; then what the live counts say, if they tell all, and what the
 * records say. */
static int choose_victim(struct ekv *db, uint32_t most, uint32_t *victim, uint32_t *sequence)
{
    uint32_t size;
    int error = choose_distrusted(db, victim, sequence);
    if (error)
        error = choose_cold(db, victim, sequence);
    if (!error)
        error = exact_size(db, *victim, *sequence, &size);
    if (!error)
        error = is_worth(db, size, size);
    if (!error) {
        db->cold_next = db->collections + COLD_EVERY;
        return EKV_OK;
    }
    uint32_t body = ekv_format_record_size_max(ekv_format_of(db)), worth = body - body / 16 + 1;
    if (most == EKV_GC_MANY) {
        error = choose_exactly(db, 1, victim, sequence);
        if (error != EKV_NOT_FOUND)
            return error;
        most = EKV_GC_ANY;
    }
    if (most == EKV_GC_EXACTLY || db->retain_count > 1)
        return choose_exactly(db, worth, victim, sequence);
    uint32_t pending = pending_sequence(db);
    error = choose_by_rank(db, most, pending, victim, sequence);
    return error == EKV_NOT_FOUND && pending != UINT32_MAX
               ? choose_exactly(db, worth, victim, sequence)
               : error;
}

static int empty(struct ekv *db, uint32_t victim, uint32_t sequence)
{
    bool seen = false;
    int error = move_all(db, victim, sequence, &seen);
    if (error)
        return error;
    if (db->sectors.lives[victim] != 0) {
        /* Damage hides something live: keep the sector as it is, for whoever can read it. */
        db->sectors.lives[victim] = UINT8_MAX;
        return EKV_OK;
    }
    for (const struct ekv_snapshot *at = db->snapshots; at; at = at->next)
        seen |= at->standing != 0 && ekv_sector_of(ekv_format_of(db), at->standing) == victim;
    ekv_sector_set(&db->sectors, victim, EKV_SECTOR_EMPTIED);
    bool rests = seen || db->retain_span > 0;
    db->sectors.lives[victim] = rests ? (uint8_t)ekv_generation(db, false) : 0;
    db->emptied_seen += seen;
    db->collections++;
    return EKV_OK;
}

int ekv_gc(struct ekv *db, uint32_t most)
{
    uint32_t victim, sequence;
    int error = choose_victim(db, most, &victim, &sequence);
    return error ? error : empty(db, victim, sequence);
}

int ekv_gc_head(struct ekv *db, uint32_t sector, uint32_t sequence, uint32_t in_run, uint32_t spare)
{
    uint32_t slots = db->memtable.capacity - db->memtable.count, size, moves;
    int error = count_copies(db, sector, sequence, in_run, &size, &moves);
    if (!error && (size + spare > ekv_log_room(&db->log) || moves > slots))
        error = EKV_FULL;
    return error ? error : empty(db, sector, sequence);
}
