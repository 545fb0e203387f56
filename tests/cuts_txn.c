/* Cuts of one transaction of many keys; see cuts.h.
 *
 * The transaction is executed from its begin for each cut: what it appends before its commit must
 * leave no trace either. Its keys are numbers; every third one is in the store before, with another
 * value; every seventh of those is deleted by the transaction. Every fifth value it writes in two
 * pieces.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuts.h"
#include "trap.h"

enum { READ_LIMIT = 200000000, KEY_SIZE = 12 };

struct big {
    const struct cuts_options *options;
    struct cuts_result *result;
    struct world world;
    struct world_snapshot begin;
    uint32_t keys;
    void *table;
    size_t table_size;
    struct model after;
    bool good;
    int answer;
    struct model_why why;
};

static struct ekv_key key_of(char *bytes, uint32_t number)
{
    int size = snprintf(bytes, KEY_SIZE, "%07u", (unsigned)(number * 7919u % 9999991u));
    return ekv_key(bytes, (size_t)size);
}

static bool was_there(uint32_t number)
{
    return number % 3 == 0;
}

static bool is_deleted(uint32_t number)
{
    return number % 21 == 0;
}

static void prepare(void *context)
{
    struct big *big = context;
    struct world *world = &big->world;
    char bytes[KEY_SIZE];
    big->answer = world_format(world);
    if (!big->answer)
        big->answer = world_mount(world, false);
    for (uint32_t i = 0; !big->answer && i < big->keys; i += 3) {
        big->answer = ekv_put(world->live.db, key_of(bytes, i), "old", 3);
        model_put(&world->models.committed, key_of(bytes, i), "old", 3);
    }
    model_copy(&big->after, &world->models.committed);
    for (uint32_t i = 0; i < big->keys; i++) {
        if (is_deleted(i))
            model_delete(&big->after, key_of(bytes, i));
        else
            model_put(&big->after, key_of(bytes, i), "new value", 9);
    }
}

static int put_in_pieces(struct ekv_txn *txn, struct ekv_key key, const char *value)
{
    int error = ekv_txn_append(txn, key, value, 4);
    return error ? error : ekv_txn_append(txn, key, value + 4, strlen(value + 4));
}

static void transact(void *context)
{
    struct big *big = context;
    struct ekv_txn txn;
    char bytes[KEY_SIZE];
    int error = ekv_txn_begin(&txn, big->world.live.db, big->table, big->table_size);
    for (uint32_t i = 0; !error && i < big->keys; i++) {
        if (is_deleted(i) && was_there(i))
            error = ekv_txn_delete(&txn, key_of(bytes, i));
        else if (i % 5 > 0)
            error = ekv_txn_put(&txn, key_of(bytes, i), "new value", 9);
        else
            error = put_in_pieces(&txn, key_of(bytes, i), "new value");
    }
    if (!error)
        error = ekv_txn_commit(&txn);
    big->answer = error;
}

/* What a mount after the cut finds must be before or after, and stay so behind a write. */
static void judge(void *context)
{
    struct big *big = context;
    struct world *world = &big->world;
    nor_power_on(&world->nor);
    big->good = world_recover(world, &big->why);
    if (!big->good)
        return;
    int error = ekv_put(world->live.db, ekv_key("more", 4), "m", 1);
    model_put(&world->models.committed, ekv_key("more", 4), "m", 1);
    outcomes_free(&world->models.outcomes);
    if (!error)
        error = world_mount(world, false);
    big->good = error == EKV_OK && world_recognise(world, &big->why);
    if (error)
        snprintf(big->why.text, sizeof big->why.text, "a put and a mount after it answer %s",
                 model_result_name(error));
}

static void report(struct big *big, uint64_t operation, enum nor_cut mode, const char *why)
{
    char line[900];
    snprintf(line, sizeof line,
             "VIOLATION: powercut --transaction %" PRIu32 " --seed %" PRIu64 " --at 0:%" PRIu64
             ":%s\n  %s",
             big->keys, big->options->world.seed, operation, cuts_mode_name(mode), why);
    big->result->violations++;
    big->options->report(line);
}

static void try_cut(struct big *big, uint64_t operation, enum nor_cut mode)
{
    struct world *world = &big->world;
    struct model before = world->models.committed;
    char why[400];
    world_snapshot_restore(world, &big->begin);
    nor_seed(&world->nor, big->options->world.seed ^ operation << 8 ^ (uint64_t)mode);
    nor_cut_at(&world->nor, operation, mode);
    nor_read_limit(&world->nor, READ_LIMIT);
    big->result->tried++;
    bool returned = trap_run(transact, big, why, sizeof why);
    model_init(&world->models.committed);
    outcomes_add(&world->models.outcomes, &before, &big->after, big->answer);
    big->why.text[0] = 0;
    nor_read_limit(&world->nor, READ_LIMIT);
    if (returned)
        returned = trap_run(judge, big, why, sizeof why);
    if (!returned || !big->good)
        report(big, operation, mode, returned ? big->why.text : why);
    outcomes_free(&world->models.outcomes);
    model_free(&world->models.committed);
    world->models.committed = before;
}

static bool is_wanted(const struct cuts_options *options, uint64_t operation, int mode)
{
    if (options->only_count > 0)
        return options->only[0].operation == operation && options->only[0].mode == (unsigned)mode;
    return !(options->skip & 1u << mode) && (operation + (unsigned)mode) % options->stride == 0;
}

void cuts_run_transaction(const struct cuts_options *options, uint32_t keys,
                          struct cuts_result *result)
{
    static struct big big;
    big = (struct big){.options = options, .result = result, .keys = keys};
    big.table_size = (size_t)keys * EKV_TXN_ENTRY_SIZE;
    big.table = malloc(big.table_size);
    world_init(&big.world, &options->world);
    big.world.nor.illegal = trap_illegal;
    world_snapshot_init(&big.begin, &big.world);
    model_init(&big.after);
    bool ready = big.table && trap_run(prepare, &big, big.why.text, sizeof big.why.text) &&
                 big.answer == EKV_OK;
    world_snapshot_take(&big.world, &big.begin);
    uint64_t operations = big.world.nor.now.operations;
    ready = ready && trap_run(transact, &big, big.why.text, sizeof big.why.text) &&
            big.answer == EKV_OK;
    operations = big.world.nor.now.operations - operations;
    result->operations += operations;
    if (!ready)
        report(&big, 0, NOR_CUT_COMPLETE, big.why.text[0] ? big.why.text : "without a cut");
    for (uint64_t i = 1; ready && i <= operations; i++)
        for (int mode = 0; mode < NOR_CUT_COUNT; mode++)
            if (is_wanted(options, i, mode))
                try_cut(&big, i, (enum nor_cut)mode);
    model_free(&big.after);
    world_snapshot_free(&big.begin);
    world_free(&big.world);
    free(big.table);
}
