/* Filling a new image, in memory.
 *
 * The image depends on nothing but the content and the options: files are stored in the order of
 * their paths, whatever order they came in, and every commit has the same time. So it is built in
 * memory, where no trial costs a sync, and only what fits is ever written to the file.
 */
#define _GNU_SOURCE
#include "populate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "scan.h"

/* --- Reading --------------------------------------------------------------------------------- */

struct numbered {
    struct file_entry entry;
    size_t number;
};

static int compare(const void *one, const void *other)
{
    const struct numbered *a = one, *b = other;
    int order = strcmp(a->entry.path, b->entry.path);
    return order ? order : (a->number > b->number) - (a->number < b->number);
}

/* Of a path that an archive holds several times, the last counts, as when it is extracted. */
static void sort(struct content *content)
{
    struct numbered *list = allocate(content->count * sizeof *list);
    size_t kept = 0;
    for (size_t i = 0; i < content->count; i++)
        list[i] = (struct numbered){content->entries[i], i};
    if (content->count > 0)
        qsort(list, content->count, sizeof *list, compare);
    for (size_t i = 0; i < content->count; i++)
        if (i + 1 < content->count && strcmp(list[i].entry.path, list[i + 1].entry.path) == 0)
            file_entry_free(&list[i].entry);
        else
            content->entries[kept++] = list[i].entry;
    content->count = kept;
    free(list);
}

/* A file cannot be a directory too: a store could hold it, but the image would show other paths
 * than its source has. */
static bool check_conflicts(struct tool *tool, const struct content *content)
{
    for (size_t i = 0; i < content->count; i++) {
        const struct file_entry *file = &content->entries[i];
        size_t size = strlen(file->path);
        if (file->directory)
            continue;
        /* What lies below "a" comes behind "a", perhaps after "a-b". */
        for (size_t j = i + 1; j < content->count; j++) {
            const char *path = content->entries[j].path;
            if (strncmp(path, file->path, size) != 0 || (unsigned char)path[size] > '/')
                break;
            if (path[size] == '/') {
                message(tool, "'%s' is a file, but there is '%s' too", file->path, path);
                return false;
            }
        }
    }
    return true;
}

static void hash(struct content *content, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        content->hash = (content->hash ^ at[i]) * 0x100000001b3u;
    for (int shift = 0; shift < 64; shift += 8) /* so that no two lists of strings are the same */
        content->hash = (content->hash ^ (uint8_t)((uint64_t)size >> shift)) * 0x100000001b3u;
}

/* A time that is the commits' own need not be kept. */
static void settle_time(struct content *content, struct attr *attr)
{
    if (attr->set & ATTR_MTIME && content->time != 0 && attr->mtime_seconds == content->time &&
        attr->mtime_nanoseconds == 0)
        attr->set &= (uint8_t)~ATTR_MTIME;
}

static void measure(struct content *content)
{
    uint8_t bytes[ATTR_RECORD_MAX];
    content->hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < content->count; i++) {
        struct file_entry *entry = &content->entries[i];
        settle_time(content, &entry->attr);
        size_t size = file_entry_record(entry, NULL, 0, bytes);
        hash(content, entry->path, strlen(entry->path));
        hash(content, entry->value, entry->value_size);
        hash(content, bytes, size);
        content->size += (entry->directory ? 0 : entry->key_size + entry->value_size) +
                         (size ? entry->key_size + size : 0);
        content->stored += (entry->directory ? 0 : 1) + (size ? 1 : 0);
    }
    for (int shift = 0; shift < 64; shift += 8)
        hash(content, &(uint8_t){(uint8_t)((uint64_t)content->time >> shift)}, 1);
}

static bool read_all(struct files *files, struct content *content)
{
    size_t capacity = 0;
    int found;
    for (;;) {
        if (content->count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            content->entries =
                allocate_again(content->entries, capacity * sizeof *content->entries);
        }
        found = files_next(files, &content->entries[content->count]);
        if (found <= 0)
            return found == 0;
        content->count++;
    }
}

static int64_t newest_time(const struct content *content)
{
    int64_t newest = 0;
    for (size_t i = 0; i < content->count; i++) {
        const struct attr *attr = &content->entries[i].attr;
        if (attr->set & ATTR_MTIME && attr->mtime_seconds > newest &&
            attr->mtime_seconds <= INT64_MAX / 1000000)
            newest = attr->mtime_seconds;
    }
    return newest;
}

