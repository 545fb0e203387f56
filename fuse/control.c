/* `.ekv/`: figures and the last refusal, generated when a file is opened. */
#include "control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"
#include "report.h"
#include "stage.h"

enum { TEXT_MAX = 4096 };

static const struct control_entry root = {CONTROL_NAME, CONTROL_ROOT, true};

static const struct control_entry root_entries[] = {
    {"stat", CONTROL_STAT, false},
    {"stat.json", CONTROL_STAT_JSON, false},
    {"last_error", CONTROL_LAST_ERROR, false},
    {"tx", CONTROL_TX, true},
    {"commit", CONTROL_COMMIT, true},
    {"snap", CONTROL_SNAP, true},
    {"history", CONTROL_HISTORY, true},
    {"at", CONTROL_AT, true},
    {NULL, CONTROL_NONE, false},
};

const struct control_entry *control_find(enum control_kind directory, const char *name)
{
    if (directory == CONTROL_NONE)
        return strcmp(name, root.name) == 0 ? &root : NULL;
    if (directory != CONTROL_ROOT)
        return NULL;
    const struct control_entry *entry = root_entries;
    while (entry->name && strcmp(entry->name, name) != 0)
        entry++;
    return entry->name ? entry : NULL;
}

static mode_t mode_of(const struct fs *fs, enum control_kind kind)
{
    switch (kind) {
    case CONTROL_TX:
    case CONTROL_COMMIT:
    case CONTROL_SNAP:
        return S_IFDIR | S_ISVTX | fs->directory_mode;
    case CONTROL_ROOT:
    case CONTROL_AT:
        return S_IFDIR | 0555;
    case CONTROL_HISTORY:
    case CONTROL_HISTORY_PART:
    case CONTROL_HISTORY_KEY:
        return S_IFDIR | 0500;
    case CONTROL_HISTORY_VERSION:
        return S_IFREG | 0400;
    default:
        return S_IFREG | 0444;
    }
}

void control_stat(struct fs *fs, const struct node *node, struct stat *stat)
{
    struct ekv_entry entry;
    int64_t time = store_now();
    memset(stat, 0, sizeof *stat);
    if (node->control == CONTROL_HISTORY_VERSION && history_entry(fs, node, &entry) == 0) {
        stat->st_size = (off_t)entry.size;
        stat->st_blocks = (blkcnt_t)((entry.size + 511) / 512);
        time = entry.time ? entry.time : fs->mount_time;
    }
    stat->st_ino = node->id;
    stat->st_mode = mode_of(fs, node->control);
    stat->st_nlink = 1;
    stat->st_uid = fs->uid;
    stat->st_gid = fs->gid;
    stat->st_blksize = 4096;
    stat->st_mtim = (struct timespec){.tv_sec = time / 1000000, .tv_nsec = time % 1000000 * 1000};
    stat->st_ctim = stat->st_atim = stat->st_mtim;
}

/* --- Names -------------------------------------------------------------------------------------
 */

bool control_add(struct control_names *names, bool directory, const char *name, size_t size)
{
    if (names->capacity - names->size < size + 2) {
        size_t capacity = 2 * names->capacity + size + 256;
        char *bytes = realloc(names->bytes, capacity);
        if (!bytes)
            return false;
        names->bytes = bytes;
        names->capacity = capacity;
    }
    names->bytes[names->size++] = directory ? 'd' : 'f';
    memcpy(names->bytes + names->size, name, size);
    names->size += size;
    names->bytes[names->size++] = 0;
    return true;
}

static bool list_views(struct fs *fs, enum view_kind kind, struct control_names *names)
{
    bool done = true;
    pthread_mutex_lock(&fs->nodes.lock);
    for (const struct view *view = fs->views; view && done; view = view->next)
        if (view->kind == kind)
            done = control_add(names, true, view->top->name, view->top->name_size);
    pthread_mutex_unlock(&fs->nodes.lock);
    return done;
}

int control_list(struct fs *fs, const struct node *directory, struct control_names *names)
{
    bool done = true;
    names->size = 0;
    switch (directory->control) {
    case CONTROL_ROOT:
        for (const struct control_entry *entry = root_entries; entry->name && done; entry++)
            done = control_add(names, entry->directory, entry->name, strlen(entry->name));
        break;
    case CONTROL_TX:
        done = list_views(fs, VIEW_STAGE, names);
        break;
    case CONTROL_SNAP:
        done = list_views(fs, VIEW_SNAPSHOT, names);
        break;
    case CONTROL_HISTORY:
    case CONTROL_HISTORY_PART:
    case CONTROL_HISTORY_KEY:
        return history_list(fs, directory, names);
    default:
        break;
    }
    return done ? 0 : ENOMEM;
}

