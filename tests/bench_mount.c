/* Times file operations on three file systems in one run: ekvfs, the floor that any file system on
 * libfuse pays (bench_floor), and the machine's own.
 *
 *     bench_mount [--files N] [--size BYTES] [--large MIB] [--rounds N] [--keys]
 *
 * Client and daemon share one processor, as on a board that has one: a wake-up of an idle processor
 * costs five times a round trip. Beside the wall time of an operation stands the processor time
 * that client and daemon took for it, which other processes disturb less. Each figure is the best
 * of the rounds. Figures are of this machine and this moment: the ratios within a run are what
 * counts.
 *
 * With --keys: what 100 files cost in a store of 100 keys and in one of 100,000.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 1 << 20, PATH_SIZE = 512, KEYS_FEW = 100, KEYS_MANY = 100000 };

enum system { EKVFS, FLOOR, PLAIN, SYSTEMS };

enum operation {
    CREATE,
    LIST,
    LIST_STAT,
    OVERWRITE,
    STAT_COLD,
    STAT_HOT,
    READ_COLD,
    READ_HOT,
    RENAME,
    UNLINK,
    SMALL_OPERATIONS,
    WRITE_LARGE = SMALL_OPERATIONS,
    REWRITE_LARGE,
    READ_LARGE_COLD,
    READ_LARGE_HOT,
    OPERATIONS
};

static const char *const operation_names[OPERATIONS] = {
    [CREATE] = "create, write, close",
    [LIST] = "list, a name",
    [LIST_STAT] = "list and stat, a name",
    [OVERWRITE] = "overwrite",
    [READ_COLD] = "open, read, close: cold",
    [READ_HOT] = "open, read, close: hot",
    [STAT_HOT] = "stat: hot",
    [STAT_COLD] = "stat: cold",
    [RENAME] = "rename",
    [UNLINK] = "unlink",
    [WRITE_LARGE] = "large: write",
    [REWRITE_LARGE] = "large: overwrite",
    [READ_LARGE_COLD] = "large: read, cold",
    [READ_LARGE_HOT] = "large: read, hot",
};

/* Of one operation, in microseconds; of the large ones, of a MiB. */
struct cost {
    double wall, cpu;
};

static struct cost best[SYSTEMS][OPERATIONS];
static unsigned file_count = 4000, file_size = 64, large_count = 64, rounds = 3;
static char work[64], programs[PATH_SIZE];
static char *piece;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "bench_mount: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (%s)\n", strerror(errno));
    va_end(arguments);
    exit(EXIT_FAILURE);
}

/* --- Processor time ----------------------------------------------------------------------------
 */

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Of all threads of a process, in seconds; 0 if it cannot be told. */
static double cpu_of(pid_t pid)
{
    char path[PATH_SIZE];
    unsigned long long sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = pid ? opendir(path) : NULL;
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        if (task->d_name[0] == '.') /* ".." is the first thread once more */
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/schedstat", pid, task->d_name);
        FILE *file = fopen(path, "r");
        unsigned long long ran = 0;
        if (file && fscanf(file, "%llu", &ran) == 1)
            sum += ran;
        if (file)
            fclose(file);
    }
    if (tasks)
        closedir(tasks);
    return (double)sum / 1e9;
}

struct watch {
    pid_t daemon;
    double wall, cpu;
};

static struct watch watch_begin(pid_t daemon)
{
    return (struct watch){.daemon = daemon,
                          .cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) + cpu_of(daemon),
                          .wall = seconds(CLOCK_MONOTONIC)};
}

static struct cost watch_end(const struct watch *watch, unsigned count)
{
    double wall = seconds(CLOCK_MONOTONIC) - watch->wall;
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) + cpu_of(watch->daemon) - watch->cpu;
    return (struct cost){wall * 1e6 / count, cpu * 1e6 / count};
}

static void keep_best(struct cost *cost, struct cost other)
{
    if (cost->wall == 0 || other.wall < cost->wall)
        cost->wall = other.wall;
    if (cost->cpu == 0 || other.cpu < cost->cpu)
        cost->cpu = other.cpu;
}

/* --- Mounts ------------------------------------------------------------------------------------
 */

struct mount {
    enum system system;
    pid_t daemon; /* 0: none */
    char directory[PATH_SIZE];
    char image[PATH_SIZE];
};

