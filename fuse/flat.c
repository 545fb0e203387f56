/* Ranges of keys without directories.
 *
 * Invariants: ranges do not touch each other. A search is only remembered if no write that could
 * contradict it was under way between its begin and its end: it may have looked before that and
 * would be noted after it. Keys that are too long to be an end are not remembered.
 */
#include "flat.h"

#include <errno.h>
#include <string.h>

#include "view.h"

enum { AHEAD_FIRST = 2, AHEAD_LAST = 64 };

void flat_init(struct flat *flat)
{
    memset(flat, 0, sizeof *flat);
    pthread_mutex_init(&flat->lock, NULL);
}

void flat_end(struct flat *flat)
{
    pthread_mutex_destroy(&flat->lock);
}

/* --- Ranges ------------------------------------------------------------------------------------
 */

static int compare(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size)
{
    int order = memcmp(one, other, one_size < other_size ? one_size : other_size);
    return order != 0 ? order : one_size < other_size ? -1 : one_size > other_size;
}

static int compare_bound(const struct flat_bound *end, const uint8_t *bytes, size_t size)
{
    return compare(end->bytes, end->size, bytes, size);
}

static void set_bound(struct flat_bound *end, const uint8_t *bytes, size_t size)
{
    memcpy(end->bytes, bytes, size);
    end->size = (uint16_t)size;
}

/* The range that a prefix lies in; NULL: none. */
static struct flat_range *range_of(struct flat *flat, const uint8_t *prefix, size_t size)
{
    for (struct flat_range *range = flat->ranges; range < flat->ranges + FLAT_RANGES; range++)
        if (range->used && compare_bound(&range->low, prefix, size) <= 0 &&
            (range->open || compare_bound(&range->high, prefix, size) > 0))
            return range;
    return NULL;
}

/* A range ends where a prefix is. */
static void cut(struct flat_range *range, const uint8_t *prefix, size_t size)
{
    range->used = compare_bound(&range->low, prefix, size) < 0 && size <= FLAT_KEY_MAX;
    range->open = false;
    if (range->used)
        set_bound(&range->high, prefix, size);
}

/* Takes what touches a range into it. */
static void join(struct flat *flat, struct flat_range *range)
{
    for (struct flat_range *other = flat->ranges; other < flat->ranges + FLAT_RANGES; other++) {
        if (other == range || !other->used)
            continue;
        if (!range->open && compare_bound(&range->high, other->low.bytes, other->low.size) < 0)
            continue;
        if (!other->open && compare_bound(&other->high, range->low.bytes, range->low.size) < 0)
            continue;
        if (compare_bound(&other->low, range->low.bytes, range->low.size) < 0)
            range->low = other->low;
        if (!range->open &&
            (other->open || compare_bound(&other->high, range->high.bytes, range->high.size) > 0)) {
            range->high = other->high;
            range->open = other->open;
        }
        other->used = false;
    }
}

static struct flat_range *place_for(struct flat *flat)
{
    for (struct flat_range *range = flat->ranges; range < flat->ranges + FLAT_RANGES; range++)
        if (!range->used)
            return range;
    return &flat->ranges[flat->next++ % FLAT_RANGES];
}

/* --- Writes ------------------------------------------------------------------------------------
 */

void flat_put_begin(struct flat *flat, const void *key, size_t size, bool *begun)
{
    const uint8_t *bytes = key, *slash = bytes;
    if (key && !memchr(key, '/', size))
        return;
    pthread_mutex_lock(&flat->lock);
    while (key && (slash = memchr(slash, '/', size - (size_t)(slash - bytes)))) {
        size_t prefix = (size_t)(++slash - bytes);
        struct flat_range *range = range_of(flat, bytes, prefix);
        if (range)
            cut(range, bytes, prefix);
    }
    for (unsigned i = 0; i < FLAT_RANGES && !key; i++)
        flat->ranges[i].used = false;
    flat->writing += !*begun;
    *begun = true;
    pthread_mutex_unlock(&flat->lock);
}

void flat_put_end(struct flat *flat, bool *begun)
{
    if (!*begun)
        return;
    pthread_mutex_lock(&flat->lock);
    flat->writing--;
    flat->version++;
    *begun = false;
    pthread_mutex_unlock(&flat->lock);
}

/* --- Searches ----------------------------------------------------------------------------------
 */

/* A search, and what it is going to remember. */
struct search {
    unsigned long long version;
    struct flat_range range;
};

