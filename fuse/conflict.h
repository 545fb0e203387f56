/* Whether a transaction can be committed as if nobody had done anything since it began. */
#ifndef EKVFS_CONFLICT_H
#define EKVFS_CONFLICT_H

#include "view.h"

/* EAGAIN: others changed what the stage read or wrote; the sentence for `.ekv/last_error` names the
 * first of the keys. With the writer lock. */
EKV_MUST_CHECK int conflict_check(struct view *stage);

#endif
