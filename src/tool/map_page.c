/* The page of `ekv map --html`: the files of src/tool/page/ with everything that a survey knows in
 * them as JSON.
 *
 * The JSON is tables, each with the names of its columns beside it, so that a hundred thousand
 * records stay small. It stands in a <script> element; since no '<' is left in it, no value can
 * end that element. Values are cut, the more records the shorter; what they say is shown as text
 * or hexadecimal by the page and never becomes markup.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"

enum {
    VALUE_SIZE_MAX = 4096,   /* of a value in the page */
    VALUE_SIZE_MIN = 96,     /* ... with very many records */
    VALUE_BUDGET = 24 << 20, /* of all */
    UTF8_MAX = 4,
};

struct page {
    const struct map *map;
    const struct survey *survey;
    uint32_t value_size_max;
    json_t *keys, *records;
    uint32_t key_index; /* of the record at hand */
    int error;
};

/* Numbers of the flash are below 2^53, so they arrive exactly. */
static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *bytes_of(const void *bytes, size_t size)
{
    json_t *text = json_stringn(bytes, size);
    if (text)
        return text;
    json_t *object = json_object();
    json_set_bytes(object, "", bytes, size);
    json_t *encoded = json_incref(json_object_get(object, "_base64"));
    json_decref(object);
    return json_pack("{s:o}", "base64", encoded);
}

/* --- Sectors --------------------------------------------------------------------------------- */

static json_t *sector_table(const struct page *page)
{
    json_t *sectors = json_array();
    for (uint32_t i = 0; i < page->survey->place.geometry.sector_count; i++) {
        const struct survey_sector *sector = &page->survey->sectors[i];
        json_t *erase_count = sector->stamped ? number(sector->erase_count) : json_null();
        json_array_append_new(
            sectors, json_pack("[s, o, I, I, I, I, b]", survey_role_name(sector->role), erase_count,
                               (json_int_t)sector->sequence, (json_int_t)sector->used_size,
                               (json_int_t)sector->live_size, (json_int_t)sector->broken_count,
                               (int)sector->torn));
    }
    return sectors;
}

/* Names of what lies in a sector, as of `ekv sector`; those of records stand at their kind. */
static const char *const kind_names[] = {
    "record", "put",     "delete",  "head", "chunk",      "list", "commit", "close",
    "open",   "stamp-a", "stamp-b", "page", "checkpoint", "edit", "blank",  "unclear"};
enum { KIND_COUNT = sizeof kind_names / sizeof *kind_names };
enum { STAMP_A = EKV_RECORD_OPEN + 1, STAMP_B, PAGE, CHECKPOINT, EDIT, BLANK, UNCLEAR };

static bool is_blank(const uint8_t *bytes, uint32_t size)
{
    return bytes[0] == 0xff && memcmp(bytes, bytes + 1, size - 1) == 0;
}

static int item_kind(const struct survey_item *item)
{
    if (!item->valid && is_blank(item->bytes, item->size))
        return BLANK;
    switch (item->kind) {
    case SURVEY_STAMP_A:
        return STAMP_A;
    case SURVEY_STAMP_B:
        return STAMP_B;
    case SURVEY_RECORD:
        return item->valid ? ekv_type_kind(item->layout.type) : 0;
    case SURVEY_PAGE:
        return PAGE;
    case SURVEY_FRAME:
        return (item->number & 0x7f) == EKV_FRAME_CHECKPOINT ? CHECKPOINT : EDIT;
    default:
        return UNCLEAR;
    }
}

/* What a record that is no version of a key says. */
static void record_detail(const struct survey_item *item, char *text, size_t size)
{
    const uint8_t *key = item->bytes + item->layout.head_size;
    const uint8_t *value = key + item->layout.key_size;
    switch (ekv_type_kind(item->layout.type)) {
    case EKV_RECORD_CHUNK:
    case EKV_RECORD_LIST:
        if (item->layout.value_size >= EKV_PIECE_OFFSET_SIZE)
            snprintf(text, size, "from byte %u on of %s", ekv_load32(value),
                     key_text(key, item->layout.key_size));
        break;
    case EKV_RECORD_COMMIT:
        if (item->layout.value_size == EKV_COMMIT_SIZE)
            snprintf(text, size, "%u records from 0x%x on", ekv_load32(value),
                     ekv_load32(value + 4));
        break;
    case EKV_RECORD_CLOSE:
        snprintf(text, size, "the store was unmounted");
        break;
    case EKV_RECORD_OPEN:
        snprintf(text, size, "... and mounted again");
        break;
    }
}

