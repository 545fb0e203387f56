/* Walks the names directly in a directory, in one pass over the keys below its prefix, skipping
 * what lies deeper.
 *
 * A name keeps its place in the order while it exists, so a walk that is resumed later, while names
 * come and go, shows nothing twice and leaves nothing out that was there throughout.
 */
#ifndef EKVFS_WALK_H
#define EKVFS_WALK_H

#include "node.h"
#include "view.h"

/* A name and what is known of it. Of a file: `entry` of its value and its attributes. Of a
 * directory: its attributes if it has a record. */
struct walk_entry {
    char name[PATH_NAME_MAX + 1];
    size_t name_size;
    bool directory;
    enum path_kind path_kind;
    size_t bytes_size;
    struct key key; /* of the file, or the prefix of the directory */
    struct ekv_entry entry;
    bool no_record; /* nothing at all is kept beside it: found out by tree_find alone */
    bool shared;    /* what is kept beside it says something of another node too: likewise */
    bool has_attr;
    struct attr attr;
    struct ekv_entry attr_entry;
};

struct walk_head {
    struct view_cursor cursor;
    struct key key;
    uint8_t space;
    bool valid; /* the cursor stands on `key`, below the prefix */
};

struct walk {
    struct view *view;
    struct key prefix;
    struct path_place place;
    struct key position; /* where to go on */
    bool value_done, open;
    struct walk_head heads[2]; /* EKV_USER, EKV_ASIDE */
    struct {                   /* parts last shown, by the length of their names */
        uint16_t size;
        uint8_t bytes[PATH_NAME_MAX];
    } parts[PATH_PART_MAX - PATH_PART_MIN + 1];
};

/* Begins before the first name. `place` is what the directory means for its names. */
EKV_MUST_CHECK int walk_open(struct walk *walk, struct view *view, const struct key *prefix,
                             struct path_place place);

/* Goes to the place behind a name, whether it is still there or not. */
EKV_MUST_CHECK int walk_seek(struct walk *walk, const char *name, size_t name_size, bool directory);

/* The next name; ENOENT after the last. The entry's key must be zeroed before the first call and
 * freed by the caller after the last. */
EKV_MUST_CHECK int walk_next(struct walk *walk, struct walk_entry *entry);

/* Lets go of the store until the next walk_next, which sees the store as it is then. */
void walk_pause(struct walk *walk);
void walk_close(struct walk *walk);

/* The key that a cursor stands on. */
EKV_MUST_CHECK int walk_key(struct view_cursor *cursor, struct key *key);

/* Whether a directory exists: it has a record, or a key lies below it. (What has a record below it
 * has one itself.) `prefix` ends with a '/'. */
EKV_MUST_CHECK int walk_directory_exists(struct view *view, const struct key *prefix, bool *exists);

/* Whether there is any name in a directory. */
EKV_MUST_CHECK int walk_is_empty(struct view *view, const struct key *prefix,
                                 struct path_place place, bool *empty);

#endif
