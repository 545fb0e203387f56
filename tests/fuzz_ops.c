/* Fuzzing of operation sequences: the input chooses geometry, workload and every operation with its
 * key and size, and where the power is cut; the store is compared with the model throughout.
 *
 *   tests/fuzz ops 600
 *
 * Input: 4 bytes of choices, then 4 bytes an operation: kind and slot, key, size, cut.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workload.h"

enum { HEAD = 4, STEP = 4, STEPS_MAX = 500, READ_LIMIT = 20000000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void stop(const char *words, const char *why)
{
    fprintf(stderr, "fuzz_ops: %s: %s\n", words, why);
    abort();
}

static uint32_t size_of(uint8_t choice, uint32_t sector_size)
{
    if (choice < 0x60)
        return choice;
    if (choice < 0xe0)
        return (choice - 0x60u) * 3;
    return (choice - 0xdfu) * sector_size / 8;
}

static void step(struct world *world, const uint8_t *bytes)
{
    struct operation operation;
    struct model_why why;
    char words[120];
    world_compose(world, &operation, bytes[0] & 0x0f, bytes[0] >> 4 & 1, bytes[1],
                  size_of(bytes[2], world->options.geometry.sector_size));
    nor_read_limit(&world->nor, READ_LIMIT);
    if (bytes[3] & 0x80)
        nor_cut_at(&world->nor, 1 + (bytes[3] & 0x0f), (enum nor_cut)((bytes[3] >> 4 & 7) % 7));
    int result = world_execute(world, &operation);
    world_describe(&operation, words, sizeof words);
    if (!world->nor.now.powered) {
        if (!world_survive(world, &operation, result, &why))
            stop("after a cut", why.text);
        return;
    }
    nor_cut_at(&world->nor, 0, NOR_CUT_RANDOM);
    if (!world_accept(world, &operation, result, &why))
        stop(words, why.text);
    world_apply(world, &operation, result);
    if (world->models.step % 8 == 0 && !world_verify(world, &why))
        stop(words, why.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world;
    struct model_why why;
    if (size < HEAD + STEP)
        return 0;
    struct world_options options = {.workload = data[0] % workload_count};
    options.geometry = workload_geometries[data[1] % workload_geometry_count];
    options.memtable_count = 4u + data[2] % 32;
    options.seed = data[3];
    options.start = data[3] & 1 ? NOR_AGED : NOR_FRESH;
    options.map = data[3] & 2;
    options.clock = data[3] & 4;
    world_init(&world, &options);
    if (world_format(&world) != EKV_OK || world_mount(&world, false) != EKV_OK)
        stop("format and mount", "refused");
    for (size_t i = 0; i < STEPS_MAX && HEAD + (i + 1) * STEP <= size; i++)
        step(&world, data + HEAD + i * STEP);
    if (!world_verify(&world, &why) || !model_store_is_sound(world.live.db, &why))
        stop("at the end", why.text);
    world_free(&world);
    return 0;
}
