/* Builds runs bottom-up: leaves fill one after the other, each finished page adds a link to the
 * page above it, and the filter is made from the finished leaves, as many blocks at a time as the
 * pages hold, because a block's keys are those of a narrow range of hashes and the fingerprints in
 * the leaves tell which they can be. So a filter of any size is built in the memory of a few pages.
 *
 * Nothing built is part of the store until a manifest edit names the run; a power cut before that
 * leaves pages in index sectors that nobody owns.
 *
 * Errors with EKV_FULL leave the builder as it was before the call, so that a merge can wait for
 * gc: a page is given its place first, and everything that can lack space comes before any change.
 */
#include "build.h"

#include <assert.h>
#include <string.h>

uint32_t ekv_build_height(const struct ekv_geometry *geometry)
{
    /* An inner page holds at least eight links, thirty with common keys. */
    uint32_t height = 3;
    for (uint32_t sectors = 64; sectors < geometry->sector_count && height < EKV_RUN_HEIGHT_MAX;
         sectors *= 8)
        height++;
    return height;
}

static uint8_t *page_of(const struct ekv_builder *builder, uint32_t level)
{
    return builder->pages + level * EKV_PAGE_SIZE;
}

static const struct ekv_format *format_of(const struct ekv_builder *builder)
{
    return &builder->index->log->sectors->format;
}

/* --- The stream of index sectors ------------------------------------------------------------- */

static int new_sector(struct ekv_index *index, uint32_t sequence, uint32_t *sector)
{
    struct ekv_sectors *sectors = index->log->sectors;
    struct ekv_stamp_b stamp = {.kind = EKV_KIND_INDEX,
                                .sequence = sequence,
                                .next = EKV_NO_SECTOR,
                                .virgin = sectors->virgin_saved};
    int error;
    do {
        error = ekv_sector_take(sectors, EKV_SECTOR_INDEX, sector);
        if (error)
            return error;
        error = ekv_sector_stamp(sectors, *sector, &stamp);
        if (error)
            ekv_sector_set(sectors, *sector, EKV_SECTOR_RETIRED);
    } while (error && !ekv_sectors_failing(sectors));
    return error;
}

/* An index sector that nothing uses and nothing will be added to is free again. */
static void leave_sector(struct ekv_index *index)
{
    struct ekv_sectors *sectors = index->log->sectors;
    if (index->sector != EKV_NO_SECTOR && sectors->lives[index->sector] == 0)
        ekv_sector_set(sectors, index->sector, EKV_SECTOR_FREE);
    index->sector = EKV_NO_SECTOR;
}

/* Finds `size` bytes in the index for an object that begins at a multiple of `alignment`, and, if
 * `in_page`, does not leave its program page. */
static int place(struct ekv_index *index, uint32_t sequence, uint32_t size, uint32_t alignment,
                 bool in_page, uint32_t *address)
{
    struct ekv_sectors *sectors = index->log->sectors;
    const struct ekv_format *format = &sectors->format;
    for (;;) {
        if (index->sector != EKV_NO_SECTOR && sectors->lives[index->sector] < UINT8_MAX) {
            uint32_t offset = ekv_align(index->offset, alignment);
            if (in_page && size > ekv_page_room(offset))
                offset = ekv_align(offset, EKV_PAGE_SIZE);
            if (offset <= format->geometry.sector_size &&
                size <= format->geometry.sector_size - offset) {
                *address = ekv_address(format, index->sector, offset);
                return EKV_OK;
            }
        }
        uint32_t sector;
        int error = new_sector(index, sequence, &sector);
        if (error)
            return error;
        leave_sector(index);
        index->sector = sector;
        index->offset = format->body_offset;
    }
}

/* Programs part of the index. A sector in which that fails gets nothing more. */
static int program(struct ekv_index *index, uint32_t address, const void *data, uint32_t size)
{
    struct ekv_sectors *sectors = index->log->sectors;
    int error = ekv_sector_program(sectors, address, data, size);
    if (error && ekv_sector_of(&sectors->format, address) == index->sector)
        leave_sector(index);
    return error;
}

