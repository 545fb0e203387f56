/* Requests about open directories.
 *
 * A listing walks the store once, as far as the kernel asks; between two requests it holds nothing
 * of the store. An offset is the number of the name that was shown last (cookies.h), and stands for
 * that name's place in the order of keys, wherever the listing goes on from there. Files that are
 * not committed yet are shown at their place too.
 */
#include "handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Offsets: 0 the beginning, 1 and 2 behind "." and "..", then 3 + the number of a name. */
enum { OFFSET_NAMES = 3 };

/* A file that was not committed when the listing began. */
struct new_name {
    char name[PATH_NAME_MAX + 1];
    size_t name_size;
    struct key key;
};

struct directory {
    struct opened opened; /* first */
    pthread_mutex_t lock;
    struct node *node;
    struct cookies *cookies;      /* the node's */
    bool kept;                    /* the kernel keeps what it lists */
    off_t offset;                 /* where the listing stands */
    struct control_names control; /* of a control directory: as it was when the listing began */
    struct new_name **new;        /* in the order of their keys */
    size_t new_count, new_at;
    struct walk walk;
    bool walking;
    struct walk_entry entry; /* the next one of the walk, when `pending` */
    bool pending, walked;    /* `walked`: there is no next one */
    bool looked_now;         /* it was read by this request */
};

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
    directory->walking = directory->pending = directory->walked = false;
    for (size_t i = 0; i < directory->new_count; i++) {
        key_free(&directory->new[i]->key);
        free(directory->new[i]);
    }
    free(directory->new);
    directory->new = NULL;
    directory->new_count = directory->new_at = 0;
}

