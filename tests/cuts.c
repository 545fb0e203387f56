/* The search through all power cuts; see cuts.h.
 *
 * The workload runs once. Before each of its steps the whole world is remembered (flash, the
 * store's memory, handles); the step is executed without a cut, which tells how many flash
 * operations it has; then, for each of them and each mode, the world is brought back, the step is
 * executed until the power goes, and what is left is judged. Levels of nested cuts are the same
 * search again, over the few steps that follow a cut, with one mode chosen by the seed.
 */
#include "cuts.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "trap.h"

enum { READ_LIMIT = 4000000, WHY_SIZE = 1000 };

struct cuts {
    const struct cuts_options *options;
    struct cuts_result *result;
    struct world world;
    struct world_snapshot before[CUTS_DEPTH_MAX], after[CUTS_DEPTH_MAX];
    struct cuts_place places[CUTS_DEPTH_MAX]; /* the cut of each level that is being tried */
    uint64_t numbers[CUTS_DEPTH_MAX];         /* of cuts met in each level, tried or not */
    char doing[120];
    char why[WHY_SIZE];
    bool stop;
    bool format; /* what is cut is a format */
};

static const char *const mode_names[] = {"invisible", "bytes",    "bits",  "garbled",
                                         "unstable",  "complete", "random"};

const char *cuts_mode_name(enum nor_cut mode)
{
    return mode_names[mode];
}

enum nor_cut cuts_mode_of(const char *name)
{
    int mode = 0;
    while (mode < NOR_CUT_COUNT && strcmp(name, mode_names[mode]) != 0)
        mode++;
    return (enum nor_cut)mode;
}

/* --- Reporting ------------------------------------------------------------------------------- */

/* `levels` is how many cuts had happened. */
static void report(struct cuts *cuts, uint32_t levels)
{
    const struct world_options *world = &cuts->options->world;
    char line[WHY_SIZE + 600];
    size_t used = (size_t)snprintf(
        line, sizeof line,
        "VIOLATION: powercut --workload %s --sectors %" PRIu32 "x%" PRIu32 " --unit %" PRIu32
        "%s --seed %" PRIu64 " --memtable %" PRIu32 "%s%s%s --follow %" PRIu32,
        cuts->format ? "format" : workload_names[world->workload], world->geometry.sector_count,
        world->geometry.sector_size, world->geometry.write_unit,
        world->geometry.program_once ? " --once" : "", world->seed, world->memtable_count,
        world->start == NOR_FRESH ? " --fresh" : "", world->map ? " --map" : "",
        world->clock ? " --clock" : "", cuts->options->follow);
    for (uint32_t i = 0; i < levels; i++)
        used += (size_t)snprintf(line + used, sizeof line - used,
                                 " --at %" PRIu32 ":%" PRIu64 ":%s", cuts->places[i].step,
                                 cuts->places[i].operation, mode_names[cuts->places[i].mode]);
    if (levels == 0)
        used += (size_t)snprintf(line + used, sizeof line - used,
                                 " --stride 1000000000 --steps %" PRIu32 " (no cut)",
                                 cuts->world.models.step + 1);
    else if (cuts->format)
        used += (size_t)snprintf(line + used, sizeof line - used, " --steps %" PRIu32,
                                 cuts->options->steps);
    snprintf(line + used, sizeof line - used, "\n  %s: %s", cuts->doing, cuts->why);
    cuts->result->violations++;
    cuts->options->report(line);
    if (cuts->result->violations == cuts->options->violations_max)
        cuts->stop = true;
}

__attribute__((format(printf, 2, 3))) static bool complain(struct cuts *cuts, const char *format,
                                                           ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cuts->why, sizeof cuts->why, format, arguments);
    va_end(arguments);
    return false;
}

/* --- Trapped pieces -------------------------------------------------------------------------- */

struct piece {
    struct cuts *cuts;
    const struct operation *operation;
    struct model *before;
    int result;
    bool good;
};

static void execute_piece(void *context)
{
    struct piece *piece = context;
    piece->result = world_execute(&piece->cuts->world, piece->operation);
}

/* Executes an operation; false with `why` when it did not return. */
static bool execute(struct cuts *cuts, const struct operation *operation, int *result)
{
    struct piece piece = {.cuts = cuts, .operation = operation};
    nor_read_limit(&cuts->world.nor, READ_LIMIT);
    if (!trap_run(execute_piece, &piece, cuts->why, sizeof cuts->why))
        return false;
    *result = piece.result;
    return true;
}

