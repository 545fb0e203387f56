/* Reads runs: pages, cursors, exact lookups, filters.
 *
 * Everything read is untrusted: a page must carry its checksum and the level that its place in the
 * tree says, so that no descent is longer than the run's height and no pointer cycle can form; an
 * address outside the flash answers EKV_CORRUPT from the read itself.
 *
 * A separator that was cut short does not say on which side of it a key that begins with it lies.
 * A descent then goes left, and walks right from there.
 */
#include "run.h"

#include <assert.h>
#include <string.h>

#include "crc32c.h"

/* A walk prefetches so many records ahead, and of each so many bytes at most. */
enum { AHEAD = 8, AHEAD_SIZE = 512 };

uint32_t ekv_page_crc(const struct ekv_format *format, uint32_t run_id, uint32_t address,
                      const uint8_t *bytes, uint32_t size)
{
    return ekv_crc32c(ekv_format_seed(format, EKV_KIND_INDEX, run_id, address), bytes, size);
}

static int page_check(const struct ekv_format *format, const struct ekv_run *run, uint32_t address,
                      uint8_t level, struct ekv_page *page)
{
    page->level = page->bytes[4];
    page->count = page->bytes[5];
    page->size = page->bytes[6] + 1u;
    if (page->size < EKV_PAGE_HEAD_SIZE || page->size > ekv_page_room(address))
        return EKV_CORRUPT;
    uint32_t crc = ekv_page_crc(format, run->id, address, page->bytes + EKV_CRC_SIZE,
                                page->size - EKV_CRC_SIZE);
    uint32_t count_max = (page->size - EKV_PAGE_HEAD_SIZE) / (format->pointer_size + 1);
    if (ekv_load32(page->bytes) != crc || page->level != level || page->count == 0 ||
        page->count > count_max)
        return EKV_CORRUPT;
    bool whole = page->size == EKV_PAGE_HEAD_SIZE + page->count * (format->pointer_size + 1);
    return level > 0 || whole ? EKV_OK : EKV_CORRUPT;
}

int ekv_page_read(const struct ekv_index *index, const struct ekv_run *run, uint32_t address,
                  uint8_t level, struct ekv_page *page)
{
    const struct ekv_sectors *sectors = index->log->sectors;
    struct ekv_page_buffer *buffer = index->page;
    uint32_t room = ekv_page_room(address);
    if (room < EKV_PAGE_HEAD_SIZE || address >= ekv_flash_size(&sectors->flash))
        return EKV_CORRUPT;
    page->bytes = ekv_mends_map(&sectors->mends, &sectors->flash, address, room);
    if (page->bytes)
        return page_check(&sectors->format, run, address, level, page);
    bool held = buffer->run_id == run->id && buffer->address == address;
    page->bytes = buffer->bytes;
    buffer->run_id = 0;
    if (address == run->root && run->root_size > 0)
        room = ekv_min(room, run->root_size + 1u);
    int error = held ? EKV_OK : ekv_sectors_read(sectors, address, buffer->bytes, room);
    if (!error)
        error = page_check(&sectors->format, run, address, level, page);
    if (error)
        return error;
    buffer->run_id = run->id;
    buffer->address = address;
    return EKV_OK;
}

int ekv_run_note_root(const struct ekv_index *index, struct ekv_run *run)
{
    struct ekv_page page;
    int error = ekv_page_read(index, run, run->root, (uint8_t)(run->height - 1), &page);
    run->root_size = error ? 0 : (uint8_t)(page.size - 1);
    return error == EKV_CORRUPT ? EKV_OK : error;
}

bool ekv_page_flipped(const struct ekv_index *index, const struct ekv_run *run, uint32_t address,
                      struct ekv_mend *mend)
{
    const struct ekv_sectors *sectors = index->log->sectors;
    uint32_t room = ekv_page_room(address);
    index->page->run_id = 0;
    if (room < EKV_PAGE_HEAD_SIZE || ekv_sectors_read(sectors, address, index->page->bytes, room))
        return false;
    uint32_t seed = ekv_format_seed(&sectors->format, EKV_KIND_INDEX, run->id, address);
    return ekv_mend_find(index->page->bytes, room, seed, address, (struct ekv_sized){1, 1}, mend);
}

