/* Requests about open directories.
 *
 * A listing walks the store once, as far as the kernel asks; between two requests it holds nothing
 * of the store. Offsets count names, and the names shown are remembered, so that seekdir(3) finds
 * its way back. Files that are not committed yet are listed too, first; the walk skips them.
 */
#include "handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Names one after the other, each ended by a zero. */
struct names {
    char *bytes;
    size_t size, capacity;
    uint32_t *starts;
    size_t count, starts_capacity;
};

struct directory {
    pthread_mutex_t lock;
    struct node *node;
    struct names shown;
    struct names new; /* not committed when the listing began */
    struct walk walk;
    bool walking;
    struct walk_entry entry; /* the next one, when `pending`: it did not fit */
    bool pending, ended;
};

static bool names_add(struct names *names, const char *name, size_t size)
{
    if (names->size + size + 1 > names->capacity) {
        size_t capacity = 2 * names->capacity + size + 1024;
        char *bytes = realloc(names->bytes, capacity);
        if (!bytes)
            return false;
        names->bytes = bytes;
        names->capacity = capacity;
    }
    if (names->count == names->starts_capacity) {
        size_t capacity = 2 * names->starts_capacity + 64;
        uint32_t *starts = realloc(names->starts, capacity * sizeof *starts);
        if (!starts)
            return false;
        names->starts = starts;
        names->starts_capacity = capacity;
    }
    names->starts[names->count++] = (uint32_t)names->size;
    memcpy(names->bytes + names->size, name, size);
    names->bytes[names->size + size] = 0;
    names->size += size + 1;
    return true;
}

static const char *names_get(const struct names *names, size_t index)
{
    return names->bytes + names->starts[index];
}

static void names_clear(struct names *names)
{
    free(names->bytes);
    free(names->starts);
    memset(names, 0, sizeof *names);
}

static bool names_have(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names_get(names, i), name) == 0)
            return true;
    return false;
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
    directory->walking = directory->pending = directory->ended = false;
    names_clear(&directory->shown);
    names_clear(&directory->new);
}

static void directory_free(struct fs *fs, struct directory *directory)
{
    stop(directory);
    key_free(&directory->entry.key);
    node_unref(&fs->nodes, directory->node);
    pthread_mutex_destroy(&directory->lock);
    free(directory);
}

void op_opendir(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    struct fs *fs = request_fs(request);
    struct node *node = node_by_id(&fs->nodes, id);
    struct directory *directory = node ? calloc(1, sizeof *directory) : NULL;
    if (!directory) {
        fuse_reply_err(request, node ? ENOMEM : ESTALE);
        return;
    }
    pthread_mutex_init(&directory->lock, NULL);
    node_ref(&fs->nodes, node);
    directory->node = node;
    info->fh = (uintptr_t)directory;
    info->cache_readdir = node->kind == NODE_DIRECTORY;
    info->keep_cache = info->cache_readdir;
    if (fuse_reply_open(request, info) != 0)
        directory_free(fs, directory);
}

