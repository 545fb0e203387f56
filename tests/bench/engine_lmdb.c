/* LMDB: MDB_NOSYNC and MDB_WRITEMAP (its fastest), a map that is larger than needed. */
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

struct store {
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *reading; /* NULL, or open since the last write */
    MDB_cursor *cursor;
};

static void expect_ok(int error, const char *what)
{
    if (error)
        engine_fail("lmdb", "%s: %s", what, mdb_strerror(error));
}

static void *open_store(const struct engine_options *options, bool fresh)
{
    struct store *store = engine_allocate(sizeof *store);
    const char *path = engine_path(options, "lmdb.mdb");
    MDB_txn *txn;
    if (fresh) {
        unlink(path);
        unlink(engine_path(options, "lmdb.mdb-lock"));
        path = engine_path(options, "lmdb.mdb");
    }
    expect_ok(mdb_env_create(&store->env), "create");
    expect_ok(mdb_env_set_mapsize(store->env, options->payload_size * 6 + (16u << 20)), "mapsize");
    expect_ok(mdb_env_open(store->env, path, MDB_NOSUBDIR | MDB_NOSYNC | MDB_WRITEMAP, 0644),
              "open");
    expect_ok(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
    expect_ok(mdb_dbi_open(txn, NULL, 0, &store->dbi), "dbi");
    expect_ok(mdb_txn_commit(txn), "commit");
    return store;
}

static void end_reading(struct store *store)
{
    if (!store->reading)
        return;
    mdb_cursor_close(store->cursor);
    mdb_txn_abort(store->reading);
    store->reading = NULL;
}

static void begin_reading(struct store *store)
{
    if (store->reading)
        return;
    expect_ok(mdb_txn_begin(store->env, NULL, MDB_RDONLY, &store->reading), "begin");
    expect_ok(mdb_cursor_open(store->reading, store->dbi, &store->cursor), "cursor");
}

static void close_store(void *context)
{
    struct store *store = context;
    end_reading(store);
    mdb_env_close(store->env);
    free(store);
}

static void put(void *context, const void *key, size_t key_size, const void *value, size_t size)
{
    struct store *store = context;
    MDB_val k = {key_size, (void *)key}, v = {size, (void *)value};
    MDB_txn *txn;
    end_reading(store);
    expect_ok(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
    expect_ok(mdb_put(txn, store->dbi, &k, &v, 0), "put");
    expect_ok(mdb_txn_commit(txn), "commit");
}

static bool get(void *context, const void *key, size_t key_size, void *buffer, size_t capacity,
                size_t *size)
{
    struct store *store = context;
    MDB_val k = {key_size, (void *)key}, v;
    begin_reading(store);
    int error = mdb_cursor_get(store->cursor, &k, &v, MDB_SET);
    if (error == MDB_NOTFOUND)
        return false;
    expect_ok(error, "get");
    *size = v.mv_size;
    memcpy(buffer, v.mv_data, v.mv_size < capacity ? v.mv_size : capacity);
    return true;
}

static void delete_key(void *context, const void *key, size_t key_size)
{
    struct store *store = context;
    MDB_val k = {key_size, (void *)key};
    MDB_txn *txn;
    end_reading(store);
    expect_ok(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
    int error = mdb_del(txn, store->dbi, &k, NULL);
    if (error != MDB_NOTFOUND)
        expect_ok(error, "del");
    expect_ok(mdb_txn_commit(txn), "commit");
}

static void scan(void *context, bool backwards, bool keys_only, engine_visit *visit, void *visitor)
{
    struct store *store = context;
    MDB_val k, v;
    int error;
    begin_reading(store);
    MDB_cursor_op step = backwards ? MDB_LAST : MDB_FIRST;
    while (!(error = mdb_cursor_get(store->cursor, &k, &v, step))) {
        visit(visitor, k.mv_data, k.mv_size, keys_only ? NULL : v.mv_data,
              keys_only ? 0 : v.mv_size);
        step = backwards ? MDB_PREV : MDB_NEXT;
    }
    if (error != MDB_NOTFOUND)
        expect_ok(error, "step");
}

static uint64_t stat_of(void *context)
{
    struct store *store = context;
    MDB_stat stat;
    expect_ok(mdb_env_stat(store->env, &stat), "stat");
    return stat.ms_entries;
}

const struct engine engine_lmdb = {
    .name = "lmdb",
    .settings = "MDB_NOSYNC, MDB_WRITEMAP, one read transaction between two writes",
    .open = open_store,
    .close = close_store,
    .put = put,
    .get = get,
    .remove = delete_key,
    .scan = scan,
    .stat = stat_of,
};
