/* Writing a tar archive of what ekvfs would show, by libarchive.
 *
 * Two walks, over the keys and over what is kept beside them, go on together in the order of the
 * keys. Every entry is what its record says of it; a directory is one when it has a record, else
 * the paths below it make it.
 */
#define _GNU_SOURCE
#include "files.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scan.h"

enum { PIECE_SIZE = 64 * 1024 };

struct tar {
    struct tool *tool;
    struct ekv *db;
    struct archive *archive;
    struct archive_entry *entry;
    struct scan keys, aside;
    struct scan look; /* for what lies below a key */
    const char *prefix;
    size_t prefix_size;
    bool said;   /* what is wrong */
    bool broken; /* what comes now must not make it look whole */
    char *path;
    size_t path_capacity;
};

static la_ssize_t write_piece(struct archive *archive, void *context, const void *bytes,
                              size_t size)
{
    const struct tar *tar = context;
    if (tar->broken || fwrite(bytes, 1, size, stdout) == size)
        return (la_ssize_t)size;
    archive_set_error(archive, EKV_IO, "standard output cannot be written");
    return -1;
}

static int failed(struct tar *tar)
{
    tar->said = true;
    /* What standard output refused is said at the end, as for every command. */
    if (!ferror(stdout))
        message(tar->tool, "'%s' cannot be archived: %s", tar->path,
                archive_error_string(tar->archive));
    return EKV_IO;
}

static bool in_prefix(const struct tar *tar, const struct scan *scan)
{
    return scan->valid && scan->key_size >= tar->prefix_size &&
           memcmp(scan->key, tar->prefix, tar->prefix_size) == 0;
}

/* A time that somebody set keeps its nanoseconds, which cost a header of their own; the time of a
 * commit does without. */
static void set_time(struct tar *tar, const struct attr *attr, bool explicit_time, int64_t time)
{
    if (explicit_time)
        archive_entry_set_mtime(tar->entry, attr->mtime_seconds, (long)attr->mtime_nanoseconds);
    else
        archive_entry_set_mtime(tar->entry, time / 1000000, 0);
}

static void set_attributes(struct tar *tar, const struct attr *attr, unsigned kind,
                           unsigned default_mode)
{
    archive_entry_clear(tar->entry);
    archive_entry_set_pathname(tar->entry, tar->path);
    archive_entry_set_filetype(tar->entry, kind);
    archive_entry_set_perm(tar->entry, attr->set & ATTR_MODE ? attr->mode : default_mode);
    archive_entry_set_uid(tar->entry, attr->set & ATTR_UID ? attr->uid : 0);
    archive_entry_set_gid(tar->entry, attr->set & ATTR_GID ? attr->gid : 0);
}

static void set_xattrs(struct tar *tar, const struct xattrs *xattrs)
{
    char name[XATTRS_FULL_MAX + 1];
    struct xattr xattr = {0};
    while (xattrs_next(xattrs, &xattr)) {
        xattr_full_name(&xattr, name);
        archive_entry_xattr_add_entry(tar->entry, name, xattr.value, xattr.value_size);
    }
}

static int write_header(struct tar *tar)
{
    return archive_write_header(tar->archive, tar->entry) < ARCHIVE_WARN ? failed(tar) : EKV_OK;
}

/* Whether the key that the walk stands on is a directory too: a key lies below "KEY/", or one is
 * recorded there. */
static int is_directory(struct tar *tar, bool *directory)
{
    uint8_t bytes[ATTR_RECORD_MAX];
    struct attr_record record;
    size_t size = tar->keys.key_size + 1, got;
    *directory = false;
    if (size > tar->keys.key_capacity)
        return EKV_OK;
    tar->keys.key[size - 1] = '/';
    int error = scan_seek(&tar->look, tar->keys.key, size);
    *directory = tar->look.valid && tar->look.key_size >= size &&
                 memcmp(tar->look.key, tar->keys.key, size) == 0;
    if (error || *directory)
        return error;
    struct ekv_key key = {tar->keys.key, (uint32_t)size, EKV_ASIDE, 0};
    error = ekv_get(tar->db, key, 0, bytes, sizeof bytes, &got);
    *directory = !error && attr_decode(bytes, got, &record) && record.has_directory;
    return error == EKV_NOT_FOUND ? EKV_OK : error;
}

static int write_content(struct tar *tar)
{
    uint8_t *piece = allocate(PIECE_SIZE);
    uint64_t offset = 0;
    int error = EKV_OK;
    while (!error && offset < tar->keys.entry.size) {
        size_t size;
        error = ekv_cursor_read(&tar->keys.cursor, offset, piece, PIECE_SIZE, &size);
        if (!error && size == 0)
            error = EKV_CORRUPT;
        if (!error && archive_write_data(tar->archive, piece, size) != (la_ssize_t)size)
            error = failed(tar);
        offset += size;
    }
    free(piece);
    return error;
}

static int write_link(struct tar *tar)
{
    int error = scan_value(&tar->keys);
    if (error)
        return error;
    size_t size = tar->keys.entry.size;
    char *target = allocate(size + 1);
    memcpy(target, tar->keys.value, size);
    target[size] = 0;
    archive_entry_set_symlink(tar->entry, target);
    free(target);
    return write_header(tar);
}

