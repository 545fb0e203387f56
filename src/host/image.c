/* Flash in an image file: opening, and the four driver functions. Devices are handed to mtd.h.
 *
 * Invariants: once `failed` is set, no program, erase or sync succeeds any more. After a failed
 * fdatasync the kernel may have dropped the pages and calls them clean, so a second attempt proves
 * nothing: that is why a failure is for good. `dirty` is set after what it stands for, and cleared
 * before the fdatasync that settles it.
 */
#define _GNU_SOURCE
#include "image.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lock.h"
#include "mtd.h"

enum {
    UNIT = 512,
    COPY_ROUNDS = 64,
    BUFFER_SIZE = 4096,
    CACHE_LINE = 64,
    AHEAD_ROW = 4, /* erases after which more of them are expected */
    AHEAD_SIZE = 256 * 1024,
    AHEAD_LEAST = 64 * 1024,
};

__attribute__((format(printf, 3, 4))) static int fail(struct image *image, int result,
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(image->error, sizeof image->error, format, arguments);
    va_end(arguments);
    return result;
}

/* --- The driver ------------------------------------------------------------------------------ */

static int lost(struct image *image, const char *format, const char *detail)
{
    __atomic_store_n(&image->failed, true, __ATOMIC_RELEASE);
    snprintf(image->error, sizeof image->error, format, image->name, detail);
    return -1;
}

/* Whether nothing was lost so far; `error` says why not. */
static bool is_sound(struct image *image)
{
    struct stat status;
    if (!mapping_lost(&image->mapping))
        return true;
    if (image->error[0])
        return false;
    if (fstat(image->file, &status) == 0 && (uint64_t)status.st_size >= image->offset + image->size)
        lost(image, "%s cannot be read or written%s", ": its disk is full or failing");
    else
        lost(image, "%s was truncated while in use: unmount it and restore it%s", "");
    return false;
}

/* The same, and whether the file has its size still. */
static bool is_whole(struct image *image)
{
    struct stat status;
    if (!is_sound(image))
        return false;
    if (fstat(image->file, &status) != 0) {
        lost(image, "%s can no longer be examined: %s", strerror(errno));
        return false;
    }
    if ((uint64_t)status.st_size < image->offset + image->size) {
        lost(image, "%s was truncated while in use: unmount it and restore it%s", "");
        return false;
    }
    return true;
}

static bool write_all(struct image *image, uint32_t address, const uint8_t *data, size_t size)
{
    off_t offset = (off_t)(image->offset + address);
    while (size > 0) {
        ssize_t written = pwrite(image->file, data, size, offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            lost(image, "%s cannot be written: %s",
                 written < 0 ? strerror(errno) : "nothing was written");
            return false;
        }
        data += written;
        offset += written;
        size -= (size_t)written;
    }
    return true;
}

static bool in_bounds(const struct image *image, uint64_t address, uint64_t size)
{
    return address <= image->size && size <= image->size - address;
}

static int image_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    const struct image *image = context;
    if (!in_bounds(image, address, size))
        return -1;
    memcpy(buffer, image->flash.map + address, size);
    return 0;
}

/* What a NOR program leaves: it clears bits. Where the bytes were erased, as ekv sees to, that is
 * the data itself. `result` may be `old`. */
static void clear_bits(uint8_t *result, const uint8_t *old, const uint8_t *data, uint32_t size)
{
    for (; size >= sizeof(uint64_t); size -= (uint32_t)sizeof(uint64_t)) {
        uint64_t word, mask;
        memcpy(&word, old, sizeof word);
        memcpy(&mask, data, sizeof mask);
        word &= mask;
        memcpy(result, &word, sizeof word);
        result += sizeof word;
        old += sizeof word;
        data += sizeof word;
    }
    while (size-- > 0)
        *result++ = *old++ & *data++;
}

/* To the file by pwrite, where it cannot be mapped to be written. `data` NULL: an erase. */
static int write_through(struct image *image, uint32_t address, const uint8_t *data, uint32_t size)
{
    const uint8_t *old = image->flash.map + address;
    uint8_t buffer[BUFFER_SIZE];
    if (!is_whole(image))
        return -1;
    memset(buffer, 0xff, sizeof buffer);
    for (uint32_t done = 0; done < size;) {
        uint32_t part = size - done < BUFFER_SIZE ? size - done : BUFFER_SIZE;
        if (data)
            clear_bits(buffer, old + done, data + done, part);
        if (!write_all(image, address + done, buffer, part))
            return -1;
        done += part;
    }
    return 0;
}

