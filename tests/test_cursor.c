/* Cursors: every key once, in order, in both directions, as of the moment they were opened,
 * whatever happens beside them.
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

static struct fixture on;

static int teardown(void **state)
{
    (void)state;
    fixture_stop(&on);
    return 0;
}

static const struct ekv_geometry geometries[] = {
    {4096, 32, 1, false},   {1024, 64, 4, false},  {512, 128, 32, false},
    {4096, 64, 256, false}, {2048, 24, 16, false},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

static const struct ekv_geometry plain = {4096, 32, 1, false};

/* The cursor stands on entry `at` of a model (1 is the first) or, at 0 and behind the last, on
 * nothing. */
static void expect_on(struct ekv_cursor *cursor, int error, const struct model *model, uint32_t at)
{
    uint8_t key[1024], value[4096];
    size_t size = 0;
    struct ekv_entry entry;
    bool there = at >= 1 && at <= model->count && model->entries[at - 1].space == cursor->space;
    assert_result(error, there ? EKV_OK : EKV_NOT_FOUND);
    if (!there) {
        assert_result(ekv_cursor_key(cursor, key, sizeof key, &size), EKV_NOT_FOUND);
        assert_result(ekv_cursor_entry(cursor, &entry), EKV_NOT_FOUND);
        return;
    }
    const struct model_entry *expected = &model->entries[at - 1];
    assert_ok(ekv_cursor_key(cursor, key, sizeof key, &size));
    if (size != expected->key->size || memcmp(key, expected->key->bytes, size) != 0)
        fail_msg("on '%.*s' instead of '%.*s'", (int)size, (char *)key, (int)expected->key->size,
                 (char *)expected->key->bytes);
    assert_ok(ekv_cursor_entry(cursor, &entry));
    assert_int_equal(entry.size, expected->value->size);
    assert_false(entry.removed);
    assert_ok(ekv_cursor_read(cursor, 0, value, sizeof value, &size));
    assert_int_equal(size, expected->value->size);
    assert_memory_equal(value, expected->value->bytes, size);
}

/* First entry of a model at or after a key, from 1; and the last one at or before it. */
static uint32_t at_or_after(const struct model *model, struct ekv_key key)
{
    return model_seek(model, key) + 1;
}

static uint32_t at_or_before(const struct model *model, struct ekv_key key)
{
    return model_find(model, key) ? model_seek(model, key) + 1 : model_seek(model, key);
}

static void fill(uint32_t puts, uint64_t seed)
{
    uint64_t chance = seed;
    for (uint32_t n = 0; n < puts; n++) {
        uint32_t key = fixture_below(&chance, 60);
        if (fixture_below(&chance, 4) == 0)
            fixture_delete(&on, fixture_key(2 * key));
        else
            fixture_put(&on, fixture_key(2 * key), fixture_below(&chance, 50), n);
    }
}

/* Moves by chance for a while and compares each place with the model's. */
static void wander(struct ekv_cursor *cursor, const struct model *model, uint32_t *at,
                   uint32_t moves, uint64_t *chance)
{
    for (uint32_t n = 0; n < moves; n++) {
        struct ekv_key key = fixture_key(fixture_below(chance, 130));
        int error;
        switch (fixture_below(chance, 8)) {
        case 0:
            error = ekv_cursor_seek(cursor, key);
            *at = at_or_after(model, key);
            break;
        case 1:
            error = ekv_cursor_seek_back(cursor, key);
            *at = at_or_before(model, key);
            break;
        case 2:
        case 3:
        case 4:
            error = ekv_cursor_next(cursor);
            *at = *at > model->count ? 1 : *at + 1;
            break;
        default:
            error = ekv_cursor_previous(cursor);
            *at = *at == 0 || *at > model->count ? model->count : *at - 1;
            break;
        }
        expect_on(cursor, error, model, *at);
        if (*at > model->count)
            *at = 0; /* on no key: either end begins anew */
    }
}

