/* Manifests and runs: what they point at is committed.
 *
 * All chains of the ring are read, the oldest first, so that the newest whole one decides and runs
 * that were merged away long ago are known too: their pages may be there still, and a transaction
 * of many keys is committed by nothing but the run that points at its records.
 *
 * Reading goes on behind a broken frame and past a broken page.
 */
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "survey_parts.h"

enum { HEIGHT_MAX = 6, FILTER_SIZE_MIN = 32, RUN_ID_SLACK = 4096 };

/* --- Frames ---------------------------------------------------------------------------------- */

struct frame {
    uint8_t type;
    const uint8_t *payload;
    uint32_t size;   /* of the payload */
    uint32_t stored; /* with its head and padding */
};

static bool frame_read(const struct survey *survey, const uint8_t *bytes, uint32_t sequence,
                       uint32_t offset, struct frame *frame)
{
    const struct ekv_format *format = &survey->format;
    uint32_t room = ekv_page_room(offset);
    const uint8_t *at = bytes + offset;
    if (room < EKV_FRAME_HEAD_SIZE || offset >= format->geometry.sector_size)
        return false;
    frame->type = at[4];
    frame->size = (uint32_t)ekv_load(at + 5, 2);
    frame->payload = at + EKV_FRAME_HEAD_SIZE;
    if (frame->size > room - EKV_FRAME_HEAD_SIZE)
        return false;
    frame->stored = ekv_align(EKV_FRAME_HEAD_SIZE + frame->size, format->geometry.write_unit);
    uint32_t seed = ekv_format_seed(format, EKV_KIND_MANIFEST, sequence, offset);
    return ekv_crc32c(seed, at + 4, EKV_FRAME_HEAD_SIZE - 4 + frame->size) == ekv_load32(at);
}

static bool is_blank(const uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        if (bytes[i] != 0xff)
            return false;
    return true;
}

int survey_manifest_walk(const struct survey *survey, uint32_t sector, const uint8_t *bytes,
                         int (*visit)(void *context, const struct survey_item *item), void *context)
{
    const struct ekv_format *format = &survey->format;
    uint32_t size = format->geometry.sector_size, unit = format->geometry.write_unit;
    uint32_t sequence = survey->sectors[sector].sequence;
    int error = EKV_OK;
    for (uint32_t offset = format->body_offset; !error && offset < size;) {
        struct survey_item item = {.offset = offset, .bytes = bytes + offset};
        struct frame frame;
        if (frame_read(survey, bytes, sequence, offset, &frame)) {
            item.kind = SURVEY_FRAME;
            item.valid = true;
            item.size = frame.stored;
            item.number = frame.type;
        } else {
            bool blank = is_blank(bytes + offset, unit);
            uint32_t end = offset + unit;
            while (end < size && !frame_read(survey, bytes, sequence, end, &frame) &&
                   is_blank(bytes + end, unit) == blank)
                end += unit;
            item.kind = blank ? SURVEY_EMPTY : SURVEY_UNCLEAR;
            item.size = end - offset;
        }
        error = visit(context, &item);
        offset += item.size;
    }
    return error;
}

/* --- Items ----------------------------------------------------------------------------------- */

static int add_run(struct survey *survey, const uint8_t *item)
{
    struct survey_manifest *manifest = &survey->manifest;
    struct survey_run run = {
        .id = ekv_load32(item),
        .root = ekv_load32(item + 4),
        .entry_count = ekv_load32(item + 8),
        .sequence = ekv_load32(item + 12),
        .filter = ekv_load32(item + 16),
        .filter_blocks = (uint16_t)ekv_load(item + 20, 2),
        .level = item[22],
        .height = item[23],
        .current = true,
    };
    uint32_t i = 0;
    if (run.height == 0 || run.height > HEIGHT_MAX)
        return EKV_CORRUPT;
    while (i < manifest->run_count && manifest->runs[i].id != run.id)
        i++;
    if (i == manifest->run_count) {
        int error = survey_grow(&manifest->runs, &survey->parts->run_capacity, manifest->run_count,
                                sizeof run);
        if (error)
            return error;
        manifest->run_count++;
    }
    manifest->runs[i] = run;
    return EKV_OK;
}

