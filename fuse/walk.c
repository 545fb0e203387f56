/* Walks the names directly in a directory.
 *
 * Two cursors, one over the values and one over the attributes, advance together; whichever stands
 * on the smaller key says what comes next. A file has its place at its key, a directory at its
 * prefix (its key and '/'), where its own record is too, and a part where its first key is. A key
 * that is a directory too is not shown as a file: its value is `%value` in that directory, which
 * comes first.
 *
 * A record of attributes alone proves no file, and a directory only if it has a directory section;
 * others are left-overs of keys that were deleted by somebody who knows no attributes.
 */
#include "walk.h"

#include <errno.h>
#include <string.h>

/* --- Heads -------------------------------------------------------------------------------------
 */

static bool begins_with(const struct key *key, const struct key *prefix)
{
    return key->size >= prefix->size && memcmp(key->bytes, prefix->bytes, prefix->size) == 0;
}

int walk_key(struct view_cursor *cursor, struct key *key)
{
    size_t size;
    int error;
    if (!key_reserve(key, 1))
        return ENOMEM;
    while (!(error = view_cursor_key(cursor, key->bytes, key->capacity, &size)) &&
           size > key->capacity)
        if (!key_reserve(key, size))
            return ENOMEM;
    if (!error)
        key->size = size;
    return error;
}

/* Reads the key that the cursor came to. */
static int head_arrive(struct walk_head *head, const struct key *prefix, int error)
{
    head->valid = false;
    if (error)
        return error == ENOENT ? 0 : error;
    error = walk_key(&head->cursor, &head->key);
    if (!error)
        head->valid = begins_with(&head->key, prefix);
    return error;
}

static int head_seek(struct walk_head *head, const struct key *prefix, const struct key *to)
{
    struct ekv_key key = {to->bytes, (uint32_t)to->size, head->space, 0};
    return head_arrive(head, prefix, view_cursor_seek(&head->cursor, key));
}

static int head_next(struct walk_head *head, const struct key *prefix)
{
    return head_arrive(head, prefix, view_cursor_next(&head->cursor));
}

static int head_record(struct walk_head *head, struct attr_record *record)
{
    uint8_t bytes[ATTR_RECORD_MAX];
    size_t size;
    int error = view_cursor_read(&head->cursor, bytes, sizeof bytes, &size);
    if (!error)
        (void)attr_decode(bytes, size, record); /* of a later version: the defaults hold */
    return error;
}

static int compare(const struct key *one, const struct key *other)
{
    size_t size = one->size < other->size ? one->size : other->size;
    int order = memcmp(one->bytes, other->bytes, size);
    return order ? order : (one->size > other->size) - (one->size < other->size);
}

/* --- Opening -----------------------------------------------------------------------------------
 */

int walk_open(struct walk *walk, struct view *view, const struct key *prefix,
              struct path_place place)
{
    memset(walk, 0, sizeof *walk);
    walk->view = view;
    walk->place = place;
    walk->heads[1].space = EKV_ASIDE;
    walk->value_done = prefix->size == 0 || place.part_length > 0;
    if (key_set(&walk->prefix, prefix->bytes, prefix->size) &&
        key_set(&walk->position, prefix->bytes, prefix->size))
        return 0;
    walk_close(walk);
    return ENOMEM;
}

void walk_pause(struct walk *walk)
{
    for (int i = 0; i < 2 && walk->open; i++)
        view_cursor_close(&walk->heads[i].cursor);
    walk->open = false;
}

void walk_close(struct walk *walk)
{
    walk_pause(walk);
    key_free(&walk->prefix);
    key_free(&walk->position);
    key_free(&walk->heads[0].key);
    key_free(&walk->heads[1].key);
}

int walk_seek(struct walk *walk, const char *name, size_t name_size, bool directory)
{
    uint8_t bytes[PATH_NAME_MAX];
    size_t size = 0;
    enum path_kind kind = path_decode(walk->place, name, name_size, bytes, &size);
    if (kind == PATH_INVALID)
        return EINVAL;
    walk_pause(walk);
    memset(walk->parts, 0, sizeof walk->parts);
    walk->value_done = true;
    struct key *position = &walk->position;
    position->size = 0;
    if (!key_reserve(position, walk->prefix.size + size + 1))
        return ENOMEM;
    memcpy(position->bytes, walk->prefix.bytes, walk->prefix.size);
    position->size = walk->prefix.size;
    if (kind == PATH_VALUE) /* comes first */
        return 0;
    memcpy(position->bytes + position->size, bytes, size);
    position->size += size;
    if (kind == PATH_PART) {
        size_t slot = name_size - 2 - PATH_PART_MIN;
        walk->parts[slot].size = (uint16_t)size;
        memcpy(walk->parts[slot].bytes, bytes, size);
    } else {
        position->bytes[position->size++] = directory ? '/' + 1 : 0;
    }
    return 0;
}

