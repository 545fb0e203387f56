/* One writer and several readers at a time, with readers-writer locks over a flash that is read in
 * place: every read sees a whole value that was current at some moment of it, never an older one
 * than the reader saw before.
 *
 * Every value says which key and which write it is of, and the rest of it follows from that. Most
 * useful under -DEKV_SANITIZE=thread. Threads do not assert: they note the first thing that is
 * wrong.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

enum { KEYS = 24, READERS = 3, WRITES = 4000, VALUE_MAX = 2500, HEAD = 8, TABLE = 64 };

static struct fixture on;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static atomic_bool done;
static atomic_uint reads;
static pthread_mutex_t wrong_mutex = PTHREAD_MUTEX_INITIALIZER;
static char wrong[300];

static void lock_read(void *context)
{
    pthread_rwlock_rdlock(context);
}

static void lock_write(void *context)
{
    pthread_rwlock_wrlock(context);
}

static void unlock(void *context)
{
    pthread_rwlock_unlock(context);
}

static const struct ekv_locks locks = {lock_read, unlock, lock_write, unlock};

static void note(const char *what, uint32_t key, uint32_t a, uint32_t b)
{
    pthread_mutex_lock(&wrong_mutex);
    if (!wrong[0])
        snprintf(wrong, sizeof wrong, "%s (key %u: %u, %u)", what, (unsigned)key, (unsigned)a,
                 (unsigned)b);
    pthread_mutex_unlock(&wrong_mutex);
}

/* --- Values that prove themselves ------------------------------------------------------------ */

static size_t value_size(uint32_t key, uint32_t write)
{
    return HEAD + (key % 6 == 0 ? write * 37 % VALUE_MAX : write * 7 % 100);
}

static size_t make_value(uint8_t *value, uint32_t key, uint32_t write)
{
    size_t size = value_size(key, write);
    ekv_store(value, key, 4);
    ekv_store(value + 4, write, 4);
    fixture_fill(value + HEAD, size - HEAD, (uint64_t)key << 32 | write);
    return size;
}

/* Whether a value is one that was written to the key; `write` is which. */
static bool value_is_whole(const uint8_t *value, size_t size, uint32_t key, uint32_t *write)
{
    uint8_t expected[HEAD + VALUE_MAX];
    if (size < HEAD || ekv_load32(value) != key)
        return false;
    *write = ekv_load32(value + 4);
    return make_value(expected, key, *write) == size && memcmp(value, expected, size) == 0;
}

/* Thread-safe, unlike fixture_key. */
static struct ekv_key key_of(char buffer[8], uint32_t number)
{
    snprintf(buffer, 8, "k%03u", (unsigned)number % 1000);
    return ekv_key(buffer, 4);
}

/* --- Readers --------------------------------------------------------------------------------- */

static void read_one(uint32_t number, uint32_t *last)
{
    uint8_t value[HEAD + VALUE_MAX + 1];
    char buffer[8];
    size_t size = 0;
    uint32_t write = 0;
    int error = ekv_get(on.db, key_of(buffer, number), 0, value, sizeof value, &size);
    if (error == EKV_NOT_FOUND)
        return; /* deleted at the moment */
    if (error)
        note(model_result_name(error), number, 0, 0);
    else if (!value_is_whole(value, size, number, &write))
        note("a read that is no whole value", number, (uint32_t)size, write);
    else if (write < *last)
        note("a read older than the one before it", number, write, *last);
    else
        *last = write;
}

/* Reads a key twice in a snapshot: the same both times. */
static void read_snapshot(uint32_t number)
{
    static const char what[] = "a snapshot that does not stand still";
    uint8_t one[HEAD + VALUE_MAX + 1], two[HEAD + VALUE_MAX + 1];
    struct ekv_snapshot snapshot;
    char buffer[8];
    size_t one_size = 0, two_size = 0;
    uint32_t write;
    struct ekv_key key = key_of(buffer, number);
    ekv_snapshot_open(&snapshot, on.db);
    int first = ekv_snapshot_get(&snapshot, key, 0, one, sizeof one, &one_size);
    int second = ekv_snapshot_get(&snapshot, key, 0, two, sizeof two, &two_size);
    ekv_snapshot_close(&snapshot);
    if (first != second || one_size != two_size ||
        (first == EKV_OK && memcmp(one, two, one_size) != 0))
        note(what, number, (uint32_t)first, (uint32_t)second);
    else if (first == EKV_OK && !value_is_whole(one, one_size, number, &write))
        note("a snapshot's read that is no whole value", number, (uint32_t)one_size, 0);
    else if (first != EKV_OK && first != EKV_NOT_FOUND)
        note(model_result_name(first), number, 0, 0);
}

