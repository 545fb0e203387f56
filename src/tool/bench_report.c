/* What a replay has found out, as a table and as JSON lines. */
#define _GNU_SOURCE
#include <string.h>

#include "bench_replay.h"

/* The least time that `percent` of the operations did not exceed. */
static uint64_t percentile(const struct replay_phase *phase, unsigned percent)
{
    if (phase->time_count == 0)
        return 0;
    size_t rank = (phase->time_count * percent + 99) / 100;
    return phase->times[rank > 0 ? rank - 1 : 0];
}

static double milliseconds(uint64_t nanoseconds)
{
    return (double)nanoseconds / 1e6;
}

static double ratio(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0.0;
}

static struct replay_phase sum_up(const struct replay_result *result)
{
    struct replay_phase sum = {.name = "all"};
    for (uint32_t i = 0; i < result->phase_count; i++) {
        const struct replay_phase *phase = &result->phases[i];
        sum.ops += phase->ops;
        sum.counts.reads += phase->counts.reads;
        sum.counts.read_size += phase->counts.read_size;
        sum.counts.programs += phase->counts.programs;
        sum.counts.programmed_size += phase->counts.programmed_size;
        sum.counts.erases += phase->counts.erases;
        sum.counts.time += phase->counts.time;
        sum.put_size += phase->put_size;
        sum.got_size += phase->got_size;
        sum.bound += phase->bound;
    }
    return sum;
}

static uint64_t worst_of(const struct replay_result *result)
{
    uint64_t worst = 0;
    for (uint32_t i = 1; i < result->phase_count; i++)
        if (percentile(&result->phases[i], 100) > worst)
            worst = percentile(&result->phases[i], 100);
    return worst;
}

static void print_ratio(const char *format, uint64_t part, uint64_t whole)
{
    if (whole)
        printf(format, (double)part / (double)whole);
    else
        printf(" %6s", "-");
}

static void print_row(const struct replay_phase *phase, bool whole)
{
    const struct nor_counts *counts = &phase->counts;
    printf("%-15s %7llu %12.3f", phase->name, (unsigned long long)phase->ops,
           milliseconds(counts->time));
    print_ratio(" %6.2f", counts->time, phase->bound);
    printf(" %9llu %12llu %8llu %11llu %6llu", (unsigned long long)counts->reads,
           (unsigned long long)counts->read_size, (unsigned long long)counts->programs,
           (unsigned long long)counts->programmed_size, (unsigned long long)counts->erases);
    if (whole)
        printf(" %9s %9s %9s", "", "", "");
    else
        printf(" %9.3f %9.3f %9.3f", milliseconds(percentile(phase, 50)),
               milliseconds(percentile(phase, 99)), milliseconds(percentile(phase, 100)));
    print_ratio(" %6.2f", counts->programmed_size, phase->put_size);
    print_ratio(" %6.2f", counts->read_size, phase->got_size);
    putchar('\n');
}

static void print_areas(const struct replay_result *result)
{
    for (int area = 0; area < BENCH_AREA_COUNT; area++) {
        const struct nor_counts *counts = &result->areas[area];
        printf("  %-13s %7s %12.3f %6s %9llu %12llu %8llu %11llu %6llu\n",
               bench_area_name((enum bench_area)area), "", milliseconds(counts->time), "",
               (unsigned long long)counts->reads, (unsigned long long)counts->read_size,
               (unsigned long long)counts->programs, (unsigned long long)counts->programmed_size,
               (unsigned long long)counts->erases);
    }
}

void replay_print_table(struct replay_result *result)
{
    struct replay_phase sum = sum_up(result);
    printf("%s, %s flash of %s, sectors of %s, write unit %llu, %zu bytes of memory",
           result->trace->name, result->options.aged ? "aged" : "fresh",
           size_text(result->options.flash_size), size_text(result->options.sector_size),
           (unsigned long long)result->options.write_unit, result->memory_size);
    if (result->transaction_size)
        printf(" and %zu for transactions", result->transaction_size);
    printf("; times in ms of flash\n\n%-15s %7s %12s %6s %9s %12s %8s %11s %6s %9s %9s %9s %6s "
           "%6s\n",
           "phase", "ops", "flash", "/bound", "reads", "bytes", "programs", "bytes", "erases",
           "p50", "p99", "worst", "write", "read");
    for (uint32_t i = 0; i < result->phase_count; i++)
        print_row(&result->phases[i], false);
    print_row(&sum, true);
    printf("of which\n");
    print_areas(result);
    printf("\nlower bound %.3f s, taken %.3f s: %.3f times as long; worst operation %.3f ms\n"
           "wear %u erases of a sector at most, %.2f on average\n"
           "memory %zu bytes with a memtable of %u keys\n"
           "flash in use %s at most, live records %s at most\n"
           "%llu flushes, %llu merges, %llu sectors collected\n",
           milliseconds(sum.bound) / 1e3, milliseconds(sum.counts.time) / 1e3,
           ratio(sum.counts.time, sum.bound), milliseconds(worst_of(result)), result->wear_max,
           result->wear_mean, result->memory_size, result->memtable_count,
           size_text(result->used_max), size_text(result->live_max),
           (unsigned long long)result->flushes, (unsigned long long)result->merges,
           (unsigned long long)result->collections);
}