static int resume(struct walk *walk)
{
    int error = 0;
    if (walk->open)
        return 0;
    walk->open = true;
    for (int i = 0; i < 2; i++)
        walk->heads[i].cursor.view = NULL;
    for (int i = 0; i < 2 && !error; i++)
        error = view_cursor_open(walk->view, &walk->heads[i].cursor, walk->heads[i].space);
    for (int i = 0; i < 2 && !error; i++)
        error = head_seek(&walk->heads[i], &walk->prefix, &walk->position);
    return error;
}

/* --- Steps -------------------------------------------------------------------------------------
 */

/* Sets the position and moves the heads that are before it. */
static int go_to(struct walk *walk, const uint8_t *bytes, size_t size, uint8_t last)
{
    int error = 0;
    if (!key_set(&walk->position, bytes, size) || !key_reserve(&walk->position, size + 1))
        return ENOMEM;
    walk->position.bytes[walk->position.size++] = last;
    for (int i = 0; i < 2 && !error; i++) {
        struct walk_head *head = &walk->heads[i];
        if (head->valid && compare(&head->key, &walk->position) < 0) {
            /* The very next key is most often the one: no descent for it. */
            error = head_next(head, &walk->prefix);
            if (!error && head->valid && compare(&head->key, &walk->position) < 0)
                error = head_seek(head, &walk->prefix, &walk->position);
        }
    }
    return error;
}

/* Whether keys that begin with `key` and '/' may follow, judged by where a head stands after `key`:
 * 0 no, 1 perhaps. */
static bool may_follow(const struct walk_head *head, const struct key *key)
{
    return head->valid && begins_with(&head->key, key) && head->key.size > key->size &&
           head->key.bytes[key->size] <= '/';
}

static int is_directory_too(struct walk *walk, const struct key *key, bool *directory)
{
    *directory = false;
    if (!may_follow(&walk->heads[0], key) && !may_follow(&walk->heads[1], key))
        return 0;
    struct key prefix = {0};
    int error = ENOMEM;
    if (key_set(&prefix, key->bytes, key->size) && key_reserve(&prefix, key->size + 1)) {
        prefix.bytes[prefix.size++] = '/';
        error = walk_directory_exists(walk->view, &prefix, directory);
    }
    key_free(&prefix);
    return error;
}

static void set_attr(struct walk_entry *entry, const struct attr_record *record, bool has,
                     const struct ekv_entry *attr_entry)
{
    entry->has_attr = has && (entry->directory ? record->has_directory : record->has_file);
    if (entry->has_attr) {
        entry->attr = entry->directory ? record->directory : record->file;
        entry->attr_entry = *attr_entry;
    }
}

/* Both heads as they stand, before anything moves. */
struct look {
    const uint8_t *key; /* the smaller of the two */
    size_t key_size;
    size_t component_size;
    bool slash;       /* the component is followed by one */
    bool user, aside; /* which heads stand on the key */
    struct attr_record record;
    struct ekv_entry attr_entry;
};

static int look(struct walk *walk, struct look *look)
{
    struct walk_head *user = &walk->heads[0], *aside = &walk->heads[1];
    int error = 0;
    attr_clear(&look->record);
    if (!user->valid && !aside->valid)
        return ENOENT;
    int order = !aside->valid ? -1 : !user->valid ? 1 : compare(&user->key, &aside->key);
    look->user = order <= 0;
    look->aside = order >= 0;
    const struct key *key = look->user ? &user->key : &aside->key;
    look->key = key->bytes;
    look->key_size = key->size;
    size_t rest = key->size - walk->prefix.size;
    const uint8_t *slash = rest ? memchr(key->bytes + walk->prefix.size, '/', rest) : NULL;
    look->slash = slash != NULL;
    look->component_size = slash ? (size_t)(slash - key->bytes) - walk->prefix.size : rest;
    if (look->aside) {
        error = head_record(aside, &look->record);
        if (!error)
            error = view_cursor_entry(&aside->cursor, &look->attr_entry);
    }
    return error;
}

