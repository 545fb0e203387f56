/* Moments of a store as people write them.
 *
 * Local time is what mktime(3) makes of it, with TZ; the offset of a zone is taken off by hand,
 * since no function of the C library reads one back.
 */
#define _GNU_SOURCE
#include "moment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEXT_MAX = 40, MICROSECONDS = 1000000 };

/* Reads exactly `digits` digits, and moves behind them. */
static bool take_number(const char **at, int digits, int *number)
{
    *number = 0;
    for (int i = 0; i < digits; i++, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        *number = *number * 10 + (**at - '0');
    }
    return true;
}

static bool take(const char **at, char byte)
{
    if (**at != byte)
        return false;
    (*at)++;
    return true;
}

static bool take_all_digits(const char *text, int64_t limit, int64_t *number)
{
    *number = 0;
    if (*text == 0)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || *number > (limit - (*text - '0')) / 10)
            return false;
        *number = *number * 10 + (*text - '0');
    }
    return true;
}

/* A fraction of a second in microseconds; without one, all of the second. */
static bool take_fraction(const char **at, int *fraction)
{
    *fraction = MICROSECONDS - 1;
    if (!take(at, '.') && !take(at, ','))
        return true;
    if (**at < '0' || **at > '9')
        return false;
    *fraction = 0;
    for (int unit = MICROSECONDS / 10; **at >= '0' && **at <= '9'; unit /= 10, (*at)++)
        *fraction += (**at - '0') * unit;
    return true;
}

/* A zone: Z, +01:00, +0100, +01; `zoned` false and nothing taken if there is none. */
static bool take_zone(const char **at, bool *zoned, int *offset)
{
    int hours, minutes = 0, sign = **at == '-' ? -1 : 1;
    *zoned = **at != 0;
    *offset = 0;
    if (!*zoned || take(at, 'Z') || take(at, 'z'))
        return true;
    if (!take(at, '+') && !take(at, '-'))
        return false;
    if (!take_number(at, 2, &hours))
        return false;
    if ((take(at, ':') || **at != 0) && !take_number(at, 2, &minutes))
        return false;
    *offset = sign * (hours * 60 + minutes) * 60;
    return hours <= 24 && minutes < 60;
}

/* Hours, minutes, seconds; the last may be left out. */
static bool take_clock(const char **at, struct tm *parts, int *fraction)
{
    if (!take_number(at, 2, &parts->tm_hour) || !take(at, ':') ||
        !take_number(at, 2, &parts->tm_min))
        return false;
    if (take(at, ':') && (!take_number(at, 2, &parts->tm_sec) || !take_fraction(at, fraction)))
        return false;
    return parts->tm_hour < 24 && parts->tm_min < 60 && parts->tm_sec <= 60;
}

static bool parse_time(const char *at, int64_t *time)
{
    struct tm parts = {.tm_isdst = -1};
    int fraction = MICROSECONDS - 1, offset = 0;
    bool zoned = false;
    if (!take_number(&at, 4, &parts.tm_year) || !take(&at, '-') ||
        !take_number(&at, 2, &parts.tm_mon) || !take(&at, '-') ||
        !take_number(&at, 2, &parts.tm_mday))
        return false;
    parts.tm_year -= 1900;
    parts.tm_mon--;
    if (take(&at, 'T') || take(&at, 't') || take(&at, ' ')) {
        if (!take_clock(&at, &parts, &fraction) || !take_zone(&at, &zoned, &offset))
            return false;
    }
    struct tm given = parts;
    time_t seconds = zoned ? timegm(&parts) : mktime(&parts);
    /* February 30th would have become March. */
    if (*at != 0 || given.tm_mon != parts.tm_mon || given.tm_mday != parts.tm_mday)
        return false;
    *time = ((int64_t)seconds - offset) * MICROSECONDS + fraction;
    return true;
}

bool moment_parse(const char *text, size_t size, struct moment *moment)
{
    char copy[TEXT_MAX];
    int64_t number;
    if (size >= sizeof copy || memchr(text, 0, size))
        return false;
    memcpy(copy, text, size);
    copy[size] = 0;
    *moment = (struct moment){0};
    if (take_all_digits(copy, INT64_MAX, &number)) {
        moment->version = (uint64_t)number;
        return true;
    }
    moment->timed = true;
    if (copy[0] != '@')
        return parse_time(copy, &moment->time);
    moment->time = MICROSECONDS - 1;
    if (!take_all_digits(copy + 1, INT64_MAX / MICROSECONDS - 1, &number))
        return false;
    moment->time += number * MICROSECONDS;
    return true;
}

void moment_print(int64_t time, bool utc, char text[MOMENT_SIZE])
{
    time_t seconds = (time_t)(time / MICROSECONDS);
    struct tm parts;
    strcpy(text, "-");
    if (time == 0 || !(utc ? gmtime_r(&seconds, &parts) : localtime_r(&seconds, &parts)) ||
        strftime(text, MOMENT_SIZE - 7, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
        return;
    size_t size = strlen(text);
    long minutes = labs(parts.tm_gmtoff) / 60;
    if (parts.tm_gmtoff == 0)
        strcpy(text + size, "Z");
    else
        snprintf(text + size, MOMENT_SIZE - size, "%c%02ld:%02ld", parts.tm_gmtoff < 0 ? '-' : '+',
                 minutes / 60 % 100, minutes % 60);
}
