/* Fuzzing of hostile images: the input patches an image of a real store, the checksums of what was
 * patched are put right (or left wrong), and then everything that can be asked of a store is asked
 * of it. It may answer anything but must not crash, hang or assert.
 *
 *   tests/fuzz mount 600
 *
 * Input: one byte that chooses the image, one of flags, then patches of 6 bytes: where (3), how
 * (1), what (2). Where counts bytes of the flash or, with the top bit set, structures and offsets
 * in them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "format.h"
#include "workload.h"

enum {
    IMAGE_COUNT = 3,
    PIECES_MAX = 4000,
    HEAD = 2,
    PATCH = 6,
    RUN_IDS = 200,
    READ_LIMIT = 3000000
};
enum { FLAG_CHECKSUMS = 1, FLAG_MAP = 2, FLAG_READ_ONLY = 4 };
enum piece_kind { PIECE_STAMP_A, PIECE_STAMP_B, PIECE_RECORD, PIECE_FRAME, PIECE_PAGE };

/* A structure of the untouched image. */
struct piece {
    uint8_t kind;
    uint32_t address;
    uint32_t size;
    uint32_t run_id; /* pages */
};

struct base {
    struct ekv_format format;
    uint32_t size;
    uint8_t *bytes;
    struct piece *pieces;
    uint32_t piece_count;
};

static struct base bases[IMAGE_COUNT];

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- The images ------------------------------------------------------------------------------ */

static void add_piece(struct base *base, enum piece_kind kind, uint32_t address, uint32_t size,
                      uint32_t run_id)
{
    if (base->piece_count < PIECES_MAX)
        base->pieces[base->piece_count++] = (struct piece){(uint8_t)kind, address, size, run_id};
}

static uint32_t record_crc(const struct ekv_format *format, const uint8_t *sector,
                           uint32_t sequence, uint32_t offset, uint32_t size)
{
    uint32_t seed = ekv_format_seed(format, EKV_KIND_LOG, sequence, offset);
    return ekv_crc32c(seed, sector + offset, size - EKV_CRC_SIZE);
}

static void find_records(struct base *base, uint32_t address, uint32_t sequence)
{
    const struct ekv_format *format = &base->format;
    const uint8_t *sector = base->bytes + address;
    uint32_t offset = format->body_offset;
    while (offset + EKV_CRC_SIZE < format->geometry.sector_size) {
        struct ekv_record_layout layout;
        uint32_t room = format->geometry.sector_size - offset;
        if (ekv_record_head_decode(format, sector + offset, room, room, &layout) != EKV_OK)
            break;
        uint32_t crc = record_crc(format, sector, sequence, offset, layout.size);
        if (ekv_load32(sector + offset + layout.size - EKV_CRC_SIZE) != crc)
            break;
        add_piece(base, PIECE_RECORD, address + offset, layout.size, 0);
        offset += layout.size;
    }
}

static uint32_t frame_crc(const struct ekv_format *format, const uint8_t *sector, uint32_t sequence,
                          uint32_t offset, uint32_t size)
{
    uint32_t seed = ekv_format_seed(format, EKV_KIND_MANIFEST, sequence, offset);
    return ekv_crc32c(seed, sector + offset + 4, size - 4);
}

static void find_frames(struct base *base, uint32_t address, uint32_t sequence)
{
    const struct ekv_format *format = &base->format;
    const uint8_t *sector = base->bytes + address;
    for (uint32_t offset = format->body_offset; offset < format->geometry.sector_size;
         offset += format->alignment) {
        uint32_t room = ekv_page_room(offset);
        if (room < EKV_FRAME_HEAD_SIZE)
            continue;
        uint32_t size = (uint32_t)ekv_load(sector + offset + 5, 2) + EKV_FRAME_HEAD_SIZE;
        if (size <= room &&
            ekv_load32(sector + offset) == frame_crc(format, sector, sequence, offset, size))
            add_piece(base, PIECE_FRAME, address + offset, size, 0);
    }
}

static uint32_t page_crc(const struct ekv_format *format, const uint8_t *bytes, uint32_t run_id,
                         uint32_t address, uint32_t size)
{
    uint32_t seed = ekv_format_seed(format, EKV_KIND_INDEX, run_id, address);
    return ekv_crc32c(seed, bytes + address + EKV_CRC_SIZE, size - EKV_CRC_SIZE);
}

