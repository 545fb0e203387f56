/* Flash on an MTD device: what the device is, locks, and the driver.
 *
 * libmtd tells the geometry and erases, writes and unlocks. What it is not used for, and why: its
 * mtd_read spins when the device ends early, and moves the one file offset that mtd_write needs, so
 * reads are pread(2), which any number of threads may do beside the writer. It prints what goes
 * wrong; the build redirects its `stderr` to the stream below, and errno becomes our own sentence.
 *
 * A sector may be several erase blocks (they may be as small as 256 bytes): its erase goes from the
 * last block to the first, so that the stamp at the sector's begin, which proves an erase, is the
 * last that goes away and never survives what follows it.
 *
 * Invariant: nothing outside of the window is ever programmed, erased or unlocked.
 */
#define _GNU_SOURCE
#include "mtd.h"

#include <errno.h>
#include <fcntl.h>
#include <libmtd.h>
#include <mtd/mtd-user.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lock.h"

enum { UNIT = 512, UNITS_PER_SECTOR_MIN = 16 };

struct mtd {
    libmtd_t library;
    struct mtd_dev_info info;
    struct ekv_flash *flash;
    int file;
    int lock_file; /* may be `file` */
    uint64_t offset;
    uint32_t size;
    bool write;
    char *error;
    size_t error_size;
    char name[200];
};

/* What libmtd takes for `stderr` (see CMakeLists.txt). */
extern FILE *ekv_libmtd_stderr;
FILE *ekv_libmtd_stderr;

__attribute__((format(printf, 3, 4))) static int fail(struct mtd *mtd, int result,
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(mtd->error, mtd->error_size, format, arguments);
    va_end(arguments);
    return result;
}

/* What an errno of the MTD layer means here. */
static const char *reason(int number)
{
    switch (number) {
    case EROFS:
        return "it is write-protected";
    case ENODEV:
    case ENXIO:
        return "there is no such device (any more): see /proc/mtd";
    case EBADMSG:
        return "its error correction gave up";
    default:
        return strerror(number);
    }
}

/* --- The driver ------------------------------------------------------------------------------ */

static bool in_bounds(const struct mtd *mtd, uint64_t address, uint64_t size)
{
    return address <= mtd->size && size <= mtd->size - address;
}

static int mtd_driver_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    struct mtd *mtd = context;
    uint8_t *bytes = buffer;
    if (!in_bounds(mtd, address, size))
        return -1;
    for (uint32_t done = 0; done < size;) {
        ssize_t got =
            pread(mtd->file, bytes + done, size - done, (off_t)(mtd->offset + address + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return fail(mtd, -1, "%s cannot be read at 0x%llx: %s", mtd->name,
                        (unsigned long long)mtd->offset + address + done,
                        got < 0 ? reason(errno) : "the device ends there");
        done += (uint32_t)got;
    }
    return 0;
}

static int mtd_driver_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    struct mtd *mtd = context;
    uint8_t *bytes = (uint8_t *)(uintptr_t)data; /* which libmtd only reads */
    if (!mtd->write || !in_bounds(mtd, address, size))
        return -1;
    while (size > 0) {
        uint64_t at = mtd->offset + address;
        uint32_t block_size = (uint32_t)mtd->info.eb_size;
        uint32_t block_offset = (uint32_t)(at % block_size);
        uint32_t part = size < block_size - block_offset ? size : block_size - block_offset;
        if (mtd_write(mtd->library, &mtd->info, mtd->file, (int)(at / block_size),
                      (int)block_offset, bytes, (int)part, NULL, 0, 0) != 0)
            return fail(mtd, -1, "%s cannot be written at 0x%llx: %s", mtd->name,
                        (unsigned long long)at, reason(errno));
        bytes += part;
        address += part;
        size -= part;
    }
    return 0;
}

static int mtd_driver_erase(void *context, uint32_t sector)
{
    struct mtd *mtd = context;
    uint32_t size = mtd->flash->geometry.sector_size, block_size = (uint32_t)mtd->info.eb_size;
    uint64_t address = (uint64_t)sector * size;
    if (!mtd->write || !in_bounds(mtd, address, size) || size % block_size != 0)
        return -1;
    uint64_t first = (mtd->offset + address) / block_size;
    for (uint64_t block = first + size / block_size; block-- > first;)
        if (mtd_erase(mtd->library, &mtd->info, mtd->file, (int)block) != 0)
            return fail(mtd, -1, "%s cannot be erased at 0x%llx: %s", mtd->name,
                        (unsigned long long)(block * block_size), reason(errno));
    return 0;
}

static const struct ekv_flash_driver driver = {
    .read = mtd_driver_read, .program = mtd_driver_program, .erase = mtd_driver_erase};

/* --- Which device it is ---------------------------------------------------------------------- */