int ekv_entry_read(const struct ekv_log *log, uint32_t address, uint32_t sequence,
                   struct ekv_found *found)
{
    if (address >= ekv_flash_size(&log->sectors->flash))
        return EKV_CORRUPT;
    int error = ekv_log_sequence(log, address, &found->sequence);
    if (error)
        return error;
    if (found->sequence > sequence)
        return EKV_NOT_FOUND;
    error = ekv_record_at(log, address, &found->record);
    if (error)
        return error;
    return ekv_record_kind(&found->record) <= EKV_RECORD_HEAD ? EKV_OK : EKV_CORRUPT;
}

/* --- Inner pages ----------------------------------------------------------------------------- */

/* The address of the child comes first. */
struct link {
    uint32_t shared;
    uint32_t size;
    bool cut;
    const uint8_t *suffix;
};

/* Decodes the link at `offset` of an inner page; returns the offset behind it, 0 if it lies. */
static uint32_t link_at(const struct ekv_format *format, const struct ekv_page *page,
                        uint32_t offset, struct link *link)
{
    uint32_t head = format->pointer_size + 2;
    if (head > page->size - offset)
        return 0;
    const uint8_t *bytes = page->bytes + offset;
    link->shared = bytes[format->pointer_size];
    link->size = bytes[format->pointer_size + 1] & ~EKV_SEPARATOR_CUT;
    link->cut = bytes[format->pointer_size + 1] & EKV_SEPARATOR_CUT;
    link->suffix = bytes + head;
    return link->size <= page->size - offset - head ? offset + head + link->size : 0;
}

int ekv_page_link(const struct ekv_format *format, const struct ekv_page *page, uint32_t *offset,
                  uint32_t *child)
{
    struct link link;
    uint32_t end = link_at(format, page, *offset, &link);
    if (end == 0)
        return EKV_CORRUPT;
    *child = ekv_pointer_load(format, page->bytes + *offset);
    *offset = end;
    return EKV_OK;
}

int ekv_page_child(const struct ekv_format *format, const struct ekv_page *page, uint32_t place,
                   uint32_t *child)
{
    uint32_t offset = EKV_PAGE_HEAD_SIZE;
    int error = place < page->count ? EKV_OK : EKV_CORRUPT;
    for (uint32_t i = 0; !error && i <= place; i++)
        error = ekv_page_link(format, page, &offset, child);
    return error;
}

/* What a separator's part and the key behind `matched` have in common. */
static uint32_t common_size(const struct link *link, struct ekv_key key, uint32_t matched)
{
    const uint8_t *bytes = key.bytes;
    uint32_t limit = ekv_min(link->size, key.size + 1 - matched), same = 0;
    if (matched == 0) { /* the key's space comes first */
        same = limit > 0 && link->suffix[0] == key.space;
        limit = same > 0 ? limit : 0;
    }
    while (same < limit && link->suffix[same] == bytes[matched + same - 1])
        same++;
    return same;
}

/* Compares the part of a separator behind `*matched` with a key. True if the separator is certainly
 * at or before the key; `matched` is then what the two have in common. */
static bool separator_before(const struct link *link, struct ekv_key key, uint32_t *matched,
                             bool *uncertain)
{
    uint32_t same = common_size(link, key, *matched);
    if (same == link->size) {
        *uncertain |= link->cut;
        if (!link->cut)
            *matched += same;
        return !link->cut;
    }
    if (*matched + same >= key.size + 1 || link->suffix[same] > ekv_key_at(key, *matched + same))
        return false;
    *matched += same;
    return true;
}

/* The last child whose separator is certainly at or before `key`. Separators ascend and share
 * prefixes with the one before, so `matched` (what the last accepted one has in common with the
 * key) decides most of them by one comparison of numbers. */
