/* The mounted store: the parts of the engine side by side, for the layers that work on all of them.
 *
 * Parts below this layer take their own struct; what stands here takes the whole, because a flush,
 * a merge or a collection moves data between log, index and manifest.
 */
#ifndef EKV_STATE_H
#define EKV_STATE_H

#include "build.h"
#include "cache.h"
#include "manifest.h"
#include "memtable.h"
#include "source.h"

enum {
    EKV_VALUE_LINKS = 24, /* links in a list record of a value's tree */
};

enum ekv_merge_phase { EKV_MERGE_IDLE, EKV_MERGE_ENTRIES, EKV_MERGE_FINISH, EKV_MERGE_FILTER };

struct ekv_merge {
    enum ekv_merge_phase phase;
    uint32_t newest_id; /* of the inputs; they follow each other in the catalog */
    uint32_t count;
    uint32_t entries;   /* of all of them */
    bool oldest;        /* the oldest run is among them */
    int error;          /* why the last one was given up, 0: it was not */
    uint64_t pause;     /* how many flushes there had been then */
    uint32_t input_max; /* two merges of so many runs make one of all */
    struct ekv_source *inputs;
    struct ekv_builder builder;
};

struct ekv {
    struct ekv_sectors sectors;
    struct ekv_log log;
    struct ekv_index index;
    struct ekv_memtable memtable;
    struct ekv_cache cache;
    struct ekv_catalog catalog;
    struct ekv_manifest manifest;
    struct ekv_builder builder; /* for flushes; its pages also hold the links of values */
    struct ekv_merge merge;
    struct ekv_snapshot *snapshots;
    struct ekv_txn *txns;
    struct ekv_txn *appending; /* the one whose records nobody else's interrupted */
    uint32_t generation;       /* of limbo: grows with each snapshot, or (retain_span) with time */
    uint32_t change;           /* grows when memtable or runs change: cursors look again */
    uint32_t replay_max;       /* sectors of log after which a flush is due */
    uint32_t memtable_default;
    uint32_t retain_count;  /* versions of a key that collections and merges keep, at most 255 */
    int64_t retain_span;    /* microseconds for which what gc empties is not erased, 0: none */
    bool pressed;           /* no room otherwise: older versions of deleted keys are let go */
    uint32_t gc_next;       /* sector from which on victims are looked for, record by record */
    uint64_t reserved_size; /* uncommitted bytes of open transactions */
    uint64_t last_version;  /* of the newest commit */
    uint32_t recent_size;   /* bytes of log of the largest write of late */
    uint64_t erases_before; /* of the operation or transaction that is going on */
    uint64_t batch_size;    /* bytes that it wrote in the operations before; 0: no transaction */
    uint32_t emptied_seen;  /* emptied sectors that a snapshot needs: they will be in limbo */
    uint32_t writes;        /* that pay for work, so far */
    uint64_t flushes, merges, collections, published;
    uint64_t cold_next; /* so many collections, and a sector is moved for its wear */
    const struct ekv_locks *locks;
    void *lock_context;
    int64_t (*now)(void *context);
    void *now_context;
    bool read_only;
    bool damaged; /* mount met damage: read-only */
    bool astray;  /* ... a stamp of the log that lies, not a bit that was put right */
    bool failed;  /* flash and memory may differ, or flash fails: nothing more is written */
    bool unclean; /* the last session was not closed: recover before the first write */
    bool closed;  /* closed cleanly, not opened again yet: write an open record first */
    bool recovered;
    bool rewritten; /* the log began anew without a flush: slots may lead before replay's begin */
    uint64_t tail;  /* unclean: log position where the last session's records end */
    struct ekv_page_buffer page;
};

static inline const struct ekv_format *ekv_format_of(const struct ekv *db)
{
    return &db->sectors.format;
}

/* False: writes answer EKV_READ_ONLY. */
static inline bool ekv_is_writable(const struct ekv *db)
{
    return !db->read_only && !db->failed;
}

static inline void ekv_lock_read(struct ekv *db)
{
    if (db->locks)
        db->locks->lock_read(db->lock_context);
}

static inline void ekv_unlock_read(struct ekv *db)
{
    if (db->locks)
        db->locks->unlock_read(db->lock_context);
}

static inline void ekv_lock_write(struct ekv *db)
{
    if (db->locks)
        db->locks->lock_write(db->lock_context);
}

static inline void ekv_unlock_write(struct ekv *db)
{
    if (db->locks)
        db->locks->unlock_write(db->lock_context);
}

/* True if an open snapshot sees version `old` of a key because `newer` came after it. */
static inline bool ekv_snapshot_between(const struct ekv *db, uint64_t old, uint64_t newer)
{
    for (const struct ekv_snapshot *snapshot = db->snapshots; snapshot; snapshot = snapshot->next)
        if (snapshot->version >= old && snapshot->version < newer)
            return true;
    return false;
}

#endif
