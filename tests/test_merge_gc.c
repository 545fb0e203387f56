/* Flush, merge and collection, seen through the public API with small memtables: whatever they move
 * or drop, every key keeps its value, snapshots keep theirs, and the counts stay exact (ekv_check
 * compares them with what is really live).
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

static uint32_t erases(void)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < on.nor.flash.geometry.sector_count; i++)
        sum += on.nor.erase_counts[i];
    return sum;
}

/* --- Overwrites and deletes ------------------------------------------------------------------ */

static void overwrites_are_merged_and_collected_without_loss(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        uint64_t chance = i;
        fixture_start(&on, geometries[i], 8);
        for (uint32_t n = 0; n < 3000; n++) {
            uint32_t key = fixture_below(&chance, 60);
            fixture_put(&on, fixture_key(key), fixture_below(&chance, 60), n);
            if (n % 250 == 0)
                fixture_verify(&on);
            else if (n % 50 == 0)
                fixture_check(&on);
        }
        struct ekv_stat stat = fixture_stat(&on);
        assert_true(stat.flushes > 10);
        assert_true(stat.merges > 1);
        assert_true(stat.collections > 1);
        assert_int_equal(stat.keys, on.model.count);
        fixture_verify(&on);
        fixture_remount(&on);
        fixture_stop(&on);
    }
}

/* What is erased ahead is forgotten at an unmount, so a session must not erase what it hardly
 * needs. 700 records with an open and a close record each fill a dozen sectors. */
static void sessions_of_one_put_each_erase_little_ahead(void **state)
{
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 64, 1, false}, 512);
    uint32_t before = erases();
    for (uint32_t n = 0; n < 700; n++) {
        fixture_put(&on, fixture_key(n % 20), 16, n);
        fixture_remount(&on);
    }
    assert_in_range(erases() - before, 10, 64);
}

static void deleted_keys_and_their_tombstones_leave_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        fixture_start(&on, geometries[i], 8);
        uint64_t empty = fixture_stat(&on).live_size;
        assert_int_equal(empty, 0);
        for (uint32_t round = 0; round < 6; round++) {
            for (uint32_t n = 0; n < 40; n++)
                fixture_put(&on, fixture_key(n), 40, n + round);
            fixture_check(&on);
            for (uint32_t n = 0; n < 40; n++)
                fixture_delete(&on, fixture_key(n));
            fixture_verify(&on);
            assert_int_equal(fixture_stat(&on).live_size, 0);
            assert_int_equal(fixture_stat(&on).keys, 0);
        }
        fixture_stop(&on);
    }
}

/* A value that takes a third of the flash leaves a third of it dead when it is overwritten. Which
 * of these sectors is the best to collect next must not be asked anew for each. */
static void a_large_value_is_overwritten_without_a_search_for_each_sector(void **state)
{
    enum { SECTORS = 2048, SIZE = SECTORS * 512 / 3 };
    (void)state;
    uint64_t reads = 0;
    fixture_start(&on, (struct ekv_geometry){512, SECTORS, 1, true}, 64);
    for (uint32_t n = 0; n < 8; n++) {
        nor_count_reset(&on.nor);
        fixture_put(&on, fixture_key(1), SIZE, n);
        fixture_put(&on, fixture_key(2 + n), 20, n);
        reads = on.nor.now.counts.reads;
        fixture_verify(&on);
    }
    assert_true(fixture_stat(&on).collections > SECTORS);
    assert_true(reads < (uint64_t)SECTORS * 64);
    fixture_remount(&on);
}

/* What a snapshot needs gives no room when it is collected; what nobody needs lies behind that, and
 * is known as such, although stale entries lead to trees of which sectors were used again. */
