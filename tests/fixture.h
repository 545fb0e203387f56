/* What the tests of the engine's layers share: a mounted store on a simulated flash with a model of
 * what it must hold, the lower layers without a store, keys and values made from numbers, and
 * assertions that name results instead of numbers.
 *
 * Include it behind <cmocka.h>. Everything here ends the test when it fails.
 */
#ifndef EKV_TESTS_FIXTURE_H
#define EKV_TESTS_FIXTURE_H

#include "ekv.h"
#include "host/nor.h"
#include "log.h"
#include "model.h"

/* --- Assertions ------------------------------------------------------------------------------ */

/* Fails with the names of both results and the call. */
void fixture_result(int result, int expected, const char *call, const char *file, int line);

#define assert_result(call, expected) fixture_result((call), (expected), #call, __FILE__, __LINE__)
#define assert_ok(call)               assert_result(call, EKV_OK)

/* --- Data ------------------------------------------------------------------------------------ */

enum { FIXTURE_KEY_SIZE = 12 };

/* The key "key-NNNNNNN" of a number, in one of a few static buffers: for immediate use. */
struct ekv_key fixture_key(uint32_t number);

/* Fills bytes that depend on the seed and the place. */
void fixture_fill(void *bytes, size_t size, uint64_t seed);

/* A well-mixed number below `limit` from a state; the state moves on. */
uint32_t fixture_below(uint64_t *state, uint32_t limit);

/* --- A mounted store ------------------------------------------------------------------------- */

struct fixture {
    struct nor nor;
    struct ekv *db; /* NULL: not mounted */
    struct ekv_mount_options options;
    void *memory;
    size_t memory_size;
    struct model model; /* what the store must hold */
    uint8_t *value;     /* of the put in hand */
};

/* Makes an aged flash, formats and mounts a store. */
void fixture_start(struct fixture *fixture, struct ekv_geometry geometry, uint32_t memtable_count);

/* The same for a flash and mount options that are set already. */
void fixture_start_options(struct fixture *fixture, struct ekv_geometry geometry,
                           const struct ekv_mount_options *options, enum nor_start start);
void fixture_stop(struct fixture *fixture);

/* Mounts again: after a clean unmount, or as after a loss of power. Then the store must hold what
 * the model holds. */
void fixture_remount(struct fixture *fixture);
void fixture_reload(struct fixture *fixture);

/* A put of `size` bytes made from `seed`, and a delete, in store and model. */
void fixture_put(struct fixture *fixture, struct ekv_key key, size_t size, uint64_t seed);
void fixture_delete(struct fixture *fixture, struct ekv_key key);

/* Deterministic background work until none is left. */
void fixture_work(struct fixture *fixture);

/* The store is what the model is, and ekv_check finds nothing. */
void fixture_verify(struct fixture *fixture);
/* ekv_check alone. */
void fixture_check(struct fixture *fixture);

struct ekv_stat fixture_stat(struct fixture *fixture);

/* The key's value is `size` bytes made from `seed`. */
void fixture_expect(struct fixture *fixture, struct ekv_key key, size_t size, uint64_t seed);

/* --- The lower layers without a store -------------------------------------------------------- */

enum { LAYERS_PAGES = 3 };

struct layers {
    struct nor nor;
    struct ekv_sectors sectors;
    struct ekv_log log;
    uint8_t pages[LAYERS_PAGES * EKV_PAGE_SIZE];
    uint8_t *memory;
};

/* All sectors but the ring are free. The log is not started. */
void layers_start(struct layers *layers, struct ekv_geometry geometry, enum nor_start start);
void layers_stop(struct layers *layers);

/* Appends a record of a key and a value; its address. */
uint32_t layers_append(struct layers *layers, uint8_t type, struct ekv_key key, const void *value,
                       uint32_t size);

#endif