static void item_detail(const struct survey_item *item, char *text, size_t size)
{
    struct ekv_stamp_a a;
    struct ekv_stamp_b b;
    static const char *const kinds[] = {"", "log", "index", "manifest"};
    text[0] = 0;
    if (!item->valid)
        return;
    switch (item->kind) {
    case SURVEY_STAMP_A:
        if (ekv_stamp_a_decode(item->bytes, &a) == EKV_OK)
            snprintf(text, size, "sector %u of %u, erased %u time%s", a.sector,
                     a.geometry.sector_count, a.erase_count, a.erase_count == 1 ? "" : "s");
        break;
    case SURVEY_STAMP_B:
        b.kind = item->bytes[0];
        b.sequence = ekv_load32(item->bytes + 1);
        snprintf(text, size, "%s, %s %u", b.kind < 4 ? kinds[b.kind] : "",
                 b.kind == EKV_KIND_INDEX ? "since run" : "sequence", b.sequence);
        break;
    case SURVEY_RECORD:
        record_detail(item, text, size);
        break;
    case SURVEY_PAGE:
        snprintf(text, size, "%s of run %u, %u entries", item->bytes[4] ? "inner page" : "leaf",
                 item->number, item->bytes[5]);
        break;
    case SURVEY_FRAME:
        if (item->number & EKV_FRAME_FINAL)
            snprintf(text, size, "the last of its group");
        break;
    default:
        break;
    }
}

/* Adds a row for what lies in a sector to its table. */
static int add_item(void *context, const struct survey_item *item)
{
    json_t *table = context;
    char text[300];
    int kind = item_kind(item);
    item_detail(item, text, sizeof text);
    /* What cannot be told is no damage by itself: filters look so, and torn ends of the log. */
    json_t *row = json_pack("[I, I, i, i]", (json_int_t)item->offset, (json_int_t)item->size, kind,
                            (int)(item->valid || kind == BLANK || kind == UNCLEAR));
    if (text[0])
        json_array_append_new(row, json_string(text));
    return json_array_append_new(table, row) ? EKV_MEMORY : EKV_OK;
}

static json_t *item_table(struct page *page)
{
    json_t *sectors = json_array();
    for (uint32_t i = 0; i < page->survey->place.geometry.sector_count && !page->error; i++) {
        json_t *table = json_array();
        int error = survey_sector_visit(page->survey, i, add_item, table);
        if (error && error != EKV_NOT_FOUND)
            page->error = error;
        json_array_append_new(sectors, table);
    }
    return sectors;
}

/* --- Records --------------------------------------------------------------------------------- */

struct value {
    uint8_t bytes[VALUE_SIZE_MAX + UTF8_MAX];
    uint32_t capacity;
    uint64_t size; /* bytes that were read up to the capacity; gaps are zeroes */
    json_t *pieces;
    bool tree;
};

static int add_part(void *context, uint64_t offset, const uint8_t *bytes, uint32_t size,
                    uint32_t address)
{
    struct value *value = context;
    if (offset < value->capacity) {
        uint32_t room = value->capacity - (uint32_t)offset;
        memcpy(value->bytes + offset, bytes, size < room ? size : room);
        value->size = offset + (size < room ? size : room);
    }
    if (value->tree)
        json_array_append_new(value->pieces,
                              json_pack("[I, I]", (json_int_t)address, (json_int_t)size));
    return EKV_OK;
}

/* The begin of a value; a text is cut between two characters. */
static json_t *value_json(const struct value *value, uint32_t size_max)
{
    if (value->size <= size_max)
        return bytes_of(value->bytes, value->size);
    uint32_t size = size_max;
    while (size > size_max - UTF8_MAX && (value->bytes[size] & 0xc0) == 0x80)
        size--;
    json_t *text = json_stringn((const char *)value->bytes, size);
    return text ? text : bytes_of(value->bytes, size_max);
}

