/* The floor of bench_mount: the least that a file system on libfuse's low-level API does.
 *
 *     bench_floor MOUNTPOINT
 *
 * One flat directory of files in memory, found by a hash table; the kernel is told to keep all it
 * can, as ekvfs tells it. Nothing is checked, refused or made durable. It stays in the foreground.
 * After an unmount it mounts again with the files that it has, so that the kernel's caches are
 * empty; SIGTERM ends it.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fuse_lowlevel.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOREVER 1e9

enum { BUCKETS = 1 << 17, NAME_MAX_SIZE = 255 };

/* A file; its inode number is its index + 2. The files of a bucket and of the directory are lists.
 */
struct file {
    struct file *next_in_bucket, *next, *previous;
    fuse_ino_t id;
    char name[NAME_MAX_SIZE + 1];
    char *data;
    size_t size, capacity;
    mode_t mode;
};

static struct file *buckets[BUCKETS];
static struct file *first, *last;
static struct file **by_id;
static size_t count, capacity;
static volatile sig_atomic_t ended;

static struct file **bucket_of(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 0x100000001b3u;
    return &buckets[(hash ^ hash >> 32) % BUCKETS];
}

static struct file **link_of(const char *name)
{
    struct file **link = bucket_of(name);
    while (*link && strcmp((*link)->name, name) != 0)
        link = &(*link)->next_in_bucket;
    return link;
}

static struct file *file_of(fuse_ino_t id)
{
    return by_id[id - 2];
}

static struct file *add(const char *name, mode_t mode)
{
    struct file *file = calloc(1, sizeof *file);
    if (count == capacity) {
        capacity = 2 * capacity + 1024;
        by_id = realloc(by_id, capacity * sizeof(struct file *));
    }
    if (!file || !by_id || strlen(name) > NAME_MAX_SIZE)
        abort();
    by_id[count] = file;
    file->id = count++ + 2;
    file->mode = mode;
    strcpy(file->name, name);
    struct file **bucket = bucket_of(name);
    file->next_in_bucket = *bucket;
    *bucket = file;
    file->previous = last;
    *(last ? &last->next : &first) = file;
    last = file;
    return file;
}

static void forget_name(struct file **link)
{
    struct file *file = *link;
    *link = file->next_in_bucket;
}

static void drop(struct file *file)
{
    *(file->next ? &file->next->previous : &last) = file->previous;
    *(file->previous ? &file->previous->next : &first) = file->next;
    by_id[file->id - 2] = NULL;
    free(file->data);
    free(file);
}

static struct fuse_entry_param entry_of(const struct file *file)
{
    return (struct fuse_entry_param){
        .ino = file->id,
        .generation = 1,
        .attr = {.st_ino = file->id,
                 .st_mode = file->mode,
                 .st_nlink = 1,
                 .st_size = (off_t)file->size,
                 .st_blocks = (blkcnt_t)((file->size + 511) / 512)},
        .attr_timeout = FOREVER,
        .entry_timeout = FOREVER,
    };
}

static void op_init(void *context, struct fuse_conn_info *connection)
{
    (void)context;
    connection->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS_AUTO);
    connection->want |=
        connection->capable &
        (unsigned)(FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_READDIRPLUS | FUSE_CAP_ATOMIC_O_TRUNC);
}

static void op_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct file *file = *link_of(name);
    struct fuse_entry_param entry = {.entry_timeout = FOREVER};
    (void)parent;
    if (file)
        entry = entry_of(file);
    fuse_reply_entry(request, &entry);
}

static void op_getattr(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    (void)info;
    struct fuse_entry_param entry = {
        .attr = {.st_ino = 1, .st_mode = S_IFDIR | 0755, .st_nlink = 1}};
    if (id != FUSE_ROOT_ID)
        entry = entry_of(file_of(id));
    fuse_reply_attr(request, &entry.attr, FOREVER);
}

static void op_setattr(fuse_req_t request, fuse_ino_t id, struct stat *stat, int set,
                       struct fuse_file_info *info)
{
    if (set & FUSE_SET_ATTR_SIZE)
        file_of(id)->size = (size_t)stat->st_size;
    op_getattr(request, id, info);
}

static void set_caching(struct fuse_file_info *info)
{
    info->keep_cache = 1;
    info->noflush = (info->flags & O_ACCMODE) == O_RDONLY;
}

