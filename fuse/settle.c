/* Makes the live tree follow a commit that did not come through its names.
 *
 * For each key that was written the path is walked down through the nodes that are known. Where
 * they end the kernel can know no more than the next name, present or missing: that is enough to
 * forget. A node that is no longer what its name says loses the name; who has it open keeps what it
 * was.
 *
 * A value in the kernel's cache and its size cannot be replaced in one step. So while a value is
 * replaced nobody new opens the file or learns its size (defer.h), and both are forgotten before
 * and after. A descriptor that stays open longer than READERS_TRIES may still, in theory, read one
 * value with the size of the other, if its process loses the processor in the middle of a read.
 *
 * The notification of a name comes before that of its node: the kernel takes the first only when no
 * lookup is under way in that directory, so by the second it knows whatever node was told last.
 */
#include "settle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "defer.h"
#include "tree.h"

/* How long a commit waits for those who are reading a file that it changes. */
enum { READERS_TRIES = 20, READERS_PAUSE_NS = 1000 * 1000 };

/* A name on the way down. */
struct step {
    struct node *parent;
    struct node *node; /* NULL: not known; else with a reference */
    bool last;         /* it is that of the key itself */
    size_t size;       /* of the key up to here: a directory's prefix unless `last` */
    char name[PATH_NAME_MAX + 1];
    size_t name_size;
};

/* Walks from the root along the key that is being settled; `visit` returns false to stop. */
static void walk_down(struct settlement *settlement, struct fs *fs,
                      bool (*visit)(struct settlement *settlement, struct fs *fs,
                                    struct step *step))
{
    const uint8_t *key = settlement->entry->bytes;
    struct path_place place = {.root = true};
    struct node *parent = fs->nodes.root;
    size_t at = 0;
    bool more = true;
    node_ref(&fs->nodes, parent);
    while (more) {
        struct step step = {.parent = parent};
        size_t rest = settlement->entry->size - at;
        const uint8_t *slash = rest ? memchr(key + at, '/', rest) : NULL;
        size_t component = slash ? (size_t)(slash - key) - at : rest;
        size_t taken = path_encode(place, key + at, component, step.name, &step.name_size);
        bool part = taken < component;
        step.last = !part && !slash;
        step.size = at + taken + (part || step.last ? 0 : 1);
        step.node = node_by_name(&fs->nodes, parent, step.name, step.name_size);
        if (step.last && step.node && step.node->kind == NODE_DIRECTORY) {
            /* The key is a directory too: its value is a file in there. */
            node_unref(&fs->nodes, parent);
            parent = step.parent = step.node;
            step.name_size = sizeof PATH_VALUE_NAME - 1;
            memcpy(step.name, PATH_VALUE_NAME, sizeof PATH_VALUE_NAME);
            step.node = node_by_name(&fs->nodes, parent, step.name, step.name_size);
        }
        more = visit(settlement, fs, &step) && !step.last && step.node;
        node_unref(&fs->nodes, parent);
        parent = step.node;
        place = path_enter(part ? PATH_PART : PATH_NAME, step.name_size);
        at = step.size;
    }
    node_unref(&fs->nodes, parent);
}

/* The store as it was when the transaction began: what it wrote nobody has changed since. */
static struct view begin_of(const struct settlement *settlement)
{
    return (struct view){.kind = VIEW_SNAPSHOT,
                         .store = settlement->stage->store,
                         .snapshot = settlement->stage->snapshot};
}

static struct ekv_key user_key(const struct settlement *settlement)
{
    return ekv_key(settlement->entry->bytes, settlement->entry->size);
}

/* --- Before ------------------------------------------------------------------------------------
 */

static int add_node(struct node_list *list, struct fs *fs, struct node *node)
{
    if (list->count == list->capacity) {
        size_t capacity = 2 * list->capacity + 16;
        struct node **nodes = realloc(list->nodes, capacity * sizeof *nodes);
        if (!nodes)
            return ENOMEM;
        list->nodes = nodes;
        list->capacity = capacity;
    }
    node_ref(&fs->nodes, node);
    list->nodes[list->count++] = node;
    return 0;
}

static bool begin_step(struct settlement *settlement, struct fs *fs, struct step *step)
{
    if (!step->last || !step->node || step->node->kind != NODE_FILE)
        return true;
    settlement->error = add_node(&settlement->changing, fs, step->node);
    if (!settlement->error) {
        defer_begin(fs, step->node);
        notify_inode(&fs->notify, step->node->id);
    }
    return false;
}

/* Whether somebody has one of the files open that are going to be changed. */
static bool any_open(const struct settlement *settlement, struct fs *fs)
{
    bool open = false;
    pthread_mutex_lock(&fs->nodes.lock);
    for (size_t i = 0; i < settlement->changing.count && !open; i++)
        open = settlement->changing.nodes[i]->file;
    pthread_mutex_unlock(&fs->nodes.lock);
    return open;
}

