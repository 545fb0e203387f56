/* Sectors that stay free so that what frees room always finds room: DESIGN.md, section 12. */
#ifndef EKV_RESERVE_H
#define EKV_RESERVE_H

#include "state.h"

/* Sectors in which all runs can be merged into one and a full memtable flushed behind it. Whoever
 * writes to the log leaves them. */
uint32_t ekv_reserve_index(const struct ekv *db);

/* The same once all runs are one. */
uint32_t ekv_reserve_index_least(const struct ekv *db);

/* True if a flush would leave room for a merge of all runs. */
bool ekv_reserve_holds_flush(const struct ekv *db);

/* Sectors for the log that a put leaves beside those: for a collection, for a recovery, and for
 * deletes. A delete leaves one less. */
uint32_t ekv_reserve_log(const struct ekv *db);

/* Sectors that a collection leaves. */
uint32_t ekv_reserve_collection(const struct ekv *db);

/* Index sectors that would be free if all runs were one; 0 if they are. */
uint32_t ekv_reserve_surplus(const struct ekv *db);

#endif
