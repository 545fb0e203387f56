/* ekv: a key-value store on raw NOR flash.
 *
 * The store is an LSM tree of pointers over one append-only log. It takes no memory of its own: the
 * caller hands over one block of `ekv_memory_size` bytes for each mounted store, and the handles
 * (cursor, snapshot, transaction) live wherever the caller puts them.
 *
 * Threads: one writer at a time beside any number of readers, if the caller mounts with locks; one
 * thread at a time otherwise. Functions that change the store or open, close or move a transaction
 * are the writer's; ekv_get, ekv_find, ekv_stat, snapshots, histories and cursors are readers'.
 *
 * Every comment ends with what can go wrong (`Errors:` beside EKV_IO and EKV_CORRUPT, which every
 * function that touches flash can return), what it costs (`Flash:`) and what a loss of power during
 * it leaves (`Power cut:`).
 */
#ifndef EKV_H
#define EKV_H

#include "error.h"
#include "flash.h"

#define EKV_VERSION_STRING "0.1.0"

struct ekv; /* a mounted store; lies in the memory that the caller handed over */

/* A key is any byte string up to ekv_stat's `key_size_max`, the empty one too; keys are ordered by
 * their bytes as by memcmp, a prefix before what it begins. There are two key spaces that share
 * transactions and snapshots: EKV_USER, and EKV_ASIDE for what a host keeps beside a key (ekvfs
 * keeps modes, times, links and empty directories there). */
enum ekv_space { EKV_USER = 0, EKV_ASIDE = 1 };

struct ekv_key {
    const void *bytes;
    uint32_t size;
    uint8_t space;
    uint32_t rest; /* ekv's: 0 */
};

static inline struct ekv_key ekv_key(const void *bytes, size_t size)
{
    return (struct ekv_key){bytes, (uint32_t)size, EKV_USER, 0};
}

/* What is known of a version of a key beside its value.
 *   version: its sequence number: grows with every commit, names this version for ever.
 *   time:    when it was written, in microseconds since 1970 as the caller's clock told it, 0
 *            without one. Of what a transaction wrote that is the time of ekv_txn_put, as the time
 * of a file is not that of its renaming; who asks for the store at a time (host/survey.h) goes by
 * the commit. size:    of the value in bytes. */
struct ekv_entry {
    uint64_t version;
    int64_t time;
    uint64_t size;
    bool removed; /* only in histories: the key was deleted by this version */
};

/* --- Locks and clock of the host ------------------------------------------------------------- */

/* Readers-writer locking that the host supplies; all four or none. ekv never holds the write lock
 * during an erase or a sync, so a reader does not wait for either. Without `map` in the flash,
 * lock_read must exclude other readers too (ekv then reads through one shared page buffer). */
struct ekv_locks {
    void (*lock_read)(void *context);
    void (*unlock_read)(void *context);
    void (*lock_write)(void *context);
    void (*unlock_write)(void *context);
};

/* --- Format, mount, unmount ------------------------------------------------------------------ */

struct ekv_format_options {
    uint64_t store_id; /* seeds every checksum; two stores should not share one. 0 is allowed */
    const char *label; /* NULL, or up to 31 bytes of text */
    bool blank;        /* the whole chip reads 0xff since it was erased completely: skips erases */
    /* Older versions to keep, at most one of the two, both 0: none. Those that nothing keeps stay
     * readable (ekv_history_*) until their sector is erased. */
    uint32_t retain_count;   /* versions of each key, the current one included, at most 255; those
                                of a deleted key only as long as there is room */
    uint32_t retain_seconds; /* what was overwritten or deleted since; needs a clock */
};

struct ekv_mount_options {
    bool read_only;
    uint32_t memtable_count; /* keys held in RAM before a run is written; 0: by geometry. On up to
                                16 sectors no fewer than that: all may have to be held */
    uint32_t cache_count; /* keys whose place is kept in RAM, some 8 bytes each and 4 a sector, so
                             that reading them takes nothing but their record, and finding that a
                             key is not there mostly nothing if none was at the mount; 0: none. For
                             hosts. */
    const struct ekv_locks *locks; /* NULL: one thread at a time */
    void *lock_context;
    int64_t (*now)(void *context); /* NULL, or microseconds since 1970, stored with each commit */
    void *now_context;
    uint32_t retain_count;   /* instead of what the format says, for this mount; both 0: that */
    uint32_t retain_seconds; /* the same. Without `now` no span can be kept: see ekv_mount */
};

