/* Owns the manifest's ring: finds, reads and writes chains of frames.
 *
 * Invariants: sequence numbers of ring sectors grow by one along a chain and from chain to chain;
 * stamp B of each names the sequence number its chain begins with.
 *
 * A power cut while a checkpoint is written leaves a chain without a whole checkpoint: the one
 * before counts. A checkpoint is proven by a frame behind it (written at once): its program had
 * returned. A chain counts only if it is proven. Whether it is may read differently as long as that
 * frame is its last, so the chain before it is kept as long.
 *
 * The last frames of a chain may have been in flight when power was lost, and read well only later.
 * What they name may be free by what was read first. So a recovery begins with a chain of its own,
 * that says what was read; a number above all that the ring holds makes it the newest for good.
 */
#include "manifest.h"

#include <assert.h>
#include <string.h>

#include "crc32c.h"
#include "ring.h"

enum {
    FRAME_MIN = 48, /* room worth beginning a frame in */
};

static const struct ekv_format *format_of(const struct ekv_manifest *manifest)
{
    return &manifest->sectors->format;
}

/* --- Writing frames -------------------------------------------------------------------------- */

static int frame_begin(struct ekv_manifest *manifest)
{
    const struct ekv_format *format = format_of(manifest);
    uint32_t room = ekv_page_room(manifest->offset);
    if (room < FRAME_MIN)
        manifest->offset = ekv_align(manifest->offset, EKV_PAGE_SIZE);
    if (manifest->offset >= format->geometry.sector_size) {
        if (manifest->sequence + 1 - manifest->base >= ekv_chain_max(manifest))
            return EKV_FULL;
        int error = ekv_chain_extend(manifest, manifest->sequence + 1, manifest->base, false);
        if (error)
            return error;
    }
    manifest->frame_limit = ekv_page_room(manifest->offset);
    manifest->frame_size = EKV_FRAME_HEAD_SIZE;
    return EKV_OK;
}

static int frame_end(struct ekv_manifest *manifest, uint8_t type)
{
    const struct ekv_format *format = format_of(manifest);
    uint8_t *frame = manifest->sectors->scratch;
    uint32_t size = manifest->frame_size;
    uint32_t padded = ekv_align(size, format->geometry.write_unit);
    frame[4] = type;
    ekv_store(frame + 5, size - EKV_FRAME_HEAD_SIZE, 2);
    uint32_t seed =
        ekv_format_seed(format, EKV_KIND_MANIFEST, manifest->sequence, manifest->offset);
    ekv_store32(frame, ekv_crc32c(seed, frame + 4, size - 4));
    memset(frame + size, 0xff, padded - size);
    uint32_t address = ekv_address(format, manifest->sector, manifest->offset);
    int error = ekv_sector_program(manifest->sectors, address, frame, padded);
    manifest->offset += padded;
    manifest->frame_size = 0;
    return error;
}

/* Gives `size` bytes of the frame to an item, in a new frame if this one is full. */
static int item_begin(struct ekv_manifest *manifest, uint8_t type, uint32_t size, uint8_t **item)
{
    if (manifest->frame_size + size > manifest->frame_limit) {
        int error = frame_end(manifest, type);
        if (!error)
            error = frame_begin(manifest);
        if (error)
            return error;
        if (manifest->frame_size + size > manifest->frame_limit) {
            /* A page's rest was worth a frame, but not this item. */
            manifest->offset = ekv_align(manifest->offset, EKV_PAGE_SIZE);
            error = frame_begin(manifest);
            if (error)
                return error;
        }
    }
    *item = manifest->sectors->scratch + manifest->frame_size;
    manifest->frame_size += size;
    return EKV_OK;
}

static int put_store(struct ekv_manifest *manifest, const struct ekv_catalog *catalog, uint8_t type)
{
    uint8_t *item;
    int error = item_begin(manifest, type, 1 + EKV_ITEM_STORE_SIZE, &item);
    if (!error)
        ekv_catalog_store_encode(catalog, item);
    return error;
}

static int put_state(struct ekv_manifest *manifest, const struct ekv_catalog *catalog, uint8_t type)
{
    uint8_t *item;
    int error = item_begin(manifest, type, 1 + EKV_ITEM_STATE_SIZE, &item);
    if (!error)
        ekv_catalog_state_encode(catalog, manifest->sectors, item);
    return error;
}

