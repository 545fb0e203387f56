/* History and retention: every version that the history of a key tells was committed with just that
 * value, in order; those that retention promises are there, whatever was merged, collected or cut
 * in between; and nothing of it disturbs the store itself.
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

enum { KEYS = 12, VERSIONS_MAX = 4000, VALUE_MAX = 6000 };

/* What was committed to a key, oldest first. */
struct past {
    uint64_t version;
    uint64_t seed;
    uint32_t size;
    bool removed;
};

static struct fixture on;
static struct past pasts[KEYS][VERSIONS_MAX];
static uint32_t past_counts[KEYS];
static uint8_t *value, *wanted;

static int setup(void **state)
{
    (void)state;
    value = malloc(VALUE_MAX);
    wanted = malloc(VALUE_MAX);
    return value && wanted ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    fixture_stop(&on);
    free(value);
    free(wanted);
    return 0;
}

static void start(struct ekv_geometry geometry, uint32_t memtable_count, uint32_t retain_count)
{
    struct ekv_mount_options options = {.memtable_count = memtable_count,
                                        .retain_count = retain_count};
    fixture_start_options(&on, geometry, &options, NOR_AGED);
    memset(past_counts, 0, sizeof past_counts);
}

static void remember(uint32_t number, uint64_t version, uint32_t size, uint64_t seed, bool removed)
{
    assert_true(past_counts[number] < VERSIONS_MAX);
    pasts[number][past_counts[number]++] = (struct past){version, seed, size, removed};
}

static uint64_t version_of(struct ekv_key key)
{
    struct ekv_entry entry;
    assert_ok(ekv_find(on.db, key, &entry));
    return entry.version;
}

static void put(uint32_t number, uint32_t size, uint64_t seed)
{
    fixture_put(&on, fixture_key(number), size, seed);
    remember(number, version_of(fixture_key(number)), size, seed, false);
}

static void delete (uint32_t number)
{
    if (!model_find(&on.model, fixture_key(number)))
        return;
    fixture_delete(&on, fixture_key(number));
    remember(number, 0, 0, 0, true); /* the version of a delete is learnt from the history */
}

/* Puts several keys in one transaction, some of them twice; or aborts it. */
static void transact(uint64_t *chance, bool commit)
{
    uint64_t memory[KEYS * EKV_TXN_ENTRY_SIZE / 8];
    uint32_t sizes[KEYS] = {0};
    uint64_t seeds[KEYS] = {0};
    bool put[KEYS] = {false};
    struct ekv_txn txn;
    assert_ok(ekv_txn_begin(&txn, on.db, memory, sizeof memory));
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t number = fixture_below(chance, KEYS);
        sizes[number] = fixture_below(chance, 80);
        seeds[number] = fixture_below(chance, UINT32_MAX);
        put[number] = true;
        fixture_fill(value, sizes[number], seeds[number]);
        assert_ok(ekv_txn_put(&txn, fixture_key(number), value, sizes[number]));
    }
    if (!commit) {
        ekv_txn_abort(&txn);
        return;
    }
    assert_ok(ekv_txn_commit(&txn));
    for (uint32_t number = 0; number < KEYS; number++) {
        if (!put[number])
            continue;
        fixture_fill(value, sizes[number], seeds[number]);
        model_put(&on.model, fixture_key(number), value, sizes[number]);
        remember(number, version_of(fixture_key(number)), sizes[number], seeds[number], false);
    }
}

static bool has_value(struct ekv_history *history, const struct past *past)
{
    size_t size;
    assert_ok(ekv_history_get(history, 0, value, VALUE_MAX, &size));
    fixture_fill(wanted, past->size, past->seed);
    return size == past->size && memcmp(value, wanted, size) == 0;
}

