/* The manifest: what was committed is loaded again, whatever power cuts hit, and nothing else.
 *
 * Each test changes a catalog and the table of sectors by chance, commits, and compares what a
 * fresh reader loads with the states that were committed.
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
#include "manifest.h"

enum { RUNS_MAX = EKV_RUN_COUNT_MAX + 1, SECTORS_MAX = 1200 };

/* A manifest with everything that it works on. */
struct owner {
    struct ekv_manifest manifest;
    struct ekv_catalog catalog;
    struct ekv_run runs[RUNS_MAX];
    uint8_t copy[EKV_PAGE_SIZE];
    struct ekv_sectors *sectors;
};

/* What a load must bring back. */
struct remembered {
    struct ekv_catalog catalog;
    struct ekv_run runs[RUNS_MAX];
    uint8_t states[SECTORS_MAX], lives[SECTORS_MAX];
    uint32_t virgin;
};

static struct layers on;
static struct owner writer, reader;
static struct ekv_sectors reader_sectors;
static uint8_t reader_memory[2 * SECTORS_MAX];
static uint64_t chance;

static int teardown(void **state)
{
    (void)state;
    layers_stop(&on);
    return 0;
}

static void own(struct owner *owner, struct ekv_sectors *sectors)
{
    memset(owner, 0, sizeof *owner);
    owner->sectors = sectors;
    owner->manifest.sectors = sectors;
    owner->manifest.copy = owner->copy;
    owner->catalog.runs = owner->runs;
    owner->catalog.run_capacity =
        ekv_format_run_count_max(sectors->format.geometry.sector_count) + 1;
}

static void start(struct ekv_geometry geometry, uint64_t seed)
{
    layers_start(&on, geometry, NOR_AGED);
    own(&writer, &on.sectors);
    chance = seed;
    writer.catalog.next_run_id = 1;
    writer.catalog.replay_sector = on.sectors.format.ring_count;
    writer.catalog.replay_sequence = 1;
    writer.catalog.replay_offset = on.sectors.format.body_offset;
    writer.catalog.retain_count = 3;
    strcpy(writer.catalog.label, "thirty-one bytes of text, whole");
    assert_ok(ekv_manifest_create(&writer.manifest, &writer.catalog));
}

static void remember(struct remembered *into, const struct owner *owner)
{
    uint32_t count = owner->sectors->format.geometry.sector_count;
    into->catalog = owner->catalog;
    memcpy(into->runs, owner->runs, sizeof into->runs);
    for (uint32_t i = 0; i < count; i++) {
        enum ekv_sector_state is = ekv_sector_state(owner->sectors, i);
        bool told = is == EKV_SECTOR_LOG || is == EKV_SECTOR_RETIRED;
        into->states[i] = told ? (uint8_t)is : EKV_SECTOR_FREE;
        if (i < owner->sectors->format.ring_count)
            into->states[i] = EKV_SECTOR_MANIFEST; /* whatever it is: the table is not about it */
        into->lives[i] = is == EKV_SECTOR_LOG ? owner->sectors->lives[i] : 0;
    }
    into->virgin = owner->sectors->virgin_saved;
}

#define DIFFERS(field)                                                                             \
    if (a->field != b->field)                                                                      \
    return #field

/* What of two states differs; NULL: nothing. */
static const char *difference(const struct remembered *one, const struct remembered *two)
{
    const struct ekv_catalog *a = &one->catalog, *b = &two->catalog;
    DIFFERS(run_count);
    DIFFERS(next_run_id);
    DIFFERS(replay_sector);
    DIFFERS(replay_sequence);
    DIFFERS(replay_offset);
    DIFFERS(counted);
    DIFFERS(keys);
    DIFFERS(keys_aside);
    DIFFERS(live_size);
    DIFFERS(retain_count);
    if (memcmp(a->label, b->label, sizeof a->label) != 0)
        return "label";
    for (uint32_t i = 0; i < one->catalog.run_count; i++) {
        const struct ekv_run *c = &one->runs[i], *d = &two->runs[i];
        if (c->id != d->id || c->root != d->root || c->entry_count != d->entry_count ||
            c->sequence != d->sequence || c->filter != d->filter ||
            c->filter_blocks != d->filter_blocks || c->level != d->level || c->height != d->height)
            return "a run";
    }
    if (memcmp(one->states, two->states, sizeof one->states) != 0)
        return "the state of a sector";
    if (memcmp(one->lives, two->lives, sizeof one->lives) != 0)
        return "the live count of a sector";
    return one->virgin == two->virgin ? NULL : "the virgin mark";
}

