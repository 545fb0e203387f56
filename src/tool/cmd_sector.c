/* `ekv sector N`: what lies in a sector, with offsets, beside the bytes.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "look.h"
#include "sector_parts.h"

enum { ROW = 16, ROWS_SHORT = 4, KEY_SHOWN = 60 };

static const struct option_spec options[] = {
    {"no-hex", 'n', NULL, "what lies there, without the bytes"},
    {"full", 'f', NULL, "all bytes of long items, not only the first"},
    {0},
};

struct printing {
    struct look *look;
    uint32_t sector;
    bool hex, full;
};

/* --- Words ----------------------------------------------------------------------------------- */

static const char *record_name(uint8_t type)
{
    static const char *const names[] = {"?",    "put",    "delete", "head", "chunk",
                                        "list", "commit", "close",  "open"};
    return names[ekv_type_kind(type)];
}

static const char *item_name(const struct survey_item *item)
{
    switch (item->kind) {
    case SURVEY_STAMP_A:
        return "stamp-a";
    case SURVEY_STAMP_B:
        return "stamp-b";
    case SURVEY_RECORD:
        return record_name(item->layout.type);
    case SURVEY_PAGE:
        return "page";
    case SURVEY_FRAME:
        return (item->number & 0x7f) == EKV_FRAME_CHECKPOINT ? "checkpoint" : "edit";
    case SURVEY_EMPTY:
        return "blank";
    default:
        return "unclear";
    }
}

/* The record of the survey's table that this item is, for what only the whole survey can tell. */
static const struct survey_record *record_of(const struct printing *printing,
                                             const struct survey_item *item)
{
    const struct survey *survey = &printing->look->survey;
    uint32_t address = ekv_address(&survey->format, printing->sector, item->offset);
    struct ekv_key key = ekv_key(item->bytes + item->layout.head_size, item->layout.key_size);
    uint32_t first, end;
    key.space = item->layout.type & EKV_RECORD_ASIDE ? EKV_ASIDE : EKV_USER;
    if (survey_key_find(survey, key, &first, &end) != EKV_OK)
        return NULL;
    for (; first < end; first++)
        if (survey->records[first].address == address)
            return &survey->records[first];
    return NULL;
}

/* --- JSON ------------------------------------------------------------------------------------ */

static void json_stamps(json_t *object, const struct printing *printing,
                        const struct survey_item *item)
{
    const struct survey_sector *sector = &printing->look->survey.sectors[printing->sector];
    if (!item->valid)
        return;
    if (item->kind == SURVEY_STAMP_A)
        json_object_set_new(object, "erase_count", json_integer(sector->erase_count));
    else
        json_add(object, json_pack("{s:i, s:I, s:I, s:I}", "kind", (int)sector->kind, "sequence",
                                   (json_int_t)sector->sequence, "next", (json_int_t)sector->next,
                                   "previous_end", (json_int_t)sector->previous_end));
}

static void json_record(json_t *object, const struct printing *printing,
                        const struct survey_item *item)
{
    const struct ekv_record_layout *layout = &item->layout;
    const struct survey_record *record = record_of(printing, item);
    if (ekv_type_kind(layout->type) <= EKV_RECORD_LIST)
        json_set_bytes(object, "key", item->bytes + layout->head_size, layout->key_size);
    json_add(object, json_pack("{s:I, s:b, s:b, s:b}", "value_size", (json_int_t)layout->value_size,
                               "aside", (layout->type & EKV_RECORD_ASIDE) != 0, "commits",
                               (layout->type & EKV_RECORD_COMMITS) != 0, "moved",
                               (layout->type & EKV_RECORD_MOVED) != 0));
    if (!record)
        return;
    json_add(object, json_pack("{s:I, s:s}", "version", (json_int_t)record->version, "state",
                               look_state(record)));
    json_set_time(object, record->time);
}

