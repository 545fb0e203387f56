/* Writes values, inline or as trees of chunks.
 *
 * Pieces of a tree are appended before what refers to them, so a power cut leaves pieces that
 * nobody refers to, never a reference to a piece that is not there.
 */
#include "append.h"

enum {
    SPLIT_ROOM_MIN = 192,  /* room worth splitting a value for */
    SPLIT_VALUE_MIN = 256, /* a smaller value is never split */
    CHUNK_MAX_MIN = 512,   /* in small sectors what a piece carries beside its bytes weighs more */
    CHUNK_MIN = 64,        /* bytes of value in a chunk worth its record */
};

/* Links of the tree being written, a list for each level, in the flush builder's pages. */
struct tree {
    struct ekv *db;
    struct ekv_key owner;
    uint32_t owner_size;
    struct ekv_write write;
    uint32_t counts[EKV_VALUE_LEVELS];
    uint32_t begins[EKV_VALUE_LEVELS]; /* offset in the value where each list begins */
    uint32_t top;                      /* the highest level that has links */
};

static uint32_t owner_size(const struct ekv *db, struct ekv_key key)
{
    return ekv_min(key.size, ekv_owner_size_max(db));
}

static uint8_t *links_of(const struct tree *tree, uint32_t level)
{
    return tree->db->builder.pages + level * EKV_VALUE_LINKS * EKV_LINK_SIZE;
}

static uint32_t levels_of(const struct ekv *db)
{
    uint32_t bytes = db->builder.height_max * EKV_PAGE_SIZE;
    return ekv_min(EKV_VALUE_LEVELS, bytes / (EKV_VALUE_LINKS * EKV_LINK_SIZE));
}

static uint32_t links_size(const uint8_t *links, uint32_t count)
{
    uint32_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += ekv_load32(links + i * EKV_LINK_SIZE + 4);
    return size;
}

/* Writes the list of a level as a list record and empties it. */
static int list_write(struct tree *tree, uint32_t level, uint32_t *address, uint32_t *size)
{
    uint8_t head[EKV_PIECE_OFFSET_SIZE + 1];
    uint32_t count = tree->counts[level];
    *size = links_size(links_of(tree, level), count);
    ekv_store(head, tree->begins[level], EKV_PIECE_OFFSET_SIZE);
    head[EKV_PIECE_OFFSET_SIZE] = (uint8_t)level;
    int error = ekv_record_append_parts(tree->db, EKV_RECORD_LIST, tree->owner, tree->owner_size,
                                        &tree->write, head, sizeof head, links_of(tree, level),
                                        count * EKV_LINK_SIZE, address);
    tree->begins[level] += *size;
    tree->counts[level] = 0;
    return error;
}

/* Adds a link to the list of a level; a list that is full is written and linked one level up. */
static int tree_add(struct tree *tree, uint32_t level, uint32_t address, uint32_t size)
{
    for (; level < levels_of(tree->db); level++) {
        uint32_t list_address = 0, list_size = 0;
        bool full = tree->counts[level] == EKV_VALUE_LINKS;
        if (full) {
            int error = list_write(tree, level, &list_address, &list_size);
            if (error)
                return error;
        }
        uint8_t *link = links_of(tree, level) + tree->counts[level]++ * EKV_LINK_SIZE;
        ekv_store32(link, address);
        ekv_store32(link + 4, size);
        tree->top = ekv_max(tree->top, level);
        if (!full)
            return EKV_OK;
        address = list_address;
        size = list_size;
    }
    return EKV_TOO_LARGE;
}

/* Links that a head record beside this key has room for. */
static uint32_t head_links_max(const struct ekv *db, struct ekv_key key)
{
    uint32_t spare = ekv_format_record_size_max(ekv_format_of(db)) - key.size -
                     (1 + 3 + 2 + 1 + EKV_RECORD_VERSION_SIZE + EKV_RECORD_TIME_SIZE +
                      EKV_RECORD_ORDINAL_SIZE + EKV_CRC_SIZE);
    return ekv_max(1, ekv_min(EKV_VALUE_LINKS, spare / EKV_LINK_SIZE));
}

