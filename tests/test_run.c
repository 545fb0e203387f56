/* Runs: built from records in order and searched for each of them, whatever their keys look like.
 *
 * Each test makes a list of entries (the reference), builds a run of it, and compares what the run
 * answers with what the list says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "build.h"
#include "fixture.h"
#include "walk.h"

enum { ENTRIES_MAX = 6000, KEY_MAX = 4096, RUN_ID = 5 };

struct entry {
    struct ekv_key key;
    uint32_t address;
    uint64_t version;
};

static struct layers on;
static struct ekv_index in;
static struct ekv_builder builder;
static struct ekv_page_buffer page;
static uint8_t pages[EKV_RUN_HEIGHT_MAX * EKV_PAGE_SIZE];
static struct entry entries[ENTRIES_MAX];
static uint32_t count;

static void start(struct ekv_geometry geometry)
{
    layers_start(&on, geometry, NOR_FRESH);
    assert_ok(ekv_log_start(&on.log, 1, 0));
    page.run_id = 0;
    in = (struct ekv_index){.log = &on.log, .page = &page, .sector = EKV_NO_SECTOR};
    builder = (struct ekv_builder){.index = &in,
                                   .pages = pages,
                                   .height_max = ekv_build_height(&geometry),
                                   .page_count = ekv_build_height(&geometry)};
    count = 0;
}

static void stop(void)
{
    for (uint32_t i = 0; i < count; i++)
        free((void *)(uintptr_t)entries[i].key.bytes);
    count = 0;
    layers_stop(&on);
}

static int teardown(void **state)
{
    (void)state;
    stop();
    return 0;
}

/* Writes a record of a key and adds it to the list. */
static void add(const void *bytes, size_t size, uint8_t space)
{
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    assert_true(count < ENTRIES_MAX);
    if (size > 0)
        memcpy(copy, bytes, size);
    struct entry *entry = &entries[count++];
    entry->key = ekv_key(copy, size);
    entry->key.space = space;
    entry->address = layers_append(&on, EKV_RECORD_PUT | EKV_RECORD_COMMITS, entry->key, "v", 1);
    assert_ok(ekv_log_version(&on.log, entry->address, &entry->version));
}

static int compare_keys(struct ekv_key a, struct ekv_key b)
{
    if (a.space != b.space)
        return a.space < b.space ? -1 : 1;
    int order = memcmp(a.bytes, b.bytes, a.size < b.size ? a.size : b.size);
    return order ? order : a.size < b.size ? -1 : a.size > b.size;
}

static int compare_entries(const void *one, const void *two)
{
    const struct entry *a = one, *b = two;
    int order = compare_keys(a->key, b->key);
    return order ? order : a->version > b->version ? -1 : a->version < b->version;
}

/* Sorts the list and builds a run of it. */
static struct ekv_run build(bool filter)
{
    assert_ok(ekv_log_flush(&on.log));
    qsort(entries, count, sizeof entries[0], compare_entries);
    ekv_build_begin(&builder, RUN_ID, 0, on.log.sequence);
    for (uint32_t i = 0; i < count; i++) {
        struct ekv_record record;
        assert_ok(ekv_record_read(&on.log, entries[i].address, &record));
        assert_ok(ekv_build_add(&builder, entries[i].address, &record));
    }
    assert_ok(ekv_build_finish(&builder));
    if (filter) {
        bool done = false;
        ekv_build_filter_begin(&builder, NULL);
        while (!done)
            assert_ok(ekv_build_filter_step(&builder, &done));
    }
    assert_int_equal(builder.run.entry_count, count);
    return builder.run;
}

/* --- Comparing run and list ------------------------------------------------------------------ */

