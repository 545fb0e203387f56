/* The prompt, by libedit. */
#define _GNU_SOURCE
#include "prompt.h"

#include <stdio.h>
#include <string.h>

#include <editline/readline.h>

static prompt_completion *complete_first, *complete_others;

static char **complete(const char *text, int begin, int end)
{
    (void)end;
    rl_attempted_completion_over = 1; /* keys, not files */
    return rl_completion_matches(text, begin == 0 ? complete_first : complete_others);
}

void prompt_open(prompt_completion *first, prompt_completion *others)
{
    complete_first = first;
    complete_others = others;
    rl_readline_name = (char *)"ekv";
    rl_attempted_completion_function = complete;
    rl_completer_word_break_characters = (char *)" \t";
    using_history();
}

char *prompt_line(const char *text)
{
    char *line = readline(text);
    if (line && *line)
        add_history(line);
    return line;
}
