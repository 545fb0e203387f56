/* The sectors: one state each, counts that are true, a pool of erased ones, and wear that spreads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

static struct layers on;

static int teardown(void **state)
{
    (void)state;
    layers_stop(&on);
    return 0;
}

static const struct ekv_geometry plain = {1024, 32, 1, false};

static uint32_t ring(void)
{
    return on.sectors.format.ring_count;
}

static void counts_follow_the_states(void **state)
{
    uint64_t chance = 3;
    (void)state;
    layers_start(&on, (struct ekv_geometry){1024, 33, 1, false}, NOR_AGED);
    enum ekv_sector_state expected[33];
    for (uint32_t i = 0; i < 33; i++)
        expected[i] = i < ring() ? EKV_SECTOR_MANIFEST : EKV_SECTOR_FREE;
    for (uint32_t step = 0; step < 2000; step++) {
        uint32_t counts[EKV_SECTOR_STATE_COUNT] = {0}, sector = fixture_below(&chance, 33);
        expected[sector] = (enum ekv_sector_state)fixture_below(&chance, EKV_SECTOR_STATE_COUNT);
        ekv_sector_set(&on.sectors, sector, expected[sector]);
        for (uint32_t i = 0; i < 33; i++) {
            assert_int_equal(ekv_sector_state(&on.sectors, i), expected[i]);
            counts[expected[i]]++;
        }
        assert_memory_equal(counts, on.sectors.counts, sizeof counts);
        assert_int_equal(ekv_sectors_available(&on.sectors),
                         counts[EKV_SECTOR_FREE] + counts[EKV_SECTOR_READY]);
    }
}

static void a_sector_is_dirty_from_its_change_until_it_is_cleaned(void **state)
{
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    uint32_t sector = ring() + 1, address = ekv_address(&on.sectors.format, sector, 100);
    for (uint32_t i = 0; i < plain.sector_count; i++)
        ekv_sector_clean(&on.sectors, i);
    ekv_sector_set(&on.sectors, sector, EKV_SECTOR_LOG);
    assert_int_equal(ekv_sector_next_dirty(&on.sectors, sector), sector);
    assert_int_not_equal(ekv_sector_next_dirty(&on.sectors, sector - 1), sector - 1);
    assert_int_not_equal(ekv_sector_next_dirty(&on.sectors, sector + 1), sector + 1);
    ekv_sector_clean(&on.sectors, sector);
    assert_int_not_equal(ekv_sector_next_dirty(&on.sectors, sector), sector);
    assert_int_equal(ekv_sector_state(&on.sectors, sector), EKV_SECTOR_LOG);
    ekv_sector_live_add(&on.sectors, address, 50);
    assert_int_equal(ekv_sector_next_dirty(&on.sectors, sector), sector);
    ekv_sector_clean(&on.sectors, sector);
    assert_int_equal(ekv_sector_live_remove(&on.sectors, address, 50), EKV_OK);
    assert_int_equal(ekv_sector_next_dirty(&on.sectors, sector), sector);
}

static void the_next_dirty_sector_is_found_wherever_it_is(void **state)
{
    (void)state;
    layers_start(&on, (struct ekv_geometry){1024, 77, 1, false}, NOR_AGED);
    for (uint32_t i = 0; i < 77; i++)
        ekv_sector_clean(&on.sectors, i);
    assert_int_equal(ekv_sector_next_dirty(&on.sectors, 0), 77);
    for (uint32_t sector = ring(); sector < 77; sector++) {
        ekv_sector_set(&on.sectors, sector, EKV_SECTOR_LOG);
        for (uint32_t from = 0; from < 77; from++)
            assert_int_equal(ekv_sector_next_dirty(&on.sectors, from),
                             from <= sector ? sector : 77);
        ekv_sector_clean(&on.sectors, sector);
    }
}

/* Records that fill a sector of this size, cut by chance, add up to all units. */
static void expect_telescope(uint32_t sector_size, uint64_t seed)
{
    enum { RECORDS_MAX = 600 };
    uint32_t offsets[RECORDS_MAX + 1], count = 0, offset = 0;
    uint64_t chance = seed;
    layers_start(&on, (struct ekv_geometry){sector_size, 64, 1, false}, NOR_FRESH);
    uint32_t sector = ring();
    ekv_sector_set(&on.sectors, sector, EKV_SECTOR_LOG);
    while (offset < sector_size && count < RECORDS_MAX) {
        offsets[count++] = offset;
        offset += 1 + fixture_below(&chance, sector_size / 20);
    }
    offsets[count] = sector_size;
    for (uint32_t i = 0; i < count; i++)
        ekv_sector_live_add(&on.sectors, ekv_address(&on.sectors.format, sector, offsets[i]),
                            offsets[i + 1] - offsets[i]);
    assert_int_equal(on.sectors.lives[sector], EKV_LIVE_MAX);
    layers_stop(&on);
}

