/* Recovery after a power cut, and after a failed program. */
#ifndef EKV_RECOVER_H
#define EKV_RECOVER_H

#include "gc.h"

/* Makes a store writable whose last session was not closed, or whose log has failed in this one:
 * what may be unstable, or is still in the buffer, is written anew, in a new log sector, and a new
 * checkpoint leaves the old end of the log behind.
 * Flash: up to three erases, a run, a checkpoint.
 * Power cut: the next mount finds the old state, or the new one. */
EKV_MUST_CHECK int ekv_recover(struct ekv *db);

/* Goes on in a new log sector when the head has no successor, which a recovery on the last free
 * sector leaves behind. Errors: EKV_FULL (nothing happened). Flash: up to two erases, a run, a
 * checkpoint. Power cut: before or after. */
EKV_MUST_CHECK int ekv_restart(struct ekv *db);

/* At the end of each operation that writes: a log that has failed is left behind at once, so that
 * flash and memory agree again; where that cannot be done the store is read-only.
 * Flash: nothing, or as ekv_recover. */
void ekv_mend(struct ekv *db);

#endif
