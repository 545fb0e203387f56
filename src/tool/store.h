/* A store on an image file, opened for one command. */
#ifndef EKV_TOOL_STORE_H
#define EKV_TOOL_STORE_H

#include "host/image.h"
#include "tool.h"

struct store {
    struct image image;
    struct ekv *db;
    void *memory;
};

/* Opens the image of -C and finds the store's geometry, without mounting it. Says what is wrong.
 * Reading works also while the image is mounted by somebody, as a view of one moment. */
EKV_MUST_CHECK int store_open(struct tool *tool, struct store *store, bool write);

/* Mounts what store_open found; on failure the store is closed, and nothing is said yet. */
EKV_MUST_CHECK int store_mount(struct store *store);

/* Says why store_mount failed. */
void store_explain(struct tool *tool, const struct store *store, int error);

/* All of it. */
EKV_MUST_CHECK int store_open_mounted(struct tool *tool, struct store *store, bool write);

/* Whether a failure to open or mount may leave something that can be read without a mount. */
bool store_is_broken(int error);

/* Unmounts and closes. Says what is wrong when what was written may not have come through. */
EKV_MUST_CHECK int store_close(struct tool *tool, struct store *store);

/* Where in the file of -C the flash lies. */
struct image_window store_window(const struct tool *tool);

#endif