static void live_units_of_a_full_sector_add_up_however_it_is_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++)
        for (uint32_t size = 512; size <= 64 * 1024; size *= 2)
            expect_telescope(size, seed);
}

static void live_units_are_taken_off_exactly_as_they_were_added(void **state)
{
    uint64_t chance = 9;
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    uint32_t sector = ring(), base = ekv_address(&on.sectors.format, sector, 0);
    ekv_sector_set(&on.sectors, sector, EKV_SECTOR_LOG);
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t ends[64], count = 0, offset = 0;
        while (offset < 1024 && count < 64) {
            uint32_t size = ekv_min(1 + fixture_below(&chance, 60), 1024 - offset);
            ekv_sector_live_add(&on.sectors, base + offset, size);
            offset += size;
            ends[count++] = offset;
        }
        for (uint32_t i = 0; i < count; i += 2) {
            uint32_t begin = i ? ends[i - 1] : 0;
            assert_int_equal(ekv_sector_live_remove(&on.sectors, base + begin, ends[i] - begin),
                             EKV_OK);
        }
        for (uint32_t i = 1; i < count; i += 2)
            assert_int_equal(
                ekv_sector_live_remove(&on.sectors, base + ends[i - 1], ends[i] - ends[i - 1]),
                EKV_OK);
        assert_int_equal(on.sectors.lives[sector], 0);
    }
}

static void the_live_count_of_a_sector_in_limbo_is_left_alone(void **state)
{
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    uint32_t sector = ring(), base = ekv_address(&on.sectors.format, sector, 0);
    ekv_sector_set(&on.sectors, sector, EKV_SECTOR_LIMBO);
    on.sectors.lives[sector] = 7; /* its generation */
    assert_int_equal(ekv_sector_live_remove(&on.sectors, base, 1024), EKV_OK);
    assert_int_equal(on.sectors.lives[sector], 7);
}

static void a_live_count_that_is_too_small_is_damage_and_stays(void **state)
{
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    uint32_t sector = ring(), base = ekv_address(&on.sectors.format, sector, 0);
    ekv_sector_set(&on.sectors, sector, EKV_SECTOR_LOG);
    ekv_sector_live_add(&on.sectors, base, 100);
    uint8_t lives = on.sectors.lives[sector];
    assert_int_equal(ekv_sector_live_remove(&on.sectors, base, 1024), EKV_CORRUPT);
    assert_int_equal(on.sectors.lives[sector], lives);
}

/* --- The ready pool -------------------------------------------------------------------------- */

static void expect_blank_behind_stamp_a(uint32_t sector)
{
    const struct ekv_format *format = &on.sectors.format;
    const uint8_t *bytes = on.nor.bytes + ekv_address(format, sector, 0);
    for (uint32_t i = EKV_STAMP_A_SIZE; i < format->geometry.sector_size; i++)
        if (bytes[i] != 0xff)
            fail_msg("byte %u of sector %u is %02x", (unsigned)i, (unsigned)sector, bytes[i]);
}

static void prepared_sectors_are_erased_stamped_and_handed_out_in_order(void **state)
{
    (void)state;
    for (uint32_t unit = 1; unit <= 64; unit *= 2) {
        layers_start(&on, (struct ekv_geometry){1024, 32, unit, true}, NOR_AGED);
        uint32_t prepared[3];
        for (uint32_t i = 0; i < 3; i++) {
            assert_ok(ekv_sector_prepare(&on.sectors));
            assert_int_equal(on.sectors.counts[EKV_SECTOR_READY], i + 1);
            prepared[i] = ring();
            while (ekv_sector_state(&on.sectors, prepared[i]) != EKV_SECTOR_READY ||
                   (i > 0 && prepared[i] <= prepared[i - 1]))
                prepared[i]++;
            assert_int_equal(ekv_sector_erase_count(&on.sectors, prepared[i]), 1);
            expect_blank_behind_stamp_a(prepared[i]);
        }
        assert_int_equal(on.nor.now.counts.erases, 3);
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t sector;
            assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_INDEX, &sector));
            assert_int_equal(sector, prepared[i]);
            assert_int_equal(ekv_sector_state(&on.sectors, sector), EKV_SECTOR_INDEX);
        }
        assert_int_equal(on.sectors.counts[EKV_SECTOR_READY], 0);
        assert_int_equal(on.nor.now.counts.erases, 3);
        layers_stop(&on);
    }
}