/* Counts the object at `address` and moves the stream behind it. */
static void placed(struct ekv_index *index, uint32_t address, uint32_t size)
{
    struct ekv_sectors *sectors = index->log->sectors;
    index->offset =
        ekv_align(ekv_offset_of(&sectors->format, address) + size, sectors->format.alignment);
    sectors->lives[index->sector]++;
}

/* --- Pages ----------------------------------------------------------------------------------- */

/* A leaf fills what is left of the program page where the index goes on, if that is worth it, or of
 * the next one, which may be the first of another sector. */
static uint16_t leaf_limit(const struct ekv_builder *builder)
{
    const struct ekv_index *index = builder->index;
    uint32_t in_page = ekv_page_room(index->offset), left = ekv_index_room(index);
    if (left > 0 && in_page >= EKV_PAGE_SIZE / 2)
        return (uint16_t)in_page;
    return left > in_page ? EKV_PAGE_SIZE
                          : (uint16_t)ekv_page_room(format_of(builder)->body_offset);
}

static void page_reset(struct ekv_builder *builder, uint32_t level)
{
    builder->used[level] = EKV_PAGE_HEAD_SIZE;
    builder->counts[level] = 0;
}

void ekv_build_expect(struct ekv_builder *builder, uint32_t entries)
{
    uint64_t size = EKV_PAGE_HEAD_SIZE + entries * (format_of(builder)->pointer_size + 1ull);
    uint32_t leaf = ekv_align(size < EKV_PAGE_SIZE ? (uint32_t)size : EKV_PAGE_SIZE,
                              format_of(builder)->geometry.write_unit);
    builder->leaf_max = (uint16_t)leaf;
    if (size <= EKV_PAGE_SIZE)
        builder->leaf_limit = EKV_PAGE_SIZE;
}

void ekv_build_begin(struct ekv_builder *builder, uint32_t id, uint8_t level, uint32_t sequence)
{
    builder->run = (struct ekv_run){.id = id, .level = level, .sequence = sequence};
    for (uint32_t i = 0; i < builder->height_max; i++)
        page_reset(builder, i);
    builder->last = 0;
    builder->broken = false;
    builder->separator_size = 0;
    builder->separator_cut = false;
    builder->leaf_max = EKV_PAGE_SIZE;
    builder->leaf_limit = leaf_limit(builder);
}

/* Programs the page of a level and empties its buffer. */
static int page_write(struct ekv_builder *builder, uint32_t level, uint32_t *address)
{
    const struct ekv_format *format = format_of(builder);
    uint8_t *page = page_of(builder, level);
    uint32_t size = builder->used[level];
    uint32_t padded = ekv_align(size, format->geometry.write_unit);
    int error = place(builder->index, builder->run.id, size, format->alignment, true, address);
    if (error)
        return error;
    page[4] = (uint8_t)level;
    page[5] = builder->counts[level];
    page[6] = (uint8_t)(size - 1);
    uint32_t crc =
        ekv_page_crc(format, builder->run.id, *address, page + EKV_CRC_SIZE, size - EKV_CRC_SIZE);
    ekv_store(page, crc, EKV_CRC_SIZE);
    memset(page + size, 0xff, padded - size);
    error = program(builder->index, *address, page, padded);
    if (error)
        return error;
    placed(builder->index, *address, size);
    builder->run.root = *address;
    builder->run.height = level + 1;
    builder->run.root_size = (uint8_t)(size - 1);
    return EKV_OK;
}

struct separator {
    uint8_t bytes[EKV_SEPARATOR_SIZE_MAX];
    uint32_t size;
    bool cut;
};

/* The first and the last separator of an inner page that is being filled. */
static void page_separators(const struct ekv_builder *builder, uint32_t level,
                            struct separator *first, struct separator *last)
{
    const uint8_t *page = page_of(builder, level);
    uint32_t pointer_size = format_of(builder)->pointer_size;
    uint32_t offset = EKV_PAGE_HEAD_SIZE;
    last->size = 0;
    last->cut = false;
    for (uint32_t i = 0; i < builder->counts[level]; i++) {
        uint32_t shared = page[offset + pointer_size];
        uint32_t size = page[offset + pointer_size + 1] & ~EKV_SEPARATOR_CUT;
        last->cut = page[offset + pointer_size + 1] & EKV_SEPARATOR_CUT;
        offset += pointer_size + 2;
        memcpy(last->bytes + shared, page + offset, size);
        last->size = shared + size;
        offset += size;
        if (i == 0)
            *first = *last;
    }
}

