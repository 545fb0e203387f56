/* The page cache of a host that crashes; see hostfile.h. */
#include "hostfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t chance(struct hostfile *file, uint64_t limit)
{
    uint64_t z = file->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % limit;
}

static void *get_memory(void *old, size_t size)
{
    void *memory = realloc(old, size);
    if (!memory) {
        fprintf(stderr, "hostfile: no memory\n");
        exit(2);
    }
    return memory;
}

/* True if this operation still happens; the one that meets the crash happens in the cache only. */
static bool happens(struct hostfile *file)
{
    if (file->crashed)
        return false;
    if (file->crash_in > 0 && --file->crash_in == 0)
        file->crashed = true;
    return true;
}

static int remember(struct hostfile *file, uint32_t address, uint32_t size)
{
    if (file->write_count == file->write_capacity) {
        file->write_capacity = file->write_capacity * 2 + 64;
        file->writes =
            get_memory(file->writes, file->write_capacity * sizeof(struct hostfile_write));
    }
    struct hostfile_write *write = &file->writes[file->write_count++];
    *write = (struct hostfile_write){address, size, get_memory(NULL, size)};
    memcpy(write->bytes, file->bytes + address, size);
    return file->crashed ? -1 : 0;
}

static int file_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    struct hostfile *file = context;
    memcpy(buffer, file->bytes + address, size);
    return file->crashed ? -1 : 0;
}

static int file_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    struct hostfile *file = context;
    const uint8_t *bytes = data;
    if (!happens(file))
        return -1;
    for (uint32_t i = 0; i < size; i++) {
        uint8_t *at = file->bytes + address + i;
        if (*at != 0xff && *at != bytes[i]) {
            fprintf(stderr, "hostfile: a program of 0x%x over what was not erased\n", address + i);
            abort();
        }
        *at &= bytes[i];
    }
    return remember(file, address, size);
}

static int file_erase(void *context, uint32_t sector)
{
    struct hostfile *file = context;
    uint32_t size = file->flash.geometry.sector_size;
    if (!happens(file))
        return -1;
    memset(file->bytes + sector * size, 0xff, size);
    return remember(file, sector * size, size);
}

static void forget(struct hostfile *file)
{
    for (uint32_t i = 0; i < file->write_count; i++)
        free(file->writes[i].bytes);
    file->write_count = 0;
}

static int file_sync(void *context, bool barrier_only)
{
    struct hostfile *file = context;
    (void)barrier_only;
    file->syncs++;
    if (!happens(file) || file->crashed)
        return -1;
    memcpy(file->durable, file->bytes, ekv_flash_size(&file->flash));
    forget(file);
    return 0;
}

static const struct ekv_flash_driver driver = {
    .read = file_read, .program = file_program, .erase = file_erase, .sync = file_sync};

void hostfile_init(struct hostfile *file, const struct ekv_geometry *geometry, bool blank,
                   uint64_t seed)
{
    memset(file, 0, sizeof *file);
    file->flash = (struct ekv_flash){*geometry, &driver, file, NULL};
    uint32_t size = ekv_flash_size(&file->flash);
    file->bytes = get_memory(NULL, size);
    file->durable = get_memory(NULL, size);
    memset(file->bytes, blank ? 0xff : 0, size);
    memset(file->durable, blank ? 0xff : 0, size);
    file->random = seed;
}

void hostfile_free(struct hostfile *file)
{
    forget(file);
    free(file->writes);
    free(file->bytes);
    free(file->durable);
    memset(file, 0, sizeof *file);
}

void hostfile_crash_at(struct hostfile *file, uint64_t operation)
{
    file->crash_in = operation;
}

static bool touches(const struct hostfile_write *write, uint32_t begin, uint32_t size)
{
    return write->address < begin + size && begin < write->address + write->size;
}

/* Brings [begin, begin + size) of the disk to what the first `count` writes left there. */
static void write_back(struct hostfile *file, uint32_t begin, uint32_t size, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct hostfile_write *write = &file->writes[i];
        if (!touches(write, begin, size))
            continue;
        uint32_t from = write->address > begin ? write->address : begin;
        uint32_t end = write->address + write->size;
        end = end < begin + size ? end : begin + size;
        memcpy(file->durable + from, write->bytes + (from - write->address), end - from);
    }
}

/* What of a page came to the disk: all, nothing, or what it was after any write to it. */
static uint32_t moment(struct hostfile *file)
{
    switch (chance(file, 4)) {
    case 0:
        return 0;
    case 1:
        return file->write_count;
    default:
        return (uint32_t)chance(file, file->write_count + 1u);
    }
}

static void lose_page(struct hostfile *file, uint32_t begin, uint32_t size)
{
    if (chance(file, 4) == 0) {
        uint32_t moments[2] = {moment(file), moment(file)};
        for (uint32_t at = begin; at < begin + size; at += HOSTFILE_BLOCK)
            write_back(file, at, HOSTFILE_BLOCK, moments[chance(file, 2)]);
        file->pages_torn++;
    } else {
        write_back(file, begin, size, moment(file));
    }
    file->pages_lost += memcmp(file->durable + begin, file->bytes + begin, size) != 0;
}

void hostfile_reboot(struct hostfile *file)
{
    uint32_t size = ekv_flash_size(&file->flash);
    bool all = chance(file, 16) == 0, none = chance(file, 16) == 0;
    for (uint32_t begin = 0; begin < size; begin += HOSTFILE_PAGE) {
        uint32_t length = size - begin < HOSTFILE_PAGE ? size - begin : HOSTFILE_PAGE;
        bool touched = false;
        for (uint32_t i = 0; i < file->write_count && !touched; i++)
            touched = touches(&file->writes[i], begin, length);
        if (touched && all)
            write_back(file, begin, length, file->write_count);
        else if (touched && !none)
            lose_page(file, begin, length);
    }
    memcpy(file->bytes, file->durable, size);
    forget(file);
    file->crashed = false;
    file->crash_in = 0;
}
