/* The text that Berkeley DB's db_dump and LMDB's mdb_dump write and their db_load and mdb_load
 * read: a header, then a line for each key and one for each value, in hexadecimal or escaped.
 *
 *     VERSION=3
 *     format=bytevalue        or print
 *     type=btree
 *     HEADER=END
 *      6e65742f6970
 *      31302e302e302e31
 *     DATA=END
 *
 * Several such sections may follow each other, each with `database=NAME` in its header. What ekvfs
 * keeps beside keys is the database "attributes"; any other name means keys.
 */
#ifndef EKV_TOOL_TEXTDUMP_H
#define EKV_TOOL_TEXTDUMP_H

#include "input.h"

#define TEXTDUMP_KEYS       "keys"
#define TEXTDUMP_ATTRIBUTES "attributes"

/* How to write. `database` may be NULL; `map_size` is for LMDB, which takes no more bytes than it
 * says; 0: none (Berkeley DB refuses it). */
struct textdump_form {
    bool print;
    const char *database;
    uint64_t map_size;
};

void textdump_begin(const struct textdump_form *form);
void textdump_item(const struct textdump_form *form, const void *bytes, size_t size);
void textdump_end(void);

/* Reading. The pair that textdump_next found stays until its next call. */
struct textdump {
    struct ekv_key key;
    const uint8_t *value;
    size_t value_size;

    struct input *input;
    bool print, in_data, any;
    uint8_t space;
    uint8_t *bytes;
    size_t capacity;
};

void textdump_open(struct textdump *dump, struct input *input);
void textdump_close(struct textdump *dump);

/* The next pair: 1, 0 at the end, -1 after a message that names the line. */
int textdump_next(struct textdump *dump);

#endif
