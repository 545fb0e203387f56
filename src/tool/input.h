/* Bytes that come in: from a file or standard input, with a look at how they begin. */
#ifndef EKV_TOOL_INPUT_H
#define EKV_TOOL_INPUT_H

#include "tool.h"

/* `name` is for messages; `line_number` counts the lines that input_line gave, from 1 on. The rest
 * is private. */
struct input {
    const char *name;
    uint64_t line_number;

    struct tool *tool;
    int file;
    bool ended, failed;
    uint8_t *buffer;
    size_t capacity, begin, end;
};

/* Opens a file, or standard input for "-" and NULL. False, with a message, when that fails. */
bool input_open(struct tool *tool, struct input *input, const char *path);
void input_close(struct input *input);

/* The bytes that come next, at least `wanted` of them unless the input ends before. They stay until
 * the next call. Less than there is, and `failed`, after a message that reading failed. */
const uint8_t *input_peek(struct input *input, size_t wanted, size_t *size);

/* Takes bytes that were looked at. */
void input_take(struct input *input, size_t size);

/* The next line without its newline, which may be missing at the end of the input. The bytes stay,
 * and may be changed, until the next call. False at the end of the input and after a failure. */
bool input_line(struct input *input, char **line, size_t *size);

/* A message "NAME, line N: ...". */
void input_complain(const struct input *input, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