/* --- Walking --------------------------------------------------------------------------------- */

static void cursors_walk_both_ways_and_turn_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        struct ekv_cursor cursor;
        uint64_t chance = i;
        uint32_t at = 0;
        fixture_start(&on, geometries[i], 8);
        fill(400, i);
        assert_true(fixture_stat(&on).flushes > 5);
        ekv_cursor_open(&cursor, on.db, EKV_USER);
        for (uint32_t n = 1; n <= on.model.count + 1; n++)
            expect_on(&cursor, ekv_cursor_next(&cursor), &on.model, n);
        for (uint32_t n = on.model.count + 1; n-- > 0;)
            expect_on(&cursor, ekv_cursor_previous(&cursor), &on.model, n);
        wander(&cursor, &on.model, &at, 1500, &chance);
        ekv_cursor_close(&cursor);
        fixture_stop(&on);
    }
}

static void an_empty_store_has_nothing_to_stand_on(void **state)
{
    struct ekv_cursor cursor;
    uint8_t byte;
    size_t size;
    (void)state;
    fixture_start(&on, plain, 8);
    for (uint32_t round = 0; round < 2; round++) {
        ekv_cursor_open(&cursor, on.db, EKV_USER);
        assert_result(ekv_cursor_next(&cursor), EKV_NOT_FOUND);
        assert_result(ekv_cursor_previous(&cursor), EKV_NOT_FOUND);
        assert_result(ekv_cursor_seek(&cursor, ekv_key("", 0)), EKV_NOT_FOUND);
        assert_result(ekv_cursor_seek_back(&cursor, ekv_key("\xff", 1)), EKV_NOT_FOUND);
        assert_result(ekv_cursor_read(&cursor, 0, &byte, 1, &size), EKV_NOT_FOUND);
        ekv_cursor_close(&cursor);
        /* The second time: emptied. */
        for (uint32_t n = 0; n < 30; n++)
            fixture_put(&on, fixture_key(n), 10, n);
        for (uint32_t n = 0; n < 30; n++)
            fixture_delete(&on, fixture_key(n));
    }
}

static void a_prefix_is_walked_from_its_seek_to_its_end(void **state)
{
    static const char *const names[] = {"a",  "a/",    "a/b", "a/b/c", "a/c",   "a0",
                                        "aa", "a\xff", "b",   "",      "a/\xff"};
    struct ekv_cursor cursor;
    char key[16];
    size_t size;
    (void)state;
    fixture_start(&on, plain, 8);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        fixture_put(&on, ekv_key(names[i], strlen(names[i])), i, i);
    ekv_cursor_open(&cursor, on.db, EKV_USER);
    static const char *const expected[] = {"a/", "a/b", "a/b/c", "a/c", "a/\xff"};
    int error = ekv_cursor_seek(&cursor, ekv_key("a/", 2));
    for (size_t i = 0; i < 5; i++) {
        assert_ok(error);
        assert_ok(ekv_cursor_key(&cursor, key, sizeof key, &size));
        assert_int_equal(size, strlen(expected[i]));
        assert_memory_equal(key, expected[i], size);
        error = ekv_cursor_next(&cursor);
    }
    assert_ok(ekv_cursor_key(&cursor, key, sizeof key, &size));
    assert_memory_equal(key, "a0", 2);
    /* Back from the first key behind the prefix. */
    assert_ok(ekv_cursor_seek_back(&cursor, ekv_key("a/\xff\xff", 4)));
    for (size_t i = 5; i-- > 0;) {
        assert_ok(ekv_cursor_key(&cursor, key, sizeof key, &size));
        assert_int_equal(size, strlen(expected[i]));
        assert_memory_equal(key, expected[i], size);
        assert_ok(ekv_cursor_previous(&cursor));
    }
    ekv_cursor_close(&cursor);
}