static void large_values_beside_a_snapshot_take_what_nobody_needs(void **state)
{
    enum { SIZE = 3000, ROUNDS = 100 };
    static const uint32_t keys[] = {60, 110}, sectors[] = {10, 14, 30};
    (void)state;
    for (int i = 0; i < 6; i++) {
        uint32_t count = keys[i % 2], large = sectors[i / 2] * 4096;
        fixture_start(&on, (struct ekv_geometry){4096, 512, 1, false}, 512);
        for (uint32_t n = 0; n < 6 * count; n++)
            fixture_put(&on, fixture_key(n % count), SIZE, n);
        struct ekv_snapshot snapshot;
        ekv_snapshot_open(&snapshot, on.db);
        for (uint32_t n = 0; n < count; n++)
            fixture_put(&on, fixture_key(n), SIZE, n + 1);
        for (uint32_t n = 0; n < ROUNDS; n++) /* none is refused */
            fixture_put(&on, fixture_key(count), large, n);
        ekv_snapshot_close(&snapshot);
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

/* Deletes do not count as live, but until the runs below are merged they must be moved: a sector
 * full of them is no victim. */
static void sectors_full_of_deletes_are_not_collected_in_vain(void **state)
{
    enum { KEYS = 1800, DELETED = 1500 };
    (void)state;
    uint64_t chance = 1;
    fixture_start(&on, (struct ekv_geometry){4096, 64, 1, true}, 256);
    for (uint32_t n = 0; n < KEYS; n++)
        fixture_put(&on, fixture_key(n), 40, n);
    for (uint32_t n = 0; n < 6000; n++)
        fixture_put(&on, fixture_key(fixture_below(&chance, KEYS)), 40, KEYS + n);
    uint32_t before = erases();
    for (uint32_t n = 0; n < DELETED; n++)
        fixture_delete(&on, fixture_key(n));
    uint32_t sectors = DELETED * (FIXTURE_KEY_SIZE + 7) / 4096 + 1;
    assert_true(erases() - before <= 3 * sectors);
    fixture_verify(&on);
}

static void a_delete_that_was_merged_away_stays_a_delete(void **state)
{
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 32, 1, false}, 8);
    for (uint32_t n = 0; n < 200; n++)
        fixture_put(&on, fixture_key(n), 20, n);
    for (uint32_t n = 0; n < 200; n += 2)
        fixture_delete(&on, fixture_key(n));
    /* New keys push the deletes through all levels. */
    for (uint32_t n = 1000; n < 3000; n++) {
        fixture_put(&on, fixture_key(n % 300 + 1000), 20, n);
        if (n % 100 == 0)
            fixture_verify(&on);
    }
    assert_true(fixture_stat(&on).merges > 5);
    fixture_remount(&on);
    for (uint32_t n = 0; n < 200; n += 2)
        fixture_delete(&on, fixture_key(n)); /* EKV_NOT_FOUND, as the model says */
}

/* A flush comes after so many sectors of log, too: then runs are smaller than the memtable. */
static void more_memory_does_not_make_merges_write_more(void **state)
{
    static const uint32_t memtables[] = {512, 4096};
    uint64_t programmed[2];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint64_t chance = 1;
        fixture_start(&on, (struct ekv_geometry){1024, 1024, 1, true}, memtables[i]);
        for (uint32_t n = 0; n < 40000; n++) {
            struct ekv_key key = fixture_key(fixture_below(&chance, 8000));
            assert_ok(ekv_put(on.db, key, "a value of twenty-six bytes", 26));
        }
        fixture_check(&on);
        programmed[i] = on.nor.now.counts.programmed_size;
        fixture_stop(&on);
    }
    assert_true(programmed[1] <= programmed[0]);
}