/* The first entry of the list with a key >= (> with `after`) this one. */
static uint32_t bound(struct ekv_key key, bool after)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = compare_keys(entries[middle].key, key);
        if (order < 0 || (after && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void expect_at(const struct ekv_run_cursor *cursor, const struct ekv_found *found, int error,
                      bool there, uint32_t index, const char *what)
{
    if (!there && error == EKV_NOT_FOUND)
        return;
    if (error != EKV_OK || !there)
        fail_msg("%s: %s instead of entry %d of %u", what, model_result_name(error),
                 there ? (int)index : -1, (unsigned)count);
    if (cursor->address != entries[index].address)
        fail_msg("%s: stands on %#x instead of entry %u at %#x", what, (unsigned)cursor->address,
                 (unsigned)index, (unsigned)entries[index].address);
    assert_int_equal(found->record.address, cursor->address);
    assert_ok(ekv_record_verify(&on.log, &found->record, found->sequence));
}

static void expect_walks(const struct ekv_run *run)
{
    struct ekv_run_cursor cursor;
    struct ekv_found found;
    int error = ekv_run_first(&in, run, &cursor, &found);
    for (uint32_t i = 0; i < count; i++) {
        expect_at(&cursor, &found, error, true, i, "walking on");
        error = ekv_run_next(&in, run, &cursor, &found);
    }
    assert_result(error, EKV_NOT_FOUND);
    error = ekv_run_last(&in, run, &cursor, &found);
    for (uint32_t i = count; i-- > 0;) {
        expect_at(&cursor, &found, error, true, i, "walking back");
        error = ekv_run_previous(&in, run, &cursor, &found);
    }
    assert_result(error, EKV_NOT_FOUND);
}

/* Seeks a key in both directions and looks it up exactly. */
static void expect_key(const struct ekv_run *run, struct ekv_key key)
{
    struct ekv_run_cursor cursor;
    struct ekv_found found;
    uint32_t first = bound(key, false), behind = bound(key, true);
    int error = ekv_run_seek(&in, run, key, &cursor, &found);
    expect_at(&cursor, &found, error, first < count, first, "seek");
    error = ekv_run_seek_back(&in, run, key, &cursor, &found);
    expect_at(&cursor, &found, error, behind > 0, behind - 1, "seek back");
    error = ekv_run_find(&in, run, key, ekv_key_hash(key), EKV_VERSION_MAX, &found);
    assert_result(error, first < behind ? EKV_OK : EKV_NOT_FOUND);
    if (first < behind)
        assert_int_equal(found.record.address, entries[first].address);
}

/* Looks for every key of the list and for near ones that are mostly not there. */
static void expect_run(const struct ekv_run *run)
{
    uint8_t bytes[KEY_MAX + 1];
    uint32_t step = 1 + count / 120;
    expect_walks(run);
    expect_key(run, ekv_key("", 0));
    expect_key(run, (struct ekv_key){"", 0, EKV_ASIDE, 0});
    expect_key(run, (struct ekv_key){"", 0, EKV_ASIDE + 1, 0});
    for (uint32_t i = 0; i < count; i += step) {
        struct ekv_key key = entries[i].key, near = {bytes, key.size + 1, key.space, 0};
        expect_key(run, key);
        memcpy(bytes, key.bytes, key.size);
        bytes[key.size] = 0;
        expect_key(run, near);
        bytes[key.size] = 0xff;
        expect_key(run, near);
        if (key.size == 0)
            continue;
        near.size = key.size - 1;
        expect_key(run, near);
        near.size = key.size;
        bytes[key.size - 1]++;
        expect_key(run, near);
        bytes[key.size - 1] -= 2;
        expect_key(run, near);
    }
}

/* --- Shapes of keys -------------------------------------------------------------------------- */

static const struct ekv_geometry plain = {4096, 512, 1, false};

static void runs_of_every_size_are_found_whole(void **state)
{
    static const uint32_t sizes[] = {1, 2, 3, 59, 60, 61, 62, 63, 64, 121, 122, 125, 1000, 5000};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        start(plain);
        for (uint32_t j = 0; j < sizes[i]; j++) {
            /* Written in another order than they are sorted in. */
            struct ekv_key key = fixture_key(3 * (uint32_t)((uint64_t)j * 7919 % sizes[i]));
            add(key.bytes, key.size, EKV_USER);
        }
        struct ekv_run run = build(i % 2 == 1);
        assert_true(run.height <= builder.height_max);
        expect_run(&run);
        stop();
    }
}

static void runs_are_found_at_every_write_unit_and_pointer_size(void **state)
{
    static const struct ekv_geometry geometries[] = {
        {512, 2048, 1, true},   {512, 2048, 32, true},   {1024, 1024, 64, true},
        {4096, 512, 256, true}, {65536, 2048, 16, true}, {262144, 16, 128, true},
        {4096, 8192, 2, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof geometries / sizeof *geometries; i++) {
        for (int mapped = 0; mapped < 2; mapped++) {
            start(geometries[i]);
            if (mapped)
                nor_map(&on.nor);
            on.sectors.flash = on.nor.flash;
            for (uint32_t j = 0; j < 700; j++) {
                struct ekv_key key = fixture_key(j * 3);
                add(key.bytes, key.size, j % 5 == 0);
            }
            struct ekv_run run = build(true);
            expect_run(&run);
            stop();
        }
    }
}

static void keys_with_long_common_prefixes_are_told_apart(void **state)
{
    static const uint32_t prefixes[] = {10, 60, 70, 71, 72, 73, 74, 80, 127, 128, 200, 300};
    (void)state;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        char bytes[400];
        start(plain);
        memset(bytes, 'p', sizeof bytes);
        for (uint32_t j = 0; j < 600; j++) {
            int size = snprintf(bytes + prefixes[i], 20, "%05u", (unsigned)(j * 3));
            add(bytes, prefixes[i] + (size_t)size, EKV_USER);
        }
        struct ekv_run run = build(i % 2 == 0);
        expect_run(&run);
        stop();
    }
}

static void keys_that_differ_at_all_depths_are_told_apart(void **state)
{
    (void)state;
    start(plain);
    uint64_t chance = 21;
    for (uint32_t j = 0; j < 1500; j++) {
        uint8_t bytes[200];
        memset(bytes, 'p', sizeof bytes);
        bytes[fixture_below(&chance, 190)] = (uint8_t)('a' + fixture_below(&chance, 26));
        snprintf((char *)bytes + 190, 10, "%07u", (unsigned)j);
        add(bytes, 197, EKV_USER);
    }
    struct ekv_run run = build(true);
    expect_run(&run);
}

static void keys_of_four_thousand_bytes_are_told_apart(void **state)
{
    static uint8_t bytes[4000];
    (void)state;
    for (int where = 0; where < 2; where++) {
        start((struct ekv_geometry){8192, 512, 1, false});
        memset(bytes, 'k', sizeof bytes);
        for (uint32_t j = 0; j < 200; j++) {
            char digits[8];
            snprintf(digits, sizeof digits, "%04u", (unsigned)j * 3);
            memcpy(bytes + (where ? 3996 : 40), digits, 4);
            add(bytes, sizeof bytes, EKV_USER);
        }
        struct ekv_run run = build(true);
        expect_run(&run);
        stop();
    }
}

static void keys_that_are_prefixes_of_each_other_are_told_apart(void **state)
{
    (void)state;
    for (uint32_t fill = 0; fill < 3; fill++) {
        uint8_t bytes[700];
        start(plain);
        memset(bytes, fill == 0 ? 'a' : fill == 1 ? 0x00 : 0xff, sizeof bytes);
        for (uint32_t size = 0; size < 700; size++)
            add(bytes, size, size % 3 == 0);
        struct ekv_run run = build(true);
        expect_run(&run);
        stop();
    }
}

static void short_random_keys_of_extreme_bytes_are_told_apart(void **state)
{
    uint64_t chance = 23;
    (void)state;
    start(plain);
    for (uint32_t j = 0; j < 3000; j++) {
        uint8_t bytes[16];
        uint32_t size = fixture_below(&chance, 13);
        for (uint32_t i = 0; i < size; i++)
            bytes[i] = (uint8_t[]){0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff}[fixture_below(&chance, 6)];
        add(bytes, size, (uint8_t)fixture_below(&chance, 2));
    }
    /* Some come several times: versions of one key. */
    struct ekv_run run = build(true);
    expect_run(&run);
}

/* --- Versions -------------------------------------------------------------------------------- */

static void expect_versions(const struct ekv_run *run)
{
    for (uint32_t i = 0; i < count; i++) {
        struct ekv_found found;
        uint32_t newest = bound(entries[i].key, false);
        uint32_t behind = bound(entries[i].key, true), hash = ekv_key_hash(entries[i].key);
        assert_ok(ekv_run_find(&in, run, entries[i].key, hash, entries[i].version, &found));
        assert_int_equal(found.record.address, entries[i].address);
        assert_ok(ekv_run_find(&in, run, entries[i].key, hash, EKV_VERSION_MAX, &found));
        assert_int_equal(found.record.address, entries[newest].address);
        int error = ekv_run_find(&in, run, entries[i].key, hash, entries[i].version - 1, &found);
        assert_result(error, i + 1 < behind ? EKV_OK : EKV_NOT_FOUND);
        if (i + 1 < behind)
            assert_int_equal(found.record.address, entries[i + 1].address);
    }
}

static void versions_of_a_key_are_found_across_leaves(void **state)
{
    static const uint32_t prefixes[] = {0, 5, 60, 71, 100};
    (void)state;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        char bytes[200];
        start(plain);
        memset(bytes, 'v', sizeof bytes);
        for (uint32_t j = 0; j < 900; j++) {
            /* A key of 250 versions over several leaves among others of one to three. */
            uint32_t number = j < 250 ? 100 : j % 217;
            int size = snprintf(bytes + prefixes[i], 20, "%05u", (unsigned)number);
            add(bytes, prefixes[i] + (size_t)size, EKV_USER);
        }
        struct ekv_run run = build(true);
        expect_run(&run);
        expect_versions(&run);
        stop();
    }
}