/* Whether a seek for the prefix finds what a walk from it finds first. */
static void expect_prefix(struct ekv_cursor *cursor, const char *prefix, const char *expected)
{
    char key[200];
    size_t size;
    int error = ekv_cursor_seek_prefix(cursor, ekv_key(prefix, strlen(prefix)));
    assert_result(error, expected ? EKV_OK : EKV_NOT_FOUND);
    error = ekv_cursor_key(cursor, key, sizeof key, &size);
    assert_result(error, expected ? EKV_OK : EKV_NOT_FOUND);
    if (expected) {
        assert_int_equal(size, strlen(expected));
        assert_memory_equal(key, expected, size);
    }
}

static void a_seek_for_a_prefix_finds_nothing_behind_it(void **state)
{
    static const char long_name[] =
        "long/0123456789abcdef0123456789abcdef0123456789abcdef0123456789";
    static const char longer[] =
        "long/0123456789abcdef0123456789abcdef0123456789abcdef0123456789/x";
    static const char other[] = "long/0123456789abcdef0123456789abcdef0123456789abcdef012345678X";
    static const char *const names[] = {"a", "b/1", "b/2", "b/3", "c", "d/1", longer};
    struct ekv_cursor cursor;
    (void)state;
    fixture_start(&on, plain, 8);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        fixture_put(&on, ekv_key(names[i], strlen(names[i])), i, i);
    fixture_delete(&on, ekv_key("b/1", 3));
    fixture_delete(&on, ekv_key("d/1", 3));
    for (uint32_t flushed = 0; flushed < 2; flushed++) {
        ekv_cursor_open(&cursor, on.db, EKV_USER);
        expect_prefix(&cursor, "", "a");
        expect_prefix(&cursor, "a", "a");
        expect_prefix(&cursor, "a/", NULL);
        expect_prefix(&cursor, "b/", "b/2");
        expect_prefix(&cursor, "b/1", NULL);
        expect_prefix(&cursor, "c", "c");
        expect_prefix(&cursor, "d/", NULL);
        expect_prefix(&cursor, long_name, longer);
        expect_prefix(&cursor, longer, longer);
        expect_prefix(&cursor, other, NULL);
        expect_prefix(&cursor, "long/0123456789abcdef0123456789abcdef0123456789abcdef0123456789/xy",
                      NULL);
        expect_prefix(&cursor, "zz", NULL);
        assert_ok(ekv_cursor_next(&cursor)); /* from no key: the first */
        expect_prefix(&cursor, "b/", "b/2");
        assert_ok(ekv_cursor_next(&cursor));
        assert_ok(ekv_cursor_next(&cursor)); /* the walk goes on behind the prefix */
        char key[4];
        size_t size;
        assert_ok(ekv_cursor_key(&cursor, key, sizeof key, &size));
        assert_int_equal(key[0], 'c');
        ekv_cursor_close(&cursor);
        for (uint32_t n = 0; n < 30; n++) /* what there is becomes a run */
            fixture_put(&on, fixture_key(n), 1, n);
        for (uint32_t n = 0; n < 30; n++)
            fixture_delete(&on, fixture_key(n));
    }
}

/* Removed keys behind the prefix are not passed: it costs no more than where there are none. */
static void a_seek_for_a_prefix_reads_no_removed_keys_behind_it(void **state)
{
    uint64_t reads[2];
    (void)state;
    for (uint32_t removed = 0; removed < 2; removed++) {
        struct ekv_cursor cursor;
        fixture_start(&on, plain, 64);
        fixture_put(&on, ekv_key("a", 1), 1, 1);
        for (uint32_t n = 0; n < 50 * removed; n++)
            fixture_put(&on, fixture_key(n), 1, n);
        for (uint32_t n = 0; n < 50 * removed; n++)
            fixture_delete(&on, fixture_key(n));
        ekv_cursor_open(&cursor, on.db, EKV_USER);
        reads[removed] = on.nor.now.counts.reads;
        assert_result(ekv_cursor_seek_prefix(&cursor, ekv_key("b", 1)), EKV_NOT_FOUND);
        reads[removed] = on.nor.now.counts.reads - reads[removed];
        ekv_cursor_close(&cursor);
        if (removed == 0)
            fixture_stop(&on);
    }
    assert_true(reads[1] <= reads[0] + 30);
}