/* Loads the manifest from flash with nothing known before. */
static int load(struct remembered *into)
{
    memset(&reader_sectors, 0xee, sizeof reader_sectors);
    ekv_sectors_init(&reader_sectors, &on.nor.flash, 77, reader_memory, NULL);
    own(&reader, &reader_sectors);
    int error = ekv_manifest_load(&reader.manifest, &reader.catalog);
    memset(into, 0, sizeof *into);
    if (!error)
        remember(into, &reader);
    return error;
}

static void expect_loaded(const struct remembered *expected)
{
    static struct remembered loaded;
    assert_ok(load(&loaded));
    const char *what = difference(expected, &loaded);
    if (what)
        fail_msg("after the load %s differs (%u runs, manifest sequence %u, offset %u)", what,
                 (unsigned)loaded.catalog.run_count, (unsigned)reader.manifest.sequence,
                 (unsigned)reader.manifest.offset);
}

/* --- Changes by chance ----------------------------------------------------------------------- */

static struct ekv_run new_run(struct owner *owner)
{
    uint32_t size = ekv_flash_size(&owner->sectors->flash);
    return (struct ekv_run){
        .id = owner->catalog.next_run_id++,
        .root = fixture_below(&chance, size),
        .entry_count = fixture_below(&chance, UINT32_MAX),
        .sequence = fixture_below(&chance, UINT32_MAX),
        .filter = fixture_below(&chance, 2) ? 1 + fixture_below(&chance, size - 1) : 0,
        .filter_blocks = (uint16_t)(1 + fixture_below(&chance, UINT16_MAX)),
        .level = (uint8_t)fixture_below(&chance, 16),
        .height = (uint8_t)(1 + fixture_below(&chance, EKV_RUN_HEIGHT_MAX)),
    };
}

static void drop_run(struct owner *owner, uint32_t index)
{
    struct ekv_catalog *catalog = &owner->catalog;
    memmove(catalog->runs + index, catalog->runs + index + 1,
            (catalog->run_count - index - 1) * sizeof catalog->runs[0]);
    catalog->run_count--;
}

/* A run more at any place, some fewer, other figures, other sectors. Returns the run's id. */
static uint32_t change(struct owner *owner)
{
    struct ekv_catalog *catalog = &owner->catalog;
    const struct ekv_format *format = &owner->sectors->format;
    uint32_t count = format->geometry.sector_count, added = 0;
    uint32_t drops = fixture_below(&chance, 3);
    while (catalog->run_count > 0 &&
           (drops-- > 0 || catalog->run_count + 1 >= catalog->run_capacity) && drops < 100)
        drop_run(owner, fixture_below(&chance, catalog->run_count));
    if (fixture_below(&chance, 3) && catalog->run_count + 1 < catalog->run_capacity) {
        uint32_t at = fixture_below(&chance, catalog->run_count + 1);
        memmove(catalog->runs + at + 1, catalog->runs + at,
                (catalog->run_count - at) * sizeof catalog->runs[0]);
        catalog->runs[at] = new_run(owner);
        added = catalog->runs[at].id;
        catalog->run_count++;
    }
    catalog->replay_sector =
        format->ring_count + fixture_below(&chance, count - format->ring_count);
    catalog->replay_sequence = fixture_below(&chance, UINT32_MAX);
    catalog->replay_offset =
        format->body_offset +
        fixture_below(&chance, format->geometry.sector_size - format->body_offset + 1);
    catalog->counted = (uint64_t)fixture_below(&chance, UINT32_MAX) << 16;
    catalog->keys = fixture_below(&chance, UINT32_MAX);
    catalog->keys_aside = fixture_below(&chance, UINT32_MAX);
    catalog->live_size = (uint64_t)fixture_below(&chance, UINT32_MAX) << 8;
    for (uint32_t i = fixture_below(&chance, 1 + count / 8); i > 0; i--) {
        static const enum ekv_sector_state states[] = {
            EKV_SECTOR_LOG, EKV_SECTOR_LOG, EKV_SECTOR_FREE, EKV_SECTOR_INDEX, EKV_SECTOR_READY};
        uint32_t sector = format->ring_count + fixture_below(&chance, count - format->ring_count);
        if (ekv_sector_state(owner->sectors, sector) == EKV_SECTOR_RETIRED)
            continue;
        enum ekv_sector_state to = states[fixture_below(&chance, 5)];
        if (fixture_below(&chance, 500) == 0)
            to = EKV_SECTOR_RETIRED;
        ekv_sector_set(owner->sectors, sector, to);
        if (to == EKV_SECTOR_LOG)
            owner->sectors->lives[sector] = (uint8_t)fixture_below(&chance, 256);
    }
    return added;
}

