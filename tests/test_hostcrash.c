/* A host that crashes: its page cache loses and reorders what was written since the last sync
 * (hostfile.h). After each crash the store must mount, be sound, take writes, and hold a state that
 * it had: that of the last sync, or one that a later commit left, with all commits before it. Older
 * versions of keys are of such states too, never of those that a crash took. The process is killed
 * now and then as well, which loses nothing and syncs nothing.
 *
 * EKV_CRASH_SEED and EKV_CRASH_RUNS choose other and more runs; a failure names the seed of its
 * run.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ekv.h"
#include "fixture.h"
#include "host/survey.h"
#include "hostfile.h"
#include "model.h"

enum { RUNS = 60, CRASHES = 12, STATES_MAX = 400, KEYS = 40, VALUE_MAX = 6000, TXN_KEYS = 6 };

struct run {
    uint64_t seed, random;
    struct hostfile file;
    struct ekv *db;
    void *memory;
    size_t memory_size;
    struct model states[STATES_MAX]; /* since the last sync, the oldest first */
    uint32_t state_count;
    struct model had; /* the values that keys had before: key and sum of the value, see sign */
    uint8_t value[VALUE_MAX], signature[FIXTURE_KEY_SIZE + sizeof(uint64_t)];
    uint32_t crash;
    uint64_t lost;     /* commits that crashes took */
    uint64_t versions; /* that histories told */
};

static uint32_t pick(struct run *run, uint32_t least, uint32_t most)
{
    return least + fixture_below(&run->random, most - least + 1);
}

static void complain(const struct run *run, const char *text)
{
    fail_msg("seed %" PRIu64 ", crash %u: %s", run->seed, run->crash, text);
}

/* --- The states that may be there ------------------------------------------------------------ */

static struct model *newest(struct run *run)
{
    return &run->states[run->state_count - 1];
}

/* A commit is about to be tried: its outcome may be there from now on. */
static struct model *begin_state(struct run *run)
{
    assert_true(run->state_count < STATES_MAX);
    model_copy(&run->states[run->state_count], newest(run));
    run->state_count++;
    return newest(run);
}

/* A key of `had`, valid until the next. */
static struct ekv_key sign(struct run *run, struct ekv_key key, const void *value, size_t size)
{
    const uint8_t *bytes = value;
    uint64_t sum = size;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3u;
    memcpy(run->signature, key.bytes, key.size);
    memcpy(run->signature + key.size, &sum, sizeof sum);
    return ekv_key(run->signature, key.size + sizeof sum);
}

/* The first `count` states were and will have been. */
static void note_states(struct run *run, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < run->states[i].count; j++) {
            const struct model_entry *entry = &run->states[i].entries[j];
            model_put(&run->had,
                      sign(run, model_key(entry), entry->value->bytes, entry->value->size), "", 0);
        }
}

/* It failed, or nothing older can be there any more. */
static void keep_states(struct run *run, uint32_t first, uint32_t count)
{
    note_states(run, first);
    for (uint32_t i = 0; i < count; i++) {
        struct model kept = run->states[i];
        run->states[i] = run->states[first + i];
        run->states[first + i] = kept;
    }
    run->state_count = count;
}

static struct ekv_key key_of(uint32_t number)
{
    return fixture_key(number);
}

static size_t fill_value(struct run *run)
{
    size_t size = pick(run, 0, 5) == 0 ? pick(run, 0, VALUE_MAX) : pick(run, 0, 90);
    fixture_fill(run->value, size, run->random);
    return size;
}

/* --- Older versions -------------------------------------------------------------------------- */

/* Whether a key had this value in a state that was. */
static bool had_value(struct run *run, struct ekv_key key, size_t size)
{
    if (model_find(&run->had, sign(run, key, run->value, size)))
        return true;
    for (uint32_t i = 0; i < run->state_count; i++) {
        const struct model_entry *entry = model_find(&run->states[i], key);
        if (entry && entry->value->size == size &&
            memcmp(entry->value->bytes, run->value, size) == 0)
            return true;
    }
    return false;
}

/* Of a key that is not there the removal may be gone already. */
static void look_back(struct run *run)
{
    struct ekv_key key = key_of(pick(run, 0, KEYS - 1));
    const struct model_entry *current = model_find(newest(run), key);
    struct ekv_history history;
    struct ekv_entry entry;
    int error;
    ekv_history_open(&history, run->db, key, UINT64_MAX);
    while ((error = ekv_history_next(&history, &entry)) == EKV_OK) {
        size_t size = 0;
        error = ekv_history_get(&history, 0, run->value, sizeof run->value, &size);
        if (error)
            break;
        if (current && (entry.removed || size != current->value->size ||
                        memcmp(run->value, current->value->bytes, size) != 0))
            complain(run, "the newest version of a key is not its value");
        if (!entry.removed && !had_value(run, key, size))
            complain(run, "a version is one that the key never had");
        current = NULL;
        run->versions++;
    }
    if (error != EKV_NOT_FOUND)
        fail_msg("seed %" PRIu64 ", crash %u: a history answers %s", run->seed, run->crash,
                 model_result_name(error));
}

