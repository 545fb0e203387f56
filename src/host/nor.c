/* The simulated NOR flash. Owns four planes of one byte for each byte of flash:
 *
 *   bytes        what a read gives
 *   others       what it may give instead; equal to `bytes` where the flash is stable
 *   byte_states  whether the byte may be programmed
 *   attempts     what the cut program of a byte in state BYTE_CUT was to write
 *
 * Invariants: a byte in BYTE_ERASED is 0xff in both planes; a sector without SECTOR_UNSTABLE has
 * equal planes; a sector without SECTOR_CHANGED is the same as in `base`.
 */
#include "nor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTE_STALE, BYTE_ERASED, BYTE_PROGRAMMED, BYTE_CUT };
enum { SECTOR_UNSTABLE = 1, SECTOR_CHANGED = 2 };
enum {
    PLANE_COUNT = 4,
    PAGE_SIZE = 256,
    READ_TIME = 1000,
    READ_BYTE_TIME = 20,
    PROGRAM_TIME = 30000,
    PROGRAM_BYTE_TIME = 1450,
    ERASE_TIME = 45000000,
    ERASE_TIME_SIZE = 4096,
};

struct nor_snapshot {
    struct nor_state state;
    size_t size;
    uint8_t *planes;
    uint8_t *sector_states;
    uint32_t *erase_counts;
};

/* --- Chance ---------------------------------------------------------------------------------- */

