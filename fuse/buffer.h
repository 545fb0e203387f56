/* The memory of one large content that is not needed any more, for the next one.
 *
 * The kernel clears and maps fresh memory page by page, which is a third of what writing a large
 * file costs the daemon. It may take what is kept here back whenever it needs memory.
 */
#ifndef EKVFS_BUFFER_H
#define EKVFS_BUFFER_H

#include <stddef.h>
#include <stdint.h>

/* Gives up memory from malloc, of so many bytes: frees it, or keeps it for buffer_take. */
void buffer_give(uint8_t *bytes, size_t capacity);

/* Memory of at least `size` bytes with anything in it, as from malloc; its size is `*capacity`.
 * NULL: none is kept that is large enough, or `size` is small. */
uint8_t *buffer_take(size_t size, size_t *capacity);

#endif
