/* What `ekv salvage` gets out of a survey, and into what. */
#ifndef EKV_TOOL_SALVAGE_H
#define EKV_TOOL_SALVAGE_H

#include "look.h"

enum salvage_kind {
    SALVAGE_CURRENT, /* what a mount shows, or would show if nothing were broken */
    SALVAGE_DELETED, /* the last value of a key that was removed */
    SALVAGE_OLD,     /* an older version; a removal too */
};

struct salvage_item {
    const struct survey_record *record;
    enum salvage_kind kind;
};

struct salvage {
    struct tool *tool;
    struct look *look;
    const char *output;
    const char *prefix;
    bool deleted, old;
    struct salvage_item *items; /* by kind, then space, key, newest version first */
    uint32_t count;
    uint64_t counts[3]; /* written, of each kind, that users see */
    uint64_t damaged;   /* written with parts missing */
    uint64_t lost;      /* of which nothing could be written */
    uint64_t doubts;    /* what is broken and does not say whose it is */
};

/* Reads a value; counts and tells what of it is lost. False: there is nothing to write. */
bool salvage_value(struct salvage *salvage, const struct survey_record *record, uint8_t **value,
                   uint64_t *size);

/* Write all items; say what is wrong. STATUS_OK or STATUS_FAILED. */
int salvage_tree(struct salvage *salvage);
int salvage_image(struct salvage *salvage);

#endif