/* splitmix64: any seed is as good as another. */
static uint64_t draw(struct nor *nor)
{
    uint64_t z = nor->now.random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void nor_seed(struct nor *nor, uint64_t seed)
{
    nor->now.random = seed;
}

uint64_t nor_random(struct nor *nor, uint64_t limit)
{
    return limit == 0 ? 0 : draw(nor) % limit;
}

/* A byte of which each bit is set with a chance of 1 in 2^rarity. */
static uint8_t draw_bits(struct nor *nor, unsigned rarity)
{
    uint64_t bits = draw(nor);
    uint8_t mask = 0xff;
    for (unsigned i = 0; i < rarity; i++)
        mask &= (uint8_t)(bits >> (8 * i));
    return mask;
}

/* --- Illegal use ----------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3), noreturn)) static void illegal(struct nor *nor,
                                                                    const char *format, ...)
{
    char sentence[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    if (nor->illegal)
        nor->illegal(nor->illegal_context, sentence);
    fprintf(stderr, "nor: %s\n", sentence);
    abort();
}

static const char *state_name(uint8_t state)
{
    static const char *const names[] = {"not known to be erased", "erased", "programmed before",
                                        "programmed before, with other bytes, when power was cut"};
    return names[state];
}

static void check_program(struct nor *nor, uint32_t address, const uint8_t *data, uint32_t size)
{
    const struct ekv_geometry *geometry = &nor->flash.geometry;
    uint32_t total = ekv_flash_size(&nor->flash);
    if (address > total || size > total - address)
        illegal(nor, "program of %u bytes at 0x%x is out of bounds", size, address);
    if (size == 0 || address % geometry->write_unit != 0 || size % geometry->write_unit != 0)
        illegal(nor, "program of %u bytes at 0x%x does not keep to the write unit of %u", size,
                address, geometry->write_unit);
    for (uint32_t i = 0; i < size; i++) {
        uint8_t state = nor->byte_states[address + i];
        bool again =
            state == BYTE_CUT && !geometry->program_once && nor->attempts[address + i] == data[i];
        if (state != BYTE_ERASED && !again)
            illegal(nor, "program of %u bytes at 0x%x, where 0x%x is %s", size, address,
                    address + i, state_name(state));
    }
}

/* --- Failures and cuts ----------------------------------------------------------------------- */

static bool fails(struct nor *nor, unsigned operation, uint32_t address, uint32_t size)
{
    uint32_t sector_size = nor->flash.geometry.sector_size;
    uint32_t first = address / sector_size;
    uint32_t last = (address + (size ? size - 1 : 0)) / sector_size;
    bool failed = false;
    for (uint32_t i = 0; i < nor->now.failure_count; i++) {
        struct nor_failure *failure = &nor->now.failures[i];
        if (!(failure->operations & operation) || failure->times == 0)
            continue;
        if (failure->sector != NOR_ANY_SECTOR &&
            (failure->sector < first || failure->sector > last))
            continue;
        if (failure->after > 0) {
            failure->after--;
            continue;
        }
        if (failure->times != NOR_FOR_GOOD)
            failure->times--;
        failed = failure->met = true;
    }
    return failed;
}

/* Counts the operation; true when it is the one that loses the power. */
static bool is_cut(struct nor *nor)
{
    nor->now.operations++;
    if (nor->now.cut_in == 0 || --nor->now.cut_in > 0)
        return false;
    nor->now.powered = false;
    if (nor->now.cut_mode == NOR_CUT_RANDOM)
        nor->now.cut_mode = (enum nor_cut)nor_random(nor, NOR_CUT_COUNT);
    return true;
}

static void mark(struct nor *nor, uint32_t address, uint32_t size, uint8_t states)
{
    uint32_t sector_size = nor->flash.geometry.sector_size;
    for (uint32_t sector = address / sector_size; sector <= (address + size - 1) / sector_size;
         sector++)
        nor->sector_states[sector] |= states;
}

static void set_byte(struct nor *nor, uint32_t address, uint8_t byte, uint8_t other)
{
    nor->bytes[address] = byte;
    nor->others[address] = other;
}

/* What is left of a program that did not return well. */
static void tear_program(struct nor *nor, uint32_t address, const uint8_t *data, uint32_t size,
                         enum nor_cut mode)
{
    uint32_t prefix = (uint32_t)nor_random(nor, (uint64_t)size + 1);
    unsigned rarity = (unsigned)nor_random(nor, 4);
    bool shaky = nor_random(nor, 2) == 0;
    for (uint32_t i = 0; i < size; i++) {
        uint8_t old = nor->bytes[address + i], old_other = nor->others[address + i];
        uint8_t want = old & data[i], mask;
        switch (mode) {
        case NOR_CUT_BYTES:
            if (i < prefix)
                set_byte(nor, address + i, want, old_other & data[i]);
            break;
        case NOR_CUT_BITS:
            mask = draw_bits(nor, 1);
            set_byte(nor, address + i, want | (old & mask), (old_other & (data[i] | mask)));
            break;
        case NOR_CUT_GARBLED:
            mask = (uint8_t)~draw_bits(nor, rarity);
            set_byte(nor, address + i, old & mask, shaky ? old & draw_bits(nor, 1) : old & mask);
            break;
        case NOR_CUT_UNSTABLE:
            mask = draw_bits(nor, rarity);
            set_byte(nor, address + i, want, want | (old & mask));
            break;
        case NOR_CUT_COMPLETE:
            set_byte(nor, address + i, want, old_other & data[i]);
            break;
        default:
            break;
        }
    }
    mark(nor, address, size, SECTOR_CHANGED | SECTOR_UNSTABLE);
}

/* What is left of an erase that did not return well. */
static void tear_erase(struct nor *nor, uint32_t address, uint32_t size, enum nor_cut mode)
{
    bool first_half = nor_random(nor, 2) == 0;
    unsigned rarity = (unsigned)nor_random(nor, 12);
    bool shaky = nor_random(nor, 2) == 0;
    for (uint32_t i = 0; i < size; i++) {
        uint8_t old = nor->bytes[address + i], byte;
        switch (mode) {
        case NOR_CUT_BYTES:
            if ((i < size / 2) == first_half)
                set_byte(nor, address + i, 0xff, 0xff);
            break;
        case NOR_CUT_BITS:
            byte = old | draw_bits(nor, 1);
            set_byte(nor, address + i, byte, byte);
            break;
        case NOR_CUT_GARBLED:
            byte = draw_bits(nor, 1);
            set_byte(nor, address + i, byte, shaky ? draw_bits(nor, 1) : byte);
            break;
        case NOR_CUT_UNSTABLE:
            byte = rarity < 6 ? (uint8_t)~draw_bits(nor, rarity) : old;
            set_byte(nor, address + i, 0xff, byte);
            break;
        case NOR_CUT_COMPLETE:
            set_byte(nor, address + i, 0xff, 0xff);
            break;
        default:
            break;
        }
    }
    memset(nor->byte_states + address, BYTE_STALE, size);
    mark(nor, address, size, SECTOR_CHANGED | SECTOR_UNSTABLE);
}

/* --- The driver ------------------------------------------------------------------------------ */

/* Reads bytes that may be unstable: one read in two shows what the cut operation was to leave. */
static void read_unstable(struct nor *nor, uint32_t address, uint8_t *buffer, uint32_t size)
{
    unsigned style = (unsigned)nor_random(nor, 8);
    for (uint32_t i = 0; i < size; i++) {
        uint8_t byte = nor->bytes[address + i];
        uint8_t shaky = byte ^ nor->others[address + i];
        if (shaky == 0 || style < 4)
            buffer[i] = byte;
        else if (style == 4)
            buffer[i] = byte ^ shaky;
        else
            buffer[i] = byte ^ (shaky & draw_bits(nor, 2 * (style - 5) + 1));
    }
}

static int nor_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    struct nor *nor = context;
    uint32_t total = ekv_flash_size(&nor->flash);
    if (address > total || size > total - address)
        illegal(nor, "read of %u bytes at 0x%x is out of bounds", size, address);
    if (!nor->now.powered)
        return -1;
    if (nor->now.read_limit > 0 && --nor->now.read_limit == 0)
        illegal(nor, "more reads than allowed: the engine hangs");
    nor->now.counts.reads++;
    nor->now.counts.read_size += size;
    nor->now.counts.time += READ_TIME + (uint64_t)READ_BYTE_TIME * size;
    if (fails(nor, NOR_READ, address, size))
        return -1;
    if (size == 0)
        return 0;
    bool unstable = false;
    uint32_t sector_size = nor->flash.geometry.sector_size;
    for (uint32_t sector = address / sector_size; sector <= (address + size - 1) / sector_size;
         sector++)
        unstable |= nor->sector_states[sector] & SECTOR_UNSTABLE;
    if (unstable)
        read_unstable(nor, address, buffer, size);
    else
        memcpy(buffer, nor->bytes + address, size);
    return 0;
}

