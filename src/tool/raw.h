/* The bytes of a flash as they are, whatever they are: to a file and back. */
#ifndef EKV_TOOL_RAW_H
#define EKV_TOOL_RAW_H

#include "host/image.h"
#include "input.h"

/* False, with a message, when the image or device holds anything but zeroes or 0xff and `force` is
 * not set. */
bool raw_may_overwrite(struct tool *tool, const struct image *image, bool force);

/* The byte that all of it consists of, or -1. */
int raw_uniform_byte(const struct image *image);

/* Writes all of -C to standard output. Returns the exit status. */
int raw_dump(struct tool *tool);

/* Makes -C hold what comes in, and 0xff behind it; only the sectors that differ are erased and
 * programmed. A store that could not be written there is refused; so is, without `force`, to
 * overwrite anything. A loss of power leaves some sectors new and some old: do it again. Returns
 * the exit status. */
int raw_load(struct tool *tool, struct input *input, bool force);

#endif