/* --- Filter ---------------------------------------------------------------------------------- */

static bool filter_passes(const struct ekv_run *run, struct ekv_key key)
{
    uint8_t block[EKV_FILTER_BLOCK_SIZE];
    uint32_t address, hash = ekv_key_hash(key);
    uint32_t number = ekv_filter_block(hash, run->filter_blocks);
    assert_ok(ekv_filter_address(&in, run, number, &address));
    assert_ok(ekv_flash_read(&on.nor.flash, address, block, sizeof block));
    assert_int_equal(ekv_load(block, 2),
                     ekv_filter_crc(&on.sectors.format, run->id, number, block + 2));
    return ekv_filter_has(block + 2, hash);
}

static void a_filter_passes_every_key_and_few_others(void **state)
{
    static const struct {
        struct ekv_geometry geometry;
        uint32_t keys;
    } rows[] = {
        {{4096, 512, 1, false}, 1},      {{4096, 512, 1, false}, 28},
        {{4096, 512, 64, false}, 1000},  {{512, 2048, 32, false}, 5000}, /* with a map */
        {{4096, 512, 256, false}, 5000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t wrong = 0;
        start(rows[i].geometry);
        for (uint32_t j = 0; j < rows[i].keys; j++) {
            struct ekv_key key = fixture_key(j);
            add(key.bytes, key.size, EKV_USER);
        }
        struct ekv_run run = build(true);
        for (uint32_t j = 0; j < rows[i].keys; j++)
            assert_true(filter_passes(&run, fixture_key(j)));
        for (uint32_t j = 0; j < 10000; j++)
            wrong += filter_passes(&run, fixture_key(1000000 + j));
        if (wrong > 400)
            fail_msg("%u of 10000 absent keys pass the filter of %u", (unsigned)wrong,
                     (unsigned)rows[i].keys);
        if (rows[i].keys == 5000 && wrong == 0)
            fail_msg("a filter of %u keys passes nothing: it was not asked",
                     (unsigned)rows[i].keys);
        stop();
    }
}

static void a_damaged_filter_block_costs_reads_but_no_answer(void **state)
{
    (void)state;
    start(plain);
    for (uint32_t j = 0; j < 500; j++) {
        struct ekv_key key = fixture_key(j);
        add(key.bytes, key.size, EKV_USER);
    }
    struct ekv_run run = build(true);
    for (uint32_t block = 0; block < run.filter_blocks; block++) {
        uint32_t address;
        assert_ok(ekv_filter_address(&in, &run, block, &address));
        nor_flip(&on.nor, address + 2 + block % 30, 0xff);
    }
    expect_run(&run);
}

/* --- Staleness ------------------------------------------------------------------------------- */

static void drop_entries_of(uint32_t sector)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (ekv_sector_of(&on.sectors.format, entries[i].address) == sector)
            free((void *)(uintptr_t)entries[i].key.bytes);
        else
            entries[kept++] = entries[i];
    }
    assert_true(kept < count);
    count = kept;
}

