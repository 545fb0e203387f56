/* Takes sectors of the manifest's ring for chains.
 *
 * Invariants: a sector of the ring is erased only if it belongs neither to the current chain nor to
 * one that a mount might still fall back to; in one that is ready nothing was programmed but stamp
 * A since this session erased it.
 *
 * A power cut leaves a sector that was erased, or half erased, and has no stamp B: whoever takes it
 * erases it once more.
 */
#include "chain.h"

#include "ring.h"

static const struct ekv_format *format_of(const struct ekv_manifest *manifest)
{
    return &manifest->sectors->format;
}

uint32_t ekv_chain_max(const struct ekv_manifest *manifest)
{
    return format_of(manifest)->ring_count / 3;
}

static bool is_guarded(const struct ekv_manifest *manifest, uint32_t sequence)
{
    for (uint32_t i = 0; i < 2; i++)
        if (sequence >= manifest->guarded[i][0] && sequence < manifest->guarded[i][1])
            return true;
    return sequence >= manifest->base && sequence <= manifest->sequence;
}

/* True if the sector can be taken: no chain that counts, or might, has it. */
static bool is_usable(const struct ekv_manifest *manifest, uint32_t sector)
{
    struct ekv_stamp_b stamp;
    if (ekv_sector_state(manifest->sectors, sector) == EKV_SECTOR_RETIRED)
        return false;
    int error = ekv_sector_stamp_read(manifest->sectors, sector, &stamp);
    return error >= 0 &&
           (error || stamp.kind != EKV_KIND_MANIFEST || !is_guarded(manifest, stamp.sequence));
}

/* --- Erased ahead ---------------------------------------------------------------------------- */

static bool is_ready(const struct ekv_manifest *manifest, uint32_t sector)
{
    for (uint32_t i = 0; i < manifest->ready_count; i++)
        if (manifest->ready[i] == sector)
            return true;
    return false;
}

static void forget_ready(struct ekv_manifest *manifest, uint32_t sector)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < manifest->ready_count; i++)
        if (manifest->ready[i] != sector)
            manifest->ready[kept++] = manifest->ready[i];
    manifest->ready_count = kept;
}

/* Erases a sector of the ring, if need be. Format has erased them all, and numbers go with places
 * only on the first turn of the ring, and only if no program or erase in it failed and no power cut
 * made a recovery skip numbers: so whatever has such a number comes first in its sector. */
static int erase(struct ekv_manifest *manifest, uint32_t sector, uint32_t number)
{
    bool erased = is_ready(manifest, sector);
    forget_ready(manifest, sector);
    if (!erased && number == sector + 1) {
        int error = ekv_sector_looks_erased(manifest->sectors, sector, &erased);
        if (error)
            return error;
    }
    return erased ? EKV_OK : ekv_sector_erase(manifest->sectors, sector);
}

int ekv_chain_prepare(struct ekv_manifest *manifest, uint32_t count)
{
    uint32_t ring = format_of(manifest)->ring_count, number = manifest->sequence;
    for (uint32_t i = 1; i <= ring && manifest->ready_count < ekv_min(count, EKV_CHAIN_READY_MAX);
         i++) {
        uint32_t sector = (manifest->sector + i) % ring;
        if (!is_usable(manifest, sector))
            continue;
        number++;
        if (is_ready(manifest, sector))
            continue;
        int error = erase(manifest, sector, number);
        if (!error)
            manifest->ready[manifest->ready_count++] = sector;
        return error;
    }
    return EKV_NOT_FOUND;
}

/* --- The next sector ------------------------------------------------------------------------- */

int ekv_chain_extend(struct ekv_manifest *manifest, uint32_t sequence, uint32_t base, bool suspect)
{
    uint32_t count = format_of(manifest)->ring_count;
    /* A crash of the host must not leave this sector and take the one before it in the chain. */
    int error = base == EKV_NO_SECTOR ? EKV_OK : ekv_flash_sync(&manifest->sectors->flash, true);
    if (error)
        return error;
    for (uint32_t i = 1; i <= count; i++) {
        uint32_t sector = (manifest->sector + i) % count;
        if (!is_usable(manifest, sector))
            continue;
        uint32_t number =
            suspect ? sequence + 1 + sector * (ekv_chain_max(manifest) + 1) : sequence;
        uint32_t begin = base == EKV_NO_SECTOR ? number : base;
        struct ekv_stamp_b stamp = {.kind = EKV_KIND_MANIFEST,
                                    .sequence = number,
                                    .next = number - begin,
                                    .virgin = EKV_NO_SECTOR};
        error = erase(manifest, sector, number);
        if (!error)
            error = ekv_sector_stamp(manifest->sectors, sector, &stamp);
        if (error == EKV_IO && !ekv_sectors_failing(manifest->sectors)) {
            ekv_sector_set(manifest->sectors, sector, EKV_SECTOR_RETIRED);
            if (base != EKV_NO_SECTOR)
                return EKV_IO;
            suspect = true;
            continue;
        }
        if (error)
            return error;
        manifest->sector = sector;
        manifest->sequence = number;
        manifest->base = begin;
        manifest->offset = format_of(manifest)->body_offset;
        return EKV_OK;
    }
    return EKV_IO;
}
