/* The store as the file system uses it, on a chip: flash that is not mapped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "store.h"

enum { KEYS = 2000, READS = 20000 };

/* How many reads did not find what was put. */
static void *read_all(void *context)
{
    struct store *store = context;
    static _Thread_local uintptr_t wrong;
    for (uint32_t i = 0; i < READS; i++) {
        uint32_t number = i * 7919 % KEYS, value = 0;
        char key[FIXTURE_KEY_SIZE];
        size_t size;
        int length = snprintf(key, sizeof key, "key-%07u", (unsigned)number);
        int error =
            ekv_get(store->db, ekv_key(key, (size_t)length), 0, &value, sizeof value, &size);
        wrong += error || size != sizeof value || value != number;
    }
    return (void *)wrong;
}

static void readers_of_a_chip_do_not_mix(void **state)
{
    struct fixture fixture = {0};
    struct store store;
    pthread_t threads[3];
    (void)state;
    struct ekv_geometry geometry = {.sector_size = 4096, .sector_count = 256, .write_unit = 1};
    fixture_start(&fixture, geometry, 64);
    assert_ok(ekv_unmount(fixture.db));
    fixture.db = NULL;
    struct store_options options = {.medium_error = "", .memtable_count = 64};
    assert_ok(store_open(&store, &fixture.nor.flash, &options));
    assert_null(store.flash->map);
    for (uint32_t i = 0; i < KEYS; i++)
        assert_ok(ekv_put(store.db, fixture_key(i), &i, sizeof i));
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &store), 0);
    for (int i = 0; i < 3; i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_int_equal((uintptr_t)wrong, 0);
    }
    assert_ok(store_close(&store));
    fixture_stop(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(readers_of_a_chip_do_not_mix)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
