/* Transactions: all of their writes or none, seen by themselves before, by others after the commit,
 * and never over a change of somebody else.
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

enum { TABLE = 4096 };

static struct fixture on;
static uint32_t tables[3][TABLE * 2];

static int teardown(void **state)
{
    (void)state;
    fixture_stop(&on);
    return 0;
}

static const struct ekv_geometry geometries[] = {
    {4096, 32, 1, true},   {1024, 64, 4, true},   {512, 128, 32, true},
    {4096, 64, 256, true}, {2048, 24, 16, false},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

static const struct ekv_geometry plain = {4096, 32, 1, false};

static void begin(struct ekv_txn *txn, int table)
{
    assert_ok(ekv_txn_begin(txn, on.db, tables[table], sizeof tables[table]));
}

/* Writes into the transaction and, to be committed with it, into a model. */
static void put(struct ekv_txn *txn, struct model *model, struct ekv_key key, size_t size,
                uint64_t seed)
{
    fixture_fill(on.value, size, seed);
    assert_ok(ekv_txn_put(txn, key, on.value, size));
    model_put(model, key, on.value, size);
}

static void expect_view(struct ekv_txn *txn, struct model *model)
{
    struct model_why why;
    if (!model_equals_txn(model, txn, &why))
        fail_msg("in the transaction: %s", why.text);
}

static void a_transaction_reads_its_own_writes_and_nobody_else_does(void **state)
{
    struct ekv_txn txn;
    struct model view;
    struct ekv_entry entry;
    (void)state;
    fixture_start(&on, plain, 16);
    for (uint32_t n = 0; n < 30; n++)
        fixture_put(&on, fixture_key(n), 50, n);
    model_init(&view);
    model_copy(&view, &on.model);
    begin(&txn, 0);
    put(&txn, &view, fixture_key(3), 10, 1);
    put(&txn, &view, fixture_key(100), 20, 2);
    put(&txn, &view, fixture_key(3), 0, 3); /* once more */
    put(&txn, &view, fixture_key(101), 9000, 4);
    assert_ok(ekv_txn_delete(&txn, fixture_key(4)));
    assert_true(model_delete(&view, fixture_key(4)));
    assert_ok(ekv_txn_delete(&txn, fixture_key(100)));
    assert_true(model_delete(&view, fixture_key(100)));
    assert_result(ekv_txn_delete(&txn, fixture_key(100)), EKV_NOT_FOUND);
    assert_result(ekv_txn_delete(&txn, fixture_key(999)), EKV_NOT_FOUND);
    assert_result(ekv_txn_find(&txn, fixture_key(4), &entry), EKV_NOT_FOUND);
    assert_ok(ekv_txn_find(&txn, fixture_key(101), &entry));
    assert_int_equal(entry.size, 9000);
    expect_view(&txn, &view);
    fixture_verify(&on); /* the store is as it was */
    assert_ok(ekv_txn_commit(&txn));
    model_copy(&on.model, &view);
    model_free(&view);
    fixture_verify(&on);
    fixture_remount(&on);
}

static int64_t tell(void *now)
{
    return *(int64_t *)now;
}

/* Puts the key once more; the bytes of log that this took. */
static uint32_t put_again(struct ekv_txn *txn, struct model *view, size_t size, uint64_t seed)
{
    uint64_t before = ekv_log_position(&on.db->log);
    put(txn, view, fixture_key(2), size, seed);
    return (uint32_t)(ekv_log_position(&on.db->log) - before);
}

