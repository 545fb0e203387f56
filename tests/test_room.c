/* Room: what fits is taken, what was staged can be committed, and what frees is never refused, on
 * stores of any size, full of garbage, of transactions and after losses of power.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "fixture.h"
#include "lookup.h"

enum { TABLE = 4096 };

static struct fixture on;
static uint32_t tables[3][TABLE * 2];

static int teardown(void **state)
{
    (void)state;
    fixture_stop(&on);
    return 0;
}

static void begin(struct ekv_txn *txn, int table)
{
    assert_ok(ekv_txn_begin(txn, on.db, tables[table], sizeof tables[table]));
}

/* Large values, each put three times with other bytes. */
static uint32_t stage_large(struct ekv_txn *txn, uint32_t wanted)
{
    uint64_t random = 7;
    uint32_t count = 0;
    for (uint32_t total = 0; total < wanted; count++) {
        uint32_t size = 100 + fixture_below(&random, 300) * fixture_below(&random, 1365);
        for (uint32_t again = 1; again <= 3; again++) {
            fixture_fill(on.value, size, count + again);
            assert_ok(ekv_txn_put(txn, fixture_key(count), on.value, size));
        }
        model_put(&on.model, fixture_key(count), on.value, size);
        total += size;
    }
    return count;
}

static void what_a_transaction_wrote_over_is_room_again(void **state)
{
    (void)state;
    static const struct ekv_geometry geometry = {4096, 2048, 1, false};
    for (int interrupted = 0; interrupted < 2; interrupted++) {
        fixture_start(&on, geometry, 512);
        for (uint32_t round = 0; round < 3; round++) {
            struct ekv_txn txn;
            begin(&txn, 0);
            uint32_t count = stage_large(&txn, geometry.sector_count * 4096 / 3);
            if (interrupted)
                fixture_put(&on, fixture_key(9999), 100, round);
            assert_ok(ekv_txn_commit(&txn));
            assert_int_equal(fixture_stat(&on).reserved_size, 0);
            if (round == 2)
                fixture_verify(&on);
            while (count > 0)
                fixture_delete(&on, fixture_key(--count));
        }
        fixture_reload(&on);
        fixture_stop(&on);
    }
}

static void a_key_that_is_staged_again_and_again_takes_its_room_once(void **state)
{
    (void)state;
    struct ekv_txn txn;
    fixture_start(&on, (struct ekv_geometry){1024, 32, 1, true}, 16);
    begin(&txn, 0);
    for (uint32_t n = 0; n < 3000; n++) {
        uint32_t key = n % 20;
        fixture_fill(on.value, 40 + n % 100, n);
        assert_ok(n % 7 == 6 && n > 20
                      ? ekv_txn_delete(&txn, fixture_key(key))
                      : ekv_txn_put(&txn, fixture_key(key), on.value, 40 + n % 100));
        if (n % 7 == 6 && n > 20) {
            assert_ok(ekv_txn_put(&txn, fixture_key(key), on.value, 40 + n % 100));
        }
        model_put(&on.model, fixture_key(key), on.value, 40 + n % 100);
        assert_true(fixture_stat(&on).reserved_size < 20 * 250);
    }
    assert_ok(ekv_txn_commit(&txn));
    fixture_verify(&on);
    fixture_reload(&on);
}

/* Puts by others, right up to the last that is taken; how many there were. */
static uint32_t fill_up(uint32_t size)
{
    uint32_t count = 0;
    int error;
    fixture_fill(on.value, size, 1);
    while (!(error = ekv_put(on.db, fixture_key(100000 + count), on.value, size)))
        model_put(&on.model, fixture_key(100000 + count++), on.value, size);
    assert_result(error, EKV_FULL);
    return count;
}

