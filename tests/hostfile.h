/* Flash on an image file of a host that crashes, for tests: what image.c does, over a page cache
 * that loses and reorders.
 *
 * Programs and erases go to the cache, and reads come from it. A sync makes all of it durable. The
 * host writes a page of its cache to the disk whenever it likes, and several in any order: after a
 * crash each page of 4 KiB is as it was at some moment since the last sync, and one that was being
 * written may be that of one moment in some of its 512-byte blocks and of another in the rest.
 *
 * A program of bytes that are not 0xff, other than with what they hold, is a mistake of the engine:
 * the process ends with a sentence.
 */
#ifndef EKV_TESTS_HOSTFILE_H
#define EKV_TESTS_HOSTFILE_H

#include "flash.h"

enum { HOSTFILE_PAGE = 4096, HOSTFILE_BLOCK = 512 };

struct hostfile_write {
    uint32_t address, size;
    uint8_t *bytes; /* what lies there from then on */
};

struct hostfile {
    struct ekv_flash flash;
    uint8_t *bytes;                /* the cache: what reads see */
    uint8_t *durable;              /* what the disk holds for certain */
    struct hostfile_write *writes; /* since the last sync, in order */
    uint32_t write_count, write_capacity;
    uint64_t random;
    uint64_t crash_in; /* programs, erases and syncs until the host crashes; 0: it does not */
    bool crashed;      /* everything fails until hostfile_reboot */
    uint64_t syncs;    /* that were asked for */
    uint64_t pages_lost, pages_torn; /* at crashes: not as they were last */
};

/* Makes the file, full of zeroes as one that was just created, or of 0xff. */
void hostfile_init(struct hostfile *file, const struct ekv_geometry *geometry, bool blank,
                   uint64_t seed);
void hostfile_free(struct hostfile *file);

/* The `operation`-th program, erase or sync from now on does not come to its end. */
void hostfile_crash_at(struct hostfile *file, uint64_t operation);

/* Leaves what the disk holds after the crash. */
void hostfile_reboot(struct hostfile *file);

#endif