static void add_record(struct page *page, const struct survey_record *record)
{
    static struct value value;
    uint64_t lost = 0;
    memset(&value, 0, sizeof value);
    value.capacity = page->value_size_max + UTF8_MAX;
    value.tree = record->kind == EKV_RECORD_HEAD;
    value.pieces = value.tree ? json_array() : NULL;
    json_t *shown = NULL;
    if (record->valid && record->kind != EKV_RECORD_DELETE) {
        int error = survey_value_visit(page->survey, record, add_part, &value, &lost);
        if (error == EKV_OK && lost < record->size + (record->size == 0))
            shown = value_json(&value, page->value_size_max);
        else if (error && error != EKV_NOT_FOUND && error != EKV_CORRUPT)
            page->error = error;
    }
    json_t *row =
        json_pack("[I, i, i, i, i, i, I, I, I, I, I, I, o, I]", (json_int_t)page->key_index,
                  (int)record->kind, (int)record->state, (int)record->valid, (int)record->current,
                  (int)record->copy, (json_int_t)record->version,
                  (json_int_t)(record->begin - record->version), (json_int_t)record->time,
                  (json_int_t)record->size, (json_int_t)record->address,
                  (json_int_t)record->record_size, shown ? shown : json_null(), (json_int_t)lost);
    if (value.pieces)
        json_array_append_new(row, value.pieces);
    json_array_append_new(page->records, row);
}

static void add_records(struct page *page)
{
    const struct survey *survey = page->survey;
    for (uint32_t at = 0; at < survey->record_count && !page->error;) {
        const struct survey_record *record = &survey->records[at];
        uint32_t end = survey_key_end(survey, at);
        page->key_index = (uint32_t)json_array_size(page->keys);
        json_array_append_new(page->keys, json_pack("[i, o]", (int)record->space,
                                                    bytes_of(record->key, record->key_size)));
        for (; at < end; at++)
            add_record(page, &survey->records[at]);
    }
}

/* Oldest first; a transaction names its records by their place in the table. */
static json_t *transaction_table(struct page *page)
{
    struct survey_transaction *transactions;
    uint32_t count;
    json_t *table = json_array();
    int error = survey_transactions(page->survey, &transactions, &count);
    if (error) {
        page->error = error;
        return table;
    }
    for (uint32_t i = count; i-- > 0;) {
        json_t *records = json_array();
        for (uint32_t j = 0; j < transactions[i].count; j++)
            json_array_append_new(
                records, number((uint64_t)(transactions[i].records[j] - page->survey->records)));
        json_array_append_new(table, json_pack("[I, I, i, o]", (json_int_t)transactions[i].version,
                                               (json_int_t)transactions[i].time,
                                               (int)transactions[i].complete, records));
    }
    free(transactions);
    return table;
}

static json_t *finding_table(const struct page *page)
{
    json_t *findings = json_array();
    for (uint32_t i = 0; i < page->survey->finding_count; i++) {
        const struct survey_finding *finding = &page->survey->findings[i];
        json_array_append_new(
            findings,
            json_pack("{s:s, s:s, s:I, s:b, s:o}", "code", finding->code, "text", finding->text,
                      "address", (json_int_t)finding->address, "note", (int)finding->note, "key",
                      finding->key ? bytes_of(finding->key, finding->key_size) : json_null()));
    }
    return findings;
}

/* --- All of it ------------------------------------------------------------------------------- */

