/* The shared parts of the tests of the engine's layers; see fixture.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

enum { VALUE_MAX = 4 << 20, WORK_MAX = 1000000 };

/* --- Assertions ------------------------------------------------------------------------------ */

void fixture_result(int result, int expected, const char *call, const char *file, int line)
{
    if (result == expected)
        return;
    print_error("%s\n  answered %s (%d), expected %s (%d)\n", call, model_result_name(result),
                result, model_result_name(expected), expected);
    _fail(file, line);
}

/* --- Data ------------------------------------------------------------------------------------ */

struct ekv_key fixture_key(uint32_t number)
{
    static char buffers[8][FIXTURE_KEY_SIZE];
    static unsigned next;
    char *buffer = buffers[next++ % 8];
    int size = snprintf(buffer, FIXTURE_KEY_SIZE, "key-%07u", (unsigned)(number % 10000000));
    return ekv_key(buffer, (size_t)size);
}

uint32_t fixture_below(uint64_t *state, uint32_t limit)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) % limit);
}

void fixture_fill(void *bytes, size_t size, uint64_t seed)
{
    uint8_t *at = bytes;
    uint64_t state = seed * 0x2545f4914f6cdd1du + 1;
    for (size_t i = 0; i < size; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        at[i] = (uint8_t)(state >> 56);
    }
}

static void *get_memory(size_t size)
{
    void *memory = malloc(size ? size : 1);
    assert_non_null(memory);
    memset(memory, 0xa5, size); /* nobody may count on zeroes */
    return memory;
}

/* --- A mounted store ------------------------------------------------------------------------- */

static void mount(struct fixture *fixture)
{
    memset(fixture->memory, 0x5a, fixture->memory_size);
    assert_ok(ekv_mount(&fixture->db, &fixture->nor.flash, &fixture->options, fixture->memory,
                        fixture->memory_size));
}

void fixture_start_options(struct fixture *fixture, struct ekv_geometry geometry,
                           const struct ekv_mount_options *options, enum nor_start start)
{
    struct ekv_format_options format = {.store_id = 0x1122334455667788, .label = "fixture"};
    memset(fixture, 0, sizeof *fixture);
    assert_true(nor_init(&fixture->nor, &geometry, start, 1));
    fixture->options = *options;
    size_t size = ekv_memory_size(&geometry, NULL);
    fixture->memory_size = ekv_memory_size(&geometry, &fixture->options);
    fixture->memory = get_memory(size > fixture->memory_size ? size : fixture->memory_size);
    fixture->value = get_memory(VALUE_MAX);
    model_init(&fixture->model);
    format.blank = start == NOR_FRESH;
    assert_ok(ekv_format(&fixture->nor.flash, &format, fixture->memory, size));
    mount(fixture);
}

void fixture_start(struct fixture *fixture, struct ekv_geometry geometry, uint32_t memtable_count)
{
    struct ekv_mount_options options = {.memtable_count = memtable_count, .cache_count = 16};
    fixture_start_options(fixture, geometry, &options, NOR_AGED);
}

void fixture_stop(struct fixture *fixture)
{
    if (!fixture->nor.block)
        return;
    model_free(&fixture->model);
    free(fixture->value);
    free(fixture->memory);
    nor_free(&fixture->nor);
    memset(fixture, 0, sizeof *fixture);
}

void fixture_remount(struct fixture *fixture)
{
    assert_ok(ekv_unmount(fixture->db));
    mount(fixture);
    fixture_verify(fixture);
}

void fixture_reload(struct fixture *fixture)
{
    mount(fixture);
    fixture_verify(fixture);
}

void fixture_put(struct fixture *fixture, struct ekv_key key, size_t size, uint64_t seed)
{
    assert_true(size <= VALUE_MAX);
    fixture_fill(fixture->value, size, seed);
    assert_ok(ekv_put(fixture->db, key, fixture->value, size));
    model_put(&fixture->model, key, fixture->value, size);
}

void fixture_delete(struct fixture *fixture, struct ekv_key key)
{
    bool there = model_delete(&fixture->model, key);
    assert_result(ekv_delete(fixture->db, key), there ? EKV_OK : EKV_NOT_FOUND);
}

void fixture_work(struct fixture *fixture)
{
    bool more = true;
    for (uint32_t i = 0; more; i++) {
        assert_true(i < WORK_MAX);
        assert_ok(ekv_work(fixture->db, &more));
    }
}

void fixture_check(struct fixture *fixture)
{
    struct model_why why;
    if (!model_store_is_sound(fixture->db, &why))
        fail_msg("%s", why.text);
}

void fixture_verify(struct fixture *fixture)
{
    struct model_why why;
    if (!model_equals_store(&fixture->model, fixture->db, &why))
        fail_msg("%s", why.text);
    fixture_check(fixture);
}

struct ekv_stat fixture_stat(struct fixture *fixture)
{
    struct ekv_stat stat;
    ekv_stat(fixture->db, &stat);
    return stat;
}

void fixture_expect(struct fixture *fixture, struct ekv_key key, size_t size, uint64_t seed)
{
    size_t got = 0;
    uint8_t *expected = get_memory(size), *value = get_memory(size + 1);
    fixture_fill(expected, size, seed);
    assert_ok(ekv_get(fixture->db, key, 0, value, size + 1, &got));
    assert_int_equal(got, size);
    assert_memory_equal(value, expected, size);
    free(expected);
    free(value);
}

/* --- The lower layers without a store -------------------------------------------------------- */

void layers_start(struct layers *layers, struct ekv_geometry geometry, enum nor_start start)
{
    memset(layers, 0, sizeof *layers);
    assert_true(nor_init(&layers->nor, &geometry, start, 1));
    layers->memory = get_memory(ekv_sectors_memory_size(geometry.sector_count));
    ekv_sectors_init(&layers->sectors, &layers->nor.flash, 77, layers->memory, NULL);
    layers->log.sectors = &layers->sectors;
    layers->log.pages = layers->pages;
    ekv_log_widen(&layers->log, LAYERS_PAGES);
}

void layers_stop(struct layers *layers)
{
    if (!layers->nor.block)
        return;
    free(layers->memory);
    nor_free(&layers->nor);
    memset(layers, 0, sizeof *layers);
}

uint32_t layers_append(struct layers *layers, uint8_t type, struct ekv_key key, const void *value,
                       uint32_t size)
{
    struct ekv_record_layout layout = {.type = type, .key_size = key.size, .value_size = size};
    uint32_t address;
    if (key.space == EKV_ASIDE)
        layout.type |= EKV_RECORD_ASIDE;
    assert_ok(ekv_log_begin(&layers->log, &layout, &address));
    assert_ok(ekv_log_write(&layers->log, key.bytes, key.size));
    assert_ok(ekv_log_write(&layers->log, value, size));
    assert_ok(ekv_log_end(&layers->log));
    return address;
}
