/* The words of the command line: options by getopt_long, sizes, help.
 *
 * The options of a command are one table that both the parser and the help read. Those of all
 * commands (-C, --offset, --json, --help) are taken here and never reach a command.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/quantity.h"
#include "tool.h"

enum { LETTER_OFFSET = 1000, LETTER_JSON, LETTER_HELP };

const struct option_spec global_options[] = {
    {"image", 'C', "IMAGE", "the image file or MTD device to work on"},
    {"offset", LETTER_OFFSET, "N", "where in it the flash begins (default 0)"},
    {"json", LETTER_JSON, NULL, "JSON lines instead of text"},
    {"help", LETTER_HELP, NULL, "this text"},
    {0},
};

static void add_options(struct tool *tool, const struct option_spec *options, int *count)
{
    for (; options && options->name; options++) {
        if (*count >= OPTION_MAX)
            abort();
        tool->long_options[*count] =
            (struct option){options->name, options->argument ? required_argument : no_argument,
                            NULL, options->letter};
        (*count)++;
        if (options->letter < 256) {
            size_t length = strlen(tool->short_options);
            tool->short_options[length] = (char)options->letter;
            tool->short_options[length + 1] = options->argument ? ':' : 0;
            tool->short_options[length + 2] = 0;
        }
    }
}

/* Takes an option of all commands; false when it is none of them. */
static bool take_global(struct tool *tool, int letter, int *result)
{
    *result = 1;
    switch (letter) {
    case 'C':
        /* To fsck(8) -C is a file for its progress bar, a number. */
        if (strcmp(tool->program, "fsck.ekv") != 0 || optarg[strspn(optarg, "0123456789")] != 0)
            tool->image = optarg;
        return true;
    case LETTER_OFFSET:
        tool->offset_given = true;
        if (!option_size(tool, "--offset", optarg, 0, UINT64_MAX / 2, &tool->offset))
            *result = OPTION_WRONG;
        return true;
    case LETTER_JSON:
        tool->json = true;
        return true;
    case LETTER_HELP:
        command_help(tool, tool->command);
        *result = OPTION_HELP;
        return true;
    default:
        return false;
    }
}

/* The command that prints the help which fits. */
static const char *help_command(const struct tool *tool)
{
    static char text[64];
    bool named = tool->command && strcmp(tool->program, "ekv") == 0;
    snprintf(text, sizeof text, "%s%s%s --help", tool->program, named ? " " : "",
             named ? tool->command->name : "");
    return text;
}

static void complain(const struct tool *tool, int letter, const char *word)
{
    if (letter == ':')
        message(tool, "the option %s needs an argument; see %s", word, help_command(tool));
    else if (strncmp(word, "--", 2) == 0)
        message(tool, "there is no option %s, or not in this form; see %s", word,
                help_command(tool));
    else
        message(tool, "there is no option -%c (keys that begin with a dash go behind --); see %s",
                optopt, help_command(tool));
}

int tool_option(struct tool *tool, const char **value)
{
    if (!tool->options_ready) {
        int count = 0;
        tool->short_options[0] = ':';
        tool->short_options[1] = 0;
        if (tool->command)
            add_options(tool, tool->command->options, &count);
        add_options(tool, global_options, &count);
        tool->long_options[count] = (struct option){0};
        tool->options_ready = true;
        optind = 0; /* starts GNU getopt afresh */
    }
    opterr = 0;
    for (;;) {
        int word = optind > 0 ? optind : 1;
        int letter =
            getopt_long(tool->argc, tool->argv, tool->short_options, tool->long_options, NULL);
        int result;
        *value = optarg;
        if (letter == -1)
            return OPTION_END;
        if (letter == '?' || letter == ':') {
            complain(tool, letter, tool->argv[word < tool->argc ? word : tool->argc - 1]);
            return OPTION_WRONG;
        }
        if (!take_global(tool, letter, &result))
            return letter;
        if (result < 0)
            return result;
    }
}

int tool_option_status(const struct tool *tool, int option)
{
    if (option == OPTION_HELP)
        return STATUS_OK;
    int status = tool->command ? tool->command->usage_status : 0;
    return status ? status : STATUS_FAILED;
}

bool tool_operands(struct tool *tool, int min, int max, char ***operands, int *count)
{
    *operands = tool->argv + optind;
    *count = tool->argc - optind;
    if (*count >= min && *count <= max)
        return true;
    const char *words = tool->command->operands;
    if (*count < min)
        message(tool, "%s needs %s; see %s", tool->command->name, words, help_command(tool));
    else if (max == 0)
        message(tool, "%s takes no operand, but there is '%s'; see %s", tool->command->name,
                (*operands)[max], help_command(tool));
    else
        message(tool,
                "%s takes no more than %s, but there is '%s' too (quote values that hold "
                "spaces)",
                tool->command->name, words, (*operands)[max]);
    return false;
}

bool option_size(struct tool *tool, const char *name, const char *text, uint64_t min, uint64_t max,
                 uint64_t *size)
{
    if (!quantity_size(text, size)) {
        message(tool, "%s '%s' is no number: write 4096, 0x1000, 4K, 1M or 1G", name, text);
        return false;
    }
    if (*size < min || *size > max) {
        message(tool, "%s %s is out of range: %llu to %llu", name, text, (unsigned long long)min,
                (unsigned long long)max);
        return false;
    }
    return true;
}

static void print_options(const struct option_spec *options)
{
    for (; options && options->name; options++) {
        if (!options->help)
            continue;
        char left[60];
        char letter[8] = "    ";
        if (options->letter < 256)
            snprintf(letter, sizeof letter, "-%c, ", options->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, options->name,
                 options->argument ? " " : "", options->argument ? options->argument : "");
        printf("  %-26s %s\n", left, options->help);
    }
}

void command_help(const struct tool *tool, const struct command *command)
{
    if (!command) {
        printf("usage: %s [-C IMAGE] [--offset N] [--json] COMMAND ...\n\n"
               "Makes, reads, changes and verifies images of ekv stores. COMMAND is one of\n\n",
               tool->program);
        for (int i = 0; commands[i]; i++)
            printf("  %-14s %s\n", commands[i]->name, commands[i]->summary);
        printf("\nOptions of all commands, before or behind the command's name:\n");
        print_options(global_options);
        printf("      --version              print the version\n"
               "\n'%s COMMAND --help' tells more. Sizes take 0x, K, M and G.\n",
               tool->program);
        return;
    }
    if (strcmp(tool->program, "ekv") == 0)
        printf("usage: ekv [-C IMAGE] %s [OPTION]... %s\n\n%s.\n", command->name, command->operands,
               command->summary);
    else
        printf("usage: %s [OPTION]... IMAGE\n\n%s.\n", tool->program, command->summary);
    if (command->details)
        printf("\n%s", command->details);
    printf("\n");
    print_options(command->options);
    print_options(global_options);
}
