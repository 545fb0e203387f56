/* A quick part of the search through power cuts; all of it is `powercut` (see its --help). Each
 * workload runs on another geometry, with every 5th cut, and every 7th of the cuts that follow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "cuts.h"
#include "fixture.h"
#include "state.h"

static void on_violation(const char *line)
{
    print_error("%s\n", line);
}

static struct cuts_options quick(unsigned workload)
{
    struct cuts_options options = {
        .steps = 120, .depth = 1, .follow = 2, .stride = 5, .again_stride = 7};
    options.violations_max = 5;
    options.report = on_violation;
    options.world.workload = workload;
    options.world.seed = 100 + workload;
    options.world.memtable_count = 8;
    options.world.start = NOR_AGED;
    return options;
}

static void run(const struct cuts_options *options)
{
    struct cuts_result result = {0};
    cuts_run(options, &result);
    assert_int_equal(result.violations, 0);
    assert_true(result.tried > result.operations); /* else the strides left nothing out of all */
}

static void every_workload_survives_a_cut_anywhere(void **state)
{
    (void)state;
    for (unsigned workload = 0; workload < workload_count; workload++) {
        struct cuts_options options = quick(workload);
        options.world.geometry = workload_geometries[workload % workload_geometry_count];
        if (options.world.geometry.sector_count > 32)
            options.again_stride = 40; /* ten times the work */
        run(&options);
    }
}

static void a_mapped_flash_survives_a_cut_anywhere(void **state)
{
    (void)state;
    struct cuts_options options = quick(workload_count - 1);
    options.world.geometry = workload_geometries[1];
    options.world.map = true;
    options.world.clock = true;
    run(&options);
}

static void a_blank_chip_survives_a_cut_anywhere(void **state)
{
    (void)state;
    struct cuts_options options = quick(workload_count - 1);
    options.world.geometry = workload_geometries[0];
    options.world.start = NOR_FRESH;
    run(&options);
}

static void two_cuts_in_a_row_of_recoveries_are_survived(void **state)
{
    (void)state;
    struct cuts_options options = quick(0);
    options.world.geometry = workload_geometries[0];
    options.steps = 40;
    options.depth = 2;
    options.stride = 13;
    run(&options);
}

static void a_cut_format_leaves_the_old_store_none_or_an_empty_one(void **state)
{
    (void)state;
    for (unsigned geometry = 0; geometry < workload_geometry_count; geometry++) {
        struct cuts_options options = quick(0);
        struct cuts_result result = {0};
        options.world.geometry = workload_geometries[geometry];
        cuts_run_format(&options, &result);
        assert_int_equal(result.violations, 0);
        assert_true(result.tried > 0);
    }
}

/* The last byte of a checksum alone in a page, and 0xff: such a page looks as if it were blank. */
static void a_record_whose_last_page_looks_blank_is_there(void **state)
{
    static struct fixture on;
    uint32_t met = 0;
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 16, 1, false}, 64);
    for (uint32_t i = 0; i < 8000; i++) {
        fixture_put(&on, fixture_key(i % 5), 10, i);
        uint32_t beside = 1 + 1 + 1 + 11 + 4, room = 256 - on.db->log.offset % 256;
        if (room + 1 < beside || room + 1 - beside > 127)
            continue;
        fixture_put(&on, fixture_key(9), room + 1 - beside, i);
        if (on.db->log.offset % 256 != 1)
            continue; /* it went to the next sector */
        uint32_t last = on.db->log.sector * 4096 + on.db->log.offset - 1;
        met += on.nor.bytes[last] == 0xff;
        if (on.nor.bytes[last] == 0xff)
            fixture_reload(&on);
    }
    assert_true(met > 0);
    fixture_stop(&on);
}

/* The close record read well when the open record behind it was programmed, which was cut, too:
 * then it may read badly again, and lies before the page that was in flight. */
static void a_close_record_that_comes_and_goes_costs_nothing(void **state)
{
    static struct fixture on;
    uint32_t met = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct ekv_geometry geometry = {4096, 16, 256, false};
        fixture_start(&on, geometry, 16);
        nor_seed(&on.nor, seed);
        fixture_put(&on, fixture_key(1), 20, seed);
        fixture_put(&on, fixture_key(2), 20, seed);
        nor_cut_at(&on.nor, 1, NOR_CUT_UNSTABLE);
        assert_result(ekv_unmount(on.db), EKV_IO);
        nor_power_on(&on.nor);
        fixture_reload(&on);
        if (on.db->closed) {
            nor_cut_at(&on.nor, 1, NOR_CUT_GARBLED);
            assert_result(ekv_put(on.db, fixture_key(3), "", 0), EKV_IO);
            nor_power_on(&on.nor);
            fixture_reload(&on);
            met++;
        }
        fixture_put(&on, fixture_key(4), 20, seed);
        fixture_remount(&on);
        fixture_stop(&on);
    }
    assert_true(met > 20);
}

static void a_transaction_of_many_keys_is_all_or_nothing(void **state)
{
    (void)state;
    struct cuts_options options = quick(0);
    struct cuts_result result = {0};
    options.world.geometry = (struct ekv_geometry){4096, 256, 1, false};
    options.world.memtable_count = 64;
    options.stride = 997; /* of some 7,600 cuts, each of 10,000 keys */
    cuts_run_transaction(&options, 10000, &result);
    assert_int_equal(result.violations, 0);
    assert_true(result.tried >= 5);
    options.world.geometry = (struct ekv_geometry){4096, 24, 1, false};
    options.world.memtable_count = 16;
    options.stride = 11;
    cuts_run_transaction(&options, 200, &result);
    assert_int_equal(result.violations, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_workload_survives_a_cut_anywhere),
        cmocka_unit_test(a_mapped_flash_survives_a_cut_anywhere),
        cmocka_unit_test(a_blank_chip_survives_a_cut_anywhere),
        cmocka_unit_test(two_cuts_in_a_row_of_recoveries_are_survived),
        cmocka_unit_test(a_record_whose_last_page_looks_blank_is_there),
        cmocka_unit_test(a_close_record_that_comes_and_goes_costs_nothing),
        cmocka_unit_test(a_transaction_of_many_keys_is_all_or_nothing),
        cmocka_unit_test(a_cut_format_leaves_the_old_store_none_or_an_empty_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
