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

#include "crc32c.h"
#include "fixture.h"
#include "host/survey.h"
#include "state.h"

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
    struct ekv_mount_options options = {.memtable_count = 16,
                                        .now = tick,
                                        .now_context = history,
                                        .retain_count = seed % 4 == 0 ? 4 : 0};
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
static uint32_t assert_committed(struct history *history, const struct survey *survey, bool whole)
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
        assert_value(survey, record, commit, whole && record->current);
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

/* Every version that the engine's own walk over the past tells is there too. The survey knows more:
 * runs that were merged away, transactions whose first sector is gone. */
static uint32_t assert_history(struct history *history, const struct survey *survey)
{
    uint32_t told = 0;
    for (uint32_t i = 0, end; i < survey->record_count; i = end) {
        struct ekv_history past;
        struct ekv_entry entry;
        uint32_t at = i;
        end = survey_key_end(survey, i);
        ekv_history_open(&past, history->fixture.db, key_in(&survey->records[i]), UINT64_MAX);
        while (ekv_history_next(&past, &entry) == EKV_OK) {
            while (at < end && survey->records[at].version > entry.version)
                at++;
            assert_true(at < end);
            const struct survey_record *record = &survey->records[at];
            assert_int_equal(record->version, entry.version);
            assert_int_equal(record->state, SURVEY_COMMITTED);
            assert_int_equal(record->time, entry.time);
            assert_int_equal(record->kind == EKV_RECORD_DELETE, entry.removed);
            told++;
        }
    }
    return told;
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
        uint32_t old = 0, seen = 0, told = 0;
        start(&history, geometries[seed % 3], seed);
        for (uint32_t round = 0; round < 12; round++) {
            for (uint32_t i = 0; i < 60; i++)
                step(&history);
            survey_store(&survey, &history);
            assert_no_findings(&survey);
            assert_current(&history, &survey);
            old += assert_committed(&history, &survey, true);
            told += assert_history(&history, &survey);
            for (uint32_t i = 0; i < history.count; i += 7)
                assert_moment(&history, &survey, history.commits[i].after, &seen);
            survey_close(&survey);
        }
        assert_true(old > 100 && seen > 100 && told > old); /* or nothing was tested */
        stop(&history);
    }
}

/* --- One key, and flash that is not mapped ---------------------------------------------------- */

static void run_history(struct history *history, struct ekv_geometry geometry, uint64_t seed,
                        uint32_t steps)
{
    start(history, geometry, seed);
    for (uint32_t i = 0; i < steps; i++)
        step(history);
}

static void assert_same_record(const struct survey_record *a, const struct survey_record *b)
{
    assert_int_equal(a->address, b->address);
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->valid, b->valid);
    assert_int_equal(a->current, b->current);
    assert_int_equal(a->copy, b->copy);
    assert_int_equal(a->time, b->time);
    assert_int_equal(a->size, b->size);
}

static void one_key_alone_is_seen_as_among_all(void **state)
{
    (void)state;
    struct history history;
    struct survey all;
    run_history(&history, geometries[0], 3, 400);
    survey_store(&all, &history);
    struct survey_source source =
        survey_source_of_bytes(history.fixture.nor.bytes, all.source.size);
    for (uint32_t i = 0, end; i < all.record_count; i = end) {
        struct ekv_key key = key_in(&all.records[i]);
        struct survey_options options = {.key = &key};
        struct survey one;
        end = survey_key_end(&all, i);
        assert_ok(survey_open(&one, &source, &all.place, &options));
        uint32_t at = i;
        for (uint32_t j = 0; j < one.record_count; j++, at++) {
            assert_true(at < end && same_key(key_in(&one.records[j]), key));
            if (all.records[at].state != SURVEY_PENDING) /* which needs the others to be known */
                assert_same_record(&one.records[j], &all.records[at]);
        }
        assert_int_equal(at, end);
        survey_close(&one);
    }
    survey_close(&all);
    stop(&history);
}

