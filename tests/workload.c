/* Workloads by seed; see workload.h. What is planned depends on the seed and the models alone,
 * never on what the engine does inside, so a workload stays the same while the engine changes.
 */
#include "workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

enum { TXN_FIRST_COUNT = 4, TXN_MAX_COUNT = 1024, VALUE_MAX = 64 * 1024 };

/* How often each kind of operation comes, in parts of the sum; how many keys there are; in how many
 * of 100 puts the value is large; how full the store gets, in percent of its capacity. */
struct profile {
    uint8_t weights[OPERATION_COUNT];
    uint16_t keys;
    uint8_t large_percent;
    uint8_t fill_percent;
};

const char *const workload_names[] = {"small", "txn", "large", "full", "snapshot", "work", "mixed"};
const unsigned workload_count = sizeof workload_names / sizeof *workload_names;

/*   put del  txn: begin put del commit abort  snap: open close  cursor: open move close
 *   work sync remount reload */
static const struct profile profiles[] = {
    {{70, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1, 1}, 40, 0, 50},
    {{10, 4, 8, 70, 10, 4, 2, 0, 0, 0, 0, 0, 2, 1, 1, 1}, 60, 2, 50},
    {{60, 20, 2, 8, 2, 2, 1, 0, 0, 0, 0, 0, 4, 1, 1, 1}, 12, 60, 60},
    {{85, 8, 1, 4, 1, 1, 1, 0, 0, 0, 0, 0, 2, 0, 1, 1}, 250, 15, 120},
    {{50, 12, 3, 10, 2, 2, 1, 5, 4, 3, 12, 2, 3, 1, 0, 1}, 30, 5, 45},
    {{30, 10, 1, 6, 1, 1, 1, 0, 0, 0, 0, 0, 40, 2, 4, 3}, 60, 5, 60},
    {{40, 12, 4, 20, 4, 3, 1, 2, 2, 2, 6, 1, 8, 1, 1, 1}, 80, 10, 80},
};

const struct ekv_geometry workload_geometries[] = {
    {512, 16, 1, false},  {1024, 16, 4, false}, {4096, 8, 1, false},
    {512, 64, 32, false}, {2048, 24, 8, true},  {4096, 16, 256, false},
    {512, 32, 16, true},  {4096, 64, 1, false}, {1024, 8, 64, false},
};
const unsigned workload_geometry_count = sizeof workload_geometries / sizeof *workload_geometries;

/* --- Memory and chance ----------------------------------------------------------------------- */

uint64_t world_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint32_t below(struct world *world, uint32_t limit)
{
    return (uint32_t)(world_random(&world->models.random) % limit);
}

static void *get_memory(size_t size)
{
    void *memory = calloc(1, size ? size : 1);
    if (!memory) {
        fprintf(stderr, "workload: no memory\n");
        exit(2);
    }
    return memory;
}

/* --- The flash as the store sees it ---------------------------------------------------------- */

static void violated(struct world *world, const char *sentence)
{
    if (world->nor.illegal)
        world->nor.illegal(world->nor.illegal_context, sentence);
    fprintf(stderr, "workload: %s\n", sentence);
    abort();
}

static int flash_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    struct world *world = context;
    return world->nor.flash.driver->read(&world->nor, address, buffer, size);
}

static int flash_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    struct world *world = context;
    return world->nor.flash.driver->program(&world->nor, address, data, size);
}

static int flash_erase(void *context, uint32_t sector)
{
    struct world *world = context;
    if (world->options.check_locks && world->live.write_locks > 0)
        violated(world, "an erase while the write lock is held: readers would wait for it");
    return world->nor.flash.driver->erase(&world->nor, sector);
}

static int flash_sync(void *context, bool barrier_only)
{
    struct world *world = context;
    (void)barrier_only;
    if (world->options.check_locks && world->live.write_locks > 0)
        violated(world, "a sync while the write lock is held: readers would wait for it");
    return world->nor.now.powered ? 0 : -1;
}

static const struct ekv_flash_driver driver = {
    .read = flash_read, .program = flash_program, .erase = flash_erase, .sync = flash_sync};

static void lock_read(void *context)
{
    struct world *world = context;
    if (world->live.read_locks + world->live.write_locks > 0)
        violated(world, "the read lock is taken while a lock is held");
    world->live.read_locks++;
}

