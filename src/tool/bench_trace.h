/* A key-value workload in memory, as tests/bench/mktrace.py writes it.
 *
 * One operation a line:
 *
 *     phase NAME          figures are counted afresh from here and reported under NAME
 *     put KEY SIZE SEED   store SIZE bytes, made from SEED
 *     get KEY             read it, or find that it is absent
 *     del KEY             remove it
 *     begin, commit       the puts and dels between them are one transaction
 *     reopen              unmount and mount again
 *     scan                visit every live key once, with its value
 */
#ifndef EKV_TOOL_BENCH_TRACE_H
#define EKV_TOOL_BENCH_TRACE_H

#include "tool.h"

enum trace_kind {
    TRACE_PHASE, /* `key`: index into phase_names */
    TRACE_PUT,
    TRACE_GET,
    TRACE_DELETE,
    TRACE_BEGIN,
    TRACE_COMMIT,
    TRACE_REOPEN,
    TRACE_SCAN,
};

#define TRACE_NO_KEY UINT32_MAX

struct trace_step {
    uint8_t kind;
    uint32_t key; /* index into keys */
    uint32_t size;
    uint32_t line;
    uint64_t seed;
};

struct trace_key {
    char *bytes;
    uint32_t size;
};

struct trace {
    char name[64]; /* of the file, without directory and ".trace" */
    struct trace_step *steps;
    size_t step_count;
    struct trace_key *keys;
    uint32_t key_count;
    char **phase_names;
    uint32_t phase_count;
    uint32_t value_size_max;
    uint32_t key_size_max;
    uint32_t transaction_count_max; /* most puts and dels between begin and commit */
    uint32_t *slots;                /* hash table of keys */
    uint32_t slot_count;
};

/* Reads a trace; says in which line it is wrong. Free it in any case. */
bool trace_read(const struct tool *tool, struct trace *trace, const char *path);
void trace_free(struct trace *trace);

/* Index of a key, or TRACE_NO_KEY. */
uint32_t trace_find(const struct trace *trace, const void *bytes, size_t size);

/* Makes the value of a put: byte i is (seed * 2654435761 + i * 40503) >> 7. */
void trace_value(uint64_t seed, uint8_t *bytes, uint32_t size);

#endif