static void flash_that_is_read_gives_what_mapped_flash_does(void **state)
{
    (void)state;
    struct history history;
    struct survey mapped, read;
    struct survey_place *places;
    uint32_t count;
    run_history(&history, geometries[1], 5, 400);
    survey_store(&mapped, &history);
    struct survey_source source = survey_source_of_flash(&history.fixture.nor.flash);
    assert_null(source.bytes);
    assert_ok(survey_find(&source, NULL, &places, &count));
    assert_int_equal(places[0].offset, mapped.place.offset);
    assert_int_equal(places[0].store_id, mapped.place.store_id);
    assert_int_equal(places[0].stamp_count, mapped.place.stamp_count);
    assert_ok(survey_open(&read, &source, &places[0], NULL));
    assert_int_equal(read.record_count, mapped.record_count);
    for (uint32_t i = 0; i < read.record_count; i++)
        assert_same_record(&read.records[i], &mapped.records[i]);
    assert_current(&history, &read);
    assert_committed(&history, &read, true);
    free(places);
    survey_close(&read);
    survey_close(&mapped);
    stop(&history);
}

/* --- Transactions ---------------------------------------------------------------------------- */

static void transactions_are_listed_newest_first_and_whole(void **state)
{
    (void)state;
    struct fixture fixture;
    struct survey survey;
    struct survey_transaction *list;
    uint32_t memory[64], count;
    struct ekv_txn txn;
    fixture_start(&fixture, geometries[0], 16);
    fixture_put(&fixture, fixture_key(1), 20, 1);
    assert_ok(ekv_txn_begin(&txn, fixture.db, memory, sizeof memory));
    assert_ok(ekv_txn_put(&txn, fixture_key(2), "two", 3));
    assert_ok(ekv_txn_put(&txn, fixture_key(3), "three", 5));
    assert_ok(ekv_txn_delete(&txn, fixture_key(1)));
    assert_ok(ekv_txn_commit(&txn));
    assert_ok(ekv_txn_begin(&txn, fixture.db, memory, sizeof memory));
    assert_ok(ekv_txn_put(&txn, fixture_key(4), "never", 5));
    ekv_txn_abort(&txn);
    fixture_put(&fixture, fixture_key(5), 20, 5);
    survey_all(&survey, fixture.nor.bytes, ekv_flash_size(&fixture.nor.flash));
    assert_ok(survey_transactions(&survey, &list, &count));
    assert_int_equal(count, 3);
    assert_true(list[0].version > list[1].version && list[1].version > list[2].version);
    assert_int_equal(list[0].count, 1);
    assert_int_equal(list[1].count, 3);
    assert_true(list[1].complete);
    assert_int_equal(list[1].records[0]->kind, EKV_RECORD_DELETE);
    for (uint32_t i = 0; i < 3; i++)
        assert_true(same_key(key_in(list[1].records[i]), fixture_key(i + 1)));
    uint32_t first, end;
    assert_ok(survey_key_find(&survey, fixture_key(4), &first, &end));
    assert_int_equal(survey.records[first].state, SURVEY_PENDING);
    assert_null(survey_visible(&survey, first, SURVEY_NOW, NULL));
    assert_null(survey_deleted(&survey, first));
    assert_ok(survey_key_find(&survey, fixture_key(1), &first, &end));
    assert_non_null(survey_deleted(&survey, first));
    /* Any moment within the transaction shows all of it. */
    assert_int_equal(survey_visible(&survey, first, list[1].records[1]->version, NULL)->kind,
                     EKV_RECORD_DELETE);
    free(list);
    survey_close(&survey);
    fixture_stop(&fixture);
}

static void a_recovery_leaves_no_gap(void **state)
{
    (void)state;
    struct fixture fixture;
    struct survey survey;
    uint32_t memory[64], first, end;
    struct ekv_txn txn;
    fixture_start(&fixture, geometries[0], 16);
    fixture_put(&fixture, fixture_key(1), 20, 1);
    assert_ok(ekv_txn_begin(&txn, fixture.db, memory, sizeof memory));
    assert_ok(ekv_txn_put(&txn, fixture_key(2), "never", 5));
    fixture_put(&fixture, fixture_key(3), 20, 3); /* which programs what was put before it */
    fixture_reload(&fixture);
    fixture_put(&fixture, fixture_key(4), 20, 4);
    survey_all(&survey, fixture.nor.bytes, ekv_flash_size(&fixture.nor.flash));
    assert_no_findings(&survey);
    assert_int_equal(survey.complete, 0);
    assert_ok(survey_key_find(&survey, fixture_key(2), &first, &end));
    assert_int_equal(survey.records[first].state, SURVEY_PENDING);
    survey_close(&survey);
    fixture_stop(&fixture);
}

