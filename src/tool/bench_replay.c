/* `ekv bench replay`: a trace on the engine and the simulated flash.
 *
 * The engine runs as on a small device: no mapping, one thread, no clock, no idle work between the
 * operations; so every read, program and erase is counted, and the figures do not depend on the
 * machine. Each answer is compared with the model's; a wrong one ends the replay.
 */
#define _GNU_SOURCE
#include "bench_replay.h"

#include <stdlib.h>
#include <string.h>

#include "bench_model.h"

enum { STORE_ID = 0x656b76, SEED = 1 };

struct replay {
    const struct tool *tool;
    const struct trace *trace;
    struct replay_result *result;
    struct nor nor;
    struct bench_flash flash;
    struct ekv_mount_options mount;
    struct ekv *db;
    void *memory;
    struct model model;
    struct ekv_txn txn;
    bool in_txn;
    void *txn_memory;
    uint8_t *value; /* room for the largest value and one byte more */
    uint8_t *key, *last_key;
    uint32_t line;
};

static bool fail(const struct replay *replay, const char *what, const char *key, int error)
{
    message(replay->tool, "%s, line %u: %s%s%s%s: %s", replay->trace->name, replay->line, what,
            key ? " '" : "", key ? key : "", key ? "'" : "",
            error ? result_text(error) : "the answer is wrong");
    return false;
}

static void illegal(void *context, const char *sentence)
{
    const struct replay *replay = context;
    message(replay->tool, "%s, line %u: the engine misuses the flash: %s", replay->trace->name,
            replay->line, sentence);
    exit(STATUS_FAILED);
}

/* --- Counting -------------------------------------------------------------------------------- */

static struct replay_phase *phase(struct replay *replay)
{
    return &replay->result->phases[replay->result->phase_count - 1];
}

static void add_phase(struct replay *replay, const char *name)
{
    struct replay_result *result = replay->result;
    result->phases =
        allocate_again(result->phases, (result->phase_count + 1) * sizeof *result->phases);
    result->phases[result->phase_count++] = (struct replay_phase){.name = name};
}

static void add_time(struct replay_phase *at, uint64_t time)
{
    if (at->time_count == at->time_capacity) {
        at->time_capacity = at->time_capacity ? at->time_capacity * 2 : 64;
        at->times = allocate_again(at->times, at->time_capacity * sizeof *at->times);
    }
    at->times[at->time_count++] = time;
}

static void note_use(struct replay *replay)
{
    struct replay_result *result = replay->result;
    struct ekv_stat stat;
    ekv_stat(replay->db, &stat);
    uint64_t unused = (uint64_t)stat.sectors_free + stat.sectors_ready;
    uint64_t used = (stat.geometry.sector_count - unused) * stat.geometry.sector_size;
    if (used > result->used_max)
        result->used_max = used;
    if (stat.live_size > result->live_max)
        result->live_max = stat.live_size;
    result->memtable_count = stat.memtable_capacity;
}

/* The engine counts since the mount only. */
static void note_work(struct replay *replay)
{
    struct ekv_stat stat;
    ekv_stat(replay->db, &stat);
    replay->result->flushes += stat.flushes;
    replay->result->merges += stat.merges;
    replay->result->collections += stat.collections;
}

/* --- The operations -------------------------------------------------------------------------- */

static struct ekv_key key_of(const struct replay *replay, uint32_t key)
{
    return ekv_key(replay->trace->keys[key].bytes, replay->trace->keys[key].size);
}

static bool put(struct replay *replay, const struct trace_step *step)
{
    struct ekv_key key = key_of(replay, step->key);
    trace_value(step->seed, replay->value, step->size);
    int error = replay->in_txn ? ekv_txn_put(&replay->txn, key, replay->value, step->size)
                               : ekv_put(replay->db, key, replay->value, step->size);
    if (error)
        return fail(replay, "put", key.bytes, error);
    phase(replay)->ops++;
    phase(replay)->put_size += (uint64_t)key.size + step->size;
    model_put(&replay->model, step->key, step->size, step->seed);
    if (!replay->in_txn)
        phase(replay)->bound += model_commit(&replay->model);
    return true;
}

