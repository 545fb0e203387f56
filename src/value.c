/* Reads values, inline or as trees of chunks, walks through them and moves their pieces.
 *
 * Pieces of a tree are appended before what refers to them (append.c), so a power cut leaves pieces
 * that nobody refers to, never a reference to a piece that is not there. A tree is at most
 * EKV_VALUE_LEVELS lists high; every descent is bounded by the level that its nodes must have.
 */
#include "value.h"

uint32_t ekv_owner_size_max(const struct ekv *db)
{
    return ekv_min(255, ekv_format_of(db)->geometry.sector_size / 16);
}

/* --- Trees: reading -------------------------------------------------------------------------- */

/* A list of links in a head or list record. */
struct node {
    struct ekv_record record;
    uint32_t links; /* offset of the first in the record */
    uint32_t count;
    uint32_t level;
};

static int node_open(struct ekv *db, const struct ekv_record *record, struct node *node)
{
    uint8_t level;
    uint32_t head = ekv_record_kind(record) == EKV_RECORD_LIST ? EKV_PIECE_OFFSET_SIZE : 0;
    uint32_t value = record->layout.head_size + record->layout.key_size;
    if (record->layout.value_size < head + 1)
        return ekv_corrupt();
    int error = ekv_record_bytes(&db->log, record, value + head, &level, 1);
    if (error)
        return error;
    node->record = *record;
    node->level = level;
    node->links = value + head + 1;
    node->count = (record->layout.value_size - head - 1) / EKV_LINK_SIZE;
    if (level >= EKV_VALUE_LEVELS || (record->layout.value_size - head - 1) % EKV_LINK_SIZE != 0)
        return ekv_corrupt();
    return EKV_OK;
}

int ekv_value_node(struct ekv *db, const struct ekv_record *record, uint32_t *level,
                   uint32_t *links, uint32_t *count)
{
    struct node node;
    int error = node_open(db, record, &node);
    if (error)
        return error;
    *level = node.level;
    *links = node.links;
    *count = node.count;
    return EKV_OK;
}

struct link {
    uint32_t address;
    uint32_t size;
};

static int node_link(struct ekv *db, const struct node *node, uint32_t place, struct link *link)
{
    uint8_t bytes[EKV_LINK_SIZE];
    int error = ekv_record_bytes(&db->log, &node->record, node->links + place * EKV_LINK_SIZE,
                                 bytes, sizeof bytes);
    link->address = ekv_load32(bytes);
    link->size = ekv_load32(bytes + 4);
    return error;
}

static int node_size(struct ekv *db, const struct node *node, uint64_t *size)
{
    *size = 0;
    for (uint32_t i = 0; i < node->count; i++) {
        struct link link;
        int error = node_link(db, node, i, &link);
        if (error)
            return error;
        *size += link.size;
    }
    return EKV_OK;
}

int ekv_value_size(struct ekv *db, const struct ekv_record *record, uint64_t *size)
{
    struct node node;
    *size = record->layout.value_size;
    if (ekv_record_kind(record) != EKV_RECORD_HEAD)
        return EKV_OK;
    int error = node_open(db, record, &node);
    return error ? error : node_size(db, &node, size);
}

static int verified_at(struct ekv *db, uint32_t address, struct ekv_found *found)
{
    int error = ekv_found_at(&db->log, address, found);
    return error ? error : ekv_record_verify(&db->log, &found->record, found->sequence);
}

/* Reads the record that a link of a node of this level leads to, which must be a chunk (below level
 * 0) or a list, and checks it. */
static int piece_read(struct ekv *db, const struct link *link, uint32_t level,
                      struct ekv_found *piece)
{
    int error = verified_at(db, link->address, piece);
    if (error)
        return error;
    uint8_t kind = level == 0 ? EKV_RECORD_CHUNK : EKV_RECORD_LIST;
    if (ekv_record_kind(&piece->record) != kind ||
        piece->record.layout.value_size < EKV_PIECE_OFFSET_SIZE)
        return ekv_corrupt();
    if (level == 0 && piece->record.layout.value_size - EKV_PIECE_OFFSET_SIZE != link->size)
        return ekv_corrupt();
    return EKV_OK;
}