static int set_order(struct survey *survey, const uint8_t *ids, uint32_t count)
{
    struct survey_manifest *manifest = &survey->manifest;
    int error = EKV_OK;
    uint32_t placed = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t j = placed;
        while (j < manifest->run_count && manifest->runs[j].id != ekv_load32(ids + 4 * i))
            j++;
        if (j == manifest->run_count) {
            error = EKV_CORRUPT;
            continue;
        }
        struct survey_run run = manifest->runs[j];
        memmove(manifest->runs + placed + 1, manifest->runs + placed, (j - placed) * sizeof run);
        manifest->runs[placed++] = run;
    }
    for (uint32_t i = 0; i < manifest->run_count; i++)
        manifest->runs[i].current = i < placed;
    return error;
}

static int set_state(struct survey *survey, const uint8_t *item)
{
    struct survey_manifest *manifest = &survey->manifest;
    const struct ekv_format *format = &survey->format;
    manifest->next_run_id = ekv_load32(item);
    manifest->replay_sector = (uint32_t)ekv_load(item + 4, 3);
    manifest->replay_sequence = ekv_load32(item + 7);
    manifest->replay_offset = (uint32_t)ekv_load(item + 11, 3);
    manifest->counted = ekv_load(item + 14, 6);
    manifest->keys = ekv_load32(item + 20);
    manifest->live_size = ekv_load(item + 24, 5);
    manifest->virgin = (uint32_t)ekv_load(item + 29, 3);
    manifest->erase_count_max = ekv_load32(item + 32);
    manifest->keys_aside = ekv_load32(item + 36);
    manifest->flushed = ekv_load(item + 40, 6);
    return manifest->replay_sector < format->geometry.sector_count &&
                   manifest->replay_sector >= format->ring_count &&
                   manifest->replay_offset >= format->body_offset &&
                   manifest->replay_offset <= format->geometry.sector_size &&
                   manifest->virgin <= format->geometry.sector_count
               ? EKV_OK
               : EKV_CORRUPT;
}

static int set_table(struct survey *survey, uint8_t kind, const uint8_t *item, uint32_t size,
                     uint32_t *used)
{
    uint32_t entry_size = ekv_item_entry_size(kind);
    if (size < EKV_ITEM_TABLE_HEAD_SIZE || (size - EKV_ITEM_TABLE_HEAD_SIZE) / entry_size < item[3])
        return EKV_CORRUPT;
    uint32_t sector = (uint32_t)ekv_load(item, 3);
    *used = EKV_ITEM_TABLE_HEAD_SIZE + item[3] * entry_size;
    for (uint32_t i = 0; i < item[3]; i++) {
        sector += item[EKV_ITEM_TABLE_HEAD_SIZE + i * entry_size];
        if (sector >= survey->format.geometry.sector_count || sector < survey->format.ring_count)
            return EKV_CORRUPT;
        survey->parts->table[sector] =
            kind == EKV_ITEM_LOG || kind == EKV_ITEM_RETIRED ? kind : 0; /* resting is free */
    }
    return EKV_OK;
}

/* Applies the items of one frame. EKV_CORRUPT: there is one that cannot be. */
static int apply(struct survey *survey, const uint8_t *at, uint32_t size)
{
    int worst = EKV_OK;
    while (size > 0) {
        uint8_t kind = *at++;
        uint32_t used = 0, left = --size;
        int error = EKV_CORRUPT;
        if (kind == EKV_ITEM_STORE && left >= EKV_ITEM_STORE_SIZE) {
            survey->manifest.retain = ekv_load32(at);
            memcpy(survey->manifest.label, at + 4, 31);
            used = EKV_ITEM_STORE_SIZE;
            error = EKV_OK;
        } else if (kind == EKV_ITEM_STATE && left >= EKV_ITEM_STATE_SIZE) {
            error = set_state(survey, at);
            used = EKV_ITEM_STATE_SIZE;
        } else if (kind == EKV_ITEM_RUN && left >= EKV_ITEM_RUN_SIZE) {
            error = add_run(survey, at);
            used = EKV_ITEM_RUN_SIZE;
        } else if (kind == EKV_ITEM_ORDER && left >= 1 && (left - 1) / 4 >= at[0]) {
            error = set_order(survey, at + 1, at[0]);
            used = 1u + 4u * at[0];
        } else if (kind >= EKV_ITEM_LOG && kind <= EKV_ITEM_RESTING) {
            error = set_table(survey, kind, at, left, &used);
        }
        if (error == EKV_MEMORY)
            return error;
        worst = error ? error : worst;
        if (used == 0)
            return EKV_CORRUPT;
        at += used;
        size -= used;
    }
    return worst;
}