static int nor_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    struct nor *nor = context;
    if (!nor->now.powered)
        return -1;
    check_program(nor, address, data, size);
    bool cut = is_cut(nor);
    bool failed = fails(nor, NOR_PROGRAM, address, size);
    if (cut || failed) {
        enum nor_cut mode = cut ? nor->now.cut_mode : (enum nor_cut)nor_random(nor, NOR_CUT_COUNT);
        tear_program(nor, address, data, size, mode);
        memset(nor->byte_states + address, failed ? BYTE_STALE : BYTE_CUT, size);
        memcpy(nor->attempts + address, data, size);
        return -1;
    }
    const uint8_t *byte = data;
    for (uint32_t i = 0; i < size; i++)
        set_byte(nor, address + i, nor->bytes[address + i] & byte[i],
                 nor->others[address + i] & byte[i]);
    memset(nor->byte_states + address, BYTE_PROGRAMMED, size);
    mark(nor, address, size, SECTOR_CHANGED);
    uint64_t pages = (address + size - 1) / PAGE_SIZE - address / PAGE_SIZE + 1;
    nor->now.counts.programs += pages;
    nor->now.counts.programmed_size += size;
    nor->now.counts.time += PROGRAM_TIME * pages + (uint64_t)PROGRAM_BYTE_TIME * size;
    return 0;
}

static int nor_erase(void *context, uint32_t sector)
{
    struct nor *nor = context;
    uint32_t size = nor->flash.geometry.sector_size, address = sector * size;
    if (sector >= nor->flash.geometry.sector_count)
        illegal(nor, "erase of sector %u is out of bounds", sector);
    if (!nor->now.powered)
        return -1;
    bool cut = is_cut(nor);
    bool failed = fails(nor, NOR_ERASE, address, size);
    if (cut || failed) {
        tear_erase(nor, address, size,
                   cut ? nor->now.cut_mode : (enum nor_cut)nor_random(nor, NOR_CUT_COUNT));
        return -1;
    }
    memset(nor->bytes + address, 0xff, size);
    memset(nor->others + address, 0xff, size);
    memset(nor->byte_states + address, BYTE_ERASED, size);
    nor->sector_states[sector] = SECTOR_CHANGED;
    nor->erase_counts[sector]++;
    nor->now.counts.erases++;
    nor->now.counts.time +=
        (uint64_t)ERASE_TIME * (size > ERASE_TIME_SIZE ? size / ERASE_TIME_SIZE : 1);
    return 0;
}