static int find_device(struct mtd *mtd, const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return fail(mtd, EKV_IO, "%s cannot be examined: %s", mtd->name, strerror(errno));
    if (!ekv_libmtd_stderr)
        ekv_libmtd_stderr = fopen("/dev/null", "we");
    if (!ekv_libmtd_stderr)
        ekv_libmtd_stderr = stderr;
    errno = 0;
    mtd->library = libmtd_open();
    if (!mtd->library && errno == 0)
        return fail(mtd, EKV_IO, "%s cannot be used: this kernel has no MTD (modprobe mtd)",
                    mtd->name);
    if (!mtd->library)
        return fail(mtd, EKV_IO, "%s cannot be used: libmtd could not start: %s", mtd->name,
                    strerror(errno));
    /* By number: libmtd does not know the node of the read-only twin, which has the odd one. */
    if (mtd_get_dev_info1(mtd->library, (int)(minor(status.st_rdev) / 2), &mtd->info) != 0)
        return fail(mtd, EKV_IO, "%s cannot be used: %s", mtd->name, reason(errno));
    if (minor(status.st_rdev) % 2 == 1)
        mtd->info.writable = 0;
    return EKV_OK;
}

static int check_kind(struct mtd *mtd)
{
    switch (mtd->info.type) {
    case MTD_NORFLASH:
    case MTD_RAM:
    case MTD_DATAFLASH:
    case MTD_ROM:
        return EKV_OK;
    case MTD_NANDFLASH:
    case MTD_MLCNANDFLASH:
        return fail(mtd, EKV_INVALID,
                    "%s is %s flash, which loses bits and has bad blocks: ekv is for NOR; use UBI "
                    "and UBIFS there",
                    mtd->name, mtd->info.type_str);
    default:
        return fail(mtd, EKV_INVALID, "%s is of the kind \"%s\": ekv is for NOR, RAM and DataFlash",
                    mtd->name, mtd->info.type_str);
    }
}

