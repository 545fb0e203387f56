/* Moments of a store as people write them: a version, or a time in ISO 8601.
 */
#ifndef EKV_HOST_MOMENT_H
#define EKV_HOST_MOMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct moment {
    bool timed;       /* `time` counts, else `version` */
    uint64_t version; /* as ekv_find tells them */
    int64_t time;     /* microseconds since 1970 */
};

/* Reads "271936", "2026-11-21T10:00:00", "2026-11-21 10:00", "2026-11-21T10:00:00.25Z",
 * "2026-11-21T10:00+01:00", "2026-11-21" (its first second) or "@1763719200". A time without a zone
 * is local time, as date(1) takes it. What is written without a fraction is the whole second: its
 * last microsecond. False when the text is none of these. */
bool moment_parse(const char *text, size_t size, struct moment *moment);

enum { MOMENT_SIZE = 48 };

/* Writes a time in ISO 8601: "2026-11-21T10:00:00+01:00" in local time, or "2026-11-21T09:00:00Z"
 * in UTC. "-" for 0, which is no time. */
void moment_print(int64_t time, bool utc, char text[MOMENT_SIZE]);

#endif