/* A batch fills more than a sector; with what it causes it needs about two. */
static void a_batch_waits_for_three_erases_at_most(void **state)
{
    enum { BATCH = 64, KEYS = 4096 };
    static uint32_t entries[BATCH * EKV_TXN_ENTRY_SIZE / 4];
    uint64_t chance = 1, total;
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 256, 1, true}, 512);
    total = on.nor.now.counts.erases;
    for (uint32_t n = 0; n < 300; n++) {
        uint64_t before = on.nor.now.counts.erases;
        struct ekv_txn txn;
        assert_ok(ekv_txn_begin(&txn, on.db, entries, sizeof entries));
        for (uint32_t i = 0; i < BATCH; i++) {
            uint32_t number = n < KEYS / BATCH ? n * BATCH + i : fixture_below(&chance, KEYS);
            fixture_fill(on.value, 64, number);
            assert_ok(ekv_txn_put(&txn, fixture_key(number), on.value, 64));
        }
        assert_ok(ekv_txn_commit(&txn));
        if (n > 0 && on.nor.now.counts.erases - before > 3) /* the first finds nothing erased */
            fail_msg("batch %u waited for %u erases", (unsigned)n,
                     (unsigned)(on.nor.now.counts.erases - before));
    }
    assert_true(on.nor.now.counts.erases - total > 300); /* the flash was full more than once */
}

static void the_number_of_runs_stays_bounded(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        uint64_t chance = i;
        fixture_start(&on, geometries[i], 8);
        uint32_t most = ekv_format_run_count_max(geometries[i].sector_count);
        for (uint32_t n = 0; n < 2000; n++) {
            fixture_put(&on, fixture_key(fixture_below(&chance, 100)), 8, n);
            assert_true(fixture_stat(&on).runs <= most);
        }
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

static void idle_work_comes_to_an_end_and_changes_no_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        uint64_t chance = i;
        fixture_start(&on, geometries[i], 8);
        for (uint32_t round = 0; round < 20; round++) {
            for (uint32_t n = 0; n < 50; n++)
                fixture_put(&on, fixture_key(fixture_below(&chance, 80)), 30, n + 50 * round);
            fixture_work(&on);
            fixture_verify(&on);
            uint64_t erases = fixture_stat(&on).erases;
            fixture_work(&on);
            assert_int_equal(fixture_stat(&on).erases, erases);
        }
        fixture_stop(&on);
    }
}

/* --- Large values ---------------------------------------------------------------------------- */

static void values_in_chunks_survive_collections_around_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        uint64_t chance = 40 + i;
        fixture_start(&on, geometries[i], 8);
        size_t large = fixture_stat(&on).capacity_size / 4;
        fixture_put(&on, ekv_key("large", 5), large, 1);
        fixture_put(&on, ekv_key("", 0), large / 2, 2);
        for (uint32_t n = 0; n < 1500; n++) {
            fixture_put(&on, fixture_key(fixture_below(&chance, 20)), fixture_below(&chance, 80),
                        n);
            if (n % 100 == 0)
                fixture_check(&on);
            if (n % 500 == 250)
                fixture_put(&on, ekv_key("large", 5), large - n, n);
        }
        assert_true(fixture_stat(&on).collections > 3);
        fixture_verify(&on);
        fixture_remount(&on);
        fixture_delete(&on, ekv_key("large", 5));
        fixture_delete(&on, ekv_key("", 0));
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

static void chunks_of_keys_with_a_long_common_beginning_find_their_owner(void **state)
{
    uint64_t chance = 50;
    char names[6][600];
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 48, 1, false}, 8);
    for (uint32_t n = 0; n < 6; n++) {
        memset(names[n], 'x', sizeof names[n]);
        names[n][590] = (char)('a' + n);
        fixture_put(&on, ekv_key(names[n], 595), 5000, n);
    }
    for (uint32_t n = 0; n < 1500; n++) {
        fixture_put(&on, fixture_key(fixture_below(&chance, 20)), 60, n);
        if (n % 200 == 0)
            fixture_put(&on, ekv_key(names[n / 200 % 6], 595), 5000, n);
        if (n % 100 == 0)
            fixture_check(&on);
    }
    assert_true(fixture_stat(&on).collections > 5);
    fixture_remount(&on);
}