/* --- Figures -----------------------------------------------------------------------------------
 */

struct text {
    char *bytes;
    size_t size;
    bool json;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = TEXT_MAX - text->size;
    int length = vsnprintf(text->bytes + text->size, room, format, arguments);
    va_end(arguments);
    text->size += length < 0 ? 0 : (size_t)length < room ? (size_t)length : room - 1;
}

static void add_name(struct text *text, const char *name)
{
    if (text->json)
        add(text, "%s\n  \"%s\": ", text->size > 1 ? "," : "", name);
    else
        add(text, "%s ", name);
}

static void add_figure(struct text *text, const char *name, uint64_t value)
{
    add_name(text, name);
    add(text, text->json ? "%llu" : "%llu\n", (unsigned long long)value);
}

/* A label is text that somebody wrote onto an image: no control bytes, no quotes in JSON. */
static void add_label(struct text *text, const char *label)
{
    add_name(text, "label");
    if (text->json)
        add(text, "\"");
    for (; *label; label++) {
        if ((unsigned char)*label < ' ')
            add(text, "?");
        else if (text->json && (*label == '"' || *label == '\\'))
            add(text, "\\%c", *label);
        else
            add(text, "%c", *label);
    }
    add(text, text->json ? "\"" : "\n");
}

static void add_stat(struct text *text, struct fs *fs)
{
    struct ekv_stat stat;
    uint64_t available;
    space_stat(&fs->space, &stat, &available);
    add_label(text, stat.label);
    add_figure(text, "store_id", stat.store_id);
    add_figure(text, "version", stat.version);
    add_figure(text, "keys", stat.keys);
    add_figure(text, "capacity_size", stat.capacity_size);
    add_figure(text, "live_size", stat.live_size);
    add_figure(text, "available_size", available);
    add_figure(text, "reserved_size", fs->space.reserved + stat.reserved_size);
    add_figure(text, "key_size_max", stat.key_size_max);
    add_figure(text, "sector_size", stat.geometry.sector_size);
    add_figure(text, "sector_count", stat.geometry.sector_count);
    add_figure(text, "write_unit", stat.geometry.write_unit);
    add_figure(text, "sectors_log", stat.sectors_log);
    add_figure(text, "sectors_index", stat.sectors_index);
    add_figure(text, "sectors_manifest", stat.sectors_manifest);
    add_figure(text, "sectors_free", stat.sectors_free);
    add_figure(text, "sectors_ready", stat.sectors_ready);
    add_figure(text, "sectors_pinned", stat.sectors_pinned);
    add_figure(text, "sectors_retired", stat.sectors_retired);
    add_figure(text, "runs", stat.runs);
    add_figure(text, "memtable_count", stat.memtable_count);
    add_figure(text, "memtable_capacity", stat.memtable_capacity);
    add_figure(text, "erases", stat.erases);
    add_figure(text, "programs", stat.programs);
    add_figure(text, "programmed_size", stat.programmed_size);
    add_figure(text, "flushes", stat.flushes);
    add_figure(text, "merges", stat.merges);
    add_figure(text, "collections", stat.collections);
    add_figure(text, "read_only", stat.read_only);
    add_figure(text, "damaged", stat.damaged);
    add_figure(text, "recovered", stat.recovered);
    add_figure(text, "nodes", fs->nodes.count);
    add_figure(text, "transactions", stage_count(fs, VIEW_STAGE));
    add_figure(text, "snapshots", stage_count(fs, VIEW_SNAPSHOT));
    add_figure(text, "pinned_size", (uint64_t)stat.sectors_pinned * stat.geometry.sector_size);
}

int control_text(struct fs *fs, const struct node *node, char **bytes, size_t *size)
{
    if (node->control == CONTROL_HISTORY_VERSION)
        return history_load(fs, node, bytes, size);
    struct text text = {.bytes = malloc(TEXT_MAX), .json = node->control == CONTROL_STAT_JSON};
    if (!text.bytes)
        return ENOMEM;
    if (node->control == CONTROL_LAST_ERROR) {
        text.size = report_last(text.bytes, TEXT_MAX);
    } else {
        if (text.json)
            add(&text, "{");
        add_stat(&text, fs);
        if (text.json)
            add(&text, "\n}\n");
    }
    *bytes = text.bytes;
    *size = text.size;
    return 0;
}
