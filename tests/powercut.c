/* The full search through power cuts, and the repetition of a single one.
 *
 *   powercut --full --minutes 20             all there is, seed by seed, for so long
 *   powercut                                 every workload on every geometry, nested once
 *   powercut --workload txn --stride 7 ...   a part of it
 *   powercut <what a VIOLATION line says>    that cut alone
 *
 * The last line is `N cuts tried, M violations`. Exit code 1 if there was a violation.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cuts.h"

enum { MIXED = 6 }; /* of workload_names */

struct request {
    struct cuts_options cuts;
    bool one_workload, one_geometry;
    bool format; /* cut the formatting of a chip on which the workload ran */
    bool full;
    uint32_t transaction; /* keys of one, 0: none */
    uint32_t minutes;     /* of processor time, after which no more is begun; 0: no limit */
    const char *readme;
    uint32_t seeds;
    uint32_t part, parts;
    const char *write_to;
};

static void usage(FILE *file)
{
    fprintf(
        file,
        "Usage: powercut [options]\n"
        "Cuts the power at every flash operation of each workload, in every mode, and again at\n"
        "every flash operation of what follows; the store must be as before or after.\n\n"
        "  --full                 every workload on every geometry, formats, runs by chance with "
        "cuts\n"
        "                         after cuts on 8 to 4096 sectors, a transaction of 10,000 keys\n"
        "  --minutes N            begin nothing more after N minutes of processor time\n"
        "  --readme FILE          write the last line into FILE, between its marks\n"
        "  --transaction KEYS     cut one transaction of so many keys\n"
        "  --workload NAME        small txn large full snapshot work mixed format (all)\n"
        "  --sectors COUNTxSIZE   a geometry, such as 16x512 (nine of them)\n"
        "  --unit BYTES           its write unit (1)\n"
        "  --once                 ... which can be programmed only once (ECC)\n"
        "  --seed N               of the workload and of what cuts leave (1)\n"
        "  --seeds N              so many seeds, from --seed on (1)\n"
        "  --memtable N           keys held in RAM (8)\n"
        "  --fresh                a blank chip instead of one full of stale bytes\n"
        "  --map                  reads in place, as from a memory-mapped chip\n"
        "  --clock                commits carry their time\n"
        "  --steps N              operations of a workload (200)\n"
        "  --depth N              cuts after a cut, 0 to 2 (1)\n"
        "  --follow N             operations after a cut (2)\n"
        "  --stride N             only every Nth cut (1)\n"
        "  --again-stride N       only every Nth cut after a cut (1)\n"
        "  --at STEP:OP:MODE      this cut alone; again for the cut after it\n"
        "  --skip MODE            leave out a mode: invisible bytes bits garbled unstable "
        "complete\n"
        "  --trace                tell every step on stderr\n"
        "  --part I/N             the I-th of N shares of the work, from 1\n"
        "  --stop N               end after N violations (0: never)\n"
        "  --write FILE           write the last line to FILE, too\n");
}

static void fail(const char *what, const char *text)
{
    fprintf(stderr, "powercut: %s: '%s' (see --help)\n", what, text);
    exit(2);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);
    if (end == text || *end)
        fail("this is no number", text);
    return value;
}

static void parse_at(struct cuts_options *cuts, const char *text)
{
    char mode[16];
    struct cuts_place place;
    if (cuts->only_count == CUTS_DEPTH_MAX)
        fail("this is one cut too many", text);
    if (sscanf(text, "%" SCNu32 ":%" SCNu64 ":%15s", &place.step, &place.operation, mode) != 3)
        fail("this is no STEP:OP:MODE", text);
    place.mode = cuts_mode_of(mode);
    if (place.mode == NOR_CUT_COUNT)
        fail("there is no such mode", mode);
    cuts->only[cuts->only_count++] = place;
}

