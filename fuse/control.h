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
    CONTROL_TX,     /* staged transactions */
    CONTROL_COMMIT, /* what is moved here is committed */
    CONTROL_SNAP,   /* snapshots */
    CONTROL_HISTORY,
    CONTROL_HISTORY_PART,    /* keys whose names are too long for one, by what they begin with */
    CONTROL_HISTORY_KEY,     /* the versions of a key */
    CONTROL_HISTORY_VERSION, /* one of them */
    CONTROL_AT,              /* the store as it was */
};

#define CONTROL_NAME ".ekv"

struct control_entry {
    const char *name;
    enum control_kind kind;
    bool directory;
};

/* What a name means in a directory of the control tree, or in the mountpoint's root if `directory`
 * is CONTROL_NONE. NULL: nothing that is always there. */
const struct control_entry *control_find(enum control_kind directory, const char *name);

/* Whether a node is a control directory of this kind. */
static inline bool control_is(const struct node *node, enum control_kind kind)
{
    return node->kind == NODE_CONTROL && node->control == kind;
}

/* Whether a name stays as long as the mount. */
static inline bool control_lasts(const struct node *node)
{
    return node->control < CONTROL_HISTORY_PART || node->control > CONTROL_HISTORY_VERSION;
}

/* The names in a control directory: for each a letter, `d` or `f`, and the name, ended by a zero.
 */
struct control_names {
    char *bytes;
    size_t size, capacity;
};

bool control_add(struct control_names *names, bool directory, const char *name, size_t size);

EKV_MUST_CHECK int control_list(struct fs *fs, const struct node *directory,
                                struct control_names *names);

void control_stat(struct fs *fs, const struct node *node, struct stat *stat);

/* The content of a generated file in fresh memory, which may be NULL if it is empty. */
EKV_MUST_CHECK int control_text(struct fs *fs, const struct node *node, char **text, size_t *size);

#endif
