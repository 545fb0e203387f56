/* Attributes: a compact encoding.
 *
 *     byte 0        version, 1, or 2 with extended attributes
 *     byte 1        bit 0: a file section follows, bit 1: a directory section follows it;
 *                   bits 2, 3: extended attributes of the file, of the directory follow these
 *     section       a byte of enum attr_set, then what it names in this order: mode, uid, gid and
 *                   seconds (zigzag) as varints, nanoseconds as a varint
 *     extended      their size as a varint, then as many bytes: see xattr.c
 *
 * Everything is range-checked on the way in. Bytes that follow the last section are an error, so a
 * later version can add sections under a new number.
 */
#include "attr.h"

#include <string.h>

enum { VERSION_PLAIN = 1, VERSION_XATTRS = 2 };
enum {
    HAS_FILE = 1,
    HAS_DIRECTORY = 2,
    HAS_FILE_XATTRS = 4,
    HAS_DIRECTORY_XATTRS = 8,
    HAS_XATTRS = HAS_FILE_XATTRS | HAS_DIRECTORY_XATTRS,
};
enum { ATTR_ALL = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_MTIME | ATTR_SYMLINK };

static uint8_t *put_varint(uint8_t *out, uint64_t value)
{
    while (value >= 0x80) {
        *out++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *out++ = (uint8_t)value;
    return out;
}

/* Returns NULL if there is no varint up to `max` before `end`. */
static const uint8_t *get_varint(const uint8_t *in, const uint8_t *end, uint64_t max,
                                 uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; in && in < end && shift < 64; shift += 7) {
        uint64_t bits = *in & 0x7f;
        if (bits << shift >> shift != bits)
            return NULL;
        *value |= bits << shift;
        if (!(*in++ & 0x80))
            return *value <= max ? in : NULL;
    }
    return NULL;
}

static uint8_t *put_section(uint8_t *out, const struct attr *attr)
{
    *out++ = attr->set;
    if (attr->set & ATTR_MODE)
        out = put_varint(out, attr->mode);
    if (attr->set & ATTR_UID)
        out = put_varint(out, attr->uid);
    if (attr->set & ATTR_GID)
        out = put_varint(out, attr->gid);
    if (attr->set & ATTR_MTIME) {
        uint64_t seconds = (uint64_t)attr->mtime_seconds;
        out = put_varint(out, seconds << 1 ^ (attr->mtime_seconds < 0 ? ~(uint64_t)0 : 0));
        out = put_varint(out, attr->mtime_nanoseconds);
    }
    return out;
}

static const uint8_t *get_section(const uint8_t *in, const uint8_t *end, struct attr *attr)
{
    uint64_t value = 0;
    memset(attr, 0, sizeof *attr);
    if (!in || in >= end || (*in & ~ATTR_ALL))
        return NULL;
    attr->set = *in++;
    if (attr->set & ATTR_MODE) {
        in = get_varint(in, end, 07777, &value);
        attr->mode = (uint16_t)value;
    }
    if (attr->set & ATTR_UID) {
        in = get_varint(in, end, UINT32_MAX, &value);
        attr->uid = (uint32_t)value;
    }
    if (attr->set & ATTR_GID) {
        in = get_varint(in, end, UINT32_MAX, &value);
        attr->gid = (uint32_t)value;
    }
    if (attr->set & ATTR_MTIME) {
        in = get_varint(in, end, UINT64_MAX, &value);
        attr->mtime_seconds = (int64_t)(value >> 1 ^ (value & 1 ? ~(uint64_t)0 : 0));
        in = get_varint(in, end, 999999999, &value);
        attr->mtime_nanoseconds = (uint32_t)value;
    }
    return in;
}

static uint8_t *put_xattrs(uint8_t *out, const struct xattrs *xattrs)
{
    out = put_varint(out, xattrs->size);
    memcpy(out, xattrs->bytes, xattrs->size);
    return out + xattrs->size;
}

static const uint8_t *get_xattrs(const uint8_t *in, const uint8_t *end, struct xattrs *xattrs)
{
    uint64_t size = 0;
    in = get_varint(in, end, XATTRS_MAX, &size);
    if (!in || size == 0 || size > (uint64_t)(end - in) || !xattrs_decode(in, (size_t)size, xattrs))
        return NULL;
    return in + size;
}

void attr_clear(struct attr_record *record)
{
    record->has_file = record->has_directory = false;
    memset(&record->file, 0, sizeof record->file);
    memset(&record->directory, 0, sizeof record->directory);
    record->file_xattrs.size = record->directory_xattrs.size = 0;
}

size_t attr_encode(const struct attr_record *record, uint8_t bytes[ATTR_RECORD_MAX])
{
    bool file_xattrs = record->has_file && record->file_xattrs.size > 0;
    bool directory_xattrs = record->has_directory && record->directory_xattrs.size > 0;
    bool file = file_xattrs || (record->has_file && record->file.set);
    if (!file && !record->has_directory)
        return 0;
    uint8_t *out = bytes;
    *out++ = file_xattrs || directory_xattrs ? VERSION_XATTRS : VERSION_PLAIN;
    *out++ = (uint8_t)((file ? HAS_FILE : 0) | (record->has_directory ? HAS_DIRECTORY : 0) |
                       (file_xattrs ? HAS_FILE_XATTRS : 0) |
                       (directory_xattrs ? HAS_DIRECTORY_XATTRS : 0));
    if (file)
        out = put_section(out, &record->file);
    if (record->has_directory)
        out = put_section(out, &record->directory);
    if (file_xattrs)
        out = put_xattrs(out, &record->file_xattrs);
    if (directory_xattrs)
        out = put_xattrs(out, &record->directory_xattrs);
    return (size_t)(out - bytes);
}

/* Whether the first two bytes go together. */
static bool check_head(uint8_t version, uint8_t has)
{
    if (version == VERSION_PLAIN)
        return has <= (HAS_FILE | HAS_DIRECTORY);
    return version == VERSION_XATTRS && has & HAS_XATTRS && has < 16 &&
           (!(has & HAS_FILE_XATTRS) || has & HAS_FILE) &&
           (!(has & HAS_DIRECTORY_XATTRS) || has & HAS_DIRECTORY);
}

bool attr_decode(const uint8_t *bytes, size_t size, struct attr_record *record)
{
    attr_clear(record);
    if (size < 2 || !check_head(bytes[0], bytes[1]))
        return false;
    const uint8_t *end = bytes + size, *in = bytes + 2;
    record->has_file = bytes[1] & HAS_FILE;
    record->has_directory = bytes[1] & HAS_DIRECTORY;
    if (record->has_file)
        in = get_section(in, end, &record->file);
    if (in && record->has_directory)
        in = get_section(in, end, &record->directory);
    if (in && bytes[1] & HAS_FILE_XATTRS)
        in = get_xattrs(in, end, &record->file_xattrs);
    if (in && bytes[1] & HAS_DIRECTORY_XATTRS)
        in = get_xattrs(in, end, &record->directory_xattrs);
    if (in != end)
        attr_clear(record);
    return in == end;
}

void attr_set_mtime(struct attr *attr, struct timespec time)
{
    attr->set |= ATTR_MTIME;
    attr->mtime_seconds = time.tv_sec;
    attr->mtime_nanoseconds = (uint32_t)time.tv_nsec;
}
