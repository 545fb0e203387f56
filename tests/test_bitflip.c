/* One bit of a cleanly closed image is wrong: every read gives the right value or says corrupt, no
 * key vanishes in silence, keys that the damage does not touch stay readable, check reports what a
 * read would have met, and nothing crashes or hangs. EKV_BITFLIP_ALL=1 tries every bit.
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

#include "trap.h"
#include "workload.h"

enum { READ_LIMIT = 4000000, PRIME = 61 };

struct flip {
    struct world *world;
    const struct model *model;
    uint32_t corrupt;
    bool mounted;
    bool good;
    char why[300];
};

static bool wrong(struct flip *flip, const char *what, int result)
{
    snprintf(flip->why, sizeof flip->why, "%s: %s", what, model_result_name(result));
    return false;
}

/* Each key on its own: right or corrupt. */
static bool read_keys(struct flip *flip, struct ekv *db)
{
    static uint8_t buffer[65536];
    for (uint32_t i = 0; i < flip->model->count; i++) {
        const struct model_entry *entry = &flip->model->entries[i];
        size_t size = 0;
        int error = ekv_get(db, model_key(entry), 0, buffer, sizeof buffer, &size);
        if (error == EKV_CORRUPT) {
            flip->corrupt++;
            continue;
        }
        if (error)
            return wrong(flip, "a key that is there", error);
        if (size != entry->value->size || memcmp(buffer, entry->value->bytes, size) != 0)
            return wrong(flip, "a value is wrong and said to be", error);
    }
    return true;
}

/* Every key in order, until the damage; none that should not be there, none left out. */
static bool walk(struct flip *flip, struct ekv *db, bool back)
{
    struct ekv_cursor cursor;
    uint32_t count = model_user_count(flip->model);
    bool good = true;
    ekv_cursor_open(&cursor, db, EKV_USER);
    for (uint32_t i = 0; good && i <= count; i++) {
        uint8_t key[WORLD_KEY_MAX];
        size_t size = 0;
        int error = back ? ekv_cursor_previous(&cursor) : ekv_cursor_next(&cursor);
        if (!error)
            error = ekv_cursor_key(&cursor, key, sizeof key, &size);
        if (error == EKV_CORRUPT) {
            flip->corrupt++;
            break;
        }
        if (i == count) {
            good = error == EKV_NOT_FOUND || wrong(flip, "the walk's end", error);
            break;
        }
        if (error) {
            good = wrong(flip, "a walk", error);
            break;
        }
        const struct model_entry *entry = &flip->model->entries[back ? count - 1 - i : i];
        if (size != entry->key->size || memcmp(key, entry->key->bytes, size) != 0)
            good = wrong(flip, "a walk meets a wrong key", error);
    }
    ekv_cursor_close(&cursor);
    return good;
}

static void look(void *context)
{
    struct flip *flip = context;
    struct model_why why;
    int error = world_mount(flip->world, false);
    flip->mounted = error == EKV_OK;
    if (error) {
        flip->good = error == EKV_CORRUPT || error == EKV_NO_STORE || error == EKV_VERSION ||
                     error == EKV_GEOMETRY || wrong(flip, "the mount", error);
        return;
    }
    struct ekv *db = flip->world->live.db;
    flip->good = read_keys(flip, db) && walk(flip, db, false) && walk(flip, db, true);
    bool sound = model_store_is_sound(db, &why);
    if (flip->good && sound && flip->corrupt > 0)
        flip->good = wrong(flip, "reads say corrupt, check says", EKV_OK);
}

static void make_image(struct world *world, const struct world_options *options, uint32_t steps)
{
    struct model_why why;
    struct operation close = {.kind = OPERATION_REMOUNT};
    world_init(world, options);
    assert_int_equal(world_format(world), EKV_OK);
    assert_int_equal(world_mount(world, false), EKV_OK);
    for (uint32_t i = 0; i < steps; i++)
        if (!world_step(world, &why))
            fail_msg("step %" PRIu32 ": %s", i, why.text);
    assert_int_equal(world_execute(world, &close), EKV_OK);
    world_apply(world, &close, EKV_OK);
    if (!world_verify(world, &why))
        fail_msg("%s", why.text);
    world->nor.illegal = trap_illegal;
}

static void flip_bits(unsigned workload, const struct ekv_geometry *geometry, uint64_t seed,
                      uint32_t steps)
{
    static struct world world;
    struct world_options options = {.workload = workload, .geometry = *geometry, .seed = seed};
    options.memtable_count = 16;
    options.start = NOR_AGED;
    make_image(&world, &options, steps);
    struct model model;
    model_init(&model);
    model_copy(&model, &world.models.committed);
    struct nor_snapshot *image = nor_snapshot_new(&world.nor);
    nor_snapshot_take(&world.nor, image);
    const char *all = getenv("EKV_BITFLIP_ALL");
    uint32_t stride = all && *all == '1' ? 1 : PRIME;
    uint32_t bits = ekv_flash_size(&world.nor.flash) * 8, failures = 0, damaged = 0, unmounted = 0;
    for (uint32_t bit = (uint32_t)seed % stride; bit < bits && failures < 10; bit += stride) {
        struct flip flip = {.world = &world, .model = &model};
        nor_snapshot_restore(&world.nor, image);
        nor_flip(&world.nor, bit / 8, (uint8_t)(1u << bit % 8));
        nor_read_limit(&world.nor, READ_LIMIT);
        if (!trap_run(look, &flip, flip.why, sizeof flip.why) || !flip.good) {
            print_error("%s, seed %" PRIu64 ", bit %" PRIu32 " of byte 0x%" PRIx32 ": %s\n",
                        workload_names[workload], seed, bit % 8, bit / 8, flip.why);
            failures++;
        }
        damaged += flip.corrupt > 0;
        unmounted += !flip.mounted;
    }
    print_message("%s: %" PRIu32 " bits, %" PRIu32 " seen by reads, %" PRIu32 " by the mount\n",
                  workload_names[workload], bits / stride, damaged, unmounted);
    assert_int_equal(failures, 0);
    assert_true(damaged > 0);
    nor_snapshot_free(image);
    model_free(&model);
    world_free(&world);
}

static void a_flipped_bit_in_small_values_is_never_taken_for_data(void **state)
{
    (void)state;
    const struct ekv_geometry geometry = {1024, 16, 1, false};
    flip_bits(0, &geometry, 3, 150);
}

static void a_flipped_bit_in_large_values_is_never_taken_for_data(void **state)
{
    (void)state;
    const struct ekv_geometry geometry = {1024, 16, 4, false};
    flip_bits(2, &geometry, 4, 100);
}

static void a_flipped_bit_in_an_index_is_never_taken_for_data(void **state)
{
    (void)state;
    const struct ekv_geometry geometry = {4096, 8, 1, false};
    flip_bits(3, &geometry, 5, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_bit_in_small_values_is_never_taken_for_data),
        cmocka_unit_test(a_flipped_bit_in_large_values_is_never_taken_for_data),
        cmocka_unit_test(a_flipped_bit_in_an_index_is_never_taken_for_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
