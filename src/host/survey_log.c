/* Records of log sectors, whatever has become of the sector.
 *
 * Records follow each other without gaps. Where none is, the next one is looked for at each place
 * where one could begin: a checksum of 32 bits that is seeded with place and sequence number
 * decides, and a head that no record has is not even read. What an attacker wrote could make that
 * slow, so it ends when it has read a sector SEARCH_MAX times over.
 *
 * A torn program leaves a gap too, and perhaps whole records behind it in the same page. They count
 * only if something later proves that this page was not the last one; `tears` remembers the place
 * until all sectors are known.
 */
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "survey_parts.h"

enum { SEARCH_MAX = 64 };

/* --- Checksums ------------------------------------------------------------------------------- */

/* A CRC's register runs backwards as well: the byte that leaves at the top names the entry of the
 * table. The four bytes of the number go into it as their exclusive or. */
void survey_solve_prepare(struct survey_parts *parts)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t entry = i;
        for (uint32_t bit = 0; bit < 8; bit++)
            entry = entry & 1 ? entry >> 1 ^ 0x82f63b78u : entry >> 1;
        parts->crc_table[i] = entry;
        parts->crc_inverse[entry >> 24] = (uint8_t)i;
    }
}

uint32_t survey_solve(const struct survey *survey, uint8_t kind, uint32_t place,
                      const uint8_t *bytes, uint32_t size, uint32_t crc)
{
    const struct survey_parts *parts = survey->parts;
    uint8_t head[9], tail[4];
    ekv_store(head, survey->place.store_id, 8);
    head[8] = kind;
    ekv_store(tail, place, 4);
    uint32_t before = ~ekv_crc32c(0, head, sizeof head), after = ~crc;
    for (uint32_t i = size + 4 + 4; i-- > 0;) {
        uint8_t byte = i >= 8 ? bytes[i - 8] : i >= 4 ? tail[i - 4] : 0;
        uint8_t index = parts->crc_inverse[after >> 24];
        after = (after ^ parts->crc_table[index]) << 8 | (uint32_t)(index ^ byte);
    }
    return before ^ after;
}

bool survey_record_valid(const struct survey *survey, const uint8_t *bytes,
                         const struct ekv_record_layout *layout, uint32_t sequence, uint32_t offset)
{
    uint32_t crc = ekv_format_seed(&survey->format, EKV_KIND_LOG, sequence, offset);
    uint32_t size = layout->size - EKV_CRC_SIZE;
    return ekv_crc32c(crc, bytes, size) == ekv_load32(bytes + size);
}

bool survey_record_mend(const struct survey *survey, uint8_t *bytes,
                        const struct ekv_record_layout *layout, uint32_t sequence, uint32_t offset)
{
    uint32_t seed = ekv_format_seed(&survey->format, EKV_KIND_LOG, sequence, offset);
    uint32_t size = layout->size - EKV_CRC_SIZE, crc = ekv_load32(bytes + size);
    size_t byte;
    uint8_t mask;
    if (!ekv_crc32c_flipped(ekv_crc32c(seed, bytes, size) ^ crc, size, &byte, &mask))
        return false;
    if (byte < layout->head_size) /* then it is another record, of another size perhaps */
        return false;
    if (byte < size) /* or it is in the checksum */
        bytes[byte] ^= mask;
    return true;
}

/* --- Records --------------------------------------------------------------------------------- */

/* Whether a record can have this head, beyond what any reader asks for. */
static bool is_plausible(const struct survey *survey, const struct ekv_record_layout *layout)
{
    const struct ekv_format *format = &survey->format;
    uint32_t owner_max = ekv_min(255, format->geometry.sector_size / 16);
    switch (ekv_type_kind(layout->type)) {
    case EKV_RECORD_PUT:
        return layout->key_size <= ekv_format_key_size_max(format);
    case EKV_RECORD_DELETE:
        return layout->key_size <= ekv_format_key_size_max(format) && layout->value_size == 0;
    case EKV_RECORD_HEAD:
        return layout->key_size <= ekv_format_key_size_max(format) &&
               layout->value_size % EKV_LINK_SIZE == 1;
    case EKV_RECORD_CHUNK:
    case EKV_RECORD_LIST:
        return layout->key_size <= owner_max && layout->value_size >= EKV_PIECE_OFFSET_SIZE &&
               !(layout->type & EKV_RECORD_COMMITS);
    case EKV_RECORD_COMMIT:
        return layout->key_size == 0 && layout->value_size == EKV_COMMIT_SIZE;
    case EKV_RECORD_CLOSE:
        return layout->key_size == 0 && layout->value_size == EKV_CLOSE_SIZE;
    default:
        return layout->key_size == 0 && layout->value_size == 0;
    }
}