static void find_pages(struct base *base, uint32_t begin)
{
    const struct ekv_format *format = &base->format;
    for (uint32_t address = begin + format->body_offset;
         address < begin + format->geometry.sector_size; address += format->alignment) {
        uint32_t room = ekv_page_room(address);
        if (room < EKV_PAGE_HEAD_SIZE)
            continue;
        uint32_t size = base->bytes[address + 6] + 1u;
        if (size < EKV_PAGE_HEAD_SIZE || size > room)
            continue;
        for (uint32_t run_id = 1; run_id < RUN_IDS; run_id++)
            if (ekv_load32(base->bytes + address) ==
                page_crc(format, base->bytes, run_id, address, size))
                add_piece(base, PIECE_PAGE, address, size, run_id);
    }
}

static void find_pieces(struct base *base)
{
    const struct ekv_format *format = &base->format;
    for (uint32_t i = 0; i < format->geometry.sector_count; i++) {
        uint32_t address = i * format->geometry.sector_size;
        struct ekv_stamp_a a;
        struct ekv_stamp_b b;
        const uint8_t *second = base->bytes + address + ekv_stamp_b_offset(format);
        if (ekv_stamp_a_decode(base->bytes + address, &a) != EKV_OK)
            continue;
        add_piece(base, PIECE_STAMP_A, address, EKV_STAMP_A_SIZE, 0);
        if (ekv_stamp_b_decode(format, second, i, &b) != EKV_OK)
            continue;
        add_piece(base, PIECE_STAMP_B, address + ekv_stamp_b_offset(format), EKV_STAMP_B_SIZE, 0);
        if (b.kind == EKV_KIND_LOG)
            find_records(base, address, b.sequence);
        else if (b.kind == EKV_KIND_MANIFEST)
            find_frames(base, address, b.sequence);
        else
            find_pages(base, address);
    }
}

static void make_base(struct base *base, unsigned workload, const struct ekv_geometry *geometry,
                      uint32_t steps)
{
    static struct world world;
    struct world_options options = {.workload = workload, .geometry = *geometry, .seed = workload};
    struct model_why why;
    options.memtable_count = 8;
    world_init(&world, &options);
    if (world_format(&world) != EKV_OK || world_mount(&world, false) != EKV_OK)
        abort();
    for (uint32_t i = 0; i < steps; i++)
        if (!world_step(&world, &why))
            abort();
    base->size = ekv_flash_size(&world.nor.flash);
    base->bytes = malloc(base->size);
    base->pieces = calloc(PIECES_MAX, sizeof *base->pieces);
    if (!base->bytes || !base->pieces)
        abort();
    memcpy(base->bytes, world.nor.bytes, base->size);
    ekv_format_init(&base->format, geometry, options.seed);
    find_pieces(base);
    world_free(&world);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    static const struct ekv_geometry geometries[IMAGE_COUNT] = {
        {512, 16, 1, false}, {1024, 16, 4, false}, {512, 24, 8, false}};
    (void)count;
    (void)arguments;
    make_base(&bases[0], 0, &geometries[0], 150);
    make_base(&bases[1], 2, &geometries[1], 60);
    make_base(&bases[2], 1, &geometries[2], 120);
    return 0;
}

/* --- Patching -------------------------------------------------------------------------------- */

static void patch(const struct base *base, uint8_t *bytes, const uint8_t *how)
{
    uint32_t where = (uint32_t)ekv_load(how, 3), value = (uint32_t)ekv_load(how + 4, 2);
    if (where & 0x800000) {
        const struct piece *piece = &base->pieces[(where & 0xffff) % base->piece_count];
        where = piece->address + (where >> 16 & 0x7f) % piece->size;
    }
    where %= base->size;
    uint32_t size = 1u + (how[3] >> 4), other = value * 16 % base->size;
    size = size < base->size - where ? size : base->size - where;
    size = size < base->size - other ? size : base->size - other;
    switch (how[3] & 7) {
    case 0:
        bytes[where] = (uint8_t)value;
        break;
    case 1:
        bytes[where] ^= (uint8_t)(1u << (value & 7));
        break;
    case 2:
        bytes[where] += (uint8_t)value;
        break;
    case 3:
        memmove(bytes + where, base->bytes + other, size);
        break;
    case 4:
        memset(bytes + where, (uint8_t)value, size);
        break;
    case 5: { /* a whole sector over another one */
        uint32_t sector = base->format.geometry.sector_size;
        memmove(bytes + where / sector * sector, base->bytes + other / sector * sector, sector);
        break;
    }
    case 6: /* a pointer or length of two bytes */
        bytes[where] = (uint8_t)value;
        bytes[(where + 1) % base->size] = (uint8_t)(value >> 8);
        break;
    default: /* one structure over another of any kind */
        memmove(bytes + where, base->bytes + base->pieces[value % base->piece_count].address, size);
        break;
    }
}