static void a_take_without_a_ready_sector_prepares_one_until_none_is_free(void **state)
{
    uint32_t sector;
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    uint32_t count = plain.sector_count - ring();
    for (uint32_t i = 0; i < count; i++) {
        assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
        assert_true(sector >= ring());
    }
    assert_int_equal(on.nor.now.counts.erases, count);
    assert_result(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector), EKV_FULL);
    assert_result(ekv_sector_prepare(&on.sectors), EKV_FULL);
    ekv_sector_set(&on.sectors, ring() + 5, EKV_SECTOR_FREE);
    assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    assert_int_equal(sector, ring() + 5);
}

static void stamp_b_is_read_back_and_missing_before(void **state)
{
    (void)state;
    for (uint32_t unit = 1; unit <= 64; unit *= 8) {
        struct ekv_stamp_b stamp = {EKV_KIND_INDEX, 99, 3, 4, 5}, back;
        uint32_t sector;
        layers_start(&on, (struct ekv_geometry){1024, 32, unit, true}, NOR_AGED);
        assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_INDEX, &sector));
        assert_result(ekv_sector_stamp_read(&on.sectors, sector, &back), EKV_NOT_FOUND);
        assert_ok(ekv_sector_stamp(&on.sectors, sector, &stamp));
        assert_ok(ekv_sector_stamp_read(&on.sectors, sector, &back));
        assert_int_equal(back.sequence, 99);
        assert_int_equal(back.next, 3);
        assert_int_equal(ekv_sector_erase_count(&on.sectors, sector), 1);
        layers_stop(&on);
    }
}

/* --- Virgin sectors -------------------------------------------------------------------------- */

static void start_virgin(void)
{
    layers_start(&on, plain, NOR_FRESH);
    on.sectors.virgin = on.sectors.virgin_saved = ring();
}

static void virgin_sectors_are_used_without_an_erase(void **state)
{
    uint32_t sector;
    (void)state;
    start_virgin();
    assert_int_equal(ekv_sectors_virgin_save(&on.sectors), ring() + EKV_VIRGIN_STEP);
    for (uint32_t i = 0; i < EKV_VIRGIN_STEP; i++) {
        assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
        assert_int_equal(sector, ring() + i);
        assert_int_equal(ekv_sector_erase_count(&on.sectors, sector), 1);
    }
    assert_int_equal(on.nor.now.counts.erases, 0);
    assert_int_equal(on.sectors.virgin, ring() + EKV_VIRGIN_STEP);
}

static void a_virgin_sector_beyond_the_saved_mark_is_erased(void **state)
{
    uint32_t sector;
    (void)state;
    start_virgin();
    assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    assert_int_equal(on.nor.now.counts.erases, 1);
}

static void a_virgin_sector_that_is_not_blank_is_erased(void **state)
{
    const uint32_t places[] = {0, 1, 63, 64, 500, 1023};
    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        uint32_t sector;
        start_virgin();
        ekv_sectors_virgin_save(&on.sectors);
        nor_flip(&on.nor, ekv_address(&on.sectors.format, ring(), places[i]), 0x10);
        assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
        assert_int_equal(sector, ring());
        assert_int_equal(on.nor.now.counts.erases, 1);
        expect_blank_behind_stamp_a(sector);
        layers_stop(&on);
    }
}

static void the_saved_virgin_mark_runs_ahead_and_never_back(void **state)
{
    (void)state;
    start_virgin();
    assert_int_equal(ekv_sectors_virgin_save(&on.sectors), ring() + EKV_VIRGIN_STEP);
    assert_int_equal(ekv_sectors_virgin_save(&on.sectors), ring() + EKV_VIRGIN_STEP);
    on.sectors.virgin = plain.sector_count - 2;
    assert_int_equal(ekv_sectors_virgin_save(&on.sectors), plain.sector_count);
    on.sectors.virgin = ring();
    assert_int_equal(ekv_sectors_virgin_save(&on.sectors), plain.sector_count);
}

