/* Requests about open directories.
 *
 * A listing walks the store once, as far as the kernel asks; between two requests it holds nothing
 * of the store. An offset is the number of the name that was shown last (cookies.h). Files that are
 * not committed yet are listed too, first; the walk skips them.
 */
#include "handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Offsets: 0 the beginning, 1 and 2 behind "." and "..", then 3 + the number of a name. Those of
 * names that were shown before the walk began have this bit. */
#define OFFSET_NEW (1ll << 40)
enum { OFFSET_NAMES = 3 };

/* Names one after the other, each ended by a zero. */
struct names {
    char *bytes;
    size_t size, capacity;
};

struct directory {
    struct opened opened; /* first */
    pthread_mutex_t lock;
    struct node *node;
    struct cookies *cookies; /* the node's */
    off_t offset;            /* where the listing stands */
    struct names new;        /* not committed when the listing began */
    size_t new_at;           /* the next of them to show */
    struct walk walk;
    bool walking;
    struct walk_entry entry; /* the next one, when `pending`: it did not fit */
    bool pending;
};

static bool names_add(struct names *names, const char *name, size_t size)
{
    if (names->size + size + 1 > names->capacity) {
        size_t capacity = 2 * names->capacity + size + 256;
        char *bytes = realloc(names->bytes, capacity);
        if (!bytes)
            return false;
        names->bytes = bytes;
        names->capacity = capacity;
    }
    memcpy(names->bytes + names->size, name, size);
    names->bytes[names->size + size] = 0;
    names->size += size + 1;
    return true;
}

/* Where a name lies, or the size if it is not there. */
static size_t names_find(const struct names *names, const char *name)
{
    size_t at = 0;
    while (at < names->size && strcmp(names->bytes + at, name) != 0)
        at += strlen(names->bytes + at) + 1;
    return at;
}

/* --- Opening -----------------------------------------------------------------------------------
 */

static struct directory *directory_of(const struct fuse_file_info *info)
{
    return (struct directory *)(uintptr_t)info->fh;
}

static void stop(struct directory *directory)
{
    if (directory->walking)
        walk_close(&directory->walk);
    directory->walking = directory->pending = false;
    directory->new.size = directory->new_at = 0;
}

static void directory_close(struct fs *fs, struct opened *opened)
{
    struct directory *directory = (struct directory *)opened;
    opened_remove(fs, opened);
    stop(directory);
    free(directory->new.bytes);
    key_free(&directory->entry.key);
    node_unref(&fs->nodes, directory->node);
    pthread_mutex_destroy(&directory->lock);
    free(directory);
}

void op_opendir(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct node *node = node_by_id(&fs->nodes, id);
    struct cookies *cookies = node ? node_cookies(&fs->nodes, node) : NULL;
    struct directory *directory = cookies ? calloc(1, sizeof *directory) : NULL;
    if (!directory) {
        fuse_reply_err(request, node ? ENOMEM : ESTALE);
        return;
    }
    pthread_mutex_init(&directory->lock, NULL);
    node_ref(&fs->nodes, node);
    directory->opened.close = directory_close;
    opened_add(fs, &directory->opened);
    directory->node = node;
    directory->cookies = cookies;
    info->fh = (uintptr_t)directory;
    info->cache_readdir = node->kind == NODE_DIRECTORY;
    info->keep_cache = info->cache_readdir;
    if (fuse_reply_open(request, info) != 0)
        directory_close(fs, &directory->opened);
}

void op_releasedir(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    (void)id;
    directory_close(request_fs(request), &directory_of(info)->opened);
    fuse_reply_err(request, 0);
}

void op_fsyncdir(fuse_req_t request, fuse_ino_t id, int data_only, struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    (void)id;
    (void)data_only;
    int error = fs->store.read_only ? 0 : file_commit_new(fs, directory_of(info)->node);
    if (!error)
        error = store_sync(&fs->store);
    fuse_reply_err(request, error);
}

/* Files in the directory that the store does not know yet. */
static bool find_new(struct fs *fs, struct directory *directory)
{
    bool done = true;
    pthread_mutex_lock(&fs->nodes.lock);
    for (struct file *file = fs->files; file && done; file = file->next) {
        const struct node *node = file->node;
        if (node->parent == directory->node && !node->unlinked && atomic_load(&file->created))
            done = names_add(&directory->new, node->name, node->name_size);
    }
    pthread_mutex_unlock(&fs->nodes.lock);
    return done;
}