static void the_empty_key_is_the_first(void **state)
{
    struct ekv_cursor cursor;
    char key[4];
    size_t size = 9;
    (void)state;
    fixture_start(&on, plain, 8);
    fixture_put(&on, ekv_key("\0", 1), 3, 1);
    fixture_put(&on, ekv_key("", 0), 5, 2);
    for (uint32_t flushed = 0; flushed < 2; flushed++) {
        ekv_cursor_open(&cursor, on.db, EKV_USER);
        assert_ok(ekv_cursor_next(&cursor));
        assert_ok(ekv_cursor_key(&cursor, key, sizeof key, &size));
        assert_int_equal(size, 0);
        assert_ok(ekv_cursor_next(&cursor));
        assert_ok(ekv_cursor_previous(&cursor));
        assert_ok(ekv_cursor_key(&cursor, key, sizeof key, &size));
        assert_int_equal(size, 0);
        assert_result(ekv_cursor_previous(&cursor), EKV_NOT_FOUND);
        assert_ok(ekv_cursor_seek(&cursor, ekv_key("", 0)));
        assert_ok(ekv_cursor_seek_back(&cursor, ekv_key("", 0)));
        assert_ok(ekv_cursor_key(&cursor, key, sizeof key, &size));
        assert_int_equal(size, 0);
        ekv_cursor_close(&cursor);
        for (uint32_t n = 0; n < 30; n++)
            fixture_put(&on, fixture_key(n), 1, n);
    }
}

static void the_two_key_spaces_are_walked_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        struct ekv_cursor cursors[2];
        struct model spaces[2];
        fixture_start(&on, geometries[i], 8);
        for (int space = 0; space < 2; space++)
            model_init(&spaces[space]);
        for (uint32_t n = 0; n < 80; n++) {
            struct ekv_key key = n % 9 ? fixture_key(n % 50) : ekv_key("", 0);
            key.space = n % 2;
            fixture_put(&on, key, 20, n);
            model_put(&spaces[key.space], key, on.value, 20);
        }
        for (uint8_t space = 0; space < 2; space++) {
            ekv_cursor_open(&cursors[space], on.db, space);
            for (uint32_t n = 1; n <= spaces[space].count + 1; n++)
                expect_on(&cursors[space], ekv_cursor_next(&cursors[space]), &spaces[space], n);
            for (uint32_t n = spaces[space].count + 1; n-- > 0;)
                expect_on(&cursors[space], ekv_cursor_previous(&cursors[space]), &spaces[space], n);
            ekv_cursor_close(&cursors[space]);
            model_free(&spaces[space]);
        }
        fixture_stop(&on);
    }
}

static void a_buffer_too_small_for_a_key_gets_its_beginning(void **state)
{
    struct ekv_cursor cursor;
    char key[8];
    size_t size = 0;
    (void)state;
    fixture_start(&on, plain, 8);
    fixture_put(&on, ekv_key("0123456789", 10), 4, 1);
    ekv_cursor_open(&cursor, on.db, EKV_USER);
    assert_ok(ekv_cursor_next(&cursor));
    memset(key, 'x', sizeof key);
    assert_result(ekv_cursor_key(&cursor, key, 4, &size), EKV_TOO_LARGE);
    assert_int_equal(size, 10);
    assert_memory_equal(key, "0123xxxx", 8);
    ekv_cursor_close(&cursor);
}

/* --- Stability ------------------------------------------------------------------------------- */

