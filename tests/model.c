/* The model: a sorted array of shared keys and values. See model.h. */
#include "model.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Blobs ----------------------------------------------------------------------------------- */

static void *get_memory(void *old, size_t size)
{
    void *memory = realloc(old, size ? size : 1);
    if (!memory) {
        fprintf(stderr, "model: no memory\n");
        exit(2);
    }
    return memory;
}

static struct model_blob *blob_new(const void *bytes, size_t size)
{
    struct model_blob *blob = get_memory(NULL, sizeof *blob + size);
    blob->references = 1;
    blob->size = (uint32_t)size;
    if (size > 0)
        memcpy(blob->bytes, bytes, size);
    return blob;
}

static void blob_drop(struct model_blob *blob)
{
    if (--blob->references == 0)
        free(blob);
}

/* --- The map --------------------------------------------------------------------------------- */

void model_init(struct model *model)
{
    memset(model, 0, sizeof *model);
}

static void clear(struct model *model)
{
    for (uint32_t i = 0; i < model->count; i++) {
        blob_drop(model->entries[i].key);
        blob_drop(model->entries[i].value);
    }
    model->count = 0;
}

void model_free(struct model *model)
{
    clear(model);
    free(model->entries);
    model_init(model);
}

static void reserve(struct model *model, uint32_t count)
{
    if (count <= model->capacity)
        return;
    model->capacity = count * 2;
    model->entries = get_memory(model->entries, model->capacity * sizeof *model->entries);
}

void model_copy(struct model *to, const struct model *from)
{
    clear(to);
    reserve(to, from->count);
    for (uint32_t i = 0; i < from->count; i++) {
        to->entries[i] = from->entries[i];
        to->entries[i].key->references++;
        to->entries[i].value->references++;
    }
    to->count = from->count;
}

struct ekv_key model_key_of(const void *bytes, size_t size, uint8_t space)
{
    struct ekv_key key = ekv_key(bytes, size);
    key.space = space;
    return key;
}

struct ekv_key model_key(const struct model_entry *entry)
{
    return model_key_of(entry->key->bytes, entry->key->size, entry->space);
}

static int compare_keys(struct ekv_key a, struct ekv_key b)
{
    if (a.space != b.space)
        return a.space < b.space ? -1 : 1;
    uint32_t shared = a.size < b.size ? a.size : b.size;
    int order = shared ? memcmp(a.bytes, b.bytes, shared) : 0;
    if (order != 0 || a.size == b.size)
        return order;
    return a.size < b.size ? -1 : 1;
}

uint32_t model_seek(const struct model *model, struct ekv_key key)
{
    uint32_t low = 0, high = model->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare_keys(model_key(&model->entries[middle]), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct model_entry *model_find(const struct model *model, struct ekv_key key)
{
    uint32_t at = model_seek(model, key);
    if (at < model->count && compare_keys(model_key(&model->entries[at]), key) == 0)
        return &model->entries[at];
    return NULL;
}

void model_put(struct model *model, struct ekv_key key, const void *value, size_t size)
{
    struct model_entry *entry = model_find(model, key);
    if (!entry) {
        uint32_t at = model_seek(model, key);
        reserve(model, model->count + 1);
        entry = &model->entries[at];
        memmove(entry + 1, entry, (model->count - at) * sizeof *entry);
        model->count++;
        entry->space = key.space;
        entry->key = blob_new(key.bytes, key.size);
    } else {
        blob_drop(entry->value);
    }
    entry->value = blob_new(value, size);
    entry->version = 0;
    entry->time = 0;
}

bool model_delete(struct model *model, struct ekv_key key)
{
    struct model_entry *entry = model_find(model, key);
    if (!entry)
        return false;
    blob_drop(entry->key);
    blob_drop(entry->value);
    model->count--;
    memmove(entry, entry + 1, (size_t)(model->entries + model->count - entry) * sizeof *entry);
    return true;
}

uint32_t model_user_count(const struct model *model)
{
    uint32_t count = 0;
    while (count < model->count && model->entries[count].space == EKV_USER)
        count++;
    return count;
}

uint64_t model_size(const struct model *model)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < model->count; i++)
        size += model->entries[i].key->size + model->entries[i].value->size;
    return size;
}

/* --- Comparison ------------------------------------------------------------------------------ */

/* One of three things that can be read. */
struct view {
    struct ekv *db;
    struct ekv_snapshot *snapshot;
    struct ekv_txn *txn;
};

__attribute__((format(printf, 2, 3))) static bool differ(struct model_why *why, const char *format,
                                                         ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why->text, sizeof why->text, format, arguments);
    va_end(arguments);
    return false;
}