/* Until it is programmed, a record takes another value of its size. */
static void a_key_written_again_takes_no_log_while_its_record_is_buffered(void **state)
{
    struct ekv_txn txn;
    struct model view;
    struct ekv_cursor cursor;
    uint8_t value[64];
    size_t size;
    int64_t now = 1000;
    struct ekv_entry entry;
    struct ekv_mount_options options = {.memtable_count = 64, .now = tell, .now_context = &now};
    (void)state;
    fixture_start_options(&on, plain, &options, NOR_AGED);
    model_init(&view);
    begin(&txn, 0);
    put(&txn, &view, fixture_key(1), 50, 1);
    assert_true(put_again(&txn, &view, 50, 2) > 50);
    uint64_t programs = fixture_stat(&on).programs;
    now++;
    for (uint32_t seed = 3; seed < 100; seed++)
        assert_int_equal(put_again(&txn, &view, 50, seed), 0);
    assert_int_equal(fixture_stat(&on).programs, programs);
    assert_ok(ekv_txn_find(&txn, fixture_key(2), &entry));
    assert_int_equal(entry.time, 1001);
    expect_view(&txn, &view);
    assert_true(put_again(&txn, &view, 51, 100) > 51);
    assert_int_equal(put_again(&txn, &view, 51, 101), 0);
    /* A cursor reads on in what it stands on. */
    ekv_cursor_open_txn(&cursor, &txn, EKV_USER);
    assert_ok(ekv_cursor_seek(&cursor, fixture_key(2)));
    assert_true(put_again(&txn, &view, 51, 102) > 51);
    assert_ok(ekv_cursor_read(&cursor, 0, value, sizeof value, &size));
    fixture_fill(on.value, 51, 101);
    assert_memory_equal(value, on.value, 51);
    ekv_cursor_close(&cursor);
    expect_view(&txn, &view);
    /* What is programmed stays as it is. */
    for (uint32_t n = 10; n < 40; n++)
        put(&txn, &view, fixture_key(n), 50, n);
    assert_true(put_again(&txn, &view, 51, 103) > 51);
    assert_ok(ekv_txn_commit(&txn));
    model_copy(&on.model, &view);
    model_free(&view);
    fixture_verify(&on);
    fixture_reload(&on);
}

static void a_committed_transaction_survives_a_loss_of_power_right_after(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        fixture_start(&on, geometries[i], 16);
        for (uint32_t round = 0; round < 40; round++) {
            struct ekv_txn txn;
            begin(&txn, 0);
            for (uint32_t n = 0; n < 6; n++)
                put(&txn, &on.model, fixture_key(n + round % 5), 30, round + n);
            assert_ok(ekv_txn_commit(&txn));
            fixture_reload(&on);
        }
        fixture_stop(&on);
    }
}

static void an_aborted_transaction_leaves_nothing_and_gives_its_space_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        fixture_start(&on, geometries[i], 16);
        fixture_put(&on, fixture_key(1), 30, 1);
        uint64_t live = fixture_stat(&on).live_size;
        /* Much more than the flash holds is written and thrown away. */
        for (uint32_t round = 0; round < 60; round++) {
            struct ekv_txn txn;
            struct model view;
            model_init(&view);
            begin(&txn, 0);
            for (uint32_t n = 0; n < 20; n++)
                put(&txn, &view, fixture_key(n), 200, round + n);
            assert_true(fixture_stat(&on).reserved_size > 0);
            ekv_txn_abort(&txn);
            model_free(&view);
            assert_int_equal(fixture_stat(&on).reserved_size, 0);
            assert_int_equal(fixture_stat(&on).live_size, live);
            if (round % 10 == 0)
                fixture_verify(&on);
        }
        fixture_remount(&on);
        fixture_stop(&on);
    }
}

static void what_another_commit_changed_since_the_begin_is_a_conflict(void **state)
{
    struct ekv_txn one, two;
    struct model view;
    (void)state;
    fixture_start(&on, plain, 16);
    for (uint32_t n = 0; n < 10; n++)
        fixture_put(&on, fixture_key(n), 10, n);
    model_init(&view);
    /* A put, a delete and a new key of somebody else, each against a put and a delete. */
    for (uint32_t other = 0; other < 3; other++) {
        for (uint32_t own = 0; own < 2; own++) {
            uint32_t number = other == 2 ? 50 + own : other * 2 + own;
            begin(&one, 0);
            if (own == 0)
                put(&one, &view, fixture_key(number), 5, 1);
            else if (other < 2)
                assert_ok(ekv_txn_delete(&one, fixture_key(number)));
            else
                put(&one, &view, fixture_key(number), 5, 1);
            put(&one, &view, fixture_key(9), 5, 1); /* nobody's */
            if (other == 1)
                fixture_delete(&on, fixture_key(number));
            else
                fixture_put(&on, fixture_key(number), 7, 2);
            assert_result(ekv_txn_check(&one, fixture_key(number)), EKV_CONFLICT);
            assert_ok(ekv_txn_check(&one, fixture_key(9)));
            assert_result(ekv_txn_commit(&one), EKV_CONFLICT);
            assert_result(ekv_txn_commit(&one), EKV_CONFLICT); /* it stays open */
            fixture_verify(&on);
            ekv_txn_abort(&one);
        }
    }
    /* Two transactions: the first to commit wins. */
    begin(&one, 0);
    begin(&two, 1);
    put(&one, &on.model, fixture_key(8), 10, 11);
    put(&two, &view, fixture_key(8), 10, 12);
    assert_ok(ekv_txn_commit(&one));
    assert_result(ekv_txn_commit(&two), EKV_CONFLICT);
    ekv_txn_abort(&two);
    fixture_verify(&on);
    model_free(&view);
}