/* Leaves the component that was looked at. */
static int skip(struct walk *walk, const struct look *look)
{
    size_t size = walk->prefix.size + look->component_size;
    return go_to(walk, look->key, size, look->slash ? '/' + 1 : 0);
}

/* Whether the walk showed this part already; notes it otherwise. */
static bool part_seen(struct walk *walk, const struct walk_entry *entry, const uint8_t *bytes)
{
    size_t slot = entry->name_size - 2 - PATH_PART_MIN;
    uint8_t *last = walk->parts[slot].bytes;
    if (walk->parts[slot].size == entry->bytes_size && memcmp(last, bytes, entry->bytes_size) == 0)
        return true;
    walk->parts[slot].size = (uint16_t)entry->bytes_size;
    memcpy(last, bytes, entry->bytes_size);
    return false;
}

/* Shows a part, unless it was shown. `*shown` false: nothing to show. `stay`: a file has this key
 * too and comes next. */
static int show_part(struct walk *walk, struct walk_entry *entry, const struct look *look,
                     bool stay, bool *shown)
{
    const uint8_t *bytes = look->key + walk->prefix.size;
    entry->directory = true;
    entry->path_kind = PATH_PART;
    *shown = !part_seen(walk, entry, bytes);
    if (!*shown)
        return stay ? 0 : skip(walk, look);
    if (!key_set(&entry->key, look->key, walk->prefix.size + entry->bytes_size))
        return ENOMEM;
    entry->has_attr = false;
    int error = stay ? 0 : skip(walk, look);
    if (!error) { /* its own record may lie anywhere before */
        struct attr_record record;
        error =
            view_attr(walk->view, entry->key.bytes, entry->key.size, &record, &entry->attr_entry);
        if (!error)
            set_attr(entry, &record, true, &entry->attr_entry);
    }
    return error == ENOENT ? 0 : error;
}

static int show_directory(struct walk *walk, struct walk_entry *entry, const struct look *look)
{
    size_t size = walk->prefix.size + look->component_size + 1;
    entry->directory = true;
    entry->path_kind = PATH_NAME;
    if (!key_set(&entry->key, look->key, size))
        return ENOMEM;
    bool own = look->aside && look->key_size == size;
    struct walk_head *aside = &walk->heads[1];
    set_attr(entry, &look->record, own, &look->attr_entry);
    if (!own && aside->valid && compare(&aside->key, &entry->key) == 0) {
        struct attr_record record;
        int error = head_record(aside, &record);
        if (!error)
            error = view_cursor_entry(&aside->cursor, &entry->attr_entry);
        if (error)
            return error;
        set_attr(entry, &record, true, &entry->attr_entry);
    }
    return skip(walk, look);
}

static int show_file(struct walk *walk, struct walk_entry *entry, const struct look *look,
                     bool *shown)
{
    bool directory = false;
    entry->directory = false;
    entry->path_kind = PATH_NAME;
    if (!key_set(&entry->key, look->key, look->key_size))
        return ENOMEM;
    int error = view_cursor_entry(&walk->heads[0].cursor, &entry->entry);
    set_attr(entry, &look->record, look->aside, &look->attr_entry);
    if (!error)
        error = skip(walk, look);
    if (!error)
        error = is_directory_too(walk, &entry->key, &directory);
    *shown = !directory;
    return error;
}

/* In a part, whether a component goes on as one that was cut there would. */
static bool belongs(const struct walk *walk, const struct look *look,
                    const struct walk_entry *entry, bool cut)
{
    unsigned part = walk->place.part_length;
    if (part == 0)
        return true;
    if (look->component_size == 0)
        return false;
    unsigned first = entry->name[0] == '%' ? 3 : 1;
    return part + first > PATH_PART_MAX && (cut || part + entry->name_size > PATH_NAME_MAX);
}

/* Whether the record that was looked at is that of a part that nothing else may show. */
static bool is_part_record(const struct walk *walk, const struct look *look,
                           const struct walk_entry *entry)
{
    unsigned part = walk->place.part_length;
    unsigned first = entry->name[0] == '%' ? 3 : 1;
    return look->record.has_directory && !look->slash && look->component_size > 0 &&
           entry->name_size >= PATH_PART_MIN && entry->name_size <= PATH_PART_MAX &&
           (part == 0 || part + first > PATH_PART_MAX);
}