static int put_run(struct ekv_manifest *manifest, const struct ekv_run *run, uint8_t type)
{
    uint8_t *item;
    int error = item_begin(manifest, type, 1 + EKV_ITEM_RUN_SIZE, &item);
    if (!error)
        ekv_catalog_run_encode(run, item);
    return error;
}

static int put_runs(struct ekv_manifest *manifest, const struct ekv_catalog *catalog,
                    uint32_t added, uint8_t type)
{
    uint8_t *item;
    for (uint32_t i = 0; i < catalog->run_count; i++) {
        if (type == EKV_FRAME_EDIT && catalog->runs[i].id != added)
            continue;
        int error = put_run(manifest, &catalog->runs[i], type);
        if (error)
            return error;
    }
    /* Whatever changes the order adds a run or drops some. */
    if (type == EKV_FRAME_EDIT && added == 0 && manifest->run_count == catalog->run_count)
        return EKV_OK;
    manifest->run_count = catalog->run_count;
    int error = item_begin(manifest, type, 2 + 4 * catalog->run_count, &item);
    if (!error)
        ekv_catalog_order_encode(catalog, item);
    return error;
}

/* The next sector that a frame of this type tells of: every one, or what changed. */
static uint32_t table_next(const struct ekv_manifest *manifest, uint32_t sector, uint8_t type)
{
    return type == EKV_FRAME_CHECKPOINT ? sector : ekv_sector_next_dirty(manifest->sectors, sector);
}

/* Which item a sector belongs into; 0: none. */
static uint8_t table_item(const struct ekv_manifest *manifest, uint32_t sector, uint8_t type)
{
    bool whole = type == EKV_FRAME_CHECKPOINT;
    switch (ekv_sector_state(manifest->sectors, sector)) {
    case EKV_SECTOR_LOG:
        return EKV_ITEM_LOG;
    case EKV_SECTOR_RETIRED:
        return EKV_ITEM_RETIRED;
    case EKV_SECTOR_EMPTIED:
    case EKV_SECTOR_LIMBO:
        return manifest->resting ? EKV_ITEM_RESTING : whole ? 0 : EKV_ITEM_FREE;
    default:
        return whole ? 0 : EKV_ITEM_FREE;
    }
}

/* Writes the sectors that belong into items of one kind, near ones sharing an item. */
static int put_table(struct ekv_manifest *manifest, uint8_t kind, uint8_t type)
{
    uint32_t count = format_of(manifest)->geometry.sector_count;
    uint32_t size = ekv_item_entry_size(kind), last = 0;
    uint8_t *head = NULL;
    uint32_t sector = table_next(manifest, format_of(manifest)->ring_count, type);
    for (; sector < count; sector = table_next(manifest, sector + 1, type)) {
        uint8_t *entry;
        if (table_item(manifest, sector, type) != kind)
            continue;
        bool joins = head && sector - last <= UINT8_MAX &&
                     head[EKV_ITEM_TABLE_HEAD_SIZE] < UINT8_MAX &&
                     manifest->frame_size + size <= manifest->frame_limit;
        if (!joins) {
            int error = item_begin(manifest, type, 1 + EKV_ITEM_TABLE_HEAD_SIZE + size, &head);
            if (error)
                return error;
            head[0] = kind;
            ekv_store(head + 1, sector, 3);
            head[4] = 0;
            entry = head + 1 + EKV_ITEM_TABLE_HEAD_SIZE;
            last = sector;
        } else {
            int error = item_begin(manifest, type, size, &entry);
            if (error)
                return error;
        }
        entry[0] = (uint8_t)(sector - last);
        if (size == 2)
            entry[1] = manifest->sectors->lives[sector];
        head[4]++;
        last = sector;
    }
    return EKV_OK;
}

static int put_all(struct ekv_manifest *manifest, const struct ekv_catalog *catalog, uint32_t added,
                   uint8_t type)
{
    int error = frame_begin(manifest);
    uint32_t begin = manifest->offset, sequence = manifest->sequence;
    if (!error && type == EKV_FRAME_CHECKPOINT)
        error = put_store(manifest, catalog, type);
    if (!error)
        error = put_state(manifest, catalog, type);
    if (!error)
        error = put_runs(manifest, catalog, added, type);
    for (uint8_t kind = EKV_ITEM_LOG; !error && kind <= EKV_ITEM_RESTING; kind++)
        error = put_table(manifest, kind, type);
    /* What a crash of the host may lose of earlier frames must not leave the final one. */
    if (!error && (manifest->offset != begin || manifest->sequence != sequence))
        error = ekv_flash_sync(&manifest->sectors->flash, true);
    return error ? error : frame_end(manifest, type | EKV_FRAME_FINAL);
}