static int commit(struct owner *owner)
{
    uint32_t added = change(owner);
    return ekv_manifest_commit(&owner->manifest, &owner->catalog, added);
}

static const struct ekv_geometry geometries[] = {
    {4096, 8, 1, false},    {4096, 64, 1, true},   {512, 32, 32, true},   {1024, 32, 4, true},
    {4096, 256, 256, true}, {4096, 1024, 1, true}, {65536, 16, 16, true}, {512, 300, 1, true},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

/* --- Round trips ----------------------------------------------------------------------------- */

static void a_new_manifest_is_loaded_as_it_was_created(void **state)
{
    static struct remembered expected;
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        start(geometries[i], i);
        memset(&expected, 0, sizeof expected);
        remember(&expected, &writer);
        expect_loaded(&expected);
        layers_stop(&on);
    }
}

static void every_commit_is_loaded_while_the_ring_turns_many_times(void **state)
{
    static struct remembered expected;
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        start(geometries[i], i);
        uint32_t least = 0, turns = geometries[i].sector_size > 4096 ? 1 : 3;
        for (uint32_t n = 0; least < turns; n++) {
            assert_true(n < 5000);
            assert_ok(commit(&writer));
            for (uint32_t j = 0; j < geometries[i].sector_count; j++)
                assert_int_not_equal(ekv_sector_next_dirty(&on.sectors, j), j);
            least = UINT32_MAX;
            for (uint32_t j = 0; j < on.sectors.format.ring_count; j++)
                least = ekv_min(least, on.nor.erase_counts[j]);
            if (n % 5 != 0 && least < turns)
                continue;
            memset(&expected, 0, sizeof expected);
            remember(&expected, &writer);
            expect_loaded(&expected);
        }
        layers_stop(&on);
    }
}

/* The ring erased as by a format, then a store begun in it. */
static void start_erased(struct ekv_geometry geometry, uint64_t seed)
{
    start(geometry, seed);
    for (uint32_t j = 0; j < on.sectors.format.ring_count; j++)
        assert_ok(ekv_sector_erase(&on.sectors, j));
    assert_ok(ekv_manifest_create(&writer.manifest, &writer.catalog));
}

static void the_first_turn_of_a_ring_that_format_erased_erases_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        start_erased(geometries[i], i);
        uint32_t ring = on.sectors.format.ring_count, before[64], n;
        assert_in_range(ring, 3, 64);
        for (uint32_t j = 0; j < ring; j++)
            before[j] = on.nor.erase_counts[j];
        for (n = 0; writer.manifest.sequence < ring; n++)
            assert_ok(commit(&writer));
        for (uint32_t j = 0; j < ring; j++)
            assert_int_equal(on.nor.erase_counts[j], before[j]);
        while (writer.manifest.sequence < 2 * ring)
            assert_ok(commit(&writer));
        for (uint32_t j = 0; j < ring; j++)
            assert_int_equal(on.nor.erase_counts[j], before[j] + 1);
        layers_stop(&on);
    }
}

/* Whoever prepares before each commit never waits for an erase in one, and a mount that does not
 * know what was prepared goes on. */
static void what_was_erased_ahead_is_not_erased_again(void **state)
{
    static struct remembered expected;
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        if (geometries[i].sector_size < 4096)
            continue; /* an edit can be larger than what is looked ahead */
        start(geometries[i], i);
        uint32_t ahead = 0, ring = on.sectors.format.ring_count;
        for (uint32_t n = 0; writer.manifest.sequence < 4 * ring; n++) {
            uint32_t added = change(&writer);
            while (ekv_manifest_prepare(&writer.manifest, &writer.catalog) == EKV_OK)
                ahead++;
            uint64_t erases = on.sectors.erases;
            assert_ok(ekv_manifest_commit(&writer.manifest, &writer.catalog, added));
            assert_int_equal(on.sectors.erases, erases);
            if (n % 7 != 0)
                continue;
            memset(&expected, 0, sizeof expected);
            remember(&expected, &writer);
            expect_loaded(&expected);
        }
        assert_in_range(ahead, 3 * ring, 4 * ring + EKV_CHAIN_READY_MAX);
        writer.manifest.ready_count = 0;
        while (writer.manifest.sequence < 6 * ring)
            assert_ok(commit(&writer));
        layers_stop(&on);
    }
}