/* The place among the key's past, below `before`, of the version that the history stands on. */
static uint32_t place_of(struct ekv_history *history, uint32_t number, uint32_t before,
                         const struct ekv_entry *entry)
{
    for (uint32_t i = before; i-- > 0;) {
        struct past *past = &pasts[number][i];
        if (past->removed && entry->removed && past->version == 0)
            past->version = entry->version;
        if (past->version == entry->version && past->removed == entry->removed) {
            assert_true(entry->removed || has_value(history, past));
            return i;
        }
    }
    fail_msg("key %u: version %llu was never committed, or is told twice or out of order", number,
             (unsigned long long)entry->version);
    return 0;
}

/* The versions of a key that retention promises: not the last removal and what came before it. */
static uint32_t promised_of(uint32_t number, uint32_t promised)
{
    uint32_t count = 0;
    while (count < promised && count < past_counts[number] &&
           !pasts[number][past_counts[number] - 1 - count].removed)
        count++;
    return count;
}

/* Walks over the history of a key. The `promised` newest versions must be in it, none left out.
 * Returns how many there are. */
static uint32_t expect_history(uint32_t number, uint32_t promised)
{
    struct ekv_history history;
    struct ekv_entry entry;
    uint32_t at = past_counts[number], told = 0;
    int error;
    ekv_history_open(&history, on.db, fixture_key(number), UINT64_MAX);
    while (!(error = ekv_history_next(&history, &entry))) {
        uint32_t place = place_of(&history, number, at, &entry);
        if (told < promised && place + 1 != at)
            fail_msg("key %u: version %u from the newest is missing", number, told);
        at = place;
        told++;
    }
    assert_result(error, EKV_NOT_FOUND);
    if (told < promised)
        fail_msg("key %u: %u versions of %u are there, %u were promised", number, told,
                 past_counts[number], promised);
    return told;
}

static void expect_all(uint32_t promised)
{
    for (uint32_t number = 0; number < KEYS; number++) {
        expect_history(number, promised_of(number, promised));
    }
}

static const struct ekv_geometry geometries[] = {
    {4096, 16, 1, false}, {1024, 64, 4, false},  {512, 128, 32, true},
    {2048, 24, 16, true}, {4096, 64, 256, true}, {8192, 14, 1, false},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

static void churn(uint64_t *chance, uint32_t steps, uint32_t size_max)
{
    for (uint32_t i = 0; i < steps; i++) {
        uint32_t what = fixture_below(chance, 40), number = fixture_below(chance, KEYS);
        if (what == 0)
            delete (number);
        else if (what <= 2)
            transact(chance, what == 1);
        else if (what == 3)
            fixture_work(&on);
        else
            put(number, fixture_below(chance, size_max), fixture_below(chance, UINT32_MAX));
    }
}

/* --- History --------------------------------------------------------------------------------- */

static void what_was_just_overwritten_is_still_told(void **state)
{
    (void)state;
    start(geometries[0], 64, 0);
    put(1, 20, 1);
    put(1, 30, 2);
    delete (1);
    put(1, 40, 3);
    assert_int_equal(expect_history(1, 4), 4);
    assert_int_equal(expect_history(2, 0), 0);
    fixture_remount(&on);
    assert_int_equal(expect_history(1, 4), 4);
}

static void a_history_begins_at_a_version(void **state)
{
    struct ekv_history history;
    struct ekv_entry entry;
    (void)state;
    start(geometries[0], 64, 0);
    put(1, 20, 1);
    put(1, 30, 2);
    put(1, 40, 3);
    ekv_history_open(&history, on.db, fixture_key(1), pasts[1][2].version - 1);
    assert_ok(ekv_history_next(&history, &entry));
    assert_int_equal(entry.version, pasts[1][1].version);
    assert_int_equal(entry.size, 30);
    ekv_history_open(&history, on.db, fixture_key(1), pasts[1][0].version);
    assert_ok(ekv_history_next(&history, &entry));
    assert_int_equal(entry.version, pasts[1][0].version);
    assert_result(ekv_history_next(&history, &entry), EKV_NOT_FOUND);
    assert_result(ekv_history_get(&history, 0, value, VALUE_MAX, NULL), EKV_NOT_FOUND);
}

static void an_aborted_transaction_leaves_no_version(void **state)
{
    uint64_t chance = 1;
    (void)state;
    start(geometries[0], 64, 4);
    for (uint32_t i = 0; i < 40; i++)
        transact(&chance, i % 2);
    expect_all(4);
    fixture_reload(&on);
    expect_all(4);
}

static void a_transaction_larger_than_the_memtable_has_a_history(void **state)
{
    uint64_t chance = 2;
    (void)state;
    start(geometries[1], 8, 3);
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t memory[KEYS];
        struct ekv_txn txn;
        assert_ok(ekv_txn_begin(&txn, on.db, memory, sizeof memory));
        for (uint32_t number = 0; number < KEYS; number++) {
            fixture_fill(value, 20, i * KEYS + number);
            assert_ok(ekv_txn_put(&txn, fixture_key(number), value, 20));
        }
        assert_ok(ekv_txn_commit(&txn));
        for (uint32_t number = 0; number < KEYS; number++) {
            fixture_fill(value, 20, i * KEYS + number);
            model_put(&on.model, fixture_key(number), value, 20);
            remember(number, version_of(fixture_key(number)), 20, i * KEYS + number, false);
        }
    }
    expect_all(3);
    churn(&chance, 300, 60);
    expect_all(3);
}

