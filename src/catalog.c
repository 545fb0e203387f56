/* Encodes the items of the manifest, and applies them to the catalog and the table of sectors.
 *
 * Every number is checked against the geometry before it is used; a frame has a good checksum by
 * then, so what cannot be is damage and never the trace of a power cut.
 */
#include "catalog.h"

#include <string.h>

void ekv_catalog_store_encode(const struct ekv_catalog *catalog, uint8_t *item)
{
    uint32_t seconds = catalog->retain_seconds;
    item[0] = EKV_ITEM_STORE;
    ekv_store32(item + 1,
                seconds ? ~(uint32_t)EKV_RETAIN_SECONDS_MAX | seconds : catalog->retain_count);
    memcpy(item + 5, catalog->label, 31);
}

void ekv_catalog_state_encode(const struct ekv_catalog *catalog, struct ekv_sectors *sectors,
                              uint8_t *item)
{
    item[0] = EKV_ITEM_STATE;
    ekv_store32(item + 1, catalog->next_run_id);
    ekv_store(item + 5, catalog->replay_sector, 3);
    ekv_store32(item + 8, catalog->replay_sequence);
    ekv_store(item + 12, catalog->replay_offset, 3);
    ekv_store(item + 15, catalog->counted, 6);
    ekv_store32(item + 21, catalog->keys);
    ekv_store(item + 25, catalog->live_size, 5);
    ekv_store(item + 30, ekv_sectors_virgin_save(sectors), 3);
    ekv_store32(item + 33, sectors->erase_count_max);
    ekv_store32(item + 37, catalog->keys_aside);
    ekv_store(item + 41, catalog->flushed, 6);
}

void ekv_catalog_run_encode(const struct ekv_run *run, uint8_t *item)
{
    item[0] = EKV_ITEM_RUN;
    ekv_store32(item + 1, run->id);
    ekv_store32(item + 5, run->root);
    ekv_store32(item + 9, run->entry_count);
    ekv_store32(item + 13, run->sequence);
    ekv_store32(item + 17, run->filter);
    ekv_store(item + 21, run->filter_blocks, 2);
    item[23] = run->level;
    item[24] = run->height;
}

void ekv_catalog_order_encode(const struct ekv_catalog *catalog, uint8_t *item)
{
    item[0] = EKV_ITEM_ORDER;
    item[1] = (uint8_t)catalog->run_count;
    for (uint32_t i = 0; i < catalog->run_count; i++)
        ekv_store32(item + 2 + 4 * i, catalog->runs[i].id);
}

static int order_apply(struct ekv_catalog *catalog, const uint8_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t j = i;
        while (j < catalog->run_count && catalog->runs[j].id != ekv_load32(ids + 4 * i))
            j++;
        if (j >= catalog->run_count)
            return EKV_CORRUPT;
        struct ekv_run run = catalog->runs[j];
        memmove(catalog->runs + i + 1, catalog->runs + i, (j - i) * sizeof run);
        catalog->runs[i] = run;
    }
    catalog->run_count = count;
    return EKV_OK;
}

static int state_apply(struct ekv_sectors *sectors, struct ekv_catalog *catalog,
                       const uint8_t *item)
{
    const struct ekv_format *format = &sectors->format;
    catalog->next_run_id = ekv_load32(item);
    catalog->replay_sector = (uint32_t)ekv_load(item + 4, 3);
    catalog->replay_sequence = ekv_load32(item + 7);
    catalog->replay_offset = (uint32_t)ekv_load(item + 11, 3);
    catalog->counted = ekv_load(item + 14, 6);
    catalog->keys = ekv_load32(item + 20);
    catalog->live_size = ekv_load(item + 24, 5);
    sectors->virgin = (uint32_t)ekv_load(item + 29, 3);
    sectors->virgin_saved = sectors->virgin;
    sectors->erase_count_max = ekv_load32(item + 32);
    catalog->keys_aside = ekv_load32(item + 36);
    catalog->flushed = ekv_load(item + 40, 6);
    if (catalog->replay_sector >= format->geometry.sector_count ||
        catalog->replay_sector < format->ring_count ||
        catalog->replay_offset > format->geometry.sector_size ||
        catalog->replay_offset < format->body_offset ||
        sectors->virgin > format->geometry.sector_count)
        return EKV_CORRUPT;
    return EKV_OK;
}