struct walk {
    const struct survey *survey;
    const uint8_t *bytes;
    uint32_t sequence;
    const struct ekv_key *filter;
    uint64_t budget; /* bytes that may still be read in search of records */
};

static bool decode(const struct walk *walk, uint32_t offset, struct ekv_record_layout *layout)
{
    const struct ekv_format *format = &walk->survey->format;
    uint32_t room = format->geometry.sector_size - offset;
    return ekv_record_head_decode(format, walk->bytes + offset, ekv_min(room, 32), room, layout) ==
               EKV_OK &&
           is_plausible(walk->survey, layout);
}

/* Whether a record of the filter's key, or one that every key needs. */
static bool is_wanted(const struct walk *walk, uint32_t offset,
                      const struct ekv_record_layout *layout)
{
    const struct ekv_key *key = walk->filter;
    uint8_t kind = ekv_type_kind(layout->type);
    if (!key || kind >= EKV_RECORD_COMMIT)
        return true;
    uint8_t space = layout->type & EKV_RECORD_ASIDE ? EKV_ASIDE : EKV_USER;
    return kind <= EKV_RECORD_HEAD && key->space == space && key->size == layout->key_size &&
           memcmp(key->bytes, walk->bytes + offset + layout->head_size, key->size) == 0;
}

/* Whether a record begins at `offset`, as far as is looked. */
static bool is_record(const struct walk *walk, uint32_t offset, struct ekv_record_layout *layout)
{
    return decode(walk, offset, layout) && (!is_wanted(walk, offset, layout) ||
                                            survey_record_valid(walk->survey, walk->bytes + offset,
                                                                layout, walk->sequence, offset));
}

/* The next place behind `offset` where a record begins; the sector's size if there is none. */
static uint32_t search(struct walk *walk, uint32_t offset)
{
    const struct ekv_format *format = &walk->survey->format;
    uint32_t size = format->geometry.sector_size;
    for (offset += format->alignment; offset < size; offset += format->alignment) {
        struct ekv_record_layout layout;
        if (!decode(walk, offset, &layout))
            continue;
        if (walk->budget < layout.size)
            return size;
        walk->budget -= layout.size;
        if (survey_record_valid(walk->survey, walk->bytes + offset, &layout, walk->sequence,
                                offset))
            return offset;
    }
    return size;
}

/* Where the blank end of a sector begins. */
static uint32_t blank_from(const uint8_t *bytes, uint32_t size, uint32_t alignment)
{
    while (size > 0 && bytes[size - 1] == 0xff)
        size--;
    return ekv_align(size, alignment);
}

int survey_log_walk(const struct survey *survey, const uint8_t *bytes, uint32_t sequence,
                    const struct ekv_key *filter,
                    int (*visit)(void *context, const struct survey_item *item), void *context)
{
    const struct ekv_format *format = &survey->format;
    uint32_t size = format->geometry.sector_size, end = blank_from(bytes, size, format->alignment);
    struct walk walk = {survey, bytes, sequence, filter, (uint64_t)SEARCH_MAX * size};
    int error = EKV_OK;
    for (uint32_t offset = format->body_offset; !error && offset < size;) {
        struct survey_item item = {.offset = offset, .bytes = bytes + offset};
        if (is_record(&walk, offset, &item.layout)) {
            item.kind = SURVEY_RECORD;
            item.valid = true;
            item.size = item.layout.size;
        } else if (offset >= end) {
            item.kind = SURVEY_EMPTY;
            item.size = size - offset;
        } else {
            uint32_t next = search(&walk, offset);
            bool framed = decode(&walk, offset, &item.layout) &&
                          offset + item.layout.size == (next < size ? next : end);
            item.kind = framed ? SURVEY_RECORD : SURVEY_UNCLEAR;
            item.size = ekv_min(next, ekv_max(end, offset + 1)) - offset;
        }
        error = visit(context, &item);
        offset += item.size;
    }
    return error;
}

/* --- Into the survey ------------------------------------------------------------------------- */

struct scan {
    struct survey *survey;
    uint32_t sector;
    uint32_t flight; /* the last byte that a torn program can have reached; 0: no gap so far */
    uint32_t gap;    /* where the gap began */
    bool framed;     /* it is a record that is damaged, and told of as such */
    bool close_torn; /* what is broken lies where a close record may have been torn */
};

