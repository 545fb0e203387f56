/* Views that have a name in `.ekv`.
 *
 * Such a view is listed, and its root is held, from its begin to its end; it is freed when the
 * kernel has forgotten all nodes in it. Whoever begins or ends one holds the writer lock.
 *
 * After a crash nothing is left of any.
 */
#include "stage.h"

#include <errno.h>
#include <string.h>

#include "conflict.h"
#include "handle.h"
#include "report.h"
#include "settle.h"

int stage_begin(struct fs *fs, struct node *parent, const char *name, enum view_kind kind,
                const struct attr *attr, struct node **node)
{
    bool exists = false;
    store_write(&fs->store);
    struct view *view = view_new(&fs->store, kind, attr);
    *node = view ? node_add_top(&fs->nodes, parent, name, strlen(name), view, &exists) : NULL;
    if (*node) {
        pthread_mutex_lock(&fs->nodes.lock);
        (*node)->refs++; /* the list's */
        view->next = fs->views;
        fs->views = view;
        pthread_mutex_unlock(&fs->nodes.lock);
        tree_touch(fs, parent);
    } else if (view) {
        view_end(view);
        view_free(view);
    }
    store_write_end(&fs->store);
    return *node ? 0 : exists ? EEXIST : ENOMEM;
}

/* Takes the view out of the list and lets go of it. */
static void close_view(struct fs *fs, struct view *view)
{
    struct node *top = view->top;
    file_abandon(fs, view);
    view_end(view);
    pthread_mutex_lock(&fs->nodes.lock);
    struct view **link = &fs->views;
    while (*link != view)
        link = &(*link)->next;
    *link = view->next;
    pthread_mutex_unlock(&fs->nodes.lock);
    tree_touch(fs, top->parent);
    node_unlink(&fs->nodes, top);
    node_unref(&fs->nodes, top);
}

/* What can be found wrong with a commit. With the writer lock. */
static int check(struct fs *fs, struct view *stage)
{
    int error = stage->ended ? ENOENT : handle_any_open(fs, stage);
    if (!error)
        error = file_commit_view(fs, stage);
    if (!error && stage->damaged)
        error =
            report_refusal(EIO, "not committed: an operation in the transaction failed half-way "
                                "before (no space?); remove it (rmdir) and begin again");
    if (!error)
        error = conflict_check(stage);
    return error;
}

static int commit(struct fs *fs, struct view *stage, struct settlement *settlement)
{
    store_write(&fs->store);
    int error = check(fs, stage);
    if (!error)
        error = settle_prepare(settlement, fs);
    if (!error)
        error = view_commit(stage);
    if (!error)
        settle_committed(settlement, fs);
    settle_release(settlement, fs);
    if (!error)
        close_view(fs, stage);
    store_write_end(&fs->store);
    return error;
}

int stage_commit(struct fs *fs, struct node *parent, const char *name)
{
    struct settlement settlement;
    struct node *top = node_by_name(&fs->nodes, parent, name, strlen(name));
    if (!top)
        return ENOENT;
    store_write(&fs->store);
    int error = check(fs, top->view);
    store_write_end(&fs->store);
    if (!error) {
        error = settle_begin(&settlement, fs, top->view);
        if (!error)
            error = commit(fs, top->view, &settlement);
        settle_end(&settlement, fs);
    }
    node_unref(&fs->nodes, top);
    return error;
}

int stage_end(struct fs *fs, struct node *parent, const char *name)
{
    store_write(&fs->store);
    struct node *top = node_by_name(&fs->nodes, parent, name, strlen(name));
    if (top)
        close_view(fs, top->view);
    store_write_end(&fs->store);
    node_unref(&fs->nodes, top);
    return top ? 0 : ENOENT;
}

void stage_end_all(struct fs *fs)
{
    store_write(&fs->store);
    while (fs->views)
        close_view(fs, fs->views);
    store_write_end(&fs->store);
}

uint64_t stage_count(struct fs *fs, enum view_kind kind)
{
    uint64_t count = 0;
    pthread_mutex_lock(&fs->nodes.lock);
    for (const struct view *view = fs->views; view; view = view->next)
        count += view->kind == kind;
    pthread_mutex_unlock(&fs->nodes.lock);
    return count;
}
