/* The engines that bench_engine compares, behind one interface.
 *
 * Each put and each removal is a transaction of its own, none of them synced to the disk: what was
 * acknowledged survives the end of the process, not a loss of power of the host. Each get and each
 * scan sees the newest state; engines with read transactions keep one open until the next write.
 *
 * Whatever fails ends the program with a sentence.
 */
#ifndef EKV_BENCH_ENGINE_H
#define EKV_BENCH_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine_options {
    const char *folder;    /* where files go; exists */
    uint64_t payload_size; /* bytes of keys and values that the store must hold */
    uint32_t keys;
    uint32_t sector_size; /* of ekv, as the next two; 0: as engine_ekv.c says */
    uint64_t flash_size;
    uint32_t memtable_count;
    uint32_t cache_count;
};

/* A key with its value, or with neither value nor size where only keys are asked for. Bytes are the
 * engine's until the next call. */
typedef void engine_visit(void *context, const void *key, size_t key_size, const void *value,
                          size_t size);

struct engine {
    const char *name;
    const char *settings; /* a sentence */
    /* `fresh`: an empty store, whatever was there; otherwise the one that was closed. */
    void *(*open)(const struct engine_options *options, bool fresh);
    void (*close)(void *store);
    void (*put)(void *store, const void *key, size_t key_size, const void *value, size_t size);
    /* False: the key is not there. */
    bool (*get)(void *store, const void *key, size_t key_size, void *buffer, size_t capacity,
                size_t *size);
    void (*remove)(void *store, const void *key, size_t key_size);
    void (*scan)(void *store, bool backwards, bool keys_only, engine_visit *visit, void *context);
    /* The engine's own figures about the store; returns one of them. */
    uint64_t (*stat)(void *store);
};

/* The last three as far as their libraries are there: EKV_BENCH_LMDB and so on are defined then. */
extern const struct engine engine_ekv_ram, engine_ekv_image;
extern const struct engine engine_lmdb, engine_leveldb, engine_sqlite;

/* Ends the program. */
_Noreturn void engine_fail(const char *engine, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* `folder`/`name` in a static buffer. */
const char *engine_path(const struct engine_options *options, const char *name);

void *engine_allocate(size_t size);

#endif