static void entries_of_sectors_that_are_gone_are_skipped(void **state)
{
    (void)state;
    start((struct ekv_geometry){1024, 512, 1, false});
    for (uint32_t j = 0; j < 2000; j++) {
        struct ekv_key key = fixture_key((uint32_t)((uint64_t)j * 7919 % 2000));
        add(key.bytes, key.size, EKV_USER);
    }
    struct ekv_run run = build(true);
    uint64_t chance = 31;
    for (uint32_t round = 0; round < 12 && count > 0; round++) {
        uint32_t sector =
            ekv_sector_of(&on.sectors.format, entries[fixture_below(&chance, count)].address);
        if (sector == on.log.sector)
            continue;
        drop_entries_of(sector);
        ekv_sector_set(&on.sectors, sector, EKV_SECTOR_FREE);
        if (round % 2 == 1) {
            /* Used again by the log, with other records where the old ones were. */
            struct ekv_stamp_b stamp = {EKV_KIND_LOG, on.log.sequence + 1 + round, 40, 0, 0};
            assert_ok(ekv_sector_erase(&on.sectors, sector));
            assert_ok(ekv_sector_stamp(&on.sectors, sector, &stamp));
            ekv_sector_set(&on.sectors, sector, EKV_SECTOR_LOG);
        }
        expect_run(&run);
    }
}

