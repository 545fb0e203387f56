/* Compaction on request: it ends, changes no key, reclaims what is dead, keeps what a snapshot
 * sees, and a power cut at any of its flash operations leaves the same keys.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

static struct fixture on;

static int teardown(void **state)
{
    (void)state;
    fixture_stop(&on);
    return 0;
}

static const struct ekv_geometry geometries[] = {
    {4096, 32, 1, true}, {1024, 64, 4, true},   {512, 128, 32, true},
    {4096, 12, 1, true}, {4096, 64, 256, true}, {2048, 16, 16, true},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

/* Steps it took; well below where they are cut off. */
static uint32_t compact(void)
{
    uint32_t steps = 0, left = 0;
    do {
        assert_ok(ekv_compact(on.db, &left));
        steps++;
    } while (left > 0);
    assert_true(steps < on.nor.flash.geometry.sector_count + 8);
    return steps;
}

/* Overwrites and deletes, so that most of what the log holds is dead. */
static void fill(uint64_t chance, uint32_t count)
{
    for (uint32_t n = 0; n < count; n++) {
        uint32_t key = fixture_below(&chance, 60);
        if (fixture_below(&chance, 5) == 0)
            fixture_delete(&on, fixture_key(key));
        else
            fixture_put(&on, fixture_key(key), fixture_below(&chance, 60), n);
    }
}

static uint32_t sectors_free(void)
{
    struct ekv_stat stat = fixture_stat(&on);
    return stat.sectors_free + stat.sectors_ready;
}

static void it_reclaims_what_is_dead_and_comes_to_an_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        fixture_start(&on, geometries[i], 16);
        fill(i, 1500);
        uint32_t before = sectors_free();
        compact();
        fixture_verify(&on);
        struct ekv_stat stat = fixture_stat(&on);
        assert_true(sectors_free() >= before);
        assert_true(stat.runs <= 1);
        /* What is left takes hardly more than what is live. */
        uint64_t log_size = (uint64_t)stat.sectors_log * geometries[i].sector_size;
        assert_true(log_size <= 2 * stat.live_size + 4 * geometries[i].sector_size);
        uint64_t erases = stat.erases;
        assert_int_equal(compact(), 1);
        assert_int_equal(fixture_stat(&on).erases, erases);
        fixture_remount(&on);
        fill(i + 100, 300);
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

static void a_store_of_deletes_becomes_empty(void **state)
{
    (void)state;
    fixture_start(&on, geometries[0], 16);
    for (uint32_t i = 0; i < 400; i++)
        fixture_put(&on, fixture_key(i), 40, i);
    for (uint32_t i = 0; i < 400; i++)
        fixture_delete(&on, fixture_key(i));
    compact();
    fixture_verify(&on);
    struct ekv_stat stat = fixture_stat(&on);
    assert_int_equal(stat.keys, 0);
    assert_int_equal(stat.live_size, 0);
    assert_true(stat.sectors_log <= 3);
}

static void large_values_stay_whole(void **state)
{
    (void)state;
    fixture_start(&on, geometries[0], 16);
    for (uint32_t i = 0; i < 40; i++)
        fixture_put(&on, fixture_key(i % 4), 5000 + 100 * i, i);
    compact();
    fixture_verify(&on);
    for (uint32_t i = 36; i < 40; i++)
        fixture_expect(&on, fixture_key(i % 4), 5000 + 100 * i, i);
}

static void what_a_snapshot_sees_is_kept(void **state)
{
    (void)state;
    struct ekv_snapshot snapshot;
    uint8_t value[64], wanted[64];
    size_t size;
    fixture_start(&on, geometries[0], 16);
    for (uint32_t i = 0; i < 100; i++)
        fixture_put(&on, fixture_key(i), sizeof value, i);
    ekv_snapshot_open(&snapshot, on.db);
    for (uint32_t i = 0; i < 100; i++)
        fixture_put(&on, fixture_key(i), sizeof value, 1000 + i);
    compact();
    for (uint32_t i = 0; i < 100; i++) {
        fixture_fill(wanted, sizeof wanted, i);
        assert_ok(ekv_snapshot_get(&snapshot, fixture_key(i), 0, value, sizeof value, &size));
        assert_memory_equal(value, wanted, sizeof wanted);
    }
    fixture_verify(&on);
    ekv_snapshot_close(&snapshot);
    compact();
    fixture_verify(&on);
}

