/* The node table.
 *
 * Two chained hash tables over the same nodes, by id and by (parent, name), doubled when full. One
 * lock guards all of it and is only held for pointer work. A node without lookups and references is
 * freed at once and lets go of its parent, which is done in a loop.
 */
#include "node.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "view.h"

enum { BUCKETS_FIRST = 256 };

/* --- Keys --------------------------------------------------------------------------------------
 */

bool key_reserve(struct key *key, size_t capacity)
{
    if (!key->bytes) {
        key->bytes = key->small;
        key->capacity = sizeof key->small;
    }
    if (capacity <= key->capacity)
        return true;
    if (capacity < 2 * key->capacity)
        capacity = 2 * key->capacity;
    uint8_t *old = key->bytes == key->small ? NULL : key->bytes;
    uint8_t *bytes = realloc(old, capacity);
    if (!bytes)
        return false;
    if (!old)
        memcpy(bytes, key->small, key->size);
    key->bytes = bytes;
    key->capacity = capacity;
    return true;
}

void key_free(struct key *key)
{
    if (key->bytes != key->small)
        free(key->bytes);
    key->bytes = NULL;
    key->size = key->capacity = 0;
}

bool key_set(struct key *key, const void *bytes, size_t size)
{
    if (!key_reserve(key, size))
        return false;
    memcpy(key->bytes, bytes, size);
    key->size = size;
    return true;
}

/* --- Hashes ------------------------------------------------------------------------------------
 */

static uint64_t hash(const void *bytes, size_t size, uint64_t seed)
{
    const uint8_t *in = bytes;
    uint64_t state = seed ^ 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        state = (state ^ in[i]) * 0x100000001b3u;
    state = (state ^ state >> 32) * 0xd6e8feb86659fd93u;
    state = (state ^ state >> 32) * 0xd6e8feb86659fd93u;
    return state ^ state >> 32;
}

static struct node **id_bucket(const struct node_table *table, uint64_t id)
{
    return &table->by_id[id & (table->buckets - 1)];
}

static struct node **name_bucket(const struct node_table *table, uint32_t name_hash)
{
    return &table->by_name[name_hash & (table->buckets - 1)];
}

static struct node *find_id(const struct node_table *table, uint64_t id)
{
    struct node *node = *id_bucket(table, id);
    while (node && node->id != id)
        node = node->next_by_id;
    return node;
}

static uint32_t hash_name(const struct node *parent, const char *name, size_t name_size)
{
    return (uint32_t)hash(name, name_size, parent->id);
}

static struct node *find_hashed(const struct node_table *table, const struct node *parent,
                                const char *name, size_t name_size, uint32_t name_hash)
{
    struct node *node = *name_bucket(table, name_hash);
    while (node && !(node->name_hash == name_hash && node->parent == parent &&
                     node->name_size == name_size && memcmp(node->name, name, name_size) == 0))
        node = node->next_by_name;
    return node;
}

static struct node *find_name(const struct node_table *table, const struct node *parent,
                              const char *name, size_t name_size)
{
    return find_hashed(table, parent, name, name_size, hash_name(parent, name, name_size));
}

static void enter_hashed(struct node_table *table, struct node *node)
{
    struct node **bucket = name_bucket(table, node->name_hash);
    node->next_by_name = *bucket;
    *bucket = node;
}

static void enter_name(struct node_table *table, struct node *node)
{
    node->name_hash = hash_name(node->parent, node->name, node->name_size);
    enter_hashed(table, node);
}

static void leave_name(struct node_table *table, struct node *node)
{
    struct node **link = name_bucket(table, node->name_hash);
    while (*link != node)
        link = &(*link)->next_by_name;
    *link = node->next_by_name;
}

static void enter_id(struct node_table *table, struct node *node)
{
    struct node **bucket = id_bucket(table, node->id);
    node->next_by_id = *bucket;
    *bucket = node;
}

static void grow(struct node_table *table)
{
    struct node **old_by_id = table->by_id;
    size_t old_buckets = table->buckets, buckets = 2 * table->buckets;
    struct node **by_id = calloc(buckets, sizeof *by_id);
    struct node **by_name = calloc(buckets, sizeof *by_name);
    if (!by_id || !by_name) { /* longer chains then */
        free(by_id);
        free(by_name);
        return;
    }
    free(table->by_name);
    table->by_id = by_id;
    table->by_name = by_name;
    table->buckets = buckets;
    for (size_t i = 0; i < old_buckets; i++) {
        struct node *next;
        for (struct node *node = old_by_id[i]; node; node = next) {
            next = node->next_by_id;
            enter_id(table, node);
            if (node->parent && !node->unlinked)
                enter_hashed(table, node);
        }
    }
    free(old_by_id);
}