static void parse_workload(struct request *request, const char *text)
{
    unsigned *workload = &request->cuts.world.workload;
    request->one_workload = true;
    request->format = strcmp(text, "format") == 0;
    if (request->format) {
        *workload = MIXED;
        return;
    }
    for (*workload = 0; *workload < workload_count; ++*workload)
        if (strcmp(text, workload_names[*workload]) == 0)
            return;
    fail("there is no such workload", text);
}

static bool parse_flag(struct request *request, const char *name)
{
    struct cuts_options *cuts = &request->cuts;
    if (strcmp(name, "--once") == 0)
        cuts->world.geometry.program_once = true;
    else if (strcmp(name, "--fresh") == 0)
        cuts->world.start = NOR_FRESH;
    else if (strcmp(name, "--full") == 0)
        request->full = true;
    else if (strcmp(name, "--trace") == 0)
        cuts->trace = true;
    else if (strcmp(name, "--map") == 0)
        cuts->world.map = true;
    else if (strcmp(name, "--clock") == 0)
        cuts->world.clock = true;
    else
        return false;
    return true;
}

static bool parse_number(struct request *request, const char *name, const char *text)
{
    struct cuts_options *cuts = &request->cuts;
    struct {
        const char *name;
        uint32_t *value;
    } numbers[] = {
        {"--unit", &cuts->world.geometry.write_unit},
        {"--seeds", &request->seeds},
        {"--minutes", &request->minutes},
        {"--transaction", &request->transaction},
        {"--memtable", &cuts->world.memtable_count},
        {"--steps", &cuts->steps},
        {"--depth", &cuts->depth},
        {"--follow", &cuts->follow},
        {"--stride", &cuts->stride},
        {"--again-stride", &cuts->again_stride},
        {"--stop", &cuts->violations_max},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strcmp(name, numbers[i].name) != 0)
            continue;
        *numbers[i].value = (uint32_t)number(text);
        return true;
    }
    return false;
}

static void parse_value(struct request *request, const char *name, const char *text)
{
    struct ekv_geometry *geometry = &request->cuts.world.geometry;
    if (strcmp(name, "--workload") == 0) {
        parse_workload(request, text);
    } else if (strcmp(name, "--sectors") == 0) {
        request->one_geometry = true;
        if (sscanf(text, "%" SCNu32 "x%" SCNu32, &geometry->sector_count, &geometry->sector_size) !=
            2)
            fail("this is no COUNTxSIZE", text);
    } else if (strcmp(name, "--seed") == 0) {
        request->cuts.world.seed = number(text);
    } else if (strcmp(name, "--at") == 0) {
        parse_at(&request->cuts, text);
    } else if (strcmp(name, "--skip") == 0) {
        if (cuts_mode_of(text) == NOR_CUT_COUNT)
            fail("there is no such mode", text);
        request->cuts.skip |= 1u << cuts_mode_of(text);
    } else if (strcmp(name, "--readme") == 0) {
        request->readme = text;
    } else if (strcmp(name, "--write") == 0) {
        request->write_to = text;
    } else if (strcmp(name, "--part") == 0) {
        if (sscanf(text, "%" SCNu32 "/%" SCNu32, &request->part, &request->parts) != 2 ||
            request->part < 1 || request->part > request->parts)
            fail("this is no I/N", text);
    } else if (!parse_number(request, name, text)) {
        fail("there is no such option", name);
    }
}

static void parse(struct request *request, int count, char **arguments)
{
    struct cuts_options *cuts = &request->cuts;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--help") == 0) {
            usage(stdout);
            exit(0);
        }
        if (parse_flag(request, arguments[i]))
            continue;
        if (i + 1 == count)
            fail("an option without its value, or none at all", arguments[i]);
        parse_value(request, arguments[i], arguments[i + 1]);
        i++;
    }
    if (cuts->depth >= CUTS_DEPTH_MAX || cuts->stride == 0 || cuts->again_stride == 0)
        fail("--depth is 0 to 2, a stride at least 1", "");
    if (request->one_geometry && ekv_geometry_check(&cuts->world.geometry) != EKV_OK)
        fail("no store fits this geometry", "--sectors");
    if (cuts->only_count > 0) {
        if (!request->transaction && (!request->one_workload || !request->one_geometry))
            fail("--at needs --workload and --sectors", "");
        cuts->depth = cuts->only_count - 1;
        if (!request->format)
            cuts->steps = cuts->only[0].step + 1;
    }
}