static void an_open_transaction_is_kept(void **state)
{
    (void)state;
    struct ekv_txn txn;
    uint32_t table[2 * 16];
    uint8_t value[64];
    fixture_start(&on, geometries[0], 16);
    fill(3, 500);
    fixture_fill(value, sizeof value, 77);
    assert_ok(ekv_txn_begin(&txn, on.db, table, sizeof table));
    for (uint32_t i = 0; i < 10; i++)
        assert_ok(ekv_txn_put(&txn, fixture_key(1000 + i), value, sizeof value));
    compact();
    assert_ok(ekv_txn_commit(&txn));
    for (uint32_t i = 0; i < 10; i++)
        fixture_expect(&on, fixture_key(1000 + i), sizeof value, 77);
    fixture_check(&on);
}

/* Cuts the power at one operation of a compaction after the other; each time all keys must be there
 * at the mount, and a second compaction must come to its end. */
static void a_power_cut_at_any_moment_changes_no_key(void **state)
{
    (void)state;
    static const enum nor_cut modes[] = {NOR_CUT_INVISIBLE, NOR_CUT_BYTES, NOR_CUT_BITS,
                                         NOR_CUT_COMPLETE};
    uint64_t operations = UINT64_MAX;
    for (uint64_t at = 1; at <= operations; at++) {
        uint32_t left = 0;
        int error;
        fixture_start(&on, geometries[1], 16);
        fill(9, 700);
        uint64_t begin = on.nor.now.operations;
        nor_cut_at(&on.nor, operations == UINT64_MAX ? 0 : at, modes[at % 4]);
        do
            error = ekv_compact(on.db, &left);
        while (left > 0);
        if (operations == UINT64_MAX) { /* the first time through, to count them */
            assert_ok(error);
            operations = on.nor.now.operations - begin;
            assert_true(operations > 20);
            at = 0;
            fixture_stop(&on);
            continue;
        }
        assert_true(error == EKV_OK ? at == operations : error == EKV_IO || error == EKV_READ_ONLY);
        nor_power_on(&on.nor);
        fixture_reload(&on);
        compact();
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

static int64_t now(void *context)
{
    return *(int64_t *)context;
}

/* Versions that are to be kept are kept, and neither they nor records of nearly half a sector make
 * it go on for ever. */
static void retained_versions_stay_and_it_ends(void **state)
{
    (void)state;
    static const struct ekv_mount_options kinds[] = {
        {.memtable_count = 16, .retain_count = 4},
        {.memtable_count = 16, .retain_seconds = 3600, .now = now},
    };
    for (size_t i = 0; i < 2; i++) {
        int64_t time = 1000000;
        struct ekv_mount_options options = kinds[i];
        options.now_context = &time;
        fixture_start_options(&on, geometries[0], &options, NOR_FRESH);
        for (uint32_t n = 0; n < 40; n++) {
            time += 1000000;
            fixture_put(&on, fixture_key(n % 6), n % 2 ? 1700 : 30, n);
        }
        uint32_t left = 0, steps = 0;
        do {
            assert_ok(ekv_compact(on.db, &left));
            assert_true(++steps <= 2 * geometries[0].sector_count + 8);
        } while (left > 0);
        fixture_verify(&on);
        for (uint32_t key = 0; key < 6; key++) {
            struct ekv_history history;
            struct ekv_entry entry;
            uint32_t wanted = kinds[i].retain_count ? 4 : key < 4 ? 7 : 6;
            ekv_history_open(&history, on.db, fixture_key(key), UINT64_MAX);
            for (uint32_t version = 0; version < wanted; version++)
                assert_ok(ekv_history_next(&history, &entry));
        }
        fixture_stop(&on);
    }
}

static void a_store_that_can_only_be_read_is_left_alone(void **state)
{
    (void)state;
    uint32_t left = 0;
    fixture_start(&on, geometries[0], 16);
    fill(5, 300);
    on.options.read_only = true;
    fixture_remount(&on);
    uint64_t operations = on.nor.now.operations;
    assert_result(ekv_compact(on.db, &left), EKV_READ_ONLY);
    assert_int_equal(left, 0);
    assert_int_equal(on.nor.now.operations, operations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(it_reclaims_what_is_dead_and_comes_to_an_end, teardown),
        cmocka_unit_test_teardown(a_store_of_deletes_becomes_empty, teardown),
        cmocka_unit_test_teardown(large_values_stay_whole, teardown),
        cmocka_unit_test_teardown(what_a_snapshot_sees_is_kept, teardown),
        cmocka_unit_test_teardown(an_open_transaction_is_kept, teardown),
        cmocka_unit_test_teardown(a_power_cut_at_any_moment_changes_no_key, teardown),
        cmocka_unit_test_teardown(retained_versions_stay_and_it_ends, teardown),
        cmocka_unit_test_teardown(a_store_that_can_only_be_read_is_left_alone, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