static void verify_piece(void *context)
{
    struct piece *piece = context;
    struct model_why why;
    piece->good = world_verify(&piece->cuts->world, &why);
    if (!piece->good)
        complain(piece->cuts, "%s", why.text);
}

static bool verify(struct cuts *cuts)
{
    struct piece piece = {.cuts = cuts};
    nor_read_limit(&cuts->world.nor, READ_LIMIT);
    return trap_run(verify_piece, &piece, cuts->why, sizeof cuts->why) && piece.good;
}

static void recover_piece(void *context)
{
    struct piece *piece = context;
    struct model_why why;
    piece->good = world_recover(&piece->cuts->world, &why);
    if (!piece->good)
        complain(piece->cuts, "%s", why.text);
}

static bool recover(struct cuts *cuts)
{
    struct piece piece = {.cuts = cuts};
    nor_power_on(&cuts->world.nor);
    nor_read_limit(&cuts->world.nor, READ_LIMIT);
    return trap_run(recover_piece, &piece, cuts->why, sizeof cuts->why) && piece.good;
}

static void remount_piece(void *context)
{
    struct piece *piece = context;
    struct world *world = &piece->cuts->world;
    struct model_why why;
    int error = world_mount(world, false);
    piece->good = true;
    if (error)
        piece->good = complain(piece->cuts, "the last mount answers %s", model_result_name(error));
    else if (!world_recognise(world, &why))
        piece->good = complain(piece->cuts, "the last mount differs: %s", why.text);
}

/* What was written after a cut must be there at the next mount. */
static void check_remount(struct cuts *cuts, uint32_t level)
{
    struct piece piece = {.cuts = cuts};
    nor_read_limit(&cuts->world.nor, READ_LIMIT);
    snprintf(cuts->doing, sizeof cuts->doing, "mount after what followed the cut");
    if (!trap_run(remount_piece, &piece, cuts->why, sizeof cuts->why) || !piece.good)
        report(cuts, level);
}

/* --- The search ------------------------------------------------------------------------------ */

static void search(struct cuts *cuts, uint32_t level, uint32_t steps);

/* Whether this cut is one of those that the options ask for. */
static bool is_wanted(struct cuts *cuts, uint32_t level)
{
    const struct cuts_options *options = cuts->options;
    if (options->only_count > 0) {
        const struct cuts_place *only = &options->only[level];
        const struct cuts_place *place = &cuts->places[level];
        return level < options->only_count && only->step == place->step &&
               only->operation == place->operation && only->mode == place->mode;
    }
    uint32_t stride = level == 0 ? options->stride : options->again_stride;
    return cuts->numbers[level]++ % stride == 0;
}

/* A seed for what one cut leaves: the same whenever the same cut is tried. */
static uint64_t seed_of(const struct cuts *cuts, uint32_t level)
{
    uint64_t state = cuts->options->world.seed;
    for (uint32_t i = 0; i <= level; i++) {
        const struct cuts_place *place = &cuts->places[i];
        state ^= place->operation << 32 ^ (uint64_t)place->step << 8 ^ (uint64_t)place->mode;
        state = world_random(&state);
    }
    return state;
}

/* Executes the step once more until the cut, judges what is left, and goes on from there. The
 * world's models are put aside meanwhile. */
static void try_cut(struct cuts *cuts, uint32_t level, const struct operation *operation,
                    struct model *after)
{
    struct world *world = &cuts->world;
    struct world_models aside = world->models;
    int result = EKV_IO;
    memset(&world->models, 0, sizeof world->models);
    world->models.random = seed_of(cuts, level);
    world->models.step = aside.step + 1;
    world_snapshot_restore(world, &cuts->before[level]);
    bool unstable = nor_is_unstable(&world->nor);
    nor_seed(&world->nor, world->models.random);
    nor_cut_at(&world->nor, cuts->places[level].operation, cuts->places[level].mode);
    cuts->result->tried++;
    bool good = execute(cuts, operation, &result);
    /* Unstable stamps are read otherwise the second time: another sector is taken, and the step may
     * be over before the cut comes. */
    bool strayed = good && world->nor.now.powered && unstable;
    if (good && world->nor.now.powered && !strayed)
        good = complain(cuts, "the same step had fewer flash operations the second time");
    outcomes_copy(&world->models.outcomes, &aside.outcomes);
    outcomes_add(&world->models.outcomes, &aside.committed, after, result);
    good = good && recover(cuts);
    if (!good)
        report(cuts, level + 1);
    if (good && cuts->options->follow > 0)
        search(cuts, level + 1, cuts->options->follow);
    world_forget_handles(world);
    model_free(&world->models.committed);
    outcomes_free(&world->models.outcomes);
    world->models = aside;
}