/* Writes an empty store over whatever the flash holds. `memory` as for a mount.
 * Errors: EKV_GEOMETRY, EKV_MEMORY, EKV_INVALID (label too long, both kinds of retention).
 * Flash: one erase and about two programs for each manifest sector, and one log sector.
 * Power cut: no store, or an empty one. */
EKV_MUST_CHECK int ekv_format(const struct ekv_flash *flash,
                              const struct ekv_format_options *options, void *memory,
                              size_t memory_size);

/* Bytes of memory that ekv_mount and ekv_format need; 0 if the geometry is unusable.
 * `options` may be NULL. Flash: nothing. */
size_t ekv_memory_size(const struct ekv_geometry *geometry,
                       const struct ekv_mount_options *options);

/* Finds the geometry of the store on a flash whose driver can only read: `flash->geometry` must
 * give a total size (any sector size); on success it is replaced by the store's. For image files.
 * Errors: EKV_NO_STORE, EKV_VERSION, EKV_GEOMETRY (the store is larger than the flash).
 * Flash: reads only. */
EKV_MUST_CHECK int ekv_probe(struct ekv_flash *flash);

/* Mounts the store. `memory` (aligned for any type) must stay until the unmount, `flash` is copied.
 * Writes nothing: recovery after a power cut is decided here and carried out by the first write.
 * Bits that flipped in what the mount needs, one in each record, stamp, frame or page, are put
 * right in memory, eight at most; the store is read-only then, and where they lie is what ekv_check
 * finds. A span to retain is kept while there is a clock that does not run backwards from one mount
 * to the next; a format's span counts for nothing in a mount without a clock. Errors: EKV_NO_STORE,
 * EKV_VERSION, EKV_GEOMETRY, EKV_MEMORY, EKV_CORRUPT, EKV_INVALID (both kinds of retention, more
 * than 255 versions, or a span without a clock). Flash: reads the manifest and the log since the
 * last flush, never the whole device. Power cut: nothing is written. */
EKV_MUST_CHECK int ekv_mount(struct ekv **db, const struct ekv_flash *flash,
                             const struct ekv_mount_options *options, void *memory,
                             size_t memory_size);

/* Closes the store, so that the next mount need not recover. After it the memory is the caller's
 * whatever it returned. Errors: EKV_BUSY (then nothing happened: close the handles first).
 * Flash: one small program, a sync. Power cut: as before it. */
EKV_MUST_CHECK int ekv_unmount(struct ekv *db);

/* Makes every commit so far survive a crash of the host. Flash: the driver's sync. */
EKV_MUST_CHECK int ekv_sync(struct ekv *db);

/* Does one step of the work that writes would otherwise pay for (an erase, a merged page, a
 * collected sector). `more` says whether another step is worth calling for.
 * Flash: at most one erase. Power cut: changes no key. */
EKV_MUST_CHECK int ekv_work(struct ekv *db, bool *more);

/* Does one step of reclaiming all that can be, beyond what writes need: collects sectors of which
 * little is live, flushes, merges all runs into one. `left` begins as 0 and is then how many steps
 * are left at most: call it until that is 0 again. It wears the flash; a store does well without.
 * Errors: EKV_READ_ONLY, EKV_PINNED. Flash: a sector's live records, a flush or a merge, and the
 * erases these take. Power cut: changes no key. */
EKV_MUST_CHECK int ekv_compact(struct ekv *db, uint32_t *left);

/* --- Single operations ----------------------------------------------------------------------- */

/* Stores a value, in place of any older one. A commit of its own.
 * Errors: EKV_FULL, EKV_PINNED (nothing changed), EKV_TOO_LARGE, EKV_READ_ONLY.
 * Flash: a small value is one program, besides at most one erase, two merged pages and one
 * collected sector. Power cut: the old value or the new one. */
EKV_MUST_CHECK int ekv_put(struct ekv *db, struct ekv_key key, const void *value, size_t size);

/* The same if the key still has the version that ekv_find gave, or is not there and `version` is 0.
 * Errors: as ekv_put; EKV_CONFLICT: the key has another version (nothing changed). Flash and power
 * cut: as ekv_put. */