/* --- The table ---------------------------------------------------------------------------------
 */

bool node_table_init(struct node_table *table, struct view *live)
{
    memset(table, 0, sizeof *table);
    pthread_mutex_init(&table->lock, NULL);
    pthread_cond_init(&table->moved, NULL);
    table->buckets = BUCKETS_FIRST;
    table->by_id = calloc(table->buckets, sizeof *table->by_id);
    table->by_name = calloc(table->buckets, sizeof *table->by_name);
    table->root = calloc(1, sizeof *table->root);
    if (!table->by_id || !table->by_name || !table->root)
        return false;
    table->next_generation = (uint64_t)time(NULL);
    *table->root = (struct node){.id = NODE_ROOT_ID,
                                 .view = live,
                                 .top = true,
                                 .kind = NODE_DIRECTORY,
                                 .lookups = 1,
                                 .refs = 1};
    enter_id(table, table->root);
    table->count = 1;
    return true;
}

static void leave_view(struct node *node)
{
    if (--node->view->nodes == 0 && !node->view->held)
        view_free(node->view);
}

void node_table_free(struct node_table *table)
{
    for (size_t i = 0; i < table->buckets; i++) {
        struct node *next;
        for (struct node *node = table->by_id[i]; node; node = next) {
            next = node->next_by_id;
            if (node != table->root)
                leave_view(node);
            cookies_free(node->cookies);
            free(node->last);
            free(node->name);
            free(node);
        }
    }
    free(table->by_id);
    free(table->by_name);
    pthread_mutex_destroy(&table->lock);
    pthread_cond_destroy(&table->moved);
}

struct node *node_by_id(struct node_table *table, uint64_t id)
{
    if (id == NODE_ROOT_ID)
        return table->root;
    pthread_mutex_lock(&table->lock);
    struct node *node = find_id(table, id);
    pthread_mutex_unlock(&table->lock);
    return node;
}

struct node *node_by_name(struct node_table *table, struct node *parent, const char *name,
                          size_t name_size)
{
    pthread_mutex_lock(&table->lock);
    struct node *node = find_name(table, parent, name, name_size);
    if (node)
        node->refs++;
    pthread_mutex_unlock(&table->lock);
    return node;
}

/* An id for a path that no known node has. */
static uint64_t new_id(const struct node_table *table, const struct key *key, enum node_kind kind,
                       struct view *view)
{
    uint64_t seed = kind == NODE_FILE ? 0x66 : 0x64;
    if (view != table->root->view)
        seed = hash(&view, sizeof view, seed);
    uint64_t id = hash(key->bytes, key->size, seed);
    while (id <= NODE_ROOT_ID || find_id(table, id))
        id = hash(&id, sizeof id, seed);
    return id;
}

static struct node *add(struct node_table *table, struct node *parent, const char *name,
                        size_t name_size, uint32_t name_hash, struct view *view,
                        enum node_kind kind, const struct key *key)
{
    /* Each node of a chain that is walked is not in the processor's cache. */
    if (2 * table->count > table->buckets)
        grow(table);
    struct node *node = calloc(1, sizeof *node);
    char *copy = malloc(name_size);
    if (!node || !copy) {
        free(node);
        free(copy);
        return NULL;
    }
    memcpy(copy, name, name_size);
    node->id = new_id(table, key, kind, view);
    node->generation = table->next_generation++;
    node->view = view;
    view->nodes++;
    node->kind = kind;
    node->name = copy;
    node->name_size = (uint16_t)name_size;
    node->parent = parent;
    parent->refs++;
    node->name_hash = name_hash;
    enter_id(table, node);
    enter_hashed(table, node);
    table->count++;
    return node;
}

static void unlink_node(struct node_table *table, struct node *node)
{
    if (node->unlinked)
        return;
    leave_name(table, node);
    node->unlinked = true;
}

struct node *node_obtain(struct node_table *table, struct node *parent, const char *name,
                         size_t name_size, enum node_kind kind, enum path_kind path_kind,
                         size_t bytes_size, const struct key *key)
{
    pthread_mutex_lock(&table->lock);
    uint32_t name_hash = hash_name(parent, name, name_size);
    struct node *node = find_hashed(table, parent, name, name_size, name_hash);
    if (node && node->kind != kind) { /* it became something else */
        unlink_node(table, node);
        node = NULL;
    }
    if (!node) {
        node = add(table, parent, name, name_size, name_hash, parent->view, kind, key);
        if (node) {
            node->path_kind = path_kind;
            node->bytes_size = (uint16_t)bytes_size;
        }
    }
    if (node)
        node->refs++;
    pthread_mutex_unlock(&table->lock);
    return node;
}

