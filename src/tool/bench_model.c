/* The model of a replay: the oracle for what is read, and the lower bound for what it costs.
 *
 * The lower bound of a phase, in flash time, is what is left when an engine has no index, no
 * headers, no checksums, and collects no garbage:
 *
 *     30 us for each page of 256 bytes that a durable transaction touches: its payload / 256,
 *           rounded up. A put or del outside of begin and commit is a transaction of its own.
 *   + 1.45 us for each byte of payload: the key's and value's bytes of the last write of each key
 *           in the transaction; a del counts its key.
 *   + 45 ms for each 4096 bytes of payload that need an erased place: on an aged chip all of them,
 *           on a fresh one what is written beyond the flash's size.
 *   + one read (1 us + 0.02 us a byte) of each value that is got, and of each live one for a scan.
 *     What is absent, format and reopen cost nothing.
 */
#include "bench_model.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAGE_SIZE = 256,
    PROGRAM_TIME = 30000,
    PROGRAM_BYTE_TIME = 1450,
    ERASE_TIME = 45000000,
    ERASE_SIZE = 4096,
    READ_TIME = 1000,
    READ_BYTE_TIME = 20,
};

void model_init(struct model *model, const struct trace *trace, uint64_t blank_size)
{
    *model = (struct model){.trace = trace, .batch = 1, .blank_size = blank_size};
    model->values = allocate(trace->key_count * sizeof *model->values);
    memset(model->values, 0, trace->key_count * sizeof *model->values);
    model->expected = allocate(trace->value_size_max);
}

void model_free(struct model *model)
{
    free(model->values);
    free(model->expected);
}

static void count_write(struct model *model, uint32_t key, uint64_t size)
{
    struct model_value *value = &model->values[key];
    if (value->batch == model->batch)
        model->batch_size -= value->batch_size;
    value->batch = model->batch;
    value->batch_size = size;
    model->batch_size += size;
}

void model_put(struct model *model, uint32_t key, uint32_t size, uint64_t seed)
{
    struct model_value *value = &model->values[key];
    model->live_count += !value->live;
    value->live = true;
    value->size = size;
    value->seed = seed;
    count_write(model, key, (uint64_t)model->trace->keys[key].size + size);
}

void model_delete(struct model *model, uint32_t key)
{
    struct model_value *value = &model->values[key];
    model->live_count -= value->live;
    value->live = false;
    count_write(model, key, model->trace->keys[key].size);
}

uint64_t model_commit(struct model *model)
{
    uint64_t size = model->batch_size;
    uint64_t before =
        model->payload_size > model->blank_size ? model->payload_size : model->blank_size;
    model->payload_size += size;
    uint64_t erased = model->payload_size > before ? model->payload_size - before : 0;
    model->batch++;
    model->batch_size = 0;
    return (size + PAGE_SIZE - 1) / PAGE_SIZE * PROGRAM_TIME + size * PROGRAM_BYTE_TIME +
           erased * (uint64_t)ERASE_TIME / ERASE_SIZE;
}

uint64_t model_read_bound(uint32_t size)
{
    return READ_TIME + (uint64_t)READ_BYTE_TIME * size;
}

bool model_matches(struct model *model, uint32_t key, const uint8_t *bytes, size_t size)
{
    const struct model_value *value = &model->values[key];
    if (!value->live || value->size != size)
        return false;
    trace_value(value->seed, model->expected, value->size);
    return memcmp(bytes, model->expected, size) == 0;
}
