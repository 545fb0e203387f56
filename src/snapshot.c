/* Snapshots: a version, in a list of the open ones.
 *
 * A snapshot sees of each key the newest record with at most its version. Merges, flushes and the
 * memtable keep what an open snapshot sees, and sectors emptied by gc wait in limbo for it.
 */
#include "snapshot.h"

#include "lookup.h"
#include "publish.h"
#include "value.h"

void ekv_snapshot_link(struct ekv_snapshot *snapshot, struct ekv *db)
{
    snapshot->db = db;
    snapshot->version = ekv_log_position(&db->log) - 1;
    snapshot->generation = ekv_generation(db, true);
    snapshot->standing = 0;
    snapshot->next = db->snapshots;
    db->snapshots = snapshot;
    db->appending = NULL; /* records before this moment must not be committed after it */
}

void ekv_snapshot_unlink(struct ekv_snapshot *snapshot)
{
    struct ekv *db = snapshot->db;
    struct ekv_snapshot **link = &db->snapshots;
    while (*link && *link != snapshot)
        link = &(*link)->next;
    if (*link)
        *link = snapshot->next;
    ekv_publish_limbo(db);
}

void ekv_snapshot_open(struct ekv_snapshot *snapshot, struct ekv *db)
{
    ekv_lock_write(db);
    ekv_snapshot_link(snapshot, db);
    ekv_unlock_write(db);
}

void ekv_snapshot_close(struct ekv_snapshot *snapshot)
{
    struct ekv *db = snapshot->db;
    ekv_lock_write(db);
    ekv_snapshot_unlink(snapshot);
    ekv_unlock_write(db);
}

int ekv_snapshot_get(struct ekv_snapshot *snapshot, struct ekv_key key, uint64_t offset,
                     void *buffer, size_t capacity, size_t *size)
{
    struct ekv *db = snapshot->db;
    ekv_lock_read(db);
    int error = ekv_read_at(db, key, snapshot->version, offset, buffer, capacity, size);
    ekv_unlock_read(db);
    return error;
}

int ekv_snapshot_find(struct ekv_snapshot *snapshot, struct ekv_key key, struct ekv_entry *entry)
{
    struct ekv *db = snapshot->db;
    ekv_lock_read(db);
    int error = ekv_find_at(db, key, snapshot->version, entry);
    ekv_unlock_read(db);
    return error;
}
