/* Building a run: entries in order go in, pages and a filter come out, a page a step. */
#ifndef EKV_BUILD_H
#define EKV_BUILD_H

#include "memtable.h"
#include "run.h"

struct ekv_builder {
    struct ekv_index *index;
    struct ekv_run run;  /* what is known of it so far */
    uint8_t *pages;      /* buffers of EKV_PAGE_SIZE, the first of them one for each level */
    uint32_t height_max; /* how many levels */
    uint32_t page_count; /* how many buffers; the more, the fewer walks a filter takes */
    uint16_t used[EKV_RUN_HEIGHT_MAX];
    uint8_t counts[EKV_RUN_HEIGHT_MAX];
    uint16_t leaf_limit;
    uint16_t leaf_max;      /* bytes that a leaf takes at most */
    bool broken;            /* an error came between pages: begin again */
    uint32_t last;          /* the entry added last, 0: none */
    uint8_t separator_size; /* of the leaf being filled */
    bool separator_cut;
    uint8_t separator[EKV_SEPARATOR_SIZE_MAX];
    uint32_t filter_next;              /* first block not yet written */
    uint32_t filter_first, filter_end; /* blocks in the buffers */
    uint32_t filter_base;              /* where the blocks of the current sector begin */
    const struct ekv_memtable *table;  /* NULL, or what the run was made from */
};

/* Levels of pages that runs of a store of this geometry can need. */
uint32_t ekv_build_height(const struct ekv_geometry *geometry);

/* Bytes of pages that still go into the index sector of late. */
uint32_t ekv_index_room(const struct ekv_index *index);

/* Begins a run. `sequence`: the newest log sector an entry can point to. */
void ekv_build_begin(struct ekv_builder *builder, uint32_t id, uint8_t level, uint32_t sequence);

/* Says how many entries it can get at most: a small run then needs no room for a whole page. */
void ekv_build_expect(struct ekv_builder *builder, uint32_t entries);

/* True if the pages that a few entries can fill will find a place. */
bool ekv_build_room(const struct ekv_builder *builder);

/* Adds the next entry; `record` is what it points to. Flash: every sixtieth time a page.
 * Errors: EKV_FULL (no sector for the page: nothing was added, try again when there is one, unless
 * the builder is broken). After any other error of any of these functions the run cannot be
 * finished. */
EKV_MUST_CHECK int ekv_build_add(struct ekv_builder *builder, uint32_t address,
                                 const struct ekv_record *record);

/* Writes the pages that are not full yet; the run is then readable. Can be repeated after an error.
 */
EKV_MUST_CHECK int ekv_build_finish(struct ekv_builder *builder);

/* Plans a filter for the finished run. `table`, if not NULL, holds its keys (and perhaps others)
 * and stays until the filter is done: it spares the reads of the leaves. */
void ekv_build_filter_begin(struct ekv_builder *builder, const struct ekv_memtable *table);

/* Writes one page of the filter; `done` when it was the last. Flash: one program; when the buffers
 * are used up also reads all leaves of the run and the keys that fall into the next blocks.
 * Power cut (of the whole build): unused pages. */
EKV_MUST_CHECK int ekv_build_filter_step(struct ekv_builder *builder, bool *done);

#endif