static bool is_power_of_two(uint32_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* The smallest sector that consists of whole erase blocks. */
static int check_blocks(struct mtd *mtd, struct ekv_geometry *native)
{
    uint32_t block_size = (uint32_t)mtd->info.eb_size, unit = (uint32_t)mtd->info.min_io_size;
    if (!is_power_of_two(block_size) || !is_power_of_two(unit) || unit > EKV_WRITE_UNIT_MAX ||
        block_size > EKV_SECTOR_SIZE_MAX)
        return fail(mtd, EKV_INVALID,
                    "%s erases %u and writes %u bytes at a time: ekv needs powers of two, at most "
                    "%d and %d",
                    mtd->name, block_size, unit, EKV_SECTOR_SIZE_MAX, EKV_WRITE_UNIT_MAX);
    struct mtd_info_user user = {0};
    *native = (struct ekv_geometry){.sector_size = block_size, .write_unit = unit};
    while (native->sector_size < EKV_SECTOR_SIZE_MIN ||
           native->sector_size / unit < UNITS_PER_SECTOR_MIN)
        native->sector_size *= 2;
    if (mtd->info.type == MTD_NORFLASH && ioctl(mtd->file, MEMGETINFO, &user) == 0)
        native->program_once = !(user.flags & MTD_BIT_WRITEABLE);
    return EKV_OK;
}

static int place_window(struct mtd *mtd, uint64_t offset, uint64_t size,
                        const struct ekv_geometry *native)
{
    uint64_t whole = (uint64_t)mtd->info.size;
    if (offset > whole || size > whole - offset)
        return fail(mtd, EKV_INVALID, "%s has %llu bytes, which do not reach to %llu", mtd->name,
                    (unsigned long long)whole, (unsigned long long)(offset + size));
    if (size == 0)
        size = (whole - offset) / native->sector_size * native->sector_size;
    if (offset % (uint64_t)mtd->info.eb_size != 0 || size % native->sector_size != 0)
        return fail(mtd, EKV_INVALID,
                    "%s has sectors of %u bytes: offset and size must be multiples of that",
                    mtd->name, native->sector_size);
    if (size / native->sector_size < EKV_SECTOR_COUNT_MIN)
        return fail(mtd, EKV_INVALID,
                    "%s is too small: %llu bytes, but %d sectors of %u are the least", mtd->name,
                    (unsigned long long)size, EKV_SECTOR_COUNT_MIN, native->sector_size);
    if (size > UINT32_MAX)
        return fail(mtd, EKV_INVALID,
                    "%s is too large: %llu bytes; name a part of less than 4 GiB by offset and "
                    "size",
                    mtd->name, (unsigned long long)size);
    mtd->offset = offset;
    mtd->size = (uint32_t)size;
    return EKV_OK;
}

/* --- Opening --------------------------------------------------------------------------------- */

static int open_file(struct mtd *mtd, const char *path)
{
    if (mtd->write && !mtd->info.writable)
        return fail(mtd, EKV_READ_ONLY, "%s is read-only and cannot be opened for writing",
                    mtd->name);
    mtd->file = open(path, (mtd->write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (mtd->file < 0)
        return fail(mtd, EKV_IO, "%s cannot be opened for %s: %s", mtd->name,
                    mtd->write ? "writing" : "reading", reason(errno));
    return EKV_OK;
}

/* Several nodes may lead to the device; all lock the one that bears its name, if it is there. */
static int take_lock(struct mtd *mtd, bool *busy)
{
    char path[40], holder[80];
    struct stat own, named;
    snprintf(path, sizeof path, "/dev/mtd%d", mtd->info.mtd_num);
    mtd->lock_file = mtd->file;
    if (fstat(mtd->file, &own) == 0 && stat(path, &named) == 0 && mtd_is_device(&named) &&
        minor(named.st_rdev) / 2 == (unsigned)mtd->info.mtd_num &&
        (named.st_ino != own.st_ino || named.st_dev != own.st_dev)) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        mtd->lock_file = file >= 0 ? file : mtd->file;
    }
    int error = lock_take(mtd->lock_file, mtd->write, holder, sizeof holder);
    if (error == EKV_IO)
        return fail(mtd, EKV_IO, "%s cannot be locked: %s", mtd->name, strerror(errno));
    if (error && busy) {
        *busy = true;
        return EKV_OK;
    }
    if (error)
        lock_explain(mtd->error, mtd->error_size, mtd->name, holder, "device", mtd->write);
    return error;
}

/* The first erase block of some that the chip holds locked; their end if none, -1 if it cannot
 * tell.
 */
static int find_locked(const struct mtd *mtd, int block, int end)
{
    int locked = 0;
    while (block < end && (locked = mtd_is_locked(&mtd->info, mtd->file, block)) == 0)
        block++;
    return locked < 0 ? -1 : block;
}

/* Unlocks what is locked: all at once, since chips lock large ranges that may have no other parts,
 * and then one by one what is left. Where the chip cannot tell, those that say that they are locked
 * when the power comes are unlocked; a failure of that shows at the first write. */
static int unlock_blocks(struct mtd *mtd)
{
    struct mtd_info_user user = {0};
    int block_size = mtd->info.eb_size;
    int first = (int)(mtd->offset / (uint64_t)block_size);
    int count = (int)(mtd->size / (uint32_t)block_size), end = first + count;
    int block = find_locked(mtd, first, end);
    if (block < 0 && ioctl(mtd->file, MEMGETINFO, &user) == 0 && !(user.flags & MTD_POWERUP_LOCK))
        return EKV_OK;
    if (block == end)
        return EKV_OK;
    (void)!mtd_unlock_multi(&mtd->info, mtd->file, first, count);
    while (block >= 0 && (block = find_locked(mtd, block, end)) >= 0 && block < end)
        if (mtd_unlock(&mtd->info, mtd->file, block) != 0 ||
            mtd_is_locked(&mtd->info, mtd->file, block) == 1)
            return fail(mtd, EKV_READ_ONLY,
                        "%s is locked at 0x%llx and cannot be unlocked: look at the chip's "
                        "write-protect pin, or use flash_unlock(1)",
                        mtd->name, (unsigned long long)block * (unsigned)block_size);
    return EKV_OK;
}

static int open_steps(struct mtd *mtd, const char *path, bool *busy, uint64_t offset, uint64_t size,
                      struct ekv_geometry *native)
{
    int error = find_device(mtd, path);
    if (!error)
        error = check_kind(mtd);
    if (!error)
        error = open_file(mtd, path);
    if (!error)
        error = check_blocks(mtd, native);
    if (!error)
        error = place_window(mtd, offset, size, native);
    if (!error)
        error = take_lock(mtd, busy);
    if (!error && mtd->write)
        error = unlock_blocks(mtd);
    return error;
}

int mtd_open(struct mtd **opened, const char *path, bool write, bool *busy, uint64_t offset,
             uint64_t size, struct ekv_flash *flash, struct ekv_geometry *native, char *error,
             size_t error_size)
{
    struct mtd *mtd = calloc(1, sizeof *mtd);
    *opened = NULL;
    if (!mtd) {
        snprintf(error, error_size, "there is no memory to open %s", path);
        return EKV_MEMORY;
    }
    mtd->file = mtd->lock_file = -1;
    mtd->write = write;
    mtd->flash = flash;
    mtd->error = error;
    mtd->error_size = error_size;
    snprintf(mtd->name, sizeof mtd->name, "%s", path);
    int result = open_steps(mtd, path, busy, offset, size, native);
    if (result) {
        mtd_close(mtd);
        return result;
    }
    native->sector_count = mtd->size / native->sector_size;
    flash->geometry = (struct ekv_geometry){UNIT, mtd->size / UNIT, 1, false};
    flash->driver = &driver;
    flash->context = mtd;
    *opened = mtd;
    return EKV_OK;
}

int mtd_file(const struct mtd *mtd)
{
    return mtd->file;
}

void mtd_close(struct mtd *mtd)
{
    if (!mtd)
        return;
    if (mtd->lock_file >= 0 && mtd->lock_file != mtd->file)
        close(mtd->lock_file);
    if (mtd->file >= 0)
        close(mtd->file);
    if (mtd->library)
        libmtd_close(mtd->library);
    free(mtd);
}
