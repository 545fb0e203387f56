/* Attributes: what is kept beside a value or a directory, and only when it was set explicitly.
 *
 * They lie in the key space EKV_ASIDE. A record there serves two nodes that share its key: the file
 * whose key it is, and the directory whose prefix it is. It is deleted when it says nothing.
 */
#ifndef EKV_HOST_ATTR_H
#define EKV_HOST_ATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "xattr.h"

/* Which attributes were set; the others have their defaults. */
enum attr_set {
    ATTR_MODE = 1,
    ATTR_UID = 2,
    ATTR_GID = 4,
    ATTR_MTIME = 8,    /* counts until the value is written again */
    ATTR_SYMLINK = 16, /* the value is the target */
};

struct attr {
    uint8_t set;
    uint16_t mode; /* the permission bits, with set-id and sticky: 07777 */
    uint32_t uid;
    uint32_t gid;
    int64_t mtime_seconds;
    uint32_t mtime_nanoseconds;
};

/* A whole record. `directory` says that the directory exists even when it is empty. */
struct attr_record {
    bool has_file;
    bool has_directory;
    struct attr file;
    struct attr directory;
    struct xattrs file_xattrs; /* empty unless `has_file`; likewise below */
    struct xattrs directory_xattrs;
};

enum {
    ATTR_PLAIN_MAX = 64, /* bytes of a record without extended attributes */
    ATTR_RECORD_MAX = ATTR_PLAIN_MAX + 2 * XATTRS_MAX,
};

/* Makes a record say nothing. (Most of its bytes are of no meaning then: do not copy or clear it as
 * a whole where it matters how long that takes.) */
void attr_clear(struct attr_record *record);

/* Returns the size, or 0 if the record says nothing and must be deleted. */
size_t attr_encode(const struct attr_record *record, uint8_t bytes[ATTR_RECORD_MAX]);

/* False if the bytes are no record of a version that this code knows; it says nothing then. */
bool attr_decode(const uint8_t *bytes, size_t size, struct attr_record *record);

void attr_set_mtime(struct attr *attr, struct timespec time);

#endif
