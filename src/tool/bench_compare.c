/* `ekv bench compare`: what `ekv bench replay --json` printed, beside what other engines cost.
 *
 * The peers' figures are lines of trace,engine,status,phase,ops,flash_ms,... as in
 * tests/bench/peers.csv. A ratio is ours by theirs: below 1 is ahead. A peer that did not get
 * through a phase has no ratio there, and none for the whole trace.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

enum { FIELD_TRACE, FIELD_ENGINE, FIELD_STATUS, FIELD_PHASE, FIELD_OPS, FIELD_TIME, FIELD_COUNT };

struct peer {
    char *line; /* holds the fields */
    char *fields[FIELD_COUNT];
    double time;
};

struct entry {
    const char *trace, *phase; /* phase NULL: the whole run */
    double time, bound;
    double worst; /* highest ratio to a peer, 0 when there is none */
    json_t *object;
};

struct comparison {
    struct tool *tool;
    struct peer *peers;
    size_t peer_count;
    struct entry *entries;
    size_t entry_count;
    const char **engines; /* of one trace, in the order of the file */
    size_t engine_count;
};

/* --- The peers ------------------------------------------------------------------------------- */

/* Takes one field of a CSV line in place; returns where the next begins, NULL at the end. */
static char *take_field(char *at, char **field)
{
    if (*at != '"') {
        *field = at;
        char *end = at + strcspn(at, ",\r\n");
        bool more = *end == ',';
        *end = 0;
        return more ? end + 1 : NULL;
    }
    char *to = ++at;
    *field = to;
    while (*at && (*at != '"' || at[1] == '"')) {
        at += *at == '"';
        *to++ = *at++;
    }
    if (*at == '"')
        at++;
    bool more = *at == ',';
    *to = 0;
    return more ? at + 1 : NULL;
}

static bool parse_peer(struct peer *peer)
{
    char *at = peer->line;
    for (int i = 0; i < FIELD_COUNT; i++) {
        if (!at)
            return false;
        at = take_field(at, &peer->fields[i]);
    }
    char *end;
    peer->time = strtod(peer->fields[FIELD_TIME], &end);
    return *end == 0;
}

static bool read_peers(struct comparison *all, const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t capacity = 0, number = 0;
    if (!file) {
        message(all->tool, "%s cannot be read: %s", path, strerror(errno));
        return false;
    }
    bool good = true;
    while (good && getline(&line, &capacity, file) > 0) {
        if (number++ == 0 && strncmp(line, "trace,engine,status,phase,ops,flash_ms", 38) == 0)
            continue;
        all->peers = allocate_again(all->peers, (all->peer_count + 1) * sizeof *all->peers);
        struct peer *peer = &all->peers[all->peer_count++];
        peer->line = strcpy(allocate(strlen(line) + 1), line);
        good = parse_peer(peer);
        if (!good)
            message(all->tool, "%s:%zu: not a line of trace,engine,status,phase,ops,flash_ms,...",
                    path, number);
    }
    free(line);
    fclose(file);
    return good;
}

static bool did(const struct peer *peer, const char *trace, const char *engine)
{
    return strcmp(peer->fields[FIELD_TRACE], trace) == 0 &&
           strcmp(peer->fields[FIELD_ENGINE], engine) == 0;
}

/* Time of an engine for a phase, or for the whole trace (phase NULL). False when it did not get
 * through. */
static bool peer_time(const struct comparison *all, const char *trace, const char *engine,
                      const char *phase, double *time)
{
    bool found = false, good = true;
    *time = 0;
    for (size_t i = 0; i < all->peer_count; i++) {
        const struct peer *peer = &all->peers[i];
        if (!did(peer, trace, engine))
            continue;
        bool ok = strcmp(peer->fields[FIELD_STATUS], "ok") == 0 && peer->fields[FIELD_PHASE][0];
        if (phase && strcmp(peer->fields[FIELD_PHASE], phase) == 0) {
            *time = peer->time;
            return ok;
        }
        found = true;
        good &= ok;
        *time += peer->time;
    }
    return !phase && found && good;
}

