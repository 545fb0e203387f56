/* Runs: immutable sorted tables of pointers into the log, as trees of pages in index sectors.
 *
 * A leaf page holds pointers in key order with a fingerprint each; inner pages hold shortened
 * separators and the addresses of the pages below. A filter (Bloom, in blocks) tells which keys are
 * certainly not there. An entry is stale when the sector it points to was reused after the run was
 * made; stale entries are skipped wherever entries are read.
 */
#ifndef EKV_RUN_H
#define EKV_RUN_H

#include "log.h"

enum {
    EKV_RUN_HEIGHT_MAX = 6, /* levels of pages, the leaves included */
    EKV_RUN_COUNT_MAX = 30,
};

struct ekv_run {
    uint32_t id;
    uint32_t root; /* address of the root page */
    uint32_t entry_count;
    uint32_t sequence; /* no entry points into a sector with a larger one: staleness */
    uint32_t filter;   /* address of the filter's first block, or of its map; 0: no filter */
    uint16_t filter_blocks;
    uint8_t root_size;   /* of the root page in bytes, minus 1; not on flash. 0: not known */
    unsigned level : 4;  /* of runs: merges of so many runs made it */
    unsigned height : 4; /* levels of pages */
};

/* The page that was read last and found good. Ids of runs are not used again, so what stands there
 * on flash never changes; run 0: nothing is held. */
struct ekv_page_buffer {
    uint32_t run_id;
    uint32_t address;
    uint8_t bytes[EKV_PAGE_SIZE];
};

/* The index: where pages and records are read from, and where the next page goes. `page` is the one
 * buffer that all readers share when the flash is not mapped. The live count of an index sector is
 * the number of pages and filters in it that runs still use. */
struct ekv_index {
    struct ekv_log *log;
    struct ekv_page_buffer *page;
    uint32_t sector; /* that pages are appended to, or EKV_NO_SECTOR */
    uint32_t offset;
};

/* A page, checked: in the mapped flash or in the shared buffer. */
struct ekv_page {
    const uint8_t *bytes;
    uint32_t size;
    uint8_t level;
    uint8_t count;
};

/* Reads and checks a page of a run. `level`: what it must be. Errors: EKV_CORRUPT.
 * Flash: one read; none for the page that was read last. */
EKV_MUST_CHECK int ekv_page_read(const struct ekv_index *index, const struct ekv_run *run,
                                 uint32_t address, uint8_t level, struct ekv_page *page);

/* Notes how large the root page is, of which no more is read from then on. Flash: reads it. */
EKV_MUST_CHECK int ekv_run_note_root(const struct ekv_index *index, struct ekv_run *run);

/* True if one bit explains that a page cannot be read. Uses the shared buffer. Flash: one read. */
bool ekv_page_flipped(const struct ekv_index *index, const struct ekv_run *run, uint32_t address,
                      struct ekv_mend *mend);

/* The page below that the link at `place` of an inner page leads to. EKV_CORRUPT if the page does
 * not hold so many whole links. */
EKV_MUST_CHECK int ekv_page_child(const struct ekv_format *format, const struct ekv_page *page,
                                  uint32_t place, uint32_t *child);

/* The page below that the link at `offset` leads to; `offset` moves behind it (the first link is at
 * EKV_PAGE_HEAD_SIZE). EKV_CORRUPT if no whole link is there. */
EKV_MUST_CHECK int ekv_page_link(const struct ekv_format *format, const struct ekv_page *page,
                                 uint32_t *offset, uint32_t *child);

/* The record that the entry at `place` of a leaf (below its count) leads to. Flash: one read. */
EKV_MUST_CHECK int ekv_leaf_entry(const struct ekv_index *index, uint32_t leaf, uint32_t place,
                                  uint32_t *address);

/* Checksum of a page's bytes behind the crc, seeded with the id of its run (ids are never used
 * again, so this saves a look at the sector's stamp). */
uint32_t ekv_page_crc(const struct ekv_format *format, uint32_t run_id, uint32_t address,
                      const uint8_t *bytes, uint32_t size);

/* A separator is compared with a key's space byte followed by its bytes. */
static inline uint8_t ekv_key_at(struct ekv_key key, uint32_t place)
{
    return place == 0 ? key.space : ((const uint8_t *)key.bytes)[place - 1];
}

/* --- Entries --------------------------------------------------------------------------------- */

/* EKV_OK and the record if `address`, an entry of a run made at `sequence`, is not stale;
 * EKV_NOT_FOUND if it is. */