/* A value that only a snapshot sees is in the memtable too, and its pieces are not counted. */
static void pieces_of_long_keys_go_with_the_current_value_alone(void **state)
{
    enum { NAMES = 6 };
    char name[100];
    struct ekv_snapshot snapshot;
    uint64_t chance = 1;
    bool open = false;
    (void)state;
    fixture_start(&on, (struct ekv_geometry){512, 140, 1, false}, 40);
    memset(name, 'x', sizeof name);
    for (uint32_t n = 0; n < 6000; n++) {
        if (fixture_below(&chance, 10) == 0) {
            if (open)
                ekv_snapshot_close(&snapshot);
            else
                ekv_snapshot_open(&snapshot, on.db);
            open = !open;
        }
        if (fixture_below(&chance, 3) == 0) {
            name[90] = (char)('a' + fixture_below(&chance, NAMES));
            fixture_put(&on, ekv_key(name, sizeof name), 450 + fixture_below(&chance, 900), n);
        } else {
            fixture_put(&on, fixture_key(fixture_below(&chance, 30)), 60, n);
        }
        if (n % 50 == 0)
            fixture_check(&on);
    }
    if (open)
        ekv_snapshot_close(&snapshot);
    fixture_remount(&on);
}

/* --- Snapshots ------------------------------------------------------------------------------- */

static void expect_snapshot(struct ekv_snapshot *snapshot, struct model *model)
{
    struct model_why why;
    if (!model_equals_snapshot(model, snapshot, &why))
        fail_msg("snapshot: %s", why.text);
}

static void snapshots_keep_their_versions_through_everything(void **state)
{
    enum { SNAPSHOTS = 4 };
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        struct ekv_snapshot snapshots[SNAPSHOTS];
        struct model models[SNAPSHOTS];
        uint64_t chance = 60 + i;
        uint32_t open = 0;
        fixture_start(&on, geometries[i], 8);
        for (uint32_t n = 0; n < 1200; n++) {
            uint32_t key = fixture_below(&chance, 25);
            int error;
            fixture_fill(on.value, 20, n);
            if (fixture_below(&chance, 4) == 0) {
                error = ekv_delete(on.db, fixture_key(key));
                if (error == EKV_OK)
                    model_delete(&on.model, fixture_key(key));
                assert_true(error == EKV_OK || error == EKV_NOT_FOUND || error == EKV_PINNED);
            } else {
                error = ekv_put(on.db, fixture_key(key), on.value, 20);
                if (error == EKV_OK)
                    model_put(&on.model, fixture_key(key), on.value, 20);
                assert_true(error == EKV_OK || error == EKV_PINNED);
            }
            if (error == EKV_PINNED || (open == SNAPSHOTS && n % 50 == 0)) {
                assert_true(open > 0);
                while (open > 0) {
                    open--;
                    expect_snapshot(&snapshots[open], &models[open]);
                    ekv_snapshot_close(&snapshots[open]);
                    model_free(&models[open]);
                }
                fixture_check(&on);
            } else if (open < SNAPSHOTS && fixture_below(&chance, 25) == 0) {
                model_init(&models[open]);
                model_copy(&models[open], &on.model);
                ekv_snapshot_open(&snapshots[open++], on.db);
            }
            if (n % 40 == 0)
                for (uint32_t s = 0; s < open; s++)
                    expect_snapshot(&snapshots[s], &models[s]);
            if (n % 100 == 0)
                fixture_verify(&on);
        }
        while (open > 0) {
            open--;
            ekv_snapshot_close(&snapshots[open]);
            model_free(&models[open]);
        }
        fixture_remount(&on);
        fixture_stop(&on);
    }
}