static void unlock_read(void *context)
{
    struct world *world = context;
    if (world->live.read_locks-- != 1)
        violated(world, "the read lock is given back and is not held");
}

static void lock_write(void *context)
{
    struct world *world = context;
    if (world->live.read_locks + world->live.write_locks > 0)
        violated(world, "the write lock is taken while a lock is held");
    world->live.write_locks++;
}

static void unlock_write(void *context)
{
    struct world *world = context;
    if (world->live.write_locks-- != 1)
        violated(world, "the write lock is given back and is not held");
}

static const struct ekv_locks locks = {lock_read, unlock_read, lock_write, unlock_write};

static int64_t tick(void *context)
{
    struct world *world = context;
    return world->live.clock += 1000001;
}

/* --- Life ------------------------------------------------------------------------------------ */

static struct ekv_mount_options mount_options(struct world *world)
{
    struct ekv_mount_options options = {.memtable_count = world->options.memtable_count,
                                        .cache_count = world->options.seed % 2 * 32};
    options.locks = &locks;
    options.lock_context = world;
    options.now = world->options.clock ? tick : NULL;
    options.now_context = world;
    return options;
}

void world_init(struct world *world, const struct world_options *options)
{
    memset(world, 0, sizeof *world);
    world->options = *options;
    world->models.random = options->seed;
    world->live.clock = 1700000000000000;
    if (!nor_init(&world->nor, &options->geometry, options->start, options->seed)) {
        fprintf(stderr, "workload: no memory\n");
        exit(2);
    }
    if (options->map)
        nor_map(&world->nor);
    world->flash = world->nor.flash;
    world->flash.driver = &driver;
    world->flash.context = world;
    struct ekv_mount_options mount = mount_options(world);
    world->store_size = (ekv_memory_size(&options->geometry, &mount) + 15) / 16 * 16;
    world->arena_size = world->store_size + WORLD_TXNS * 2 * TXN_MAX_COUNT * EKV_TXN_ENTRY_SIZE;
    world->arena = get_memory(world->arena_size);
    world->value = get_memory(VALUE_MAX);
    world->format_size = ekv_memory_size(&options->geometry, NULL);
    world->format_memory = get_memory(world->format_size);
}

void world_forget_handles(struct world *world)
{
    for (int i = 0; i < WORLD_TXNS; i++) {
        world->live.txn_open[i] = false;
        model_free(&world->models.txn_views[i]);
        model_free(&world->models.txn_written[i]);
        model_free(&world->models.txn_changed[i]);
    }
    for (int i = 0; i < WORLD_SNAPSHOTS; i++) {
        world->live.snapshot_open[i] = false;
        model_free(&world->models.snapshots[i]);
    }
    world->live.cursor_open = false;
    model_free(&world->models.cursor);
}

void world_free(struct world *world)
{
    world_forget_handles(world);
    model_free(&world->models.committed);
    outcomes_free(&world->models.outcomes);
    nor_free(&world->nor);
    free(world->arena);
    free(world->value);
    free(world->format_memory);
}

int world_format(struct world *world)
{
    struct ekv_format_options options = {.store_id = world->options.seed, .label = "workload"};
    options.blank = world->options.start == NOR_FRESH;
    return ekv_format(&world->flash, &options, world->format_memory, world->format_size);
}

/* The memory holds rubbish, and nothing of an earlier mount. */
static int mount_store(struct world *world, bool read_only)
{
    struct ekv_mount_options options = mount_options(world);
    options.read_only = read_only;
    world->live.db = NULL;
    world->live.read_locks = world->live.write_locks = 0;
    memset(world->arena, 0xa5, world->store_size);
    struct ekv *db = NULL;
    int error = ekv_mount(&db, &world->flash, &options, world->arena, world->store_size);
    if (!error)
        world->live.db = db;
    return error;
}

int world_mount(struct world *world, bool read_only)
{
    world_forget_handles(world);
    return mount_store(world, read_only);
}

static void *txn_memory(struct world *world, unsigned slot, bool large)
{
    size_t size = TXN_MAX_COUNT * EKV_TXN_ENTRY_SIZE;
    return world->arena + world->store_size + (2 * slot + large) * size;
}

/* --- Planning -------------------------------------------------------------------------------- */

