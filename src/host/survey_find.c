/* Finds stores in a dump: every stamp A that is whole tells where its store begins, what its
 * geometry is and which one it is. Stamps that agree on all of it are one store.
 *
 * A value may hold an image, and a store may have been formatted over an older one; so several are
 * found, and the one that has a manifest and most sectors is taken for the likely one.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "survey_parts.h"

enum { PIECE_SIZE = 1 << 20 };

struct finder {
    const struct survey_source *source;
    const int64_t *offset;
    struct survey_place *places;
    uint32_t count, capacity;
    uint32_t last; /* the place that the last stamp belonged to */
};

struct survey_source survey_source_of_bytes(const void *bytes, uint64_t size)
{
    return (struct survey_source){bytes, NULL, size};
}

struct survey_source survey_source_of_flash(const struct ekv_flash *flash)
{
    return (struct survey_source){
        flash->map, flash, (uint64_t)flash->geometry.sector_size * flash->geometry.sector_count};
}

static bool same_place(const struct survey_place *a, const struct survey_place *b)
{
    return a->offset == b->offset && a->store_id == b->store_id &&
           a->geometry.sector_size == b->geometry.sector_size &&
           a->geometry.sector_count == b->geometry.sector_count &&
           a->geometry.write_unit == b->geometry.write_unit &&
           a->geometry.program_once == b->geometry.program_once;
}

/* Counts the stamp at `bytes`, of which `size` are there. */
static int count_stamp(struct finder *finder, const uint8_t *bytes, size_t size, uint64_t position)
{
    struct ekv_stamp_a a;
    struct ekv_stamp_b b;
    struct ekv_format format;
    if (size < EKV_STAMP_A_SIZE || ekv_stamp_a_decode(bytes, &a) != EKV_OK)
        return EKV_OK;
    struct survey_place place = {.geometry = a.geometry, .store_id = a.store_id};
    place.offset = (int64_t)position - (int64_t)a.sector * a.geometry.sector_size;
    if (finder->offset && *finder->offset != place.offset)
        return EKV_OK;
    uint32_t i = finder->last;
    if (i >= finder->count || !same_place(&finder->places[i], &place))
        for (i = 0; i < finder->count && !same_place(&finder->places[i], &place);)
            i++;
    if (i == finder->count) {
        int error =
            survey_grow(&finder->places, &finder->capacity, finder->count, sizeof *finder->places);
        if (error)
            return error;
        finder->places[finder->count++] = place;
    }
    finder->last = i;
    finder->places[i].stamp_count++;
    ekv_format_init(&format, &a.geometry, a.store_id);
    uint32_t at = ekv_stamp_b_offset(&format);
    if (size >= at + EKV_STAMP_B_SIZE &&
        ekv_stamp_b_decode(&format, bytes + at, a.sector, &b) == EKV_OK) {
        finder->places[i].used_count++;
        finder->places[i].manifest_count += b.kind == EKV_KIND_MANIFEST;
    }
    return EKV_OK;
}

/* Counts the stamps that begin in the first `size` of the bytes. */
static int count_stamps(struct finder *finder, const uint8_t *bytes, size_t size, size_t available,
                        uint64_t position)
{
    int error = EKV_OK;
    for (const uint8_t *at = bytes; !error && at < bytes + size; at++) {
        at = memmem(at, (size_t)(bytes + available - at), "ekv", 3);
        if (!at || at >= bytes + size)
            break;
        error = count_stamp(finder, at, (size_t)(bytes + available - at),
                            position + (uint64_t)(at - bytes));
    }
    return error;
}

/* Reads through the flash in pieces that overlap, since a stamp may lie across their border. */
static int count_through_flash(struct finder *finder)
{
    const struct ekv_flash *flash = finder->source->flash;
    uint32_t overlap = EKV_STAMP_A_SIZE + EKV_WRITE_UNIT_MAX + EKV_STAMP_B_SIZE;
    uint8_t *piece = malloc(PIECE_SIZE);
    int error = piece ? EKV_OK : EKV_MEMORY;
    for (uint64_t at = 0; !error && at < finder->source->size; at += PIECE_SIZE - overlap) {
        uint64_t left = finder->source->size - at;
        uint32_t size = left < PIECE_SIZE ? (uint32_t)left : PIECE_SIZE;
        error = ekv_flash_read(flash, (uint32_t)at, piece, size);
        if (!error)
            error =
                count_stamps(finder, piece, size < PIECE_SIZE ? size : size - overlap, size, at);
    }
    free(piece);
    return error;
}

/* One stamp alone that differs from the others of its store is damaged: it says nothing. */
static void drop_liars(struct finder *finder)
{
    for (uint32_t i = 0; i < finder->count; i++) {
        struct survey_place *place = &finder->places[i];
        for (uint32_t j = 0; place->stamp_count == 1 && j < finder->count; j++) {
            const struct survey_place *other = &finder->places[j];
            if (other->stamp_count > 1 && other->store_id == place->store_id &&
                other->offset == place->offset)
                place->used_count = place->manifest_count = 0;
        }
    }
}

/* The likely one first. */
static int compare_places(const void *left, const void *right)
{
    const struct survey_place *a = left, *b = right;
    if ((a->manifest_count > 0) != (b->manifest_count > 0))
        return a->manifest_count > 0 ? -1 : 1;
    if ((a->used_count > 0) != (b->used_count > 0))
        return a->used_count > 0 ? -1 : 1;
    if (a->stamp_count != b->stamp_count)
        return a->stamp_count > b->stamp_count ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

int survey_find(const struct survey_source *source, const int64_t *offset,
                struct survey_place **places, uint32_t *count)
{
    struct finder finder = {.source = source, .offset = offset};
    int error = source->bytes ? count_stamps(&finder, source->bytes, source->size, source->size, 0)
                              : count_through_flash(&finder);
    if (!error && finder.count == 0)
        error = EKV_NO_STORE;
    if (error) {
        free(finder.places);
        return error;
    }
    drop_liars(&finder);
    qsort(finder.places, finder.count, sizeof *finder.places, compare_places);
    *places = finder.places;
    *count = finder.count;
    return EKV_OK;
}