static void after_a_recovery_no_sector_of_the_ring_counts_as_erased(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        start_erased(geometries[i], i);
        uint32_t ring = on.sectors.format.ring_count, before[64], first = writer.manifest.sector;
        assert_in_range(ring, 3, 64);
        for (uint32_t j = 0; j < ring; j++)
            before[j] = on.nor.erase_counts[j];
        assert_ok(ekv_manifest_settle(&writer.manifest, &writer.catalog, false));
        while (writer.manifest.sector != first) {
            assert_true(on.nor.erase_counts[writer.manifest.sector] >
                        before[writer.manifest.sector]);
            assert_ok(commit(&writer));
        }
        layers_stop(&on);
    }
}

static void a_reader_goes_on_where_the_writer_stopped(void **state)
{
    static struct remembered expected;
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        start(geometries[i], i);
        for (uint32_t n = 0; n < 150; n++) {
            /* A mount: what was loaded is written to from now on. */
            assert_ok(load(&expected));
            memcpy(&on.sectors, &reader_sectors, sizeof on.sectors);
            memcpy(on.memory, reader_memory, ekv_sectors_memory_size(geometries[i].sector_count));
            on.sectors.states = on.memory;
            on.sectors.lives = on.memory + (geometries[i].sector_count + 1) / 2;
            writer = reader;
            writer.sectors = writer.manifest.sectors = &on.sectors;
            writer.manifest.copy = writer.copy;
            writer.catalog.runs = writer.runs;
            assert_ok(commit(&writer));
            memset(&expected, 0, sizeof expected);
            remember(&expected, &writer);
            expect_loaded(&expected);
        }
        layers_stop(&on);
    }
}

static void the_table_of_sectors_comes_back_however_full_it_is(void **state)
{
    static const enum ekv_sector_state states[] = {EKV_SECTOR_LOG, EKV_SECTOR_RETIRED,
                                                   EKV_SECTOR_FREE};
    static struct remembered expected;
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        start(geometries[i], i);
        uint32_t ring = on.sectors.format.ring_count, count = geometries[i].sector_count;
        for (size_t s = 0; s < 3; s++) {
            for (uint32_t step = 1; step <= 300; step *= 17) {
                for (uint32_t j = ring; j < count; j += step) {
                    ekv_sector_set(&on.sectors, j, states[s]);
                    if (states[s] == EKV_SECTOR_LOG)
                        on.sectors.lives[j] = (uint8_t)j;
                }
                assert_ok(ekv_manifest_commit(&writer.manifest, &writer.catalog, 0));
                memset(&expected, 0, sizeof expected);
                remember(&expected, &writer);
                expect_loaded(&expected);
                assert_ok(ekv_manifest_settle(&writer.manifest, &writer.catalog, false));
                memset(&expected, 0, sizeof expected);
                remember(&expected, &writer);
                expect_loaded(&expected);
            }
        }
        layers_stop(&on);
    }
}

/* --- Power cuts ------------------------------------------------------------------------------ */

/* Cuts the power at every operation of a commit (with `settle`: of a checkpoint), in every way.
 * The state before or after must be loaded, the same one until flash that is unstable changes its
 * mind, and a checkpoint from there must hold. */