static void a_transaction_is_as_old_as_its_commit(void **state)
{
    (void)state;
    struct history history;
    struct fixture *fixture = &history.fixture;
    struct survey survey;
    uint32_t memory[16];
    struct ekv_txn txn;
    uint64_t version;
    start(&history, geometries[0], 1);
    assert_ok(ekv_put(fixture->db, fixture_key(1), "one", 3)); /* at second 1 */
    uint64_t before = fixture_stat(fixture).version;
    assert_ok(ekv_txn_begin(&txn, fixture->db, memory, sizeof memory));
    assert_ok(ekv_txn_put(&txn, fixture_key(2), "two", 3));
    assert_ok(ekv_txn_put(&txn, fixture_key(3), "three", 5)); /* at second 3 */
    assert_ok(ekv_txn_commit(&txn));                          /* at second 4 */
    survey_store(&survey, &history);
    assert_result(survey_time_version(&survey, 999999, &version), EKV_NOT_FOUND);
    assert_ok(survey_time_version(&survey, 3999999, &version));
    assert_true(version <= before);
    assert_ok(survey_time_version(&survey, 4000000, &version));
    assert_true(version > before);
    survey_close(&survey);
    stop(&history);
}

/* --- Dumps, fragments ------------------------------------------------------------------------ */

/* The bytes of a store at `offset` of a dump that is full of other things. */
static uint8_t *make_dump(const struct history *history, uint32_t size, uint32_t offset)
{
    uint8_t *dump = malloc(size);
    assert_non_null(dump);
    fixture_fill(dump, size, 99);
    for (uint32_t i = 0; i + 4 < size; i += 4096)
        memcpy(dump + i, "ekv\1", 4); /* looks like a stamp */
    memcpy(dump + offset, history->fixture.nor.bytes, ekv_flash_size(&history->fixture.nor.flash));
    return dump;
}

static void a_store_is_found_anywhere_in_a_dump(void **state)
{
    (void)state;
    struct history history;
    struct survey survey;
    run_history(&history, geometries[0], 7, 200);
    static const uint32_t offsets[] = {0, 4096, 123457, 16 * 1024 * 1024 - 64 * 1024};
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t *dump = make_dump(&history, 16 << 20, offsets[i]);
        survey_all(&survey, dump, 16 << 20);
        assert_int_equal(survey.place.offset, offsets[i]);
        assert_no_findings(&survey);
        assert_current(&history, &survey);
        assert_committed(&history, &survey, true);
        survey_close(&survey);
        free(dump);
    }
    stop(&history);
}

static void stores_beside_and_over_each_other_are_told_apart(void **state)
{
    (void)state;
    struct history one, two;
    struct survey_place *places;
    uint32_t count, size = 64 * 1024;
    run_history(&one, geometries[0], 7, 200);
    run_history(&two, geometries[0], 8, 200);
    struct ekv_format_options options = {.store_id = 4711};
    struct fixture *fixture = &two.fixture;
    size_t memory_size = ekv_memory_size(&geometries[0], NULL);
    void *memory = malloc(memory_size);
    assert_ok(ekv_format(&fixture->nor.flash, &options, memory, memory_size));
    free(memory);
    uint8_t *dump = malloc(2 * size);
    assert_non_null(dump);
    memcpy(dump, one.fixture.nor.bytes, size);
    memcpy(dump + size, two.fixture.nor.bytes, size);
    struct survey_source source = survey_source_of_bytes(dump, 2 * size);
    assert_ok(survey_find(&source, NULL, &places, &count));
    assert_int_equal(count, 3);
    assert_int_equal(places[0].offset, 0);
    assert_int_equal(places[1].offset, size);
    assert_int_equal(places[1].store_id, 4711);
    assert_int_equal(places[2].offset, size); /* what was there before the format */
    assert_int_equal(places[2].store_id, places[0].store_id);
    free(places);
    int64_t offset = size;
    assert_ok(survey_find(&source, &offset, &places, &count));
    assert_int_equal(count, 2);
    assert_int_equal(places[0].store_id, 4711);
    struct survey survey;
    assert_ok(survey_open(&survey, &source, &places[1], NULL));
    assert_true(survey.record_count > 0); /* the format erased next to nothing */
    assert_false(survey.manifest.found);
    assert_committed(&two, &survey, false);
    survey_close(&survey);
    free(places);
    free(dump);
    stop(&one);
    stop(&two);
}

