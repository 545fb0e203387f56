/* The log: what is appended can be read at once and after the flush, lies whole in one sector, and
 * is found again by walking the chain.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

enum { RECORDS_MAX = 2000 };

static struct layers on;

/* What was appended, to compare with. */
static struct {
    uint32_t address, sequence, size;
    uint64_t seed;
} written[RECORDS_MAX];
static uint32_t written_count;

static int teardown(void **state)
{
    (void)state;
    layers_stop(&on);
    written_count = 0;
    return 0;
}

static const struct ekv_geometry plain = {1024, 64, 1, false};

static void start(struct ekv_geometry geometry)
{
    layers_start(&on, geometry, NOR_AGED);
    written_count = 0;
    assert_ok(ekv_log_start(&on.log, 1, 0));
}

static uint32_t append(uint32_t size, uint64_t seed)
{
    uint8_t value[4096];
    fixture_fill(value, size, seed);
    uint32_t address = layers_append(&on, EKV_RECORD_PUT | EKV_RECORD_COMMITS,
                                     fixture_key((uint32_t)seed), value, size);
    if (written_count < RECORDS_MAX) {
        written[written_count].address = address;
        written[written_count].sequence = on.log.sequence;
        written[written_count].size = size;
        written[written_count++].seed = seed;
    }
    return address;
}

/* Record number `i` is read and verified. */
static void expect_record(uint32_t i)
{
    uint8_t expected[4096], value[4096];
    struct ekv_record record;
    uint32_t sequence;
    int order = 1;
    assert_ok(ekv_record_read(&on.log, written[i].address, &record));
    assert_int_equal(ekv_record_kind(&record), EKV_RECORD_PUT);
    assert_int_equal(record.layout.value_size, written[i].size);
    assert_ok(ekv_log_sequence(&on.log, written[i].address, &sequence));
    assert_int_equal(sequence, written[i].sequence);
    assert_ok(ekv_record_verify(&on.log, &record, sequence));
    assert_ok(ekv_record_compare(&on.log, &record, fixture_key((uint32_t)written[i].seed), &order));
    assert_int_equal(order, 0);
    fixture_fill(expected, written[i].size, written[i].seed);
    assert_ok(ekv_record_bytes(&on.log, &record, record.layout.head_size + record.layout.key_size,
                               value, written[i].size));
    assert_memory_equal(value, expected, written[i].size);
}

/* --- Appending ------------------------------------------------------------------------------- */

static void records_are_read_back_before_and_after_the_flush(void **state)
{
    uint64_t chance = 5;
    (void)state;
    for (uint32_t unit = 1; unit <= 256; unit *= 2) {
        start((struct ekv_geometry){4096, 64, unit, true});
        for (uint32_t i = 0; i < 120; i++) {
            append(fixture_below(&chance, 10) ? fixture_below(&chance, 200)
                                              : fixture_below(&chance, 3000),
                   i);
            expect_record(i);
            expect_record(fixture_below(&chance, i + 1));
            if (fixture_below(&chance, 3) == 0)
                assert_ok(ekv_log_flush(&on.log));
            expect_record(i);
        }
        assert_ok(ekv_log_flush(&on.log));
        for (uint32_t i = 0; i < written_count; i++)
            expect_record(i);
        layers_stop(&on);
    }
}

static void small_records_share_one_program(void **state)
{
    (void)state;
    start(plain);
    assert_ok(ekv_log_flush(&on.log));
    nor_count_reset(&on.nor);
    for (uint32_t i = 0; i < 5; i++)
        append(10, i);
    assert_int_equal(on.nor.now.counts.programs, 0);
    assert_ok(ekv_log_flush(&on.log));
    assert_int_equal(on.nor.now.counts.programs, 1);
    assert_ok(ekv_log_flush(&on.log));
    assert_int_equal(on.nor.now.counts.programs, 1);
}

static void no_program_crosses_a_page(void **state)
{
    (void)state;
    start((struct ekv_geometry){4096, 32, 1, true});
    uint64_t calls = on.nor.now.operations;
    nor_count_reset(&on.nor);
    append(3000, 1);
    assert_ok(ekv_log_flush(&on.log));
    /* The simulated flash counts a call once for each page it touches. */
    assert_int_equal(on.nor.now.counts.programs, on.nor.now.operations - calls);
}