static int child_for(const struct ekv_format *format, const struct ekv_page *page,
                     struct ekv_key key, uint8_t *place, uint32_t *child, bool *uncertain)
{
    uint32_t matched = 0, offset = EKV_PAGE_HEAD_SIZE, taken = offset;
    *place = 0;
    for (uint32_t i = 0; i < page->count; i++) {
        struct link link;
        bool first_uncertain = false;
        uint32_t end = link_at(format, page, offset, &link);
        if (end == 0)
            return EKV_CORRUPT;
        if (i > 0 && link.shared < matched)
            break;
        if ((i == 0 || link.shared == matched) &&
            !separator_before(&link, key, &matched, i > 0 ? uncertain : &first_uncertain)) {
            if (!first_uncertain)
                break;
            matched = link.size;
        }
        *place = (uint8_t)i;
        taken = offset;
        offset = end;
    }
    *child = ekv_pointer_load(format, page->bytes + taken);
    return EKV_OK;
}

/* --- Cursor ---------------------------------------------------------------------------------- */

enum end { FIRST, LAST };

/* Goes down from `level` (whose page is in the cursor) to an end of the leftmost or rightmost leaf
 * below it. `place` is where to go at `level` itself. */
static int descend(const struct ekv_index *index, const struct ekv_run *run,
                   struct ekv_run_cursor *cursor, uint32_t level, enum end end)
{
    const struct ekv_format *format = &index->log->sectors->format;
    struct ekv_page page;
    while (level > 0) {
        uint32_t child;
        int error = ekv_page_read(index, run, cursor->pages[level], (uint8_t)level, &page);
        if (error)
            return error;
        error = ekv_page_child(format, &page, cursor->places[level], &child);
        if (error)
            return error;
        level--;
        cursor->pages[level] = child;
        cursor->places[level] = 0;
        if (end == LAST) {
            error = ekv_page_read(index, run, child, (uint8_t)level, &page);
            if (error)
                return error;
            cursor->places[level] = page.count - 1;
        }
    }
    int error = ekv_page_read(index, run, cursor->pages[0], 0, &page);
    if (!error)
        cursor->leaf_count = page.count;
    return error;
}

static int to_end(const struct ekv_index *index, const struct ekv_run *run,
                  struct ekv_run_cursor *cursor, enum end end)
{
    struct ekv_page page;
    uint32_t top = run->height - 1u;
    cursor->address = 0;
    cursor->pages[top] = run->root;
    int error = ekv_page_read(index, run, run->root, (uint8_t)top, &page);
    if (error)
        return error;
    cursor->places[top] = end == FIRST ? 0 : page.count - 1;
    return descend(index, run, cursor, top, end);
}

/* Moves to the first place of the next leaf or the last of the previous one. */
static int neighbour(const struct ekv_index *index, const struct ekv_run *run,
                     struct ekv_run_cursor *cursor, enum end direction)
{
    for (uint32_t level = 1; level < run->height; level++) {
        struct ekv_page page;
        int error = ekv_page_read(index, run, cursor->pages[level], (uint8_t)level, &page);
        if (error)
            return error;
        if (direction == FIRST && cursor->places[level] + 1 < page.count) {
            cursor->places[level]++;
            return descend(index, run, cursor, level, FIRST);
        }
        if (direction == LAST && cursor->places[level] > 0) {
            cursor->places[level]--;
            return descend(index, run, cursor, level, LAST);
        }
    }
    cursor->address = 0;
    return EKV_NOT_FOUND;
}

int ekv_leaf_entry(const struct ekv_index *index, uint32_t leaf, uint32_t place, uint32_t *address)
{
    uint8_t bytes[4];
    const uint8_t *entry;
    const struct ekv_sectors *sectors = index->log->sectors;
    uint32_t size = sectors->format.pointer_size;
    uint32_t at = leaf + EKV_PAGE_HEAD_SIZE + place * (size + 1);
    int error = ekv_sectors_view(sectors, at, bytes, size, &entry);
    if (!error)
        *address = ekv_pointer_load(&sectors->format, entry);
    return error;
}

