/* Flash in an image file on the host, or on an MTD device (mtd.h), by the name it has.
 *
 * A writer holds an exclusive lock on the file, readers share one. Reads are in place, through a
 * mapping; programs and erases are stores to it, which ask nothing of the kernel: a pwrite(2) of a
 * page of flash costs ten times the copy. Where the file system cannot map a file to be written
 * they are written with pwrite. They are visible to readers when they return, survive the process
 * from then on, and a crash of the host after a sync, which is an fdatasync(2) and tells a failing
 * disk. The price: a stray pointer in the process can change the image. A device is read where it
 * is, without a mapping (see image_load); what it was given survives at once.
 *
 * A file that is truncated under its mapping, or a sparse one whose disk is full, would kill the
 * process at the next access. While an image is open, that signal is caught (mapping.h): pages that
 * are not there read as zeroes from then on, which no checksum takes for data, and every later
 * program, erase and sync fails. A file that was truncated elsewhere is noticed at the next sync.
 *
 * Functions return EKV_OK or a negative result, and leave one clear sentence in `error`. Nothing is
 * ever printed.
 */
#ifndef EKV_HOST_IMAGE_H
#define EKV_HOST_IMAGE_H

#include "flash.h"
#include "mapping.h"

enum image_mode {
    IMAGE_READ_WRITE,
    IMAGE_READ_ONLY, /* with the shared lock: nobody writes meanwhile */
    IMAGE_VIEW,      /* also while somebody writes: then a private copy of one moment of it */
};

/* Where in the file the flash lies. `size` 0: to the end of the file. Both are multiples of 512
 * (unless `loose`, for dumps: what is left over at the end is not used). */
struct image_window {
    uint64_t offset;
    uint64_t size;
    bool loose;
};

/* The erases that follow each other without more than a program between two. */
struct image_erases {
    uint64_t end;    /* of the last */
    uint64_t mapped; /* up to here the pages are mapped */
    uint32_t row, programs;
};

/* `flash` is what ekv_probe, ekv_format and ekv_mount take, with a geometry of 512-byte sectors
 * until somebody knows better; its context is this struct, so it must not move. `failed` is set
 * for good when bytes may have been lost; `error` says why. `copied` says that an IMAGE_VIEW is a
 * copy, because a writer has the image open. `device` is NULL for a file; of a device, `native` is
 * the geometry that a new store is to have, 0 for files. The rest is private. */
struct image {
    struct ekv_flash flash;
    char error[400];
    bool read_only;
    bool copied;
    bool failed;
    struct mtd *device;
    struct ekv_geometry native;

    int file;
    bool dirty;
    bool whole; /* no window was given */
    uint64_t offset;
    uint32_t size;
    struct mapping mapping;
    uint8_t *copy;
    struct image_erases erases;
    uint64_t sync_count;
    char name[200];
};

/* Opens an image or a device. `window` may be NULL: the whole of it.
 * Errors: EKV_IO (not there, no permission, reading failed), EKV_INVALID (neither a regular file
 * nor an MTD device that ekv can use, too small, window outside of it, size no multiple of 512 or
 * of erase blocks), EKV_BUSY (locked by somebody: the sentence says by whom), EKV_READ_ONLY
 * (writing asked of a device that cannot be written), EKV_MEMORY. On error there is nothing to
 * close. */
EKV_MUST_CHECK int image_open(struct image *image, const char *path, enum image_mode mode,
                              const struct image_window *window);

/* Makes a new file of `size` bytes (a multiple of 512), its blocks reserved on the disk, and opens
 * it for writing; an existing file is never touched. The file holds zeroes, so ekv_format must not
 * be told that it is blank. Errors: as image_open, EKV_FULL. */
EKV_MUST_CHECK int image_create(struct image *image, const char *path, uint64_t size);

/* Has all of the flash readable at `flash.map`, as files have it anyway: reads a device, which must
 * be open for reading, into memory. For who looks at every byte. Errors: EKV_IO, EKV_MEMORY. */
EKV_MUST_CHECK int image_load(struct image *image);

/* Checks the geometry that `flash` has by now, from the store: that the size is a multiple of the
 * sector, if no window was given; that the device, if it is to be written, can erase its sectors
 * and write its units. Errors: EKV_GEOMETRY. */
EKV_MUST_CHECK int image_check_sectors(struct image *image);

/* Whether the file is still there in full: not deleted, not truncated. Cheap (one fstat).
 * Errors: EKV_IO, with the sentence. A deleted image goes on working until it is closed; a
 * truncated one has failed. */
EKV_MUST_CHECK int image_check_file(struct image *image);

/* Unmaps, unlocks and closes. Does not sync: ekv_unmount does. */
void image_close(struct image *image);

#endif