/* --- Chains ---------------------------------------------------------------------------------- */

struct chain {
    struct survey *survey;
    uint32_t base, last;
    bool begun;          /* a whole checkpoint was read, which is in `group` until it is proven */
    bool proven;         /* a frame of an edit follows it: it was applied */
    bool damaged;        /* a frame stands behind damage, or says what cannot be */
    bool broken;         /* bytes were met that are no frame */
    bool wrong;          /* a frame says what cannot be */
    uint32_t checkpoint; /* the address of its final frame */
    uint32_t address;    /* of what is damaged */
    uint8_t *group;      /* payloads of the group that is not final yet */
    uint32_t group_size, group_capacity;
    uint32_t sector;
};

static int keep_payload(struct chain *chain, const struct frame *frame)
{
    while (chain->group_capacity < chain->group_size + frame->size) {
        int error = survey_grow(&chain->group, &chain->group_capacity, chain->group_capacity, 1);
        if (error)
            return error;
    }
    if (frame->size > 0)
        memcpy(chain->group + chain->group_size, frame->payload, frame->size);
    chain->group_size += frame->size;
    return EKV_OK;
}

static void reset(struct survey *survey)
{
    struct survey_manifest *manifest = &survey->manifest;
    for (uint32_t i = 0; i < manifest->run_count; i++)
        manifest->runs[i].current = false;
    memset(survey->parts->table, 0, survey->format.geometry.sector_count);
    manifest->found = true;
}

/* Applies the group that is whole. */
static int apply_group(struct chain *chain, uint32_t address)
{
    int error = apply(chain->survey, chain->group, chain->group_size);
    chain->group_size = 0;
    if (error == EKV_CORRUPT && !chain->damaged) {
        chain->damaged = chain->wrong = true;
        chain->address = address;
    }
    return error == EKV_MEMORY ? error : EKV_OK;
}

static int apply_checkpoint(struct chain *chain)
{
    chain->proven = true;
    reset(chain->survey);
    return apply_group(chain, chain->checkpoint);
}

static int take_frame(void *context, const struct survey_item *item)
{
    struct chain *chain = context;
    uint32_t address = ekv_address(&chain->survey->format, chain->sector, item->offset);
    if (item->kind == SURVEY_UNCLEAR && !chain->broken) {
        chain->broken = true;
        chain->address = address;
    }
    if (item->kind != SURVEY_FRAME)
        return EKV_OK;
    chain->survey->sectors[chain->sector].record_count++;
    struct frame frame = {.type = item->bytes[4],
                          .payload = item->bytes + EKV_FRAME_HEAD_SIZE,
                          .size = (uint32_t)ekv_load(item->bytes + 5, 2)};
    /* A crash of the host loses any frames of a checkpoint that was not whole yet. */
    bool unfinished = !chain->begun && frame.type == EKV_FRAME_CHECKPOINT;
    if (chain->broken && !chain->damaged) {
        chain->damaged = !unfinished;
        if (!chain->begun || chain->proven) /* else it is the checkpoint */
            chain->group_size = 0;
    }
    uint8_t type = frame.type & (uint8_t)~EKV_FRAME_FINAL;
    if (type != (chain->begun ? EKV_FRAME_EDIT : EKV_FRAME_CHECKPOINT)) {
        chain->group_size = 0;
        return EKV_OK;
    }
    int error = EKV_OK;
    if (chain->begun && !chain->proven)
        error = apply_checkpoint(chain);
    if (!error)
        error = keep_payload(chain, &frame);
    if (error || !(frame.type & EKV_FRAME_FINAL))
        return error;
    if (chain->begun)
        return apply_group(chain, address);
    chain->begun = true;
    chain->checkpoint = address;
    return EKV_OK;
}

static uint32_t ring_sector(const struct survey *survey, uint32_t sequence)
{
    for (uint32_t i = 0; i < survey->format.ring_count; i++)
        if (survey->sectors[i].kind == EKV_KIND_MANIFEST && survey->sectors[i].sequence == sequence)
            return i;
    return EKV_NO_SECTOR;
}

