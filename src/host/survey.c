/* Opens and closes a survey: goes over all sectors once and gathers what is in them.
 *
 * Order: stamps and log records of each sector; sectors whose stamp B is broken, from what is in
 * them; the manifests and the runs that they name; then everything is put in relation
 * (survey_settle.c).
 */
#define _GNU_SOURCE
#include "survey.h"

#include <stdlib.h>
#include <string.h>

#include "survey_parts.h"

enum { BLOCK_SIZE = 64 * 1024, SOLVE_STAMPED = 512, SOLVE_OTHERS = 4 };

/* --- Memory ---------------------------------------------------------------------------------- */

struct survey_block {
    struct survey_block *next;
    size_t used, size;
    uint8_t bytes[];
};

int survey_grow(void *array, uint32_t *capacity, uint32_t count, size_t size)
{
    void *memory;
    memcpy(&memory, array, sizeof memory);
    if (count < *capacity)
        return EKV_OK;
    uint32_t more = *capacity ? *capacity * 2 : 16;
    memory = more > *capacity ? realloc(memory, more * size) : NULL;
    if (!memory)
        return EKV_MEMORY;
    memcpy(array, &memory, sizeof memory);
    *capacity = more;
    return EKV_OK;
}

const uint8_t *survey_keep(struct survey *survey, const uint8_t *key, uint32_t size)
{
    struct survey_block *block = survey->parts->blocks;
    if (!block || block->size - block->used < size) {
        size_t capacity = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        block = malloc(sizeof *block + capacity);
        if (!block)
            return NULL;
        *block = (struct survey_block){survey->parts->blocks, 0, capacity};
        survey->parts->blocks = block;
    }
    uint8_t *kept = block->bytes + block->used;
    memcpy(kept, key, size);
    block->used += size;
    return kept;
}

void survey_close(struct survey *survey)
{
    struct survey_parts *parts = survey->parts;
    if (parts) {
        while (parts->blocks) {
            struct survey_block *block = parts->blocks;
            parts->blocks = block->next;
            free(block);
        }
        free(parts->buffer);
        free(parts->pendings);
        free(parts->commits);
        free(parts->chain);
        free(parts->tears);
        free(parts->table);
        free(parts->replayed);
        free(parts);
    }
    free(survey->manifest.runs);
    free(survey->sectors);
    free(survey->records);
    free(survey->findings);
    memset(survey, 0, sizeof *survey);
}

/* --- Findings -------------------------------------------------------------------------------- */

int survey_find_broken(struct survey *survey, const char *code, uint32_t address, const char *text)
{
    int error = survey_grow(&survey->findings, &survey->parts->finding_capacity,
                            survey->finding_count, sizeof *survey->findings);
    if (!error)
        survey->findings[survey->finding_count++] =
            (struct survey_finding){.code = code, .text = text, .address = address};
    return error;
}

int survey_find_broken_key(struct survey *survey, const char *code, const char *text,
                           const struct survey_record *record)
{
    int error = survey_find_broken(survey, code, record->address, text);
    if (error)
        return error;
    struct survey_finding *finding = &survey->findings[survey->finding_count - 1];
    finding->key = record->key;
    finding->key_size = record->key_size;
    finding->space = record->space;
    return EKV_OK;
}

/* --- Bytes ----------------------------------------------------------------------------------- */

/* The part of [address, address + size) that the dump holds, as an offset in the dump. */
static bool clip(const struct survey *survey, uint32_t address, uint32_t size, uint64_t *begin,
                 uint64_t *end)
{
    int64_t from = survey_offset(survey, address), to = from + size;
    int64_t limit = (int64_t)survey->source.size;
    from = from < 0 ? 0 : from;
    to = to > limit ? limit : to;
    *begin = (uint64_t)from;
    *end = (uint64_t)to;
    return from < to;
}

static int read_source(const struct survey_source *source, uint64_t offset, void *buffer,
                       uint32_t size)
{
    if (!source->bytes)
        return ekv_flash_read(source->flash, (uint32_t)offset, buffer, size);
    memcpy(buffer, source->bytes + offset, size);
    return EKV_OK;
}