/* All cuts of one step that has `count` flash operations. */
static void cut_step(struct cuts *cuts, uint32_t level, const struct operation *operation,
                     uint64_t count, bool may_change)
{
    struct model after;
    char doing[sizeof cuts->doing];
    model_init(&after);
    world_model_after(&cuts->world, operation, &after);
    memcpy(doing, cuts->doing, sizeof doing);
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t chance = cuts->options->world.seed ^ i << 20 ^ cuts->world.models.step;
        int chosen = (int)(world_random(&chance) % NOR_CUT_COUNT);
        for (int mode = 0; mode < NOR_CUT_COUNT && !cuts->stop; mode++) {
            if (cuts->options->only_count == 0 &&
                ((level > 0 && mode != chosen) || (cuts->options->skip & 1u << mode)))
                continue;
            cuts->places[level] =
                (struct cuts_place){cuts->world.models.step, i, (enum nor_cut)mode};
            if (is_wanted(cuts, level))
                try_cut(cuts, level, operation, may_change ? &after : NULL);
            memcpy(cuts->doing, doing, sizeof doing);
        }
    }
    model_free(&after);
}

/* Goes `steps` steps on; cuts each at all its operations if the level is to be cut. */
static void search(struct cuts *cuts, uint32_t level, uint32_t steps)
{
    struct world *world = &cuts->world;
    bool cutting = level <= cuts->options->depth;
    for (uint32_t i = 0; i < steps && !cuts->stop; i++) {
        struct operation operation;
        struct model_why why;
        int result = EKV_OK;
        world_plan(world, &operation);
        world_describe(&operation, cuts->doing, sizeof cuts->doing);
        if (cutting)
            world_snapshot_take(world, &cuts->before[level]);
        uint64_t operations = world->nor.now.operations;
        bool good = execute(cuts, &operation, &result);
        uint64_t count = world->nor.now.operations - operations;
        if (cuts->options->trace)
            fprintf(stderr, "%*s%" PRIu32 ": %s: %s, %" PRIu64 " flash operations\n",
                    (int)(2 * level), "", world->models.step, cuts->doing,
                    good ? model_result_name(result) : cuts->why, count);
        if (good && !world_accept(world, &operation, result, &why))
            good = complain(cuts, "%s", why.text);
        if (good && cutting && count > 0) {
            world_snapshot_take(world, &cuts->after[level]);
            cut_step(cuts, level, &operation, count, result == EKV_OK);
            world_snapshot_restore(world, &cuts->after[level]);
        }
        if (good)
            world_apply(world, &operation, result);
        good = good && verify(cuts);
        if (level == 0)
            cuts->result->operations += count;
        if (!good) {
            world->models.step = level == 0 ? i : world->models.step;
            report(cuts, level);
            return;
        }
    }
    if (level > 0 && !cuts->stop)
        check_remount(cuts, level);
}

static void start_piece(void *context)
{
    struct piece *piece = context;
    piece->result = world_format(&piece->cuts->world);
    if (piece->result == EKV_OK)
        piece->result = world_mount(&piece->cuts->world, false);
}

static bool start(struct cuts *cuts)
{
    struct piece piece = {.cuts = cuts};
    snprintf(cuts->doing, sizeof cuts->doing, "format and mount");
    if (!trap_run(start_piece, &piece, cuts->why, sizeof cuts->why))
        return false;
    if (piece.result != EKV_OK)
        return complain(cuts, "it answered %s", model_result_name(piece.result));
    return true;
}

static void open_cuts(struct cuts *cuts, const struct cuts_options *options,
                      struct cuts_result *result)
{
    memset(cuts, 0, sizeof *cuts);
    cuts->options = options;
    cuts->result = result;
    world_init(&cuts->world, &options->world);
    cuts->world.nor.illegal = trap_illegal;
    for (int i = 0; i < CUTS_DEPTH_MAX; i++) {
        world_snapshot_init(&cuts->before[i], &cuts->world);
        world_snapshot_init(&cuts->after[i], &cuts->world);
    }
}

