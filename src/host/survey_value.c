/* Reads values as they lie: inline, or as trees of chunks under a head record.
 *
 * A piece of a tree counts only if its checksum is right and it lies before what refers to it in
 * the log; a sector that was reused since has a larger sequence number. What cannot be read is left
 * out and counted. Copies of the same version, which gc makes when it moves a piece, are asked in
 * turn.
 */
#include <stdlib.h>
#include <string.h>

#include "survey_parts.h"

struct reading {
    const struct survey *survey;
    int (*visit)(void *context, uint64_t offset, const uint8_t *bytes, uint32_t size,
                 uint32_t address);
    void *context;
    const uint8_t *owner; /* key */
    uint32_t owner_size;
    uint8_t space;
    uint64_t lost;
    uint8_t *levels[EKV_VALUE_LEVELS + 1]; /* memory for a record of each level of the tree */
};

/* Reads a record whole, checks it and puts it right where that is possible; its position must be
 * below `limit`. */
static bool read_record(const struct survey *survey, uint32_t address, uint64_t limit,
                        uint8_t *bytes, struct ekv_record_layout *layout, uint64_t *position)
{
    const struct ekv_format *format = &survey->format;
    uint32_t sector = ekv_sector_of(format, address), offset = ekv_offset_of(format, address);
    uint32_t room = format->geometry.sector_size - offset;
    if (sector >= format->geometry.sector_count || offset < format->body_offset ||
        offset % format->alignment != 0)
        return false;
    /* The stamp is read anew: beside a live store the sector may be another one by now. */
    uint8_t stamp_bytes[EKV_STAMP_B_SIZE];
    struct ekv_stamp_b stamp = {.sequence = survey->sectors[sector].sequence};
    uint32_t at = ekv_address(format, sector, ekv_stamp_b_offset(format));
    if (!survey->sectors[sector].solved &&
        (survey_read(survey, at, stamp_bytes, sizeof stamp_bytes) != EKV_OK ||
         ekv_stamp_b_decode(format, stamp_bytes, sector, &stamp) != EKV_OK ||
         stamp.kind != EKV_KIND_LOG))
        return false;
    *position = ekv_position(format, stamp.sequence, offset);
    uint32_t peek = ekv_min(room, EKV_RECORD_HEAD_MAX);
    return *position < limit && survey_read(survey, address, bytes, peek) == EKV_OK &&
           ekv_record_head_decode(format, bytes, peek, room, layout) == EKV_OK &&
           survey_read(survey, address, bytes, layout->size) == EKV_OK &&
           (survey_record_valid(survey, bytes, layout, stamp.sequence, offset) ||
            survey_record_mend(survey, bytes, layout, stamp.sequence, offset));
}

/* Whether a piece's record belongs to the value that is read. */
static bool is_piece(const struct reading *reading, const uint8_t *bytes,
                     const struct ekv_record_layout *layout, uint8_t kind, uint64_t offset)
{
    uint8_t space = layout->type & EKV_RECORD_ASIDE ? EKV_ASIDE : EKV_USER;
    uint32_t owner_max = ekv_min(255, reading->survey->format.geometry.sector_size / 16);
    const uint8_t *value = bytes + layout->head_size + layout->key_size;
    return ekv_type_kind(layout->type) == kind && space == reading->space &&
           layout->key_size == ekv_min(reading->owner_size, owner_max) &&
           memcmp(bytes + layout->head_size, reading->owner, layout->key_size) == 0 &&
           layout->value_size >= EKV_PIECE_OFFSET_SIZE && ekv_load32(value) == offset;
}

/* Bytes below a list of links. What holds none is no link: so nothing is read more often than the
 * value is long. */
static uint64_t links_size(const uint8_t *links, uint32_t size)
{
    uint64_t sum = 0;
    for (uint32_t at = 0; at + EKV_LINK_SIZE <= size; at += EKV_LINK_SIZE) {
        if (ekv_load32(links + at + 4) == 0)
            return UINT64_MAX;
        sum += ekv_load32(links + at + 4);
    }
    return sum;
}

static int read_links(struct reading *reading, const uint8_t *links, uint32_t size, uint8_t level,
                      uint64_t position, uint64_t offset);

