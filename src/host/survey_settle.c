/* Puts in relation what the scan of all sectors has gathered: what is current, which sectors are in
 * use, from where on the log is complete.
 *
 * Current is, with a whole manifest, what its runs point at and what replay reads: a removal may be
 * gone whose key's older value is still there. Without one the newest version has to do.
 */
#include <stdlib.h>
#include <string.h>

#include "survey_parts.h"

/* --- Order, copies, what is current ---------------------------------------------------------- */

static int compare_keys(const struct survey_record *a, const struct survey_record *b)
{
    if (a->space != b->space)
        return a->space < b->space ? -1 : 1;
    uint32_t size = ekv_min(a->key_size, b->key_size);
    int order = size ? memcmp(a->key, b->key, size) : 0;
    return order ? order : a->key_size < b->key_size ? -1 : a->key_size > b->key_size;
}

static int compare_records(const void *left, const void *right)
{
    const struct survey_record *a = left, *b = right;
    int order = compare_keys(a, b);
    if (order)
        return order;
    if (a->version != b->version)
        return a->version > b->version ? -1 : 1;
    if (a->valid != b->valid)
        return a->valid ? -1 : 1;
    if ((a->state == SURVEY_COMMITTED) != (b->state == SURVEY_COMMITTED))
        return a->state == SURVEY_COMMITTED ? -1 : 1;
    return a->position > b->position ? -1 : a->position < b->position;
}

uint32_t survey_key_end(const struct survey *survey, uint32_t index)
{
    const struct survey_record *first = &survey->records[index];
    while (++index < survey->record_count && compare_keys(first, &survey->records[index]) == 0)
        ;
    return index;
}

/* Whether a mount's lookup comes to this record by a run or by replay. */
static bool is_reached(const struct survey *survey, const struct survey_record *record)
{
    const struct survey_manifest *manifest = &survey->manifest;
    const struct ekv_format *format = &survey->format;
    uint32_t sector = ekv_sector_of(format, record->address);
    if (!manifest->found || !manifest->whole)
        return true;
    /* A copy that is moved and does not commit is of an older version. */
    bool kept = record->flags & EKV_RECORD_MOVED && !(record->flags & EKV_RECORD_COMMITS);
    if (survey->parts->replayed[sector] && !kept &&
        record->position >=
            ekv_position(format, manifest->replay_sequence, manifest->replay_offset))
        return true;
    return record->indexed &&
           (survey->parts->table[sector] == EKV_ITEM_LOG || survey->parts->replayed[sector]);
}

static void settle_keys(struct survey *survey)
{
    for (uint32_t i = 0, end; i < survey->record_count; i = end) {
        bool found = false;
        end = survey_key_end(survey, i);
        for (uint32_t j = i; j < end; j++) {
            struct survey_record *record = &survey->records[j];
            record->copy = j > i && record->version == survey->records[j - 1].version;
            if (!record->valid || record->state != SURVEY_COMMITTED)
                continue;
            if (record->version > survey->newest)
                survey->newest = record->version;
            if (survey->oldest == 0 || record->version < survey->oldest)
                survey->oldest = record->version;
            if (!found && is_reached(survey, record)) {
                /* Copies of one version: that in front speaks for all. */
                while (record->copy)
                    record--;
                found = record->current = true;
            }
        }
    }
}

/* --- Sectors --------------------------------------------------------------------------------- */

/* Whether the log goes on in this sector next: it is erased, and its stamp B may have been torn. */
static bool is_next(const struct survey *survey, uint32_t sector)
{
    uint32_t head = survey->parts->head;
    return survey->sectors[sector].role == SURVEY_READY ||
           (head != EKV_NO_SECTOR && survey->sectors[head].next == sector);
}

/* Sectors in use that are not there, and what of the manifest leads nowhere. */
static int find_missing(struct survey *survey)
{
    const struct survey_manifest *manifest = &survey->manifest;
    const struct ekv_format *format = &survey->format;
    int error = EKV_OK;
    if (!manifest->found && survey->sectors[0].role != SURVEY_MISSING)
        return survey_find_broken(survey, "no-manifest", 0, "no manifest can be read");
    if (!manifest->found)
        return survey_find_broken(survey, "sector-missing", 0,
                                  "the begin of the flash, with the manifest, is not there");
    if (!manifest->found || !manifest->whole)
        return EKV_OK;
    for (uint32_t i = 0; !error && i < format->geometry.sector_count; i++)
        if (survey->sectors[i].role == SURVEY_MISSING && survey->parts->table[i] != 0)
            error = survey_find_broken(survey, "sector-missing", ekv_address(format, i, 0),
                                       "a sector in use is not there");
    return error;
}

static void settle_role(struct survey *survey, uint32_t sector)
{
    struct survey_sector *info = &survey->sectors[sector];
    uint8_t table = survey->parts->table[sector];
    bool known = survey->manifest.found && survey->manifest.whole;
    bool used = table == EKV_ITEM_LOG || table == EKV_KIND_INDEX || survey->parts->replayed[sector];
    if (info->role == SURVEY_MISSING && info->kind == 0)
        return;
    if (known && table == EKV_ITEM_RETIRED)
        info->role = SURVEY_RETIRED;
    else if (info->kind == EKV_KIND_MANIFEST)
        info->role = SURVEY_MANIFEST;
    else if (info->kind != 0)
        info->role = known && !used                 ? SURVEY_STALE
                     : info->kind == EKV_KIND_INDEX ? SURVEY_INDEX
                                                    : SURVEY_LOG;
    else if (used && !is_next(survey, sector))
        info->role = SURVEY_DAMAGED;
}

