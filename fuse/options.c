/* The command line of ekvfs.
 *
 * Words after -o are of three kinds: ours, the kernel's (passed on), and those that mean something
 * to mount(8) or fstab alone, which are dropped. Anything else is refused, so that a misspelled
 * option is not silently without effect.
 */
#define _GNU_SOURCE
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ekv.h"
#include "host/quantity.h"

static const char help[] =
    "usage: ekvfs [OPTION]... IMAGE MOUNTPOINT\n"
    "Mounts the key-value store in IMAGE, a file or an MTD device: one key, one file.\n"
    "\n"
    "  --create=SIZE      if IMAGE does not exist, create it with an empty store (4M, 0x400000)\n"
    "  -f                 stay in the foreground\n"
    "  -d                 print every request (implies -f)\n"
    "  -h, --help         this text\n"
    "  -V, --version      print the version\n"
    "  -o OPTION[,...]    mount options:\n"
    "     ro              read only\n"
    "     sync            every commit is on the disk when it returns\n"
    "     allow_other     other users may use the mount too\n"
    "     uid=N, gid=N    owner of what has none stored (default: who mounts)\n"
    "     umask=OCTAL     permissions that what has none stored does not have (default 022)\n"
    "     offset=N        the store begins there in IMAGE; size=N: and is that large\n"
    "     memory=SIZE     memory for the newest keys (default 64K)\n"
    "     retain=N|SPAN   keep N versions of each key, or what was there since (7d, 12h)\n"
    "     xattr           keep user extended attributes (costs a request at every write)\n"
    "     and those of mount(8): noatime, nodev, noexec, nosuid, x-..., ...\n"
    "\n"
    "A value is committed as a whole when the writer closes the file. Unmount with\n"
    "`fusermount3 -u MOUNTPOINT` or `umount MOUNTPOINT`. Figures are in MOUNTPOINT/.ekv/stat, the\n"
    "last refusal in words in MOUNTPOINT/.ekv/last_error. See ekvfs(1).\n";

static enum options_result wrong(const char *format, const char *word)
{
    fputs("ekvfs: ", stderr);
    fprintf(stderr, format, word);
    fputc('\n', stderr);
    return OPTIONS_WRONG;
}

/* A size such as 4M, 64K, 1G or 0x1000. */
static bool parse_number(const char *text, int base, uint64_t max, uint64_t *number)
{
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9')
        return false;
    *number = strtoull(text, &end, base);
    return errno == 0 && *end == 0 && *number <= max;
}

static bool is_one_of(const char *word, const char *const *words)
{
    for (; *words; words++) {
        size_t length = strlen(*words);
        bool prefix = (*words)[length - 1] == '=' || (*words)[length - 1] == '-';
        if (prefix ? strncmp(word, *words, length) == 0 : strcmp(word, *words) == 0)
            return true;
    }
    return false;
}

static bool is_for_the_kernel(const char *word)
{
    static const char *const words[] = {"nosuid",     "suid",        "nodev",      "dev",
                                        "noexec",     "exec",        "noatime",    "atime",
                                        "nodiratime", "allow_other", "allow_root", "dirsync",
                                        "fsname=",    "subtype=",    "max_read=",  NULL};
    return is_one_of(word, words);
}

static bool is_for_others(const char *word)
{
    static const char *const words[] = {"rw",
                                        "async",
                                        "defaults",
                                        "auto",
                                        "noauto",
                                        "user",
                                        "nouser",
                                        "users",
                                        "owner",
                                        "group",
                                        "nofail",
                                        "_netdev",
                                        "relatime",
                                        "norelatime",
                                        "strictatime",
                                        "nostrictatime",
                                        "lazytime",
                                        "nolazytime",
                                        "diratime",
                                        "iversion",
                                        "noiversion",
                                        "mand",
                                        "nomand",
                                        "silent",
                                        "loud",
                                        "symfollow",
                                        "default_permissions",
                                        "comment=",
                                        "x-",
                                        "X-",
                                        "user=",
                                        NULL};
    return is_one_of(word, words);
}

static enum options_result pass_on(struct options *options, const char *word)
{
    size_t used = strlen(options->pass);
    if (used + strlen(word) + 2 > sizeof options->pass)
        return wrong("too many mount options, at \"%s\"", word);
    if (used)
        strcat(options->pass, ",");
    strcat(options->pass, word);
    return OPTIONS_MOUNT;
}

