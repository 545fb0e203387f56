/* Flash on a Linux MTD device, /dev/mtdN, through libmtd: NOR, RAM and DataFlash kinds. image.h
 * opens these as it opens files; nothing else calls this.
 *
 * What a program or an erase has changed is on the chip when it returns: there is nothing to sync,
 * and fsync(2) on such a device fails whatever it holds.
 *
 * One thread programs and erases at a time, any number read meanwhile. Functions leave one clear
 * sentence in the buffer given to mtd_open; nothing is ever printed.
 */
#ifndef EKV_HOST_MTD_H
#define EKV_HOST_MTD_H

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "flash.h"

struct mtd;

/* Whether a file is the character device of an MTD; whether it is the block device of one, which
 * erases behind its user's back and is of no use here. */
static inline bool mtd_is_device(const struct stat *status)
{
    return S_ISCHR(status->st_mode) && major(status->st_rdev) == 90;
}

static inline bool mtd_is_block_device(const struct stat *status)
{
    return S_ISBLK(status->st_mode) && major(status->st_rdev) == 31;
}

/* Opens a device, makes `flash` one of 512-byte sectors on the window (multiples of the erase
 * block; size 0: to the end of the device), and says in `native` what a new store is to be: the
 * smallest sector and write unit that ekv can use here. For writing it is opened, locked against
 * others (under whatever name they open it), and its erase blocks are unlocked where the chip has
 * them locked. `busy` may be NULL; else a device that somebody writes is opened all the same, and
 * `busy` says so. `flash` must not move.
 * Errors: EKV_READ_ONLY (writing asked of a device that cannot be written), EKV_INVALID (NAND and
 * other kinds, blocks that ekv cannot use, a window outside of the device, built without libmtd),
 * EKV_BUSY, EKV_IO, EKV_MEMORY.
 * Flash: nothing; unlocking changes the chip's lock bits. */
EKV_MUST_CHECK int mtd_open(struct mtd **mtd, const char *path, bool write, bool *busy,
                            uint64_t offset, uint64_t size, struct ekv_flash *flash,
                            struct ekv_geometry *native, char *error, size_t error_size);

/* The open device, for who reads it without the driver, and where on it the flash begins. */
int mtd_file(const struct mtd *mtd);

/* Unlocks and closes; NULL is allowed. What was unlocked on the chip stays so. */
void mtd_close(struct mtd *mtd);

#endif
