/* What there is: names looked up in the store, and what stat says of a node. */
#ifndef EKVFS_TREE_H
#define EKVFS_TREE_H

#include <sys/stat.h>

#include "file.h"
#include "fs.h"
#include "walk.h"

/* What is known of a node, as far as stat tells it. */
struct info {
    bool directory;
    bool settled; /* stays so until this mount changes it: may be cached */
    uint64_t size;
    struct attr attr;
    struct timespec mtime, ctime;
};

/* A name in a directory. `entry.key` is set for what does not exist too: as a file's. */
struct tree_name {
    struct walk_entry entry; /* free its key */
    bool exists;
};

/* Looks a name up in the store. EINVAL: no key has this name here; ENAMETOOLONG: its key would be
 * too long; ENOENT is no error, but `exists` false. */
EKV_MUST_CHECK int tree_find(struct fs *fs, struct node *parent, const char *name, size_t name_size,
                             struct tree_name *found);

/* Whether a directory that was found in `parent` has no names in the store. */
EKV_MUST_CHECK int tree_is_empty(struct node *parent, const struct tree_name *found, bool *empty);

/* What stat says. */
EKV_MUST_CHECK int tree_info(struct fs *fs, struct node *node, struct info *info);

/* The same from what was just found in the store of a node. Only right if no open file of it has
 * changes (file_of), and nothing was committed in between. */
void tree_info_found(struct fs *fs, struct node *node, const struct walk_entry *entry,
                     struct info *info);

void tree_stat(const struct fs *fs, struct node *node, const struct info *info, struct stat *stat);

/* Keeps what a directory that has lost its name is told to be, for who has it open. */
void tree_keep(struct fs *fs, struct node *directory, const struct attr *attr);
/* Changes that. False: the directory has a name. */
bool tree_change_kept(struct fs *fs, struct node *directory, const struct attr *attr);

/* Notes that names in a directory changed just now. */
void tree_touch(struct fs *fs, struct node *directory);

#endif
