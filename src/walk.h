/* Walking all pages of a run. */
#ifndef EKV_WALK_H
#define EKV_WALK_H

#include "run.h"

/* Calls `visit` with every page of the run, those above before those below, until it returns
 * something else than EKV_OK. `page` is NULL for a damaged one, and what is below that is passed
 * over; otherwise it is valid until the next read. Flash: two reads a page. */
EKV_MUST_CHECK int ekv_run_walk(const struct ekv_index *index, const struct ekv_run *run,
                                int (*visit)(void *context, uint32_t address,
                                             const struct ekv_page *page),
                                void *context);

/* Calls `visit` with the sector of every page of the run, and of its filter and the filter's map:
 * once for each. What is damaged is passed over, and `damaged` set; a page that one bit explains is
 * suspected (mend.h). */
EKV_MUST_CHECK int ekv_run_sectors(const struct ekv_index *index, const struct ekv_run *run,
                                   int (*visit)(void *context, uint32_t sector), void *context,
                                   bool *damaged);

#endif