/* --- Wear ------------------------------------------------------------------------------------ */

static void free_sectors_are_used_in_rotation(void **state)
{
    enum { ROUNDS = 50 };
    uint32_t sector, least = UINT32_MAX, most = 0;
    (void)state;
    layers_start(&on, (struct ekv_geometry){1024, 200, 1, false}, NOR_AGED);
    uint32_t count = 200 - ring();
    for (uint32_t i = 0; i < count * ROUNDS; i++) {
        assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
        ekv_sector_set(&on.sectors, sector, EKV_SECTOR_FREE);
    }
    for (uint32_t i = ring(); i < 200; i++) {
        least = ekv_min(least, on.nor.erase_counts[i]);
        most = ekv_max(most, on.nor.erase_counts[i]);
    }
    if (most - least > 4)
        fail_msg("after %d rounds sectors were erased %u to %u times", ROUNDS, (unsigned)least,
                 (unsigned)most);
}

static void the_least_erased_of_the_next_free_sectors_is_taken(void **state)
{
    uint32_t sector;
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    for (uint32_t times = 0; times < 3; times++)
        for (uint32_t i = ring(); i < plain.sector_count; i++)
            if (times < 2 || i != ring() + 6)
                assert_ok(ekv_sector_erase(&on.sectors, i));
    assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    assert_int_equal(sector, ring() + 6);
}

static void a_sector_with_no_stamp_is_taken_for_the_most_erased(void **state)
{
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    uint32_t sector = ring();
    for (uint32_t i = 0; i < 5; i++)
        assert_ok(ekv_sector_erase(&on.sectors, sector));
    uint32_t known = ekv_sector_erase_count(&on.sectors, sector);
    assert_int_equal(known, 5);
    assert_int_equal(ekv_sector_erase_count(&on.sectors, sector + 1), 0);
    assert_ok(ekv_sector_erase(&on.sectors, sector + 1));
    assert_int_equal(ekv_sector_erase_count(&on.sectors, sector + 1), known);
}

/* --- Failures -------------------------------------------------------------------------------- */

static void a_sector_whose_erase_fails_is_retired_and_another_taken(void **state)
{
    uint32_t sector;
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    uint32_t bad = ring();
    nor_fail(&on.nor,
             (struct nor_failure){.operations = NOR_ERASE, .sector = bad, .times = NOR_FOR_GOOD});
    assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    assert_int_not_equal(sector, bad);
    assert_int_equal(ekv_sector_state(&on.sectors, bad), EKV_SECTOR_RETIRED);
    assert_int_equal(on.sectors.counts[EKV_SECTOR_RETIRED], 1);
    /* It is never tried again. */
    nor_fail_none(&on.nor);
    for (uint32_t i = ring() + 2; i < plain.sector_count; i++) {
        assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
        assert_int_not_equal(sector, bad);
    }
    assert_result(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector), EKV_FULL);
}

static void a_sector_whose_stamp_fails_is_retired_too(void **state)
{
    uint32_t sector;
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    nor_fail(&on.nor,
             (struct nor_failure){.operations = NOR_PROGRAM, .sector = ring(), .times = 1});
    assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    assert_int_not_equal(sector, ring());
    assert_int_equal(ekv_sector_state(&on.sectors, ring()), EKV_SECTOR_RETIRED);
}

/* It is not the sectors then: they must not all be given up for a flash that is write-protected. */
static void when_every_erase_fails_only_few_sectors_are_retired(void **state)
{
    uint32_t sector;
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    nor_fail(&on.nor, (struct nor_failure){.operations = NOR_ERASE,
                                           .sector = NOR_ANY_SECTOR,
                                           .times = NOR_FOR_GOOD});
    for (int i = 0; i < 3; i++)
        assert_result(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector), EKV_IO);
    assert_int_equal(on.sectors.counts[EKV_SECTOR_RETIRED], EKV_FAILURES_MAX - 1);
    nor_fail_none(&on.nor);
    assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    assert_false(ekv_sectors_failing(&on.sectors));
}

