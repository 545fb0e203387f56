/* `.ekv/` in the mountpoint: what is generated there. It is not listed, but there for who names it.
 */
#ifndef EKVFS_CONTROL_H
#define EKVFS_CONTROL_H

#include <sys/stat.h>

#include "fs.h"

enum control_kind {
    CONTROL_NONE,
    CONTROL_ROOT, /* .ekv itself */
    CONTROL_STAT,
    CONTROL_STAT_JSON,
    CONTROL_LAST_ERROR,
};

#define CONTROL_NAME ".ekv"

struct control_entry {
    const char *name;
    enum control_kind kind;
    bool directory;
};

/* What lies in a directory of the control tree: entries up to one with the name NULL. */
const struct control_entry *control_entries(enum control_kind directory);

/* What a name means there, or in the mountpoint's root if `directory` is CONTROL_NONE. */
const struct control_entry *control_find(enum control_kind directory, const char *name);

void control_stat(const struct fs *fs, const struct node *node, struct stat *stat);

/* The content of a generated file in fresh memory; NULL: no memory. */
char *control_text(struct fs *fs, enum control_kind kind, size_t *size);

#endif
