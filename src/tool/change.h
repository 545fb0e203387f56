/* One put or delete as a line of JSON: what `dump --jsonl` and `diff --patch` print, and what
 * `apply` and `load` read.
 *
 *     {"schema":"ekv.change.1","op":"put","key":"net/ip","value":"10.0.0.1"}
 *     {"op":"del","key_base64":"/w==","if_version":12}
 *
 * `op` may be left out where there is a value. `"space":"attributes"` means what ekvfs keeps beside
 * a key. Members that nobody knows are refused, so that no condition is lost by a slip of the pen.
 */
#ifndef EKV_TOOL_CHANGE_H
#define EKV_TOOL_CHANGE_H

#include "input.h"

struct change {
    bool remove;
    bool if_absent;
    bool if_version;
    uint64_t version; /* of if_version */
    struct ekv_key key;
    const uint8_t *value;
    size_t value_size;

    json_t *json;      /* holds texts */
    uint8_t *bytes[2]; /* hold what came as base64 */
};

/* Reads a line; false, with a message that names the line, when it is no change. Frees what is
 * wrong; the caller frees what is right. */
bool change_parse(const struct input *input, const char *line, size_t size, struct change *change);

/* Whether a line holds nothing. */
bool change_is_blank(const char *line, size_t size);
void change_free(struct change *change);

/* Print a line. */
void change_print_put(struct ekv_key key, const void *value, size_t size);
void change_print_delete(struct ekv_key key);

#endif
