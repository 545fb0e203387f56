/* The names of a directory that were listed, by number.
 *
 * The kernel keeps listings, and goes on from any place of one with a handle that never listed
 * anything. So a name's number must mean the same in every handle, also after the name was removed:
 * it is kept as long as the directory's node is.
 */
#ifndef EKVFS_COOKIES_H
#define EKVFS_COOKIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/path.h"

struct cookies;

struct cookies *cookies_new(void);
void cookies_free(struct cookies *cookies);

/* The number of a name, from 0 on; the same as before if it has one. `directory` is noted. False:
 * no memory. */
bool cookies_number(struct cookies *cookies, const char *name, size_t name_size, bool directory,
                    uint32_t *number);

/* The name with a number. False: there is none. */
bool cookies_name(struct cookies *cookies, uint32_t number, char name[PATH_NAME_MAX + 1],
                  size_t *name_size, bool *directory);

#endif
