/* Encoding and decoding of the on-flash format, one pair a structure; see format.h and FORMAT.md.
 */
#include "format.h"

#include <assert.h>
#include <string.h>

#include "crc32c.h"

uint32_t ekv_format_run_count_max(uint32_t sector_count)
{
    if (sector_count <= 8)
        return 6;
    if (sector_count <= 16)
        return 12;
    if (sector_count <= 64)
        return 16;
    return sector_count <= 256 ? 24 : 30;
}

/* The manifest's ring holds three checkpoints with room for edits behind each, and grows with the
 * flash so that its sectors wear no faster than others. */
static uint32_t ring_count(const struct ekv_format *format)
{
    uint32_t sector_count = format->geometry.sector_count;
    uint32_t checkpoint = 140 + 28 * ekv_format_run_count_max(sector_count) + 2 * sector_count;
    uint32_t room = format->geometry.sector_size - format->body_offset;
    uint32_t sectors = (checkpoint + checkpoint / 4 + room / 4 + room - 1) / room;
    return ekv_max(3 * sectors, 2 + sector_count / 128);
}

static uint8_t log2_of(uint32_t value)
{
    uint8_t log2 = 0;
    while (value > 1) {
        value >>= 1;
        log2++;
    }
    return log2;
}

static uint32_t close_room(const struct ekv_format *format)
{
    struct ekv_record_layout close = {.type = EKV_RECORD_CLOSE, .value_size = EKV_CLOSE_SIZE};
    struct ekv_record_layout open = {.type = EKV_RECORD_OPEN};
    ekv_record_measure(format, &close);
    ekv_record_measure(format, &open);
    return close.size + open.size;
}

void ekv_format_name(struct ekv_format *format, uint64_t store_id)
{
    uint8_t id[8];
    format->store_id = store_id;
    ekv_store(id, store_id, sizeof id);
    format->id_crc = ekv_crc32c(0, id, sizeof id);
}

void ekv_format_init(struct ekv_format *format, const struct ekv_geometry *geometry,
                     uint64_t store_id)
{
    uint64_t size = (uint64_t)geometry->sector_size * geometry->sector_count;
    format->geometry = *geometry;
    ekv_format_name(format, store_id);
    format->sector_shift = log2_of(geometry->sector_size);
    format->pointer_size = size > 64u << 20 ? 4 : 3;
    format->alignment = geometry->write_unit;
    while (format->pointer_size == 3 && size / format->alignment > 1u << 24)
        format->alignment *= 2;
    format->body_offset = ekv_align(ekv_stamp_b_offset(format) + EKV_STAMP_B_SIZE,
                                    ekv_max(geometry->write_unit, format->alignment));
    format->ring_count = ring_count(format);
    format->close_room = close_room(format);
}

uint32_t ekv_format_seed(const struct ekv_format *format, uint8_t kind, uint32_t sequence,
                         uint32_t offset)
{
    uint8_t bytes[1 + 4 + 4];
    bytes[0] = kind;
    ekv_store32(bytes + 1, sequence);
    ekv_store32(bytes + 5, offset);
    return ekv_crc32c(format->id_crc, bytes, sizeof bytes);
}

void ekv_pointer_store(const struct ekv_format *format, uint8_t *bytes, uint32_t address)
{
    assert(address % format->alignment == 0);
    ekv_store(bytes, address / format->alignment, format->pointer_size);
}

uint32_t ekv_pointer_load(const struct ekv_format *format, const uint8_t *bytes)
{
    uint32_t units = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16;
    if (format->pointer_size > 3)
        units |= (uint32_t)bytes[3] << 24;
    uint64_t address = (uint64_t)units * format->alignment;
    return address > UINT32_MAX ? UINT32_MAX : (uint32_t)address;
}

void ekv_stamp_a_encode(const struct ekv_stamp_a *stamp, uint8_t *bytes)
{
    memcpy(bytes, "ekv", 3);
    bytes[3] = EKV_FORMAT_VERSION | (stamp->geometry.program_once ? 0x80 : 0);
    bytes[4] = (uint8_t)(log2_of(stamp->geometry.sector_size / EKV_SECTOR_SIZE_MIN) << 4 |
                         log2_of(stamp->geometry.write_unit));
    ekv_store(bytes + 5, stamp->geometry.sector_count, 3);
    ekv_store(bytes + 8, stamp->store_id, 8);
    ekv_store(bytes + 16, stamp->sector, 3);
    ekv_store32(bytes + 19, stamp->erase_count);
    ekv_store32(bytes + 23, ekv_crc32c(0, bytes, 23));
}

int ekv_stamp_a_decode(const uint8_t *bytes, struct ekv_stamp_a *stamp)
{
    if (memcmp(bytes, "ekv", 3) != 0 || ekv_load32(bytes + 23) != ekv_crc32c(0, bytes, 23))
        return EKV_NO_STORE;
    if ((bytes[3] & 0x7f) != EKV_FORMAT_VERSION)
        return EKV_VERSION;
    if (bytes[4] >> 4 > 9)
        return EKV_GEOMETRY;
    stamp->geometry.sector_size = (uint32_t)EKV_SECTOR_SIZE_MIN << (bytes[4] >> 4);
    stamp->geometry.write_unit = 1u << (bytes[4] & 0x0f);
    stamp->geometry.program_once = bytes[3] & 0x80;
    stamp->geometry.sector_count = (uint32_t)ekv_load(bytes + 5, 3);
    stamp->store_id = ekv_load(bytes + 8, 8);
    stamp->sector = (uint32_t)ekv_load(bytes + 16, 3);
    stamp->erase_count = ekv_load32(bytes + 19);
    if (stamp->sector >= stamp->geometry.sector_count)
        return EKV_GEOMETRY;
    return ekv_geometry_check(&stamp->geometry);
}

