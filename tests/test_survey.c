/* The survey against the engine: whatever it calls committed was committed with exactly that value,
 * whatever the engine shows it shows too, at every moment that it calls certain it shows what was;
 * and on fragments, dumps of other things, damage and torn ends it still finds what is there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "host/survey.h"

enum { KEYS = 40, COMMITS_MAX = 6000, TXN_MAX = 48 };

/* --- What was committed ---------------------------------------------------------------------- */

/* A value is `size` bytes from `seed`; a removal has size UINT32_MAX. `version` is exact for
 * values; `after` is the store's version once it was committed. */
struct commit {
    uint32_t key;
    uint32_t size;
    uint64_t seed;
    uint64_t version, after;
    int64_t time;
};

struct history {
    struct fixture fixture;
    struct commit *commits;
    uint32_t count;
    uint64_t random;
    int64_t clock;
};

static int64_t tick(void *context)
{
    struct history *history = context;
    return history->clock += 1000000;
}

static uint32_t below(struct history *history, uint32_t limit)
{
    return fixture_below(&history->random, limit);
}

static struct ekv_key key_of(uint32_t number)
{
    struct ekv_key key = fixture_key(number / 2);
    key.space = number % 2 ? EKV_ASIDE : EKV_USER;
    return key;
}

static uint32_t size_by_chance(struct history *history)
{
    uint32_t chance = below(history, 20);
    return chance == 0   ? below(history, 12000)
           : chance == 1 ? below(history, 3000)
           : chance == 2 ? 0
                         : below(history, 120);
}

static void note(struct history *history, uint32_t key, uint32_t size, uint64_t seed)
{
    struct ekv_entry entry = {0};
    assert_true(history->count < COMMITS_MAX);
    if (size != UINT32_MAX)
        assert_ok(ekv_find(history->fixture.db, key_of(key), &entry));
    history->commits[history->count++] =
        (struct commit){.key = key,
                        .size = size,
                        .seed = seed,
                        .version = entry.version,
                        .after = fixture_stat(&history->fixture).version,
                        .time = entry.time};
}

static void start(struct history *history, struct ekv_geometry geometry, uint64_t seed)
{
    struct ekv_mount_options options = {.memtable_count = 16, .now = tick, .now_context = history};
    memset(history, 0, sizeof *history);
    history->random = seed;
    history->commits = calloc(COMMITS_MAX, sizeof *history->commits);
    assert_non_null(history->commits);
    fixture_start_options(&history->fixture, geometry, &options, seed % 2 ? NOR_AGED : NOR_FRESH);
}

static void stop(struct history *history)
{
    free(history->commits);
    fixture_stop(&history->fixture);
}

static void put(struct history *history)
{
    struct fixture *fixture = &history->fixture;
    uint32_t key = below(history, KEYS), size = size_by_chance(history);
    uint64_t seed = history->random;
    fixture_fill(fixture->value, size, seed);
    int error = ekv_put(fixture->db, key_of(key), fixture->value, size);
    if (error == EKV_FULL || error == EKV_PINNED)
        return;
    assert_ok(error);
    note(history, key, size, seed);
}

static void delete (struct history *history)
{
    uint32_t key = below(history, KEYS);
    int error = ekv_delete(history->fixture.db, key_of(key));
    if (error == EKV_NOT_FOUND || error == EKV_FULL || error == EKV_PINNED)
        return;
    assert_ok(error);
    note(history, key, UINT32_MAX, 0);
}

/* Up to so many keys that the memtable does not hold them, sometimes with another commit between
 * them, sometimes given up. */
static void transact(struct history *history)
{
    struct fixture *fixture = &history->fixture;
    struct commit written[TXN_MAX];
    uint32_t memory[TXN_MAX * 2], count = 0;
    uint32_t most = below(history, 4) == 0 ? TXN_MAX - 8 : 6;
    struct ekv_txn txn;
    assert_ok(ekv_txn_begin(&txn, fixture->db, memory, sizeof memory));
    for (uint32_t i = 0; i < most; i++) {
        struct commit one = {.key = below(history, KEYS), .seed = history->random};
        one.size = below(history, 4) == 0 ? UINT32_MAX : size_by_chance(history) % 900;
        if (one.size != UINT32_MAX)
            fixture_fill(fixture->value, one.size, one.seed);
        int error = one.size == UINT32_MAX
                        ? ekv_txn_delete(&txn, key_of(one.key))
                        : ekv_txn_put(&txn, key_of(one.key), fixture->value, one.size);
        if (error == EKV_NOT_FOUND)
            continue;
        if (error)
            break;
        written[count++] = one;
        if (below(history, 12) == 0)
            put(history);
    }
    if (below(history, 4) == 0 || ekv_txn_commit(&txn) != EKV_OK) {
        ekv_txn_abort(&txn);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool last = true;
        for (uint32_t j = i + 1; j < count; j++)
            last &= written[j].key != written[i].key;
        if (last) /* what was overwritten within the transaction nobody ever saw */
            note(history, written[i].key, written[i].size, written[i].seed);
    }
}

