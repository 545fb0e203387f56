/* The public API: what formats and mounts refuse, the limits of keys and values, a store that is
 * full, and what stat tells.
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
#include "state.h"

static struct fixture on;

static int teardown(void **state)
{
    (void)state;
    fixture_stop(&on);
    return 0;
}

static const struct ekv_geometry plain = {4096, 32, 1, false};

static const struct ekv_geometry geometries[] = {
    {4096, 8, 1, true},   {4096, 32, 1, true},   {1024, 64, 4, true},
    {512, 128, 32, true}, {4096, 64, 256, true}, {2048, 24, 16, true},
    {65536, 16, 1, true}, {512, 64, 1, true},    {262144, 8, 256, true},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

/* --- Format and mount ------------------------------------------------------------------------ */

static void memory_one_byte_too_small_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        struct ekv_format_options format = {.store_id = 1};
        struct ekv_mount_options options = {.memtable_count = 32};
        struct nor nor;
        struct ekv *db;
        assert_true(nor_init(&nor, &geometries[i], NOR_AGED, 1));
        size_t size = ekv_memory_size(&geometries[i], NULL);
        size_t mount_size = ekv_memory_size(&geometries[i], &options);
        uint64_t *memory = malloc(size > mount_size ? size : mount_size);
        assert_non_null(memory);
        assert_result(ekv_format(&nor.flash, &format, memory, size - 1), EKV_MEMORY);
        assert_result(ekv_format(&nor.flash, &format, NULL, size), EKV_MEMORY);
        assert_result(ekv_format(&nor.flash, &format, (char *)memory + 1, size), EKV_MEMORY);
        assert_int_equal(nor.now.counts.erases, 0);
        assert_ok(ekv_format(&nor.flash, &format, memory, size));
        assert_result(ekv_mount(&db, &nor.flash, &options, memory, mount_size - 1), EKV_MEMORY);
        assert_ok(ekv_mount(&db, &nor.flash, &options, memory, mount_size));
        assert_ok(ekv_unmount(db));
        assert_ok(ekv_mount(&db, &nor.flash, NULL, memory, size));
        free(memory);
        nor_free(&nor);
    }
}

static void memory_grows_with_the_memtable_alone(void **state)
{
    (void)state;
    struct ekv_mount_options options = {.memtable_count = 64};
    size_t small = ekv_memory_size(&plain, &options);
    options.memtable_count = 128;
    assert_int_equal(ekv_memory_size(&plain, &options) - small, 64 * 8);
    struct ekv_geometry bad = {4096, 7, 1, false};
    assert_int_equal(ekv_memory_size(&bad, NULL), 0);
    bad = (struct ekv_geometry){1000, 16, 1, false};
    assert_int_equal(ekv_memory_size(&bad, NULL), 0);
    /* The documented figures: 2 KiB is a microcontroller's, and sectors cost a byte and a half. */
    struct ekv_geometry large = {4096, 4096, 1, false}, medium = {4096, 2048, 1, false};
    size_t difference = ekv_memory_size(&large, NULL) - ekv_memory_size(&medium, NULL);
    assert_in_range(difference, 2048 * 3 / 2, 2048 * 3 / 2 + 4096);
}

static void a_mount_finds_what_cannot_be_mounted(void **state)
{
    struct ekv_format_options format = {.store_id = 1};
    struct nor nor;
    struct ekv *db = NULL;
    static uint64_t memory[8192];
    (void)state;
    assert_true(nor_init(&nor, &plain, NOR_FRESH, 1));
    assert_result(ekv_mount(&db, &nor.flash, NULL, memory, sizeof memory), EKV_NO_STORE);
    assert_ok(ekv_format(&nor.flash, &format, memory, sizeof memory));
    struct ekv_flash flash = nor.flash;
    flash.geometry.sector_count = 16;
    assert_result(ekv_mount(&db, &flash, NULL, memory, sizeof memory), EKV_GEOMETRY);
    flash.geometry = (struct ekv_geometry){2048, 64, 1, false};
    assert_result(ekv_mount(&db, &flash, NULL, memory, sizeof memory), EKV_GEOMETRY);
    flash.geometry = (struct ekv_geometry){4096, 32, 2, false};
    assert_result(ekv_mount(&db, &flash, NULL, memory, sizeof memory), EKV_GEOMETRY);
    flash.geometry = (struct ekv_geometry){4096, 32, 3, false};
    assert_result(ekv_mount(&db, &flash, NULL, memory, sizeof memory), EKV_GEOMETRY);
    uint64_t operations = nor.now.operations;
    assert_ok(ekv_mount(&db, &nor.flash, NULL, memory, sizeof memory));
    assert_int_equal(nor.now.operations, operations); /* a mount writes nothing */
    nor_fail(&nor, (struct nor_failure){
                       .operations = NOR_READ, .sector = NOR_ANY_SECTOR, .times = NOR_FOR_GOOD});
    assert_result(ekv_mount(&db, &nor.flash, NULL, memory, sizeof memory), EKV_IO);
    nor_free(&nor);
}

