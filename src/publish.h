/* Publishing: the catalog becomes durable, and with it sectors that were emptied become free. */
#ifndef EKV_PUBLISH_H
#define EKV_PUBLISH_H

#include "state.h"

/* Flushes the log's buffer and writes the catalog with all states and counts as of now. `added`: as
 * ekv_manifest_commit. Emptied sectors are free after it, or in limbo while a snapshot needs them.
 * The log's buffer should be flushed before anything is changed that the catalog is to say; a
 * failure behind that makes the store read-only.
 * Flash: a manifest edit. Power cut: the store before or after. */
EKV_MUST_CHECK int ekv_publish(struct ekv *db, uint32_t added);

/* The generation that a sector emptied now gets, or with `snapshot` one opened now. Time, in parts
 * of the span, if a span is retained; else a number that grows with each snapshot that is opened
 * while sectors wait. */
uint32_t ekv_generation(struct ekv *db, bool snapshot);

/* Frees limbo sectors that no open snapshot and no retained span needs any more. */
void ekv_publish_limbo(struct ekv *db);

#endif