static void step(struct history *history)
{
    bool more;
    switch (below(history, 24)) {
    case 0:
    case 1:
    case 2:
    case 3:
        delete (history);
        break;
    case 4:
    case 5:
        transact(history);
        break;
    case 6:
        assert_ok(ekv_work(history->fixture.db, &more));
        break;
    case 7:
        if (below(history, 6) == 0) {
            if (below(history, 2) == 0)
                assert_ok(ekv_unmount(history->fixture.db));
            struct fixture *fixture = &history->fixture;
            assert_ok(ekv_mount(&fixture->db, &fixture->nor.flash, &fixture->options,
                                fixture->memory, fixture->memory_size));
        }
        break;
    default:
        put(history);
    }
}

/* --- Comparison ------------------------------------------------------------------------------ */

static void survey_all(struct survey *survey, const void *bytes, uint64_t size)
{
    struct survey_source source = survey_source_of_bytes(bytes, size);
    struct survey_place *places;
    uint32_t count;
    assert_ok(survey_find(&source, NULL, &places, &count));
    assert_ok(survey_open(survey, &source, &places[0], NULL));
    free(places);
}

static void survey_store(struct survey *survey, struct history *history)
{
    survey_all(survey, history->fixture.nor.bytes, ekv_flash_size(&history->fixture.nor.flash));
}

static struct ekv_key key_in(const struct survey_record *record)
{
    struct ekv_key key = ekv_key(record->key, record->key_size);
    key.space = record->space;
    return key;
}

static bool same_key(struct ekv_key a, struct ekv_key b)
{
    return a.space == b.space && a.size == b.size && memcmp(a.bytes, b.bytes, a.size) == 0;
}

/* The commit that wrote this record, NULL: none did. */
static const struct commit *commit_of(const struct history *history,
                                      const struct survey_record *record)
{
    for (uint32_t i = 0; i < history->count; i++) {
        const struct commit *commit = &history->commits[i];
        if (!same_key(key_of(commit->key), key_in(record)))
            continue;
        if (commit->size == UINT32_MAX
                ? record->kind == EKV_RECORD_DELETE && record->version <= commit->after &&
                      (i == 0 || record->version > history->commits[0].version)
                : record->version == commit->version)
            return commit;
    }
    return NULL;
}

static void assert_value(const struct survey *survey, const struct survey_record *record,
                         const struct commit *commit, bool whole)
{
    uint64_t size, lost;
    uint8_t *value;
    int error = survey_value(survey, record, &value, &size, &lost);
    if (error == EKV_NOT_FOUND && !whole)
        return;
    assert_ok(error);
    assert_int_equal(size, commit->size);
    assert_int_equal(record->size, commit->size);
    uint8_t *expected = malloc(size + 1);
    assert_non_null(expected);
    fixture_fill(expected, size, commit->seed);
    if (whole)
        assert_int_equal(lost, 0);
    if (lost == 0)
        assert_memory_equal(value, expected, size);
    free(expected);
    free(value);
}

/* Everything called committed was; values are right or said to be lost. */
static uint32_t assert_committed(struct history *history, const struct survey *survey)
{
    uint32_t old = 0;
    for (uint32_t i = 0; i < survey->record_count; i++) {
        const struct survey_record *record = &survey->records[i];
        if (!record->valid || record->state != SURVEY_COMMITTED || record->copy)
            continue;
        const struct commit *commit = commit_of(history, record);
        if (!commit && record->flags & EKV_RECORD_COMMITS)
            fail_msg("record at 0x%x was never committed", record->address);
        if (!commit) {
            /* Overwritten within its transaction: then that is there too. */
            assert_true(i > 0 && survey->records[i - 1].commit == record->commit &&
                        same_key(key_in(&survey->records[i - 1]), key_in(record)));
            continue;
        }
        if (record->kind == EKV_RECORD_DELETE)
            continue;
        assert_int_equal(record->time != 0, 1);
        assert_value(survey, record, commit, record->current);
        old += !record->current;
    }
    return old;
}