/* Any window of the flash: what lies in it is found, at the same addresses. */
static void a_fragment_shows_what_lies_in_it(void **state)
{
    (void)state;
    struct history history;
    struct survey whole, part;
    run_history(&history, geometries[1], 9, 500);
    survey_store(&whole, &history);
    uint32_t size = ekv_flash_size(&history.fixture.nor.flash), found = 0;
    for (uint32_t i = 0; i < 40; i++) {
        uint32_t begin = below(&history, size - 8192), end = begin + 8192;
        end += below(&history, size - end + 1);
        struct survey_source source =
            survey_source_of_bytes(history.fixture.nor.bytes + begin, end - begin);
        struct survey_place *places;
        uint32_t count;
        int error = survey_find(&source, NULL, &places, &count);
        if (error == EKV_NO_STORE)
            continue;
        assert_ok(error);
        assert_int_equal(places[0].offset, -(int64_t)begin);
        assert_ok(survey_open(&part, &source, &places[0], NULL));
        assert_committed(&history, &part, false);
        for (uint32_t j = 0; j < whole.record_count; j++) {
            const struct survey_record *record = &whole.records[j];
            uint32_t sector = record->address / 4096 * 4096;
            if (!record->valid || sector < begin || sector + 4096 > end)
                continue;
            bool there = false;
            for (uint32_t k = 0; k < part.record_count; k++)
                there |= part.records[k].address == record->address && part.records[k].valid;
            assert_true(there);
            found++;
        }
        survey_close(&part);
        free(places);
    }
    assert_true(found > 1000);
    survey_close(&whole);
    stop(&history);
}

/* --- Damage ---------------------------------------------------------------------------------- */

static uint8_t *copy_of(const struct history *history)
{
    uint32_t size = ekv_flash_size(&history->fixture.nor.flash);
    uint8_t *copy = malloc(size);
    assert_non_null(copy);
    memcpy(copy, history->fixture.nor.bytes, size);
    return copy;
}

static bool has_finding(const struct survey *survey, const char *code, uint32_t address)
{
    for (uint32_t i = 0; i < survey->finding_count; i++)
        if (strcmp(survey->findings[i].code, code) == 0 && survey->findings[i].address == address)
            return true;
    return false;
}

/* Counts values of keys that can be read whole and are what was put. */
static uint32_t readable(struct history *history, const struct survey *survey)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < survey->record_count; i = survey_key_end(survey, i)) {
        const struct survey_record *record = survey_visible(survey, i, SURVEY_NOW, NULL);
        if (!record || record->kind == EKV_RECORD_DELETE)
            continue;
        const struct commit *commit = commit_of(history, record);
        assert_non_null(commit);
        assert_value(survey, record, commit, false);
        count++;
    }
    return count;
}

static void without_any_manifest_all_records_are_found(void **state)
{
    (void)state;
    struct history history;
    struct survey whole, part;
    run_history(&history, geometries[0], 11, 400);
    survey_store(&whole, &history);
    uint8_t *copy = copy_of(&history);
    memset(copy, 0, (size_t)whole.format.ring_count * 1024);
    survey_all(&part, copy, whole.source.size);
    assert_false(part.manifest.found);
    assert_int_equal(part.place.store_id, whole.place.store_id);
    assert_int_equal(part.record_count, whole.record_count);
    assert_committed(&history, &part, true);
    assert_true(readable(&history, &part) >= readable(&history, &whole));
    survey_close(&part);
    survey_close(&whole);
    free(copy);
    stop(&history);
}

