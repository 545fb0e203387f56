/* `ekv shell`: commands on one opened store, at a prompt or from a script.
 *
 * A line is words, quoted as in sh; "..." also takes \n, \t, \xHH, \" and \\, for keys that a
 * keyboard has no letters for. At a terminal a mistake is told and the prompt comes again; in a
 * script the first failure ends it, so that nothing builds on what did not happen, and a
 * transaction that is open then is given up.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "input.h"
#include "prompt.h"
#include "scan.h"
#include "writer.h"

enum { WORDS_MAX = 64, PIECE_SIZE = 64 * 1024 };

static const struct option_spec options[] = {
    {"read-only", 'r', NULL, "only look; works while the image is mounted too"},
    {"keep-going", 'k', NULL, "in a script: go on behind a failure"},
    {0},
};

struct word {
    char *bytes;
    size_t size;
};

struct shell {
    struct tool *tool;
    struct store store;
    bool interactive, read_only, keep_going, done;
    uint64_t line_number;
    struct word words[WORDS_MAX];
    int count;
    char *text; /* holds the words */
    bool in_txn;
    struct ekv_txn txn;
    void *table;
    size_t table_size;
};

static struct shell *completing; /* the one shell, for the completion of keys */

static void complain(struct shell *shell, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void complain(struct shell *shell, const char *format, ...)
{
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (shell->interactive)
        message(shell->tool, "%s", text);
    else
        message(shell->tool, "line %llu: %s", (unsigned long long)shell->line_number, text);
}

/* --- Words ----------------------------------------------------------------------------------- */

static int hex_value(char letter)
{
    return isdigit((unsigned char)letter)    ? letter - '0'
           : isxdigit((unsigned char)letter) ? (letter | 0x20) - 'a' + 10
                                             : -1;
}

/* The byte that a backslash in "..." stands for; `at` is behind the backslash and moves on. -1: it
 * stands for none. */
static int unescape(const char **at)
{
    char letter = *(*at)++;
    switch (letter) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case '0':
        return 0;
    case '"':
    case '\\':
    case '$':
        return letter;
    case 'x':
        if (hex_value((*at)[0]) < 0 || hex_value((*at)[1]) < 0)
            return -1;
        *at += 2;
        return hex_value((*at)[-2]) << 4 | hex_value((*at)[-1]);
    default:
        return -1;
    }
}

/* Takes one word, written to `out`; `line` moves behind it. False after a message. */
static bool take_word(struct shell *shell, const char **line, struct word *word, char **out)
{
    const char *at = *line;
    char quote = 0;
    word->bytes = *out;
    for (; *at && (quote || !isspace((unsigned char)*at));) {
        if (quote ? *at == quote : *at == '"' || *at == '\'') {
            quote = quote ? 0 : *at;
            at++;
        } else if (*at == '\\' && quote == '"') {
            at++;
            int byte = unescape(&at);
            if (byte < 0) {
                complain(shell, "in \"...\" a backslash goes before n, t, r, 0, xHH, \" and \\");
                return false;
            }
            *(*out)++ = (char)byte;
        } else if (*at == '\\' && !quote && at[1]) {
            *(*out)++ = at[1];
            at += 2;
        } else {
            *(*out)++ = *at++;
        }
    }
    if (quote) {
        complain(shell, "the quote %c has no end", quote);
        return false;
    }
    word->size = (size_t)(*out - word->bytes);
    *(*out)++ = 0;
    *line = at;
    return true;
}

static bool split(struct shell *shell, const char *line)
{
    shell->count = 0;
    char *out = shell->text = allocate_again(shell->text, 2 * strlen(line) + 2);
    for (;;) {
        while (isspace((unsigned char)*line))
            line++;
        if (!*line || (*line == '#' && shell->count == 0))
            return true;
        if (shell->count == WORDS_MAX) {
            complain(shell, "there are more than %d words", WORDS_MAX);
            return false;
        }
        if (!take_word(shell, &line, &shell->words[shell->count], &out))
            return false;
        shell->count++;
    }
}

static struct ekv_key key_of(const struct word *word)
{
    return ekv_key(word->bytes, word->size);
}

/* --- Commands: each returns an exit status, after a message ---------------------------------- */