static void a_probe_finds_the_geometry_of_a_store(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        struct ekv_geometry whole = {512, 0, 1, false};
        fixture_start(&on, geometries[i], 0);
        whole.sector_count = geometries[i].sector_size / 512 * geometries[i].sector_count;
        struct ekv_flash flash = on.nor.flash;
        flash.geometry = whole;
        assert_ok(ekv_probe(&flash));
        assert_int_equal(flash.geometry.sector_size, geometries[i].sector_size);
        assert_int_equal(flash.geometry.sector_count, geometries[i].sector_count);
        assert_int_equal(flash.geometry.write_unit, geometries[i].write_unit);
        assert_int_equal(flash.geometry.program_once, geometries[i].program_once);
        flash.geometry = whole;
        flash.geometry.sector_count -= 1;
        assert_result(ekv_probe(&flash), EKV_GEOMETRY);
        memset(on.nor.bytes, 0xff, ekv_flash_size(&on.nor.flash));
        flash.geometry = whole;
        assert_result(ekv_probe(&flash), EKV_NO_STORE);
        fixture_stop(&on);
    }
}

static void a_format_makes_an_empty_store_of_any_flash(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        for (int fresh = 0; fresh < 2; fresh++) {
            struct ekv_mount_options options = {0};
            fixture_start_options(&on, geometries[i], &options, fresh ? NOR_FRESH : NOR_AGED);
            fixture_verify(&on);
            for (uint32_t n = 0; n < 12; n++)
                fixture_put(&on, fixture_key(n), 20, n);
            fixture_remount(&on);
            /* Over a store that is there. */
            struct ekv_format_options format = {.store_id = 5};
            assert_ok(ekv_format(&on.nor.flash, &format, on.memory, on.memory_size));
            model_free(&on.model);
            model_init(&on.model);
            fixture_reload(&on);
            fixture_put(&on, fixture_key(1), 20, 1);
            fixture_remount(&on);
            assert_int_equal(fixture_stat(&on).store_id, 5);
            fixture_stop(&on);
        }
    }
}

static void a_label_of_31_bytes_is_kept_and_of_32_refused(void **state)
{
    struct ekv_format_options format = {.store_id = 2, .retain_count = 4};
    (void)state;
    fixture_start(&on, plain, 0);
    assert_string_equal(fixture_stat(&on).label, "fixture");
    format.label = "thirty-two bytes are one too many";
    assert_true(strlen(format.label) > 31);
    assert_result(ekv_format(&on.nor.flash, &format, on.memory, on.memory_size), EKV_INVALID);
    fixture_reload(&on);
    assert_string_equal(fixture_stat(&on).label, "fixture"); /* the old store is still there */
    format.label = "0123456789012345678901234567890";
    assert_ok(ekv_format(&on.nor.flash, &format, on.memory, on.memory_size));
    fixture_reload(&on);
    assert_string_equal(fixture_stat(&on).label, format.label);
    fixture_put(&on, fixture_key(1), 3, 1);
    fixture_remount(&on);
    assert_string_equal(fixture_stat(&on).label, format.label);
}