static int print_json(void *context, const struct survey_item *item)
{
    const struct printing *printing = context;
    const struct survey *survey = &printing->look->survey;
    uint32_t address = ekv_address(&survey->format, printing->sector, item->offset);
    json_t *object = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:s, s:b}", "schema", "ekv.item.1", "sector",
        (json_int_t)printing->sector, "offset",
        (json_int_t)(survey_offset(survey, address) + (int64_t)printing->look->tool->offset),
        "sector_offset", (json_int_t)item->offset, "size", (json_int_t)item->size, "item",
        item_name(item), "valid", (int)item->valid);
    if (item->kind <= SURVEY_STAMP_B)
        json_stamps(object, printing, item);
    else if (item->kind == SURVEY_RECORD)
        json_record(object, printing, item);
    else if (item->kind == SURVEY_PAGE)
        json_add(object, json_pack("{s:I, s:i, s:i}", "run", (json_int_t)item->number, "level",
                                   (int)item->bytes[4], "entries", (int)item->bytes[5]));
    else if (item->kind == SURVEY_FRAME)
        json_add(object, json_pack("{s:b}", "final", (item->number & EKV_FRAME_FINAL) != 0));
    json_line(object);
    return ferror(stdout) ? EKV_IO : EKV_OK;
}

/* --- Text ------------------------------------------------------------------------------------ */

static void text_stamp(const struct printing *printing, const struct survey_item *item)
{
    static const char *const kinds[] = {"", "log", "index", "manifest"};
    const struct survey_sector *sector = &printing->look->survey.sectors[printing->sector];
    if (!item->valid)
        printf(" %s", item->bytes[0] == 0xff ? "not written" : "damaged");
    else if (item->kind == SURVEY_STAMP_A)
        printf(" sector %u, erased %u times", printing->sector, sector->erase_count);
    else if (sector->kind == EKV_KIND_LOG && sector->next != EKV_NO_SECTOR)
        printf(" log, sequence %u, goes on in sector %u", sector->sequence, sector->next);
    else
        printf(" %s, sequence %u", kinds[sector->kind], sector->sequence);
}

static void text_record(const struct printing *printing, const struct survey_item *item)
{
    const struct ekv_record_layout *layout = &item->layout;
    const struct survey_record *record = record_of(printing, item);
    const uint8_t *value = item->bytes + layout->head_size + layout->key_size;
    if (!item->valid)
        printf(" DAMAGED");
    if (ekv_type_kind(layout->type) == EKV_RECORD_COMMIT) {
        printf(" of %u records from 0x%x on", ekv_load32(value), ekv_load32(value + 4));
        return;
    }
    if (ekv_type_kind(layout->type) > EKV_RECORD_COMMIT)
        return;
    putchar(' ');
    print_bytes(item->bytes + layout->head_size,
                layout->key_size < KEY_SHOWN ? layout->key_size : KEY_SHOWN, true);
    printf("%s%s, value %u bytes", layout->key_size > KEY_SHOWN ? "..." : "",
           layout->type & EKV_RECORD_ASIDE ? " (attributes)" : "", layout->value_size);
    if (!record)
        return;
    printf(", version %llu, %s%s", (unsigned long long)record->version, look_state(record),
           layout->type & EKV_RECORD_MOVED ? ", moved" : "");
    if (record->time)
        printf(", %s", time_text(record->time));
}

static void text_item(const struct printing *printing, const struct survey_item *item)
{
    printf("+0x%05x %6u  %-10s", item->offset, item->size, item_name(item));
    if (item->kind <= SURVEY_STAMP_B)
        text_stamp(printing, item);
    else if (item->kind == SURVEY_RECORD)
        text_record(printing, item);
    else if (item->kind == SURVEY_PAGE)
        printf(" of run %u, level %u, %u entries", item->number, item->bytes[4], item->bytes[5]);
    else if (item->kind == SURVEY_FRAME)
        printf(" %u bytes%s", (unsigned)ekv_load(item->bytes + 5, 2),
               item->number & EKV_FRAME_FINAL ? ", final" : "");
    putchar('\n');
}

