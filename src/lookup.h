/* Finding the record of a key, and making a record the current one of its key. */
#ifndef EKV_LOOKUP_H
#define EKV_LOOKUP_H

#include "state.h"

/* Finds the newest record of `key` with a version of at most `limit`: a put, a head or a delete.
 * EKV_NOT_FOUND if the key never was, or its delete is gone. Flash: 5 to 15 reads. */
EKV_MUST_CHECK int ekv_lookup(struct ekv *db, struct ekv_key key, uint64_t limit,
                              struct ekv_found *found);

/* The same for callers to whom a deleted key is not there. */
EKV_MUST_CHECK int ekv_lookup_live(struct ekv *db, struct ekv_key key, uint64_t limit,
                                   struct ekv_found *found);

/* Finds the current record of the key that the record at `address` carries. */
EKV_MUST_CHECK int ekv_lookup_same(struct ekv *db, const struct ekv_record *record,
                                   struct ekv_found *found);

/* The same as of a version, with the record's key at hand. */
EKV_MUST_CHECK int ekv_lookup_key(struct ekv *db, struct ekv_key key,
                                  const struct ekv_record *record, uint64_t limit,
                                  struct ekv_found *found);

/* EKV_OK if an older record of the same key can still be found, below `version`. */
EKV_MUST_CHECK int ekv_lookup_older(struct ekv *db, const struct ekv_record *record,
                                    uint64_t version);

/* True if a lookup at the record's own version leads to the record itself. */
EKV_MUST_CHECK int ekv_is_indexed(struct ekv *db, const struct ekv_found *at, bool *indexed);

/* True if `retain_count` keeps `older`, whose key `newest` has in its newest version: fewer than
 * that many versions of the key came since. Flash: two reads at most. */
EKV_MUST_CHECK int ekv_is_retained(const struct ekv *db, const struct ekv_record *newest,
                                   const struct ekv_record *older, bool *retained);

/* Makes a record the current one of its key: counts it in, counts `old` (NULL: there was none) out,
 * and points the memtable, which must have room, at it. */
EKV_MUST_CHECK int ekv_apply(struct ekv *db, const struct ekv_record *record,
                             const struct ekv_found *old);

/* The counts of it alone. */
EKV_MUST_CHECK int ekv_apply_counts(struct ekv *db, const struct ekv_record *record,
                                    const struct ekv_found *old);

/* Points the memtable at a record, in place of the key's older one or, while a snapshot sees that,
 * before it. `moved`: the record is a copy of the current one. */
EKV_MUST_CHECK int ekv_point(struct ekv *db, const struct ekv_record *record, bool moved);

/* The value or the entry of a key as of a version; EKV_NOT_FOUND also for a deleted one. */
EKV_MUST_CHECK int ekv_read_at(struct ekv *db, struct ekv_key key, uint64_t limit, uint64_t offset,
                               void *buffer, size_t capacity, size_t *size);
EKV_MUST_CHECK int ekv_find_at(struct ekv *db, struct ekv_key key, uint64_t limit,
                               struct ekv_entry *entry);

/* Fills an entry from a record. */
EKV_MUST_CHECK int ekv_entry_of(struct ekv *db, const struct ekv_found *found,
                                struct ekv_entry *entry);

#endif