static bool is_mounted(const struct mount *mount)
{
    struct stat top, above;
    char path[PATH_SIZE + 4];
    snprintf(path, sizeof path, "%s/..", mount->directory);
    return stat(mount->directory, &top) == 0 && stat(path, &above) == 0 &&
           top.st_dev != above.st_dev;
}

static void wait_for(const struct mount *mount, bool mounted)
{
    for (int i = 0; is_mounted(mount) != mounted; i++) {
        if (i == 5000 || (mount->daemon && waitpid(mount->daemon, NULL, WNOHANG) > 0))
            die("%s does not mount", mount->directory);
        usleep(2000);
    }
}

static void spawn(struct mount *mount)
{
    char program[PATH_SIZE + 32];
    snprintf(program, sizeof program, "%s/%s", programs,
             mount->system == EKVFS ? "ekvfs" : "tests/bench_floor");
    mount->daemon = fork();
    if (mount->daemon == 0)
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* it unmounts, however the benchmark ends */
    if (mount->daemon == 0 && mount->system == EKVFS)
        execl(program, "ekvfs", "-f", "--create=192M", mount->image, mount->directory,
              (char *)NULL);
    else if (mount->daemon == 0)
        execl(program, "bench_floor", mount->directory, (char *)NULL);
    if (mount->daemon == 0)
        die("%s cannot be started", program);
    wait_for(mount, true);
}

static void run_umount(const struct mount *mount)
{
    pid_t child = fork();
    if (child == 0)
        execlp("fusermount3", "fusermount3", "-u", mount->directory, (char *)NULL);
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        die("%s cannot be unmounted", mount->directory);
}

static struct mount mount_begin(enum system system)
{
    static const char *const names[SYSTEMS] = {"ekvfs", "floor", "plain"};
    struct mount mount = {.system = system};
    snprintf(mount.directory, sizeof mount.directory, "%s/%s", work, names[system]);
    snprintf(mount.image, sizeof mount.image, "%s/image", work);
    if (mkdir(mount.directory, 0755) != 0)
        die("%s", mount.directory);
    if (system != PLAIN)
        spawn(&mount);
    return mount;
}

/* Empties the kernel's caches; the machine's own keeps its names and attributes. */
static void mount_again(struct mount *mount)
{
    if (mount->system == PLAIN)
        return;
    run_umount(mount);
    if (mount->system == FLOOR) { /* it mounts again by itself */
        wait_for(mount, true);
        return;
    }
    waitpid(mount->daemon, NULL, 0);
    mount->daemon = 0;
    spawn(mount);
}

static void mount_end(struct mount *mount)
{
    if (mount->system == EKVFS)
        run_umount(mount);
    else if (mount->system == FLOOR)
        kill(mount->daemon, SIGTERM);
    if (mount->daemon)
        waitpid(mount->daemon, NULL, 0);
    rmdir(mount->directory);
    if (mount->system == EKVFS)
        unlink(mount->image);
}

/* --- Operations --------------------------------------------------------------------------------
 */

static const char *path_of(const struct mount *mount, const char *form, unsigned number)
{
    static char path[PATH_SIZE + 32];
    int size = snprintf(path, sizeof path, "%s/", mount->directory);
    snprintf(path + size, sizeof path - (size_t)size, "%s%06u", form, number);
    return path;
}

static void put(const char *path, int flags, char fill, unsigned size, unsigned count)
{
    int file = open(path, O_WRONLY | flags, 0644);
    if (file < 0)
        die("%s", path);
    memset(piece, fill, size);
    for (unsigned i = 0; i < count; i++) {
        memcpy(piece, &i, sizeof i);
        if (write(file, piece, size) != (ssize_t)size)
            die("writing %s", path);
    }
    if (close(file) != 0)
        die("closing %s", path);
}

static void get(const char *path, unsigned size, unsigned count, bool uncached)
{
    int file = open(path, O_RDONLY);
    if (file < 0)
        die("%s", path);
    if (uncached)
        posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    for (unsigned i = 0; i < count; i++)
        if (read(file, piece, size) != (ssize_t)size)
            die("reading %s", path);
    close(file);
}

static unsigned list(const struct mount *mount, bool stats)
{
    unsigned found = 0;
    DIR *directory = opendir(mount->directory);
    struct stat status;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        found += entry->d_name[0] == 'f';
        if (stats && fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            die("%s", entry->d_name);
    }
    if (directory)
        closedir(directory);
    return found;
}