static void settle_roles(struct survey *survey)
{
    const struct ekv_format *format = &survey->format;
    for (uint32_t i = 0; i < format->geometry.sector_count; i++)
        settle_role(survey, i);
    for (uint32_t i = 0; i < survey->finding_count; i++) {
        struct survey_finding *finding = &survey->findings[i];
        uint32_t sector = ekv_sector_of(format, finding->address);
        /* A run of a damaged manifest can lie outside of the flash. */
        uint8_t role =
            sector < format->geometry.sector_count ? survey->sectors[sector].role : SURVEY_MISSING;
        finding->note = role == SURVEY_STALE || role == SURVEY_FOREIGN || role == SURVEY_BLANK ||
                        role == SURVEY_READY || role == SURVEY_RETIRED;
    }
}

/* With a page of the index goes the way to its keys: those that nothing leads to any more, although
 * a version is in a sector in use. Some of them may have been removed long ago. */
static int find_unreached(struct survey *survey)
{
    bool damaged = survey->manifest.index_damaged;
    int error = EKV_OK;
    for (uint32_t i = 0, end; damaged && !error && i < survey->record_count; i = end) {
        const struct survey_record *record = &survey->records[i];
        uint32_t sector = ekv_sector_of(&survey->format, record->address);
        bool current = false;
        end = survey_key_end(survey, i);
        for (uint32_t j = i; j < end; j++)
            current |= survey->records[j].current;
        if (!current && record->valid && record->state == SURVEY_COMMITTED &&
            record->kind != EKV_RECORD_DELETE && survey->parts->table[sector] == EKV_ITEM_LOG)
            error =
                survey_find_broken_key(survey, "key-unreached",
                                       "nothing leads to this key; perhaps it was removed", record);
    }
    return error;
}

static int find_in_sectors(struct survey *survey)
{
    const struct ekv_format *format = &survey->format;
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < format->geometry.sector_count; i++) {
        const struct survey_sector *sector = &survey->sectors[i];
        bool used = sector->role == SURVEY_LOG || sector->role == SURVEY_INDEX ||
                    sector->role == SURVEY_MANIFEST;
        if (sector->role == SURVEY_DAMAGED)
            error = survey_find_broken(survey, "stamp-b", ekv_address(format, i, 0),
                                       "a sector in use does not say what it is any more");
        if (!error && used && !sector->stamped)
            error = survey_find_broken(survey, "stamp-a", ekv_address(format, i, 0),
                                       "a sector in use has no valid first stamp");
    }
    if (!error)
        error = find_unreached(survey);
    return error ? error : find_missing(survey);
}

/* From where on no sector of the log is missing or damaged. */
static void settle_complete(struct survey *survey)
{
    const struct survey_parts *parts = survey->parts;
    uint32_t place = parts->chain_count;
    survey->complete = survey->newest;
    while (place > 0) {
        const struct survey_sector *sector = &survey->sectors[parts->chain[--place]];
        if (sector->broken_count > 0 || sector->solved)
            return;
        survey->complete = ekv_position(&survey->format, sector->sequence, 0);
        if (sector->sequence == 1)
            survey->complete = 0;
        if (place == 0)
            return;
        const struct survey_sector *before = &survey->sectors[parts->chain[place - 1]];
        if (before->sequence + 1 != sector->sequence && !survey_resumes(survey, place))
            return;
    }
}

/* --- Live bytes ------------------------------------------------------------------------------ */

static int count_live(void *context, uint64_t offset, const uint8_t *bytes, uint32_t size,
                      uint32_t address)
{
    struct survey *survey = context;
    (void)offset;
    (void)bytes;
    survey->sectors[ekv_sector_of(&survey->format, address)].live_size += size;
    return EKV_OK;
}

static int settle_values(struct survey *survey)
{
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < survey->record_count; i++) {
        const struct survey_record *record = &survey->records[i];
        uint64_t lost = 0;
        if (!record->valid && !record->copy && !record->torn)
            error = survey_find_broken_key(survey, "record-crc", "a record is damaged", record);
        if (error || !record->current || record->kind == EKV_RECORD_DELETE)
            continue;
        uint32_t head = record->record_size;
        if (record->kind == EKV_RECORD_HEAD) {
            error = survey_value_visit(survey, record, count_live, survey, &lost);
            if (error == EKV_NOT_FOUND)
                error = EKV_OK;
        }
        survey->sectors[ekv_sector_of(&survey->format, record->address)].live_size += head;
        if (!error && lost > 0)
            error = survey_find_broken_key(survey, "value-crc",
                                           "parts of a value cannot be read any more", record);
    }
    return error;
}

int survey_settle(struct survey *survey)
{
    bool whole = !survey->parts->filter;
    int error = survey_commits_settle(survey);
    if (error)
        return error;
    if (survey->record_count)
        qsort(survey->records, survey->record_count, sizeof *survey->records, compare_records);
    settle_keys(survey);
    settle_complete(survey);
    if (whole)
        error = settle_values(survey);
    if (!error)
        settle_roles(survey);
    return error || !whole ? error : find_in_sectors(survey);
}
