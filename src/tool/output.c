/* What goes out: messages, keys, sizes, times, JSON lines.
 *
 * Texts that functions return live in a ring of four buffers, enough for one line of output.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "host/moment.h"
#include "tool.h"

enum { TEXT_COUNT = 4, TEXT_SIZE = 256 };

static char *next_text(void)
{
    static char texts[TEXT_COUNT][TEXT_SIZE];
    static unsigned at;
    return texts[at++ % TEXT_COUNT];
}

void message(const struct tool *tool, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fprintf(stderr, "%s: ", tool->program);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

void *allocate(size_t size)
{
    return allocate_again(NULL, size);
}

void *allocate_again(void *memory, size_t size)
{
    void *result = realloc(memory, size ? size : 1);
    if (!result) {
        fprintf(stderr, "ekv: there is no memory for %zu bytes\n", size);
        exit(STATUS_FAILED);
    }
    return result;
}

const char *result_text(int result)
{
    switch (result) {
    case EKV_OK:
        return "all is well";
    case EKV_NOT_FOUND:
        return "there is no such key";
    case EKV_CONFLICT:
        return "another commit changed the same key: try again";
    case EKV_IO:
        return "the flash cannot be read or written";
    case EKV_CORRUPT:
        return "the store is damaged: 'ekv check' tells where";
    case EKV_FULL:
        return "the store is full: remove keys first";
    case EKV_PINNED:
        return "the store is full until a snapshot is closed";
    case EKV_TOO_LARGE:
        return "the key or value is too large for this store";
    case EKV_READ_ONLY:
        return "the store can only be read";
    case EKV_NO_STORE:
        return "there is no ekv store";
    case EKV_VERSION:
        return "the store has a format version that this ekv does not read";
    case EKV_GEOMETRY:
        return "ekv cannot use flash of this geometry";
    case EKV_MEMORY:
        return "there is not enough memory";
    case EKV_INVALID:
        return "an argument is out of its range";
    case EKV_BUSY:
        return "the store is in use";
    default:
        return "an unknown failure";
    }
}

/* --- Bytes ----------------------------------------------------------------------------------- */

/* The length of the UTF-8 character at the begin of `bytes`, 0 when there is none. */
static size_t utf8_length(const unsigned char *bytes, size_t size)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = bytes[0] < 0x80   ? 1
                    : bytes[0] < 0xc2 ? 0
                    : bytes[0] < 0xe0 ? 2
                    : bytes[0] < 0xf0 ? 3
                    : bytes[0] < 0xf5 ? 4
                                      : 0;
    if (length <= 1 || length > size)
        return length > size ? 0 : length;
    uint32_t code = bytes[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (bytes[i] & 0x3f);
    }
    if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return 0;
    return length;
}

/* Writes what stands for the character at `bytes` and returns how many bytes of it that took. */
static size_t escape_one(const unsigned char *bytes, size_t size, char *text)
{
    size_t length = utf8_length(bytes, size);
    bool control =
        bytes[0] < 0x20 || bytes[0] == 0x7f || (bytes[0] == 0xc2 && length == 2 && bytes[1] < 0xa0);
    if (bytes[0] == '\\' || bytes[0] == '\n' || bytes[0] == '\t') {
        sprintf(text, "\\%c", bytes[0] == '\n' ? 'n' : bytes[0] == '\t' ? 't' : '\\');
        return 1;
    }
    if (length == 0 || control) {
        sprintf(text, "\\x%02x", bytes[0]);
        return 1;
    }
    memcpy(text, bytes, length);
    text[length] = 0;
    return length;
}

void print_bytes(const void *bytes, size_t size, bool escape)
{
    if (!escape) {
        fwrite(bytes, 1, size, stdout);
        return;
    }
    const unsigned char *at = bytes;
    for (size_t done = 0; done < size;) {
        char text[8];
        done += escape_one(at + done, size - done, text);
        fputs(text, stdout);
    }
}

const char *key_text(const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    char *text = next_text();
    size_t length = 0;
    for (size_t done = 0; done < size;) {
        char one[8];
        if (length > TEXT_SIZE - 16) {
            strcpy(text + length, "...");
            return text;
        }
        done += escape_one(at + done, size - done, one);
        strcpy(text + length, one);
        length += strlen(one);
    }
    text[length] = 0;
    return text;
}

/* --- JSON ------------------------------------------------------------------------------------ */

static char *base64(const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = allocate((size + 2) / 3 * 4 + 1), *at = text;
    for (size_t i = 0; i < size; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16;
        group |= i + 1 < size ? (uint32_t)bytes[i + 1] << 8 : 0;
        group |= i + 2 < size ? bytes[i + 2] : 0;
        *at++ = digits[group >> 18];
        *at++ = digits[group >> 12 & 63];
        *at++ = i + 1 < size ? digits[group >> 6 & 63] : '=';
        *at++ = i + 2 < size ? digits[group & 63] : '=';
    }
    *at = 0;
    return text;
}

void json_set_bytes(json_t *object, const char *name, const void *bytes, size_t size)
{
    json_t *text = json_stringn(bytes, size); /* NULL when that is not UTF-8 */
    if (text) {
        json_object_set_new(object, name, text);
        return;
    }
    char member[64], *encoded = base64(bytes, size);
    snprintf(member, sizeof member, "%s_base64", name);
    json_object_set_new(object, member, json_string(encoded));
    free(encoded);
}

void json_add(json_t *object, json_t *more)
{
    json_object_update(object, more);
    json_decref(more);
}

void json_line(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
    putchar('\n');
    json_decref(object);
}

void print_figures(json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        if (strcmp(name, "schema") == 0)
            continue;
        printf("%s ", name);
        if (json_is_string(value))
            print_bytes(json_string_value(value), json_string_length(value), true);
        else
            json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
        putchar('\n');
    }
    json_decref(object);
}

/* --- Sizes and times ------------------------------------------------------------------------- */

const char *size_text(uint64_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
    char *text = next_text();
    unsigned unit = 0;
    while (unit < 3 && size >> (10 * (unit + 1)) != 0)
        unit++;
    if (size % (1ull << (10 * unit)) == 0)
        snprintf(text, TEXT_SIZE, "%llu %s", (unsigned long long)(size >> (10 * unit)),
                 units[unit]);
    else
        snprintf(text, TEXT_SIZE, "%.1f %s", (double)size / (double)(1ull << (10 * unit)),
                 units[unit]);
    return text;
}

const char *id_text(uint64_t store_id)
{
    char *text = next_text();
    snprintf(text, TEXT_SIZE, "%016llx", (unsigned long long)store_id);
    return text;
}

const char *time_text(int64_t microseconds)
{
    char *text = next_text();
    moment_print(microseconds, false, text);
    return text;
}

void json_set_time(json_t *object, int64_t microseconds)
{
    char text[MOMENT_SIZE];
    moment_print(microseconds, true, text);
    if (microseconds)
        json_object_set_new(object, "time", json_string(text));
}

bool source_date_epoch(int64_t *seconds)
{
    const char *text = getenv("SOURCE_DATE_EPOCH");
    char *end;
    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *seconds = strtoll(text, &end, 10);
    return errno == 0 && *end == 0 && *seconds <= INT64_MAX / 1000000;
}
