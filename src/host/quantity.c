/* Reads quantities: digits, then at most one letter. Whatever else stands there is refused, so that
 * a slip of the pen is never taken for a number.
 */
#include "quantity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RETAIN_COUNT_MAX = 255 };

/* Reads digits; `end` is what follows them. */
static bool parse_digits(const char *text, uint64_t *number, const char **end)
{
    char *rest;
    if (*text < '0' || *text > '9')
        return false;
    int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
    errno = 0;
    *number = strtoull(text, &rest, base);
    *end = rest;
    return errno == 0;
}

bool quantity_size(const char *text, uint64_t *size)
{
    static const char letters[] = "kKmMgG";
    const char *end;
    uint64_t number;
    if (!parse_digits(text, &number, &end))
        return false;
    unsigned shift = 0;
    const char *letter = *end ? strchr(letters, *end) : NULL;
    if (letter) {
        shift = 10 * (unsigned)((letter - letters) / 2 + 1);
        end += strncmp(end + 1, "iB", 2) == 0 ? 3 : 1;
    }
    *size = number << shift;
    return *end == 0 && *size >> shift == number;
}

bool quantity_retention(const char *text, uint32_t *count, uint32_t *seconds)
{
    static const struct {
        char letter;
        uint32_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
    const char *end;
    uint64_t number;
    *count = *seconds = 0;
    if (!parse_digits(text, &number, &end))
        return false;
    if (*end == 0) {
        *count = (uint32_t)number;
        return number <= RETAIN_COUNT_MAX;
    }
    for (unsigned i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (*end != units[i].letter || number > INT32_MAX / units[i].seconds)
            continue;
        *seconds = (uint32_t)number * units[i].seconds;
        return end[1] == 0 && number > 0;
    }
    return false;
}
