/* A mount: everything is opened and checked, then it is mounted, then the process becomes a daemon,
 * and only then threads are started (a fork would end them). So when the command returns the mount
 * is ready, and whatever was wrong was said on the terminal.
 *
 * However the mount ends, what is not committed is committed, and the store is closed cleanly.
 */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "guard.h"
#include "handle.h"
#include "loop.h"
#include "medium.h"
#include "report.h"
#include "stage.h"

static bool complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

static bool complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("ekvfs: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return false;
}

/* --- Before anything is opened -----------------------------------------------------------------
 */

static bool check_mountpoint(const char *mountpoint)
{
    struct stat found;
    if (lstat(mountpoint, &found) != 0 && errno == ENOTCONN)
        return complain("%s is still mounted, but its daemon is gone: fusermount3 -u %s first",
                        mountpoint, mountpoint);
    if (lstat(mountpoint, &found) != 0 && errno == ENOENT)
        return complain("the mountpoint %s does not exist: mkdir %s first", mountpoint, mountpoint);
    if (stat(mountpoint, &found) != 0)
        return complain("the mountpoint %s cannot be used: %s", mountpoint, strerror(errno));
    if (!S_ISDIR(found.st_mode))
        return complain("the mountpoint %s is not a directory", mountpoint);
    return true;
}

static bool check_device(void)
{
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device >= 0) {
        close(device);
        return true;
    }
    if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
        return complain("there is no /dev/fuse: run `modprobe fuse` as root; in a container it "
                        "needs --device /dev/fuse --cap-add SYS_ADMIN");
    return complain("/dev/fuse cannot be opened: %s; ask an administrator for access to it",
                    strerror(errno));
}

/* --- The session -------------------------------------------------------------------------------
 */

static void op_init(void *context, struct fuse_conn_info *connection)
{
    (void)context;
    connection->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS_AUTO |
                                    FUSE_CAP_WRITEBACK_CACHE);
    connection->want |=
        connection->capable &
        (unsigned)(FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_READDIRPLUS | FUSE_CAP_CACHE_SYMLINKS |
                   FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS);
    connection->time_gran = 1;
}

static const struct fuse_lowlevel_ops operations = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .symlink = op_symlink,
    .link = op_link,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .statfs = op_statfs,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .setxattr = op_setxattr,
    .removexattr = op_removexattr,
    .create = op_create,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .release = op_release,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .fsyncdir = op_fsyncdir,
};

/* What libfuse says while mounting becomes our one line. */
static char said[256];

static void listen_to_libfuse(enum fuse_log_level level, const char *format, va_list arguments)
{
    (void)level;
    vsnprintf(said, sizeof said, format, arguments);
    said[strcspn(said, "\n")] = 0;
}

static void print_debug(enum fuse_log_level level, const char *format, va_list arguments)
{
    (void)level;
    vfprintf(stderr, format, arguments);
}

/* A value in an option list: commas and backslashes are escaped. */
static void escape(const char *value, char *escaped, size_t capacity)
{
    size_t used = 0;
    for (; *value && used + 3 < capacity; value++) {
        if (*value == ',' || *value == '\\')
            escaped[used++] = '\\';
        escaped[used++] = *value;
    }
    escaped[used] = 0;
}

static struct fuse_session *session_new(struct fs *fs, const struct options *options,
                                        const char *image)
{
    char name[2 * PATH_NAME_MAX + 512], list[4096];
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    escape(image, name, sizeof name);
    bool named = strstr(options->pass, "fsname=");
    snprintf(
        list, sizeof list, "-odefault_permissions%s%s%s%s%s%s", fs->store.read_only ? ",ro" : "",
        strstr(options->pass, "subtype=") ? "" : ",subtype=ekvfs",
        named ? "" : ",fsname=", named ? "" : name, options->pass[0] ? "," : "", options->pass);
    struct fuse_session *session = NULL;
    if (fuse_opt_add_arg(&args, "ekvfs") == 0 && fuse_opt_add_arg(&args, list) == 0 &&
        (!options->debug || fuse_opt_add_arg(&args, "-d") == 0))
        session = fuse_session_new(&args, &operations, sizeof operations, fs);
    fuse_opt_free_args(&args);
    return session;
}

