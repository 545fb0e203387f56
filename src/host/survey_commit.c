/* Decides which records were committed, and together with which others.
 *
 * A record is committed by its own flag, by a commit record that covers it, or by a run that points
 * at it. Between the first record of a transaction and its commit record there is no other pending
 * record, so the nearest ones before a commit record are its own, as long as the sectors follow
 * each other. What lies behind a tear at the end of the log is not committed by anything.
 */
#include <stdlib.h>
#include <string.h>

#include "survey_parts.h"

/* No memtable is smaller, so no transaction of so few keys was committed by a run. */
enum { BY_RECORD_MAX = 8 };

/* --- Log sectors by sequence ----------------------------------------------------------------- */

/* By Shell: it needs the survey to compare, which qsort does not hand over. */
static void sort_chain(struct survey *survey)
{
    struct survey_parts *parts = survey->parts;
    const struct survey_sector *sectors = survey->sectors;
    parts->chain_count = 0;
    for (uint32_t i = 0; i < survey->format.geometry.sector_count; i++)
        if (sectors[i].kind == EKV_KIND_LOG)
            parts->chain[parts->chain_count++] = i;
    for (uint32_t gap = parts->chain_count / 2; gap > 0; gap /= 2)
        for (uint32_t i = gap; i < parts->chain_count; i++) {
            uint32_t sector = parts->chain[i], j = i;
            for (; j >= gap && sectors[parts->chain[j - gap]].sequence > sectors[sector].sequence;
                 j -= gap)
                parts->chain[j] = parts->chain[j - gap];
            parts->chain[j] = sector;
        }
    parts->head = parts->chain_count ? parts->chain[parts->chain_count - 1] : EKV_NO_SECTOR;
}

uint32_t survey_chain_place(const struct survey *survey, uint32_t sequence)
{
    const struct survey_parts *parts = survey->parts;
    uint32_t low = 0, high = parts->chain_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (survey->sectors[parts->chain[middle]].sequence <= sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? low - 1 : parts->chain_count;
}

bool survey_follows(const struct survey *survey, uint32_t place)
{
    const struct survey_parts *parts = survey->parts;
    if (place == 0 || place >= parts->chain_count)
        return false;
    const struct survey_sector *sector = &survey->sectors[parts->chain[place]];
    const struct survey_sector *before = &survey->sectors[parts->chain[place - 1]];
    return before->sequence + 1 == sector->sequence &&
           (before->next == parts->chain[place] || before->solved);
}

bool survey_resumes(const struct survey *survey, uint32_t place)
{
    const struct survey_parts *parts = survey->parts;
    if (place == 0 || place >= parts->chain_count)
        return false;
    const struct survey_sector *sector = &survey->sectors[parts->chain[place]];
    const struct survey_sector *before = &survey->sectors[parts->chain[place - 1]];
    return before->sequence + 2 == sector->sequence &&
           (sector->previous_end == 0 || sector->previous_end & EKV_END_RESUMED);
}

/* The log sector with this number, by which the log goes on behind one whose stamp B is broken. */
static uint32_t sector_numbered(const struct survey *survey, uint32_t sequence)
{
    const struct survey_parts *parts = survey->parts;
    uint32_t place = survey_chain_place(survey, sequence);
    bool there =
        place < parts->chain_count && survey->sectors[parts->chain[place]].sequence == sequence;
    return there ? parts->chain[place] : EKV_NO_SECTOR;
}

/* The sectors that a mount replays. A manifest that does not say where does not say either what was
 * removed since its runs were written: then the newest versions have to do. */
static int mark_replayed(struct survey *survey)
{
    struct survey_manifest *manifest = &survey->manifest;
    uint32_t count = survey->format.geometry.sector_count;
    uint32_t sector = manifest->replay_sector, sequence = manifest->replay_sequence;
    for (uint32_t i = 0; manifest->found && i < count && sector < count; i++) {
        const struct survey_sector *info = &survey->sectors[sector];
        if (info->kind != EKV_KIND_LOG || info->sequence != sequence)
            break;
        survey->parts->replayed[sector] = true;
        sequence++;
        sector = info->solved ? sector_numbered(survey, sequence) : info->next;
    }
    sector = manifest->replay_sector;
    if (!manifest->found || !manifest->whole || sector >= count || survey->parts->replayed[sector])
        return EKV_OK;
    const struct survey_sector *first = &survey->sectors[sector];
    if (first->role == SURVEY_MISSING && first->kind == 0)
        return EKV_OK;
    manifest->whole = false;
    if (survey->parts->filter)
        return EKV_OK;
    return survey_find_broken(survey, "replay-position", ekv_address(&survey->format, sector, 0),
                              "the log does not begin where the manifest says");
}

/* --- Torn ends ------------------------------------------------------------------------------- */

/* The log went on behind the place where this sector is torn, so that was damage; not if it went on
 * in the next sector from this very place: then the program had failed, and that was known. */
static bool went_on(const struct survey *survey, uint32_t sector)
{
    const struct survey_parts *parts = survey->parts;
    uint32_t place = survey_chain_place(survey, survey->sectors[sector].sequence);
    return survey_follows(survey, place + 1) &&
           survey->sectors[parts->chain[place + 1]].previous_end != parts->tears[sector];
}

/* What stands behind a tear in the same page was in flight with it, and does not count. */
static int judge_tears(struct survey *survey)
{
    const struct ekv_format *format = &survey->format;
    struct survey_parts *parts = survey->parts;
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < format->geometry.sector_count; i++) {
        struct survey_sector *sector = &survey->sectors[i];
        if (!sector->torn || !went_on(survey, i))
            continue;
        uint32_t at = parts->tears[i];
        sector->torn = false;
        parts->tears[i] = 0;
        sector->broken_count++;
        error = survey_find_broken(survey, "log-damage", ekv_address(format, i, at),
                                   "bytes in the log are no record, and it went on behind them");
    }
    return error;
}

