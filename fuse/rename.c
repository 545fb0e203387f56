/* Renames: each is one commit, of a file or of all below a directory.
 *
 * What an open source file has that is not committed is committed first, under the old name. An
 * open target lives on without a name. While the commit is under way both nodes are marked as
 * moving, so nobody reads a key that is about to mean something else.
 */
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>

#include "change.h"
#include "report.h"

/* One side of a rename. */
struct side {
    struct node *parent;
    const char *name;
    struct node *node; /* NULL, or known, with a reference */
    struct file *file; /* likewise */
    struct tree_name found;
    struct subtree subtree;
};

static int side_find(struct fs *fs, struct side *side)
{
    key_free(&side->found.entry.key);
    int error = tree_find(fs, side->parent, side->name, strlen(side->name), &side->found);
    side->subtree.key = &side->found.entry.key;
    side->subtree.directory = side->found.exists && side->found.entry.directory;
    return error;
}

/* `removing`: it may be replaced. */
static int side_open(struct fs *fs, struct side *side, struct node *parent, const char *name,
                     bool removing)
{
    memset(side, 0, sizeof *side);
    side->parent = parent;
    side->name = name;
    side->node = node_by_name(&fs->nodes, parent, name, strlen(name));
    if (removing)
        node_set_removing(&fs->nodes, side->node, true);
    int error = side_find(fs, side);
    bool value = !error && side->found.exists && !side->subtree.directory;
    if (removing)
        side->file = file_before_removal(fs, side->node, value ? &side->found.entry.entry : NULL);
    else if (side->node)
        side->file = file_of(fs, side->node);
    return error;
}

static void side_close(struct fs *fs, struct side *side)
{
    file_release(fs, side->file);
    node_unref(&fs->nodes, side->node);
    key_free(&side->found.entry.key);
}

/* Commits what an open file has, so that the store knows all that is to be moved. */
static int side_settle(struct fs *fs, struct side *side)
{
    if (!side->file)
        return 0;
    int error = file_commit_locked(fs, side->file);
    return error ? error : side_find(fs, side);
}

static int check(struct fs *fs, const struct side *from, const struct side *to, unsigned flags)
{
    const struct walk_entry *source = &from->found.entry, *target = &to->found.entry;
    if (!from->found.exists)
        return ENOENT;
    if (source->path_kind == PATH_PART || target->path_kind == PATH_PART)
        return report_refusal(EINVAL, "a part of a long name (ending in %%+) cannot be renamed");
    if (source->directory && target->path_kind == PATH_VALUE)
        return EINVAL;
    if (flags & RENAME_EXCHANGE)
        return to->found.exists ? 0 : ENOENT;
    if (!to->found.exists)
        return 0;
    if (flags & RENAME_NOREPLACE)
        return EEXIST;
    if (source->directory && !target->directory)
        return ENOTDIR;
    if (!source->directory && target->directory)
        return EISDIR;
    if (!target->directory)
        return 0;
    bool empty = false;
    int error = tree_is_empty(to->parent, &to->found, &empty);
    if (!error && (!empty || (to->node && file_any_new(fs, to->node))))
        error = ENOTEMPTY;
    return error;
}

/* The prefix or key that the source gets: the target's, in the shape of the source. */
static int destination(const struct side *from, const struct side *to, struct key *key)
{
    const struct key *old = &to->found.entry.key;
    size_t size = old->size;
    if (to->subtree.directory)
        size--; /* without the '/' */
    if (!key_set(key, old->bytes, size) || !key_reserve(key, size + 1))
        return ENOMEM;
    if (from->subtree.directory)
        key->bytes[key->size++] = '/';
    return 0;
}

/* Removes a copy that could not be completed from a stage. `record` is that of an empty directory
 * which it was to replace. */
static void take_back(struct batch *batch, struct view *then, const struct subtree *copy,
                      const struct attr_record *record)
{
    int error = subtree_delete(batch, then, copy);
    if (!error && record->has_directory)
        error = batch_attr(batch, copy->key->bytes, copy->key->size, record);
    if (!error)
        batch->wrote = false; /* all is as it was */
}