/* The file that the walk of the keys stands on; `record` is what is kept beside it. */
static int write_file(struct tar *tar, const struct attr_record *record,
                      const struct ekv_entry *record_entry)
{
    static const struct attr nothing;
    const struct attr *attr = record->has_file ? &record->file : &nothing;
    const struct ekv_entry *entry = &tar->keys.entry;
    bool directory;
    int error = is_directory(tar, &directory);
    if (error)
        return error;
    if (path_from_key(tar->keys.key, tar->keys.key_size, directory, tar->path,
                      tar->path_capacity) == 0)
        return EKV_TOO_LARGE;
    bool link = attr->set & ATTR_SYMLINK;
    set_attributes(tar, attr, link ? AE_IFLNK : AE_IFREG, link ? 0777 : FILE_MODE_DEFAULT);
    set_time(tar, attr, attr->set & ATTR_MTIME && record_entry->version >= entry->version,
             entry->time);
    if (link)
        return write_link(tar);
    archive_entry_set_size(tar->entry, (la_int64_t)entry->size);
    if (record->has_file)
        set_xattrs(tar, &record->file_xattrs);
    error = write_header(tar);
    return error ? error : write_content(tar);
}

static int write_directory(struct tar *tar, const struct attr_record *record)
{
    if (tar->aside.key_size == 0)
        strcpy(tar->path, ".");
    else if (path_from_prefix(tar->aside.key, tar->aside.key_size, tar->path, tar->path_capacity) ==
             0)
        return EKV_OK; /* no directory has this prefix: of no meaning */
    strcat(tar->path, "/");
    set_attributes(tar, &record->directory, AE_IFDIR, DIRECTORY_MODE_DEFAULT);
    set_time(tar, &record->directory, record->directory.set & ATTR_MTIME, tar->aside.entry.time);
    set_xattrs(tar, &record->directory_xattrs);
    return write_header(tar);
}

/* The smaller of the keys that the walks stand on, or of both if it is the same. */
static int step(struct tar *tar)
{
    struct attr_record record;
    struct ekv_entry record_entry = {0};
    bool file = in_prefix(tar, &tar->keys), beside = in_prefix(tar, &tar->aside);
    int error = EKV_OK;
    attr_clear(&record);
    if (file && beside) {
        int order =
            key_compare(tar->keys.key, tar->keys.key_size, tar->aside.key, tar->aside.key_size);
        file = order <= 0;
        beside = order >= 0;
    }
    if (beside) {
        error = scan_value(&tar->aside);
        if (!error) /* of a later version: the defaults hold */
            (void)attr_decode(tar->aside.value, tar->aside.entry.size, &record);
        record_entry = tar->aside.entry;
        if (!error && record.has_directory)
            error = write_directory(tar, &record);
    }
    if (!error && file)
        error = write_file(tar, &record, &record_entry);
    if (!error && file)
        error = scan_next(&tar->keys);
    if (!error && beside)
        error = scan_next(&tar->aside);
    return error;
}

static int write_all(struct tar *tar)
{
    int error = scan_seek(&tar->keys, tar->prefix, tar->prefix_size);
    if (!error)
        error = scan_seek(&tar->aside, tar->prefix, tar->prefix_size);
    while (!error && (in_prefix(tar, &tar->keys) || in_prefix(tar, &tar->aside)))
        error = step(tar);
    return error;
}

int files_write_tar(struct tool *tool, struct ekv *db, const char *prefix)
{
    struct tar tar = {.tool = tool, .db = db, .prefix = prefix, .prefix_size = strlen(prefix)};
    tar.archive = archive_write_new();
    tar.entry = archive_entry_new();
    if (!tar.archive || !tar.entry)
        abort();
    scan_open(&tar.keys, db, EKV_USER);
    scan_open(&tar.aside, db, EKV_ASIDE);
    scan_open(&tar.look, db, EKV_USER);
    /* The key grows by the '/' of the directory that is looked for. */
    tar.path_capacity = 4 * tar.keys.key_capacity + 64;
    tar.path = allocate(tar.path_capacity);
    tar.path[0] = 0;
    archive_write_set_format_pax(tar.archive);
    archive_write_set_format_option(tar.archive, "pax", "xattrheader", "SCHILY"); /* GNU tar's */
    int error = EKV_OK;
    if (archive_write_open(tar.archive, &tar, NULL, write_piece, NULL) != ARCHIVE_OK)
        error = failed(&tar);
    if (!error)
        error = write_all(&tar);
    if (error && !tar.said)
        message(tool, "%s cannot be archived to its end: %s", tool->image, result_text(error));
    tar.broken = error != EKV_OK;
    if (archive_write_close(tar.archive) != ARCHIVE_OK && !error)
        error = failed(&tar);
    archive_write_free(tar.archive);
    archive_entry_free(tar.entry);
    scan_close(&tar.keys);
    scan_close(&tar.aside);
    scan_close(&tar.look);
    free(tar.path);
    return error;
}
