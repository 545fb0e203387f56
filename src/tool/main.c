/* The command `ekv`: finds the command that the words name, and runs it.
 *
 * Under the names mkfs.ekv and fsck.ekv it is `ekv format` and `ekv check` with the image as
 * operand, as mkfs(8) and fsck(8) call them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

const struct command *const commands[] = {
    &command_format,       &command_info,          &command_stat,  &command_ls,
    &command_get,          &command_put,           &command_rm,    &command_apply,
    &command_log,          &command_history,       &command_dump,  &command_load,
    &command_diff,         &command_compact,       &command_shell, &command_check,
    &command_map,          &command_sector,        &command_wear,  &command_salvage,
    &command_bench_replay, &command_bench_compare, NULL,
};

/* Finds the command of argv[0], or of argv[0] and argv[1]; `words` says how many it took. */
static const struct command *find(int argc, char **argv, int *words)
{
    for (int i = 0; commands[i]; i++) {
        const char *name = commands[i]->name, *second = strchr(name, ' ');
        size_t length = second ? (size_t)(second - name) : strlen(name);
        if (argc < 1 || strlen(argv[0]) != length || strncmp(argv[0], name, length) != 0)
            continue;
        *words = second ? 2 : 1;
        if (!second || (argc > 1 && strcmp(argv[1], second + 1) == 0))
            return commands[i];
    }
    return NULL;
}

static int unknown(const struct tool *tool, const char *word)
{
    size_t length = strlen(word);
    bool family = false;
    for (int i = 0; commands[i]; i++)
        family |= strncmp(commands[i]->name, word, length) == 0 && commands[i]->name[length] == ' ';
    message(tool,
            family ? "'%s' needs a word behind it; see %s --help"
                   : "there is no command '%s'; see %s --help",
            word, tool->program);
    return STATUS_FAILED;
}

/* Takes the options before the command's name; returns the index of that name, or -1 with the exit
 * status. Nothing behind the name is looked at. */
static int take_leading(struct tool *tool, int argc, char **argv, int *status)
{
    int at = 1;
    while (at < argc && argv[at][0] == '-' && argv[at][1] != 0) {
        const char *value;
        int words = 1;
        *status = STATUS_OK;
        if (strcmp(argv[at], "--version") == 0 || strcmp(argv[at], "-V") == 0) {
            printf("ekv %s\n", EKV_VERSION_STRING);
            return -1;
        }
        if (strcmp(argv[at], "-h") == 0) {
            command_help(tool, NULL);
            return -1;
        }
        if (strcmp(argv[at], "--") == 0)
            return at + 1;
        if ((strcmp(argv[at], "-C") == 0 || strcmp(argv[at], "--image") == 0 ||
             strcmp(argv[at], "--offset") == 0) &&
            at + 1 < argc)
            words = 2;
        char *part[] = {argv[0], argv[at], words == 2 ? argv[at + 1] : NULL, NULL};
        tool->argc = words + 1;
        tool->argv = part;
        tool->options_ready = false;
        int option = tool_option(tool, &value);
        if (option != OPTION_END) {
            *status = tool_option_status(tool, option);
            return -1;
        }
        at += words;
    }
    return at;
}

static int run(struct tool *tool, int argc, char **argv)
{
    int status = STATUS_OK, words = 0;
    int at = take_leading(tool, argc, argv, &status);
    if (at < 0)
        return status;
    if (at >= argc) {
        message(tool, "which command? See %s --help", tool->program);
        return STATUS_FAILED;
    }
    bool help = strcmp(argv[at], "help") == 0;
    at += help;
    if (help && at >= argc) {
        command_help(tool, NULL);
        return STATUS_OK;
    }
    tool->command = find(argc - at, argv + at, &words);
    if (!tool->command)
        return unknown(tool, argv[at]);
    if (help) {
        command_help(tool, tool->command);
        return STATUS_OK;
    }
    tool->argc = argc - at - (words - 1);
    tool->argv = argv + at + (words - 1);
    tool->options_ready = false;
    return tool->command->run(tool);
}

int main(int argc, char **argv)
{
    struct tool tool = {.program = "ekv"};
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "ekv";
    int status;
    setlocale(LC_ALL, "C.UTF-8");
    if (strcmp(name, "mkfs.ekv") == 0 || strcmp(name, "fsck.ekv") == 0) {
        tool.program = name;
        tool.command = name[0] == 'm' ? &command_format : &command_check;
        tool.argc = argc;
        tool.argv = argv;
        if (argc == 2 && (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0)) {
            printf("%s %s\n", name, EKV_VERSION_STRING);
            status = STATUS_OK;
        } else {
            status = tool.command->run(&tool);
        }
    } else {
        status = run(&tool, argc, argv);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        message(&tool, "standard output cannot be written: %s", strerror(errno));
        if (status < STATUS_FAILED)
            status = tool.command && tool.command->usage_status ? FSCK_FAILED : STATUS_FAILED;
    }
    return status;
}