bool survey_is_torn(const struct survey *survey, uint64_t position)
{
    uint32_t place = survey_chain_place(survey, ekv_position_sequence(&survey->format, position));
    if (place == survey->parts->chain_count)
        return false;
    uint32_t tear = survey->parts->tears[survey->parts->chain[place]];
    return tear != 0 && position % survey->format.geometry.sector_size >= tear;
}

/* --- Commits --------------------------------------------------------------------------------- */

static int compare_positions(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static int compare_commits(const void *left, const void *right)
{
    const struct survey_commit *a = left, *b = right;
    return a->position < b->position ? -1 : a->position > b->position;
}

/* How many pending records lie before a position. */
static uint32_t pendings_before(const struct survey *survey, uint64_t position)
{
    const struct survey_parts *parts = survey->parts;
    uint32_t low = 0, high = parts->pending_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (parts->pendings[middle] < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first position that a commit record covers. */
static void measure_commit(struct survey *survey, struct survey_commit *commit)
{
    const struct ekv_format *format = &survey->format;
    const struct survey_parts *parts = survey->parts;
    uint32_t sequence = ekv_position_sequence(format, commit->position);
    uint32_t sector = ekv_sector_of(format, commit->address);
    uint32_t end = pendings_before(survey, commit->position);
    const struct survey_sector *first =
        sector < format->geometry.sector_count ? &survey->sectors[sector] : NULL;
    if (first && first->kind == EKV_KIND_LOG && first->sequence <= sequence) {
        commit->begin =
            ekv_position(format, first->sequence, ekv_offset_of(format, commit->address));
    } else {
        /* That sector is gone: as many as it counts, as far as the log is there without a gap. */
        uint32_t place = survey_chain_place(survey, sequence);
        while (survey_follows(survey, place))
            place--;
        uint64_t bound = ekv_position(format, survey->sectors[parts->chain[place]].sequence, 0);
        uint32_t begin = end - ekv_min(end, commit->count);
        commit->begin = begin < end ? parts->pendings[begin] : commit->position;
        commit->begin = commit->begin > bound ? commit->begin : bound;
    }
    commit->found = end - pendings_before(survey, commit->begin);
    if (commit->begin > commit->position || commit->found > commit->count) {
        commit->begin = commit->position; /* no commit record that a writer writes */
        commit->found = 0;
    }
}

/* Free, and partly erased or overwritten already. */
static bool is_half_gone(const struct survey *survey, uint32_t sector)
{
    const struct survey_parts *parts = survey->parts;
    return survey->sectors[sector].broken_count > 0 && survey->manifest.whole &&
           parts->table[sector] != EKV_ITEM_LOG && !parts->replayed[sector];
}

/* Whether all that lies between the first record of a transaction and its commit record is there,
 * so that they can be counted. */
static bool is_countable(const struct survey *survey, const struct survey_commit *commit)
{
    const struct survey_sector *sector;
    uint32_t index = ekv_sector_of(&survey->format, commit->address);
    uint32_t sequence = ekv_position_sequence(&survey->format, commit->position);
    sector = &survey->sectors[index];
    if (sector->kind != EKV_KIND_LOG || sector->sequence > sequence)
        return false; /* reused since */
    uint32_t place = survey_chain_place(survey, sequence);
    for (; survey->sectors[survey->parts->chain[place]].sequence > sector->sequence; place--)
        if (!survey_follows(survey, place) || is_half_gone(survey, survey->parts->chain[place - 1]))
            return false;
    return true;
}

static int find_miscounted(struct survey *survey)
{
    const struct survey_parts *parts = survey->parts;
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < parts->commit_count; i++) {
        const struct survey_commit *commit = &parts->commits[i];
        uint32_t place =
            survey_chain_place(survey, ekv_position_sequence(&survey->format, commit->position));
        uint32_t offset = commit->position % survey->format.geometry.sector_size;
        bool nowhere =
            ekv_sector_of(&survey->format, commit->address) >= survey->format.geometry.sector_count;
        if (nowhere || (commit->found != commit->count && is_countable(survey, commit)))
            error = survey_find_broken(survey, "commit-count",
                                       ekv_address(&survey->format, parts->chain[place], offset),
                                       "a commit record does not count the records that are there");
    }
    return error;
}

static void settle_commits(struct survey *survey)
{
    struct survey_parts *parts = survey->parts;
    uint32_t kept = 0;
    if (parts->pending_count)
        qsort(parts->pendings, parts->pending_count, sizeof *parts->pendings, compare_positions);
    if (parts->commit_count)
        qsort(parts->commits, parts->commit_count, sizeof *parts->commits, compare_commits);
    for (uint32_t i = 0; i < parts->commit_count; i++)
        if (!survey_is_torn(survey, parts->commits[i].position))
            parts->commits[kept++] = parts->commits[i];
    parts->commit_count = kept;
    for (uint32_t i = 0; i < kept; i++)
        measure_commit(survey, &parts->commits[i]);
}

/* The commit record that covers a version, or NULL. */
static const struct survey_commit *covering(const struct survey *survey, uint64_t version)
{
    const struct survey_parts *parts = survey->parts;
    uint32_t low = 0, high = parts->commit_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (parts->commits[middle].position <= version)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == parts->commit_count || parts->commits[low].begin > version)
        return NULL;
    return &parts->commits[low];
}

/* Pending records between the commit records before and behind a position. */
static uint32_t pendings_around(const struct survey *survey, uint64_t position)
{
    const struct survey_parts *parts = survey->parts;
    uint32_t low = 0, high = parts->commit_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (parts->commits[middle].position < position)
            low = middle + 1;
        else
            high = middle;
    }
    uint64_t begin = low > 0 ? parts->commits[low - 1].position : 0;
    uint64_t end = low < parts->commit_count ? parts->commits[low].begin : UINT64_MAX;
    return pendings_before(survey, end) - pendings_before(survey, begin);
}