static uint64_t links_size(const uint8_t *links, uint32_t size)
{
    uint64_t sum = 0;
    for (uint32_t at = 0; at + EKV_LINK_SIZE <= size; at += EKV_LINK_SIZE)
        sum += ekv_load32(links + at + 4);
    return sum;
}

/* A copy of a damaged record that is put right, to be freed; NULL if it cannot be. */
static uint8_t *mended(const struct scan *scan, const struct survey_item *item)
{
    const struct survey *survey = scan->survey;
    uint8_t *copy = malloc(item->size);
    if (!copy)
        return NULL;
    memcpy(copy, item->bytes, item->size);
    if (survey_record_mend(survey, copy, &item->layout, survey->sectors[scan->sector].sequence,
                           item->offset))
        return copy;
    free(copy);
    return NULL;
}

static int64_t time_of(const struct survey_item *item)
{
    const uint8_t *at = item->bytes + ekv_record_time_offset(&item->layout);
    return item->layout.type & EKV_RECORD_TIMED ? (int64_t)ekv_load(at, EKV_RECORD_TIME_SIZE) : 0;
}

static int add_record(struct scan *scan, const struct survey_item *item, uint64_t position,
                      bool mendable)
{
    struct survey *survey = scan->survey;
    const struct ekv_record_layout *layout = &item->layout;
    int error = survey_grow(&survey->records, &survey->parts->record_capacity, survey->record_count,
                            sizeof *survey->records);
    if (error)
        return error;
    struct survey_record *record = &survey->records[survey->record_count];
    *record = (struct survey_record){
        .key = survey_keep(survey, item->bytes + layout->head_size, layout->key_size),
        .key_size = layout->key_size,
        .space = layout->type & EKV_RECORD_ASIDE ? EKV_ASIDE : EKV_USER,
        .kind = ekv_type_kind(layout->type),
        .flags = layout->type & ~EKV_RECORD_KIND_MASK,
        .state = SURVEY_UNKNOWN,
        .valid = item->valid,
        .mendable = mendable,
        .version = position,
        .position = position,
        .size = layout->value_size,
        .address = ekv_address(&survey->format, scan->sector, item->offset),
        .record_size = layout->size,
    };
    if (!record->key)
        return EKV_MEMORY;
    if (record->flags & EKV_RECORD_MOVED)
        record->version =
            ekv_load(item->bytes + ekv_record_version_offset(layout), EKV_RECORD_VERSION_SIZE);
    record->time = time_of(item);
    if (record->kind == EKV_RECORD_HEAD)
        record->size = links_size(item->bytes + layout->head_size + layout->key_size + 1,
                                  layout->value_size - 1);
    if (record->valid && record->flags & (EKV_RECORD_COMMITS | EKV_RECORD_MOVED))
        record->state = SURVEY_COMMITTED;
    record->begin = record->commit = record->version;
    survey->record_count++;
    return EKV_OK;
}

static int add_commit(struct scan *scan, const struct survey_item *item, uint64_t position)
{
    struct survey_parts *parts = scan->survey->parts;
    const uint8_t *value = item->bytes + item->layout.head_size;
    int error = survey_grow(&parts->commits, &parts->commit_capacity, parts->commit_count,
                            sizeof *parts->commits);
    if (!error)
        parts->commits[parts->commit_count++] =
            (struct survey_commit){.position = position,
                                   .time = time_of(item),
                                   .address = ekv_load32(value + 4),
                                   .count = ekv_load32(value)};
    return error;
}

static int add_pending(struct scan *scan, uint64_t position)
{
    struct survey_parts *parts = scan->survey->parts;
    int error = survey_grow(&parts->pendings, &parts->pending_capacity, parts->pending_count,
                            sizeof *parts->pendings);
    if (!error)
        parts->pendings[parts->pending_count++] = position;
    return error;
}

/* A gap was met before this record: torn, or damage? */
static int judge_gap(struct scan *scan, const struct survey_item *item)
{
    struct survey *survey = scan->survey;
    if (scan->flight == 0)
        return EKV_OK;
    uint8_t kind = ekv_type_kind(item->layout.type);
    if (kind == EKV_RECORD_OPEN && scan->close_torn) {
        scan->flight = 0;
        return EKV_OK;
    }
    /* In flight with it, as long as nothing in a later page follows; marks are programs of their
     * own.
     */
    if (kind < EKV_RECORD_CLOSE && item->offset / EKV_PAGE_SIZE <= scan->flight / EKV_PAGE_SIZE)
        return EKV_OK;
    uint32_t address = ekv_address(&survey->format, scan->sector, scan->gap);
    scan->flight = 0;
    survey->sectors[scan->sector].broken_count++;
    if (scan->framed)
        return EKV_OK;
    return survey_find_broken(survey, "log-damage", address,
                              "bytes in the log are no record, and valid ones follow");
}

