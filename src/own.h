/* Which index sectors the runs own. It is nowhere on flash: it follows from the runs' pages. */
#ifndef EKV_OWN_H
#define EKV_OWN_H

#include "state.h"

/* True for a sector that the session before may have put to use since the manifest was written. A
 * resting one may have become free meanwhile. */
static inline bool ekv_own_usable(enum ekv_sector_state state)
{
    return state == EKV_SECTOR_FREE || state == EKV_SECTOR_LIMBO;
}

/* Makes every sector that a page of a run lies in an index sector and counts its pages, at mount.
 * `damaged`: a page is, so nobody knows which sectors hold those below it, and nothing may be
 * erased any more. Errors: EKV_CORRUPT (a page's sector is somebody else's). Flash: reads every
 * page. */
EKV_MUST_CHECK int ekv_own_runs(struct ekv *db, bool *damaged);

/* After a build that was given up, a merge that is going on included: counts anew, and frees the
 * sectors of pages that no run has. What cannot be counted because of an error stays until the next
 * mount. Flash: reads every page. */
void ekv_own_again(struct ekv *db);

#endif