static void records_lie_whole_in_one_sector_and_leave_room_to_close_it(void **state)
{
    uint64_t chance = 6;
    (void)state;
    for (uint32_t unit = 1; unit <= 64; unit *= 4) {
        start((struct ekv_geometry){1024, 64, unit, true});
        uint32_t most = ekv_format_record_size_max(&on.sectors.format);
        for (uint32_t i = 0; i < 100; i++) {
            struct ekv_record record;
            uint32_t address = append(fixture_below(&chance, most - 40 - unit), i);
            assert_ok(ekv_record_read(&on.log, address, &record));
            uint32_t end = ekv_offset_of(&on.sectors.format, address) + record.layout.size;
            assert_true(end + on.sectors.format.close_room <= 1024);
            assert_int_equal(address % on.sectors.format.alignment, 0);
            if (i >= 30) { /* keep the flash from filling up */
                uint32_t old = ekv_sector_of(&on.sectors.format, written[i - 30].address);
                if (old != on.log.sector && old != on.log.next &&
                    ekv_sector_state(&on.sectors, old) == EKV_SECTOR_LOG)
                    ekv_sector_set(&on.sectors, old, EKV_SECTOR_FREE);
            }
        }
        layers_stop(&on);
    }
}

static void the_largest_record_fits_an_empty_sector_exactly(void **state)
{
    (void)state;
    for (uint32_t unit = 1; unit <= 64; unit *= 2) {
        start((struct ekv_geometry){1024, 64, unit, true});
        uint32_t most = ekv_format_record_size_max(&on.sectors.format), size = most;
        struct ekv_record_layout layout = {.type = EKV_RECORD_PUT, .key_size = 11};
        do {
            layout.value_size = --size;
            ekv_record_measure(&on.sectors.format, &layout);
        } while (layout.size > most);
        append(1, 1);
        append(size, 2);
        assert_int_equal(on.log.sequence, 2);
        assert_true(ekv_log_room(&on.log) < on.sectors.format.alignment);
        append(1, 3);
        assert_int_equal(on.log.sequence, 3);
        for (uint32_t i = 0; i < written_count; i++)
            expect_record(i);
        layers_stop(&on);
    }
}

static void close_and_open_fit_whatever_the_sector_holds(void **state)
{
    (void)state;
    for (uint32_t fill = 0; fill < 200; fill++) {
        uint8_t value[EKV_CLOSE_SIZE] = {0};
        start((struct ekv_geometry){512, 64, 1 << fill % 6, true});
        append(fill, 1);
        while (ekv_log_room(&on.log) > 60 + on.sectors.format.alignment)
            append(2, written_count + 1);
        uint32_t sequence = on.log.sequence;
        assert_ok(ekv_log_flush(&on.log));
        assert_ok(ekv_log_append_mark(&on.log, EKV_RECORD_CLOSE | EKV_RECORD_COMMITS, value, 7));
        assert_ok(ekv_log_append_mark(&on.log, EKV_RECORD_OPEN | EKV_RECORD_COMMITS, NULL, 0));
        assert_int_equal(on.log.sequence, sequence);
        assert_true(on.log.offset <= 512);
        layers_stop(&on);
    }
}