static void directory_close(struct fs *fs, struct opened *opened)
{
    struct directory *directory = (struct directory *)opened;
    opened_remove(fs, opened);
    stop(directory);
    free(directory->control.bytes);
    key_free(&directory->entry.key);
    if (directory->kept)
        node_listing_end(&fs->nodes, directory->node);
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
    directory->kept = node->kind == NODE_DIRECTORY && node_listing_begin(&fs->nodes, node);
    info->cache_readdir = directory->kept;
    info->keep_cache = node->kind == NODE_DIRECTORY;
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

static int compare_keys(const struct key *one, const struct key *other)
{
    size_t size = one->size < other->size ? one->size : other->size;
    int order = memcmp(one->bytes, other->bytes, size);
    return order ? order : (one->size > other->size) - (one->size < other->size);
}

static int compare_new(const void *one, const void *other)
{
    return compare_keys(&(*(struct new_name *const *)one)->key,
                        &(*(struct new_name *const *)other)->key);
}

static bool add_new(struct directory *directory, const struct node *node, size_t *capacity)
{
    if (directory->new_count == *capacity) {
        *capacity = 2 * *capacity + 8;
        struct new_name **names = realloc(directory->new, *capacity * sizeof *names);
        if (!names)
            return false;
        directory->new = names;
    }
    struct new_name *new = calloc(1, sizeof *new);
    if (!new)
        return false;
    new->name_size = node->name_size;
    memcpy(new->name, node->name, node->name_size);
    directory->new[directory->new_count++] = new;
    return true;
}

/* The names of files in the directory that the store does not know yet. */
static bool find_new_names(struct fs *fs, struct directory *directory)
{
    size_t capacity = 0;
    bool done = true;
    pthread_mutex_lock(&fs->nodes.lock);
    for (struct file *file = fs->files; file && done; file = file->next) {
        const struct node *node = file->node;
        if (node->parent == directory->node && !node->unlinked && atomic_load(&file->created))
            done = add_new(directory, node, &capacity);
    }
    pthread_mutex_unlock(&fs->nodes.lock);
    return done;
}

static int find_new(struct fs *fs, struct directory *directory, const struct key *prefix)
{
    if (!find_new_names(fs, directory))
        return ENOMEM;
    for (size_t i = 0; i < directory->new_count; i++) {
        struct new_name *new = directory->new[i];
        uint8_t bytes[PATH_NAME_MAX];
        size_t size = 0;
        enum path_kind kind =
            path_decode(node_place(directory->node), new->name, new->name_size, bytes, &size);
        if (!key_reserve(&new->key, prefix->size + size))
            return ENOMEM;
        memcpy(new->key.bytes, prefix->bytes, prefix->size);
        memcpy(new->key.bytes + prefix->size, bytes, size);
        new->key.size = kind == PATH_VALUE ? prefix->size - 1 : prefix->size + size;
    }
    if (directory->new_count > 1)
        qsort(directory->new, directory->new_count, sizeof *directory->new, compare_new);
    return 0;
}

/* Goes behind the name that an offset stands for. */
static int go_on(struct directory *directory, off_t offset)
{
    char name[PATH_NAME_MAX + 1];
    size_t name_size;
    bool is_directory;
    uint32_t number = (uint32_t)(offset - OFFSET_NAMES);
    if (offset < OFFSET_NAMES ||
        !cookies_name(directory->cookies, number, name, &name_size, &is_directory))
        return 0;
    int error = walk_seek(&directory->walk, name, name_size, is_directory);
    while (!error && directory->new_at < directory->new_count &&
           compare_keys(&directory->new[directory->new_at]->key, &directory->walk.position) < 0)
        directory->new_at++;
    return error;
}

/* Begins the listing, at the beginning or wherever another handle came to. */
static int start(struct fs *fs, struct directory *directory, off_t offset)
{
    struct node *node = directory->node;
    struct key prefix = {0};
    stop(directory);
    directory->offset = offset;
    if (node->kind == NODE_CONTROL)
        return offset > 0 && directory->control.bytes ? 0
                                                      : control_list(fs, node, &directory->control);
    int error = node_key(&fs->nodes, node, &prefix, NULL);
    if (!error && node->view->touched)
        touched_read(node->view->touched, TOUCHED_NAMES, node_place(node).part_length, prefix.bytes,
                     prefix.size);
    if (!error) {
        error = walk_open(&directory->walk, node->view, &prefix, node_place(node));
        directory->walking = !error;
    } else if (error == ENOENT) { /* removed while somebody stands in it: empty */
        error = 0;
    }
    if (!error && directory->walking)
        error = find_new(fs, directory, &prefix);
    key_free(&prefix);
    return error || !directory->walking ? error : go_on(directory, offset);
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
    unsigned long long changes; /* when the walk looked at the store */
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

/* Adds a node, whose reference is given up. */
static int put_node(struct listing *listing, const char *name, size_t name_size, struct node *node,
                    const struct fuse_entry_param *entry)
{
    uint32_t number;
    int error = 0;
    if (cookies_number(listing->directory->cookies, name, name_size, node->kind == NODE_DIRECTORY,
                       &number))
        put(listing, name, entry, (off_t)number + OFFSET_NAMES);
    else
        error = ENOMEM;
    if (!error && !listing->full && listing->plus)
        node_hand_over(&listing->fs->nodes, node);
    else
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
static int put_new(struct listing *listing, const struct new_name *new)
{
    struct fs *fs = listing->fs;
    struct directory *directory = listing->directory;
    struct fuse_entry_param entry;
    struct node *node = node_by_name(&fs->nodes, directory->node, new->name, new->name_size);
    int error = node ? entry_fill(fs, node, &entry) : ENOENT;
    if (!error)
        error = put_node(listing, new->name, new->name_size, node, &entry);
    else
        node_unref(&fs->nodes, node);
    if (!listing->full)
        directory->new_at++;
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
    /* One that is opened from now on has nothing that the store does not have as well. */
    struct file *file = __atomic_load_n(&node->file, __ATOMIC_ACQUIRE) ? file_of(fs, node) : NULL;
    int error = 0;
    if (file || atomic_load(&fs->store.changes) != listing->changes) {
        error = entry_fill(fs, node, &entry);
    } else {
        struct info info;
        tree_info_found(fs, node, found, &info);
        entry_from_info(fs, node, &info, &entry);
    }
    file_release(fs, file);
    if (!error)
        return put_node(listing, found->name, found->name_size, node, &entry);
    node_unref(&fs->nodes, node);
    return error == ENOENT ? 0 : error; /* gone meanwhile: left out */
}

/* Sees to it that the next name of the walk is at hand, if there is one. */
static int look_ahead(struct listing *listing)
{
    struct directory *directory = listing->directory;
    if (directory->pending || directory->walked)
        return 0;
    if (!directory->walk.open)
        listing->changes = atomic_load(&listing->fs->store.changes);
    int error = walk_next(&directory->walk, &directory->entry);
    directory->pending = !error;
    directory->looked_now = true;
    directory->walked = error == ENOENT;
    return error == ENOENT ? 0 : error;
}

/* The next name: of the walk or a new one, whichever comes first. */
static int put_next(struct listing *listing)
{
    struct directory *directory = listing->directory;
    int error = look_ahead(listing);
    if (error)
        return error;
    const struct new_name *new =
        directory->new_at < directory->new_count ? directory->new[directory->new_at] : NULL;
    listing->ended = !directory->pending && !new;
    if (listing->ended)
        return 0;
    int order = !new                  ? 1
                : !directory->pending ? -1
                                      : compare_keys(&new->key, &directory->entry.key);
    if (order < 0)
        return put_new(listing, new);
    if (order == 0 && !directory->entry.directory) { /* committed meanwhile */
        directory->new_at++;
        return 0;
    }
    if (!directory->looked_now)
        listing->changes = ~0ull; /* it was read by an earlier request */
    error = put_walked(listing, &directory->entry);
    directory->pending = listing->full;
    return error;
}

static int put_control(struct listing *listing)
{
    struct directory *directory = listing->directory;
    const struct control_names *names = &directory->control;
    size_t at = (size_t)directory->offset - 2;
    listing->ended = at >= names->size;
    if (listing->ended)
        return 0;
    const char *item = names->bytes + at;
    off_t next = directory->offset + (off_t)strlen(item) + 1;
    struct fuse_entry_param reply = {
        .attr = {.st_mode = *item == 'd' ? S_IFDIR : S_IFREG, .st_ino = (ino_t)next}};
    put(listing, item + 1, &reply, next);
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
    directory->looked_now = false;
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