/* Finds the link of a node that holds `offset` (below the node's begin) and takes the bytes before
 * it off. */
static int node_find(struct ekv *db, const struct node *node, uint32_t *offset, struct link *link,
                     uint32_t *place)
{
    for (*place = 0; *place < node->count; (*place)++) {
        int error = node_link(db, node, *place, link);
        if (error)
            return error;
        if (*offset < link->size)
            return EKV_OK;
        *offset -= link->size;
    }
    return EKV_NOT_FOUND;
}

/* The offset in the value that a piece says it begins at. */
static int piece_offset(struct ekv *db, const struct ekv_record *piece, uint32_t *offset)
{
    uint8_t bytes[EKV_PIECE_OFFSET_SIZE];
    int error = ekv_record_bytes(&db->log, piece, piece->layout.head_size + piece->layout.key_size,
                                 bytes, sizeof bytes);
    *offset = ekv_load32(bytes);
    return error;
}

/* A chunk of a value: the list that links it, which of its links that is, and the chunk. */
struct leaf {
    struct node node;
    uint32_t place;
    struct ekv_found chunk;
};

/* Reads what a link of the leaf's list leads to, and checks that it belongs to the value. */
static int leaf_read(struct ekv *db, const struct ekv_found *head, const struct link *link,
                     struct leaf *leaf)
{
    int error = piece_read(db, link, leaf->node.level, &leaf->chunk);
    if (!error && leaf->chunk.sequence > head->sequence)
        error = ekv_corrupt(); /* of another value: what was here was erased since */
    return error;
}

/* Whether the leaf's chunk begins at this offset of the value. */
static int leaf_begins(struct ekv *db, const struct leaf *leaf, uint32_t offset)
{
    uint32_t begin = 0;
    int error = piece_offset(db, &leaf->chunk.record, &begin);
    return !error && begin != offset ? ekv_corrupt() : error;
}

/* Finds the chunk that holds byte `offset` of a value; the offset becomes one in the chunk. */
static int leaf_find(struct ekv *db, const struct ekv_found *head, uint32_t *offset,
                     struct leaf *leaf)
{
    uint32_t wanted = *offset;
    int error = node_open(db, &head->record, &leaf->node);
    while (!error) {
        struct link link;
        uint32_t level = leaf->node.level;
        error = node_find(db, &leaf->node, offset, &link, &leaf->place);
        if (error == EKV_NOT_FOUND && ekv_record_kind(&leaf->node.record) == EKV_RECORD_LIST)
            return ekv_corrupt(); /* the link above it promised more */
        if (!error)
            error = leaf_read(db, head, &link, leaf);
        if (error || level == 0)
            break;
        error = node_open(db, &leaf->chunk.record, &leaf->node);
        if (!error && leaf->node.level + 1 != level)
            error = ekv_corrupt();
    }
    return error ? error : leaf_begins(db, leaf, wanted - *offset);
}

/* Goes on to the chunk behind, which begins at `offset`, if the same list links it: the lists above
 * need not be read again. */
static int leaf_next(struct ekv *db, const struct ekv_found *head, uint32_t offset,
                     struct leaf *leaf)
{
    struct link link;
    if (++leaf->place >= leaf->node.count)
        return EKV_NOT_FOUND;
    int error = node_link(db, &leaf->node, leaf->place, &link);
    if (!error)
        error = leaf_read(db, head, &link, leaf);
    return error ? error : leaf_begins(db, leaf, offset);
}

static int read_chunks(struct ekv *db, const struct ekv_found *found, uint64_t offset,
                       uint8_t *buffer, size_t capacity, size_t *size)
{
    struct leaf leaf;
    int error = EKV_NOT_FOUND;
    while (*size < capacity) {
        uint32_t inside = (uint32_t)(offset + *size);
        if (*size > 0)
            error = leaf_next(db, found, inside, &leaf);
        if (!error)
            inside = 0;
        else if (error == EKV_NOT_FOUND)
            error = leaf_find(db, found, &inside, &leaf);
        if (error)
            return error == EKV_NOT_FOUND ? EKV_OK : error; /* the end of the value */
        const struct ekv_record *chunk = &leaf.chunk.record;
        uint32_t begin =
            chunk->layout.head_size + chunk->layout.key_size + EKV_PIECE_OFFSET_SIZE + inside;
        uint32_t left = chunk->layout.value_size - EKV_PIECE_OFFSET_SIZE - inside;
        uint32_t length = capacity - *size < left ? (uint32_t)(capacity - *size) : left;
        error = ekv_record_bytes(&db->log, chunk, begin, buffer + *size, length);
        if (error)
            return error;
        *size += length;
    }
    return EKV_OK;
}