/* An option of ours with a value. */
static enum options_result take_value(struct options *options, const char *word, const char *value)
{
    size_t length = (size_t)(value - word);
    uint64_t number = 0;
    if (strncmp(word, "uid=", length) == 0 && parse_number(value, 10, UINT32_MAX - 1, &number))
        options->uid = (uid_t)number;
    else if (strncmp(word, "gid=", length) == 0 && parse_number(value, 10, UINT32_MAX - 1, &number))
        options->gid = (gid_t)number;
    else if (strncmp(word, "umask=", length) == 0 && parse_number(value, 8, 0777, &number))
        options->umask = (mode_t)number;
    else if (strncmp(word, "retain=", length) == 0 &&
             quantity_retention(value, &options->retain_count, &options->retain_seconds))
        return OPTIONS_MOUNT;
    else if (strncmp(word, "offset=", length) == 0 && quantity_size(value, &number))
        options->offset = number;
    else if (strncmp(word, "size=", length) == 0 && quantity_size(value, &number))
        options->size = number;
    else if (strncmp(word, "memory=", length) == 0 && quantity_size(value, &number))
        options->memory_size = number;
    else
        return wrong("the value in \"-o %s\" cannot be used; see ekvfs --help", word);
    return OPTIONS_MOUNT;
}

static enum options_result take_word(struct options *options, const char *word)
{
    static const char *const ours[] = {
        "uid=", "gid=", "umask=", "retain=", "offset=", "size=", "memory=", NULL};
    if (*word == 0)
        return OPTIONS_MOUNT;
    if (strcmp(word, "ro") == 0) {
        options->read_only = true;
        return pass_on(options, word);
    }
    if (strcmp(word, "rw") == 0)
        options->read_only = false;
    if (strcmp(word, "sync") == 0) {
        options->sync = true; /* not the kernel's business, which would fsync every write */
        return OPTIONS_MOUNT;
    }
    if (strcmp(word, "xattr") == 0 || strcmp(word, "user_xattr") == 0 ||
        strcmp(word, "noxattr") == 0 || strcmp(word, "nouser_xattr") == 0) {
        options->xattrs = *word != 'n';
        return OPTIONS_MOUNT;
    }
    if (is_one_of(word, ours))
        return take_value(options, word, strchr(word, '=') + 1);
    if (is_for_the_kernel(word))
        return pass_on(options, word);
    if (is_for_others(word))
        return OPTIONS_MOUNT;
    return wrong("the mount option \"%s\" is not known; see ekvfs --help", word);
}

static enum options_result take_words(struct options *options, char *words)
{
    enum options_result result = OPTIONS_MOUNT;
    for (char *word; result == OPTIONS_MOUNT && (word = strsep(&words, ","));)
        result = take_word(options, word);
    return result;
}

static enum options_result take_positions(struct options *options, int count, char **words)
{
    if (count == 0)
        return wrong("which image, and where?%s; see ekvfs --help",
                     " usage: ekvfs [OPTION]... IMAGE MOUNTPOINT");
    if (count == 1)
        return wrong("where is \"%s\" to be mounted? usage: ekvfs [OPTION]... IMAGE MOUNTPOINT",
                     words[0]);
    if (count > 2)
        return wrong("\"%s\" is one word too many: ekvfs [OPTION]... IMAGE MOUNTPOINT", words[2]);
    options->image = words[0];
    options->mountpoint = words[1];
    return OPTIONS_MOUNT;
}

enum options_result options_parse(struct options *options, int count, char **words)
{
    enum { CREATE = 1000 };
    static const struct option long_options[] = {{"create", required_argument, NULL, CREATE},
                                                 {"foreground", no_argument, NULL, 'f'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {"version", no_argument, NULL, 'V'},
                                                 {0}};
    *options = (struct options){.uid = getuid(), .gid = getgid(), .umask = 022};
    opterr = 0;
    enum options_result result = OPTIONS_MOUNT;
    for (int letter; result == OPTIONS_MOUNT &&
                     (letter = getopt_long(count, words, ":o:fdhV", long_options, NULL)) != -1;) {
        switch (letter) {
        case 'o':
            result = take_words(options, optarg);
            break;
        case 'd':
            options->debug = true;
            options->foreground = true;
            break;
        case 'f':
            options->foreground = true;
            break;
        case 'h':
            fputs(help, stdout);
            return OPTIONS_DONE;
        case 'V':
            puts("ekvfs " EKV_VERSION_STRING);
            return OPTIONS_DONE;
        case CREATE:
            if (!quantity_size(optarg, &options->create_size) || options->create_size == 0)
                return wrong("\"--create=%s\" is no size; write 4M, for example", optarg);
            break;
        case ':':
            return wrong("the option %s needs a value; see ekvfs --help", words[optind - 1]);
        default:
            return wrong("the option %s is not known; see ekvfs --help", words[optind - 1]);
        }
    }
    if (result != OPTIONS_MOUNT)
        return result;
    return take_positions(options, count - optind, words + optind);
}
