/* Moves all that a path stands for, key by key, inside one batch.
 *
 * What is read is the store as it was before the batch, so the order of deletions and copies does
 * not matter to it. Copies keep their time: where the old value's commit time told it, the record
 * of attributes does from then on. One value is in memory at a time.
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

/* Attributes for the copy of a value. */
static int copy_file_attr(struct batch *batch, struct view *then, const struct key *from,
                          const struct key *to, const struct ekv_entry *value)
{
    struct attr_record old, new;
    struct ekv_entry entry;
    int error = view_attr(then, from->bytes, from->size, &old, &entry);
    if (!error && entry.version < value->version)
        old.file.set &= (uint8_t)~ATTR_MTIME;
    if (error == ENOENT)
        error = 0;
    keep_time(&old.file, value->time);
    if (!error)
        error = view_attr(then, to->bytes, to->size, &new, NULL);
    if (error == ENOENT)
        error = 0;
    new.has_file = true;
    new.file = old.file;
    new.file_xattrs = old.file_xattrs;
    return error ? error : batch_attr(batch, to->bytes, to->size, &new);
}

static int copy_file(struct batch *batch, struct view *then, const struct key *from,
                     const struct key *to)
{
    struct ekv_key key = ekv_key(from->bytes, from->size);
    struct ekv_entry entry;
    uint8_t *value;
    size_t size;
    if (to->size > batch->view->store->key_size_max)
        return ENAMETOOLONG;
    int error = view_find(then, key, &entry);
    if (!error)
        error = view_load(then, key, &value, &size);
    if (error)
        return error;
    error = batch_put(batch, ekv_key(to->bytes, to->size), value, size);
    free(value);
    return error ? error : copy_file_attr(batch, then, from, to, &entry);
}

static int delete_file(struct batch *batch, struct view *then, const struct key *key)
{
    int error = batch_delete(batch, ekv_key(key->bytes, key->size));
    return error ? error : drop_file_attr(batch, then, key);
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

/* A record with a directory section; `always`: also one that there was not. */
static int copy_record(struct walker *walker, const struct key *key, bool always)
{
    struct attr_record record;
    struct ekv_entry entry = {0}, value;
    int error = view_attr(walker->then, key->bytes, key->size, &record, &entry);
    if ((error && error != ENOENT) || (!record.has_directory && !always))
        return error;
    if (record.has_directory && always)
        return 0;
    error = translate(walker, key);
    if (error)
        return error;
    record.has_directory = true;
    keep_time(&record.directory, entry.time);
    error = view_find(walker->then, ekv_key(key->bytes, key->size), &value);
    if (error && error != ENOENT)
        return error;
    if (error == ENOENT)
        record.has_file = false;
    else if (entry.version < value.version)
        record.file.set &= (uint8_t)~ATTR_MTIME;
    if (!error) {
        record.has_file = true;
        keep_time(&record.file, value.time);
    }
    return batch_attr(walker->batch, walker->to.bytes, walker->to.size, &record);
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
