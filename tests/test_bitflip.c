/* One bit of an image is wrong: the store mounts, every read gives the right value or says corrupt,
 * and that of one key at most: the one in whose current record, or a piece of whose value, the bit
 * lies. No key vanishes in silence, and nothing crashes or hangs. A walk over all keys may end
 * where it meets the record that the bit lies in.
 *
 * Where it must be seen: check finds something when the bit lies in a byte
 * that is "covered", which is computed here from the store as it was: stamps of sectors in use,
 * frames of the chain that counts, pages and filters of runs, every record that the memtable or a
 * run leads to, and the pieces of live values. A flip in any other byte must change no answer, or
 * be seen.
 *
 * In a store that was not closed the last program of the log is no different from one that was cut
 * off. Flips in just these bytes may show the store as it was before that program; no others may.
 *
 * Every 23rd bit is tried, EKV_BITFLIP_ALL=1 tries all. Of many wrong bits at once all is demanded
 * but that the store mounts and that no other key is touched.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "lookup.h"
#include "ring.h"
#include "trap.h"
#include "value.h"
#include "walk.h"
#include "workload.h"

enum { READ_LIMIT = 4000000, STRIDE = 23 };

struct flip {
    struct world *world;
    const struct model *model;
    const struct model_entry *touched; /* the key that may say corrupt, NULL: none */
    bool in_record;                    /* the bit lies in a record that something refers to */
    bool many; /* more than one bit: any key may, and the mount may refuse */
    uint32_t corrupt;
    bool mounted, read_only;
    bool found; /* check found something */
    bool good;
    char why[300];
};

static bool wrong(struct flip *flip, const char *what, int result)
{
    snprintf(flip->why, sizeof flip->why, "%s: %s", what, model_result_name(result));
    return false;
}

static bool same_key(const struct model_entry *a, const struct model_entry *b)
{
    return a && b && a->key->size == b->key->size && a->space == b->space &&
           memcmp(a->key->bytes, b->key->bytes, a->key->size) == 0;
}

/* Whether what was read is the value, or says corrupt and may. */
static bool is_value(struct flip *flip, const struct model_entry *entry, const uint8_t *bytes,
                     size_t size, int error)
{
    if (error == EKV_CORRUPT && !flip->many && !same_key(entry, flip->touched))
        return wrong(flip, "a key that the bit does not touch", error);
    flip->corrupt += error == EKV_CORRUPT;
    if (error)
        return error == EKV_CORRUPT || wrong(flip, "a key that is there", error);
    if (size != entry->value->size || memcmp(bytes, entry->value->bytes, size) != 0)
        return wrong(flip, "a value is wrong and said to be", error);
    return true;
}

static uint8_t buffer[65536];

/* Each key on its own: right or corrupt. */
static bool read_keys(struct flip *flip, struct ekv *db)
{
    for (uint32_t i = 0; i < flip->model->count; i++) {
        const struct model_entry *entry = &flip->model->entries[i];
        size_t size = 0;
        int error = ekv_get(db, model_key(entry), 0, buffer, sizeof buffer, &size);
        struct ekv_entry found;
        int looked = ekv_find(db, model_key(entry), &found);
        if (looked == EKV_OK ? found.size != entry->value->size : looked != EKV_CORRUPT)
            return wrong(flip, "an entry is wrong and said to be", looked);
        if (!is_value(flip, entry, buffer, size, error))
            return false;
    }
    return true;
}

/* Every key in order, with its value, until the damage; none that should not be there, none left
 * out. */