static void whatever_history_tells_was_committed(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        uint64_t chance = i + 10;
        start(geometries[i], 16, 0);
        for (uint32_t round = 0; round < 6; round++) {
            churn(&chance, 150, round % 2 ? 60 : 400);
            expect_all(1);
            fixture_verify(&on);
            if (round == 2)
                fixture_reload(&on);
        }
        fixture_stop(&on);
    }
}

/* Mounts anew, writes a little, and makes the close record of the session before unreadable, as a
 * loss of power can that came while it was programmed: the open record behind it stands for both.
 */
static void remount_over_a_torn_close(uint64_t *chance, bool blank)
{
    struct ekv_record_layout close = {.type = EKV_RECORD_CLOSE, .value_size = EKV_CLOSE_SIZE};
    fixture_remount(&on);
    assert_true(on.db->closed);
    const struct ekv_format *format = ekv_format_of(on.db);
    ekv_record_measure(format, &close);
    uint32_t address = ekv_address(format, on.db->log.sector, on.db->log.offset - close.size);
    put(KEYS - 1, 5, fixture_below(chance, UINT32_MAX));
    for (uint32_t i = 0; i < close.size; i++)
        on.nor.bytes[address + i] = blank ? 0xff : (uint8_t)fixture_below(chance, 256);
}

static void a_torn_close_record_hides_no_version(void **state)
{
    uint64_t chance = 40;
    (void)state;
    for (uint32_t i = 0; i < 60; i++) {
        start(geometries[i % GEOMETRIES], 64, 0);
        if (geometries[i % GEOMETRIES].program_once) { /* never goes on behind a close record */
            fixture_stop(&on);
            continue;
        }
        put(1, 20, 1);
        remount_over_a_torn_close(&chance, i / GEOMETRIES % 4 == 0);
        put(1, 30, 2);
        put(1, 10, 3);
        assert_int_equal(expect_history(1, 3), 3);
        fixture_stop(&on);
    }
}

/* Values of one size, so that a chunk may come to lie where one of an older value was, with the
 * same place in its value: an old head must not be taken for one that leads there. */
static void a_version_is_never_made_of_chunks_of_another(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        uint64_t chance = i + 60;
        uint32_t size = geometries[i].sector_size;
        size = size < 2000 ? size * 3 : size;
        start(geometries[i], 16, 0);
        for (uint32_t step = 0; step < 300; step++) {
            put(step % 3 ? 0 : 1, size < VALUE_MAX ? size : VALUE_MAX, step);
            put(2 + fixture_below(&chance, KEYS - 2), fixture_below(&chance, 40), step);
            expect_history(step % 3 ? 0 : 1, 1);
        }
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

/* --- Retention ------------------------------------------------------------------------------- */

static void retained_versions_outlive_merges_and_collections(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        uint32_t retain_count = 2 + (uint32_t)i % 5;
        uint64_t chance = i + 20;
        start(geometries[i], 16, retain_count);
        uint64_t collections = 0;
        for (uint32_t round = 0; round < 12; round++) {
            churn(&chance, 250, 60);
            expect_all(retain_count);
            fixture_verify(&on);
            collections += fixture_stat(&on).collections;
            if (round % 4 == 1)
                fixture_remount(&on);
            if (round % 4 == 3)
                fixture_reload(&on);
        }
        assert_true(collections > 3);
        fixture_stop(&on);
    }
}