/* Adds a link to an inner page. False if it has no room. A separator may take a quarter of what is
 * left of the page and is cut short beyond that, so that a page holds eight links at least. */
static bool link_add(struct ekv_builder *builder, uint32_t level, const struct separator *separator,
                     const struct separator *last, uint32_t child)
{
    const struct ekv_format *format = format_of(builder);
    uint32_t room = EKV_PAGE_SIZE - builder->used[level];
    uint32_t head = format->pointer_size + 2;
    uint32_t shared = 0;
    while (shared < last->size && shared < separator->size &&
           last->bytes[shared] == separator->bytes[shared])
        shared++;
    uint32_t size = separator->size - shared;
    uint32_t most = ekv_max(8, room / 4);
    bool cut = separator->cut || size > most;
    size = ekv_min(size, most);
    if (builder->counts[level] == UINT8_MAX || head + size > room)
        return false;
    uint8_t *bytes = page_of(builder, level) + builder->used[level];
    ekv_pointer_store(format, bytes, child);
    bytes[format->pointer_size] = (uint8_t)shared;
    bytes[format->pointer_size + 1] = (uint8_t)(size | (cut ? EKV_SEPARATOR_CUT : 0));
    memcpy(bytes + head, separator->bytes + shared, size);
    builder->used[level] = (uint16_t)(builder->used[level] + head + size);
    builder->counts[level]++;
    return true;
}

/* Passes the link to a finished page up the tree; pages that it fills are written on the way. */
static int link_up(struct ekv_builder *builder, uint32_t level, struct separator *separator,
                   uint32_t child)
{
    struct separator first, last;
    for (; level < builder->height_max; level++) {
        page_separators(builder, level, &first, &last);
        if (link_add(builder, level, separator, &last, child))
            return EKV_OK;
        uint32_t full;
        int error = page_write(builder, level, &full);
        if (error)
            return error;
        page_reset(builder, level);
        last.size = 0;
        bool added = link_add(builder, level, separator, &last, child);
        assert(added);
        *separator = first;
        child = full;
    }
    return EKV_FULL; /* more entries than a store of this geometry can hold */
}

uint32_t ekv_index_room(const struct ekv_index *index)
{
    uint32_t size = index->log->sectors->format.geometry.sector_size;
    return index->sector == EKV_NO_SECTOR ? 0 : size - ekv_min(index->offset, size);
}

/* Every page that a leaf can push out must find a place before the first of them is written. An
 * empty one takes its first link without being pushed out. */
bool ekv_build_room(const struct ekv_builder *builder)
{
    const struct ekv_index *index = builder->index;
    const struct ekv_sectors *sectors = index->log->sectors;
    uint32_t in_page = ekv_page_room(index->offset);
    uint32_t need = builder->leaf_max + (builder->leaf_max > in_page ? in_page : 0);
    for (uint32_t i = 1; i < builder->height_max && builder->counts[i] > 0; i++)
        need += EKV_PAGE_SIZE;
    uint32_t room = ekv_index_room(index);
    uint32_t wanted = room >= need ? 0 : need / sectors->format.geometry.sector_size + 1;
    return ekv_sectors_available(sectors) >= wanted;
}

static int ensure_space(const struct ekv_builder *builder)
{
    return ekv_build_room(builder) ? EKV_OK : EKV_FULL;
}

static int leaf_write(struct ekv_builder *builder)
{
    uint32_t address;
    struct separator separator = {.size = builder->separator_size, .cut = builder->separator_cut};
    memcpy(separator.bytes, builder->separator, separator.size);
    int error = ensure_space(builder);
    if (error)
        return error;
    error = page_write(builder, 0, &address);
    if (!error) {
        page_reset(builder, 0);
        error = link_up(builder, 1, &separator, address);
    }
    builder->broken = error != EKV_OK;
    return error;
}

