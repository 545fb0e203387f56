/* Moves all that a path stands for, key by key, inside one batch.
 *
 * What is read is the store as it was before the batch, so the order of deletions and copies does
 * not matter to it. Copies keep their time: where the old value's commit time told it, the record
 * of attributes does from then on. One value is in memory at a time, except where a stage, of which
 * there is no earlier moment to read, has two names exchanged.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "change.h"

static bool has_prefix(const struct key *key, const uint8_t *prefix, size_t size)
{
    return key->size >= size && memcmp(key->bytes, prefix, size) == 0;
}

/* Calls `visit` for every key of one space below a prefix. */
static int each_below(struct view *view, uint8_t space, const struct key *prefix,
                      int (*visit)(void *context, const struct key *key), void *context)
{
    struct view_cursor cursor;
    struct key key = {0};
    struct ekv_key start = {prefix->bytes, (uint32_t)prefix->size, space, 0};
    int error = view_cursor_open(view, &cursor, space);
    if (!error)
        error = view_cursor_seek(&cursor, start);
    while (!error) {
        error = walk_key(&cursor, &key);
        if (error || !has_prefix(&key, prefix->bytes, prefix->size))
            break;
        error = visit(context, &key);
        if (!error)
            error = view_cursor_next(&cursor);
    }
    view_cursor_close(&cursor);
    key_free(&key);
    return error == ENOENT ? 0 : error;
}

/* --- Attributes of one key ---------------------------------------------------------------------
 */

/* Removes the file section of a record and leaves the rest. */
static int drop_file_attr(struct batch *batch, struct view *then, const struct key *key)
{
    struct attr_record record;
    int error = view_attr(then, key->bytes, key->size, &record, NULL);
    if (error)
        return error == ENOENT ? 0 : error;
    if (!record.has_file)
        return 0;
    record.has_file = false;
    return batch_attr(batch, key->bytes, key->size, &record);
}

static void keep_time(struct attr *attr, int64_t time)
{
    if (time && !(attr->set & ATTR_MTIME))
        attr_set_mtime(
            attr, (struct timespec){.tv_sec = time / 1000000, .tv_nsec = time % 1000000 * 1000});
}

/* What the copy of a value has beside it. */
static int read_file_attr(struct view *then, const struct key *from, const struct ekv_entry *value,
                          struct attr_record *record)
{
    struct ekv_entry entry;
    int error = view_attr(then, from->bytes, from->size, record, &entry);
    if (error && error != ENOENT)
        return error;
    if (!error && entry.version < value->version)
        record->file.set &= (uint8_t)~ATTR_MTIME;
    record->has_file = true;
    keep_time(&record->file, value->time);
    return 0;
}

/* The other half of the record there stays. */
static int put_file_attr(struct batch *batch, struct view *then, const struct key *to,
                         const struct attr_record *record)
{
    struct attr_record new;
    int error = view_attr(then, to->bytes, to->size, &new, NULL);
    if (error && error != ENOENT)
        return error;
    new.has_file = true;
    new.file = record->file;
    new.file_xattrs.size = 0;
    if (record->file_xattrs.size > 0)
        new.file_xattrs = record->file_xattrs;
    return batch_attr(batch, to->bytes, to->size, &new);
}

static int read_file(struct view *then, const struct key *from, uint8_t **value, size_t *size,
                     struct attr_record *record)
{
    struct ekv_key key = ekv_key(from->bytes, from->size);
    struct ekv_entry entry;
    *value = NULL;
    int error = view_find(then, key, &entry);
    if (!error)
        error = read_file_attr(then, from, &entry, record);
    return error ? error : view_load(then, key, value, size);
}

static int put_file(struct batch *batch, struct view *then, const struct key *to,
                    const uint8_t *value, size_t size, const struct attr_record *record)
{
    if (to->size > batch->view->store->key_size_max)
        return ENAMETOOLONG;
    int error = batch_put(batch, ekv_key(to->bytes, to->size), value, size);
    return error ? error : put_file_attr(batch, then, to, record);
}

static int copy_file(struct batch *batch, struct view *then, const struct key *from,
                     const struct key *to)
{
    struct attr_record record;
    uint8_t *value;
    size_t size;
    int error = read_file(then, from, &value, &size, &record);
    if (!error)
        error = put_file(batch, then, to, value, size, &record);
    free(value);
    return error;
}

static int delete_file(struct batch *batch, struct view *then, const struct key *key)
{
    int error = batch_delete(batch, ekv_key(key->bytes, key->size));
    return error ? error : drop_file_attr(batch, then, key);
}