static int tree_finish(struct tree *tree, const struct ekv_write *write, uint32_t *address)
{
    uint32_t level = 0, most = head_links_max(tree->db, tree->owner);
    while (level < tree->top || tree->counts[level] > most) {
        uint32_t list, size;
        if (level + 1 == levels_of(tree->db))
            return EKV_TOO_LARGE;
        int error = list_write(tree, level, &list, &size);
        if (!error)
            error = tree_add(tree, level + 1, list, size);
        if (error)
            return error;
        level++;
    }
    uint8_t head = (uint8_t)level;
    return ekv_record_append_parts(tree->db, EKV_RECORD_HEAD, tree->owner, tree->owner.size, write,
                                   &head, 1, links_of(tree, level),
                                   tree->counts[level] * EKV_LINK_SIZE, address);
}

static uint32_t chunk_overhead(const struct ekv *db, uint32_t owner)
{
    struct ekv_record_layout layout = {.type = EKV_RECORD_CHUNK,
                                       .key_size = owner,
                                       .value_size = ekv_format_of(db)->geometry.sector_size};
    ekv_record_measure(ekv_format_of(db), &layout);
    return layout.size - layout.value_size + EKV_PIECE_OFFSET_SIZE + ekv_format_of(db)->alignment;
}

/* A quarter of a sector: a copy that gc makes may not find room in the head, and then leaves it
 * unused. */
static uint32_t chunk_size_max(const struct ekv *db)
{
    return ekv_max(CHUNK_MAX_MIN, ekv_format_of(db)->geometry.sector_size / 4);
}

static void tree_begin(struct tree *tree, struct ekv *db, struct ekv_key key,
                       const struct ekv_write *write)
{
    *tree = (struct tree){.db = db, .owner = key, .owner_size = owner_size(db, key)};
    tree->write.flags = write->flags & EKV_RECORD_ASIDE;
}

/* Appends chunks of bytes that lie at `begin` in the value, and links them. */
static int append_chunks(struct tree *tree, uint32_t begin, const uint8_t *bytes, uint32_t size)
{
    struct ekv *db = tree->db;
    uint32_t overhead = chunk_overhead(db, tree->owner_size);
    uint32_t most = chunk_size_max(db);
    for (uint32_t offset = 0; offset < size;) {
        uint8_t head[EKV_PIECE_OFFSET_SIZE];
        uint32_t room = ekv_log_room(&db->log), chunk;
        if (room < overhead + CHUNK_MIN) {
            int error = ekv_log_roll(&db->log);
            if (error)
                return error;
            room = ekv_log_room(&db->log);
        }
        uint32_t piece = ekv_min(ekv_min(size - offset, most), room - overhead);
        ekv_store(head, begin + offset, sizeof head);
        int error =
            ekv_record_append_parts(db, EKV_RECORD_CHUNK, tree->owner, tree->owner_size,
                                    &tree->write, head, sizeof head, bytes + offset, piece, &chunk);
        if (!error)
            error = tree_add(tree, 0, chunk, piece);
        if (error)
            return error;
        offset += piece;
    }
    return EKV_OK;
}

static int write_tree(struct tree *tree, const struct ekv_write *write, uint32_t begin,
                      const uint8_t *bytes, uint32_t size, uint32_t *address)
{
    int error = append_chunks(tree, begin, bytes, size);
    return error ? error : tree_finish(tree, write, address);
}

static uint32_t inline_size(const struct ekv *db, struct ekv_key key, uint8_t flags, uint32_t size)
{
    struct ekv_record_layout layout = {
        .type = EKV_RECORD_PUT | flags, .key_size = key.size, .value_size = size};
    ekv_record_measure(ekv_format_of(db), &layout);
    return layout.size;
}

int ekv_value_append(struct ekv *db, struct ekv_key key, const struct ekv_write *write,
                     const void *value, size_t size, uint32_t *address)
{
    uint32_t most = ekv_format_record_size_max(ekv_format_of(db));
    uint32_t room = ekv_log_room(&db->log);
    if (size >= ekv_flash_size(&db->sectors.flash))
        return EKV_FULL;
    uint32_t inlined = inline_size(db, key, write->flags, (uint32_t)size);
    uint32_t moved = inline_size(db, key, write->flags | EKV_RECORD_MOVED, (uint32_t)size);
    /* gc must be able to copy the record, with its version added, into an empty sector. */
    bool fits = moved <= most;
    if (fits && (inlined <= room || room < SPLIT_ROOM_MIN || size < SPLIT_VALUE_MIN))
        return ekv_record_append(db, EKV_RECORD_PUT, key, write, value, (uint32_t)size, address);
    struct tree tree;
    tree_begin(&tree, db, key, write);
    int error = ekv_log_narrow(&db->log); /* where its buffer is else, the links are kept */
    if (!error)
        error = write_tree(&tree, write, 0, value, (uint32_t)size, address);
    ekv_log_widen(&db->log, db->builder.page_count);
    return error;
}

