/* Reads the ring of the manifest: which sectors belong to which chain, and the frames of a chain.
 *
 * A power cut leaves at most the last frame of the newest chain torn; that, and the blank rest of a
 * page, is passed over in silence. A whole frame behind a torn one is damage.
 */
#include "ring.h"

#include "crc32c.h"

int ekv_ring_newest(const struct ekv_sectors *sectors, uint64_t limit, uint32_t *sector,
                    struct ekv_stamp_b *newest)
{
    int found = EKV_NOT_FOUND;
    for (uint32_t i = 0; i < sectors->format.ring_count; i++) {
        struct ekv_stamp_b stamp;
        int error = ekv_sector_stamp_read(sectors, i, &stamp);
        if (error < 0)
            return error;
        if (error || stamp.kind != EKV_KIND_MANIFEST || stamp.sequence >= limit)
            continue;
        if (found == EKV_OK && stamp.sequence < newest->sequence)
            continue;
        *sector = i;
        *newest = stamp;
        found = EKV_OK;
    }
    return found;
}

int ekv_ring_find(const struct ekv_sectors *sectors, uint32_t sequence, uint32_t *sector)
{
    struct ekv_stamp_b stamp;
    int error = ekv_ring_newest(sectors, (uint64_t)sequence + 1, sector, &stamp);
    return error ? error : stamp.sequence == sequence ? EKV_OK : EKV_NOT_FOUND;
}

int ekv_ring_frame(struct ekv_sectors *sectors, struct ekv_ring_place *place, uint8_t *type,
                   uint32_t *size)
{
    const struct ekv_format *format = &sectors->format;
    uint8_t *frame = sectors->scratch;
    uint32_t room = ekv_page_room(place->offset);
    if (room < EKV_FRAME_HEAD_SIZE || place->offset >= format->geometry.sector_size)
        return EKV_NOT_FOUND;
    int error =
        ekv_sectors_read(sectors, ekv_address(format, place->sector, place->offset), frame, room);
    if (error)
        return error;
    *type = frame[4];
    *size = (uint32_t)ekv_load(frame + 5, 2);
    if (*size > room - EKV_FRAME_HEAD_SIZE)
        return EKV_NOT_FOUND;
    uint32_t seed = ekv_format_seed(format, EKV_KIND_MANIFEST, place->sequence, place->offset);
    uint32_t crc = ekv_crc32c(seed, frame + 4, *size + EKV_FRAME_HEAD_SIZE - 4);
    if (ekv_load32(frame) != crc)
        return EKV_NOT_FOUND;
    place->offset += ekv_align(*size + EKV_FRAME_HEAD_SIZE, format->geometry.write_unit);
    return EKV_OK;
}

/* The one bit that explains why no frame is at the place whose page the scratch page holds: one of
 * a frame, or in blank flash. Mask 0: none does. */
static struct ekv_mend find_flipped(struct ekv_sectors *sectors, const struct ekv_ring_place *place)
{
    uint8_t *bytes = sectors->scratch, wrong = 0;
    struct ekv_mend mend, none = {.mask = 0};
    uint32_t room = ekv_page_room(place->offset), at = 0, count = 0;
    uint32_t address = ekv_address(&sectors->format, place->sector, place->offset);
    uint32_t seed =
        ekv_format_seed(&sectors->format, EKV_KIND_MANIFEST, place->sequence, place->offset);
    if (ekv_mend_find(bytes, room, seed, address, (struct ekv_sized){2, EKV_FRAME_HEAD_SIZE},
                      &mend))
        return mend;
    for (uint32_t i = 0; i < room; i++) {
        if (bytes[i] == 0xff)
            continue;
        at = i;
        count++;
        wrong = (uint8_t)~bytes[i];
    }
    if (count != 1 || (wrong & (wrong - 1)) != 0)
        return none;
    return (struct ekv_mend){.address = address + at, .begin = address, .mask = wrong};
}

/* Where no frame is: looks for one behind it in the chain, up to sequence number `last`. One frame
 * at most was in flight when power was lost, and it was the last: a whole one behind it means
 * damage. A host that crashed may have lost any frame of a checkpoint that no edit follows yet. */
static int frame_behind(struct ekv_sectors *sectors, struct ekv_ring_place place, uint32_t last)
{
    const struct ekv_format *format = &sectors->format;
    uint8_t type;
    uint32_t size;
    for (;;) {
        place.offset += format->geometry.write_unit;
        if (place.offset >= format->geometry.sector_size) {
            if (place.sequence >= last)
                return EKV_NOT_FOUND;
            int error = ekv_ring_find(sectors, ++place.sequence, &place.sector);
            if (error)
                return error == EKV_NOT_FOUND ? EKV_CORRUPT : error;
            place.offset = format->body_offset;
        }
        struct ekv_ring_place behind = place;
        int error = ekv_ring_frame(sectors, &behind, &type, &size);
        bool lost = ekv_flash_unordered(&sectors->flash) && error == EKV_OK &&
                    (type & ~EKV_FRAME_FINAL) == EKV_FRAME_CHECKPOINT;
        if (error != EKV_NOT_FOUND && !lost)
            return error;
    }
}