static const char *key_text(struct ekv_key key)
{
    static char text[64];
    const uint8_t *bytes = key.bytes;
    size_t used = (size_t)snprintf(text, sizeof text, "%u:", key.space);
    for (uint32_t i = 0; i < key.size && used < sizeof text - 12; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 bytes[i] >= ' ' && bytes[i] < 127 ? "%c" : "\\%02x", bytes[i]);
    snprintf(text + used, sizeof text - used, "[%" PRIu32 "]", key.size);
    return text;
}

static int view_get(const struct view *view, struct ekv_key key, uint64_t offset, void *buffer,
                    size_t capacity, size_t *size)
{
    if (view->txn)
        return ekv_txn_get(view->txn, key, offset, buffer, capacity, size);
    if (view->snapshot)
        return ekv_snapshot_get(view->snapshot, key, offset, buffer, capacity, size);
    return ekv_get(view->db, key, offset, buffer, capacity, size);
}

static int view_find(const struct view *view, struct ekv_key key, struct ekv_entry *entry)
{
    if (view->txn)
        return ekv_txn_find(view->txn, key, entry);
    if (view->snapshot)
        return ekv_snapshot_find(view->snapshot, key, entry);
    return ekv_find(view->db, key, entry);
}

static void view_open(const struct view *view, struct ekv_cursor *cursor, uint8_t space)
{
    if (view->txn)
        ekv_cursor_open_txn(cursor, view->txn, space);
    else if (view->snapshot)
        ekv_cursor_open_snapshot(cursor, view->snapshot, space);
    else
        ekv_cursor_open(cursor, view->db, space);
}

static bool same_entry(const struct view *view, struct model_entry *want,
                       const struct ekv_entry *entry, struct model_why *why)
{
    const char *name = key_text(model_key(want));
    if (entry->size != want->value->size)
        return differ(why, "%s has a value of %" PRIu64 " bytes, not %" PRIu32, name, entry->size,
                      want->value->size);
    if (entry->removed)
        return differ(why, "%s says that it was removed", name);
    if (view->txn) /* versions are given at the commit */
        return true;
    if (want->version == 0) {
        want->version = entry->version;
        want->time = entry->time;
    }
    if (entry->version != want->version)
        return differ(why, "%s has version %" PRIu64 ", had %" PRIu64, name, entry->version,
                      want->version);
    if (entry->time != want->time)
        return differ(why, "%s has time %" PRId64 ", had %" PRId64, name, entry->time, want->time);
    return true;
}

static bool same_bytes(const struct model_entry *want, int error, const uint8_t *bytes, size_t size,
                       uint64_t offset, size_t capacity, struct model_why *why)
{
    const char *name = key_text(model_key(want));
    if (error)
        return differ(why, "%s cannot be read: %s", name, model_result_name(error));
    uint64_t rest = offset < want->value->size ? want->value->size - offset : 0;
    if (size != (rest < capacity ? rest : capacity))
        return differ(why, "%s at %" PRIu64 " gives %zu of %zu bytes, has %" PRIu64, name, offset,
                      size, capacity, rest);
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != want->value->bytes[offset + i])
            return differ(why, "%s differs at byte %" PRIu64 " of %" PRIu32, name, offset + i,
                          want->value->size);
    return true;
}

/* The cursor stands on what must be `want`. */
static bool same_place(const struct view *view, struct ekv_cursor *cursor, struct model_entry *want,
                       struct model_why *why)
{
    struct ekv_entry entry;
    size_t size = 0;
    uint32_t capacity = want->key->size + want->value->size + 16;
    uint8_t *buffer = get_memory(NULL, capacity);
    int error = ekv_cursor_key(cursor, buffer, capacity, &size);
    bool same = true;
    if (error)
        same = differ(why, "the cursor's key cannot be read, where %s is: %s",
                      key_text(model_key(want)), model_result_name(error));
    else if (size != want->key->size || memcmp(buffer, want->key->bytes, size) != 0) {
        char expected[64];
        snprintf(expected, sizeof expected, "%s", key_text(model_key(want)));
        same = differ(why, "the cursor is on %s instead of %s",
                      key_text(model_key_of(buffer, size, cursor->space)), expected);
    }
    if (same && (error = ekv_cursor_entry(cursor, &entry)))
        same = differ(why, "the cursor's entry cannot be read: %s", model_result_name(error));
    same = same && same_entry(view, want, &entry, why);
    if (same) {
        error = ekv_cursor_read(cursor, 0, buffer, capacity, &size);
        same = same_bytes(want, error, buffer, size, 0, capacity, why);
    }
    free(buffer);
    return same;
}

