/* Values that are written in pieces inside a transaction: whatever the pieces are and whatever
 * happens between them, the value is all of them in order, or not there.
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

enum { TABLE = 64, SIZE_MAX_OF_VALUE = 300 * 1024 };

static struct fixture on;
static uint32_t table[TABLE * 2];
static uint8_t *value, *got;

static int setup(void **state)
{
    (void)state;
    value = malloc(SIZE_MAX_OF_VALUE);
    got = malloc(SIZE_MAX_OF_VALUE);
    return value && got ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    fixture_stop(&on);
    free(value);
    free(got);
    return 0;
}

static const struct ekv_geometry geometries[] = {
    {4096, 64, 1, true},    {1024, 128, 4, true},  {512, 512, 32, true},
    {4096, 128, 256, true}, {2048, 64, 16, false}, {65536, 16, 1, true},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

static void begin(struct ekv_txn *txn)
{
    assert_ok(ekv_txn_begin(txn, on.db, table, sizeof table));
}

static void expect_staged(struct ekv_txn *txn, struct ekv_key key, size_t size)
{
    struct ekv_entry entry;
    size_t copied;
    assert_ok(ekv_txn_find(txn, key, &entry));
    assert_int_equal(entry.size, size);
    assert_ok(ekv_txn_get(txn, key, 0, got, SIZE_MAX_OF_VALUE, &copied));
    assert_int_equal(copied, size);
    assert_memory_equal(got, value, size);
}

/* Adds pieces until the value has `size` bytes; what the store holds besides goes on changing.
 */
static void write_in_pieces(struct ekv_txn *txn, struct ekv_key key, size_t size, uint64_t *chance)
{
    static const uint32_t limits[] = {300, 1000, 5000, 30000};
    size_t done = fixture_below(chance, limits[fixture_below(chance, 4)]) + 1;
    fixture_fill(value, size, *chance);
    done = done < size ? done : size;
    assert_ok(ekv_txn_append(txn, key, value, done));
    while (done < size) {
        size_t piece = fixture_below(chance, limits[fixture_below(chance, 4)]) + 1;
        piece = piece < size - done ? piece : size - done;
        assert_ok(ekv_txn_append(txn, key, value + done, piece));
        done += piece;
        for (uint32_t n = fixture_below(chance, 3); n > 0; n--)
            fixture_put(&on, fixture_key(fixture_below(chance, 20)), fixture_below(chance, 100),
                        *chance);
        if (fixture_below(chance, 16) == 0)
            expect_staged(txn, key, done);
    }
    expect_staged(txn, key, size);
}

static void pieces_make_one_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        const struct ekv_geometry *geometry = &geometries[i];
        uint32_t most = geometry->sector_size * geometry->sector_count / 8;
        uint64_t chance = i;
        fixture_start(&on, *geometry, 16);
        for (uint32_t round = 0; round < 16; round++) {
            struct ekv_txn txn;
            struct ekv_key key = round % 2 ? ekv_key("odd", 3) : ekv_key("even", 4);
            size_t size =
                fixture_below(&chance, most < SIZE_MAX_OF_VALUE ? most : SIZE_MAX_OF_VALUE);
            begin(&txn);
            if (round % 3 == 0 || i > 0)
                ekv_txn_unpin(&txn);
            write_in_pieces(&txn, key, size + 1, &chance);
            fixture_check(&on); /* nothing of it is seen or counted */
            assert_ok(ekv_txn_commit(&txn));
            model_put(&on.model, key, value, size + 1);
            fixture_verify(&on);
            if (round % 4 == 1)
                fixture_reload(&on);
            else if (round % 4 == 2)
                fixture_remount(&on);
        }
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

static void the_first_piece_begins_a_new_value(void **state)
{
    struct ekv_txn txn;
    (void)state;
    fixture_start(&on, geometries[0], 16);
    for (uint32_t n = 1; n < 4; n++)
        fixture_put(&on, fixture_key(n), 3000, n);
    begin(&txn);
    assert_result(ekv_txn_append(&txn, fixture_key(1), "", 0), EKV_INVALID);
    assert_ok(ekv_txn_append(&txn, fixture_key(1), "abc", 3));
    assert_ok(ekv_txn_append(&txn, fixture_key(1), "de", 2));
    assert_ok(ekv_txn_delete(&txn, fixture_key(2)));
    assert_ok(ekv_txn_append(&txn, fixture_key(2), "f", 1));
    assert_ok(ekv_txn_append(&txn, fixture_key(3), "g", 1));
    assert_ok(ekv_txn_delete(&txn, fixture_key(3)));
    assert_ok(ekv_txn_append(&txn, fixture_key(4), "h", 1));
    assert_ok(ekv_txn_put(&txn, fixture_key(4), "ij", 2));
    assert_result(ekv_txn_append(&txn, fixture_key(4), "k", 1), EKV_INVALID);
    assert_ok(ekv_txn_commit(&txn));
    model_put(&on.model, fixture_key(1), "abcde", 5);
    model_put(&on.model, fixture_key(2), "f", 1);
    assert_true(model_delete(&on.model, fixture_key(3)));
    model_put(&on.model, fixture_key(4), "ij", 2);
    fixture_verify(&on);
    assert_int_equal(fixture_stat(&on).reserved_size, 0);
    fixture_reload(&on);
}

