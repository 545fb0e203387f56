/* The prompt of a build without libedit: lines as the terminal gives them. */
#define _GNU_SOURCE
#include "prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

void prompt_open(prompt_completion *first, prompt_completion *others)
{
    (void)first;
    (void)others;
}

char *prompt_line(const char *text)
{
    char *line = NULL;
    size_t capacity = 0;
    fputs(text, stdout);
    fflush(stdout);
    ssize_t size = getline(&line, &capacity, stdin);
    if (size < 0) {
        free(line);
        return NULL;
    }
    if (line[size - 1] == '\n')
        line[size - 1] = 0;
    return line;
}
