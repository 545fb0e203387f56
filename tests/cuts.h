/* Power cuts at every flash operation of a workload, in every mode, and again at every flash
 * operation of what follows the cut.
 *
 * After each cut the store is mounted twice and must both times hold what was committed, with or
 * without the operation that was cut, the same both times unless the flash is unstable; during one
 * mount every read must tell of the same state. Check must find nothing and the mounts must not
 * write. Then the workload goes on from there for some steps, which must give what the model gives,
 * also at a mount after them; with `depth` > 0 those steps are cut at each of their flash
 * operations, too.
 */
#ifndef EKV_TESTS_CUTS_H
#define EKV_TESTS_CUTS_H

#include "workload.h"

enum { CUTS_DEPTH_MAX = 3 };

/* One cut: the number of the step, of its flash operation (1: the first), and the mode. */
struct cuts_place {
    uint32_t step;
    uint64_t operation;
    enum nor_cut mode;
};

struct cuts_options {
    struct world_options world;
    uint32_t steps;        /* of the workload */
    uint32_t depth;        /* how often the power goes again after a cut: 0 to CUTS_DEPTH_MAX - 1 */
    uint32_t follow;       /* steps after a cut */
    uint32_t stride;       /* 1: every cut; n: every n-th of the first level */
    uint32_t again_stride; /* the same of the levels below */
    uint32_t only_count;   /* > 0: only the cut at these places, one for each level */
    struct cuts_place only[CUTS_DEPTH_MAX];
    uint32_t skip;                    /* modes to leave out, a bit each */
    bool trace;                       /* tell every step on stderr */
    uint32_t violations_max;          /* stop after so many; 0: never */
    void (*report)(const char *line); /* told of each violation, with what repeats it */
};

struct cuts_result {
    uint64_t tried;
    uint64_t violations;
    uint64_t operations; /* flash operations of the workload itself */
};

/* Runs a workload with all its cuts; adds to `result`. */
void cuts_run(const struct cuts_options *options, struct cuts_result *result);

/* Cuts the formatting of a chip that holds an older store: afterwards there is the old store, none,
 * or an empty one. */
void cuts_run_format(const struct cuts_options *options, struct cuts_result *result);

/* Cuts a transaction of `keys` keys, more than the memtable holds, over a store that holds some of
 * them already: at every stride-th of its flash operations, from the first put to the end of the
 * commit, in every mode. Afterwards all of it is there or nothing. */
void cuts_run_transaction(const struct cuts_options *options, uint32_t keys,
                          struct cuts_result *result);

/* A long run by chance, all of it from the seed: any geometry from 8 to 4096 sectors, any workload,
 * the power cut at random moments and again while the store recovers from that. */
void cuts_run_random(uint64_t seed, uint32_t steps, void (*report)(const char *line),
                     struct cuts_result *result);

/* The name of a mode, and the mode of a name (NOR_CUT_COUNT if there is none). */
const char *cuts_mode_name(enum nor_cut mode);
enum nor_cut cuts_mode_of(const char *name);

#endif