static void do_small(const struct mount *mount, enum operation operation, unsigned i)
{
    const char *path = path_of(mount, "f", i);
    char old[PATH_SIZE + 32];
    struct stat status;
    int error = 0;
    switch (operation) {
    case CREATE:
        put(path, O_CREAT | O_EXCL, 'a', file_size, 1);
        break;
    case OVERWRITE:
        put(path, O_TRUNC, 'b', file_size, 1);
        break;
    case READ_COLD:
    case READ_HOT:
        get(path, file_size, 1, operation == READ_COLD && mount->system == PLAIN);
        break;
    case STAT_HOT:
    case STAT_COLD:
        error = stat(path, &status);
        break;
    case RENAME:
        strcpy(old, path);
        error = rename(old, path_of(mount, "fr", i));
        break;
    case UNLINK:
        error = unlink(path_of(mount, "fr", i));
        break;
    default:
        break;
    }
    if (error)
        die("%s", path);
}

/* `costs` are of `mount`; NULL: nobody wants to know. */
static void measure(const struct mount *mount, enum operation operation, unsigned count,
                    struct cost *costs)
{
    struct watch watch = watch_begin(mount->daemon);
    for (unsigned i = 0; i < count; i++)
        do_small(mount, operation, i);
    if (costs)
        keep_best(&costs[operation], watch_end(&watch, count));
}

static void measure_list(const struct mount *mount, enum operation operation, unsigned count,
                         struct cost *costs)
{
    struct watch watch = watch_begin(mount->daemon);
    if (list(mount, operation == LIST_STAT) < count)
        die("names are missing in %s", mount->directory);
    keep_best(&costs[operation], watch_end(&watch, count));
}

static void measure_large(const struct mount *mount, enum operation operation, struct cost *costs)
{
    const char *path = path_of(mount, "large", 0);
    struct watch watch = watch_begin(mount->daemon);
    if (operation == WRITE_LARGE)
        put(path, O_CREAT | O_EXCL, 'a', PIECE, large_count);
    else if (operation == REWRITE_LARGE)
        put(path, O_TRUNC, 'b', PIECE, large_count);
    else
        get(path, PIECE, large_count, operation == READ_LARGE_COLD && mount->system == PLAIN);
    keep_best(&costs[operation], watch_end(&watch, large_count));
}

static void run_small(struct mount *mount, struct cost *costs)
{
    measure(mount, CREATE, file_count, costs);
    mount_again(mount);
    measure_list(mount, LIST, file_count, costs);
    mount_again(mount);
    measure_list(mount, LIST_STAT, file_count, costs);
    measure(mount, OVERWRITE, file_count, costs);
    mount_again(mount);
    measure(mount, STAT_COLD, file_count, costs);
    measure(mount, STAT_HOT, file_count, costs);
    measure(mount, READ_COLD, file_count, costs);
    measure(mount, READ_HOT, file_count, costs);
    measure(mount, RENAME, file_count, costs);
    measure(mount, UNLINK, file_count, costs);
}

static void run_large(struct mount *mount, struct cost *costs)
{
    if (large_count == 0)
        return;
    measure_large(mount, WRITE_LARGE, costs);
    measure_large(mount, REWRITE_LARGE, costs);
    mount_again(mount);
    measure_large(mount, READ_LARGE_COLD, costs);
    measure_large(mount, READ_LARGE_HOT, costs);
    unlink(path_of(mount, "large", 0));
}

/* --- Reports -----------------------------------------------------------------------------------
 */

static void print_cost(struct cost cost, bool large)
{
    if (large)
        printf(" %6.0f MB/s (%5.0f) |", 1048576 / cost.wall, cost.cpu);
    else
        printf(" %8.2f (%6.2f) |", cost.wall, cost.cpu);
}