static const struct ekv_flash_driver driver = {
    .read = nor_read, .program = nor_program, .erase = nor_erase};

/* --- Life ------------------------------------------------------------------------------------ */

bool nor_init(struct nor *nor, const struct ekv_geometry *geometry, enum nor_start start,
              uint64_t seed)
{
    memset(nor, 0, sizeof *nor);
    nor->flash = (struct ekv_flash){*geometry, &driver, nor, NULL};
    size_t size = ekv_flash_size(&nor->flash);
    nor->block = malloc(size * PLANE_COUNT);
    nor->sector_states = calloc(geometry->sector_count, 1);
    nor->erase_counts = calloc(geometry->sector_count, sizeof *nor->erase_counts);
    if (!nor->block || !nor->sector_states || !nor->erase_counts) {
        nor_free(nor);
        return false;
    }
    nor->bytes = nor->block;
    nor->others = nor->block + size;
    nor->byte_states = nor->block + 2 * size;
    nor->attempts = nor->block + 3 * size;
    nor->now.random = seed;
    nor->now.powered = true;
    memset(nor->block, 0xff, size * PLANE_COUNT);
    memset(nor->byte_states, start == NOR_FRESH ? BYTE_ERASED : BYTE_STALE, size);
    for (size_t i = 0; start == NOR_AGED && i < size; i++)
        nor->bytes[i] = nor->others[i] = draw_bits(nor, 1);
    return true;
}

void nor_free(struct nor *nor)
{
    free(nor->block);
    free(nor->sector_states);
    free(nor->erase_counts);
    memset(nor, 0, sizeof *nor);
}

void nor_map(struct nor *nor)
{
    nor->flash.map = nor->bytes;
}

void nor_cut_at(struct nor *nor, uint64_t operation, enum nor_cut mode)
{
    nor->now.cut_in = operation;
    nor->now.cut_mode = mode;
}

void nor_power_on(struct nor *nor)
{
    nor->now.powered = true;
    nor->now.cut_in = 0;
    if (!nor->flash.map)
        return;
    uint32_t size = nor->flash.geometry.sector_size;
    for (uint32_t sector = 0; sector < nor->flash.geometry.sector_count; sector++) {
        if (!(nor->sector_states[sector] & SECTOR_UNSTABLE))
            continue;
        for (uint32_t address = sector * size; address < (sector + 1) * size; address++) {
            uint8_t was = nor->bytes[address];
            read_unstable(nor, address, &nor->bytes[address], 1);
            nor->others[address] ^= was ^ nor->bytes[address];
        }
        nor->sector_states[sector] |= SECTOR_CHANGED;
    }
}

bool nor_is_unstable(const struct nor *nor)
{
    uint32_t size = nor->flash.geometry.sector_size;
    for (uint32_t sector = 0; sector < nor->flash.geometry.sector_count; sector++)
        if ((nor->sector_states[sector] & SECTOR_UNSTABLE) &&
            memcmp(nor->bytes + sector * size, nor->others + sector * size, size) != 0)
            return true;
    return false;
}

void nor_fail(struct nor *nor, struct nor_failure failure)
{
    if (nor->now.failure_count == NOR_FAILURE_COUNT)
        illegal(nor, "more than %d failures are planned", NOR_FAILURE_COUNT);
    nor->now.failures[nor->now.failure_count++] = failure;
}

void nor_fail_none(struct nor *nor)
{
    nor->now.failure_count = 0;
}

void nor_read_limit(struct nor *nor, uint64_t reads)
{
    nor->now.read_limit = reads == 0 ? 0 : reads + 1;
}

void nor_count_reset(struct nor *nor)
{
    memset(&nor->now.counts, 0, sizeof nor->now.counts);
    memset(nor->erase_counts, 0, nor->flash.geometry.sector_count * sizeof *nor->erase_counts);
}

