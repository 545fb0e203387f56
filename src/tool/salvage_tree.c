/* Salvages into a directory: a file for each key, named and dated as ekvfs shows it.
 *
 * The names come from a broken image, so nothing is believed of them: directories are made and
 * entered one by one, never through a symbolic link, and a file is only ever made, never replaced.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "host/attr.h"
#include "host/path.h"
#include "salvage.h"

struct tree {
    struct salvage *salvage;
    int root;
    char *path;
    size_t capacity;
};

static bool complain(const struct tree *tree, const char *path)
{
    message(tree->salvage->tool, "%s/%s cannot be written: %s", tree->salvage->output, path,
            strerror(errno));
    return false;
}

/* Opens the directory that holds the last name of a path, below `from`, and makes what lacks of it.
 * `name` is set to that last name. -1 with errno on failure. */
static int enter(int from, char *path, char **name)
{
    int directory = dup(from);
    char *begin = path;
    for (char *slash; directory >= 0 && (slash = strchr(begin, '/')) != NULL; begin = slash + 1) {
        *slash = 0;
        int next = -1;
        if (mkdirat(directory, begin, 0755) == 0 || errno == EEXIST)
            next = openat(directory, begin, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        *slash = '/';
        int error = errno;
        close(directory);
        errno = error;
        directory = next;
    }
    *name = begin;
    return directory;
}

/* --- Attributes ------------------------------------------------------------------------------ */

/* What is kept beside a key, as it is now; false: nothing. */
static bool attributes_of(const struct tree *tree, const struct survey_record *record,
                          struct attr_record *attributes, uint64_t *version)
{
    const struct survey *survey = &tree->salvage->look->survey;
    struct ekv_key key = ekv_key(record->key, record->key_size);
    uint32_t first, end;
    uint8_t *bytes;
    uint64_t size, lost;
    key.space = EKV_ASIDE;
    if (survey_key_find(survey, key, &first, &end) != EKV_OK)
        return false;
    const struct survey_record *beside = survey_visible(survey, first, SURVEY_NOW, NULL);
    if (!beside || beside->kind == EKV_RECORD_DELETE ||
        survey_value(survey, beside, &bytes, &size, &lost) != EKV_OK)
        return false;
    bool good = lost == 0 && attr_decode(bytes, size, attributes);
    *version = beside->version;
    free(bytes);
    return good;
}

static struct timespec time_of(const struct survey_record *record, const struct attr *attr,
                               bool explicit_time)
{
    if (explicit_time)
        return (struct timespec){attr->mtime_seconds, (long)attr->mtime_nanoseconds};
    return (struct timespec){record->time / 1000000, record->time % 1000000 * 1000};
}

/* --- Files ----------------------------------------------------------------------------------- */

/* Whether a key is a directory too: another one lies below it, or its directory is recorded. */
static bool is_directory(const struct tree *tree, const struct survey_record *record,
                         enum salvage_kind kind)
{
    const struct salvage *salvage = tree->salvage;
    uint32_t low = 0, high = salvage->count;
    for (uint8_t space = EKV_USER; space <= EKV_ASIDE; space++) {
        low = 0;
        high = salvage->count;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            const struct salvage_item *item = &salvage->items[middle];
            const struct survey_record *other = item->record;
            uint32_t size = other->key_size < record->key_size ? other->key_size : record->key_size;
            int order = item->kind != kind      ? (item->kind < kind ? -1 : 1)
                        : other->space != space ? (other->space < space ? -1 : 1)
                                                : memcmp(other->key, record->key, size);
            if (order == 0 && other->key_size > record->key_size)
                order = other->key[size] < '/' ? -1 : 1;
            if (order < 0 || (order == 0 && other->key_size <= record->key_size))
                low = middle + 1;
            else
                high = middle;
        }
        if (low == salvage->count || salvage->items[low].kind != kind)
            continue;
        const struct survey_record *other = salvage->items[low].record;
        if (other->space == space && other->key_size > record->key_size &&
            memcmp(other->key, record->key, record->key_size) == 0 &&
            other->key[record->key_size] == '/')
            return true;
    }
    return false;
}

static bool write_link(int directory, const char *name, const uint8_t *value, uint64_t size)
{
    char *target = allocate(size + 1);
    memcpy(target, value, size);
    target[size] = 0;
    bool good = symlinkat(target, directory, name) == 0;
    free(target);
    return good;
}

static bool write_bytes(int file, const uint8_t *value, uint64_t size)
{
    for (uint64_t done = 0; done < size;) {
        ssize_t put = write(file, value + done, size - done);
        if (put < 0 && errno != EINTR)
            return false;
        done += put > 0 ? (uint64_t)put : 0;
    }
    return true;
}

/* What the file system there does not keep is left out. */
static void write_xattrs(int file, const struct xattrs *xattrs)
{
    char name[XATTRS_FULL_MAX + 1];
    struct xattr xattr = {0};
    while (xattrs && xattrs_next(xattrs, &xattr)) {
        xattr_full_name(&xattr, name);
        (void)fsetxattr(file, name, xattr.value, xattr.value_size, 0);
    }
}

/* Makes a file that was not there. `xattrs` may be NULL. */
static bool write_file(int directory, const char *name, const uint8_t *value, uint64_t size,
                       unsigned mode, struct timespec time, const struct xattrs *xattrs)
{
    struct timespec times[2] = {{0, UTIME_OMIT}, time};
    int file = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return false;
    write_xattrs(file, xattrs);
    bool good = write_bytes(file, value, size) && fchmod(file, mode) == 0 &&
                (time.tv_sec == 0 || futimens(file, times) == 0);
    int error = errno;
    good = close(file) == 0 && good;
    errno = error;
    return good;
}

