/* A full store keeps what it holds and can be emptied again, whatever its geometry; with a memtable
 * of few keys in small sectors, too, where the index takes much of what deletes need. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

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
    {4096, 8, 1, true},     {4096, 32, 1, true},  {1024, 64, 4, true},   {512, 128, 32, true},
    {4096, 64, 256, true},  {2048, 24, 16, true}, {65536, 16, 1, true},  {512, 64, 1, true},
    {262144, 8, 256, true}, {512, 96, 8, true},   {1024, 100, 16, true}, {512, 256, 16, true},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

static void fill_and_empty(uint32_t memtable_count)
{
    for (size_t i = 0; i < GEOMETRIES; i++) {
        for (uint32_t size = 10; size <= 1000; size *= 10) {
            if (geometries[i].sector_size * geometries[i].sector_count > 300000)
                continue; /* takes long */
            int error = EKV_OK;
            uint32_t count = 0;
            fixture_start(&on, geometries[i], memtable_count);
            for (uint32_t tries = 0; tries < 100000; tries++) {
                fixture_fill(on.value, size, count);
                error = ekv_put(on.db, fixture_key(count), on.value, size);
                if (error)
                    break;
                model_put(&on.model, fixture_key(count++), on.value, size);
            }
            assert_result(error, EKV_FULL);
            assert_true(count > 0);
            struct ekv_stat stat = fixture_stat(&on);
            uint64_t refused = size + 11 + stat.record_overhead + geometries[i].write_unit;
            if ((stat.live_size + refused) * 10 < stat.capacity_size * 6)
                fail_msg("%u x %u, values of %u: full at %u of %u bytes",
                         (unsigned)geometries[i].sector_count, (unsigned)geometries[i].sector_size,
                         (unsigned)size, (unsigned)stat.live_size, (unsigned)stat.capacity_size);
            assert_result(ekv_put(on.db, fixture_key(count), on.value, size), EKV_FULL);
            fixture_verify(&on);
            fixture_remount(&on);
            while (count > 0)
                fixture_delete(&on, fixture_key(--count));
            fixture_verify(&on);
            assert_int_equal(fixture_stat(&on).live_size, 0);
            fixture_put(&on, fixture_key(1), size, 5);
            fixture_remount(&on);
            fixture_stop(&on);
        }
    }
}

static void a_full_store_keeps_everything_and_can_be_emptied(void **state)
{
    (void)state;
    fill_and_empty(8);
    fill_and_empty(16);
}

/* Each delete is the first write of a session, and the last: what one recovery takes is not given
 * back by anybody else. */
static void a_full_store_can_be_emptied_though_power_is_always_lost(void **state)
{
    static const struct ekv_geometry small[] = {
        {4096, 8, 1, false},  {1024, 8, 32, false}, {4096, 9, 1, false},  {1024, 10, 1, false},
        {4096, 10, 32, true}, {512, 12, 1, false},  {4096, 12, 1, false}, {512, 14, 1, false},
        {1024, 16, 1, false}, {512, 20, 32, false}, {4096, 20, 1, false}, {512, 32, 1, false},
    };
    static const uint32_t memtables[] = {8, 16, 0}, sizes[] = {0, 10, 100};
    (void)state;
    for (size_t i = 0; i < 9 * sizeof small / sizeof small[0]; i++) {
        uint32_t size = sizes[i % 3], count = 0;
        fixture_start(&on, small[i / 9], memtables[i / 3 % 3]);
        fixture_fill(on.value, size, i);
        while (ekv_put(on.db, fixture_key(count), on.value, size) == EKV_OK)
            model_put(&on.model, fixture_key(count++), on.value, size);
        assert_true(count > 0);
        for (uint32_t n = 0; n < count; n++) {
            assert_ok(ekv_mount(&on.db, &on.nor.flash, &on.options, on.memory, on.memory_size));
            fixture_delete(&on, fixture_key((n * 7919 + i) % count));
        }
        assert_int_equal(fixture_stat(&on).keys, 0);
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_full_store_keeps_everything_and_can_be_emptied, teardown),
        cmocka_unit_test_teardown(a_full_store_can_be_emptied_though_power_is_always_lost,
                                  teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