static void read_only_means_that_nothing_is_written(void **state)
{
    struct ekv_txn txn;
    uint32_t table[16];
    bool more;
    (void)state;
    fixture_start(&on, plain, 16);
    for (uint32_t n = 0; n < 40; n++)
        fixture_put(&on, fixture_key(n), 30, n);
    on.options.read_only = true;
    for (int clean = 0; clean < 2; clean++) {
        if (clean) {
            on.options.read_only = false;
            fixture_reload(&on);
            fixture_put(&on, fixture_key(1), 30, 77);
            on.options.read_only = true;
            fixture_remount(&on);
        } else {
            fixture_reload(&on); /* as after a loss of power */
        }
        uint64_t operations = on.nor.now.operations;
        assert_true(fixture_stat(&on).read_only);
        assert_result(ekv_put(on.db, fixture_key(1), "x", 1), EKV_READ_ONLY);
        assert_result(ekv_delete(on.db, fixture_key(1)), EKV_READ_ONLY);
        assert_ok(ekv_txn_begin(&txn, on.db, table, sizeof table));
        assert_result(ekv_txn_put(&txn, fixture_key(1), "x", 1), EKV_READ_ONLY);
        ekv_txn_abort(&txn);
        assert_ok(ekv_work(on.db, &more));
        assert_false(more);
        fixture_verify(&on);
        assert_ok(ekv_sync(on.db));
        assert_ok(ekv_unmount(on.db));
        assert_int_equal(on.nor.now.operations, operations);
        fixture_reload(&on);
    }
}

static void open_handles_keep_the_store_mounted(void **state)
{
    struct ekv_snapshot snapshot;
    struct ekv_cursor cursor;
    struct ekv_txn txn;
    (void)state;
    fixture_start(&on, plain, 0);
    ekv_snapshot_open(&snapshot, on.db);
    assert_result(ekv_unmount(on.db), EKV_BUSY);
    ekv_cursor_open(&cursor, on.db, EKV_USER);
    ekv_snapshot_close(&snapshot);
    assert_result(ekv_unmount(on.db), EKV_BUSY);
    ekv_cursor_close(&cursor);
    assert_ok(ekv_txn_begin(&txn, on.db, NULL, 0));
    assert_result(ekv_unmount(on.db), EKV_BUSY);
    fixture_put(&on, fixture_key(1), 4, 1); /* it is still mounted */
    ekv_txn_abort(&txn);
    fixture_remount(&on);
}

static void a_mount_after_a_clean_unmount_has_nothing_to_recover(void **state)
{
    (void)state;
    for (int once = 0; once < 2; once++) {
        struct ekv_geometry geometry = plain;
        geometry.program_once = once;
        fixture_start(&on, geometry, 0);
        fixture_put(&on, fixture_key(1), 4, 1);
        fixture_remount(&on);
        assert_int_equal(fixture_stat(&on).recovered, once); /* such a part cannot go on */
        fixture_put(&on, fixture_key(2), 4, 2);
        fixture_reload(&on);
        assert_true(fixture_stat(&on).recovered);
        fixture_stop(&on);
    }
}

/* --- Keys and values ------------------------------------------------------------------------- */

static void keys_up_to_the_limit_work_and_beyond_are_refused(void **state)
{
    static uint8_t bytes[70000];
    uint32_t tested = 0;
    (void)state;
    memset(bytes, 'k', sizeof bytes);
    for (size_t i = 0; i < GEOMETRIES; i++) {
        fixture_start(&on, geometries[i], 8);
        uint32_t most = fixture_stat(&on).key_size_max;
        assert_true(most >= geometries[i].sector_size / 2 || most == 65535);
        bool fits = fixture_stat(&on).capacity_size > 4 * most;
        assert_result(ekv_put(on.db, ekv_key(bytes, most + 1), "x", 1), EKV_TOO_LARGE);
        assert_result(ekv_put(on.db, ekv_key(bytes, UINT32_MAX), "x", 1), EKV_TOO_LARGE);
        if (!fits) { /* a store too small for such a record at all */
            fixture_stop(&on);
            continue;
        }
        tested++;
        fixture_put(&on, ekv_key(bytes, most), 0, 1);
        fixture_put(&on, ekv_key(bytes, most), 10, 2);
        fixture_put(&on, ekv_key(bytes, most / 2), 300, 3);
        fixture_put(&on, ekv_key("", 0), 10, 4);
        fixture_verify(&on);
        fixture_remount(&on);
        fixture_delete(&on, ekv_key(bytes, most));
        fixture_remount(&on);
        fixture_stop(&on);
    }
    assert_true(tested >= 6);
}