/* Puts a checksum right, with the lengths and sequence numbers that the image now claims. */
static void fix_piece(const struct base *base, uint8_t *bytes, const struct piece *piece)
{
    const struct ekv_format *format = &base->format;
    uint32_t number = ekv_sector_of(format, piece->address);
    uint32_t offset = ekv_offset_of(format, piece->address);
    uint8_t *sector = bytes + piece->address - offset, *at = bytes + piece->address;
    uint32_t sequence = ekv_load32(sector + ekv_stamp_b_offset(format) + 1);
    uint32_t size = piece->size;
    struct ekv_record_layout layout;
    switch (piece->kind) {
    case PIECE_STAMP_A:
        ekv_store(at + 23, ekv_crc32c(0, at, 23), 4);
        break;
    case PIECE_STAMP_B:
        ekv_store(at + 14, ekv_crc32c(ekv_format_seed(format, 0, number, 0), at, 14), 4);
        break;
    case PIECE_RECORD:
        if (ekv_record_head_decode(format, at, format->geometry.sector_size - offset,
                                   format->geometry.sector_size - offset, &layout) == EKV_OK)
            size = layout.size;
        ekv_store(at + size - EKV_CRC_SIZE, record_crc(format, sector, sequence, offset, size), 4);
        break;
    case PIECE_FRAME:
        if (ekv_load(at + 5, 2) + EKV_FRAME_HEAD_SIZE <= ekv_page_room(piece->address))
            size = (uint32_t)ekv_load(at + 5, 2) + EKV_FRAME_HEAD_SIZE;
        ekv_store(at, frame_crc(format, sector, sequence, offset, size), 4);
        break;
    default:
        if (at[6] + 1u >= EKV_PAGE_HEAD_SIZE && at[6] + 1u <= ekv_page_room(piece->address))
            size = at[6] + 1u;
        ekv_store(at, page_crc(format, bytes, piece->run_id, piece->address, size), 4);
    }
}

/* Whether anything of the structure, or the stamp that its checksum depends on, was patched. */
static bool is_patched(const struct base *base, const uint8_t *bytes, const struct piece *piece)
{
    const struct ekv_format *format = &base->format;
    uint32_t stamp =
        piece->address - ekv_offset_of(format, piece->address) + ekv_stamp_b_offset(format);
    return memcmp(bytes + piece->address, base->bytes + piece->address, piece->size) != 0 ||
           memcmp(bytes + stamp, base->bytes + stamp, EKV_STAMP_B_SIZE) != 0;
}

/* --- A flash that refuses nothing ------------------------------------------------------------ */

struct ram {
    uint8_t *bytes;
    uint32_t size, sector_size;
    uint64_t reads;
};

static int ram_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    struct ram *ram = context;
    if (++ram->reads > READ_LIMIT) {
        fprintf(stderr, "fuzz_mount: more than %d reads: it hangs\n", READ_LIMIT);
        abort();
    }
    memcpy(buffer, ram->bytes + address, size);
    return 0;
}

static int ram_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    struct ram *ram = context;
    for (uint32_t i = 0; i < size; i++)
        ram->bytes[address + i] &= ((const uint8_t *)data)[i];
    return 0;
}

static int ram_erase(void *context, uint32_t sector)
{
    struct ram *ram = context;
    memset(ram->bytes + sector * ram->sector_size, 0xff, ram->sector_size);
    return 0;
}

static const struct ekv_flash_driver driver = {
    .read = ram_read, .program = ram_program, .erase = ram_erase};

/* --- Everything that can be asked ------------------------------------------------------------ */

