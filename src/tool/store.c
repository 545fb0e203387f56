/* Opening the store of a command, on an image file or a device.
 *
 * Inspection opens it read-only and shared, and mounts read-only: nothing is written, not
 * even a recovery. A command that writes takes the exclusive lock first, so that an image that is
 * mounted is refused before anything is touched.
 */
#define _GNU_SOURCE
#include "store.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "format.h"
#include "host/host_mount.h"
#include "host/survey.h"

static int64_t now(void *context)
{
    struct timespec moment;
    int64_t seconds;
    (void)context;
    if (source_date_epoch(&seconds))
        return seconds * 1000000;
    clock_gettime(CLOCK_REALTIME, &moment);
    return (int64_t)moment.tv_sec * 1000000 + moment.tv_nsec / 1000;
}

struct image_window store_window(const struct tool *tool)
{
    return (struct image_window){.offset = tool->offset, .size = 0, .loose = tool->offset_given};
}

/* The first sector tells how large the store should be. */
static void explain_size(struct tool *tool, const struct image *image)
{
    struct ekv_stamp_a stamp;
    uint8_t bytes[EKV_STAMP_A_SIZE];
    if (ekv_flash_read(&image->flash, 0, bytes, sizeof bytes) == EKV_OK &&
        ekv_stamp_a_decode(bytes, &stamp) == EKV_OK)
        message(tool,
                "%s is truncated: its store takes %llu bytes, but only %u are there; restore all "
                "of it",
                tool->image,
                (unsigned long long)stamp.geometry.sector_size * stamp.geometry.sector_count,
                image->size);
    else
        message(tool, "%s holds a store that is larger than itself: restore all of it",
                tool->image);
}

void store_explain(struct tool *tool, const struct store *store, int error)
{
    const struct image *image = &store->image;
    switch (error) {
    case EKV_NO_STORE:
        message(tool,
                "%s holds no ekv store%s: make one with 'ekv -C %s format', or say with --offset "
                "where it begins",
                tool->image, tool->offset_given ? " there" : "", tool->image);
        return;
    case EKV_VERSION:
        message(tool,
                "%s holds an ekv store of another format version than %d, which is what this ekv "
                "reads: use the ekv that wrote it",
                tool->image, EKV_FORMAT_VERSION);
        return;
    case EKV_GEOMETRY:
        explain_size(tool, image);
        return;
    default:
        message(tool, "%s: %s", tool->image, image->error[0] ? image->error : result_text(error));
    }
}

/* Where in a dump of a whole chip the store lies; EKV_GEOMETRY if its begin is missing. */
static int find_in_dump(struct tool *tool, const struct image *image)
{
    struct survey_source source = survey_source_of_flash(&image->flash);
    struct survey_place *places;
    uint32_t count;
    if (survey_find(&source, NULL, &places, &count) != EKV_OK)
        return EKV_NO_STORE;
    int64_t offset = places[0].offset;
    free(places);
    if (offset <= 0) {
        message(tool, "%s holds only a part of a store", tool->image);
        return EKV_GEOMETRY;
    }
    tool->offset += (uint64_t)offset;
    tool->offset_given = true;
    message(tool, "%s: the store begins at %llu; --offset names another place", tool->image,
            (unsigned long long)tool->offset);
    return EKV_OK;
}

bool store_is_broken(int error)
{
    return error == EKV_CORRUPT || error == EKV_GEOMETRY;
}

int store_open(struct tool *tool, struct store *store, bool write)
{
    memset(store, 0, sizeof *store);
    if (!tool->image) {
        message(tool, "which image? Name it with -C IMAGE");
        return EKV_INVALID;
    }
    struct image_window window = store_window(tool);
    int error =
        image_open(&store->image, tool->image, write ? IMAGE_READ_WRITE : IMAGE_VIEW, &window);
    if (error) {
        message(tool, "%s", store->image.error);
        return error;
    }
    error = ekv_probe(&store->image.flash);
    if (error == EKV_NO_STORE && !write && !tool->offset_given) {
        error = find_in_dump(tool, &store->image);
        if (error != EKV_NO_STORE)
            image_close(&store->image);
        if (error == EKV_GEOMETRY)
            return error;
        if (error == EKV_OK)
            return store_open(tool, store, write);
    }
    if (error) {
        store_explain(tool, store, error);
        image_close(&store->image);
        return error;
    }
    error = image_check_sectors(&store->image);
    if (!error && !write && !tool->command->few_reads)
        error = image_load(&store->image);
    if (error) {
        message(tool, "%s", store->image.error);
        image_close(&store->image);
    }
    return error;
}

int store_mount(struct store *store)
{
    struct ekv_mount_options options = {.read_only = store->image.read_only, .now = now};
    int error = host_mount(&store->db, &store->image.flash, &options, &store->memory);
    if (error)
        image_close(&store->image);
    return error;
}

int store_open_mounted(struct tool *tool, struct store *store, bool write)
{
    int error = store_open(tool, store, write);
    if (error)
        return error;
    error = store_mount(store);
    if (error)
        store_explain(tool, store, error);
    return error;
}

int store_close(struct tool *tool, struct store *store)
{
    int error = store->db ? ekv_unmount(store->db) : EKV_OK;
    if (error)
        message(tool, "%s", store->image.error[0] ? store->image.error : result_text(error));
    image_close(&store->image);
    free(store->memory);
    return error;
}
