/* Requests about names in `.ekv`. What can come and go there the kernel asks for each time. */
#include <errno.h>
#include <linux/fs.h>
#include <string.h>

#include "handle.h"
#include "history.h"
#include "report.h"
#include "stage.h"

static int obtain(struct fs *fs, struct node *parent, const char *name, enum control_kind kind,
                  struct node **node)
{
    struct key key = {0};
    size_t size = strlen(name);
    if (kind == CONTROL_NONE)
        return 0;
    if (key_set(&key, name, size))
        *node = node_obtain(&fs->nodes, parent, name, size, NODE_CONTROL, PATH_NAME, size, &key);
    if (*node)
        (*node)->control = (uint8_t)kind;
    key_free(&key);
    return *node ? 0 : ENOMEM;
}

/* `*node` NULL: there is no such name. */
static int find(struct fs *fs, struct node *parent, const char *name, struct node **node)
{
    enum control_kind directory = parent->kind == NODE_CONTROL ? parent->control : CONTROL_NONE;
    const struct control_entry *fixed = control_find(directory, name);
    enum control_kind kind;
    int error = 0;
    *node = NULL;
    if (fixed)
        return obtain(fs, parent, name, fixed->kind, node);
    switch (directory) {
    case CONTROL_TX:
    case CONTROL_SNAP:
        *node = node_by_name(&fs->nodes, parent, name, strlen(name));
        return 0;
    case CONTROL_HISTORY:
    case CONTROL_HISTORY_PART:
    case CONTROL_HISTORY_KEY:
        error = history_find(fs, parent, name, &kind);
        return error ? error : obtain(fs, parent, name, kind, node);
    case CONTROL_AT:
        return history_at(fs, parent, name, node);
    default:
        return 0;
    }
}

void control_lookup(fuse_req_t request, struct fs *fs, struct node *parent, const char *name)
{
    struct node *node;
    int error = find(fs, parent, name, &node);
    if (error) {
        fuse_reply_err(request, error);
    } else if (node) {
        reply_entry(request, fs, node);
    } else {
        struct fuse_entry_param missing = {0};
        fuse_reply_entry(request, &missing);
    }
}

void control_mkdir(fuse_req_t request, struct fs *fs, struct node *parent, const char *name,
                   mode_t mode)
{
    const struct fuse_ctx *context = fuse_req_ctx(request);
    struct attr attr = {.set = ATTR_MODE | ATTR_UID | ATTR_GID,
                        .mode = mode & 07777,
                        .uid = context->uid,
                        .gid = context->gid};
    struct node *node = NULL;
    int error = EPERM;
    if (parent->control == CONTROL_TX || parent->control == CONTROL_SNAP)
        error =
            stage_begin(fs, parent, name,
                        parent->control == CONTROL_TX ? VIEW_STAGE : VIEW_SNAPSHOT, &attr, &node);
    if (error)
        fuse_reply_err(request, error);
    else
        reply_entry(request, fs, node);
}

int control_rmdir(struct fs *fs, struct node *parent, const char *name)
{
    if (control_is(parent, CONTROL_TX) || control_is(parent, CONTROL_SNAP))
        return stage_end(fs, parent, name);
    return EPERM;
}

int control_rename(struct fs *fs, struct node *parent, const char *name, struct node *new_parent,
                   const char *new_name, unsigned flags)
{
    if (control_is(parent, CONTROL_TX) && control_is(new_parent, CONTROL_COMMIT))
        return flags & ~(unsigned)RENAME_NOREPLACE ? EINVAL : stage_commit(fs, parent, name);
    if (control_is(new_parent, CONTROL_ROOT) && strcmp(new_name, "commit") == 0)
        return report_refusal(EBUSY, "move the transaction into .ekv/commit/, not over it");
    if (control_is(parent, CONTROL_TX))
        return report_refusal(EPERM,
                              "a transaction is committed by mv to .ekv/commit/ and given up "
                              "by rmdir: it cannot be moved to anywhere else");
    return report_refusal(EPERM, "\"%s\" cannot be moved there", name);
}
