/* User extended attributes of one file or directory: names with values, packed as they lie in the
 * record of attributes (attr.h).
 *
 * A name is what follows "user."; all names are of that namespace. They are in the order of their
 * bytes, so the same set has the same bytes.
 */
#ifndef EKV_HOST_XATTR_H
#define EKV_HOST_XATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    XATTRS_MAX = 4096,     /* bytes packed, three for each beside name and value */
    XATTRS_NAME_MAX = 250, /* Linux's 255 without "user." */
    XATTRS_FULL_MAX = 255,
};

#define XATTRS_PREFIX "user."

struct xattrs {
    uint16_t size;
    uint8_t bytes[XATTRS_MAX];
};

/* One of a set, into which the pointers lead: valid until the set changes. */
struct xattr {
    const char *name; /* not terminated */
    size_t name_size;
    const uint8_t *value;
    size_t value_size;
};

/* Copies a packed set. False: it is none. */
bool xattrs_decode(const uint8_t *bytes, size_t size, struct xattrs *xattrs);

/* The one after `xattr`, the first after one that is all zero. False: there is none. */
bool xattrs_next(const struct xattrs *xattrs, struct xattr *xattr);

/* Its name with the namespace, terminated. */
void xattr_full_name(const struct xattr *xattr, char name[XATTRS_FULL_MAX + 1]);

/* False: there is none of that name. */
bool xattrs_find(const struct xattrs *xattrs, const char *name, size_t name_size,
                 struct xattr *xattr);

/* Sets one, in place of another of that name. False, and nothing changed: the name is empty or too
 * long, or there is no room. */
bool xattrs_set(struct xattrs *xattrs, const char *name, size_t name_size, const void *value,
                size_t value_size);

/* False: there is none of that name. */
bool xattrs_remove(struct xattrs *xattrs, const char *name, size_t name_size);

#endif