static void close_cuts(struct cuts *cuts)
{
    for (int i = 0; i < CUTS_DEPTH_MAX; i++) {
        world_snapshot_free(&cuts->before[i]);
        world_snapshot_free(&cuts->after[i]);
    }
    world_free(&cuts->world);
}

void cuts_run(const struct cuts_options *options, struct cuts_result *result)
{
    static struct cuts cuts;
    open_cuts(&cuts, options, result);
    if (start(&cuts))
        search(&cuts, 0, options->steps);
    else
        report(&cuts, 0);
    close_cuts(&cuts);
}

/* --- Formatting ------------------------------------------------------------------------------ */

static void format_piece(void *context)
{
    struct piece *piece = context;
    piece->result = world_format(&piece->cuts->world);
}

/* After a cut format: the old store as it was, no store, or an empty one; and then a format works.
 */
static void formatted_piece(void *context)
{
    struct piece *piece = context;
    struct world *world = &piece->cuts->world;
    struct model empty;
    struct model_why why;
    model_init(&empty);
    piece->good = true;
    int error = world_mount(world, false);
    if (error == EKV_OK && !model_equals_store(piece->before, world->live.db, &why) &&
        !model_equals_store(&empty, world->live.db, &why))
        piece->good = complain(piece->cuts, "neither the old store nor an empty one: %s", why.text);
    if (error != EKV_OK && error != EKV_NO_STORE)
        piece->good = complain(piece->cuts, "the mount answers %s", model_result_name(error));
    if (!piece->good)
        return;
    error = world_format(world);
    if (error == EKV_OK)
        error = world_mount(world, false);
    if (error != EKV_OK)
        piece->good = complain(piece->cuts, "formatting again: %s", model_result_name(error));
    else if (!model_equals_store(&empty, world->live.db, &why) ||
             !model_store_is_sound(world->live.db, &why))
        piece->good = complain(piece->cuts, "formatted again: %s", why.text);
}

/* The older store. */
static void prepare_piece(void *context)
{
    struct piece *piece = context;
    struct model_why why;
    for (uint32_t i = 0; piece->good && i < piece->cuts->options->steps; i++)
        if (!world_step(&piece->cuts->world, &why))
            piece->good = complain(piece->cuts, "%s", why.text);
}

static void cut_format(struct cuts *cuts, uint64_t count)
{
    struct world *world = &cuts->world;
    struct piece piece = {.cuts = cuts, .before = &world->models.committed};
    for (uint64_t i = 1; i <= count; i++) {
        for (int mode = 0; mode < NOR_CUT_COUNT && !cuts->stop; mode++) {
            if (cuts->options->skip & 1u << mode)
                continue;
            cuts->places[0] = (struct cuts_place){cuts->options->steps, i, (enum nor_cut)mode};
            world_snapshot_restore(world, &cuts->before[0]);
            if (!is_wanted(cuts, 0))
                continue;
            nor_seed(&world->nor, seed_of(cuts, 0));
            nor_cut_at(&world->nor, i, (enum nor_cut)mode);
            cuts->result->tried++;
            bool good = trap_run(format_piece, &piece, cuts->why, sizeof cuts->why);
            nor_power_on(&world->nor);
            good = good && trap_run(formatted_piece, &piece, cuts->why, sizeof cuts->why) &&
                   piece.good;
            if (!good)
                report(cuts, 1);
        }
    }
}

void cuts_run_format(const struct cuts_options *options, struct cuts_result *result)
{
    static struct cuts cuts;
    struct piece piece = {.cuts = &cuts, .good = true};
    open_cuts(&cuts, options, result);
    cuts.format = true;
    cuts.world.options.start = NOR_AGED; /* no store is formatted as blank twice */
    bool good = start(&cuts);
    good = good && trap_run(prepare_piece, &piece, cuts.why, sizeof cuts.why) && piece.good;
    snprintf(cuts.doing, sizeof cuts.doing, "format over an older store");
    world_snapshot_take(&cuts.world, &cuts.before[0]);
    uint64_t operations = cuts.world.nor.now.operations;
    good = good && trap_run(format_piece, &piece, cuts.why, sizeof cuts.why);
    if (good && piece.result != EKV_OK)
        good = complain(&cuts, "it answered %s", model_result_name(piece.result));
    if (good)
        cut_format(&cuts, cuts.world.nor.now.operations - operations);
    else
        report(&cuts, 0);
    close_cuts(&cuts);
}