static void clean_all(struct ekv_manifest *manifest)
{
    struct ekv_sectors *sectors = manifest->sectors;
    uint32_t count = format_of(manifest)->geometry.sector_count;
    for (uint32_t i = ekv_sector_next_dirty(sectors, 0); i < count;
         i = ekv_sector_next_dirty(sectors, i + 1))
        ekv_sector_clean(sectors, i);
}

static int put_checkpoint(struct ekv_manifest *manifest, const struct ekv_catalog *catalog)
{
    return put_all(manifest, catalog, 0, EKV_FRAME_CHECKPOINT);
}

static int put_proof(struct ekv_manifest *manifest)
{
    int error = frame_begin(manifest);
    return error ? error : frame_end(manifest, EKV_FRAME_EDIT | EKV_FRAME_FINAL);
}

/* A frame that proves the checkpoint before it, and one that proves the first, if the sector has
 * room for it: then the chain before is not needed any more. */
static int put_proofs(struct ekv_manifest *manifest)
{
    int error = put_proof(manifest);
    uint32_t next = manifest->offset;
    if (ekv_page_room(next) < FRAME_MIN)
        next = ekv_align(next, EKV_PAGE_SIZE);
    if (error || next >= format_of(manifest)->geometry.sector_size)
        return error;
    return put_proof(manifest);
}

/* A sector of the ring in which a program failed is passed over until the next mount, which tries
 * it again: the ring has few to spare. Reading it goes on. */
static void retire_distrusted(struct ekv_manifest *manifest)
{
    if (ekv_sector_distrusted(manifest->sectors, manifest->sector))
        ekv_sector_set(manifest->sectors, manifest->sector, EKV_SECTOR_RETIRED);
}

/* The frames of a chain: from the begin of the sector with number `base` up to a place. */
struct frames {
    uint32_t base;
    struct ekv_ring_place end;
};

static int chain_copy(struct ekv_manifest *manifest, const struct frames *frames);

/* Writes the catalog as a checkpoint into a chain of its own, or the copy of `frames` if that is
 * not NULL. The chain until now is guarded until the new one is proven. */
static int chain_new(struct ekv_manifest *manifest, const struct ekv_catalog *catalog,
                     const struct frames *frames, bool suspect)
{
    uint32_t old[2] = {manifest->base, manifest->sequence + 1}, sector;
    uint32_t *guard = manifest->guarded[0][0] == manifest->guarded[0][1] ? manifest->guarded[0]
                                                                         : manifest->guarded[1];
    struct ekv_stamp_b newest = {.sequence = 0};
    memcpy(guard, old, sizeof old);
    int error = ekv_flash_sync(&manifest->sectors->flash, true);
    if (!error)
        error = ekv_ring_newest(manifest->sectors, UINT64_MAX, &sector, &newest);
    uint32_t sequence = ekv_max(old[1], newest.sequence + 1);
    for (bool again = error >= 0; again;) {
        again = false;
        error = ekv_chain_extend(manifest, sequence, EKV_NO_SECTOR, suspect);
        if (!error) {
            error = frames ? chain_copy(manifest, frames) : put_checkpoint(manifest, catalog);
            if (!error) /* so that a proof never survives a crash of the host that they do not */
                error = ekv_flash_sync(&manifest->sectors->flash, true);
            if (!error)
                error = put_proofs(manifest);
            again = error == EKV_IO && !ekv_sectors_failing(manifest->sectors);
        }
        if (again) { /* a sector of the ring is bad, or was for once: a chain without it */
            retire_distrusted(manifest);
            sequence = manifest->sequence + 1;
            suspect = true;
        }
    }
    if (error) {
        manifest->failed = true;
        return error == EKV_FULL ? EKV_IO : error;
    }
    memset(manifest->guarded, 0, sizeof manifest->guarded);
    return EKV_OK;
}

static int checkpoint(struct ekv_manifest *manifest, const struct ekv_catalog *catalog,
                      bool suspect)
{
    int error = chain_new(manifest, catalog, NULL, suspect);
    if (!error)
        clean_all(manifest);
    return error;
}