static void values_of_every_size_come_back_in_any_range(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        uint64_t chance = i;
        fixture_start(&on, geometries[i], 0);
        uint64_t capacity = fixture_stat(&on).capacity_size;
        uint32_t most = (uint32_t)(capacity < 100000 ? capacity / 5 : 20000);
        for (uint32_t size = 0; size < most; size = size < 20 ? size + 1 : size * 5 / 4) {
            uint8_t *expected = malloc(size + 1), *got = malloc(size + 20);
            struct ekv_entry entry;
            assert_non_null(expected);
            assert_non_null(got);
            fixture_put(&on, ekv_key("value", 5), size, size);
            fixture_fill(expected, size, size);
            assert_ok(ekv_find(on.db, ekv_key("value", 5), &entry));
            assert_int_equal(entry.size, size);
            for (uint32_t n = 0; n < 20; n++) {
                size_t copied = 77;
                uint32_t offset = fixture_below(&chance, size + 10);
                uint32_t want = fixture_below(&chance, size + 10);
                uint32_t there = offset < size ? ekv_min(want, size - offset) : 0;
                memset(got, 0xcd, size + 20);
                assert_ok(
                    ekv_get(on.db, ekv_key("value", 5), offset, got, want, n ? &copied : NULL));
                if (n)
                    assert_int_equal(copied, there);
                if (there)
                    assert_memory_equal(got, expected + offset, there);
                assert_int_equal(got[there], 0xcd); /* nothing behind it was touched */
            }
            size_t copied = 77;
            assert_ok(ekv_get(on.db, ekv_key("value", 5), UINT64_C(1) << 40, got, 10, &copied));
            assert_int_equal(copied, 0);
            free(expected);
            free(got);
        }
        fixture_remount(&on);
        fixture_stop(&on);
    }
}

/* Under the longest key a head has room for few links, so that the tree is the highest there is. */
static void a_value_of_half_of_a_large_flash_fits_under_the_longest_key(void **state)
{
    enum { SIZE = 8 << 20, SECTOR = 512 };
    static uint8_t bytes[SECTOR];
    (void)state;
    fixture_start(&on, (struct ekv_geometry){SECTOR, 2 * SIZE / SECTOR, 1, true}, 64);
    struct ekv_key key = ekv_key(bytes, fixture_stat(&on).key_size_max);
    memset(bytes, 'k', sizeof bytes);
    uint8_t *value = malloc(SIZE), *got = malloc(SIZE);
    size_t size;
    assert_true(value && got);
    fixture_fill(value, SIZE, 1);
    assert_ok(ekv_put(on.db, key, value, SIZE));
    assert_ok(ekv_get(on.db, key, 0, got, SIZE, &size));
    assert_int_equal(size, SIZE);
    assert_memory_equal(got, value, SIZE);
    assert_ok(ekv_delete(on.db, key));
    fixture_verify(&on);
    free(value);
    free(got);
}

/* Flips a bit of a value on flash, in one of its chunks. */
static void damage(size_t size, uint64_t seed)
{
    enum { PART = 16 };
    uint8_t *value = malloc(size);
    size_t flash_size = ekv_flash_size(&on.nor.flash), place = 0;
    assert_non_null(value);
    fixture_fill(value, size, seed);
    while (place + PART <= flash_size && memcmp(on.nor.bytes + place, value + size / 3, PART) != 0)
        place++;
    assert_in_range(place, 1, flash_size - PART);
    on.nor.bytes[place + PART / 2] ^= 4;
    free(value);
}

/* What it takes is known from what links its chunks, so it can be counted out without them. */
static void a_large_value_that_is_damaged_can_be_overwritten_and_deleted(void **state)
{
    enum { SIZE = 9000 };
    size_t size;
    uint8_t bytes[SIZE];
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 64, 1, true}, 64);
    for (uint32_t n = 0; n < 3; n++) {
        fixture_put(&on, fixture_key(n), SIZE, n);
        damage(SIZE, n);
        assert_result(ekv_get(on.db, fixture_key(n), 0, bytes, SIZE, &size), EKV_CORRUPT);
        if (n == 0)
            fixture_put(&on, fixture_key(n), SIZE, 7);
        else if (n == 1)
            fixture_put(&on, fixture_key(n), 10, 8);
        else
            fixture_delete(&on, fixture_key(n));
    }
    fixture_verify(&on);
    fixture_remount(&on);
}

