/* The parts of what lies in a sector, for `ekv sector`. */
#ifndef EKV_TOOL_SECTOR_PARTS_H
#define EKV_TOOL_SECTOR_PARTS_H

#include "look.h"

/* Prints the entries of a page, or the items of a frame, a line each. Their checksums are right. */
void sector_print_page(const struct survey *survey, const uint8_t *page);
void sector_print_frame(const uint8_t *frame);

#endif
