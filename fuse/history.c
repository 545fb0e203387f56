/* `.ekv/history` and `.ekv/at`.
 *
 * A directory in `history` is named by a whole key, a file in it by a version, with so many digits
 * that names sort as versions do. What these names mean is looked up each time in a survey of the
 * flash (past.h), which is made anew when something was committed since. Versions that are not
 * whole any more are not listed.
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

/* The records of the key that a name stands for: [*first, *end). */
static int key_records(const struct past *past, const char *name, size_t name_size, uint32_t *first,
                       uint32_t *end)
{
    uint8_t key[PATH_NAME_MAX];
    size_t size;
    if (!path_decode_whole(name, name_size, key, &size))
        return ENOENT;
    return survey_key_find(&past->survey, ekv_key(key, size), first, end) == EKV_OK ? 0 : ENOENT;
}

/* The record of a version's name in the directory of a key. */
static int version_record(const struct past *past, const struct node *directory, const char *name,
                          size_t name_size, const struct survey_record **record)
{
    uint32_t first, end;
    int error = key_records(past, directory->name, directory->name_size, &first, &end);
    for (uint32_t i = first; !error && i < end; i++) {
        char text[VERSION_NAME_SIZE];
        *record = &past->survey.records[i];
        if (past_is_version(*record) && version_name(*record, text) == name_size &&
            memcmp(text, name, name_size) == 0)
            return 0;
    }
    return error ? error : ENOENT;
}

int history_find(struct fs *fs, const struct node *directory, const char *name,
                 enum control_kind *kind)
{
    struct past *past;
    const struct survey_record *record;
    uint32_t first, end;
    *kind = CONTROL_NONE;
    int error = past_open(&fs->past, &fs->store, &past);
    if (error)
        return error;
    if (directory->control == CONTROL_HISTORY) {
        error = key_records(past, name, strlen(name), &first, &end);
        for (uint32_t i = first; !error && i < end; i++)
            if (past_is_version(&past->survey.records[i]))
                *kind = CONTROL_HISTORY_KEY;
    } else {
        error = version_record(past, directory, name, strlen(name), &record);
        if (!error)
            *kind = CONTROL_HISTORY_VERSION;
    }
    past_close(past);
    return error == ENOENT ? 0 : error;
}

/* --- Listing -----------------------------------------------------------------------------------
 */

/* Every key that can be one name. */
static bool list_keys(const struct survey *survey, struct control_names *names)
{
    uint32_t end;
    for (uint32_t i = 0; i < survey->record_count && survey->records[i].space == EKV_USER;
         i = end) {
        char name[PATH_NAME_MAX + 1];
        const struct survey_record *record = &survey->records[i];
        bool shown = false;
        end = survey_key_end(survey, i);
        for (uint32_t j = i; j < end && !shown; j++)
            shown = past_is_version(&survey->records[j]);
        size_t size = shown ? path_encode_whole(record->key, record->key_size, name) : 0;
        if (size && !control_add(names, true, name, size))
            return false;
    }
    return true;
}

/* The oldest first. */
static bool list_versions(const struct past *past, const struct node *directory,
                          struct control_names *names)
{
    uint32_t first, end;
    if (key_records(past, directory->name, directory->name_size, &first, &end))
        return true;
    for (uint32_t i = end; i > first; i--) {
        char name[VERSION_NAME_SIZE];
        const struct survey_record *record = &past->survey.records[i - 1];
        if (past_is_version(record) && past_is_whole(past, record) &&
            !control_add(names, false, name, version_name(record, name)))
            return false;
    }
    return true;
}

int history_list(struct fs *fs, const struct node *directory, struct control_names *names)
{
    struct past *past;
    int error = past_open(&fs->past, &fs->store, &past);
    if (error)
        return error;
    bool done = directory->control == CONTROL_HISTORY ? list_keys(&past->survey, names)
                                                      : list_versions(past, directory, names);
    past_close(past);
    return done ? 0 : ENOMEM;
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