EKV_MUST_CHECK int ekv_entry_read(const struct ekv_log *log, uint32_t address, uint32_t sequence,
                                  struct ekv_found *found);

/* --- Cursor over one run --------------------------------------------------------------------- */

/* Position in a run: a page and a place in it for each level, leaf first. `address` is the entry
 * stood on, 0 when past either end. */
enum { EKV_EXPECTED_UNIT = 16 };

struct ekv_run_cursor {
    uint32_t address;
    uint32_t pages[EKV_RUN_HEIGHT_MAX];
    uint8_t places[EKV_RUN_HEIGHT_MAX];
    uint8_t leaf_count;
    uint8_t expected; /* size of the next records, of EKV_EXPECTED_UNIT bytes: that of the last */
};

/* Moves to the first entry (newest version) with a key >= `key`, or to the last entry (oldest
 * version) with a key <= `key`; or to an end of the run. `found` is what it then stands on. Past
 * the end `address` becomes 0 and the answer is EKV_NOT_FOUND. */
EKV_MUST_CHECK int ekv_run_seek(const struct ekv_index *index, const struct ekv_run *run,
                                struct ekv_key key, struct ekv_run_cursor *cursor,
                                struct ekv_found *found);
EKV_MUST_CHECK int ekv_run_seek_back(const struct ekv_index *index, const struct ekv_run *run,
                                     struct ekv_key key, struct ekv_run_cursor *cursor,
                                     struct ekv_found *found);
EKV_MUST_CHECK int ekv_run_first(const struct ekv_index *index, const struct ekv_run *run,
                                 struct ekv_run_cursor *cursor, struct ekv_found *found);
EKV_MUST_CHECK int ekv_run_last(const struct ekv_index *index, const struct ekv_run *run,
                                struct ekv_run_cursor *cursor, struct ekv_found *found);

/* One entry on or back, stale ones skipped. */
EKV_MUST_CHECK int ekv_run_next(const struct ekv_index *index, const struct ekv_run *run,
                                struct ekv_run_cursor *cursor, struct ekv_found *found);
EKV_MUST_CHECK int ekv_run_previous(const struct ekv_index *index, const struct ekv_run *run,
                                    struct ekv_run_cursor *cursor, struct ekv_found *found);

/* Walks the leaves alone: the cursor's pages[0] is the leaf. */
EKV_MUST_CHECK int ekv_run_leaf_first(const struct ekv_index *index, const struct ekv_run *run,
                                      struct ekv_run_cursor *cursor);
EKV_MUST_CHECK int ekv_run_leaf_next(const struct ekv_index *index, const struct ekv_run *run,
                                     struct ekv_run_cursor *cursor);

/* Finds the record of the newest entry of `key` with a version of at most `limit`.
 * EKV_NOT_FOUND if there is none. Flash: a filter block; then a page for each level of the tree and
 * one record. */
EKV_MUST_CHECK int ekv_run_find(const struct ekv_index *index, const struct ekv_run *run,
                                struct ekv_key key, uint32_t hash, uint64_t limit,
                                struct ekv_found *found);

/* Bits of the filter: sets or tests those of `hash` in a block's 30 bytes. */
void ekv_filter_set(uint8_t *bits, uint32_t hash);
bool ekv_filter_has(const uint8_t *bits, uint32_t hash);
uint32_t ekv_filter_block(uint32_t hash, uint32_t block_count);
uint16_t ekv_filter_crc(const struct ekv_format *format, uint32_t run_id, uint32_t block,
                        const uint8_t *bits);
/* Offset of the first block in a sector, and how many fit behind it. */
uint32_t ekv_filter_offset(const struct ekv_format *format);
uint32_t ekv_filter_sector_blocks(const struct ekv_format *format);
/* Checks a block and gives its bits: in the mapped flash, or read into `buffer`. Errors:
 * EKV_CORRUPT. Flash: one read, two if there is a map. */
EKV_MUST_CHECK int ekv_filter_read(const struct ekv_index *index, const struct ekv_run *run,
                                   uint32_t number, uint8_t buffer[EKV_FILTER_BLOCK_SIZE],
                                   const uint8_t **bits);
/* Address of a block, through the filter's map if it has one. */
EKV_MUST_CHECK int ekv_filter_address(const struct ekv_index *index, const struct ekv_run *run,
                                      uint32_t block, uint32_t *address);

#endif
