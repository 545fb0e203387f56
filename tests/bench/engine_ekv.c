/* ekv on a flash in RAM and on a mapped image file. Neither is synced, and both begin as a chip in
 * use: every sector is erased before it is written. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ekv.h"
#include "engine.h"
#include "host/image.h"

enum { SECTOR_SIZE = 16384, MEMTABLE_COUNT = 8192, CACHE_LINE = 64 };

struct store {
    struct ekv *db;
    void *memory;
    struct ekv_flash flash;
    struct ekv_flash_driver driver;
    struct image image;
    struct ekv_cursor cursor;
};

static void expect_ok(int error, const char *what)
{
    if (error)
        engine_fail("ekv", "%s answers %d", what, error);
}

/* --- A flash in RAM -------------------------------------------------------------------------- */

static struct {
    uint8_t *bytes; /* stays from one open to the next */
    struct ekv_geometry geometry;
} chip;

static int ram_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    (void)context;
    memcpy(buffer, chip.bytes + address, size);
    return 0;
}

static int ram_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    (void)context;
    memcpy(chip.bytes + address, data, size);
    return 0;
}

static void ram_prefetch(void *context, uint32_t address, uint32_t size)
{
    (void)context;
    const uint8_t *end = chip.bytes + address + size;
    for (const uint8_t *at = end - size; at < end; at += CACHE_LINE - (uintptr_t)at % CACHE_LINE)
        __builtin_prefetch(at);
}

static int ram_erase(void *context, uint32_t sector)
{
    (void)context;
    memset(chip.bytes + (size_t)sector * chip.geometry.sector_size, 0xff,
           chip.geometry.sector_size);
    return 0;
}

/* At least `count`. */
static uint32_t power_of_two(uint32_t count)
{
    uint32_t power = 1;
    while (power < count)
        power *= 2;
    return power;
}

/* --- Stores ---------------------------------------------------------------------------------- */

/* Three times what keys and values take, and some for small stores. */
static struct ekv_geometry geometry_of(const struct engine_options *options)
{
    uint64_t size = options->flash_size;
    uint32_t sector_size = options->sector_size ? options->sector_size : SECTOR_SIZE;
    if (size == 0)
        size = options->payload_size * 3 + (4u << 20);
    return (struct ekv_geometry){.sector_size = sector_size,
                                 .sector_count = (uint32_t)(size / sector_size),
                                 .write_unit = 1};
}

static struct store *mount_it(struct store *store, const struct engine_options *options, bool fresh)
{
    struct ekv_mount_options mount = {
        .memtable_count = options->memtable_count ? options->memtable_count : MEMTABLE_COUNT,
        .cache_count = options->cache_count ? options->cache_count
                                            : power_of_two(options->keys + options->keys / 2)};
    size_t size = ekv_memory_size(&store->flash.geometry, &mount);
    store->memory = engine_allocate(size);
    if (fresh)
        expect_ok(ekv_format(&store->flash, &(struct ekv_format_options){.store_id = 1},
                             store->memory, size),
                  "format");
    expect_ok(ekv_mount(&store->db, &store->flash, &mount, store->memory, size), "mount");
    return store;
}

static void *ram_open(const struct engine_options *options, bool fresh)
{
    struct store *store = engine_allocate(sizeof *store);
    if (fresh) {
        chip.geometry = geometry_of(options);
        size_t size = (size_t)chip.geometry.sector_size * chip.geometry.sector_count;
        free(chip.bytes);
        chip.bytes = engine_allocate(size);
        memset(chip.bytes, 0, size); /* touched before it is timed */
    }
    store->driver = (struct ekv_flash_driver){
        .read = ram_read, .program = ram_program, .erase = ram_erase, .prefetch = ram_prefetch};
    store->flash =
        (struct ekv_flash){.geometry = chip.geometry, .driver = &store->driver, .map = chip.bytes};
    return mount_it(store, options, fresh);
}

static void *image_open_store(const struct engine_options *options, bool fresh)
{
    struct store *store = engine_allocate(sizeof *store);
    const char *path = engine_path(options, "ekv.img");
    struct ekv_geometry geometry = geometry_of(options);
    if (fresh)
        unlink(path);
    int error = fresh ? image_create(&store->image, path,
                                     (uint64_t)geometry.sector_size * geometry.sector_count)
                      : image_open(&store->image, path, IMAGE_READ_WRITE, NULL);
    if (error)
        engine_fail("ekv", "%s", store->image.error);
    if (fresh)
        store->image.flash.geometry = geometry;
    else
        expect_ok(ekv_probe(&store->image.flash), "probe");
    store->driver = *store->image.flash.driver;
    store->driver.sync = NULL; /* as all engines here */
    store->flash = store->image.flash;
    store->flash.driver = &store->driver;
    return mount_it(store, options, fresh);
}

static void close_store(void *context)
{
    struct store *store = context;
    expect_ok(ekv_unmount(store->db), "unmount");
    if (store->flash.context)
        image_close(&store->image);
    free(store->memory);
    free(store);
}

/* --- Operations ------------------------------------------------------------------------------ */

static void put(void *context, const void *key, size_t key_size, const void *value, size_t size)
{
    struct store *store = context;
    expect_ok(ekv_put(store->db, ekv_key(key, key_size), value, size), "put");
}

static bool get(void *context, const void *key, size_t key_size, void *buffer, size_t capacity,
                size_t *size)
{
    struct store *store = context;
    int error = ekv_get(store->db, ekv_key(key, key_size), 0, buffer, capacity, size);
    if (error != EKV_NOT_FOUND)
        expect_ok(error, "get");
    return error == EKV_OK;
}

static void delete_key(void *context, const void *key, size_t key_size)
{
    struct store *store = context;
    int error = ekv_delete(store->db, ekv_key(key, key_size));
    if (error != EKV_NOT_FOUND)
        expect_ok(error, "delete");
}

static void scan(void *context, bool backwards, bool keys_only, engine_visit *visit, void *visitor)
{
    struct store *store = context;
    char key[64], value[1024];
    size_t key_size, size = 0;
    int error;
    ekv_cursor_open(&store->cursor, store->db, EKV_USER);
    for (;;) {
        error = backwards ? ekv_cursor_previous(&store->cursor) : ekv_cursor_next(&store->cursor);
        if (error == EKV_NOT_FOUND)
            break;
        expect_ok(error, "step");
        expect_ok(ekv_cursor_key(&store->cursor, key, sizeof key, &key_size), "key");
        if (!keys_only)
            expect_ok(ekv_cursor_read(&store->cursor, 0, value, sizeof value, &size), "read");
        visit(visitor, key, key_size, keys_only ? NULL : value, size);
    }
    ekv_cursor_close(&store->cursor);
}

static uint64_t stat_of(void *context)
{
    struct store *store = context;
    struct ekv_stat stat;
    ekv_stat(store->db, &stat);
    return stat.keys;
}

const struct engine engine_ekv_ram = {
    .name = "ekv-ram",
    .settings =
        "flash of three times the payload in RAM, sectors of 16 KiB; memory for 8192 keys in the "
        "memtable and the place of every key",
    .open = ram_open,
    .close = close_store,
    .put = put,
    .get = get,
    .remove = delete_key,
    .scan = scan,
    .stat = stat_of,
};

const struct engine engine_ekv_image = {
    .name = "ekv-image",
    .settings = "the same in a mapped image file, written with pwrite(2)",
    .open = image_open_store,
    .close = close_store,
    .put = put,
    .get = get,
    .remove = delete_key,
    .scan = scan,
    .stat = stat_of,
};