/* What the engine shows is current, and nothing else. */
static void assert_current(struct history *history, const struct survey *survey)
{
    struct fixture *fixture = &history->fixture;
    uint32_t current = 0, keys = 0;
    for (uint32_t i = 0; i < survey->record_count; i++)
        current += survey->records[i].current && survey->records[i].kind != EKV_RECORD_DELETE;
    for (uint8_t space = EKV_USER; space <= EKV_ASIDE; space++) {
        struct ekv_cursor cursor;
        ekv_cursor_open(&cursor, fixture->db, space);
        while (ekv_cursor_next(&cursor) == EKV_OK) {
            uint8_t bytes[64];
            size_t size;
            struct ekv_entry entry;
            uint32_t first, end;
            assert_ok(ekv_cursor_key(&cursor, bytes, sizeof bytes, &size));
            assert_ok(ekv_cursor_entry(&cursor, &entry));
            struct ekv_key key = ekv_key(bytes, size);
            key.space = space;
            assert_ok(survey_key_find(survey, key, &first, &end));
            const struct survey_record *record = survey_visible(survey, first, SURVEY_NOW, NULL);
            assert_non_null(record);
            assert_int_equal(record->version, entry.version);
            assert_int_equal(record->time, entry.time);
            assert_int_equal(record->size, entry.size);
            keys++;
        }
        ekv_cursor_close(&cursor);
    }
    assert_int_equal(current, keys);
}

/* What was committed last of a key at a version; NULL: nothing yet. */
static const struct commit *state_at(const struct history *history, struct ekv_key key,
                                     uint64_t version)
{
    const struct commit *last = NULL;
    for (uint32_t i = 0; i < history->count; i++)
        if (history->commits[i].after <= version && same_key(key_of(history->commits[i].key), key))
            last = &history->commits[i];
    return last;
}

/* At a moment between two commits, what is certain is what was. */
static void assert_moment(const struct history *history, const struct survey *survey,
                          uint64_t version, uint32_t *seen)
{
    for (uint32_t i = 0; i < survey->record_count; i = survey_key_end(survey, i)) {
        bool certain;
        const struct survey_record *record = survey_visible(survey, i, version, &certain);
        const struct commit *commit = state_at(history, key_in(&survey->records[i]), version);
        if (!record || !certain)
            continue;
        assert_non_null(commit);
        assert_int_equal(record->kind == EKV_RECORD_DELETE, commit->size == UINT32_MAX);
        if (commit->size != UINT32_MAX)
            assert_int_equal(record->version, commit->version);
        *seen += !record->current;
    }
}

static void assert_no_findings(const struct survey *survey)
{
    for (uint32_t i = 0; i < survey->finding_count; i++)
        if (!survey->findings[i].note)
            fail_msg("%s at 0x%x: %s", survey->findings[i].code, survey->findings[i].address,
                     survey->findings[i].text);
    assert_true(survey->manifest.whole);
}

static const struct ekv_geometry geometries[] = {
    {.sector_size = 1024, .sector_count = 64, .write_unit = 1},
    {.sector_size = 4096, .sector_count = 32, .write_unit = 4},
    {.sector_size = 2048, .sector_count = 48, .write_unit = 16, .program_once = true},
};

static void it_agrees_with_the_engine_on_all_that_was_ever_committed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct history history;
        struct survey survey;
        uint32_t old = 0, seen = 0;
        start(&history, geometries[seed % 3], seed);
        for (uint32_t round = 0; round < 12; round++) {
            for (uint32_t i = 0; i < 60; i++)
                step(&history);
            survey_store(&survey, &history);
            assert_no_findings(&survey);
            assert_current(&history, &survey);
            old += assert_committed(&history, &survey);
            for (uint32_t i = 0; i < history.count; i += 7)
                assert_moment(&history, &survey, history.commits[i].after, &seen);
            survey_close(&survey);
        }
        assert_true(old > 100 && seen > 100); /* or nothing was tested */
        stop(&history);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees_with_the_engine_on_all_that_was_ever_committed),
    };
    return cmocka_run_group_tests_name("survey", tests, NULL, NULL);
}
