/* The ring of sectors at the begin of the flash that holds the manifest, as it is read. */
#ifndef EKV_RING_H
#define EKV_RING_H

#include "sector.h"

/* A place in a chain. */
struct ekv_ring_place {
    uint32_t sector;
    uint32_t sequence;
    uint32_t offset;
    bool torn;               /* no frame is here, but something was programmed */
    struct ekv_mend flipped; /* if torn: the one bit that explains it; mask 0: none does */
};

/* The ring sector with the largest sequence number below `limit`, or with that number.
 * Errors: EKV_NOT_FOUND. Flash: reads the stamps of the ring. */
EKV_MUST_CHECK int ekv_ring_newest(const struct ekv_sectors *sectors, uint64_t limit,
                                   uint32_t *sector, struct ekv_stamp_b *newest);
EKV_MUST_CHECK int ekv_ring_find(const struct ekv_sectors *sectors, uint32_t sequence,
                                 uint32_t *sector);

/* Reads the frame at a place into the scratch page of `sectors` and moves the place behind it.
 * Errors: EKV_NOT_FOUND (no whole frame here). */
EKV_MUST_CHECK int ekv_ring_frame(struct ekv_sectors *sectors, struct ekv_ring_place *place,
                                  uint8_t *type, uint32_t *size);

/* The next frame: here, or behind the blank rest of the page at the next one, or of the sector in
 * the chain's next sector, up to the one with the number `last`.
 * Errors: EKV_NOT_FOUND (the chain ends here, `torn` if not in blank flash), EKV_CORRUPT (a frame
 * behind a torn one). */
EKV_MUST_CHECK int ekv_ring_next(struct ekv_sectors *sectors, struct ekv_ring_place *place,
                                 uint32_t last, uint8_t *type, uint32_t *size);

/* EKV_CORRUPT if the ring holds frames of a newer chain, or of a newer sector of a chain, than the
 * one that ends with the number `last`, which a mount would have found if a stamp were not damaged.
 * Flash: reads the stamps of the ring, and sectors that have none. */
EKV_MUST_CHECK int ekv_ring_newer(struct ekv_sectors *sectors, uint32_t last);

/* True if one bit explains that stamp B of a sector of the ring cannot be read, and that sector
 * holds a frame with the number that the stamp says without it; of several, the one with the
 * largest. Flash: reads the stamps of the ring, and frames. */
bool ekv_ring_stamp_flipped(struct ekv_sectors *sectors, struct ekv_mend *mend);

#endif
