/* The dump format of Berkeley DB and LMDB.
 *
 * A dump that ends without DATA=END is truncated and said to be so. A key that comes twice in a row
 * is refused: the dump is of a database with duplicates, and ekv would keep only the last.
 */
#define _GNU_SOURCE
#include "textdump.h"

#include <stdlib.h>
#include <string.h>

static const char hex[] = "0123456789abcdef";

/* --- Writing --------------------------------------------------------------------------------- */

void textdump_begin(const struct textdump_form *form)
{
    printf("VERSION=3\nformat=%s\n", form->print ? "print" : "bytevalue");
    if (form->database)
        printf("database=%s\n", form->database);
    printf("type=btree\n");
    if (form->map_size)
        printf("mapsize=%llu\n", (unsigned long long)form->map_size);
    printf("HEADER=END\n");
}

void textdump_item(const struct textdump_form *form, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    char text[3 * 1024 + 2];
    size_t length = 0;
    text[length++] = ' ';
    for (size_t i = 0; i < size; i++) {
        bool plain = form->print && at[i] >= 0x20 && at[i] < 0x7f && at[i] != '\\';
        if (plain) {
            text[length++] = (char)at[i];
        } else {
            if (form->print)
                text[length++] = '\\';
            text[length++] = hex[at[i] >> 4];
            text[length++] = hex[at[i] & 15];
        }
        if (length > sizeof text - 4) {
            fwrite(text, 1, length, stdout);
            length = 0;
        }
    }
    text[length++] = '\n';
    fwrite(text, 1, length, stdout);
}

void textdump_end(void)
{
    printf("DATA=END\n");
}

/* --- Reading --------------------------------------------------------------------------------- */

void textdump_open(struct textdump *dump, struct input *input)
{
    *dump = (struct textdump){.input = input};
}

void textdump_close(struct textdump *dump)
{
    free(dump->bytes);
}

static bool is(const char *line, size_t size, const char *text)
{
    return size == strlen(text) && memcmp(line, text, size) == 0;
}

static bool begins(const char *line, size_t size, const char *text)
{
    return size >= strlen(text) && memcmp(line, text, strlen(text)) == 0;
}

/* A line without what DOS ends it with. */
static bool next_line(struct textdump *dump, char **line, size_t *size)
{
    if (!input_line(dump->input, line, size))
        return false;
    if (*size > 0 && (*line)[*size - 1] == '\r')
        (*size)--;
    return true;
}

static int truncated(const struct textdump *dump)
{
    if (!dump->input->failed)
        input_complain(dump->input, "the dump ends here without %s: it is truncated",
                       dump->in_data ? "DATA=END" : "HEADER=END");
    return -1;
}

/* A line of the header. Keywords that say nothing about the data pass by. */
static int take_header_line(struct textdump *dump, const char *line, size_t size, bool *end)
{
    *end = is(line, size, "HEADER=END");
    if (is(line, size, "format=print"))
        dump->print = true;
    else if (is(line, size, "format=bytevalue"))
        dump->print = false;
    else if (begins(line, size, "format=")) {
        input_complain(dump->input, "this format is neither bytevalue nor print");
        return -1;
    } else if (begins(line, size, "database="))
        dump->space = is(line, size, "database=" TEXTDUMP_ATTRIBUTES) ? EKV_ASIDE : EKV_USER;
    else if (begins(line, size, "type=") && !is(line, size, "type=btree") &&
             !is(line, size, "type=hash")) {
        input_complain(dump->input, "a database of this type has no keys: only btree and hash are "
                                    "read");
        return -1;
    } else if (!memchr(line, '=', size)) {
        input_complain(dump->input, "this is no line of a header");
        return -1;
    }
    return 1;
}

