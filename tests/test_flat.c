/* What is remembered of where no directories are is what a search would find: through single
 * writes, batches that are committed or given up, transactions, and beside a thread that writes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "view.h"

enum { KEY_MAX = 7, RECENT = 8 };

struct short_key {
    uint8_t bytes[KEY_MAX + 1];
    size_t size;
};

struct world {
    struct fixture fixture;
    struct ekv_flash flash; /* the fixture's, with a read that something may happen in */
    struct ekv_flash_driver driver;
    bool overtake; /* at the next read */
    struct store store;
    struct view live;
    uint64_t random;
    struct short_key recent[RECENT]; /* written last */
    unsigned written;
};
/* While a search reads, a write comes and is done. */
static int overtaken_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    struct world *world = context;
    const struct ekv_flash *flash = &world->fixture.nor.flash;
    bool begun = false;
    if (world->overtake) {
        world->overtake = false;
        flat_put_begin(&world->store.flat, "d/e", 3, &begun);
        flat_put_end(&world->store.flat, &begun);
    }
    return flash->driver->read(flash->context, address, buffer, size);
}

static int overtaken_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    const struct ekv_flash *flash = &((struct world *)context)->fixture.nor.flash;
    return flash->driver->program(flash->context, address, data, size);
}

static int overtaken_erase(void *context, uint32_t sector)
{
    const struct ekv_flash *flash = &((struct world *)context)->fixture.nor.flash;
    return flash->driver->erase(flash->context, sector);
}

static int start(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    struct ekv_geometry geometry = {.sector_size = 4096, .sector_count = 64, .write_unit = 1};
    fixture_start(&world->fixture, geometry, 64);
    assert_ok(ekv_unmount(world->fixture.db));
    world->fixture.db = NULL;
    struct store_options options = {.medium_error = "", .memtable_count = 64};
    world->driver = (struct ekv_flash_driver){
        .read = overtaken_read, .program = overtaken_program, .erase = overtaken_erase};
    world->flash =
        (struct ekv_flash){world->fixture.nor.flash.geometry, &world->driver, world, NULL};
    assert_ok(store_open(&world->store, &world->flash, &options));
    world->live = (struct view){.kind = VIEW_LIVE, .store = &world->store, .held = true};
    world->random = 1;
    *state = world;
    return 0;
}

static int stop(void **state)
{
    struct world *world = *state;
    assert_ok(store_close(&world->store));
    fixture_stop(&world->fixture);
    free(world);
    return 0;
}

/* Few letters, of which most come before or right behind the '/', so that all cases occur. */
static struct short_key random_key(struct world *world)
{
    static const uint8_t letters[] = {'a', 'b', '/', '/', 0, '.', '0', 0xff};
    struct short_key key = {.size = fixture_below(&world->random, KEY_MAX)};
    for (size_t i = 0; i < key.size; i++)
        key.bytes[i] = letters[fixture_below(&world->random, sizeof letters)];
    return key;
}

static struct ekv_key ekv_of(const struct short_key *key)
{
    return ekv_key(key->bytes, key->size);
}

/* One in three is a record of attributes. */
static struct ekv_key any_of(struct world *world, const struct short_key *key)
{
    struct ekv_key any = ekv_of(key);
    any.space = fixture_below(&world->random, 3) == 0 ? EKV_ASIDE : EKV_USER;
    return any;
}

static bool has(struct world *world, const void *prefix, size_t size)
{
    bool found;
    assert_int_equal(flat_has_prefix(&world->store.flat, &world->live, prefix, size, &found), 0);
    return found;
}

static void check_prefix(struct world *world, const void *prefix, size_t size)
{
    bool found, aside;
    assert_int_equal(view_has_prefix(&world->live, EKV_USER, prefix, size, &found), 0);
    assert_int_equal(view_has_prefix(&world->live, EKV_ASIDE, prefix, size, &aside), 0);
    assert_false(flat_knows(&world->store.flat, prefix, size) && (found || aside));
    assert_int_equal(has(world, prefix, size), found);
    assert_false(flat_knows(&world->store.flat, prefix, size) && (found || aside));
}

/* Any prefixes, and those of the keys written last. */
static void check(struct world *world)
{
    for (int i = 0; i < 8; i++) {
        struct short_key key = random_key(world);
        key.bytes[key.size++] = '/';
        check_prefix(world, key.bytes, key.size);
    }
    for (int i = 0; i < RECENT; i++)
        for (size_t size = 1; size <= world->recent[i].size; size++)
            if (world->recent[i].bytes[size - 1] == '/')
                check_prefix(world, world->recent[i].bytes, size);
}

static struct short_key key_to_write(struct world *world)
{
    struct short_key key = random_key(world);
    world->recent[world->written++ % RECENT] = key;
    return key;
}

static bool remembers_anything(const struct world *world)
{
    bool any = false;
    for (int i = 0; i < FLAT_RANGES; i++)
        any |= world->store.flat.ranges[i].used;
    return any;
}

static void write_batch(struct world *world, struct view *view)
{
    struct batch batch;
    assert_int_equal(batch_begin(&batch, view), 0);
    for (uint32_t i = fixture_below(&world->random, 4); i > 0; i--) {
        struct short_key put = key_to_write(world), gone = random_key(world);
        assert_int_equal(batch_put(&batch, any_of(world, &put), "v", 1), 0);
        check(world);
        assert_int_equal(batch_delete(&batch, any_of(world, &gone)), 0);
    }
    if (!view_is_live(view) || fixture_below(&world->random, 3) > 0)
        assert_int_equal(batch_commit(&batch), 0);
    else
        batch_abort(&batch);
}

