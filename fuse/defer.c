/* Requests that wait until a value was replaced: a list under the node table's lock. One
 * transaction is committed at a time (the kernel holds the directory `.ekv/commit` meanwhile). */
#include "defer.h"

#include <stdlib.h>

struct deferred {
    struct deferred *next;
    fuse_req_t request;
    fuse_ino_t id;
    bool open;
    struct fuse_file_info info;
};

bool defer(fuse_req_t request, struct fs *fs, struct node *node, const struct fuse_file_info *info)
{
    struct deferred *deferred = NULL;
    pthread_mutex_lock(&fs->nodes.lock);
    if (node->changing && (deferred = malloc(sizeof *deferred))) {
        *deferred = (struct deferred){
            .next = fs->deferred, .request = request, .id = node->id, .open = info};
        if (info)
            deferred->info = *info;
        fs->deferred = deferred;
    }
    pthread_mutex_unlock(&fs->nodes.lock);
    return deferred;
}

bool defer_is_changing(struct fs *fs, const struct node *node)
{
    pthread_mutex_lock(&fs->nodes.lock);
    bool changing = node->changing;
    pthread_mutex_unlock(&fs->nodes.lock);
    return changing;
}

void defer_begin(struct fs *fs, struct node *node)
{
    pthread_mutex_lock(&fs->nodes.lock);
    node->changing = true;
    pthread_mutex_unlock(&fs->nodes.lock);
}

void defer_end(struct fs *fs, struct node *const *nodes, size_t count)
{
    pthread_mutex_lock(&fs->nodes.lock);
    for (size_t i = 0; i < count; i++)
        nodes[i]->changing = false;
    struct deferred *list = fs->deferred, *next;
    fs->deferred = NULL;
    pthread_mutex_unlock(&fs->nodes.lock);
    for (; list; list = next) {
        next = list->next;
        if (list->open)
            op_open(list->request, list->id, &list->info);
        else
            op_getattr(list->request, list->id, NULL);
        free(list);
    }
}