static void op_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *info)
{
    (void)parent;
    struct fuse_entry_param entry = entry_of(add(name, mode));
    set_caching(info);
    fuse_reply_create(request, &entry, info);
}

static void op_open(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    if (info->flags & O_TRUNC)
        file_of(id)->size = 0;
    set_caching(info);
    fuse_reply_open(request, info);
}

static void op_read(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    const struct file *file = file_of(id);
    (void)info;
    size_t left = (size_t)offset < file->size ? file->size - (size_t)offset : 0;
    fuse_reply_buf(request, left ? file->data + offset : NULL, left < size ? left : size);
}

static void op_write(fuse_req_t request, fuse_ino_t id, const char *bytes, size_t size,
                     off_t offset, struct fuse_file_info *info)
{
    struct file *file = file_of(id);
    size_t end = (size_t)offset + size;
    (void)info;
    if (end > file->capacity) {
        file->capacity = end + end / 2;
        file->data = realloc(file->data, file->capacity);
        if (!file->data)
            abort();
    }
    memcpy(file->data + offset, bytes, size);
    file->size = end > file->size ? end : file->size;
    fuse_reply_write(request, size);
}

static void op_done(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    (void)id;
    (void)info;
    fuse_reply_err(request, 0);
}

static void op_fsync(fuse_req_t request, fuse_ino_t id, int data, struct fuse_file_info *info)
{
    (void)data;
    op_done(request, id, info);
}

static void op_unlink(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct file **link = link_of(name), *file = *link;
    (void)parent;
    forget_name(link);
    drop(file);
    fuse_reply_err(request, 0);
}

static void op_rename(fuse_req_t request, fuse_ino_t parent, const char *name,
                      fuse_ino_t new_parent, const char *new_name, unsigned flags)
{
    struct file **link = link_of(name), *file = *link;
    (void)parent;
    (void)new_parent;
    (void)flags;
    forget_name(link);
    struct file **target = link_of(new_name), *old = *target;
    if (old) {
        forget_name(target);
        drop(old);
    }
    strcpy(file->name, new_name);
    struct file **bucket = bucket_of(new_name);
    file->next_in_bucket = *bucket;
    *bucket = file;
    fuse_reply_err(request, 0);
}

static void op_opendir(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    (void)id;
    info->cache_readdir = 1;
    info->keep_cache = 1;
    fuse_reply_open(request, info);
}

/* An offset is the inode number of the name before it; nothing changes during a listing here. */
static void op_readdirplus(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
                           struct fuse_file_info *info)
{
    char *buffer = malloc(size);
    size_t used = 0;
    bool full = !buffer;
    (void)id;
    (void)info;
    for (struct file *file = offset ? file_of((fuse_ino_t)offset)->next : first; file && !full;
         file = file->next) {
        struct fuse_entry_param entry = entry_of(file);
        size_t needed = fuse_add_direntry_plus(request, buffer + used, size - used, file->name,
                                               &entry, (off_t)file->id);
        full = needed > size - used;
        used += full ? 0 : needed;
    }
    fuse_reply_buf(request, buffer, used);
    free(buffer);
}

static void op_forget(fuse_req_t request, fuse_ino_t id, uint64_t lookups)
{
    (void)id;
    (void)lookups;
    fuse_reply_none(request);
}

static const struct fuse_lowlevel_ops operations = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .create = op_create,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .flush = op_done,
    .release = op_done,
    .fsync = op_fsync,
    .unlink = op_unlink,
    .rename = op_rename,
    .opendir = op_opendir,
    .readdirplus = op_readdirplus,
    .releasedir = op_done,
};

static int serve(const char *mountpoint)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    if (fuse_opt_add_arg(&args, "floor") != 0 ||
        fuse_opt_add_arg(&args, "-odefault_permissions") != 0)
        return EXIT_FAILURE;
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof operations, NULL);
    fuse_opt_free_args(&args);
    if (!session || fuse_session_mount(session, mountpoint) != 0)
        return EXIT_FAILURE;
    fuse_set_signal_handlers(session);
    ended = fuse_session_loop(session) != 0; /* by a signal, or for good */
    fuse_remove_signal_handlers(session);
    fuse_session_unmount(session);
    fuse_session_destroy(session);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    int result = EXIT_SUCCESS;
    if (argc != 2) {
        fprintf(stderr, "usage: bench_floor MOUNTPOINT\n");
        return EXIT_FAILURE;
    }
    while (!ended && result == EXIT_SUCCESS)
        result = serve(argv[1]);
    return result;
}