static void write_transaction(struct world *world)
{
    struct attr attr = {0};
    struct view *stage = view_new(&world->store, VIEW_STAGE, &attr);
    assert_non_null(stage);
    write_batch(world, stage);
    check(world);
    if (fixture_below(&world->random, 3) > 0)
        assert_int_equal(view_commit(stage), 0);
    view_end(stage);
    view_free(stage);
}

static void what_is_remembered_is_what_a_search_finds(void **state)
{
    struct world *world = *state;
    unsigned remembered = 0;
    for (int i = 0; i < 6000; i++) {
        struct short_key key = key_to_write(world);
        uint32_t what = fixture_below(&world->random, 20);
        if (what < 8)
            assert_int_equal(view_put(&world->live, any_of(world, &key), "v", 1), 0);
        else if (what < 18) /* few keys are there at a time, so that there are ranges */
            assert_int_equal(view_delete(&world->live, any_of(world, &key)), 0);
        else if (what < 19)
            write_batch(world, &world->live);
        else
            write_transaction(world);
        check(world);
        remembered += remembers_anything(world);
    }
    assert_true(remembered > 3000);
}

static void names_in_a_row_become_one_range(void **state)
{
    struct world *world = *state;
    for (uint32_t i = 0; i < 200; i++)
        assert_int_equal(view_put(&world->live, fixture_key(i), "v", 1), 0);
    assert_int_equal(view_put(&world->live, ekv_key("z/z", 3), "v", 1), 0);
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t prefix[FIXTURE_KEY_SIZE];
        struct ekv_key key = fixture_key(i);
        memcpy(prefix, key.bytes, key.size);
        prefix[key.size] = '/';
        assert_false(has(world, prefix, key.size + 1));
    }
    const struct flat_range *range = &world->store.flat.ranges[0];
    unsigned used = 0;
    for (int i = 0; i < FLAT_RANGES; i++) {
        used += world->store.flat.ranges[i].used;
        if (world->store.flat.ranges[i].used)
            range = &world->store.flat.ranges[i];
    }
    assert_int_equal(used, 1);
    assert_false(range->open);
    assert_true(range->high.size == 2 && memcmp(range->high.bytes, "z/", 2) == 0);
    assert_true(has(world, "z/", 2));
}

static void nothing_is_remembered_while_something_is_written(void **state)
{
    struct world *world = *state;
    bool begun = false;
    flat_put_begin(&world->store.flat, "d/e", 3, &begun);
    assert_true(begun);
    assert_false(has(world, "d/", 2));
    assert_false(remembers_anything(world));
    flat_put_end(&world->store.flat, &begun);
    assert_false(has(world, "d/", 2));
    assert_true(remembers_anything(world));
    flat_put_begin(&world->store.flat, "e", 1, &begun); /* that is no directory */
    assert_false(begun);
    assert_true(remembers_anything(world));
}

static void a_search_that_a_write_overtook_is_not_remembered(void **state)
{
    struct world *world = *state;
    assert_int_equal(view_put(&world->live, ekv_key("e", 1), "v", 1), 0);
    world->overtake = true;
    assert_false(has(world, "d/", 2));
    assert_false(world->overtake);
    assert_false(remembers_anything(world));
    assert_false(has(world, "d/", 2));
    assert_true(remembers_anything(world));
}

static void keys_that_are_too_long_are_searched_for(void **state)
{
    struct world *world = *state;
    uint8_t key[FLAT_KEY_MAX + 2];
    memset(key, 'k', sizeof key);
    for (size_t size = FLAT_KEY_MAX - 2; size < sizeof key; size++) {
        key[size - 1] = '/';
        assert_false(has(world, key, size));
        key[size] = 'k';
        assert_int_equal(view_put(&world->live, ekv_key(key, size + 1), "v", 1), 0);
        assert_true(has(world, key, size));
        assert_false(has(world, "k/", 2));
        assert_true(has(world, key, size));
        key[size - 1] = 'k';
    }
}

static atomic_bool ended;

static void *search(void *context)
{
    struct world world = {.live = {.kind = VIEW_LIVE, .store = context, .held = true}, .random = 7};
    bool found;
    while (!atomic_load(&ended)) {
        struct short_key key = random_key(&world);
        key.bytes[key.size++] = '/';
        if (flat_has_prefix(&world.live.store->flat, &world.live, key.bytes, key.size, &found) != 0)
            abort();
    }
    return NULL;
}

static void a_search_beside_a_write_does_not_hide_it(void **state)
{
    struct world *world = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, search, &world->store), 0);
    for (int i = 0; i < 4000; i++) {
        struct short_key key = random_key(world);
        key.bytes[key.size++] = '/';
        assert_int_equal(view_put(&world->live, ekv_of(&key), "v", 1), 0);
        assert_true(has(world, key.bytes, key.size));
        assert_int_equal(view_delete(&world->live, ekv_of(&key)), 0);
    }
    atomic_store(&ended, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_remembered_is_what_a_search_finds, start, stop),
        cmocka_unit_test_setup_teardown(names_in_a_row_become_one_range, start, stop),
        cmocka_unit_test_setup_teardown(nothing_is_remembered_while_something_is_written, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_search_that_a_write_overtook_is_not_remembered, start,
                                        stop),
        cmocka_unit_test_setup_teardown(keys_that_are_too_long_are_searched_for, start, stop),
        cmocka_unit_test_setup_teardown(a_search_beside_a_write_does_not_hide_it, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