static int failed(struct shell *shell, const struct word *word, int error)
{
    if (error == EKV_NOT_FOUND && word) {
        complain(shell, "there is no key '%s'", key_text(word->bytes, word->size));
        return STATUS_NO;
    }
    const struct image *image = &shell->store.image;
    complain(shell, "'%s': %s", word ? key_text(word->bytes, word->size) : shell->tool->image,
             image->error[0] ? image->error : result_text(error));
    return STATUS_FAILED;
}

/* At a prompt, what is told to be done is on the disk too. */
static int settle(struct shell *shell)
{
    if (!shell->interactive || shell->in_txn)
        return STATUS_OK;
    int error = ekv_sync(shell->store.db);
    return error ? failed(shell, NULL, error) : STATUS_OK;
}

static int do_get(struct shell *shell)
{
    struct ekv_key key = key_of(&shell->words[1]);
    uint8_t *piece = allocate(PIECE_SIZE);
    uint64_t offset = 0;
    size_t size = PIECE_SIZE;
    char last = '\n';
    int error = EKV_OK;
    while (!error && size == PIECE_SIZE) {
        error = shell->in_txn ? ekv_txn_get(&shell->txn, key, offset, piece, PIECE_SIZE, &size)
                              : ekv_get(shell->store.db, key, offset, piece, PIECE_SIZE, &size);
        if (!error && size > 0) {
            print_bytes(piece, size, shell->interactive);
            last = (char)piece[size - 1];
        }
        offset += size;
    }
    if (!error && (shell->interactive || last != '\n'))
        putchar('\n'); /* each value ends its line */
    free(piece);
    return error ? failed(shell, &shell->words[1], error) : STATUS_OK;
}

static int put(struct shell *shell, struct ekv_key key, const struct word *value)
{
    if (!shell->in_txn)
        return ekv_put(shell->store.db, key, value->bytes, value->size);
    int error = ekv_txn_put(&shell->txn, key, value->bytes, value->size);
    if (error != EKV_MEMORY)
        return error;
    error = transaction_grow(&shell->txn, &shell->table, &shell->table_size);
    return error ? error : ekv_txn_put(&shell->txn, key, value->bytes, value->size);
}

static int do_put(struct shell *shell)
{
    int error = put(shell, key_of(&shell->words[1]), &shell->words[2]);
    return error ? failed(shell, &shell->words[1], error) : settle(shell);
}

static int begin(struct shell *shell)
{
    if (!shell->table)
        shell->table = allocate(shell->table_size = TRANSACTION_TABLE_SIZE);
    return ekv_txn_begin(&shell->txn, shell->store.db, shell->table, shell->table_size);
}

/* In the open transaction, or in one of its own. */
static int remove_key(struct shell *shell, struct ekv_key key)
{
    int error = shell->in_txn ? EKV_OK : begin(shell);
    if (error)
        return error;
    error = file_remove(&shell->txn, key);
    if (error == EKV_MEMORY) {
        error = transaction_grow(&shell->txn, &shell->table, &shell->table_size);
        if (!error)
            error = file_remove(&shell->txn, key);
    }
    if (!shell->in_txn && !error)
        error = ekv_txn_commit(&shell->txn);
    if (!shell->in_txn && error)
        ekv_txn_abort(&shell->txn);
    return error;
}

static int do_rm(struct shell *shell)
{
    int status = STATUS_OK;
    for (int i = 1; i < shell->count; i++) {
        int error = remove_key(shell, key_of(&shell->words[i]));
        if (error)
            status = failed(shell, &shell->words[i], error);
        if (status == STATUS_FAILED)
            return status;
    }
    return status ? status : settle(shell);
}

static void scan_begin(struct shell *shell, struct scan *scan)
{
    scan_open(scan, shell->store.db, EKV_USER);
    if (!shell->in_txn)
        return;
    ekv_cursor_close(&scan->cursor);
    ekv_cursor_open_txn(&scan->cursor, &shell->txn, EKV_USER);
}

static bool begins_with(const struct scan *scan, const char *prefix, size_t size)
{
    return scan->valid && scan->key_size >= size && memcmp(scan->key, prefix, size) == 0;
}

