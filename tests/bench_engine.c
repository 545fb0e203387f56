/* Times ekv beside other embedded engines, in processor time: one engine, one number of keys, all
 * workloads of a job in order, a line of CSV each. tests/bench/engine.py runs it for all of them.
 *
 * Every value is made from its key's number and the number of its version, and verified wherever it
 * is read, inside what is timed: the same for all engines. After each workload that writes, the
 * store is walked once more (untimed) and must hold just the keys and values that it should.
 *
 * The jobs: `db` is db_bench's of LevelDB (keys of 16 bytes, values of 100), but every key is
 * filled once, in random order, so that the store has as many as were asked for. `flashkv` is
 * Flash-KV's benchmark: keys of 13 bytes, values of 15.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/engine.h"

enum { KEY_SIZE_MAX = 20, VALUE_SIZE_MAX = 100, POOL_SIZE = 1 << 16, OPENS = 5, STATS = 1000 };

struct job {
    const char *name;
    uint32_t key_size, value_size;
    void (*run)(void);
};

static struct {
    const struct job *job;
    const struct engine *engine;
    struct engine_options options;
    void *store;
    uint32_t keys;
    uint32_t *versions; /* of each key, 0: it is not there */
    uint32_t present;
    uint64_t random;
    uint8_t pool[POOL_SIZE + VALUE_SIZE_MAX];
    struct timespec wall, processor;
} bench;

/* --- Small parts ----------------------------------------------------------------------------- */

void engine_fail(const char *engine, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "bench_engine: %s: ", engine);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

const char *engine_path(const struct engine_options *options, const char *name)
{
    static char path[4096];
    int size = snprintf(path, sizeof path, "%s/%s", options->folder, name);
    if (size < 0 || (size_t)size >= sizeof path)
        engine_fail(name, "the folder's name is too long");
    return path;
}

void *engine_allocate(size_t size)
{
    void *memory = calloc(1, size ? size : 1);
    if (!memory)
        engine_fail("memory", "%zu bytes are not there", size);
    return memory;
}

/* splitmix64 */
static uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

static uint32_t below(uint32_t limit)
{
    bench.random += 0x9e3779b97f4a7c15u;
    return (uint32_t)((mix(bench.random) >> 32) * limit >> 32);
}

/* Decimal digits of `number` at the end of `size` bytes that hold '0' so far. */
static void digits(char *bytes, uint32_t size, uint32_t number)
{
    for (; number > 0; number /= 10)
        bytes[--size] = (char)('0' + number % 10);
}

static uint32_t make_key(char *bytes, uint32_t number)
{
    uint32_t size = bench.job->key_size;
    memcpy(bytes, size == 13 ? "key-0000000000000000" : "00000000000000000000", KEY_SIZE_MAX);
    digits(bytes, size, number);
    return size;
}

/* The number of a key that make_key made. */
static uint32_t number_of(const char *bytes)
{
    uint32_t number = 0;
    for (uint32_t i = bench.job->key_size == 13 ? 4 : 0; i < bench.job->key_size; i++)
        number = number * 10 + (uint32_t)(bytes[i] - '0');
    return number;
}

/* Bytes that look random: their place in the pool tells key and version. */
static const uint8_t *value_of(uint32_t number, uint32_t version)
{
    return bench.pool + mix((uint64_t)number << 32 | version) % POOL_SIZE;
}

static void begin(void)
{
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &bench.processor);
    clock_gettime(CLOCK_MONOTONIC, &bench.wall);
}

static double since(clockid_t clock, const struct timespec *begun)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)(now.tv_sec - begun->tv_sec) * 1e9 + (double)(now.tv_nsec - begun->tv_nsec);
}

static void end(const char *workload, uint32_t operations)
{
    double wall = since(CLOCK_MONOTONIC, &bench.wall);
    double processor = since(CLOCK_PROCESS_CPUTIME_ID, &bench.processor);
    printf("%s,%s,%" PRIu32 ",%s,%" PRIu32 ",%.1f,%.1f\n", bench.engine->name, bench.job->name,
           bench.keys, workload, operations, processor / operations, wall / operations);
    fflush(stdout);
}

static _Noreturn void wrong(const char *what, uint32_t number)
{
    engine_fail(bench.engine->name, "%s: key %" PRIu32, what, number);
}

/* By these names profilers find what is timed. */
#define WORKLOAD static __attribute__((noinline))

/* --- Operations ------------------------------------------------------------------------------ */

static void put(uint32_t number)
{
    char key[KEY_SIZE_MAX];
    uint32_t size = make_key(key, number);
    bench.present += bench.versions[number] == 0;
    const uint8_t *value = value_of(number, ++bench.versions[number]);
    bench.engine->put(bench.store, key, size, value, bench.job->value_size);
}

static void get(uint32_t number)
{
    char key[KEY_SIZE_MAX];
    uint8_t value[VALUE_SIZE_MAX];
    size_t size = 0;
    uint32_t key_size = make_key(key, number);
    bool found = bench.engine->get(bench.store, key, key_size, value, sizeof value, &size);
    if (found != (bench.versions[number] > 0))
        wrong(found ? "found what is not there" : "not found", number);
    if (found && (size != bench.job->value_size ||
                  memcmp(value, value_of(number, bench.versions[number]), size) != 0))
        wrong("another value", number);
}