struct node *node_add_top(struct node_table *table, struct node *parent, const char *name,
                          size_t name_size, struct view *view, bool *exists)
{
    struct node *node = NULL;
    pthread_mutex_lock(&table->lock);
    uint32_t name_hash = hash_name(parent, name, name_size);
    *exists = find_hashed(table, parent, name, name_size, name_hash);
    if (!*exists)
        node =
            add(table, parent, name, name_size, name_hash, view, NODE_DIRECTORY, &(struct key){0});
    if (node) {
        node->top = true;
        view->top = node;
        node->path_kind = PATH_NAME;
        node->refs++;
    }
    pthread_mutex_unlock(&table->lock);
    return node;
}

void node_looked_up(struct node_table *table, struct node *node)
{
    pthread_mutex_lock(&table->lock);
    node->lookups++;
    pthread_mutex_unlock(&table->lock);
}

void node_hand_over(struct node_table *table, struct node *node)
{
    pthread_mutex_lock(&table->lock);
    assert(node->refs > 0);
    node->lookups++;
    node->refs--;
    pthread_mutex_unlock(&table->lock);
}

static void free_unused(struct node_table *table, struct node *node)
{
    while (node && node->lookups == 0 && node->refs == 0) {
        struct node *parent = node->parent;
        if (!node->unlinked)
            leave_name(table, node);
        struct node **link = id_bucket(table, node->id);
        while (*link != node)
            link = &(*link)->next_by_id;
        *link = node->next_by_id;
        leave_view(node);
        cookies_free(node->cookies);
        free(node->last);
        free(node->name);
        free(node);
        table->count--;
        if (parent)
            parent->refs--;
        node = parent;
    }
}

struct file *node_forget(struct node_table *table, uint64_t id, uint64_t count)
{
    struct file *kept = NULL;
    pthread_mutex_lock(&table->lock);
    struct node *node = find_id(table, id);
    if (node && id != NODE_ROOT_ID) {
        node->lookups -= count < node->lookups ? count : node->lookups;
        if (node->lookups == 0) {
            kept = node->kept;
            node->kept = NULL;
        }
        free_unused(table, node);
    }
    pthread_mutex_unlock(&table->lock);
    return kept;
}

void node_ref(struct node_table *table, struct node *node)
{
    pthread_mutex_lock(&table->lock);
    node->refs++;
    pthread_mutex_unlock(&table->lock);
}

void node_unref(struct node_table *table, struct node *node)
{
    if (!node)
        return;
    pthread_mutex_lock(&table->lock);
    assert(node->refs > 0);
    node->refs--;
    free_unused(table, node);
    pthread_mutex_unlock(&table->lock);
}

struct cookies *node_cookies(struct node_table *table, struct node *node)
{
    pthread_mutex_lock(&table->lock);
    if (!node->cookies)
        node->cookies = cookies_new();
    struct cookies *cookies = node->cookies;
    pthread_mutex_unlock(&table->lock);
    return cookies;
}

bool node_listing_begin(struct node_table *table, struct node *node)
{
    pthread_mutex_lock(&table->lock);
    if (node->listings == 0)
        node->listed_changes = node->changes;
    bool kept = node->listed_changes == node->changes;
    node->listings += kept;
    pthread_mutex_unlock(&table->lock);
    return kept;
}

void node_listing_end(struct node_table *table, struct node *node)
{
    pthread_mutex_lock(&table->lock);
    assert(node->listings > 0);
    node->listings--;
    pthread_mutex_unlock(&table->lock);
}

void node_unlink(struct node_table *table, struct node *node)
{
    pthread_mutex_lock(&table->lock);
    unlink_node(table, node);
    pthread_mutex_unlock(&table->lock);
}

void node_set_removing(struct node_table *table, struct node *node, bool removing)
{
    if (!node)
        return;
    pthread_mutex_lock(&table->lock);
    node->removing = removing;
    pthread_cond_broadcast(&table->moved);
    pthread_mutex_unlock(&table->lock);
}

static void set_moving(struct node_table *table, struct node *first, struct node *second,
                       bool moving)
{
    pthread_mutex_lock(&table->lock);
    table->moves++;
    if (first)
        first->moving = moving;
    if (second)
        second->moving = moving;
    pthread_cond_broadcast(&table->moved);
    pthread_mutex_unlock(&table->lock);
}

