/* Files as keys: an archive or a directory tree read one file at a time, as ekvfs would store it,
 * and the keys of a store written as a tar archive, as ekvfs shows them. */
#ifndef EKV_TOOL_FILES_H
#define EKV_TOOL_FILES_H

#include "host/attr.h"
#include "host/path.h"
#include "input.h"
#include "writer.h"

enum { FILE_MODE_DEFAULT = 0644, DIRECTORY_MODE_DEFAULT = 0755 }; /* of what has none stored */

/* What of a file is kept beside its content. `owner` also with `uid` and `gid` given. */
struct files_options {
    bool no_times;
    bool same_owner;
    bool owner_given;
    uint32_t uid, gid;
    int64_t time_max; /* seconds; later times become this one. INT64_MAX: none */
};

/* A file (its key), or a directory (its prefix). */
struct file_entry {
    bool directory;
    uint8_t *key;
    size_t key_size;
    uint8_t *value; /* content, or where a symbolic link leads */
    size_t value_size;
    struct attr attr;
    struct xattrs *xattrs; /* NULL: none */
    char *path;            /* for messages */
};

/* The fields are private. */
struct files {
    struct tool *tool;
    const struct files_options *options;
    struct archive *archive;
    struct archive_entry *entry;
    struct input *input;
    const char *root; /* of a tree: the directory, which the paths begin with */
    uint64_t size_max;
    size_t taken;
    void *links; /* of a tree: the files with more than one name */
};

/* Opens a tar archive, which may be compressed. `size_max`: a file that is larger is refused before
 * it is read. Says what is wrong. */
bool files_open_tar(struct tool *tool, struct files *files, struct input *input,
                    const struct files_options *options, uint64_t size_max);

/* Opens a directory; the same. */
bool files_open_tree(struct tool *tool, struct files *files, const char *path,
                     const struct files_options *options, uint64_t size_max);
void files_close(struct files *files);

/* The next file, which the caller frees: 1, 0 at the end, -1 after a message. */
int files_next(struct files *files, struct file_entry *entry);
void file_entry_free(struct file_entry *entry);

/* What is kept beside a file: the record of its key, of which the other half (a file and a
 * directory can share one) is taken from `old`. Returns its size, 0: none is needed. */
size_t file_entry_record(const struct file_entry *entry, const uint8_t *old, size_t old_size,
                         uint8_t bytes[ATTR_RECORD_MAX]);

/* Stores a file with what is kept beside it. Says what is wrong. */
EKV_MUST_CHECK int file_entry_put(struct writer *writer, const struct file_entry *entry);

/* Deletes a key, and what is kept beside it for a file, which must not count for a file that takes
 * its name later. Errors: EKV_NOT_FOUND; EKV_MEMORY: two more entries of the transaction's table
 * are wanted (enlarge it and call again). */
EKV_MUST_CHECK int file_remove(struct ekv_txn *txn, struct ekv_key key);

/* Writes all keys that begin with `prefix` as a tar archive to standard output. Says what is wrong.
 */
EKV_MUST_CHECK int files_write_tar(struct tool *tool, struct ekv *db, const char *prefix);

#endif