static void a_sector_in_use_whose_program_failed_is_retired_when_it_is_free(void **state)
{
    uint32_t sector;
    uint8_t byte = 0;
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    nor_fail(&on.nor,
             (struct nor_failure){.operations = NOR_PROGRAM, .sector = sector, .times = 1});
    uint32_t address = ekv_address(&on.sectors.format, sector, 512);
    assert_result(ekv_sector_program(&on.sectors, address, &byte, 1), EKV_IO);
    assert_int_equal(ekv_sector_state(&on.sectors, sector), EKV_SECTOR_LOG);
    ekv_sector_set(&on.sectors, sector, EKV_SECTOR_EMPTIED);
    assert_true(ekv_sector_distrusted(&on.sectors, sector));
    ekv_sector_set(&on.sectors, sector, EKV_SECTOR_FREE);
    assert_int_equal(ekv_sector_state(&on.sectors, sector), EKV_SECTOR_RETIRED);
    assert_false(ekv_sector_distrusted(&on.sectors, sector));
    assert_int_equal(ekv_sector_next_dirty(&on.sectors, sector),
                     sector); /* for the manifest to say so */
}

/* --- Locks and barriers ---------------------------------------------------------------------- */

struct watch {
    int depth;
    uint32_t erases, syncs, syncs_before_erase;
};

static void lock(void *context)
{
    ((struct watch *)context)->depth++;
}

static void unlock(void *context)
{
    ((struct watch *)context)->depth--;
}

static struct watch watch;

static int watched_erase(void *context, uint32_t sector)
{
    (void)context;
    assert_int_equal(watch.depth, 0);
    watch.erases++;
    watch.syncs_before_erase = watch.syncs;
    return on.nor.flash.driver->erase(&on.nor, sector);
}

static int watched_sync(void *context, bool barrier_only)
{
    (void)context;
    assert_true(barrier_only);
    watch.syncs++;
    return 0;
}

static void an_erase_lets_the_lock_go_and_waits_for_what_freed_its_sector(void **state)
{
    static const struct ekv_locks locks = {lock, unlock, lock, unlock};
    uint32_t sector;
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    struct ekv_flash_driver driver = *on.nor.flash.driver;
    driver.erase = watched_erase;
    driver.sync = watched_sync;
    on.sectors.flash.driver = &driver;
    on.sectors.locks = &locks;
    on.sectors.lock_context = &watch;
    watch = (struct watch){.depth = 1};
    assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    assert_int_equal(watch.depth, 1);
    assert_int_equal(watch.erases, 1);
    assert_int_equal(watch.syncs_before_erase, 0);
    assert_int_equal(watch.syncs, 1);
    on.sectors.freed_since_sync = true;
    assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    assert_int_equal(watch.erases, 2);
    assert_int_equal(watch.syncs_before_erase, 2);
    assert_int_equal(watch.syncs, 3);
    assert_int_equal(watch.depth, 1);
}

static void one_sync_makes_all_erases_certain_before_their_sectors_are_used(void **state)
{
    uint32_t sector;
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    struct ekv_flash_driver driver = *on.nor.flash.driver;
    driver.erase = watched_erase;
    driver.sync = watched_sync;
    on.sectors.flash.driver = &driver;
    watch = (struct watch){.depth = 0};
    for (int i = 0; i < 3; i++)
        assert_ok(ekv_sector_prepare(&on.sectors));
    assert_int_equal(watch.syncs, 0);
    for (int i = 0; i < 3; i++)
        assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    assert_int_equal(watch.erases, 3);
    assert_int_equal(watch.syncs, 1);
}

/* A write of `wanted` sectors, with only every `step`-th sector free: how many syncs it needs. */
static uint32_t syncs_of(uint32_t wanted, uint32_t step)
{
    uint32_t last = 0;
    layers_start(&on, (struct ekv_geometry){1024, 2048, 1, false}, NOR_AGED);
    struct ekv_flash_driver driver = *on.nor.flash.driver;
    driver.erase = watched_erase;
    driver.sync = watched_sync;
    on.sectors.flash.driver = &driver;
    watch = (struct watch){.depth = 0};
    for (uint32_t i = ring(); i < 2048; i++)
        if (i % step != 0)
            ekv_sector_set(&on.sectors, i, EKV_SECTOR_LOG);
    ekv_sectors_want(&on.sectors, wanted);
    for (uint32_t i = 0; i < wanted; i++) {
        uint32_t sector;
        assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
        assert_true(sector > last && sector % step == 0);
        expect_blank_behind_stamp_a(sector);
        last = sector;
    }
    assert_int_equal(watch.erases, wanted); /* none for nothing */
    assert_int_equal(on.sectors.counts[EKV_SECTOR_READY], 0);
    layers_stop(&on);
    return watch.syncs;
}