int subtree_move_file(struct batch *batch, struct view *view, const struct walk_entry *file,
                      const struct key *to)
{
    struct attr_record record;
    uint8_t *value = NULL;
    size_t size = 0;
    int error = 0;
    if (!file->no_record)
        error = read_file_attr(view, &file->key, &file->entry, &record);
    if (!error && file->no_record) {
        attr_clear(&record);
        keep_time(&record.file, file->entry.time);
        record.has_file = true;
    }
    if (!error)
        error = view_load(view, ekv_key(file->key.bytes, file->key.size), &value, &size);
    if (!error)
        error = put_file(batch, view, to, value, size, &record);
    if (!error)
        error = batch_delete(batch, ekv_key(file->key.bytes, file->key.size));
    if (!error && !file->no_record)
        error = drop_file_attr(batch, view, &file->key);
    free(value);
    return error;
}

/* --- Directories -------------------------------------------------------------------------------
 */

struct walker {
    struct batch *batch;
    struct view *then;
    const struct key *from;
    struct key to; /* prefix, then whole keys */
    size_t to_size;
};

static int translate(struct walker *walker, const struct key *key)
{
    size_t rest = key->size - walker->from->size;
    if (walker->to_size + rest > walker->batch->view->store->key_size_max)
        return ENAMETOOLONG;
    if (!key_reserve(&walker->to, walker->to_size + rest))
        return ENOMEM;
    memcpy(walker->to.bytes + walker->to_size, key->bytes + walker->from->size, rest);
    walker->to.size = walker->to_size + rest;
    return 0;
}

static int visit_copy(void *context, const struct key *key)
{
    struct walker *walker = context;
    int error = translate(walker, key);
    return error ? error : copy_file(walker->batch, walker->then, key, &walker->to);
}

/* A record with a directory section; `always`: also one that there was not. `*found` false: there
 * is none of that kind. */
static int read_record(struct view *then, const struct key *key, bool always,
                       struct attr_record *record, bool *found)
{
    struct ekv_entry entry = {0}, value;
    int error = view_attr(then, key->bytes, key->size, record, &entry);
    *found = record->has_directory != always;
    if ((error && error != ENOENT) || !*found)
        return error == ENOENT ? 0 : error;
    record->has_directory = true;
    keep_time(&record->directory, entry.time);
    error = view_find(then, ekv_key(key->bytes, key->size), &value);
    if (error && error != ENOENT)
        return error;
    if (error == ENOENT)
        record->has_file = false;
    else if (entry.version < value.version)
        record->file.set &= (uint8_t)~ATTR_MTIME;
    if (!error) {
        record->has_file = true;
        keep_time(&record->file, value.time);
    }
    return 0;
}

static int copy_record(struct walker *walker, const struct key *key, bool always)
{
    struct attr_record record;
    bool found;
    int error = read_record(walker->then, key, always, &record, &found);
    if (error || !found)
        return error;
    error = translate(walker, key);
    return error ? error : batch_attr(walker->batch, walker->to.bytes, walker->to.size, &record);
}

/* The directory sections: the file sections were copied with their values. */
static int visit_copy_record(void *context, const struct key *key)
{
    return copy_record(context, key, false);
}

static int visit_delete(void *context, const struct key *key)
{
    return batch_delete(((struct walker *)context)->batch, ekv_key(key->bytes, key->size));
}

static int visit_delete_record(void *context, const struct key *key)
{
    return batch_delete(((struct walker *)context)->batch, aside_key(key->bytes, key->size));
}

/* The key of a directory's own value: its prefix without the '/'. */
static struct key own_key(const struct key *prefix)
{
    return (struct key){.bytes = prefix->bytes, .size = prefix->size - 1};
}

int subtree_delete(struct batch *batch, struct view *then, const struct subtree *subtree)
{
    if (!subtree->directory)
        return delete_file(batch, then, subtree->key);
    struct walker walker = {.batch = batch, .then = then};
    struct key own = own_key(subtree->key);
    int error = each_below(then, EKV_USER, subtree->key, visit_delete, &walker);
    if (!error)
        error = each_below(then, EKV_ASIDE, subtree->key, visit_delete_record, &walker);
    return error ? error : delete_file(batch, then, &own);
}

int subtree_copy(struct batch *batch, struct view *then, const struct subtree *from,
                 const struct subtree *to)
{
    if (!from->directory)
        return copy_file(batch, then, from->key, to->key);
    struct walker walker = {.batch = batch, .then = then, .from = from->key};
    if (!key_set(&walker.to, to->key->bytes, to->key->size))
        return ENOMEM;
    walker.to_size = to->key->size;
    int error = each_below(then, EKV_USER, from->key, visit_copy, &walker);
    if (!error)
        error = each_below(then, EKV_ASIDE, from->key, visit_copy_record, &walker);
    if (!error) /* what is renamed stays, even when it is emptied */
        error = copy_record(&walker, from->key, true);
    if (!error) {
        struct key own = own_key(from->key), new_own = own_key(to->key);
        error = copy_file(batch, then, &own, &new_own);
        if (error == ENOENT)
            error = 0;
    }
    key_free(&walker.to);
    return error;
}