bool content_read(struct tool *tool, struct content *content, const char *path,
                  struct files_options *options)
{
    struct stat status;
    struct input input;
    struct files files;
    int64_t epoch;
    *content = (struct content){0};
    bool clamped = source_date_epoch(&epoch);
    options->time_max = clamped ? epoch : INT64_MAX;
    bool tree = stat(path, &status) == 0 && S_ISDIR(status.st_mode);
    if (!tree && !input_open(tool, &input, path))
        return false;
    bool good = tree ? files_open_tree(tool, &files, path, options, UINT32_MAX)
                     : files_open_tar(tool, &files, &input, options, UINT32_MAX);
    if (good) {
        good = read_all(&files, content);
        files_close(&files);
    }
    if (!tree)
        input_close(&input);
    if (good) {
        sort(content);
        good = check_conflicts(tool, content);
    }
    content->time = clamped ? epoch : newest_time(content);
    measure(content);
    if (!good)
        content_free(content);
    return good;
}

void content_free(struct content *content)
{
    for (size_t i = 0; i < content->count; i++)
        file_entry_free(&content->entries[i]);
    free(content->entries);
}

/* --- Building -------------------------------------------------------------------------------- */

/* A flash in memory. The engine only ever programs what is erased. */
struct memory {
    uint8_t *bytes;
    struct ekv_geometry geometry;
};

static int memory_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    const struct memory *memory = context;
    memcpy(buffer, memory->bytes + address, size);
    return 0;
}

static int memory_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    const struct memory *memory = context;
    for (uint32_t i = 0; i < size; i++)
        memory->bytes[address + i] &= ((const uint8_t *)data)[i];
    return 0;
}

static int memory_erase(void *context, uint32_t sector)
{
    const struct memory *memory = context;
    memset(memory->bytes + (size_t)sector * memory->geometry.sector_size, 0xff,
           memory->geometry.sector_size);
    return 0;
}

static const struct ekv_flash_driver driver = {
    .read = memory_read, .program = memory_program, .erase = memory_erase};

static int64_t commit_time(void *context)
{
    return ((const struct content *)context)->time * 1000000;
}

/* What is not stored yet, beyond what there is room for. */
static uint64_t estimate(const struct content *content, struct ekv *db)
{
    struct ekv_stat stat;
    ekv_stat(db, &stat);
    uint64_t needed = content->size + content->stored * stat.record_overhead;
    return needed > stat.capacity_size ? needed - stat.capacity_size : 1;
}

static int put_file(struct ekv *db, const struct file_entry *entry)
{
    uint8_t old[ATTR_RECORD_MAX], bytes[ATTR_RECORD_MAX];
    size_t old_size = 0, size;
    struct ekv_key key = ekv_key(entry->key, entry->key_size);
    int error = EKV_OK;
    if (!entry->directory)
        error = ekv_put(db, key, entry->value, entry->value_size);
    key.space = EKV_ASIDE;
    if (!error)
        error = ekv_get(db, key, 0, old, sizeof old, &old_size);
    if (error && error != EKV_NOT_FOUND)
        return error;
    size = file_entry_record(entry, old, old_size, bytes);
    return size > 0 ? ekv_put(db, key, bytes, size) : EKV_OK;
}

static int put_all(struct tool *tool, const struct content *content, struct ekv *db,
                   uint64_t *lacking)
{
    struct ekv_stat stat;
    int error = EKV_OK;
    size_t i;
    ekv_stat(db, &stat);
    for (i = 0; i < content->count && !error; i++)
        error = put_file(db, &content->entries[i]);
    if (error == EKV_FULL)
        *lacking = estimate(content, db);
    else if (error == EKV_TOO_LARGE && content->entries[i - 1].key_size > stat.key_size_max)
        message(tool, "'%s' is a key of %zu bytes: with these sectors a key has up to %u",
                content->entries[i - 1].path, content->entries[i - 1].key_size, stat.key_size_max);
    else if (error)
        message(tool, "'%s' cannot be stored: %s", content->entries[i - 1].path,
                result_text(error));
    bool more = true;
    while (!error && more)
        error = ekv_work(db, &more);
    return error;
}

int content_build(struct tool *tool, const struct content *content,
                  const struct ekv_geometry *geometry, const struct ekv_format_options *format,
                  uint8_t *image, uint64_t *lacking)
{
    struct memory memory = {image, *geometry};
    struct ekv_flash flash = {*geometry, &driver, &memory, image};
    struct ekv_mount_options options = {.now = commit_time, .now_context = (void *)content};
    struct ekv *db;
    size_t size = ekv_memory_size(geometry, &options);
    void *room = allocate(size);
    memset(image, 0xff, ekv_flash_size(&flash));
    int error = ekv_format(&flash, format, room, size);
    if (!error)
        error = ekv_mount(&db, &flash, &options, room, size);
    if (!error) {
        error = put_all(tool, content, db, lacking);
        int closed = ekv_unmount(db);
        error = error ? error : closed;
    } else {
        message(tool, "%s cannot be formatted: %s", tool->image, result_text(error));
    }
    free(room);
    return error;
}