static void a_large_write_on_a_host_needs_few_syncs(void **state)
{
    (void)state;
    assert_int_equal(syncs_of(1, 1), 1);
    assert_int_equal(syncs_of(255, 1), 1);
    assert_int_equal(syncs_of(256, 1), 2);
    assert_int_equal(syncs_of(2000, 1), 8);
    assert_int_equal(syncs_of(255, 3), 255 / EKV_READY_MAX + 1); /* where they lie scattered */
}

static void what_a_write_wants_is_not_erased_ahead_on_a_chip(void **state)
{
    uint32_t sector;
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    ekv_sectors_want(&on.sectors, 10);
    assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    assert_int_equal(on.nor.now.counts.erases, 1);
}

/* Fewer sectors are free than the write wants: it gets those. */
static void what_is_wanted_but_not_free_is_no_error(void **state)
{
    uint32_t sector;
    (void)state;
    layers_start(&on, plain, NOR_AGED);
    struct ekv_flash_driver driver = *on.nor.flash.driver;
    driver.sync = watched_sync;
    on.sectors.flash.driver = &driver;
    ekv_sectors_want(&on.sectors, 1000);
    for (uint32_t i = ring(); i < plain.sector_count; i++)
        assert_ok(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector));
    assert_result(ekv_sector_take(&on.sectors, EKV_SECTOR_LOG, &sector), EKV_FULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(counts_follow_the_states, teardown),
        cmocka_unit_test_teardown(a_sector_is_dirty_from_its_change_until_it_is_cleaned, teardown),
        cmocka_unit_test_teardown(the_next_dirty_sector_is_found_wherever_it_is, teardown),
        cmocka_unit_test_teardown(live_units_of_a_full_sector_add_up_however_it_is_cut, teardown),
        cmocka_unit_test_teardown(live_units_are_taken_off_exactly_as_they_were_added, teardown),
        cmocka_unit_test_teardown(the_live_count_of_a_sector_in_limbo_is_left_alone, teardown),
        cmocka_unit_test_teardown(a_live_count_that_is_too_small_is_damage_and_stays, teardown),
        cmocka_unit_test_teardown(prepared_sectors_are_erased_stamped_and_handed_out_in_order,
                                  teardown),
        cmocka_unit_test_teardown(a_take_without_a_ready_sector_prepares_one_until_none_is_free,
                                  teardown),
        cmocka_unit_test_teardown(stamp_b_is_read_back_and_missing_before, teardown),
        cmocka_unit_test_teardown(virgin_sectors_are_used_without_an_erase, teardown),
        cmocka_unit_test_teardown(a_virgin_sector_beyond_the_saved_mark_is_erased, teardown),
        cmocka_unit_test_teardown(a_virgin_sector_that_is_not_blank_is_erased, teardown),
        cmocka_unit_test_teardown(the_saved_virgin_mark_runs_ahead_and_never_back, teardown),
        cmocka_unit_test_teardown(free_sectors_are_used_in_rotation, teardown),
        cmocka_unit_test_teardown(the_least_erased_of_the_next_free_sectors_is_taken, teardown),
        cmocka_unit_test_teardown(a_sector_with_no_stamp_is_taken_for_the_most_erased, teardown),
        cmocka_unit_test_teardown(a_sector_whose_erase_fails_is_retired_and_another_taken,
                                  teardown),
        cmocka_unit_test_teardown(a_sector_whose_stamp_fails_is_retired_too, teardown),
        cmocka_unit_test_teardown(when_every_erase_fails_only_few_sectors_are_retired, teardown),
        cmocka_unit_test_teardown(a_sector_in_use_whose_program_failed_is_retired_when_it_is_free,
                                  teardown),
        cmocka_unit_test_teardown(an_erase_lets_the_lock_go_and_waits_for_what_freed_its_sector,
                                  teardown),
        cmocka_unit_test_teardown(one_sync_makes_all_erases_certain_before_their_sectors_are_used,
                                  teardown),
        cmocka_unit_test_teardown(a_large_write_on_a_host_needs_few_syncs, teardown),
        cmocka_unit_test_teardown(what_a_write_wants_is_not_erased_ahead_on_a_chip, teardown),
        cmocka_unit_test_teardown(what_is_wanted_but_not_free_is_no_error, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