void op_releasedir(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    (void)id;
    directory_free(request_fs(request), directory_of(info));
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

static int start(struct fs *fs, struct directory *directory)
{
    struct node *node = directory->node;
    stop(directory);
    if (node->kind == NODE_CONTROL)
        return 0;
    struct key prefix = {0};
    int error = node_key(&fs->nodes, node, &prefix, NULL);
    if (error == ENOENT) { /* removed while somebody stands in it: empty */
        directory->ended = true;
        error = 0;
    } else if (!error) {
        error = walk_open(&directory->walk, node->view, &prefix, node_place(node));
        directory->walking = !error;
    }
    key_free(&prefix);
    if (!error && !find_new(fs, directory))
        error = ENOMEM;
    return error;
}

/* --- Listing -----------------------------------------------------------------------------------
 */

/* A reply that is being filled. */
struct listing {
    fuse_req_t request;
    struct fs *fs;
    struct directory *directory;
    bool plus;
    char *buffer;
    size_t size, used;
    unsigned long long commits; /* when the walk looked at the store */
};

/* Adds a name with what is known of it. False: it does not fit. */
static bool put(struct listing *listing, const char *name, const struct fuse_entry_param *entry,
                size_t offset)
{
    char *to = listing->buffer + listing->used;
    size_t room = listing->size - listing->used;
    size_t needed;
    if (listing->plus)
        needed = fuse_add_direntry_plus(listing->request, to, room, name, entry, (off_t)offset);
    else
        needed = fuse_add_direntry(listing->request, to, room, name, &entry->attr, (off_t)offset);
    if (needed > room)
        return false;
    listing->used += needed;
    return true;
}

/* Adds a node, whose reference is given up. */
static bool put_node(struct listing *listing, const char *name, struct node *node,
                     const struct fuse_entry_param *entry, size_t offset)
{
    bool fits = put(listing, name, entry, offset);
    if (fits && listing->plus)
        node_looked_up(&listing->fs->nodes, node);
    node_unref(&listing->fs->nodes, node);
    return fits;
}

/* "." and "..", which the kernel never looks up. */
static bool put_dots(struct listing *listing, size_t index)
{
    const struct node *node = listing->directory->node;
    if (index == 1 && node->parent)
        node = node->parent;
    struct fuse_entry_param entry = {.attr = {.st_mode = S_IFDIR, .st_ino = node->id}};
    return put(listing, index == 0 ? "." : "..", &entry, index + 1);
}

/* A name that is looked up now. `*gone`: it is not there any more. */
static int put_by_name(struct listing *listing, const char *name, size_t offset, bool *fits,
                       bool *gone)
{
    struct fs *fs = listing->fs;
    struct node *parent = listing->directory->node;
    struct fuse_entry_param entry;
    struct tree_name found;
    struct node *node = node_by_name(&fs->nodes, parent, name, strlen(name));
    int error = 0;
    *gone = false;
    if (!node) {
        error = tree_find(fs, parent, name, strlen(name), &found);
        if (!error && found.exists)
            node = node_obtain(&fs->nodes, parent, name, strlen(name),
                               found.entry.directory ? NODE_DIRECTORY : NODE_FILE,
                               found.entry.path_kind, found.entry.bytes_size, &found.entry.key);
        key_free(&found.entry.key);
    }
    if (!error && node)
        error = entry_fill(fs, node, &entry);
    if (error == ENOENT || (!error && !node)) {
        node_unref(&fs->nodes, node);
        *gone = true;
        return 0;
    }
    if (error)
        node_unref(&fs->nodes, node);
    else
        *fits = put_node(listing, name, node, &entry, offset);
    return error;
}

/* What the walk came to. */
static int put_walked(struct listing *listing, const struct walk_entry *found, size_t offset,
                      bool *fits)
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
    if (error)
        node_unref(&fs->nodes, node);
    else
        *fits = put_node(listing, found->name, node, &entry, offset);
    return error == ENOENT ? 0 : error; /* gone meanwhile: left out */
}

static int put_control(struct listing *listing, size_t index, bool *fits)
{
    struct directory *directory = listing->directory;
    const struct control_entry *entry = control_entries(directory->node->control);
    for (size_t i = 2; i < index && entry->name; i++)
        entry++;
    directory->ended = !entry->name;
    if (directory->ended)
        return 0;
    struct fuse_entry_param reply = {
        .attr = {.st_mode = entry->directory ? S_IFDIR : S_IFREG, .st_ino = index + 1}};
    *fits = put(listing, entry->name, &reply, index + 1);
    return 0;
}

/* The name after all that were shown, from the walk. */
static int put_next(struct listing *listing, size_t index, bool *fits)
{
    struct directory *directory = listing->directory;
    int error = 0;
    if (!directory->pending) {
        if (!directory->walk.open)
            listing->commits = atomic_load(&listing->fs->store.commits);
        do
            error = walk_next(&directory->walk, &directory->entry);
        while (!error && names_have(&directory->new, directory->entry.name));
        directory->ended = error == ENOENT;
        if (error)
            return error == ENOENT ? 0 : error;
        directory->pending = true;
    } else {
        listing->commits = ~0ull; /* it was read by an earlier request */
    }
    *fits = true;
    error = put_walked(listing, &directory->entry, index + 1, fits);
    if (error || !*fits)
        return error;
    directory->pending = false;
    if (!names_add(&directory->shown, directory->entry.name, directory->entry.name_size))
        return ENOMEM;
    return 0;
}

/* Adds the name with an index: dots, then uncommitted ones, then those of the walk. */
static int put_index(struct listing *listing, size_t index, bool *fits)
{
    struct directory *directory = listing->directory;
    bool gone;
    *fits = true;
    if (index < 2) {
        *fits = put_dots(listing, index);
        return 0;
    }
    if (directory->node->kind == NODE_CONTROL)
        return put_control(listing, index, fits);
    index -= 2;
    if (index < directory->new.count)
        return put_by_name(listing, names_get(&directory->new, index), index + 3, fits, &gone);
    size_t walked = index - directory->new.count;
    if (walked < directory->shown.count)
        return put_by_name(listing, names_get(&directory->shown, walked), index + 3, fits, &gone);
    if (directory->ended)
        return 0;
    return put_next(listing, index + 2, fits);
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
    int error = offset == 0 ? start(fs, directory) : 0;
    bool fits = true;
    size_t index = (size_t)offset;
    while (!error && fits) {
        size_t known = 2 + directory->new.count + directory->shown.count;
        if (directory->ended && directory->node->kind != NODE_CONTROL && index >= known)
            break;
        error = put_index(&listing, index, &fits);
        if (directory->ended && directory->node->kind == NODE_CONTROL)
            break;
        index++;
    }
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
