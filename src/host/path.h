/* The mapping between keys and paths: all byte strings to exactly one path and back.
 *
 * A key is split at '/' into components, one for each name of the path. A name escapes what a name
 * cannot hold (`%25`, `%00`, `%2E`, `%2E%2E`, `%2Eekv`), an empty component is the name `%`, and a
 * component whose name would be longer than 255 bytes is cut into parts: directories whose names
 * end in `%+`, and the rest. The value of a key that is a directory too is its file `%value`.
 *
 * A directory has a prefix: what the keys below it begin with. It ends with '/' (or is empty, for
 * the root), but for a part it is the key's bytes so far.
 */
#ifndef EKV_HOST_PATH_H
#define EKV_HOST_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PATH_NAME_MAX = 255,
    PATH_PART_MAX = 253, /* bytes of a part's name before its %+ */
    PATH_PART_MIN = 251, /* no escape is longer than three bytes */
};

#define PATH_VALUE_NAME "%value"

/* What a directory means for the names in it. */
struct path_place {
    bool root;           /* directly below the mountpoint */
    bool whole;          /* names are of whole keys, '/' and all: in .ekv/history */
    uint8_t part_length; /* of a part: bytes of its name before the %+; else 0 */
};

enum path_kind {
    PATH_INVALID, /* no key has this name in this place */
    PATH_NAME,    /* a whole component, or the rest of one that was cut */
    PATH_PART,    /* a part that more follows */
    PATH_VALUE,   /* `%value` */
};

/* What `name` means in a place. `bytes` (as much room as `name` takes) gets the bytes of the
 * component and `bytes_size` their count, for PATH_NAME and PATH_PART. */
enum path_kind path_decode(struct path_place place, const char *name, size_t name_size,
                           uint8_t *bytes, size_t *bytes_size);

/* The name, ended by a zero, of `bytes`: a component, or in a part what is left of it. Returns how
 * many of the bytes the name stands for: fewer than `size` if it is a part. */
size_t path_encode(struct path_place place, const uint8_t *bytes, size_t size,
                   char name[PATH_NAME_MAX + 1], size_t *name_size);

/* The place that a directory named so is for its entries. */
struct path_place path_enter(enum path_kind kind, size_t name_size);

/* The path of a key, relative to the mountpoint and ended by a zero; `directory` says that the key
 * is a directory too. Returns its length, or 0 when `capacity` is too small: three times the key's
 * size plus a hundredth plus 16 is always enough. */
size_t path_from_key(const uint8_t *key, size_t size, bool directory, char *path, size_t capacity);

/* The key of a path. Returns false when no key has this path; `key` has as much room as `path`
 * takes, plus one byte. */
bool path_to_key(const char *path, size_t path_size, uint8_t *key, size_t *size);

/* The same for a directory: its path, which is empty for the root, and its prefix. A prefix that no
 * directory has gives 0 too. */
size_t path_from_prefix(const uint8_t *prefix, size_t size, char *path, size_t capacity);
bool path_to_prefix(const char *path, size_t path_size, uint8_t *prefix, size_t *size);

/* The path of any key below .ekv/history, and back: one name for the whole key, '/' as %2F, cut
 * into parts as a component is if it is longer than 255 bytes. Otherwise as path_from_key and
 * path_to_key. */
size_t path_from_whole(const uint8_t *key, size_t size, char *path, size_t capacity);
bool path_to_whole(const char *path, size_t path_size, uint8_t *key, size_t *size);

#endif
