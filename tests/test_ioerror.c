/* Flash that fails: any read, program or erase returns an error once or for good. The operation
 * says so, or gets round it; what was committed stays readable; without the failure the store
 * mounts as before or after the operation, nothing else; a bad sector is retired and counted.
 *
 * As with power cuts the world is put back for each failure, see cuts.h.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "state.h"
#include "trap.h"
#include "workload.h"

enum { READ_LIMIT = 4000000, FOLLOW = 3, FAILURES_MAX = 10 };

struct trial {
    struct world *world;
    const struct operation *operation;
    const struct nor_failure *failure;
    struct model before, after; /* what the operation may leave */
    bool good;
    struct model_why why;
};

static bool say(struct trial *trial, const char *words, int result)
{
    snprintf(trial->why.text, sizeof trial->why.text, "%s %s", words, model_result_name(result));
    return false;
}

/* Keys that no workload writes. */
static struct ekv_key follow_key(uint32_t number)
{
    static const char *const keys[FOLLOW] = {"follow 1", "follow 2", "follow 3"};
    return model_key_of(keys[number], strlen(keys[number]), EKV_USER);
}

/* A write after the failure may be refused, but if it is said to be done it must be there. */
static bool write_on(struct trial *trial, uint32_t number)
{
    struct world *world = trial->world;
    static uint8_t value[16];
    struct ekv_key key = follow_key(number);
    memset(value, (int)number, sizeof value);
    int result = ekv_put(world->live.db, key, value, sizeof value);
    if (result == EKV_OK) {
        model_put(&trial->before, key, value, sizeof value);
        model_put(&trial->after, key, value, sizeof value);
        return true;
    }
    if (result == EKV_IO) { /* then this one may be there or not, and the others are told apart */
        struct ekv_entry entry;
        (void)!ekv_find(world->live.db, key, &entry);
        return true;
    }
    return result == EKV_READ_ONLY || result == EKV_FULL || result == EKV_PINNED ||
           say(trial, "a write after the failure answers", result);
}

/* Removes what a failed write may have left, which is neither here nor there. */
static void forget_uncertain(struct trial *trial)
{
    struct world *world = trial->world;
    for (uint32_t i = 0; i < FOLLOW; i++) {
        uint8_t value[16];
        size_t size;
        struct ekv_key key = follow_key(i);
        if (model_find(&trial->before, key) ||
            ekv_get(world->live.db, key, 0, value, sizeof value, &size) != EKV_OK)
            continue;
        model_put(&trial->before, key, value, size);
        model_put(&trial->after, key, value, size);
    }
}

/* Mounted again on flash that works: before or after, and sound. */
static bool mount_well(struct trial *trial)
{
    struct world *world = trial->world;
    struct model_why before, after;
    nor_fail_none(&world->nor);
    nor_power_on(&world->nor);
    int error = world_mount(world, false);
    if (error)
        return say(trial, "the mount after the failure answers", error);
    forget_uncertain(trial);
    if (!model_equals_store(&trial->before, world->live.db, &before) &&
        !model_equals_store(&trial->after, world->live.db, &after)) {
        snprintf(trial->why.text, sizeof trial->why.text, "after the failure: %.300s", before.text);
        return false;
    }
    return model_store_is_sound(world->live.db, &trial->why);
}

