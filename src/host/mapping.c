/* Mapped files: the table of them, and the signal handler that knows it.
 *
 * Invariant: every page of an open mapping can be read, and stored to if it is writable, whatever
 * happens to the file. The handler runs in the thread that touched the page and calls nothing but
 * the kernel.
 */
#define _GNU_SOURCE
#include "mapping.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

/* Written under the mutex, read by the handler. */
static struct mapping *volatile slots[MAPPING_COUNT_MAX];
static pthread_mutex_t slots_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction earlier_action;

static void pass_on(int number, siginfo_t *info, void *context)
{
    if (earlier_action.sa_flags & SA_SIGINFO) {
        earlier_action.sa_sigaction(number, info, context);
    } else if (earlier_action.sa_handler != SIG_DFL && earlier_action.sa_handler != SIG_IGN) {
        earlier_action.sa_handler(number);
    } else {
        signal(number, SIG_DFL); /* and the same access raises it again */
    }
}

/* Puts memory of the process in the place of a page of the file. It has what the file still has
 * before anybody sees it. */
static bool replace_page(const struct mapping *mapping, uint8_t *begin, size_t page)
{
    int access = PROT_READ | (mapping->writable ? PROT_WRITE : 0);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    void *fresh = mmap(NULL, page, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (fresh == MAP_FAILED)
        return false;
    off_t offset = (off_t)mapping->offset + (begin - mapping->base);
    (void)!pread(mapping->file, fresh, page, offset);
    if (mprotect(fresh, page, access) == 0 &&
        mremap(fresh, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, begin) != MAP_FAILED)
        return true;
    munmap(fresh, page);
    return false;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    uint8_t *address = info->si_addr;
    for (int i = 0; i < MAPPING_COUNT_MAX; i++) {
        struct mapping *mapping = slots[i];
        if (!mapping || address < mapping->base || address >= mapping->base + mapping->size)
            continue;
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        uint8_t *begin = mapping->base + (size_t)(address - mapping->base) / page * page;
        int saved = errno;
        bool replaced = replace_page(mapping, begin, page);
        errno = saved;
        if (!replaced)
            break;
        __atomic_store_n(mapping->lost, true, __ATOMIC_RELEASE);
        return;
    }
    pass_on(number, info, context);
}

/* Has the handler called first, again if somebody else took the signal since. */
static void catch_signal(void)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK}, now;
    action.sa_sigaction = on_bus_error;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, NULL, &now) != 0 ||
        ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus_error))
        return;
    earlier_action = now;
    (void)!sigaction(SIGBUS, &action, NULL);
}

static int slot_take(struct mapping *mapping)
{
    int slot = -1;
    pthread_mutex_lock(&slots_mutex);
    for (int i = 0; i < MAPPING_COUNT_MAX && slot < 0; i++)
        slot = slots[i] ? -1 : i;
    if (slot >= 0) {
        slots[slot] = mapping;
        catch_signal();
    }
    pthread_mutex_unlock(&slots_mutex);
    return slot;
}

static void slot_give(int slot)
{
    pthread_mutex_lock(&slots_mutex);
    slots[slot] = NULL;
    pthread_mutex_unlock(&slots_mutex);
}

int mapping_open(struct mapping *mapping, int file, uint64_t offset, size_t size, bool writable,
                 bool *lost)
{
    uint64_t lead = offset % (uint64_t)sysconf(_SC_PAGESIZE);
    int access = PROT_READ | (writable ? PROT_WRITE : 0);
    *mapping = (struct mapping){.slot = -1,
                                .file = file,
                                .offset = offset - lead,
                                .size = size + (size_t)lead,
                                .writable = writable,
                                .lost = lost};
    void *base = mmap(NULL, mapping->size, access, MAP_SHARED, file, (off_t)mapping->offset);
    if (base == MAP_FAILED)
        return EKV_MEMORY;
    mapping->base = base;
    mapping->bytes = mapping->base + lead;
    mapping->slot = slot_take(mapping);
    if (mapping->slot >= 0)
        return EKV_OK;
    mapping_close(mapping);
    return EKV_BUSY;
}

void mapping_close(struct mapping *mapping)
{
    if (mapping->slot >= 0)
        slot_give(mapping->slot);
    if (mapping->base)
        munmap(mapping->base, mapping->size);
    mapping->base = mapping->bytes = NULL;
    mapping->slot = -1;
}

bool mapping_lost(const struct mapping *mapping)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* what was stored before may raise the signal */
    return __atomic_load_n(mapping->lost, __ATOMIC_ACQUIRE);
}