/* Writes one value to tree->path. False: the output fails, after a message. */
static bool write_value(struct tree *tree, const struct salvage_item *item)
{
    struct attr_record beside = {0};
    const struct survey_record *record = item->record;
    uint64_t version = 0, size;
    uint8_t *value;
    char *name;
    if (!salvage_value(tree->salvage, record, &value, &size))
        return true;
    if (item->kind == SALVAGE_CURRENT)
        attributes_of(tree, record, &beside, &version);
    const struct attr *attr = &beside.file;
    unsigned set = beside.has_file ? attr->set : 0;
    int directory = enter(tree->root, tree->path, &name);
    bool good = directory >= 0;
    if (good && set & ATTR_SYMLINK && memchr(value, 0, size) == NULL && size > 0)
        good = write_link(directory, name, value, size);
    else if (good)
        good = write_file(directory, name, value, size, set & ATTR_MODE ? attr->mode & 0777 : 0644,
                          time_of(record, attr, set & ATTR_MTIME && version >= record->version),
                          beside.has_file ? &beside.file_xattrs : NULL);
    if (!good)
        complain(tree, tree->path);
    if (directory >= 0)
        close(directory);
    free(value);
    tree->salvage->counts[item->kind] += good;
    return good;
}

/* Room for the path of a key below a directory of the control directory. */
static void make_room(struct tree *tree, uint32_t key_size)
{
    size_t wanted = (size_t)key_size * 4 + 512;
    if (wanted > tree->capacity) {
        tree->path = allocate_again(tree->path, wanted);
        tree->capacity = wanted;
    }
}

static bool write_current(struct tree *tree, const struct salvage_item *item, const char *below)
{
    const struct survey_record *record = item->record;
    size_t length = strlen(below);
    make_room(tree, record->key_size);
    memcpy(tree->path, below, length);
    path_from_key(record->key, record->key_size, is_directory(tree, record, item->kind),
                  tree->path + length, tree->capacity - length);
    return write_value(tree, item);
}

static bool write_old(struct tree *tree, const struct salvage_item *item)
{
    static const char below[] = ".ekv/history/";
    const struct survey_record *record = item->record;
    size_t length = sizeof below - 1;
    char *last;
    make_room(tree, record->key_size);
    memcpy(tree->path, below, length);
    length += path_from_whole(record->key, record->key_size, tree->path + length,
                              tree->capacity - length);
    snprintf(tree->path + length, tree->capacity - length, "/%016llu%s",
             (unsigned long long)record->version,
             record->kind == EKV_RECORD_DELETE ? ".removed" : "");
    if (record->kind != EKV_RECORD_DELETE)
        return write_value(tree, item);
    int directory = enter(tree->root, tree->path, &last);
    struct timespec time = time_of(record, NULL, false);
    bool good = directory >= 0 && write_file(directory, last, NULL, 0, 0644, time, NULL);
    if (!good)
        complain(tree, tree->path);
    if (directory >= 0)
        close(directory);
    tree->salvage->counts[SALVAGE_OLD] += good;
    return good;
}

/* A directory that stays although it is empty, or has attributes; the root has an empty key. */
static bool write_directory(struct tree *tree, const struct survey_record *record)
{
    struct attr_record beside;
    uint64_t version;
    char *name;
    if (!attributes_of(tree, record, &beside, &version) || !beside.has_directory)
        return true;
    if (record->key_size == 0) {
        write_xattrs(tree->root, &beside.directory_xattrs);
        return true;
    }
    make_room(tree, record->key_size);
    if (path_from_prefix(record->key, record->key_size, tree->path, tree->capacity) == 0)
        return true;
    int directory = enter(tree->root, tree->path, &name);
    bool good = directory >= 0 && (mkdirat(directory, name, 0755) == 0 || errno == EEXIST);
    if (!good)
        complain(tree, tree->path);
    int made = good ? openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (made >= 0) {
        write_xattrs(made, &beside.directory_xattrs);
        close(made);
    }
    if (directory >= 0)
        close(directory);
    return good;
}

int salvage_tree(struct salvage *salvage)
{
    struct tree tree = {.salvage = salvage};
    if (mkdir(salvage->output, 0755) != 0 && errno != EEXIST) {
        message(salvage->tool, "%s cannot be made: %s", salvage->output, strerror(errno));
        return STATUS_FAILED;
    }
    tree.root = open(salvage->output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tree.root < 0) {
        message(salvage->tool, "%s cannot be opened: %s", salvage->output, strerror(errno));
        return STATUS_FAILED;
    }
    bool good = true;
    for (uint32_t i = 0; i < salvage->count; i++) {
        const struct salvage_item *item = &salvage->items[i];
        bool user = item->record->space == EKV_USER;
        if (item->kind == SALVAGE_OLD)
            good &= write_old(&tree, item);
        else if (!user && item->kind == SALVAGE_CURRENT)
            good &= write_directory(&tree, item->record);
        else if (user)
            good &=
                write_current(&tree, item, item->kind == SALVAGE_DELETED ? ".ekv/deleted/" : "");
    }
    close(tree.root);
    free(tree.path);
    return good ? STATUS_OK : STATUS_FAILED;
}