static void on_violation(const char *line)
{
    printf("%s\n", line);
    fflush(stdout);
}

static void add(struct cuts_result *total, const struct cuts_result *result)
{
    total->tried += result->tried;
    total->violations += result->violations;
}

static bool time_is_up(const struct request *request)
{
    return request->minutes > 0 && clock() / CLOCKS_PER_SEC >= (clock_t)request->minutes * 60;
}

static void run_one(struct request *request, struct cuts_result *total)
{
    struct cuts_options *cuts = &request->cuts;
    const struct ekv_geometry *geometry = &cuts->world.geometry;
    struct cuts_result result = {0};
    if (request->format)
        cuts_run_format(cuts, &result);
    else
        cuts_run(cuts, &result);
    printf("%-8s %4" PRIu32 " x %4" PRIu32 ", unit %3" PRIu32 "%s, seed %" PRIu64 ": %" PRIu64
           " flash operations, %" PRIu64 " cuts, %" PRIu64 " violations\n",
           request->format ? "format" : workload_names[cuts->world.workload],
           geometry->sector_count, geometry->sector_size, geometry->write_unit,
           geometry->program_once ? " once" : "", cuts->world.seed, result.operations, result.tried,
           result.violations);
    fflush(stdout);
    add(total, &result);
}

static void run_all(struct request *request, struct cuts_result *total)
{
    struct cuts_options *cuts = &request->cuts;
    uint64_t first_seed = cuts->world.seed;
    uint32_t share = 0;
    unsigned workloads = request->one_workload ? 1 : workload_count + 1;
    unsigned geometries = request->one_geometry ? 1 : workload_geometry_count;
    for (uint32_t seed = 0; seed < request->seeds; seed++) {
        for (unsigned geometry = 0; geometry < geometries; geometry++) {
            for (unsigned workload = 0; workload < workloads; workload++) {
                if (share++ % request->parts != request->part - 1)
                    continue;
                if (time_is_up(request))
                    return;
                cuts->world.seed = first_seed + seed;
                if (!request->one_geometry)
                    cuts->world.geometry = workload_geometries[geometry];
                if (!request->one_workload) {
                    request->format = workload == workload_count;
                    cuts->world.workload = request->format ? MIXED : workload;
                }
                run_one(request, total);
                if (cuts->violations_max > 0 && total->violations >= cuts->violations_max)
                    return;
            }
        }
    }
}

/* One transaction, cut at every --stride-th operation and mode. */
static void run_transaction(struct request *request, struct cuts_result *total)
{
    struct cuts_options cuts = request->cuts;
    struct cuts_result result = {0};
    uint32_t bytes = request->transaction * 96; /* a value in two pieces takes three hundred */
    cuts.world.workload = 0;
    cuts.world.memtable_count = 64;
    cuts.world.geometry = (struct ekv_geometry){4096, 16 + bytes / 4096, 1, false};
    cuts_run_transaction(&cuts, request->transaction, &result);
    printf("transaction of %" PRIu32 " keys, %" PRIu32 " x 4096, seed %" PRIu64 ": %" PRIu64
           " flash operations, %" PRIu64 " cuts, %" PRIu64 " violations\n",
           request->transaction, cuts.world.geometry.sector_count, cuts.world.seed,
           result.operations, result.tried, result.violations);
    fflush(stdout);
    add(total, &result);
}