/* Prefetches the record that a walk comes to AHEAD entries behind the cursor's place, or, where it
 * begins a leaf, all up to that. The next records are taken to be as large as the last. */
static void look_ahead(const struct ekv_index *index, const struct ekv_run_cursor *cursor,
                       enum end direction, bool begins)
{
    const struct ekv_format *format = &index->log->sectors->format;
    const struct ekv_flash *flash = &index->log->sectors->flash;
    uint32_t place = cursor->places[0], size = format->pointer_size + 1;
    if (!ekv_flash_prefetches(flash))
        return;
    for (uint32_t i = begins ? 0 : AHEAD; i <= AHEAD; i++) {
        uint32_t at = direction == FIRST ? place + i : place - i;
        if (at >= cursor->leaf_count)
            return;
        const uint8_t *entry = flash->map + cursor->pages[0] + EKV_PAGE_HEAD_SIZE + at * size;
        ekv_flash_prefetch(flash, ekv_pointer_load(format, entry),
                           cursor->expected * EKV_EXPECTED_UNIT);
    }
}

/* The record that the entry at a place of the cursor's leaf leads to. */
static int entry_at(const struct ekv_index *index, const struct ekv_run *run,
                    const struct ekv_run_cursor *cursor, uint32_t place, uint32_t *address,
                    struct ekv_found *found)
{
    *address = 0;
    int error = ekv_leaf_entry(index, cursor->pages[0], place, address);
    return error ? error : ekv_entry_read(index->log, *address, run->sequence, found);
}

/* Sets `address` from the place, or moves on in `direction` to the nearest entry that is not
 * stale. `found` is then what it points to. */
static int settle(const struct ekv_index *index, const struct ekv_run *run,
                  struct ekv_run_cursor *cursor, enum end direction, struct ekv_found *found)
{
    for (;;) {
        uint32_t address;
        if (cursor->places[0] < cursor->leaf_count) {
            int error = entry_at(index, run, cursor, cursor->places[0], &address, found);
            cursor->address = address;
            if (!error)
                cursor->expected =
                    (uint8_t)(ekv_min(found->record.layout.size, AHEAD_SIZE) / EKV_EXPECTED_UNIT +
                              1);
            if (error != EKV_NOT_FOUND)
                return error;
        }
        bool inside =
            direction == FIRST ? cursor->places[0] + 1 < cursor->leaf_count : cursor->places[0] > 0;
        if (inside) {
            cursor->places[0] += direction == FIRST ? 1 : -1;
        } else {
            int error = neighbour(index, run, cursor, direction);
            if (error)
                return error;
        }
    }
}

int ekv_run_first(const struct ekv_index *index, const struct ekv_run *run,
                  struct ekv_run_cursor *cursor, struct ekv_found *found)
{
    int error = to_end(index, run, cursor, FIRST);
    return error ? error : settle(index, run, cursor, FIRST, found);
}

int ekv_run_last(const struct ekv_index *index, const struct ekv_run *run,
                 struct ekv_run_cursor *cursor, struct ekv_found *found)
{
    int error = to_end(index, run, cursor, LAST);
    return error ? error : settle(index, run, cursor, LAST, found);
}

static int step(const struct ekv_index *index, const struct ekv_run *run,
                struct ekv_run_cursor *cursor, enum end direction, struct ekv_found *found)
{
    bool inside =
        direction == FIRST ? cursor->places[0] + 1 < cursor->leaf_count : cursor->places[0] > 0;
    if (cursor->address == 0)
        return EKV_NOT_FOUND;
    if (inside) {
        cursor->places[0] += direction == FIRST ? 1 : -1;
    } else {
        int error = neighbour(index, run, cursor, direction);
        if (error)
            return error;
    }
    look_ahead(index, cursor, direction, !inside);
    return settle(index, run, cursor, direction, found);
}

int ekv_run_next(const struct ekv_index *index, const struct ekv_run *run,
                 struct ekv_run_cursor *cursor, struct ekv_found *found)
{
    return step(index, run, cursor, FIRST, found);
}