static void retained_values_of_many_chunks_outlive_collections(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 2; round++) {
        uint64_t chance = round + 30;
        start((struct ekv_geometry){4096, 64, round ? 16 : 1, false}, 16, 3);
        for (uint32_t i = 0; i < 60; i++) {
            churn(&chance, 12, 40);
            put(i % 3, 2000 + fixture_below(&chance, VALUE_MAX - 2000), i);
        }
        for (uint32_t number = 0; number < 3; number++)
            expect_history(number, promised_of(number, 3));
        fixture_verify(&on);
        fixture_reload(&on);
        churn(&chance, 600, 80);
        expect_all(3);
        fixture_verify(&on);
        assert_true(fixture_stat(&on).collections > 3);
        fixture_stop(&on);
    }
}

static void retained_values_are_found_behind_torn_close_records(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 4; round++) {
        uint64_t chance = round + 50;
        start((struct ekv_geometry){1024, 64, round % 2 ? 16 : 1, false}, 16, 3);
        for (uint32_t i = 0; i < 240; i++) {
            churn(&chance, 4, 40);
            if (i % 3 == 0)
                put(i / 3 % 3, 1000 + fixture_below(&chance, 4000), i);
            else
                put(3, 20, i);
            remount_over_a_torn_close(&chance, i % 2);
        }
        for (uint32_t number = 0; number < 3; number++)
            expect_history(number, promised_of(number, 3));
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

static void retention_begins_with_the_mount_that_asks_for_it(void **state)
{
    uint64_t chance = 40;
    (void)state;
    start(geometries[0], 16, 0);
    churn(&chance, 400, 60);
    for (uint32_t number = 0; number < KEYS; number++)
        put(number, 50, number);
    on.options.retain_count = 3;
    fixture_remount(&on);
    uint32_t before[KEYS];
    memcpy(before, past_counts, sizeof before);
    for (uint32_t number = 0; number < KEYS; number++)
        put(number, 60, number); /* what this replaces was written without retention */
    for (uint32_t i = 0; i < 900; i++)
        put(0, 60, i);
    for (uint32_t number = 1; number < KEYS; number++)
        expect_history(number, promised_of(number, 2));
    fixture_verify(&on);
}

static void a_deleted_key_never_comes_back_through_its_retained_versions(void **state)
{
    uint64_t chance = 50;
    (void)state;
    start(geometries[1], 8, 4);
    for (uint32_t round = 0; round < 8; round++) {
        for (uint32_t i = 0; i < 60; i++)
            put(fixture_below(&chance, 6), 40, i);
        for (uint32_t number = 0; number < 6; number++)
            delete (number);
        for (uint32_t i = 0; i < 400; i++)
            put(6 + fixture_below(&chance, KEYS - 6), 40, i);
        fixture_verify(&on);
        fixture_reload(&on);
        fixture_verify(&on);
    }
}

static void a_full_store_with_retention_can_be_emptied(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        uint32_t round = 0;
        int error = EKV_OK;
        if (geometries[i].sector_size == 512)
            continue; /* such stores may refuse a delete, see the limits in README.md */
        start(geometries[i], 16, 3);
        for (; !error && round < 100000; round++) {
            fixture_fill(value, 100, round);
            error = ekv_put(on.db, fixture_key(round / 3), value, 100);
        }
        assert_result(error, EKV_FULL);
        for (uint32_t number = (round - 2) / 3 + 1; number-- > 0;)
            assert_ok(ekv_delete(on.db, fixture_key(number)));
        assert_int_equal(fixture_stat(&on).keys, 0);
        fixture_check(&on);
        fixture_stop(&on);
    }
}