int ekv_value_read(struct ekv *db, const struct ekv_found *found, uint64_t offset, void *buffer,
                   size_t capacity, size_t *size)
{
    const struct ekv_record *record = &found->record;
    *size = 0;
    bool tree = ekv_record_kind(record) == EKV_RECORD_HEAD;
    uint32_t length = 0, begin = record->layout.head_size + record->layout.key_size;
    if (!tree && offset < record->layout.value_size) {
        uint32_t left = record->layout.value_size - (uint32_t)offset;
        length = capacity < left ? (uint32_t)capacity : left;
        begin += (uint32_t)offset;
    }
    int error = ekv_record_verified(&db->log, record, found->sequence, begin, buffer, length);
    if (error || offset > UINT32_MAX)
        return error;
    if (tree)
        return read_chunks(db, found, offset, buffer, capacity, size);
    *size = length;
    return EKV_OK;
}

/* --- Trees: walking -------------------------------------------------------------------------- */

/* What the record of a chunk must be by its link: for who need not look at its bytes. */
static int piece_assume(struct ekv *db, const struct ekv_record *head, const struct link *link,
                        struct ekv_record *piece)
{
    const struct ekv_format *format = ekv_format_of(db);
    uint32_t sector = ekv_sector_of(format, link->address);
    uint32_t offset = ekv_offset_of(format, link->address), room = format->geometry.sector_size;
    piece->address = link->address;
    piece->peek_size = 0;
    piece->layout.type = EKV_RECORD_CHUNK;
    piece->layout.key_size = ekv_min(head->layout.key_size, ekv_owner_size_max(db));
    if (link->size > room || sector >= format->geometry.sector_count ||
        !ekv_sector_holds_log(&db->sectors, sector))
        return ekv_corrupt();
    piece->layout.value_size = EKV_PIECE_OFFSET_SIZE + link->size;
    ekv_record_measure(format, &piece->layout);
    return piece->layout.size <= room - offset ? EKV_OK : ekv_corrupt();
}

int ekv_value_visit(struct ekv *db, const struct ekv_record *record, bool chunks,
                    int (*visit)(struct ekv *db, const struct ekv_record *record, void *context),
                    void *context)
{
    uint32_t nodes[EKV_VALUE_LEVELS], places[EKV_VALUE_LEVELS];
    struct node node;
    int error = visit(db, record, context);
    if (error || ekv_record_kind(record) != EKV_RECORD_HEAD)
        return error;
    error = node_open(db, record, &node);
    uint32_t top = node.level, level = top;
    if (!error) {
        nodes[top] = record->address;
        places[top] = 0;
    }
    while (!error) {
        struct link link;
        struct ekv_found piece;
        if (places[level] == node.count) {
            if (level == top)
                return EKV_OK;
            level++;
            error = ekv_record_at(&db->log, nodes[level], &piece.record);
            if (!error)
                error = node_open(db, &piece.record, &node);
            continue;
        }
        error = node_link(db, &node, places[level]++, &link);
        if (!error)
            error = level > 0 || chunks ? piece_read(db, &link, level, &piece)
                                        : piece_assume(db, record, &link, &piece.record);
        if (!error)
            error = visit(db, &piece.record, context);
        if (error || level == 0)
            continue;
        uint64_t size = 0;
        error = node_open(db, &piece.record, &node);
        if (!error)
            error = node_size(db, &node, &size);
        if (!error && (node.level + 1 != level || size != link.size))
            error = ekv_corrupt();
        level--;
        nodes[level] = link.address;
        places[level] = 0;
    }
    return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
}