static void run_random(const struct request *request, struct cuts_result *total)
{
    enum { RUNS = 100, STEPS = 400 };
    struct cuts_result result = {0};
    uint64_t first = request->cuts.world.seed * RUNS;
    for (uint64_t i = 0; i < RUNS && !time_is_up(request); i++)
        cuts_run_random(first + i, STEPS, on_violation, &result);
    printf("random runs from seed %" PRIu64 ": %" PRIu64 " cuts, %" PRIu64 " violations\n", first,
           result.tried, result.violations);
    fflush(stdout);
    add(total, &result);
}

/* Seed by seed: what is by chance first, since it meets most. Returns the seeds that were begun. */
static uint32_t run_full(struct request *request, struct cuts_result *total)
{
    uint32_t seeds = request->seeds, done = 0;
    uint64_t first = request->cuts.world.seed;
    uint32_t stride = request->cuts.stride;
    request->seeds = 1;
    for (; (done < seeds || request->minutes > 0) && !time_is_up(request); done++) {
        request->cuts.world.seed = first + done;
        run_random(request, total);
        request->cuts.stride = 199 * stride; /* of 9,500 cuts that take some 0.2 s each */
        request->transaction = 10000;
        run_transaction(request, total);
        request->cuts.stride = stride;
        request->transaction = 200;
        run_transaction(request, total);
        request->cuts.world.seed = first + done;
        request->cuts.world.memtable_count = 8u << done % 4;
        run_all(request, total);
    }
    return done;
}

/* Puts the line between the marks of a file. */
static void write_between_marks(const char *path, const char *line)
{
    static const char begin[] = "<!-- powercut: begin", end[] = "<!-- powercut: end -->";
    static char text[1 << 18];
    FILE *file = fopen(path, "r");
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (!file || fclose(file) != 0 || size == sizeof text - 1)
        fail("this file cannot be read", path);
    text[size] = 0;
    char *from = strstr(text, begin);
    from = from ? strchr(from, '\n') : NULL;
    char *to = from ? strstr(from, end) : NULL;
    if (!to)
        fail("there are no marks in this file", path);
    file = fopen(path, "w");
    if (!file || fwrite(text, 1, (size_t)(from + 1 - text), file) != (size_t)(from + 1 - text) ||
        fprintf(file, "%s\n%s", line, to) < 0 || fclose(file) != 0)
        fail("this file cannot be written", path);
}

int main(int count, char **arguments)
{
    struct request request = {.seeds = 1, .part = 1, .parts = 1};
    struct cuts_result total = {0};
    char line[300];
    request.cuts = (struct cuts_options){
        .steps = 200, .depth = 1, .follow = 2, .stride = 1, .again_stride = 1};
    request.cuts.report = on_violation;
    request.cuts.world.start = NOR_AGED;
    request.cuts.world.seed = 1;
    request.cuts.world.memtable_count = 8;
    request.cuts.world.geometry.write_unit = 1;
    parse(&request, count, arguments);
    uint32_t seeds = request.seeds;
    uint64_t first = request.cuts.world.seed;
    if (request.full)
        seeds = run_full(&request, &total);
    else if (request.transaction > 0)
        run_transaction(&request, &total);
    else
        run_all(&request, &total);
    int used = snprintf(line, sizeof line, "%" PRIu64 " cuts tried, %" PRIu64 " violations",
                        total.tried, total.violations);
    if (request.full)
        snprintf(line + used, sizeof line - (size_t)used,
                 " (--full --seed %" PRIu64 ", %" PRIu32 " seeds begun, every %" PRIu32
                 ". cut, every %" PRIu32 ". of those that follow one)",
                 first, seeds, request.cuts.stride, request.cuts.again_stride);
    if (request.write_to) {
        FILE *file = fopen(request.write_to, "w");
        if (!file || fprintf(file, "%s\n", line) < 0 || fclose(file) != 0)
            fail("this file cannot be written", request.write_to);
    }
    if (request.readme)
        write_between_marks(request.readme, line);
    puts(line);
    return total.violations > 0;
}
