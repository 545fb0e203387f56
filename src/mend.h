/* Bits that do not read as they were programmed: found by checksums, put right in memory.
 *
 * A checksum of 32 bits tells which one bit of what it covers, flipped, would make it fit; there is
 * at most one. A mount that cannot do without something damaged puts that bit right wherever it is
 * read, and writes nothing from then on.
 */
#ifndef EKV_MEND_H
#define EKV_MEND_H

#include "flash.h"

enum { EKV_MENDS_MAX = 8 };

struct ekv_mend {
    uint32_t address;
    uint32_t begin; /* of the stamp's sector, or of the record, page or frame that it is a bit of */
    uint8_t mask;   /* of the byte there; 0: it reads as it is on flash */
    bool value;     /* it is a bit of a value: right for replay alone, then not vouched for */
    uint8_t page;   /* n: its page of the index, put right, is the one before the nth of `pages` */
};

/* What is put right. `suspect` is what the mount would put right next if it fails; mask 0: it knows
 * of nothing. */
struct ekv_mends {
    struct ekv_mend list[EKV_MENDS_MAX];
    struct ekv_mend suspect;
    uint32_t count;
    const uint8_t *pages;
};

/* Reads from a flash and puts right what is to be. Errors: as ekv_flash_read. */
EKV_MUST_CHECK int ekv_mends_read(const struct ekv_mends *mends, const struct ekv_flash *flash,
                                  uint32_t address, void *buffer, uint32_t size);

/* The same in place: NULL if the flash is not mapped, or what is there must be put right and lies
 * in no page of `pages`. The range lies within the flash. */
const uint8_t *ekv_mends_map_mended(const struct ekv_mends *mends, const struct ekv_flash *flash,
                                    uint32_t address, uint32_t size);

static inline const uint8_t *ekv_mends_map(const struct ekv_mends *mends,
                                           const struct ekv_flash *flash, uint32_t address,
                                           uint32_t size)
{
    if (!flash->map)
        return NULL;
    return mends->count == 0 ? flash->map + address
                             : ekv_mends_map_mended(mends, flash, address, size);
}

static inline bool ekv_mends_can_take(const struct ekv_mends *mends)
{
    return mends->suspect.mask != 0 && mends->count < EKV_MENDS_MAX;
}

/* Makes `suspect` the next to be put right. False: there is none, or no room for it. */
bool ekv_mends_take(struct ekv_mends *mends);

/* How a page or a frame says its size: in the last `width` of its first seven bytes, `more` being
 * added. */
struct ekv_sized {
    uint8_t width;
    uint8_t more;
};

/* The one bit that explains a wrong checksum of a page or a frame: `room` bytes at `address` at
 * most, the first four of which are the checksum of the others. `bytes` are as before afterwards.
 */
bool ekv_mend_find(uint8_t *bytes, uint32_t room, uint32_t seed, uint32_t address,
                   struct ekv_sized sized, struct ekv_mend *mend);

#endif