static void delete_key(uint32_t number)
{
    char key[KEY_SIZE_MAX];
    uint32_t size = make_key(key, number);
    bench.present -= bench.versions[number] > 0;
    bench.versions[number] = 0;
    bench.engine->remove(bench.store, key, size);
}

struct walk {
    bool backwards;
    uint32_t count;
    uint32_t last;
};

static void visit(void *context, const void *key, size_t key_size, const void *value, size_t size)
{
    struct walk *walk = context;
    if (key_size != bench.job->key_size)
        engine_fail(bench.engine->name, "a key of %zu bytes", key_size);
    uint32_t number = number_of(key);
    if (walk->count > 0 && (walk->backwards ? number >= walk->last : number <= walk->last))
        wrong("out of order", number);
    if (number >= bench.keys || bench.versions[number] == 0)
        wrong("walked over what is not there", number);
    if (value && (size != bench.job->value_size ||
                  memcmp(value, value_of(number, bench.versions[number]), size) != 0))
        wrong("walked over another value", number);
    walk->last = number;
    walk->count++;
}

WORKLOAD uint32_t read_in_order(bool backwards, bool keys_only)
{
    struct walk walk = {.backwards = backwards};
    bench.engine->scan(bench.store, backwards, keys_only, visit, &walk);
    if (walk.count != bench.present)
        engine_fail(bench.engine->name, "%" PRIu32 " keys walked over, not %" PRIu32, walk.count,
                    bench.present);
    return walk.count;
}

/* --- Workloads ------------------------------------------------------------------------------- */

static void start_fresh(void)
{
    if (bench.store)
        bench.engine->close(bench.store);
    memset(bench.versions, 0, bench.keys * sizeof bench.versions[0]);
    bench.present = 0;
    bench.random = 1;
    bench.store = bench.engine->open(&bench.options, true);
}

WORKLOAD void fill_in_order(void)
{
    for (uint32_t i = 0; i < bench.keys; i++)
        put(i);
}

/* All keys once, shuffled. */
static uint32_t *shuffled(void)
{
    uint32_t *order = engine_allocate(bench.keys * sizeof order[0]);
    for (uint32_t i = 0; i < bench.keys; i++) {
        uint32_t other = below(i + 1);
        order[i] = order[other];
        order[other] = i;
    }
    return order;
}

WORKLOAD void fill_at_random(const uint32_t *order)
{
    for (uint32_t i = 0; i < bench.keys; i++)
        put(order[i]);
}

WORKLOAD void overwrite(void)
{
    for (uint32_t i = 0; i < bench.keys; i++)
        put(below(bench.keys));
}

WORKLOAD void read_random(void)
{
    for (uint32_t i = 0; i < bench.keys; i++)
        get(below(bench.keys));
}

/* Keys between those that are there, as db_bench's: one byte longer. */
WORKLOAD void read_missing(void)
{
    for (uint32_t i = 0; i < bench.keys; i++) {
        char key[KEY_SIZE_MAX];
        uint8_t value[VALUE_SIZE_MAX];
        size_t size;
        uint32_t number = below(bench.keys), key_size = make_key(key, number);
        key[key_size++] = '.';
        if (bench.engine->get(bench.store, key, key_size, value, sizeof value, &size))
            wrong("found what never was", number);
    }
}

WORKLOAD void delete_random(void)
{
    for (uint32_t i = 0; i < bench.keys; i++)
        delete_key(below(bench.keys));
}

static void open_again(void)
{
    double processor = 0, wall = 0;
    for (int i = 0; i < OPENS; i++) {
        bench.engine->close(bench.store);
        begin();
        bench.store = bench.engine->open(&bench.options, false);
        wall += since(CLOCK_MONOTONIC, &bench.wall);
        processor += since(CLOCK_PROCESS_CPUTIME_ID, &bench.processor);
        get(below(bench.keys)); /* it is the store that was closed */
    }
    printf("%s,%s,%" PRIu32 ",open,%d,%.1f,%.1f\n", bench.engine->name, bench.job->name, bench.keys,
           OPENS, processor / OPENS, wall / OPENS);
}

static void run_db(void)
{
    start_fresh();
    begin();
    fill_in_order();
    end("fillseq", bench.keys);
    read_in_order(false, false);

    start_fresh();
    uint32_t *order = shuffled();
    begin();
    fill_at_random(order);
    end("fillrandom", bench.keys);
    free(order);
    read_in_order(false, false);
    begin();
    overwrite();
    end("overwrite", bench.keys);
    read_in_order(false, false);
    begin();
    read_random();
    end("readrandom", bench.keys);
    begin();
    read_missing();
    end("readmissing", bench.keys);
    begin();
    end("readseq", read_in_order(false, false));
    begin();
    end("readreverse", read_in_order(true, false));
    open_again();
    begin();
    delete_random();
    end("deleterandom", bench.keys);
    read_in_order(false, false);
}

