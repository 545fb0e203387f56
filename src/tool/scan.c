/* Walking a key space. */
#define _GNU_SOURCE
#include "scan.h"

#include <stdlib.h>
#include <string.h>

#include "tool.h"

void scan_open(struct scan *scan, struct ekv *db, uint8_t space)
{
    struct ekv_stat stat;
    ekv_stat(db, &stat);
    *scan = (struct scan){.space = space, .key_capacity = stat.key_size_max};
    scan->key = allocate(scan->key_capacity);
    ekv_cursor_open(&scan->cursor, db, space);
}

void scan_close(struct scan *scan)
{
    ekv_cursor_close(&scan->cursor);
    free(scan->key);
    free(scan->value);
}

static int arrive(struct scan *scan, int error)
{
    scan->valid = error == EKV_OK;
    if (!error)
        error = ekv_cursor_key(&scan->cursor, scan->key, scan->key_capacity, &scan->key_size);
    if (!error)
        error = ekv_cursor_entry(&scan->cursor, &scan->entry);
    return error == EKV_NOT_FOUND && !scan->valid ? EKV_OK : error;
}

int scan_next(struct scan *scan)
{
    return arrive(scan, ekv_cursor_next(&scan->cursor));
}

int scan_seek(struct scan *scan, const void *key, size_t size)
{
    struct ekv_key to = {key, (uint32_t)size, scan->space, 0};
    return arrive(scan, ekv_cursor_seek(&scan->cursor, to));
}

int scan_value(struct scan *scan)
{
    size_t wanted = scan->entry.size, got;
    if (wanted > scan->value_capacity || !scan->value) {
        scan->value_capacity = wanted;
        scan->value = allocate_again(scan->value, wanted);
    }
    int error = ekv_cursor_read(&scan->cursor, 0, scan->value, wanted, &got);
    return !error && got != wanted ? EKV_CORRUPT : error;
}

struct ekv_key scan_key(const struct scan *scan)
{
    return (struct ekv_key){scan->key, (uint32_t)scan->key_size, scan->space, 0};
}

int key_compare(const void *one, size_t one_size, const void *other, size_t other_size)
{
    size_t size = one_size < other_size ? one_size : other_size;
    int order = size ? memcmp(one, other, size) : 0;
    return order ? order : (one_size > other_size) - (one_size < other_size);
}