/* Stamp B is checked with a seed of its own place, since its sequence number is what it tells. */
static uint32_t stamp_b_crc(const struct ekv_format *format, const uint8_t *bytes, uint32_t sector)
{
    return ekv_crc32c(ekv_format_seed(format, 0, sector, 0), bytes, EKV_STAMP_B_SIZE - 4);
}

void ekv_stamp_b_encode(const struct ekv_format *format, const struct ekv_stamp_b *stamp,
                        uint32_t sector, uint8_t *bytes)
{
    bytes[0] = stamp->kind;
    ekv_store32(bytes + 1, stamp->sequence);
    ekv_store(bytes + 5, stamp->next, 3);
    ekv_store(bytes + 8, stamp->virgin, 3);
    ekv_store(bytes + 11, stamp->previous_end, 3);
    ekv_store32(bytes + 14, stamp_b_crc(format, bytes, sector));
}

int ekv_stamp_b_decode(const struct ekv_format *format, const uint8_t *bytes, uint32_t sector,
                       struct ekv_stamp_b *stamp)
{
    stamp->kind = bytes[0];
    stamp->sequence = ekv_load32(bytes + 1);
    stamp->next = (uint32_t)ekv_load(bytes + 5, 3);
    stamp->virgin = (uint32_t)ekv_load(bytes + 8, 3);
    stamp->previous_end = (uint32_t)ekv_load(bytes + 11, 3);
    if (stamp->kind < EKV_KIND_LOG || stamp->kind > EKV_KIND_MANIFEST)
        return EKV_NOT_FOUND;
    if (ekv_load32(bytes + 14) != stamp_b_crc(format, bytes, sector))
        return EKV_NOT_FOUND;
    return EKV_OK;
}

/* Fills in the size from everything else. */
static void measure_body(const struct ekv_format *format, struct ekv_record_layout *layout)
{
    uint32_t content = ekv_record_ordinal_offset(layout) +
                       (ekv_type_is_counted(layout->type) ? EKV_RECORD_ORDINAL_SIZE : 0);
    layout->size = ekv_align(content + EKV_CRC_SIZE, format->alignment);
}

void ekv_record_measure(const struct ekv_format *format, struct ekv_record_layout *layout)
{
    layout->head_size = 1 + ekv_varint_size(layout->key_size) + ekv_varint_size(layout->value_size);
    measure_body(format, layout);
}

void ekv_record_head_encode(const struct ekv_record_layout *layout, uint8_t *bytes)
{
    uint32_t size = 0;
    bytes[size++] = layout->type;
    size += ekv_varint_store(bytes + size, layout->key_size);
    size += ekv_varint_store(bytes + size, layout->value_size);
    assert(size == layout->head_size);
}

int ekv_record_head_decode(const struct ekv_format *format, const uint8_t *bytes,
                           uint32_t available, uint32_t room, struct ekv_record_layout *layout)
{
    if (available < 3)
        return EKV_NOT_FOUND;
    uint8_t kind = bytes[0] & EKV_RECORD_KIND_MASK;
    if (kind < EKV_RECORD_PUT || kind > (EKV_RECORD_HEAD | EKV_RECORD_COUNTED))
        return EKV_NOT_FOUND;
    layout->type = bytes[0];
    uint32_t first = ekv_varint_load(bytes + 1, available - 1, &layout->key_size);
    if (first == 0)
        return EKV_NOT_FOUND;
    uint32_t second =
        ekv_varint_load(bytes + 1 + first, available - 1 - first, &layout->value_size);
    if (second == 0 || layout->key_size > room || layout->value_size > room)
        return EKV_NOT_FOUND;
    layout->head_size = 1 + first + second;
    measure_body(format, layout);
    return layout->size <= room ? EKV_OK : EKV_NOT_FOUND;
}

uint32_t ekv_format_record_size_max(const struct ekv_format *format)
{
    uint32_t room = format->geometry.sector_size - format->body_offset;
    room -= format->close_room;
    return room & ~(format->alignment - 1);
}

uint32_t ekv_format_key_size_max(const struct ekv_format *format)
{
    /* Room for a head, version, time, ordinal, and a value tree of one link. */
    uint32_t beside = 1 + ekv_varint_size(format->geometry.sector_size) + 1 + 1 + EKV_LINK_SIZE +
                      EKV_RECORD_VERSION_SIZE + EKV_RECORD_TIME_SIZE + EKV_RECORD_ORDINAL_SIZE +
                      EKV_CRC_SIZE;
    uint32_t size = ekv_format_record_size_max(format) - beside;
    return ekv_min(size, 65535);
}

uint32_t ekv_hash_begin(uint8_t space)
{
    return (2166136261u ^ space) * 16777619u;
}

uint32_t ekv_hash_update(uint32_t hash, const void *bytes, uint32_t size)
{
    const uint8_t *byte = bytes;
    for (uint32_t i = 0; i < size; i++)
        hash = (hash ^ byte[i]) * 16777619u;
    return hash;
}

uint32_t ekv_hash_end(uint32_t hash)
{
    hash ^= hash >> 16;
    hash *= 0x85ebca6bu;
    hash ^= hash >> 13;
    hash *= 0xc2b2ae35u;
    return hash ^ hash >> 16;
}