static void the_keys_in_conflict_are_named(void **state)
{
    struct ekv_txn txn;
    uint32_t place = 0;
    char key[FIXTURE_KEY_SIZE];
    uint8_t space;
    size_t size;
    (void)state;
    fixture_start(&on, plain, 16);
    for (uint32_t n = 0; n < 20; n++)
        fixture_put(&on, fixture_key(n), 20, n);
    begin(&txn, 0);
    for (uint32_t n = 10; n < 30; n++)
        assert_ok(ekv_txn_put(&txn, fixture_key(n), "x", 1));
    assert_result(ekv_txn_conflict(&txn, &place, key, sizeof key, &size, &space), EKV_NOT_FOUND);
    fixture_put(&on, fixture_key(5), 30, 1);
    fixture_put(&on, fixture_key(12), 30, 2);
    fixture_delete(&on, fixture_key(15));
    fixture_put(&on, fixture_key(29), 30, 3);
    assert_result(ekv_txn_commit(&txn), EKV_CONFLICT);
    place = 0;
    for (uint32_t n = 12; n < 30; n += n == 12 ? 3 : 14) {
        struct ekv_key wanted = fixture_key(n);
        assert_ok(ekv_txn_conflict(&txn, &place, key, sizeof key, &size, &space));
        assert_int_equal(space, EKV_USER);
        assert_int_equal(size, wanted.size);
        assert_memory_equal(key, wanted.bytes, size);
    }
    assert_result(ekv_txn_conflict(&txn, &place, key, sizeof key, &size, &space), EKV_NOT_FOUND);
    place = 0;
    assert_result(ekv_txn_conflict(&txn, &place, key, 3, &size, &space), EKV_TOO_LARGE);
    assert_int_equal(size, fixture_key(12).size);
    ekv_txn_abort(&txn);
    fixture_verify(&on);
}

static void a_conflict_is_still_seen_after_flush_merge_and_collection(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        struct ekv_txn one, two;
        uint64_t chance = i;
        fixture_start(&on, geometries[i], 8);
        for (uint32_t n = 0; n < 20; n++)
            fixture_put(&on, fixture_key(n), 20, n);
        begin(&one, 0);
        begin(&two, 1);
        fixture_fill(on.value, 10, 1);
        assert_ok(ekv_txn_put(&one, fixture_key(5), on.value, 10));
        assert_ok(ekv_txn_put(&two, fixture_key(6), on.value, 10));
        fixture_put(&on, fixture_key(5), 10, 99);
        for (uint32_t n = 0; n < 150; n++)
            fixture_put(&on, fixture_key(7 + fixture_below(&chance, 12)), 20, n);
        assert_result(ekv_txn_commit(&one), EKV_CONFLICT);
        ekv_txn_abort(&one);
        /* Key 6 was moved perhaps, never changed. */
        assert_ok(ekv_txn_commit(&two));
        fixture_fill(on.value, 10, 1);
        model_put(&on.model, fixture_key(6), on.value, 10);
        fixture_verify(&on);
        fixture_remount(&on);
        fixture_stop(&on);
    }
}

