/* The mapping between keys and paths.
 *
 * It is a bijection between all byte strings and the paths that path_to_key accepts (once it is
 * settled which keys are directories too), and it is decided name by name, as the kernel asks:
 *
 * - an escape is used exactly where it is needed, so no two names mean the same bytes;
 * - a component is cut greedily: a part takes as many whole escapes and bytes as fit into 253, and
 *   there is a part only if what is left would be longer than 255. So a part is 251 to 253 bytes
 *   long, what follows begins with something that did not fit, and both together exceed 255;
 * - `%`, `%+` and `%value` cannot come from escapes, which are %25, %00 and %2E.
 */
#include "path.h"

#include <string.h>

#define CONTROL_NAME    ".ekv"
#define CONTROL_ESCAPED "%2Eekv"

/* Bytes that the escape of `byte` takes in the middle of a name. Only names of whole keys hold a
 * '/'. */
static size_t token_size(uint8_t byte)
{
    return byte == '%' || byte == 0 || byte == '/' ? 3 : 1;
}

static size_t token_put(char *out, uint8_t byte)
{
    if (byte == '%')
        memcpy(out, "%25", 3);
    else if (byte == 0)
        memcpy(out, "%00", 3);
    else if (byte == '/')
        memcpy(out, "%2F", 3);
    else
        *out = (char)byte;
    return token_size(byte);
}

static bool is(const void *bytes, size_t size, const char *text)
{
    return size == strlen(text) && memcmp(bytes, text, size) == 0;
}

/* Decodes escapes that stand anywhere in a name; false if one is no escape or not needed. */
static bool decode_tokens(struct path_place place, const char *name, size_t name_size,
                          uint8_t *bytes, size_t *bytes_size)
{
    size_t count = 0;
    for (size_t i = 0; i < name_size; i++) {
        if (name[i] == 0 || name[i] == '/')
            return false;
        if (name[i] != '%') {
            bytes[count++] = (uint8_t)name[i];
            continue;
        }
        if (name_size - i >= 3 && memcmp(name + i, "%25", 3) == 0)
            bytes[count++] = '%';
        else if (name_size - i >= 3 && memcmp(name + i, "%00", 3) == 0)
            bytes[count++] = 0;
        else if (place.whole && name_size - i >= 3 && memcmp(name + i, "%2F", 3) == 0)
            bytes[count++] = '/';
        else
            return false;
        i += 2;
    }
    *bytes_size = count;
    return true;
}

/* Names whose escape stands for the whole of them. */
static bool decode_special(struct path_place place, const char *name, size_t name_size,
                           uint8_t *bytes, size_t *bytes_size)
{
    const char *meaning;
    if (is(name, name_size, "%"))
        meaning = "";
    else if (is(name, name_size, "%2E"))
        meaning = ".";
    else if (is(name, name_size, "%2E%2E"))
        meaning = "..";
    else if (place.root && is(name, name_size, CONTROL_ESCAPED))
        meaning = CONTROL_NAME;
    else
        return false;
    *bytes_size = strlen(meaning);
    memcpy(bytes, meaning, *bytes_size);
    return true;
}

enum path_kind path_decode(struct path_place place, const char *name, size_t name_size,
                           uint8_t *bytes, size_t *bytes_size)
{
    if (name_size == 0 || name_size > PATH_NAME_MAX)
        return PATH_INVALID;
    bool part = name_size > 2 && memcmp(name + name_size - 2, "%+", 2) == 0;
    if (!part && place.part_length == 0) {
        if (is(name, name_size, PATH_VALUE_NAME))
            return place.root || place.whole ? PATH_INVALID : PATH_VALUE;
        if (is(name, name_size, ".") || is(name, name_size, ".."))
            return PATH_INVALID;
        if (place.root && is(name, name_size, CONTROL_NAME))
            return PATH_INVALID;
        if (decode_special(place, name, name_size, bytes, bytes_size))
            return PATH_NAME;
    }
    size_t length = part ? name_size - 2 : name_size;
    if (part && (length < PATH_PART_MIN || length > PATH_PART_MAX))
        return PATH_INVALID;
    if (!decode_tokens(place, name, length, bytes, bytes_size))
        return PATH_INVALID;
    if (place.part_length > 0) {
        if (place.part_length + token_size(bytes[0]) <= PATH_PART_MAX)
            return PATH_INVALID;
        if (!part && place.part_length + length <= PATH_NAME_MAX)
            return PATH_INVALID;
    }
    return part ? PATH_PART : PATH_NAME;
}

static size_t encode_special(struct path_place place, const uint8_t *bytes, size_t size, char *name)
{
    const char *escaped = NULL;
    if (place.part_length > 0)
        return 0;
    if (size == 0)
        escaped = "%";
    else if (is(bytes, size, "."))
        escaped = "%2E";
    else if (is(bytes, size, ".."))
        escaped = "%2E%2E";
    else if (place.root && is(bytes, size, CONTROL_NAME))
        escaped = CONTROL_ESCAPED;
    if (!escaped)
        return 0;
    memcpy(name, escaped, strlen(escaped) + 1);
    return strlen(escaped);
}

size_t path_encode(struct path_place place, const uint8_t *bytes, size_t size,
                   char name[PATH_NAME_MAX + 1], size_t *name_size)
{
    *name_size = encode_special(place, bytes, size, name);
    if (*name_size > 0)
        return size;
    size_t length = 0, taken = 0;           /* of the whole, as long as it fits */
    size_t part_length = 0, part_taken = 0; /* of what a part would take */
    bool part_open = true;
    while (taken < size && length + token_size(bytes[taken]) <= PATH_NAME_MAX) {
        length += token_put(name + length, bytes[taken++]);
        part_open = part_open && length <= PATH_PART_MAX;
        if (part_open) {
            part_length = length;
            part_taken = taken;
        }
    }
    if (taken < size) {
        memcpy(name + part_length, "%+", 2);
        length = part_length + 2;
        taken = part_taken;
    }
    name[length] = 0;
    *name_size = length;
    return taken;
}

