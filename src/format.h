/* The on-flash format: every offset, every encoding. FORMAT.md says the same in prose; nobody else
 * knows an offset.
 *
 * A sector begins with two stamps in write units of their own. Stamp A is written right after the
 * erase and proves it; stamp B puts the sector to use. A log sector then holds records, an index
 * sector pages, a manifest sector frames. Every checksum is seeded with the store id, the kind and
 * sequence number of the sector and the offset in it, so stale or moved bytes never validate.
 *
 * Decoders check every field against the geometry before they hand it out.
 */
#ifndef EKV_FORMAT_H
#define EKV_FORMAT_H

#include "bytes.h"
#include "flash.h"

enum {
    EKV_FORMAT_VERSION = 1,
    EKV_STAMP_A_SIZE = 27,
    EKV_STAMP_B_SIZE = 18,
    EKV_PAGE_SIZE = 256, /* program page: no program crosses its boundary */
    EKV_NO_SECTOR = 0xffffff,
    EKV_CRC_SIZE = 4,
};

/* Of a sector of the ring: a format has begun, the store is void. */
#define EKV_SEQUENCE_VOID UINT32_MAX

enum ekv_sector_kind { EKV_KIND_LOG = 1, EKV_KIND_INDEX = 2, EKV_KIND_MANIFEST = 3 };

/* What is derived from the geometry and the store's id once, and used everywhere. */
struct ekv_format {
    struct ekv_geometry geometry;
    uint64_t store_id;
    uint32_t alignment;    /* records, pages and frames begin at multiples of it */
    uint32_t pointer_size; /* bytes of an address in the index: 3, or 4 above 64 MiB */
    uint32_t body_offset;  /* where a sector's content begins */
    uint32_t ring_count;   /* manifest sectors, at the start of the flash */
    uint32_t close_room;   /* that every log sector keeps at its end for a close and an open */
    uint32_t id_crc;       /* checksum of the store's id, with which every seed begins */
    uint8_t sector_shift;  /* log2 of the sector size */
};

/* The most runs that a store with so many sectors has. */
uint32_t ekv_format_run_count_max(uint32_t sector_count);

void ekv_format_init(struct ekv_format *format, const struct ekv_geometry *geometry,
                     uint64_t store_id);

/* Sets the store's id alone. */
void ekv_format_name(struct ekv_format *format, uint64_t store_id);

/* Seed of the checksums of what lies at `offset` of a sector. */
uint32_t ekv_format_seed(const struct ekv_format *format, uint8_t kind, uint32_t sequence,
                         uint32_t offset);

/* Addresses in the index count units of the alignment. */
void ekv_pointer_store(const struct ekv_format *format, uint8_t *bytes, uint32_t address);
uint32_t ekv_pointer_load(const struct ekv_format *format, const uint8_t *bytes);

/* --- Stamps ---------------------------------------------------------------------------------- */

struct ekv_stamp_a {
    struct ekv_geometry geometry;
    uint64_t store_id;
    uint32_t sector;
    uint32_t erase_count;
};

enum { EKV_END_RESUMED = 0x800000 };

/* `next`: the log's following sector (already erased and stamped), or how many sectors of the
 * manifest come before this one in its chain. `virgin`: sectors from here on have not been written
 * since the chip was erased. `previous_end`: offset where the log ended in the sector before; with
 * EKV_END_RESUMED, up to where it was proven in the sector with the number two less, where a power
 * cut ended it. */
struct ekv_stamp_b {
    uint8_t kind;
    uint32_t sequence;
    uint32_t next;
    uint32_t virgin;
    uint32_t previous_end;
};

void ekv_stamp_a_encode(const struct ekv_stamp_a *stamp, uint8_t *bytes);
/* Errors: EKV_NO_STORE (no magic or wrong crc), EKV_VERSION, EKV_GEOMETRY. */
EKV_MUST_CHECK int ekv_stamp_a_decode(const uint8_t *bytes, struct ekv_stamp_a *stamp);

void ekv_stamp_b_encode(const struct ekv_format *format, const struct ekv_stamp_b *stamp,
                        uint32_t sector, uint8_t *bytes);
/* Errors: EKV_NOT_FOUND (not put to use, or torn). */
EKV_MUST_CHECK int ekv_stamp_b_decode(const struct ekv_format *format, const uint8_t *bytes,
                                      uint32_t sector, struct ekv_stamp_b *stamp);