/* Keys are numbered: most are short, some long, one is empty, and some begin others. */
static void plan_key(struct world *world, struct operation *operation, uint32_t number)
{
    uint32_t longest = world->options.geometry.sector_size / 4;
    operation->space = number % 11 == 7 ? EKV_ASIDE : EKV_USER;
    if (number == 3) {
        operation->key_size = 0;
        return;
    }
    operation->key_size = (uint32_t)snprintf((char *)operation->key, WORLD_KEY_MAX, "k%03u",
                                             (unsigned)(number % 7 == 5 ? number - 1 : number));
    if (number % 7 == 5)
        operation->key[operation->key_size++] = 'x';
    if (number % 13 == 6) {
        uint32_t size = 20 + number * 37 % 280;
        size = size < longest ? size : longest;
        while (operation->key_size < size) {
            operation->key[operation->key_size] = (uint8_t)(number * 31 + operation->key_size);
            operation->key_size++;
        }
    }
}

static void plan_value(struct world *world, struct operation *operation)
{
    const struct profile *profile = &profiles[world->options.workload];
    uint32_t sector = world->options.geometry.sector_size;
    uint32_t all = sector * world->options.geometry.sector_count;
    uint32_t dice = below(world, 100);
    operation->value_seed = world_random(&world->models.random);
    operation->value_size = below(world, 41);
    if (dice < profile->large_percent) {
        uint32_t most = sector * 4 < all / 10 ? sector * 4 : all / 10;
        operation->value_size = sector / 4 + below(world, most < VALUE_MAX ? most : VALUE_MAX / 2);
    } else if (dice >= 92) {
        operation->value_size = 64 + below(world, 200);
    } else if (dice >= 88) {
        operation->value_size = 0;
    }
}

/* Half of the values that replace one of the same transaction have its size: then the record that
 * is not programmed yet takes them. */
static void plan_again(const struct world *world, struct operation *operation)
{
    const struct model_entry *written =
        model_find(&world->models.txn_written[operation->slot],
                   model_key_of(operation->key, operation->key_size, operation->space));
    if (written && written->value && operation->value_seed % 2 == 0)
        operation->value_size = written->value->size;
}

/* A key that is there, most of the time. */
static void plan_delete(struct world *world, struct operation *operation, const struct model *view)
{
    const struct profile *profile = &profiles[world->options.workload];
    if (view->count == 0 || below(world, 10) == 0) {
        plan_key(world, operation, below(world, profile->keys));
        return;
    }
    struct ekv_key key = model_key(&view->entries[below(world, view->count)]);
    operation->space = key.space;
    operation->key_size = key.size;
    memcpy(operation->key, key.bytes, key.size);
}

static enum operation_kind plan_kind(struct world *world)
{
    const struct profile *profile = &profiles[world->options.workload];
    uint32_t sum = 0, dice;
    for (int i = 0; i < OPERATION_COUNT; i++)
        sum += profile->weights[i];
    dice = below(world, sum);
    int kind = 0;
    while (dice >= profile->weights[kind])
        dice -= profile->weights[kind++];
    return (enum operation_kind)kind;
}

/* Makes an operation fit what is open; the slot is chosen already. */
static enum operation_kind fit_kind(const struct world *world, enum operation_kind kind,
                                    unsigned slot)
{
    bool txn = world->live.txn_open[slot], snapshot = world->live.snapshot_open[slot];
    bool cursor = world->live.cursor_open;
    switch (kind) {
    case OPERATION_TXN_BEGIN:
        return txn ? OPERATION_TXN_PUT : kind;
    case OPERATION_TXN_PUT:
    case OPERATION_TXN_DELETE:
    case OPERATION_TXN_COMMIT:
    case OPERATION_TXN_ABORT:
        return txn ? kind : OPERATION_TXN_BEGIN;
    case OPERATION_SNAPSHOT_OPEN:
    case OPERATION_SNAPSHOT_CLOSE:
        return snapshot ? OPERATION_SNAPSHOT_CLOSE : OPERATION_SNAPSHOT_OPEN;
    case OPERATION_CURSOR_OPEN:
    case OPERATION_CURSOR_MOVE:
        return cursor ? OPERATION_CURSOR_MOVE : OPERATION_CURSOR_OPEN;
    case OPERATION_CURSOR_CLOSE:
        return cursor ? kind : OPERATION_CURSOR_OPEN;
    default:
        return kind;
    }
}

