/* User extended attributes of nodes. They lie in the record of attributes (host/attr.h); what an
 * open file is given together with its content waits in the file until that is committed. */
#include "xattr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "report.h"

int xattr_apply(struct xattrs *xattrs, const struct xattr_change *change)
{
    struct xattr old;
    bool there = xattrs_find(xattrs, change->name, change->name_size, &old);
    if (!there && (!change->value || change->flags & XATTR_REPLACE))
        return ENODATA;
    if (there && change->flags & XATTR_CREATE)
        return EEXIST;
    if (!change->value)
        return xattrs_remove(xattrs, change->name, change->name_size) ? 0 : ENODATA;
    if (xattrs_set(xattrs, change->name, change->name_size, change->value, change->value_size))
        return 0;
    return report_refusal(ENOSPC,
                          "the extended attributes of a file take at most %d bytes in all, names "
                          "included: no room for \"" XATTRS_PREFIX "%.*s\" of %zu bytes",
                          XATTRS_MAX, (int)change->name_size, change->name, change->value_size);
}

/* What the store says of a node. */
static int load(struct fs *fs, struct node *node, struct xattrs *xattrs)
{
    struct attr_record record;
    struct key key = {0};
    uint64_t moves;
    int error;
    attr_clear(&record);
    do {
        error = node_key(&fs->nodes, node, &key, &moves);
        if (!error && node->view->touched)
            touched_read(node->view->touched, TOUCHED_VALUE, 0, key.bytes, key.size);
        if (!error)
            error = view_attr(node->view, key.bytes, key.size, &record, NULL);
        if (error == ENOENT && !view_ended(node->view))
            error = 0;
    } while (node_moved(&fs->nodes, moves));
    *xattrs = node->kind == NODE_DIRECTORY ? record.directory_xattrs : record.file_xattrs;
    key_free(&key);
    return error;
}

static struct xattrs *xattrs_new(void)
{
    struct xattrs *xattrs = malloc(sizeof *xattrs);
    if (xattrs)
        xattrs->size = 0;
    return xattrs;
}

/* Whether the file knows better than the store. With its lock. */
static bool own(const struct file *file, struct xattrs *xattrs)
{
    if (!file->created && !file->dead && !file->xattrs_dirty)
        return false;
    xattrs->size = 0;
    if (file->xattrs)
        *xattrs = *file->xattrs;
    return true;
}

int xattr_of_node(struct fs *fs, struct node *node, struct xattrs *xattrs)
{
    struct file *file = node->kind == NODE_FILE ? file_of(fs, node) : NULL;
    bool known = false;
    if (file) {
        pthread_rwlock_rdlock(&file->lock);
        known = own(file, xattrs);
        pthread_rwlock_unlock(&file->lock);
    }
    file_release(fs, file);
    return known ? 0 : load(fs, node, xattrs);
}

int xattr_keep(struct fs *fs, struct file *file)
{
    if (!fs->xattrs || file->created || file->dead || file->xattrs_dirty)
        return 0;
    if (!file->xattrs)
        file->xattrs = xattrs_new();
    return file->xattrs ? load(fs, file->node, file->xattrs) : ENOMEM;
}

int xattr_change_file(struct fs *fs, struct file *file, const struct xattr_change *change,
                      bool *kept)
{
    pthread_rwlock_wrlock(&file->lock);
    *kept = file->dirty || file->created || file->dead;
    int error = *kept ? xattr_keep(fs, file) : 0;
    if (*kept && !file->xattrs)
        file->xattrs = xattrs_new();
    if (*kept && !file->xattrs)
        error = ENOMEM;
    if (*kept && !error)
        error = xattr_apply(file->xattrs, change);
    if (*kept && !error) {
        file->xattrs_dirty = file->attr_dirty = true;
        file->change++;
    }
    pthread_rwlock_unlock(&file->lock);
    return error;
}