int settle_begin(struct settlement *settlement, struct fs *fs, struct view *stage)
{
    *settlement = (struct settlement){.stage = stage, .known = touched_new()};
    settlement->error = settlement->known ? 0 : ENOMEM;
    while (!settlement->error &&
           (settlement->entry = touched_next(stage->touched, settlement->entry)))
        if (settlement->entry->kind >= TOUCHED_PUT)
            walk_down(settlement, fs, begin_step);
    for (int i = 0; i < READERS_TRIES && any_open(settlement, fs); i++)
        nanosleep(&(struct timespec){.tv_nsec = READERS_PAUSE_NS}, NULL);
    notify_settle(&fs->notify);
    return settlement->error;
}

/* Whether a file will be missing, or a symbolic link in place of a file or the other way round. */
static int loses_name(const struct settlement *settlement, struct view *begin, bool *loses)
{
    struct attr_record old, new;
    struct ekv_entry entry;
    const struct touched_entry *key = settlement->entry;
    *loses = false;
    int error = view_find(settlement->stage, user_key(settlement), &entry);
    *loses = error == ENOENT;
    if (error)
        return *loses ? 0 : error;
    error = view_attr(begin, key->bytes, key->size, &old, NULL);
    if (!error || error == ENOENT)
        error = view_attr(settlement->stage, key->bytes, key->size, &new, NULL);
    *loses = (old.has_file ? old.file.set & ATTR_SYMLINK : 0) !=
             (new.has_file ? new.file.set &ATTR_SYMLINK : 0);
    return error == ENOENT ? 0 : error;
}

static int add_removing(struct settlement *settlement, struct fs *fs, struct node *node)
{
    if (node->removing) /* met before */
        return 0;
    int error = add_node(&settlement->removing, fs, node);
    if (!error)
        node_set_removing(&fs->nodes, node, true);
    return error;
}

static struct file *open_before_removal(struct fs *fs, struct node *node)
{
    struct key key = {0};
    struct ekv_entry entry;
    int error = node_key(&fs->nodes, node, &key, NULL);
    if (!error)
        error = view_find(node->view, ekv_key(key.bytes, key.size), &entry);
    key_free(&key);
    return file_before_removal(fs, node, error ? NULL : &entry);
}

static bool prepare_step(struct settlement *settlement, struct fs *fs, struct step *step)
{
    struct view begin = begin_of(settlement);
    bool loses = false;
    if (!step->node || step->node->kind != NODE_FILE)
        return true;
    if (step->last) {
        settlement->error = loses_name(settlement, &begin, &loses);
    } else {
        struct key prefix = {.bytes = (uint8_t *)settlement->entry->bytes, .size = step->size};
        settlement->error = walk_directory_exists(settlement->stage, &prefix, &loses);
    }
    if (settlement->error || !loses)
        return false;
    settlement->error = add_removing(settlement, fs, step->node);
    struct file *file = settlement->error ? NULL : open_before_removal(fs, step->node);
    if (file && !atomic_load(&file->created))
        settlement->error = file_detach(fs, file);
    file_release(fs, file);
    return false;
}

int settle_prepare(struct settlement *settlement, struct fs *fs)
{
    settlement->entry = NULL;
    while (!settlement->error &&
           (settlement->entry = touched_next(settlement->stage->touched, settlement->entry)))
        if (settlement->entry->kind >= TOUCHED_PUT)
            walk_down(settlement, fs, prepare_step);
    return settlement->error;
}

/* --- After -------------------------------------------------------------------------------------
 */

/* The kernel forgets a name, present or missing. */
static void tell(struct settlement *settlement, struct fs *fs, const struct step *step)
{
    if (settlement->told_parent == step->parent->id && settlement->told_size == step->name_size &&
        memcmp(settlement->told, step->name, step->name_size) == 0)
        return;
    settlement->told_parent = step->parent->id;
    settlement->told_size = step->name_size;
    memcpy(settlement->told, step->name, step->name_size);
    notify_entry(&fs->notify, step->parent->id, step->name, step->name_size);
}

/* Names came or went in a directory: after the kernel forgot the name, so that no listing is under
 * way any more, it forgets what it listed. Once for many names. */
static void touch(struct settlement *settlement, struct fs *fs, struct node *directory)
{
    tree_touch(fs, directory);
    if (settlement->stale && settlement->stale != directory->id)
        notify_inode(&fs->notify, settlement->stale);
    settlement->stale = directory->id;
}

/* Takes the name from a node that it does not stand for any more. */
static void lose(struct settlement *settlement, struct fs *fs, struct step *step)
{
    struct view begin = begin_of(settlement);
    struct file *file = step->node->kind == NODE_FILE ? file_of(fs, step->node) : NULL;
    node_unlink(&fs->nodes, step->node);
    if (file) {
        struct attr_record record = {0};
        struct ekv_entry entry = {0};
        const struct touched_entry *key = settlement->entry;
        if (view_attr(&begin, key->bytes, key->size, &record, NULL) ||
            view_find(&begin, user_key(settlement), &entry))
            entry.time = fs->mount_time;
        file_die(fs, file, &record.file, entry.time);
    }
    file_release(fs, file);
    tell(settlement, fs, step);
    touch(settlement, fs, step->parent);
}

