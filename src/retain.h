/* Retention: which older versions of a key collections must keep, and moving them.
 *
 * A store with `retain_count` N > 1 keeps of each key the N newest versions, a removal being one;
 * those of deleted keys only as long as there is room. Each of its records
 * carries an ordinal, the number of versions its key has had (modulo 256); so whether an older
 * record is retained follows from its ordinal and that of the key's current record alone. A
 * retained record is not counted as live. A copy of it is marked as moved and not as committing:
 * replay passes over it, no run points to it, and it is found by walking the log.
 */
#ifndef EKV_RETAIN_H
#define EKV_RETAIN_H

#include "state.h"

enum { EKV_RETAIN_MAX = 255 };

/* True if `older`, which is not the current record of its key, is a retained version of it: it was
 * committed, and fewer than `retain_count` versions came since.
 * Flash: two lookups, for a record with a flag that tells that it was committed one. */
EKV_MUST_CHECK int ekv_retain_needs(struct ekv *db, const struct ekv_found *older, bool *needed);

/* Copies a retained record to the log's head. Flash: the record once more.
 * Power cut: the original, which is still there, or both. */
EKV_MUST_CHECK int ekv_retain_move(struct ekv *db, const struct ekv_found *older);

/* Finds a retained head whose value holds `piece`. EKV_NOT_FOUND: there is none.
 * Flash: walks over the whole log, and looks up each head with the piece's owner. */
EKV_MUST_CHECK int ekv_retain_head(struct ekv *db, const struct ekv_found *piece,
                                   struct ekv_found *head);

#endif
