/* Puts in relation what the scan of all sectors has gathered: what was committed, what is current,
 * which sectors are in use, from where on the log is complete.
 *
 * A record is committed by its own flag, by a commit record that covers it, or by a run that points
 * at it. Between the first record of a transaction and its commit record there is no other pending
 * record, so the nearest ones before a commit record are its own, as long as the sectors follow
 * each other.
 *
 * Current is, with a whole manifest, what its runs point at and what replay reads: a removal may be
 * gone whose key's older value is still there. Without one the newest version has to do.
 */
#include <stdlib.h>
#include <string.h>

#include "survey_parts.h"

/* No memtable is smaller, so no transaction of so few keys was committed by a run. */
enum { BY_RECORD_MAX = 8 };

/* --- Log sectors by sequence ----------------------------------------------------------------- */

static void sort_chain(struct survey *survey)
{
    struct survey_parts *parts = survey->parts;
    const struct survey_sector *sectors = survey->sectors;
    parts->chain_count = 0;
    for (uint32_t i = 0; i < survey->format.geometry.sector_count; i++)
        if (sectors[i].kind == EKV_KIND_LOG)
            parts->chain[parts->chain_count++] = i;
    for (uint32_t gap = parts->chain_count / 2; gap > 0;
         gap /= 2) /* by Shell: few, almost sorted */
        for (uint32_t i = gap; i < parts->chain_count; i++) {
            uint32_t sector = parts->chain[i], j = i;
            for (; j >= gap && sectors[parts->chain[j - gap]].sequence > sectors[sector].sequence;
                 j -= gap)
                parts->chain[j] = parts->chain[j - gap];
            parts->chain[j] = sector;
        }
}

/* Place in the chain of the last sector with at most this sequence number; chain_count: none. */
static uint32_t chain_place(const struct survey *survey, uint32_t sequence)
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

/* Whether the sector at this place of the chain goes on where the one before it ended. */
static bool follows(const struct survey *survey, uint32_t place)
{
    const struct survey_parts *parts = survey->parts;
    if (place == 0 || place >= parts->chain_count)
        return false;
    const struct survey_sector *sector = &survey->sectors[parts->chain[place]];
    const struct survey_sector *before = &survey->sectors[parts->chain[place - 1]];
    return before->sequence + 1 == sector->sequence &&
           (before->next == parts->chain[place] || before->solved);
}

/* The sectors that a mount replays. */
static void mark_replayed(struct survey *survey)
{
    const struct survey_manifest *manifest = &survey->manifest;
    uint32_t count = survey->format.geometry.sector_count;
    uint32_t sector = manifest->replay_sector, sequence = manifest->replay_sequence;
    for (uint32_t i = 0; manifest->found && i < count && sector < count; i++) {
        const struct survey_sector *info = &survey->sectors[sector];
        if (info->kind != EKV_KIND_LOG || info->sequence != sequence)
            return;
        survey->parts->replayed[sector] = true;
        sector = info->next;
        sequence++;
    }
}

/* --- Torn ends ------------------------------------------------------------------------------- */

/* The log went on behind the place where this sector is torn, so that was damage. */
static bool went_on(const struct survey *survey, uint32_t sector)
{
    uint32_t place = chain_place(survey, survey->sectors[sector].sequence);
    return follows(survey, place + 1);
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

/* True if the record, or commit record, lies behind a tear. */
static bool is_torn(const struct survey *survey, uint64_t position)
{
    uint32_t place = chain_place(survey, ekv_position_sequence(&survey->format, position));
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
        uint32_t place = chain_place(survey, sequence);
        while (follows(survey, place))
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

static void settle_commits(struct survey *survey)
{
    struct survey_parts *parts = survey->parts;
    uint32_t kept = 0;
    if (parts->pending_count)
        qsort(parts->pendings, parts->pending_count, sizeof *parts->pendings, compare_positions);
    if (parts->commit_count)
        qsort(parts->commits, parts->commit_count, sizeof *parts->commits, compare_commits);
    for (uint32_t i = 0; i < parts->commit_count; i++)
        if (!is_torn(survey, parts->commits[i].position))
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
    uint32_t place = chain_place(survey, ekv_position_sequence(&survey->format, position));
    if (place == parts->chain_count)
        return false;
    for (; place + 1 < parts->chain_count; place++) {
        const struct survey_sector *next = &survey->sectors[parts->chain[place + 1]];
        if (survey->sectors[parts->chain[place]].broken_count > 0)
            return false;
        if (!follows(survey, place + 1))
            return next->previous_end == 0 && !survey->sectors[parts->chain[place]].solved;
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
    if (!record->valid)
        return;
    if (record->in_run) {
        record->state = SURVEY_COMMITTED;
    } else if (is_torn(survey, record->position)) {
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
    uint32_t place = chain_place(survey, ekv_position_sequence(&survey->format, to));
    uint32_t sequence = ekv_position_sequence(&survey->format, from);
    const uint32_t *chain = survey->parts->chain;
    while (survey->sectors[chain[place]].sequence > sequence) {
        if (!follows(survey, place))
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
    else if (used && info->role != SURVEY_READY) /* ready: the log goes on there next */
        info->role = SURVEY_DAMAGED;
}

static int settle_sectors(struct survey *survey)
{
    const struct ekv_format *format = &survey->format;
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < format->geometry.sector_count; i++) {
        struct survey_sector *sector = &survey->sectors[i];
        settle_role(survey, i);
        bool used = sector->role == SURVEY_LOG || sector->role == SURVEY_INDEX ||
                    sector->role == SURVEY_MANIFEST;
        if (sector->role == SURVEY_DAMAGED)
            error = survey_find_broken(survey, "stamp-b", ekv_address(format, i, 0),
                                       "a sector in use does not say what it is any more");
        if (!error && used && !sector->stamped)
            error = survey_find_broken(survey, "stamp-a", ekv_address(format, i, 0),
                                       "a sector in use has no valid first stamp");
    }
    for (uint32_t i = 0; i < survey->finding_count; i++) {
        struct survey_finding *finding = &survey->findings[i];
        uint8_t role = survey->sectors[ekv_sector_of(format, finding->address)].role;
        finding->note |= role == SURVEY_STALE || role == SURVEY_FOREIGN || role == SURVEY_BLANK ||
                         role == SURVEY_READY || role == SURVEY_RETIRED;
    }
    return error;
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
        bool recovered = sector->previous_end == 0 && before->sequence + 2 == sector->sequence;
        if (before->sequence + 1 != sector->sequence && !recovered)
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
        bool torn = is_torn(survey, record->position) && !record->indexed;
        if (!record->valid && !record->copy && !torn)
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
    sort_chain(survey);
    mark_replayed(survey);
    int error = judge_tears(survey);
    if (error)
        return error;
    settle_commits(survey);
    for (uint32_t i = 0; i < survey->record_count; i++)
        settle_record(survey, &survey->records[i]);
    if (whole)
        error = group_by_run(survey);
    if (error)
        return error;
    if (survey->record_count)
        qsort(survey->records, survey->record_count, sizeof *survey->records, compare_records);
    settle_keys(survey);
    settle_complete(survey);
    if (whole)
        error = settle_values(survey);
    return error ? error : settle_sectors(survey);
}
