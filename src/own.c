/* Counts the pages of the runs in each index sector.
 *
 * A run's pages are found by walking it, so nothing on flash can disagree with them. A power cut
 * leaves pages that no run has, in sectors that are free at the next mount; a build that is given
 * up in the middle leaves the same, and the same count finds them.
 */
#include "own.h"

#include "walk.h"

static int own_sector(void *context, uint32_t sector)
{
    struct ekv *db = context;
    enum ekv_sector_state state;
    if (sector >= ekv_format_of(db)->geometry.sector_count)
        return ekv_corrupt();
    state = ekv_sector_state(&db->sectors, sector);
    if (ekv_own_usable(state))
        ekv_sector_set(&db->sectors, sector, EKV_SECTOR_INDEX);
    else if (state != EKV_SECTOR_INDEX)
        return ekv_corrupt();
    if (db->sectors.lives[sector] == UINT8_MAX)
        return ekv_corrupt();
    db->sectors.lives[sector]++;
    ekv_sector_clean(&db->sectors, sector);
    return EKV_OK;
}

int ekv_own_runs(struct ekv *db, bool *damaged)
{
    *damaged = false;
    for (uint32_t i = 0; i < db->catalog.run_count; i++) {
        bool one;
        int error = ekv_run_sectors(&db->index, &db->catalog.runs[i], own_sector, db, &one);
        if (!error)
            error = ekv_run_note_root(&db->index, &db->catalog.runs[i]);
        if (error)
            return error;
        *damaged |= one;
    }
    return EKV_OK;
}

void ekv_own_again(struct ekv *db)
{
    uint32_t count = ekv_format_of(db)->geometry.sector_count;
    db->merge.phase = EKV_MERGE_IDLE;
    for (uint32_t i = 0; i < count; i++)
        if (ekv_sector_state(&db->sectors, i) == EKV_SECTOR_INDEX)
            db->sectors.lives[i] = 0;
    bool damaged;
    int error = ekv_own_runs(db, &damaged);
    for (uint32_t i = 0; i < count; i++) {
        if (ekv_sector_state(&db->sectors, i) != EKV_SECTOR_INDEX)
            continue;
        if (error || damaged)
            db->sectors.lives[i] = UINT8_MAX;
        else if (db->sectors.lives[i] == 0 && i != db->index.sector)
            ekv_sector_set(&db->sectors, i, EKV_SECTOR_FREE);
    }
}
