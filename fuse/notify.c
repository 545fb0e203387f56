/* Tells the kernel that something it keeps is no longer so: a queue and a thread.
 *
 * That the kernel does not know the node any more is as good as success. Without memory for a
 * notification the kernel would go on with something wrong, so that one is sent at once.
 */
#define FUSE_USE_VERSION 312
#include "notify.h"

#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

struct notification {
    struct notification *next;
    uint64_t id; /* of the node, or of the directory if there is a name */
    off_t start; /* of the data that is meant; ALONE: none, the attributes alone */
    size_t name_size;
    char name[];
};

enum { ALONE = -1 };

static void send_one(struct notify *notify, uint64_t id, off_t start, const char *name,
                     size_t name_size)
{
    if (name_size)
        fuse_lowlevel_notify_inval_entry(notify->session, id, name, name_size);
    else
        fuse_lowlevel_notify_inval_inode(notify->session, id, start, 0);
}

static void *notify_main(void *context)
{
    struct notify *notify = context;
    pthread_mutex_lock(&notify->lock);
    for (;;) {
        struct notification *one = notify->first;
        if (!one && notify->stop)
            break;
        if (!one) {
            pthread_cond_wait(&notify->wake, &notify->lock);
            continue;
        }
        notify->first = one->next;
        if (!notify->first)
            notify->last = &notify->first;
        pthread_mutex_unlock(&notify->lock);
        send_one(notify, one->id, one->start, one->name, one->name_size);
        free(one);
        pthread_mutex_lock(&notify->lock);
        notify->sent++;
        pthread_cond_broadcast(&notify->settled);
    }
    pthread_mutex_unlock(&notify->lock);
    return NULL;
}

void notify_init(struct notify *notify)
{
    memset(notify, 0, sizeof *notify);
    pthread_mutex_init(&notify->lock, NULL);
    pthread_cond_init(&notify->wake, NULL);
    pthread_cond_init(&notify->settled, NULL);
    notify->last = &notify->first;
}

int notify_start(struct notify *notify, struct fuse_session *session)
{
    notify->session = session;
    int error = pthread_create(&notify->thread, NULL, notify_main, notify);
    if (error)
        notify->session = NULL;
    return error;
}

void notify_stop(struct notify *notify)
{
    if (!notify->session)
        return;
    pthread_mutex_lock(&notify->lock);
    notify->stop = true;
    pthread_cond_signal(&notify->wake);
    pthread_mutex_unlock(&notify->lock);
    pthread_join(notify->thread, NULL);
    notify->session = NULL;
}

static void queue(struct notify *notify, uint64_t id, off_t start, const char *name,
                  size_t name_size)
{
    if (!notify->session)
        return;
    struct notification *one = malloc(sizeof *one + name_size + 1);
    if (!one) {
        send_one(notify, id, start, name, name_size);
        return;
    }
    one->next = NULL;
    one->id = id;
    one->start = start;
    one->name_size = name_size;
    if (name_size)
        memcpy(one->name, name, name_size);
    one->name[name_size] = 0;
    pthread_mutex_lock(&notify->lock);
    *notify->last = one;
    notify->last = &one->next;
    notify->queued++;
    pthread_cond_signal(&notify->wake);
    pthread_mutex_unlock(&notify->lock);
}

void notify_inode(struct notify *notify, uint64_t id)
{
    queue(notify, id, 0, NULL, 0);
}

void notify_attr(struct notify *notify, uint64_t id)
{
    queue(notify, id, ALONE, NULL, 0);
}

void notify_entry(struct notify *notify, uint64_t parent, const char *name, size_t name_size)
{
    queue(notify, parent, 0, name, name_size);
}

void notify_settle(struct notify *notify)
{
    pthread_mutex_lock(&notify->lock);
    uint64_t until = notify->queued;
    if (notify->session && notify->sent < until)
        loop_hand_over();
    while (notify->session && notify->sent < until)
        pthread_cond_wait(&notify->settled, &notify->lock);
    pthread_mutex_unlock(&notify->lock);
}
