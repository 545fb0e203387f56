/* What a transaction read and wrote, by key.
 *
 * Bounded memory: what is read beyond it counts as having read the whole store. What is written
 * takes its key and some forty bytes.
 */
#ifndef EKVFS_TOUCHED_H
#define EKVFS_TOUCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum touched_kind {
    TOUCHED_VALUE,     /* read: a key and its attributes, there or missing */
    TOUCHED_DIRECTORY, /* read: whether there is a directory with this prefix */
    TOUCHED_NAMES,     /* read: the names in the directory with this prefix */
    TOUCHED_BELOW,     /* read: all below this prefix */
    TOUCHED_PUT,       /* written: a key */
    TOUCHED_PUT_ASIDE, /* written: the attributes beside a key */
};

struct touched;

/* `part` is the path_place's of the directory, 0 otherwise. */
struct touched_entry {
    struct touched_entry *next; /* in the order in which they came */
    struct touched_entry *next_in_bucket;
    uint32_t size;
    uint8_t kind, part;
    uint8_t bytes[];
};

struct touched *touched_new(void);
void touched_free(struct touched *touched);

/* Notes what was read. Never fails: without memory the whole store counts as read. */
void touched_read(struct touched *touched, enum touched_kind kind, uint8_t part, const void *bytes,
                  size_t size);
/* Notes what is about to be written. False: no memory. */
bool touched_write(struct touched *touched, enum touched_kind kind, const void *bytes, size_t size);

/* Whether an entry was noted. */
bool touched_has(struct touched *touched, enum touched_kind kind, uint8_t part, const void *bytes,
                 size_t size);

/* Whether the whole store counts as read. */
bool touched_all(struct touched *touched);

/* The entry after another one, of whatever kind; the first after NULL. NULL: there is none. */
const struct touched_entry *touched_next(struct touched *touched,
                                         const struct touched_entry *entry);

#endif