static int read_piece(struct reading *reading, uint32_t address, uint32_t below, uint8_t level,
                      uint64_t limit, uint64_t offset)
{
    struct ekv_record_layout layout;
    uint64_t position;
    uint8_t *bytes = reading->levels[level];
    uint8_t kind = level == 0 ? EKV_RECORD_CHUNK : EKV_RECORD_LIST;
    if (!read_record(reading->survey, address, limit, bytes, &layout, &position) ||
        !is_piece(reading, bytes, &layout, kind, offset)) {
        reading->lost += below;
        return EKV_OK;
    }
    const uint8_t *value = bytes + layout.head_size + layout.key_size + EKV_PIECE_OFFSET_SIZE;
    uint32_t size = layout.value_size - EKV_PIECE_OFFSET_SIZE;
    if (level == 0 && size == below)
        return reading->visit(reading->context, offset, value, size, address);
    if (level == 0 || size < 1 || value[0] != level - 1 ||
        links_size(value + 1, size - 1) != below) {
        reading->lost += below;
        return EKV_OK;
    }
    return read_links(reading, value + 1, size - 1, level - 1, position, offset);
}

static int read_links(struct reading *reading, const uint8_t *links, uint32_t size, uint8_t level,
                      uint64_t position, uint64_t offset)
{
    int error = EKV_OK;
    for (uint32_t at = 0; !error && at + EKV_LINK_SIZE <= size; at += EKV_LINK_SIZE) {
        uint32_t below = ekv_load32(links + at + 4);
        error = read_piece(reading, ekv_load32(links + at), below, level, position, offset);
        offset += below;
    }
    return error;
}

/* Reads the value of one record, this very copy of it. */
static int read_one(struct reading *reading, const struct survey_record *record, uint8_t *bytes)
{
    const struct survey *survey = reading->survey;
    struct ekv_record_layout layout;
    uint64_t position;
    reading->lost = 0;
    if ((!record->valid && !record->mendable) ||
        !read_record(survey, record->address, UINT64_MAX, bytes, &layout, &position) ||
        position != record->position)
        return EKV_NOT_FOUND;
    const uint8_t *value = bytes + layout.head_size + layout.key_size;
    uint32_t at = record->address + layout.head_size + layout.key_size;
    reading->owner = record->key;
    reading->owner_size = record->key_size;
    reading->space = record->space;
    if (record->kind == EKV_RECORD_PUT)
        return reading->visit(reading->context, 0, value, layout.value_size, at);
    if (record->kind != EKV_RECORD_HEAD)
        return EKV_OK;
    uint64_t flash =
        (uint64_t)survey->format.geometry.sector_size * survey->format.geometry.sector_count;
    if (layout.value_size < 1 || value[0] >= EKV_VALUE_LEVELS ||
        links_size(value + 1, layout.value_size - 1) > flash) {
        reading->lost = record->size;
        return EKV_OK;
    }
    return read_links(reading, value + 1, layout.value_size - 1, value[0], position, 0);
}

/* Memory for a record of each level, and one more for the head. */
static uint8_t *reading_memory(struct reading *reading)
{
    uint32_t size = reading->survey->format.geometry.sector_size;
    uint8_t *memory = malloc((size_t)size * (EKV_VALUE_LEVELS + 1));
    for (uint32_t i = 0; memory && i < EKV_VALUE_LEVELS; i++)
        reading->levels[i] = memory + (size_t)(i + 1) * size;
    return memory;
}

/* The copies of a version lie behind each other in the table. */
static const struct survey_record *next_copy(const struct survey *survey,
                                             const struct survey_record *record)
{
    const struct survey_record *next = record + 1;
    return next < survey->records + survey->record_count && next->copy ? next : NULL;
}

static int ignore(void *context, uint64_t offset, const uint8_t *bytes, uint32_t size,
                  uint32_t address)
{
    (void)context;
    (void)offset;
    (void)bytes;
    (void)size;
    (void)address;
    return EKV_OK;
}

int survey_value_visit(const struct survey *survey, const struct survey_record *record,
                       int (*visit)(void *context, uint64_t offset, const uint8_t *bytes,
                                    uint32_t size, uint32_t address),
                       void *context, uint64_t *lost)
{
    struct reading reading = {.survey = survey, .visit = ignore};
    uint8_t *memory = reading_memory(&reading);
    const struct survey_record *best = record;
    uint64_t least = UINT64_MAX;
    if (!memory)
        return EKV_MEMORY;
    for (const struct survey_record *at = record; at && least > 0; at = next_copy(survey, at))
        if (read_one(&reading, at, memory) == EKV_OK && reading.lost < least) {
            least = reading.lost;
            best = at;
        }
    reading.visit = visit;
    reading.context = context;
    int error = read_one(&reading, best, memory);
    *lost = reading.lost;
    free(memory);
    return error;
}

