/* Keeps the largest buffer of those that were given up, from 1 to 128 MiB.
 *
 * Invariant: nothing that is kept here is in use, so the kernel may drop its pages at any time
 * (MADV_FREE); it counts as free memory then.
 */
#define _GNU_SOURCE
#include "buffer.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { KEPT_MIN = 1 << 20, KEPT_MAX = 128 << 20 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *kept;
static size_t kept_capacity;

/* The whole pages in a buffer may go. */
static void offer_to_kernel(uint8_t *bytes, size_t capacity)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)bytes + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)bytes + capacity) / page * page;
    (void)!madvise((void *)begin, end - begin, MADV_FREE);
}

void buffer_give(uint8_t *bytes, size_t capacity)
{
    if (bytes && capacity >= KEPT_MIN && capacity <= KEPT_MAX) {
        pthread_mutex_lock(&lock);
        if (capacity > kept_capacity) {
            uint8_t *other = kept;
            offer_to_kernel(bytes, capacity);
            kept = bytes;
            kept_capacity = capacity;
            bytes = other;
        }
        pthread_mutex_unlock(&lock);
    }
    free(bytes);
}

uint8_t *buffer_take(size_t size, size_t *capacity)
{
    uint8_t *bytes = NULL;
    if (size < KEPT_MIN)
        return NULL;
    pthread_mutex_lock(&lock);
    if (kept_capacity >= size) {
        bytes = kept;
        *capacity = kept_capacity;
        kept = NULL;
        kept_capacity = 0;
    }
    pthread_mutex_unlock(&lock);
    return bytes;
}