static void report(void)
{
    printf(
        "%u files of %u bytes, microseconds an operation (of which processor time of client and\n"
        "daemon); one of %u MiB, MB/s (processor time in microseconds a MiB); best of %u\n\n",
        file_count, file_size, large_count, rounds);
    printf("| operation | ekvfs | floor | plain | wall, x floor | processor, x floor |\n"
           "| --- | --- | --- | --- | --- | --- |\n");
    for (int operation = 0; operation < OPERATIONS; operation++) {
        bool large = operation >= SMALL_OPERATIONS;
        const struct cost *ours = &best[EKVFS][operation], *floor = &best[FLOOR][operation];
        if (large && large_count == 0)
            continue;
        printf("| %s |", operation_names[operation]);
        for (int system = 0; system < SYSTEMS; system++)
            print_cost(best[system][operation], large);
        printf(" %.2f | %.2f |\n", ours->wall / floor->wall, ours->cpu / floor->cpu);
    }
}

/* The same 100 files beside few and beside many keys. */
static void run_keys(void)
{
    struct cost costs[2][OPERATIONS] = {0};
    file_count = KEYS_FEW;
    for (int many = 0; many < 2; many++) {
        struct mount mount = mount_begin(EKVFS);
        for (unsigned i = 0; i < (many ? KEYS_MANY : KEYS_FEW); i++)
            put(path_of(&mount, "key", i), O_CREAT | O_EXCL, 'k', file_size, 1);
        for (unsigned round = 0; round < 3 * rounds; round++)
            run_small(&mount, costs[many]);
        mount_end(&mount);
    }
    printf(
        "%d files of %u bytes beside %d and %d keys, microseconds an operation (processor time)\n\n"
        "| operation | %d keys | %d keys | wall | processor |\n"
        "| --- | --- | --- | --- | --- |\n",
        KEYS_FEW, file_size, KEYS_FEW, KEYS_MANY, KEYS_FEW, KEYS_MANY);
    for (int operation = 0; operation < SMALL_OPERATIONS; operation++) {
        const struct cost *few = &costs[0][operation], *many = &costs[1][operation];
        if (operation == LIST || operation == LIST_STAT) /* of all names, but told of 100 */
            continue;
        printf("| %s |", operation_names[operation]);
        print_cost(*few, false);
        print_cost(*many, false);
        printf(" %.2f | %.2f |\n", many->wall / few->wall, many->cpu / few->cpu);
    }
}

static unsigned number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end || value == 0 || value > 1000000)
        die("\"%s\" is no number that can be used", text);
    return (unsigned)value;
}

static bool parse(int argc, char **argv)
{
    static const struct option options[] = {
        {"files", required_argument, NULL, 'f'}, {"size", required_argument, NULL, 's'},
        {"large", required_argument, NULL, 'l'}, {"rounds", required_argument, NULL, 'r'},
        {"keys", no_argument, NULL, 'k'},        {0}};
    bool keys = false;
    for (int letter; (letter = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (letter == 'f')
            file_count = number(optarg);
        else if (letter == 's')
            file_size = number(optarg);
        else if (letter == 'l')
            large_count = strcmp(optarg, "0") == 0 ? 0 : number(optarg);
        else if (letter == 'r')
            rounds = number(optarg);
        else if (letter == 'k')
            keys = true;
        else
            die("usage: bench_mount [--files N] [--size BYTES] [--large MIB] [--rounds N] "
                "[--keys]");
    }
    if (file_size > PIECE || file_size < sizeof(unsigned))
        die("files of 4 bytes to 1 MiB");
    return keys;
}

static void pin(void)
{
    cpu_set_t set;
    int cpu = 0;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return;
    while (!CPU_ISSET(cpu, &set))
        cpu++;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        die("one processor");
}

int main(int argc, char **argv)
{
    bool keys = parse(argc, argv);
    const char *temporary = getenv("TMPDIR");
    piece = malloc(PIECE);
    snprintf(work, sizeof work, "%.40s/bench_XXXXXX", temporary ? temporary : "/tmp");
    ssize_t size = readlink("/proc/self/exe", programs, sizeof programs - 1);
    if (!piece || size < 0 || !mkdtemp(work))
        die("a temporary directory");
    programs[size] = 0;
    for (int i = 0; i < 2; i++) /* build/tests/bench_mount: the build directory */
        *strrchr(programs, '/') = 0;
    pin();
    for (unsigned round = 0; round < rounds && !keys; round++)
        for (int system = 0; system < SYSTEMS; system++) {
            struct mount mount = mount_begin(system);
            run_small(&mount, best[system]);
            run_large(&mount, best[system]);
            mount_end(&mount);
        }
    if (keys)
        run_keys();
    else
        report();
    rmdir(work);
    free(piece);
    return EXIT_SUCCESS;
}
