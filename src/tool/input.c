/* Reading what comes in, through one buffer that grows with the longest line. */
#define _GNU_SOURCE
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024 };

bool input_open(struct tool *tool, struct input *input, const char *path)
{
    bool standard = !path || strcmp(path, "-") == 0;
    *input = (struct input){.name = standard ? "standard input" : path, .tool = tool};
    input->file = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (input->file < 0) {
        message(tool, "%s cannot be read: %s", path, strerror(errno));
        return false;
    }
    input->capacity = BUFFER_SIZE;
    input->buffer = allocate(input->capacity);
    return true;
}

void input_close(struct input *input)
{
    if (input->file != STDIN_FILENO)
        close(input->file);
    free(input->buffer);
}

/* Reads once more behind what is there. False when nothing came. */
static bool fill(struct input *input)
{
    if (input->ended || input->failed)
        return false;
    if (input->begin > 0 && input->end == input->capacity) {
        memmove(input->buffer, input->buffer + input->begin, input->end - input->begin);
        input->end -= input->begin;
        input->begin = 0;
    }
    if (input->end == input->capacity)
        input->buffer = allocate_again(input->buffer, input->capacity *= 2);
    ssize_t got;
    do
        got = read(input->file, input->buffer + input->end, input->capacity - input->end);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
        message(input->tool, "%s cannot be read: %s", input->name, strerror(errno));
        input->failed = true;
        return false;
    }
    input->ended = got == 0;
    input->end += (size_t)got;
    return got > 0;
}

const uint8_t *input_peek(struct input *input, size_t wanted, size_t *size)
{
    while (input->end - input->begin < wanted && fill(input))
        ;
    *size = input->end - input->begin;
    return input->buffer + input->begin;
}

void input_take(struct input *input, size_t size)
{
    input->begin += size;
}

bool input_line(struct input *input, char **line, size_t *size)
{
    size_t looked = 0;
    for (;;) {
        uint8_t *begin = input->buffer + input->begin;
        size_t there = input->end - input->begin;
        uint8_t *newline = memchr(begin + looked, '\n', there - looked);
        looked = there;
        if (!newline && fill(input))
            continue;
        if (input->failed || (!newline && there == 0))
            return false;
        input->line_number++;
        *line = (char *)input->buffer + input->begin;
        *size = newline ? (size_t)(newline - begin) : there;
        input->begin += *size + (newline ? 1 : 0);
        return true;
    }
}

void input_complain(const struct input *input, const char *format, ...)
{
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    message(input->tool, "%s, line %llu: %s", input->name, (unsigned long long)input->line_number,
            text);
}