/* An upper bound of the bytes an edit takes, whole frames counted. */
static uint32_t edit_size(const struct ekv_manifest *manifest, const struct ekv_catalog *catalog)
{
    uint32_t count = format_of(manifest)->geometry.sector_count, dirty = 0;
    const struct ekv_sectors *sectors = manifest->sectors;
    for (uint32_t i = ekv_sector_next_dirty(sectors, 0); i < count;
         i = ekv_sector_next_dirty(sectors, i + 1))
        dirty++;
    uint32_t payload = EKV_ITEM_STATE_SIZE + EKV_ITEM_RUN_SIZE + 8 + 4 * catalog->run_count +
                       2 * dirty +
                       (1 + EKV_ITEM_TABLE_HEAD_SIZE) * 3 * (count / UINT8_MAX + dirty / 64 + 2);
    return payload + payload / 4 + 2 * EKV_PAGE_SIZE;
}

/* Sectors that a checkpoint takes. */
static uint32_t checkpoint_sectors(const struct ekv_manifest *manifest)
{
    const struct ekv_geometry *geometry = &format_of(manifest)->geometry;
    uint32_t payload = 1 + EKV_ITEM_STORE_SIZE + EKV_ITEM_STATE_SIZE +
                       (EKV_ITEM_RUN_SIZE + 5) * ekv_format_run_count_max(geometry->sector_count) +
                       2 * manifest->sectors->counts[EKV_SECTOR_LOG];
    return (payload + payload / 8) / (geometry->sector_size - EKV_PAGE_SIZE) + 1;
}

int ekv_manifest_prepare(struct ekv_manifest *manifest, const struct ekv_catalog *catalog)
{
    uint32_t size = format_of(manifest)->geometry.sector_size;
    uint32_t room = size - ekv_min(size, manifest->offset);
    if (manifest->failed || room >= size / 2 ||
        edit_size(manifest, catalog) + 3 * EKV_PAGE_SIZE <= room)
        return EKV_NOT_FOUND;
    bool extends = manifest->sequence + 1 - manifest->base < ekv_chain_max(manifest);
    return ekv_chain_prepare(manifest, extends ? 1 : checkpoint_sectors(manifest));
}

int ekv_manifest_commit(struct ekv_manifest *manifest, struct ekv_catalog *catalog, uint32_t added)
{
    uint32_t size = format_of(manifest)->geometry.sector_size;
    uint32_t extensions = ekv_chain_max(manifest) - (manifest->sequence + 1 - manifest->base);
    uint64_t room = (uint64_t)extensions * (size - 2 * EKV_PAGE_SIZE) +
                    (size - ekv_min(size, manifest->offset));
    if (manifest->failed)
        return EKV_READ_ONLY;
    /* A page more: should a recovery copy the chain, it needs to prove that. */
    if (edit_size(manifest, catalog) + EKV_PAGE_SIZE > room)
        return checkpoint(manifest, catalog, false);
    int error = ekv_flash_sync(&manifest->sectors->flash, true);
    if (!error) {
        error = put_all(manifest, catalog, added, EKV_FRAME_EDIT);
        if (error) { /* it may be there or not: a chain of its own decides */
            retire_distrusted(manifest);
            return checkpoint(manifest, catalog, true);
        }
    }
    if (error) {
        manifest->failed = true;
        return error;
    }
    clean_all(manifest);
    return EKV_OK;
}

int ekv_manifest_create(struct ekv_manifest *manifest, struct ekv_catalog *catalog)
{
    manifest->sector = format_of(manifest)->ring_count - 1;
    manifest->sequence = 0;
    manifest->base = 1;
    return checkpoint(manifest, catalog, false);
}

/* --- Reading --------------------------------------------------------------------------------- */

/* Applies the items of the frame in the scratch page. */
static int frame_apply(const struct ekv_manifest *manifest, struct ekv_catalog *catalog,
                       uint32_t size)
{
    return ekv_catalog_apply(catalog, manifest->sectors,
                             manifest->sectors->scratch + EKV_FRAME_HEAD_SIZE, size);
}

static bool same_place(const struct ekv_ring_place *a, const struct ekv_ring_place *b)
{
    return a->sequence == b->sequence && a->offset == b->offset;
}

/* Applies all frames of one whole group, from `begin` to the last one, which was found at `last`,
 * lies in the scratch page and is not read again: it may be unstable. Those before are proven by
 * it. */