void nor_flip(struct nor *nor, uint32_t address, uint8_t bits)
{
    nor->bytes[address] ^= bits;
    nor->others[address] ^= bits;
    if (nor->byte_states[address] == BYTE_ERASED && nor->bytes[address] != 0xff)
        nor->byte_states[address] = BYTE_STALE;
    mark(nor, address, 1, SECTOR_CHANGED);
}

/* --- Snapshots ------------------------------------------------------------------------------- */

struct nor_snapshot *nor_snapshot_new(struct nor *nor)
{
    uint32_t count = nor->flash.geometry.sector_count;
    struct nor_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot)
        return NULL;
    if (nor->base == snapshot) /* the place of one that was freed */
        nor->base = NULL;
    snapshot->size = ekv_flash_size(&nor->flash);
    snapshot->planes = malloc(snapshot->size * PLANE_COUNT);
    snapshot->sector_states = malloc(count);
    snapshot->erase_counts = malloc(count * sizeof *snapshot->erase_counts);
    if (!snapshot->planes || !snapshot->sector_states || !snapshot->erase_counts) {
        nor_snapshot_free(snapshot);
        return NULL;
    }
    return snapshot;
}

void nor_snapshot_free(struct nor_snapshot *snapshot)
{
    if (!snapshot)
        return;
    free(snapshot->planes);
    free(snapshot->sector_states);
    free(snapshot->erase_counts);
    free(snapshot);
}

static void copy_sector(uint8_t *to, const uint8_t *from, size_t plane, uint32_t sector,
                        uint32_t size)
{
    for (size_t i = 0; i < PLANE_COUNT; i++) {
        size_t offset = i * plane + (size_t)sector * size;
        memcpy(to + offset, from + offset, size);
    }
}

/* Taking is restoring in the other direction: both leave flash and snapshot equal. */
void nor_snapshot_take(struct nor *nor, struct nor_snapshot *snapshot)
{
    const struct ekv_geometry *geometry = &nor->flash.geometry;
    for (uint32_t sector = 0; sector < geometry->sector_count; sector++) {
        if (nor->base == snapshot && !(nor->sector_states[sector] & SECTOR_CHANGED))
            continue;
        copy_sector(snapshot->planes, nor->block, snapshot->size, sector, geometry->sector_size);
        nor->sector_states[sector] &= (uint8_t)~SECTOR_CHANGED;
    }
    memcpy(snapshot->sector_states, nor->sector_states, geometry->sector_count);
    memcpy(snapshot->erase_counts, nor->erase_counts,
           geometry->sector_count * sizeof *nor->erase_counts);
    snapshot->state = nor->now;
    nor->base = snapshot;
}

void nor_snapshot_restore(struct nor *nor, const struct nor_snapshot *snapshot)
{
    const struct ekv_geometry *geometry = &nor->flash.geometry;
    for (uint32_t sector = 0; sector < geometry->sector_count; sector++) {
        if (nor->base == snapshot && !(nor->sector_states[sector] & SECTOR_CHANGED))
            continue;
        copy_sector(nor->block, snapshot->planes, snapshot->size, sector, geometry->sector_size);
    }
    memcpy(nor->sector_states, snapshot->sector_states, geometry->sector_count);
    memcpy(nor->erase_counts, snapshot->erase_counts,
           geometry->sector_count * sizeof *nor->erase_counts);
    nor->now = snapshot->state;
    nor->base = snapshot;
}

/* --- Files ----------------------------------------------------------------------------------- */

bool nor_save(const struct nor *nor, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        return false;
    size_t size = ekv_flash_size(&nor->flash);
    bool written = fwrite(nor->bytes, 1, size, file) == size;
    return fclose(file) == 0 && written;
}

bool nor_load(struct nor *nor, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    size_t size = ekv_flash_size(&nor->flash);
    bool whole = fread(nor->bytes, 1, size, file) == size && fgetc(file) == EOF;
    fclose(file);
    if (!whole) {
        errno = EINVAL;
        return false;
    }
    memcpy(nor->others, nor->bytes, size);
    for (size_t i = 0; i < size; i++)
        nor->byte_states[i] = nor->bytes[i] == 0xff ? BYTE_ERASED : BYTE_PROGRAMMED;
    memset(nor->sector_states, SECTOR_CHANGED, nor->flash.geometry.sector_count);
    return true;
}
