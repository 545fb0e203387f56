/* One key space of a store in order, with whole values. */
#ifndef EKV_TOOL_SCAN_H
#define EKV_TOOL_SCAN_H

#include "ekv.h"

/* The key it stands on and what is known of it; the value after scan_value. Both stay until the
 * next call. */
struct scan {
    struct ekv_cursor cursor;
    bool valid; /* stands on a key */
    uint8_t space;
    uint8_t *key;
    size_t key_size;
    size_t key_capacity;
    struct ekv_entry entry;
    uint8_t *value;
    size_t value_capacity;
};

/* Opens before the first key; scan_next goes there. */
void scan_open(struct scan *scan, struct ekv *db, uint8_t space);
void scan_close(struct scan *scan);

/* The next key; at the end EKV_OK and not `valid`. */
EKV_MUST_CHECK int scan_next(struct scan *scan);

/* The first key at or after `key`. */
EKV_MUST_CHECK int scan_seek(struct scan *scan, const void *key, size_t size);

/* Loads the value, entry.size bytes, into `value`. */
EKV_MUST_CHECK int scan_value(struct scan *scan);

struct ekv_key scan_key(const struct scan *scan);

/* Below 0, 0, above 0, as memcmp; a prefix comes before what it begins. */
int key_compare(const void *one, size_t one_size, const void *other, size_t other_size);

#endif
