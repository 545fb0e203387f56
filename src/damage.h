/* What a mount makes of bytes that no power cut explains.
 *
 * A checksum that is wrong where the log or the manifest seems to end can mean two things: a
 * program was in flight there when power was lost, or something that was whole has been damaged
 * since. These functions look for what proves the second.
 */
#ifndef EKV_DAMAGE_H
#define EKV_DAMAGE_H

#include "lookup.h"

/* Where no whole record is at the log's place: looks for one behind it that proves the place was
 * programmed, unless that is `proven` already: a close or an open record, which are programs of
 * their own, any other beyond the page that can have been in flight, or one behind a record that
 * committed, which ended its program. `offset` is then that of the first whole record behind it.
 * EKV_NOT_FOUND: nothing proves it in this sector, or there is no whole record. Flash: reads the
 * rest of the sector. */
EKV_MUST_CHECK int ekv_damage_behind(struct ekv *db, bool proven, uint32_t *offset);

/* What lies from the log's place to `end` is damaged: suspects the one bit that explains it, if it
 * is one record. Answers EKV_CORRUPT, or EKV_IO. */
EKV_MUST_CHECK int ekv_damage_find(struct ekv *db, uint32_t end);

/* The same for stamp B of a log sector that the log leads through. */
EKV_MUST_CHECK int ekv_damage_stamp(struct ekv *db, uint32_t sector);

/* After a replay for which bits were put right: the store is read-only, and bits of values are as
 * they are on flash again. Errors: EKV_IO. */
EKV_MUST_CHECK int ekv_damage_settle(struct ekv *db);

/* At the end of the log: EKV_CORRUPT if its successor is in use for all that its stamp says, or if
 * the manifest's last frame is damaged, so that its state is older than the log. Flash: the stamps
 * of all sectors if the manifest does not end in blank flash, a record otherwise. */
EKV_MUST_CHECK int ekv_damage_end(struct ekv *db);

#endif