/* A piece lies before what links it; where it does not, its sector was used again since. */
static int predates(struct ekv *db, const struct ekv_record *record, void *context)
{
    const struct ekv_found *head = context;
    uint32_t sequence;
    if (record->address == head->record.address)
        return EKV_OK;
    int error = ekv_log_sequence(&db->log, record->address, &sequence);
    if (!error && sequence > head->sequence)
        error = EKV_CORRUPT;
    return error == EKV_NOT_FOUND ? EKV_CORRUPT : error;
}

int ekv_value_whole(struct ekv *db, const struct ekv_found *found)
{
    struct ekv_found head = *found;
    if (ekv_record_kind(&found->record) != EKV_RECORD_HEAD)
        return EKV_OK;
    return ekv_value_visit(db, &found->record, true, predates, &head);
}

static void add(struct ekv *db, uint32_t address, uint32_t size)
{
    ekv_sector_live_add(&db->sectors, address, size);
    db->catalog.live_size += size;
}

/* A count that is smaller than what it counted came from flash like that. */
static int take_off(struct ekv *db, uint32_t address, uint32_t size)
{
    int error = ekv_sector_live_remove(&db->sectors, address, size);
    if (error) {
        db->failed = true;
        return ekv_corrupt();
    }
    db->catalog.live_size -= size;
    return EKV_OK;
}

static int count_in(struct ekv *db, const struct ekv_record *record, void *context)
{
    (void)context;
    add(db, record->address, record->layout.size);
    return EKV_OK;
}

static int count_out(struct ekv *db, const struct ekv_record *record, void *context)
{
    (void)context;
    return take_off(db, record->address, record->layout.size);
}

int ekv_value_count(struct ekv *db, const struct ekv_record *record, bool add)
{
    if (ekv_record_kind(record) == EKV_RECORD_DELETE)
        return EKV_OK; /* goes with the merge that reaches the oldest run */
    return ekv_value_visit(db, record, false, add ? count_in : count_out, NULL);
}

/* --- Moving ---------------------------------------------------------------------------------- */

/* Copies a list or head record with one of its links replaced; `flags` are added to a head's. */
static int node_copy(struct ekv *db, const struct ekv_found *found, const struct node *node,
                     uint32_t place, uint32_t child, uint8_t flags, uint32_t *address)
{
    uint8_t bytes[4];
    uint32_t at = node->links + place * EKV_LINK_SIZE;
    const struct ekv_record *record = &found->record;
    struct ekv_write write;
    int error = ekv_write_of(db, found, &write);
    if (error)
        return error;
    if (ekv_record_kind(record) == EKV_RECORD_HEAD)
        write.flags |= flags;
    struct ekv_record_layout layout = record->layout;
    layout.type = ekv_record_kind(record) | write.flags;
    error = ekv_log_begin(&db->log, &layout, address);
    if (!error)
        error = ekv_record_copy_bytes(db, record, record->layout.head_size,
                                      at - record->layout.head_size);
    ekv_store32(bytes, child);
    if (!error)
        error = ekv_log_write(&db->log, bytes, 4);
    uint32_t rest =
        record->layout.head_size + record->layout.key_size + record->layout.value_size - (at + 4);
    if (!error)
        error = ekv_record_copy_bytes(db, record, at + 4, rest);
    return ekv_record_end(db, &write, error);
}

/* The way from a head down to a piece: the node at each level, and the link taken there. */
struct way {
    uint32_t addresses[EKV_VALUE_LEVELS];
    uint32_t places[EKV_VALUE_LEVELS];
    uint32_t top;
    uint32_t bottom; /* level whose link is the piece */
    uint32_t size;   /* bytes of the nodes */
};

static int way_find(struct ekv *db, const struct ekv_record *head, const struct ekv_record *piece,
                    struct way *way)
{
    struct node node;
    uint32_t offset;
    if (piece->layout.value_size < EKV_PIECE_OFFSET_SIZE)
        return ekv_corrupt();
    int error = piece_offset(db, piece, &offset);
    if (!error)
        error = node_open(db, head, &node);
    if (error)
        return error;
    uint32_t level = node.level;
    way->top = level;
    way->addresses[level] = head->address;
    way->size = head->layout.size;
    for (;;) {
        struct link link;
        struct ekv_found next;
        error = node_find(db, &node, &offset, &link, &way->places[level]);
        if (error)
            return error;
        if (link.address == piece->address) {
            way->bottom = level;
            return EKV_OK;
        }
        if (level == 0)
            return EKV_NOT_FOUND;
        error = piece_read(db, &link, level, &next);
        if (!error)
            error = node_open(db, &next.record, &node);
        if (!error && node.level + 1 != level)
            error = ekv_corrupt();
        if (error)
            return error;
        level--;
        way->addresses[level] = link.address;
        way->size += node.record.layout.size;
    }
}