static void try_failure(void *context)
{
    struct trial *trial = context;
    struct world *world = trial->world;
    struct model_why why;
    /* Where a recovery fails half-way there is nothing to go back to before the next mount. */
    bool recovers = world->live.db->unclean;
    nor_fail(&world->nor, *trial->failure);
    int result = world_execute(world, trial->operation);
    bool remounts = trial->operation->kind == OPERATION_REMOUNT;
    if (result == EKV_OK) { /* said to be done: then it is */
        model_copy(&trial->before, &trial->after);
    } else if (result == EKV_FULL || result == EKV_PINNED || result == EKV_NOT_FOUND ||
               result == EKV_CONFLICT) {
        model_copy(&trial->after, &trial->before);
    } else if (result != EKV_IO && result != EKV_READ_ONLY) {
        trial->good = say(trial, "the operation that met the failure answers", result);
        return;
    }
    trial->good = true;
    struct ekv_stat stat;
    if (!remounts)
        ekv_stat(world->live.db, &stat);
    bool one_sector = trial->failure->operations != NOR_READ && trial->failure->times == 1;
    if (!remounts && one_sector && stat.read_only && !recovers &&
        ekv_sectors_available(&world->live.db->sectors) > 0) { /* with one free the log goes on */
        trial->good = say(trial, "read-only after one failure; the operation answered", result);
        return;
    }
    if (!remounts && trial->failure->operations != NOR_READ) {
        struct model now; /* programs and erases fail: all reads still tell of one state */
        model_init(&now);
        model_copy(&now, &trial->before);
        trial->good = model_equals_store(&now, world->live.db, &why);
        if (!trial->good) {
            model_copy(&now, &trial->after);
            trial->good = model_equals_store(&now, world->live.db, &why);
        }
        if (trial->good && !stat.read_only) { /* then flash says the same */
            model_copy(&trial->before, &now);
            model_copy(&trial->after, &now);
        }
        if (!trial->good)
            snprintf(trial->why.text, sizeof trial->why.text, "while it fails: %.300s", why.text);
        model_free(&now);
    }
    for (uint32_t i = 0; !remounts && trial->good && i < FOLLOW; i++)
        trial->good = write_on(trial, i);
    trial->good = trial->good && mount_well(trial);
}

struct counts {
    uint64_t tried;
    uint32_t failed;
};

static void fail_at(struct world *world, const struct world_snapshot *snapshot,
                    const struct operation *operation, const struct nor_failure *failure,
                    struct counts *counts)
{
    char why[300], words[100];
    struct world_models aside = world->models;
    struct trial trial = {.world = world, .operation = operation, .failure = failure};
    model_init(&trial.before);
    model_init(&trial.after);
    model_copy(&trial.before, &aside.committed);
    world_model_after(world, operation, &trial.after);
    memset(&world->models, 0, sizeof world->models);
    world_snapshot_restore(world, snapshot);
    nor_seed(&world->nor, counts->tried);
    nor_read_limit(&world->nor, READ_LIMIT);
    counts->tried++;
    if (!trap_run(try_failure, &trial, why, sizeof why) || !trial.good) {
        world_describe(operation, words, sizeof words);
        print_error("%s, seed %" PRIu64 ", step %" PRIu32 " (%s): %s %" PRIu32 " %s: %s\n",
                    workload_names[world->options.workload], world->options.seed, aside.step, words,
                    failure->operations == NOR_READ      ? "read"
                    : failure->operations == NOR_PROGRAM ? "program"
                                                         : "erase",
                    failure->after + 1, failure->times == 1 ? "once" : "for good",
                    trial.why.text[0] ? trial.why.text : why);
        counts->failed++;
    }
    world_forget_handles(world);
    model_free(&world->models.committed);
    model_free(&trial.before);
    model_free(&trial.after);
    world->models = aside;
}