static void what_was_staged_can_be_committed_on_a_full_store(void **state)
{
    (void)state;
    static const uint32_t staged[] = {20, 500, 900, 1700};
    for (size_t i = 0; i < sizeof staged / sizeof staged[0]; i++) {
        struct ekv_txn txn;
        struct model model;
        fixture_start(&on, (struct ekv_geometry){4096, 256, 1, false}, 512);
        begin(&txn, 0);
        model_init(&model);
        for (uint32_t n = 0; n < staged[i]; n++) {
            fixture_fill(on.value, 400, n);
            assert_ok(ekv_txn_put(&txn, fixture_key(n), on.value, 400));
            model_put(&model, fixture_key(n), on.value, 400);
        }
        uint32_t others = fill_up(400);
        assert_true(others > 100);
        fixture_delete(&on, fixture_key(100000)); /* removing still works */
        assert_ok(ekv_txn_commit(&txn));
        for (uint32_t n = 0; n < model.count; n++)
            model_put(&on.model, model_key(&model.entries[n]), model.entries[n].value->bytes,
                      model.entries[n].value->size);
        model_free(&model);
        fixture_verify(&on);
        fixture_reload(&on);
        while (--others > 0)
            fixture_delete(&on, fixture_key(100000 + others));
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

/* --- A reader that comes while the lock is let go -------------------------------------------- */

static struct {
    bool armed, always, inside, opened;
    unsigned writers;
    struct ekv_snapshot snapshot;
} reader;

static void lock(void *context)
{
    (void)context;
    reader.writers++;
}

/* The first time that the write lock is let go for an erase, a snapshot is opened; or always. */
static void unlock(void *context)
{
    (void)context;
    reader.writers--;
    if (!reader.armed || reader.inside)
        return;
    reader.inside = true;
    reader.armed = reader.always;
    if (reader.opened)
        ekv_snapshot_close(&reader.snapshot);
    reader.opened = true;
    ekv_snapshot_open(&reader.snapshot, on.db);
    reader.inside = false;
}

static void a_snapshot_that_comes_during_a_commit_sees_none_of_it(void **state)
{
    (void)state;
    static const struct ekv_locks locks = {lock, unlock, lock, unlock};
    static const struct ekv_mount_options options = {.memtable_count = 16, .locks = &locks};
    uint32_t met = 0;
    for (uint32_t count = 5; count <= 400; count = count * 5 / 4) {
        for (int interrupted = 0; interrupted < 2; interrupted++) {
            struct ekv_txn txn;
            struct model before;
            fixture_start_options(&on, (struct ekv_geometry){1024, 256, 1, false}, &options,
                                  NOR_AGED);
            for (uint32_t n = 0; n < 5; n++)
                fixture_put(&on, fixture_key(n), 50, n);
            model_init(&before);
            begin(&txn, 0);
            for (uint32_t n = 0; n < count; n++) {
                fixture_fill(on.value, 100, n);
                assert_ok(ekv_txn_put(&txn, fixture_key(n), on.value, 100));
            }
            if (interrupted)
                fixture_put(&on, fixture_key(9999), 50, 1);
            model_copy(&before, &on.model);
            reader.opened = false;
            reader.armed = true;
            assert_ok(ekv_txn_commit(&txn));
            reader.armed = false;
            for (uint32_t n = 0; n < count; n++) {
                fixture_fill(on.value, 100, n);
                model_put(&on.model, fixture_key(n), on.value, 100);
            }
            if (reader.opened) {
                struct model_why why;
                /* Its last act lets the lock go as well: who comes then sees all of it. */
                bool none = model_equals_snapshot(&before, &reader.snapshot, &why);
                met += none;
                if (!none && !model_equals_snapshot(&on.model, &reader.snapshot, &why))
                    fail_msg("%u keys: %s", (unsigned)count, why.text);
                ekv_snapshot_close(&reader.snapshot);
            }
            model_free(&before);
            fixture_verify(&on);
            fixture_reload(&on);
            fixture_stop(&on);
        }
    }
    assert_true(met > 10);
}

static void a_commit_ends_though_readers_come_all_the_time(void **state)
{
    (void)state;
    static const struct ekv_locks locks = {lock, unlock, lock, unlock};
    static const struct ekv_mount_options options = {.memtable_count = 16, .locks = &locks};
    for (uint32_t count = 10; count <= 400; count *= 2) {
        struct ekv_txn txn;
        fixture_start_options(&on, (struct ekv_geometry){1024, 256, 1, false}, &options, NOR_AGED);
        begin(&txn, 0);
        for (uint32_t n = 0; n < count; n++) {
            fixture_fill(on.value, 100, n);
            assert_ok(ekv_txn_put(&txn, fixture_key(n), on.value, 100));
            model_put(&on.model, fixture_key(n), on.value, 100);
        }
        reader.opened = false;
        reader.armed = reader.always = true;
        assert_ok(ekv_txn_commit(&txn));
        reader.armed = reader.always = false;
        if (reader.opened)
            ekv_snapshot_close(&reader.snapshot);
        reader.opened = false;
        fixture_verify(&on);
        fixture_reload(&on);
        fixture_stop(&on);
    }
}

/* Who looks at a store, and for how long, costs only the room of what was changed since. */
static void whoever_looks_keeps_no_more_than_was_written_over(void **state)
{
    enum { KEYS = 40, LOOKERS = 24, ROUNDS = 6000, RECORD = 140 };
    static const struct ekv_geometry geometry = {4096, 128, 1, false};
    static struct ekv_snapshot lookers[LOOKERS];
    struct ekv_cursor cursor;
    (void)state;
    fixture_start(&on, geometry, 64);
    for (uint32_t i = 0; i < ROUNDS; i++) /* garbage wherever it can be */
        fixture_put(&on, fixture_key(i % KEYS), 100, i);
    ekv_cursor_open(&cursor, on.db, EKV_USER);
    assert_ok(ekv_cursor_next(&cursor));
    for (uint32_t i = 0; i < LOOKERS; i++) {
        ekv_snapshot_open(&lookers[i], on.db);
        fixture_put(&on, fixture_key(i), 100, i);
    }
    struct ekv_stat before = fixture_stat(&on);
    for (uint32_t i = 0; i < ROUNDS; i++)
        fixture_put(&on, fixture_key(i % KEYS), 100, i);
    struct ekv_stat after = fixture_stat(&on);
    uint64_t collections = after.collections - before.collections;
    assert_in_range(collections, geometry.sector_count, ROUNDS * RECORD / 4096 * 5 / 4);
    assert_in_range(after.sectors_pinned, 0, LOOKERS + 8);
    ekv_cursor_close(&cursor);
    for (uint32_t i = 0; i < LOOKERS; i++)
        ekv_snapshot_close(&lookers[i]);
    fixture_verify(&on);
    fixture_reload(&on);
    fixture_stop(&on);
}

/* Wear leveling moves the value that the cursor stands on, piece by piece; also one that is staged.
 */
static void a_cursor_reads_on_in_a_value_that_was_moved(void **state)
{
    enum { LARGE = 3000, PART = 700 };
    static uint8_t value[LARGE + PART], wanted[LARGE];
    struct ekv_cursor cursor;
    struct ekv_found found;
    struct ekv_txn txn;
    size_t size;
    (void)state;
    fixture_fill(wanted, sizeof wanted, 1);
    for (int staged = 0; staged < 2; staged++) {
        fixture_start(&on, (struct ekv_geometry){1024, 40, 1, false}, 16);
        if (staged) {
            begin(&txn, 0);
            assert_ok(ekv_txn_put(&txn, fixture_key(5), wanted, LARGE));
            ekv_cursor_open_txn(&cursor, &txn, EKV_USER);
        } else {
            fixture_put(&on, fixture_key(5), LARGE, 1);
            ekv_cursor_open(&cursor, on.db, EKV_USER);
        }
        assert_ok(ekv_cursor_next(&cursor));
        for (uint32_t i = 0; i < 30000; i++)
            fixture_put(&on, fixture_key(6 + i % 20), 100, i);
        uint32_t address = tables[0][0];
        if (!staged) {
            assert_ok(ekv_lookup(on.db, fixture_key(5), EKV_VERSION_MAX, &found));
            address = found.record.address;
        }
        assert_int_not_equal(address, cursor.own.standing);
        for (uint32_t offset = 0; offset < LARGE; offset += PART) {
            assert_ok(ekv_cursor_read(&cursor, offset, value + offset, PART, &size));
            assert_int_equal(size, ekv_min(PART, LARGE - offset));
        }
        assert_memory_equal(value, wanted, LARGE);
        ekv_cursor_close(&cursor);
        if (staged)
            ekv_txn_abort(&txn);
        fixture_stop(&on);
    }
}

#define TEST(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_a_transaction_wrote_over_is_room_again),
        TEST(a_key_that_is_staged_again_and_again_takes_its_room_once),
        TEST(what_was_staged_can_be_committed_on_a_full_store),
        TEST(whoever_looks_keeps_no_more_than_was_written_over),
        TEST(a_cursor_reads_on_in_a_value_that_was_moved),
        TEST(a_snapshot_that_comes_during_a_commit_sees_none_of_it),
        TEST(a_commit_ends_though_readers_come_all_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
