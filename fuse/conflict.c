/* Compares what a transaction touched with the store as it is now.
 *
 * A key that was read or written must have the version it had at the begin. Of a directory that a
 * path led through it counts whether there is one; of one that was listed, its names and the
 * versions of the files in it; of one that was renamed, all keys below it.
 */
#include "conflict.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "walk.h"

enum { NAMED_MAX = 8, SENTENCE_MAX = 800 };

/* What is compared, and what was found to differ. */
struct comparison {
    struct view *stage;
    struct view *live;
    struct view *begin;
    unsigned count;
    size_t used;
    char keys[SENTENCE_MAX];
};

/* --- Keys --------------------------------------------------------------------------------------
 */

static int compare_key(struct comparison *comparison, struct ekv_key key, bool *differs)
{
    int error = ekv_txn_check(&comparison->stage->staging->txn, key);
    *differs |= error == EKV_CONFLICT;
    return error == EKV_CONFLICT ? 0 : store_errno(error);
}

/* --- Directories -------------------------------------------------------------------------------
 */

static int directory_exists(struct view *view, const struct key *prefix, uint8_t part, bool *exists)
{
    int error = walk_directory_exists(view, prefix, exists);
    if (error || part == 0 || !*exists)
        return error;
    struct attr_record record; /* of a part, any key with the prefix is no proof */
    error = view_attr(view, prefix->bytes, prefix->size, &record, NULL);
    if (error == 0 && record.has_directory)
        return 0;
    bool empty = true;
    error = walk_is_empty(view, prefix, (struct path_place){.part_length = part}, &empty);
    *exists = !empty;
    return error;
}

static int compare_directory(struct comparison *comparison, const struct key *prefix, uint8_t part,
                             bool *differs)
{
    bool before, now;
    int error = directory_exists(comparison->begin, prefix, part, &before);
    if (!error)
        error = directory_exists(comparison->live, prefix, part, &now);
    *differs |= !error && before != now;
    return error;
}

static bool same_entry(const struct walk_entry *one, const struct walk_entry *other)
{
    if (one->name_size != other->name_size || one->directory != other->directory ||
        memcmp(one->name, other->name, one->name_size) != 0)
        return false;
    return one->directory ||
           (one->entry.version == other->entry.version && one->has_attr == other->has_attr &&
            (!one->has_attr || one->attr_entry.version == other->attr_entry.version));
}

static int compare_walks(struct walk *before, struct walk *now, bool *differs)
{
    struct walk_entry one = {0}, other = {0};
    int error = 0;
    while (!error && !*differs) {
        error = walk_next(before, &one);
        int ended = walk_next(now, &other);
        if ((error && error != ENOENT) || (ended && ended != ENOENT))
            error = error ? error : ended;
        else if (error || ended)
            *differs = error != ended;
        else
            *differs = !same_entry(&one, &other);
        if (!error && ended)
            error = ended;
    }
    key_free(&one.key);
    key_free(&other.key);
    return error == ENOENT ? 0 : error;
}

static int compare_names(struct comparison *comparison, const struct key *prefix, uint8_t part,
                         bool *differs)
{
    struct path_place place = {.root = prefix->size == 0, .part_length = part};
    struct walk before, now;
    int error = walk_open(&before, comparison->begin, prefix, place);
    if (error)
        return error;
    error = walk_open(&now, comparison->live, prefix, place);
    if (!error) {
        error = compare_walks(&before, &now, differs);
        walk_close(&now);
    }
    walk_close(&before);
    return error;
}

/* --- All below a prefix ------------------------------------------------------------------------
 */

/* The key and the version that a cursor stands on; ENOENT: none below the prefix. */
static int look(struct view_cursor *cursor, const struct key *prefix, struct key *key,
                struct ekv_entry *entry)
{
    int error = walk_key(cursor, key);
    if (error)
        return error;
    if (key->size < prefix->size || memcmp(key->bytes, prefix->bytes, prefix->size) != 0)
        return ENOENT;
    return view_cursor_entry(cursor, entry);
}

static int compare_cursors(struct view_cursor *before, struct view_cursor *now, uint8_t space,
                           const struct key *prefix, bool *differs)
{
    struct key one = {0}, other = {0};
    struct ekv_entry old = {0}, new = {0};
    struct ekv_key start = {prefix->bytes, (uint32_t)prefix->size, space, 0};
    int error = view_cursor_seek(before, start), ended = view_cursor_seek(now, start);
    while (!*differs) {
        if (!error)
            error = look(before, prefix, &one, &old);
        if (!ended)
            ended = look(now, prefix, &other, &new);
        if (error || ended) {
            *differs = error != ended;
            break;
        }
        *differs = old.version != new.version || one.size != other.size ||
                   memcmp(one.bytes, other.bytes, one.size) != 0;
        error = view_cursor_next(before);
        ended = view_cursor_next(now);
    }
    key_free(&one);
    key_free(&other);
    error = error == ENOENT ? 0 : error;
    return error ? error : ended == ENOENT ? 0 : ended;
}

