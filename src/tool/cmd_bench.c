/* The words of `ekv bench ...`; what they do is in bench_*.c. */
#define _GNU_SOURCE
#include <string.h>

#include "bench_replay.h"
#include "tool.h"

enum { LETTER_AGED = 256, LETTER_MEMORY, LETTER_MEMTABLE };

static const struct option_spec options[] = {
    {"aged", LETTER_AGED, NULL, "every sector was used before and holds stale data"},
    {"memory", LETTER_MEMORY, "SIZE", "give the engine the largest memtable that fits"},
    {"memtable", LETTER_MEMTABLE, "N", "a memtable of N keys"},
    {"size", 's', "SIZE", "size of the flash (default: by the name of the trace)"},
    {"sector", 'b', "SIZE", "size of a sector (default 4096)"},
    {"write-unit", 'w', "N", "smallest number of bytes to program (default 1)"},
    {0},
};

/* The flash that each trace of mktrace.py is measured on. */
static uint64_t size_by_name(const char *name)
{
    static const struct {
        const char *name;
        uint64_t size;
    } sizes[] = {{"settings", 64 << 10},       {"small", 1024 << 10},  {"medium", 1024 << 10},
                 {"medium-batch", 1024 << 10}, {"large", 16384 << 10}, {"mixed", 1024 << 10}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(sizes[i].name, name) == 0)
            return sizes[i].size;
    return 0;
}

static bool take_option(struct tool *tool, struct replay_options *job, int option,
                        const char *value)
{
    switch (option) {
    case LETTER_AGED:
        return job->aged = true;
    case LETTER_MEMORY:
        return option_size(tool, "--memory", value, 1, UINT32_MAX, &job->memory_size);
    case LETTER_MEMTABLE:
        return option_size(tool, "--memtable", value, 1, INT32_MAX, &job->memtable_count);
    case 's':
        return option_size(tool, "--size", value, 1, UINT32_MAX, &job->flash_size);
    case 'b':
        return option_size(tool, "--sector", value, EKV_SECTOR_SIZE_MIN, EKV_SECTOR_SIZE_MAX,
                           &job->sector_size);
    default:
        return option_size(tool, "--write-unit", value, 1, EKV_WRITE_UNIT_MAX, &job->write_unit);
    }
}

static int replay(struct tool *tool, const char *path, struct replay_options *job)
{
    struct trace trace;
    struct replay_result result = {0};
    bool good = trace_read(tool, &trace, path);
    if (good && job->flash_size == 0 && (job->flash_size = size_by_name(trace.name)) == 0) {
        message(tool, "how large is the flash for '%s'? Say it with --size, such as --size 1M",
                trace.name);
        good = false;
    }
    if (good && job->flash_size % job->sector_size != 0) {
        message(tool, "--size %llu is no multiple of the sector of %llu",
                (unsigned long long)job->flash_size, (unsigned long long)job->sector_size);
        good = false;
    }
    if (good)
        good = replay_run(tool, &trace, job, &result);
    if (good && tool->json)
        replay_print_json(&result);
    else if (good)
        replay_print_table(&result);
    replay_free(&result);
    trace_free(&trace);
    return good ? STATUS_OK : STATUS_FAILED;
}

static int run(struct tool *tool)
{
    struct replay_options job = {.sector_size = 4096, .write_unit = 1};
    char **operands;
    int count, option;
    const char *value;
    while ((option = tool_option(tool, &value)) > 0)
        if (!take_option(tool, &job, option, value))
            return STATUS_FAILED;
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 1, 1, &operands, &count))
        return STATUS_FAILED;
    return replay(tool, operands[0], &job);
}

const struct command command_bench_replay = {
    .name = "bench replay",
    .operands = "TRACE",
    .summary = "Replay a trace on a simulated flash and print what it cost",
    .details =
        "Every get and scan is verified. The flash charges 1 us + 0.02 us a byte for a read,\n"
        "30 us + 1.45 us a byte for each page of 256 bytes programmed, 45 ms for an erase. The\n"
        "column /bound is against the least time that any engine could take. No image is used.\n"
        "tests/bench/mktrace.py writes the traces.\n",
    .options = options,
    .run = run,
};
