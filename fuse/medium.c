/* The image or device that a store lies in.
 *
 * A device that cannot be written is mounted read-only, as mount(8) does, and with its words.
 */
#define _GNU_SOURCE
#include "medium.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report.h"

enum {
    SECTOR_SIZE = 4096, /* of new images */
    MEMORY_DEFAULT = 64 * 1024,
    MEMORY_PER_KEY = 9,
    CACHE_COUNT = 32 * 1024, /* keys whose place is remembered: 256 KiB */
};

static bool complain(const char *format, const char *what)
{
    fputs("ekvfs: ", stderr);
    fprintf(stderr, format, what);
    fputc('\n', stderr);
    return false;
}

static bool explain(int error, const struct image *image, const struct options *options)
{
    switch (error) {
    case EKV_NO_STORE:
        return complain(image->device
                            ? "%s holds no ekv store: write an empty one with `ekv format`"
                            : "%s holds no ekv store: name another file, or a new one with "
                              "--create=4M",
                        options->image);
    case EKV_VERSION:
        return complain("%s holds an ekv store of another format version: use the ekvfs that wrote "
                        "it",
                        options->image);
    case EKV_GEOMETRY:
        return complain("%s is truncated: its store is larger than the file; restore the whole "
                        "file",
                        options->image);
    case EKV_CORRUPT:
        return complain("%s is damaged: look at it with `ekv check`", options->image);
    case EKV_MEMORY:
        return complain("there is no memory to mount %s", options->image);
    default:
        return complain(image->error[0] ? "%s" : "%s cannot be read",
                        image->error[0] ? image->error : options->image);
    }
}

static int open_existing(struct image *image, const struct options *options)
{
    struct image_window window = {.offset = options->offset, .size = options->size};
    enum image_mode mode = options->read_only ? IMAGE_READ_ONLY : IMAGE_READ_WRITE;
    int error = image_open(image, options->image, mode, &window);
    if (error == EKV_READ_ONLY) {
        complain("warning: %s, so it is mounted read-only", image->error);
        error = image_open(image, options->image, IMAGE_READ_ONLY, &window);
    }
    if (error)
        complain("%s", image->error);
    return error;
}

static bool format(struct image *image)
{
    struct ekv_format_options options = {0};
    struct ekv_geometry *geometry = &image->flash.geometry;
    geometry->sector_count = image->size / SECTOR_SIZE;
    geometry->sector_size = SECTOR_SIZE;
    geometry->write_unit = 1;
    if (getrandom(&options.store_id, sizeof options.store_id, 0) != sizeof options.store_id)
        options.store_id = (uint64_t)store_now();
    size_t size = ekv_memory_size(geometry, NULL);
    void *memory = malloc(size ? size : 1);
    int error = memory ? ekv_format(&image->flash, &options, memory, size) : EKV_MEMORY;
    free(memory);
    if (error)
        complain("%s", image->error[0] ? image->error : "the new image could not be formatted");
    return !error;
}

static bool create(struct image *image, const struct options *options)
{
    if (options->create_size % SECTOR_SIZE != 0 ||
        options->create_size / SECTOR_SIZE < EKV_SECTOR_COUNT_MIN ||
        options->create_size > UINT32_MAX)
        return complain("the size given with --create must be a multiple of 4096, at least 32K and "
                        "less than 4G: \"%s\" is not created",
                        options->image);
    if (options->read_only)
        return complain("\"%s\" does not exist and cannot be created by a read-only mount",
                        options->image);
    int error = image_create(image, options->image, options->create_size);
    if (error)
        return complain("%s", image->error);
    if (format(image))
        return true;
    image_close(image);
    unlink(options->image);
    return false;
}

static bool mount_store(struct image *image, struct store *store, const struct options *options)
{
    uint64_t memory = options->memory_size ? options->memory_size : MEMORY_DEFAULT;
    struct store_options mount = {
        .medium_error = image->error,
        .read_only = image->read_only,
        .sync = options->sync,
        .memtable_count =
            (uint32_t)(memory / MEMORY_PER_KEY > UINT32_MAX ? UINT32_MAX : memory / MEMORY_PER_KEY),
        .cache_count = CACHE_COUNT,
        .retain_count = options->retain_count,
        .retain_seconds = options->retain_seconds,
    };
    int error = store_open(store, &image->flash, &mount);
    if (error)
        return explain(error, image, options);
    if (store->read_only && !image->read_only)
        complain("warning: %s is damaged, so it is mounted read-only; `ekv check` says where",
                 options->image);
    return true;
}

bool medium_open(struct image *image, struct store *store, const struct options *options)
{
    struct stat stat;
    bool missing = options->create_size && lstat(options->image, &stat) != 0 && errno == ENOENT;
    if (missing) {
        if (!create(image, options))
            return false;
    } else {
        if (open_existing(image, options))
            return false;
        int error = ekv_probe(&image->flash);
        bool good = error ? explain(error, image, options) : true;
        if (good && image_check_sectors(image))
            good = complain("%s", image->error);
        if (!good) {
            image_close(image);
            return false;
        }
    }
    if (mount_store(image, store, options))
        return true;
    image_close(image);
    return false;
}

bool medium_close(struct image *image, struct store *store)
{
    int error = store_close(store);
    if (error)
        report_failure(EIO, "the image was not closed cleanly%s%s", image->error[0] ? ": " : "",
                       image->error);
    image_close(image);
    return !error;
}