/* How full the store is with what it holds, in percent. */
static unsigned fill_of(struct world *world)
{
    struct ekv_stat stat;
    ekv_stat(world->live.db, &stat);
    if (stat.capacity_size == 0)
        return 100;
    return (unsigned)((stat.live_size + stat.reserved_size) * 100 / stat.capacity_size);
}

void world_plan(struct world *world, struct operation *operation)
{
    const struct profile *profile = &profiles[world->options.workload];
    memset(operation, 0, sizeof *operation);
    operation->slot = (uint8_t)below(world, 2);
    operation->kind = fit_kind(world, plan_kind(world), operation->slot);
    const struct model *view = &world->models.committed;
    if (operation->kind == OPERATION_TXN_PUT || operation->kind == OPERATION_TXN_DELETE)
        view = &world->models.txn_views[operation->slot];
    if (operation->kind == OPERATION_PUT || operation->kind == OPERATION_TXN_PUT) {
        if (world->models.full_streak == 0 && fill_of(world) >= profile->fill_percent)
            world->models.full_streak = 6;
        if (world->models.full_streak > 0 && below(world, 4) > 0) {
            world->models.full_streak--;
            operation->kind = OPERATION_DELETE;
            view = &world->models.committed;
        }
    }
    operation->back = below(world, 3) == 0;
    switch (operation->kind) {
    case OPERATION_PUT:
    case OPERATION_TXN_PUT:
        plan_key(world, operation, below(world, profile->keys));
        plan_value(world, operation);
        if (operation->kind == OPERATION_TXN_PUT)
            plan_again(world, operation);
        break;
    case OPERATION_DELETE:
    case OPERATION_TXN_DELETE:
        plan_delete(world, operation, view);
        break;
    default:
        break;
    }
}

void world_compose(struct world *world, struct operation *operation, unsigned kind, unsigned slot,
                   uint32_t key_number, uint32_t value_size)
{
    memset(operation, 0, sizeof *operation);
    operation->slot = (uint8_t)(slot % 2);
    operation->kind = fit_kind(world, (enum operation_kind)(kind % OPERATION_COUNT), slot % 2);
    operation->back = key_number % 2;
    plan_key(world, operation, key_number % 300);
    operation->value_size = value_size < VALUE_MAX ? value_size : VALUE_MAX;
    operation->value_seed = value_size ^ (uint64_t)key_number << 32;
}

/* --- Executing ------------------------------------------------------------------------------- */

static struct ekv_key key_of(const struct operation *operation)
{
    return model_key_of(operation->key, operation->key_size, operation->space);
}

static const uint8_t *value_of(const struct world *world, const struct operation *operation)
{
    uint64_t state = operation->value_seed;
    for (uint32_t i = 0; i < operation->value_size; i += 8) {
        uint64_t bits = world_random(&state);
        uint32_t part = operation->value_size - i < 8 ? operation->value_size - i : 8;
        memcpy(world->value + i, &bits, part);
    }
    return world->value;
}

/* Writes in a transaction, with a larger table if it is full. */
static int write_in_txn(struct world *world, const struct operation *operation)
{
    struct ekv_txn *txn = &world->live.txns[operation->slot];
    for (int attempt = 0; attempt < 2; attempt++) {
        int error = operation->kind == OPERATION_TXN_PUT
                        ? ekv_txn_put(txn, key_of(operation), value_of(world, operation),
                                      operation->value_size)
                        : ekv_txn_delete(txn, key_of(operation));
        if (error != EKV_MEMORY || attempt > 0)
            return error;
        error = ekv_txn_grow(txn, txn_memory(world, operation->slot, true),
                             TXN_MAX_COUNT * EKV_TXN_ENTRY_SIZE);
        if (error)
            return error;
        world->live.txn_capacity[operation->slot] = TXN_MAX_COUNT;
        memset(txn_memory(world, operation->slot, false), 0xa5, TXN_MAX_COUNT * EKV_TXN_ENTRY_SIZE);
    }
    return EKV_MEMORY;
}

static int begin_txn(struct world *world, unsigned slot)
{
    int error = ekv_txn_begin(&world->live.txns[slot], world->live.db,
                              txn_memory(world, slot, false), TXN_FIRST_COUNT * EKV_TXN_ENTRY_SIZE);
    world->live.txn_capacity[slot] = TXN_FIRST_COUNT;
    world->live.txn_open[slot] = error == EKV_OK;
    return error;
}

