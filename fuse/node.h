/* The node table: what the kernel knows by number.
 *
 * A node is a name in a directory node, so that renaming a directory renames all below it at once.
 * Its id is its inode number too. It comes from a hash of its path, so it is the same after the
 * kernel forgot it and after the next mount; it stays with the node through renames, and is never
 * given to another node while it is known. A node is known while the kernel holds lookups of it,
 * somebody holds a reference, or a known node lies below it.
 */
#ifndef EKVFS_NODE_H
#define EKVFS_NODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "cookies.h"
#include "host/path.h"

enum { NODE_ROOT_ID = 1 };

enum node_kind {
    NODE_FILE, /* a value: a file or a symbolic link */
    NODE_DIRECTORY,
    NODE_CONTROL, /* .ekv and what is generated in it; `control` says what */
};

struct attr;
struct file;
struct view;

/* Read `id`, `generation`, `view`, `top`, `kind`, `control` at any time, `file` and the rest under
 * the table's lock. */
struct node {
    uint64_t id;
    uint64_t generation; /* another for each new node of the same path */
    struct view *view;
    bool top; /* the root of its view */
    enum node_kind kind;
    uint8_t control;

    enum path_kind path_kind;
    bool unlinked;     /* has no name any more */
    bool moving;       /* a rename is being committed */
    bool removing;     /* it may lose its name in a moment: an open waits to see */
    struct file *kept; /* content of what lost its name, until the kernel forgets it */
    bool changing;     /* a transaction is about to give it another value: see defer.h */
    bool lost;         /* a commit failed and nobody was told: the next open is */
    uint16_t name_size, bytes_size;
    uint32_t name_hash; /* of the parent's id and the name */
    char *name;
    struct node *parent;
    struct node *next_by_id, *next_by_name;
    uint64_t lookups;        /* the kernel's */
    uint32_t refs;           /* ours: handles, children, `file` */
    struct file *file;       /* open or uncommitted, see file.h */
    struct cookies *cookies; /* of a directory that was listed */

    atomic_bool recorded;    /* a directory that is known to have a record */
    atomic_bool gives_group; /* of a directory with set-group-id, as last told */
    atomic_uint group;

    bool has_atime;
    struct timespec atime;   /* set explicitly; kept as long as the node is known */
    int64_t entries_changed; /* of a directory: microseconds since 1970, 0: not by this mount */
    struct attr *last;       /* of one that has lost its name: its attributes; NULL: none */
    unsigned changes;        /* of its names, counted */
    unsigned listings;       /* that the kernel keeps and that are under way */
    unsigned listed_changes; /* when the first of them began */
};

struct node_table {
    pthread_mutex_t lock;
    struct node *root;
    struct node **by_id, **by_name;
    size_t buckets, count;
    uint64_t next_generation;
    uint64_t moves; /* renames begun and ended */
    pthread_cond_t moved;
};

/* Bytes of a key or a prefix. Zero it before the first use, free it with key_free. */
struct key {
    uint8_t *bytes;
    size_t size, capacity;
    uint8_t small[128];
};

bool key_reserve(struct key *key, size_t capacity);
void key_free(struct key *key);
bool key_set(struct key *key, const void *bytes, size_t size);

/* False: no memory. */
bool node_table_init(struct node_table *table, struct view *live);
void node_table_free(struct node_table *table);

/* The node with an id that the kernel sent; NULL if it never got it from us. */
struct node *node_by_id(struct node_table *table, uint64_t id);

/* A known node by its name, with a reference; NULL if there is none. */
struct node *node_by_name(struct node_table *table, struct node *parent, const char *name,
                          size_t name_size);

/* The node of a name, made if need be, with a reference. `key` is that of the file or the prefix of
 * the directory; `path_kind` and `bytes_size` are path_decode's. NULL: no memory. */
struct node *node_obtain(struct node_table *table, struct node *parent, const char *name,
                         size_t name_size, enum node_kind kind, enum path_kind path_kind,
                         size_t bytes_size, const struct key *key);

/* The root of a view: a new name in a control directory, with a reference. NULL: no memory, or, if
 * `exists`, there is such a name. */
struct node *node_add_top(struct node_table *table, struct node *parent, const char *name,
                          size_t name_size, struct view *view, bool *exists);

/* The kernel is told of the node once more, or forgets it `count` times. */
void node_looked_up(struct node_table *table, struct node *node);
/* The same, and the caller's reference is given up. */
void node_hand_over(struct node_table *table, struct node *node);
/* Returns the file that the node kept, if nobody can ask for it any more: release it. */
struct file *node_forget(struct node_table *table, uint64_t id, uint64_t count);

void node_ref(struct node_table *table, struct node *node);
void node_unref(struct node_table *table, struct node *node);

/* The listed names of a directory; NULL: no memory. */
struct cookies *node_cookies(struct node_table *table, struct node *node);

/* Whether a listing that begins now may be kept by the kernel, which mixes those that are under way
 * at a time: only if no name changed since the first of them began. Else one could leave out what
 * came before it began. If so, it is under way until node_listing_end. */
bool node_listing_begin(struct node_table *table, struct node *node);
void node_listing_end(struct node_table *table, struct node *node);

/* Takes the node's name away. */
void node_unlink(struct node_table *table, struct node *node);

/* Between true and false its name is removed, or not; `node` may be NULL. */
void node_set_removing(struct node_table *table, struct node *node, bool removing);

/* Between these two a rename or a removal is committed; nodes may be NULL. Whoever asks for the key
 * of a moving node waits, and may hold the lock of a file that is not loaded meanwhile: so no such
 * lock is taken in between. */
void node_move_begin(struct node_table *table, struct node *first, struct node *second);
void node_move_end(struct node_table *table, struct node *first, struct node *second);

/* Gives a node another name, which no other node has. `copy` is it, from malloc: the node's now. */
void node_rename(struct node_table *table, struct node *node, struct node *parent, char *copy,
                 size_t name_size, enum path_kind path_kind, size_t bytes_size);
/* Two nodes swap their names. */
void node_exchange(struct node_table *table, struct node *one, struct node *other);

/* What names directly in a directory mean. */
struct path_place node_place(const struct node *directory);

/* The key of a file or the prefix of a directory. Waits while it is moving. ENOENT: it has no name
 * any more. `moves` (may be NULL) is set to the table's count for node_moved. */
int node_key(struct node_table *table, const struct node *node, struct key *key, uint64_t *moves);

/* The size of its key as it is now, without waiting for anything. */
size_t node_key_size(struct node_table *table, const struct node *node);

/* Whether any rename happened or began since `moves`. */
bool node_moved(struct node_table *table, uint64_t moves);

#endif
