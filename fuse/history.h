/* `.ekv/history` and `.ekv/at`: old versions of a key, and the store as it was. */
#ifndef EKVFS_HISTORY_H
#define EKVFS_HISTORY_H

#include "control.h"

/* The key or the version that a name in a history directory stands for is there: `*kind` is what
 * its node is, else CONTROL_NONE. */
EKV_MUST_CHECK int history_find(struct fs *fs, const struct node *directory, const char *name,
                                enum control_kind *kind);

EKV_MUST_CHECK int history_list(struct fs *fs, const struct node *directory,
                                struct control_names *names);

/* Of the file of a version. */
EKV_MUST_CHECK int history_entry(struct fs *fs, const struct node *node, struct ekv_entry *entry);
EKV_MUST_CHECK int history_load(struct fs *fs, const struct node *node, char **text, size_t *size);

/* The root of the store as it was at the moment that a name means, with a reference; `*node` NULL:
 * it means none that flash holds. */
EKV_MUST_CHECK int history_at(struct fs *fs, struct node *parent, const char *name,
                              struct node **node);

#endif
