/* The manifest: what the store consists of, in a ring of fixed sectors.
 *
 * A chain of ring sectors begins with a checkpoint (everything) and goes on with edits (what
 * changed). Each is a group of frames of which the last is marked final; a group counts only when
 * it is whole. It is the commit point of all background work.
 */
#ifndef EKV_MANIFEST_H
#define EKV_MANIFEST_H

#include "catalog.h"
#include "chain.h"

/* Finds the newest chain with a whole checkpoint and reads it into `catalog` and the sector table.
 * Where one bit explains what is wrong, or that the last frame is not whole, it is suspected
 * (mend.h). Errors: EKV_NO_STORE (no such chain). Flash: the ring's stamps, one chain. */
EKV_MUST_CHECK int ekv_manifest_load(struct ekv_manifest *manifest, struct ekv_catalog *catalog);

/* Writes the catalog: as an edit, or as a checkpoint if the chain has no more room. `added` is the
 * id of a run that the manifest does not know yet, 0 for none. Sectors whose change it wrote are
 * clean after it. Everything it names must have been programmed before.
 * Errors: EKV_IO (the store must go read-only). Flash: a sync barrier, one or two programs;
 * for a checkpoint also an erase. Power cut: the catalog before or after. */
EKV_MUST_CHECK int ekv_manifest_commit(struct ekv_manifest *manifest, struct ekv_catalog *catalog,
                                       uint32_t added);

/* Erases a sector of the ring for the edits that come soon. EKV_NOT_FOUND: none is needed.
 * Flash: an erase and a program. Power cut: nothing changed. */
EKV_MUST_CHECK int ekv_manifest_prepare(struct ekv_manifest *manifest,
                                        const struct ekv_catalog *catalog);

/* After a power cut, before anything else is erased: makes what load read certain, in a chain of
 * its own, so that nothing that it did not see in the old one counts later. `replayed`: the catalog
 * and the sector table have changed since, by records that the log holds; then the old chain is
 * copied. Errors: as ekv_manifest_commit. Flash: an erase and some programs for each sector of the
 * chain. Power cut: nothing changed. */
EKV_MUST_CHECK int ekv_manifest_settle(struct ekv_manifest *manifest, struct ekv_catalog *catalog,
                                       bool replayed);

/* Starts the very first chain: format. */
EKV_MUST_CHECK int ekv_manifest_create(struct ekv_manifest *manifest, struct ekv_catalog *catalog);

#endif
