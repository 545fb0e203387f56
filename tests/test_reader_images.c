/* What FORMAT.md says is what is on flash: in the middle of random work, the independent reader of
 * ekv_reader.py and reader_checks.py, which were written from that document alone, must list what
 * the model holds, from the bytes that lie on the flash at that moment. So it meets transactions by
 * record and by run, both key spaces, commit times, trees of chunks, moved records, chains of the
 * manifest, and the torn ends that a loss of power leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "workload.h"

enum { STEPS = 240, CUT_EVERY = 20, LOOK_EVERY = 40, LINE_MAX_SIZE = 1 << 20 };

static char directory[] = "/tmp/ekv-reader-XXXXXX";
static char *line, *expected;

static size_t hex_of(char *text, const struct model_blob *blob)
{
    size_t size = 0;
    for (uint32_t i = 0; i < blob->size; i++)
        size += (size_t)sprintf(text + size, "%02x", blob->bytes[i]);
    if (size == 0)
        size = (size_t)sprintf(text, "-");
    return size;
}

/* The reader's line of an entry. Versions and times are the model's once it has learnt them. */
static void line_of(const struct model_entry *entry, char *text)
{
    size_t size = (size_t)sprintf(text, "%u %llu %lld ", entry->space,
                                  (unsigned long long)entry->version, (long long)entry->time);
    size += hex_of(text + size, entry->key);
    text[size++] = ' ';
    size += hex_of(text + size, entry->value);
    strcpy(text + size, "\n");
}

/* The reader's listing of the flash must be the model's. */
static void assert_reader_agrees(struct world *world)
{
    char path[64], command[512];
    struct model *model = &world->models.committed;
    const char *sources = getenv("EKV_SOURCE_DIR");
    struct model_why why;
    assert_non_null(sources);
    /* This learns the versions. */
    if (!model_equals_store(model, world->live.db, &why))
        fail_msg("the store itself is not as the model: %s", why.text);
    snprintf(path, sizeof path, "%s/image", directory);
    assert_true(nor_save(&world->nor, path));
    snprintf(command, sizeof command, "python3 '%s/tests/reader_checks.py' --hex %s", sources,
             path);
    FILE *reader = popen(command, "r");
    assert_non_null(reader);
    for (uint32_t i = 0; i < model->count; i++) {
        line_of(&model->entries[i], expected);
        if (!fgets(line, LINE_MAX_SIZE, reader))
            fail_msg("the reader ends after %u of %u keys: %s", i, model->count, path);
        if (strcmp(line, expected) != 0)
            fail_msg("the reader says %.150s, not %.150s", line, expected);
    }
    bool more = fgets(line, LINE_MAX_SIZE, reader);
    int status = pclose(reader);
    if (more || status != 0)
        fail_msg("the reader ends with status %d%s", status, more ? " and more keys" : "");
    unlink(path);
}

static unsigned workload_of(const char *name)
{
    unsigned number = 0;
    while (number < workload_count && strcmp(workload_names[number], name) != 0)
        number++;
    assert_true(number < workload_count);
    return number;
}

/* One operation with the power cut in it, in a way that leaves nothing unstable. */
static void step_with_cut(struct world *world, uint64_t *state)
{
    static const enum nor_cut modes[] = {NOR_CUT_INVISIBLE, NOR_CUT_BYTES, NOR_CUT_BITS,
                                         NOR_CUT_COMPLETE};
    struct operation operation;
    struct model_why why = {""};
    world_plan(world, &operation);
    nor_cut_at(&world->nor, 1 + world_random(state) % 6, modes[world_random(state) % 4]);
    int result = world_execute(world, &operation);
    if (world->nor.now.powered) {
        nor_cut_at(&world->nor, 0, NOR_CUT_INVISIBLE);
        if (!world_accept(world, &operation, result, &why))
            fail_msg("%s", why.text);
        world_apply(world, &operation, result);
        return;
    }
    if (!world_survive(world, &operation, result, &why))
        fail_msg("after a cut: %s", why.text);
}

/* Works for some steps, and lets the reader look now and then, also right after a loss of power. */
static void work(const char *workload, struct ekv_geometry geometry, uint64_t seed)
{
    struct world world;
    struct model_why why = {""};
    uint64_t state = seed;
    struct world_options options = {.workload = workload_of(workload),
                                    .geometry = geometry,
                                    .seed = seed,
                                    .memtable_count = 16,
                                    .start = NOR_AGED,
                                    .clock = seed % 2};
    world_init(&world, &options);
    assert_int_equal(world_format(&world), EKV_OK);
    assert_int_equal(world_mount(&world, false), EKV_OK);
    for (uint32_t step = 1; step <= STEPS; step++) {
        if (!world_step(&world, &why))
            fail_msg("step %u: %s", step, why.text);
        if (step % CUT_EVERY == 0)
            step_with_cut(&world, &state);
        if (step % LOOK_EVERY == 0)
            assert_reader_agrees(&world);
    }
    world_free(&world);
}

static struct ekv_geometry geometry_of(uint32_t size, uint32_t count, uint32_t unit)
{
    return (struct ekv_geometry){.sector_size = size, .sector_count = count, .write_unit = unit};
}

static void the_reader_lists_small_values(void **unused)
{
    (void)unused;
    work("small", geometry_of(1024, 16, 1), 1);
    work("small", geometry_of(4096, 32, 4), 2);
}

static void the_reader_lists_large_values(void **unused)
{
    (void)unused;
    work("large", geometry_of(1024, 64, 1), 3);
    work("large", geometry_of(4096, 16, 32), 4);
}

static void the_reader_follows_transactions(void **unused)
{
    (void)unused;
    work("txn", geometry_of(1024, 24, 1), 5);
    work("txn", geometry_of(2048, 40, 16), 6);
}

static void the_reader_passes_over_what_snapshots_keep(void **unused)
{
    (void)unused;
    work("snapshot", geometry_of(1024, 24, 2), 7);
}

static void the_reader_copes_with_full_and_mixed_stores(void **unused)
{
    (void)unused;
    work("full", geometry_of(512, 16, 1), 8);
    work("mixed", geometry_of(4096, 24, 256), 9);
    work("mixed", geometry_of(1024, 300, 1), 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reader_lists_small_values),
        cmocka_unit_test(the_reader_lists_large_values),
        cmocka_unit_test(the_reader_follows_transactions),
        cmocka_unit_test(the_reader_passes_over_what_snapshots_keep),
        cmocka_unit_test(the_reader_copes_with_full_and_mixed_stores),
    };
    line = malloc(LINE_MAX_SIZE);
    expected = malloc(LINE_MAX_SIZE);
    if (!line || !expected || !mkdtemp(directory))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory);
    free(line);
    free(expected);
    return failed;
}
