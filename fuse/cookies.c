/* The names of a directory that were listed, by number.
 *
 * Names lie one after the other in one block, which only grows; an open-addressed table, at most
 * two thirds full, finds the number of a name.
 */
#include "cookies.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct listed {
    uint32_t start; /* in `bytes` */
    uint32_t hash;
    uint8_t size;
    bool directory;
};

struct cookies {
    pthread_mutex_t lock;
    char *bytes;
    size_t bytes_size, bytes_capacity;
    struct listed *listed;
    uint32_t count, capacity;
    uint32_t *slots; /* number + 1; 0: free */
    uint32_t slot_count;
};

struct cookies *cookies_new(void)
{
    struct cookies *cookies = calloc(1, sizeof *cookies);
    if (cookies)
        pthread_mutex_init(&cookies->lock, NULL);
    return cookies;
}

void cookies_free(struct cookies *cookies)
{
    if (!cookies)
        return;
    pthread_mutex_destroy(&cookies->lock);
    free(cookies->bytes);
    free(cookies->listed);
    free(cookies->slots);
    free(cookies);
}

static uint32_t hash(const char *name, size_t size)
{
    uint32_t state = 2166136261u;
    for (size_t i = 0; i < size; i++)
        state = (state ^ (uint8_t)name[i]) * 16777619u;
    return state ^ state >> 15;
}

/* The slot of a name, or the free one where it belongs; of a NULL name the latter. */
static uint32_t *slot_of(const struct cookies *cookies, uint32_t name_hash, const char *name,
                         size_t size)
{
    uint32_t mask = cookies->slot_count - 1;
    for (uint32_t at = name_hash & mask;; at = (at + 1) & mask) {
        uint32_t *slot = &cookies->slots[at];
        const struct listed *listed = *slot ? &cookies->listed[*slot - 1] : NULL;
        if (!listed || (name && listed->hash == name_hash && listed->size == size &&
                        memcmp(cookies->bytes + listed->start, name, size) == 0))
            return slot;
    }
}

static bool grow_slots(struct cookies *cookies)
{
    uint32_t old = cookies->slot_count;
    if (old && cookies->count + 1 <= old / 3 * 2)
        return true;
    uint32_t *slots = calloc(old ? 2 * (size_t)old : 64, sizeof *slots);
    if (!slots)
        return false;
    free(cookies->slots);
    cookies->slots = slots;
    cookies->slot_count = old ? 2 * old : 64;
    for (uint32_t i = 0; i < cookies->count; i++)
        *slot_of(cookies, cookies->listed[i].hash, NULL, 0) = i + 1;
    return true;
}

static bool grow(struct cookies *cookies, size_t size)
{
    if (cookies->count == cookies->capacity) {
        uint32_t capacity = 2 * cookies->capacity + 32;
        struct listed *listed = realloc(cookies->listed, capacity * sizeof *listed);
        if (!listed)
            return false;
        cookies->listed = listed;
        cookies->capacity = capacity;
    }
    if (cookies->bytes_size + size > cookies->bytes_capacity) {
        size_t capacity = 2 * cookies->bytes_capacity + size + 256;
        char *bytes = realloc(cookies->bytes, capacity);
        if (!bytes)
            return false;
        cookies->bytes = bytes;
        cookies->bytes_capacity = capacity;
    }
    return cookies->bytes_size + size <= UINT32_MAX;
}

bool cookies_number(struct cookies *cookies, const char *name, size_t name_size, bool directory,
                    uint32_t *number)
{
    pthread_mutex_lock(&cookies->lock);
    bool done = grow_slots(cookies);
    uint32_t name_hash = hash(name, name_size);
    uint32_t *slot = done ? slot_of(cookies, name_hash, name, name_size) : NULL;
    if (done && *slot == 0) {
        done = grow(cookies, name_size);
        if (done) {
            cookies->listed[cookies->count] =
                (struct listed){.start = (uint32_t)cookies->bytes_size,
                                .hash = name_hash,
                                .size = (uint8_t)name_size};
            memcpy(cookies->bytes + cookies->bytes_size, name, name_size);
            cookies->bytes_size += name_size;
            *slot = ++cookies->count;
        }
    }
    if (done) {
        *number = *slot - 1;
        cookies->listed[*number].directory = directory;
    }
    pthread_mutex_unlock(&cookies->lock);
    return done;
}

bool cookies_name(struct cookies *cookies, uint32_t number, char name[PATH_NAME_MAX + 1],
                  size_t *name_size, bool *directory)
{
    pthread_mutex_lock(&cookies->lock);
    bool there = number < cookies->count;
    if (there) {
        const struct listed *listed = &cookies->listed[number];
        memcpy(name, cookies->bytes + listed->start, listed->size);
        name[listed->size] = 0;
        *name_size = listed->size;
        *directory = listed->directory;
    }
    pthread_mutex_unlock(&cookies->lock);
    return there;
}
