/* Salvages into a new image: puts everything in the order of its versions, with the times that it
 * had, so that the order and the times of commits are kept.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "salvage.h"

struct target {
    struct salvage *salvage;
    struct image image;
    struct ekv *db;
    void *memory;
    int64_t time; /* of the commit in hand */
};

static int64_t now(void *context)
{
    const struct target *target = context;
    return target->time;
}

static int make(struct target *target)
{
    struct salvage *salvage = target->salvage;
    const struct survey *survey = &salvage->look->survey;
    const struct ekv_geometry *geometry = &survey->place.geometry;
    uint64_t size = (uint64_t)geometry->sector_size * geometry->sector_count;
    struct ekv_format_options format = {.store_id = survey->place.store_id ^ survey->newest,
                                        .label = survey->manifest.label};
    struct ekv_mount_options mount = {.now = now, .now_context = target};
    int error = image_create(&target->image, salvage->output, size);
    if (error) {
        message(salvage->tool, "%s", target->image.error);
        return error;
    }
    target->image.flash.geometry = *geometry;
    size_t memory = ekv_memory_size(geometry, &mount);
    target->memory = allocate(memory);
    error = ekv_format(&target->image.flash, &format, target->memory, memory);
    if (!error)
        error = ekv_mount(&target->db, &target->image.flash, &mount, target->memory, memory);
    if (error) {
        message(salvage->tool, "%s: %s", salvage->output,
                target->image.error[0] ? target->image.error : result_text(error));
        image_close(&target->image);
        free(target->memory);
        unlink(salvage->output);
    }
    return error;
}

static int compare_versions(const void *left, const void *right)
{
    const struct salvage_item *a = left, *b = right;
    return a->record->version < b->record->version   ? -1
           : a->record->version > b->record->version ? 1
                                                     : 0;
}

static int put(struct target *target, const struct salvage_item *item)
{
    struct salvage *salvage = target->salvage;
    const struct survey_record *record = item->record;
    struct ekv_key key = ekv_key(record->key, record->key_size);
    uint8_t *value = NULL;
    uint64_t size = 0;
    key.space = record->space;
    target->time = record->time;
    int error;
    if (record->kind == EKV_RECORD_DELETE) {
        error = ekv_delete(target->db, key);
        error = error == EKV_NOT_FOUND ? EKV_OK : error;
    } else {
        if (!salvage_value(salvage, record, &value, &size))
            return EKV_OK;
        error = ekv_put(target->db, key, value, size);
        free(value);
    }
    if (!error && record->space == EKV_USER)
        salvage->counts[item->kind]++;
    if (error)
        message(salvage->tool, "'%s' cannot be written to %s: %s",
                key_text(record->key, record->key_size), salvage->output,
                target->image.error[0] ? target->image.error : result_text(error));
    return error;
}

int salvage_image(struct salvage *salvage)
{
    struct target target = {.salvage = salvage};
    if (make(&target) != EKV_OK)
        return STATUS_FAILED;
    if (salvage->count)
        qsort(salvage->items, salvage->count, sizeof *salvage->items, compare_versions);
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < salvage->count; i++)
        error = put(&target, &salvage->items[i]);
    int closed = ekv_unmount(target.db);
    if (closed)
        message(salvage->tool, "%s: %s", salvage->output,
                target.image.error[0] ? target.image.error : result_text(closed));
    image_close(&target.image);
    free(target.memory);
    return error || closed ? STATUS_FAILED : STATUS_OK;
}