int survey_read(const struct survey *survey, uint32_t address, void *buffer, uint32_t size)
{
    uint64_t begin, end;
    if (size == 0)
        return EKV_OK;
    if (!clip(survey, address, size, &begin, &end) || end - begin < size)
        return EKV_NOT_FOUND;
    return read_source(&survey->source, begin, buffer, size);
}

const uint8_t *survey_sector_bytes(const struct survey *survey, uint32_t sector, uint8_t *buffer)
{
    uint32_t size = survey->format.geometry.sector_size;
    uint32_t address = ekv_address(&survey->format, sector, 0);
    uint64_t begin, end;
    if (!clip(survey, address, size, &begin, &end))
        return NULL;
    if (end - begin == size && survey->source.bytes)
        return survey->source.bytes + begin;
    memset(buffer, 0xff, size);
    uint32_t skipped = (uint32_t)((int64_t)begin - survey_offset(survey, address));
    if (read_source(&survey->source, begin, buffer + skipped, (uint32_t)(end - begin)) != EKV_OK)
        return NULL;
    return buffer;
}

/* --- Sectors --------------------------------------------------------------------------------- */

static bool is_blank(const uint8_t *bytes, uint32_t size)
{
    return size == 0 || (bytes[0] == 0xff && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* What the stamps of a sector say. */
static void read_stamps(struct survey *survey, uint32_t sector, const uint8_t *bytes)
{
    const struct ekv_format *format = &survey->format;
    struct survey_sector *info = &survey->sectors[sector];
    struct ekv_stamp_a a;
    struct ekv_stamp_b b;
    uint32_t at = ekv_stamp_b_offset(format);
    info->stamped = ekv_stamp_a_decode(bytes, &a) == EKV_OK && a.sector == sector &&
                    a.store_id == format->store_id &&
                    a.geometry.sector_size == format->geometry.sector_size &&
                    a.geometry.sector_count == format->geometry.sector_count &&
                    a.geometry.write_unit == format->geometry.write_unit;
    if (info->stamped)
        info->erase_count = a.erase_count;
    if (ekv_stamp_b_decode(format, bytes + at, sector, &b) == EKV_OK &&
        (b.kind == EKV_KIND_MANIFEST) == (sector < format->ring_count)) {
        info->kind = b.kind;
        info->sequence = b.sequence;
        info->next = b.next;
        info->previous_end = b.previous_end;
        return;
    }
    if (is_blank(bytes, format->geometry.sector_size))
        info->role = SURVEY_BLANK;
    else if (info->stamped && is_blank(bytes + at, format->geometry.sector_size - at))
        info->role = SURVEY_READY;
    else
        info->role = SURVEY_FOREIGN;
}

static int scan_sector(struct survey *survey, uint32_t sector)
{
    struct survey_sector *info = &survey->sectors[sector];
    const uint8_t *bytes = survey_sector_bytes(survey, sector, survey->parts->buffer);
    info->role = SURVEY_MISSING;
    if (!bytes)
        return EKV_OK;
    read_stamps(survey, sector, bytes);
    if (info->kind == EKV_KIND_LOG)
        return survey_log_scan(survey, sector, bytes);
    if (info->kind != 0) {
        info->used_size = survey->format.geometry.sector_size;
        while (info->used_size > 0 && bytes[info->used_size - 1] == 0xff)
            info->used_size--;
    }
    return EKV_OK;
}

bool survey_stamp_is_blank(const struct survey *survey, uint32_t sector)
{
    uint8_t bytes[EKV_STAMP_B_SIZE];
    uint32_t at = ekv_address(&survey->format, sector, ekv_stamp_b_offset(&survey->format));
    if (survey_read(survey, at, bytes, sizeof bytes) != EKV_OK)
        return false;
    for (uint32_t i = 0; i < sizeof bytes; i++)
        if (bytes[i] != 0xff)
            return false;
    return true;
}

/* Whether a crash of the host took the stamp of a sector, which a mount takes for the end of the
 * log before it; the number may come again. What the manifest has counted was synced before. */
static bool is_lost(const struct survey *survey, uint32_t sector)
{
    const struct survey_manifest *manifest = &survey->manifest;
    uint32_t counted = ekv_position_sequence(&survey->format, manifest->counted);
    bool synced =
        survey->parts->table[sector] == EKV_ITEM_LOG && survey->sectors[sector].sequence <= counted;
    return manifest->found && manifest->whole && !synced && survey_stamp_is_blank(survey, sector);
}

/* Log sectors whose stamp B is broken. In a sector that bears no stamp of this store there are
 * hardly any records of it; it is only asked in a few places. */
static int solve_sectors(struct survey *survey)
{
    uint32_t count = survey->format.geometry.sector_count, limit = 0;
    for (uint32_t i = survey->format.ring_count; i < count; i++)
        if (survey->sectors[i].kind == EKV_KIND_LOG)
            limit = ekv_max(limit, survey->sectors[i].sequence);
    limit += ekv_min(count, UINT32_MAX - limit);
    for (uint32_t i = survey->format.ring_count; i < count; i++) {
        struct survey_sector *info = &survey->sectors[i];
        if (info->role != SURVEY_FOREIGN || info->kind != 0)
            continue;
        const uint8_t *bytes = survey_sector_bytes(survey, i, survey->parts->buffer);
        uint32_t places = info->stamped ? SOLVE_STAMPED : SOLVE_OTHERS;
        if (!bytes || survey_log_solve(survey, bytes, places, limit, &info->sequence) != EKV_OK)
            continue;
        if (is_lost(survey, i)) {
            info->sequence = 0;
            continue;
        }
        info->solved = true;
        info->kind = EKV_KIND_LOG;
        info->next = EKV_NO_SECTOR;
        int error = survey_log_scan(survey, i, bytes);
        if (!error)
            error = survey_find_broken(survey, "stamp-b", ekv_address(&survey->format, i, 0),
                                       "a log sector does not say what it is any more");
        if (error)
            return error;
    }
    return EKV_OK;
}

static int prepare(struct survey *survey, const struct survey_options *options)
{
    uint32_t count = survey->format.geometry.sector_count;
    struct survey_parts *parts = calloc(1, sizeof *parts);
    survey->parts = parts;
    survey->sectors = calloc(count, sizeof *survey->sectors);
    if (!parts || !survey->sectors)
        return EKV_MEMORY;
    parts->filter = options ? options->key : NULL;
    parts->buffer = malloc(survey->format.geometry.sector_size);
    parts->chain = calloc(count, sizeof *parts->chain);
    parts->tears = calloc(count, sizeof *parts->tears);
    parts->table = calloc(count, sizeof *parts->table);
    parts->replayed = calloc(count, sizeof *parts->replayed);
    if (!parts->buffer || !parts->chain || !parts->tears || !parts->table || !parts->replayed)
        return EKV_MEMORY;
    survey_solve_prepare(parts);
    return EKV_OK;
}

int survey_open(struct survey *survey, const struct survey_source *source,
                const struct survey_place *place, const struct survey_options *options)
{
    memset(survey, 0, sizeof *survey);
    int error = ekv_geometry_check(&place->geometry);
    if (error)
        return error;
    survey->source = *source;
    survey->place = *place;
    ekv_format_init(&survey->format, &place->geometry, place->store_id);
    error = prepare(survey, options);
    for (uint32_t i = 0; !error && i < survey->format.geometry.sector_count; i++)
        error = scan_sector(survey, i);
    if (!error)
        error = survey_manifest_read(survey);
    if (!error)
        error = solve_sectors(survey);
    if (!error)
        error = survey_runs_read(survey);
    if (!error)
        error = survey_settle(survey);
    if (error)
        survey_close(survey);
    else
        survey->parts->filter = NULL; /* was the caller's */
    return error;
}

const char *survey_role_name(enum survey_role role)
{
    static const char *const names[SURVEY_ROLE_COUNT] = {
        [SURVEY_MISSING] = "missing", [SURVEY_MANIFEST] = "manifest", [SURVEY_LOG] = "log",
        [SURVEY_INDEX] = "index",     [SURVEY_STALE] = "stale",       [SURVEY_READY] = "ready",
        [SURVEY_BLANK] = "blank",     [SURVEY_FOREIGN] = "foreign",   [SURVEY_RETIRED] = "retired",
        [SURVEY_DAMAGED] = "damaged",
    };
    return names[role];
}
