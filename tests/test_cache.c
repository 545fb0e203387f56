/* The cache of places: what it answers, and that nothing which changes where a key's current record
 * lies leaves an old place in it. (Most stores of the other tests have a small cache, too.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cache.h"
#include "fixture.h"

static struct fixture on;

static int teardown(void **state)
{
    (void)state;
    fixture_stop(&on);
    return 0;
}

static void its_size_is_a_power_of_two_in_whole_buckets(void **state)
{
    (void)state;
    assert_int_equal(ekv_cache_count(0), 0);
    assert_int_equal(ekv_cache_count(3), 0);
    assert_int_equal(ekv_cache_count(4), 4);
    assert_int_equal(ekv_cache_count(31), 16);
    assert_int_equal(ekv_cache_count(32), 32);
    assert_int_equal(ekv_cache_count(UINT32_MAX), EKV_CACHE_COUNT_MAX);
}

static void the_newest_of_a_bucket_stay(void **state)
{
    (void)state;
    struct ekv_slot slots[8];
    struct ekv_cache cache;
    uint32_t address = 0;
    ekv_cache_init(&cache, slots, 8);
    assert_false(ekv_cache_find(&cache, 0, &address)); /* nothing is nobody's hash */
    for (uint32_t i = 0; i < 6; i++)                   /* all in the first of two buckets */
        ekv_cache_note(&cache, i * 2, 100 + i);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(ekv_cache_find(&cache, i * 2, &address), i >= 2);
    ekv_cache_note(&cache, 6, 7); /* in place of what was known */
    assert_true(ekv_cache_find(&cache, 6, &address));
    assert_int_equal(address, 7);
    ekv_cache_forget(&cache, 6);
    assert_false(ekv_cache_find(&cache, 6, &address));
    assert_true(ekv_cache_find(&cache, 8, &address));
    ekv_cache_clear(&cache);
    assert_false(ekv_cache_find(&cache, 8, &address));
}

static void without_memory_it_knows_nothing(void **state)
{
    (void)state;
    struct ekv_cache cache;
    uint32_t address;
    ekv_cache_init(&cache, NULL, 0);
    ekv_cache_note(&cache, 1, 1);
    ekv_cache_forget(&cache, 1);
    ekv_cache_clear(&cache);
    assert_false(ekv_cache_find(&cache, 1, &address));
}

static void start(uint32_t cache_count)
{
    struct ekv_geometry geometry = {1024, 64, 1, false};
    struct ekv_mount_options options = {.memtable_count = 16, .cache_count = cache_count};
    fixture_start_options(&on, geometry, &options, NOR_AGED);
}

/* Reads all keys twice: the second time most places are known. */
static void read_all(uint32_t count)
{
    for (uint32_t i = 0; i < 2 * count; i++) {
        char value[64];
        int error = ekv_get(on.db, fixture_key(i % count), 0, value, sizeof value, NULL);
        assert_true(error == EKV_OK || error == EKV_NOT_FOUND);
    }
    fixture_verify(&on);
}

static void a_known_key_takes_no_read_of_the_index(void **state)
{
    (void)state;
    char value[64];
    uint64_t reads[2];
    for (uint32_t cached = 0; cached < 2; cached++) {
        start(cached * 256);
        for (uint32_t i = 0; i < 100; i++)
            fixture_put(&on, fixture_key(i), 40, i);
        fixture_remount(&on);
        assert_ok(ekv_get(on.db, fixture_key(7), 0, value, sizeof value, NULL));
        nor_count_reset(&on.nor);
        assert_ok(ekv_get(on.db, fixture_key(7), 0, value, sizeof value, NULL));
        reads[cached] = on.nor.now.counts.reads;
        fixture_stop(&on);
    }
    assert_in_range(reads[1], 1, 3); /* the record, the rest of it, the value: no stamp */
    assert_true(reads[1] < reads[0]);
}

static void puts_deletes_and_collections_move_what_it_knows(void **state)
{
    (void)state;
    start(64);
    uint64_t random = 1;
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < 60; i++) {
            uint32_t number = fixture_below(&random, 100);
            if (fixture_below(&random, 4) > 0)
                fixture_put(&on, fixture_key(number), fixture_below(&random, 300), random);
            else
                fixture_delete(&on, fixture_key(number));
        }
        read_all(100);
    }
    assert_true(fixture_stat(&on).collections > 0);
    fixture_reload(
        &on); /* as after a loss of power: what it knew is gone, recovery moves records */
    fixture_put(&on, fixture_key(1), 10, 1);
    read_all(100);
}

static void a_snapshot_sees_what_was(void **state)
{
    (void)state;
    char value[64];
    struct ekv_snapshot snapshot;
    size_t size;
    start(64);
    fixture_put(&on, fixture_key(1), 10, 1);
    ekv_snapshot_open(&snapshot, on.db);
    fixture_put(&on, fixture_key(1), 20, 2);
    fixture_delete(&on, fixture_key(2));
    assert_ok(ekv_get(on.db, fixture_key(1), 0, value, sizeof value, &size));
    assert_int_equal(size, 20);
    assert_ok(ekv_snapshot_get(&snapshot, fixture_key(1), 0, value, sizeof value, &size));
    assert_int_equal(size, 10);
    ekv_snapshot_close(&snapshot);
}

/* A transaction of more keys than the memtable takes becomes a run: past the memtable. */
static void a_transaction_moves_what_it_knows(void **state)
{
    (void)state;
    static uint32_t table[2 * 64];
    struct ekv_txn txn;
    size_t size;
    char value[64];
    start(256);
    for (uint32_t count = 4; count <= 64; count += 60) {
        for (uint32_t i = 0; i < 64; i++)
            assert_ok(ekv_put(on.db, fixture_key(i), "old", 3));
        assert_ok(ekv_txn_begin(&txn, on.db, table, sizeof table));
        for (uint32_t i = 0; i < count; i += 2) {
            assert_ok(ekv_txn_put(&txn, fixture_key(i), "newer", 5));
            assert_ok(ekv_txn_delete(&txn, fixture_key(i + 1)));
        }
        for (uint32_t i = 0; i < 64; i++) {
            assert_ok(ekv_get(on.db, fixture_key(i), 0, value, sizeof value, &size));
            assert_int_equal(size, 3);
        }
        assert_ok(ekv_txn_commit(&txn));
        for (uint32_t i = 0; i < count; i += 2) {
            assert_ok(ekv_get(on.db, fixture_key(i), 0, value, sizeof value, &size));
            assert_int_equal(size, 5);
            assert_result(ekv_get(on.db, fixture_key(i + 1), 0, value, sizeof value, &size),
                          EKV_NOT_FOUND);
        }
    }
    fixture_check(&on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_size_is_a_power_of_two_in_whole_buckets),
        cmocka_unit_test(the_newest_of_a_bucket_stay),
        cmocka_unit_test(without_memory_it_knows_nothing),
        cmocka_unit_test(a_known_key_takes_no_read_of_the_index),
        cmocka_unit_test_teardown(puts_deletes_and_collections_move_what_it_knows, teardown),
        cmocka_unit_test_teardown(a_snapshot_sees_what_was, teardown),
        cmocka_unit_test_teardown(a_transaction_moves_what_it_knows, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
