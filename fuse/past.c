/* The past of the store, by surveys. They are made, and values are read from flash, under the
 * engine's read lock; in between a survey stands by itself. */
#include "past.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

static int past_errno(int error)
{
    switch (error) {
    case EKV_OK:
        return 0;
    case EKV_NOT_FOUND:
        return ENOENT;
    case EKV_MEMORY:
        return ENOMEM;
    default:
        return report_failure(EIO, "old versions cannot be read: the flash fails");
    }
}

/* --- Surveys -----------------------------------------------------------------------------------
 */

void past_init(struct past_cache *cache)
{
    pthread_mutex_init(&cache->lock, NULL);
    cache->newest = NULL;
}

void past_end(struct past_cache *cache)
{
    past_close(cache->newest);
    pthread_mutex_destroy(&cache->lock);
}

struct past *past_share(struct past *past)
{
    atomic_fetch_add(&past->refs, 1);
    return past;
}

void past_close(struct past *past)
{
    if (!past || atomic_fetch_sub(&past->refs, 1) > 1)
        return;
    survey_close(&past->survey);
    free(past);
}

static int make(struct store *store, struct past **past)
{
    struct ekv_stat stat;
    ekv_stat(store->db, &stat);
    struct survey_place place = {.geometry = stat.geometry, .store_id = stat.store_id};
    struct survey_source source = survey_source_of_flash(store->flash);
    *past = calloc(1, sizeof **past);
    if (!*past)
        return ENOMEM;
    (*past)->store = store;
    (*past)->changes = atomic_load(&store->changes);
    store_read(store);
    int error = survey_open(&(*past)->survey, &source, &place, NULL);
    store_read_end(store);
    if (error) {
        free(*past);
        *past = NULL;
        return past_errno(error);
    }
    atomic_init(&(*past)->refs, 1);
    return 0;
}

int past_open(struct past_cache *cache, struct store *store, struct past **past)
{
    int error = 0;
    pthread_mutex_lock(&cache->lock);
    if (!cache->newest || cache->newest->changes != atomic_load(&store->changes)) {
        struct past *newer;
        error = make(store, &newer);
        if (!error) {
            past_close(cache->newest);
            cache->newest = newer;
        }
    }
    *past = error ? NULL : past_share(cache->newest);
    pthread_mutex_unlock(&cache->lock);
    return error;
}

/* --- Moments -----------------------------------------------------------------------------------
 */

/* A record of a transaction has a version of its own, but was not there before the commit. */
static uint64_t visible_from(const struct survey *survey, uint64_t version)
{
    for (uint32_t i = 0; i < survey->record_count; i++) {
        const struct survey_record *record = &survey->records[i];
        if (record->version == version && record->state == SURVEY_COMMITTED &&
            record->begin > version)
            return record->begin;
    }
    return version;
}

int past_version(const struct past *past, const struct moment *moment, uint64_t *version,
                 bool *settled)
{
    const struct survey *survey = &past->survey;
    uint64_t newest = survey->newest, of_now;
    *settled = true;
    if (moment->timed) {
        int error = survey_time_version(survey, moment->time, version);
        if (error)
            return error == EKV_NOT_FOUND
                       ? report_refusal(ENOENT, "flash holds nothing from that time or before")
                       : past_errno(error);
        *settled = survey_time_version(survey, moment->time + 1, &of_now) == EKV_OK &&
                   moment->time < store_now() - 1000000;
        return 0;
    }
    *version = visible_from(survey, moment->version);
    if (*version > newest)
        return report_refusal(ENOENT, "the newest version is %llu", (unsigned long long)newest);
    if (*version < survey->oldest)
        return report_refusal(ENOENT, "the oldest version that flash holds is %llu",
                              (unsigned long long)survey->oldest);
    return 0;
}

/* --- Keys --------------------------------------------------------------------------------------
 */

bool past_is_version(const struct survey_record *record)
{
    return record->state == SURVEY_COMMITTED && !record->copy;
}