static void interleaved_transactions_commit_what_is_theirs(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        uint64_t chance = 20 + i;
        fixture_start(&on, geometries[i], 16);
        for (uint32_t round = 0; round < 60; round++) {
            struct ekv_txn txns[3];
            struct model written[3];
            for (int t = 0; t < 3; t++) {
                begin(&txns[t], t);
                model_init(&written[t]);
            }
            for (uint32_t n = 0; n < 15; n++) {
                uint32_t t = fixture_below(&chance, 4), key = fixture_below(&chance, 5);
                if (t == 3) /* single puts between them, of keys of nobody else */
                    fixture_put(&on, fixture_key(900 + key), 15, n + round);
                else
                    put(&txns[t], &written[t], fixture_key(100 * t + key),
                        fixture_below(&chance, 60), n + round);
            }
            for (int t = 0; t < 3; t++) {
                bool keep = fixture_below(&chance, 4) > 0;
                if (keep) {
                    assert_ok(ekv_txn_commit(&txns[t]));
                    for (uint32_t n = 0; n < written[t].count; n++)
                        model_put(&on.model, model_key(&written[t].entries[n]),
                                  written[t].entries[n].value->bytes,
                                  written[t].entries[n].value->size);
                } else {
                    ekv_txn_abort(&txns[t]);
                }
                model_free(&written[t]);
                if (round % 10 == 0)
                    fixture_verify(&on);
            }
            if (round % 8 == 7)
                fixture_reload(&on);
        }
        fixture_remount(&on);
        fixture_stop(&on);
    }
}

static void a_transaction_keeps_its_view_while_others_write(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        struct ekv_txn txn;
        struct model view;
        uint64_t chance = 30 + i;
        fixture_start(&on, geometries[i], 8);
        for (uint32_t n = 0; n < 20; n++)
            fixture_put(&on, fixture_key(n), 30, n);
        model_init(&view);
        model_copy(&view, &on.model);
        begin(&txn, 0);
        put(&txn, &view, fixture_key(500), 40, 1);
        put(&txn, &view, fixture_key(501), 2000, 2);
        for (uint32_t n = 0; n < 120; n++) {
            fixture_put(&on, fixture_key(fixture_below(&chance, 20)), 30, 1000 + n);
            if (n % 20 == 0)
                expect_view(&txn, &view);
        }
        expect_view(&txn, &view);
        fixture_verify(&on);
        assert_ok(ekv_txn_commit(&txn));
        fixture_fill(on.value, 40, 1);
        model_put(&on.model, fixture_key(500), on.value, 40);
        fixture_fill(on.value, 2000, 2);
        model_put(&on.model, fixture_key(501), on.value, 2000);
        model_free(&view);
        fixture_verify(&on);
        fixture_remount(&on);
        fixture_stop(&on);
    }
}

static void a_transaction_larger_than_the_memtable_commits_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        for (uint32_t count = 7; count < 120; count += 28) {
            struct ekv_txn txn;
            fixture_start(&on, geometries[i], 8);
            for (uint32_t n = 0; n < 12; n++)
                fixture_put(&on, fixture_key(n * 5), 12, n);
            begin(&txn, 0);
            for (uint32_t n = 0; n < count; n++)
                put(&txn, &on.model, fixture_key(n * 7919 % count), 12, 100 + n);
            assert_ok(ekv_txn_delete(&txn, fixture_key(0)));
            assert_true(model_delete(&on.model, fixture_key(0)));
            assert_ok(ekv_txn_commit(&txn));
            fixture_verify(&on);
            fixture_reload(&on);
            fixture_put(&on, fixture_key(1), 5, 5);
            fixture_remount(&on);
            fixture_stop(&on);
        }
    }
}