static void the_chain_of_stamps_leads_through_all_records(void **state)
{
    uint64_t chance = 7;
    (void)state;
    start(plain);
    uint32_t sector = on.log.sector, sequence = 1, seen = 0;
    for (uint32_t i = 0; i < 250; i++)
        append(fixture_below(&chance, 150), i);
    assert_ok(ekv_log_flush(&on.log));
    assert_true(on.log.sequence > 10);
    for (;;) {
        struct ekv_stamp_b stamp, next;
        struct ekv_record record;
        uint32_t offset = on.sectors.format.body_offset;
        assert_ok(ekv_sector_stamp_read(&on.sectors, sector, &stamp));
        assert_int_equal(stamp.kind, EKV_KIND_LOG);
        assert_int_equal(stamp.sequence, sequence);
        while (seen < written_count && written[seen].sequence == sequence) {
            uint32_t address = ekv_address(&on.sectors.format, sector, offset);
            assert_int_equal(address, written[seen++].address);
            assert_ok(ekv_record_read(&on.log, address, &record));
            offset += record.layout.size;
        }
        assert_int_equal(ekv_sector_state(&on.sectors, stamp.next), EKV_SECTOR_LOG);
        assert_true(ekv_sector_erase_count(&on.sectors, stamp.next) > 0);
        if (sequence == on.log.sequence) {
            assert_int_equal(sector, on.log.sector);
            assert_int_equal(offset, on.log.offset);
            assert_result(ekv_sector_stamp_read(&on.sectors, stamp.next, &next), EKV_NOT_FOUND);
            break;
        }
        assert_ok(ekv_sector_stamp_read(&on.sectors, stamp.next, &next));
        assert_int_equal(next.previous_end, offset);
        sector = stamp.next;
        sequence++;
    }
    assert_int_equal(seen, written_count);
}

static void positions_of_records_grow_with_each_append(void **state)
{
    uint64_t last = 0;
    (void)state;
    start(plain);
    for (uint32_t i = 0; i < 200; i++) {
        uint64_t version;
        uint32_t address = append(i % 90, i);
        assert_ok(ekv_log_version(&on.log, address, &version));
        assert_true(version > last);
        assert_true(version < ekv_log_position(&on.log));
        last = version;
    }
}

/* --- Reading --------------------------------------------------------------------------------- */

static void any_range_reads_the_same_through_the_buffer_as_from_flash(void **state)
{
    uint64_t chance = 8;
    (void)state;
    start((struct ekv_geometry){4096, 32, 1, false});
    append(300, 1);
    assert_ok(ekv_log_flush(&on.log));
    append(150, 2);
    append(40, 3);
    assert_true(on.log.flushed < on.log.offset);
    uint32_t head = ekv_address(&on.sectors.format, on.log.sector, 0), end = on.log.offset;
    static uint8_t before[600][600];
    uint32_t places[600][2];
    for (uint32_t i = 0; i < 600; i++) {
        places[i][0] = fixture_below(&chance, end);
        places[i][1] = fixture_below(&chance, end - places[i][0] + 1);
        assert_ok(ekv_log_read(&on.log, head + places[i][0], before[i], places[i][1]));
    }
    assert_ok(ekv_log_flush(&on.log));
    for (uint32_t i = 0; i < 600; i++)
        assert_memory_equal(on.nor.bytes + head + places[i][0], before[i], places[i][1]);
}

static void a_page_that_mount_copied_is_read_from_its_copy(void **state)
{
    uint8_t copy[EKV_PAGE_SIZE], got[600];
    (void)state;
    start((struct ekv_geometry){4096, 32, 1, false});
    append(700, 1);
    assert_ok(ekv_log_flush(&on.log));
    uint32_t head = ekv_address(&on.sectors.format, on.log.sector, 0);
    memset(copy, 0xab, sizeof copy);
    on.log.copy = copy;
    on.log.copy_address = head + 256;
    on.log.copy_size = sizeof copy;
    assert_ok(ekv_log_read(&on.log, head + 100, got, 600));
    assert_memory_equal(got, on.nor.bytes + head + 100, 156);
    assert_memory_equal(got + 156, copy, 256);
    assert_memory_equal(got + 412, on.nor.bytes + head + 512, 188);
}

static void a_flipped_bit_anywhere_in_a_record_shows(void **state)
{
    struct ekv_record record;
    (void)state;
    start(plain);
    append(10, 1);
    uint32_t address = append(90, 2);
    assert_ok(ekv_log_flush(&on.log));
    assert_ok(ekv_record_read(&on.log, address, &record));
    uint32_t size = record.layout.size;
    for (uint32_t bit = 0; bit < 8 * size; bit++) {
        nor_flip(&on.nor, address + bit / 8, (uint8_t)(1u << bit % 8));
        int error = ekv_record_read(&on.log, address, &record);
        if (!error)
            error = ekv_record_verify(&on.log, &record, 1);
        if (error != EKV_CORRUPT && error != EKV_NOT_FOUND)
            fail_msg("bit %u of a record flipped: %s", (unsigned)bit, model_result_name(error));
        nor_flip(&on.nor, address + bit / 8, (uint8_t)(1u << bit % 8));
    }
    expect_record(1);
}