static void cut_a_commit(bool settle)
{
    static struct owner saved;
    static struct remembered before, after, loaded, again;
    static uint8_t added_memory[2 * SECTORS_MAX];
    struct ekv_sectors sectors = on.sectors;
    size_t size = ekv_sectors_memory_size(sectors.format.geometry.sector_count);
    struct nor_snapshot *snapshot = nor_snapshot_new(&on.nor);
    assert_non_null(snapshot);
    nor_snapshot_take(&on.nor, snapshot);
    memset(&before, 0, sizeof before);
    remember(&before, &writer);
    uint32_t added = change(&writer);
    saved = writer;
    memcpy(added_memory, on.memory, size);
    bool complete = false;
    for (uint64_t cut = 1; !complete; cut++) {
        for (int mode = 0; mode < NOR_CUT_COUNT; mode++) {
            nor_snapshot_restore(&on.nor, snapshot);
            on.sectors = sectors;
            memcpy(on.memory, added_memory, size);
            writer = saved;
            nor_seed(&on.nor, cut * 7 + (uint64_t)mode);
            nor_cut_at(&on.nor, cut, (enum nor_cut)mode);
            int error = settle ? ekv_manifest_settle(&writer.manifest, &writer.catalog, false)
                               : ekv_manifest_commit(&writer.manifest, &writer.catalog, added);
            complete = on.nor.now.powered;
            if (complete)
                assert_ok(error);
            nor_power_on(&on.nor);
            /* The mark that is saved with it is known when it is done only. */
            memset(&after, 0, sizeof after);
            remember(&after, &writer);
            int answer = load(&loaded);
            const char *one = difference(&before, &loaded), *two = difference(&after, &loaded);
            if (answer != EKV_OK || (one && two))
                fail_msg("cut %u, mode %d: %s; %s differs from before, %s from after",
                         (unsigned)cut, mode, model_result_name(answer), one ? one : "nothing",
                         two ? two : "nothing");
            if (complete && two)
                fail_msg("the commit that returned is not there: %s differs", two);
            /* A checkpoint from what was loaded holds, whatever is unstable. */
            (void)change(&reader);
            assert_ok(ekv_manifest_settle(&reader.manifest, &reader.catalog, false));
            memset(&again, 0, sizeof again);
            remember(&again, &reader);
            for (int times = 0; times < 3; times++)
                expect_loaded(&again);
        }
    }
    nor_snapshot_free(snapshot);
}

static void a_cut_commit_is_there_whole_or_not_at_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        for (uint32_t rounds = 0; rounds < 12; rounds++) {
            start(geometries[i], 100 * i + rounds);
            /* Somewhere in the life of a chain, its end included. */
            for (uint32_t n = fixture_below(&chance, 60); n > 0; n--)
                assert_ok(commit(&writer));
            cut_a_commit(false);
            layers_stop(&on);
        }
    }
}

static void an_incomplete_checkpoint_leaves_the_chain_before_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        for (uint32_t rounds = 0; rounds < 6; rounds++) {
            start(geometries[i], 200 * i + rounds);
            for (uint32_t n = fixture_below(&chance, 40); n > 0; n--)
                assert_ok(commit(&writer));
            cut_a_commit(true);
            layers_stop(&on);
        }
    }
}

/* What replay does to a loaded table and catalog, none of which may get into a copy. */
static void replay_something(struct owner *owner)
{
    uint32_t count = owner->sectors->format.geometry.sector_count;
    owner->catalog.keys += 5;
    owner->catalog.live_size += 500;
    for (uint32_t i = owner->sectors->format.ring_count; i < count; i += 3) {
        ekv_sector_set(owner->sectors, i, EKV_SECTOR_LOG);
        owner->sectors->lives[i] = 77;
    }
}

/* An edit in flight when power was lost may read well only after it was not seen once: then it must
 * not count any more. So it is after a settling that copies, cut anywhere. */
static void cut_a_copy(bool met[2])
{
    static struct remembered before, seen, loaded;
    struct nor_snapshot *snapshot = nor_snapshot_new(&on.nor);
    assert_non_null(snapshot);
    memset(&before, 0, sizeof before);
    remember(&before, &writer);
    uint32_t added = change(&writer);
    nor_cut_at(&on.nor, 1, NOR_CUT_UNSTABLE);
    assert_result(ekv_manifest_commit(&writer.manifest, &writer.catalog, added), EKV_IO);
    nor_power_on(&on.nor);
    nor_snapshot_take(&on.nor, snapshot);
    bool complete = false;
    for (uint64_t cut = 1; !complete; cut++) {
        for (int mode = 0; mode < NOR_CUT_COUNT; mode++) {
            nor_snapshot_restore(&on.nor, snapshot);
            nor_seed(&on.nor, cut * 7 + (uint64_t)mode);
            assert_ok(load(&seen));
            /* Behind an edit that was in flight there are no records. */
            bool behind = difference(&seen, &before) == NULL;
            met[behind] = true;
            if (behind)
                replay_something(&reader);
            nor_cut_at(&on.nor, cut, (enum nor_cut)mode);
            int error = ekv_manifest_settle(&reader.manifest, &reader.catalog, behind);
            complete = on.nor.now.powered;
            if (complete)
                assert_ok(error);
            nor_power_on(&on.nor);
            for (int times = 0; complete && times < 4; times++)
                expect_loaded(&seen);
            assert_ok(load(&loaded));
        }
    }
    /* The copy is a chain like any other. */
    own(&writer, &on.sectors);
    assert_ok(ekv_manifest_load(&writer.manifest, &writer.catalog));
    for (int n = 0; n < 5; n++) {
        assert_ok(commit(&writer));
        memset(&seen, 0, sizeof seen);
        remember(&seen, &writer);
        expect_loaded(&seen);
    }
    nor_snapshot_free(snapshot);
}

