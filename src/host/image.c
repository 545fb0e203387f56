/* Flash in an image file: opening, locking and the four driver functions.
 *
 * Invariants: the mapping is readable for as long as the image is open, whatever happens to the
 * file; once `failed` is set, no program, erase or sync succeeds any more. After a failed
 * fdatasync the kernel may have dropped the pages and calls them clean, so a second attempt proves
 * nothing: that is why a failure is for good.
 */
#define _GNU_SOURCE
#include "image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { UNIT = 512, COPY_ROUNDS = 64, SLOT_COUNT = 64, BUFFER_SIZE = 4096 };

__attribute__((format(printf, 3, 4))) static int fail(struct image *image, int result,
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(image->error, sizeof image->error, format, arguments);
    va_end(arguments);
    return result;
}

/* --- A file that is truncated under its mapping ---------------------------------------------- */

/* The images that the signal handler knows. Written under the mutex, read by the handler. */
static struct image *volatile slots[SLOT_COUNT];
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

/* Puts zeroes where the file ended, so that the read that raised the signal goes on. */
static void on_bus_error(int number, siginfo_t *info, void *context)
{
    uint8_t *address = info->si_addr;
    for (int i = 0; i < SLOT_COUNT; i++) {
        struct image *image = slots[i];
        if (!image || address < image->mapping || address >= image->mapping + image->mapping_size)
            continue;
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        uint8_t *begin = image->mapping + (size_t)(address - image->mapping) / page * page;
        int saved = errno;
        void *mapped = mmap(begin, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        errno = saved;
        if (mapped == MAP_FAILED)
            break;
        image->failed = true;
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

static int slot_take(struct image *image)
{
    int slot = -1;
    pthread_mutex_lock(&slots_mutex);
    for (int i = 0; i < SLOT_COUNT && slot < 0; i++)
        slot = slots[i] ? -1 : i;
    if (slot >= 0) {
        slots[slot] = image;
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

/* --- The driver ------------------------------------------------------------------------------ */

static int lost(struct image *image, const char *format, const char *detail)
{
    image->failed = true;
    snprintf(image->error, sizeof image->error, format, image->name, detail);
    return -1;
}

static bool is_whole(struct image *image)
{
    struct stat status;
    if (image->failed) {
        if (!image->error[0])
            lost(image, "%s was truncated while in use: unmount it and restore it%s", "");
        return false;
    }
    if (fstat(image->file, &status) != 0) {
        lost(image, "%s can no longer be examined: %s", strerror(errno));
        return false;
    }
    if ((uint64_t)status.st_size < image->offset + image->size) {
        lost(image, "%s was truncated while in use: unmount it and restore it%s", "");
        return false;
    }
    return true;
}

static bool write_all(struct image *image, uint32_t address, const uint8_t *data, size_t size)
{
    off_t offset = (off_t)(image->offset + address);
    while (size > 0) {
        ssize_t written = pwrite(image->file, data, size, offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            lost(image, "%s cannot be written: %s",
                 written < 0 ? strerror(errno) : "nothing was written");
            return false;
        }
        data += written;
        offset += written;
        size -= (size_t)written;
    }
    return true;
}

static bool in_bounds(const struct image *image, uint64_t address, uint64_t size)
{
    return address <= image->size && size <= image->size - address;
}

static int image_read(void *context, uint32_t address, void *buffer, uint32_t size)
{
    const struct image *image = context;
    if (!in_bounds(image, address, size))
        return -1;
    memcpy(buffer, image->flash.map + address, size);
    return 0;
}

/* A NOR program clears bits. Where the bytes were erased, as ekv sees to, that is the data itself.
 */
static int image_program(void *context, uint32_t address, const void *data, uint32_t size)
{
    struct image *image = context;
    const uint8_t *bytes = data, *old = image->flash.map + address;
    uint8_t buffer[BUFFER_SIZE];
    if (image->read_only || !in_bounds(image, address, size) || !is_whole(image))
        return -1;
    __atomic_store_n(&image->dirty, true, __ATOMIC_RELEASE);
    for (uint32_t done = 0; done < size;) {
        uint32_t part = size - done < BUFFER_SIZE ? size - done : BUFFER_SIZE;
        for (uint32_t i = 0; i < part; i++)
            buffer[i] = old[done + i] & bytes[done + i];
        if (!write_all(image, address + done, buffer, part))
            return -1;
        done += part;
    }
    return 0;
}

static int image_erase(void *context, uint32_t sector)
{
    struct image *image = context;
    uint32_t size = image->flash.geometry.sector_size;
    uint64_t address = (uint64_t)sector * size;
    uint8_t blank[BUFFER_SIZE];
    if (image->read_only || !in_bounds(image, address, size) || !is_whole(image))
        return -1;
    memset(blank, 0xff, sizeof blank);
    __atomic_store_n(&image->dirty, true, __ATOMIC_RELEASE);
    for (uint32_t done = 0; done < size; done += BUFFER_SIZE) {
        uint32_t part = size - done < BUFFER_SIZE ? size - done : BUFFER_SIZE;
        if (!write_all(image, (uint32_t)address + done, blank, part))
            return -1;
    }
    return 0;
}

/* Linux has no barrier that costs less than fdatasync, so `barrier_only` costs as much. */
static int image_sync(void *context, bool barrier_only)
{
    struct image *image = context;
    (void)barrier_only;
    if (image->read_only || !__atomic_load_n(&image->dirty, __ATOMIC_ACQUIRE))
        return image->failed ? -1 : 0;
    if (!is_whole(image))
        return -1;
    __atomic_store_n(&image->dirty, false, __ATOMIC_RELEASE);
    image->sync_count++;
    if (fdatasync(image->file) != 0)
        return lost(image, "%s cannot be synced to its disk: %s", strerror(errno));
    return 0;
}

static const struct ekv_flash_driver driver = {image_read, image_program, image_erase, image_sync};

/* --- Locks ----------------------------------------------------------------------------------- */

/* Whether a process has the file open. */
static bool has_open(const char *process, const struct stat *status)
{
    char path[600];
    struct stat other;
    bool found = false;
    snprintf(path, sizeof path, "/proc/%s/fd", process);
    DIR *files = opendir(path);
    for (struct dirent *entry; files && !found && (entry = readdir(files));) {
        snprintf(path, sizeof path, "/proc/%s/fd/%s", process, entry->d_name);
        found = stat(path, &other) == 0 && other.st_ino == status->st_ino &&
                other.st_dev == status->st_dev;
    }
    if (files)
        closedir(files);
    return found;
}

/* Says which other process has the file open, as " by ekvfs (process 12)", or "". The process that
 * took the lock may have left it to a child, so what /proc/locks names would mislead. */
static void find_holder(const struct stat *status, char *text, size_t size)
{
    char path[300], command[40] = "";
    text[0] = 0;
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; processes && !text[0] && (entry = readdir(processes));) {
        long process = strtol(entry->d_name, NULL, 10);
        if (process <= 0 || process == (long)getpid() || !has_open(entry->d_name, status))
            continue;
        snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        FILE *file = fopen(path, "re");
        if (file && fgets(command, sizeof command, file))
            command[strcspn(command, "\n")] = 0;
        if (file)
            fclose(file);
        snprintf(text, size, " by %s (process %ld)", command[0] ? command : "a program", process);
    }
    if (processes)
        closedir(processes);
}

static int lock(struct image *image, enum image_mode mode, const struct stat *status)
{
    char holder[80];
    int kind = mode == IMAGE_READ_WRITE ? LOCK_EX : LOCK_SH;
    if (flock(image->file, kind | LOCK_NB) == 0)
        return EKV_OK;
    if (errno != EWOULDBLOCK)
        return fail(image, EKV_IO, "%s cannot be locked: %s", image->name, strerror(errno));
    if (mode == IMAGE_VIEW) {
        image->copied = true;
        return EKV_OK;
    }
    find_holder(status, holder, sizeof holder);
    return fail(image, EKV_BUSY, "%s is in use%s: unmount it or end that program first%s",
                image->name, holder,
                mode == IMAGE_READ_WRITE ? ", or open the image read-only" : "");
}

/* --- Opening --------------------------------------------------------------------------------- */

static int open_file(struct image *image, const char *path, bool read_only, struct stat *status)
{
    /* O_NONBLOCK: a fifo in place of the image must not wait for its other end. */
    int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    image->file = open(path, flags);
    if (image->file < 0 && errno == EISDIR)
        return fail(image, EKV_INVALID, "%s is a directory, not an image file", image->name);
    if (image->file < 0 && errno == ENOENT)
        return fail(image, EKV_IO, "%s does not exist: create an image first", image->name);
    if (image->file < 0 && (errno == EACCES || errno == EPERM || errno == EROFS))
        return fail(image, EKV_IO, "%s cannot be opened for %s: %s", image->name,
                    read_only ? "reading" : "writing (try read-only)", strerror(errno));
    if (image->file < 0)
        return fail(image, EKV_IO, "%s cannot be opened: %s", image->name, strerror(errno));
    if (fstat(image->file, status) != 0)
        return fail(image, EKV_IO, "%s cannot be examined: %s", image->name, strerror(errno));
    if (!S_ISREG(status->st_mode))
        return fail(image, EKV_INVALID, "%s is a %s, not an image file", image->name,
                    S_ISDIR(status->st_mode)                               ? "directory"
                    : S_ISBLK(status->st_mode) || S_ISCHR(status->st_mode) ? "device"
                    : S_ISFIFO(status->st_mode)                            ? "pipe"
                                                                           : "special file");
    return EKV_OK;
}

static int place_window(struct image *image, const struct image_window *window, uint64_t file_size)
{
    struct image_window whole = {0, 0, false};
    struct image_window place = window ? *window : whole;
    if (place.offset > file_size || place.size > file_size - place.offset)
        return fail(image, EKV_INVALID, "%s has %llu bytes, which do not reach to %llu: truncated?",
                    image->name, (unsigned long long)file_size,
                    (unsigned long long)(place.offset + place.size));
    if (place.size == 0)
        place.size = file_size - place.offset;
    if (place.loose)
        place.size -= place.size % UNIT;
    if (place.size < UNIT * EKV_SECTOR_COUNT_MIN && !place.loose)
        return fail(image, EKV_INVALID, "%s is too small for an image: %llu bytes, at least %d",
                    image->name, (unsigned long long)place.size, UNIT * EKV_SECTOR_COUNT_MIN);
    if (place.size == 0)
        return fail(image, EKV_INVALID, "%s holds less than %d bytes", image->name, UNIT);
    if (place.size > UINT32_MAX)
        return fail(image, EKV_INVALID, "%s is too large for an image: %llu bytes, less than 4 GiB",
                    image->name, (unsigned long long)place.size);
    if (place.size % UNIT != 0)
        return fail(image, EKV_INVALID,
                    "%s has %llu bytes, no multiple of %d: truncated, or not an image", image->name,
                    (unsigned long long)place.size, UNIT);
    image->offset = place.offset;
    image->size = (uint32_t)place.size;
    return EKV_OK;
}

static int map_file(struct image *image)
{
    uint64_t lead = image->offset % (uint64_t)sysconf(_SC_PAGESIZE);
    image->mapping_size = (size_t)(image->size + lead);
    void *mapping = mmap(NULL, image->mapping_size, PROT_READ, MAP_SHARED, image->file,
                         (off_t)(image->offset - lead));
    if (mapping == MAP_FAILED)
        return fail(image, EKV_MEMORY, "%s cannot be mapped: %s", image->name, strerror(errno));
    image->mapping = mapping;
    image->flash.map = image->mapping + lead;
    image->slot = slot_take(image);
    if (image->slot < 0)
        return fail(image, EKV_MEMORY, "%s is one image too many: at most %d can be open at a time",
                    image->name, SLOT_COUNT);
    return EKV_OK;
}

/* Copies the image while somebody may write it, until a whole round finds nothing changed: then
 * the copy is what the image held between that round and the one before. It looks like an image
 * after a power cut at that moment, which every mount understands. */
static int map_copy(struct image *image)
{
    image->mapping_size = image->size;
    void *mapping = mmap(NULL, image->mapping_size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return fail(image, EKV_MEMORY, "there is no memory for a view of %s", image->name);
    image->mapping = mapping;
    image->flash.map = image->mapping;
    for (int round = 0; round < COPY_ROUNDS; round++) {
        bool changed = round == 0;
        for (uint32_t address = 0; address < image->size; address += UNIT) {
            uint8_t buffer[UNIT];
            ssize_t got = pread(image->file, buffer, UNIT, (off_t)(image->offset + address));
            if (got != UNIT)
                return fail(image, EKV_IO, "%s cannot be read: %s", image->name,
                            got < 0 ? strerror(errno) : "it was truncated");
            if (memcmp(image->mapping + address, buffer, UNIT) == 0)
                continue;
            memcpy(image->mapping + address, buffer, UNIT);
            changed = true;
        }
        if (!changed)
            return EKV_OK;
    }
    return fail(image, EKV_BUSY, "%s is being written without a pause: try again later",
                image->name);
}

static void init(struct image *image, const char *path, bool read_only)
{
    memset(image, 0, sizeof *image);
    image->file = -1;
    image->slot = -1;
    image->read_only = read_only;
    snprintf(image->name, sizeof image->name, "%s", path);
}

static int give_up(struct image *image, int error)
{
    image_close(image);
    return error;
}

static int complete(struct image *image, enum image_mode mode, const struct image_window *window,
                    const struct stat *status)
{
    int error = lock(image, mode, status);
    struct stat now = *status;
    if (!error && fstat(image->file, &now) != 0)
        error = fail(image, EKV_IO, "%s cannot be examined: %s", image->name, strerror(errno));
    if (!error)
        error = place_window(image, window, (uint64_t)now.st_size);
    if (!error)
        error = image->copied ? map_copy(image) : map_file(image);
    if (error)
        return give_up(image, error);
    image->flash.geometry = (struct ekv_geometry){UNIT, image->size / UNIT, 1, false};
    image->flash.driver = &driver;
    image->flash.context = image;
    return EKV_OK;
}

int image_open(struct image *image, const char *path, enum image_mode mode,
               const struct image_window *window)
{
    struct stat status;
    init(image, path, mode != IMAGE_READ_WRITE);
    int error = open_file(image, path, image->read_only, &status);
    return error ? give_up(image, error) : complete(image, mode, window, &status);
}

int image_create(struct image *image, const char *path, uint64_t size)
{
    struct stat status;
    init(image, path, false);
    if (size < UNIT * EKV_SECTOR_COUNT_MIN || size > UINT32_MAX || size % UNIT != 0)
        return fail(image, EKV_INVALID,
                    "%llu bytes is no size for an image: a multiple of %d, from %d to 4 GiB",
                    (unsigned long long)size, UNIT, UNIT * EKV_SECTOR_COUNT_MIN);
    image->file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (image->file < 0 && errno == EEXIST)
        return fail(image, EKV_INVALID, "%s exists already: choose another name or remove it",
                    image->name);
    if (image->file < 0)
        return fail(image, EKV_IO, "%s cannot be created: %s", image->name, strerror(errno));
    int reason = posix_fallocate(image->file, 0, (off_t)size);
    if (reason == EINVAL || reason == EOPNOTSUPP) /* this file system cannot reserve */
        reason = ftruncate(image->file, (off_t)size) != 0 ? errno : 0;
    int error = EKV_OK;
    if (reason != 0)
        error = fail(image, reason == ENOSPC || reason == EFBIG ? EKV_FULL : EKV_IO,
                     "%s cannot be given %llu bytes: %s", image->name, (unsigned long long)size,
                     strerror(reason));
    else if (fstat(image->file, &status) != 0)
        error = fail(image, EKV_IO, "%s cannot be examined: %s", image->name, strerror(errno));
    if (!error)
        return complete(image, IMAGE_READ_WRITE, NULL, &status);
    unlink(path);
    return give_up(image, error);
}

int image_check_sectors(struct image *image)
{
    uint32_t sector_size = image->flash.geometry.sector_size;
    if (image->size % sector_size == 0)
        return EKV_OK;
    return fail(image, EKV_GEOMETRY,
                "%s has %u bytes, no multiple of its sectors of %u: truncated?", image->name,
                image->size, sector_size);
}

int image_check_file(struct image *image)
{
    struct stat status;
    if (image->copied)
        return EKV_OK;
    if (!is_whole(image))
        return EKV_IO;
    if (fstat(image->file, &status) == 0 && status.st_nlink == 0)
        return fail(image, EKV_IO, "%s was deleted: copy what you need before you unmount it",
                    image->name);
    return EKV_OK;
}

void image_close(struct image *image)
{
    if (image->slot >= 0)
        slot_give(image->slot);
    if (image->mapping)
        munmap(image->mapping, image->mapping_size);
    if (image->file >= 0)
        close(image->file);
    image->slot = -1;
    image->mapping = NULL;
    image->flash.map = NULL;
    image->file = -1;
}
