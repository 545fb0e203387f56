/* What the files of a survey share beside what survey.h shows. */
#ifndef EKV_HOST_SURVEY_PARTS_H
#define EKV_HOST_SURVEY_PARTS_H

#include "survey.h"

/* A commit record: those pending records are committed whose positions are from `begin` to below
 * `position`. */
struct survey_commit {
    uint64_t position;
    uint64_t begin;
    int64_t time;     /* 0: not known */
    uint32_t address; /* of the first record, as the commit record names it */
    uint32_t count;   /* of its records */
    uint32_t found;   /* of these, that are there */
};

struct survey_block; /* of memory for keys */

struct survey_parts {
    const struct ekv_key *filter;
    struct survey_block *blocks;
    uint8_t *buffer; /* a sector, for sources that are not in memory or cut in the middle of one */
    uint32_t record_capacity;
    uint32_t finding_capacity;
    uint64_t *pendings; /* positions of all pending records, ascending after survey_settle */
    uint32_t pending_count, pending_capacity;
    struct survey_commit *commits; /* by position */
    uint32_t commit_count, commit_capacity;
    uint32_t run_capacity;
    uint32_t *chain; /* log sectors by sequence */
    uint32_t chain_count;
    uint32_t head;   /* the sector that the log ends in, EKV_NO_SECTOR: none */
    uint32_t *tears; /* per sector: offset at which it is torn, 0: it is not */
    uint8_t *table;  /* per sector: EKV_ITEM_* of the newest manifest: 5 log, 7 retired, else 0 */
    bool *replayed;  /* per sector: mount replays it, from the replay position on */
    uint32_t crc_table[256]; /* to run checksums backwards */
    uint8_t crc_inverse[256];
};

/* --- survey.c -------------------------------------------------------------------------------- */

/* Grows an array of `size`-byte items so that one more fits. */
int survey_grow(void *array, uint32_t *capacity, uint32_t count, size_t size);

/* The bytes of a sector: in place, or in `buffer` (a sector large), with 0xff for what the dump
 * lacks of it. NULL when nothing of it is there. */
const uint8_t *survey_sector_bytes(const struct survey *survey, uint32_t sector, uint8_t *buffer);

/* True if stamp B of a sector reads 0xff. */
bool survey_stamp_is_blank(const struct survey *survey, uint32_t sector);

/* Copies a key into the survey. NULL without memory. */
const uint8_t *survey_keep(struct survey *survey, const uint8_t *key, uint32_t size);

int survey_find_broken(struct survey *survey, const char *code, uint32_t address, const char *text);
int survey_find_broken_key(struct survey *survey, const char *code, const char *text,
                           const struct survey_record *record);

/* --- survey_log.c ---------------------------------------------------------------------------- */

/* Goes over the records of a log sector; the items do not say how what is broken came to be. With
 * `filter` (may be NULL) records of other keys are taken for good unread. */
int survey_log_walk(const struct survey *survey, const uint8_t *bytes, uint32_t sequence,
                    const struct ekv_key *filter,
                    int (*visit)(void *context, const struct survey_item *item), void *context);

/* Takes the records of a log sector into the survey. */
int survey_log_scan(struct survey *survey, uint32_t sector, const uint8_t *bytes);

/* The sequence number, at most `limit`, of a sector whose stamp B is broken: from a record in it,
 * which is looked for at up to `places` places. */
int survey_log_solve(const struct survey *survey, const uint8_t *bytes, uint32_t places,
                     uint32_t limit, uint32_t *sequence);

void survey_solve_prepare(struct survey_parts *parts);

/* The number that the seed of a checksum held: what makes `crc` right over `size` bytes. */
uint32_t survey_solve(const struct survey *survey, uint8_t kind, uint32_t place,
                      const uint8_t *bytes, uint32_t size, uint32_t crc);

/* Whether a record is what its head says. */
bool survey_record_valid(const struct survey *survey, const uint8_t *bytes,
                         const struct ekv_record_layout *layout, uint32_t sequence,
                         uint32_t offset);

/* Puts one flipped bit behind the head right, if that makes the checksum right. */
bool survey_record_mend(const struct survey *survey, uint8_t *bytes,
                        const struct ekv_record_layout *layout, uint32_t sequence, uint32_t offset);

/* --- survey_index.c -------------------------------------------------------------------------- */

/* Reads all manifests, and every run that they name: marks the records that runs point at. */
int survey_manifest_read(struct survey *survey);
int survey_runs_read(struct survey *survey);

/* Goes over the pages, or frames, of a sector. */
int survey_index_walk(const struct survey *survey, uint32_t sector, const uint8_t *bytes,
                      int (*visit)(void *context, const struct survey_item *item), void *context);
int survey_manifest_walk(const struct survey *survey, uint32_t sector, const uint8_t *bytes,
                         int (*visit)(void *context, const struct survey_item *item),
                         void *context);

/* --- survey_commit.c ------------------------------------------------------------------------- */

/* Decides what was committed, and groups it into transactions. */
int survey_commits_settle(struct survey *survey);

/* Place in the chain of the last sector with at most this sequence number; chain_count: none. */
uint32_t survey_chain_place(const struct survey *survey, uint32_t sequence);

/* Whether the sector at this place of the chain goes on where the one before it ended. */
bool survey_follows(const struct survey *survey, uint32_t place);

/* Whether a recovery began the sector at this place of the chain because the log had ended in the
 * one before it: nothing is missing between them. */
bool survey_resumes(const struct survey *survey, uint32_t place);

/* True if the record, or commit record, lies behind a tear. */
bool survey_is_torn(const struct survey *survey, uint64_t position);

/* --- survey_end.c ---------------------------------------------------------------------------- */

/* Finds where the log ended in a hole that a crash of the host left: what lies behind that is torn,
 * and not damaged. */
void survey_end_find(struct survey *survey);

/* --- survey_settle.c ------------------------------------------------------------------------- */

/* Decides what was committed, what is current, which sectors are in use; sorts the records. */
int survey_settle(struct survey *survey);

/* The record at an address, while records are in the order of addresses. */
struct survey_record *survey_record_at(struct survey *survey, uint32_t address);

#endif