/* Of either kind: few keys that a commit record will cover, and more than the memtable takes. */
static void a_transaction_of_many_sectors_flushes_as_rarely_as_single_writes(void **state)
{
    static const struct {
        uint32_t keys, size;
    } shapes[] = {{12, 9000}, {3000, 12}};
    static const struct ekv_geometry geometry = {4096, 128, 1, false};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct ekv_txn txn;
        fixture_start(&on, geometry, 16);
        struct ekv_stat before = fixture_stat(&on);
        begin(&txn, 0);
        for (uint32_t n = 0; n < shapes[i].keys; n++)
            put(&txn, &on.model, fixture_key(n * 7919 % shapes[i].keys), shapes[i].size, n);
        for (uint32_t n = 0; n < shapes[i].keys; n += 3) /* found among all the others */
            put(&txn, &on.model, fixture_key(n), 5, n);
        expect_view(&txn, &on.model);
        assert_ok(ekv_txn_commit(&txn));
        struct ekv_stat after = fixture_stat(&on);
        uint64_t sectors = (after.programmed_size - before.programmed_size) / 4096;
        assert_true(sectors > 20);
        assert_in_range(after.flushes - before.flushes, 0, sectors / 4);
        fixture_verify(&on);
        fixture_reload(&on);
        fixture_stop(&on);
    }
}

static void a_full_table_says_so_and_grows_in_place_of_it(void **state)
{
    struct ekv_txn txn;
    static uint32_t small[2 * 4], large[2 * 64];
    (void)state;
    fixture_start(&on, plain, 16);
    assert_ok(ekv_txn_begin(&txn, on.db, small, sizeof small));
    for (uint32_t n = 0; n < 4; n++)
        put(&txn, &on.model, fixture_key(n), 10, n);
    fixture_fill(on.value, 10, 4);
    assert_result(ekv_txn_put(&txn, fixture_key(4), on.value, 10), EKV_MEMORY);
    put(&txn, &on.model, fixture_key(2), 10, 77); /* one that it holds already */
    assert_result(ekv_txn_grow(&txn, large, 3 * EKV_TXN_ENTRY_SIZE), EKV_INVALID);
    assert_result(ekv_txn_grow(&txn, (char *)large + 1, sizeof large - 8), EKV_INVALID);
    assert_ok(ekv_txn_grow(&txn, large, sizeof large));
    memset(small, 0xee, sizeof small);
    for (uint32_t n = 4; n < 60; n++)
        put(&txn, &on.model, fixture_key(n), 10, n);
    assert_ok(ekv_txn_commit(&txn));
    fixture_verify(&on);
    assert_result(ekv_txn_begin(&txn, on.db, (char *)large + 2, 64), EKV_INVALID);
    fixture_remount(&on);
}

static void an_empty_transaction_commits_without_a_trace(void **state)
{
    struct ekv_txn txn;
    (void)state;
    fixture_start(&on, plain, 16);
    fixture_put(&on, fixture_key(1), 10, 1);
    uint64_t version = fixture_stat(&on).version, size = fixture_stat(&on).programmed_size;
    assert_ok(ekv_txn_begin(&txn, on.db, NULL, 0));
    assert_result(ekv_txn_put(&txn, fixture_key(4), "x", 1), EKV_MEMORY);
    assert_ok(ekv_txn_commit(&txn));
    assert_int_equal(fixture_stat(&on).version, version);
    assert_int_equal(fixture_stat(&on).programmed_size, size);
    fixture_remount(&on);
}

static void an_open_transaction_is_gone_after_a_loss_of_power(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        struct ekv_txn txn;
        struct model view;
        fixture_start(&on, geometries[i], 16);
        fixture_put(&on, fixture_key(1), 30, 1);
        uint64_t live = fixture_stat(&on).live_size;
        for (uint32_t round = 0; round < 30; round++) {
            model_init(&view);
            begin(&txn, 0);
            for (uint32_t n = 0; n < 20; n++)
                put(&txn, &view, fixture_key(n), 100, round + n);
            model_free(&view);
            fixture_reload(&on);
            assert_int_equal(fixture_stat(&on).live_size, live);
            assert_int_equal(fixture_stat(&on).reserved_size, 0);
        }
        fixture_put(&on, fixture_key(2), 30, 2);
        fixture_remount(&on);
        fixture_stop(&on);
    }
}

static void an_open_transaction_keeps_the_store_mounted(void **state)
{
    struct ekv_txn txn;
    (void)state;
    fixture_start(&on, plain, 16);
    begin(&txn, 0);
    assert_result(ekv_unmount(on.db), EKV_BUSY);
    put(&txn, &on.model, fixture_key(1), 10, 1);
    assert_ok(ekv_txn_commit(&txn));
    fixture_remount(&on);
}