/* The shortest prefix of the new leaf's first key that the leaf before it does not reach; cut short
 * where that is long, where the keys are equal, or where the last key is gone from the log. */
static int separator_make(struct ekv_builder *builder, const struct ekv_record *record)
{
    uint8_t before[EKV_SEPARATOR_SIZE_MAX], *bytes = builder->separator;
    struct ekv_found last;
    uint32_t same = 0, have = 0;
    const struct ekv_log *log = builder->index->log;
    uint32_t size = ekv_min(record->layout.key_size, sizeof before - 1);
    bytes[0] = ekv_record_space(record);
    int error = ekv_record_bytes(log, record, record->layout.head_size, bytes + 1, size);
    if (error)
        return error;
    error = ekv_entry_read(log, builder->last, builder->run.sequence, &last);
    if (!error) {
        have = ekv_min(last.record.layout.key_size, sizeof before - 1);
        before[0] = ekv_record_space(&last.record);
        error = ekv_record_bytes(log, &last.record, last.record.layout.head_size, before + 1, have);
        have++;
    }
    if (error < 0)
        return error;
    size++;
    while (same < size && same < have && bytes[same] == before[same])
        same++;
    builder->separator_cut = same >= size || have == 0;
    builder->separator_size = (uint8_t)(builder->separator_cut ? size : same + 1);
    return EKV_OK;
}

int ekv_build_add(struct ekv_builder *builder, uint32_t address, const struct ekv_record *record)
{
    const struct ekv_format *format = format_of(builder);
    uint32_t size = format->pointer_size + 1, hash;
    int error = ekv_record_hash(builder->index->log, record, &hash);
    if (error)
        return error;
    if (builder->used[0] + size > builder->leaf_limit || builder->counts[0] == UINT8_MAX) {
        error = leaf_write(builder);
        if (error)
            return error;
        builder->leaf_limit = leaf_limit(builder);
        error = separator_make(builder, record);
        if (error)
            return error;
    }
    uint8_t *bytes = page_of(builder, 0) + builder->used[0];
    ekv_pointer_store(format, bytes, address);
    bytes[size - 1] = (uint8_t)(hash >> 24);
    builder->used[0] = (uint16_t)(builder->used[0] + size);
    builder->counts[0]++;
    builder->run.entry_count++;
    builder->last = address;
    return EKV_OK;
}

int ekv_build_finish(struct ekv_builder *builder)
{
    if (builder->counts[0] > 0) {
        bool only = builder->counts[1] == 0;
        uint32_t root;
        if (only) {
            int error = ensure_space(builder);
            if (!error)
                error = page_write(builder, 0, &root);
            if (error)
                return error;
            builder->counts[0] = 0;
            return EKV_OK;
        }
        int error = leaf_write(builder);
        if (error)
            return error;
    }
    for (uint32_t level = 1; level < builder->height_max && builder->counts[level] > 0; level++) {
        struct separator first, last;
        uint32_t address;
        bool top = level + 1 == builder->height_max || builder->counts[level + 1] == 0;
        int error = ensure_space(builder);
        if (error)
            return error;
        page_separators(builder, level, &first, &last);
        error = page_write(builder, level, &address);
        if (!error)
            page_reset(builder, level);
        if (!error && top)
            return EKV_OK;
        if (!error)
            error = link_up(builder, level + 1, &first, address);
        builder->broken = error != EKV_OK;
        if (error)
            return error;
    }
    return EKV_OK;
}

enum {
    FILTER_SECTORS_MAX = 60,
    KEY_PREFETCH = 80, /* bytes of a record that hold most keys */
};

/* --- Filter ---------------------------------------------------------------------------------- */