static void pieces_that_are_given_up_leave_nothing(void **state)
{
    struct ekv_txn txn;
    uint64_t chance = 5;
    (void)state;
    fixture_start(&on, geometries[0], 16);
    /* Ten times what the flash holds. */
    for (uint32_t round = 0; round < 24; round++) {
        begin(&txn);
        write_in_pieces(&txn, ekv_key("value", 5), 100000, &chance);
        assert_true(fixture_stat(&on).reserved_size >= 100000);
        if (round % 2)
            ekv_txn_abort(&txn);
        else
            fixture_reload(&on); /* the power goes */
        assert_int_equal(fixture_stat(&on).reserved_size, 0);
        fixture_verify(&on);
    }
}

static void a_piece_that_does_not_fit_changes_nothing(void **state)
{
    struct ekv_txn txn;
    size_t size = 0;
    int error = EKV_OK;
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 64, 1, true}, 16);
    fixture_fill(value, SIZE_MAX_OF_VALUE, 1);
    fixture_put(&on, fixture_key(1), 60000, 1);
    begin(&txn);
    assert_ok(ekv_txn_append(&txn, fixture_key(2), value, 10));
    for (size = 10; !error; size += error ? 0 : 5000)
        error = ekv_txn_append(&txn, fixture_key(2), value + size, 5000);
    assert_result(error, EKV_FULL);
    assert_in_range(size, 60000, 64 * 4096 - 60000);
    expect_staged(&txn, fixture_key(2), size);
    fixture_verify(&on);
    fixture_put(&on, fixture_key(1), 10, 2); /* which makes room */
    assert_ok(ekv_txn_append(&txn, fixture_key(2), value + size, 5000));
    assert_ok(ekv_txn_commit(&txn));
    model_put(&on.model, fixture_key(2), value, size + 5000);
    fixture_verify(&on);
    fixture_reload(&on);
}

/* The store is written over and over beside one that stays open. */
static void an_unpinned_transaction_keeps_nothing_of_others(void **state)
{
    struct ekv_txn txn, other;
    static uint32_t others[2 * TABLE];
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 64, 1, true}, 16);
    fixture_put(&on, fixture_key(1), 3000, 1);
    fixture_put(&on, fixture_key(2), 3000, 1);
    begin(&txn);
    ekv_txn_unpin(&txn);
    fixture_fill(value, 20000, 9);
    assert_ok(ekv_txn_append(&txn, fixture_key(100), value, 10000));
    for (uint32_t n = 0; n < 400; n++)
        fixture_put(&on, fixture_key(n % 7), 3000, n);
    assert_true(fixture_stat(&on).collections > 100);
    assert_int_equal(fixture_stat(&on).sectors_pinned, 0);
    assert_ok(ekv_txn_append(&txn, fixture_key(100), value + 10000, 10000));
    expect_staged(&txn, fixture_key(100), 20000);
    assert_ok(ekv_txn_commit(&txn));
    model_put(&on.model, fixture_key(100), value, 20000);
    fixture_verify(&on);

    begin(&txn);
    ekv_txn_unpin(&txn);
    assert_ok(ekv_txn_put(&txn, fixture_key(100), value, 5));
    assert_ok(ekv_txn_begin(&other, on.db, others, sizeof others));
    assert_ok(ekv_txn_put(&other, fixture_key(100), value, 7));
    assert_ok(ekv_txn_commit(&other));
    assert_result(ekv_txn_commit(&txn), EKV_CONFLICT);
    ekv_txn_abort(&txn);
    model_put(&on.model, fixture_key(100), value, 7);
    fixture_verify(&on);
}

/* Each piece has a head of its own while the transaction is open; the log has one of them to
 * replay. */
static void a_mount_looks_at_the_value_once_however_many_pieces_it_had(void **state)
{
    enum { PIECES = 200, PIECE = 1000 };
    uint64_t reads[2];
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 256, 1, true}, 64);
    fixture_fill(value, PIECES * PIECE, 1);
    for (int pieces = 0; pieces < 2; pieces++) {
        struct ekv_txn txn;
        begin(&txn);
        for (int i = 0; pieces && i < PIECES; i++)
            assert_ok(ekv_txn_append(&txn, fixture_key(1), value + i * PIECE, PIECE));
        if (!pieces)
            assert_ok(ekv_txn_put(&txn, fixture_key(1), value, PIECES * PIECE));
        assert_ok(ekv_txn_commit(&txn));
        model_put(&on.model, fixture_key(1), value, PIECES * PIECE);
        nor_count_reset(&on.nor);
        fixture_reload(&on);
        reads[pieces] = on.nor.now.counts.reads;
    }
    assert_true(reads[1] < 3 * reads[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pieces_make_one_value, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_piece_begins_a_new_value, setup, teardown),
        cmocka_unit_test_setup_teardown(pieces_that_are_given_up_leave_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_piece_that_does_not_fit_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unpinned_transaction_keeps_nothing_of_others, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_mount_looks_at_the_value_once_however_many_pieces_it_had,
                                        setup, teardown),
    };
    return cmocka_run_group_tests_name("append", tests, NULL, NULL);
}