/* Begins the listing, at the beginning or wherever another handle came to. */
static int start(struct fs *fs, struct directory *directory, off_t offset)
{
    struct node *node = directory->node;
    struct key prefix = {0};
    char name[PATH_NAME_MAX + 1];
    size_t name_size;
    bool is_directory;
    stop(directory);
    directory->offset = offset;
    if (node->kind == NODE_CONTROL)
        return 0;
    int error = node_key(&fs->nodes, node, &prefix, NULL);
    if (!error) {
        error = walk_open(&directory->walk, node->view, &prefix, node_place(node));
        directory->walking = !error;
    } else if (error == ENOENT) { /* removed while somebody stands in it: empty */
        error = 0;
    }
    key_free(&prefix);
    if (!error && !find_new(fs, directory))
        error = ENOMEM;
    uint32_t number = (uint32_t)((offset & ~OFFSET_NEW) - OFFSET_NAMES);
    if (error || offset < OFFSET_NAMES || !directory->walking ||
        !cookies_name(directory->cookies, number, name, &name_size, &is_directory))
        return error;
    directory->new_at = directory->new.size;
    if (!(offset & OFFSET_NEW))
        return walk_seek(&directory->walk, name, name_size, is_directory);
    size_t at = names_find(&directory->new, name);
    directory->new_at = at < directory->new.size ? at + name_size + 1 : at;
    return 0;
}

/* --- Listing -----------------------------------------------------------------------------------
 */

/* A reply that is being filled. */
struct listing {
    fuse_req_t request;
    struct fs *fs;
    struct directory *directory;
    bool plus;
    bool full;  /* the last name did not fit */
    bool ended; /* there are no more names */
    char *buffer;
    size_t size, used;
    unsigned long long commits; /* when the walk looked at the store */
};

/* Adds a name with what is known of it; the listing then stands at `offset`. */
static void put(struct listing *listing, const char *name, const struct fuse_entry_param *entry,
                off_t offset)
{
    char *to = listing->buffer + listing->used;
    size_t room = listing->size - listing->used;
    size_t needed;
    if (listing->plus)
        needed = fuse_add_direntry_plus(listing->request, to, room, name, entry, offset);
    else
        needed = fuse_add_direntry(listing->request, to, room, name, &entry->attr, offset);
    listing->full = needed > room;
    if (listing->full)
        return;
    listing->used += needed;
    listing->directory->offset = offset;
}

/* Adds a node, whose reference is given up. `bits` are added to the offset. */
static int put_node(struct listing *listing, const char *name, size_t name_size, struct node *node,
                    const struct fuse_entry_param *entry, off_t bits)
{
    uint32_t number;
    int error = 0;
    if (cookies_number(listing->directory->cookies, name, name_size, node->kind == NODE_DIRECTORY,
                       &number))
        put(listing, name, entry, (off_t)number + OFFSET_NAMES + bits);
    else
        error = ENOMEM;
    if (!error && !listing->full && listing->plus)
        node_looked_up(&listing->fs->nodes, node);
    node_unref(&listing->fs->nodes, node);
    return error;
}

/* "." and "..", which the kernel never looks up. */
static int put_dots(struct listing *listing)
{
    struct directory *directory = listing->directory;
    bool self = directory->offset == 0;
    const struct node *node = directory->node;
    if (!self && node->parent)
        node = node->parent;
    struct fuse_entry_param entry = {.attr = {.st_mode = S_IFDIR, .st_ino = node->id}};
    put(listing, self ? "." : "..", &entry, self ? 1 : 2);
    return 0;
}

/* A file that was not committed when the listing began. */
static int put_new(struct listing *listing)
{
    struct fs *fs = listing->fs;
    struct directory *directory = listing->directory;
    const char *name = directory->new.bytes + directory->new_at;
    size_t name_size = strlen(name);
    struct fuse_entry_param entry;
    struct node *node = node_by_name(&fs->nodes, directory->node, name, name_size);
    int error = node ? entry_fill(fs, node, &entry) : ENOENT;
    if (!error)
        error = put_node(listing, name, name_size, node, &entry, OFFSET_NEW);
    else
        node_unref(&fs->nodes, node);
    if (!listing->full)
        directory->new_at += name_size + 1;
    return error == ENOENT ? 0 : error; /* gone meanwhile: left out */
}

