/* Reading files, by libarchive: from a tar archive or from a directory tree.
 *
 * A path is what ekvfs would show for the key, so what it writes with an escape is understood, and
 * a name that it could never show is refused in words. So are hard links, devices and fifos, which
 * a mount refuses too.
 */
#define _GNU_SOURCE
#include "files.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PIECE_SIZE = 64 * 1024 };

/* --- Opening --------------------------------------------------------------------------------- */

static la_ssize_t read_piece(struct archive *archive, void *context, const void **bytes)
{
    struct files *files = context;
    size_t size;
    input_take(files->input, files->taken);
    *bytes = input_peek(files->input, 1, &size);
    files->taken = size;
    if (files->input->failed)
        archive_set_error(archive, EIO, "it cannot be read");
    return files->input->failed ? -1 : (la_ssize_t)size;
}

static bool complain(const struct files *files, const char *path)
{
    const char *text = archive_error_string(files->archive);
    if (!files->input || !files->input->failed)
        message(files->tool, "%s%s%s: %s", files->input ? files->input->name : files->root,
                path ? ", at " : "", path ? path : "", text ? text : "it cannot be read");
    return false;
}

static void init(struct tool *tool, struct files *files, const struct files_options *options,
                 uint64_t size_max)
{
    *files = (struct files){.tool = tool, .options = options, .size_max = size_max};
    files->entry = archive_entry_new();
    if (!files->entry)
        abort();
}

bool files_open_tar(struct tool *tool, struct files *files, struct input *input,
                    const struct files_options *options, uint64_t size_max)
{
    init(tool, files, options, size_max);
    files->input = input;
    files->archive = archive_read_new();
    if (!files->archive)
        abort();
    archive_read_support_filter_all(files->archive);
    archive_read_support_format_tar(files->archive);
    if (archive_read_open(files->archive, files, NULL, read_piece, NULL) == ARCHIVE_OK)
        return true;
    complain(files, NULL);
    files_close(files);
    return false;
}

bool files_open_tree(struct tool *tool, struct files *files, const char *path,
                     const struct files_options *options, uint64_t size_max)
{
    init(tool, files, options, size_max);
    files->root = path;
    files->archive = archive_read_disk_new();
    if (!files->archive)
        abort();
    archive_read_disk_set_symlink_physical(files->archive);
    archive_read_disk_set_behavior(files->archive,
                                   ARCHIVE_READDISK_NO_ACL | ARCHIVE_READDISK_NO_FFLAGS);
    if (archive_read_disk_open(files->archive, path) == ARCHIVE_OK)
        return true;
    complain(files, NULL);
    files_close(files);
    return false;
}

void files_close(struct files *files)
{
    archive_read_free(files->archive);
    archive_entry_free(files->entry);
    tdestroy(files->links, free);
}

/* --- Names ----------------------------------------------------------------------------------- */

/* Leaves out what says nothing: "./", doubled and trailing slashes. False for "..". */
static bool clean_path(char *path)
{
    char *out = path;
    for (const char *in = path; *in;) {
        size_t length = strcspn(in, "/");
        bool up = length == 2 && memcmp(in, "..", 2) == 0;
        if (up)
            return false;
        if (length > 0 && !(length == 1 && *in == '.')) {
            if (out != path)
                *out++ = '/';
            memmove(out, in, length);
            out += length;
        }
        in += length;
        in += *in == '/';
    }
    *out = 0;
    return true;
}

static bool take_path(struct files *files, struct file_entry *entry)
{
    const char *path = archive_entry_pathname(files->entry);
    if (!path) {
        message(files->tool, "a name in %s cannot be read",
                files->input ? files->input->name : files->root);
        return false;
    }
    if (files->root) { /* "DIR/a/b" for DIR, of which slashes at the end may be left out */
        size_t size = strlen(files->root), length = strlen(path);
        while (size > 0 && files->root[size - 1] == '/')
            size--;
        path += size < length ? size : length;
    }
    entry->path = strcpy(allocate(strlen(path) + 1), path);
    entry->directory = archive_entry_filetype(files->entry) == AE_IFDIR;
    if (!clean_path(entry->path)) {
        message(files->tool, "'%s' leads out of the archive: refused", path);
        return false;
    }
    size_t size = strlen(entry->path);
    entry->key = allocate(size + 1);
    bool good = entry->directory ? path_to_prefix(entry->path, size, entry->key, &entry->key_size)
                                 : path_to_key(entry->path, size, entry->key, &entry->key_size);
    if (!good)
        message(files->tool,
                "'%s' is no name that a mounted store can show (a %% in a name is %%25, and .ekv "
                "at the top is the control directory's): rename it",
                key_text(entry->path, size));
    return good;
}

/* --- What there is to a file ----------------------------------------------------------------- */

struct link {
    uint64_t device, inode;
    char path[];
};

static int compare_links(const void *one, const void *other)
{
    const struct link *a = one, *b = other;
    if (a->device != b->device)
        return a->device < b->device ? -1 : 1;
    return a->inode < b->inode ? -1 : a->inode > b->inode;
}

/* The other name that a file of a tree had before, or NULL. */
static const char *other_name(struct files *files, const struct file_entry *entry)
{
    if (!files->root || entry->directory || archive_entry_nlink(files->entry) < 2)
        return NULL;
    struct link *link = allocate(sizeof *link + strlen(entry->path) + 1);
    link->device = (uint64_t)archive_entry_dev(files->entry);
    link->inode = (uint64_t)archive_entry_ino64(files->entry);
    strcpy(link->path, entry->path);
    struct link **found = tsearch(link, &files->links, compare_links);
    if (!found)
        abort();
    if (*found == link)
        return NULL;
    free(link);
    return (*found)->path;
}