/* A pending record that no commit record covers: was one surely never written? Yes, if the log goes
 * on without a gap to its end, and if there are not so many of them that a run can have committed
 * them. */
static bool is_surely_pending(const struct survey *survey, uint64_t position)
{
    const struct survey_parts *parts = survey->parts;
    if (pendings_around(survey, position) > BY_RECORD_MAX)
        return false;
    uint32_t place = survey_chain_place(survey, ekv_position_sequence(&survey->format, position));
    if (place == parts->chain_count)
        return false;
    for (; place + 1 < parts->chain_count; place++) {
        if (survey->sectors[parts->chain[place]].broken_count > 0)
            return false;
        if (!survey_follows(survey, place + 1))
            return survey_resumes(survey, place + 1) &&
                   !survey->sectors[parts->chain[place]].solved;
    }
    return true;
}

static void settle_record(struct survey *survey, struct survey_record *record)
{
    const struct survey_commit *commit = covering(survey, record->version);
    if (commit) {
        record->begin = commit->begin;
        record->commit = commit->position;
    }
    record->torn = !record->in_run && survey_is_torn(survey, record->position);
    if (!record->valid)
        return;
    if (record->in_run) {
        record->state = SURVEY_COMMITTED;
    } else if (record->torn) {
        record->state = SURVEY_UNKNOWN;
    } else if (!(record->flags & (EKV_RECORD_COMMITS | EKV_RECORD_MOVED))) {
        record->state = commit                                        ? SURVEY_COMMITTED
                        : is_surely_pending(survey, record->position) ? SURVEY_PENDING
                                                                      : SURVEY_UNKNOWN;
    }
}