/* To the file through its mapping: nothing is asked of the kernel. `data` NULL: an erase. */
static int store(struct image *image, uint32_t address, const uint8_t *data, uint32_t size)
{
    uint8_t *bytes = image->mapping.bytes + address;
    if (!is_sound(image))
        return -1;
    if (data)
        clear_bits(bytes, bytes, data, size);
    else
        memset(bytes, 0xff, size);
    return is_sound(image) ? 0 : -1;
}

static int change(struct image *image, uint64_t address, const uint8_t *data, uint32_t size)
{
    if (image->read_only || !in_bounds(image, address, size))
        return -1;
    int error = image->mapping.writable ? store(image, (uint32_t)address, data, size)
                                        : write_through(image, (uint32_t)address, data, size);
    /* Afterwards: a sync that another thread began before need not have seen it. */
    __atomic_store_n(&image->dirty, true, __ATOMIC_RELEASE);
    return error;
}

/* Who erases sector after sector is about to write them all: their pages are mapped together, which
 * takes a fraction of the time of a fault for each, and some more, since the stamps of the next
 * ones are read to see which of them was erased least. Between two such erases only a stamp is
 * programmed. */
static void map_ahead(struct image *image, uint64_t address, uint32_t size)
{
#ifdef MADV_POPULATE_WRITE
    struct image_erases *erases = &image->erases;
    bool follows = address == erases->end && erases->programs <= 1 && image->mapping.writable;
    erases->row = follows ? erases->row + 1 : 0;
    erases->end = address + size;
    erases->programs = 0;
    if (erases->row == 0)
        erases->mapped = 0;
    if (erases->mapped < address)
        erases->mapped = address;
    if (erases->row < AHEAD_ROW || erases->end + AHEAD_LEAST <= erases->mapped)
        return;
    uint64_t left = image->size - erases->mapped, length = left < AHEAD_SIZE ? left : AHEAD_SIZE;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)(image->mapping.bytes + erases->mapped) / page * page;
    uintptr_t end = (uintptr_t)(image->mapping.bytes + erases->mapped + length) / page * page;
    if (begin < end) /* what cannot be mapped is told when it is written */
        (void)!madvise((void *)begin, end - begin, MADV_POPULATE_WRITE);
    erases->mapped += length;
#else
    (void)image;
    (void)address;
    (void)size;
#endif
}

static int image_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    struct image *image = context;
    image->erases.programs++;
    return change(context, address, data, size);
}

static int image_erase(void *context, uint32_t sector)
{
    struct image *image = context;
    uint32_t size = image->flash.geometry.sector_size;
    if ((uint64_t)sector * size < image->size)
        map_ahead(image, (uint64_t)sector * size, size);
    return change(image, (uint64_t)sector * size, NULL, size);
}

/* Linux has no barrier that costs less than fdatasync, so `barrier_only` costs as much. */
static int image_sync(void *context, bool barrier_only)
{
    struct image *image = context;
    (void)barrier_only;
    if (image->read_only || !__atomic_load_n(&image->dirty, __ATOMIC_ACQUIRE))
        return is_sound(image) ? 0 : -1;
    if (!is_whole(image))
        return -1;
    __atomic_store_n(&image->dirty, false, __ATOMIC_RELEASE);
    image->sync_count++;
    if (fdatasync(image->file) != 0)
        return lost(image, "%s cannot be synced to its disk: %s", strerror(errno));
    return 0;
}

/* Nothing faults. */
static void image_prefetch(void *context, uint32_t address, uint32_t size)
{
    const struct image *image = context;
    const uint8_t *end = image->flash.map + address + size;
    for (const uint8_t *at = end - size; at < end; at += CACHE_LINE - (uintptr_t)at % CACHE_LINE)
        __builtin_prefetch(at);
}