static bool check_kind(struct files *files, const struct file_entry *entry)
{
    const char *link = archive_entry_hardlink(files->entry), *what = NULL;
    if (!link)
        link = other_name(files, entry);
    if (link) {
        message(files->tool,
                "'%s' is a hard link to '%s': a key has one name, so make a copy or a symbolic "
                "link of it",
                entry->path, link);
        return false;
    }
    switch (archive_entry_filetype(files->entry)) {
    case AE_IFREG:
    case AE_IFDIR:
    case AE_IFLNK:
        return true;
    case AE_IFCHR:
    case AE_IFBLK:
        what = "a device";
        break;
    case AE_IFIFO:
        what = "a fifo";
        break;
    case AE_IFSOCK:
        what = "a socket";
        break;
    default:
        what = "of a kind that ekv does not know";
    }
    message(files->tool, "'%s' is %s: a store holds files, directories and symbolic links",
            entry->path, what);
    return false;
}

static void take_attributes(struct files *files, struct attr *attr)
{
    const struct files_options *options = files->options;
    struct archive_entry *entry = files->entry;
    bool directory = archive_entry_filetype(entry) == AE_IFDIR;
    *attr = (struct attr){0};
    attr->mode = archive_entry_perm(entry) & 07777;
    if (archive_entry_filetype(entry) == AE_IFLNK)
        attr->set |= ATTR_SYMLINK;
    else if (attr->mode != (directory ? DIRECTORY_MODE_DEFAULT : FILE_MODE_DEFAULT))
        attr->set |= ATTR_MODE;
    if (options->same_owner || options->owner_given) {
        attr->set |= ATTR_UID | ATTR_GID;
        attr->uid = options->same_owner ? (uint32_t)archive_entry_uid(entry) : options->uid;
        attr->gid = options->same_owner ? (uint32_t)archive_entry_gid(entry) : options->gid;
    }
    if (options->no_times || !archive_entry_mtime_is_set(entry))
        return;
    struct timespec time = {.tv_sec = archive_entry_mtime(entry),
                            .tv_nsec = archive_entry_mtime_nsec(entry)};
    if (time.tv_sec >= options->time_max)
        time = (struct timespec){.tv_sec = options->time_max};
    attr_set_mtime(attr, time);
}

/* User extended attributes; those of other namespaces belong to the machine. */
static bool take_xattrs(struct files *files, struct file_entry *entry)
{
    const char *name;
    const void *value;
    size_t size, prefix = sizeof XATTRS_PREFIX - 1;
    archive_entry_xattr_reset(files->entry);
    while (archive_entry_xattr_next(files->entry, &name, &value, &size) == ARCHIVE_OK) {
        if (!name || strncmp(name, XATTRS_PREFIX, prefix) != 0)
            continue;
        if (!entry->xattrs) {
            entry->xattrs = allocate(sizeof *entry->xattrs);
            entry->xattrs->size = 0;
        }
        if (xattrs_set(entry->xattrs, name + prefix, strlen(name + prefix), value, size))
            continue;
        message(files->tool,
                "'%s' has more extended attributes than a store keeps (%d bytes, names included)",
                entry->path, XATTRS_MAX);
        return false;
    }
    return true;
}

/* Reads the content, which may be longer than its header says when the file grows meanwhile. */
static bool take_content(struct files *files, struct file_entry *entry)
{
    size_t capacity = (size_t)archive_entry_size(files->entry);
    entry->value = allocate(capacity);
    for (;;) {
        if (entry->value_size == capacity) {
            uint8_t more;
            la_ssize_t got = archive_read_data(files->archive, &more, 1);
            if (got == 0)
                return true;
            if (got < 0)
                return complain(files, entry->path);
            entry->value = allocate_again(entry->value, capacity += PIECE_SIZE);
            entry->value[entry->value_size++] = more;
        }
        la_ssize_t got = archive_read_data(files->archive, entry->value + entry->value_size,
                                           capacity - entry->value_size);
        if (got < 0)
            return complain(files, entry->path);
        if (got == 0)
            return true;
        entry->value_size += (size_t)got;
    }
}

static bool take_value(struct files *files, struct file_entry *entry)
{
    if (entry->directory)
        return true;
    if (archive_entry_filetype(files->entry) == AE_IFLNK) {
        const char *target = archive_entry_symlink(files->entry);
        if (!target) {
            message(files->tool, "where '%s' leads cannot be read", entry->path);
            return false;
        }
        entry->value_size = strlen(target);
        entry->value = memcpy(allocate(entry->value_size), target, entry->value_size);
        return true;
    }
    if ((uint64_t)archive_entry_size(files->entry) > files->size_max) {
        message(files->tool, "'%s' has %s: more than the store has room for", entry->path,
                size_text((uint64_t)archive_entry_size(files->entry)));
        return false;
    }
    return take_content(files, entry);
}

int files_next(struct files *files, struct file_entry *entry)
{
    *entry = (struct file_entry){0};
    int result = archive_read_next_header2(files->archive, files->entry);
    if (result == ARCHIVE_EOF)
        return 0;
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN) {
        complain(files, NULL);
        return -1;
    }
    if (files->root && archive_read_disk_can_descend(files->archive))
        archive_read_disk_descend(files->archive);
    if (take_path(files, entry) && check_kind(files, entry) && take_value(files, entry) &&
        take_xattrs(files, entry)) {
        take_attributes(files, &entry->attr);
        return 1;
    }
    file_entry_free(entry);
    return -1;
}
