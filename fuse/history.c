/* `.ekv/history` and `.ekv/at`.
 *
 * A directory in `history` is named by a whole key, or by the begin of keys whose names would be
 * too long, and the rest of them is in it (path_from_whole); a file in the directory of a key is
 * named by a version, with so many digits that names sort as versions do. What these names mean is
 * looked up each time in a survey of the flash (past.h), which is made anew when something was
 * committed since. Versions that are not whole any more are not listed.
 *
 * Who may look there sees keys whatever the permissions of their directories are, so that is the
 * owner of the mount alone.
 */
#include "history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

#define REMOVED ".removed"

enum { VERSION_DIGITS = 16, VERSION_NAME_SIZE = 40 };

static size_t version_name(const struct survey_record *record, char name[VERSION_NAME_SIZE])
{
    return (size_t)snprintf(name, VERSION_NAME_SIZE, "%0*llu%s", VERSION_DIGITS,
                            (unsigned long long)record->version,
                            record->kind == EKV_RECORD_DELETE ? REMOVED : "");
}

/* The path below `.ekv/history` of a name in a directory there. False: no memory. */
static bool path_set(struct key *path, const struct node *directory, const char *name,
                     size_t name_size)
{
    size_t size = name_size;
    for (const struct node *at = directory; at->control != CONTROL_HISTORY; at = at->parent)
        size += at->name_size + 1u;
    if (!key_reserve(path, size))
        return false;
    path->size = size;
    uint8_t *end = path->bytes + size - name_size;
    memcpy(end, name, name_size);
    for (const struct node *at = directory; at->control != CONTROL_HISTORY; at = at->parent) {
        *--end = '/';
        end -= at->name_size;
        memcpy(end, at->name, at->name_size);
    }
    return true;
}

/* The path of a key below `.ekv/history`. False: no memory. */
static bool path_of_key(struct key *path, const struct survey_record *record)
{
    if (!key_reserve(path, 3 * (size_t)record->key_size + record->key_size / 100 + 16))
        return false;
    path->size =
        path_from_whole(record->key, record->key_size, (char *)path->bytes, path->capacity);
    return true;
}

/* The records of the key with a path: [*first, *end). */
static int key_records(const struct past *past, const struct key *path, uint32_t *first,
                       uint32_t *end)
{
    size_t size;
    uint8_t *key = malloc(path->size + 1);
    if (!key)
        return ENOMEM;
    bool found = path_to_whole((const char *)path->bytes, path->size, key, &size) &&
                 survey_key_find(&past->survey, ekv_key(key, size), first, end) == EKV_OK;
    free(key);
    return found ? 0 : ENOENT;
}

/* The same for the key that a directory stands for. */
static int directory_records(const struct past *past, const struct node *directory, uint32_t *first,
                             uint32_t *end)
{
    struct key path = {0};
    int error = ENOMEM;
    if (path_set(&path, directory->parent, directory->name, directory->name_size))
        error = key_records(past, &path, first, end);
    key_free(&path);
    return error;
}

/* The record of a version's name in the directory of a key. */
static int version_record(const struct past *past, const struct node *directory, const char *name,
                          size_t name_size, const struct survey_record **record)
{
    uint32_t first = 0, end = 0;
    int error = directory_records(past, directory, &first, &end);
    for (uint32_t i = first; !error && i < end; i++) {
        char text[VERSION_NAME_SIZE];
        *record = &past->survey.records[i];
        if (past_is_version(*record) && version_name(*record, text) == name_size &&
            memcmp(text, name, name_size) == 0)
            return 0;
    }
    return error ? error : ENOENT;
}

/* Whether one of the records [first, end) is a version. */
static bool any_version(const struct past *past, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++)
        if (past_is_version(&past->survey.records[i]))
            return true;
    return false;
}

/* --- Names of keys -----------------------------------------------------------------------------
 */

/* Calls `visit` for each key that has versions and a path that begins with `begin`, with what comes
 * behind that, until it returns other than 0. */
static int visit_keys(const struct past *past, const struct key *begin,
                      int (*visit)(void *context, const char *rest, size_t size), void *context)
{
    const struct survey *survey = &past->survey;
    struct key path = {0};
    int error = 0;
    uint32_t end;
    for (uint32_t i = 0; !error && i < survey->record_count && survey->records[i].space == EKV_USER;
         i = end) {
        end = survey_key_end(survey, i);
        if (!any_version(past, i, end))
            continue;
        if (!path_of_key(&path, &survey->records[i]))
            error = ENOMEM;
        else if (path.size > begin->size && memcmp(path.bytes, begin->bytes, begin->size) == 0)
            error = visit(context, (const char *)path.bytes + begin->size, path.size - begin->size);
    }
    key_free(&path);
    return error;
}

static int stop(void *context, const char *rest, size_t size)
{
    (void)context;
    (void)rest;
    (void)size;
    return EEXIST;
}

/* What a name in `.ekv/history` or in the directory of a part is: the versions of a key, or a part
 * of keys. */
static int find_key(const struct past *past, struct key *path, enum control_kind *kind)
{
    uint32_t first, end;
    int error = key_records(past, path, &first, &end);
    if (!error)
        *kind = any_version(past, first, end) ? CONTROL_HISTORY_KEY : CONTROL_NONE;
    if (error != ENOENT || path->size < PATH_PART_MIN)
        return error;
    if (!key_reserve(path, path->size + 1))
        return ENOMEM;
    path->bytes[path->size++] = '/';
    error = visit_keys(past, path, stop, NULL);
    if (error == EEXIST)
        *kind = CONTROL_HISTORY_PART;
    return error == EEXIST ? 0 : error;
}

