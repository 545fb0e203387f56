/* What a new image is filled with: a directory tree or a tar archive, held in memory, in order. */
#ifndef EKV_TOOL_POPULATE_H
#define EKV_TOOL_POPULATE_H

#include "files.h"

struct content {
    struct file_entry *entries; /* by path; each once */
    size_t count;
    uint64_t hash;   /* of all that is stored */
    int64_t time;    /* seconds: of all commits */
    uint64_t size;   /* bytes of all keys, values and records */
    uint64_t stored; /* keys, and records beside them */
};

/* Reads DIR, or a TAR ("-": from standard input). Times after SOURCE_DATE_EPOCH become it; without
 * it the newest time is that of the commits. Says what is wrong. */
bool content_read(struct tool *tool, struct content *content, const char *path,
                  struct files_options *options);
void content_free(struct content *content);

/* Builds the image, ekv_flash_size(geometry) bytes. EKV_FULL, without a message, when it does not
 * fit, with about how many bytes are lacking; says what else is wrong. */
EKV_MUST_CHECK int content_build(struct tool *tool, const struct content *content,
                                 const struct ekv_geometry *geometry,
                                 const struct ekv_format_options *format, uint8_t *image,
                                 uint64_t *lacking);

#endif