/* --- In memory ---------------------------------------------------------------------------------
 */

/* A value or a record of attributes, in the order in which they are to be put. */
struct held {
    struct held *next;
    bool own;       /* the value of the directory's own key */
    uint8_t *value; /* NULL: a record alone */
    size_t value_size;
    uint8_t *rest; /* of the key, behind the prefix */
    size_t rest_size;
    uint8_t *attr;
    size_t attr_size;
};

struct holder {
    struct view *view;
    const struct subtree *from;
    struct held **last;
};

void held_free(struct held *held)
{
    struct held *next;
    for (; held; held = next) {
        next = held->next;
        free(held->value);
        free(held->rest);
        free(held->attr);
        free(held);
    }
}

static bool copy_bytes(uint8_t **copy, size_t *copy_size, const void *bytes, size_t size)
{
    *copy = malloc(size ? size : 1);
    if (*copy)
        memcpy(*copy, bytes, size);
    *copy_size = size;
    return *copy;
}

/* `value` from malloc is taken over. */
static int hold(struct holder *holder, const struct key *key, bool own, uint8_t *value, size_t size,
                const struct attr_record *record)
{
    uint8_t bytes[ATTR_RECORD_MAX];
    struct held *held = calloc(1, sizeof *held);
    if (!held) {
        free(value);
        return ENOMEM;
    }
    *holder->last = held;
    holder->last = &held->next;
    held->own = own;
    held->value = value;
    held->value_size = size;
    size_t prefix = own || !holder->from->directory ? key->size : holder->from->key->size;
    return copy_bytes(&held->rest, &held->rest_size, key->bytes + prefix, key->size - prefix) &&
                   copy_bytes(&held->attr, &held->attr_size, bytes, attr_encode(record, bytes))
               ? 0
               : ENOMEM;
}

static int hold_file(struct holder *holder, const struct key *key, bool own)
{
    struct attr_record record;
    uint8_t *value;
    size_t size;
    int error = read_file(holder->view, key, &value, &size, &record);
    if (error) {
        free(value);
        return error;
    }
    return hold(holder, key, own, value, size, &record);
}

static int hold_record(struct holder *holder, const struct key *key, bool always)
{
    struct attr_record record;
    bool found;
    int error = read_record(holder->view, key, always, &record, &found);
    return error || !found ? error : hold(holder, key, false, NULL, 0, &record);
}

static int visit_hold(void *context, const struct key *key)
{
    return hold_file(context, key, false);
}

static int visit_hold_record(void *context, const struct key *key)
{
    return hold_record(context, key, false);
}

int subtree_hold(struct view *view, const struct subtree *from, struct held **held)
{
    struct holder holder = {.view = view, .from = from, .last = held};
    *held = NULL;
    if (!from->directory)
        return hold_file(&holder, from->key, false);
    int error = each_below(view, EKV_USER, from->key, visit_hold, &holder);
    if (!error)
        error = each_below(view, EKV_ASIDE, from->key, visit_hold_record, &holder);
    if (!error)
        error = hold_record(&holder, from->key, true);
    if (!error) {
        struct key own = own_key(from->key);
        error = hold_file(&holder, &own, true);
    }
    return error == ENOENT ? 0 : error;
}

bool held_fits(const struct held *held, const struct subtree *to, size_t key_size_max)
{
    for (; held; held = held->next)
        if (to->key->size + held->rest_size > key_size_max)
            return false;
    return true;
}

static int put_held(struct batch *batch, const struct held *held, const struct subtree *to,
                    struct key *key)
{
    struct attr_record record;
    const struct key *prefix = to->key;
    size_t size = held->own ? prefix->size - 1 : prefix->size;
    if (!key_set(key, prefix->bytes, size) || !key_reserve(key, size + held->rest_size))
        return ENOMEM;
    memcpy(key->bytes + size, held->rest, held->rest_size);
    key->size += held->rest_size;
    (void)attr_decode(held->attr, held->attr_size, &record); /* nothing, if it says nothing */
    if (held->value)
        return put_file(batch, batch->view, key, held->value, held->value_size, &record);
    return batch_attr(batch, key->bytes, key->size, &record);
}

int subtree_put(struct batch *batch, const struct held *held, const struct subtree *to)
{
    struct key key = {0};
    int error = 0;
    for (; held && !error; held = held->next)
        error = put_held(batch, held, to, &key);
    key_free(&key);
    return error;
}