/* A put during which power is lost, a mount after it, and whether the value is there. */
static void put_and_cut(uint64_t *chance)
{
    uint32_t number = fixture_below(chance, KEYS), size = fixture_below(chance, 60);
    uint64_t seed = fixture_below(chance, UINT32_MAX);
    nor_cut_at(&on.nor, 1 + fixture_below(chance, 6), NOR_CUT_RANDOM);
    fixture_fill(value, size, seed);
    int result = ekv_put(on.db, fixture_key(number), value, size);
    bool there = result == EKV_OK;
    if (!on.nor.now.powered) {
        size_t found;
        nor_power_on(&on.nor);
        assert_ok(ekv_mount(&on.db, &on.nor.flash, &on.options, on.memory, on.memory_size));
        int error = ekv_get(on.db, fixture_key(number), 0, wanted, VALUE_MAX, &found);
        bool is_new = error == EKV_OK && found == size && memcmp(value, wanted, size) == 0;
        assert_true(is_new || !there);
        there = is_new;
    }
    nor_cut_at(&on.nor, 0, NOR_CUT_RANDOM);
    if (!there)
        return;
    model_put(&on.model, fixture_key(number), value, size);
    remember(number, version_of(fixture_key(number)), size, seed, false);
}

static void retained_versions_survive_losses_of_power(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        uint64_t chance = i + 70;
        start(geometries[i], 16, 3);
        for (uint32_t round = 0; round < 60; round++) {
            put_and_cut(&chance);
            put(fixture_below(&chance, KEYS), 30, round); /* what recovery decided stays so */
            churn(&chance, 10, 60);
            if (round % 6 == 5) {
                expect_all(3);
                fixture_verify(&on);
            }
        }
        fixture_stop(&on);
    }
}

/* --- A retained span ------------------------------------------------------------------------- */

enum { SECOND = 1000000, DAY = 86400 };

static int64_t clock_now;

static int64_t now(void *context)
{
    (void)context;
    return clock_now;
}

static void start_span(struct ekv_geometry geometry)
{
    struct ekv_mount_options options = {.memtable_count = 16, .now = now, .retain_seconds = DAY};
    clock_now = INT64_C(1700000000) * SECOND;
    fixture_start_options(&on, geometry, &options, NOR_AGED);
    memset(past_counts, 0, sizeof past_counts);
}

/* Everything committed since `first` of each key is in its history, and what was there then. */
static void expect_since(const uint32_t *first)
{
    for (uint32_t number = 0; number < KEYS; number++) {
        uint32_t promised = past_counts[number] - first[number];
        expect_history(number, first[number] > 0 ? promised + 1 : promised);
    }
}

static void what_was_overwritten_within_the_span_is_there(void **state)
{
    static const struct ekv_geometry roomy[] = {
        {4096, 64, 1, false}, {2048, 128, 16, true}, {1024, 256, 4, false}};
    (void)state;
    for (size_t i = 0; i < sizeof roomy / sizeof roomy[0]; i++) {
        uint64_t chance = i + 60;
        uint32_t day_begin[KEYS];
        start_span(roomy[i]);
        uint64_t collections = 0;
        for (uint32_t day = 0; day < 30; day++) {
            memcpy(day_begin, past_counts, sizeof past_counts);
            for (uint32_t part = 0; part < 10; part++) {
                churn(&chance, 25, 60);
                clock_now += (int64_t)DAY / 10 * SECOND - 1000;
            }
            if (day % 6 == 5)
                expect_since(day_begin);
            fixture_verify(&on);
            collections += fixture_stat(&on).collections;
            if (day % 4 == 1)
                fixture_remount(&on);
            if (day % 4 == 3)
                fixture_reload(&on);
        }
        assert_true(collections > 10);
        fixture_stop(&on);
    }
}

