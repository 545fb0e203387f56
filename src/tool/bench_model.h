/* What a trace has put so far, and the least flash time that it needs. */
#ifndef EKV_TOOL_BENCH_MODEL_H
#define EKV_TOOL_BENCH_MODEL_H

#include "bench_trace.h"

/* What the store must hold of a key. `batch` numbers the transaction that wrote it last. */
struct model_value {
    bool live;
    uint32_t size;
    uint64_t seed;
    uint64_t batch;
    uint64_t batch_size; /* what that transaction counts for the key */
};

struct model {
    const struct trace *trace;
    struct model_value *values;
    uint64_t live_count;
    uint64_t batch;        /* of the transaction that is open, or of the next single write */
    uint64_t batch_size;   /* bytes of the transaction so far */
    uint64_t payload_size; /* bytes of all transactions so far */
    uint64_t blank_size;   /* bytes of flash that need no erase */
    uint8_t *expected;     /* place for one value */
};

void model_init(struct model *model, const struct trace *trace, uint64_t blank_size);
void model_free(struct model *model);

/* Notes a write; `model_commit` ends the transaction and returns the least time it takes. */
void model_put(struct model *model, uint32_t key, uint32_t size, uint64_t seed);
void model_delete(struct model *model, uint32_t key);
uint64_t model_commit(struct model *model);

/* The least time to read a value of that size. */
uint64_t model_read_bound(uint32_t size);

/* Compares what the store gave with what it must hold. */
bool model_matches(struct model *model, uint32_t key, const uint8_t *bytes, size_t size);

#endif