static int group_apply(const struct ekv_manifest *manifest, struct ekv_catalog *catalog,
                       struct ekv_ring_place begin, const struct ekv_ring_place *last,
                       uint32_t last_size, uint32_t chain_end)
{
    uint8_t *scratch = manifest->sectors->scratch;
    memcpy(manifest->copy, scratch, EKV_PAGE_SIZE);
    while (!same_place(&begin, last)) {
        uint8_t type;
        uint32_t size;
        int error = ekv_ring_next(manifest->sectors, &begin, chain_end, &type, &size);
        if (!error)
            error = frame_apply(manifest, catalog, size);
        if (error)
            return error == EKV_NOT_FOUND ? EKV_CORRUPT : error;
    }
    memcpy(scratch, manifest->copy, EKV_PAGE_SIZE);
    return frame_apply(manifest, catalog, last_size);
}

static void catalog_reset(struct ekv_manifest *manifest, struct ekv_catalog *catalog)
{
    catalog->run_count = 0;
    for (uint32_t i = format_of(manifest)->ring_count;
         i < format_of(manifest)->geometry.sector_count; i++)
        ekv_sector_set(manifest->sectors, i, EKV_SECTOR_FREE);
}

/* Sequence number of the sector that a chain begins with. */
static uint32_t base_of(const struct ekv_stamp_b *stamp)
{
    return stamp->sequence - ekv_min(stamp->next, stamp->sequence);
}

/* What the frames of a chain were found to be. */
struct chain {
    struct ekv_ring_place end;   /* behind the last whole group */
    struct ekv_ring_place write; /* where the next frame goes: behind proofs, too */
    uint32_t behind;             /* frames behind the checkpoint; one at least proves it */
    bool torn;                   /* it ends in flash that is not blank */
};

/* Reads the chain that begins at `base`. With `catalog` NULL only sees whether it counts.
 * EKV_NOT_FOUND: it does not. */
static int chain_read(struct ekv_manifest *manifest, struct ekv_catalog *catalog, uint32_t base,
                      uint32_t last, struct chain *chain)
{
    struct ekv_ring_place ahead = {.sequence = base, .offset = format_of(manifest)->body_offset},
                          group;
    bool begun = false;
    chain->behind = 0;
    int error = ekv_ring_find(manifest->sectors, base, &ahead.sector);
    if (error)
        return error;
    group = ahead;
    for (;;) {
        uint8_t type;
        uint32_t size;
        struct ekv_ring_place before = ahead;
        error = ekv_ring_next(manifest->sectors, &ahead, last, &type, &size);
        if (error)
            break;
        if ((type & ~EKV_FRAME_FINAL) != (begun ? EKV_FRAME_EDIT : EKV_FRAME_CHECKPOINT))
            break;
        chain->behind += begun;
        if (!(type & EKV_FRAME_FINAL))
            continue;
        if (catalog) {
            error = group_apply(manifest, catalog, group, &before, size, last);
            if (error)
                return error;
        }
        begun = true;
        if (size > 0 || !same_place(&group, &before)) /* more than a proof */
            chain->end = ahead;
        group = chain->write = ahead;
    }
    if (catalog && manifest->sectors->mends.suspect.mask == 0)
        manifest->sectors->mends.suspect = ahead.flipped;
    if (error < 0)
        return error;
    chain->torn = ahead.torn;
    return chain->behind > 0 ? EKV_OK : EKV_NOT_FOUND;
}

/* Guards the newest chain older than the loaded one that counts. */
static int guard_older(struct ekv_manifest *manifest)
{
    uint64_t limit = manifest->base;
    for (uint32_t i = 0; i < format_of(manifest)->ring_count; i++) {
        struct ekv_stamp_b stamp;
        struct chain chain;
        uint32_t sector;
        int error = ekv_ring_newest(manifest->sectors, limit, &sector, &stamp);
        if (error)
            return error == EKV_NOT_FOUND ? EKV_OK : error;
        error = chain_read(manifest, NULL, base_of(&stamp), stamp.sequence, &chain);
        if (error < 0 && error != EKV_CORRUPT)
            return error;
        if (error == EKV_OK) {
            manifest->guarded[0][0] = base_of(&stamp);
            manifest->guarded[0][1] = stamp.sequence + 1;
            return EKV_OK;
        }
        limit = base_of(&stamp);
    }
    return EKV_OK;
}

