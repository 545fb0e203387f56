/* What a store must hold: an ordered map in the memory of the host, and its comparison with a
 * mounted store. Keys and values are shared between copies of a model, so a copy is cheap.
 */
#ifndef EKV_TESTS_MODEL_H
#define EKV_TESTS_MODEL_H

#include "ekv.h"

struct model_blob {
    uint32_t references;
    uint32_t size;
    uint8_t bytes[];
};

/* `version` and `time` are 0 until a comparison has learnt them; from then on they must stay. */
struct model_entry {
    uint8_t space;
    struct model_blob *key;
    struct model_blob *value;
    uint64_t version;
    int64_t time;
};

struct model {
    struct model_entry *entries; /* ascending by space, then key */
    uint32_t count;
    uint32_t capacity;
};

void model_init(struct model *model);
void model_free(struct model *model);
/* `to` must be initialised; what it held is dropped. */
void model_copy(struct model *to, const struct model *from);

void model_put(struct model *model, struct ekv_key key, const void *value, size_t size);
/* Returns whether the key was there. */
bool model_delete(struct model *model, struct ekv_key key);
struct model_entry *model_find(const struct model *model, struct ekv_key key);
/* The position of the first entry at or after a key. */
uint32_t model_seek(const struct model *model, struct ekv_key key);
struct ekv_key model_key_of(const void *bytes, size_t size, uint8_t space);
struct ekv_key model_key(const struct model_entry *entry);
/* Keys in EKV_USER. */
uint32_t model_user_count(const struct model *model);
/* Bytes of all keys and values. */
uint64_t model_size(const struct model *model);

/* Why a comparison failed, in a sentence. */
struct model_why {
    char text[480];
};

/* Each compares every key, value and version: by cursors in both directions and by single gets.
 * They return whether all is equal; if not, `why` says what is not. Versions and times that the
 * model does not know yet are learnt. An error of the store is a difference. */
bool model_equals_store(struct model *model, struct ekv *db, struct model_why *why);
bool model_equals_snapshot(struct model *model, struct ekv_snapshot *snapshot,
                           struct model_why *why);
bool model_equals_txn(struct model *model, struct ekv_txn *txn, struct model_why *why);

/* Whether a mounted store has no finding; else `why` tells the first. */
bool model_store_is_sound(struct ekv *db, struct model_why *why);

/* The name of an enum ekv_result. */
const char *model_result_name(int result);

#endif
