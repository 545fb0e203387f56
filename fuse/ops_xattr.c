/* Requests about extended attributes: of the namespace "user", on files and directories.
 *
 * Without -o xattr they are answered with ENOSYS: the kernel then asks never again, which saves a
 * round trip at every write and two for each file that `ls -l` shows. (It tells programs
 * EOPNOTSUPP.) The roots in `.ekv` and what is generated there have none.
 */
#include "handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "change.h"
#include "report.h"

/* The node that a request is about, and the name without its namespace (`name` may be NULL). */
static int find(fuse_req_t request, fuse_ino_t id, const char **name, struct node **node)
{
    struct fs *fs = request_fs(request);
    size_t prefix = sizeof XATTRS_PREFIX - 1;
    if (!fs->xattrs)
        return ENOSYS;
    *node = node_by_id(&fs->nodes, id);
    if (!*node)
        return ESTALE;
    if (name && strncmp(*name, XATTRS_PREFIX, prefix) != 0)
        return EOPNOTSUPP;
    if (name)
        *name += prefix;
    return name && **name == 0 ? EINVAL : 0;
}

static bool has_none(const struct node *node)
{
    return node->kind == NODE_CONTROL || node->view->top == node;
}

static int find_set(fuse_req_t request, fuse_ino_t id, const char **name, struct xattrs *xattrs)
{
    struct node *node;
    int error = find(request, id, name, &node);
    xattrs->size = 0;
    if (!error && !has_none(node))
        error = xattr_of_node(request_fs(request), node, xattrs);
    return error == ENOENT ? ESTALE : error;
}

/* As getxattr and listxattr answer: without room, how much is needed. */
static void reply(fuse_req_t request, const void *bytes, size_t size, size_t room)
{
    if (room == 0)
        fuse_reply_xattr(request, size);
    else if (size > room)
        fuse_reply_err(request, ERANGE);
    else
        fuse_reply_buf(request, bytes, size);
}

void op_getxattr(fuse_req_t request, fuse_ino_t id, const char *name, size_t room)
{
    struct xattrs xattrs;
    struct xattr xattr;
    int error = find_set(request, id, &name, &xattrs);
    if (!error && !xattrs_find(&xattrs, name, strlen(name), &xattr))
        error = ENODATA;
    if (error)
        fuse_reply_err(request, error);
    else
        reply(request, xattr.value, xattr.value_size, room);
}

void op_listxattr(fuse_req_t request, fuse_ino_t id, size_t room)
{
    enum { MORE = sizeof XATTRS_PREFIX }; /* for each name: the namespace and a NUL */
    struct xattrs xattrs;
    struct xattr xattr = {0};
    size_t size = 0, count = 0;
    int error = find_set(request, id, NULL, &xattrs);
    while (!error && xattrs_next(&xattrs, &xattr))
        count++;
    char *names = error ? NULL : malloc(xattrs.size + count * MORE + 1);
    if (!error && !names)
        error = ENOMEM;
    xattr = (struct xattr){0};
    while (!error && xattrs_next(&xattrs, &xattr)) {
        char name[XATTRS_FULL_MAX + 1];
        xattr_full_name(&xattr, name);
        memcpy(names + size, name, xattr.name_size + MORE);
        size += xattr.name_size + MORE;
    }
    if (error)
        fuse_reply_err(request, error);
    else
        reply(request, names, size, room);
    free(names);
}

/* `value` NULL: a removal. */
static void change(fuse_req_t request, fuse_ino_t id, const char *name, const char *value,
                   size_t size, int flags)
{
    struct fs *fs = request_fs(request);
    struct node *node;
    int error = find(request, id, &name, &node);
    if (!error && has_none(node))
        error = report_refusal(EOPNOTSUPP, "no extended attributes for directories in .ekv/*");
    if (!error)
        error = changeable(fs, id, &node);
    struct xattr_change wanted = {.name = name,
                                  .name_size = error ? 0 : strlen(name),
                                  .value = value,
                                  .value_size = size,
                                  .flags = flags};
    fuse_reply_err(request, error ? error : change_xattr(fs, node, &wanted));
}

void op_setxattr(fuse_req_t request, fuse_ino_t id, const char *name, const char *value,
                 size_t size, int flags)
{
    change(request, id, name, value ? value : "", size, flags);
}

void op_removexattr(fuse_req_t request, fuse_ino_t id, const char *name)
{
    change(request, id, name, NULL, 0, 0);
}
