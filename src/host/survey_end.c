/* Finds where the log ended though bytes of it follow.
 *
 * A crash of the host loses what it likes of what was written since the last sync: a hole is left
 * in the log, and records behind it, in the same sector and in later ones. A mount ends the log at
 * the hole, and the recovery that follows begins a log of its own that says so. What stands behind
 * the hole was never there; it is no damage either. On a chip there are no holes, but the bytes of
 * one may lie in a file: damage at the end of the log that reads 0xff is taken for a hole there,
 * too.
 */
#include "survey_parts.h"

/* The first place of a sector, from `from` on, where no record begins. */
struct gap {
    uint32_t from;
    uint32_t begin; /* 0: none */
    uint32_t end;   /* where a valid record follows; the sector's size: none does */
    uint32_t open;  /* where an open record would stand for it and a torn close record */
};

enum { FOUND = 1 };

static int visit(void *context, const struct survey_item *item)
{
    struct gap *gap = context;
    bool valid = item->kind == SURVEY_RECORD && item->valid;
    if (gap->begin == 0 && !valid && item->offset >= gap->from) {
        gap->begin = item->offset;
        gap->open = item->offset + item->size;
    } else if (gap->begin != 0 && valid && item->offset == gap->open &&
               ekv_type_kind(item->layout.type) == EKV_RECORD_OPEN) {
        gap->begin = 0;
    } else if (gap->begin != 0 && valid) {
        gap->end = item->offset;
        return FOUND;
    }
    return EKV_OK;
}

/* Whether there is a gap; then `bytes` are the sector's. */
static bool find_gap(const struct survey *survey, uint32_t sector, uint32_t from, struct gap *gap,
                     const uint8_t **bytes)
{
    *gap = (struct gap){.from = from, .end = survey->format.geometry.sector_size};
    *bytes = survey_sector_bytes(survey, sector, survey->parts->buffer);
    if (*bytes)
        (void)survey_log_walk(survey, *bytes, survey->sectors[sector].sequence, NULL, visit, gap);
    return gap->begin != 0;
}

/* Whether a block between the two places is blank from some place on, which is what it looks like
 * when the host did not write it back. `whole`: the log reached as far as `end` at least. */
static bool is_lost(const uint8_t *bytes, uint32_t begin, uint32_t end, bool whole)
{
    while (begin < end) {
        uint32_t block = ekv_align(begin + 1, EKV_HOST_BLOCK);
        if (block > end && !whole)
            return false;
        begin = ekv_min(block, end);
        if (bytes[begin - 1] == 0xff)
            return true;
    }
    return false;
}

/* The log ended in this sector at `offset`: what was found behind it there is nothing. */
static void end_at(struct survey *survey, uint32_t sector, uint32_t offset)
{
    struct survey_sector *info = &survey->sectors[sector];
    uint32_t kept = 0, begin = ekv_address(&survey->format, sector, 0);
    uint32_t size = survey->format.geometry.sector_size;
    survey->parts->tears[sector] = ekv_max(offset, survey->format.body_offset);
    info->torn = true;
    info->broken_count = 0;
    for (uint32_t i = 0; i < survey->finding_count; i++) {
        const struct survey_finding finding = survey->findings[i];
        bool here = finding.address >= begin && finding.address - begin < size;
        if (here && finding.address - begin >= offset)
            continue;
        info->broken_count += here;
        survey->findings[kept++] = finding;
    }
    survey->finding_count = kept;
}

/* Of the sector at this place of the chain and those behind it nothing counts. */
static void end_before(struct survey *survey, uint32_t place)
{
    struct survey_parts *parts = survey->parts;
    parts->head = parts->chain[place - 1];
    for (; place < parts->chain_count; place++) {
        uint32_t sector = parts->chain[place];
        end_at(survey, sector, 0);
        parts->replayed[sector] = false;
    }
}

/* From where on a sector may have a hole: what the manifest has counted was synced. */
static uint32_t uncounted(const struct survey *survey, uint32_t sequence)
{
    const struct ekv_format *format = &survey->format;
    uint64_t counted = survey->manifest.counted;
    if (sequence < ekv_position_sequence(format, counted))
        return format->geometry.sector_size;
    return sequence == ekv_position_sequence(format, counted)
               ? (uint32_t)(counted % format->geometry.sector_size)
               : 0;
}

/* Whether the log certainly did not go on in the sector that its head names: that was not stamped,
 * or has another number, and no edit of the manifest is torn, which could say more. */
static bool is_end(const struct survey *survey, uint32_t next)
{
    bool there = next < survey->format.geometry.sector_count;
    return there && (survey_stamp_is_blank(survey, next) ||
                     (survey->sectors[next].kind == EKV_KIND_LOG && !survey->sectors[next].solved &&
                      !survey->manifest.torn));
}

/* The end of the log that a mount replays, if the log went on behind it: at a hole, or before a
 * sector whose stamp was lost. */
static void end_replay(struct survey *survey)
{
    const struct survey_parts *parts = survey->parts;
    uint32_t size = survey->format.geometry.sector_size;
    uint32_t place = survey_chain_place(survey, survey->manifest.replay_sequence);
    for (; place < parts->chain_count && parts->replayed[parts->chain[place]]; place++) {
        struct gap gap;
        const uint8_t *bytes;
        uint32_t sector = parts->chain[place], next = survey->sectors[sector].next;
        bool follows = survey_follows(survey, place + 1);
        uint32_t from = uncounted(survey, survey->sectors[sector].sequence);
        if (find_gap(survey, sector, from, &gap, &bytes)) {
            bool inside = gap.end < size;
            if (!inside)
                gap.end = follows ? survey->sectors[parts->chain[place + 1]].previous_end : 0;
            if (is_lost(bytes, gap.begin, ekv_min(gap.end, size), !inside)) {
                end_at(survey, sector, gap.begin);
                end_before(survey, place + 1);
                return;
            }
        }
        if (!follows) {
            if (is_end(survey, next))
                end_before(survey, place + 1);
            return;
        }
    }
}

/* Holes that a recovery has left behind. Where what it began is erased already, they are known by
 * how they look. */
static void end_recovered(struct survey *survey)
{
    const struct survey_parts *parts = survey->parts;
    uint32_t size = survey->format.geometry.sector_size;
    for (uint32_t place = 0; place < parts->chain_count; place++) {
        struct gap gap;
        const uint8_t *bytes;
        uint32_t from = 0, sector = parts->chain[place];
        bool resumed = survey_resumes(survey, place + 1);
        if (parts->replayed[sector] || survey_follows(survey, place + 1) ||
            survey->sectors[sector].broken_count == 0)
            continue;
        if (resumed)
            from = survey->sectors[parts->chain[place + 1]].previous_end & ~EKV_END_RESUMED;
        if (find_gap(survey, sector, from, &gap, &bytes) && gap.end < size &&
            (resumed || is_lost(bytes, gap.begin, gap.end, false)))
            end_at(survey, sector, gap.begin);
    }
}

void survey_end_find(struct survey *survey)
{
    if (survey->manifest.found && survey->manifest.whole)
        end_replay(survey);
    end_recovered(survey);
}
