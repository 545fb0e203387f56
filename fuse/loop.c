/* The threads that answer requests.
 *
 * One leads: it takes a request, answers it, and takes the next. One stands by. The others are
 * busy with what they took when they led, or rest until nobody stands by.
 *
 * Invariants: `turn` is odd while the leader is busy with a request. It counts up when the leader
 * takes one and when the leader is done, or, instead of that, when another becomes the leader: who
 * changes it from odd to even leads from there on. So a leader notices when it comes back that it
 * leads no more, without a lock.
 *
 * Who stands by looks every few milliseconds whether the leader is busy with the same request
 * still; when none comes any more it sleeps (`dozing`), until the leader takes one.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 312
#include "loop.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 32, TICK_NS = 2 * 1000 * 1000, QUIET_TICKS = 3 };

struct loop;

struct server {
    struct loop *loop;
    pthread_t thread;
    struct fuse_buf buffer; /* a request */
};

struct loop {
    struct fuse_session *session;
    int ended_fd; /* an eventfd: the session has ended */
    int error;    /* why; 0: it was unmounted or a signal came */
    atomic_ullong turn;
    atomic_bool dozing; /* who stands by sleeps until it is woken */

    pthread_mutex_t lock;  /* guards what follows */
    pthread_cond_t call;   /* to who stands by */
    pthread_cond_t vacant; /* to those that rest: nobody stands by */
    bool standing_by;      /* somebody does */
    bool called;           /* to lead */
    bool ended;
    unsigned resting;
    unsigned count; /* of threads */
    struct server servers[THREADS_MAX];
};

/* Of this thread, while it is busy with a request that it took: its loop, and the turn that it took
 * it at. */
static _Thread_local struct loop *leading;
static _Thread_local unsigned long long leading_turn;

static bool start(struct loop *loop);

/* --- Leading -----------------------------------------------------------------------------------
 */