static bool delete (struct replay *replay, const struct trace_step *step)
{
    struct ekv_key key = key_of(replay, step->key);
    int error = replay->in_txn ? ekv_txn_delete(&replay->txn, key) : ekv_delete(replay->db, key);
    int expected = replay->model.values[step->key].live ? EKV_OK : EKV_NOT_FOUND;
    if (error != expected)
        return fail(replay, "del", key.bytes, error);
    phase(replay)->ops++;
    if (error)
        return true;
    model_delete(&replay->model, step->key);
    if (!replay->in_txn)
        phase(replay)->bound += model_commit(&replay->model);
    return true;
}

static bool get(struct replay *replay, const struct trace_step *step)
{
    struct ekv_key key = key_of(replay, step->key);
    size_t size, capacity = (size_t)replay->trace->value_size_max + 1;
    int error = replay->in_txn ? ekv_txn_get(&replay->txn, key, 0, replay->value, capacity, &size)
                               : ekv_get(replay->db, key, 0, replay->value, capacity, &size);
    phase(replay)->ops++;
    if (!replay->model.values[step->key].live)
        return error == EKV_NOT_FOUND || fail(replay, "get (the key is absent)", key.bytes, error);
    if (error || !model_matches(&replay->model, step->key, replay->value, size))
        return fail(replay, "get", key.bytes, error);
    phase(replay)->got_size += size;
    phase(replay)->bound += model_read_bound((uint32_t)size);
    return true;
}

static bool begin(struct replay *replay)
{
    int error = ekv_txn_begin(&replay->txn, replay->db, replay->txn_memory,
                              replay->result->transaction_size);
    if (error)
        return fail(replay, "begin", NULL, error);
    replay->in_txn = true;
    return true;
}

static bool commit(struct replay *replay)
{
    int error = ekv_txn_commit(&replay->txn);
    if (error)
        return fail(replay, "commit", NULL, error);
    replay->in_txn = false;
    phase(replay)->bound += model_commit(&replay->model);
    return true;
}

static bool mount(struct replay *replay)
{
    int error = ekv_mount(&replay->db, &replay->flash.flash, &replay->mount, replay->memory,
                          replay->result->memory_size);
    return error ? fail(replay, "mount", NULL, error) : true;
}

static bool reopen(struct replay *replay)
{
    note_work(replay);
    int error = ekv_unmount(replay->db);
    if (error)
        return fail(replay, "unmount", NULL, error);
    memset(replay->memory, 0xa5, replay->result->memory_size); /* nothing of it may be needed */
    phase(replay)->ops++;
    return mount(replay);
}

/* One key of a scan: known, live, with the right value, behind the one before. */
static bool visit(struct replay *replay, struct ekv_cursor *cursor, size_t *last_size)
{
    size_t size, value_size, capacity = (size_t)replay->trace->value_size_max + 1;
    int error = ekv_cursor_key(cursor, replay->key, replay->trace->key_size_max, &size);
    if (error)
        return fail(replay, "scan", NULL, error);
    size_t shorter = size < *last_size ? size : *last_size;
    int order = *last_size == SIZE_MAX ? 1 : memcmp(replay->key, replay->last_key, shorter);
    if (order < 0 || (order == 0 && size <= *last_size))
        return fail(replay, "scan: the order of the keys at", key_text(replay->key, size), EKV_OK);
    memcpy(replay->last_key, replay->key, size);
    *last_size = size;
    error = ekv_cursor_read(cursor, 0, replay->value, capacity, &value_size);
    uint32_t key = trace_find(replay->trace, replay->key, size);
    if (error || key == TRACE_NO_KEY ||
        !model_matches(&replay->model, key, replay->value, value_size))
        return fail(replay, "scan: the value of", key_text(replay->key, size), error);
    phase(replay)->got_size += value_size;
    phase(replay)->bound += model_read_bound((uint32_t)value_size);
    return true;
}

