/* Walks the pages of a run, whole ones and damaged ones.
 *
 * A page below must have the level that its place says, so the walk ends however its links lie.
 */
#include "walk.h"

int ekv_run_walk(const struct ekv_index *index, const struct ekv_run *run,
                 int (*visit)(void *context, uint32_t address, const struct ekv_page *page),
                 void *context)
{
    const struct ekv_format *format = &index->log->sectors->format;
    uint32_t pages[EKV_RUN_HEIGHT_MAX], places[EKV_RUN_HEIGHT_MAX];
    uint32_t level = run->height - 1u;
    pages[level] = run->root;
    places[level] = 0;
    while (level < run->height) {
        struct ekv_page page;
        uint32_t child;
        int error = ekv_page_read(index, run, pages[level], (uint8_t)level, &page);
        if (!error && level > 0) /* all links are sound if the last one is */
            error = ekv_page_child(format, &page, page.count - 1u, &child);
        if (error == EKV_IO)
            return error;
        uint32_t count = !error && level > 0 ? page.count : 0;
        if (places[level] == 0) {
            int result = visit(context, pages[level], error ? NULL : &page);
            if (result)
                return result;
        }
        if (places[level] == count) {
            level++;
            continue;
        }
        error = ekv_page_read(index, run, pages[level], (uint8_t)level, &page);
        if (!error)
            error = ekv_page_child(format, &page, places[level]++, &child);
        if (error)
            return error;
        pages[--level] = child;
        places[level] = 0;
    }
    return EKV_OK;
}

struct sectors_visit {
    const struct ekv_format *format;
    int (*visit)(void *context, uint32_t sector);
    void *context;
    bool damaged;
};

static int visit_page(void *context, uint32_t address, const struct ekv_page *page)
{
    struct sectors_visit *sectors = context;
    sectors->damaged |= !page;
    return page ? sectors->visit(sectors->context, ekv_sector_of(sectors->format, address))
                : EKV_OK;
}

/* The sectors that the map of a filter names; where no block of it lies the map is damaged. */
static int visit_map(const struct ekv_index *index, const struct ekv_run *run,
                     struct sectors_visit *sectors)
{
    uint32_t per_sector = ekv_filter_sector_blocks(sectors->format);
    for (uint32_t block = 0; block < run->filter_blocks; block += per_sector) {
        uint8_t bytes[EKV_FILTER_BLOCK_SIZE];
        uint32_t address;
        int error = ekv_filter_read(index, run, block, bytes);
        if (!error)
            error = ekv_filter_address(index, run, block, &address);
        if (error == EKV_CORRUPT) {
            sectors->damaged = true;
            continue;
        }
        if (!error)
            error = sectors->visit(sectors->context, ekv_sector_of(sectors->format, address));
        if (error)
            return error;
    }
    return EKV_OK;
}

int ekv_run_sectors(const struct ekv_index *index, const struct ekv_run *run,
                    int (*visit)(void *context, uint32_t sector), void *context, bool *damaged)
{
    const struct ekv_format *format = &index->log->sectors->format;
    struct sectors_visit sectors = {format, visit, context, false};
    int error = ekv_run_walk(index, run, visit_page, &sectors);
    if (!error && run->filter != 0)
        error = visit(context, ekv_sector_of(format, run->filter));
    if (!error && run->filter != 0 && run->filter_blocks > ekv_filter_sector_blocks(format))
        error = visit_map(index, run, &sectors);
    *damaged = sectors.damaged;
    return error;
}
