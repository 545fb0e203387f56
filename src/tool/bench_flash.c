/* Hands every operation on to the simulated flash and adds what it cost to its area's tally. A
 * sector's kind is known from stamp B, which is the first thing programmed behind stamp A.
 */
#include "bench_flash.h"

#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "tool.h"

struct nor_counts bench_counts_between(const struct nor_counts *from, const struct nor_counts *to)
{
    return (struct nor_counts){
        to->reads - from->reads,       to->read_size - from->read_size,
        to->programs - from->programs, to->programmed_size - from->programmed_size,
        to->erases - from->erases,     to->time - from->time};
}

void bench_counts_add(struct nor_counts *sum, const struct nor_counts *more)
{
    sum->reads += more->reads;
    sum->read_size += more->read_size;
    sum->programs += more->programs;
    sum->programmed_size += more->programmed_size;
    sum->erases += more->erases;
    sum->time += more->time;
}

const char *bench_area_name(enum bench_area area)
{
    static const char *const names[] = {"stamps", "log", "index", "manifest", "stale"};
    return names[area];
}

static enum bench_area area_of(const struct bench_flash *bench, uint32_t address)
{
    uint32_t size = bench->flash.geometry.sector_size;
    return address % size < bench->body_offset ? BENCH_STAMPS
                                               : (enum bench_area)bench->kinds[address / size];
}

static void charge(struct bench_flash *bench, enum bench_area area, const struct nor_counts *before)
{
    struct nor_counts cost = bench_counts_between(before, &bench->nor->now.counts);
    bench_counts_add(&bench->tally[area], &cost);
}

static int bench_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    struct bench_flash *bench = context;
    const struct ekv_flash *flash = &bench->nor->flash;
    struct nor_counts before = bench->nor->now.counts;
    int error = flash->driver->read(flash->context, address, buffer, size);
    charge(bench, area_of(bench, address), &before);
    return error;
}

static int bench_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    struct bench_flash *bench = context;
    const struct ekv_flash *flash = &bench->nor->flash;
    struct nor_counts before = bench->nor->now.counts;
    uint32_t sector_size = flash->geometry.sector_size;
    int error = flash->driver->program(flash->context, address, data, size);
    if (address % sector_size == bench->stamp_b_offset) {
        uint8_t kind = *(const uint8_t *)data;
        bench->kinds[address / sector_size] = kind == EKV_KIND_LOG     ? BENCH_LOG
                                              : kind == EKV_KIND_INDEX ? BENCH_INDEX
                                                                       : BENCH_MANIFEST;
    }
    charge(bench, area_of(bench, address), &before);
    return error;
}

static int bench_erase(void *context, uint32_t sector)
{
    struct bench_flash *bench = context;
    const struct ekv_flash *flash = &bench->nor->flash;
    struct nor_counts before = bench->nor->now.counts;
    int error = flash->driver->erase(flash->context, sector);
    charge(bench, (enum bench_area)bench->kinds[sector], &before);
    bench->kinds[sector] = BENCH_STALE;
    return error;
}

static const struct ekv_flash_driver driver = {
    .read = bench_read, .program = bench_program, .erase = bench_erase};

void bench_flash_init(struct bench_flash *bench, struct nor *nor, uint64_t store_id)
{
    struct ekv_format format;
    memset(bench, 0, sizeof *bench);
    ekv_format_init(&format, &nor->flash.geometry, store_id);
    bench->flash = (struct ekv_flash){nor->flash.geometry, &driver, bench, NULL};
    bench->nor = nor;
    bench->stamp_b_offset = ekv_stamp_b_offset(&format);
    bench->body_offset = format.body_offset;
    bench->kinds = allocate(nor->flash.geometry.sector_count);
    memset(bench->kinds, BENCH_STALE, nor->flash.geometry.sector_count);
}

void bench_flash_free(struct bench_flash *bench)
{
    free(bench->kinds);
}
