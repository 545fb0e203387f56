/* What a transaction read and wrote: a hash table that only grows, under a lock of its own. */
#include "touched.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_FIRST = 64, READ_SIZE_MAX = 8 * 1024 * 1024 };

struct touched {
    pthread_mutex_t lock;
    struct touched_entry *first, **last;
    struct touched_entry **buckets;
    size_t bucket_count, count;
    size_t read_size; /* bytes of memory that entries of what was read take */
    bool all;
};

struct touched *touched_new(void)
{
    struct touched *touched = calloc(1, sizeof *touched);
    struct touched_entry **buckets = calloc(BUCKETS_FIRST, sizeof(struct touched_entry *));
    if (!touched || !buckets) {
        free(touched);
        free(buckets);
        return NULL;
    }
    pthread_mutex_init(&touched->lock, NULL);
    touched->last = &touched->first;
    touched->buckets = buckets;
    touched->bucket_count = BUCKETS_FIRST;
    return touched;
}

void touched_free(struct touched *touched)
{
    if (!touched)
        return;
    struct touched_entry *next;
    for (struct touched_entry *entry = touched->first; entry; entry = next) {
        next = entry->next;
        free(entry);
    }
    free(touched->buckets);
    pthread_mutex_destroy(&touched->lock);
    free(touched);
}

static size_t hash(const void *bytes, size_t size, uint8_t kind, uint8_t part)
{
    const uint8_t *in = bytes;
    uint64_t state = (0xcbf29ce484222325u ^ kind) * 0x100000001b3u ^ part;
    for (size_t i = 0; i < size; i++)
        state = (state ^ in[i]) * 0x100000001b3u;
    return (size_t)(state ^ state >> 29);
}

static struct touched_entry **bucket_of(const struct touched *touched, const void *bytes,
                                        size_t size, uint8_t kind, uint8_t part)
{
    return &touched->buckets[hash(bytes, size, kind, part) & (touched->bucket_count - 1)];
}

static void grow(struct touched *touched)
{
    size_t count = 2 * touched->bucket_count;
    struct touched_entry **buckets = calloc(count, sizeof(struct touched_entry *));
    if (!buckets) /* longer chains then */
        return;
    free(touched->buckets);
    touched->buckets = buckets;
    touched->bucket_count = count;
    for (struct touched_entry *entry = touched->first; entry; entry = entry->next) {
        struct touched_entry **bucket =
            bucket_of(touched, entry->bytes, entry->size, entry->kind, entry->part);
        entry->next_in_bucket = *bucket;
        *bucket = entry;
    }
}

static bool has(const struct touched *touched, uint8_t kind, uint8_t part, const void *bytes,
                size_t size)
{
    for (const struct touched_entry *entry = *bucket_of(touched, bytes, size, kind, part); entry;
         entry = entry->next_in_bucket)
        if (entry->kind == kind && entry->part == part && entry->size == size &&
            memcmp(entry->bytes, bytes, size) == 0)
            return true;
    return false;
}

static bool add(struct touched *touched, uint8_t kind, uint8_t part, const void *bytes, size_t size)
{
    if (has(touched, kind, part, bytes, size))
        return true;
    struct touched_entry **bucket = bucket_of(touched, bytes, size, kind, part);
    struct touched_entry *entry = malloc(sizeof *entry + size);
    if (!entry)
        return false;
    *entry = (struct touched_entry){
        .next_in_bucket = *bucket, .size = (uint32_t)size, .kind = kind, .part = part};
    memcpy(entry->bytes, bytes, size);
    *bucket = entry;
    *touched->last = entry;
    touched->last = &entry->next;
    if (kind < TOUCHED_PUT)
        touched->read_size += sizeof *entry + size;
    if (++touched->count > touched->bucket_count)
        grow(touched);
    return true;
}

void touched_read(struct touched *touched, enum touched_kind kind, uint8_t part, const void *bytes,
                  size_t size)
{
    pthread_mutex_lock(&touched->lock);
    if (!touched->all)
        touched->all =
            touched->read_size > READ_SIZE_MAX || !add(touched, (uint8_t)kind, part, bytes, size);
    pthread_mutex_unlock(&touched->lock);
}

bool touched_write(struct touched *touched, enum touched_kind kind, const void *bytes, size_t size)
{
    pthread_mutex_lock(&touched->lock);
    bool done = add(touched, (uint8_t)kind, 0, bytes, size);
    pthread_mutex_unlock(&touched->lock);
    return done;
}

bool touched_has(struct touched *touched, enum touched_kind kind, uint8_t part, const void *bytes,
                 size_t size)
{
    pthread_mutex_lock(&touched->lock);
    bool there = has(touched, (uint8_t)kind, part, bytes, size);
    pthread_mutex_unlock(&touched->lock);
    return there;
}

bool touched_all(struct touched *touched)
{
    pthread_mutex_lock(&touched->lock);
    bool all = touched->all;
    pthread_mutex_unlock(&touched->lock);
    return all;
}

const struct touched_entry *touched_next(struct touched *touched, const struct touched_entry *entry)
{
    pthread_mutex_lock(&touched->lock);
    const struct touched_entry *next = entry ? entry->next : touched->first;
    pthread_mutex_unlock(&touched->lock);
    return next;
}