/* Walks all keys: they ascend and their values are whole. */
static void walk(void)
{
    uint8_t value[HEAD + VALUE_MAX + 1];
    struct ekv_cursor cursor;
    char key[8], last[8] = "";
    size_t size = 0;
    uint32_t write;
    ekv_cursor_open(&cursor, on.db, EKV_USER);
    int error;
    while ((error = ekv_cursor_next(&cursor)) == EKV_OK) {
        memset(key, 0, sizeof key);
        error = ekv_cursor_key(&cursor, key, sizeof key - 1, &size);
        if (error || strcmp(key, last) <= 0) {
            note("a walk out of order", 0, (uint32_t)error, 0);
            break;
        }
        memcpy(last, key, sizeof last);
        uint32_t number = (uint32_t)(key[1] - '0') * 100 + (uint32_t)(key[2] - '0') * 10 +
                          (uint32_t)(key[3] - '0');
        error = ekv_cursor_read(&cursor, 0, value, sizeof value, &size);
        if (error || !value_is_whole(value, size, number, &write)) {
            note("a walk over a value that is not whole", number, (uint32_t)error, (uint32_t)size);
            break;
        }
    }
    if (error < 0)
        note(model_result_name(error), 0, 0, 0);
    ekv_cursor_close(&cursor);
}

static void *read_all(void *context)
{
    uint64_t chance = (uintptr_t)context;
    uint32_t last[KEYS] = {0};
    while (!atomic_load(&done)) {
        struct ekv_stat stat;
        for (uint32_t n = 0; n < 50; n++) {
            uint32_t number = fixture_below(&chance, KEYS);
            read_one(number, &last[number]);
        }
        read_snapshot(fixture_below(&chance, KEYS));
        if (fixture_below(&chance, 4) == 0)
            walk();
        ekv_stat(on.db, &stat);
        atomic_fetch_add(&reads, 50);
    }
    return NULL;
}

/* --- The writer ------------------------------------------------------------------------------ */

static int write_one(uint64_t *chance, uint32_t write)
{
    uint8_t value[HEAD + VALUE_MAX];
    uint32_t number = fixture_below(chance, KEYS);
    char buffer[8];
    bool more;
    struct ekv_key key = key_of(buffer, number);
    switch (fixture_below(chance, 12)) {
    case 0:
        return ekv_delete(on.db, key);
    case 1:
        return ekv_work(on.db, &more);
    case 2: {
        static uint32_t table[2 * TABLE];
        struct ekv_txn txn;
        int error = ekv_txn_begin(&txn, on.db, table, sizeof table);
        for (uint32_t n = 0; !error && n < 3; n++) {
            key = key_of(buffer, (number + n) % KEYS);
            size_t size = make_value(value, (number + n) % KEYS, write);
            error = ekv_txn_put(&txn, key, value, size);
        }
        if (!error)
            error = ekv_txn_commit(&txn);
        if (error)
            ekv_txn_abort(&txn);
        return error;
    }
    default:
        return ekv_put(on.db, key, value, make_value(value, number, write));
    }
}

static void readers_see_whole_values_while_one_writes(void **state)
{
    struct ekv_geometry geometry = {4096, 64, 1, false};
    struct ekv_mount_options options = {
        .memtable_count = 16, .locks = &locks, .lock_context = &rwlock};
    pthread_t threads[READERS];
    uint64_t chance = 1;
    uint32_t written = 0;
    (void)state;
    fixture_start_options(&on, geometry, &options, NOR_AGED);
    nor_map(&on.nor);
    assert_ok(ekv_unmount(on.db));
    assert_ok(ekv_mount(&on.db, &on.nor.flash, &options, on.memory, on.memory_size));
    assert_non_null(on.nor.flash.map);
    for (uintptr_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, (void *)(100 + i)), 0);
    int error = EKV_OK;
    for (uint32_t write = 1; write <= WRITES || atomic_load(&reads) < 1000; write++) {
        /* No space until a reader closes its snapshot: they are short. */
        while ((error = write_one(&chance, write)) == EKV_PINNED)
            sched_yield();
        if (error < 0)
            break;
        written += error == EKV_OK;
    }
    atomic_store(&done, true);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    if (error < 0)
        assert_ok(error);
    if (wrong[0])
        fail_msg("%s", wrong);
    assert_true(written > WRITES / 2);
    struct ekv_stat stat = fixture_stat(&on);
    assert_true(stat.flushes > 10 && stat.merges > 1 && stat.collections > 10);
    fixture_check(&on);
    assert_ok(ekv_unmount(on.db));
    fixture_stop(&on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_see_whole_values_while_one_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