static int remount(struct world *world)
{
    struct world_live *live = &world->live;
    if (live->cursor_open)
        ekv_cursor_close(&live->cursor);
    for (int i = 0; i < WORLD_SNAPSHOTS; i++)
        if (live->snapshot_open[i])
            ekv_snapshot_close(&live->snapshots[i]);
    for (int i = 0; i < WORLD_TXNS; i++)
        if (live->txn_open[i])
            ekv_txn_abort(&live->txns[i]);
    int error = ekv_unmount(live->db);
    live->db = NULL;
    return error ? error : mount_store(world, false);
}

static int move_cursor(struct world *world, const struct operation *operation)
{
    return operation->back ? ekv_cursor_previous(&world->live.cursor)
                           : ekv_cursor_next(&world->live.cursor);
}

int world_execute(struct world *world, const struct operation *operation)
{
    struct world_live *live = &world->live;
    unsigned slot = operation->slot;
    bool more;
    int error;
    switch (operation->kind) {
    case OPERATION_PUT:
        return ekv_put(live->db, key_of(operation), value_of(world, operation),
                       operation->value_size);
    case OPERATION_DELETE:
        return ekv_delete(live->db, key_of(operation));
    case OPERATION_TXN_BEGIN:
        return begin_txn(world, slot);
    case OPERATION_TXN_PUT:
    case OPERATION_TXN_DELETE:
        return write_in_txn(world, operation);
    case OPERATION_TXN_COMMIT:
        error = ekv_txn_commit(&live->txns[slot]);
        live->txn_open[slot] = error != EKV_OK;
        return error;
    case OPERATION_TXN_ABORT:
        ekv_txn_abort(&live->txns[slot]);
        live->txn_open[slot] = false;
        return EKV_OK;
    case OPERATION_SNAPSHOT_OPEN:
        ekv_snapshot_open(&live->snapshots[slot], live->db);
        live->snapshot_open[slot] = true;
        return EKV_OK;
    case OPERATION_SNAPSHOT_CLOSE:
        ekv_snapshot_close(&live->snapshots[slot]);
        live->snapshot_open[slot] = false;
        return EKV_OK;
    case OPERATION_CURSOR_OPEN:
        ekv_cursor_open(&live->cursor, live->db, EKV_USER);
        live->cursor_open = true;
        return EKV_OK;
    case OPERATION_CURSOR_MOVE:
        return move_cursor(world, operation);
    case OPERATION_CURSOR_CLOSE:
        ekv_cursor_close(&live->cursor);
        live->cursor_open = false;
        return EKV_OK;
    case OPERATION_WORK:
        return ekv_work(live->db, &more);
    case OPERATION_SYNC:
        return ekv_sync(live->db);
    case OPERATION_REMOUNT:
        return remount(world);
    case OPERATION_RELOAD:
        return mount_store(world, false);
    default:
        return EKV_INVALID;
    }
}

/* --- Judging --------------------------------------------------------------------------------- */

static bool conflict_expected(const struct world *world, unsigned slot)
{
    const struct model *written = &world->models.txn_written[slot];
    for (uint32_t i = 0; i < written->count; i++)
        if (model_find(&world->models.txn_changed[slot], model_key(&written->entries[i])))
            return true;
    return false;
}

static bool anything_open(const struct world *world)
{
    const struct world_live *live = &world->live;
    return live->cursor_open || live->txn_open[0] || live->txn_open[1] || live->snapshot_open[0] ||
           live->snapshot_open[1];
}

/* Where a move takes the cursor in its model, numbered from 1. */
static uint32_t cursor_target(const struct world *world, const struct operation *operation)
{
    uint32_t count = model_user_count(&world->models.cursor), at = world->models.cursor_at;
    if (at == 0 || at > count)
        return operation->back ? count : 1;
    return operation->back ? at - 1 : at + 1;
}

static bool accept_cursor(struct world *world, const struct operation *operation, int result,
                          struct model_why *why)
{
    uint32_t target = cursor_target(world, operation);
    uint8_t key[WORLD_KEY_MAX];
    size_t size;
    if (target == 0 || target > model_user_count(&world->models.cursor))
        return result == EKV_NOT_FOUND;
    if (result != EKV_OK || ekv_cursor_key(&world->live.cursor, key, sizeof key, &size) != EKV_OK)
        return false;
    const struct model_entry *entry = &world->models.cursor.entries[target - 1];
    if (size == entry->key->size && memcmp(key, entry->key->bytes, size) == 0)
        return true;
    snprintf(why->text, sizeof why->text, "the cursor moved to another key than %u", target);
    return false;
}