static int do_ls(struct shell *shell)
{
    struct word prefix = {(char *)"", 0};
    struct scan scan;
    uint64_t count = 0;
    if (shell->count > 1)
        prefix = shell->words[1];
    scan_begin(shell, &scan);
    int error = scan_seek(&scan, prefix.bytes, prefix.size);
    for (; !error && begins_with(&scan, prefix.bytes, prefix.size) && !ferror(stdout); count++) {
        print_bytes(scan.key, scan.key_size, shell->interactive);
        putchar('\n');
        error = scan_next(&scan);
    }
    scan_close(&scan);
    if (error)
        return failed(shell, NULL, error);
    if (count == 0 && prefix.size > 0) {
        complain(shell, "no key begins with '%s'", key_text(prefix.bytes, prefix.size));
        return STATUS_NO;
    }
    return STATUS_OK;
}

static int do_begin(struct shell *shell)
{
    if (shell->in_txn) {
        complain(shell, "a transaction is open: commit or abort it first");
        return STATUS_FAILED;
    }
    if (shell->store.image.read_only)
        return failed(shell, NULL, EKV_READ_ONLY);
    int error = begin(shell);
    shell->in_txn = !error;
    return error ? failed(shell, NULL, error) : STATUS_OK;
}

static bool needs_txn(struct shell *shell)
{
    if (!shell->in_txn)
        complain(shell, "no transaction is open: begin one first");
    return shell->in_txn;
}

static int do_commit(struct shell *shell)
{
    if (!needs_txn(shell))
        return STATUS_FAILED;
    int error = ekv_txn_commit(&shell->txn);
    shell->in_txn = error != EKV_OK;
    return error ? failed(shell, NULL, error) : settle(shell);
}

static int do_abort(struct shell *shell)
{
    if (!needs_txn(shell))
        return STATUS_FAILED;
    ekv_txn_abort(&shell->txn);
    shell->in_txn = false;
    return STATUS_OK;
}

static int do_stat(struct shell *shell)
{
    struct ekv_stat stat;
    ekv_stat(shell->store.db, &stat);
    printf("keys %llu\nlive_size %llu\ncapacity_size %llu\nreserved_size %llu\nversion %llu\n",
           (unsigned long long)stat.keys, (unsigned long long)stat.live_size,
           (unsigned long long)stat.capacity_size, (unsigned long long)stat.reserved_size,
           (unsigned long long)stat.version);
    return STATUS_OK;
}

static int do_quit(struct shell *shell)
{
    shell->done = true;
    return STATUS_OK;
}

static int do_help(struct shell *shell);

static const struct verb {
    const char *name;
    int min, max; /* words behind it */
    const char *words;
    const char *help;
    int (*run)(struct shell *shell);
} verbs[] = {
    {"get", 1, 1, "KEY", "print a value", do_get},
    {"put", 2, 2, "KEY VALUE", "store a value", do_put},
    {"rm", 1, WORDS_MAX, "KEY...", "remove keys", do_rm},
    {"ls", 0, 1, "[PREFIX]", "list the keys that begin so", do_ls},
    {"begin", 0, 0, "", "begin a transaction: what follows is committed together", do_begin},
    {"commit", 0, 0, "", "commit the transaction", do_commit},
    {"abort", 0, 0, "", "give the transaction up", do_abort},
    {"stat", 0, 0, "", "print figures", do_stat},
    {"help", 0, 0, "", "this text", do_help},
    {"quit", 0, 0, "", "end (also .quit, exit, Ctrl-D)", do_quit},
};
enum { VERBS = sizeof verbs / sizeof *verbs };

static int do_help(struct shell *shell)
{
    (void)shell;
    for (int i = 0; i < VERBS; i++)
        printf("%-7s %-10s %s\n", verbs[i].name, verbs[i].words, verbs[i].help);
    printf(
        "Words with spaces go into '...' or \"...\"; \"...\" takes \\n \\t \\xHH \\\" \\\\ too.\n");
    return STATUS_OK;
}

static int run_line(struct shell *shell, const char *line)
{
    if (!split(shell, line))
        return STATUS_FAILED;
    if (shell->count == 0)
        return STATUS_OK;
    const char *name = shell->words[0].bytes;
    name += name[0] == '.';
    if (strcmp(name, "exit") == 0)
        name = "quit";
    for (int i = 0; i < VERBS; i++) {
        if (strcmp(name, verbs[i].name) != 0)
            continue;
        if (shell->count - 1 >= verbs[i].min && shell->count - 1 <= verbs[i].max)
            return verbs[i].run(shell);
        complain(shell, "it is: %s %s", verbs[i].name, verbs[i].words);
        return STATUS_FAILED;
    }
    complain(shell, "there is no command '%s': see help",
             key_text(shell->words[0].bytes, shell->words[0].size));
    return STATUS_FAILED;
}