static void a_run_whose_entries_are_all_stale_is_empty(void **state)
{
    struct ekv_run_cursor cursor;
    struct ekv_found found;
    (void)state;
    start(plain);
    for (uint32_t j = 0; j < 200; j++) {
        struct ekv_key key = fixture_key(j);
        add(key.bytes, key.size, EKV_USER);
    }
    struct ekv_run run = build(true);
    run.sequence = 0; /* every log sector is newer */
    assert_result(ekv_run_first(&in, &run, &cursor, &found), EKV_NOT_FOUND);
    assert_result(ekv_run_last(&in, &run, &cursor, &found), EKV_NOT_FOUND);
    for (uint32_t j = 0; j < 200; j++) {
        struct ekv_key key = fixture_key(j);
        assert_result(ekv_run_seek(&in, &run, key, &cursor, &found), EKV_NOT_FOUND);
        assert_result(ekv_run_seek_back(&in, &run, key, &cursor, &found), EKV_NOT_FOUND);
        assert_result(ekv_run_find(&in, &run, key, ekv_key_hash(key), EKV_VERSION_MAX, &found),
                      EKV_NOT_FOUND);
    }
}

/* --- Damage ---------------------------------------------------------------------------------- */

static int walk(const struct ekv_run *run)
{
    struct ekv_run_cursor cursor;
    struct ekv_found found;
    int error = ekv_run_first(&in, run, &cursor, &found);
    for (uint32_t i = 0; !error && i < count; i++)
        error = ekv_run_next(&in, run, &cursor, &found);
    return error;
}