static bool walk(struct flip *flip, struct ekv *db, bool back)
{
    struct ekv_cursor cursor;
    uint32_t count = model_user_count(flip->model);
    bool good = true;
    ekv_cursor_open(&cursor, db, EKV_USER);
    for (uint32_t i = 0; good && i <= count; i++) {
        uint8_t key[WORLD_KEY_MAX];
        size_t size = 0;
        int error = back ? ekv_cursor_previous(&cursor) : ekv_cursor_next(&cursor);
        if (!error)
            error = ekv_cursor_key(&cursor, key, sizeof key, &size);
        if (error == EKV_CORRUPT) {
            flip->corrupt++;
            good = flip->in_record || flip->many || wrong(flip, "a walk past what is whole", error);
            break;
        }
        if (i == count) {
            good = error == EKV_NOT_FOUND || wrong(flip, "the walk's end", error);
            break;
        }
        if (error) {
            good = wrong(flip, "a walk", error);
            break;
        }
        const struct model_entry *entry = &flip->model->entries[back ? count - 1 - i : i];
        if (size != entry->key->size || memcmp(key, entry->key->bytes, size) != 0)
            good = wrong(flip, "a walk meets a wrong key", error);
        if (good)
            error = ekv_cursor_read(&cursor, 0, buffer, sizeof buffer, &size);
        good = good && is_value(flip, entry, buffer, size, error);
    }
    ekv_cursor_close(&cursor);
    return good;
}

static void look(void *context)
{
    struct flip *flip = context;
    struct model_why why;
    int error = world_mount(flip->world, false);
    if (error) {
        flip->good = (flip->many && (error == EKV_CORRUPT || error == EKV_NO_STORE)) ||
                     wrong(flip, "the mount", error);
        return;
    }
    struct ekv *db = flip->world->live.db;
    struct ekv_stat stat;
    ekv_stat(db, &stat);
    flip->mounted = true;
    flip->read_only = stat.read_only;
    flip->good = read_keys(flip, db) && walk(flip, db, false) && walk(flip, db, true);
    flip->found = !model_store_is_sound(db, &why);
    if (flip->good && !flip->found && flip->corrupt > 0)
        flip->good = wrong(flip, "reads say corrupt, check says", EKV_OK);
}

/* --- What is covered ------------------------------------------------------------------------- */

/* What a byte belongs to: nothing, something beside records, or a record: of no current value, or
 * of the one of the key with this number. */
enum { FREE = 0, COVERED = 1, RECORD = 2, CURRENT = 3 };

struct cover {
    struct world *world;
    uint32_t *bytes;
    uint32_t owner; /* CURRENT + the place in the model of the key that is being covered */
};

static void cover(struct cover *cover, uint32_t address, uint32_t size, uint32_t how)
{
    for (uint32_t i = 0; i < size; i++)
        cover->bytes[address + i] = how;
}

static int cover_record(struct ekv *db, const struct ekv_record *record, void *context)
{
    struct cover *map = context;
    (void)db;
    cover(map, record->address, record->layout.size, map->owner);
    return EKV_OK;
}

/* CURRENT + the place in the model of a record's key; RECORD if it is not there: removed. */
static uint32_t owner_of(struct ekv *db, const struct model *model, const struct ekv_record *record)
{
    assert_int_equal(ekv_log_read(&db->log, record->address + record->layout.head_size, buffer,
                                  record->layout.key_size),
                     EKV_OK);
    struct ekv_key key = {buffer, record->layout.key_size, ekv_record_space(record), 0};
    const struct model_entry *entry = model_find(model, key);
    return entry ? CURRENT + (uint32_t)(entry - model->entries) : RECORD;
}

/* The record that an entry leads to, and its pieces if it is its key's current one. */
static void cover_entry(struct cover *map, uint32_t address)
{
    struct ekv *db = map->world->live.db;
    struct ekv_record record;
    struct ekv_found current;
    assert_int_equal(ekv_record_read(&db->log, address, &record), EKV_OK);
    assert_int_equal(ekv_lookup_same(db, &record, &current), EKV_OK);
    map->owner = owner_of(db, &map->world->models.committed, &record);
    if (current.record.address == address)
        assert_int_equal(ekv_value_visit(db, &record, true, cover_record, map), EKV_OK);
    else
        cover(map, address, record.layout.size, RECORD);
}

static int cover_page(void *context, uint32_t address, const struct ekv_page *page)
{
    struct cover *map = context;
    struct ekv *db = map->world->live.db;
    assert_non_null(page);
    uint32_t count = page->level == 0 ? page->count : 0;
    cover(map, address, page->size, 1);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t entry;
        struct ekv_found found;
        assert_int_equal(ekv_leaf_entry(&db->index, address, i, &entry), EKV_OK);
        if (ekv_entry_read(&db->log, entry, UINT32_MAX, &found) == EKV_OK &&
            ekv_record_verify(&db->log, &found.record, found.sequence) == EKV_OK)
            cover_entry(map, entry);
    }
    return EKV_OK;
}