/* Whether a directory is there, or was at the begin. Found out once: where thousands of keys were
 * removed, or came, a look passes all of them. If it cannot be found out the kernel asks again. */
static bool directory_exists(struct settlement *settlement, struct view *view, size_t size)
{
    enum { MISSING = TOUCHED_VALUE, EXISTING };
    const uint8_t *bytes = settlement->entry->bytes;
    struct key prefix = {.bytes = (uint8_t *)bytes, .size = size};
    uint8_t which = (uint8_t)view->kind;
    bool exists = false;
    if (touched_has(settlement->known, (enum touched_kind)EXISTING, which, bytes, size))
        return true;
    if (touched_has(settlement->known, (enum touched_kind)MISSING, which, bytes, size))
        return false;
    if (walk_directory_exists(view, &prefix, &exists))
        return false;
    touched_read(settlement->known,
                 exists ? (enum touched_kind)EXISTING : (enum touched_kind)MISSING, which, bytes,
                 size);
    return exists;
}

/* A name that no node stands for, and whether there is such a thing now. */
static void settle_unknown(struct settlement *settlement, struct fs *fs, const struct step *step,
                           bool exists)
{
    struct view begin = begin_of(settlement);
    struct ekv_entry entry;
    bool existed = step->last ? view_find(&begin, user_key(settlement), &entry) == 0
                              : directory_exists(settlement, &begin, step->size);
    tell(settlement, fs, step);
    if (existed != exists)
        touch(settlement, fs, step->parent);
}

static bool settle_directory(struct settlement *settlement, struct fs *fs, struct step *step)
{
    bool exists = directory_exists(settlement, &fs->live, step->size);
    bool aside = settlement->entry->kind == TOUCHED_PUT_ASIDE;
    if (!step->node) {
        settle_unknown(settlement, fs, step, exists);
        return false;
    }
    if (exists != (step->node->kind == NODE_DIRECTORY)) {
        if (exists || step->node->kind == NODE_DIRECTORY)
            lose(settlement, fs, step);
        return false;
    }
    if (!exists)
        return false; /* a file was there all the time */
    if (aside)
        step->node->recorded = false; /* to be seen */
    if (aside && step->size == settlement->entry->size)
        notify_inode(&fs->notify, step->node->id);
    return true;
}

/* The record may be that of a part, whose name ends otherwise. */
static void tell_part(struct settlement *settlement, struct fs *fs, const struct step *step)
{
    struct step part = *step;
    if (settlement->entry->kind != TOUCHED_PUT_ASIDE || step->name_size < PATH_PART_MIN ||
        step->name_size > PATH_PART_MAX)
        return;
    memcpy(part.name + part.name_size, "%+", 3);
    part.name_size += 2;
    tell(settlement, fs, &part);
}

static bool settle_step(struct settlement *settlement, struct fs *fs, struct step *step)
{
    struct ekv_entry entry;
    if (!step->last)
        return settle_directory(settlement, fs, step);
    tell_part(settlement, fs, step);
    int error = view_find(&fs->live, user_key(settlement), &entry);
    if (!step->node) {
        settle_unknown(settlement, fs, step, !error);
    } else if (error || step->node->removing) {
        lose(settlement, fs, step);
    } else {
        struct file *file = file_of(fs, step->node);
        if (file)
            file_renew(file);
        file_release(fs, file);
        tell(settlement, fs, step);
        notify_inode(&fs->notify, step->node->id);
    }
    return false;
}

void settle_committed(struct settlement *settlement, struct fs *fs)
{
    settlement->entry = NULL;
    while ((settlement->entry = touched_next(settlement->stage->touched, settlement->entry)))
        if (settlement->entry->kind >= TOUCHED_PUT)
            walk_down(settlement, fs, settle_step);
    if (settlement->stale)
        notify_inode(&fs->notify, settlement->stale);
}

void settle_release(struct settlement *settlement, struct fs *fs)
{
    struct node_list *list = &settlement->removing;
    for (size_t i = 0; i < list->count; i++) {
        node_set_removing(&fs->nodes, list->nodes[i], false);
        node_unref(&fs->nodes, list->nodes[i]);
    }
    free(list->nodes);
    *list = (struct node_list){0};
}

void settle_end(struct settlement *settlement, struct fs *fs)
{
    struct node_list *list = &settlement->changing;
    notify_settle(&fs->notify);
    defer_end(fs, list->nodes, list->count);
    for (size_t i = 0; i < list->count; i++)
        node_unref(&fs->nodes, list->nodes[i]);
    free(list->nodes);
    touched_free(settlement->known);
}