static void a_record_is_valid_at_its_place_and_sequence_only(void **state)
{
    struct ekv_record record;
    uint8_t bytes[256];
    (void)state;
    start(plain);
    uint32_t address = append(20, 1);
    assert_ok(ekv_log_flush(&on.log));
    assert_ok(ekv_record_read(&on.log, address, &record));
    assert_ok(ekv_record_verify(&on.log, &record, 1));
    assert_result(ekv_record_verify(&on.log, &record, 2), EKV_CORRUPT);
    /* The same bytes behind it. */
    memcpy(bytes, on.nor.bytes + address, record.layout.size);
    assert_ok(
        ekv_flash_program(&on.nor.flash, address + record.layout.size, bytes, record.layout.size));
    assert_ok(ekv_record_read(&on.log, address + record.layout.size, &record));
    assert_result(ekv_record_verify(&on.log, &record, 1), EKV_CORRUPT);
}

static void no_record_begins_outside_a_sectors_body(void **state)
{
    struct ekv_record record;
    uint32_t sequence;
    (void)state;
    start((struct ekv_geometry){1024, 64, 16, false});
    append(20, 1);
    uint32_t head = ekv_address(&on.sectors.format, on.log.sector, 0);
    assert_result(ekv_record_read(&on.log, head, &record), EKV_NOT_FOUND);
    assert_result(ekv_record_read(&on.log, head + 32, &record), EKV_NOT_FOUND);
    assert_result(ekv_record_read(&on.log, written[0].address + 1, &record), EKV_NOT_FOUND);
    assert_result(ekv_record_read(&on.log, 64 * 1024, &record), EKV_NOT_FOUND);
    assert_result(ekv_record_read(&on.log, UINT32_MAX, &record), EKV_NOT_FOUND);
    assert_result(ekv_record_read(&on.log, head + 1008, &record), EKV_NOT_FOUND);
    /* A sector that is no log sector has no sequence number in the log. */
    assert_result(ekv_log_sequence(&on.log, 0, &sequence), EKV_NOT_FOUND);
    assert_result(ekv_log_sequence(&on.log, 63 * 1024, &sequence), EKV_NOT_FOUND);
}

static void a_moved_record_keeps_version_and_time(void **state)
{
    struct ekv_record_layout layout = {.type = EKV_RECORD_PUT | EKV_RECORD_COMMITS |
                                               EKV_RECORD_MOVED | EKV_RECORD_TIMED,
                                       .key_size = 3,
                                       .value_size = 40};
    uint8_t value[40] = {0}, tail[EKV_RECORD_VERSION_SIZE + EKV_RECORD_TIME_SIZE];
    struct ekv_record record;
    uint32_t address;
    uint64_t version;
    int64_t time;
    (void)state;
    start((struct ekv_geometry){1024, 64, 8, false});
    assert_ok(ekv_log_begin(&on.log, &layout, &address));
    assert_ok(ekv_log_write(&on.log, "key", 3));
    assert_ok(ekv_log_write(&on.log, value, 40));
    ekv_store(tail, 0xfedcba987654, 6);
    ekv_store(tail + 6, 0x7fedcba9876543, 7);
    assert_ok(ekv_log_write(&on.log, tail, sizeof tail));
    assert_ok(ekv_log_end(&on.log));
    assert_ok(ekv_record_read(&on.log, address, &record));
    assert_ok(ekv_record_verify(&on.log, &record, 1));
    assert_ok(ekv_record_version(&on.log, &record, 1, &version));
    assert_int_equal(version, 0xfedcba987654);
    assert_ok(ekv_record_time(&on.log, &record, &time));
    assert_int_equal(time, 0x7fedcba9876543);
    assert_ok(ekv_log_version(&on.log, address, &version));
    assert_int_equal(version, 0xfedcba987654);
}