static bool scan(struct replay *replay)
{
    struct ekv_cursor cursor;
    uint64_t count = 0;
    size_t last_size = SIZE_MAX;
    bool good = true;
    int error;
    ekv_cursor_open(&cursor, replay->db, EKV_USER);
    while (good && (error = ekv_cursor_next(&cursor)) == EKV_OK) {
        good = visit(replay, &cursor, &last_size);
        count++;
    }
    ekv_cursor_close(&cursor);
    phase(replay)->ops++;
    if (!good)
        return false;
    if (error != EKV_NOT_FOUND)
        return fail(replay, "scan", NULL, error);
    return count == replay->model.live_count ||
           fail(replay, "scan: the number of keys", NULL, EKV_OK);
}

static bool perform(struct replay *replay, const struct trace_step *step)
{
    switch (step->kind) {
    case TRACE_PUT:
        return put(replay, step);
    case TRACE_GET:
        return get(replay, step);
    case TRACE_DELETE:
        return delete (replay, step);
    case TRACE_BEGIN:
        return begin(replay);
    case TRACE_COMMIT:
        return commit(replay);
    case TRACE_REOPEN:
        return reopen(replay);
    case TRACE_SCAN:
        return scan(replay);
    default:
        note_use(replay);
        add_phase(replay, replay->trace->phase_names[step->key]);
        return true;
    }
}

static bool perform_all(struct replay *replay)
{
    uint64_t txn_time = 0;
    for (size_t i = 0; i < replay->trace->step_count; i++) {
        const struct trace_step *step = &replay->trace->steps[i];
        struct nor_counts before = replay->nor.now.counts;
        bool was_in_txn = replay->in_txn;
        replay->line = step->line;
        if (!perform(replay, step))
            return false;
        struct nor_counts cost = bench_counts_between(&before, &replay->nor.now.counts);
        bench_counts_add(&phase(replay)->counts, &cost);
        txn_time = was_in_txn || replay->in_txn ? txn_time + cost.time : 0;
        if (was_in_txn && !replay->in_txn) {
            add_time(phase(replay), txn_time);
            txn_time = 0;
        } else if (!replay->in_txn && step->kind != TRACE_PHASE) {
            add_time(phase(replay), cost.time);
        }
        if (!replay->in_txn)
            note_use(replay);
    }
    return true;
}

/* --- Setting up ------------------------------------------------------------------------------ */

/* The largest memtable whose memory fits into `size`, 0 when none does. */
static uint32_t fit_memtable(const struct ekv_geometry *geometry, uint64_t size)
{
    struct ekv_mount_options options = {0};
    uint64_t low = 0, high = size / 4 < INT32_MAX ? size / 4 : INT32_MAX;
    while (low < high) {
        uint64_t middle = (low + high + 1) / 2;
        options.memtable_count = (uint32_t)middle;
        size_t needed = ekv_memory_size(geometry, &options);
        if (needed != 0 && needed <= size)
            low = middle;
        else
            high = middle - 1;
    }
    return (uint32_t)low;
}

static bool choose_memory(struct replay *replay, const struct ekv_geometry *geometry)
{
    const struct replay_options *options = &replay->result->options;
    replay->mount.memtable_count = (uint32_t)options->memtable_count;
    if (options->memory_size && !options->memtable_count)
        replay->mount.memtable_count = fit_memtable(geometry, options->memory_size);
    size_t size = ekv_memory_size(geometry, &replay->mount);
    if (size == 0) {
        message(replay->tool,
                "ekv cannot use flash of %u sectors of %u bytes: choose --size and "
                "--sector anew",
                geometry->sector_count, geometry->sector_size);
        return false;
    }
    if (options->memory_size && (size > options->memory_size || !replay->mount.memtable_count)) {
        struct ekv_mount_options smallest = {.memtable_count = 1};
        message(replay->tool,
                "%llu bytes of memory are not enough for this flash: it needs %zu "
                "bytes at least",
                (unsigned long long)options->memory_size, ekv_memory_size(geometry, &smallest));
        return false;
    }
    replay->result->memory_size = options->memory_size > size ? (size_t)options->memory_size : size;
    replay->memory = allocate(replay->result->memory_size);
    replay->result->transaction_size =
        (size_t)replay->trace->transaction_count_max * EKV_TXN_ENTRY_SIZE;
    replay->txn_memory = allocate(replay->result->transaction_size);
    return true;
}