void ekv_build_filter_begin(struct ekv_builder *builder, const struct ekv_memtable *table)
{
    const struct ekv_format *format = format_of(builder);
    uint32_t per_sector = ekv_filter_sector_blocks(format);
    uint32_t blocks = builder->run.entry_count / EKV_FILTER_KEYS + 1;
    /* The map of a large filter is one object within a page. */
    blocks = ekv_min(blocks, ekv_min(per_sector * FILTER_SECTORS_MAX, UINT16_MAX));
    builder->run.filter_blocks = (uint16_t)blocks;
    builder->filter_next = builder->filter_first = builder->filter_end = 0;
    builder->filter_base = 0;
    builder->table = table;
}

static bool filter_has_map(const struct ekv_builder *builder)
{
    return builder->run.filter_blocks > ekv_filter_sector_blocks(format_of(builder));
}

/* The map of a filter is made in the last page, the blocks in all others. */
static uint8_t *map_of(const struct ekv_builder *builder)
{
    return page_of(builder, builder->page_count - 1);
}

/* Finds room for the blocks of the sector that begins with `filter_next`. */
static int filter_place(struct ekv_builder *builder)
{
    const struct ekv_format *format = format_of(builder);
    struct ekv_sectors *sectors = builder->index->log->sectors;
    uint32_t per_sector = ekv_filter_sector_blocks(format), sector;
    if (!filter_has_map(builder)) {
        uint32_t size = builder->run.filter_blocks * EKV_FILTER_BLOCK_SIZE;
        uint32_t alignment = ekv_max(EKV_FILTER_BLOCK_SIZE, format->alignment);
        int error =
            place(builder->index, builder->run.id, size, alignment, false, &builder->filter_base);
        if (!error)
            placed(builder->index, builder->filter_base, size);
        return error;
    }
    int error = new_sector(builder->index, builder->run.id, &sector);
    if (error)
        return error;
    sectors->lives[sector] = 1;
    builder->filter_base = ekv_address(format, sector, ekv_filter_offset(format));
    ekv_store32(map_of(builder) + builder->filter_next / per_sector * 4, builder->filter_base);
    return EKV_OK;
}

/* Sets the bits of a key if it falls into the blocks at hand. */
static void filter_add(struct ekv_builder *builder, uint32_t hash)
{
    uint32_t block = ekv_filter_block(hash, builder->run.filter_blocks);
    if (block >= builder->filter_first && block < builder->filter_end)
        ekv_filter_set(builder->pages + (block - builder->filter_first) * EKV_FILTER_BLOCK_SIZE + 2,
                       hash);
}

static int filter_entry(struct ekv_builder *builder, uint32_t address)
{
    const struct ekv_log *log = builder->index->log;
    struct ekv_found found;
    uint32_t hash;
    int error = ekv_entry_read(log, address, builder->run.sequence, &found);
    if (error)
        return error == EKV_NOT_FOUND ? EKV_OK : error; /* stale by now: nobody asks for it */
    error = ekv_record_hash(log, &found.record, &hash);
    if (!error)
        filter_add(builder, hash);
    return error;
}

/* The fingerprints that keys in the blocks at hand can have. */
static void filter_fingerprints(const struct ekv_builder *builder, uint32_t *first, uint32_t *last)
{
    uint32_t blocks = builder->run.filter_blocks;
    *first = *last = 0;
    for (uint32_t i = 0; i <= UINT8_MAX; i++) {
        if (ekv_filter_block(i << 24 | 0xffffff, blocks) < builder->filter_first)
            *first = i + 1;
        if (ekv_filter_block(i << 24, blocks) < builder->filter_end)
            *last = i;
    }
}

/* Adds what the leaves hold; only the keys whose fingerprint allows one of the blocks at hand are
 * read, those of a leaf prefetched first. */
static int filter_leaves(struct ekv_builder *builder)
{
    const struct ekv_index *index = builder->index;
    const struct ekv_format *format = format_of(builder);
    const struct ekv_run *run = &builder->run;
    uint32_t size = format->pointer_size + 1, first, last;
    struct ekv_run_cursor cursor;
    filter_fingerprints(builder, &first, &last);
    int error = ekv_run_leaf_first(index, run, &cursor);
    while (!error) {
        struct ekv_page page;
        error = ekv_page_read(index, run, cursor.pages[0], 0, &page);
        for (uint32_t i = 0; !error && i < 2u * page.count; i++) {
            const uint8_t *entry = page.bytes + EKV_PAGE_HEAD_SIZE + i % page.count * size;
            if (entry[size - 1] < first || entry[size - 1] > last)
                continue;
            uint32_t address = ekv_pointer_load(format, entry);
            if (i < page.count)
                ekv_flash_prefetch(&index->log->sectors->flash, address, KEY_PREFETCH);
            else
                error = filter_entry(builder, address);
        }
        if (!error)
            error = ekv_run_leaf_next(index, run, &cursor);
    }
    return error == EKV_NOT_FOUND ? EKV_OK : error;
}