static void a_transaction_that_does_not_fit_changes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        struct ekv_txn txn;
        int error = EKV_OK;
        uint32_t written = 0;
        fixture_start(&on, geometries[i], 16);
        for (uint32_t n = 0; n < 10; n++)
            fixture_put(&on, fixture_key(n), 100, n);
        begin(&txn, 0);
        for (; error == EKV_OK; written++) {
            fixture_fill(on.value, 200, written);
            error = ekv_txn_put(&txn, fixture_key(written), on.value, 200);
            assert_true(written < 5000);
        }
        if (error != EKV_FULL && error != EKV_PINNED)
            assert_result(error, EKV_FULL);
        assert_true(written > 10);
        fixture_verify(&on);
        ekv_txn_abort(&txn);
        for (uint32_t n = 0; n < 20; n++)
            fixture_put(&on, fixture_key(n), 100, n);
        fixture_remount(&on);
        fixture_stop(&on);
    }
}

static void a_held_snapshot_pins_no_more_than_it_sees(void **state)
{
    static const size_t sizes[] = {40, 250, 1000, 3000};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct ekv_snapshot snapshot;
        uint32_t keys = (uint32_t)(150000 / sizes[i]) / 4;
        fixture_start(&on, (struct ekv_geometry){4096, 64, 1, false}, 64);
        for (uint32_t n = 0; n < keys; n++)
            fixture_put(&on, fixture_key(n), sizes[i], n);
        ekv_snapshot_open(&snapshot, on.db);
        for (uint32_t round = 1; round <= 10; round++)
            for (uint32_t n = 0; n < keys; n++)
                fixture_put(&on, fixture_key(n), sizes[i], round * keys + n);
        fixture_check(&on);
        for (uint32_t n = 0; n < keys; n++) {
            static uint8_t wanted[3000], value[3000];
            size_t size;
            fixture_fill(wanted, sizes[i], n);
            assert_ok(ekv_snapshot_get(&snapshot, fixture_key(n), 0, value, sizeof value, &size));
            assert_int_equal(size, sizes[i]);
            assert_memory_equal(value, wanted, size);
        }
        ekv_snapshot_close(&snapshot);
        assert_int_equal(fixture_stat(&on).sectors_pinned, 0);
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

/* Fills a store with transactions that end in nothing and with keys that are deleted. */
static void leave_garbage(void)
{
    struct ekv_txn txn;
    int error = EKV_OK;
    uint32_t count = 0;
    begin(&txn, 0);
    fixture_fill(on.value, 400, 1);
    for (uint32_t n = 0; !error; n++)
        error = ekv_txn_put(&txn, fixture_key(n), on.value, 400);
    assert_result(error, EKV_FULL);
    ekv_txn_abort(&txn);
    while (!(error = ekv_put(on.db, fixture_key(count), on.value, 400)))
        count++;
    assert_result(error, EKV_FULL);
    while (count-- > 0)
        assert_ok(ekv_delete(on.db, fixture_key(count)));
}

static void a_transaction_finds_room_among_garbage(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct ekv_txn txn;
        struct model model;
        fixture_start(&on, (struct ekv_geometry){4096, i ? 256 : 64, 1, false}, 512);
        leave_garbage();
        model_init(&model);
        begin(&txn, 0);
        uint32_t count = (uint32_t)(fixture_stat(&on).capacity_size / 450 * 3 / 4);
        for (uint32_t n = 0; n < count; n++)
            put(&txn, &model, fixture_key(n), 400, n);
        expect_view(&txn, &model);
        assert_ok(ekv_txn_commit(&txn));
        model_copy(&on.model, &model);
        model_free(&model);
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

static void deletes_work_beside_a_transaction_that_fills_the_store(void **state)
{
    (void)state;
    for (uint32_t staged = 100; staged <= 300; staged += 100) {
        struct ekv_txn txn;
        uint32_t count = 0;
        int error;
        fixture_start(&on, (struct ekv_geometry){4096, 64, 1, false}, 64);
        begin(&txn, 0);
        fixture_fill(on.value, 400, 1);
        for (uint32_t n = 0; n < staged; n++)
            assert_ok(ekv_txn_put(&txn, fixture_key(1000 + n), on.value, 400));
        while (!(error = ekv_put(on.db, fixture_key(count), on.value, 400)))
            count++;
        assert_true(error == EKV_FULL || error == EKV_PINNED);
        while (count-- > 0)
            assert_ok(ekv_delete(on.db, fixture_key(count)));
        assert_ok(ekv_txn_commit(&txn));
        assert_int_equal(fixture_stat(&on).keys, staged);
        fixture_check(&on);
        fixture_stop(&on);
    }
}

/* A flush beside a transaction that is appending takes copies that gc made among its records to a
 * run; replay has to begin before them, and they have no slot in the memtable. */
static void what_was_flushed_beside_a_transaction_takes_no_slot_of_a_recovery(void **state)
{
    enum { SLOTS = 8, KEYS = 28 };
    uint64_t chance = 5;
    (void)state;
    fixture_start(&on, (struct ekv_geometry){1024, 12, 1, false}, SLOTS);
    for (uint32_t step = 0; step < 3000; step++) {
        struct ekv_txn txn;
        struct model view;
        model_init(&view);
        model_copy(&view, &on.model);
        begin(&txn, 0);
        int error = EKV_OK;
        for (uint32_t i = 1 + fixture_below(&chance, 6); !error && i > 0; i--) {
            struct ekv_key key = fixture_key(fixture_below(&chance, KEYS));
            size_t size = fixture_below(&chance, 20);
            fixture_fill(on.value, size, step);
            error = ekv_txn_put(&txn, key, on.value, size);
            model_put(&view, key, on.value, size);
        }
        if (!error)
            error = ekv_txn_commit(&txn);
        if (error) {
            assert_result(error, EKV_FULL);
            ekv_txn_abort(&txn);
        } else {
            model_copy(&on.model, &view);
        }
        model_free(&view);
        if (fixture_below(&chance, 4) == 0)
            fixture_reload(&on);
    }
    fixture_verify(&on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_transaction_reads_its_own_writes_and_nobody_else_does,
                                  teardown),
        cmocka_unit_test_teardown(a_key_written_again_takes_no_log_while_its_record_is_buffered,
                                  teardown),
        cmocka_unit_test_teardown(a_committed_transaction_survives_a_loss_of_power_right_after,
                                  teardown),
        cmocka_unit_test_teardown(an_aborted_transaction_leaves_nothing_and_gives_its_space_back,
                                  teardown),
        cmocka_unit_test_teardown(what_another_commit_changed_since_the_begin_is_a_conflict,
                                  teardown),
        cmocka_unit_test_teardown(the_keys_in_conflict_are_named, teardown),
        cmocka_unit_test_teardown(a_conflict_is_still_seen_after_flush_merge_and_collection,
                                  teardown),
        cmocka_unit_test_teardown(interleaved_transactions_commit_what_is_theirs, teardown),
        cmocka_unit_test_teardown(a_transaction_keeps_its_view_while_others_write, teardown),
        cmocka_unit_test_teardown(a_transaction_larger_than_the_memtable_commits_whole, teardown),
        cmocka_unit_test_teardown(a_transaction_of_many_sectors_flushes_as_rarely_as_single_writes,
                                  teardown),
        cmocka_unit_test_teardown(a_full_table_says_so_and_grows_in_place_of_it, teardown),
        cmocka_unit_test_teardown(an_empty_transaction_commits_without_a_trace, teardown),
        cmocka_unit_test_teardown(an_open_transaction_is_gone_after_a_loss_of_power, teardown),
        cmocka_unit_test_teardown(an_open_transaction_keeps_the_store_mounted, teardown),
        cmocka_unit_test_teardown(a_transaction_that_does_not_fit_changes_nothing, teardown),
        cmocka_unit_test_teardown(a_held_snapshot_pins_no_more_than_it_sees, teardown),
        cmocka_unit_test_teardown(a_transaction_finds_room_among_garbage, teardown),
        cmocka_unit_test_teardown(deletes_work_beside_a_transaction_that_fills_the_store, teardown),
        cmocka_unit_test_teardown(what_was_flushed_beside_a_transaction_takes_no_slot_of_a_recovery,
                                  teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