EKV_MUST_CHECK int ekv_put_if(struct ekv *db, struct ekv_key key, uint64_t version,
                              const void *value, size_t size);

/* Deletes a key; EKV_NOT_FOUND (and nothing written) if it is not there. Works on a full store.
 * Flash and power cut: as ekv_put. */
EKV_MUST_CHECK int ekv_delete(struct ekv *db, struct ekv_key key);

/* Reads up to `capacity` bytes of a value from `offset` on into `buffer`; `size` (may be NULL) is
 * set to the bytes copied, fewer than `capacity` only at the value's end.
 * Errors: EKV_NOT_FOUND. Flash: 5 to 15 reads for a small value, nothing written. */
EKV_MUST_CHECK int ekv_get(struct ekv *db, struct ekv_key key, uint64_t offset, void *buffer,
                           size_t capacity, size_t *size);

/* Version, time and size of a key. Errors: EKV_NOT_FOUND. Flash: as ekv_get, without the value. */
EKV_MUST_CHECK int ekv_find(struct ekv *db, struct ekv_key key, struct ekv_entry *entry);

/* --- Snapshots ------------------------------------------------------------------------------- */

/* One moment of the store, for as long as it is open. Costs no copying; what it still needs of the
 * log is not erased. The struct is the caller's; its fields are ekv's. */
struct ekv_snapshot {
    struct ekv *db;
    struct ekv_snapshot *next;
    uint64_t version;
    uint32_t generation;
    uint32_t standing; /* a cursor's: address of the record it stands on, 0 when on none */
};

/* Flash: nothing. */
void ekv_snapshot_open(struct ekv_snapshot *snapshot, struct ekv *db);
void ekv_snapshot_close(struct ekv_snapshot *snapshot);
EKV_MUST_CHECK int ekv_snapshot_get(struct ekv_snapshot *snapshot, struct ekv_key key,
                                    uint64_t offset, void *buffer, size_t capacity, size_t *size);
EKV_MUST_CHECK int ekv_snapshot_find(struct ekv_snapshot *snapshot, struct ekv_key key,
                                     struct ekv_entry *entry);

/* --- Transactions ---------------------------------------------------------------------------- */

/* Writes in any order, seen by this transaction alone until they are committed together. Any number
 * may be open at a time. Values go to flash at once, uncommitted; the caller's memory holds
 * EKV_TXN_ENTRY_SIZE bytes a key written. The fields are ekv's. */
enum { EKV_TXN_ENTRY_SIZE = 8 };

struct ekv_txn {
    struct ekv *db;
    struct ekv_txn *next;
    struct ekv_snapshot begin;
    void *entries;
    uint32_t count;
    uint32_t capacity;
    uint32_t first;        /* address of the first record, if nothing came between them */
    uint32_t record_count; /* records written since */
    uint64_t first_position;
    uint64_t pending_size;
};

/* Begins a transaction that reads the store as it now is. `memory` (4-byte aligned) stays until the
 * end of the transaction. Flash: nothing. */
EKV_MUST_CHECK int ekv_txn_begin(struct ekv_txn *txn, struct ekv *db, void *memory,
                                 size_t memory_size);

/* Moves the transaction's table to a larger memory; the old one is then the caller's again. */
EKV_MUST_CHECK int ekv_txn_grow(struct ekv_txn *txn, void *memory, size_t memory_size);

/* As ekv_put and ekv_delete, inside the transaction. Errors: also EKV_MEMORY: the table is full
 * (nothing changed: ekv_txn_grow, then again). Flash: the value is appended; small ones share a
 * program. Power cut: nothing of the transaction is left. */
EKV_MUST_CHECK int ekv_txn_put(struct ekv_txn *txn, struct ekv_key key, const void *value,
                               size_t size);
EKV_MUST_CHECK int ekv_txn_delete(struct ekv_txn *txn, struct ekv_key key);

/* Adds bytes to the end of the value that the transaction writes to a key; the first call begins
 * it. So a large value need never be in memory as a whole. Each call ends a chunk: it is for pieces
 * of several KiB. Errors: as ekv_txn_put; EKV_INVALID: no bytes, or the value was written by
 * ekv_txn_put. Flash: the bytes, and up to five small records that end the value's tree, anew at
 * each call. Power cut: nothing is left. */