static inline uint32_t ekv_stamp_b_offset(const struct ekv_format *format)
{
    return ekv_align(EKV_STAMP_A_SIZE, format->geometry.write_unit);
}

/* --- Log records ----------------------------------------------------------------------------- */

enum ekv_record_kind {
    EKV_RECORD_PUT = 1,    /* key, value */
    EKV_RECORD_DELETE = 2, /* key */
    EKV_RECORD_HEAD = 3,   /* key; the value is a tree of chunks: see value.h */
    EKV_RECORD_CHUNK = 4,  /* owner, offset, a piece of a value */
    EKV_RECORD_LIST = 5,   /* owner, offset, links to chunks or lists */
    EKV_RECORD_COMMIT = 6, /* how many records, back to which log position */
    EKV_RECORD_CLOSE = 7,  /* the store was unmounted here */
    EKV_RECORD_OPEN = 8,   /* ... and mounted again */
    EKV_RECORD_KIND_MASK = 0x0f,
    EKV_RECORD_COUNTED = 0x08, /* flag of a put, delete or head: carries its ordinal */
    EKV_RECORD_ASIDE = 0x10,   /* flag: the key is in EKV_ASIDE */
    EKV_RECORD_COMMITS = 0x20, /* flag: a transaction of its own */
    EKV_RECORD_MOVED = 0x40,   /* flag: copied by gc, carries its version */
    EKV_RECORD_TIMED = 0x80,   /* flag: carries the time when it was written */
};

enum {
    EKV_RECORD_HEAD_MAX = 1 + 2 * EKV_VARINT_MAX,
    EKV_RECORD_VERSION_SIZE = 6,
    EKV_RECORD_TIME_SIZE = 7,
    EKV_RECORD_ORDINAL_SIZE = 1,
    EKV_LINK_SIZE = 8,    /* of a value tree: address 4, bytes below it 4 */
    EKV_VALUE_LEVELS = 5, /* of lists in a value tree, its head's included, at most */
    EKV_PIECE_OFFSET_SIZE = 4,
    EKV_COMMIT_SIZE = 8, /* records 4, address of the first 4 */
    EKV_CLOSE_SIZE = 7,  /* where the index goes on 4, virgin mark 3 */
};

/* A record's layout: type, key size, value size, key, value, [version], [time], [ordinal], padding
 * of zeroes, crc. `size` is the whole, a multiple of the alignment. */
struct ekv_record_layout {
    uint8_t type;
    uint32_t key_size;
    uint32_t value_size;
    uint32_t head_size;
    uint32_t size;
};

/* What a type says beside its flags. EKV_RECORD_OPEN is the one kind with the bit of
 * EKV_RECORD_COUNTED set by itself. */
static inline uint8_t ekv_type_kind(uint8_t type)
{
    uint8_t kind = type & EKV_RECORD_KIND_MASK;
    return kind > EKV_RECORD_OPEN ? (uint8_t)(kind - EKV_RECORD_COUNTED) : kind;
}

static inline bool ekv_type_is_counted(uint8_t type)
{
    return (type & EKV_RECORD_KIND_MASK) > EKV_RECORD_OPEN;
}

/* Fills head_size and size from the other three. */
void ekv_record_measure(const struct ekv_format *format, struct ekv_record_layout *layout);
void ekv_record_head_encode(const struct ekv_record_layout *layout, uint8_t *bytes);
/* Decodes the head of a record from the first `available` bytes of it, of which the record may
 * take up to `room`. Errors: EKV_NOT_FOUND (no record can begin with these bytes). */
EKV_MUST_CHECK int ekv_record_head_decode(const struct ekv_format *format, const uint8_t *bytes,
                                          uint32_t available, uint32_t room,
                                          struct ekv_record_layout *layout);

static inline uint32_t ekv_record_version_offset(const struct ekv_record_layout *layout)
{
    return layout->head_size + layout->key_size + layout->value_size;
}

static inline uint32_t ekv_record_time_offset(const struct ekv_record_layout *layout)
{
    return ekv_record_version_offset(layout) +
           (layout->type & EKV_RECORD_MOVED ? EKV_RECORD_VERSION_SIZE : 0);
}

static inline uint32_t ekv_record_ordinal_offset(const struct ekv_record_layout *layout)
{
    return ekv_record_time_offset(layout) +
           (layout->type & EKV_RECORD_TIMED ? EKV_RECORD_TIME_SIZE : 0);
}