static void what_a_recovery_did_not_see_never_counts_again(void **state)
{
    bool met[2] = {false, false};
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        for (uint32_t rounds = 0; rounds < 12; rounds++) {
            start(geometries[i], 300 * i + rounds);
            for (uint32_t n = fixture_below(&chance, 60); n > 0; n--)
                assert_ok(commit(&writer));
            cut_a_copy(met);
            layers_stop(&on);
        }
    }
    assert_true(met[false] && met[true]);
}

/* --- Damage ---------------------------------------------------------------------------------- */

static void a_torn_last_edit_is_ignored(void **state)
{
    static struct remembered before;
    uint32_t tested = 0;
    (void)state;
    for (size_t i = 0; i < GEOMETRIES; i++) {
        start(geometries[i], i);
        uint32_t begin, sequence, tries = 0;
        do { /* until there is room for an edit in this page */
            assert_ok(commit(&writer));
            begin = writer.manifest.offset;
            sequence = writer.manifest.sequence;
            memset(&before, 0, sizeof before);
            remember(&before, &writer);
            writer.catalog.keys++;
            assert_ok(ekv_manifest_commit(&writer.manifest, &writer.catalog, 0));
        } while ((writer.manifest.sequence != sequence || begin % 256 == 0 ||
                  (writer.manifest.offset - 1) / 256 != begin / 256) &&
                 tries++ < 200);
        if (tries > 200) { /* edits do not share a page here */
            layers_stop(&on);
            continue;
        }
        tested++;
        uint32_t sector = ekv_address(&on.sectors.format, writer.manifest.sector, 0);
        for (uint32_t at = begin; at < begin + 40; at++) {
            nor_flip(&on.nor, sector + at, 0x04);
            expect_loaded(&before);
            nor_flip(&on.nor, sector + at, 0x04);
        }
        before.catalog.keys++;
        expect_loaded(&before);
        layers_stop(&on);
    }
    assert_true(tested >= 3);
}

/* A flipped bit in the newest chain: the last state, the one before it (a torn tail), or damage
 * that is reported; never an older state or a mixture. */
static void damage_within_the_chain_is_never_passed_over(void **state)
{
    static struct remembered last, previous, loaded;
    uint32_t wrong = 0;
    (void)state;
    start((struct ekv_geometry){1024, 32, 1, false}, 5);
    for (uint32_t n = 0; n < 100; n++)
        assert_ok(commit(&writer));
    do {
        memset(&previous, 0, sizeof previous);
        remember(&previous, &writer);
        assert_ok(commit(&writer));
    } while (writer.manifest.sequence != writer.manifest.base || writer.manifest.offset < 650);
    memset(&last, 0, sizeof last);
    remember(&last, &writer);
    uint32_t sector = ekv_address(&on.sectors.format, writer.manifest.sector, 0);
    for (uint32_t at = on.sectors.format.body_offset; at < writer.manifest.offset; at++) {
        nor_flip(&on.nor, sector + at, 0x20);
        int error = load(&loaded);
        if (!error && difference(&last, &loaded) && difference(&previous, &loaded) && wrong++ < 5)
            print_error("byte %u of the chain damaged: %s is neither the last nor the one before\n",
                        (unsigned)at, difference(&last, &loaded));
        nor_flip(&on.nor, sector + at, 0x20);
    }
    assert_int_equal(wrong, 0);
}