static int read_chain(struct survey *survey, uint32_t base, uint32_t last, bool newest)
{
    struct chain chain = {.survey = survey, .base = base, .last = last};
    int error = EKV_OK;
    bool lacking = false;
    /* Of a checkpoint that was not whole yet a crash of the host may take stamps, too. */
    bool dump_is_whole = true;
    for (uint32_t i = 0; i < survey->format.ring_count; i++)
        dump_is_whole &= survey->sectors[i].role != SURVEY_MISSING || survey->sectors[i].kind != 0;
    for (uint32_t sequence = base; !error; sequence++) {
        uint32_t sector = ring_sector(survey, sequence);
        const uint8_t *bytes = NULL;
        if (sector != EKV_NO_SECTOR)
            bytes = survey_sector_bytes(survey, sector, survey->parts->buffer);
        chain.sector = sector;
        if (bytes)
            error = survey_manifest_walk(survey, sector, bytes, take_frame, &chain);
        else
            lacking = chain.broken = true;
        if (sequence == last)
            break;
    }
    lacking &= !dump_is_whole || chain.begun;
    /* One that is not proven counts only if there is nothing else. */
    if (!error && chain.begun && !chain.proven && !survey->manifest.found)
        error = apply_checkpoint(&chain);
    free(chain.group);
    if (!error && chain.proven) {
        survey->manifest.sequence = last;
        survey->manifest.whole = !chain.damaged && !lacking;
        survey->manifest.torn = chain.broken;
    } else if (newest && (chain.damaged || lacking)) {
        survey->manifest.whole = false; /* what came last cannot be read */
    }
    if (!error && newest && (chain.damaged || lacking)) {
        error =
            survey_find_broken(survey, chain.wrong ? "manifest-item" : "frame-crc", chain.address,
                               chain.wrong ? "the newest manifest says what cannot be"
                                           : "the newest manifest is damaged");
    }
    return error;
}

int survey_manifest_read(struct survey *survey)
{
    uint64_t done = 0;
    int error = EKV_OK;
    for (;;) {
        /* The chain that ends first, of those not read yet. */
        uint64_t last = UINT64_MAX, newest = 0;
        uint32_t base = 0;
        for (uint32_t i = 0; i < survey->format.ring_count; i++) {
            const struct survey_sector *sector = &survey->sectors[i];
            if (sector->kind != EKV_KIND_MANIFEST || (uint64_t)sector->sequence + 1 <= done)
                continue;
            newest = sector->sequence > newest ? sector->sequence : newest;
            if (sector->sequence < last)
                last = sector->sequence;
        }
        if (error || last == UINT64_MAX)
            return error;
        /* Further sectors of the same chain begin it at the same number. */
        base = (uint32_t)last;
        for (uint32_t i = 0; i < survey->format.ring_count; i++) {
            const struct survey_sector *sector = &survey->sectors[i];
            uint32_t begin = sector->sequence - ekv_min(sector->next, sector->sequence);
            if (sector->kind == EKV_KIND_MANIFEST && sector->sequence >= last &&
                sector->next < survey->format.ring_count && begin <= base) {
                base = begin;
                last = sector->sequence;
            }
        }
        error = read_chain(survey, base, (uint32_t)last, last == newest);
        done = last + 1;
    }
}

/* --- Runs ------------------------------------------------------------------------------------ */

struct run_walk {
    struct survey *survey;
    const struct survey_run *run;
    uint32_t page;       /* address of the page that is read */
    uint32_t pages_left; /* a bound: no run has more pages than fit the flash */
    int error;
};

static uint64_t flash_size(const struct survey *survey)
{
    return (uint64_t)survey->format.geometry.sector_size * survey->format.geometry.sector_count;
}