static void a_store_full_of_its_past_says_so_until_time_has_passed(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        int error = EKV_OK;
        uint32_t round = 0;
        if (geometries[i].sector_size == 512)
            continue; /* too small for a past beside its reserve */
        start_span(geometries[i]);
        for (; !error && round < 1000000; round++) {
            fixture_fill(value, 50, round);
            error = ekv_put(on.db, fixture_key(round % KEYS), value, 50);
        }
        assert_result(error, EKV_PINNED);
        assert_true(fixture_stat(&on).sectors_pinned > 0);
        fixture_check(&on);
        for (uint32_t again = 0; again < 50; again++)
            assert_result(ekv_put(on.db, fixture_key(0), value, 50), EKV_PINNED);
        clock_now += INT64_C(2) * DAY * SECOND;
        for (uint32_t again = 0; again < 50; again++)
            assert_ok(ekv_put(on.db, fixture_key(again % KEYS), value, 50));
        fixture_check(&on);
        fixture_stop(&on);
    }
}

static void both_kinds_of_retention_at_once_are_refused(void **state)
{
    struct ekv_mount_options options = {.now = now, .retain_count = 2, .retain_seconds = 5};
    struct ekv *db;
    (void)state;
    start(geometries[0], 64, 0);
    assert_ok(ekv_unmount(on.db));
    on.db = NULL;
    assert_result(ekv_mount(&db, &on.nor.flash, &options, on.memory, on.memory_size), EKV_INVALID);
    options.retain_count = 256;
    options.retain_seconds = 0;
    assert_result(ekv_mount(&db, &on.nor.flash, &options, on.memory, on.memory_size), EKV_INVALID);
    options.retain_count = 0;
    options.retain_seconds = 5;
    options.now = NULL;
    assert_result(ekv_mount(&db, &on.nor.flash, &options, on.memory, on.memory_size), EKV_INVALID);
}

/* --- Conditional puts ------------------------------------------------------------------------ */

static void a_conditional_put_wants_the_version_that_it_names(void **state)
{
    struct ekv_key key = fixture_key(1);
    (void)state;
    start(geometries[0], 64, 0);
    assert_result(ekv_put_if(on.db, key, 7, "a", 1), EKV_CONFLICT);
    assert_ok(ekv_put_if(on.db, key, 0, "a", 1));
    uint64_t version = version_of(key);
    assert_result(ekv_put_if(on.db, key, 0, "b", 1), EKV_CONFLICT);
    assert_ok(ekv_put_if(on.db, key, version, "b", 1));
    assert_result(ekv_put_if(on.db, key, version, "c", 1), EKV_CONFLICT);
    char byte = 0;
    assert_ok(ekv_get(on.db, key, 0, &byte, 1, NULL));
    assert_int_equal(byte, 'b');
    version = version_of(key);
    assert_ok(ekv_delete(on.db, key));
    assert_result(ekv_put_if(on.db, key, version, "d", 1), EKV_CONFLICT);
    assert_ok(ekv_put_if(on.db, key, 0, "d", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(what_was_just_overwritten_is_still_told),
        TEST(a_history_begins_at_a_version),
        TEST(an_aborted_transaction_leaves_no_version),
        TEST(a_transaction_larger_than_the_memtable_has_a_history),
        TEST(whatever_history_tells_was_committed),
        TEST(a_torn_close_record_hides_no_version),
        TEST(a_version_is_never_made_of_chunks_of_another),
        TEST(retained_versions_outlive_merges_and_collections),
        TEST(retained_values_of_many_chunks_outlive_collections),
        TEST(retained_values_are_found_behind_torn_close_records),
        TEST(retention_begins_with_the_mount_that_asks_for_it),
        TEST(retained_versions_survive_losses_of_power),
        TEST(a_deleted_key_never_comes_back_through_its_retained_versions),
        TEST(a_full_store_with_retention_can_be_emptied),
        TEST(what_was_overwritten_within_the_span_is_there),
        TEST(a_store_full_of_its_past_says_so_until_time_has_passed),
        TEST(both_kinds_of_retention_at_once_are_refused),
        TEST(a_conditional_put_wants_the_version_that_it_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
