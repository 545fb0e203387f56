/* What flash still holds of the past: surveys of the mounted store, shared by those who look.
 *
 * A survey reads the whole flash, so the newest one is kept until something was committed since.
 * Nothing of the past is pinned by looking at it: what was erased meanwhile is not there any more.
 *
 * Functions return 0 or an errno; ENOENT: flash does not hold it.
 */
#ifndef EKVFS_PAST_H
#define EKVFS_PAST_H

#include "host/moment.h"
#include "host/survey.h"
#include "store.h"

struct past {
    struct store *store;
    struct survey survey;
    atomic_uint refs;
    unsigned long long changes; /* of the store, then */
};

struct past_cache {
    pthread_mutex_t lock;
    struct past *newest;
};

void past_init(struct past_cache *cache);
void past_end(struct past_cache *cache);

/* The past as it is known now, with a reference. */
EKV_MUST_CHECK int past_open(struct past_cache *cache, struct store *store, struct past **past);
struct past *past_share(struct past *past);
void past_close(struct past *past);

/* The version that a moment means, at which flash still holds something. `settled`: it will not
 * mean another one later. */
EKV_MUST_CHECK int past_version(const struct past *past, const struct moment *moment,
                                uint64_t *version, bool *settled);

/* As a view at a version: see view.h. */
EKV_MUST_CHECK int past_find(const struct past *past, uint64_t version, struct ekv_key key,
                             struct ekv_entry *entry);
EKV_MUST_CHECK int past_get(const struct past *past, uint64_t version, struct ekv_key key,
                            uint64_t offset, void *buffer, size_t capacity, size_t *size);

/* Walks the keys that were there. Begin it with the view's past, version and space. */
struct past_cursor {
    const struct past *past;
    uint64_t version;
    uint8_t space;
    uint32_t next;                      /* record to go on from */
    const struct survey_record *record; /* where it stands */
};

EKV_MUST_CHECK int past_seek(struct past_cursor *cursor, struct ekv_key key);
EKV_MUST_CHECK int past_next(struct past_cursor *cursor);

/* --- Single keys -------------------------------------------------------------------------------
 */

/* Whether a record is a version of its key to be shown: committed, and no second copy. */
bool past_is_version(const struct survey_record *record);
void past_entry(const struct survey_record *record, struct ekv_entry *entry);

/* Whether all of its value is on flash: the pieces of a large one may go before its head. */
bool past_is_whole(const struct past *past, const struct survey_record *record);

/* A whole value in fresh memory. EIO: parts of it are gone. */
EKV_MUST_CHECK int past_load(const struct past *past, const struct survey_record *record,
                             uint8_t **value, size_t *size);

#endif