/* Whether the prefix is known to be that of no key. If not, a search begins: right behind what was
 * passed before, if the prefix is that of the key which was passed last. */
static bool look(struct flat *flat, const uint8_t *prefix, size_t size, struct search *search)
{
    pthread_mutex_lock(&flat->lock);
    bool known = range_of(flat, prefix, size);
    search->version = flat->version;
    search->range = (struct flat_range){.ahead = AHEAD_FIRST};
    set_bound(&search->range.low, prefix, size);
    for (unsigned i = 0; i < FLAT_RANGES && !known; i++) {
        const struct flat_range *range = &flat->ranges[i];
        if (!range->used || range->open || range->high.size != size ||
            range->high.bytes[size - 1] != 0 || memcmp(range->high.bytes, prefix, size - 1) != 0)
            continue;
        search->range.low = range->high;
        search->range.ahead = range->ahead < AHEAD_LAST ? 2 * range->ahead : AHEAD_LAST;
    }
    pthread_mutex_unlock(&flat->lock);
    return known;
}

static void remember(struct flat *flat, const struct search *search)
{
    pthread_mutex_lock(&flat->lock);
    if (flat->writing == 0 && flat->version == search->version) {
        struct flat_range *range = place_for(flat);
        *range = search->range;
        range->used = true;
        join(flat, range);
    }
    pthread_mutex_unlock(&flat->lock);
}

/* Goes on to a key. False: a directory ends the range before it, or it
 * is too long to end one. */
static bool pass(struct flat_range *range, const uint8_t *key, size_t size)
{
    const uint8_t *slash = key, *end = key + size;
    while ((slash = memchr(slash, '/', (size_t)(end - slash)))) {
        size_t prefix = (size_t)(++slash - key);
        if (compare_bound(&range->low, key, prefix) > 0)
            continue;
        set_bound(&range->high, key, prefix);
        return false;
    }
    set_bound(&range->high, key, size);
    range->high.bytes[range->high.size++] = 0; /* whatever comes behind that key */
    return true;
}

/* Walks the keys of a space from the low end of a range on. */
static int walk(struct view *live, uint8_t space, struct flat_range *range)
{
    struct view_cursor cursor;
    uint8_t key[FLAT_KEY_MAX];
    bool more = true;
    size_t size;
    range->high = range->low;
    struct ekv_key low = {range->low.bytes, range->low.size, space, 0};
    int error = view_cursor_open(live, &cursor, space);
    if (!error)
        error = view_cursor_seek(&cursor, low);
    for (unsigned i = 0; !error && more && i < range->ahead; i++) {
        if (i > 0)
            error = view_cursor_next(&cursor);
        if (!error)
            error = view_cursor_key(&cursor, key, sizeof key, &size);
        more = !error && size < FLAT_KEY_MAX && pass(range, key, size);
    }
    view_cursor_close(&cursor);
    range->open = error == ENOENT;
    return range->open ? 0 : error;
}

/* What holds of the keys of both spaces. */
static int walk_both(struct view *live, struct flat_range *range)
{
    struct flat_range aside = *range;
    int error = walk(live, EKV_USER, range);
    if (!error)
        error = walk(live, EKV_ASIDE, &aside);
    if (!error && !aside.open &&
        (range->open || compare_bound(&aside.high, range->high.bytes, range->high.size) < 0)) {
        range->high = aside.high;
        range->open = false;
    }
    return error;
}

bool flat_knows(struct flat *flat, const uint8_t *prefix, size_t size)
{
    pthread_mutex_lock(&flat->lock);
    bool known = range_of(flat, prefix, size);
    pthread_mutex_unlock(&flat->lock);
    return known;
}

int flat_has_prefix(struct flat *flat, struct view *live, const uint8_t *prefix, size_t size,
                    bool *found)
{
    struct search search;
    *found = false;
    if (size > FLAT_KEY_MAX)
        return view_has_prefix(live, EKV_USER, prefix, size, found);
    if (look(flat, prefix, size, &search))
        return 0;
    struct flat_range *range = &search.range;
    int error = walk_both(live, range);
    if (error)
        return error;
    if (range->open || compare_bound(&range->high, range->low.bytes, range->low.size) > 0)
        remember(flat, &search);
    if (range->open || compare_bound(&range->high, prefix, size) > 0)
        return 0;
    return view_has_prefix(live, EKV_USER, prefix, size, found);
}