/* --- JSON ------------------------------------------------------------------------------------ */

static json_t *area_cost(const struct nor_counts *counts)
{
    return json_pack("{s:f, s:I, s:I, s:I, s:I, s:I}", "flash_ms", milliseconds(counts->time),
                     "reads", (json_int_t)counts->reads, "read_bytes",
                     (json_int_t)counts->read_size, "programs", (json_int_t)counts->programs,
                     "program_bytes", (json_int_t)counts->programmed_size, "erases",
                     (json_int_t)counts->erases);
}

static json_t *cost(const struct replay_phase *phase)
{
    const struct nor_counts *counts = &phase->counts;
    json_t *object =
        json_pack("{s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:I}", "ops", (json_int_t)phase->ops,
                  "flash_ms", milliseconds(counts->time), "bound_ms", milliseconds(phase->bound),
                  "reads", (json_int_t)counts->reads, "read_bytes", (json_int_t)counts->read_size,
                  "programs", (json_int_t)counts->programs, "program_bytes",
                  (json_int_t)counts->programmed_size, "erases", (json_int_t)counts->erases);
    if (phase->put_size)
        json_object_set_new(object, "write_amplification",
                            json_real(ratio(counts->programmed_size, phase->put_size)));
    if (phase->got_size)
        json_object_set_new(object, "read_amplification",
                            json_real(ratio(counts->read_size, phase->got_size)));
    return object;
}

static void print_phase(const struct replay_result *result, const struct replay_phase *phase)
{
    json_t *object = json_pack("{s:s}", "schema", "ekv.bench.phase.1");
    json_set_bytes(object, "trace", result->trace->name, strlen(result->trace->name));
    json_set_bytes(object, "phase", phase->name, strlen(phase->name));
    json_add(object, cost(phase));
    json_add(object,
             json_pack("{s:f, s:f, s:f, s:I, s:I, s:I}", "worst_op_ms",
                       milliseconds(percentile(phase, 100)), "p50_ms",
                       milliseconds(percentile(phase, 50)), "p99_ms",
                       milliseconds(percentile(phase, 99)), "samples",
                       (json_int_t)phase->time_count, "put_bytes", (json_int_t)phase->put_size,
                       "got_bytes", (json_int_t)phase->got_size));
    json_line(object);
}

void replay_print_json(struct replay_result *result)
{
    struct replay_phase sum = sum_up(result);
    for (uint32_t i = 0; i < result->phase_count; i++)
        print_phase(result, &result->phases[i]);
    json_t *object = json_pack("{s:s}", "schema", "ekv.bench.run.1");
    json_set_bytes(object, "run", result->trace->name, strlen(result->trace->name));
    json_add(object,
             json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "aged", (int)result->options.aged,
                       "flash_size", (json_int_t)result->options.flash_size, "sector_size",
                       (json_int_t)result->options.sector_size, "write_unit",
                       (json_int_t)result->options.write_unit, "memory",
                       (json_int_t)result->memory_size, "transaction_memory",
                       (json_int_t)result->transaction_size, "memtable_count",
                       (json_int_t)result->memtable_count));
    json_add(object, cost(&sum));
    json_add(object,
             json_pack("{s:f, s:f, s:I, s:f, s:I, s:I, s:I, s:I, s:I}", "bound_ratio",
                       ratio(sum.counts.time, sum.bound), "worst_op_ms",
                       milliseconds(worst_of(result)), "wear_max", (json_int_t)result->wear_max,
                       "wear_mean", result->wear_mean, "flash_used_max",
                       (json_int_t)result->used_max, "live_max", (json_int_t)result->live_max,
                       "flushes", (json_int_t)result->flushes, "merges", (json_int_t)result->merges,
                       "collections", (json_int_t)result->collections));
    json_t *areas = json_object();
    for (int area = 0; area < BENCH_AREA_COUNT; area++)
        json_object_set_new(areas, bench_area_name((enum bench_area)area),
                            area_cost(&result->areas[area]));
    json_object_set_new(object, "areas", areas);
    json_line(object);
}