static void note_gap(struct scan *scan, const struct survey_item *item)
{
    struct ekv_record_layout close = {.type = EKV_RECORD_CLOSE, .value_size = EKV_CLOSE_SIZE};
    struct ekv_record_layout layout;
    const struct ekv_format *format = &scan->survey->format;
    uint32_t room = format->geometry.sector_size - item->offset;
    if (scan->flight != 0) {
        scan->framed &= item->kind == SURVEY_RECORD;
        return;
    }
    scan->framed =
        item->kind == SURVEY_RECORD && ekv_type_kind(item->layout.type) <= EKV_RECORD_HEAD;
    ekv_record_measure(format, &close);
    scan->close_torn = item->size == close.size;
    scan->gap = scan->flight = item->offset;
    uint32_t head = EKV_RECORD_HEAD_MAX, page = ekv_page_room(item->offset);
    if (ekv_record_head_decode(format, item->bytes, ekv_min(room, 32), room, &layout) == EKV_OK) {
        scan->flight = item->offset + layout.size - 1;
        head = layout.head_size;
    }
    if (page < head) /* the page behind may be the torn one, and have made the size of this */
        scan->flight = ekv_max(scan->flight, item->offset + page);
}

/* Takes a record into the survey, as it is or put right. */
static int take_record(struct scan *scan, const struct survey_item *item, bool mendable)
{
    struct survey *survey = scan->survey;
    uint8_t kind = ekv_type_kind(item->layout.type);
    uint64_t position =
        ekv_position(&survey->format, survey->sectors[scan->sector].sequence, item->offset);
    struct walk walk = {
        .survey = survey, .bytes = item->bytes - item->offset, .filter = survey->parts->filter};
    int error = EKV_OK;
    if (kind == EKV_RECORD_COMMIT && (item->valid || mendable))
        return add_commit(scan, item, position);
    if (kind > EKV_RECORD_HEAD)
        return EKV_OK;
    if ((item->valid || mendable) && !(item->layout.type & (EKV_RECORD_COMMITS | EKV_RECORD_MOVED)))
        error = add_pending(scan, position);
    if (!error && is_wanted(&walk, item->offset, &item->layout))
        error = add_record(scan, item, position, mendable);
    return error;
}

static int take(void *context, const struct survey_item *item)
{
    struct scan *scan = context;
    struct survey *survey = scan->survey;
    struct survey_sector *sector = &survey->sectors[scan->sector];
    if (item->kind == SURVEY_EMPTY)
        return EKV_OK;
    sector->used_size = item->offset + item->size;
    int error = item->valid ? judge_gap(scan, item) : EKV_OK;
    if (error)
        return error;
    if (!item->valid)
        note_gap(scan, item);
    else
        sector->record_count++;
    if (item->kind != SURVEY_RECORD)
        return EKV_OK;
    if (item->valid)
        return take_record(scan, item, false);
    struct survey_item right = *item;
    uint8_t *copy = mended(scan, item);
    right.bytes = copy ? copy : item->bytes;
    error = take_record(scan, &right, copy != NULL);
    free(copy);
    return error;
}

int survey_log_scan(struct survey *survey, uint32_t sector, const uint8_t *bytes)
{
    struct scan scan = {.survey = survey, .sector = sector};
    struct survey_sector *info = &survey->sectors[sector];
    info->used_size = survey->format.body_offset;
    int error = survey_log_walk(survey, bytes, info->sequence, survey->parts->filter, take, &scan);
    info->torn = scan.flight != 0;
    survey->parts->tears[sector] = info->torn ? scan.gap : 0;
    return error;
}

int survey_log_solve(const struct survey *survey, const uint8_t *bytes, uint32_t places,
                     uint32_t limit, uint32_t *sequence)
{
    const struct ekv_format *format = &survey->format;
    struct walk walk = {.survey = survey, .bytes = bytes};
    for (uint32_t offset = format->body_offset; offset < format->geometry.sector_size && places > 0;
         offset += format->alignment) {
        struct ekv_record_layout layout;
        if (!decode(&walk, offset, &layout))
            continue;
        places--;
        uint32_t size = layout.size - EKV_CRC_SIZE;
        *sequence = survey_solve(survey, EKV_KIND_LOG, offset, bytes + offset, size,
                                 ekv_load32(bytes + offset + size));
        if (*sequence > 0 && *sequence <= limit)
            return EKV_OK;
    }
    return EKV_NOT_FOUND;
}
