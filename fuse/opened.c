/* What the kernel holds open: a list under the node table's lock. */
#include "fs.h"

void opened_add(struct fs *fs, struct opened *opened)
{
    pthread_mutex_lock(&fs->nodes.lock);
    opened->next = fs->opened;
    opened->previous = NULL;
    if (fs->opened)
        fs->opened->previous = opened;
    fs->opened = opened;
    pthread_mutex_unlock(&fs->nodes.lock);
}

void opened_remove(struct fs *fs, struct opened *opened)
{
    pthread_mutex_lock(&fs->nodes.lock);
    if (opened->next)
        opened->next->previous = opened->previous;
    if (opened->previous)
        opened->previous->next = opened->next;
    else
        fs->opened = opened->next;
    pthread_mutex_unlock(&fs->nodes.lock);
}

void opened_close_all(struct fs *fs)
{
    while (fs->opened)
        fs->opened->close(fs, fs->opened);
}