/* A page's bytes, checked; NULL when they are not a page of this run and level. */
static const uint8_t *page_read(const struct survey *survey, const struct survey_run *run,
                                uint32_t address, uint8_t level, uint8_t page[EKV_PAGE_SIZE])
{
    uint32_t room = ekv_page_room(address);
    uint64_t flash = flash_size(survey);
    if (address >= flash || room < EKV_PAGE_HEAD_SIZE ||
        survey_read(survey, address, page, room) != EKV_OK)
        return NULL;
    uint32_t size = page[6] + 1u;
    if (size < EKV_PAGE_HEAD_SIZE || size > room || page[4] != level || page[5] == 0)
        return NULL;
    uint32_t crc = ekv_format_seed(&survey->format, EKV_KIND_INDEX, run->id, address);
    return ekv_crc32c(crc, page + 4, size - 4) == ekv_load32(page) ? page : NULL;
}

/* An entry of the index is lost or leads nowhere, so nothing else may lead to its key. */
static void find_astray(struct run_walk *walk, const char *code, uint32_t address, const char *text)
{
    if (!walk->run->current || walk->survey->parts->filter)
        return;
    walk->survey->manifest.index_damaged = true;
    walk->error = survey_find_broken(walk->survey, code, address, text);
}

/* A run points at this record. */
static void mark_record(struct run_walk *walk, uint32_t address)
{
    struct survey *survey = walk->survey;
    uint32_t index = ekv_sector_of(&survey->format, address);
    if (index >= survey->format.geometry.sector_count) {
        find_astray(walk, "page-pointer", walk->page,
                    "an entry of the index leads out of the flash");
        return;
    }
    const struct survey_sector *sector = &survey->sectors[index];
    if (sector->kind != EKV_KIND_LOG || sector->sequence > walk->run->sequence)
        return; /* stale, or not there */
    struct survey_record *record = survey_record_at(survey, address);
    if (record) {
        record->in_run = true;
        record->indexed |= walk->run->current;
    } else if (survey->parts->table[index] == EKV_ITEM_LOG) {
        find_astray(walk, "record-crc", address, "the index leads to a record that cannot be read");
    }
}

/* Pages below the one at `address`, depth first; a level is one lower than that above it. */
static void walk_page(struct run_walk *walk, uint32_t address, uint8_t level)
{
    const struct survey *survey = walk->survey;
    uint8_t buffer[EKV_PAGE_SIZE];
    const uint8_t *page = NULL;
    if (walk->error || walk->pages_left == 0)
        return;
    walk->pages_left--;
    page = page_read(survey, walk->run, address, level, buffer);
    if (!page) {
        if (walk->run->current)
            walk->survey->manifest.index_damaged = true;
        if (walk->run->current && !survey->parts->filter)
            walk->error = survey_find_broken(walk->survey, "page-crc", address,
                                             "a page of the index cannot be read");
        return;
    }
    uint32_t at = EKV_PAGE_HEAD_SIZE, size = page[6] + 1u;
    uint32_t pointer = survey->format.pointer_size, head = pointer + (level ? 2 : 1);
    walk->page = address;
    if (walk->run->current) {
        uint32_t sector = ekv_sector_of(&survey->format, address);
        bool twice = walk->survey->parts->table[sector] == EKV_ITEM_LOG;
        if (twice && !survey->parts->filter)
            walk->error = survey_find_broken(walk->survey, "sector-roles",
                                             ekv_address(&survey->format, sector, 0),
                                             "a sector is both log and index");
        walk->survey->parts->table[sector] = EKV_KIND_INDEX;
        walk->survey->sectors[sector].record_count++;
        walk->survey->sectors[sector].live_size += size;
    }
    uint8_t i = 0;
    for (; i < page[5] && at + head <= size; i++) {
        uint32_t to = ekv_pointer_load(&survey->format, page + at);
        uint32_t suffix = level ? page[at + pointer + 1] & (uint32_t)~EKV_SEPARATOR_CUT : 0;
        at += head + suffix;
        if (level == 0)
            mark_record(walk, to);
        else
            walk_page(walk, to, level - 1);
    }
    if ((i < page[5] || at != size) && !walk->error)
        find_astray(walk, "page-entries", address,
                    "a page of the index has not as many entries as it says");
}

