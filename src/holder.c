/* A record that gc does not move as current may still be wanted: by a transaction that has not
 * committed it yet, or by a snapshot of the time before something took its place. A piece of a
 * value is wanted with the head that holds it; if the owner's name in it is cut, every key is asked
 * that begins with that.
 */
#include "holder.h"

#include "value.h"

/* --- Transactions ---------------------------------------------------------------------------- */

struct ekv_slot *ekv_pending_slot(struct ekv *db, uint32_t address)
{
    for (struct ekv_txn *txn = db->txns; txn; txn = txn->next) {
        struct ekv_slot *slots = txn->entries;
        for (uint32_t i = 0; i < txn->count; i++)
            if (slots[i].address == address)
                return &slots[i];
    }
    return NULL;
}

bool ekv_owner_is_cut(const struct ekv *db, const struct ekv_record *piece)
{
    return piece->layout.key_size >= ekv_owner_size_max(db);
}

int ekv_pending_head(struct ekv *db, const struct ekv_found *piece, struct ekv_found *head,
                     struct ekv_slot **slot, uint32_t *above)
{
    uint32_t hash;
    bool cut = ekv_owner_is_cut(db, &piece->record);
    int error = ekv_record_hash(&db->log, &piece->record, &hash);
    for (struct ekv_txn *txn = db->txns; !error && txn; txn = txn->next) {
        struct ekv_slot *slots = txn->entries;
        for (uint32_t i = 0; i < txn->count; i++) {
            if (!cut && slots[i].hash != hash)
                continue;
            *slot = &slots[i];
            error = ekv_found_at(&db->log, slots[i].address, head);
            if (!error)
                error = ekv_value_holds(db, &head->record, &piece->record, above);
            if (error != EKV_NOT_FOUND)
                return error;
            error = EKV_OK;
        }
    }
    return error ? error : EKV_NOT_FOUND;
}

/* --- Owners ---------------------------------------------------------------------------------- */

/* Visits the head records of a run whose key is `name`, or begins with it if it is `cut`. */
static int visit_run(struct ekv *db, const struct ekv_run *run, struct ekv_key name, bool cut,
                     const struct ekv_found *piece, ekv_owner_visit *visit)
{
    struct ekv_run_cursor cursor;
    struct ekv_found head;
    int error = ekv_run_seek(&db->index, run, name, &cursor, &head);
    while (!error) {
        int order;
        struct ekv_record begin = head.record;
        if (cut)
            begin.layout.key_size = ekv_min(begin.layout.key_size, name.size);
        error = ekv_record_compare(&db->log, &begin, name, &order);
        if (error || order != 0)
            return error ? error : EKV_NOT_FOUND;
        error = EKV_NOT_FOUND;
        if (ekv_record_kind(&head.record) == EKV_RECORD_HEAD)
            error = visit(db, &head, piece);
        if (error != EKV_NOT_FOUND)
            return error;
        error = ekv_run_next(&db->index, run, &cursor, &head);
    }
    return error;
}

/* The same in the memtable. Of keys with the same hash that of another one holds no such piece. */
static int visit_table(struct ekv *db, uint32_t hash, bool cut, const struct ekv_found *piece,
                       ekv_owner_visit *visit)
{
    for (uint32_t i = 0; i < db->memtable.count; i++) {
        const struct ekv_slot *slot = &db->memtable.slots[i];
        struct ekv_found head;
        if (!cut && slot->hash != hash)
            continue;
        int error = ekv_found_at(&db->log, slot->address, &head);
        if (error)
            return error;
        if (ekv_record_kind(&head.record) != EKV_RECORD_HEAD)
            continue;
        error = visit(db, &head, piece);
        if (error != EKV_NOT_FOUND)
            return error;
    }
    return EKV_NOT_FOUND;
}

int ekv_owners_visit(struct ekv *db, const struct ekv_found *piece, ekv_owner_visit *visit)
{
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_key name;
    uint32_t hash;
    bool cut = ekv_owner_is_cut(db, &piece->record);
    int error = ekv_record_key(&db->log, &piece->record, prefix, &name);
    if (!error)
        error = ekv_record_hash(&db->log, &piece->record, &hash);
    if (!error)
        error = visit_table(db, hash, cut, piece, visit);
    for (uint32_t i = 0; error == EKV_NOT_FOUND && i < db->catalog.run_count; i++)
        error = visit_run(db, &db->catalog.runs[i], name, cut, piece, visit);
    return error;
}

/* --- Snapshots ------------------------------------------------------------------------------- */

/* The snapshot with the least version from `version` on that is not of this very moment; NULL:
 * there is none. */
static const struct ekv_snapshot *first_after(const struct ekv *db, uint64_t version)
{
    const struct ekv_snapshot *first = NULL;
    for (const struct ekv_snapshot *at = db->snapshots; at; at = at->next)
        if (at->version >= version && at->version < db->last_version &&
            (!first || at->version < first->version))
            first = at;
    return first;
}

/* EKV_OK if an open snapshot sees this put, head or delete where it is, else EKV_NOT_FOUND. If the
 * first that can does not, something newer had taken its place, and later ones do not either. */
static int see_record(struct ekv *db, const struct ekv_found *found)
{
    uint8_t prefix[EKV_KEY_PREFIX];
    struct ekv_key key;
    struct ekv_found visible;
    uint64_t version;
    int error = ekv_record_version(&db->log, &found->record, found->sequence, &version);
    const struct ekv_snapshot *first = error ? NULL : first_after(db, version);
    if (!first)
        return error ? error : EKV_NOT_FOUND;
    error = ekv_record_key(&db->log, &found->record, prefix, &key);
    if (!error)
        error = ekv_lookup_key(db, key, &found->record, first->version, &visible);
    if (!error && visible.record.address != found->record.address)
        error = EKV_NOT_FOUND;
    return error;
}

static int see_piece(struct ekv *db, const struct ekv_found *head, const struct ekv_found *piece)
{
    uint32_t above;
    int error = see_record(db, head); /* else its pieces may lie in sectors that were used again */
    return error ? error : ekv_value_holds(db, &head->record, &piece->record, &above);
}

int ekv_is_seen(struct ekv *db, const struct ekv_found *found, bool *seen)
{
    uint8_t kind = ekv_record_kind(&found->record);
    *seen = false;
    if (kind > EKV_RECORD_LIST)
        return EKV_OK;
    int error =
        kind <= EKV_RECORD_HEAD ? see_record(db, found) : ekv_owners_visit(db, found, see_piece);
    *seen = error == EKV_OK || error == EKV_CORRUPT;
    return error == EKV_NOT_FOUND || error == EKV_CORRUPT ? EKV_OK : error;
}