void node_move_begin(struct node_table *table, struct node *first, struct node *second)
{
    set_moving(table, first, second, true);
}

void node_move_end(struct node_table *table, struct node *first, struct node *second)
{
    set_moving(table, first, second, false);
}

void node_rename(struct node_table *table, struct node *node, struct node *parent, char *copy,
                 size_t name_size, enum path_kind path_kind, size_t bytes_size)
{
    pthread_mutex_lock(&table->lock);
    struct node *old_parent = node->parent;
    leave_name(table, node);
    free(node->name);
    node->name = copy;
    node->name_size = (uint16_t)name_size;
    node->path_kind = path_kind;
    node->bytes_size = (uint16_t)bytes_size;
    node->parent = parent;
    parent->refs++;
    enter_name(table, node);
    old_parent->refs--;
    free_unused(table, old_parent);
    pthread_mutex_unlock(&table->lock);
}

void node_exchange(struct node_table *table, struct node *one, struct node *other)
{
    pthread_mutex_lock(&table->lock);
    leave_name(table, one);
    leave_name(table, other);
    struct node old = *one;
    one->name = other->name;
    one->name_size = other->name_size;
    one->path_kind = other->path_kind;
    one->bytes_size = other->bytes_size;
    one->parent = other->parent;
    other->name = old.name;
    other->name_size = old.name_size;
    other->path_kind = old.path_kind;
    other->bytes_size = old.bytes_size;
    other->parent = old.parent;
    enter_name(table, one);
    enter_name(table, other);
    pthread_mutex_unlock(&table->lock);
}

/* --- Keys of nodes -----------------------------------------------------------------------------
 */

struct path_place node_place(const struct node *directory)
{
    if (directory->top)
        return (struct path_place){.root = true};
    return path_enter(directory->path_kind, directory->name_size);
}

/* Bytes that a node adds to the prefix of its parent. */
static size_t own_size(const struct node *node)
{
    return node->bytes_size + (node->kind == NODE_DIRECTORY && node->path_kind == PATH_NAME);
}

static void fill(const struct node *node, uint8_t *end)
{
    for (; !node->top; node = node->parent) {
        end -= own_size(node);
        if (node->bytes_size == node->name_size) {
            memcpy(end, node->name, node->name_size);
        } else {
            uint8_t bytes[PATH_NAME_MAX];
            size_t bytes_size = 0;
            path_decode(node_place(node->parent), node->name, node->name_size, bytes, &bytes_size);
            assert(bytes_size == node->bytes_size);
            memcpy(end, bytes, bytes_size);
        }
        if (own_size(node) > node->bytes_size)
            end[node->bytes_size] = '/';
    }
}

/* Whether the node or a directory above it is moving, or else has lost its name. */
static int obstacle(const struct node *node)
{
    int error = 0;
    for (; !node->top; node = node->parent) {
        if (node->moving)
            return EAGAIN;
        if (node->unlinked)
            error = ENOENT;
    }
    return error;
}

int node_key(struct node_table *table, const struct node *node, struct key *key, uint64_t *moves)
{
    int error;
    pthread_mutex_lock(&table->lock);
    while ((error = obstacle(node)) == EAGAIN) {
        loop_hand_over();
        pthread_cond_wait(&table->moved, &table->lock);
    }
    if (moves)
        *moves = table->moves;
    /* The value of a directory: the prefix of the directory without its '/'. */
    bool value = !node->top && node->path_kind == PATH_VALUE;
    const struct node *last = value ? node->parent : node;
    size_t size = 0;
    for (const struct node *step = last; !step->top && !error; step = step->parent)
        size += own_size(step);
    if (!error && !key_reserve(key, size))
        error = ENOMEM;
    if (!error) {
        fill(last, key->bytes + size);
        key->size = value ? size - 1 : size;
    }
    pthread_mutex_unlock(&table->lock);
    return error;
}

size_t node_key_size(struct node_table *table, const struct node *node)
{
    size_t size = 0;
    pthread_mutex_lock(&table->lock);
    for (; !node->top; node = node->parent)
        size += own_size(node);
    pthread_mutex_unlock(&table->lock);
    return size;
}

bool node_moved(struct node_table *table, uint64_t moves)
{
    pthread_mutex_lock(&table->lock);
    bool moved = table->moves != moves;
    pthread_mutex_unlock(&table->lock);
    return moved;
}