/* Each chunk is read to be checked and read again to be copied. */
static void a_large_value_is_read_without_its_lists_for_each_chunk(void **state)
{
    enum { SIZE = 100000 };
    static uint8_t value[SIZE], expected[SIZE];
    size_t size;
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 64, 1, false}, 64);
    fixture_put(&on, ekv_key("value", 5), SIZE, 1);
    fixture_fill(expected, SIZE, 1);
    nor_count_reset(&on.nor);
    assert_ok(ekv_get(on.db, ekv_key("value", 5), 0, value, SIZE, &size));
    assert_int_equal(size, SIZE);
    assert_memory_equal(value, expected, SIZE);
    assert_in_range(on.nor.now.counts.read_size, 2 * SIZE, 2 * SIZE + SIZE / 4);
}

static void an_empty_store_takes_a_value_of_most_of_its_capacity(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        fixture_start(&on, geometries[i], 0);
        uint64_t capacity = fixture_stat(&on).capacity_size;
        fixture_fill(on.value, (size_t)capacity, i);
        size_t size = (size_t)(capacity / 2);
        int error = ekv_put(on.db, ekv_key("v", 1), on.value, size);
        if (error)
            fail_msg("%u sectors of %u, unit %u, capacity %u: a value of %u is refused: %s",
                     (unsigned)geometries[i].sector_count, (unsigned)geometries[i].sector_size,
                     (unsigned)geometries[i].write_unit, (unsigned)capacity, (unsigned)size,
                     model_result_name(error));
        model_put(&on.model, ekv_key("v", 1), on.value, size);
        fixture_remount(&on);
        assert_result(ekv_put(on.db, ekv_key("w", 1), on.value, (size_t)capacity), EKV_FULL);
        assert_result(
            ekv_put(on.db, ekv_key("w", 1), on.value, (size_t)ekv_flash_size(&on.nor.flash)),
            EKV_FULL);
        fixture_verify(&on);
        fixture_delete(&on, ekv_key("v", 1));
        fixture_remount(&on);
        fixture_stop(&on);
    }
}

static void a_key_that_is_not_there_is_not_found(void **state)
{
    struct ekv_entry entry;
    uint8_t byte;
    size_t size = 5;
    (void)state;
    fixture_start(&on, plain, 8);
    for (uint32_t n = 0; n < 60; n++)
        fixture_put(&on, fixture_key(2 * n), 3, n);
    for (uint32_t n = 0; n < 60; n++) {
        size = 5;
        assert_result(ekv_get(on.db, fixture_key(2 * n + 1), 0, &byte, 1, &size), EKV_NOT_FOUND);
        assert_int_equal(size, 0);
        assert_result(ekv_find(on.db, fixture_key(2 * n + 1), &entry), EKV_NOT_FOUND);
        struct ekv_key aside = fixture_key(2 * n);
        aside.space = EKV_ASIDE;
        assert_result(ekv_find(on.db, aside, &entry), EKV_NOT_FOUND);
    }
    uint64_t programmed = fixture_stat(&on).programmed_size;
    assert_result(ekv_delete(on.db, fixture_key(1)), EKV_NOT_FOUND);
    assert_int_equal(fixture_stat(&on).programmed_size, programmed);
}

static int64_t clock_now;

static int64_t tell(void *context)
{
    assert_ptr_equal(context, &clock_now);
    return clock_now;
}

