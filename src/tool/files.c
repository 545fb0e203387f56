/* Files as keys: what a file or directory is stored as. */
#define _GNU_SOURCE
#include "files.h"

#include <stdlib.h>

void file_entry_free(struct file_entry *entry)
{
    free(entry->key);
    free(entry->value);
    free(entry->xattrs);
    free(entry->path);
}

size_t file_entry_record(const struct file_entry *entry, const uint8_t *old, size_t old_size,
                         uint8_t bytes[ATTR_RECORD_MAX])
{
    struct attr_record record;
    attr_clear(&record);
    if (old_size > 0)
        (void)attr_decode(old, old_size, &record); /* of a later version: the defaults hold */
    struct xattrs *xattrs = entry->directory ? &record.directory_xattrs : &record.file_xattrs;
    xattrs->size = 0;
    if (entry->xattrs)
        *xattrs = *entry->xattrs;
    if (entry->directory) {
        record.has_directory = true;
        record.directory = entry->attr;
    } else {
        record.has_file = true;
        record.file = entry->attr;
    }
    return attr_encode(&record, bytes);
}

static int put_record(struct writer *writer, const struct file_entry *entry)
{
    uint8_t old[ATTR_RECORD_MAX], bytes[ATTR_RECORD_MAX];
    size_t old_size = 0;
    struct ekv_key key = {entry->key, (uint32_t)entry->key_size, EKV_ASIDE, 0};
    int error = writer_get(writer, key, old, sizeof old, &old_size);
    if (error < 0)
        return error;
    size_t size = file_entry_record(entry, old, old_size, bytes);
    if (size > 0)
        return writer_put(writer, key, bytes, size);
    return writer_delete(writer, key);
}

int file_entry_put(struct writer *writer, const struct file_entry *entry)
{
    int error = EKV_OK;
    if (!entry->directory)
        error = writer_put(writer, ekv_key(entry->key, entry->key_size), entry->value,
                           entry->value_size);
    return error ? error : put_record(writer, entry);
}

int file_remove(struct ekv_txn *txn, struct ekv_key key)
{
    uint8_t bytes[ATTR_RECORD_MAX];
    struct attr_record record;
    struct ekv_entry entry;
    struct ekv_key aside = key;
    size_t size;
    int error = ekv_txn_find(txn, key, &entry);
    if (error)
        return error;
    aside.space = EKV_ASIDE;
    error = ekv_txn_get(txn, aside, 0, bytes, sizeof bytes, &size);
    if (!error && attr_decode(bytes, size, &record) && record.has_file) {
        record.has_file = false;
        size = attr_encode(&record, bytes);
        error = size ? ekv_txn_put(txn, aside, bytes, size) : ekv_txn_delete(txn, aside);
    }
    return error && error != EKV_NOT_FOUND ? error : ekv_txn_delete(txn, key);
}
