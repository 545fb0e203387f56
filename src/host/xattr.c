/* User extended attributes, packed: for each one
 *
 *     byte 0        size of the name, 1 to XATTRS_NAME_MAX
 *     bytes 1, 2    size of the value, the lower byte first
 *     name, value
 *
 * in ascending order of the names, none twice. What is decoded is checked to be just that, so the
 * other functions rely on it.
 */
#include "xattr.h"

#include <string.h>

enum { HEADER_SIZE = 3 };

static size_t packed_size(const struct xattr *xattr)
{
    return HEADER_SIZE + xattr->name_size + xattr->value_size;
}

/* Where one lies in its set, and where the next begins. */
static size_t begin_of(const struct xattrs *xattrs, const struct xattr *xattr)
{
    return (size_t)((const uint8_t *)xattr->name - xattrs->bytes) - HEADER_SIZE;
}

static size_t end_of(const struct xattrs *xattrs, const struct xattr *xattr)
{
    return xattr->name ? begin_of(xattrs, xattr) + packed_size(xattr) : 0;
}

static int compare(const struct xattr *xattr, const char *name, size_t name_size)
{
    size_t size = xattr->name_size < name_size ? xattr->name_size : name_size;
    int order = memcmp(xattr->name, name, size);
    return order ? order : (xattr->name_size > name_size) - (xattr->name_size < name_size);
}

bool xattrs_next(const struct xattrs *xattrs, struct xattr *xattr)
{
    size_t at = end_of(xattrs, xattr);
    if (xattrs->size - at < HEADER_SIZE)
        return false;
    const uint8_t *header = xattrs->bytes + at;
    struct xattr next = {.name = (const char *)header + HEADER_SIZE,
                         .name_size = header[0],
                         .value = header + HEADER_SIZE + header[0],
                         .value_size = header[1] | (size_t)header[2] << 8};
    if (packed_size(&next) > xattrs->size - at)
        return false;
    *xattr = next;
    return true;
}

bool xattrs_decode(const uint8_t *bytes, size_t size, struct xattrs *xattrs)
{
    struct xattr last = {0}, xattr = {0};
    xattrs->size = 0;
    if (size > XATTRS_MAX)
        return false;
    memcpy(xattrs->bytes, bytes, size);
    xattrs->size = (uint16_t)size;
    while (xattrs_next(xattrs, &xattr)) {
        if (xattr.name_size == 0 || xattr.name_size > XATTRS_NAME_MAX ||
            (last.name && compare(&last, xattr.name, xattr.name_size) >= 0))
            break;
        last = xattr;
    }
    bool good = end_of(xattrs, &last) == size;
    if (!good)
        xattrs->size = 0;
    return good;
}

void xattr_full_name(const struct xattr *xattr, char name[XATTRS_FULL_MAX + 1])
{
    size_t prefix = sizeof XATTRS_PREFIX - 1;
    memcpy(name, XATTRS_PREFIX, prefix);
    memcpy(name + prefix, xattr->name, xattr->name_size);
    name[prefix + xattr->name_size] = 0;
}

bool xattrs_find(const struct xattrs *xattrs, const char *name, size_t name_size,
                 struct xattr *xattr)
{
    *xattr = (struct xattr){0};
    while (xattrs_next(xattrs, xattr))
        if (compare(xattr, name, name_size) == 0)
            return true;
    return false;
}

bool xattrs_remove(struct xattrs *xattrs, const char *name, size_t name_size)
{
    struct xattr xattr;
    if (!xattrs_find(xattrs, name, name_size, &xattr))
        return false;
    size_t begin = begin_of(xattrs, &xattr), size = packed_size(&xattr);
    memmove(xattrs->bytes + begin, xattrs->bytes + begin + size, xattrs->size - begin - size);
    xattrs->size = (uint16_t)(xattrs->size - size);
    return true;
}

bool xattrs_set(struct xattrs *xattrs, const char *name, size_t name_size, const void *value,
                size_t value_size)
{
    struct xattr old, after = {0};
    size_t freed = xattrs_find(xattrs, name, name_size, &old) ? packed_size(&old) : 0;
    size_t size = HEADER_SIZE + name_size + value_size, begin = 0;
    if (name_size == 0 || name_size > XATTRS_NAME_MAX || value_size > XATTRS_MAX ||
        size > XATTRS_MAX - (xattrs->size - freed))
        return false;
    (void)xattrs_remove(xattrs, name, name_size);
    while (xattrs_next(xattrs, &after) && compare(&after, name, name_size) < 0)
        begin = end_of(xattrs, &after);
    uint8_t *out = xattrs->bytes + begin;
    memmove(out + size, out, xattrs->size - begin);
    out[0] = (uint8_t)name_size;
    out[1] = (uint8_t)value_size;
    out[2] = (uint8_t)(value_size >> 8);
    memcpy(out + HEADER_SIZE, name, name_size);
    if (value_size)
        memcpy(out + HEADER_SIZE + name_size, value, value_size);
    xattrs->size = (uint16_t)(xattrs->size + size);
    return true;
}