static json_t *page_data(struct page *page)
{
    const struct survey *survey = page->survey;
    const struct ekv_geometry *geometry = &survey->place.geometry;
    const char *label = survey->manifest.label;
    uint64_t size = (uint64_t)geometry->sector_size * geometry->sector_count;
    json_t *data =
        json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I}", "schema", "ekv.page.1", "offset",
                  (json_int_t)page->map->offset, "store_id", id_text(survey->place.store_id),
                  "size", (json_int_t)size, "sector_size", (json_int_t)geometry->sector_size,
                  "sector_count", (json_int_t)geometry->sector_count, "write_unit",
                  (json_int_t)geometry->write_unit, "complete", (json_int_t)survey->complete);
    json_object_set_new(data, "image",
                        json_string(key_text(page->map->name, strlen(page->map->name))));
    json_object_set_new(data, "label", json_string(key_text(label, strnlen(label, 31))));
    page->keys = json_array();
    page->records = json_array();
    add_records(page);
    json_object_set_new(data, "sectors", sector_table(page));
    json_object_set_new(data, "keys", page->keys);
    json_object_set_new(data, "records", page->records);
    json_object_set_new(data, "items", item_table(page));
    json_object_set_new(data, "transactions", transaction_table(page));
    json_object_set_new(data, "findings", finding_table(page));
    json_add(data,
             json_pack("{s:[sssssss], s:[sssssssssssssss], s:[sssss], s:[ssss]}", "sector_columns",
                       "role", "erase_count", "sequence", "used_size", "live_size", "broken_count",
                       "torn", "record_columns", "key", "kind", "state", "valid", "current", "copy",
                       "version", "begin_after", "time", "size", "address", "record_size", "value",
                       "lost", "pieces", "item_columns", "offset", "size", "kind", "valid",
                       "detail", "transaction_columns", "version", "time", "complete", "records"));
    json_t *kinds = json_array();
    for (int i = 0; i < KIND_COUNT; i++)
        json_array_append_new(kinds, json_string(kind_names[i]));
    json_add(data, json_pack("{s:o, s:[sss]}", "kinds", kinds, "states", "committed", "pending",
                             "unknown"));
    return data;
}

/* Writes JSON so that no '<' is in it: it stands only in strings, where \u003c means the same. */
static int write_escaped(const char *bytes, size_t size, void *context)
{
    FILE *output = context;
    while (size > 0) {
        const char *sign = memchr(bytes, '<', size);
        size_t before = sign ? (size_t)(sign - bytes) : size;
        fwrite(bytes, 1, before, output);
        if (!sign)
            break;
        fputs("\\u003c", output);
        bytes += before + 1;
        size -= before + 1;
    }
    return 0;
}

static const struct page_file *file_named(const char *name)
{
    const struct page_file *file = page_files;
    while (file->name && strcmp(file->name, name) != 0)
        file++;
    assert(file->name);
    return file;
}

/* Writes the page up to a mark, which it must have; what is behind the mark is left. */
static struct page_file write_up_to(FILE *output, struct page_file page, const char *mark)
{
    const unsigned char *at = memmem(page.bytes, page.size, mark, strlen(mark));
    assert(at);
    size_t before = (size_t)(at - page.bytes);
    fwrite(page.bytes, 1, before, output);
    page.bytes = at + strlen(mark);
    page.size -= before + strlen(mark);
    return page;
}

static void write_file(FILE *output, const char *name)
{
    const struct page_file *file = file_named(name);
    fwrite(file->bytes, 1, file->size, output);
}

static void write_page(FILE *output, json_t *data)
{
    struct page_file page = *file_named("map.html");
    page = write_up_to(output, page, "@STYLE@");
    write_file(output, "map.css");
    page = write_up_to(output, page, "@DATA@");
    json_dump_callback(data, write_escaped, output, JSON_COMPACT);
    page = write_up_to(output, page, "@SCRIPT@");
    write_file(output, "data.js");
    write_file(output, "grid.js");
    write_file(output, "panels.js");
    write_file(output, "start.js");
    fwrite(page.bytes, 1, page.size, output);
}

int map_html(const struct map *map, FILE *output)
{
    struct page page = {.map = map, .survey = map->survey, .value_size_max = VALUE_SIZE_MAX};
    uint32_t share = VALUE_BUDGET / (map->survey->record_count + 1);
    if (share < page.value_size_max)
        page.value_size_max = share > VALUE_SIZE_MIN ? share : VALUE_SIZE_MIN;
    json_t *data = page_data(&page);
    if (!page.error)
        write_page(output, data);
    json_decref(data);
    return page.error;
}