struct path_place path_enter(enum path_kind kind, size_t name_size)
{
    return (struct path_place){
        .root = false,
        .part_length = kind == PATH_PART ? (uint8_t)(name_size - 2) : 0,
    };
}

size_t path_from_key(const uint8_t *key, size_t size, bool directory, char *path, size_t capacity)
{
    struct path_place place = {.root = true};
    char name[PATH_NAME_MAX + 1];
    size_t length = 0;
    for (;;) {
        const uint8_t *slash = size ? memchr(key, '/', size) : NULL;
        size_t component = slash ? (size_t)(slash - key) : size;
        size_t name_size;
        size_t taken = path_encode(place, key, component, name, &name_size);
        if (capacity - length < name_size + 2)
            return 0;
        memcpy(path + length, name, name_size + 1);
        length += name_size;
        bool part = taken < component;
        place = path_enter(part ? PATH_PART : PATH_NAME, name_size);
        if (!part && !slash)
            break;
        path[length++] = '/';
        key += part ? taken : component + 1;
        size -= part ? taken : component + 1;
    }
    if (directory) {
        if (capacity - length < sizeof "/" PATH_VALUE_NAME)
            return 0;
        memcpy(path + length, "/" PATH_VALUE_NAME, sizeof "/" PATH_VALUE_NAME);
        length += sizeof "/" PATH_VALUE_NAME - 1;
    }
    return length;
}

size_t path_from_prefix(const uint8_t *prefix, size_t size, char *path, size_t capacity)
{
    struct path_place place = {.root = true};
    char name[PATH_NAME_MAX + 1];
    size_t length = 0;
    while (size > 0) {
        const uint8_t *slash = memchr(prefix, '/', size);
        size_t component = slash ? (size_t)(slash - prefix) : size;
        size_t name_size;
        size_t taken = path_encode(place, prefix, component, name, &name_size);
        bool part = taken < component;
        if (!part && !slash) { /* the last part: what makes it one is not in the prefix */
            if (name_size < PATH_PART_MIN || name_size > PATH_PART_MAX)
                return 0;
            memcpy(name + name_size, "%+", 3);
            name_size += 2;
            part = true;
        }
        if (capacity - length < name_size + 2)
            return 0;
        if (length > 0)
            path[length++] = '/';
        memcpy(path + length, name, name_size + 1);
        length += name_size;
        place = path_enter(part ? PATH_PART : PATH_NAME, name_size);
        prefix += part ? taken : component + 1;
        size -= part ? taken : component + 1;
    }
    return length;
}

/* What the names of a path mean together: a key, or the prefix of a directory. */
static bool path_decode_all(const char *path, size_t path_size, bool directory, uint8_t *key,
                            size_t *size)
{
    struct path_place place = {.root = true};
    size_t count = 0;
    for (;;) {
        const char *slash = path_size ? memchr(path, '/', path_size) : NULL;
        size_t name_size = slash ? (size_t)(slash - path) : path_size;
        size_t bytes_size = 0;
        bool inner = slash || directory;
        enum path_kind kind = path_decode(place, path, name_size, key + count, &bytes_size);
        if (kind == PATH_INVALID || (kind == PATH_PART && !inner) || (kind == PATH_VALUE && inner))
            return false;
        if (kind == PATH_VALUE)
            count--; /* the '/' before it is no part of the key */
        else
            count += bytes_size;
        if (kind == PATH_NAME && inner)
            key[count++] = '/';
        if (!slash)
            break;
        place = path_enter(kind, name_size);
        path += name_size + 1;
        path_size -= name_size + 1;
    }
    *size = count;
    return true;
}

bool path_to_key(const char *path, size_t path_size, uint8_t *key, size_t *size)
{
    return path_decode_all(path, path_size, false, key, size);
}

bool path_to_prefix(const char *path, size_t path_size, uint8_t *prefix, size_t *size)
{
    *size = 0;
    return path_size == 0 || path_decode_all(path, path_size, true, prefix, size);
}

size_t path_from_whole(const uint8_t *key, size_t size, char *path, size_t capacity)
{
    struct path_place place = {.whole = true};
    size_t length = 0;
    for (;;) {
        char name[PATH_NAME_MAX + 1];
        size_t name_size;
        size_t taken = path_encode(place, key, size, name, &name_size);
        if (capacity - length < name_size + 2)
            return 0;
        memcpy(path + length, name, name_size + 1);
        length += name_size;
        if (taken == size)
            return length;
        path[length++] = '/';
        place.part_length = (uint8_t)(name_size - 2);
        key += taken;
        size -= taken;
    }
}

bool path_to_whole(const char *path, size_t path_size, uint8_t *key, size_t *size)
{
    struct path_place place = {.whole = true};
    *size = 0;
    for (;;) {
        const char *slash = path_size ? memchr(path, '/', path_size) : NULL;
        size_t name_size = slash ? (size_t)(slash - path) : path_size, bytes_size = 0;
        enum path_kind kind = path_decode(place, path, name_size, key + *size, &bytes_size);
        if (kind != (slash ? PATH_PART : PATH_NAME))
            return false;
        *size += bytes_size;
        if (!slash)
            return true;
        place.part_length = (uint8_t)(name_size - 2);
        path += name_size + 1;
        path_size -= name_size + 1;
    }
}
