/* Finds single flipped bits by checksums, and applies them to what is read.
 *
 * More than one wrong bit looks like a single one only by chance: of n bits under a checksum, n in
 * 2^32; two to four wrong bits in up to 655 bytes never do.
 */
#include "mend.h"

#include "bytes.h"
#include "crc32c.h"

enum { PAGE = 256, HEAD = 7, CRC = 4 };

int ekv_mends_read(const struct ekv_mends *mends, const struct ekv_flash *flash, uint32_t address,
                   void *buffer, uint32_t size)
{
    uint8_t *bytes = buffer;
    int error = ekv_flash_read(flash, address, buffer, size);
    for (uint32_t i = 0; !error && i < mends->count; i++) {
        const struct ekv_mend *mend = &mends->list[i];
        if (mend->address >= address && mend->address - address < size)
            bytes[mend->address - address] ^= mend->mask;
    }
    return error;
}

const uint8_t *ekv_mends_map_mended(const struct ekv_mends *mends, const struct ekv_flash *flash,
                                    uint32_t address, uint32_t size)
{
    for (uint32_t i = 0; i < mends->count; i++) {
        const struct ekv_mend *mend = &mends->list[i];
        if (mend->page && mend->address / PAGE == address / PAGE && size <= PAGE - address % PAGE)
            return mends->pages + (mend->page - 1u) * PAGE + address % PAGE;
        if (mend->mask && mend->address >= address && mend->address - address < size)
            return NULL;
    }
    return flash->map + address;
}

bool ekv_mends_take(struct ekv_mends *mends)
{
    if (!ekv_mends_can_take(mends))
        return false;
    mends->list[mends->count++] = mends->suspect;
    mends->suspect.mask = 0;
    return true;
}

/* The whole size that the head says; 0 if it cannot be. */
static uint32_t said_size(const uint8_t *bytes, uint32_t room, struct ekv_sized sized)
{
    uint32_t size = (uint32_t)ekv_load(bytes + HEAD - sized.width, sized.width) + sized.more;
    return size >= HEAD && size <= room ? size : 0;
}

bool ekv_mend_find(uint8_t *bytes, uint32_t room, uint32_t seed, uint32_t address,
                   struct ekv_sized sized, struct ekv_mend *mend)
{
    uint32_t size = said_size(bytes, room, sized);
    *mend = (struct ekv_mend){.mask = 0};
    if (size > 0) {
        size_t place, covered = size - CRC;
        uint32_t wrong = ekv_load32(bytes) ^ ekv_crc32c(seed, bytes + CRC, covered);
        if (ekv_crc32c_flipped(wrong, covered, &place, &mend->mask)) {
            mend->begin = address;
            mend->address = address + (uint32_t)(place < covered ? place + CRC : place - covered);
            return true;
        }
    }
    /* With a wrong size the checksum was taken over too much or too little. */
    for (uint32_t bit = (HEAD - sized.width) * 8; bit < HEAD * 8 && mend->mask == 0; bit++) {
        uint8_t mask = (uint8_t)(1u << bit % 8);
        bytes[bit / 8] ^= mask;
        size = said_size(bytes, room, sized);
        if (size > 0 && ekv_load32(bytes) == ekv_crc32c(seed, bytes + CRC, size - CRC))
            *mend = (struct ekv_mend){.address = address + bit / 8, .begin = address, .mask = mask};
        bytes[bit / 8] ^= mask;
    }
    return mend->mask != 0;
}
