/* Content that goes to flash while it is written: when it does, and how it comes back.
 *
 * Rewriting a value with the same bytes must write nothing, so a file that has been committed
 * spills from the place on where it differs from that.
 *
 * After a crash nothing of a spill is left; its space is free.
 */
#include "spill.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"

enum {
    SPILL_MIN = 1 << 20,     /* a smaller file stays in memory */
    SPILL_PIECE = 128 << 10, /* bytes that go to flash together */
};

struct spill {
    struct batch batch; /* what is committed with the value goes there, too */
    struct key key;     /* of the value */
};

/* What is on flash, and where memory begins. */
static size_t in_memory(const struct file *file)
{
    return file->size - file->base;
}

bool spill_is_due(const struct file *file, uint64_t offset, size_t size)
{
    uint64_t end = offset + size;
    if (file->spill)
        return offset < file->base || end - file->base >= SPILL_PIECE;
    return file->sequential && file->dirty && !file->dead && offset >= file->size &&
           view_is_live(file->node->view) && end >= file->same + SPILL_MIN;
}

bool spill_takes(const struct file *file, uint64_t offset, size_t size)
{
    return file->spill && offset == file->size && in_memory(file) == 0 && size >= SPILL_PIECE;
}

static void spill_free(struct file *file)
{
    key_free(&file->spill->key);
    free(file->spill);
    file->spill = NULL;
    file->base = 0;
}

static int begin(struct fs *fs, struct file *file)
{
    struct spill *spill = calloc(1, sizeof *spill);
    if (!spill)
        return ENOMEM;
    int error = node_key(&fs->nodes, file->node, &spill->key, NULL);
    if (!error && !file->created)
        error = file_compare(file, ekv_key(spill->key.bytes, spill->key.size), &file->same);
    bool differs = file->created || file->same < file->size;
    bool fits = !error && differs && spill->key.size <= fs->store.key_size_max;
    if (fits)
        error = batch_begin(&spill->batch, file->node->view);
    if (!error && fits) {
        batch_unpin(&spill->batch);
        file->spill = spill;
        return 0;
    }
    key_free(&spill->key);
    free(spill);
    return error;
}

int spill_add(struct file *file, const void *bytes, size_t size)
{
    const struct key *key = &file->spill->key;
    return batch_append(&file->spill->batch, ekv_key(key->bytes, key->size), bytes, size);
}

int spill_more(struct fs *fs, struct file *file)
{
    int error = 0;
    if (!file->spill && !file->dead)
        error = begin(fs, file);
    if (error || !file->spill || in_memory(file) < SPILL_PIECE)
        return error;
    error = spill_add(file, file->data, in_memory(file));
    if (error)
        return error;
    file->base = file->size;
    if (file->capacity > SPILL_MIN) {
        buffer_give(file->data, file->capacity);
        file->data = NULL;
        file->capacity = 0;
    }
    return 0;
}

int spill_read(const struct file *file, size_t offset, void *buffer, size_t size, size_t *got)
{
    const struct key *key = &file->spill->key;
    size_t left = file->base - offset;
    return batch_get(&file->spill->batch, ekv_key(key->bytes, key->size), offset, buffer,
                     size < left ? size : left, got);
}

int spill_undo(struct file *file)
{
    size_t got = 0;
    uint8_t *data = malloc(file->size ? file->size : 1);
    int error = data ? spill_read(file, 0, data, file->base, &got) : ENOMEM;
    if (!error && got < file->base)
        error = EIO;
    if (error) {
        free(data);
        return error;
    }
    if (in_memory(file) > 0)
        memcpy(data + file->base, file->data, in_memory(file));
    buffer_give(file->data, file->capacity);
    file->data = data;
    file->capacity = file->size ? file->size : 1;
    file->sequential = false;
    batch_abort(&file->spill->batch);
    spill_free(file);
    return 0;
}

void spill_drop(struct file *file)
{
    if (!file->spill)
        return;
    batch_abort(&file->spill->batch);
    spill_free(file);
    file->size = 0;
}

int spill_complete(struct file *file, const struct key *key)
{
    const struct key *own = &file->spill->key;
    if (own->size != key->size || memcmp(own->bytes, key->bytes, key->size) != 0 ||
        batch_conflicts(&file->spill->batch, key->bytes, key->size))
        return EAGAIN;
    size_t left = in_memory(file);
    int error = left > 0 ? spill_add(file, file->data, left) : 0;
    if (!error)
        file->base = file->size;
    return error;
}

struct batch *spill_batch(struct file *file)
{
    return &file->spill->batch;
}

void spill_committed(struct file *file)
{
    assert(in_memory(file) == 0);
    spill_free(file);
    file->size = 0;
}
