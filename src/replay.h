/* Mounting: manifest and log are read. */
#ifndef EKV_REPLAY_H
#define EKV_REPLAY_H

#include "lookup.h"

/* Reads manifest and log into a store whose memory is laid out. Writes nothing.
 * Flash: the manifest's chain, the index's inner pages, the log from the replay position on. */
EKV_MUST_CHECK int ekv_replay(struct ekv *db);

#endif
