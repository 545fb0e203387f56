/* Publishing: the catalog becomes durable, and with it sectors that were emptied become free. */
#ifndef EKV_PUBLISH_H
#define EKV_PUBLISH_H

#include "state.h"

/* Flushes the log's buffer and writes the catalog with all states and counts as of now. `added`: as
 * ekv_manifest_commit. Emptied sectors are free after it, or in limbo while a snapshot needs them.
 * A failure makes the store read-only.
 * Flash: a manifest edit. Power cut: the store before or after. */
EKV_MUST_CHECK int ekv_publish(struct ekv *db, uint32_t added);

/* Frees limbo sectors that no open snapshot needs any more. */
void ekv_publish_limbo(struct ekv *db);

#endif