/* --- Keys ------------------------------------------------------------------------------------ */

static int sign(int number)
{
    return (number > 0) - (number < 0);
}

static void keys_are_ordered_as_by_memcmp_a_prefix_first(void **state)
{
    enum { KEYS = 60 };
    static uint8_t bytes[KEYS][300];
    struct ekv_key keys[KEYS];
    struct ekv_record records[KEYS];
    uint64_t chance = 11;
    (void)state;
    start((struct ekv_geometry){4096, 64, 1, false});
    for (uint32_t i = 0; i < KEYS; i++) {
        memset(bytes[i], 'a', sizeof bytes[i]);
        keys[i] =
            ekv_key(bytes[i], fixture_below(&chance, 4) ? fixture_below(&chance, 300) : i % 4);
        keys[i].space = i % 7 == 0;
        if (keys[i].size > 0)
            bytes[i][fixture_below(&chance, keys[i].size)] = (uint8_t)fixture_below(&chance, 256);
        uint32_t address = layers_append(&on, EKV_RECORD_PUT, keys[i], "value", 5);
        assert_ok(ekv_record_read(&on.log, address, &records[i]));
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        uint8_t prefix[EKV_KEY_PREFIX];
        struct ekv_key in_log;
        uint32_t hash;
        assert_ok(ekv_record_key(&on.log, &records[i], prefix, &in_log));
        assert_ok(ekv_record_hash(&on.log, &records[i], &hash));
        assert_int_equal(hash, ekv_key_hash(keys[i]));
        assert_int_equal(ekv_record_space(&records[i]), keys[i].space);
        for (uint32_t j = 0; j < KEYS; j++) {
            uint32_t size = ekv_min(keys[i].size, keys[j].size);
            int expected = sign((int)keys[i].space - (int)keys[j].space), order = 9;
            if (expected == 0)
                expected = sign(memcmp(bytes[i], bytes[j], size));
            if (expected == 0)
                expected = sign((int)keys[i].size - (int)keys[j].size);
            assert_ok(ekv_record_compare(&on.log, &records[j], keys[i], &order));
            assert_int_equal(sign(order), expected);
            assert_ok(ekv_record_compare(&on.log, &records[j], in_log, &order));
            assert_int_equal(sign(order), expected);
        }
    }
}

/* --- Failures -------------------------------------------------------------------------------- */

static void after_a_failed_program_nothing_more_is_appended(void **state)
{
    struct ekv_record_layout layout = {.type = EKV_RECORD_PUT, .key_size = 1};
    uint32_t address;
    (void)state;
    start(plain);
    append(20, 1);
    assert_ok(ekv_log_flush(&on.log));
    append(20, 2);
    nor_fail(&on.nor,
             (struct nor_failure){.operations = NOR_PROGRAM, .sector = NOR_ANY_SECTOR, .times = 1});
    assert_result(ekv_log_flush(&on.log), EKV_IO);
    uint64_t programs = on.nor.now.counts.programs;
    assert_result(ekv_log_begin(&on.log, &layout, &address), EKV_IO);
    assert_result(ekv_log_flush(&on.log), EKV_IO);
    assert_result(ekv_log_append_mark(&on.log, EKV_RECORD_OPEN, NULL, 0), EKV_IO);
    assert_int_equal(on.nor.now.counts.programs, programs);
    expect_record(0);
    expect_record(1); /* from the buffer */
    assert_true(ekv_sector_distrusted(&on.sectors, on.log.sector));
}

static void a_record_that_is_dropped_leaves_its_place_to_the_next(void **state)
{
    struct ekv_record_layout layout = {.type = EKV_RECORD_PUT, .key_size = 1, .value_size = 40};
    uint32_t address, offset;
    (void)state;
    start(plain);
    append(20, 1);
    offset = on.log.offset;
    assert_ok(ekv_log_begin(&on.log, &layout, &address));
    assert_ok(ekv_log_write(&on.log, "some", 4));
    ekv_log_drop(&on.log);
    assert_int_equal(on.log.offset, offset);
    append(20, 2);
    assert_ok(ekv_log_flush(&on.log));
    expect_record(0);
    expect_record(1);
}