static bool acceptable(struct world *world, const struct operation *operation, int result,
                       struct model_why *why)
{
    const struct model *view = &world->models.committed;
    bool full = result == EKV_FULL || (result == EKV_PINNED && anything_open(world));
    switch (operation->kind) {
    case OPERATION_PUT:
    case OPERATION_TXN_PUT:
        return result == EKV_OK || full;
    case OPERATION_TXN_DELETE:
        view = &world->models.txn_views[operation->slot];
        if (!model_find(view, key_of(operation)))
            return result == EKV_NOT_FOUND;
        return result == EKV_OK || full;
    case OPERATION_DELETE:
        if (!model_find(view, key_of(operation)))
            return result == EKV_NOT_FOUND;
        return result == EKV_OK || (full && anything_open(world));
    case OPERATION_TXN_COMMIT:
        if (conflict_expected(world, operation->slot))
            return result == EKV_CONFLICT;
        return result == EKV_OK || full;
    case OPERATION_CURSOR_MOVE:
        return accept_cursor(world, operation, result, why);
    default:
        return result == EKV_OK;
    }
}

bool world_accept(struct world *world, const struct operation *operation, int result,
                  struct model_why *why)
{
    why->text[0] = 0;
    bool good = acceptable(world, operation, result, why);
    if (world->live.read_locks + world->live.write_locks > 0) {
        snprintf(why->text, sizeof why->text, "a lock is still held");
        good = false;
    }
    if (!good && !why->text[0])
        snprintf(why->text, sizeof why->text, "it answered %s", model_result_name(result));
    return good;
}

/* --- The models ------------------------------------------------------------------------------ */

static void write_to(const struct world *world, const struct operation *operation,
                     struct model *model)
{
    if (operation->kind == OPERATION_PUT || operation->kind == OPERATION_TXN_PUT)
        model_put(model, key_of(operation), value_of(world, operation), operation->value_size);
    else
        model_delete(model, key_of(operation));
}

void world_model_after(const struct world *world, const struct operation *operation,
                       struct model *after)
{
    model_copy(after, &world->models.committed);
    if (operation->kind == OPERATION_PUT || operation->kind == OPERATION_DELETE)
        write_to(world, operation, after);
    if (operation->kind != OPERATION_TXN_COMMIT)
        return;
    const struct model *written = &world->models.txn_written[operation->slot];
    for (uint32_t i = 0; i < written->count; i++) {
        struct ekv_key key = model_key(&written->entries[i]);
        const struct model_entry *entry =
            model_find(&world->models.txn_views[operation->slot], key);
        if (entry)
            model_put(after, key, entry->value->bytes, entry->value->size);
        else
            model_delete(after, key);
    }
}

/* Every open transaction learns which keys a commit changed. */
static void note_changes(struct world *world, const struct operation *operation)
{
    for (int i = 0; i < WORLD_TXNS; i++) {
        if (!world->live.txn_open[i])
            continue;
        if (operation->kind != OPERATION_TXN_COMMIT) {
            model_put(&world->models.txn_changed[i], key_of(operation), "", 0);
            continue;
        }
        const struct model *written = &world->models.txn_written[operation->slot];
        for (uint32_t j = 0; j < written->count; j++)
            model_put(&world->models.txn_changed[i], model_key(&written->entries[j]), "", 0);
    }
}

static void apply_success(struct world *world, const struct operation *operation)
{
    unsigned slot = operation->slot;
    struct model after;
    struct model_why why;
    switch (operation->kind) {
    case OPERATION_PUT:
    case OPERATION_DELETE:
    case OPERATION_TXN_COMMIT:
        model_init(&after);
        world_model_after(world, operation, &after);
        note_changes(world, operation);
        model_free(&world->models.committed);
        world->models.committed = after;
        break;
    case OPERATION_TXN_BEGIN:
        model_copy(&world->models.txn_views[slot], &world->models.committed);
        model_free(&world->models.txn_written[slot]);
        model_free(&world->models.txn_changed[slot]);
        break;
    case OPERATION_TXN_PUT:
    case OPERATION_TXN_DELETE:
        write_to(world, operation, &world->models.txn_views[slot]);
        model_put(&world->models.txn_written[slot], key_of(operation), "", 0);
        break;
    case OPERATION_SNAPSHOT_OPEN:
        model_copy(&world->models.snapshots[slot], &world->models.committed);
        break;
    case OPERATION_CURSOR_OPEN:
        model_copy(&world->models.cursor, &world->models.committed);
        world->models.cursor_at = 0;
        break;
    case OPERATION_REMOUNT:
    case OPERATION_RELOAD:
        world_forget_handles(world);
        world_recognise(world, &why); /* if it holds none of them, comparing will show it */
        break;
    default:
        break;
    }
    world_decide(world);
}