static bool same_walk(const struct model *model, const struct view *view, uint8_t space, bool back,
                      struct model_why *why)
{
    struct ekv_cursor cursor;
    uint32_t first = model_seek(model, model_key_of("", 0, space));
    uint32_t end = space == EKV_USER ? model_user_count(model) : model->count;
    bool same = true;
    view_open(view, &cursor, space);
    for (uint32_t i = 0; same && i <= end - first; i++) {
        int error = back ? ekv_cursor_previous(&cursor) : ekv_cursor_next(&cursor);
        if (i == end - first && error != EKV_NOT_FOUND)
            same = differ(why, "walking %s space %u, %s follows the last of %" PRIu32 " keys",
                          back ? "back through" : "through", space, model_result_name(error), i);
        else if (i < end - first && error)
            same = differ(why, "walking %s space %u, key %" PRIu32 " of %" PRIu32 " (%s): %s",
                          back ? "back through" : "through", space, i, end - first,
                          key_text(model_key(&model->entries[back ? end - 1 - i : first + i])),
                          model_result_name(error));
        else if (i < end - first)
            same = same_place(view, &cursor, &model->entries[back ? end - 1 - i : first + i], why);
    }
    ekv_cursor_close(&cursor);
    return same;
}

static bool same_gets(const struct model *model, const struct view *view, struct model_why *why)
{
    struct ekv_entry entry;
    for (uint32_t i = 0; i < model->count; i++) {
        struct model_entry *want = &model->entries[i];
        struct ekv_key key = model_key(want);
        size_t size = 0, capacity = want->value->size + 1;
        uint8_t *buffer = get_memory(NULL, capacity);
        int error = view_get(view, key, 0, buffer, capacity, &size);
        bool same = same_bytes(want, error, buffer, size, 0, capacity, why);
        if (same && want->value->size > 2) { /* a piece from the middle */
            uint64_t offset = want->value->size / 3;
            capacity = want->value->size / 2;
            error = view_get(view, key, offset, buffer, capacity, &size);
            same = same_bytes(want, error, buffer, size, offset, capacity, why);
        }
        free(buffer);
        error = same ? view_find(view, key, &entry) : 0;
        if (error)
            same = differ(why, "%s is not found: %s", key_text(key), model_result_name(error));
        if (!same || !same_entry(view, want, &entry, why))
            return false;
    }
    return true;
}

static bool same_absence(const struct model *model, const struct view *view, struct model_why *why)
{
    static const char *const names[] = {"", "\xff\xff", "k", "k0", "absent", "k005x"};
    for (size_t i = 0; i < 2 * sizeof names / sizeof *names; i++) {
        struct ekv_entry entry;
        struct ekv_key key = model_key_of(names[i / 2], strlen(names[i / 2]), i % 2);
        int error = model_find(model, key) ? EKV_NOT_FOUND : view_find(view, key, &entry);
        if (error != EKV_NOT_FOUND)
            return differ(why, "%s, which is not there: %s", key_text(key),
                          model_result_name(error));
    }
    return true;
}

static bool equals(const struct model *model, const struct view *view, struct model_why *why)
{
    return same_walk(model, view, EKV_USER, false, why) &&
           same_walk(model, view, EKV_ASIDE, false, why) &&
           same_walk(model, view, EKV_USER, true, why) &&
           same_walk(model, view, EKV_ASIDE, true, why) && same_gets(model, view, why) &&
           same_absence(model, view, why);
}

bool model_equals_store(struct model *model, struct ekv *db, struct model_why *why)
{
    struct view view = {db, NULL, NULL};
    struct ekv_stat stat;
    if (!equals(model, &view, why))
        return false;
    ekv_stat(db, &stat);
    if (stat.keys != model_user_count(model))
        return differ(why, "the store counts %" PRIu64 " keys, has %" PRIu32, stat.keys,
                      model_user_count(model));
    return true;
}

bool model_equals_snapshot(struct model *model, struct ekv_snapshot *snapshot,
                           struct model_why *why)
{
    struct view view = {NULL, snapshot, NULL};
    return equals(model, &view, why);
}

bool model_equals_txn(struct model *model, struct ekv_txn *txn, struct model_why *why)
{
    struct view view = {NULL, NULL, txn};
    return equals(model, &view, why);
}

/* --- Soundness ------------------------------------------------------------------------------- */

static void on_finding(void *context, const struct ekv_finding *finding)
{
    struct model_why *why = context;
    if (!why->text[0])
        differ(why, "check finds %s at 0x%" PRIx32 ": %s", finding->code, finding->address,
               finding->text);
}

bool model_store_is_sound(struct ekv *db, struct model_why *why)
{
    why->text[0] = 0;
    int error = ekv_check(db, on_finding, why);
    if (error && !why->text[0])
        differ(why, "check ends with %s", model_result_name(error));
    return !why->text[0];
}

const char *model_result_name(int result)
{
    static const char *const good[] = {"ok", "not found", "conflict"};
    static const char *const bad[] = {"",          "io",        "corrupt",  "full",    "pinned",
                                      "too large", "read-only", "no store", "version", "geometry",
                                      "memory",    "invalid",   "busy"};
    if (result >= 0 && result < 3)
        return good[result];
    return result < 0 && result >= -12 ? bad[-result] : "an unknown result";
}