/* Only a read of what was just handed out as there may not fail with "not found". */
static void walk(struct ekv *db, uint8_t space)
{
    struct ekv_cursor cursor;
    uint8_t buffer[600];
    size_t size;
    ekv_cursor_open(&cursor, db, space);
    for (int i = 0; i < 500 && ekv_cursor_next(&cursor) == EKV_OK; i++) {
        struct ekv_entry entry;
        if (ekv_cursor_key(&cursor, buffer, sizeof buffer, &size) == EKV_OK) {
            struct ekv_key key = model_key_of(buffer, size, space);
            (void)!ekv_find(db, key, &entry);
            (void)!ekv_get(db, key, 1, buffer + 300, 200, &size);
        }
        (void)!ekv_cursor_entry(&cursor, &entry);
        (void)!ekv_cursor_read(&cursor, 0, buffer, sizeof buffer, &size);
    }
    for (int i = 0; i < 500 && ekv_cursor_previous(&cursor) == EKV_OK; i++)
        (void)!ekv_cursor_key(&cursor, buffer, sizeof buffer, &size);
    ekv_cursor_close(&cursor);
}

static void on_finding(void *context, const struct ekv_finding *finding)
{
    (void)context;
    if (!finding->code || !finding->text)
        abort();
}

static void write_some(struct ekv *db)
{
    static uint8_t value[1500];
    static uint32_t memory[64];
    struct ekv_txn txn;
    bool more = true;
    for (uint32_t i = 0; i < 30; i++) {
        char name[16];
        int size = snprintf(name, sizeof name, "k%03u", i);
        if (i % 5 == 4)
            (void)!ekv_delete(db, ekv_key(name, (size_t)size));
        else
            (void)!ekv_put(db, ekv_key(name, (size_t)size), value, i % 7 == 3 ? 1500 : i);
    }
    if (ekv_txn_begin(&txn, db, memory, sizeof memory) == EKV_OK) {
        (void)!ekv_txn_put(&txn, ekv_key("t", 1), "one", 3);
        (void)!ekv_txn_put(&txn, ekv_key("u", 1), value, 700);
        (void)!ekv_txn_delete(&txn, ekv_key("k001", 4));
        if (ekv_txn_commit(&txn) != EKV_OK)
            ekv_txn_abort(&txn);
    }
    for (int i = 0; i < 50 && more; i++)
        if (ekv_work(db, &more) != EKV_OK)
            break;
}

static void use(struct ram *ram, const struct base *base, uint8_t flags)
{
    static uint64_t memory[16384];
    struct ekv_mount_options options = {.memtable_count = 16};
    struct ekv_flash flash = {{512, ram->size / 512, 1, false}, &driver, ram, NULL};
    struct ekv *db;
    options.read_only = flags & FLAG_READ_ONLY;
    if (flags & FLAG_MAP)
        flash.map = ram->bytes;
    if (ekv_probe(&flash) != EKV_OK)
        flash.geometry = base->format.geometry;
    ram->sector_size = flash.geometry.sector_size;
    for (int mounts = 0; mounts < 2; mounts++) {
        size_t needed = ekv_memory_size(&flash.geometry, &options);
        if (needed > sizeof memory ||
            ekv_mount(&db, &flash, &options, memory, sizeof memory) != EKV_OK)
            return;
        walk(db, EKV_USER);
        walk(db, EKV_ASIDE);
        (void)!ekv_check(db, on_finding, NULL);
        write_some(db);
        walk(db, EKV_USER);
        (void)!ekv_check(db, on_finding, NULL);
        (void)!ekv_unmount(db);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    const struct base *base = &bases[data[0] % IMAGE_COUNT];
    struct ram ram = {.bytes = malloc(base->size), .size = base->size};
    if (!ram.bytes)
        return 0;
    memcpy(ram.bytes, base->bytes, base->size);
    for (size_t at = HEAD; at + PATCH <= size; at += PATCH)
        patch(base, ram.bytes, data + at);
    /* Twice: a stamp that was put right changes what the records behind it must say. */
    for (uint32_t i = 0; (data[1] & FLAG_CHECKSUMS) && i < 2 * base->piece_count; i++) {
        const struct piece *piece = &base->pieces[i % base->piece_count];
        if (is_patched(base, ram.bytes, piece))
            fix_piece(base, ram.bytes, piece);
    }
    use(&ram, base, data[1]);
    free(ram.bytes);
    return 0;
}