int ekv_run_previous(const struct ekv_index *index, const struct ekv_run *run,
                     struct ekv_run_cursor *cursor, struct ekv_found *found)
{
    return step(index, run, cursor, LAST, found);
}

int ekv_run_leaf_first(const struct ekv_index *index, const struct ekv_run *run,
                       struct ekv_run_cursor *cursor)
{
    return to_end(index, run, cursor, FIRST);
}

int ekv_run_leaf_next(const struct ekv_index *index, const struct ekv_run *run,
                      struct ekv_run_cursor *cursor)
{
    return neighbour(index, run, cursor, FIRST);
}

/* Compares `key` with the first entry at or after `place` (and before `end`) of the cursor's leaf
 * that is not stale. EKV_NOT_FOUND if all of them are. */
static int compare_at(const struct ekv_index *index, const struct ekv_run *run,
                      const struct ekv_run_cursor *cursor, struct ekv_key key, uint32_t *place,
                      uint32_t end, int *order)
{
    for (; *place < end; (*place)++) {
        struct ekv_found found;
        uint32_t address;
        int error = entry_at(index, run, cursor, *place, &address, &found);
        if (!error)
            return ekv_record_compare(index->log, &found.record, key, order);
        if (error != EKV_NOT_FOUND)
            return error;
    }
    return EKV_NOT_FOUND;
}

/* Binary search in the cursor's leaf for the first entry >= key (> key with `after`). */
static int search_leaf(const struct ekv_index *index, const struct ekv_run *run,
                       struct ekv_run_cursor *cursor, struct ekv_key key, bool after)
{
    uint32_t low = 0, high = cursor->leaf_count;
    while (low < high) {
        int order = 0;
        uint32_t middle = low + (high - low) / 2, place = middle;
        int error = compare_at(index, run, cursor, key, &place, high, &order);
        if (error < 0)
            return error;
        if (error == EKV_OK && (order > 0 || (after && order == 0)))
            low = place + 1;
        else
            high = middle;
    }
    cursor->places[0] = (uint8_t)low;
    /* A damaged key that misled the search stands at one side of where it ended; behind, it may be
     * stale entries that lie between. */
    for (uint32_t i = low - (low > 0), behind = 0; behind == 0 && i < cursor->leaf_count; i++) {
        struct ekv_found found;
        uint32_t address;
        int error = entry_at(index, run, cursor, i, &address, &found);
        if (!error)
            error = ekv_record_verify(index->log, &found.record, found.sequence);
        if (error < 0)
            return error;
        behind = error == EKV_OK && i >= low;
    }
    return EKV_OK;
}

/* The first entry >= key (> key with `after`). */
static int bound(const struct ekv_index *index, const struct ekv_run *run, struct ekv_key key,
                 bool after, struct ekv_run_cursor *cursor, struct ekv_found *found)
{
    const struct ekv_format *format = &index->log->sectors->format;
    struct ekv_page page;
    bool uncertain = false;
    uint32_t level = run->height - 1u;
    cursor->pages[level] = run->root;
    cursor->address = 0;
    for (; level > 0; level--) {
        int error = ekv_page_read(index, run, cursor->pages[level], (uint8_t)level, &page);
        if (error)
            return error;
        error = child_for(format, &page, key, &cursor->places[level], &cursor->pages[level - 1],
                          &uncertain);
        if (error)
            return error;
    }
    int error = ekv_page_read(index, run, cursor->pages[0], 0, &page);
    if (error)
        return error;
    cursor->leaf_count = page.count;
    error = search_leaf(index, run, cursor, key, after);
    if (error)
        return error;
    error = settle(index, run, cursor, FIRST, found);
    while (!error && uncertain) {
        int order;
        error = ekv_record_compare(index->log, &found->record, key, &order);
        if (error || order < 0 || (order == 0 && !after))
            return error;
        error = step(index, run, cursor, FIRST, found);
    }
    return error;
}

