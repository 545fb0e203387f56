/* A build without libarchive: neither archives nor directory trees are read or written. */
#define _GNU_SOURCE
#include "files.h"

static bool refuse(struct tool *tool)
{
    message(tool, "this ekv was built without libarchive: it handles neither archives nor trees");
    return false;
}

bool files_open_tar(struct tool *tool, struct files *files, struct input *input,
                    const struct files_options *options, uint64_t size_max)
{
    (void)files, (void)input, (void)options, (void)size_max;
    return refuse(tool);
}

bool files_open_tree(struct tool *tool, struct files *files, const char *path,
                     const struct files_options *options, uint64_t size_max)
{
    (void)files, (void)path, (void)options, (void)size_max;
    return refuse(tool);
}

void files_close(struct files *files)
{
    (void)files;
}

int files_next(struct files *files, struct file_entry *entry)
{
    (void)files, (void)entry;
    return -1;
}

int files_write_tar(struct tool *tool, struct ekv *db, const char *prefix)
{
    (void)db, (void)prefix;
    (void)refuse(tool);
    return EKV_INVALID;
}