static void a_flash_without_a_chain_is_no_store(void **state)
{
    static struct remembered loaded;
    (void)state;
    layers_start(&on, (struct ekv_geometry){4096, 16, 1, false}, NOR_FRESH);
    assert_result(load(&loaded), EKV_NO_STORE);
    layers_stop(&on);
    layers_start(&on, (struct ekv_geometry){4096, 16, 1, false}, NOR_AGED);
    assert_result(load(&loaded), EKV_NO_STORE);
}

/* --- Failures -------------------------------------------------------------------------------- */

/* Whether the edit is there is not known: a chain of its own says what counts. */
static void after_a_failed_edit_the_catalog_goes_into_a_new_chain(void **state)
{
    static struct remembered expected;
    (void)state;
    start((struct ekv_geometry){4096, 32, 1, false}, 9);
    assert_ok(commit(&writer));
    uint32_t chain = writer.manifest.base;
    nor_fail(&on.nor,
             (struct nor_failure){.operations = NOR_PROGRAM, .sector = NOR_ANY_SECTOR, .times = 1});
    assert_ok(commit(&writer));
    assert_int_not_equal(writer.manifest.base, chain);
    memset(&expected, 0, sizeof expected);
    remember(&expected, &writer);
    expect_loaded(&expected);
}

static void after_a_failed_commit_nothing_more_is_written(void **state)
{
    static struct remembered before;
    (void)state;
    start((struct ekv_geometry){4096, 32, 1, false}, 9);
    assert_ok(commit(&writer));
    memset(&before, 0, sizeof before);
    remember(&before, &writer);
    nor_fail(&on.nor, (struct nor_failure){.operations = NOR_PROGRAM,
                                           .sector = NOR_ANY_SECTOR,
                                           .times = NOR_FOR_GOOD});
    assert_result(commit(&writer), EKV_IO);
    uint64_t operations = on.nor.now.operations;
    assert_result(commit(&writer), EKV_READ_ONLY);
    assert_int_equal(on.nor.now.operations, operations);
    expect_loaded(&before);
}

static void a_sector_of_the_ring_that_fails_is_passed_over(void **state)
{
    static struct remembered expected;
    (void)state;
    start((struct ekv_geometry){1024, 64, 1, false}, 10);
    assert_true(on.sectors.format.ring_count > 3);
    uint32_t bad = (writer.manifest.sector + 1) % on.sectors.format.ring_count;
    nor_fail(&on.nor,
             (struct nor_failure){.operations = NOR_ERASE, .sector = bad, .times = NOR_FOR_GOOD});
    for (uint32_t n = 0; n < 200; n++) {
        assert_ok(commit(&writer));
        memset(&expected, 0, sizeof expected);
        remember(&expected, &writer);
        expect_loaded(&expected);
    }
    assert_int_equal(ekv_sector_state(&on.sectors, bad), EKV_SECTOR_RETIRED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_new_manifest_is_loaded_as_it_was_created, teardown),
        cmocka_unit_test_teardown(every_commit_is_loaded_while_the_ring_turns_many_times, teardown),
        cmocka_unit_test_teardown(the_first_turn_of_a_ring_that_format_erased_erases_nothing,
                                  teardown),
        cmocka_unit_test_teardown(what_was_erased_ahead_is_not_erased_again, teardown),
        cmocka_unit_test_teardown(after_a_recovery_no_sector_of_the_ring_counts_as_erased,
                                  teardown),
        cmocka_unit_test_teardown(a_reader_goes_on_where_the_writer_stopped, teardown),
        cmocka_unit_test_teardown(the_table_of_sectors_comes_back_however_full_it_is, teardown),
        cmocka_unit_test_teardown(a_cut_commit_is_there_whole_or_not_at_all, teardown),
        cmocka_unit_test_teardown(an_incomplete_checkpoint_leaves_the_chain_before_it, teardown),
        cmocka_unit_test_teardown(what_a_recovery_did_not_see_never_counts_again, teardown),
        cmocka_unit_test_teardown(a_torn_last_edit_is_ignored, teardown),
        cmocka_unit_test_teardown(damage_within_the_chain_is_never_passed_over, teardown),
        cmocka_unit_test_teardown(a_flash_without_a_chain_is_no_store, teardown),
        cmocka_unit_test_teardown(after_a_failed_edit_the_catalog_goes_into_a_new_chain, teardown),
        cmocka_unit_test_teardown(after_a_failed_commit_nothing_more_is_written, teardown),
        cmocka_unit_test_teardown(a_sector_of_the_ring_that_fails_is_passed_over, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