static bool format(struct replay *replay)
{
    struct ekv_format_options options = {.store_id = STORE_ID,
                                         .blank = !replay->result->options.aged};
    add_phase(replay, "format");
    /* A chip is formatted in the factory, with the memory that the geometry asks for. */
    size_t size = ekv_memory_size(&replay->nor.flash.geometry, NULL);
    void *memory = allocate(size);
    int error = ekv_format(&replay->flash.flash, &options, memory, size);
    free(memory);
    if (error)
        return fail(replay, "format", NULL, error);
    if (!mount(replay))
        return false;
    phase(replay)->ops = 1;
    phase(replay)->counts = replay->nor.now.counts;
    add_time(phase(replay), replay->nor.now.counts.time);
    return true;
}

static void note_wear(struct replay *replay)
{
    uint64_t sum = 0;
    uint32_t count = replay->nor.flash.geometry.sector_count;
    for (uint32_t sector = 0; sector < count; sector++) {
        sum += replay->nor.erase_counts[sector];
        if (replay->nor.erase_counts[sector] > replay->result->wear_max)
            replay->result->wear_max = replay->nor.erase_counts[sector];
    }
    replay->result->wear_mean = (double)sum / count;
}

static int compare_times(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static bool run(struct replay *replay)
{
    if (!format(replay) || !perform_all(replay))
        return false;
    note_work(replay);
    int error = ekv_unmount(replay->db);
    if (error)
        return fail(replay, "unmount", NULL, error);
    note_wear(replay);
    memcpy(replay->result->areas, replay->flash.tally, sizeof replay->result->areas);
    for (uint32_t i = 0; i < replay->result->phase_count; i++) {
        struct replay_phase *at = &replay->result->phases[i];
        if (at->time_count > 0)
            qsort(at->times, at->time_count, sizeof *at->times, compare_times);
    }
    return true;
}

bool replay_run(const struct tool *tool, const struct trace *trace,
                const struct replay_options *options, struct replay_result *result)
{
    struct replay replay = {.tool = tool, .trace = trace, .result = result};
    struct ekv_geometry geometry = {(uint32_t)options->sector_size,
                                    (uint32_t)(options->flash_size / options->sector_size),
                                    (uint32_t)options->write_unit, false};
    *result = (struct replay_result){.trace = trace, .options = *options};
    if (!choose_memory(&replay, &geometry))
        return false;
    if (!nor_init(&replay.nor, &geometry, options->aged ? NOR_AGED : NOR_FRESH, SEED)) {
        message(tool, "there is no memory for a flash of %s", size_text(options->flash_size));
        free(replay.memory);
        free(replay.txn_memory);
        return false;
    }
    bench_flash_init(&replay.flash, &replay.nor, STORE_ID);
    replay.nor.illegal = illegal;
    replay.nor.illegal_context = &replay;
    replay.value = allocate((size_t)trace->value_size_max + 1);
    replay.key = allocate(trace->key_size_max);
    replay.last_key = allocate(trace->key_size_max);
    model_init(&replay.model, trace, options->aged ? 0 : options->flash_size);
    bool good = run(&replay);
    model_free(&replay.model);
    bench_flash_free(&replay.flash);
    nor_free(&replay.nor);
    free(replay.value);
    free(replay.key);
    free(replay.last_key);
    free(replay.memory);
    free(replay.txn_memory);
    return good;
}

void replay_free(struct replay_result *result)
{
    for (uint32_t i = 0; i < result->phase_count; i++)
        free(result->phases[i].times);
    free(result->phases);
}
