/* Content of a large file that goes to flash while it is written.
 *
 * A file that is written from its beginning to its end is not held in memory as a whole. What comes
 * first, up to `base` of the file, lies on flash as an uncommitted value of a transaction of its
 * own (the spill); memory has what came last. To the commit it is the value; whoever looks into it
 * or changes it before has it read, or brought back into memory.
 *
 * A file that spills is dirty, in the live store, and has a name and a writer. Functions return 0
 * or an errno. Unless they say otherwise they are called with the writer lock and the file's lock
 * for writing held.
 */
#ifndef EKVFS_SPILL_H
#define EKVFS_SPILL_H

#include "file.h"

/* Whether the next change, of `size` bytes at `offset`, may begin a spill, add to one or end one:
 * with the file's lock alone. */
bool spill_is_due(const struct file *file, uint64_t offset, size_t size);

/* Whether that many bytes at that place are better added to the spill than to memory. */
bool spill_takes(const struct file *file, uint64_t offset, size_t size);
EKV_MUST_CHECK int spill_add(struct file *file, const void *bytes, size_t size);

/* Moves what memory has to flash, if it is enough. */
EKV_MUST_CHECK int spill_more(struct fs *fs, struct file *file);

/* Reads at most `size` bytes before `base`. With the file's lock for reading. */
EKV_MUST_CHECK int spill_read(const struct file *file, size_t offset, void *buffer, size_t size,
                              size_t *got);

/* Brings everything back into memory. After an error it spills as before. */
EKV_MUST_CHECK int spill_undo(struct file *file);

/* Gives up what is on flash; the file has no content then. Does nothing if it does not spill. */
void spill_drop(struct file *file);

/* Adds what memory has, so that a commit of `spill_batch` commits the content under `key`. EAGAIN:
 * it cannot: the file has another name now, or somebody else committed something under it. */
EKV_MUST_CHECK int spill_complete(struct file *file, const struct key *key);
struct batch *spill_batch(struct file *file);

/* It was committed: the store has the content. */
void spill_committed(struct file *file);

#endif