/* What is written beside an open cursor; a store that is full of pinned sectors says so. */
static bool write_beside(uint64_t *chance, uint32_t n)
{
    uint32_t key = 2 * fixture_below(chance, 60) + fixture_below(chance, 2);
    int error;
    if (fixture_below(chance, 4) == 0) {
        error = ekv_delete(on.db, fixture_key(key));
        if (error == EKV_OK)
            model_delete(&on.model, fixture_key(key));
        return error == EKV_OK || error == EKV_NOT_FOUND;
    }
    fixture_fill(on.value, 30, n);
    error = ekv_put(on.db, fixture_key(key), on.value, 30);
    if (error == EKV_OK)
        model_put(&on.model, fixture_key(key), on.value, 30);
    else if (error != EKV_PINNED)
        assert_ok(error);
    return error == EKV_OK;
}

static void a_cursor_shows_its_moment_whatever_is_written_beside_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        for (uint32_t round = 0; round < 6; round++) {
            struct ekv_cursor cursor;
            struct model moment;
            uint64_t chance = 10 * i + round;
            uint32_t at = 0;
            fixture_start(&on, geometries[i], 8);
            fill(150 + 60 * round, round);
            model_init(&moment);
            model_copy(&moment, &on.model);
            ekv_cursor_open(&cursor, on.db, EKV_USER);
            for (uint32_t n = 0; n < 300 && write_beside(&chance, n); n++) {
                bool more;
                wander(&cursor, &moment, &at, 1 + n % 3, &chance);
                if (n % 10 == 0)
                    assert_ok(ekv_work(on.db, &more));
            }
            wander(&cursor, &moment, &at, 100, &chance);
            assert_true(fixture_stat(&on).flushes > 10);
            ekv_cursor_close(&cursor);
            model_free(&moment);
            fixture_verify(&on);
            fixture_stop(&on);
        }
    }
}

static void a_walk_that_deletes_what_it_meets_meets_everything_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        struct ekv_cursor cursor;
        uint32_t met = 0;
        fixture_start(&on, geometries[i], 8);
        for (uint32_t n = 0; n < 100; n++)
            fixture_put(&on, fixture_key(n), 20, n);
        ekv_cursor_open(&cursor, on.db, EKV_USER);
        while (ekv_cursor_next(&cursor) == EKV_OK) {
            char key[FIXTURE_KEY_SIZE];
            size_t size;
            assert_ok(ekv_cursor_key(&cursor, key, sizeof key, &size));
            assert_memory_equal(key, fixture_key(met).bytes, size);
            fixture_delete(&on, ekv_key(key, size));
            met++;
        }
        assert_int_equal(met, 100);
        ekv_cursor_close(&cursor);
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

static void a_cursor_over_a_snapshot_shows_the_snapshot(void **state)
{
    struct ekv_snapshot snapshot;
    struct ekv_cursor cursor;
    struct model moment;
    uint64_t chance = 5;
    uint32_t at = 0;
    (void)state;
    fixture_start(&on, plain, 8);
    fill(150, 1);
    model_init(&moment);
    model_copy(&moment, &on.model);
    ekv_snapshot_open(&snapshot, on.db);
    for (uint32_t n = 0; n < 60; n++)
        assert_true(write_beside(&chance, n));
    ekv_cursor_open_snapshot(&cursor, &snapshot, EKV_USER);
    for (uint32_t n = 0; n < 60; n++) {
        wander(&cursor, &moment, &at, 4, &chance);
        assert_true(write_beside(&chance, n));
    }
    ekv_cursor_close(&cursor);
    ekv_snapshot_close(&snapshot);
    model_free(&moment);
    fixture_verify(&on);
}

