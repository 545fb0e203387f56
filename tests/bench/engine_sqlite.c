/* SQLite: a table without rowids, synchronous=OFF, a write-ahead log, prepared statements. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

enum statement { PUT, GET, DELETE, SCAN, SCAN_BACK, KEYS, BEGIN, END, STAT, STATEMENT_COUNT };

static const char *const texts[STATEMENT_COUNT] = {
    [PUT] = "INSERT OR REPLACE INTO t VALUES(?1, ?2)",
    [GET] = "SELECT v FROM t WHERE k = ?1",
    [DELETE] = "DELETE FROM t WHERE k = ?1",
    [SCAN] = "SELECT k, v FROM t ORDER BY k",
    [SCAN_BACK] = "SELECT k, v FROM t ORDER BY k DESC",
    [KEYS] = "SELECT k FROM t ORDER BY k",
    [BEGIN] = "BEGIN",
    [END] = "COMMIT",
    [STAT] = "PRAGMA page_count",
};

struct store {
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENT_COUNT];
    bool reading; /* a transaction is open since the last write */
};

static void expect(struct store *store, int result, int expected, const char *what)
{
    if (result != expected)
        engine_fail("sqlite", "%s: %s", what, sqlite3_errmsg(store->db));
}

static void run(struct store *store, const char *text)
{
    expect(store, sqlite3_exec(store->db, text, NULL, NULL, NULL), SQLITE_OK, text);
}

/* Steps to the end of what gives no row. */
static void finish(struct store *store, enum statement number)
{
    expect(store, sqlite3_step(store->statements[number]), SQLITE_DONE, texts[number]);
    sqlite3_reset(store->statements[number]);
}

static void *open_store(const struct engine_options *options, bool fresh)
{
    struct store *store = engine_allocate(sizeof *store);
    static const char *const names[] = {"sqlite.db", "sqlite.db-wal", "sqlite.db-shm"};
    for (size_t i = 0; fresh && i < sizeof names / sizeof names[0]; i++)
        unlink(engine_path(options, names[i]));
    expect(store, sqlite3_open(engine_path(options, names[0]), &store->db), SQLITE_OK, "open");
    run(store, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
               "PRAGMA cache_size=-65536; PRAGMA mmap_size=1073741824;"
               "CREATE TABLE IF NOT EXISTS t(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID");
    for (int i = 0; i < STATEMENT_COUNT; i++)
        expect(store,
               sqlite3_prepare_v3(store->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                                  &store->statements[i], NULL),
               SQLITE_OK, texts[i]);
    return store;
}

static void begin_reading(struct store *store)
{
    if (!store->reading)
        finish(store, BEGIN);
    store->reading = true;
}

static void end_reading(struct store *store)
{
    if (store->reading)
        finish(store, END);
    store->reading = false;
}

static void close_store(void *context)
{
    struct store *store = context;
    end_reading(store);
    for (int i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(store->statements[i]);
    sqlite3_close(store->db);
    free(store);
}

static void put(void *context, const void *key, size_t key_size, const void *value, size_t size)
{
    struct store *store = context;
    sqlite3_stmt *statement = store->statements[PUT];
    end_reading(store);
    sqlite3_bind_blob(statement, 1, key, (int)key_size, SQLITE_STATIC);
    sqlite3_bind_blob(statement, 2, value, (int)size, SQLITE_STATIC);
    finish(store, PUT);
}

static bool get(void *context, const void *key, size_t key_size, void *buffer, size_t capacity,
                size_t *size)
{
    struct store *store = context;
    sqlite3_stmt *statement = store->statements[GET];
    begin_reading(store);
    sqlite3_bind_blob(statement, 1, key, (int)key_size, SQLITE_STATIC);
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW) {
        *size = (size_t)sqlite3_column_bytes(statement, 0);
        memcpy(buffer, sqlite3_column_blob(statement, 0), *size < capacity ? *size : capacity);
    } else {
        expect(store, result, SQLITE_DONE, "get");
    }
    sqlite3_reset(statement);
    return result == SQLITE_ROW;
}

static void delete_key(void *context, const void *key, size_t key_size)
{
    struct store *store = context;
    end_reading(store);
    sqlite3_bind_blob(store->statements[DELETE], 1, key, (int)key_size, SQLITE_STATIC);
    finish(store, DELETE);
}

static void scan(void *context, bool backwards, bool keys_only, engine_visit *visit, void *visitor)
{
    struct store *store = context;
    sqlite3_stmt *statement = store->statements[keys_only ? KEYS : backwards ? SCAN_BACK : SCAN];
    int result;
    begin_reading(store);
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        size_t key_size = (size_t)sqlite3_column_bytes(statement, 0);
        const void *key = sqlite3_column_blob(statement, 0);
        size_t size = keys_only ? 0 : (size_t)sqlite3_column_bytes(statement, 1);
        visit(visitor, key, key_size, keys_only ? NULL : sqlite3_column_blob(statement, 1), size);
    }
    expect(store, result, SQLITE_DONE, "scan");
    sqlite3_reset(statement);
}

static uint64_t stat_of(void *context)
{
    struct store *store = context;
    sqlite3_stmt *statement = store->statements[STAT];
    expect(store, sqlite3_step(statement), SQLITE_ROW, "stat");
    uint64_t pages = (uint64_t)sqlite3_column_int64(statement, 0);
    sqlite3_reset(statement);
    return pages;
}

const struct engine engine_sqlite = {
    .name = "sqlite",
    .settings = "synchronous=OFF, WAL, exclusive, WITHOUT ROWID, cache of 64 MiB, mapped",
    .open = open_store,
    .close = close_store,
    .put = put,
    .get = get,
    .remove = delete_key,
    .scan = scan,
    .stat = stat_of,
};