static void commits_carry_the_time_and_ascending_versions(void **state)
{
    struct ekv_mount_options options = {
        .memtable_count = 8, .now = tell, .now_context = &clock_now};
    struct ekv_entry before = {0}, entry;
    struct ekv_txn txn;
    uint32_t table[16];
    (void)state;
    fixture_start_options(&on, plain, &options, NOR_AGED);
    for (uint32_t n = 0; n < 200; n++) {
        clock_now = 1700000000000000 + (int64_t)n * 1000003;
        fixture_put(&on, fixture_key(n % 20), 30, n);
        assert_ok(ekv_find(on.db, fixture_key(n % 20), &entry));
        assert_int_equal(entry.time, clock_now);
        assert_true(entry.version > before.version);
        assert_true(entry.version <= fixture_stat(&on).version);
        before = entry;
    }
    clock_now = 5;
    fixture_remount(&on);
    assert_ok(ekv_find(on.db, fixture_key(199 % 20), &entry));
    assert_int_equal(entry.time, before.time);
    assert_int_equal(entry.version, before.version);
    assert_ok(ekv_txn_begin(&txn, on.db, table, sizeof table));
    assert_ok(ekv_txn_put(&txn, fixture_key(3), "x", 1));
    assert_ok(ekv_txn_commit(&txn));
    assert_ok(ekv_find(on.db, fixture_key(3), &entry));
    assert_int_equal(entry.time, 5);
    assert_true(entry.version > before.version);
}

/* --- Full ------------------------------------------------------------------------------------ */

static void a_full_store_survives_losses_of_power_while_it_is_emptied(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        if (geometries[i].sector_size * geometries[i].sector_count > 300000)
            continue;
        int error = EKV_OK;
        uint32_t count = 0;
        fixture_start(&on, geometries[i], 16);
        while (error == EKV_OK) {
            fixture_fill(on.value, 100, count);
            error = ekv_put(on.db, fixture_key(count), on.value, 100);
            if (error == EKV_OK)
                model_put(&on.model, fixture_key(count++), on.value, 100);
        }
        assert_result(error, EKV_FULL);
        while (count > 0) {
            if (count % 4 == 0)
                fixture_reload(&on);
            fixture_delete(&on, fixture_key(--count));
        }
        fixture_reload(&on);
        fixture_put(&on, fixture_key(1), 100, 5);
        fixture_remount(&on);
        fixture_stop(&on);
    }
}

/* --- Figures --------------------------------------------------------------------------------- */

static void stat_counts_what_is_there(void **state)
{
    struct ekv_key aside = {"aside", 5, EKV_ASIDE, 0};
    (void)state;
    fixture_start(&on, plain, 16);
    struct ekv_stat empty = fixture_stat(&on);
    assert_int_equal(empty.store_id, 0x1122334455667788);
    assert_int_equal(empty.geometry.sector_count, 32);
    assert_int_equal(empty.memtable_capacity, 16);
    for (uint32_t n = 0; n < 10; n++)
        fixture_put(&on, fixture_key(n), 100, n);
    fixture_put(&on, aside, 100, 1);
    struct ekv_stat stat = fixture_stat(&on);
    assert_int_equal(stat.keys, 10);
    assert_in_range(stat.live_size, 11 * 100, 11 * 100 + 11 * (11 + stat.record_overhead));
    assert_int_equal(stat.memtable_count, 11);
    assert_int_equal(stat.sectors_log + stat.sectors_index + stat.sectors_manifest +
                         stat.sectors_free + stat.sectors_ready + stat.sectors_pinned +
                         stat.sectors_retired,
                     32);
    assert_true(stat.programs > empty.programs);
    assert_false(stat.read_only);
    for (uint32_t n = 0; n < 10; n++)
        fixture_delete(&on, fixture_key(n));
    assert_int_equal(fixture_stat(&on).keys, 0);
}

static void a_small_put_is_one_program_and_at_most_one_erase(void **state)
{
    uint64_t chance = 3;
    uint32_t alone = 0;
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 64, 1, false}, 64);
    for (uint32_t n = 0; n < 3000; n++) {
        nor_count_reset(&on.nor);
        fixture_put(&on, fixture_key(fixture_below(&chance, 200)), 30, n);
        alone += on.nor.now.counts.programs == 1 && on.nor.now.counts.erases == 0;
        if (on.nor.now.counts.erases > 1)
            fail_msg("put %u took %u erases", (unsigned)n, (unsigned)on.nor.now.counts.erases);
    }
    assert_true(alone > 2000);
    fixture_verify(&on);
}

