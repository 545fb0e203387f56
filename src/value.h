/* Values: inline in a put record, or in chunks under a head record (append.h); read by range.
 *
 * A head's value is {level 1, links of 8 bytes: address 4, bytes below 4}. At level 0 the links
 * name chunk records, above that list records, whose value is {level 1, links} of the level below.
 * A chunk or list record's "key" is its owner's (cut to ekv_owner_size), and its value begins with
 * the offset (4 bytes) of its bytes in the whole value, so that gc finds the way to it from the
 * top.
 */
#ifndef EKV_VALUE_H
#define EKV_VALUE_H

#include "record.h"

/* Size of the value in bytes. */
EKV_MUST_CHECK int ekv_value_size(struct ekv *db, const struct ekv_record *record, uint64_t *size);

/* Reads and checks part of a value. `size` is what was copied. */
EKV_MUST_CHECK int ekv_value_read(struct ekv *db, const struct ekv_found *found, uint64_t offset,
                                  void *buffer, size_t capacity, size_t *size);

/* Level of a head or list record, and where in the record how many links stand.
 * Errors: EKV_CORRUPT. */
EKV_MUST_CHECK int ekv_value_node(struct ekv *db, const struct ekv_record *record, uint32_t *level,
                                  uint32_t *links, uint32_t *count);

/* Calls `visit` with every record of a value: the record itself and those of its tree, read and
 * checked, but for chunks without `chunks`: their place and size alone are told, as links say. */
EKV_MUST_CHECK int ekv_value_visit(struct ekv *db, const struct ekv_record *record, bool chunks,
                                   int (*visit)(struct ekv *db, const struct ekv_record *record,
                                                void *context),
                                   void *context);

/* EKV_OK if all pieces of a version are still there, and not others that were written in their
 * place since; EKV_CORRUPT if not. Flash: reads the whole value. */
EKV_MUST_CHECK int ekv_value_whole(struct ekv *db, const struct ekv_found *found);

/* Adds all records of a value to the live counts, or takes them off. EKV_CORRUPT: a list of it is
 * damaged, or a count is too small for what is taken off; the store is read-only after the latter.
 * Flash: reads the lists; what the chunks take follows from these. */
EKV_MUST_CHECK int ekv_value_count(struct ekv *db, const struct ekv_record *record, bool add);

/* EKV_OK if the tree of `head` holds `piece` (a chunk or list record), EKV_NOT_FOUND if not.
 * `above`: bytes of the records from the head down to it, which move with it. */
EKV_MUST_CHECK int ekv_value_holds(struct ekv *db, const struct ekv_record *head,
                                   const struct ekv_record *piece, uint32_t *above);

/* Records that were copied: from where to where. */
struct ekv_moves {
    uint32_t count;
    struct {
        uint32_t from, from_size, to, to_size;
    } records[EKV_VALUE_LEVELS + 1];
};

/* If the tree of `head` (a current head record) holds `piece` (a chunk or list record), copies the
 * piece to the log's head, and with it what refers to it; the last of `moves` is the new head.
 * Nothing is counted. EKV_NOT_FOUND if it does not hold it. */
EKV_MUST_CHECK int ekv_value_move_piece(struct ekv *db, const struct ekv_found *head,
                                        const struct ekv_found *piece, struct ekv_moves *moves);

/* Counts the copies in for what they were made of. */
EKV_MUST_CHECK int ekv_value_moved(struct ekv *db, const struct ekv_moves *moves);

/* Copies a piece of a head whose pieces are not counted as live: one that is not committed, or one
 * that is retained. `flags`: of the new head. After an error `address` is what it was. */
EKV_MUST_CHECK int ekv_value_move_uncounted(struct ekv *db, const struct ekv_found *head,
                                            const struct ekv_found *piece, uint8_t flags,
                                            uint32_t *address);

/* Bytes of the owner's key that a piece carries, at most. */
uint32_t ekv_owner_size_max(const struct ekv *db);

#endif