EKV_MUST_CHECK int ekv_txn_append(struct ekv_txn *txn, struct ekv_key key, const void *bytes,
                                  size_t size);

/* For a transaction that only writes and may stay open for long: what others overwrite is no longer
 * kept for it. Of keys that it did not write it reads what the store now has. What others commit
 * still is a conflict, but for removals. Flash: nothing. */
void ekv_txn_unpin(struct ekv_txn *txn);

/* Reads what the transaction wrote, and below that the store as it was at the begin. */
EKV_MUST_CHECK int ekv_txn_get(struct ekv_txn *txn, struct ekv_key key, uint64_t offset,
                               void *buffer, size_t capacity, size_t *size);
EKV_MUST_CHECK int ekv_txn_find(struct ekv_txn *txn, struct ekv_key key, struct ekv_entry *entry);

/* EKV_CONFLICT if another commit changed `key` since the begin, EKV_OK otherwise. A caller that
 * wants its reads protected checks each key it read right before the commit.
 * Flash: a lookup. */
EKV_MUST_CHECK int ekv_txn_check(struct ekv_txn *txn, struct ekv_key key);

/* Walks over the keys that it wrote and that another commit changed since the begin: those for
 * which ekv_txn_commit answers EKV_CONFLICT. `place` is 0 before the first call. Copies up to
 * `capacity` bytes of the next such key and sets its size and space. Errors: EKV_NOT_FOUND (no
 * more), EKV_TOO_LARGE (the key is longer; its begin is there). Flash: a lookup for each key it
 * wrote. */
EKV_MUST_CHECK int ekv_txn_conflict(struct ekv_txn *txn, uint32_t *place, void *buffer,
                                    size_t capacity, size_t *size, uint8_t *space);

/* Commits all writes atomically and ends the transaction. EKV_CONFLICT: a key it wrote was changed
 * by another commit since the begin; nothing changed and the transaction stays open, as it does
 * after EKV_FULL or EKV_PINNED: these come only while a snapshot, cursor or transaction that began
 * after its writes is open. Flash: one program beside what the writes cost; if another commit came
 * between the writes they are appended a second time. Power cut: all or nothing. */
EKV_MUST_CHECK int ekv_txn_commit(struct ekv_txn *txn);

/* Ends the transaction without a trace. Flash: nothing. */
void ekv_txn_abort(struct ekv_txn *txn);

/* --- History --------------------------------------------------------------------------------- */

/* The versions of one key that flash still holds: what retention keeps (struct ekv_mount_options),
 * and beyond that every one whose sector was not erased yet. The fields are ekv's. */
struct ekv_history {
    struct ekv *db;
    struct ekv_key key; /* its bytes stay the caller's and must stay as they are */
    uint64_t limit;     /* the next version is at most this */
    uint32_t address;   /* record it stands on, 0 when on none */
    uint32_t sequence;
};

/* Begins before the newest version that is at most `version` (UINT64_MAX: before the newest), so
 * that the first ekv_history_next tells what the key was then. There is no close. Flash: nothing.
 */
void ekv_history_open(struct ekv_history *history, struct ekv *db, struct ekv_key key,
                      uint64_t version);

/* Moves to the next older version; `entry->removed` if the key was deleted by it. EKV_NOT_FOUND:
 * flash holds no older one. What lies between two versions that it tells may have been erased.
 * Flash: reads the head of every record on flash. */
EKV_MUST_CHECK int ekv_history_next(struct ekv_history *history, struct ekv_entry *entry);

/* Reads the value of the version it stands on, as ekv_get. EKV_NOT_FOUND: it stands on none, or a
 * write has had its sector erased meanwhile. */
EKV_MUST_CHECK int ekv_history_get(struct ekv_history *history, uint64_t offset, void *buffer,
                                   size_t capacity, size_t *size);

/* --- Cursors --------------------------------------------------------------------------------- */

/* Walks keys in order, both ways, over the store as it was when the cursor was opened, whatever is
 * written or collected meanwhile. The fields are ekv's. */
enum { EKV_CURSOR_WORDS = 270 };

struct ekv_cursor {
    struct ekv *db;
    struct ekv_txn *txn;     /* NULL, or the transaction whose writes it sees */
    struct ekv_snapshot own; /* the moment it shows */
    uint32_t change;         /* of the store, when the sources were placed */
    int8_t direction;        /* in which the sources stand ahead of the key; 0: nowhere */
    uint8_t space;
    uint64_t sources[EKV_CURSOR_WORDS]; /* a place in the memtable and in each run */
};