static int run_apply(struct ekv_sectors *sectors, struct ekv_catalog *catalog, const uint8_t *item)
{
    uint32_t size = ekv_flash_size(&sectors->flash);
    struct ekv_run run = {
        .id = ekv_load32(item),
        .root = ekv_load32(item + 4),
        .entry_count = ekv_load32(item + 8),
        .sequence = ekv_load32(item + 12),
        .filter = ekv_load32(item + 16),
        .filter_blocks = (uint16_t)ekv_load(item + 20, 2),
        .level = item[22],
        .height = item[23],
    };
    if (run.root >= size || run.filter >= size || run.height == 0 ||
        run.height > EKV_RUN_HEIGHT_MAX || (run.filter != 0 && run.filter_blocks == 0) ||
        catalog->run_count >= catalog->run_capacity)
        return EKV_CORRUPT;
    catalog->runs[catalog->run_count++] = run;
    return EKV_OK;
}

static int table_apply(struct ekv_sectors *sectors, uint8_t kind, const uint8_t *item,
                       uint32_t size, uint32_t *used)
{
    const struct ekv_format *format = &sectors->format;
    static const enum ekv_sector_state states[] = {EKV_SECTOR_LOG, EKV_SECTOR_FREE,
                                                   EKV_SECTOR_RETIRED, EKV_SECTOR_LIMBO};
    uint32_t entry_size = ekv_item_entry_size(kind);
    if (size < EKV_ITEM_TABLE_HEAD_SIZE || (size - EKV_ITEM_TABLE_HEAD_SIZE) / entry_size < item[3])
        return EKV_CORRUPT;
    uint32_t sector = (uint32_t)ekv_load(item, 3);
    *used = EKV_ITEM_TABLE_HEAD_SIZE + item[3] * entry_size;
    for (uint32_t i = 0; i < item[3]; i++) {
        const uint8_t *entry = item + EKV_ITEM_TABLE_HEAD_SIZE + i * entry_size;
        sector += entry[0];
        if (sector < format->ring_count || sector >= format->geometry.sector_count)
            return EKV_CORRUPT;
        ekv_sector_set(sectors, sector, states[kind - EKV_ITEM_LOG]);
        if (entry_size == 2)
            sectors->lives[sector] = entry[1];
    }
    return EKV_OK;
}

static void retain_apply(struct ekv_catalog *catalog, uint32_t retain)
{
    bool seconds = retain > EKV_RETAIN_SECONDS_MAX;
    catalog->retain_count = seconds ? 0 : retain;
    catalog->retain_seconds = seconds ? retain & EKV_RETAIN_SECONDS_MAX : 0;
}

int ekv_catalog_apply(struct ekv_catalog *catalog, struct ekv_sectors *sectors, const uint8_t *at,
                      uint32_t size)
{
    while (size > 0) {
        uint8_t kind = *at++;
        uint32_t used = 0, left = --size;
        int error = EKV_CORRUPT;
        if (kind == EKV_ITEM_STORE && left >= EKV_ITEM_STORE_SIZE) {
            retain_apply(catalog, ekv_load32(at));
            memcpy(catalog->label, at + 4, 31);
            used = EKV_ITEM_STORE_SIZE;
            error = EKV_OK;
        } else if (kind == EKV_ITEM_STATE && left >= EKV_ITEM_STATE_SIZE) {
            error = state_apply(sectors, catalog, at);
            used = EKV_ITEM_STATE_SIZE;
        } else if (kind == EKV_ITEM_RUN && left >= EKV_ITEM_RUN_SIZE) {
            error = run_apply(sectors, catalog, at);
            used = EKV_ITEM_RUN_SIZE;
        } else if (kind == EKV_ITEM_ORDER && left >= 1 && (left - 1) / 4 >= at[0]) {
            error = order_apply(catalog, at + 1, at[0]);
            used = 1u + 4u * at[0];
        } else if (kind >= EKV_ITEM_LOG && kind <= EKV_ITEM_RESTING) {
            error = table_apply(sectors, kind, at, left, &used);
        }
        if (error)
            return error;
        at += used;
        size -= used;
    }
    return EKV_OK;
}