static const struct ekv_flash_driver driver = {
    .read = image_read,
    .program = image_program,
    .erase = image_erase,
    .sync = image_sync,
    .prefetch = image_prefetch,
};

/* --- Opening --------------------------------------------------------------------------------- */

static int lock(struct image *image, enum image_mode mode)
{
    char holder[80];
    int error = lock_take(image->file, mode == IMAGE_READ_WRITE, holder, sizeof holder);
    if (error == EKV_IO)
        return fail(image, EKV_IO, "%s cannot be locked: %s", image->name, strerror(errno));
    if (error && mode == IMAGE_VIEW) {
        image->copied = true;
        return EKV_OK;
    }
    if (error)
        lock_explain(image->error, sizeof image->error, image->name, holder, "image",
                     mode == IMAGE_READ_WRITE);
    return error;
}

static int open_file(struct image *image, const char *path, bool read_only, struct stat *status)
{
    /* O_NONBLOCK: a fifo in place of the image must not wait for its other end. */
    int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    image->file = open(path, flags);
    if (image->file < 0 && errno == EISDIR)
        return fail(image, EKV_INVALID, "%s is a directory, not an image file", image->name);
    if (image->file < 0 && errno == ENOENT)
        return fail(image, EKV_IO, "%s does not exist: create an image first", image->name);
    if (image->file < 0 && (errno == EACCES || errno == EPERM || errno == EROFS))
        return fail(image, EKV_IO, "%s cannot be opened for %s: %s", image->name,
                    read_only ? "reading" : "writing (try read-only)", strerror(errno));
    if (image->file < 0)
        return fail(image, EKV_IO, "%s cannot be opened: %s", image->name, strerror(errno));
    if (fstat(image->file, status) != 0)
        return fail(image, EKV_IO, "%s cannot be examined: %s", image->name, strerror(errno));
    if (!S_ISREG(status->st_mode))
        return fail(image, EKV_INVALID, "%s is a %s, not an image file", image->name,
                    S_ISDIR(status->st_mode)                               ? "directory"
                    : S_ISBLK(status->st_mode) || S_ISCHR(status->st_mode) ? "device"
                    : S_ISFIFO(status->st_mode)                            ? "pipe"
                                                                           : "special file");
    return EKV_OK;
}

static int place_window(struct image *image, const struct image_window *window, uint64_t file_size)
{
    struct image_window whole = {0, 0, false};
    struct image_window place = window ? *window : whole;
    if (place.offset > file_size || place.size > file_size - place.offset)
        return fail(image, EKV_INVALID, "%s has %llu bytes, which do not reach to %llu: truncated?",
                    image->name, (unsigned long long)file_size,
                    (unsigned long long)(place.offset + place.size));
    if (place.size == 0)
        place.size = file_size - place.offset;
    if (place.loose)
        place.size -= place.size % UNIT;
    if (place.size < UNIT * EKV_SECTOR_COUNT_MIN && !place.loose)
        return fail(image, EKV_INVALID, "%s is too small for an image: %llu bytes, at least %d",
                    image->name, (unsigned long long)place.size, UNIT * EKV_SECTOR_COUNT_MIN);
    if (place.size == 0)
        return fail(image, EKV_INVALID, "%s holds less than %d bytes", image->name, UNIT);
    if (place.size > UINT32_MAX)
        return fail(image, EKV_INVALID, "%s is too large for an image: %llu bytes, less than 4 GiB",
                    image->name, (unsigned long long)place.size);
    if (place.size % UNIT != 0)
        return fail(image, EKV_INVALID,
                    "%s has %llu bytes, no multiple of %d: truncated, or not an image", image->name,
                    (unsigned long long)place.size, UNIT);
    image->offset = place.offset;
    image->size = (uint32_t)place.size;
    return EKV_OK;
}

/* To be written through the mapping if the file system can do that. */
static int map_file(struct image *image)
{
    int error = EKV_MEMORY;
    if (!image->read_only)
        error = mapping_open(&image->mapping, image->file, image->offset, image->size, true,
                             &image->failed);
    if (error == EKV_MEMORY)
        error = mapping_open(&image->mapping, image->file, image->offset, image->size, false,
                             &image->failed);
    if (error == EKV_BUSY)
        return fail(image, EKV_MEMORY, "%s is one image too many: at most %d can be open at a time",
                    image->name, MAPPING_COUNT_MAX);
    if (error)
        return fail(image, error, "%s cannot be mapped: %s", image->name, strerror(errno));
    image->flash.map = image->mapping.bytes;
    return EKV_OK;
}