/* --- Prompt ---------------------------------------------------------------------------------- */

/* The next name of a command that begins with `text`. */
static char *complete_verb(const char *text, int again)
{
    static int at;
    if (!again)
        at = 0;
    while (at < VERBS)
        if (strncmp(verbs[at++].name, text, strlen(text)) == 0)
            return strdup(verbs[at - 1].name);
    return NULL;
}

/* The next key that begins with `text` and needs no quotes. */
static char *complete_key(const char *text, int again)
{
    static struct scan scan;
    static bool open;
    int error = EKV_OK;
    if (!again) {
        scan_begin(completing, &scan);
        open = true;
        error = scan_seek(&scan, text, strlen(text));
    }
    while (open && !error && begins_with(&scan, text, strlen(text))) {
        bool plain = true;
        for (size_t i = 0; i < scan.key_size; i++)
            plain = plain && scan.key[i] > ' ' && !strchr("\"'\\\x7f", scan.key[i]);
        char *name = plain ? strndup((char *)scan.key, scan.key_size) : NULL;
        error = scan_next(&scan);
        if (name)
            return name;
    }
    if (open)
        scan_close(&scan);
    open = false;
    return NULL;
}

static int run_prompt(struct shell *shell)
{
    char *line;
    completing = shell;
    prompt_open(complete_verb, complete_key);
    while (!shell->done && (line = prompt_line(shell->in_txn ? "ekv*> " : "ekv> "))) {
        (void)run_line(shell, line); /* was told, if anything */
        fflush(stdout);
        free(line);
    }
    if (!shell->done)
        putchar('\n');
    return STATUS_OK;
}

static int run_script(struct shell *shell, struct input *input)
{
    char *bytes;
    size_t size;
    int worst = STATUS_OK;
    while (!shell->done && input_line(input, &bytes, &size)) {
        shell->line_number = input->line_number;
        char *line = allocate(size + 1);
        memcpy(line, bytes, size);
        line[size] = 0;
        int status = STATUS_FAILED;
        if (strlen(line) != size)
            complain(shell, "there is a NUL byte: write it as \"\\x00\"");
        else
            status = run_line(shell, line);
        free(line);
        if (status > worst)
            worst = status;
        if (status == STATUS_FAILED && !shell->keep_going)
            break;
    }
    return input->failed ? STATUS_FAILED : worst;
}

/* --- From begin to end ----------------------------------------------------------------------- */

static int run_shell(struct shell *shell, const char *path)
{
    struct input input;
    struct tool *tool = shell->tool;
    shell->interactive = !path && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (!shell->interactive && !input_open(tool, &input, path))
        return STATUS_FAILED;
    int status = STATUS_FAILED;
    if (store_open_mounted(tool, &shell->store, !shell->read_only) == EKV_OK) {
        status = shell->interactive ? run_prompt(shell) : run_script(shell, &input);
        if (shell->in_txn) {
            message(tool, "the transaction that was not committed is given up");
            ekv_txn_abort(&shell->txn);
            if (!shell->interactive)
                status = STATUS_FAILED;
        }
        if (store_close(tool, &shell->store) != EKV_OK)
            status = STATUS_FAILED;
    }
    if (!shell->interactive)
        input_close(&input);
    free(shell->table);
    free(shell->text);
    return status;
}

static int run(struct tool *tool)
{
    struct shell shell = {.tool = tool};
    char **operands;
    const char *value;
    int count, option;
    while ((option = tool_option(tool, &value)) > 0) {
        shell.read_only |= option == 'r';
        shell.keep_going |= option == 'k';
    }
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 0, 1, &operands, &count))
        return STATUS_FAILED;
    return run_shell(&shell, count > 0 ? operands[0] : NULL);
}

const struct command command_shell = {
    .name = "shell",
    .operands = "[SCRIPT]",
    .summary = "Commands on one opened store: at a prompt, or from a script",
    .details =
        "get, put, rm, ls, begin, commit, abort, stat, help and quit, one a line, with words\n"
        "quoted as in sh; 'help' in it tells more. A script comes from SCRIPT or a pipe; its\n"
        "first failure ends it (a missing key is none, but makes the exit status 1), and what\n"
        "was not committed is given up then. Each value that get prints ends its line.\n",
    .options = options,
    .run = run,
};
