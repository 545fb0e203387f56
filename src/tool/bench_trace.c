/* Reading traces. Keys are interned once, so that the replay compares numbers. */
#define _GNU_SOURCE
#include "bench_trace.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_MAX = 4, LINE_SIZE = 4096, FIRST_SLOTS = 1024 };

static uint32_t hash(const char *bytes, size_t size)
{
    uint32_t value = 2166136261u;
    for (size_t i = 0; i < size; i++)
        value = (value ^ (unsigned char)bytes[i]) * 16777619u;
    return value ^ value >> 15;
}

/* The slot of a key, or the empty one where it belongs. */
static uint32_t *find_slot(const struct trace *trace, const char *bytes, size_t size)
{
    uint32_t mask = trace->slot_count - 1;
    for (uint32_t at = hash(bytes, size) & mask;; at = (at + 1) & mask) {
        uint32_t key = trace->slots[at];
        if (key == TRACE_NO_KEY ||
            (trace->keys[key].size == size && memcmp(trace->keys[key].bytes, bytes, size) == 0))
            return &trace->slots[at];
    }
}

static void grow_slots(struct trace *trace)
{
    trace->slot_count = trace->slot_count ? trace->slot_count * 2 : FIRST_SLOTS;
    trace->slots = allocate_again(trace->slots, trace->slot_count * sizeof *trace->slots);
    for (uint32_t i = 0; i < trace->slot_count; i++)
        trace->slots[i] = TRACE_NO_KEY;
    for (uint32_t key = 0; key < trace->key_count; key++)
        *find_slot(trace, trace->keys[key].bytes, trace->keys[key].size) = key;
}

static uint32_t intern(struct trace *trace, const char *bytes)
{
    size_t size = strlen(bytes);
    if (trace->key_count * 2 >= trace->slot_count) {
        grow_slots(trace);
        trace->keys = allocate_again(trace->keys, trace->slot_count * sizeof *trace->keys);
    }
    uint32_t *slot = find_slot(trace, bytes, size);
    if (*slot == TRACE_NO_KEY) {
        *slot = trace->key_count++;
        trace->keys[*slot] = (struct trace_key){strcpy(allocate(size + 1), bytes), (uint32_t)size};
        if (size > trace->key_size_max)
            trace->key_size_max = (uint32_t)size;
    }
    return *slot;
}

uint32_t trace_find(const struct trace *trace, const void *bytes, size_t size)
{
    return trace->slot_count ? *find_slot(trace, bytes, size) : TRACE_NO_KEY;
}

static uint32_t add_phase(struct trace *trace, const char *name)
{
    trace->phase_names =
        allocate_again(trace->phase_names, (trace->phase_count + 1) * sizeof *trace->phase_names);
    trace->phase_names[trace->phase_count] = strcpy(allocate(strlen(name) + 1), name);
    return trace->phase_count++;
}

static int split(char *line, char **words)
{
    int count = 0;
    char *save, *word = strtok_r(line, " \t\r\n", &save);
    for (; word && count <= WORD_MAX; word = strtok_r(NULL, " \t\r\n", &save)) {
        if (count < WORD_MAX)
            words[count] = word;
        count++;
    }
    return count;
}

static bool parse_number(const char *word, uint64_t max, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoull(word, &end, 10);
    return isdigit((unsigned char)*word) && *end == 0 && errno == 0 && *number <= max;
}