/* Reads what is in the file or on the device now. */
static int fetch(struct image *image, uint32_t address, void *buffer, uint32_t size)
{
    if (image->device)
        return image->flash.driver->read(image->flash.context, address, buffer, size) ? EKV_IO
                                                                                      : EKV_OK;
    ssize_t got = pread(image->file, buffer, size, (off_t)(image->offset + address));
    if (got == (ssize_t)size)
        return EKV_OK;
    return fail(image, EKV_IO, "%s cannot be read: %s", image->name,
                got < 0 ? strerror(errno) : "it was truncated");
}

/* Copies what differs from the copy so far. */
static int copy_round(struct image *image, uint8_t *copy, bool *changed)
{
    for (uint32_t address = 0; address < image->size; address += UNIT) {
        uint8_t buffer[UNIT];
        int error = fetch(image, address, buffer, UNIT);
        if (error)
            return error;
        if (memcmp(copy + address, buffer, UNIT) == 0)
            continue;
        memcpy(copy + address, buffer, UNIT);
        *changed = true;
    }
    return EKV_OK;
}

/* Copies the image. While somebody may write it, until a whole round finds nothing changed: then
 * the copy is what the image held between that round and the one before. It looks like an image
 * after a power cut at that moment, which every mount understands. */
static int map_copy(struct image *image)
{
    void *mapping = mmap(NULL, image->size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return fail(image, EKV_MEMORY, "there is no memory for a view of %s", image->name);
    image->copy = mapping;
    bool changed = true;
    int error = EKV_OK;
    for (int round = 0; round < COPY_ROUNDS && changed && !error; round++) {
        changed = round == 0 && image->copied;
        error = copy_round(image, image->copy, &changed);
        changed = changed && image->copied;
    }
    if (!error && changed)
        error = fail(image, EKV_BUSY, "%s is being written without a pause: try again later",
                     image->name);
    if (!error)
        image->flash.map = image->copy;
    return error;
}

static void init(struct image *image, const char *path, bool read_only)
{
    memset(image, 0, sizeof *image);
    image->file = -1;
    image->mapping.slot = -1;
    image->mapping.lost = &image->failed;
    image->read_only = read_only;
    snprintf(image->name, sizeof image->name, "%s", path);
}

static int give_up(struct image *image, int error)
{
    image_close(image);
    return error;
}

static int complete(struct image *image, enum image_mode mode, const struct image_window *window,
                    const struct stat *status)
{
    int error = lock(image, mode);
    struct stat now = *status;
    if (!error && fstat(image->file, &now) != 0)
        error = fail(image, EKV_IO, "%s cannot be examined: %s", image->name, strerror(errno));
    if (!error)
        error = place_window(image, window, (uint64_t)now.st_size);
    if (!error)
        error = image->copied ? map_copy(image) : map_file(image);
    if (error)
        return give_up(image, error);
    image->dirty = !image->read_only; /* a writer that was killed may have left it so */
    image->flash.geometry = (struct ekv_geometry){UNIT, image->size / UNIT, 1, false};
    image->flash.driver = &driver;
    image->flash.context = image;
    return EKV_OK;
}

static int open_device(struct image *image, const char *path, enum image_mode mode,
                       const struct image_window *window)
{
    int error = mtd_open(&image->device, path, mode == IMAGE_READ_WRITE,
                         mode == IMAGE_VIEW ? &image->copied : NULL, window ? window->offset : 0,
                         window ? window->size : 0, &image->flash, &image->native, image->error,
                         sizeof image->error);
    if (!error) {
        image->size = ekv_flash_size(&image->flash);
        error = image->copied ? map_copy(image) : EKV_OK;
    }
    return error ? give_up(image, error) : EKV_OK;
}

int image_open(struct image *image, const char *path, enum image_mode mode,
               const struct image_window *window)
{
    struct stat status;
    init(image, path, mode != IMAGE_READ_WRITE);
    image->whole = !window || (!window->offset && !window->size && !window->loose);
    bool found = stat(path, &status) == 0;
    if (found && mtd_is_block_device(&status))
        return fail(image, EKV_INVALID,
                    "%s is the block device of an MTD: name its character device, /dev/mtd%u",
                    image->name, minor(status.st_rdev));
    if (found && mtd_is_device(&status))
        return open_device(image, path, mode, window);
    int error = open_file(image, path, image->read_only, &status);
    return error ? give_up(image, error) : complete(image, mode, window, &status);
}

int image_create(struct image *image, const char *path, uint64_t size)
{
    struct stat status;
    init(image, path, false);
    image->whole = true;
    if (size < UNIT * EKV_SECTOR_COUNT_MIN || size > UINT32_MAX || size % UNIT != 0)
        return fail(image, EKV_INVALID,
                    "%llu bytes is no size for an image: a multiple of %d, from %d to 4 GiB",
                    (unsigned long long)size, UNIT, UNIT * EKV_SECTOR_COUNT_MIN);
    image->file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (image->file < 0 && errno == EEXIST)
        return fail(image, EKV_INVALID, "%s exists already: choose another name or remove it",
                    image->name);
    if (image->file < 0)
        return fail(image, EKV_IO, "%s cannot be created: %s", image->name, strerror(errno));
    int reason = posix_fallocate(image->file, 0, (off_t)size);
    if (reason == EINVAL || reason == EOPNOTSUPP) /* this file system cannot reserve */
        reason = ftruncate(image->file, (off_t)size) != 0 ? errno : 0;
    int error = EKV_OK;
    if (reason != 0)
        error = fail(image, reason == ENOSPC || reason == EFBIG ? EKV_FULL : EKV_IO,
                     "%s cannot be given %llu bytes: %s", image->name, (unsigned long long)size,
                     strerror(reason));
    else if (fstat(image->file, &status) != 0)
        error = fail(image, EKV_IO, "%s cannot be examined: %s", image->name, strerror(errno));
    if (!error)
        return complete(image, IMAGE_READ_WRITE, NULL, &status);
    unlink(path);
    return give_up(image, error);
}

int image_load(struct image *image)
{
    assert(image->flash.map || image->read_only);
    return image->flash.map ? EKV_OK : map_copy(image);
}

int image_check_sectors(struct image *image)
{
    const struct ekv_geometry *store = &image->flash.geometry, *native = &image->native;
    if (image->whole && image->size % store->sector_size != 0)
        return fail(image, EKV_GEOMETRY,
                    "%s has %u bytes, no multiple of its sectors of %u: truncated?", image->name,
                    image->size, store->sector_size);
    if (!image->device || image->read_only)
        return EKV_OK;
    if (store->sector_size % native->sector_size != 0)
        return fail(image, EKV_GEOMETRY,
                    "%s holds a store with sectors of %u bytes, but needs sectors of %u to be "
                    "written: it can only be opened read-only",
                    image->name, store->sector_size, native->sector_size);
    if (store->write_unit % native->write_unit != 0 ||
        (native->program_once && !store->program_once))
        return fail(image, EKV_GEOMETRY,
                    "%s holds a store that writes %u bytes at a time, but the device takes %u%s: "
                    "it can only be opened read-only",
                    image->name, store->write_unit, native->write_unit,
                    native->program_once ? ", each once" : "");
    return EKV_OK;
}

int image_check_file(struct image *image)
{
    struct stat status;
    if (image->copied || image->device)
        return EKV_OK;
    if (!is_whole(image))
        return EKV_IO;
    if (fstat(image->file, &status) == 0 && status.st_nlink == 0)
        return fail(image, EKV_IO, "%s was deleted: copy what you need before you unmount it",
                    image->name);
    return EKV_OK;
}

void image_close(struct image *image)
{
    mapping_close(&image->mapping);
    if (image->copy)
        munmap(image->copy, image->size);
    if (image->file >= 0)
        close(image->file);
    mtd_close(image->device);
    image->device = NULL;
    image->copy = NULL;
    image->flash.map = NULL;
    image->file = -1;
}
