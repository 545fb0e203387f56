/* Owns the way of a log sector from emptied to free.
 *
 * gc empties a sector, but a replay must be able to read what was live in it when the counts on
 * flash were taken: so it is erased only after the manifest has said anew what is live. If
 * snapshots were open when it was emptied, those that are old enough may still read it: it stays in
 * limbo until the last of them is closed. A limbo sector's place in the table of live counts holds
 * the generation in which it was emptied; a snapshot opened later has a larger one and cannot need
 * it.
 *
 * If a span of time is retained, every emptied sector rests in limbo for that long: what was
 * overwritten in it was overwritten before it was emptied. The generation is then the time in
 * sixty-fourths of the span, of which the table holds the low byte; the manifest carries it, so
 * that a mount goes on with it.
 */
#include "publish.h"

enum {
    SPAN_PARTS = 64,
    AGE_MAX = 200, /* generations that a byte tells apart for sure */
};

uint32_t ekv_generation(struct ekv *db, bool snapshot)
{
    uint32_t waiting =
        db->sectors.counts[EKV_SECTOR_LIMBO] + db->sectors.counts[EKV_SECTOR_EMPTIED];
    if (db->retain_span > 0) {
        int64_t part = db->retain_span / SPAN_PARTS + 1, now = db->now(db->now_context);
        uint32_t generation = now > 0 ? (uint32_t)(now / part) : 0;
        db->generation = ekv_max(db->generation, generation); /* time never runs backwards */
    } else if (snapshot && waiting > 0 && db->generation < UINT8_MAX) {
        db->generation++;
    }
    return db->generation;
}

/* Generations that passed since a limbo sector was emptied. */
static uint32_t age_of(const struct ekv *db, uint32_t sector)
{
    return (uint8_t)(db->generation - db->sectors.lives[sector]);
}

/* A record that gc moved lies in a sector younger than its version, so only the generations tell
 * whether a snapshot can still need the sector. */
static bool is_pinned(const struct ekv *db, uint32_t sector)
{
    uint32_t emptied = db->sectors.lives[sector];
    if (db->retain_span > 0) {
        if (age_of(db, sector) <= SPAN_PARTS)
            return true;
        emptied = db->generation - age_of(db, sector);
    }
    for (const struct ekv_snapshot *snapshot = db->snapshots; snapshot; snapshot = snapshot->next)
        if (snapshot->generation <= emptied)
            return true;
    return false;
}

/* What gc did not move out of a sector nobody sees any more. */
static void forget_slots(struct ekv *db, uint32_t sector)
{
    for (uint32_t i = db->memtable.count; i-- > 0;)
        if (ekv_sector_of(ekv_format_of(db), db->memtable.slots[i].address) == sector)
            ekv_memtable_remove(&db->memtable, i);
}

/* Frees the sectors in `state` that nobody needs; the others are in limbo. */
static void release(struct ekv *db, enum ekv_sector_state state)
{
    uint32_t count = ekv_format_of(db)->geometry.sector_count;
    for (uint32_t i = 0; i < count && db->sectors.counts[state] > 0; i++) {
        if (ekv_sector_state(&db->sectors, i) != state)
            continue;
        uint8_t generation = db->sectors.lives[i];
        bool pinned = is_pinned(db, i);
        if (pinned && db->retain_span > 0 && age_of(db, i) > AGE_MAX)
            generation = (uint8_t)(db->generation - AGE_MAX); /* before the byte wraps */
        db->sectors.lives[i] = generation;
        if (pinned && state == EKV_SECTOR_LIMBO)
            continue;
        if (!pinned && db->rewritten)
            forget_slots(db, i);
        ekv_sector_set(&db->sectors, i, pinned ? EKV_SECTOR_LIMBO : EKV_SECTOR_FREE);
        if (ekv_sector_state(&db->sectors, i) == EKV_SECTOR_RETIRED)
            continue; /* a program failed in it; the next edit says so */
        if (state == EKV_SECTOR_EMPTIED || db->retain_span == 0)
            ekv_sector_clean(&db->sectors, i); /* the manifest says so already */
        db->sectors.lives[i] = pinned ? generation : 0;
        db->sectors.freed_since_sync = true;
        db->change++; /* a cursor may stand on a stale entry that points there */
    }
}

void ekv_publish_limbo(struct ekv *db)
{
    if (db->retain_span > 0)
        (void)ekv_generation(db, false);
    release(db, EKV_SECTOR_LIMBO);
    if (!db->snapshots && db->retain_span == 0)
        db->generation = 1;
}

int ekv_publish(struct ekv *db, uint32_t added)
{
    int error = ekv_log_flush(&db->log);
    if (error)
        return error;
    db->catalog.counted = ekv_log_position(&db->log);
    error = ekv_manifest_commit(&db->manifest, &db->catalog, added);
    if (error) {
        db->failed = true;
        return error;
    }
    db->published++;
    release(db, EKV_SECTOR_EMPTIED);
    db->emptied_seen = 0;
    return EKV_OK;
}