static int load(struct ekv_manifest *manifest, struct ekv_catalog *catalog)
{
    uint64_t limit = UINT64_MAX;
    memset(manifest->guarded, 0, sizeof manifest->guarded);
    manifest->settled = false;
    for (uint32_t i = 0; i < format_of(manifest)->ring_count; i++) {
        struct ekv_stamp_b stamp;
        struct chain chain;
        int error = ekv_ring_newest(manifest->sectors, limit, &manifest->sector, &stamp);
        if (error)
            return error == EKV_NOT_FOUND ? EKV_NO_STORE : error;
        if (stamp.sequence == EKV_SEQUENCE_VOID)
            return EKV_NO_STORE;
        catalog_reset(manifest, catalog);
        error = chain_read(manifest, catalog, base_of(&stamp), stamp.sequence, &chain);
        if (error < 0)
            return error;
        if (error == EKV_OK) {
            manifest->sector = chain.write.sector;
            manifest->sequence = stamp.sequence;
            manifest->base = base_of(&stamp);
            manifest->offset = chain.write.offset;
            if (chain.write.sequence != stamp.sequence)
                manifest->offset = format_of(manifest)->geometry.sector_size;
            manifest->end[0] = chain.end.sequence;
            manifest->end[1] = chain.end.offset;
            clean_all(manifest);
            manifest->torn = chain.torn && chain.behind > 1; /* the second proof says nothing */
            error = chain.behind > 1 ? EKV_OK : guard_older(manifest);
            return error ? error : ekv_ring_newer(manifest->sectors, manifest->sequence);
        }
        limit = base_of(&stamp);
    }
    return EKV_NO_STORE;
}

int ekv_manifest_load(struct ekv_manifest *manifest, struct ekv_catalog *catalog)
{
    struct ekv_mends *mends = &manifest->sectors->mends;
    int error = load(manifest, catalog);
    manifest->run_count = catalog->run_count;
    if (error != EKV_CORRUPT && error != EKV_NO_STORE)
        return error;
    bool flipped =
        mends->suspect.mask != 0 || ekv_ring_stamp_flipped(manifest->sectors, &mends->suspect);
    return flipped ? EKV_CORRUPT : error;
}

/* --- After a power cut ----------------------------------------------------------------------- */

/* Writes the frames into the chain that has just begun: at the same places, as one group. */
static int chain_copy(struct ekv_manifest *manifest, const struct frames *frames)
{
    const struct ekv_ring_place *end = &frames->end;
    const struct ekv_format *format = format_of(manifest);
    struct ekv_ring_place from = {.sequence = frames->base, .offset = format->body_offset};
    int error = ekv_ring_find(manifest->sectors, frames->base, &from.sector);
    while (!error && !same_place(&from, end)) {
        uint8_t type;
        uint32_t size;
        bool extended = false;
        error = ekv_ring_next(manifest->sectors, &from, end->sequence, &type, &size);
        struct ekv_ring_place begin = from;
        begin.offset -= ekv_align(size + EKV_FRAME_HEAD_SIZE, format->geometry.write_unit);
        manifest->offset = begin.offset;
        while (!error && manifest->sequence - manifest->base < from.sequence - frames->base) {
            error = ekv_chain_extend(manifest, manifest->sequence + 1, manifest->base, false);
            extended = true;
        }
        if (!error && extended) { /* stamps use the page that held the frame */
            manifest->offset = begin.offset;
            error = ekv_ring_frame(manifest->sectors, &begin, &type, &size);
        }
        bool final = same_place(&from, end);
        if (!error && final) /* as in put_all */
            error = ekv_flash_sync(&manifest->sectors->flash, true);
        if (error)
            break;
        manifest->frame_size = size + EKV_FRAME_HEAD_SIZE;
        error = frame_end(manifest, EKV_FRAME_CHECKPOINT | (final ? EKV_FRAME_FINAL : 0));
    }
    return error == EKV_NOT_FOUND ? EKV_CORRUPT : error;
}

int ekv_manifest_settle(struct ekv_manifest *manifest, struct ekv_catalog *catalog, bool replayed)
{
    struct frames frames = {manifest->base,
                            {.sequence = manifest->end[0], .offset = manifest->end[1]}};
    if (manifest->failed)
        return EKV_READ_ONLY;
    if (manifest->settled)
        return EKV_OK;
    int error =
        replayed ? chain_new(manifest, NULL, &frames, true) : checkpoint(manifest, catalog, true);
    manifest->settled = error == EKV_OK;
    return error;
}
