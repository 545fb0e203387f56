/* LevelDB: without sync and compression, with a cache of 64 MiB and filters of 10 bits a key. */
#include <leveldb/c.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum { CACHE_SIZE = 64 << 20, FILTER_BITS = 10 };

struct store {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_cache_t *cache;
    leveldb_filterpolicy_t *filter;
    leveldb_readoptions_t *reading;
    leveldb_writeoptions_t *writing;
};

static void expect_ok(char *error, const char *what)
{
    if (error)
        engine_fail("leveldb", "%s: %s", what, error);
}

static void *open_store(const struct engine_options *options, bool fresh)
{
    struct store *store = engine_allocate(sizeof *store);
    const char *path = engine_path(options, "leveldb");
    char *error = NULL;
    store->options = leveldb_options_create();
    store->cache = leveldb_cache_create_lru(CACHE_SIZE);
    store->filter = leveldb_filterpolicy_create_bloom(FILTER_BITS);
    store->reading = leveldb_readoptions_create();
    store->writing = leveldb_writeoptions_create();
    leveldb_options_set_create_if_missing(store->options, 1);
    leveldb_options_set_compression(store->options, leveldb_no_compression);
    leveldb_options_set_cache(store->options, store->cache);
    leveldb_options_set_filter_policy(store->options, store->filter);
    if (fresh)
        leveldb_destroy_db(store->options, path, &error);
    expect_ok(error, "destroy");
    store->db = leveldb_open(store->options, path, &error);
    expect_ok(error, "open");
    return store;
}

static void close_store(void *context)
{
    struct store *store = context;
    leveldb_close(store->db);
    leveldb_options_destroy(store->options);
    leveldb_cache_destroy(store->cache);
    leveldb_filterpolicy_destroy(store->filter);
    leveldb_readoptions_destroy(store->reading);
    leveldb_writeoptions_destroy(store->writing);
    free(store);
}

static void put(void *context, const void *key, size_t key_size, const void *value, size_t size)
{
    struct store *store = context;
    char *error = NULL;
    leveldb_put(store->db, store->writing, key, key_size, value, size, &error);
    expect_ok(error, "put");
}

static bool get(void *context, const void *key, size_t key_size, void *buffer, size_t capacity,
                size_t *size)
{
    struct store *store = context;
    char *error = NULL;
    char *value = leveldb_get(store->db, store->reading, key, key_size, size, &error);
    expect_ok(error, "get");
    if (!value)
        return false;
    memcpy(buffer, value, *size < capacity ? *size : capacity);
    leveldb_free(value);
    return true;
}

static void delete_key(void *context, const void *key, size_t key_size)
{
    struct store *store = context;
    char *error = NULL;
    leveldb_delete(store->db, store->writing, key, key_size, &error);
    expect_ok(error, "delete");
}

static void scan(void *context, bool backwards, bool keys_only, engine_visit *visit, void *visitor)
{
    struct store *store = context;
    char *error = NULL;
    leveldb_iterator_t *at = leveldb_create_iterator(store->db, store->reading);
    if (backwards)
        leveldb_iter_seek_to_last(at);
    else
        leveldb_iter_seek_to_first(at);
    while (leveldb_iter_valid(at)) {
        size_t key_size, size = 0;
        const char *key = leveldb_iter_key(at, &key_size);
        const char *value = keys_only ? NULL : leveldb_iter_value(at, &size);
        visit(visitor, key, key_size, value, size);
        if (backwards)
            leveldb_iter_prev(at);
        else
            leveldb_iter_next(at);
    }
    leveldb_iter_get_error(at, &error);
    expect_ok(error, "step");
    leveldb_iter_destroy(at);
}

static uint64_t stat_of(void *context)
{
    struct store *store = context;
    char *text = leveldb_property_value(store->db, "leveldb.stats");
    uint64_t length = text ? strlen(text) : 0;
    leveldb_free(text);
    return length;
}

const struct engine engine_leveldb = {
    .name = "leveldb",
    .settings = "sync off, no compression, cache of 64 MiB, filters of 10 bits a key",
    .open = open_store,
    .close = close_store,
    .put = put,
    .get = get,
    .remove = delete_key,
    .scan = scan,
    .stat = stat_of,
};
