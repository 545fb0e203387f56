/* Views: what the store looks like to somebody, and changes made through one.
 *
 * There is the store as it is (live), inside a transaction (a stage), at a moment that is held (a
 * snapshot) and at one that is over (past). All but the live one end: what is asked of them
 * afterwards is not there. They are kept as long as nodes belong to them.
 *
 * Functions return 0 or an errno. Reading needs no lock; changing needs the writer lock.
 */
#ifndef EKVFS_VIEW_H
#define EKVFS_VIEW_H

#include "host/attr.h"
#include "past.h"
#include "store.h"
#include "touched.h"

struct node;

enum view_kind { VIEW_LIVE, VIEW_STAGE, VIEW_SNAPSHOT, VIEW_PAST };

/* A transaction with its table. */
struct staging {
    struct ekv_txn txn;
    void *table; /* NULL while `small` does */
    size_t table_size;
    uint64_t small[32];
};

struct view {
    enum view_kind kind;
    struct store *store;
    struct staging *staging;       /* of a stage */
    struct ekv_snapshot *snapshot; /* of a snapshot; of a stage: the store as it was at its begin */

    struct past *past; /* of a past, as it was at `version` */
    uint64_t version;
    bool settled; /* its name will not mean another version */

    /* Of one that has a name in `.ekv` (the others never end); under the node table's lock. */
    struct node *top; /* its root */
    struct view *next;
    unsigned nodes; /* that belong to it */
    bool held; /* not to be freed when no node belongs to it: until it ends, except of a past */

    /* Shared while somebody reads, exclusive while it ends. Of the kind that prefers readers: a
     * listing that holds it may wait for a file whose commit reads the view. */
    pthread_rwlock_t lock;
    bool ended;
    bool damaged;            /* of a stage: an operation in it failed half-way */
    uint64_t begin;          /* of a stage: newest version of the store when it began */
    struct attr attr;        /* of `top` */
    int64_t time;            /* when it was made */
    struct touched *touched; /* of a stage */
};

static inline bool view_is_live(const struct view *view)
{
    return view->kind == VIEW_LIVE;
}

/* Whether nothing can be changed through it. */
static inline bool view_is_read_only(const struct view *view)
{
    return view->store->read_only || view->kind > VIEW_STAGE;
}

/* Whether it has ended: for those who know that it cannot end just now, or do not mind. */
bool view_ended(struct view *view);

/* --- Reading -----------------------------------------------------------------------------------
 */

/* ENOENT: there is no such key. */
EKV_MUST_CHECK int view_find(struct view *view, struct ekv_key key, struct ekv_entry *entry);
EKV_MUST_CHECK int view_get(struct view *view, struct ekv_key key, uint64_t offset, void *buffer,
                            size_t capacity, size_t *size);

/* The attributes under a key, and their version in `entry`; ENOENT if there are none. */
EKV_MUST_CHECK int view_attr(struct view *view, const void *key, size_t size,
                             struct attr_record *record, struct ekv_entry *entry);

/* The same for who is going to put it again with one half changed: a time of the file that a newer
 * value has ended is left out, since it would count again. */
EKV_MUST_CHECK int view_attr_to_change(struct view *view, const void *key, size_t size,
                                       struct attr_record *record);

/* A whole value in fresh memory (at least one byte), the caller's to free. */
EKV_MUST_CHECK int view_load(struct view *view, struct ekv_key key, uint8_t **value, size_t *size);

/* Whether any key of a space begins with `prefix`. */
EKV_MUST_CHECK int view_has_prefix(struct view *view, uint8_t space, const void *prefix,
                                   size_t size, bool *found);

/* Walks the keys of a space. The view does not end before it is closed. */
struct view_cursor {
    struct view *view; /* NULL: not open */
    union {
        struct ekv_cursor cursor;
        struct past_cursor past;
    };
};

EKV_MUST_CHECK int view_cursor_open(struct view *view, struct view_cursor *cursor, uint8_t space);
void view_cursor_close(struct view_cursor *cursor);
/* ENOENT: there is none. */
EKV_MUST_CHECK int view_cursor_seek(struct view_cursor *cursor, struct ekv_key key);
EKV_MUST_CHECK int view_cursor_next(struct view_cursor *cursor);
/* `size` is that of the whole key, of which at most `capacity` bytes are copied. */
EKV_MUST_CHECK int view_cursor_key(struct view_cursor *cursor, void *buffer, size_t capacity,
                                   size_t *size);
EKV_MUST_CHECK int view_cursor_entry(struct view_cursor *cursor, struct ekv_entry *entry);
EKV_MUST_CHECK int view_cursor_read(struct view_cursor *cursor, void *buffer, size_t capacity,
                                    size_t *size);

/* --- Changing ----------------------------------------------------------------------------------
 */

/* Changes that are committed together, or staged together in a transaction. */
struct batch {
    struct view *view;
    struct staging *staging; /* `own`, or the stage's */
    struct staging own;
    bool wrote;
    bool flat; /* see flat_put_begin */
};

EKV_MUST_CHECK int batch_begin(struct batch *batch, struct view *view);
EKV_MUST_CHECK int batch_put(struct batch *batch, struct ekv_key key, const void *value,
                             size_t size);
/* Nothing happens if the key is not there. */
EKV_MUST_CHECK int batch_delete(struct batch *batch, struct ekv_key key);
/* Puts the record, or deletes the key when it says nothing. */
EKV_MUST_CHECK int batch_attr(struct batch *batch, const void *key, size_t size,
                              const struct attr_record *record);
/* Ends the batch either way; with -o sync the commit is durable when this returns. */
EKV_MUST_CHECK int batch_commit(struct batch *batch);

/* For a batch in the live store that stays open while a value is added to, piece by piece. */
void batch_unpin(struct batch *batch);
EKV_MUST_CHECK int batch_append(struct batch *batch, struct ekv_key key, const void *bytes,
                                size_t size);
/* Reads what it wrote. */
EKV_MUST_CHECK int batch_get(struct batch *batch, struct ekv_key key, uint64_t offset, void *buffer,
                             size_t capacity, size_t *size);
/* Whether somebody else committed something to the key, or beside it, since the batch began. */
bool batch_conflicts(struct batch *batch, const void *key, size_t size);
/* As batch_commit, of a value that was added to; but unless it is `*committed` it is open as it
 * was.
 */
EKV_MUST_CHECK int batch_commit_appended(struct batch *batch, struct ekv_key key, bool *committed);

/* In a stage what was written cannot be taken back: the stage cannot be committed any more. */
void batch_abort(struct batch *batch);

/* A single put or delete, without a batch. */
EKV_MUST_CHECK int view_put(struct view *view, struct ekv_key key, const void *value, size_t size);
EKV_MUST_CHECK int view_delete(struct view *view, struct ekv_key key);

/* --- Views that end ----------------------------------------------------------------------------
 */

/* A stage or a snapshot of the store as it is now. NULL: no memory. With the writer lock. */
struct view *view_new(struct store *store, enum view_kind kind, const struct attr *attr);

/* Commits a stage, or leaves it as it is. After it nothing is found there any more, but `snapshot`
 * stays until the end. With the writer lock. */
EKV_MUST_CHECK int view_commit(struct view *view);
/* Ends a view; a stage that was not committed is aborted. With the writer lock. */
void view_end(struct view *view);
/* The store as it was; takes over the reference to `past`. NULL: no memory. */
struct view *view_new_past(struct past *past, uint64_t version, bool settled);

/* When it is not held and no node belongs to it. */
void view_free(struct view *view);

#endif