static void cover_runs(struct cover *map)
{
    struct ekv *db = map->world->live.db;
    for (uint32_t i = 0; i < db->catalog.run_count; i++) {
        const struct ekv_run *run = &db->catalog.runs[i];
        assert_int_equal(ekv_run_walk(&db->index, run, cover_page, map), EKV_OK);
        for (uint32_t block = 0; run->filter && block < run->filter_blocks; block++) {
            uint32_t address;
            assert_int_equal(ekv_filter_address(&db->index, run, block, &address), EKV_OK);
            cover(map, address, EKV_FILTER_BLOCK_SIZE, 1);
        }
    }
}

/* The last frame of a store that was not closed may have been in flight as well, and one that is
 * empty only proves the frames before it. */
static void cover_chain(struct cover *map, bool closed)
{
    struct ekv *db = map->world->live.db;
    const struct ekv_format *format = ekv_format_of(db);
    struct ekv_ring_place place = {.sequence = db->manifest.base, .offset = format->body_offset};
    assert_int_equal(ekv_ring_find(&db->sectors, place.sequence, &place.sector), EKV_OK);
    for (uint32_t last = 0, last_size = 0;;) {
        uint8_t type;
        uint32_t size;
        if (!closed || last_size == EKV_FRAME_HEAD_SIZE)
            cover(map, last, last_size, 0);
        if (ekv_ring_next(&db->sectors, &place, db->manifest.sequence, &type, &size) != EKV_OK)
            return;
        uint32_t padded = ekv_align(size + EKV_FRAME_HEAD_SIZE, format->geometry.write_unit);
        uint32_t address = ekv_address(format, place.sector, place.offset - padded);
        cover(map, last, last_size, 1);
        last = address;
        last_size = size + EKV_FRAME_HEAD_SIZE;
        cover(map, last, last_size, 1);
    }
}

/* Sets `bytes` for the image of the mounted store. */
static void cover_all(struct cover *map, bool closed)
{
    struct ekv *db = map->world->live.db;
    const struct ekv_format *format = ekv_format_of(db);
    for (uint32_t i = 0; i < format->geometry.sector_count; i++) {
        struct ekv_stamp_b stamp;
        uint32_t address = ekv_address(format, i, 0);
        enum ekv_sector_state state = ekv_sector_state(&db->sectors, i);
        bool log = state == EKV_SECTOR_LOG && db->sectors.lives[i] > 0;
        bool ring = state == EKV_SECTOR_MANIFEST &&
                    ekv_sector_stamp_read(&db->sectors, i, &stamp) == EKV_OK &&
                    stamp.sequence >= db->manifest.base;
        if (!log && !ring && state != EKV_SECTOR_INDEX)
            continue;
        cover(map, address, EKV_STAMP_A_SIZE, 1);
        cover(map, address + ekv_stamp_b_offset(format), EKV_STAMP_B_SIZE, 1);
    }
    cover_chain(map, closed);
    cover_runs(map);
    for (uint32_t i = 0; i < db->memtable.count; i++)
        cover_entry(map, db->memtable.slots[i].address);
}

/* --- Images ---------------------------------------------------------------------------------- */

struct image {
    struct world *world;
    struct model model, before;    /* before: without the last program */
    uint32_t last_begin, last_end; /* bytes of that, if the store is not closed */
    bool closed;
};