/* --- Without a mount ------------------------------------------------------------------------- */

/* What is looked at byte by byte shows nothing that is broken, and of no key a version or a current
 * value that a mount does not know. `current`: what it holds. */
static void look_deep(struct run *run, const struct model *current, const char *when)
{
    const struct ekv_geometry *geometry = &run->file.flash.geometry;
    struct survey_source source = survey_source_of_flash(&run->file.flash);
    struct survey_place place = {.geometry = *geometry, .store_id = run->seed};
    struct survey survey;
    assert_int_equal(survey_open(&survey, &source, &place, NULL), EKV_OK);
    for (uint32_t i = 0; i < survey.finding_count; i++)
        if (!survey.findings[i].note)
            fail_msg("seed %" PRIu64 ", crash %u, %s: %s at 0x%x: %s", run->seed, run->crash, when,
                     survey.findings[i].code, survey.findings[i].address, survey.findings[i].text);
    uint32_t there = 0;
    for (uint32_t i = 0; i < survey.record_count; i++) {
        const struct survey_record *record = &survey.records[i];
        struct ekv_key key = {record->key, record->key_size, record->space, 0};
        uint64_t size = 0, lost = 0;
        uint8_t *value = NULL;
        if (record->kind == EKV_RECORD_DELETE || record->state != SURVEY_COMMITTED ||
            survey_value(&survey, record, &value, &size, &lost) != EKV_OK)
            continue;
        if (lost == 0 && size <= sizeof run->value) {
            memcpy(run->value, value, size);
            if (!had_value(run, key, size))
                fail_msg("seed %" PRIu64 ", crash %u, %s: version %" PRIu64
                         " is one that the key never had",
                         run->seed, run->crash, when, record->version);
        }
        const struct model_entry *entry = model_find(current, key);
        if (record->current && (!entry || lost > 0 || entry->value->size != size ||
                                memcmp(entry->value->bytes, value, size) != 0))
            fail_msg("seed %" PRIu64 ", crash %u, %s: what is current is not what a mount shows",
                     run->seed, run->crash, when);
        there += record->current;
        free(value);
    }
    if (there != current->count)
        complain(run, "keys that a mount shows are not found without one");
    survey_close(&survey);
}

/* --- Operations ------------------------------------------------------------------------------ */

/* After an operation: the crash came in it, or the answer must be one of the two. */
static void accept(struct run *run, int error, int also)
{
    if (run->file.crashed || error == EKV_OK || error == also)
        return;
    fail_msg("seed %" PRIu64 ", crash %u: an operation answers %s", run->seed, run->crash,
             model_result_name(error));
}

static void one_change(struct run *run)
{
    struct ekv_key key = key_of(pick(run, 0, KEYS - 1));
    struct model *after = begin_state(run);
    int error;
    if (pick(run, 0, 3) == 0) {
        bool there = model_delete(after, key);
        error = ekv_delete(run->db, key);
        if (!there && error == EKV_NOT_FOUND)
            error = EKV_FULL;
    } else {
        size_t size = fill_value(run);
        model_put(after, key, run->value, size);
        error = ekv_put(run->db, key, run->value, size);
    }
    accept(run, error, EKV_FULL);
    if (error == EKV_FULL)
        run->state_count--;
}

static void transaction(struct run *run)
{
    uint32_t table[TXN_KEYS * EKV_TXN_ENTRY_SIZE / sizeof(uint32_t)];
    struct ekv_txn txn;
    uint64_t written = 0; /* keys, by number */
    struct model *after = begin_state(run);
    int error = ekv_txn_begin(&txn, run->db, table, sizeof table);
    accept(run, error, EKV_OK);
    if (error)
        return;
    for (uint32_t i = pick(run, 1, TXN_KEYS); i > 0 && !error; i--) {
        uint32_t number = pick(run, 0, KEYS - 1);
        struct ekv_key key = key_of(number);
        size_t size = fill_value(run);
        error = ekv_txn_put(&txn, key, run->value, size);
        /* A key that it writes twice: older bytes tell of the first value too. */
        const struct model_entry *first = model_find(after, key);
        if (first && written & UINT64_C(1) << number)
            model_put(&run->had, sign(run, key, first->value->bytes, first->value->size), "", 0);
        written |= UINT64_C(1) << number;
        model_put(after, key, run->value, size);
    }
    if (!error)
        error = ekv_txn_commit(&txn);
    if (error)
        ekv_txn_abort(&txn);
    accept(run, error, EKV_FULL);
    if (error == EKV_FULL)
        run->state_count--;
}

static void synchronize(struct run *run)
{
    if (ekv_sync(run->db) == EKV_OK)
        keep_states(run, run->state_count - 1, 1);
    else
        accept(run, EKV_IO, EKV_OK);
}

