/* Space that is promised to files with uncommitted changes.
 *
 * Shells ignore what close(2) returns, so a file that will not fit must be refused at write: each
 * uncommitted file reserves what its value will take, in full, since the old value stays until the
 * new one is committed.
 */
#ifndef EKVFS_SPACE_H
#define EKVFS_SPACE_H

#include "store.h"

struct space {
    struct store *store;
    pthread_mutex_t lock;
    uint64_t reserved;  /* by all files */
    uint64_t available; /* for reservations, when last looked at */
    uint64_t pinned;    /* held by snapshots and transactions, then */
    uint64_t capacity;
    uint32_t record_overhead;
};

void space_init(struct space *space, struct store *store);

/* Bytes of log that a value takes, at most. */
uint64_t space_cost(const struct space *space, size_t key_size, uint64_t value_size);

/* Changes a reservation from `*reserved` to `cost`, less what of it a transaction has staged.
 * EFBIG: it would not fit into an empty store either; ENOSPC. Then nothing changed. */
EKV_MUST_CHECK int space_reserve(struct space *space, uint64_t *reserved, uint64_t cost,
                                 uint64_t staged);
void space_release(struct space *space, uint64_t *reserved);

/* What statfs tells: bytes in all and bytes that can still be written. */
void space_stat(struct space *space, struct ekv_stat *stat, uint64_t *available);

#endif