static void a_flipped_bit_in_any_page_is_corruption(void **state)
{
    (void)state;
    start(plain);
    for (uint32_t j = 0; j < 300; j++) {
        struct ekv_key key = fixture_key(j);
        add(key.bytes, key.size, EKV_USER);
    }
    struct ekv_run run = build(false);
    assert_true(run.height >= 2);
    struct ekv_run_cursor cursor;
    struct ekv_found entry;
    assert_ok(ekv_run_leaf_first(&in, &run, &cursor));
    for (uint32_t level = 0; level < run.height; level++) {
        struct ekv_page found;
        uint32_t address = cursor.pages[level];
        assert_ok(ekv_page_read(&in, &run, address, (uint8_t)level, &found));
        for (uint32_t bit = 0; bit < 8 * found.size; bit += 23) {
            nor_flip(&on.nor, address + bit / 8, (uint8_t)(1u << bit % 8));
            int error = walk(&run);
            if (error != EKV_CORRUPT)
                fail_msg("bit %u of a page of level %u flipped: %s", (unsigned)bit, (unsigned)level,
                         model_result_name(error));
            nor_flip(&on.nor, address + bit / 8, (uint8_t)(1u << bit % 8));
        }
        struct ekv_key key = entries[0].key;
        nor_flip(&on.nor, address + 20, 1);
        assert_result(ekv_run_find(&in, &run, key, ekv_key_hash(key), EKV_VERSION_MAX, &entry),
                      EKV_CORRUPT);
        assert_result(ekv_run_seek(&in, &run, key, &cursor, &entry), EKV_CORRUPT);
        nor_flip(&on.nor, cursor.pages[level] + 20, 1);
        assert_ok(ekv_run_leaf_first(&in, &run, &cursor));
    }
    assert_result(walk(&run), EKV_NOT_FOUND);
}

static void a_page_counts_at_its_place_in_its_tree_only(void **state)
{
    struct ekv_run_cursor cursor;
    struct ekv_page found;
    (void)state;
    start(plain);
    for (uint32_t j = 0; j < 300; j++) {
        struct ekv_key key = fixture_key(j);
        add(key.bytes, key.size, EKV_USER);
    }
    struct ekv_run run = build(false), other = run, low = run, high = run;
    assert_ok(ekv_run_leaf_first(&in, &run, &cursor));
    uint32_t leaf = cursor.pages[0];
    assert_result(ekv_page_read(&in, &run, leaf, 1, &found), EKV_CORRUPT);
    assert_result(ekv_page_read(&in, &run, run.root, 0, &found), EKV_CORRUPT);
    assert_result(ekv_page_read(&in, &run, leaf + 1, 0, &found), EKV_CORRUPT);
    assert_result(ekv_page_read(&in, &run, ekv_flash_size(&on.nor.flash), 0, &found), EKV_CORRUPT);
    assert_result(ekv_page_read(&in, &run, UINT32_MAX, 0, &found), EKV_CORRUPT);
    other.id++;
    assert_result(walk(&other), EKV_CORRUPT);
    low.height--;
    assert_result(walk(&low), EKV_CORRUPT);
    high.height++;
    assert_result(walk(&high), EKV_CORRUPT);
}

/* --- Sectors --------------------------------------------------------------------------------- */

static uint32_t visits[8192];

static int visit(void *context, uint32_t sector)
{
    (void)context;
    assert_true(sector < on.sectors.format.geometry.sector_count);
    visits[sector]++;
    return EKV_OK;
}