static int show_part_record(struct walk *walk, struct walk_entry *entry, const struct look *look,
                            bool *shown)
{
    size_t name_size = entry->name_size;
    memcpy(entry->name + name_size, "%+", 3);
    entry->name_size += 2;
    int error = show_part(walk, entry, look, look->user, shown);
    if (!*shown) {
        entry->name_size = name_size;
        entry->name[name_size] = 0;
    }
    return error;
}

/* Whether something that is there now proves that the name exists. Of a record alone only its
 * directory section does, or a value further below the same name. */
static bool is_proven(const struct walk *walk, const struct look *look)
{
    const struct walk_head *user = &walk->heads[0];
    size_t size = walk->prefix.size + look->component_size + 1;
    return look->user || look->record.has_directory ||
           (look->slash && user->valid && user->key.size >= size &&
            memcmp(user->key.bytes, look->key, size) == 0);
}

static int step(struct walk *walk, struct walk_entry *entry, bool *shown)
{
    struct look here;
    *shown = false;
    int error = look(walk, &here);
    if (error)
        return error;
    entry->bytes_size = path_encode(walk->place, here.key + walk->prefix.size, here.component_size,
                                    entry->name, &entry->name_size);
    bool cut = entry->bytes_size < here.component_size;
    if (!is_proven(walk, &here))
        return go_to(walk, here.key, here.key_size, 0);
    if (!cut && is_part_record(walk, &here, entry)) {
        error = show_part_record(walk, entry, &here, shown);
        if (error || *shown || !here.user)
            return error;
    }
    if (!belongs(walk, &here, entry, cut) || !(here.user || here.slash || cut))
        return skip(walk, &here);
    if (cut)
        return show_part(walk, entry, &here, false, shown);
    *shown = true;
    if (here.slash)
        return show_directory(walk, entry, &here);
    return show_file(walk, entry, &here, shown);
}

/* `%value`: the key that is the directory's prefix without its '/'. */
static int show_value(struct walk *walk, struct walk_entry *entry, bool *shown)
{
    walk->value_done = true;
    *shown = false;
    size_t size = walk->prefix.size - 1;
    int error = view_find(walk->view, ekv_key(walk->prefix.bytes, size), &entry->entry);
    if (error)
        return error == ENOENT ? 0 : error;
    *shown = true;
    entry->directory = false;
    entry->path_kind = PATH_VALUE;
    entry->bytes_size = 0;
    entry->name_size = sizeof PATH_VALUE_NAME - 1;
    memcpy(entry->name, PATH_VALUE_NAME, sizeof PATH_VALUE_NAME);
    if (!key_set(&entry->key, walk->prefix.bytes, size))
        return ENOMEM;
    struct attr_record record;
    error = view_attr(walk->view, entry->key.bytes, size, &record, &entry->attr_entry);
    set_attr(entry, &record, !error, &entry->attr_entry);
    return error == ENOENT ? 0 : error;
}

int walk_next(struct walk *walk, struct walk_entry *entry)
{
    bool shown = false;
    int error = 0;
    if (!walk->value_done)
        error = show_value(walk, entry, &shown);
    if (!error && !shown)
        error = resume(walk);
    while (!error && !shown)
        error = step(walk, entry, &shown);
    return error;
}

/* --- Existence ---------------------------------------------------------------------------------
 */

int walk_directory_exists(struct view *view, const struct key *prefix, bool *exists)
{
    struct attr_record record;
    int error = view_attr(view, prefix->bytes, prefix->size, &record, NULL);
    *exists = record.has_directory;
    if ((error && error != ENOENT) || *exists)
        return error;
    return view_has_prefix(view, EKV_USER, prefix->bytes, prefix->size, exists);
}

int walk_is_empty(struct view *view, const struct key *prefix, struct path_place place, bool *empty)
{
    struct walk walk;
    struct walk_entry entry = {0};
    int error = walk_open(&walk, view, prefix, place);
    if (error)
        return error;
    error = walk_next(&walk, &entry);
    *empty = error == ENOENT;
    walk_close(&walk);
    key_free(&entry.key);
    return error == ENOENT ? 0 : error;
}