/* The last write of a store that is not closed, alone in its program. */
static void write_last(struct image *image)
{
    struct world *world = image->world;
    uint32_t size = ekv_flash_size(&world->nor.flash);
    uint8_t *old = malloc(size);
    struct ekv_key key = model_key_of("the last", 8, EKV_USER);
    assert_non_null(old);
    do
        assert_int_equal(ekv_put(world->live.db, key, "one", 3), EKV_OK);
    while (ekv_log_room(&world->live.db->log) < 64); /* the last one stays in this sector */
    model_put(&world->models.committed, key, "one", 3);
    model_copy(&image->before, &world->models.committed);
    memcpy(old, world->nor.bytes, size);
    uint32_t head = world->live.db->log.sector, offset = world->live.db->log.offset;
    assert_int_equal(ekv_put(world->live.db, key, "two", 3), EKV_OK);
    model_put(&world->models.committed, key, "two", 3);
    image->last_begin = ekv_address(ekv_format_of(world->live.db), head, offset);
    image->last_end = image->last_begin;
    for (uint32_t i = 0; i < size; i++)
        if (old[i] != world->nor.bytes[i] && i / world->options.geometry.sector_size == head)
            image->last_end = i + 1;
    assert_true(image->last_end > image->last_begin);
    free(old);
}

static void make_image(struct image *image, const struct world_options *options, uint32_t steps,
                       bool closed)
{
    struct world *world = image->world;
    struct model_why why;
    struct operation close = {.kind = OPERATION_REMOUNT};
    world_init(world, options);
    assert_int_equal(world_format(world), EKV_OK);
    assert_int_equal(world_mount(world, false), EKV_OK);
    for (uint32_t i = 0; i < steps; i++)
        if (!world_step(world, &why))
            fail_msg("step %" PRIu32 ": %s", i, why.text);
    assert_int_equal(world_execute(world, &close), EKV_OK);
    world_apply(world, &close, EKV_OK);
    model_init(&image->model);
    model_init(&image->before);
    image->closed = closed;
    if (!closed)
        write_last(image);
    if (!closed)
        assert_int_equal(world_mount(world, false), EKV_OK);
    if (!world_verify(world, &why))
        fail_msg("%s", why.text);
    model_copy(&image->model, &world->models.committed);
    world->nor.illegal = trap_illegal;
}

/* --- Flipping -------------------------------------------------------------------------------- */

/* What is wrong with the store that has one bit flipped; NULL: nothing. */
static const char *judge(struct image *image, const struct cover *map, uint32_t byte,
                         struct flip *flip)
{
    bool last = byte >= image->last_begin && byte < image->last_end;
    uint32_t how = map->bytes[byte];
    flip->model = &image->model;
    flip->in_record = how >= RECORD;
    flip->touched = how >= CURRENT ? &image->model.entries[how - CURRENT] : NULL;
    if (!trap_run(look, flip, flip->why, sizeof flip->why))
        return flip->why;
    if (!flip->good && last) {
        struct flip again = *flip;
        again.model = &image->before;
        again.corrupt = 0;
        if (!trap_run(look, &again, again.why, sizeof again.why))
            return flip->why;
        *flip = again;
    }
    if (!flip->good)
        return flip->why;
    if (how != FREE && !last && !flip->found)
        return "a covered byte, and nobody saw it";
    return NULL;
}

static void flip_bits(unsigned workload, const struct ekv_geometry *geometry, uint64_t seed,
                      uint32_t steps, bool closed)
{
    static struct world world;
    struct world_options options = {.workload = workload, .geometry = *geometry, .seed = seed};
    struct image image = {.world = &world};
    options.memtable_count = 16;
    options.start = NOR_AGED;
    options.map = seed % 2;
    make_image(&image, &options, steps, closed);
    uint32_t size = ekv_flash_size(&world.nor.flash), failures = 0, damaged = 0, read_only = 0;
    struct cover map = {&world, calloc(size, sizeof(uint32_t)), 0};
    assert_non_null(map.bytes);
    cover_all(&map, closed);
    struct nor_snapshot *snapshot = nor_snapshot_new(&world.nor);
    nor_snapshot_take(&world.nor, snapshot);
    const char *all = getenv("EKV_BITFLIP_ALL");
    uint32_t stride = all && *all == '1' ? 1 : STRIDE;
    for (uint32_t bit = (uint32_t)seed % stride; bit < size * 8 && failures < 10; bit += stride) {
        struct flip flip = {.world = &world};
        nor_snapshot_restore(&world.nor, snapshot);
        nor_flip(&world.nor, bit / 8, (uint8_t)(1u << bit % 8));
        nor_read_limit(&world.nor, READ_LIMIT);
        const char *why = judge(&image, &map, bit / 8, &flip);
        if (why) {
            print_error("%s, seed %" PRIu64 ", bit %" PRIu32 " of byte 0x%" PRIx32 ": %s\n",
                        workload_names[workload], seed, bit % 8, bit / 8, why);
            failures++;
        }
        damaged += flip.corrupt > 0;
        read_only += flip.read_only;
    }
    print_message("%s: %" PRIu32 " bits, %" PRIu32 " seen by reads, %" PRIu32 " by the mount\n",
                  workload_names[workload], size * 8 / stride, damaged, read_only);
    assert_int_equal(failures, 0);
    assert_true(damaged > 0 && read_only > 0);
    nor_snapshot_free(snapshot);
    model_free(&image.model);
    model_free(&image.before);
    free(map.bytes);
    world_free(&world);
}