/* What the walk came to. */
static int put_walked(struct listing *listing, const struct walk_entry *found)
{
    struct fs *fs = listing->fs;
    struct fuse_entry_param entry;
    struct node *node = node_obtain(&fs->nodes, listing->directory->node, found->name,
                                    found->name_size, found->directory ? NODE_DIRECTORY : NODE_FILE,
                                    found->path_kind, found->bytes_size, &found->key);
    if (!node)
        return ENOMEM;
    struct file *file = file_of(fs, node);
    int error = 0;
    if (file || atomic_load(&fs->store.commits) != listing->commits) {
        error = entry_fill(fs, node, &entry);
    } else {
        struct info info;
        tree_info_found(fs, node, found, &info);
        entry_from_info(fs, node, &info, &entry);
    }
    file_release(fs, file);
    if (!error)
        return put_node(listing, found->name, found->name_size, node, &entry, 0);
    node_unref(&fs->nodes, node);
    return error == ENOENT ? 0 : error; /* gone meanwhile: left out */
}

/* The next name of the walk. */
static int put_next(struct listing *listing)
{
    struct directory *directory = listing->directory;
    if (directory->pending) {
        listing->commits = ~0ull; /* it was read by an earlier request */
    } else {
        if (!directory->walk.open)
            listing->commits = atomic_load(&listing->fs->store.commits);
        int error = walk_next(&directory->walk, &directory->entry);
        listing->ended = error == ENOENT;
        if (error)
            return error == ENOENT ? 0 : error;
        if (names_find(&directory->new, directory->entry.name) < directory->new.size)
            return 0;
    }
    int error = put_walked(listing, &directory->entry);
    directory->pending = listing->full;
    return error;
}

static int put_control(struct listing *listing)
{
    struct directory *directory = listing->directory;
    const struct control_entry *entry = control_entries(directory->node->control);
    for (off_t i = 2; i < directory->offset && entry->name; i++)
        entry++;
    listing->ended = !entry->name;
    if (listing->ended)
        return 0;
    off_t next = directory->offset + 1;
    struct fuse_entry_param reply = {
        .attr = {.st_mode = entry->directory ? S_IFDIR : S_IFREG, .st_ino = (ino_t)next}};
    put(listing, entry->name, &reply, next);
    return 0;
}

/* Adds one name more, in this order: dots, uncommitted ones, those of the walk. */
static int put_one(struct listing *listing)
{
    struct directory *directory = listing->directory;
    if (directory->offset < 2)
        return put_dots(listing);
    if (directory->node->kind == NODE_CONTROL)
        return put_control(listing);
    if (directory->new_at < directory->new.size)
        return put_new(listing);
    listing->ended = !directory->walking;
    return listing->ended ? 0 : put_next(listing);
}

static void list(fuse_req_t request, size_t size, off_t offset, struct fuse_file_info *info,
                 bool plus)
{
    struct fs *fs = request_fs(request);
    struct directory *directory = directory_of(info);
    struct listing listing = {.request = request,
                              .fs = fs,
                              .directory = directory,
                              .plus = plus,
                              .buffer = malloc(size),
                              .size = size};
    if (!listing.buffer) {
        fuse_reply_err(request, ENOMEM);
        return;
    }
    pthread_mutex_lock(&directory->lock);
    int error = 0;
    if (offset == 0 || offset != directory->offset)
        error = start(fs, directory, offset);
    while (!error && !listing.full && !listing.ended)
        error = put_one(&listing);
    if (directory->walking)
        walk_pause(&directory->walk);
    pthread_mutex_unlock(&directory->lock);
    if (error && listing.used == 0)
        fuse_reply_err(request, error);
    else
        fuse_reply_buf(request, listing.buffer, listing.used);
    free(listing.buffer);
}

void op_readdir(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
                struct fuse_file_info *info)
{
    (void)id;
    list(request, size, offset, info, false);
}

void op_readdirplus(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    (void)id;
    list(request, size, offset, info, true);
}
