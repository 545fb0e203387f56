/* An image looked at without a mount: for the commands that read what is old, deleted or broken.
 */
#ifndef EKV_TOOL_LOOK_H
#define EKV_TOOL_LOOK_H

#include "host/image.h"
#include "host/moment.h"
#include "host/survey.h"
#include "tool.h"

struct look {
    struct tool *tool;
    struct image image;
    struct survey survey;
};

/* Opens the image of -C, finds the store in it and surveys it, for one key alone if `key` is not
 * NULL. Says what is wrong, and what a user should know: other stores in the same dump, parts that
 * are missing. Works also while the image is mounted, as a view of one moment.
 * Errors: those of image_open, EKV_NO_STORE, EKV_MEMORY. On error there is nothing to close. */
EKV_MUST_CHECK int look_open(struct tool *tool, struct look *look, const struct ekv_key *key);
void look_close(struct look *look);

/* Reads a moment (SEQ or TIME) for the option `name`, and what version that is. False, with a
 * message, when it is no moment, or of a time before all that is known. */
bool look_moment(const struct look *look, const char *name, const char *text, uint64_t *version);

/* Writes the value of a record to `output`. What is lost of it is zeroes, and a message.
 * STATUS_OK, STATUS_NO when nothing of it is there, STATUS_FAILED. */
int look_write_value(const struct look *look, const struct survey_record *record, FILE *output,
                     const char *name);

/* A word for what has become of a version: "current", "old", "removed", "uncommitted", "torn",
 * "damaged", "unknown". */
const char *look_state(const struct survey_record *record);

/* Sets "key", and "space" when it is not the user's. */
void look_json_key(json_t *object, const struct survey_record *record);

/* --- Commands on keys, from a survey (look_keys.c) ------------------------------------------- */

/* What of each key is meant. */
struct look_choice {
    const char *at;      /* --at: as it was then */
    const char *version; /* --version: this one */
    bool deleted;        /* --deleted: the last value of a key that is not there any more */
};

struct look_list {
    struct look_choice choice;
    const char *prefix;
    bool long_form, recursive, null;
};

/* `get` and `ls`, with their exit statuses. Without a choice, as the store is now, as far as it can
 * be read without a mount. */
int look_get(struct tool *tool, struct ekv_key key, const struct look_choice *choice,
             const char *path);
int look_ls(struct tool *tool, const struct look_list *list);

#endif
