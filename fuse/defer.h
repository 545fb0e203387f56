/* Requests that wait until a value was replaced.
 *
 * While a transaction replaces the value of a file that the kernel knows, whoever opens it or asks
 * for its attributes is answered afterwards. No thread waits for that: the kernel may need one to
 * finish the reads that the transaction waits for.
 */
#ifndef EKVFS_DEFER_H
#define EKVFS_DEFER_H

#include "handle.h"

/* Whether the request was put off: one to open the file, or for its attributes if `info` is NULL.
 */
bool defer(fuse_req_t request, struct fs *fs, struct node *node, const struct fuse_file_info *info);

/* Whether what is told of the node now may soon not be so. */
bool defer_is_changing(struct fs *fs, const struct node *node);

void defer_begin(struct fs *fs, struct node *node);
/* Carries out what was put off. */
void defer_end(struct fs *fs, struct node *const *nodes, size_t count);

#endif
