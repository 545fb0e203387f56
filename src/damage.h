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

/* Takes the damaged record at the log's place for what it is, if it ends at `end`: its key answers
 * EKV_CORRUPT from then on, all others what they should. EKV_CORRUPT if that cannot be said: the
 * damage does not lie in one bit of one record's value, checksum or version, so what it changed is
 * not known. */
EKV_MUST_CHECK int ekv_damage_pass(struct ekv *db, uint32_t end);

/* At the end of the log: EKV_CORRUPT if its successor is in use for all that its stamp says, or if
 * the manifest's last frame is damaged, so that its state is older than the log. Flash: the stamps
 * of all sectors if the manifest does not end in blank flash, a record otherwise. */
EKV_MUST_CHECK int ekv_damage_end(struct ekv *db);

#endif
