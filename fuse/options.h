/* The command line of ekvfs, and what mount(8) makes of an fstab line. */
#ifndef EKVFS_OPTIONS_H
#define EKVFS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum options_result {
    OPTIONS_MOUNT,
    OPTIONS_DONE,  /* --help or --version was asked for and printed */
    OPTIONS_WRONG, /* one line on stderr says what */
};

struct options {
    const char *image;
    const char *mountpoint;
    bool foreground;
    bool debug;
    bool read_only;
    bool sync;
    bool xattrs;
    uint64_t create_size; /* 0: do not create */
    uint64_t offset, size;
    uint64_t memory_size;  /* 0: the default */
    uint32_t retain_count; /* these two as in struct ekv_mount_options */
    uint32_t retain_seconds;
    uid_t uid;
    gid_t gid;
    mode_t umask;
    char pass[1024]; /* options for the kernel and libfuse, separated by commas */
};

enum options_result options_parse(struct options *options, int count, char **words);

#endif