/* The header of a section: 1, or 0 when there is no other section. */
static int read_header(struct textdump *dump)
{
    char *line;
    size_t size;
    bool end = false;
    do {
        if (!next_line(dump, &line, &size)) {
            if (!dump->any && !dump->input->failed)
                message(dump->input->tool, "%s is empty: there is no dump", dump->input->name);
            return dump->any && !dump->input->failed ? 0 : -1;
        }
    } while (dump->any && size == 0);
    dump->print = false;
    dump->space = EKV_USER;
    if (!is(line, size, "VERSION=3") && !is(line, size, "VERSION=2")) {
        input_complain(dump->input, "a dump begins with VERSION=3");
        return -1;
    }
    while (!end) {
        if (!next_line(dump, &line, &size))
            return truncated(dump);
        if (take_header_line(dump, line, size, &end) < 0)
            return -1;
    }
    dump->any = dump->in_data = true;
    dump->key.bytes = NULL;
    return 1;
}

static int hex_value(char letter)
{
    if (letter >= '0' && letter <= '9')
        return letter - '0';
    letter |= 0x20;
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* The byte that the first two letters say, or -1. */
static int hex_byte(const char *text, size_t size)
{
    int high = size >= 2 ? hex_value(text[0]) : -1, low = size >= 2 ? hex_value(text[1]) : -1;
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* Decodes a line where it is, without the space it begins with. */
static bool decode(const struct textdump *dump, char *line, size_t *size)
{
    size_t count = 0;
    for (size_t i = 1; i < *size;) {
        int byte = (uint8_t)line[i];
        size_t taken = 1;
        if (!dump->print) {
            byte = hex_byte(line + i, *size - i);
            taken = 2;
        } else if (byte == '\\' && i + 1 < *size && line[i + 1] == '\\') {
            taken = 2;
        } else if (byte == '\\') {
            byte = hex_byte(line + i + 1, *size - i - 1);
            taken = 3;
        }
        if (byte < 0) {
            input_complain(dump->input, "there are no two hexadecimal digits at column %zu%s",
                           i + 1,
                           dump->print ? " (mdb_dump -p of LMDB 0.9.24 leaves out what marks a "
                                         "backslash: dump without -p)"
                                       : "");
            return false;
        }
        line[count++] = (char)byte;
        i += taken;
    }
    *size = count;
    return true;
}

/* A line of data, decoded: 1, or 0 for DATA=END. */
static int read_item(struct textdump *dump, char **line, size_t *size)
{
    if (!next_line(dump, line, size))
        return truncated(dump);
    if (is(*line, *size, "DATA=END"))
        return 0;
    if (*size == 0 || **line != ' ') {
        input_complain(dump->input, "a line of data begins with a space");
        return -1;
    }
    return decode(dump, *line, size) ? 1 : -1;
}

/* Keeps a key, since its value's line takes its place. */
static int keep_key(struct textdump *dump, const char *key, size_t size)
{
    if (size > UINT32_MAX / 2) {
        input_complain(dump->input, "the key has %zu bytes", size);
        return -1;
    }
    if (dump->key.bytes && dump->key.size == size && memcmp(dump->bytes, key, size) == 0) {
        input_complain(dump->input, "the key '%s' comes twice: ekv has one value for a key",
                       key_text(key, size));
        return -1;
    }
    if (size > dump->capacity || !dump->bytes) {
        dump->capacity = 2 * size;
        dump->bytes = allocate_again(dump->bytes, dump->capacity);
    }
    memcpy(dump->bytes, key, size);
    dump->key = (struct ekv_key){dump->bytes, (uint32_t)size, dump->space, 0};
    return 1;
}

int textdump_next(struct textdump *dump)
{
    char *line;
    size_t size;
    int found = 0;
    while (found == 0) {
        if (!dump->in_data) {
            found = read_header(dump);
            if (found <= 0)
                return found;
        }
        found = read_item(dump, &line, &size);
        dump->in_data = found != 0;
    }
    if (found < 0 || keep_key(dump, line, size) < 0)
        return -1;
    found = read_item(dump, &line, &size);
    if (found == 0)
        input_complain(dump->input, "the last key, '%s', has no value",
                       key_text(dump->bytes, dump->key.size));
    if (found <= 0)
        return -1;
    dump->value = (const uint8_t *)line;
    dump->value_size = size;
    return 1;
}