static int mount(struct run *run)
{
    struct ekv_mount_options options = {.memtable_count = 16};
    return ekv_mount(&run->db, &run->file.flash, &options, run->memory, run->memory_size);
}

static void remount(struct run *run)
{
    int error = ekv_unmount(run->db);
    accept(run, error, EKV_OK);
    if (run->file.crashed)
        return;
    keep_states(run, run->state_count - 1, 1);
    accept(run, mount(run), EKV_OK);
}

/* The process is killed: the cache is what it was, and nothing was synced. */
static void killed(struct run *run)
{
    struct model_why why = {""};
    int error = mount(run);
    accept(run, error, EKV_OK);
    if (error == EKV_OK && !model_equals_store(newest(run), run->db, &why))
        complain(run, why.text);
}

static void step(struct run *run)
{
    bool more;
    uint32_t kind = pick(run, 0, 99);
    if (kind < 70 && run->state_count < STATES_MAX)
        one_change(run);
    else if (kind < 85 && run->state_count < STATES_MAX)
        transaction(run);
    else if (kind < 92)
        accept(run, ekv_work(run->db, &more), EKV_OK);
    else if (kind < 94)
        look_back(run);
    else if (kind < 98 || run->state_count == STATES_MAX)
        synchronize(run);
    else if (kind < 99)
        remount(run);
    else
        killed(run);
}

/* --- After a crash --------------------------------------------------------------------------- */

/* The store must hold one of the states; it is the only one from then on. */
static void settle(struct run *run)
{
    struct model_why why = {""};
    uint32_t i = run->state_count;
    while (i > 0 && !model_equals_store(&run->states[i - 1], run->db, &why))
        i--;
    if (i == 0)
        fail_msg("seed %" PRIu64 ", crash %u: none of %u states; it is not the oldest, since %s",
                 run->seed, run->crash, run->state_count, why.text);
    run->lost += run->state_count - i;
    keep_states(run, i - 1, 1);
    if (!model_store_is_sound(run->db, &why))
        complain(run, why.text);
    look_back(run);
    look_deep(run, newest(run), "not recovered yet");
}

/* The first write after a crash recovers the store; what it left behind stays for a while. */
static void recover(struct run *run)
{
    while (run->state_count == 1)
        one_change(run);
    look_deep(run, newest(run), "recovered");
}

static void crash_and_recover(struct run *run)
{
    struct ekv_stat stat;
    hostfile_crash_at(&run->file, pick(run, 1, pick(run, 0, 1) ? 40 : 700));
    while (!run->file.crashed)
        step(run);
    hostfile_reboot(&run->file);
    int error = mount(run);
    if (error)
        fail_msg("seed %" PRIu64 ", crash %u: mount answers %s", run->seed, run->crash,
                 model_result_name(error));
    ekv_stat(run->db, &stat);
    if (stat.read_only)
        complain(run, "the mount is read-only");
    settle(run);
    recover(run);
}

static void make_run(struct run *run, uint64_t seed)
{
    static const struct ekv_geometry geometries[] = {
        {4096, 64, 1, false}, {512, 256, 1, false}, {1024, 96, 4, false}, {16384, 24, 16, false}};
    struct ekv_format_options format = {.store_id = seed};
    run->seed = run->random = seed;
    const struct ekv_geometry *geometry = &geometries[seed % 4];
    format.blank = seed / 4 % 2;
    hostfile_init(&run->file, geometry, format.blank, seed);
    run->memory_size = ekv_memory_size(geometry, NULL);
    run->memory = malloc(run->memory_size);
    assert_non_null(run->memory);
    if (ekv_format(&run->file.flash, &format, run->memory, run->memory_size) || mount(run))
        complain(run, "it cannot be formatted");
    run->state_count = 1;
    for (run->crash = 1; run->crash <= CRASHES; run->crash++)
        crash_and_recover(run);
    for (uint32_t i = 0; i < STATES_MAX; i++)
        model_free(&run->states[i]);
    model_free(&run->had);
    free(run->memory);
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static void what_was_synced_survives_a_crash_of_the_host(void **unused)
{
    uint64_t first = number_of("EKV_CRASH_SEED", 1), runs = number_of("EKV_CRASH_RUNS", RUNS);
    uint64_t lost = 0, pages = 0, torn = 0, versions = 0;
    (void)unused;
    for (uint64_t seed = first; seed < first + runs; seed++) {
        static struct run run;
        memset(&run, 0, sizeof run);
        make_run(&run, seed);
        lost += run.lost;
        versions += run.versions;
        pages += run.file.pages_lost;
        torn += run.file.pages_torn;
        hostfile_free(&run.file);
    }
    print_message("%" PRIu64 " crashes took %" PRIu64 " commits; %" PRIu64
                  " pages were not as they "
                  "were last, %" PRIu64 " torn; %" PRIu64 " versions were right; 0 violations\n",
                  runs * CRASHES, lost, pages, torn, versions);
    assert_true(lost > 0 && pages > 0 && torn > 0 && versions > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_synced_survives_a_crash_of_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
