/* Deterministic workloads: a simulated flash, the store on it, the handles open on the store and
 * the model of what all of them must show, advanced one operation at a time by a seed.
 *
 * An operation is planned, executed and applied to the model in three calls, so that a test can
 * execute it many times (with the power cut at each flash operation of it) before it goes on.
 * Everything that executing changes is in a world_snapshot; the models are not.
 */
#ifndef EKV_TESTS_WORKLOAD_H
#define EKV_TESTS_WORKLOAD_H

#include "ekv.h"
#include "host/nor.h"
#include "model.h"

enum operation_kind {
    OPERATION_PUT,
    OPERATION_DELETE,
    OPERATION_TXN_BEGIN,
    OPERATION_TXN_PUT,
    OPERATION_TXN_DELETE,
    OPERATION_TXN_COMMIT,
    OPERATION_TXN_ABORT,
    OPERATION_SNAPSHOT_OPEN,
    OPERATION_SNAPSHOT_CLOSE,
    OPERATION_CURSOR_OPEN,
    OPERATION_CURSOR_MOVE,
    OPERATION_CURSOR_CLOSE,
    OPERATION_WORK,
    OPERATION_SYNC,
    OPERATION_REMOUNT, /* closes every handle, unmounts, mounts */
    OPERATION_RELOAD,  /* mounts again as after a loss of power between two operations */
    OPERATION_COUNT,
};

enum { WORLD_TXNS = 2, WORLD_SNAPSHOTS = 2, WORLD_KEY_MAX = 320 };

struct operation {
    enum operation_kind kind;
    uint8_t slot;
    uint8_t space;
    bool back; /* a cursor's move */
    uint32_t key_size;
    uint8_t key[WORLD_KEY_MAX];
    uint32_t value_size;
    uint64_t value_seed;
};

/* The profiles are named in workload.c: small, txn, large, full, snapshot, work, mixed. */
extern const char *const workload_names[];
extern const unsigned workload_count;
extern const struct ekv_geometry workload_geometries[];
extern const unsigned workload_geometry_count;

struct world_options {
    unsigned workload; /* index of workload_names */
    struct ekv_geometry geometry;
    uint64_t seed;
    uint32_t memtable_count;
    enum nor_start start;
    bool map;         /* reads in place */
    bool clock;       /* commits carry a time */
    bool check_locks; /* an erase or sync under the write lock is a violation */
};

/* What executing changes beside flash and memory; copied by snapshots. */
struct world_live {
    struct ekv *db; /* NULL: not mounted */
    struct ekv_txn txns[WORLD_TXNS];
    struct ekv_snapshot snapshots[WORLD_SNAPSHOTS];
    struct ekv_cursor cursor;
    bool txn_open[WORLD_TXNS];
    bool snapshot_open[WORLD_SNAPSHOTS];
    bool cursor_open;
    uint32_t txn_capacity[WORLD_TXNS];
    int64_t clock;
    unsigned read_locks, write_locks;
};

/* What the store may turn out to hold at a mount, while that is open: a cut operation may have left
 * something that reads differently each time, and until a write has been acknowledged after the cut
 * every mount decides anew. `since` is how many flash operations there were when the power came
 * back, or when a write was refused whose recovery found no room. With a count of 0 nothing is
 * open. */
struct outcomes {
    struct model *states;
    uint32_t count;
    uint64_t since;
};

/* What the store and the handles must show, and where the plan has got to. */
struct world_models {
    uint64_t random;
    uint32_t step;
    int last_result;
    uint32_t full_streak; /* deletes are preferred for so many operations */
    struct model committed;
    struct outcomes outcomes;
    struct model txn_views[WORLD_TXNS], txn_written[WORLD_TXNS], txn_changed[WORLD_TXNS];
    struct model snapshots[WORLD_SNAPSHOTS], cursor;
    uint32_t cursor_at; /* 0: before the first, count + 1: behind the last */
};

struct world {
    struct world_options options;
    struct nor nor;
    struct ekv_flash flash; /* as the store sees it: checks the locks, then asks `nor` */
    struct world_live live;
    struct world_models models;
    uint8_t *arena; /* the store's memory, then that of the transactions */
    size_t arena_size, store_size;
    void *format_memory; /* a format needs what a mount without options does */
    size_t format_size;
    uint8_t *value; /* of the operation that is executed */
};

/* Makes flash and memory; the store is not formatted yet. Ends the program without memory. */
void world_init(struct world *world, const struct world_options *options);
void world_free(struct world *world);

/* Return what the engine returned. A mount forgets all handles and models of handles. */
int world_format(struct world *world);
int world_mount(struct world *world, bool read_only);
void world_forget_handles(struct world *world);

/* The next operation by the seed; it fits what is open. */
void world_plan(struct world *world, struct operation *operation);
/* Executes it; changes no model. Returns what the engine returned. */
int world_execute(struct world *world, const struct operation *operation);
/* Whether the answer is one that the operation may have; else `why`. A delete must not answer
 * "full" with nothing open. */
bool world_accept(struct world *world, const struct operation *operation, int result,
                  struct model_why *why);
/* Applies it to the models. */
void world_apply(struct world *world, const struct operation *operation, int result);
/* What the store holds if the operation succeeds. */
void world_model_after(const struct world *world, const struct operation *operation,
                       struct model *after);
/* Compares the store and all that is open with the models. */
bool world_verify(struct world *world, struct model_why *why);

/* --- After a loss of power (outcome.c) ------------------------------------------------------- */

/* The power went while an operation ran that answered `result`. What the store may hold is added to
 * what it might hold before: `committed` as the operation met it, and `after`, what it would have
 * made (NULL: no change). If it answered EKV_OK, only that. */
void outcomes_add(struct outcomes *outcomes, const struct model *committed,
                  const struct model *after, int result);
void outcomes_copy(struct outcomes *to, const struct outcomes *from);
void outcomes_free(struct outcomes *outcomes);

/* Mounts twice after a loss of power. Each time the store must hold one of the outcomes, the same
 * both times unless the flash is unstable; check must find nothing and nothing be written. What it
 * holds becomes the committed model. */
bool world_recover(struct world *world, struct model_why *why);

/* The power went while the operation ran: lets it return, and recovers with the operation's outcome
 * among those that are allowed. */
bool world_survive(struct world *world, const struct operation *operation, int result,
                   struct model_why *why);

/* The store was mounted: finds out which of the outcomes it holds, which becomes the committed
 * model; with stable flash the others are out. */
bool world_recognise(struct world *world, struct model_why *why);

/* An operation answered EKV_OK: if it wrote, what the store holds is certain now. */
void world_decide(struct world *world);

/* Fills an operation from numbers: any are good, and made to fit what is open. */
void world_compose(struct world *world, struct operation *operation, unsigned kind, unsigned slot,
                   uint32_t key_number, uint32_t value_size);

/* plan, execute, accept, apply. False with `why` if the answer is wrong. */
bool world_step(struct world *world, struct model_why *why);

/* An operation in words. */
void world_describe(const struct operation *operation, char *text, size_t size);

struct world_snapshot {
    struct nor_snapshot *nor;
    struct world_live live;
    uint8_t *arena;
};

void world_snapshot_init(struct world_snapshot *snapshot, struct world *world);
void world_snapshot_free(struct world_snapshot *snapshot);
void world_snapshot_take(struct world *world, struct world_snapshot *snapshot);
void world_snapshot_restore(struct world *world, const struct world_snapshot *snapshot);

/* A well-mixed number from a state; the state moves on. */
uint64_t world_random(uint64_t *state);

#endif