static void sectors_that_only_a_snapshot_needs_wait_for_its_close(void **state)
{
    struct ekv_snapshot snapshot;
    struct model model;
    uint32_t n = 0;
    int error = EKV_OK;
    (void)state;
    fixture_start(&on, (struct ekv_geometry){1024, 40, 1, false}, 8);
    for (uint32_t key = 0; key < 20; key++)
        fixture_put(&on, fixture_key(key), 200, key);
    model_init(&model);
    model_copy(&model, &on.model);
    ekv_snapshot_open(&snapshot, on.db);
    /* Everything is overwritten until no space is left that the snapshot does not need. */
    for (; error == EKV_OK && n < 5000; n++) {
        fixture_fill(on.value, 200, n);
        error = ekv_put(on.db, fixture_key(n % 20), on.value, 200);
        if (!error)
            model_put(&on.model, fixture_key(n % 20), on.value, 200);
        if (fixture_stat(&on).sectors_pinned > 0 && n > 400)
            break;
    }
    assert_true(error == EKV_OK || error == EKV_PINNED);
    assert_true(fixture_stat(&on).sectors_pinned > 0);
    expect_snapshot(&snapshot, &model);
    fixture_verify(&on);
    ekv_snapshot_close(&snapshot);
    assert_int_equal(fixture_stat(&on).sectors_pinned, 0);
    model_free(&model);
    for (n = 0; n < 500; n++)
        fixture_put(&on, fixture_key(n % 20), 200, n + 10000);
    fixture_verify(&on);
}

static void a_snapshot_opened_after_a_collection_does_not_hold_what_came_before(void **state)
{
    (void)state;
    fixture_start(&on, (struct ekv_geometry){1024, 40, 1, false}, 8);
    for (uint32_t n = 0; n < 3000; n++) {
        struct ekv_snapshot snapshot;
        ekv_snapshot_open(&snapshot, on.db);
        fixture_put(&on, fixture_key(n % 30), 100, n);
        ekv_snapshot_close(&snapshot);
        if (n % 300 == 0)
            fixture_verify(&on);
    }
    assert_int_equal(fixture_stat(&on).sectors_pinned, 0);
}

/* --- Wear ------------------------------------------------------------------------------------ */

static void data_that_never_changes_does_not_keep_its_sectors_young(void **state)
{
    uint32_t least = UINT32_MAX, most = 0;
    (void)state;
    fixture_start(&on, (struct ekv_geometry){1024, 48, 1, false}, 16);
    uint64_t capacity = fixture_stat(&on).capacity_size;
    for (uint32_t n = 0; n < capacity / 2 / 230; n++)
        fixture_put(&on, fixture_key(10000 + n), 200, n);
    for (uint32_t n = 0; n < 60000; n++) {
        fixture_fill(on.value, 100, n);
        assert_ok(ekv_put(on.db, fixture_key(n % 8), on.value, 100));
        model_put(&on.model, fixture_key(n % 8), on.value, 100);
    }
    fixture_verify(&on);
    uint32_t ring = 0;
    while (ring < 48 && ring < fixture_stat(&on).sectors_manifest)
        ring++;
    for (uint32_t i = ring; i < 48; i++) {
        least = ekv_min(least, on.nor.erase_counts[i]);
        most = ekv_max(most, on.nor.erase_counts[i]);
    }
    /* A difference of 64 is let stand; more of it must not grow with time. */
    if (most - least > 160)
        fail_msg("sectors were erased %u to %u times", (unsigned)least, (unsigned)most);
    assert_true(most > 200);
}

/* --- A failing flash ------------------------------------------------------------------------- */

static void a_sector_that_cannot_be_erased_is_retired_and_the_store_goes_on(void **state)
{
    (void)state;
    fixture_start(&on, (struct ekv_geometry){1024, 64, 1, false}, 8);
    uint32_t ring = fixture_stat(&on).sectors_manifest;
    nor_fail(&on.nor, (struct nor_failure){
                          .operations = NOR_ERASE, .sector = ring + 7, .times = NOR_FOR_GOOD});
    nor_fail(&on.nor, (struct nor_failure){
                          .operations = NOR_ERASE, .sector = ring + 20, .times = NOR_FOR_GOOD});
    for (uint32_t n = 0; n < 3000; n++)
        fixture_put(&on, fixture_key(n % 40), 60, n);
    assert_int_equal(fixture_stat(&on).sectors_retired, 2);
    fixture_remount(&on);
    assert_int_equal(fixture_stat(&on).sectors_retired, 2);
}

