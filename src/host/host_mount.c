#include "host_mount.h"

#include <stdlib.h>

enum { MEMTABLE_FIRST = 1024, MEMTABLE_LAST = 1 << 16, GROWTH = 4 };

int host_mount(struct ekv **db, const struct ekv_flash *flash,
               const struct ekv_mount_options *options, void **memory)
{
    struct ekv_mount_options larger = *options;
    for (;;) {
        size_t size = ekv_memory_size(&flash->geometry, &larger);
        *memory = malloc(size ? size : 1);
        int error = *memory ? ekv_mount(db, flash, &larger, *memory, size) : EKV_MEMORY;
        if (!error)
            return EKV_OK;
        bool again = *memory && error == EKV_MEMORY && larger.memtable_count < MEMTABLE_LAST;
        free(*memory);
        *memory = NULL;
        if (!again)
            return error;
        uint32_t count = larger.memtable_count * GROWTH;
        larger.memtable_count = count < MEMTABLE_FIRST ? MEMTABLE_FIRST : count;
    }
}