/* READY=1 for systemd, if it waits for that. */
static void notify_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = path ? strlen(path) : 0;
    if (length < 2 || length >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&address, size) < 0)
        report_failure(errno, "systemd could not be told that the mount is ready: %s",
                       strerror(errno));
    close(fd);
}

static int serve_guarded(struct fuse_session *session, struct fs *fs, const struct options *options)
{
    if (!options->foreground)
        report_to_syslog();
    umask(0);
    if (fuse_set_signal_handlers(session) != 0 || store_start(&fs->store) != 0 ||
        notify_start(&fs->notify, session) != 0) {
        report_failure(EIO, "signals or threads are not available: the mount ends");
        return EXIT_FAILURE;
    }
    if (options->foreground)
        notify_ready();
    int error = loop_run(session);
    fuse_remove_signal_handlers(session);
    notify_stop(&fs->notify);
    return error ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int serve(struct fuse_session *session, struct fs *fs, const struct options *options,
                 const char *mountpoint)
{
    if (fuse_daemonize(options->foreground) != 0) {
        complain("the daemon could not be started: %s", strerror(errno));
        return EXIT_FAILURE;
    }
    pid_t guard = guard_start(mountpoint);
    int result = serve_guarded(session, fs, options);
    guard_stop(guard);
    return result;
}

static bool fs_init(struct fs *fs, const struct options *options)
{
    fs->live = (struct view){.store = &fs->store, .held = true};
    past_init(&fs->past);
    fs->xattrs = options->xattrs;
    fs->uid = options->uid;
    fs->gid = options->gid;
    fs->file_mode = 0666 & ~options->umask;
    fs->directory_mode = 0777 & ~options->umask;
    fs->mount_time = store_now();
    space_init(&fs->space, &fs->store);
    notify_init(&fs->notify);
    return node_table_init(&fs->nodes, &fs->live);
}

static int run(struct fs *fs, const struct options *options, const char *image,
               const char *mountpoint)
{
    fuse_set_log_func(options->debug ? print_debug : listen_to_libfuse);
    struct fuse_session *session = session_new(fs, options, image);
    if (!session || fuse_session_mount(session, mountpoint) != 0) {
        complain("%s could not be mounted%s%s", options->mountpoint, said[0] ? ": " : "", said);
        if (session)
            fuse_session_destroy(session);
        return EXIT_FAILURE;
    }
    int result = serve(session, fs, options, mountpoint);
    fuse_session_unmount(session);
    fuse_session_destroy(session);
    if (!fs->store.read_only && file_commit_all(fs) != 0)
        result = EXIT_FAILURE;
    opened_close_all(fs);
    stage_end_all(fs);
    return result;
}

int mount_serve(const struct options *options)
{
    static struct fs fs;
    static struct image image;
    if (!check_mountpoint(options->mountpoint) || !check_device())
        return EXIT_FAILURE;
    if (!medium_open(&image, &fs.store, options))
        return EXIT_FAILURE;
    int result = EXIT_FAILURE;
    /* Which are named once more when the daemon has left this directory. */
    char *path = realpath(options->image, NULL);
    char *mountpoint = realpath(options->mountpoint, NULL);
    if (!fs_init(&fs, options))
        complain("there is no memory");
    else
        result = run(&fs, options, path ? path : options->image,
                     mountpoint ? mountpoint : options->mountpoint);
    free(path);
    free(mountpoint);
    node_table_free(&fs.nodes);
    past_end(&fs.past);
    return medium_close(&image, &fs.store) ? result : EXIT_FAILURE;
}