static const char *parse(struct trace *trace, char **words, int count, struct trace_step *step)
{
    static const struct {
        const char *name;
        int words;
        uint8_t kind;
    } kinds[] = {{"phase", 2, TRACE_PHASE},   {"put", 4, TRACE_PUT},
                 {"get", 2, TRACE_GET},       {"del", 2, TRACE_DELETE},
                 {"begin", 1, TRACE_BEGIN},   {"commit", 1, TRACE_COMMIT},
                 {"reopen", 1, TRACE_REOPEN}, {"scan", 1, TRACE_SCAN}};
    size_t i = 0, kind_count = sizeof kinds / sizeof *kinds;
    uint64_t size = 0;
    while (i < kind_count && strcmp(kinds[i].name, words[0]) != 0)
        i++;
    if (i == kind_count)
        return "no such operation";
    if (kinds[i].words != count)
        return "the wrong number of words";
    step->kind = kinds[i].kind;
    if (step->kind == TRACE_PHASE)
        step->key = add_phase(trace, words[1]);
    else if (count > 1)
        step->key = intern(trace, words[1]);
    if (step->kind == TRACE_PUT && (!parse_number(words[2], INT32_MAX, &size) ||
                                    !parse_number(words[3], UINT32_MAX, &step->seed)))
        return "size or seed is no number in its range";
    step->size = (uint32_t)size;
    if (step->size > trace->value_size_max)
        trace->value_size_max = step->size;
    return NULL;
}

/* Looks whether the step is allowed here; `open` counts the writes of the open transaction + 1. */
static const char *check_order(struct trace *trace, uint8_t kind, uint32_t *open)
{
    if (trace->phase_count == 0)
        return "the first operation must be a phase";
    switch (kind) {
    case TRACE_BEGIN:
        if (*open)
            return "begin within a transaction";
        *open = 1;
        return NULL;
    case TRACE_COMMIT:
        if (!*open)
            return "commit without begin";
        if (*open - 1 > trace->transaction_count_max)
            trace->transaction_count_max = *open - 1;
        *open = 0;
        return NULL;
    case TRACE_PUT:
    case TRACE_DELETE:
        *open += *open > 0;
        return NULL;
    case TRACE_GET:
        return NULL;
    default:
        return *open ? "only put, get and del may stand within a transaction" : NULL;
    }
}

static bool read_lines(const struct tool *tool, struct trace *trace, FILE *file, const char *path)
{
    char line[LINE_SIZE], *words[WORD_MAX];
    size_t capacity = 0;
    uint32_t open = 0;
    const char *wrong = NULL;
    uint32_t number = 0;
    while (!wrong && fgets(line, sizeof line, file)) {
        number++;
        if (!strchr(line, '\n') && !feof(file)) {
            wrong = "the line is too long";
            break;
        }
        int count = split(line, words);
        if (count == 0)
            continue;
        if (trace->step_count == capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            trace->steps = allocate_again(trace->steps, capacity * sizeof *trace->steps);
        }
        struct trace_step *step = &trace->steps[trace->step_count++];
        *step = (struct trace_step){.line = number};
        wrong = parse(trace, words, count, step);
        if (!wrong)
            wrong = check_order(trace, step->kind, &open);
    }
    if (!wrong && ferror(file)) {
        message(tool, "%s cannot be read: %s", path, strerror(errno));
        return false;
    }
    if (!wrong && open)
        wrong = "the last transaction is not committed";
    if (!wrong && trace->step_count == 0)
        wrong = "the trace is empty";
    if (wrong)
        message(tool, "%s:%u: %s; tests/bench/mktrace.py writes traces", path, number, wrong);
    return !wrong;
}

bool trace_read(const struct tool *tool, struct trace *trace, const char *path)
{
    memset(trace, 0, sizeof *trace);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strstr(name, ".trace");
    size_t length = dot && dot[6] == 0 ? (size_t)(dot - name) : strlen(name);
    snprintf(trace->name, sizeof trace->name, "%.*s", (int)length, name);
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!file) {
        message(tool, "%s cannot be read: %s", path, strerror(errno));
        return false;
    }
    bool good = read_lines(tool, trace, file, path);
    if (file != stdin)
        fclose(file);
    return good;
}

void trace_free(struct trace *trace)
{
    for (uint32_t i = 0; i < trace->key_count; i++)
        free(trace->keys[i].bytes);
    for (uint32_t i = 0; i < trace->phase_count; i++)
        free(trace->phase_names[i]);
    free(trace->keys);
    free(trace->phase_names);
    free(trace->steps);
    free(trace->slots);
}

void trace_value(uint64_t seed, uint8_t *bytes, uint32_t size)
{
    uint64_t base = seed * 2654435761u;
    for (uint32_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)((base + (uint64_t)i * 40503) >> 7);
}
