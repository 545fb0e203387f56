/* Walks the pages of a run, whole ones and damaged ones.
 *
 * A page below must have the level that its place says, so the walk ends however its links lie.
 */
#include "walk.h"

/* Where the walk stands in a page: links taken, of `count`, and where the next one is; 0: nowhere,
 * the page was not visited yet. */
struct place {
    uint32_t address;
    uint32_t offset;
    uint8_t taken;
    uint8_t count;
};

/* Visits a page that the walk comes to. A damaged one has no links. */
static int enter(const struct ekv_index *index, const struct ekv_run *run, uint32_t level,
                 struct place *place,
                 int (*visit)(void *context, uint32_t address, const struct ekv_page *page),
                 void *context)
{
    const struct ekv_format *format = &index->log->sectors->format;
    struct ekv_page page;
    uint32_t child;
    int error = ekv_page_read(index, run, place->address, (uint8_t)level, &page);
    if (!error && level > 0) /* all links are sound if the last one is */
        error = ekv_page_child(format, &page, page.count - 1u, &child);
    if (error == EKV_IO)
        return error;
    place->offset = EKV_PAGE_HEAD_SIZE;
    place->taken = 0;
    place->count = !error && level > 0 ? page.count : 0;
    return visit(context, place->address, error ? NULL : &page);
}

int ekv_run_walk(const struct ekv_index *index, const struct ekv_run *run,
                 int (*visit)(void *context, uint32_t address, const struct ekv_page *page),
                 void *context)
{
    struct place places[EKV_RUN_HEIGHT_MAX];
    uint32_t level = run->height - 1u;
    places[level] = (struct place){.address = run->root};
    while (level < run->height) {
        struct place *place = &places[level];
        struct ekv_page page;
        uint32_t child;
        int error = EKV_OK;
        if (place->offset == 0)
            error = enter(index, run, level, place, visit, context);
        if (error)
            return error;
        if (place->taken == place->count) {
            level++;
            continue;
        }
        error = ekv_page_read(index, run, place->address, (uint8_t)level, &page);
        if (!error)
            error = ekv_page_link(&index->log->sectors->format, &page, &place->offset, &child);
        if (error)
            return error;
        place->taken++;
        places[--level] = (struct place){.address = child};
    }
    return EKV_OK;
}

struct sectors_visit {
    const struct ekv_index *index;
    const struct ekv_run *run;
    const struct ekv_format *format;
    int (*visit)(void *context, uint32_t sector);
    void *context;
    bool damaged;
};

static int visit_page(void *context, uint32_t address, const struct ekv_page *page)
{
    struct sectors_visit *sectors = context;
    struct ekv_mend mend;
    sectors->damaged |= !page;
    if (!page && ekv_page_flipped(sectors->index, sectors->run, address, &mend))
        sectors->index->log->sectors->mends.suspect = mend;
    return page ? sectors->visit(sectors->context, ekv_sector_of(sectors->format, address))
                : EKV_OK;
}

/* The sectors that the map of a filter names; where no block of it lies the map is damaged. */
static int visit_map(const struct ekv_index *index, const struct ekv_run *run,
                     struct sectors_visit *sectors)
{
    uint32_t per_sector = ekv_filter_sector_blocks(sectors->format);
    for (uint32_t block = 0; block < run->filter_blocks; block += per_sector) {
        uint8_t buffer[EKV_FILTER_BLOCK_SIZE];
        const uint8_t *bits;
        uint32_t address;
        int error = ekv_filter_read(index, run, block, buffer, &bits);
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
    struct sectors_visit sectors = {index, run, format, visit, context, false};
    int error = ekv_run_walk(index, run, visit_page, &sectors);
    if (!error && run->filter != 0)
        error = visit(context, ekv_sector_of(format, run->filter));
    if (!error && run->filter != 0 && run->filter_blocks > ekv_filter_sector_blocks(format))
        error = visit_map(index, run, &sectors);
    *damaged = sectors.damaged;
    return error;
}