/* Appends a copy of a piece as it is. */
static int piece_copy(struct ekv *db, const struct ekv_found *piece, uint32_t *address)
{
    const struct ekv_record *record = &piece->record;
    struct ekv_record_layout layout = record->layout;
    struct ekv_write write = {.flags = layout.type & EKV_RECORD_ASIDE};
    layout.type = ekv_record_kind(record) | write.flags;
    int error = ekv_record_verify(&db->log, record, piece->sequence);
    if (!error)
        error = ekv_log_begin(&db->log, &layout, address);
    if (!error)
        error = ekv_record_copy_bytes(db, record, layout.head_size,
                                      layout.key_size + layout.value_size);
    return ekv_record_end(db, &write, error);
}

static void note_move(struct ekv_moves *moves, const struct ekv_record *record, uint32_t to,
                      uint32_t to_size)
{
    moves->records[moves->count].from = record->address;
    moves->records[moves->count].from_size = record->layout.size;
    moves->records[moves->count].to = to;
    moves->records[moves->count].to_size = to_size;
    moves->count++;
}

/* Copies the piece and every node above it. */
static int move_piece(struct ekv *db, const struct ekv_found *head, const struct ekv_found *piece,
                      uint8_t flags, struct ekv_moves *moves)
{
    struct way way = {.top = 0}; /* gcc does not see that way_find fills it */
    struct ekv_found found;
    uint32_t child = 0;
    moves->count = 0;
    if (ekv_record_kind(&head->record) != EKV_RECORD_HEAD)
        return EKV_NOT_FOUND;
    int error = way_find(db, &head->record, &piece->record, &way);
    if (!error)
        error = piece_copy(db, piece, &child);
    if (!error)
        note_move(moves, &piece->record, child, db->log.record_end - db->log.record_begin);
    for (uint32_t level = way.bottom; !error && level <= way.top; level++) {
        struct node node;
        error = verified_at(db, way.addresses[level], &found);
        if (!error)
            error = node_open(db, &found.record, &node);
        if (!error)
            error = node_copy(db, &found, &node, way.places[level], child, flags, &child);
        if (!error)
            note_move(moves, &found.record, child, db->log.record_end - db->log.record_begin);
    }
    return error;
}

int ekv_value_move_piece(struct ekv *db, const struct ekv_found *head,
                         const struct ekv_found *piece, struct ekv_moves *moves)
{
    return move_piece(db, head, piece, EKV_RECORD_MOVED | EKV_RECORD_COMMITS, moves);
}

int ekv_value_moved(struct ekv *db, const struct ekv_moves *moves)
{
    int error = EKV_OK;
    for (uint32_t i = 0; !error && i < moves->count; i++) {
        error = take_off(db, moves->records[i].from, moves->records[i].from_size);
        if (!error)
            add(db, moves->records[i].to, moves->records[i].to_size);
    }
    return error;
}

int ekv_value_move_uncounted(struct ekv *db, const struct ekv_found *head,
                             const struct ekv_found *piece, uint8_t flags, uint32_t *address)
{
    struct ekv_moves moves;
    int error = move_piece(db, head, piece, flags, &moves);
    if (!error)
        *address = moves.records[moves.count - 1].to;
    return error;
}

int ekv_value_holds(struct ekv *db, const struct ekv_record *head, const struct ekv_record *piece,
                    uint32_t *above)
{
    struct way way = {.size = 0};
    int error =
        ekv_record_kind(head) == EKV_RECORD_HEAD ? way_find(db, head, piece, &way) : EKV_NOT_FOUND;
    *above = way.size;
    return error;
}