static void a_log_sector_without_stamps_is_known_by_its_records(void **state)
{
    (void)state;
    struct history history;
    struct survey whole, part;
    run_history(&history, geometries[0], 13, 400);
    survey_store(&whole, &history);
    uint32_t tried = 0;
    for (uint32_t i = whole.format.ring_count; i < 64; i++) {
        if (whole.sectors[i].role != SURVEY_LOG || whole.sectors[i].record_count < 2)
            continue;
        uint8_t *copy = copy_of(&history);
        memset(copy + (size_t)i * 1024, 0x5a, whole.format.body_offset);
        survey_all(&part, copy, whole.source.size);
        assert_true(part.sectors[i].solved);
        assert_int_equal(part.sectors[i].sequence, whole.sectors[i].sequence);
        assert_int_equal(part.record_count, whole.record_count);
        assert_int_equal(readable(&history, &part), readable(&history, &whole));
        assert_true(has_finding(&part, "stamp-b", i * 1024));
        survey_close(&part);
        free(copy);
        tried++;
    }
    assert_true(tried > 5);
    survey_close(&whole);
    stop(&history);
}

static void every_damaged_current_record_is_named_with_its_key(void **state)
{
    (void)state;
    struct history history;
    struct survey whole, part;
    run_history(&history, geometries[0], 15, 400);
    survey_store(&whole, &history);
    uint64_t newest = 0;
    uint32_t tried = 0;
    for (uint32_t i = 0; i < whole.record_count; i++)
        if (whole.records[i].position > newest)
            newest = whole.records[i].position;
    for (uint32_t i = 0; i < whole.record_count; i++) {
        const struct survey_record *record = &whole.records[i];
        bool named = false, elsewhere = false;
        if (!record->current || newest - record->position < 2048)
            continue; /* the end of the log can be torn: that is no damage */
        for (uint32_t j = i + 1; j < whole.record_count && whole.records[j].copy; j++)
            elsewhere = true;
        if (elsewhere)
            continue;
        uint8_t *copy = copy_of(&history);
        copy[record->address + record->record_size - 1] ^= 0x10;
        survey_all(&part, copy, whole.source.size);
        for (uint32_t j = 0; j < part.finding_count; j++)
            named |= part.findings[j].key && !part.findings[j].note &&
                     part.findings[j].key_size == record->key_size &&
                     memcmp(part.findings[j].key, record->key, record->key_size) == 0;
        assert_true(named);
        survey_close(&part);
        free(copy);
        tried++;
    }
    assert_true(tried > 10);
    survey_close(&whole);
    stop(&history);
}

/* Whatever is broken: what is called committed was, and values are right or said to be lost. */
static void random_damage_never_makes_up_anything(void **state)
{
    (void)state;
    struct history history;
    struct survey survey;
    run_history(&history, geometries[0], 17, 500);
    uint32_t size = ekv_flash_size(&history.fixture.nor.flash), values = 0;
    for (uint32_t round = 0; round < 300; round++) {
        uint8_t *copy = copy_of(&history);
        uint32_t hits = 1 + below(&history, 30);
        for (uint32_t i = 0; i < hits; i++) {
            uint32_t at = below(&history, size), length = 1 + below(&history, 64);
            for (uint32_t j = at; j < at + length && j < size; j++)
                copy[j] = (uint8_t)(round % 3 == 0   ? copy[j] ^ 1u << j % 8
                                    : round % 3 == 1 ? 0xff
                                                     : below(&history, 256));
        }
        survey_all(&survey, copy, size);
        for (uint32_t i = 0; i < survey.record_count; i++) {
            const struct survey_record *record = &survey.records[i];
            if (!record->valid || record->state != SURVEY_COMMITTED || record->copy ||
                record->kind == EKV_RECORD_DELETE)
                continue;
            const struct commit *commit = commit_of(&history, record);
            if (!commit)
                continue; /* overwritten in its own transaction, of which the rest is lost */
            assert_value(&survey, record, commit, false);
            values++;
        }
        survey_close(&survey);
        free(copy);
    }
    assert_true(values > 1000);
    stop(&history);
}