static void end(struct loop *loop, int error)
{
    uint64_t one = 1;
    if (error && !loop->error)
        loop->error = error;
    fuse_session_exit(loop->session);
    while (write(loop->ended_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void wake(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->dozing = false;
    pthread_cond_signal(&loop->call);
    pthread_mutex_unlock(&loop->lock);
}

/* Answers a request that was taken. False: another has become the leader meanwhile. */
static bool serve(struct loop *loop, struct server *server)
{
    unsigned long long turn = atomic_load_explicit(&loop->turn, memory_order_relaxed) + 1;
    atomic_store(&loop->turn, turn);
    if (atomic_load(&loop->dozing))
        wake(loop);
    leading = loop;
    leading_turn = turn;
    fuse_session_process_buf(loop->session, &server->buffer);
    leading = NULL;
    return atomic_compare_exchange_strong(&loop->turn, &turn, turn + 1);
}

/* A thread ends by a cancel that reaches it below these two. AddressSanitizer would take what it
 * has marked on their stack for marked still while the thread is taken apart. */
#define CANCELLED __attribute__((no_sanitize("address")))

/* Takes and answers requests until another leads, or the session has ended: then false. */
CANCELLED static bool lead(struct loop *loop, struct server *server)
{
    bool leads = true;
    while (leads && !fuse_session_exited(loop->session)) {
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
        int size = fuse_session_receive_buf(loop->session, &server->buffer);
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        if (size == -EINTR || size == -EAGAIN)
            continue;
        if (size <= 0) { /* unmounted, or by force */
            end(loop, size == -ECONNABORTED ? 0 : size);
            return false;
        }
        leads = serve(loop, server);
    }
    return !leads;
}

void loop_hand_over(void)
{
    struct loop *loop = leading;
    unsigned long long turn = leading_turn;
    if (!loop)
        return;
    leading = NULL;
    pthread_mutex_lock(&loop->lock);
    if (!loop->standing_by) /* all are busy; who comes back takes over when it finds us busy */
        leading = loop;
    else if (atomic_compare_exchange_strong(&loop->turn, &turn, turn + 1)) {
        loop->called = true;
        pthread_cond_signal(&loop->call);
    }
    pthread_mutex_unlock(&loop->lock);
}

/* --- Standing by -------------------------------------------------------------------------------
 */

static void wait_tick(struct loop *loop)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TICK_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&loop->call, &loop->lock, &until);
}

/* Sleeps until a request is taken after `turn`, or there is another reason to wake. */
static void doze(struct loop *loop, unsigned long long turn)
{
    atomic_store(&loop->dozing, true);
    while (loop->dozing && !loop->called && !loop->ended && atomic_load(&loop->turn) == turn)
        pthread_cond_wait(&loop->call, &loop->lock);
    atomic_store(&loop->dozing, false);
}

/* Waits until it is to lead. With the lock held. */
static void stand_by(struct loop *loop)
{
    unsigned quiet = 0;
    unsigned long long turn = atomic_load(&loop->turn);
    while (!loop->called && !loop->ended) {
        if (quiet < QUIET_TICKS)
            wait_tick(loop);
        else
            doze(loop, turn);
        unsigned long long now = atomic_load(&loop->turn);
        bool busy = now % 2 == 1, same = now == turn;
        quiet = same && !busy ? quiet + 1 : 0;
        turn = now;
        if (same && busy && !loop->called &&
            atomic_compare_exchange_strong(&loop->turn, &now, now + 1))
            loop->called = true;
    }
    loop->called = false;
}

/* Until this thread leads and another stands by; false: the session has ended. */
static bool rise(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->resting++;
    while (loop->standing_by && !loop->ended)
        pthread_cond_wait(&loop->vacant, &loop->lock);
    loop->resting--;
    bool ended = loop->ended;
    if (!ended) {
        loop->standing_by = true;
        stand_by(loop);
        loop->standing_by = false;
        ended = loop->ended;
    }
    if (!ended && loop->resting > 0)
        pthread_cond_signal(&loop->vacant);
    else if (!ended)
        (void)start(loop); /* else nobody stands by until one comes back */
    pthread_mutex_unlock(&loop->lock);
    return !ended;
}

/* --- Threads -----------------------------------------------------------------------------------
 */

CANCELLED static void *server_main(void *context)
{
    struct server *server = context;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    while (rise(server->loop) && lead(server->loop, server))
        ;
    return NULL;
}

/* One thread more. With the lock held. */
static bool start(struct loop *loop)
{
    if (loop->count == THREADS_MAX)
        return false;
    struct server *server = &loop->servers[loop->count];
    server->loop = loop;
    bool started = pthread_create(&server->thread, NULL, server_main, server) == 0;
    loop->count += started;
    return started;
}

static void stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->ended = true;
    pthread_cond_broadcast(&loop->call);
    pthread_cond_broadcast(&loop->vacant);
    pthread_mutex_unlock(&loop->lock);
    for (unsigned i = 0; i < loop->count; i++) { /* no new ones are started any more */
        pthread_cancel(loop->servers[i].thread); /* if it waits for a request */
        pthread_join(loop->servers[i].thread, NULL);
        free(loop->servers[i].buffer.mem);
    }
}

static bool init(struct loop *loop, struct fuse_session *session)
{
    pthread_condattr_t attributes;
    *loop = (struct loop){.session = session, .called = true, .ended_fd = eventfd(0, EFD_CLOEXEC)};
    pthread_mutex_init(&loop->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&loop->call, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_cond_init(&loop->vacant, NULL);
    return loop->ended_fd >= 0;
}

static void destroy(struct loop *loop)
{
    if (loop->ended_fd >= 0)
        close(loop->ended_fd);
    pthread_mutex_destroy(&loop->lock);
    pthread_cond_destroy(&loop->call);
    pthread_cond_destroy(&loop->vacant);
}

/* The signals that end a session come to this thread, and only while it waits: none is missed. */
static void wait_for_end(struct loop *loop, const sigset_t *signals)
{
    struct pollfd ended = {.fd = loop->ended_fd, .events = POLLIN};
    while (!fuse_session_exited(loop->session))
        (void)!ppoll(&ended, 1, NULL, signals);
}

int loop_run(struct fuse_session *session)
{
    static struct loop loop;
    sigset_t signals, old;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGQUIT);
    bool ready = init(&loop, session);
    pthread_sigmask(SIG_BLOCK, &signals, &old); /* so the threads have them blocked */
    pthread_mutex_lock(&loop.lock);
    bool started = ready && start(&loop);
    pthread_mutex_unlock(&loop.lock);
    if (started) {
        wait_for_end(&loop, &old);
        stop(&loop);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    destroy(&loop);
    return started ? loop.error : -EAGAIN;
}