/* True if the rest of the page that ekv_ring_frame just read at the place is blank. */
static bool rest_is_blank(const struct ekv_sectors *sectors, const struct ekv_ring_place *place)
{
    uint32_t room = ekv_page_room(place->offset);
    if (room < EKV_FRAME_HEAD_SIZE)
        return true; /* no frame begins there */
    for (uint32_t i = 0; i < room; i++)
        if (sectors->scratch[i] != 0xff)
            return false;
    return true;
}

int ekv_ring_next(struct ekv_sectors *sectors, struct ekv_ring_place *place, uint32_t last,
                  uint8_t *type, uint32_t *size)
{
    const struct ekv_format *format = &sectors->format;
    for (;;) {
        for (uint32_t i = 0; i < 2; i++) {
            struct ekv_ring_place at = *place;
            at.offset += i == 1 ? ekv_page_room(at.offset) : 0;
            if (at.offset >= format->geometry.sector_size)
                break;
            struct ekv_ring_place behind = at;
            int error = ekv_ring_frame(sectors, &behind, type, size);
            if (error == EKV_OK)
                *place = behind;
            if (error != EKV_NOT_FOUND)
                return error;
            if (!rest_is_blank(sectors, &at)) {
                place->torn = true;
                place->flipped = find_flipped(sectors, &at);
                error = frame_behind(sectors, at, last);
                return error == EKV_OK ? EKV_CORRUPT : error;
            }
        }
        if (place->sequence >= last)
            return EKV_NOT_FOUND;
        int error = ekv_ring_find(sectors, place->sequence + 1, &place->sector);
        if (error == EKV_NOT_FOUND && place->sequence + 1 < last)
            return EKV_CORRUPT; /* that of the last sector may have been in flight */
        if (error)
            return error;
        place->sequence++;
        place->offset = format->body_offset;
    }
}

/* Edits in a sector of the ring if its sequence number is `sequence`. */
static int count_edits(struct ekv_sectors *sectors, uint32_t sector, uint32_t sequence,
                       uint32_t *count)
{
    struct ekv_ring_place place = {
        .sector = sector, .sequence = sequence, .offset = sectors->format.body_offset};
    uint8_t type;
    uint32_t size;
    int error = ekv_ring_frame(sectors, &place, &type, &size);
    *count = 0;
    while (!error) {
        *count += type == (EKV_FRAME_EDIT | EKV_FRAME_FINAL);
        error = ekv_ring_next(sectors, &place, sequence, &type, &size);
    }
    return error == EKV_IO ? error : EKV_OK;
}

/* A sector's stamp is programmed before its first frame: where a frame is whole and the stamp is
 * not, the stamp was damaged. Sectors are erased only when their chain is older than the one that
 * counts. With a whole stamp the sector was passed over because its chain has no whole checkpoint
 * with a frame behind it. That frame may have been in flight; if there are two edits it was not. */
int ekv_ring_newer(struct ekv_sectors *sectors, uint32_t last)
{
    uint32_t ring = sectors->format.ring_count, sector, edits = 0;
    struct ekv_stamp_b newest, stamp;
    int error = ekv_ring_newest(sectors, UINT64_MAX, &sector, &newest);
    if (error)
        return error;
    for (sector = 0; sector < ring; sector++) {
        /* As far as the number of a new chain can lie ahead, see manifest.c; but stamps may lie. */
        uint32_t reach = 2 + (ring + 1) * (ring / 3 + 1);
        uint32_t ahead = newest.sequence > last ? newest.sequence - last : 0;
        uint32_t first = last + 1, behind = first + ekv_min(ahead, reach) + reach;
        struct ekv_ring_place place = {.sector = sector, .offset = sectors->format.body_offset};
        uint8_t type;
        uint32_t size;
        error = ekv_sector_stamp_read(sectors, sector, &stamp);
        bool stamped = error == EKV_OK;
        if (!error && stamp.sequence <= last)
            continue;
        if (!error) {
            first = stamp.sequence;
            behind = first + 1;
        } else if (error == EKV_NOT_FOUND) {
            error = ekv_ring_frame(sectors, &place, &type, &size);
            if (error == EKV_NOT_FOUND && rest_is_blank(sectors, &place))
                continue;
        }
        for (uint32_t sequence = first; error >= 0 && sequence < behind; sequence++) {
            error = count_edits(sectors, sector, sequence, &edits);
            if (!error && edits > (stamped ? 1 : 0))
                return EKV_CORRUPT;
        }
        if (error < 0)
            return error;
    }
    return EKV_OK;
}

bool ekv_ring_stamp_flipped(struct ekv_sectors *sectors, struct ekv_mend *mend)
{
    uint32_t last = 0;
    mend->mask = 0;
    for (uint32_t i = 0; i < sectors->format.ring_count; i++) {
        struct ekv_stamp_b stamp;
        struct ekv_mend flipped;
        uint8_t type;
        uint32_t size;
        if (ekv_sector_stamp_read(sectors, i, &stamp) != EKV_NOT_FOUND ||
            !ekv_sector_stamp_flipped(sectors, i, &stamp, &flipped) ||
            stamp.kind != EKV_KIND_MANIFEST || stamp.sequence <= last)
            continue;
        struct ekv_ring_place place = {
            .sector = i, .sequence = stamp.sequence, .offset = sectors->format.body_offset};
        if (ekv_ring_frame(sectors, &place, &type, &size))
            continue;
        last = stamp.sequence;
        *mend = flipped;
    }
    return mend->mask != 0;
}
