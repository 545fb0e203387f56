/* Snapshots for the layers above, with the lock held. */
#ifndef EKV_SNAPSHOT_H
#define EKV_SNAPSHOT_H

#include "state.h"

void ekv_snapshot_link(struct ekv_snapshot *snapshot, struct ekv *db);
void ekv_snapshot_unlink(struct ekv_snapshot *snapshot);

#endif