static void list_engines(struct comparison *all, const char *trace)
{
    all->engine_count = 0;
    for (size_t i = 0; i < all->peer_count; i++) {
        const struct peer *peer = &all->peers[i];
        bool known = strcmp(peer->fields[FIELD_TRACE], trace) != 0;
        for (size_t j = 0; j < all->engine_count && !known; j++)
            known = strcmp(all->engines[j], peer->fields[FIELD_ENGINE]) == 0;
        if (known)
            continue;
        all->engines = allocate_again(all->engines, (all->engine_count + 1) * sizeof *all->engines);
        all->engines[all->engine_count++] = peer->fields[FIELD_ENGINE];
    }
}

/* --- Ours ------------------------------------------------------------------------------------ */

static bool add_entry(struct comparison *all, json_t *object)
{
    const char *schema = json_string_value(json_object_get(object, "schema"));
    bool phase = schema && strcmp(schema, "ekv.bench.phase.1") == 0;
    bool run = schema && strcmp(schema, "ekv.bench.run.1") == 0;
    struct entry entry = {
        .trace = json_string_value(json_object_get(object, run ? "run" : "trace")),
        .phase = phase ? json_string_value(json_object_get(object, "phase")) : NULL,
        .time = json_number_value(json_object_get(object, "flash_ms")),
        .bound = json_number_value(json_object_get(object, "bound_ms")),
        .object = object,
    };
    if ((!phase && !run) || !entry.trace || (phase && !entry.phase) || entry.time < 0) {
        json_decref(object);
        return false;
    }
    all->entries = allocate_again(all->entries, (all->entry_count + 1) * sizeof *all->entries);
    all->entries[all->entry_count++] = entry;
    return true;
}

static bool read_results(struct comparison *all, const char *path)
{
    bool standard = strcmp(path, "-") == 0, good = true;
    FILE *file = standard ? stdin : fopen(path, "re");
    char *line = NULL;
    size_t capacity = 0, number = 0;
    if (!file) {
        message(all->tool, "%s cannot be read: %s", path, strerror(errno));
        return false;
    }
    while (good && getline(&line, &capacity, file) > 0) {
        json_t *object = json_loads(line, 0, NULL);
        number++;
        good = object && add_entry(all, object);
        if (!good)
            message(all->tool, "%s:%zu: not a line that 'ekv bench replay --json' prints", path,
                    number);
    }
    free(line);
    if (!standard)
        fclose(file);
    return good;
}

/* --- Side by side ---------------------------------------------------------------------------- */

static void find_worst(const struct comparison *all, struct entry *entry)
{
    double time;
    for (size_t i = 0; i < all->engine_count; i++)
        if (peer_time(all, entry->trace, all->engines[i], entry->phase, &time) && time > 0 &&
            entry->time / time > entry->worst)
            entry->worst = entry->time / time;
}

/* The whole run last, before it the worst phase first. */
static int compare_entries(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    if (!left->phase != !right->phase)
        return left->phase ? -1 : 1;
    return (left->worst < right->worst) - (left->worst > right->worst);
}

static void print_ratio(double ours, double theirs)
{
    if (theirs <= 0)
        printf(" %8s", ours > 0 ? "inf" : "-");
    else if (ours / theirs >= 9999.5 || (ours > 0 && ours / theirs < 0.0005))
        printf(" %8.1e", ours / theirs);
    else
        printf(" %8.3f", ours / theirs);
}

static void print_row(const struct comparison *all, const struct entry *entry)
{
    printf("%-15s %12.3f", entry->phase ? entry->phase : "all", entry->time);
    if (entry->bound > 0)
        print_ratio(entry->time, entry->bound);
    else
        printf(" %8s", "-");
    for (size_t i = 0; i < all->engine_count; i++) {
        double time;
        if (peer_time(all, entry->trace, all->engines[i], entry->phase, &time))
            print_ratio(entry->time, time);
        else
            printf(" %8s", "-");
    }
    putchar('\n');
}