/* The largest record, and the largest key, that a sector takes. */
uint32_t ekv_format_record_size_max(const struct ekv_format *format);
uint32_t ekv_format_key_size_max(const struct ekv_format *format);

/* --- Positions in the log -------------------------------------------------------------------- */

/* A position counts the bytes of the log since the store was made: sequence number of the sector
 * times its size, plus the offset. The position of a record is the version of what it wrote. */
static inline uint64_t ekv_position(const struct ekv_format *format, uint32_t sequence,
                                    uint32_t offset)
{
    return (uint64_t)sequence * format->geometry.sector_size + offset;
}

static inline uint32_t ekv_position_sequence(const struct ekv_format *format, uint64_t position)
{
    return (uint32_t)(position / format->geometry.sector_size);
}

static inline uint32_t ekv_sector_of(const struct ekv_format *format, uint32_t address)
{
    return address >> format->sector_shift;
}

static inline uint32_t ekv_offset_of(const struct ekv_format *format, uint32_t address)
{
    return address & (format->geometry.sector_size - 1);
}

static inline uint32_t ekv_address(const struct ekv_format *format, uint32_t sector,
                                   uint32_t offset)
{
    return sector * format->geometry.sector_size + offset;
}

/* Bytes from `address` to the end of its program page. */
static inline uint32_t ekv_page_room(uint32_t address)
{
    return EKV_PAGE_SIZE - address % EKV_PAGE_SIZE;
}

/* --- Index pages and manifest frames --------------------------------------------------------- */

/* A page lies within a program page: crc 4, level 1 (0: leaf), count 1, size - 1 in 1, then
 * entries. Leaf entry: pointer, fingerprint 1. Inner entry: pointer, shared 1, suffix size 1 (top
 * bit: cut short), suffix. The filter of a run is blocks of 32 bytes, crc 2 and 240 bits. */
enum {
    EKV_PAGE_HEAD_SIZE = 7,
    EKV_SEPARATOR_CUT = 0x80,
    EKV_SEPARATOR_SIZE_MAX = 72,
    EKV_FILTER_BLOCK_SIZE = 32,
    EKV_FILTER_BITS = 240,
    EKV_FILTER_KEYS = 28, /* keys a block is made for: 8.6 bits a key */
};

/* A manifest frame: crc 4, type 1 (with the final flag), payload size 2, payload of items; it never
 * crosses a program page. */
enum {
    EKV_FRAME_HEAD_SIZE = 7,
    EKV_FRAME_CHECKPOINT = 1,
    EKV_FRAME_EDIT = 2,
    EKV_FRAME_FINAL = 0x80,
};

/* The items that a frame of the manifest holds: a byte that says which, then its fields. */
enum ekv_item {
    EKV_ITEM_STORE = 1,   /* retain 4 (top bit: seconds, else versions), label 31 */
    EKV_ITEM_STATE = 2,   /* counters */
    EKV_ITEM_RUN = 3,     /* a run's fields */
    EKV_ITEM_ORDER = 4,   /* count 1, run ids newest first */
    EKV_ITEM_LOG = 5,     /* first sector 3, count 1, count x (distance, live units) */
    EKV_ITEM_FREE = 6,    /* first sector 3, count 1, count x distance to the one before */
    EKV_ITEM_RETIRED = 7, /* the same */
    EKV_ITEM_RESTING = 8, /* as EKV_ITEM_LOG, with the generation in which each was emptied */
};

enum {
    EKV_ITEM_STORE_SIZE = 35,
    EKV_RETAIN_SECONDS_MAX = 0x7fffffff,
    EKV_ITEM_STATE_SIZE = 46,
    EKV_ITEM_RUN_SIZE = 24,
    EKV_ITEM_TABLE_HEAD_SIZE = 4,
};

/* Bytes of a sector's entry in an item of the table of sectors. */
static inline uint32_t ekv_item_entry_size(uint8_t kind)
{
    return kind == EKV_ITEM_LOG || kind == EKV_ITEM_RESTING ? 2 : 1;
}

/* Hash of a key: FNV-1a over its space and bytes, finished by the mixer of MurmurHash3. The top
 * byte is the fingerprint of leaf entries, the whole picks block and bits of the filter. */
uint32_t ekv_hash_begin(uint8_t space);
uint32_t ekv_hash_update(uint32_t hash, const void *bytes, uint32_t size);
uint32_t ekv_hash_end(uint32_t hash);

#endif