int ekv_run_seek(const struct ekv_index *index, const struct ekv_run *run, struct ekv_key key,
                 struct ekv_run_cursor *cursor, struct ekv_found *found)
{
    return bound(index, run, key, false, cursor, found);
}

int ekv_run_seek_back(const struct ekv_index *index, const struct ekv_run *run, struct ekv_key key,
                      struct ekv_run_cursor *cursor, struct ekv_found *found)
{
    int error = bound(index, run, key, true, cursor, found);
    if (error == EKV_NOT_FOUND)
        return ekv_run_last(index, run, cursor, found);
    return error ? error : ekv_run_previous(index, run, cursor, found);
}

/* --- Exact lookup ---------------------------------------------------------------------------- */

/* Looks at one entry: EKV_OK if it is `key` in a version of at most `limit`. */
static int match(const struct ekv_index *index, const struct ekv_run *run, uint32_t address,
                 struct ekv_key key, uint64_t limit, struct ekv_found *found)
{
    uint64_t version = 0;
    int order;
    int error = ekv_entry_read(index->log, address, run->sequence, found);
    if (error)
        return error;
    error = ekv_record_compare(index->log, &found->record, key, &order);
    if (!error && order != 0) /* another key with this fingerprint; or this one, damaged */
        error = ekv_record_verify(index->log, &found->record, found->sequence);
    if (error || order != 0)
        return error ? error : EKV_NOT_FOUND;
    if (limit != EKV_VERSION_MAX)
        error = ekv_record_version(index->log, &found->record, found->sequence, &version);
    return error ? error : version <= limit ? EKV_OK : EKV_NOT_FOUND;
}

/* Where separators leave open which leaf holds the key: in order from the first possible entry. */
static int find_in_order(const struct ekv_index *index, const struct ekv_run *run,
                         struct ekv_key key, uint64_t limit, struct ekv_found *found)
{
    struct ekv_run_cursor cursor;
    int error = bound(index, run, key, false, &cursor, found);
    while (!error) {
        int order;
        error = ekv_record_compare(index->log, &found->record, key, &order);
        if (error || order != 0)
            return error ? error : EKV_NOT_FOUND;
        error = match(index, run, cursor.address, key, limit, found);
        if (error != EKV_NOT_FOUND)
            return error;
        error = ekv_run_next(index, run, &cursor, found);
    }
    return error;
}

static int filter_passes(const struct ekv_index *index, const struct ekv_run *run, uint32_t hash,
                         bool *passes)
{
    uint8_t buffer[EKV_FILTER_BLOCK_SIZE];
    const uint8_t *bits;
    *passes = true;
    if (run->filter == 0)
        return EKV_OK;
    int error =
        ekv_filter_read(index, run, ekv_filter_block(hash, run->filter_blocks), buffer, &bits);
    if (!error)
        *passes = ekv_filter_has(bits, hash);
    /* A damaged block costs a look into the run, not an answer. */
    return error == EKV_CORRUPT ? EKV_OK : error;
}

int ekv_run_find(const struct ekv_index *index, const struct ekv_run *run, struct ekv_key key,
                 uint32_t hash, uint64_t limit, struct ekv_found *found)
{
    const struct ekv_format *format = &index->log->sectors->format;
    struct ekv_page page;
    bool passes, uncertain = false;
    uint32_t at = run->root;
    int error = filter_passes(index, run, hash, &passes);
    if (error || !passes)
        return error ? error : EKV_NOT_FOUND;
    for (uint32_t level = run->height - 1u; level > 0; level--) {
        uint8_t place;
        error = ekv_page_read(index, run, at, (uint8_t)level, &page);
        if (!error)
            error = child_for(format, &page, key, &place, &at, &uncertain);
        if (error)
            return error;
    }
    if (uncertain)
        return find_in_order(index, run, key, limit, found);
    error = ekv_page_read(index, run, at, 0, &page);
    if (error)
        return error;
    uint32_t size = format->pointer_size + 1;
    for (uint32_t i = 0; i < page.count; i++) {
        const uint8_t *entry = page.bytes + EKV_PAGE_HEAD_SIZE + i * size;
        if (entry[size - 1] != hash >> 24)
            continue;
        error = match(index, run, ekv_pointer_load(format, entry), key, limit, found);
        if (error != EKV_NOT_FOUND)
            return error;
    }
    return EKV_NOT_FOUND;
}