static const struct ekv_geometry bytewise = {1024, 16, 1, false}, words = {1024, 16, 4, false},
                                 large_sectors = {4096, 8, 1, false};

static void a_flipped_bit_in_small_values_is_never_taken_for_data(void **state)
{
    (void)state;
    flip_bits(0, &bytewise, 3, 150, true);
}

static void a_flipped_bit_in_large_values_is_never_taken_for_data(void **state)
{
    (void)state;
    flip_bits(2, &words, 4, 100, true);
}

static void a_flipped_bit_in_an_index_is_never_taken_for_data(void **state)
{
    (void)state;
    flip_bits(3, &large_sectors, 5, 200, true);
}

static void a_flipped_bit_after_transactions_is_never_taken_for_data(void **state)
{
    (void)state;
    flip_bits(1, &words, 6, 200, true);
}

static void a_flipped_bit_in_a_store_that_was_not_closed_costs_one_program_at_most(void **state)
{
    (void)state;
    flip_bits(0, &bytewise, 7, 170, false);
    flip_bits(2, &words, 8, 110, false);
    flip_bits(3, &large_sectors, 9, 220, false);
}

/* Up to twelve bits, anywhere: more than are put right, and several under one checksum. */
static void many_flipped_bits_are_never_taken_for_data(void **state)
{
    static struct world world;
    struct image image = {.world = &world};
    struct world_options options = {
        .workload = 3, .geometry = bytewise, .seed = 10, .memtable_count = 16, .start = NOR_AGED};
    uint64_t chance = 1;
    uint32_t refused = 0, mounted = 0;
    (void)state;
    options.map = true;
    make_image(&image, &options, 200, true);
    uint32_t size = ekv_flash_size(&world.nor.flash);
    struct nor_snapshot *snapshot = nor_snapshot_new(&world.nor);
    nor_snapshot_take(&world.nor, snapshot);
    for (uint32_t round = 0; round < 1000; round++) {
        struct flip flip = {.world = &world, .model = &image.model, .many = true};
        nor_snapshot_restore(&world.nor, snapshot);
        for (uint32_t n = 2 + round % 11; n > 0; n--)
            nor_flip(&world.nor, fixture_below(&chance, size), (uint8_t)(1u << round % 8));
        nor_read_limit(&world.nor, READ_LIMIT);
        if (!trap_run(look, &flip, flip.why, sizeof flip.why) || !flip.good)
            fail_msg("round %" PRIu32 ": %s", round, flip.why);
        mounted += flip.mounted;
        refused += !flip.mounted;
    }
    print_message("%" PRIu32 " mounted, %" PRIu32 " refused\n", mounted, refused);
    assert_true(mounted > 0 && refused > 0);
    nor_snapshot_free(snapshot);
    model_free(&image.model);
    model_free(&image.before);
    world_free(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_bit_in_small_values_is_never_taken_for_data),
        cmocka_unit_test(a_flipped_bit_in_large_values_is_never_taken_for_data),
        cmocka_unit_test(a_flipped_bit_in_an_index_is_never_taken_for_data),
        cmocka_unit_test(a_flipped_bit_after_transactions_is_never_taken_for_data),
        cmocka_unit_test(a_flipped_bit_in_a_store_that_was_not_closed_costs_one_program_at_most),
        cmocka_unit_test(many_flipped_bits_are_never_taken_for_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
