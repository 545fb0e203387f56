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
    struct ekv_slot memory[8 + 1];
    struct ekv_cache cache;
    uint32_t address = 0;
    assert_true(ekv_cache_size(8) <= sizeof memory);
    ekv_cache_init(&cache, memory, 8);
    assert_int_equal(ekv_cache_find(&cache, 0, &address), EKV_CACHE_UNKNOWN); /* nobody's hash */
    for (uint32_t i = 0; i < 6; i++) /* all in the first of two buckets */
        ekv_cache_note(&cache, i * 2, 100 + i);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(ekv_cache_find(&cache, i * 2, &address),
                         i >= 2 ? EKV_CACHE_PLACE : EKV_CACHE_UNKNOWN);
    ekv_cache_note(&cache, 6, 7); /* in place of what was known */
    assert_int_equal(ekv_cache_find(&cache, 6, &address), EKV_CACHE_PLACE);
    assert_int_equal(address, 7);
    ekv_cache_forget(&cache, 6);
    assert_int_equal(ekv_cache_find(&cache, 6, &address), EKV_CACHE_UNKNOWN);
    assert_int_equal(ekv_cache_find(&cache, 8, &address), EKV_CACHE_PLACE);
    ekv_cache_clear(&cache, false);
    assert_int_equal(ekv_cache_find(&cache, 8, &address), EKV_CACHE_UNKNOWN);
}

static void a_bucket_that_heard_of_every_key_knows_which_are_not_there(void **state)
{
    (void)state;
    struct ekv_slot memory[8 + 1];
    struct ekv_cache cache;
    uint32_t address;
    ekv_cache_init(&cache, memory, 8);
    ekv_cache_clear(&cache, true);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(ekv_cache_find(&cache, i * 2, &address), EKV_CACHE_NONE);
        ekv_cache_note(&cache, i * 2, 100 + i);
    }
    ekv_cache_note(&cache, 0, 99); /* no other key: nothing is lost */
    ekv_cache_forget(&cache, 2);   /* which another key may have, too */
    ekv_cache_forget(&cache, 8);   /* which nobody has */
    assert_int_equal(ekv_cache_find(&cache, 2, &address), EKV_CACHE_UNKNOWN);
    assert_int_equal(ekv_cache_find(&cache, 8, &address), EKV_CACHE_NONE);
    ekv_cache_note(&cache, 8, 104); /* a fifth one: the bucket has lost what it knew of another */
    assert_int_equal(ekv_cache_find(&cache, 10, &address), EKV_CACHE_UNKNOWN);
    assert_int_equal(ekv_cache_find(&cache, 1, &address), EKV_CACHE_NONE); /* the other bucket */
    ekv_cache_clear(&cache, false);
    assert_int_equal(ekv_cache_find(&cache, 1, &address), EKV_CACHE_UNKNOWN);
}

static void without_memory_it_knows_nothing(void **state)
{
    (void)state;
    struct ekv_cache cache;
    uint32_t address;
    ekv_cache_init(&cache, NULL, 0);
    ekv_cache_note(&cache, 1, 1);
    ekv_cache_forget(&cache, 1);
    ekv_cache_clear(&cache, false);
    assert_int_equal(ekv_cache_find(&cache, 1, &address), EKV_CACHE_UNKNOWN);
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

/* Reads that it takes to find that a key is not there. */
static uint64_t reads_of_missing(uint32_t number)
{
    char value[64];
    nor_count_reset(&on.nor);
    assert_result(ekv_get(on.db, fixture_key(number), 0, value, sizeof value, NULL), EKV_NOT_FOUND);
    return on.nor.now.counts.reads;
}

static void a_missing_key_takes_no_read_if_every_key_was_heard_of(void **state)
{
    (void)state;
    uint32_t unread = 0;
    start(1024);
    for (uint32_t i = 0; i < 200; i++)
        fixture_put(&on, fixture_key(i), 40, i);
    fixture_delete(&on, fixture_key(7));
    assert_true(fixture_stat(&on).runs > 0);
    for (uint32_t i = 200; i < 400; i++)
        unread += reads_of_missing(i) == 0;
    assert_true(unread > 150); /* some buckets had more keys than ways */
    assert_true(reads_of_missing(7) > 0);
    fixture_remount(&on); /* of the keys that are there now it has not heard */
    for (uint32_t i = 200; i < 400; i++)
        assert_true(reads_of_missing(i) > 0);
    read_all(200);
    fixture_stop(&on);
}

struct hashed {
    uint32_t hash, number;
};

static int by_hash(const void *one, const void *two)
{
    const struct hashed *a = one, *b = two;
    return a->hash < b->hash ? -1 : a->hash > b->hash;
}

/* The numbers of two keys with the same hash: of so many keys there are some. */
static void find_same(uint32_t same[2])
{
    enum { COUNT = 2000000 };
    struct hashed *all = malloc(COUNT * sizeof *all);
    uint32_t i = 1;
    assert_non_null(all);
    for (uint32_t j = 0; j < COUNT; j++)
        all[j] = (struct hashed){ekv_key_hash(fixture_key(j)), j};
    qsort(all, COUNT, sizeof *all, by_hash);
    while (i < COUNT && all[i].hash != all[i - 1].hash)
        i++;
    assert_true(i < COUNT);
    same[0] = all[i - 1].number;
    same[1] = all[i].number;
    free(all);
}

/* Whether reading says of both keys what is true. */
static void expect_both(const uint32_t same[2], const bool there[2])
{
    char value[64];
    for (uint32_t i = 0; i < 2; i++)
        assert_result(ekv_get(on.db, fixture_key(same[i]), 0, value, sizeof value, NULL),
                      there[i] ? EKV_OK : EKV_NOT_FOUND);
}

static void keys_with_the_same_hash_do_not_hide_each_other(void **state)
{
    (void)state;
    uint32_t same[2];
    uint64_t random = 1;
    bool there[2] = {false, false};
    find_same(same);
    start(1024);
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t which = fixture_below(&random, 2);
        there[which] = fixture_below(&random, 2);
        if (there[which])
            fixture_put(&on, fixture_key(same[which]), 20, round);
        else
            fixture_delete(&on, fixture_key(same[which]));
        expect_both(same, there);
        fixture_put(&on, fixture_key(fixture_below(&random, 50)), 20, round);
        expect_both(same, there);
    }
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
        cmocka_unit_test(a_bucket_that_heard_of_every_key_knows_which_are_not_there),
        cmocka_unit_test(without_memory_it_knows_nothing),
        cmocka_unit_test(a_known_key_takes_no_read_of_the_index),
        cmocka_unit_test(a_missing_key_takes_no_read_if_every_key_was_heard_of),
        cmocka_unit_test_teardown(keys_with_the_same_hash_do_not_hide_each_other, teardown),
        cmocka_unit_test_teardown(puts_deletes_and_collections_move_what_it_knows, teardown),
        cmocka_unit_test_teardown(a_snapshot_sees_what_was, teardown),
        cmocka_unit_test_teardown(a_transaction_moves_what_it_knows, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