static void hex_row(uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    printf("    %08llx ", (unsigned long long)offset);
    for (uint32_t i = 0; i < ROW; i++) {
        if (i < size)
            printf(" %02x", bytes[i]);
        else
            printf("   ");
    }
    printf("  |");
    for (uint32_t i = 0; i < size; i++)
        putchar(bytes[i] < 0x80 && isprint(bytes[i]) ? bytes[i] : '.');
    printf("|\n");
}

static void hex(const struct printing *printing, const struct survey_item *item)
{
    const struct survey *survey = &printing->look->survey;
    uint32_t address = ekv_address(&survey->format, printing->sector, item->offset);
    uint64_t offset =
        (uint64_t)(survey_offset(survey, address) + (int64_t)printing->look->tool->offset);
    uint32_t rows = 0;
    for (uint32_t at = 0; at < item->size; at += ROW) {
        uint32_t size = item->size - at < ROW ? item->size - at : ROW;
        if (!printing->full && rows++ == ROWS_SHORT) {
            printf("    ... %u bytes more\n", item->size - at);
            return;
        }
        hex_row(offset + at, item->bytes + at, size);
    }
}

static int print_text(void *context, const struct survey_item *item)
{
    const struct printing *printing = context;
    text_item(printing, item);
    if (item->kind == SURVEY_PAGE)
        sector_print_page(&printing->look->survey, item->bytes);
    else if (item->kind == SURVEY_FRAME)
        sector_print_frame(item->bytes);
    if (printing->hex && (item->kind != SURVEY_EMPTY || printing->full))
        hex(printing, item);
    return ferror(stdout) ? EKV_IO : EKV_OK;
}

/* --- The command ----------------------------------------------------------------------------- */

static int print_sector(struct look *look, struct printing *printing)
{
    const struct survey *survey = &look->survey;
    const struct survey_sector *sector = &survey->sectors[printing->sector];
    uint32_t address = ekv_address(&survey->format, printing->sector, 0);
    if (!look->tool->json)
        printf("sector %u at 0x%llx: %s, %u of %u bytes used, %u live\n", printing->sector,
               (unsigned long long)(survey_offset(survey, address) + (int64_t)look->tool->offset),
               survey_role_name(sector->role), sector->used_size,
               survey->format.geometry.sector_size, sector->live_size);
    int error = survey_sector_visit(survey, printing->sector,
                                    look->tool->json ? print_json : print_text, printing);
    if (error == EKV_NOT_FOUND)
        message(look->tool, "%s does not hold sector %u", look->tool->image, printing->sector);
    else if (error)
        message(look->tool, "sector %u cannot be read: %s", printing->sector, result_text(error));
    return error ? STATUS_FAILED : STATUS_OK;
}

static int run(struct tool *tool)
{
    struct look look;
    struct printing printing = {.look = &look, .hex = true};
    const char *value;
    char **operands;
    int count, option, status = STATUS_OK;
    while ((option = tool_option(tool, &value)) > 0) {
        printing.hex &= option != 'n';
        printing.full |= option == 'f';
    }
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 1, INT32_MAX, &operands, &count) ||
        look_open(tool, &look, NULL) != EKV_OK)
        return STATUS_FAILED;
    for (int i = 0; i < count && !ferror(stdout); i++) {
        uint64_t number;
        if (!option_size(tool, "sector", operands[i], 0,
                         look.survey.format.geometry.sector_count - 1, &number)) {
            status = STATUS_FAILED;
            continue;
        }
        printing.sector = (uint32_t)number;
        if (print_sector(&look, &printing) != STATUS_OK)
            status = STATUS_FAILED;
    }
    look_close(&look);
    return status;
}

const struct command command_sector = {
    .name = "sector",
    .operands = "N...",
    .summary = "Print what lies in sector N, decoded, beside its bytes",
    .details =
        "A line for each record, index page or frame: offset in the sector, size, what it is;\n"
        "below it its bytes. What was deleted or aborted is listed too, and what is damaged.\n",
    .options = options,
    .run = run,
};