/* On a few sectors, with the power lost all the time: without room for a flush the log begins anew
 * with all that the memtable holds, but for deletes that hide nothing, which go with their sector.
 * The store may be full, and is never left as one that cannot be written. */
static void a_log_that_begins_anew_without_room_loses_nothing(void **state)
{
    static const uint32_t keys[] = {6, 16, 20};
    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        uint64_t chance = 5;
        fixture_start(&on, (struct ekv_geometry){512, 16, 1, false}, 8);
        for (uint32_t step = 0; step < 4000; step++) {
            struct ekv_key key = fixture_key(fixture_below(&chance, keys[i]));
            size_t size = fixture_below(&chance, 10) ? fixture_below(&chance, 60) : 300;
            int error;
            fixture_fill(on.value, size, step);
            if (fixture_below(&chance, 2)) {
                error = ekv_delete(on.db, key);
                if (!error)
                    assert_true(model_delete(&on.model, key));
            } else {
                error = ekv_put(on.db, key, on.value, size);
                if (!error)
                    model_put(&on.model, key, on.value, size);
            }
            assert_true(error == EKV_OK || error == EKV_FULL || error == EKV_NOT_FOUND);
            fixture_verify(&on);
            if (fixture_below(&chance, 6) == 0)
                fixture_reload(&on);
        }
        fixture_stop(&on);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(overwrites_are_merged_and_collected_without_loss, teardown),
        cmocka_unit_test_teardown(sessions_of_one_put_each_erase_little_ahead, teardown),
        cmocka_unit_test_teardown(deleted_keys_and_their_tombstones_leave_nothing, teardown),
        cmocka_unit_test_teardown(a_large_value_is_overwritten_without_a_search_for_each_sector,
                                  teardown),
        cmocka_unit_test_teardown(large_values_beside_a_snapshot_take_what_nobody_needs, teardown),
        cmocka_unit_test_teardown(sectors_full_of_deletes_are_not_collected_in_vain, teardown),
        cmocka_unit_test_teardown(a_delete_that_was_merged_away_stays_a_delete, teardown),
        cmocka_unit_test_teardown(more_memory_does_not_make_merges_write_more, teardown),
        cmocka_unit_test_teardown(a_batch_waits_for_three_erases_at_most, teardown),
        cmocka_unit_test_teardown(the_number_of_runs_stays_bounded, teardown),
        cmocka_unit_test_teardown(idle_work_comes_to_an_end_and_changes_no_key, teardown),
        cmocka_unit_test_teardown(values_in_chunks_survive_collections_around_them, teardown),
        cmocka_unit_test_teardown(chunks_of_keys_with_a_long_common_beginning_find_their_owner,
                                  teardown),
        cmocka_unit_test_teardown(pieces_of_long_keys_go_with_the_current_value_alone, teardown),
        cmocka_unit_test_teardown(snapshots_keep_their_versions_through_everything, teardown),
        cmocka_unit_test_teardown(sectors_that_only_a_snapshot_needs_wait_for_its_close, teardown),
        cmocka_unit_test_teardown(
            a_snapshot_opened_after_a_collection_does_not_hold_what_came_before, teardown),
        cmocka_unit_test_teardown(data_that_never_changes_does_not_keep_its_sectors_young,
                                  teardown),
        cmocka_unit_test_teardown(a_sector_that_cannot_be_erased_is_retired_and_the_store_goes_on,
                                  teardown),
        cmocka_unit_test_teardown(a_log_that_begins_anew_without_room_loses_nothing, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