void past_entry(const struct survey_record *record, struct ekv_entry *entry)
{
    *entry = (struct ekv_entry){.version = record->version,
                                .time = record->time,
                                .size = record->size,
                                .removed = record->kind == EKV_RECORD_DELETE};
}

static int visit_nothing(void *context, uint64_t offset, const uint8_t *bytes, uint32_t size,
                         uint32_t address)
{
    (void)context;
    (void)offset;
    (void)bytes;
    (void)size;
    (void)address;
    return EKV_OK;
}

bool past_is_whole(const struct past *past, const struct survey_record *record)
{
    uint64_t lost = 0;
    if (record->kind != EKV_RECORD_HEAD)
        return true;
    store_read(past->store);
    int error = survey_value_visit(&past->survey, record, visit_nothing, NULL, &lost);
    store_read_end(past->store);
    return !error && lost == 0;
}

int past_load(const struct past *past, const struct survey_record *record, uint8_t **value,
              size_t *size)
{
    uint64_t length = 0, lost = 0;
    store_read(past->store);
    int error = survey_value(&past->survey, record, value, &length, &lost);
    store_read_end(past->store);
    *size = (size_t)length;
    if (error || lost == 0)
        return past_errno(error);
    free(*value);
    *value = NULL;
    return report_refusal(EIO, "%llu bytes of that version are not on flash any more",
                          (unsigned long long)lost);
}

/* The record of a key that was current, and no removal. */
static const struct survey_record *visible(const struct past *past, uint32_t index,
                                           uint64_t version)
{
    const struct survey_record *record = survey_visible(&past->survey, index, version, NULL);
    return record && record->kind != EKV_RECORD_DELETE ? record : NULL;
}

static const struct survey_record *find(const struct past *past, uint64_t version,
                                        struct ekv_key key)
{
    uint32_t first, end;
    if (survey_key_find(&past->survey, key, &first, &end) != EKV_OK)
        return NULL;
    return visible(past, first, version);
}

int past_find(const struct past *past, uint64_t version, struct ekv_key key,
              struct ekv_entry *entry)
{
    const struct survey_record *record = find(past, version, key);
    if (!record)
        return ENOENT;
    past_entry(record, entry);
    return 0;
}

int past_get(const struct past *past, uint64_t version, struct ekv_key key, uint64_t offset,
             void *buffer, size_t capacity, size_t *size)
{
    const struct survey_record *record = find(past, version, key);
    uint8_t *value;
    size_t length;
    if (!record)
        return ENOENT;
    int error = past_load(past, record, &value, &length);
    if (error)
        return error == ENOENT ? report_refusal(EIO, "that version is not on flash any more")
                               : error;
    size_t left = offset < length ? length - (size_t)offset : 0;
    size_t got = left < capacity ? left : capacity;
    if (got)
        memcpy(buffer, value + offset, got);
    if (size)
        *size = got;
    free(value);
    return 0;
}

/* --- Cursors -----------------------------------------------------------------------------------
 */

static int order(const struct survey_record *record, struct ekv_key key)
{
    if (record->space != key.space)
        return record->space < key.space ? -1 : 1;
    uint32_t size = record->key_size < key.size ? record->key_size : key.size;
    int difference = size ? memcmp(record->key, key.bytes, size) : 0;
    return difference ? difference : (record->key_size > key.size) - (record->key_size < key.size);
}

int past_next(struct past_cursor *cursor)
{
    const struct survey *survey = &cursor->past->survey;
    cursor->record = NULL;
    while (!cursor->record && cursor->next < survey->record_count &&
           survey->records[cursor->next].space == cursor->space) {
        cursor->record = visible(cursor->past, cursor->next, cursor->version);
        cursor->next = survey_key_end(survey, cursor->next);
    }
    return cursor->record ? 0 : ENOENT;
}

int past_seek(struct past_cursor *cursor, struct ekv_key key)
{
    const struct survey *survey = &cursor->past->survey;
    uint32_t low = 0, high = survey->record_count;
    key.space = cursor->space;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (order(&survey->records[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    cursor->next = low;
    return past_next(cursor);
}