static void a_torn_end_is_no_damage_and_shows_what_a_mount_shows(void **state)
{
    (void)state;
    struct survey survey;
    for (uint64_t seed = 20; seed < 60; seed++) {
        struct history history;
        start(&history, geometries[seed % 3], seed);
        struct fixture *fixture = &history.fixture;
        for (uint32_t i = 0; i < 150; i++)
            step(&history);
        nor_cut_at(&fixture->nor, 1 + below(&history, 6), (enum nor_cut)(seed % 3));
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t size = 200 + below(&history, 400);
            fixture_fill(fixture->value, size, i);
            if (ekv_put(fixture->db, key_of(i), fixture->value, size))
                break;
        }
        nor_power_on(&fixture->nor);
        assert_ok(ekv_mount(&fixture->db, &fixture->nor.flash, &fixture->options, fixture->memory,
                            fixture->memory_size));
        survey_store(&survey, &history);
        assert_no_findings(&survey);
        assert_current(&history, &survey);
        survey_close(&survey);
        stop(&history);
    }
}

/* The size of a record that begins before the torn page lies in it. */
static void a_torn_page_may_begin_in_the_head_of_a_record(void **state)
{
    (void)state;
    for (uint32_t size = 0; size < 30; size++) {
        struct fixture fixture;
        struct survey survey;
        struct ekv_txn txn;
        uint32_t table[64 * EKV_TXN_ENTRY_SIZE / sizeof(uint32_t)];
        fixture_start(&fixture, (struct ekv_geometry){4096, 32, 1, false}, 64);
        fixture_put(&fixture, fixture_key(1), size, 1);
        assert_ok(ekv_txn_begin(&txn, fixture.db, table, sizeof table));
        for (uint32_t i = 0; i < 60; i++)
            assert_ok(ekv_txn_put(&txn, fixture_key(10 + i), "value", 5));
        uint32_t page =
            ekv_address(ekv_format_of(fixture.db), fixture.db->log.sector, fixture.db->log.flushed);
        assert_true(fixture.db->log.flushed > EKV_PAGE_SIZE);
        fixture.nor.bytes[page - EKV_PAGE_SIZE] = 0xff; /* no size of anything */
        survey_all(&survey, fixture.nor.bytes, ekv_flash_size(&fixture.nor.flash));
        assert_no_findings(&survey);
        survey_close(&survey);
        fixture_stop(&fixture);
    }
}

/* --- Lies with right checksums --------------------------------------------------------------- */

struct liar {
    struct history *history;
    const struct survey *survey;
    uint8_t *bytes; /* of the copy that is changed */
    uint32_t sector, skip;
};

/* Changes a byte of the item that is next in line, and makes its checksum right again. */
static int tell_lie(void *context, const struct survey_item *item)
{
    struct liar *liar = context;
    const struct ekv_format *format = &liar->survey->format;
    const struct survey_sector *sector = &liar->survey->sectors[liar->sector];
    uint32_t address = ekv_address(format, liar->sector, item->offset);
    uint8_t *at = liar->bytes + address;
    if (!item->valid || liar->skip-- > 0)
        return EKV_OK;
    uint32_t size = item->kind == SURVEY_STAMP_A   ? EKV_STAMP_A_SIZE
                    : item->kind == SURVEY_STAMP_B ? EKV_STAMP_B_SIZE
                    : item->kind == SURVEY_PAGE    ? at[6] + 1u
                    : item->kind == SURVEY_FRAME
                        ? EKV_FRAME_HEAD_SIZE + (uint32_t)ekv_load(at + 5, 2)
                        : item->size;
    bool front = item->kind == SURVEY_PAGE || item->kind == SURVEY_FRAME; /* where the crc is */
    uint32_t body = size - EKV_CRC_SIZE;
    for (uint32_t i = below(liar->history, 3) + 1; i > 0; i--)
        at[(front ? EKV_CRC_SIZE : 0) + below(liar->history, body < 40 ? body : 40)] =
            (uint8_t)below(liar->history, 256);
    uint32_t seed = item->kind == SURVEY_STAMP_A   ? 0
                    : item->kind == SURVEY_STAMP_B ? ekv_format_seed(format, 0, liar->sector, 0)
                    : item->kind == SURVEY_PAGE
                        ? ekv_format_seed(format, EKV_KIND_INDEX, item->number, address)
                        : ekv_format_seed(format, sector->kind, sector->sequence, item->offset);
    ekv_store(front ? at : at + body, ekv_crc32c(seed, front ? at + EKV_CRC_SIZE : at, body), 4);
    return EKV_NOT_FOUND; /* done */
}

static int ignore_item(void *context, const struct survey_item *item)
{
    (void)context;
    (void)item;
    return EKV_OK;
}