static int compare_below(struct comparison *comparison, const struct key *prefix, bool *differs)
{
    int error = 0;
    for (uint8_t space = EKV_USER; space <= EKV_ASIDE && !error && !*differs; space++) {
        struct view_cursor before, now;
        error = view_cursor_open(comparison->begin, &before, space);
        if (error)
            break;
        error = view_cursor_open(comparison->live, &now, space);
        if (!error)
            error = compare_cursors(&before, &now, space, prefix, differs);
        view_cursor_close(&now);
        view_cursor_close(&before);
    }
    return error;
}

/* --- The whole ---------------------------------------------------------------------------------
 */

static int compare(struct comparison *comparison, const struct touched_entry *entry, bool *differs)
{
    struct key key = {0};
    int error = 0;
    switch ((enum touched_kind)entry->kind) {
    case TOUCHED_VALUE:
        error = compare_key(comparison, ekv_key(entry->bytes, entry->size), differs);
        return error ? error
                     : compare_key(comparison, aside_key(entry->bytes, entry->size), differs);
    case TOUCHED_PUT:
        return compare_key(comparison, ekv_key(entry->bytes, entry->size), differs);
    case TOUCHED_PUT_ASIDE:
        return compare_key(comparison, aside_key(entry->bytes, entry->size), differs);
    default:
        break;
    }
    if (!key_set(&key, entry->bytes, entry->size))
        return ENOMEM;
    if (entry->kind == TOUCHED_DIRECTORY)
        error = compare_directory(comparison, &key, entry->part, differs);
    else if (entry->kind == TOUCHED_NAMES)
        error = compare_names(comparison, &key, entry->part, differs);
    else
        error = compare_below(comparison, &key, differs);
    key_free(&key);
    return error;
}

/* Adds the path of a key to the sentence, unless it is there already. */
static void name(struct comparison *comparison, const struct touched_entry *entry)
{
    size_t capacity = 4 * (size_t)entry->size + 64;
    char *path = malloc(capacity);
    if (!path)
        return;
    size_t length = path_from_key(entry->bytes, entry->size, false, path + 1, capacity - 3);
    path[0] = '"';
    if (length > 1 && memcmp(path + length - 1, "/%", 2) == 0 && entry->kind != TOUCHED_VALUE &&
        entry->kind != TOUCHED_PUT)
        length--; /* a prefix: the directory */
    memcpy(path + 1 + length, "\"", 2);
    if (entry->size == 0 && entry->kind > TOUCHED_VALUE && entry->kind < TOUCHED_PUT)
        strcpy(path, "the names at the top");
    length = strlen(path);
    if (!strstr(comparison->keys, path)) {
        if (comparison->count < NAMED_MAX && comparison->used + length + 3 < SENTENCE_MAX) {
            if (comparison->used)
                comparison->used += (size_t)sprintf(comparison->keys + comparison->used, ", ");
            memcpy(comparison->keys + comparison->used, path, length + 1);
            comparison->used += length;
        }
        comparison->count++;
    }
    free(path);
}

static int compare_all(struct comparison *comparison)
{
    const struct touched_entry *entry = NULL;
    int error = 0;
    while (!error && comparison->count <= NAMED_MAX &&
           (entry = touched_next(comparison->stage->touched, entry))) {
        bool differs = false;
        error = compare(comparison, entry, &differs);
        if (!error && differs)
            name(comparison, entry);
    }
    if (error || comparison->count == 0)
        return error;
    return report_refusal(EAGAIN,
                          "not committed: others have changed since the transaction began: %s%s; "
                          "it stays staged: remove it (rmdir) and begin again",
                          comparison->keys, comparison->count > NAMED_MAX ? " and more" : "");
}

int conflict_check(struct view *stage)
{
    struct ekv_stat stat;
    ekv_stat(stage->store->db, &stat);
    if (stat.version == stage->begin) /* nobody committed anything since */
        return 0;
    if (touched_all(stage->touched))
        return report_refusal(EAGAIN, "not committed: the transaction read so much that any change "
                                      "counts, and others have changed keys since it began; it "
                                      "stays staged: remove it (rmdir) and begin again");
    struct view live = {.kind = VIEW_LIVE, .store = stage->store};
    struct view begin = {.kind = VIEW_SNAPSHOT, .store = stage->store, .snapshot = stage->snapshot};
    struct comparison comparison = {.stage = stage, .live = &live, .begin = &begin};
    return compare_all(&comparison);
}