/* The last page that was programmed may be torn, and the size of a record that begins before it lie
 * in it: what reads well behind that was in flight, too. */
static void a_torn_page_may_begin_in_the_head_of_a_record(void **state)
{
    uint32_t table[64 * EKV_TXN_ENTRY_SIZE / sizeof(uint32_t)];
    (void)state;
    for (uint32_t size = 0; size < 30; size++) {
        struct ekv_txn txn;
        fixture_start(&on, plain, 64);
        fixture_put(&on, fixture_key(1), size, 1);
        assert_ok(ekv_txn_begin(&txn, on.db, table, sizeof table));
        for (uint32_t i = 0; i < 60; i++)
            assert_ok(ekv_txn_put(&txn, fixture_key(10 + i), "value", 5));
        uint32_t page = ekv_address(ekv_format_of(on.db), on.db->log.sector, on.db->log.flushed);
        assert_int_equal(page % EKV_PAGE_SIZE, 0);
        assert_true(on.db->log.flushed > EKV_PAGE_SIZE);
        on.nor.bytes[page - EKV_PAGE_SIZE] = 0xff; /* no size of anything */
        fixture_reload(&on);
        assert_false(fixture_stat(&on).read_only);
        fixture_put(&on, fixture_key(2), 5, 2);
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

/* Reads that it takes to put keys, counted up or down. */
static uint64_t reads_of_puts(bool ascending)
{
    enum { COUNT = 200 };
    fixture_start(&on, (struct ekv_geometry){4096, 64, 1, false}, 256);
    nor_count_reset(&on.nor);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_ok(ekv_put(on.db, fixture_key(ascending ? i : COUNT - i), "value", 5));
    uint64_t reads = on.nor.now.counts.reads;
    fixture_stop(&on);
    return reads;
}

static void keys_in_order_are_put_behind_the_last_without_a_search(void **state)
{
    (void)state;
    assert_true(reads_of_puts(true) + 200 * 4 < reads_of_puts(false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_in_order_are_put_behind_the_last_without_a_search),
        cmocka_unit_test_teardown(memory_one_byte_too_small_is_refused, teardown),
        cmocka_unit_test_teardown(memory_grows_with_the_memtable_alone, teardown),
        cmocka_unit_test_teardown(a_mount_finds_what_cannot_be_mounted, teardown),
        cmocka_unit_test_teardown(a_probe_finds_the_geometry_of_a_store, teardown),
        cmocka_unit_test_teardown(a_format_makes_an_empty_store_of_any_flash, teardown),
        cmocka_unit_test_teardown(a_label_of_31_bytes_is_kept_and_of_32_refused, teardown),
        cmocka_unit_test_teardown(read_only_means_that_nothing_is_written, teardown),
        cmocka_unit_test_teardown(open_handles_keep_the_store_mounted, teardown),
        cmocka_unit_test_teardown(a_mount_after_a_clean_unmount_has_nothing_to_recover, teardown),
        cmocka_unit_test_teardown(keys_up_to_the_limit_work_and_beyond_are_refused, teardown),
        cmocka_unit_test_teardown(values_of_every_size_come_back_in_any_range, teardown),
        cmocka_unit_test_teardown(a_value_of_half_of_a_large_flash_fits_under_the_longest_key,
                                  teardown),
        cmocka_unit_test_teardown(a_large_value_that_is_damaged_can_be_overwritten_and_deleted,
                                  teardown),
        cmocka_unit_test_teardown(a_large_value_is_read_without_its_lists_for_each_chunk, teardown),
        cmocka_unit_test_teardown(an_empty_store_takes_a_value_of_most_of_its_capacity, teardown),
        cmocka_unit_test_teardown(a_key_that_is_not_there_is_not_found, teardown),
        cmocka_unit_test_teardown(commits_carry_the_time_and_ascending_versions, teardown),
        cmocka_unit_test_teardown(a_full_store_survives_losses_of_power_while_it_is_emptied,
                                  teardown),
        cmocka_unit_test_teardown(stat_counts_what_is_there, teardown),
        cmocka_unit_test_teardown(a_small_put_is_one_program_and_at_most_one_erase, teardown),
        cmocka_unit_test_teardown(a_torn_page_may_begin_in_the_head_of_a_record, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
