/* Looks at a survey by key, by moment and by transaction.
 *
 * A moment is a version. A transaction that holds it is visible as a whole, so no moment shows half
 * of one.
 */
#include <stdlib.h>
#include <string.h>

#include "survey_parts.h"

static int compare_key(const struct survey_record *record, struct ekv_key key)
{
    if (record->space != key.space)
        return record->space < key.space ? -1 : 1;
    uint32_t size = ekv_min(record->key_size, key.size);
    int order = size ? memcmp(record->key, key.bytes, size) : 0;
    return order ? order : record->key_size < key.size ? -1 : record->key_size > key.size;
}

int survey_key_find(const struct survey *survey, struct ekv_key key, uint32_t *first, uint32_t *end)
{
    uint32_t low = 0, high = survey->record_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare_key(&survey->records[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *first = *end = low;
    if (low == survey->record_count || compare_key(&survey->records[low], key) != 0)
        return EKV_NOT_FOUND;
    *end = survey_key_end(survey, low);
    return EKV_OK;
}

static bool counts(const struct survey_record *record)
{
    return record->valid && record->state == SURVEY_COMMITTED && !record->copy;
}

const struct survey_record *survey_visible(const struct survey *survey, uint32_t index,
                                           uint64_t version, bool *certain)
{
    uint32_t end = survey_key_end(survey, index);
    bool doubt = false;
    for (; index < end; index++) {
        const struct survey_record *record = &survey->records[index];
        if (version == SURVEY_NOW ? !record->current : record->begin > version)
            continue;
        if (counts(record)) {
            if (certain)
                *certain = record->current || (!doubt && record->version >= survey->complete);
            return record;
        }
        doubt |= record->state == SURVEY_UNKNOWN;
    }
    if (certain)
        *certain = !doubt && survey->complete == 0;
    return NULL;
}

const struct survey_record *survey_deleted(const struct survey *survey, uint32_t index)
{
    const struct survey_record *now = survey_visible(survey, index, SURVEY_NOW, NULL);
    if (now && now->kind != EKV_RECORD_DELETE)
        return NULL;
    for (uint32_t end = survey_key_end(survey, index); index < end; index++)
        if (counts(&survey->records[index]) && survey->records[index].kind != EKV_RECORD_DELETE)
            return &survey->records[index];
    return NULL;
}

/* --- Transactions ---------------------------------------------------------------------------- */

static int compare_commits(const void *left, const void *right)
{
    const struct survey_record *const *a = left, *const *b = right;
    if ((*a)->commit != (*b)->commit)
        return (*a)->commit > (*b)->commit ? -1 : 1;
    return *a < *b ? -1 : *a > *b; /* the table is in the order of keys */
}

/* What its commit record tells, if it has one: when it was committed, and of how many records. */
static void ask_commit(const struct survey *survey, struct survey_transaction *transaction)
{
    const struct survey_parts *parts = survey->parts;
    uint32_t low = 0, high = parts->commit_count;
    transaction->complete = true;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (parts->commits[middle].position < transaction->version)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == parts->commit_count || parts->commits[low].position != transaction->version)
        return;
    const struct survey_commit *commit = &parts->commits[low];
    transaction->complete = commit->count <= transaction->count;
    if (commit->time != 0)
        transaction->time = commit->time;
}

int survey_transactions(const struct survey *survey, struct survey_transaction **transactions,
                        uint32_t *count)
{
    uint32_t records = 0, made = 0;
    for (uint32_t i = 0; i < survey->record_count; i++)
        records += counts(&survey->records[i]);
    size_t size = records * (sizeof **transactions + sizeof(void *)) + 1;
    struct survey_transaction *list = malloc(size);
    if (!list)
        return EKV_MEMORY;
    const struct survey_record **order = (const struct survey_record **)(list + records);
    for (uint32_t i = 0, at = 0; i < survey->record_count; i++)
        if (counts(&survey->records[i]))
            order[at++] = &survey->records[i];
    qsort(order, records, sizeof *order, compare_commits);
    for (uint32_t i = 0; i < records; i++) {
        struct survey_transaction *last = made ? &list[made - 1] : NULL;
        if (!last || last->version != order[i]->commit) {
            last = &list[made++];
            *last = (struct survey_transaction){.version = order[i]->commit, .records = order + i};
        }
        last->count++;
        last->time = order[i]->time > last->time ? order[i]->time : last->time;
    }
    for (uint32_t i = 0; i < made; i++)
        ask_commit(survey, &list[i]);
    *transactions = list;
    *count = made;
    return EKV_OK;
}

int survey_time_version(const struct survey *survey, int64_t time, uint64_t *version)
{
    struct survey_transaction *list;
    uint32_t count;
    int error = survey_transactions(survey, &list, &count);
    if (error)
        return error;
    error = EKV_NOT_FOUND;
    for (uint32_t i = 0; error && i < count; i++) {
        if (list[i].time == 0 || list[i].time > time)
            continue;
        *version = list[i].version;
        error = EKV_OK;
    }
    free(list);
    return error;
}