/* --- Filters and sectors --------------------------------------------------------------------- */

uint32_t ekv_filter_block(uint32_t hash, uint32_t block_count)
{
    return (uint32_t)((uint64_t)hash * block_count >> 32);
}

/* Six bits of a block, by double hashing (Kirsch and Mitzenmacher 2006) on the hash mixed anew,
 * since its high bits chose the block. */
enum { FILTER_PROBES = 6 };

static uint32_t filter_mix(uint32_t hash)
{
    hash *= 0x9e3779b1u;
    return hash ^ hash >> 15;
}

void ekv_filter_set(uint8_t *bits, uint32_t hash)
{
    uint32_t mixed = filter_mix(hash), step = (mixed >> 16) | 1, at = mixed & 0xffff;
    for (uint32_t i = 0; i < FILTER_PROBES; i++, at += step)
        bits[at % EKV_FILTER_BITS / 8] &= (uint8_t) ~(1u << at % EKV_FILTER_BITS % 8);
}

bool ekv_filter_has(const uint8_t *bits, uint32_t hash)
{
    uint32_t mixed = filter_mix(hash), step = (mixed >> 16) | 1, at = mixed & 0xffff;
    for (uint32_t i = 0; i < FILTER_PROBES; i++, at += step)
        if (bits[at % EKV_FILTER_BITS / 8] >> at % EKV_FILTER_BITS % 8 & 1)
            return false;
    return true;
}

uint16_t ekv_filter_crc(const struct ekv_format *format, uint32_t run_id, uint32_t block,
                        const uint8_t *bits)
{
    uint32_t seed = ekv_format_seed(format, EKV_KIND_INDEX, run_id, block);
    return (uint16_t)ekv_crc32c(seed, bits, EKV_FILTER_BLOCK_SIZE - 2);
}

uint32_t ekv_filter_offset(const struct ekv_format *format)
{
    return ekv_align(format->body_offset, ekv_max(EKV_FILTER_BLOCK_SIZE, format->alignment));
}

uint32_t ekv_filter_sector_blocks(const struct ekv_format *format)
{
    return (format->geometry.sector_size - ekv_filter_offset(format)) / EKV_FILTER_BLOCK_SIZE;
}

int ekv_filter_address(const struct ekv_index *index, const struct ekv_run *run, uint32_t block,
                       uint32_t *address)
{
    uint8_t buffer[4];
    const uint8_t *bytes;
    uint32_t per_sector = ekv_filter_sector_blocks(&index->log->sectors->format);
    *address = run->filter;
    if (run->filter_blocks > per_sector) {
        uint32_t sector = block / per_sector;
        int error = ekv_sectors_view(index->log->sectors, run->filter + sector * 4, buffer,
                                     sizeof buffer, &bytes);
        if (error)
            return error;
        *address = ekv_load32(bytes);
        block -= sector * per_sector;
    }
    *address += block * EKV_FILTER_BLOCK_SIZE;
    return EKV_OK;
}

int ekv_filter_read(const struct ekv_index *index, const struct ekv_run *run, uint32_t number,
                    uint8_t buffer[EKV_FILTER_BLOCK_SIZE], const uint8_t **bits)
{
    const struct ekv_sectors *sectors = index->log->sectors;
    const uint8_t *block;
    uint32_t address;
    int error = ekv_filter_address(index, run, number, &address);
    if (!error)
        error = ekv_sectors_view(sectors, address, buffer, EKV_FILTER_BLOCK_SIZE, &block);
    if (error)
        return error;
    *bits = block + 2;
    uint32_t crc = (uint32_t)block[0] | (uint32_t)block[1] << 8;
    return crc == ekv_filter_crc(&sectors->format, run->id, number, *bits) ? EKV_OK : EKV_CORRUPT;
}