struct gathering {
    uint8_t *value;
    bool *there;
    uint64_t size;
};

static int gather(void *context, uint64_t offset, const uint8_t *bytes, uint32_t size,
                  uint32_t address)
{
    struct gathering *gathering = context;
    (void)address;
    if (offset > gathering->size || size > gathering->size - offset)
        return EKV_OK;
    memcpy(gathering->value + offset, bytes, size);
    memset(gathering->there + offset, true, size);
    return EKV_OK;
}

int survey_value(const struct survey *survey, const struct survey_record *record, uint8_t **value,
                 uint64_t *size, uint64_t *lost)
{
    struct gathering gathering = {.size = record->size};
    struct reading reading = {.survey = survey, .visit = gather, .context = &gathering};
    uint64_t flash =
        (uint64_t)survey->format.geometry.sector_size * survey->format.geometry.sector_count;
    if (gathering.size > flash)
        return EKV_NOT_FOUND;
    uint8_t *memory = reading_memory(&reading);
    gathering.value = calloc(1, gathering.size + 1);
    gathering.there = calloc(1, gathering.size + 1);
    bool found = false;
    *lost = gathering.size;
    int error = memory && gathering.value && gathering.there ? EKV_OK : EKV_MEMORY;
    for (const struct survey_record *at = record; !error && at && (*lost > 0 || !found);
         at = next_copy(survey, at)) {
        if (read_one(&reading, at, memory) != EKV_OK)
            continue;
        found = true;
        *lost = 0;
        for (uint64_t i = 0; i < gathering.size; i++)
            *lost += !gathering.there[i];
    }
    free(memory);
    free(gathering.there);
    if (!error && !found)
        error = EKV_NOT_FOUND;
    if (error) {
        free(gathering.value);
        return error;
    }
    *value = gathering.value;
    *size = gathering.size;
    return EKV_OK;
}

/* --- Sectors --------------------------------------------------------------------------------- */

struct items {
    const struct survey *survey;
    int (*visit)(void *context, const struct survey_item *item);
    void *context;
};

static int visit_stamps(const struct survey *survey, uint32_t sector, const uint8_t *bytes,
                        const struct items *items)
{
    const struct ekv_format *format = &survey->format;
    uint32_t at = ekv_stamp_b_offset(format);
    struct survey_item a = {.kind = SURVEY_STAMP_A,
                            .valid = survey->sectors[sector].stamped,
                            .size = at,
                            .bytes = bytes};
    struct survey_item b = {.kind = SURVEY_STAMP_B,
                            .valid = survey->sectors[sector].kind != 0 &&
                                     !survey->sectors[sector].solved,
                            .offset = at,
                            .size = format->body_offset - at,
                            .bytes = bytes + at};
    int error = items->visit(items->context, &a);
    return error ? error : items->visit(items->context, &b);
}

static int visit_rest(const struct survey *survey, const uint8_t *bytes, const struct items *items)
{
    const struct ekv_format *format = &survey->format;
    struct survey_item item = {.kind = SURVEY_EMPTY,
                               .offset = format->body_offset,
                               .size = format->geometry.sector_size - format->body_offset,
                               .bytes = bytes + format->body_offset};
    for (uint32_t i = 0; i < item.size; i++)
        if (item.bytes[i] != 0xff)
            item.kind = SURVEY_UNCLEAR;
    return items->visit(items->context, &item);
}

int survey_sector_visit(const struct survey *survey, uint32_t sector,
                        int (*visit)(void *context, const struct survey_item *item), void *context)
{
    struct items items = {survey, visit, context};
    uint8_t *buffer = malloc(survey->format.geometry.sector_size);
    if (!buffer)
        return EKV_MEMORY;
    const struct survey_sector *info = &survey->sectors[sector];
    const uint8_t *bytes = survey_sector_bytes(survey, sector, buffer);
    int error = bytes ? visit_stamps(survey, sector, bytes, &items) : EKV_NOT_FOUND;
    if (!error && info->kind == EKV_KIND_LOG)
        error = survey_log_walk(survey, bytes, info->sequence, NULL, visit, context);
    else if (!error && info->kind == EKV_KIND_INDEX)
        error = survey_index_walk(survey, sector, bytes, visit, context);
    else if (!error && info->kind == EKV_KIND_MANIFEST)
        error = survey_manifest_walk(survey, sector, bytes, visit, context);
    else if (!error)
        error = visit_rest(survey, bytes, &items);
    free(buffer);
    return error;
}