static void a_cursor_over_a_transaction_shows_its_writes(void **state)
{
    static uint32_t table[2 * 256];
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        struct ekv_txn txn;
        struct ekv_cursor cursor;
        struct model view;
        uint64_t chance = 70 + i;
        uint32_t at = 0;
        fixture_start(&on, geometries[i], 8);
        fill(120, i);
        assert_ok(ekv_txn_begin(&txn, on.db, table, sizeof table));
        model_init(&view);
        model_copy(&view, &on.model);
        for (uint32_t n = 0; n < 30; n++) {
            struct ekv_key key = fixture_key(fixture_below(&chance, 125));
            if (model_find(&view, key) && n % 2) {
                assert_ok(ekv_txn_delete(&txn, key));
                model_delete(&view, key);
            } else {
                fixture_fill(on.value, 25, n);
                assert_ok(ekv_txn_put(&txn, key, on.value, 25));
                model_put(&view, key, on.value, 25);
            }
        }
        ekv_cursor_open_txn(&cursor, &txn, EKV_USER);
        for (uint32_t n = 0; n < 40; n++) {
            wander(&cursor, &view, &at, 15, &chance);
            write_beside(&chance, n);
        }
        ekv_cursor_close(&cursor);
        ekv_txn_abort(&txn);
        model_free(&view);
        fixture_verify(&on);
        fixture_stop(&on);
    }
}

static void a_cursor_over_a_transaction_goes_on_while_it_writes(void **state)
{
    uint32_t table[2 * 64];
    struct ekv_cursor cursor;
    struct ekv_txn txn;
    (void)state;
    fixture_start(&on, (struct ekv_geometry){4096, 32, 1, false}, 64);
    assert_ok(ekv_txn_begin(&txn, on.db, table, sizeof table));
    for (uint32_t n = 20; n < 40; n += 2)
        assert_ok(ekv_txn_put(&txn, fixture_key(n), "x", 1));
    ekv_cursor_open_txn(&cursor, &txn, EKV_USER);
    for (uint32_t n = 20; n < 40; n += 2) {
        char key[FIXTURE_KEY_SIZE];
        size_t size;
        assert_ok(ekv_cursor_next(&cursor));
        assert_ok(ekv_cursor_key(&cursor, key, sizeof key, &size));
        assert_memory_equal(key, fixture_key(n).bytes, size);
        assert_ok(ekv_txn_put(&txn, fixture_key(n - 20), "y", 1)); /* before it */
        assert_ok(ekv_txn_put(&txn, fixture_key(n), "z", 1));
    }
    assert_result(ekv_cursor_next(&cursor), EKV_NOT_FOUND);
    ekv_cursor_close(&cursor);
    ekv_txn_abort(&txn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(cursors_walk_both_ways_and_turn_anywhere, teardown),
        cmocka_unit_test_teardown(an_empty_store_has_nothing_to_stand_on, teardown),
        cmocka_unit_test_teardown(a_prefix_is_walked_from_its_seek_to_its_end, teardown),
        cmocka_unit_test_teardown(a_seek_for_a_prefix_finds_nothing_behind_it, teardown),
        cmocka_unit_test_teardown(a_seek_for_a_prefix_reads_no_removed_keys_behind_it, teardown),
        cmocka_unit_test_teardown(the_empty_key_is_the_first, teardown),
        cmocka_unit_test_teardown(the_two_key_spaces_are_walked_apart, teardown),
        cmocka_unit_test_teardown(a_buffer_too_small_for_a_key_gets_its_beginning, teardown),
        cmocka_unit_test_teardown(a_cursor_shows_its_moment_whatever_is_written_beside_it,
                                  teardown),
        cmocka_unit_test_teardown(a_walk_that_deletes_what_it_meets_meets_everything_once,
                                  teardown),
        cmocka_unit_test_teardown(a_cursor_over_a_snapshot_shows_the_snapshot, teardown),
        cmocka_unit_test_teardown(a_cursor_over_a_transaction_shows_its_writes, teardown),
        cmocka_unit_test_teardown(a_cursor_over_a_transaction_goes_on_while_it_writes, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