static void print_lines(const struct comparison *all, const struct entry *entry)
{
    for (size_t i = 0; i <= all->engine_count; i++) {
        double time = entry->bound;
        const char *engine = i > 0 ? all->engines[i - 1] : "lower bound";
        if (i > 0 && !peer_time(all, entry->trace, engine, entry->phase, &time))
            continue;
        json_t *object =
            json_pack("{s:s, s:s, s:s, s:s, s:f, s:f}", "schema", "ekv.bench.compare.1", "trace",
                      entry->trace, "phase", entry->phase ? entry->phase : "all", "against", engine,
                      "flash_ms", entry->time, "their_ms", time);
        if (object && time > 0)
            json_object_set_new(object, "ratio", json_real(entry->time / time));
        if (object)
            json_line(object);
    }
}

static void compare_trace(struct comparison *all, struct entry *entries, size_t count)
{
    list_engines(all, entries[0].trace);
    for (size_t i = 0; i < count; i++)
        find_worst(all, &entries[i]);
    qsort(entries, count, sizeof *entries, compare_entries);
    if (!all->tool->json) {
        printf("%s: flash time by that of the lower bound and of\n", entries[0].trace);
        for (size_t i = 0; i < all->engine_count; i++)
            printf("  [%zu] %s\n", i + 1, all->engines[i]);
        printf("\n%-15s %12s %8s", "phase", "flash ms", "bound");
        for (size_t i = 0; i < all->engine_count; i++)
            printf("     [%zu]%s", i + 1, i < 9 ? " " : "");
        putchar('\n');
    }
    for (size_t i = 0; i < count; i++)
        if (all->tool->json)
            print_lines(all, &entries[i]);
        else
            print_row(all, &entries[i]);
}

/* The lines of one trace end with its run. */
static void compare(struct comparison *all)
{
    size_t first = 0;
    for (size_t i = 0; i < all->entry_count; i++) {
        bool last = i + 1 == all->entry_count || !all->entries[i].phase ||
                    strcmp(all->entries[i].trace, all->entries[i + 1].trace) != 0;
        if (!last)
            continue;
        if (first > 0 && !all->tool->json)
            putchar('\n');
        compare_trace(all, all->entries + first, i + 1 - first);
        first = i + 1;
    }
}

static void release(struct comparison *all)
{
    for (size_t i = 0; i < all->peer_count; i++)
        free(all->peers[i].line);
    for (size_t i = 0; i < all->entry_count; i++)
        json_decref(all->entries[i].object);
    free(all->peers);
    free(all->entries);
    free(all->engines);
}

static int run(struct tool *tool)
{
    struct comparison all = {.tool = tool};
    const char *value;
    char **operands;
    int count, option = tool_option(tool, &value);
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 1, INT32_MAX, &operands, &count))
        return STATUS_FAILED;
    bool good = read_peers(&all, operands[0]);
    for (int i = 1; i < count && good; i++)
        good = read_results(&all, operands[i]);
    if (good && count == 1)
        good = read_results(&all, "-");
    if (good && all.entry_count == 0) {
        message(tool, "there is nothing to compare: give what 'ekv bench replay --json' printed");
        good = false;
    }
    if (good)
        compare(&all);
    release(&all);
    return good ? STATUS_OK : STATUS_FAILED;
}

const struct command command_bench_compare = {
    .name = "bench compare",
    .operands = "PEERS [RESULT]...",
    .summary = "Print the ratio to the lower bound and to other engines, worst phase first",
    .details = "PEERS is a table such as tests/bench/peers.csv; RESULT is what\n"
               "'ekv bench replay --json' printed (default: standard input). A ratio is ours by\n"
               "theirs: below 1 is ahead. '-' is what a peer could not do.\n",
    .run = run,
};