static int collect_replacement(struct fs *fs, struct batch *batch, struct view *then,
                               const struct side *from, const struct side *to,
                               const struct subtree *target)
{
    struct attr_record record;
    bool deletes = to->found.exists && to->subtree.directory;
    int error = 0;
    attr_clear(&record);
    if (deletes)
        error = view_attr(then, to->subtree.key->bytes, to->subtree.key->size, &record, NULL);
    if (error == ENOENT)
        error = 0;
    /* A file is replaced by the put of its new value, all else is deleted first. */
    if (!error && deletes)
        error = subtree_delete(batch, then, &to->subtree);
    if (!error)
        error = subtree_copy(batch, then, &from->subtree, target);
    if (!error)
        error = subtree_delete(batch, then, &from->subtree);
    else if (!view_is_live(batch->view) && (!to->found.exists || deletes))
        take_back(batch, then, target, &record);
    if (!error && from->subtree.directory)
        error = change_record(fs, batch, to->parent);
    if (!error && from->parent != to->parent)
        error = change_keep(fs, batch, from->parent);
    return error;
}

/* In a stage there is no moment before the exchange to read from, so one side is held in memory. */
static int exchange_staged(struct batch *batch, const struct subtree *one,
                           const struct subtree *one_there, const struct subtree *other,
                           const struct subtree *other_there)
{
    struct view *view = batch->view;
    struct held *held = NULL;
    int error = subtree_hold(view, one, &held);
    if (!error && !held_fits(held, one_there, view->store->key_size_max))
        error = ENAMETOOLONG;
    if (!error)
        error = subtree_delete(batch, view, one);
    if (!error) {
        error = subtree_copy(batch, view, other, other_there);
        if (error && subtree_delete(batch, view, other_there) == 0 &&
            subtree_put(batch, held, one) == 0)
            batch->wrote = false; /* all is as it was */
    }
    if (!error)
        error = subtree_delete(batch, view, other);
    if (!error)
        error = subtree_put(batch, held, one_there);
    held_free(held);
    return error;
}

/* `target` is where the source goes, `source` where the target does. */
static int collect_exchange(struct fs *fs, struct batch *batch, struct view *then,
                            const struct side *from, const struct side *to,
                            const struct subtree *target, const struct subtree *source)
{
    int error;
    if (view_is_live(batch->view)) {
        error = subtree_delete(batch, then, &to->subtree);
        if (!error)
            error = subtree_delete(batch, then, &from->subtree);
        if (!error)
            error = subtree_copy(batch, then, &from->subtree, target);
        if (!error)
            error = subtree_copy(batch, then, &to->subtree, source);
    } else {
        error = exchange_staged(batch, &from->subtree, target, &to->subtree, source);
    }
    if (!error && from->subtree.directory)
        error = change_record(fs, batch, to->parent);
    if (!error && to->subtree.directory)
        error = change_record(fs, batch, from->parent);
    return error;
}

static int collect(struct fs *fs, struct batch *batch, struct view *then, const struct side *from,
                   const struct side *to, bool exchange)
{
    struct key there = {0}, here = {0};
    struct subtree target = {&there, from->subtree.directory};
    struct subtree source = {&here, to->subtree.directory};
    int error = destination(from, to, &there);
    if (!error && exchange)
        error = destination(to, from, &here);
    if (!error && exchange)
        error = collect_exchange(fs, batch, then, from, to, &target, &source);
    else if (!error)
        error = collect_replacement(fs, batch, then, from, to, &target);
    key_free(&there);
    key_free(&here);
    return error;
}

/* A file alone, and all that was just found of it holds: of what the batch writes the store shows
 * nothing before the end. */
static int commit_file(struct fs *fs, const struct side *from, const struct side *to)
{
    struct view *view = from->parent->view;
    struct batch batch;
    int error = batch_begin(&batch, view);
    if (error)
        return error;
    error = subtree_move_file(&batch, view, &from->found.entry, to->subtree.key);
    if (!error && from->parent != to->parent)
        error = change_keep(fs, &batch, from->parent);
    if (error) {
        batch_abort(&batch);
        return error;
    }
    node_move_begin(&fs->nodes, from->node, to->node);
    return batch_commit(&batch);
}

