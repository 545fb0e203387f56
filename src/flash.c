/* The driver interface's checks: no address reaches a driver that its geometry does not hold.
 *
 * Reads take addresses that came from flash, so a bad one is an answer (EKV_CORRUPT); programs and
 * erases take addresses that ekv chose, so a bad one is a mistake in ekv and stops it.
 */
#include "flash.h"

#include <assert.h>
#include <string.h>

static bool is_power_of_two(uint32_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

int ekv_geometry_check(const struct ekv_geometry *geometry)
{
    if (!is_power_of_two(geometry->sector_size) || !is_power_of_two(geometry->write_unit))
        return EKV_GEOMETRY;
    if (geometry->sector_size < EKV_SECTOR_SIZE_MIN || geometry->sector_size > EKV_SECTOR_SIZE_MAX)
        return EKV_GEOMETRY;
    if (geometry->write_unit > EKV_WRITE_UNIT_MAX ||
        geometry->sector_size / geometry->write_unit < 16)
        return EKV_GEOMETRY;
    if (geometry->sector_count < EKV_SECTOR_COUNT_MIN || geometry->sector_count >= 0xffffff)
        return EKV_GEOMETRY;
    if (geometry->sector_count > UINT32_MAX / geometry->sector_size)
        return EKV_GEOMETRY;
    return EKV_OK;
}

static bool in_bounds(const struct ekv_flash *flash, uint32_t address, uint32_t size)
{
    uint32_t flash_size = ekv_flash_size(flash);
    return address <= flash_size && size <= flash_size - address;
}

int ekv_flash_read(const struct ekv_flash *flash, uint32_t address, void *buffer, uint32_t size)
{
    if (!in_bounds(flash, address, size))
        return EKV_CORRUPT;
    if (flash->map) {
        memcpy(buffer, flash->map + address, size);
        return EKV_OK;
    }
    return flash->driver->read(flash->context, address, buffer, size) ? EKV_IO : EKV_OK;
}

int ekv_flash_program(const struct ekv_flash *flash, uint32_t address, const void *data,
                      uint32_t size)
{
    assert(in_bounds(flash, address, size));
    assert(address % flash->geometry.write_unit == 0 && size % flash->geometry.write_unit == 0);
    return flash->driver->program(flash->context, address, data, size) ? EKV_IO : EKV_OK;
}

int ekv_flash_erase(const struct ekv_flash *flash, uint32_t sector)
{
    assert(sector < flash->geometry.sector_count);
    return flash->driver->erase(flash->context, sector) ? EKV_IO : EKV_OK;
}

int ekv_flash_sync(const struct ekv_flash *flash, bool barrier_only)
{
    if (!flash->driver->sync)
        return EKV_OK;
    return flash->driver->sync(flash->context, barrier_only) ? EKV_IO : EKV_OK;
}

void ekv_flash_prefetch(const struct ekv_flash *flash, uint32_t address, uint32_t size)
{
    if (ekv_flash_prefetches(flash) && in_bounds(flash, address, size))
        flash->driver->prefetch(flash->context, address, size);
}
