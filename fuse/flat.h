/* Ranges of keys in which there are no directories.
 *
 * A name that is looked up might be a directory, which is so if any key begins with it and a '/',
 * that of a value or of a record of attributes. To see that there is none takes a search by order
 * in all sources of the store, several times what it takes to find the file of the name. What such
 * a search passes without meeting a directory is remembered, and stays so when files come and go:
 * until a key comes that lies in a directory there. Only of the live view: nobody else writes the
 * store.
 */
#ifndef EKVFS_FLAT_H
#define EKVFS_FLAT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FLAT_RANGES = 8, FLAT_KEY_MAX = 256 };

/* The end of a range, in the order of keys. */
struct flat_bound {
    uint16_t size;
    uint8_t bytes[FLAT_KEY_MAX];
};

/* No prefix that ends with a '/' and lies in [low, high) is that of a key of either space. */
struct flat_range {
    bool used;
    bool open; /* there is no `high`: up to the last key that can be */
    struct flat_bound low, high;
    unsigned ahead; /* keys that were passed to extend it last */
};

struct flat {
    pthread_mutex_t lock;
    unsigned writing;           /* writes that may end ranges are under way */
    unsigned long long version; /* counts them */
    unsigned next;              /* the range that goes when there are too many */
    struct flat_range ranges[FLAT_RANGES];
};

struct view;

void flat_init(struct flat *flat);
void flat_end(struct flat *flat);

/* Something is going to be put under a key, and was, or not: from the first to the second nothing
 * is remembered. `key` NULL: under any. A batch calls the first for each of its keys and the second
 * once: only a call that finds `*begun` false counts. */
void flat_put_begin(struct flat *flat, const void *key, size_t size, bool *begun);
void flat_put_end(struct flat *flat, bool *begun);

/* Whether it is known that nothing begins with a prefix that ends with a '/'. */
bool flat_knows(struct flat *flat, const uint8_t *prefix, size_t size);

/* Whether the key of any value begins with such a prefix, in the live view. An errno. */
int flat_has_prefix(struct flat *flat, struct view *live, const uint8_t *prefix, size_t size,
                    bool *found);

#endif