void world_apply(struct world *world, const struct operation *operation, int result)
{
    world->models.step++;
    world->models.last_result = result;
    if (operation->kind == OPERATION_CURSOR_MOVE)
        world->models.cursor_at = cursor_target(world, operation);
    if (result == EKV_FULL || result == EKV_PINNED)
        world->models.full_streak = 8;
    if (result == EKV_OK)
        apply_success(world, operation);
    else if (world->live.db &&
             world->live.db->unclean) /* refused before the recovery was through: that is to come */
        world->models.outcomes.since = world->nor.now.operations;
}

/* Says in whose eyes it differs. */
static bool in_view(struct model_why *why, const char *view, int slot)
{
    struct model_why plain = *why;
    snprintf(why->text, sizeof why->text, "%s %d: %.200s", view, slot, plain.text);
    return false;
}

bool world_verify(struct world *world, struct model_why *why)
{
    if (!model_equals_store(&world->models.committed, world->live.db, why))
        return false;
    for (int i = 0; i < WORLD_TXNS; i++)
        if (world->live.txn_open[i] &&
            !model_equals_txn(&world->models.txn_views[i], &world->live.txns[i], why))
            return in_view(why, "transaction", i);
    for (int i = 0; i < WORLD_SNAPSHOTS; i++)
        if (world->live.snapshot_open[i] &&
            !model_equals_snapshot(&world->models.snapshots[i], &world->live.snapshots[i], why))
            return in_view(why, "snapshot", i);
    return true;
}

/* --- One step -------------------------------------------------------------------------------- */

bool world_step(struct world *world, struct model_why *why)
{
    struct operation operation;
    world_plan(world, &operation);
    int result = world_execute(world, &operation);
    if (!world_accept(world, &operation, result, why))
        return false;
    world_apply(world, &operation, result);
    return true;
}

void world_describe(const struct operation *operation, char *text, size_t size)
{
    static const char *const names[] = {
        "put",         "delete",       "txn begin",     "txn put",        "txn delete",
        "txn commit",  "txn abort",    "snapshot open", "snapshot close", "cursor open",
        "cursor move", "cursor close", "work",          "sync",           "remount",
        "reload"};
    char key[24] = "";
    if (operation->kind <= OPERATION_TXN_DELETE && operation->kind != OPERATION_TXN_BEGIN)
        snprintf(key, sizeof key, " %u:%.*s", operation->space,
                 (int)(operation->key_size < 4 ? operation->key_size : 4),
                 (const char *)operation->key);
    snprintf(text, size, "%s%s (%u bytes, slot %u)", names[operation->kind], key,
             (unsigned)operation->value_size, operation->slot);
}

/* --- Snapshots of the world ------------------------------------------------------------------ */

void world_snapshot_init(struct world_snapshot *snapshot, struct world *world)
{
    snapshot->nor = nor_snapshot_new(&world->nor);
    snapshot->arena = get_memory(world->arena_size);
    if (!snapshot->nor) {
        fprintf(stderr, "workload: no memory\n");
        exit(2);
    }
}

void world_snapshot_free(struct world_snapshot *snapshot)
{
    nor_snapshot_free(snapshot->nor);
    free(snapshot->arena);
}

void world_snapshot_take(struct world *world, struct world_snapshot *snapshot)
{
    nor_snapshot_take(&world->nor, snapshot->nor);
    snapshot->live = world->live;
    memcpy(snapshot->arena, world->arena, world->arena_size);
}

void world_snapshot_restore(struct world *world, const struct world_snapshot *snapshot)
{
    nor_snapshot_restore(&world->nor, snapshot->nor);
    world->live = snapshot->live;
    memcpy(world->arena, snapshot->arena, world->arena_size);
}