WORKLOAD void stat_often(void)
{
    for (int i = 0; i < STATS; i++)
        (void)bench.engine->stat(bench.store);
}

WORKLOAD void get_missing(void)
{
    for (uint32_t i = 0; i < bench.keys; i++) {
        char key[KEY_SIZE_MAX];
        uint8_t value[VALUE_SIZE_MAX];
        size_t size;
        uint32_t number = bench.keys + below(bench.keys), key_size = make_key(key, number);
        if (bench.engine->get(bench.store, key, key_size, value, sizeof value, &size))
            wrong("found what never was", number);
    }
}

WORKLOAD void delete_in_order(void)
{
    for (uint32_t i = 0; i < bench.keys; i++)
        delete_key(i);
}

static void run_flashkv(void)
{
    start_fresh();
    fill_in_order();
    begin();
    overwrite();
    end("put", bench.keys);
    begin();
    read_random();
    end("get_hit", bench.keys);
    begin();
    get_missing();
    end("get_miss", bench.keys);
    begin();
    end("list_keys", read_in_order(false, true));
    begin();
    stat_often();
    end("stat", STATS);
    begin();
    delete_in_order();
    end("delete_hit", bench.keys);
    read_in_order(false, false);
}

/* --- Command line ---------------------------------------------------------------------------- */

static const struct job jobs[] = {{"db", 16, 100, run_db}, {"flashkv", 13, 15, run_flashkv}};

static const struct engine *const engines[] = {
    &engine_ekv_ram, &engine_ekv_image,
#ifdef EKV_BENCH_LMDB
    &engine_lmdb,
#endif
#ifdef EKV_BENCH_LEVELDB
    &engine_leveldb,
#endif
#ifdef EKV_BENCH_SQLITE
    &engine_sqlite,
#endif
};

enum { ENGINE_COUNT = sizeof engines / sizeof engines[0] };

static void list_engines(void)
{
    for (size_t i = 0; i < ENGINE_COUNT; i++)
        printf("%s: %s\n", engines[i]->name, engines[i]->settings);
}

static uint32_t number_or_fail(const char *text)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 0);
    if (errno || *end || end == text || number == 0 || number > UINT32_MAX)
        engine_fail(text, "is no number");
    return (uint32_t)number;
}

static void choose(const char *engine, const char *job)
{
    bench.job = NULL;
    bench.engine = NULL;
    for (size_t i = 0; i < ENGINE_COUNT; i++)
        if (strcmp(engines[i]->name, engine) == 0)
            bench.engine = engines[i];
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++)
        if (strcmp(jobs[i].name, job) == 0)
            bench.job = &jobs[i];
    if (!bench.engine)
        engine_fail(engine, "is not among the engines (--list)");
    if (!bench.job)
        engine_fail(job, "is no job: db or flashkv");
}

static void parse(int argc, char **argv)
{
    static const struct option options[] = {
        {"list", no_argument, NULL, 'l'},         {"engine", required_argument, NULL, 'e'},
        {"job", required_argument, NULL, 'j'},    {"keys", required_argument, NULL, 'n'},
        {"folder", required_argument, NULL, 'f'}, {"sector", required_argument, NULL, 's'},
        {"flash", required_argument, NULL, 'z'},  {"memtable", required_argument, NULL, 'm'},
        {"cache", required_argument, NULL, 'c'},  {NULL, 0, NULL, 0},
    };
    const char *engine = "ekv-ram", *job = "db";
    int option;
    bench.keys = 100000;
    bench.options.folder = ".";
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        switch (option) {
        case 'l':
            list_engines();
            exit(0);
        case 'e':
            engine = optarg;
            break;
        case 'j':
            job = optarg;
            break;
        case 'n':
            bench.keys = number_or_fail(optarg);
            break;
        case 'f':
            bench.options.folder = optarg;
            break;
        case 's':
            bench.options.sector_size = number_or_fail(optarg);
            break;
        case 'z':
            bench.options.flash_size = number_or_fail(optarg);
            break;
        case 'm':
            bench.options.memtable_count = number_or_fail(optarg);
            break;
        case 'c':
            bench.options.cache_count = number_or_fail(optarg);
            break;
        default:
            fprintf(stderr,
                    "bench_engine [--engine NAME] [--job db|flashkv] [--keys N] [--folder "
                    "DIR] [--sector SIZE] [--flash SIZE] [--memtable KEYS] [--cache KEYS] | "
                    "--list\n");
            exit(2);
        }
    }
    choose(engine, job);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    bench.options.keys = bench.keys;
    bench.options.payload_size =
        (uint64_t)bench.keys * (bench.job->key_size + bench.job->value_size);
    bench.versions = engine_allocate(bench.keys * sizeof bench.versions[0]);
    for (size_t i = 0; i < sizeof bench.pool; i++)
        bench.pool[i] = (uint8_t)mix(i + 1);
    bench.job->run();
    bench.engine->close(bench.store);
    free(bench.versions);
    return 0;
}