static void every_page_and_filter_is_counted_once_in_its_sector(void **state)
{
    static const struct ekv_geometry geometries[] = {
        {512, 2048, 1, false}, {4096, 512, 64, false}, {4096, 512, 1, false}};
    (void)state;
    for (size_t i = 0; i < sizeof geometries / sizeof *geometries; i++) {
        start(geometries[i]);
        for (uint32_t j = 0; j < 3000; j++) {
            struct ekv_key key = fixture_key(j);
            add(key.bytes, key.size, EKV_USER);
        }
        struct ekv_run run = build(true);
        memset(visits, 0, sizeof visits);
        bool damaged;
        assert_ok(ekv_run_sectors(&in, &run, visit, NULL, &damaged));
        assert_false(damaged);
        uint32_t index_sectors = 0;
        for (uint32_t j = 0; j < geometries[i].sector_count; j++) {
            bool index = ekv_sector_state(&on.sectors, j) == EKV_SECTOR_INDEX;
            index_sectors += index;
            assert_int_equal(visits[j], index ? on.sectors.lives[j] : 0);
        }
        assert_int_equal(index_sectors, on.sectors.counts[EKV_SECTOR_INDEX]);
        assert_true(index_sectors > 2);
        stop();
    }
}

static void a_build_without_space_goes_on_when_there_is_some(void **state)
{
    (void)state;
    start((struct ekv_geometry){1024, 256, 1, false});
    for (uint32_t j = 0; j < 2000; j++) {
        struct ekv_key key = fixture_key(j);
        add(key.bytes, key.size, EKV_USER);
    }
    assert_ok(ekv_log_flush(&on.log));
    uint32_t kept[256], kept_count = 0, waits = 0;
    while (ekv_sectors_available(&on.sectors) > 0)
        assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_RETIRED, &kept[kept_count++]));
    qsort(entries, count, sizeof entries[0], compare_entries);
    ekv_build_begin(&builder, RUN_ID, 0, on.log.sequence);
    for (uint32_t i = 0; i < count; i++) {
        struct ekv_record record;
        assert_ok(ekv_record_read(&on.log, entries[i].address, &record));
        int error = ekv_build_add(&builder, entries[i].address, &record);
        if (error == EKV_FULL) {
            waits++;
            assert_true(kept_count > 0);
            ekv_sector_set(&on.sectors, kept[--kept_count], EKV_SECTOR_FREE);
            i--;
            continue;
        }
        assert_ok(error);
    }
    int error;
    while ((error = ekv_build_finish(&builder)) == EKV_FULL) {
        assert_true(kept_count > 0);
        ekv_sector_set(&on.sectors, kept[--kept_count], EKV_SECTOR_FREE);
    }
    assert_ok(error);
    assert_true(waits > 3);
    expect_run(&builder.run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(runs_of_every_size_are_found_whole, teardown),
        cmocka_unit_test_teardown(runs_are_found_at_every_write_unit_and_pointer_size, teardown),
        cmocka_unit_test_teardown(keys_with_long_common_prefixes_are_told_apart, teardown),
        cmocka_unit_test_teardown(keys_that_differ_at_all_depths_are_told_apart, teardown),
        cmocka_unit_test_teardown(keys_of_four_thousand_bytes_are_told_apart, teardown),
        cmocka_unit_test_teardown(keys_that_are_prefixes_of_each_other_are_told_apart, teardown),
        cmocka_unit_test_teardown(short_random_keys_of_extreme_bytes_are_told_apart, teardown),
        cmocka_unit_test_teardown(versions_of_a_key_are_found_across_leaves, teardown),
        cmocka_unit_test_teardown(a_filter_passes_every_key_and_few_others, teardown),
        cmocka_unit_test_teardown(a_damaged_filter_block_costs_reads_but_no_answer, teardown),
        cmocka_unit_test_teardown(entries_of_sectors_that_are_gone_are_skipped, teardown),
        cmocka_unit_test_teardown(a_run_whose_entries_are_all_stale_is_empty, teardown),
        cmocka_unit_test_teardown(a_flipped_bit_in_any_page_is_corruption, teardown),
        cmocka_unit_test_teardown(a_page_counts_at_its_place_in_its_tree_only, teardown),
        cmocka_unit_test_teardown(every_page_and_filter_is_counted_once_in_its_sector, teardown),
        cmocka_unit_test_teardown(a_build_without_space_goes_on_when_there_is_some, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