/* Asks for everything. */
static void use_all(const struct survey *survey)
{
    struct survey_transaction *list;
    uint32_t count;
    for (uint32_t i = 0; i < survey->record_count; i++) {
        uint64_t size, lost;
        uint8_t *value;
        if (survey_value(survey, &survey->records[i], &value, &size, &lost) == EKV_OK)
            free(value);
    }
    assert_ok(survey_transactions(survey, &list, &count));
    free(list);
    for (uint32_t i = 0; i < survey->format.geometry.sector_count; i++)
        (void)!survey_sector_visit(survey, i, ignore_item, NULL);
}

static void lies_with_right_checksums_do_no_harm(void **state)
{
    (void)state;
    struct history history;
    struct survey whole, survey;
    uint32_t lies = 0;
    run_history(&history, geometries[0], 23, 500);
    survey_store(&whole, &history);
    for (uint32_t round = 0; round < 1500; round++) {
        uint8_t *copy = copy_of(&history);
        for (uint32_t i = below(&history, 4) + 1; i > 0; i--) {
            struct liar liar = {&history, &whole, copy, below(&history, 64), below(&history, 20)};
            lies += survey_sector_visit(&whole, liar.sector, tell_lie, &liar) == EKV_NOT_FOUND;
        }
        struct survey_source source = survey_source_of_bytes(copy, whole.source.size);
        assert_ok(survey_open(&survey, &source, &whole.place, NULL));
        use_all(&survey);
        survey_close(&survey);
        free(copy);
    }
    assert_true(lies > 1000);
    survey_close(&whole);
    stop(&history);
}

/* --- Sectors --------------------------------------------------------------------------------- */

struct items {
    uint32_t end;
    uint32_t counts[SURVEY_UNCLEAR + 1];
};

static int count_item(void *context, const struct survey_item *item)
{
    struct items *items = context;
    assert_int_equal(item->offset, items->end);
    assert_true(item->size > 0);
    items->end += item->size;
    items->counts[item->kind]++;
    return EKV_OK;
}

static void what_lies_in_each_sector_is_told_without_gaps(void **state)
{
    (void)state;
    struct history history;
    struct survey survey;
    run_history(&history, geometries[0], 19, 400);
    survey_store(&survey, &history);
    struct items all = {0};
    for (uint32_t i = 0; i < 64; i++) {
        all.end = 0;
        assert_ok(survey_sector_visit(&survey, i, count_item, &all));
        assert_int_equal(all.end, 1024);
    }
    assert_true(all.counts[SURVEY_RECORD] > 50);
    assert_true(all.counts[SURVEY_PAGE] > 2);
    assert_true(all.counts[SURVEY_FRAME] > 2);
    survey_close(&survey);
    stop(&history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees_with_the_engine_on_all_that_was_ever_committed),
        cmocka_unit_test(one_key_alone_is_seen_as_among_all),
        cmocka_unit_test(flash_that_is_read_gives_what_mapped_flash_does),
        cmocka_unit_test(transactions_are_listed_newest_first_and_whole),
        cmocka_unit_test(a_recovery_leaves_no_gap),
        cmocka_unit_test(a_transaction_is_as_old_as_its_commit),
        cmocka_unit_test(a_store_is_found_anywhere_in_a_dump),
        cmocka_unit_test(stores_beside_and_over_each_other_are_told_apart),
        cmocka_unit_test(a_fragment_shows_what_lies_in_it),
        cmocka_unit_test(without_any_manifest_all_records_are_found),
        cmocka_unit_test(a_log_sector_without_stamps_is_known_by_its_records),
        cmocka_unit_test(every_damaged_current_record_is_named_with_its_key),
        cmocka_unit_test(random_damage_never_makes_up_anything),
        cmocka_unit_test(a_torn_end_is_no_damage_and_shows_what_a_mount_shows),
        cmocka_unit_test(a_torn_page_may_begin_in_the_head_of_a_record),
        cmocka_unit_test(lies_with_right_checksums_do_no_harm),
        cmocka_unit_test(what_lies_in_each_sector_is_told_without_gaps),
    };
    return cmocka_run_group_tests_name("survey", tests, NULL, NULL);
}