int history_find(struct fs *fs, const struct node *directory, const char *name,
                 enum control_kind *kind)
{
    struct past *past;
    struct key path = {0};
    const struct survey_record *record;
    *kind = CONTROL_NONE;
    int error = past_open(&fs->past, &fs->store, &past);
    if (error)
        return error;
    if (directory->control == CONTROL_HISTORY_KEY) {
        error = version_record(past, directory, name, strlen(name), &record);
        if (!error)
            *kind = CONTROL_HISTORY_VERSION;
    } else {
        error =
            path_set(&path, directory, name, strlen(name)) ? find_key(past, &path, kind) : ENOMEM;
    }
    key_free(&path);
    past_close(past);
    return error == ENOENT ? 0 : error;
}

/* --- Listing -----------------------------------------------------------------------------------
 */

struct listing {
    struct control_names *names;
    char part[PATH_NAME_MAX]; /* the last one listed: its keys follow each other */
    size_t part_size;
};

static int list_key(void *context, const char *rest, size_t size)
{
    struct listing *listing = context;
    const char *slash = memchr(rest, '/', size);
    if (slash) {
        size = (size_t)(slash - rest);
        if (size == listing->part_size && memcmp(listing->part, rest, size) == 0)
            return 0;
        memcpy(listing->part, rest, size);
        listing->part_size = size;
    }
    return control_add(listing->names, true, rest, size) ? 0 : ENOMEM;
}

static int list_keys(const struct past *past, const struct node *directory,
                     struct control_names *names)
{
    struct key begin = {0};
    struct listing listing = {.names = names};
    int error =
        path_set(&begin, directory, "", 0) ? visit_keys(past, &begin, list_key, &listing) : ENOMEM;
    key_free(&begin);
    return error;
}

/* The oldest first. */
static int list_versions(const struct past *past, const struct node *directory,
                         struct control_names *names)
{
    uint32_t first = 0, end = 0;
    int error = directory_records(past, directory, &first, &end);
    for (uint32_t i = end; !error && i > first; i--) {
        char name[VERSION_NAME_SIZE];
        const struct survey_record *record = &past->survey.records[i - 1];
        if (past_is_version(record) && past_is_whole(past, record) &&
            !control_add(names, false, name, version_name(record, name)))
            error = ENOMEM;
    }
    return error == ENOENT ? 0 : error;
}

int history_list(struct fs *fs, const struct node *directory, struct control_names *names)
{
    struct past *past;
    int error = past_open(&fs->past, &fs->store, &past);
    if (error)
        return error;
    error = directory->control == CONTROL_HISTORY_KEY ? list_versions(past, directory, names)
                                                      : list_keys(past, directory, names);
    past_close(past);
    return error;
}

/* --- Versions ----------------------------------------------------------------------------------
 */

static int find_version(struct fs *fs, const struct node *node, struct past **past,
                        const struct survey_record **record)
{
    int error = past_open(&fs->past, &fs->store, past);
    if (!error) {
        error = version_record(*past, node->parent, node->name, node->name_size, record);
        if (error)
            past_close(*past);
    }
    return error;
}

int history_entry(struct fs *fs, const struct node *node, struct ekv_entry *entry)
{
    struct past *past;
    const struct survey_record *record;
    int error = find_version(fs, node, &past, &record);
    if (error)
        return error;
    past_entry(record, entry);
    past_close(past);
    return 0;
}

int history_load(struct fs *fs, const struct node *node, char **text, size_t *size)
{
    struct past *past;
    const struct survey_record *record;
    uint8_t *value = NULL;
    int error = find_version(fs, node, &past, &record);
    if (error)
        return error;
    *size = 0;
    if (record->kind != EKV_RECORD_DELETE)
        error = past_load(past, record, &value, size);
    *text = (char *)value;
    past_close(past);
    return error;
}

/* --- The store as it was -----------------------------------------------------------------------
 */

/* A new root in place of `old` (NULL: there was none), whose reference is given up. */
static int make_past(struct fs *fs, struct node *parent, const char *name, struct node *old,
                     const struct moment *moment, struct node **node)
{
    struct past *past;
    uint64_t version;
    bool settled, exists;
    int error = past_open(&fs->past, &fs->store, &past);
    if (error)
        return error;
    error = past_version(past, moment, &version, &settled);
    if (!error && old && old->view->version == version) {
        old->view->settled = settled;
        node_ref(&fs->nodes, old);
        *node = old;
    }
    if (error || *node) {
        past_close(past);
        return error;
    }
    struct view *view = view_new_past(past, version, settled);
    if (!view) {
        past_close(past);
        return ENOMEM;
    }
    if (old)
        node_unlink(&fs->nodes, old);
    *node = node_add_top(&fs->nodes, parent, name, strlen(name), view, &exists);
    if (!*node)
        view_free(view);
    return *node || exists ? 0 : ENOMEM;
}

int history_at(struct fs *fs, struct node *parent, const char *name, struct node **node)
{
    struct moment moment;
    int error = 0;
    *node = NULL;
    if (!moment_parse(name, strlen(name), &moment))
        return 0;
    for (int tries = 0; tries < 3 && !*node && !error;
         tries++) { /* another one made it meanwhile */
        struct node *old = node_by_name(&fs->nodes, parent, name, strlen(name));
        if (old && old->view->settled) {
            *node = old;
            return 0;
        }
        error = make_past(fs, parent, name, old, &moment, node);
        node_unref(&fs->nodes, old);
    }
    return error == ENOENT ? 0 : error;
}
