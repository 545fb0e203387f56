/* Who holds a record that is not, or not alone, its key's current one: open transactions,
 * snapshots, and the values that a piece belongs to.
 */
#ifndef EKV_HOLDER_H
#define EKV_HOLDER_H

#include "lookup.h"

/* The slot of an open transaction that holds the record at this address; NULL: none does. */
struct ekv_slot *ekv_pending_slot(struct ekv *db, uint32_t address);

/* Finds the pending head whose value holds the piece, and its slot; `above` as ekv_value_holds.
 * EKV_NOT_FOUND: there is none. Flash: a read for each head of that key. */
EKV_MUST_CHECK int ekv_pending_head(struct ekv *db, const struct ekv_found *piece,
                                    struct ekv_found *head, struct ekv_slot **slot,
                                    uint32_t *above);

/* True if the piece names no more than the begin of its owner's key. */
bool ekv_owner_is_cut(const struct ekv *db, const struct ekv_record *piece);

/* What is asked of each record that may own a piece; EKV_NOT_FOUND: it does not, go on. */
typedef int ekv_owner_visit(struct ekv *db, const struct ekv_found *head,
                            const struct ekv_found *piece);

/* Asks the head records of the piece's owner, or of all keys that begin with the name in it if that
 * is cut, those kept for snapshots included; returns what the first other than EKV_NOT_FOUND
 * answered. Flash: a descent into every run; with a cut name a read for each record of the memtable
 * too. */
EKV_MUST_CHECK int ekv_owners_visit(struct ekv *db, const struct ekv_found *piece,
                                    ekv_owner_visit *visit);

/* Whether an open snapshot sees this record where it is; in doubt it does. Flash: a lookup; for a
 * piece also as ekv_owners_visit. */
EKV_MUST_CHECK int ekv_is_seen(struct ekv *db, const struct ekv_found *found, bool *seen);

#endif
