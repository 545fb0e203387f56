/* A trace replayed on the simulated flash: what it cost, phase by phase. */
#ifndef EKV_TOOL_BENCH_REPLAY_H
#define EKV_TOOL_BENCH_REPLAY_H

#include "bench_flash.h"
#include "bench_trace.h"

/* What a phase asked of the flash. Times in nanoseconds. A transaction, a reopen and a scan are one
 * sample of `times`, and so are a put, get or del outside of a transaction; `ops` counts the puts,
 * gets and dels themselves. */
struct replay_phase {
    const char *name;
    uint64_t ops;
    struct nor_counts counts;
    uint64_t put_size; /* key and value bytes that the trace put */
    uint64_t got_size; /* value bytes that it got or scanned */
    uint64_t bound;    /* the least time that any engine could take: see bench_model.c */
    uint64_t *times;   /* sorted in the end */
    size_t time_count;
    size_t time_capacity;
};

struct replay_options {
    uint64_t flash_size;
    uint64_t sector_size;
    uint64_t write_unit;
    uint64_t memory_size;    /* 0: what the engine takes for that geometry */
    uint64_t memtable_count; /* 0: as memory_size says */
    bool aged;
};

struct replay_result {
    const struct trace *trace;
    struct replay_options options;
    struct replay_phase *phases; /* the first is "format" */
    uint32_t phase_count;
    size_t memory_size;      /* what the engine was given */
    size_t transaction_size; /* what the transactions were given beside it */
    uint32_t memtable_count; /* keys that the memtable takes */
    uint32_t wear_max;
    double wear_mean;
    uint64_t used_max; /* bytes of the sectors in use, at most */
    uint64_t live_max; /* bytes of live records, at most */
    uint64_t flushes, merges, collections;
    struct nor_counts areas[BENCH_AREA_COUNT]; /* of the whole run, and of its last unmount */
};

/* Replays; says what went wrong when an operation failed or gave a wrong answer. Free the result in
 * any case. */
bool replay_run(const struct tool *tool, const struct trace *trace,
                const struct replay_options *options, struct replay_result *result);
void replay_free(struct replay_result *result);

/* Prints the result as a table, or as JSON lines. */
void replay_print_table(struct replay_result *result);
void replay_print_json(struct replay_result *result);

#endif
