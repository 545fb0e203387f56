/* Long runs by chance with nested cuts; see cuts.h. */
#include <inttypes.h>
#include <stdio.h>

#include "cuts.h"
#include "trap.h"

enum { READ_LIMIT = 20000000 };

static uint32_t pick(uint64_t *state, uint32_t least, uint32_t most)
{
    return least + (uint32_t)(world_random(state) % (most - least + 1));
}

static struct world_options options_of(uint64_t seed)
{
    uint64_t state = seed;
    struct world_options options = {.seed = seed};
    struct ekv_geometry *geometry = &options.geometry;
    options.workload = pick(&state, 0, workload_count - 1);
    geometry->sector_size = 512u << pick(&state, 0, 4);
    geometry->sector_count = pick(&state, 0, 3) == 0 ? pick(&state, 64, 512) : pick(&state, 8, 64);
    if (seed % 20 == 7) {
        geometry->sector_size = 512;
        geometry->sector_count = 4096;
    }
    geometry->write_unit = 1u << pick(&state, 0, 8);
    while (geometry->sector_size / geometry->write_unit < 16)
        geometry->write_unit /= 2;
    geometry->program_once = pick(&state, 0, 3) == 0;
    options.memtable_count = 8u << pick(&state, 0, 3);
    options.start = pick(&state, 0, 3) == 0 ? NOR_FRESH : NOR_AGED;
    options.map = pick(&state, 0, 3) == 0;
    options.clock = pick(&state, 0, 1) == 0;
    return options;
}

struct run {
    struct world world;
    uint64_t state; /* of the cuts */
    uint32_t step;
    uint32_t cuts, steps;
    char doing[100];
    struct model_why why;
    bool good;
};

/* Executes one operation, perhaps with a cut in it, and judges what came of it. */
static bool step(struct run *run, bool cut)
{
    struct world *world = &run->world;
    struct operation operation;
    world_plan(world, &operation);
    world_describe(&operation, run->doing, sizeof run->doing);
    nor_read_limit(&world->nor, READ_LIMIT);
    if (cut)
        nor_cut_at(&world->nor, pick(&run->state, 1, 12), NOR_CUT_RANDOM);
    int result = world_execute(world, &operation);
    if (world->nor.now.powered) {
        nor_cut_at(&world->nor, 0, NOR_CUT_RANDOM);
        if (!world_accept(world, &operation, result, &run->why))
            return false;
        world_apply(world, &operation, result);
        return true;
    }
    run->cuts++;
    return world_survive(world, &operation, result, &run->why);
}

static void run_all(void *context)
{
    struct run *run = context;
    struct world *world = &run->world;
    int error = world_format(world);
    if (!error)
        error = world_mount(world, false);
    if (error) {
        /* Some geometries leave no room for a manifest: the store says so, and that is that. */
        run->good = error == EKV_GEOMETRY;
        snprintf(run->why.text, sizeof run->why.text, "format and mount: %s",
                 model_result_name(error));
        return;
    }
    uint32_t cuts = 0;
    for (run->step = 0; run->step < run->steps; run->step++) {
        /* After a cut another is likely: it hits the recovery. */
        bool cut = pick(&run->state, 0, run->cuts > cuts ? 1 : 9) == 0;
        cuts = run->cuts;
        if (!step(run, cut))
            return;
        bool thorough = run->step % 16 == 0 || run->step + 1 == run->steps;
        if (thorough && !world_verify(world, &run->why))
            return;
        if (run->step % 64 == 0 && !model_store_is_sound(world->live.db, &run->why))
            return;
    }
    run->good = true;
}

void cuts_run_random(uint64_t seed, uint32_t steps, void (*report)(const char *line),
                     struct cuts_result *result)
{
    static struct run run;
    struct world_options options = options_of(seed);
    char why[400], line[1000];
    run = (struct run){.state = ~seed, .steps = steps};
    world_init(&run.world, &options);
    run.world.nor.illegal = trap_illegal;
    bool returned = trap_run(run_all, &run, why, sizeof why);
    if (!returned || !run.good) {
        snprintf(line, sizeof line,
                 "VIOLATION: EKV_RANDOM_SEED=%" PRIu64 " EKV_RANDOM_RUNS=1 test_random: %s on "
                 "%" PRIu32 " x %" PRIu32 ", unit %" PRIu32 "%s, step %" PRIu32 "\n  %s: %s",
                 seed, workload_names[options.workload], options.geometry.sector_count,
                 options.geometry.sector_size, options.geometry.write_unit,
                 options.geometry.program_once ? " once" : "", run.step, run.doing,
                 returned ? run.why.text : why);
        result->violations++;
        report(line);
    }
    result->tried += run.cuts;
    world_free(&run.world);
}