static int commit(struct fs *fs, const struct side *from, const struct side *to, bool exchange)
{
    struct view *view = from->parent->view;
    struct ekv_snapshot snapshot;
    struct batch batch;
    if (view_is_live(view) && !exchange && !from->subtree.directory && !to->subtree.directory)
        return commit_file(fs, from, to);
    ekv_snapshot_open(&snapshot, fs->store.db);
    struct view then = {.kind = VIEW_SNAPSHOT, .store = &fs->store, .snapshot = &snapshot};
    int error = batch_begin(&batch, view);
    if (!error) {
        error = collect(fs, &batch, view_is_live(view) ? &then : view, from, to, exchange);
        if (error)
            batch_abort(&batch);
    }
    ekv_snapshot_close(&snapshot);
    if (error)
        return error;
    node_move_begin(&fs->nodes, from->node, to->node);
    return batch_commit(&batch);
}

/* The nodes take part in what was committed. */
static void settle_nodes(struct fs *fs, struct side *from, struct side *to, char *name,
                         bool exchange)
{
    const struct walk_entry *target = &to->found.entry;
    if (exchange && from->node && to->node) {
        node_exchange(&fs->nodes, from->node, to->node);
    } else {
        if (to->node && to->node->kind == NODE_DIRECTORY)
            tree_keep(fs, to->node, &target->attr);
        if (to->node)
            node_unlink(&fs->nodes, to->node);
        if (from->node && exchange)
            node_unlink(&fs->nodes, from->node);
        else if (from->node)
            node_rename(&fs->nodes, from->node, to->parent, name, strlen(to->name),
                        target->path_kind, target->bytes_size);
    }
    tree_touch(fs, from->parent);
    tree_touch(fs, to->parent);
}

static int apply(struct fs *fs, struct side *from, struct side *to, bool exchange)
{
    struct info info;
    char *name = strdup(to->name);
    if (!name)
        return ENOMEM;
    int error = 0;
    if (to->node && to->found.exists)
        tree_info_found(fs, to->node, &to->found.entry, &info);
    else
        memset(&info, 0, sizeof info);
    if (!exchange && to->file && to->found.exists)
        error = file_detach(fs, to->file);
    if (!error) {
        error = commit(fs, from, to, exchange);
        if (!error)
            settle_nodes(fs, from, to, name, exchange);
        if (!error && !exchange && to->file)
            file_die(fs, to->file, &info.attr,
                     (int64_t)info.mtime.tv_sec * 1000000 + info.mtime.tv_nsec / 1000);
        node_move_end(&fs->nodes, from->node, to->node);
    }
    if (error || exchange || !from->node)
        free(name);
    return error;
}

static int rename_locked(struct fs *fs, struct side *from, struct side *to, unsigned flags)
{
    bool exchange = flags & RENAME_EXCHANGE;
    int error = side_settle(fs, from);
    struct touched *touched = from->parent->view->touched;
    if (!error && touched && from->subtree.directory)
        touched_read(touched, TOUCHED_BELOW, 0, from->subtree.key->bytes, from->subtree.key->size);
    if (!error && (exchange || flags & RENAME_NOREPLACE))
        error = side_settle(fs, to);
    if (!error && touched && exchange && to->subtree.directory)
        touched_read(touched, TOUCHED_BELOW, 0, to->subtree.key->bytes, to->subtree.key->size);
    if (!error)
        error = check(fs, from, to, flags);
    if (error)
        return error;
    return apply(fs, from, to, exchange);
}

int change_rename(struct fs *fs, struct node *parent, const char *name, struct node *new_parent,
                  const char *new_name, unsigned flags)
{
    struct side from, to;
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return EINVAL;
    if (parent == new_parent && strcmp(name, new_name) == 0)
        return 0;
    store_write(&fs->store);
    int error = side_open(fs, &from, parent, name, false);
    if (error == EINVAL)
        error = ENOENT;
    int target = side_open(fs, &to, new_parent, new_name, true);
    if (target == EINVAL)
        target = report_refusal(EINVAL,
                                "the name \"%s\" cannot be used here: write %%25 for a %%, and see "
                                "\"Keys are paths\" in the manual",
                                new_name);
    if (!error)
        error = target;
    if (!error)
        error = rename_locked(fs, &from, &to, flags);
    side_close(fs, &from);
    node_set_removing(&fs->nodes, to.node, false);
    side_close(fs, &to);
    store_write_end(&fs->store);
    return error;
}