/* Fails operations of one kind in every step, every `stride`-th of them. */
static void run(unsigned workload, const struct ekv_geometry *geometry, unsigned kind,
                uint32_t stride, uint32_t steps)
{
    static struct world world;
    struct world_options options = {.workload = workload, .geometry = *geometry};
    struct world_snapshot before, after;
    struct counts counts = {0, 0};
    struct model_why why;
    uint64_t met = 0;
    options.seed = 500 + workload;
    options.memtable_count = 8;
    options.start = NOR_AGED;
    world_init(&world, &options);
    world.nor.illegal = trap_illegal;
    world_snapshot_init(&before, &world);
    world_snapshot_init(&after, &world);
    assert_int_equal(world_format(&world), EKV_OK);
    assert_int_equal(world_mount(&world, false), EKV_OK);
    for (uint32_t i = 0; i < steps && counts.failed < FAILURES_MAX; i++) {
        struct operation operation;
        world_plan(&world, &operation);
        world_snapshot_take(&world, &before);
        struct nor_counts was = world.nor.now.counts;
        int result = world_execute(&world, &operation);
        assert_true(world_accept(&world, &operation, result, &why));
        uint64_t count = kind == NOR_READ      ? world.nor.now.counts.reads - was.reads
                         : kind == NOR_PROGRAM ? world.nor.now.counts.programs - was.programs
                                               : world.nor.now.counts.erases - was.erases;
        world_snapshot_take(&world, &after);
        for (uint32_t k = 0; k < count && operation.kind != OPERATION_RELOAD; k++) {
            struct nor_failure once = {kind, NOR_ANY_SECTOR, k, 1, false}, for_good = once;
            for_good.times = NOR_FOR_GOOD;
            if (met++ % stride != 0)
                continue;
            fail_at(&world, &before, &operation, &once, &counts);
            fail_at(&world, &before, &operation, &for_good, &counts);
        }
        world_snapshot_restore(&world, &after);
        world_apply(&world, &operation, result);
    }
    assert_true(counts.tried > 5 || counts.failed > 0);
    world_snapshot_free(&before);
    world_snapshot_free(&after);
    world_free(&world);
    assert_int_equal(counts.failed, 0);
}

static const struct ekv_geometry small_geometry = {1024, 16, 4, false};

static void a_failed_program_is_reported_and_loses_nothing(void **state)
{
    (void)state;
    for (unsigned workload = 0; workload < workload_count; workload++)
        run(workload, &small_geometry, NOR_PROGRAM, 1, 250);
}

static void a_failed_erase_is_reported_and_loses_nothing(void **state)
{
    (void)state;
    for (unsigned workload = 0; workload < workload_count; workload++)
        run(workload, &small_geometry, NOR_ERASE, 1, 600);
}

static void a_failed_read_is_reported_and_loses_nothing(void **state)
{
    (void)state;
    for (unsigned workload = 0; workload < workload_count; workload++)
        run(workload, &small_geometry, NOR_READ, 7, 150);
}

/* --- Bad sectors ----------------------------------------------------------------------------- */

static uint32_t ring_count(const struct world *world)
{
    struct ekv_format format;
    ekv_format_init(&format, &world->options.geometry, 0);
    return format.ring_count;
}

/* Writes until every sector was used more than once, with one sector that cannot be erased. */
static void a_sector_that_cannot_be_erased_is_retired_and_counted(void **state)
{
    (void)state;
    const struct ekv_geometry geometry = {1024, 24, 4, false};
    uint32_t met = 0;
    for (uint32_t bad = 3; bad < geometry.sector_count; bad += 4) {
        static struct world world;
        struct world_options options = {.workload = 0, .geometry = geometry, .seed = bad};
        struct model_why why;
        struct ekv_stat stat;
        options.memtable_count = 16;
        options.start = NOR_AGED;
        world_init(&world, &options);
        assert_int_equal(world_format(&world), EKV_OK);
        assert_int_equal(world_mount(&world, false), EKV_OK);
        nor_fail(&world.nor, (struct nor_failure){NOR_ERASE, bad, 0, NOR_FOR_GOOD, false});
        for (uint32_t i = 0; i < 1500; i++)
            if (!world_step(&world, &why))
                fail_msg("sector %" PRIu32 ", step %" PRIu32 ": %s", bad, i, why.text);
        if (!world_verify(&world, &why) || !model_store_is_sound(world.live.db, &why))
            fail_msg("sector %" PRIu32 ": %s", bad, why.text);
        /* A mount may have forgotten what the manifest did not tell yet: on without one. */
        assert_int_equal(world_mount(&world, false), EKV_OK);
        struct nor_failure *failure = &world.nor.now.failures[0];
        bool in_ring = bad < ring_count(&world);
        if (in_ring) /* each mount tries those of the ring again */
            failure->met = false;
        for (uint32_t i = 0; i < 1500; i++)
            assert_int_equal(ekv_put(world.live.db, ekv_key("again", 5), &i, sizeof i), EKV_OK);
        ekv_stat(world.live.db, &stat);
        assert_int_equal(stat.sectors_retired, failure->met ? 1 : 0);
        met += !in_ring && failure->met;
        assert_false(stat.read_only);
        world_free(&world);
    }
    assert_true(met > 0);
}