/* --- Transactions without a commit record ---------------------------------------------------- */

static int compare_by_position(const void *left, const void *right)
{
    const struct survey_record *const *a = left, *const *b = right;
    return (*a)->position < (*b)->position ? -1 : (*a)->position > (*b)->position;
}

/* A record that only a run can have committed. */
static bool is_loose(const struct survey_record *record)
{
    return !(record->flags & EKV_RECORD_COMMITS) && record->commit == record->version;
}

/* Whether all of the log between two positions is there. */
static bool is_near(const struct survey *survey, uint64_t from, uint64_t to)
{
    uint32_t place = survey_chain_place(survey, ekv_position_sequence(&survey->format, to));
    uint32_t sequence = ekv_position_sequence(&survey->format, from);
    const uint32_t *chain = survey->parts->chain;
    while (survey->sectors[chain[place]].sequence > sequence) {
        if (!survey_follows(survey, place))
            return false;
        place--;
    }
    return true;
}

/* Records that a run committed, with nothing else between them, are one transaction. */
static int group_by_run(struct survey *survey)
{
    struct survey_record **order = malloc((survey->record_count + 1) * sizeof(void *));
    if (!order)
        return EKV_MEMORY;
    uint32_t count = 0;
    for (uint32_t i = 0; i < survey->record_count; i++)
        if (!(survey->records[i].flags & EKV_RECORD_MOVED))
            order[count++] = &survey->records[i];
    qsort(order, count, sizeof *order, compare_by_position);
    for (uint32_t i = 0, end; i < count; i = end) {
        struct survey_record *first = NULL, *last = NULL;
        for (end = i; end < count && is_loose(order[end]); end++) {
            if (end > i && !is_near(survey, order[end - 1]->position, order[end]->position))
                break;
            first = first || !order[end]->in_run ? first : order[end];
            last = order[end]->in_run ? order[end] : last;
        }
        end += end == i;
        for (uint32_t j = i; first && j < end; j++) {
            if (!order[j]->in_run)
                order[j]->state = SURVEY_UNKNOWN; /* of it, or of an aborted one beside it */
            if (order[j]->position < first->position || order[j]->position > last->position)
                continue;
            order[j]->begin = first->version;
            order[j]->commit = last->version;
        }
    }
    free(order);
    return EKV_OK;
}

int survey_commits_settle(struct survey *survey)
{
    bool whole = !survey->parts->filter;
    sort_chain(survey);
    int error = mark_replayed(survey);
    if (!error)
        error = judge_tears(survey);
    if (error)
        return error;
    survey_end_find(survey);
    settle_commits(survey);
    for (uint32_t i = 0; i < survey->record_count; i++)
        settle_record(survey, &survey->records[i]);
    if (whole)
        error = find_miscounted(survey);
    return error || !whole ? error : group_by_run(survey);
}