/* Fills the next blocks, as many as there are pages for. */
static int filter_fill(struct ekv_builder *builder)
{
    const struct ekv_run *run = &builder->run;
    uint32_t pages = builder->page_count - filter_has_map(builder);
    int error = EKV_OK;
    builder->filter_first = builder->filter_next;
    builder->filter_end =
        ekv_min(run->filter_blocks,
                builder->filter_first + pages * (EKV_PAGE_SIZE / EKV_FILTER_BLOCK_SIZE));
    memset(builder->pages, 0xff, pages * EKV_PAGE_SIZE);
    if (builder->table)
        for (uint32_t i = 0; i < builder->table->count; i++)
            filter_add(builder, builder->table->slots[i].hash);
    else
        error = filter_leaves(builder);
    if (error)
        builder->filter_end = builder->filter_first; /* nothing is at hand */
    return error;
}

/* A filter of several sectors is found through a map of their addresses. */
static int filter_end(struct ekv_builder *builder)
{
    const struct ekv_format *format = format_of(builder);
    uint32_t per_sector = ekv_filter_sector_blocks(format);
    uint32_t sectors = (builder->run.filter_blocks + per_sector - 1) / per_sector;
    uint8_t *map = map_of(builder);
    if (!filter_has_map(builder)) {
        builder->run.filter = builder->filter_base;
        return EKV_OK;
    }
    uint32_t address, size = ekv_align(sectors * 4, format->alignment);
    memset(map + sectors * 4, 0xff, size - sectors * 4);
    int error = place(builder->index, builder->run.id, size, format->alignment, true, &address);
    if (error)
        return error;
    error = program(builder->index, address, map, size);
    if (error)
        return error;
    placed(builder->index, address, size);
    builder->run.filter = address;
    return EKV_OK;
}

/* Writes the blocks at hand that go into one page. */
static int filter_write(struct ekv_builder *builder)
{
    const struct ekv_format *format = format_of(builder);
    uint32_t per_sector = ekv_filter_sector_blocks(format);
    uint32_t first = builder->filter_next;
    uint32_t address = builder->filter_base + first % per_sector * EKV_FILTER_BLOCK_SIZE;
    uint32_t count = ekv_min(ekv_page_room(address) / EKV_FILTER_BLOCK_SIZE,
                             ekv_min(per_sector - first % per_sector, builder->filter_end - first));
    uint32_t size = ekv_align(count * EKV_FILTER_BLOCK_SIZE, format->geometry.write_unit);
    uint8_t *blocks = builder->pages + (first - builder->filter_first) * EKV_FILTER_BLOCK_SIZE;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *block = blocks + i * EKV_FILTER_BLOCK_SIZE;
        ekv_store(block, ekv_filter_crc(format, builder->run.id, first + i, block + 2), 2);
    }
    int error = program(builder->index, address, blocks, size);
    if (!error)
        builder->filter_next += count;
    return error;
}

int ekv_build_filter_step(struct ekv_builder *builder, bool *done)
{
    int error = EKV_OK;
    *done = false;
    if (builder->filter_next < builder->run.filter_blocks) {
        if (builder->filter_next % ekv_filter_sector_blocks(format_of(builder)) == 0)
            error = filter_place(builder);
        if (!error && builder->filter_next == builder->filter_end)
            error = filter_fill(builder);
        if (!error)
            error = filter_write(builder);
        if (error || builder->filter_next < builder->run.filter_blocks)
            return error;
    }
    error = filter_end(builder);
    *done = !error;
    return error;
}
