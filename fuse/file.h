/* Files that are open or hold uncommitted changes.
 *
 * All handles of a node share one file: what one writes the others read. The changes live in memory
 * until they are committed as a whole. A file stays as long as somebody has a reference.
 *
 * Functions return 0 or an errno. None is called with the writer lock held, except those that say
 * so.
 */
#ifndef EKVFS_FILE_H
#define EKVFS_FILE_H

#include "fs.h"

struct file {
    struct node *node; /* with a reference */
    struct file *next, *previous;
    unsigned refs;    /* under the node table's lock */
    unsigned writers; /* handles that can write; likewise */

    pthread_rwlock_t lock; /* guards what follows */
    uint8_t *data;         /* the content from `base` on, if `loaded` */
    size_t size, capacity; /* of the whole content; of `data` */
    size_t base;           /* 0 unless it spills */
    struct spill *spill;   /* NULL, or where what lies before `base` is: spill.h */
    bool loaded;
    bool sequential;     /* all of it was written in order, from an empty file on */
    size_t same;         /* up to here it was found to be what is committed */
    bool dirty;          /* not committed as it is here */
    atomic_bool created; /* the store has no such key yet */
    bool dead;           /* it has no name any more: nothing is committed */
    bool replaced;       /* emptied since the last commit, so all of it will be new */
    atomic_int owner;    /* the thread that changed it last; 0: nobody knows */
    bool broken;         /* the last write found no space: not to be committed by a close */
    uint64_t change;     /* counts changes */
    int64_t mtime;       /* of the last change, microseconds since 1970 */
    bool mtime_seen;     /* somebody was told it before the commit */
    struct attr attr;    /* what to keep beside the value: all if `created`, else what was set */
    bool attr_dirty;
    struct xattrs *xattrs; /* NULL: none, or as the store says, which stands unless `created`, */
    bool xattrs_dirty;     /* `dead` or this: then it is to be committed with `attr` */
    uint64_t reserved;     /* of space */
    size_t key_size;       /* when space was reserved first */
};

/* The file of a node, with a reference; NULL: no memory. */
struct file *file_obtain(struct fs *fs, struct node *node);
/* The same to open it: waits while its name is being removed. ESTALE: that happened, and nobody has
 * kept its content. */
EKV_MUST_CHECK int file_open(struct fs *fs, struct node *node, struct file **file);
/* NULL if it has none. */
struct file *file_of(struct fs *fs, struct node *node);
void file_release(struct fs *fs, struct file *file);

void file_writer_begin(struct fs *fs, struct file *file);
/* True if it was the last. */
bool file_writer_end(struct fs *fs, struct file *file);

/* A new file without a key yet. `attr` is what it will have. */
void file_create(struct file *file, const struct attr *attr);

/* Reads at most `size` bytes; `got` is fewer only at the end. */
EKV_MUST_CHECK int file_read(struct fs *fs, struct file *file, uint64_t offset, void *buffer,
                             size_t size, size_t *got);

/* Moves `*same` on to where the content, which is in memory as a whole, differs from the value that
 * is committed under `key`, in steps of 64 KiB; or to the content's end. With the file's lock. */
EKV_MUST_CHECK int file_compare(const struct file *file, struct ekv_key key, size_t *same);

EKV_MUST_CHECK int file_write(struct fs *fs, struct file *file, uint64_t offset, const void *bytes,
                              size_t size);
EKV_MUST_CHECK int file_resize(struct fs *fs, struct file *file, uint64_t size);

/* Makes the content independent of the store: before its key is deleted or replaced. Called with
 * the writer lock held. */
EKV_MUST_CHECK int file_detach(struct fs *fs, struct file *file);
/* A file of a node that is about to lose its name, with a reference: one that is open, or a small
 * one that somebody who has just found the name may still open. NULL: neither. `node` may be NULL,
 * and `value`, which is what the store has under its name, too. */
struct file *file_before_removal(struct fs *fs, struct node *node, const struct ekv_entry *value);
/* The kernel forgets a node `count` times. */
void file_forget(struct fs *fs, uint64_t id, uint64_t count);

/* Its name is gone. `attr` and `mtime` are what the store said of it. */
void file_die(struct fs *fs, struct file *file, const struct attr *attr, int64_t mtime);

/* Whether a committed value is being replaced as a whole. */
bool file_is_replaced(struct file *file);
/* The committed value in fresh memory, whatever is being written. */
EKV_MUST_CHECK int file_load_committed(struct fs *fs, struct file *file, uint8_t **value,
                                       size_t *size);

/* Whether the last write failed for want of space, so that the content is no whole. */
bool file_is_broken(struct file *file);
/* Gives up a broken content: what is committed stands again. */
void file_discard(struct fs *fs, struct file *file);

/* Another value was committed under its name: what is not being changed here is read again. */
void file_renew(struct file *file);

/* What the file held when `change` was counted is committed. */
void file_settled(struct fs *fs, struct file *file, uint64_t change);
/* The same of a file that spilled; with its lock. */
void file_spilled(struct fs *fs, struct file *file);
/* Nobody will commit what a file has on flash. */
void file_abandon_spill(struct fs *fs, struct file *file);

/* Commits what is not committed, also a broken content. */
EKV_MUST_CHECK int file_commit(struct fs *fs, struct file *file);
/* The same with the writer lock held. */
EKV_MUST_CHECK int file_commit_locked(struct fs *fs, struct file *file);
/* All files in a transaction, with the writer lock held. */
EKV_MUST_CHECK int file_commit_view(struct fs *fs, const struct view *view);
/* The view has ended, and what was not committed in it is gone. */
void file_abandon(struct fs *fs, const struct view *view);
/* All files, at unmount; and new and still empty ones in one directory, or all if NULL. */
EKV_MUST_CHECK int file_commit_all(struct fs *fs);
EKV_MUST_CHECK int file_commit_new(struct fs *fs, const struct node *directory);

/* Whether a directory has names that the store does not know yet. */
bool file_any_new(struct fs *fs, const struct node *directory);

/* What differs from the store. False: nothing does. `attr` is merged into what the store says,
 * or replaces it if `created`. */
bool file_differs(struct file *file, uint64_t *size, int64_t *mtime, struct attr *attr,
                  bool *created);

/* Sets attributes that are to be committed with the content. False if there is nothing to commit
 * them with. */
bool file_set_attr(struct file *file, const struct attr *attr);

/* Lays set attributes over others. */
void attr_merge(struct attr *attr, const struct attr *over);

#endif