/* Opens a cursor over one key space, standing on no key yet. Flash: nothing. */
void ekv_cursor_open(struct ekv_cursor *cursor, struct ekv *db, uint8_t space);
void ekv_cursor_open_snapshot(struct ekv_cursor *cursor, struct ekv_snapshot *snapshot,
                              uint8_t space);
void ekv_cursor_open_txn(struct ekv_cursor *cursor, struct ekv_txn *txn, uint8_t space);
void ekv_cursor_close(struct ekv_cursor *cursor);

/* Moves to the first key at or after `key`, or to the last key at or before it. EKV_NOT_FOUND:
 * there is none, and the cursor stands on no key. Flash: a descent into every run. */
EKV_MUST_CHECK int ekv_cursor_seek(struct ekv_cursor *cursor, struct ekv_key key);
EKV_MUST_CHECK int ekv_cursor_seek_back(struct ekv_cursor *cursor, struct ekv_key key);

/* Moves to the first key that begins with `prefix`. EKV_NOT_FOUND: there is none, and the cursor
 * stands on no key. Where many keys behind the prefix were removed it costs much less than
 * ekv_cursor_seek, which passes all of them. Flash: a descent into every run. */
EKV_MUST_CHECK int ekv_cursor_seek_prefix(struct ekv_cursor *cursor, struct ekv_key prefix);

/* Moves one key on or back; from no key, to the first or the last. */
EKV_MUST_CHECK int ekv_cursor_next(struct ekv_cursor *cursor);
EKV_MUST_CHECK int ekv_cursor_previous(struct ekv_cursor *cursor);

/* The key it stands on: its size, and up to `capacity` bytes of it. EKV_TOO_LARGE if it is longer
 * (then `size` is set and the first `capacity` bytes are there). */
EKV_MUST_CHECK int ekv_cursor_key(struct ekv_cursor *cursor, void *buffer, size_t capacity,
                                  size_t *size);
EKV_MUST_CHECK int ekv_cursor_entry(struct ekv_cursor *cursor, struct ekv_entry *entry);
EKV_MUST_CHECK int ekv_cursor_read(struct ekv_cursor *cursor, uint64_t offset, void *buffer,
                                   size_t capacity, size_t *size);

/* --- Figures and verification ---------------------------------------------------------------- */

struct ekv_stat {
    uint64_t store_id;
    char label[32];
    struct ekv_geometry geometry;
    uint32_t key_size_max;    /* bytes */
    uint64_t keys;            /* live keys in EKV_USER */
    uint64_t live_size;       /* bytes of log that live records take, keys and headers included */
    uint64_t capacity_size;   /* what live_size can grow to before EKV_FULL */
    uint64_t record_overhead; /* bytes a small key takes beside its key and value bytes, index
                                 included */
    uint64_t version;         /* sequence number of the newest commit */
    uint32_t sectors_log, sectors_index, sectors_manifest, sectors_free, sectors_ready;
    uint32_t sectors_pinned, sectors_retired;
    uint32_t runs;
    uint32_t memtable_count, memtable_capacity;
    uint64_t erases, programs, programmed_size; /* by this mount */
    uint64_t flushes, merges, collections;      /* by this mount */
    uint64_t reserved_size;                     /* uncommitted bytes of open transactions */
    bool read_only;
    bool damaged;   /* the mount met damage, so it is read-only: ekv_check says where */
    bool recovered; /* the last session was not closed; the first write finishes the recovery */
};

void ekv_stat(struct ekv *db, struct ekv_stat *stat);

/* What ekv_check found: a stable code, where, and a sentence. */
struct ekv_finding {
    const char *code; /* such as "record-crc"; documented in FORMAT.md */
    uint32_t address;
    const char *text;
};

/* Verifies every checksum and every invariant of the mounted store: each key readable, runs
 * ordered, counts exact, each sector owned once. Calls `report` for each finding and goes on.
 * EKV_CORRUPT if there was one. Flash: reads all that is in use. */
EKV_MUST_CHECK int ekv_check(struct ekv *db,
                             void (*report)(void *context, const struct ekv_finding *finding),
                             void *context);

#endif