/* Takes up the links of a head or list record, which must be of this level, or of any with
 * EKV_VALUE_LEVELS. `begin`: offset in the value. */
static int list_reopen(struct tree *tree, const struct ekv_record *record, uint32_t begin,
                       uint32_t *level)
{
    struct ekv *db = tree->db;
    uint32_t its, links, count;
    int error = ekv_value_node(db, record, &its, &links, &count);
    if (error)
        return error;
    if ((*level != EKV_VALUE_LEVELS && its != *level) || its >= levels_of(db) || count == 0 ||
        count > EKV_VALUE_LINKS)
        return ekv_corrupt();
    *level = its;
    tree->top = ekv_max(tree->top, its);
    tree->counts[its] = count;
    tree->begins[its] = begin;
    return ekv_record_bytes(&db->log, record, links, links_of(tree, its), count * EKV_LINK_SIZE);
}

/* Takes up a tree where the value ends: the last list of each level is open again. */
static int tree_reopen(struct tree *tree, const struct ekv_found *head)
{
    struct ekv_log *log = &tree->db->log;
    uint32_t level = EKV_VALUE_LEVELS;
    int error = list_reopen(tree, &head->record, 0, &level);
    while (!error && level > 0) {
        struct ekv_found list;
        uint32_t last = --tree->counts[level];
        uint32_t begin = tree->begins[level] + links_size(links_of(tree, level), last);
        error = ekv_found_at(log, ekv_load32(links_of(tree, level) + last * EKV_LINK_SIZE), &list);
        if (!error)
            error = ekv_record_verify(log, &list.record, list.sequence);
        level--;
        if (!error)
            error = list_reopen(tree, &list.record, begin, &level);
    }
    return error;
}

int ekv_value_extend(struct ekv *db, struct ekv_key key, const struct ekv_write *write,
                     const struct ekv_found *old, const void *bytes, size_t size, uint32_t *address)
{
    struct tree tree;
    tree_begin(&tree, db, key, write);
    uint64_t begin = 0;
    int error = ekv_log_narrow(&db->log);
    if (!error && old)
        error = ekv_record_verify(&db->log, &old->record, old->sequence);
    if (!error && old)
        error = ekv_value_size(db, &old->record, &begin);
    if (!error && old)
        error = tree_reopen(&tree, old);
    if (!error && begin + size >= ekv_flash_size(&db->sectors.flash))
        error = EKV_FULL;
    if (!error)
        error = write_tree(&tree, write, (uint32_t)begin, bytes, (uint32_t)size, address);
    ekv_log_widen(&db->log, db->builder.page_count);
    return error;
}

uint64_t ekv_value_log_size(const struct ekv *db, struct ekv_key key, uint64_t size)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t most = ekv_format_record_size_max(format);
    uint64_t beside = EKV_RECORD_HEAD_MAX + key.size + EKV_RECORD_TIME_SIZE +
                      EKV_RECORD_ORDINAL_SIZE + EKV_CRC_SIZE + format->alignment;
    if (size + beside <= most)
        return size + beside;
    uint32_t overhead = chunk_overhead(db, owner_size(db, key));
    uint64_t chunks = size / chunk_size_max(db) + size / (most - overhead) + 2;
    uint64_t lists = chunks / (EKV_VALUE_LINKS - 1) + 1;
    return size + chunks * (overhead + EKV_LINK_SIZE) + beside + EKV_LINK_SIZE + 1 +
           lists * (overhead + EKV_LINK_SIZE + 1);
}

uint64_t ekv_value_lists_size(const struct ekv *db, struct ekv_key key)
{
    return (EKV_VALUE_LEVELS + 1) * (chunk_overhead(db, owner_size(db, key)) + 1 +
                                     (uint64_t)EKV_VALUE_LINKS * EKV_LINK_SIZE);
}