/* Sectors of a filter: its first block, or its map and what that names. */
static void mark_filter(struct survey *survey, const struct survey_run *run)
{
    const struct ekv_format *format = &survey->format;
    uint32_t first = ekv_align(format->body_offset, ekv_max(FILTER_SIZE_MIN, format->alignment));
    uint32_t most = (format->geometry.sector_size - first) / EKV_FILTER_BLOCK_SIZE;
    uint32_t sector = ekv_sector_of(format, run->filter), count = format->geometry.sector_count;
    if (run->filter == 0 || sector >= count)
        return;
    survey->parts->table[sector] = EKV_KIND_INDEX;
    for (uint32_t i = 0; run->filter_blocks > most && i * most < run->filter_blocks; i++) {
        uint8_t address[4];
        if (survey_read(survey, run->filter + 4 * i, address, sizeof address) != EKV_OK)
            return;
        sector = ekv_sector_of(format, ekv_load32(address));
        if (sector < count)
            survey->parts->table[sector] = EKV_KIND_INDEX;
    }
}

static int compare_addresses(const void *left, const void *right)
{
    const struct survey_record *a = left, *b = right;
    return a->address < b->address ? -1 : a->address > b->address;
}

struct survey_record *survey_record_at(struct survey *survey, uint32_t address)
{
    struct survey_record wanted = {.address = address};
    return survey->record_count ? bsearch(&wanted, survey->records, survey->record_count,
                                          sizeof wanted, compare_addresses)
                                : NULL;
}

int survey_runs_read(struct survey *survey)
{
    const struct survey_manifest *manifest = &survey->manifest;
    int error = EKV_OK;
    if (survey->record_count)
        qsort(survey->records, survey->record_count, sizeof *survey->records, compare_addresses);
    for (uint32_t i = manifest->run_count; !error && i-- > 0;) {
        const struct survey_run *run = &manifest->runs[i];
        struct run_walk walk = {.survey = survey, .run = run};
        walk.pages_left = (uint32_t)(flash_size(survey) / EKV_PAGE_HEAD_SIZE);
        walk_page(&walk, run->root, run->height - 1);
        if (run->current)
            mark_filter(survey, run);
        error = walk.error;
    }
    return error;
}

/* --- Index sectors for display --------------------------------------------------------------- */

/* The run of a page that lies here, by its checksum; false when no page does. */
static bool page_run(const struct survey *survey, uint32_t sector, const uint8_t *bytes,
                     uint32_t offset, uint32_t *run)
{
    const struct survey_manifest *manifest = &survey->manifest;
    uint32_t size = bytes[offset + 6] + 1u, address = ekv_address(&survey->format, sector, offset);
    if (size > ekv_page_room(offset) || size < EKV_PAGE_HEAD_SIZE || bytes[offset + 5] == 0 ||
        bytes[offset + 4] >= HEIGHT_MAX)
        return false;
    *run = survey_solve(survey, EKV_KIND_INDEX, address, bytes + offset + 4, size - 4,
                        ekv_load32(bytes + offset));
    for (uint32_t i = 0; i < manifest->run_count; i++)
        if (manifest->runs[i].id == *run)
            return true;
    uint32_t first = survey->sectors[sector].sequence;
    return *run + RUN_ID_SLACK >= first && *run - ekv_min(first, *run) <= RUN_ID_SLACK;
}

int survey_index_walk(const struct survey *survey, uint32_t sector, const uint8_t *bytes,
                      int (*visit)(void *context, const struct survey_item *item), void *context)
{
    const struct ekv_format *format = &survey->format;
    uint32_t size = format->geometry.sector_size, step = format->alignment, run;
    int error = EKV_OK;
    for (uint32_t offset = format->body_offset; !error && offset < size;) {
        struct survey_item item = {.offset = offset, .bytes = bytes + offset};
        bool room = ekv_page_room(offset) > EKV_PAGE_HEAD_SIZE;
        if (room && page_run(survey, sector, bytes, offset, &item.number)) {
            item.kind = SURVEY_PAGE;
            item.valid = true;
            item.size = ekv_align(bytes[offset + 6] + 1u, format->geometry.write_unit);
        } else {
            bool blank = is_blank(bytes + offset, step);
            uint32_t end = offset + step;
            while (end < size && is_blank(bytes + end, step) == blank &&
                   !(ekv_page_room(end) > EKV_PAGE_HEAD_SIZE &&
                     page_run(survey, sector, bytes, end, &run)))
                end += step;
            item.kind = blank ? SURVEY_EMPTY : SURVEY_UNCLEAR;
            item.size = end - offset;
        }
        error = visit(context, &item);
        offset += item.size;
    }
    return error;
}