/* A store on aged flash after sixty steps of a workload. */
static void start_aged(struct world *world)
{
    struct model_why why;
    struct world_options options = {.workload = 0,
                                    .geometry = small_geometry,
                                    .seed = 9,
                                    .memtable_count = 8,
                                    .start = NOR_AGED};
    world_init(world, &options);
    assert_int_equal(world_format(world), EKV_OK);
    assert_int_equal(world_mount(world, false), EKV_OK);
    for (uint32_t i = 0; i < 60; i++)
        assert_true(world_step(world, &why));
}

/* A store whose programs fail becomes read-only, says so, and still reads. */
static void a_store_that_cannot_write_goes_read_only_and_reads_on(void **state)
{
    (void)state;
    static struct world world;
    struct model_why why;
    struct ekv_stat stat;
    start_aged(&world);
    nor_fail(&world.nor, (struct nor_failure){NOR_PROGRAM, NOR_ANY_SECTOR, 0, NOR_FOR_GOOD, false});
    int first = ekv_put(world.live.db, ekv_key("new", 3), "x", 1);
    assert_true(first == EKV_IO || first == EKV_READ_ONLY);
    assert_int_equal(ekv_put(world.live.db, ekv_key("new", 3), "x", 1), EKV_READ_ONLY);
    ekv_stat(world.live.db, &stat);
    assert_true(stat.read_only);
    if (!world_verify(&world, &why))
        fail_msg("%s", why.text);
    world_free(&world);
}

/* The successor of the head that a failed open record gave up was never stamped. If the manifest
 * still called it log, old entries of runs that lead there would be taken for damage. */
static void an_open_record_that_fails_leaves_no_log_sector_without_a_stamp(void **state)
{
    (void)state;
    static struct world world;
    start_aged(&world);
    assert_int_equal(ekv_unmount(world.live.db), EKV_OK);
    assert_int_equal(world_mount(&world, false), EKV_OK);
    nor_fail(&world.nor, (struct nor_failure){NOR_PROGRAM, NOR_ANY_SECTOR, 0, 1, false});
    int result = ekv_put(world.live.db, ekv_key("new", 3), "x", 1);
    assert_true(result == EKV_OK || result == EKV_IO);
    assert_int_equal(ekv_unmount(world.live.db), EKV_OK);
    assert_int_equal(world_mount(&world, false), EKV_OK);
    const struct ekv *db = world.live.db;
    for (uint32_t i = 0; i < small_geometry.sector_count; i++) {
        struct ekv_stamp_b stamp;
        if (ekv_sector_state(&db->sectors, i) == EKV_SECTOR_LOG && i != db->log.next)
            assert_int_equal(ekv_sector_stamp_read(&db->sectors, i, &stamp), EKV_OK);
    }
    world_free(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_program_is_reported_and_loses_nothing),
        cmocka_unit_test(a_failed_erase_is_reported_and_loses_nothing),
        cmocka_unit_test(a_failed_read_is_reported_and_loses_nothing),
        cmocka_unit_test(a_sector_that_cannot_be_erased_is_retired_and_counted),
        cmocka_unit_test(an_open_record_that_fails_leaves_no_log_sector_without_a_stamp),
        cmocka_unit_test(a_store_that_cannot_write_goes_read_only_and_reads_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
