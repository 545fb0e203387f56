/* The on-flash format: every encoding comes back as it went in, and every field that is out of its
 * range is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "crc32c.h"
#include "fixture.h"
#include "format.h"

/* --- Bytes and checksums --------------------------------------------------------------------- */

static void crc32c_has_its_published_check_values(void **state)
{
    uint8_t bytes[32];
    (void)state;
    assert_int_equal(ekv_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(ekv_crc32c(0, NULL, 0), 0);
    memset(bytes, 0, sizeof bytes); /* the four of RFC 3720, B.4 */
    assert_int_equal(ekv_crc32c(0, bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(ekv_crc32c(0, bytes, sizeof bytes), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    assert_int_equal(ekv_crc32c(0, bytes, sizeof bytes), 0x46dd794e);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = 31 - i;
    assert_int_equal(ekv_crc32c(0, bytes, sizeof bytes), 0x113fdb5c);
}

/* Hosts compute it by an instruction of the processor: see src/host/crc32c.c. */
uint32_t ekv_crc32c_by_table(uint32_t crc, const void *data, size_t size);

static void crc32c_of_a_host_is_that_of_the_core(void **state)
{
    (void)state;
    static uint8_t bytes[2300]; /* in lanes from 192 bytes on, and in longer ones from 960 on */
    fixture_fill(bytes, sizeof bytes, 3);
    assert_int_equal(ekv_crc32c_by_table(0, "123456789", 9), 0xe3069283);
    for (uint32_t begin = 0; begin < 9; begin++)
        for (uint32_t size = 0; size <= sizeof bytes - begin; size++)
            assert_int_equal(ekv_crc32c(size, bytes + begin, size),
                             ekv_crc32c_by_table(size, bytes + begin, size));
}

static void crc32c_of_pieces_is_that_of_the_whole(void **state)
{
    static uint8_t bytes[2500];
    (void)state;
    fixture_fill(bytes, sizeof bytes, 1);
    uint32_t whole = ekv_crc32c(5, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut++)
        assert_int_equal(ekv_crc32c(ekv_crc32c(5, bytes, cut), bytes + cut, sizeof bytes - cut),
                         whole);
}

static void integers_are_little_endian(void **state)
{
    const uint64_t value = 0x8877665544332211;
    (void)state;
    for (uint32_t size = 1; size <= 8; size++) {
        uint8_t bytes[9];
        memset(bytes, 0xcc, sizeof bytes);
        ekv_store(bytes, value, size);
        for (uint32_t i = 0; i < size; i++)
            assert_int_equal(bytes[i], 0x11 * (i + 1));
        assert_int_equal(bytes[size], 0xcc);
        uint64_t mask = size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;
        assert_int_equal(ekv_load(bytes, size), value & mask);
    }
}

static void varints_come_back_and_take_the_fewest_bytes(void **state)
{
    static const struct {
        uint32_t value, size;
    } rows[] = {{0, 1},      {1, 1},          {0x7f, 1},       {0x80, 2},      {0x3fff, 2},
                {0x4000, 3}, {0x1fffff, 3},   {0x200000, 4},   {0xfffffff, 4}, {0x10000000, 5},
                {300, 2},    {UINT32_MAX, 5}, {0x7fffffff, 5}, {256, 2}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t bytes[EKV_VARINT_MAX + 1] = {0};
        uint32_t value = ~rows[i].value;
        assert_int_equal(ekv_varint_size(rows[i].value), rows[i].size);
        assert_int_equal(ekv_varint_store(bytes, rows[i].value), rows[i].size);
        assert_int_equal(ekv_varint_load(bytes, sizeof bytes, &value), rows[i].size);
        assert_int_equal(value, rows[i].value);
        /* One byte too few is no varint. */
        assert_int_equal(ekv_varint_load(bytes, rows[i].size - 1, &value), 0);
    }
}

static void varints_longer_or_larger_than_they_may_be_are_refused(void **state)
{
    static const uint8_t bad[][6] = {
        {0x80, 0x00},                         /* 0 in two bytes */
        {0xff, 0x00},                         /* 127 in two */
        {0x80, 0x80, 0x80, 0x80, 0x00},       /* 0 in five */
        {0xff, 0xff, 0xff, 0xff, 0x10},       /* 33 bits */
        {0x80, 0x80, 0x80, 0x80, 0x7f},       /* 35 bits */
        {0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, /* six bytes */
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint32_t value;
        if (ekv_varint_load(bad[i], sizeof bad[i], &value) != 0)
            fail_msg("varint %zu was taken for %u", i, (unsigned)value);
    }
}

/* --- Geometry -------------------------------------------------------------------------------- */

static void geometries_out_of_range_are_refused(void **state)
{
    static const struct {
        struct ekv_geometry geometry;
        int answer;
    } rows[] = {
        {{4096, 8, 1, false}, EKV_OK},
        {{512, 8, 1, false}, EKV_OK},
        {{512, 8, 32, false}, EKV_OK},
        {{256 * 1024, 8, 256, true}, EKV_OK},
        {{4096, 0xfffff, 1, false}, EKV_OK}, /* 4 GiB - 4096 */
        {{4096, 0x100000, 1, false}, EKV_GEOMETRY},
        {{512, 0xffffff, 1, false}, EKV_GEOMETRY},
        {{256 * 1024, 0x4000, 1, false}, EKV_GEOMETRY},
        {{0, 8, 1, false}, EKV_GEOMETRY},
        {{256, 8, 1, false}, EKV_GEOMETRY},
        {{512 * 1024, 8, 1, false}, EKV_GEOMETRY},
        {{4095, 8, 1, false}, EKV_GEOMETRY},
        {{4096 + 512, 8, 1, false}, EKV_GEOMETRY},
        {{4096, 7, 1, false}, EKV_GEOMETRY},
        {{4096, 0, 1, false}, EKV_GEOMETRY},
        {{4096, 8, 0, false}, EKV_GEOMETRY},
        {{4096, 8, 3, false}, EKV_GEOMETRY},
        {{16384, 8, 512, false}, EKV_GEOMETRY},
        {{512, 8, 64, false}, EKV_GEOMETRY}, /* eight units a sector */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (ekv_geometry_check(&rows[i].geometry) != rows[i].answer)
            fail_msg("%u sectors of %u, unit %u: not %s", (unsigned)rows[i].geometry.sector_count,
                     (unsigned)rows[i].geometry.sector_size, (unsigned)rows[i].geometry.write_unit,
                     model_result_name(rows[i].answer));
}

static void no_driver_sees_an_address_outside_the_flash(void **state)
{
    struct nor nor;
    uint8_t bytes[16];
    struct ekv_geometry geometry = {4096, 8, 1, false};
    (void)state;
    assert_true(nor_init(&nor, &geometry, NOR_FRESH, 1));
    uint32_t size = ekv_flash_size(&nor.flash);
    assert_int_equal(size, 32768);
    for (int mapped = 0; mapped < 2; mapped++) {
        assert_ok(ekv_flash_read(&nor.flash, size - 16, bytes, 16));
        assert_ok(ekv_flash_read(&nor.flash, size, bytes, 0));
        assert_result(ekv_flash_read(&nor.flash, size - 15, bytes, 16), EKV_CORRUPT);
        assert_result(ekv_flash_read(&nor.flash, size, bytes, 1), EKV_CORRUPT);
        assert_result(ekv_flash_read(&nor.flash, UINT32_MAX, bytes, 16), EKV_CORRUPT);
        assert_result(ekv_flash_read(&nor.flash, 16, bytes, UINT32_MAX), EKV_CORRUPT);
        nor_map(&nor);
    }
    nor_free(&nor);
}

/* Calls `visit` for every legal pair of sector size and write unit. */
static void each_format(void (*visit)(const struct ekv_format *format))
{
    for (uint32_t size = EKV_SECTOR_SIZE_MIN; size <= EKV_SECTOR_SIZE_MAX; size *= 2) {
        for (uint32_t unit = 1; unit <= EKV_WRITE_UNIT_MAX && size / unit >= 16; unit *= 2) {
            static const uint32_t counts[] = {8, 100, 1024, 16383};
            for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
                struct ekv_geometry geometry = {size, counts[i], unit, i % 2 == 1};
                struct ekv_format format;
                if (ekv_geometry_check(&geometry))
                    continue;
                ekv_format_init(&format, &geometry, 0x0123456789abcdef);
                visit(&format);
            }
        }
    }
}

static void expect_layout(const struct ekv_format *format)
{
    uint32_t unit = format->geometry.write_unit, size = format->geometry.sector_size;
    assert_true(ekv_stamp_b_offset(format) >= EKV_STAMP_A_SIZE);
    assert_int_equal(ekv_stamp_b_offset(format) % unit, 0);
    assert_true(format->body_offset >= ekv_stamp_b_offset(format) + EKV_STAMP_B_SIZE);
    assert_int_equal(format->body_offset % format->alignment, 0);
    assert_int_equal(format->alignment % unit, 0);
    assert_true(format->body_offset < size);
    assert_true(format->ring_count >= 3);
    assert_true(format->close_room < size - format->body_offset);
    uint64_t total = (uint64_t)size * format->geometry.sector_count;
    assert_int_equal(format->pointer_size, total > 64u << 20 ? 4 : 3);
    assert_true((total - 1) / format->alignment < UINT64_C(1) << 8 * format->pointer_size);
}

static void stamps_and_content_lie_in_write_units_of_their_own(void **state)
{
    (void)state;
    each_format(expect_layout);
}

static void expect_pointers(const struct ekv_format *format)
{
    uint32_t total = format->geometry.sector_size * format->geometry.sector_count;
    uint32_t addresses[] = {0, format->alignment, total / 2 & ~(format->alignment - 1),
                            total - format->alignment};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        uint8_t bytes[4] = {0};
        ekv_pointer_store(format, bytes, addresses[i]);
        assert_int_equal(ekv_pointer_load(format, bytes), addresses[i]);
    }
}

static void pointers_reach_the_last_unit_of_the_flash(void **state)
{
    (void)state;
    each_format(expect_pointers);
}

static void a_pointer_beyond_four_gigabytes_does_not_wrap(void **state)
{
    struct ekv_format format;
    struct ekv_geometry geometry = {4096, 0xfffff, 256, false};
    (void)state;
    ekv_format_init(&format, &geometry, 1);
    assert_int_equal(format.pointer_size, 4);
    const uint8_t bytes[4] = {0xff, 0xff, 0xff, 0xff};
    assert_int_equal(ekv_pointer_load(&format, bytes), UINT32_MAX);
}

static void positions_name_sector_and_place(void **state)
{
    struct ekv_format format;
    struct ekv_geometry geometry = {4096, 16, 1, false};
    (void)state;
    ekv_format_init(&format, &geometry, 1);
    uint64_t position = ekv_position(&format, UINT32_MAX, 4095);
    assert_int_equal(position, ((uint64_t)UINT32_MAX << 12) + 4095);
    assert_int_equal(ekv_position_sequence(&format, position), UINT32_MAX);
    assert_int_equal(ekv_sector_of(&format, 3 * 4096 + 17), 3);
    assert_int_equal(ekv_offset_of(&format, 3 * 4096 + 17), 17);
    assert_int_equal(ekv_address(&format, 3, 17), 3 * 4096 + 17);
    assert_int_equal(ekv_page_room(256), 256);
    assert_int_equal(ekv_page_room(511), 1);
}

/* --- Stamps ---------------------------------------------------------------------------------- */

static void expect_stamp_a(const struct ekv_format *format)
{
    uint8_t bytes[EKV_STAMP_A_SIZE];
    struct ekv_stamp_a stamp = {format->geometry, format->store_id,
                                format->geometry.sector_count - 1, 0xfedcba98};
    struct ekv_stamp_a back;
    ekv_stamp_a_encode(&stamp, bytes);
    assert_ok(ekv_stamp_a_decode(bytes, &back));
    assert_int_equal(back.geometry.sector_size, stamp.geometry.sector_size);
    assert_int_equal(back.geometry.sector_count, stamp.geometry.sector_count);
    assert_int_equal(back.geometry.write_unit, stamp.geometry.write_unit);
    assert_int_equal(back.geometry.program_once, stamp.geometry.program_once);
    assert_int_equal(back.store_id, stamp.store_id);
    assert_int_equal(back.sector, stamp.sector);
    assert_int_equal(back.erase_count, stamp.erase_count);
}

static void stamp_a_comes_back_for_every_geometry(void **state)
{
    (void)state;
    each_format(expect_stamp_a);
}

static const struct ekv_stamp_a some_stamp_a = {{4096, 300, 4, false}, 42, 17, 5};

static void stamp_a_with_any_bit_flipped_is_no_stamp(void **state)
{
    uint8_t bytes[EKV_STAMP_A_SIZE];
    struct ekv_stamp_a stamp;
    (void)state;
    ekv_stamp_a_encode(&some_stamp_a, bytes);
    for (uint32_t bit = 0; bit < 8 * EKV_STAMP_A_SIZE; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_result(ekv_stamp_a_decode(bytes, &stamp), EKV_NO_STORE);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memset(bytes, 0xff, sizeof bytes);
    assert_result(ekv_stamp_a_decode(bytes, &stamp), EKV_NO_STORE);
    memset(bytes, 0, sizeof bytes);
    assert_result(ekv_stamp_a_decode(bytes, &stamp), EKV_NO_STORE);
}

/* Decodes stamp A with one byte replaced and the checksum made to fit. */
static int decode_forged(uint32_t place, uint32_t size, uint64_t value)
{
    uint8_t bytes[EKV_STAMP_A_SIZE];
    struct ekv_stamp_a stamp;
    ekv_stamp_a_encode(&some_stamp_a, bytes);
    ekv_store(bytes + place, value, size);
    ekv_store(bytes + 23, ekv_crc32c(0, bytes, 23), 4);
    return ekv_stamp_a_decode(bytes, &stamp);
}

static void stamp_a_with_a_field_out_of_range_is_refused(void **state)
{
    (void)state;
    assert_ok(decode_forged(3, 1, EKV_FORMAT_VERSION));
    assert_result(decode_forged(0, 1, 'E'), EKV_NO_STORE);
    assert_result(decode_forged(3, 1, EKV_FORMAT_VERSION + 1), EKV_VERSION);
    assert_result(decode_forged(3, 1, 0), EKV_VERSION);
    assert_ok(decode_forged(4, 1, 9 << 4));
    for (uint32_t code = 10; code < 16; code++)
        assert_result(decode_forged(4, 1, code << 4), EKV_GEOMETRY);
    for (uint32_t code = 9; code < 16; code++)
        assert_result(decode_forged(4, 1, 3 << 4 | code), EKV_GEOMETRY);
    assert_result(decode_forged(4, 1, 0 << 4 | 6), EKV_GEOMETRY); /* 512 bytes in eight units */
    assert_result(decode_forged(5, 3, 7), EKV_GEOMETRY);
    assert_result(decode_forged(5, 3, 0), EKV_GEOMETRY);
    assert_result(decode_forged(5, 3, 0xffffff), EKV_GEOMETRY);
    assert_result(decode_forged(5, 3, 0x100000), EKV_GEOMETRY);
    assert_ok(decode_forged(16, 3, 299));
    assert_result(decode_forged(16, 3, 300), EKV_GEOMETRY);
    assert_result(decode_forged(16, 3, 0xffffff), EKV_GEOMETRY);
}

static void some_format(struct ekv_format *format, uint64_t store_id, uint32_t unit)
{
    struct ekv_geometry geometry = {4096, 300, unit, false};
    ekv_format_init(format, &geometry, store_id);
}

static void stamp_b_comes_back_in_its_own_sector_only(void **state)
{
    struct ekv_format format, other;
    uint8_t bytes[EKV_STAMP_B_SIZE];
    (void)state;
    some_format(&format, 42, 4);
    some_format(&other, 43, 4);
    for (uint8_t kind = EKV_KIND_LOG; kind <= EKV_KIND_MANIFEST; kind++) {
        struct ekv_stamp_b stamp = {kind, 0xfedcba98, 0x123456, 0xffffff, 4095}, back;
        ekv_stamp_b_encode(&format, &stamp, 7, bytes);
        assert_ok(ekv_stamp_b_decode(&format, bytes, 7, &back));
        assert_int_equal(back.kind, kind);
        assert_int_equal(back.sequence, stamp.sequence);
        assert_int_equal(back.next, stamp.next);
        assert_int_equal(back.virgin, stamp.virgin);
        assert_int_equal(back.previous_end, stamp.previous_end);
        assert_result(ekv_stamp_b_decode(&format, bytes, 8, &back), EKV_NOT_FOUND);
        assert_result(ekv_stamp_b_decode(&other, bytes, 7, &back), EKV_NOT_FOUND);
    }
}

static void stamp_b_damaged_or_of_no_kind_is_not_found(void **state)
{
    struct ekv_format format;
    struct ekv_stamp_b stamp = {EKV_KIND_LOG, 5, 6, 7, 8}, back;
    uint8_t bytes[EKV_STAMP_B_SIZE];
    (void)state;
    some_format(&format, 42, 4);
    ekv_stamp_b_encode(&format, &stamp, 7, bytes);
    for (uint32_t bit = 0; bit < 8 * EKV_STAMP_B_SIZE; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_result(ekv_stamp_b_decode(&format, bytes, 7, &back), EKV_NOT_FOUND);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memset(bytes, 0xff, sizeof bytes);
    assert_result(ekv_stamp_b_decode(&format, bytes, 7, &back), EKV_NOT_FOUND);
    for (uint32_t kind = 0; kind < 256; kind++) {
        stamp.kind = (uint8_t)kind;
        ekv_stamp_b_encode(&format, &stamp, 7, bytes);
        bool good = kind >= EKV_KIND_LOG && kind <= EKV_KIND_MANIFEST;
        assert_result(ekv_stamp_b_decode(&format, bytes, 7, &back), good ? EKV_OK : EKV_NOT_FOUND);
    }
}

static void a_seed_differs_when_anything_in_it_does(void **state)
{
    struct ekv_format format, other;
    (void)state;
    some_format(&format, 42, 4);
    some_format(&other, UINT64_C(42) | UINT64_C(1) << 63, 4);
    uint32_t seed = ekv_format_seed(&format, EKV_KIND_LOG, 5, 64);
    assert_int_equal(ekv_format_seed(&format, EKV_KIND_LOG, 5, 64), seed);
    assert_int_not_equal(ekv_format_seed(&other, EKV_KIND_LOG, 5, 64), seed);
    assert_int_not_equal(ekv_format_seed(&format, EKV_KIND_INDEX, 5, 64), seed);
    assert_int_not_equal(ekv_format_seed(&format, EKV_KIND_LOG, 6, 64), seed);
    assert_int_not_equal(ekv_format_seed(&format, EKV_KIND_LOG, 5, 65), seed);
}

/* --- Records --------------------------------------------------------------------------------- */

static void expect_heads(const struct ekv_format *format)
{
    static const uint32_t sizes[] = {0, 1, 127, 128, 300, 2000, 16383, 16384, 70000};
    uint32_t most = ekv_format_record_size_max(format);
    for (uint32_t type = 0; type < 256; type++) {
        uint32_t kind = type & EKV_RECORD_KIND_MASK;
        if (kind < EKV_RECORD_PUT || kind > (EKV_RECORD_HEAD | EKV_RECORD_COUNTED))
            continue;
        for (size_t i = 0; i < 81; i++) {
            uint8_t bytes[EKV_RECORD_HEAD_MAX];
            struct ekv_record_layout back, layout = {
                                               .type = (uint8_t)type,
                                               .key_size = sizes[i / 9],
                                               .value_size = sizes[i % 9],
                                           };
            memset(bytes, 0xff, sizeof bytes);
            ekv_record_measure(format, &layout);
            if (layout.size > most)
                continue;
            assert_int_equal(layout.size % format->alignment, 0);
            ekv_record_head_encode(&layout, bytes);
            assert_ok(ekv_record_head_decode(format, bytes, sizeof bytes, layout.size, &back));
            assert_int_equal(back.type, layout.type);
            assert_int_equal(back.key_size, layout.key_size);
            assert_int_equal(back.value_size, layout.value_size);
            assert_int_equal(back.head_size, layout.head_size);
            assert_int_equal(back.size, layout.size);
            assert_result(
                ekv_record_head_decode(format, bytes, sizeof bytes, layout.size - 1, &back),
                EKV_NOT_FOUND);
            assert_result(ekv_record_head_decode(format, bytes, layout.head_size - 1, most, &back),
                          EKV_NOT_FOUND);
            uint32_t ordinal_size = kind > EKV_RECORD_OPEN ? EKV_RECORD_ORDINAL_SIZE : 0;
            uint32_t carried = ekv_record_ordinal_offset(&layout) + ordinal_size;
            assert_int_equal(ekv_record_ordinal_offset(&layout) - ekv_record_time_offset(&layout),
                             type & EKV_RECORD_TIMED ? EKV_RECORD_TIME_SIZE : 0);
            assert_true(carried + EKV_CRC_SIZE <= layout.size);
            assert_true(layout.size - carried - EKV_CRC_SIZE < format->alignment);
            assert_int_equal(ekv_record_time_offset(&layout) - ekv_record_version_offset(&layout),
                             type & EKV_RECORD_MOVED ? EKV_RECORD_VERSION_SIZE : 0);
        }
    }
}

static void record_heads_come_back_and_must_fit_their_room(void **state)
{
    (void)state;
    for (uint32_t unit = 1; unit <= 256; unit *= 16) {
        struct ekv_format format;
        some_format(&format, 42, unit);
        expect_heads(&format);
    }
}

static void heads_that_no_record_can_begin_with_are_not_found(void **state)
{
    static const uint8_t heads[][12] = {
        {0x00, 1, 1},
        {0xff, 1, 1},
        {0x0f, 1, 1},
        {0x0c, 1, 1},
        {0xf0, 1, 1},
        {1, 0x80, 0x00, 1},
        {1, 1, 0x80, 0x00},
        {1, 0x81, 0x20, 1},
        {1, 1, 0x81, 0x20},
        {1, 0x80, 0x20, 0x80},
        {1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0},
        {1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f},
        {1, 0xff, 0xff, 0xff, 0xff, 0x1f, 0},
        {1, 0xf8, 0xff, 0xff, 0xff, 0x0f, 0xf8, 0xff, 0xff, 0xff, 0x0f},
    };
    struct ekv_format format;
    struct ekv_record_layout layout;
    (void)state;
    some_format(&format, 42, 1);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (ekv_record_head_decode(&format, heads[i], sizeof heads[i], 4096, &layout) !=
            EKV_NOT_FOUND)
            fail_msg("head %zu was taken for a record of %u bytes", i, (unsigned)layout.size);
    const uint8_t small[] = {1, 0, 0};
    for (uint32_t available = 0; available < 3; available++)
        assert_result(ekv_record_head_decode(&format, small, available, 4096, &layout),
                      EKV_NOT_FOUND);
    assert_ok(ekv_record_head_decode(&format, small, 3, 4096, &layout));
}

static void no_head_can_pretend_to_more_than_its_room(void **state)
{
    struct ekv_format format;
    uint64_t chance = 1;
    (void)state;
    some_format(&format, 42, 16);
    for (uint32_t i = 0; i < 200000; i++) {
        uint8_t bytes[EKV_RECORD_HEAD_MAX];
        struct ekv_record_layout layout;
        for (uint32_t j = 0; j < sizeof bytes; j++)
            bytes[j] = (uint8_t)fixture_below(&chance, 256);
        uint32_t room = 1 + fixture_below(&chance, 4096);
        if (ekv_record_head_decode(&format, bytes, sizeof bytes, room, &layout) != EKV_OK)
            continue;
        assert_true(layout.size <= room);
        assert_true((uint64_t)layout.head_size + layout.key_size + layout.value_size +
                        EKV_CRC_SIZE <=
                    layout.size);
    }
}

static void expect_limits(const struct ekv_format *format)
{
    uint32_t most = ekv_format_record_size_max(format), key = ekv_format_key_size_max(format);
    assert_true(key >= 1 && key <= 65535);
    /* The largest key fits a record with everything it may carry: a delete, and a value's head. */
    struct ekv_record_layout layout = {.type =
                                           EKV_RECORD_HEAD | EKV_RECORD_MOVED | EKV_RECORD_TIMED,
                                       .key_size = key,
                                       .value_size = 1 + EKV_LINK_SIZE};
    ekv_record_measure(format, &layout);
    assert_true(layout.size <= most);
    assert_true(format->body_offset + most + format->close_room <= format->geometry.sector_size);
}

static void the_largest_key_fits_a_record_in_every_geometry(void **state)
{
    (void)state;
    each_format(expect_limits);
}

/* --- Hashes ---------------------------------------------------------------------------------- */

static void the_hash_of_a_key_is_that_of_its_pieces(void **state)
{
    uint8_t bytes[40];
    (void)state;
    fixture_fill(bytes, sizeof bytes, 2);
    uint32_t whole = ekv_hash_end(ekv_hash_update(ekv_hash_begin(0), bytes, sizeof bytes));
    for (uint32_t cut = 0; cut <= sizeof bytes; cut++) {
        uint32_t hash = ekv_hash_update(ekv_hash_begin(0), bytes, cut);
        hash = ekv_hash_end(ekv_hash_update(hash, bytes + cut, sizeof bytes - cut));
        assert_int_equal(hash, whole);
    }
    assert_int_not_equal(ekv_hash_end(ekv_hash_update(ekv_hash_begin(1), bytes, sizeof bytes)),
                         whole);
}

static void fingerprints_of_similar_keys_are_spread_evenly(void **state)
{
    enum { KEYS = 256 * 256 };
    static uint32_t counts[256];
    uint64_t squares = 0;
    (void)state;
    for (uint32_t i = 0; i < KEYS; i++) {
        struct ekv_key key = fixture_key(i);
        counts[ekv_hash_end(ekv_hash_update(ekv_hash_begin(0), key.bytes, key.size)) >> 24]++;
    }
    for (uint32_t i = 0; i < 256; i++)
        squares += (uint64_t)(counts[i] > 256 ? counts[i] - 256 : 256 - counts[i]) *
                   (counts[i] > 256 ? counts[i] - 256 : 256 - counts[i]);
    /* Chi-square with 255 degrees of freedom: 350 is passed by chance once in ten thousand. */
    if (squares / 256 > 350)
        fail_msg("chi-square of the fingerprints is %u, not below 350", (unsigned)(squares / 256));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_has_its_published_check_values),
        cmocka_unit_test(crc32c_of_a_host_is_that_of_the_core),
        cmocka_unit_test(crc32c_of_pieces_is_that_of_the_whole),
        cmocka_unit_test(integers_are_little_endian),
        cmocka_unit_test(varints_come_back_and_take_the_fewest_bytes),
        cmocka_unit_test(varints_longer_or_larger_than_they_may_be_are_refused),
        cmocka_unit_test(geometries_out_of_range_are_refused),
        cmocka_unit_test(no_driver_sees_an_address_outside_the_flash),
        cmocka_unit_test(stamps_and_content_lie_in_write_units_of_their_own),
        cmocka_unit_test(pointers_reach_the_last_unit_of_the_flash),
        cmocka_unit_test(a_pointer_beyond_four_gigabytes_does_not_wrap),
        cmocka_unit_test(positions_name_sector_and_place),
        cmocka_unit_test(stamp_a_comes_back_for_every_geometry),
        cmocka_unit_test(stamp_a_with_any_bit_flipped_is_no_stamp),
        cmocka_unit_test(stamp_a_with_a_field_out_of_range_is_refused),
        cmocka_unit_test(stamp_b_comes_back_in_its_own_sector_only),
        cmocka_unit_test(stamp_b_damaged_or_of_no_kind_is_not_found),
        cmocka_unit_test(a_seed_differs_when_anything_in_it_does),
        cmocka_unit_test(record_heads_come_back_and_must_fit_their_room),
        cmocka_unit_test(heads_that_no_record_can_begin_with_are_not_found),
        cmocka_unit_test(no_head_can_pretend_to_more_than_its_room),
        cmocka_unit_test(the_largest_key_fits_a_record_in_every_geometry),
        cmocka_unit_test(the_hash_of_a_key_is_that_of_its_pieces),
        cmocka_unit_test(fingerprints_of_similar_keys_are_spread_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