/* What of it is on flash cannot be programmed again, and nothing may stand behind it. */
static void a_log_with_a_dropped_record_on_flash_has_failed(void **state)
{
    enum { SIZE = (LAYERS_PAGES + 1) * EKV_PAGE_SIZE };
    struct ekv_record_layout layout = {.type = EKV_RECORD_PUT, .key_size = 1, .value_size = SIZE};
    static const uint8_t bytes[SIZE];
    uint32_t address;
    (void)state;
    start((struct ekv_geometry){4096, 64, 1, false});
    append(20, 1);
    uint32_t offset = on.log.offset;
    assert_ok(ekv_log_begin(&on.log, &layout, &address));
    assert_ok(ekv_log_write(&on.log, bytes, LAYERS_PAGES * EKV_PAGE_SIZE));
    ekv_log_drop(&on.log);
    assert_int_equal(on.log.offset, offset);
    assert_result(ekv_log_begin(&on.log, &layout, &address), EKV_IO);
    assert_false(ekv_sector_distrusted(&on.sectors, on.log.sector));
    expect_record(0);
}

static void a_log_without_space_keeps_what_it_has(void **state)
{
    struct ekv_record_layout layout = {.type = EKV_RECORD_PUT, .key_size = 1, .value_size = 700};
    uint32_t address;
    (void)state;
    start((struct ekv_geometry){1024, 32, 1, false});
    while (ekv_sectors_available(&on.sectors) > 0 || ekv_log_room(&on.log) > 800)
        append(500, written_count);
    assert_result(ekv_log_begin(&on.log, &layout, &address), EKV_FULL);
    for (uint32_t i = 0; i < written_count; i++)
        expect_record(i);
    /* With a free sector it goes on. */
    ekv_sector_set(&on.sectors, ekv_sector_of(&on.sectors.format, written[0].address),
                   EKV_SECTOR_FREE);
    append(700, 1000);
    expect_record(written_count - 1);
    expect_record(written_count - 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(records_are_read_back_before_and_after_the_flush, teardown),
        cmocka_unit_test_teardown(small_records_share_one_program, teardown),
        cmocka_unit_test_teardown(no_program_crosses_a_page, teardown),
        cmocka_unit_test_teardown(records_lie_whole_in_one_sector_and_leave_room_to_close_it,
                                  teardown),
        cmocka_unit_test_teardown(the_largest_record_fits_an_empty_sector_exactly, teardown),
        cmocka_unit_test_teardown(close_and_open_fit_whatever_the_sector_holds, teardown),
        cmocka_unit_test_teardown(the_chain_of_stamps_leads_through_all_records, teardown),
        cmocka_unit_test_teardown(positions_of_records_grow_with_each_append, teardown),
        cmocka_unit_test_teardown(any_range_reads_the_same_through_the_buffer_as_from_flash,
                                  teardown),
        cmocka_unit_test_teardown(a_page_that_mount_copied_is_read_from_its_copy, teardown),
        cmocka_unit_test_teardown(a_flipped_bit_anywhere_in_a_record_shows, teardown),
        cmocka_unit_test_teardown(a_record_is_valid_at_its_place_and_sequence_only, teardown),
        cmocka_unit_test_teardown(no_record_begins_outside_a_sectors_body, teardown),
        cmocka_unit_test_teardown(a_moved_record_keeps_version_and_time, teardown),
        cmocka_unit_test_teardown(keys_are_ordered_as_by_memcmp_a_prefix_first, teardown),
        cmocka_unit_test_teardown(after_a_failed_program_nothing_more_is_appended, teardown),
        cmocka_unit_test_teardown(a_record_that_is_dropped_leaves_its_place_to_the_next, teardown),
        cmocka_unit_test_teardown(a_log_with_a_dropped_record_on_flash_has_failed, teardown),
        cmocka_unit_test_teardown(a_log_without_space_keeps_what_it_has, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
