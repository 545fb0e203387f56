/* The flash driver interface: what ekv asks of a NOR flash.
 *
 * A flash is `sector_count` sectors of `sector_size` bytes. An erase sets a whole sector to 0xff; a
 * program clears bits, in multiples of `write_unit`, and ekv never programs a byte twice between
 * two erases (with the one exception that FORMAT.md names: the same bytes again after a power cut).
 * Addresses are bytes from the start of the flash. Everything here is checked against the geometry
 * before the driver is called.
 */
#ifndef EKV_FLASH_H
#define EKV_FLASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

enum {
    EKV_SECTOR_SIZE_MIN = 512,
    EKV_SECTOR_SIZE_MAX = 256 * 1024,
    EKV_SECTOR_COUNT_MIN = 8,
    EKV_WRITE_UNIT_MAX = 256,
};

/* All sizes in bytes. `sector_size` and `write_unit` are powers of two; a sector holds at least 16
 * write units. `program_once`: a part with ECC, where a write unit may not be programmed again even
 * with the same bytes; it costs one erase at the first write after each mount. */
struct ekv_geometry {
    uint32_t sector_size;
    uint32_t sector_count;
    uint32_t write_unit;
    bool program_once;
};

/* The driver. Functions return 0, or anything else for a failure, which ekv reports as EKV_IO.
 *   read:    copies `size` bytes from `address`. May be called by several readers at once if the
 *            caller mounts with locks; never touches what the driver handed out as `map`.
 *   program: writes `size` bytes, address and size multiples of the write unit; returns when the
 *            bytes are on the medium (on a host file: when they are visible to read).
 *   erase:   sets the sector with number `sector` to 0xff.
 *   sync:    may be NULL. Returns when all earlier programs and erases will survive a crash of the
 *            host. A NOR chip needs none; a host file does. With `barrier_only` it is enough that
 *            nothing later becomes durable before what came earlier.
 *   prefetch: may be NULL. `size` bytes of the mapped flash at `address` will be read soon: a
 *            processor with caches can fetch them meanwhile (Mowry, Lam and Gupta, 1992). Never
 *            called without a map.
 *
 * `map` of struct ekv_flash is NULL, or the whole flash readable in memory for as long as the store
 * is mounted. */
struct ekv_flash_driver {
    int (*read)(void *context, uint32_t address, void *buffer, uint32_t size);
    int (*program)(void *context, uint32_t address, const void *data, uint32_t size);
    int (*erase)(void *context, uint32_t sector);
    int (*sync)(void *context, bool barrier_only);
    void (*prefetch)(void *context, uint32_t address, uint32_t size);
};

struct ekv_flash {
    struct ekv_geometry geometry;
    const struct ekv_flash_driver *driver;
    void *context;
    const uint8_t *map;
};

/* Checks that ekv can use a geometry. Errors: EKV_GEOMETRY. Flash: nothing. */
EKV_MUST_CHECK int ekv_geometry_check(const struct ekv_geometry *geometry);

/* Size of the whole flash in bytes; at most 4 GiB - 1. */
static inline uint32_t ekv_flash_size(const struct ekv_flash *flash)
{
    return flash->geometry.sector_size * flash->geometry.sector_count;
}

/* True if a crash of the host can lose what was written since the last sync, and keep parts of it:
 * any 512-byte block may then be as it was at any moment since. */
static inline bool ekv_flash_unordered(const struct ekv_flash *flash)
{
    return flash->driver->sync != NULL;
}

enum { EKV_HOST_BLOCK = 512 };

/* The four operations, checked. Errors: EKV_IO when the driver failed, EKV_CORRUPT when the range
 * lies outside the flash (an address that came from flash lied). A misaligned program or an erase
 * out of bounds is a mistake of ekv and asserts. */
EKV_MUST_CHECK int ekv_flash_read(const struct ekv_flash *flash, uint32_t address, void *buffer,
                                  uint32_t size);
EKV_MUST_CHECK int ekv_flash_program(const struct ekv_flash *flash, uint32_t address,
                                     const void *data, uint32_t size);
EKV_MUST_CHECK int ekv_flash_erase(const struct ekv_flash *flash, uint32_t sector);
EKV_MUST_CHECK int ekv_flash_sync(const struct ekv_flash *flash, bool barrier_only);

/* Whether prefetching does anything. */
static inline bool ekv_flash_prefetches(const struct ekv_flash *flash)
{
    return flash->map && flash->driver->prefetch;
}

/* Nothing for what does not lie in the flash as a whole. */
void ekv_flash_prefetch(const struct ekv_flash *flash, uint32_t address, uint32_t size);

#endif
