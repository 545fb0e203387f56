/* What is in the pages and frames that `ekv sector` lists: entries and items, a line each.
 *
 * Their checksums are right, so what they say is printed as it is; nothing is read beyond their
 * ends.
 */
#include <string.h>

#include "sector_parts.h"

enum { INDENT = 25 };

static void line(const char *name)
{
    printf("%*s%-8s", INDENT, "", name);
}

/* --- Pages ----------------------------------------------------------------------------------- */

/* The key of the record that an entry leads to, if it is there. */
static void print_target(const struct survey *survey, uint32_t address)
{
    for (uint32_t i = 0; i < survey->record_count; i++) {
        const struct survey_record *record = &survey->records[i];
        if (record->address != address)
            continue;
        printf("  %s ", record->kind == EKV_RECORD_DELETE ? "delete" : "put");
        print_bytes(record->key, record->key_size, true);
        return;
    }
}

void sector_print_page(const struct survey *survey, const uint8_t *page)
{
    const struct ekv_format *format = &survey->format;
    uint32_t size = page[6] + 1u, at = EKV_PAGE_HEAD_SIZE;
    uint32_t pointer = format->pointer_size, head = pointer + (page[4] ? 2 : 1);
    for (uint8_t i = 0; i < page[5] && at + head <= size; i++) {
        uint32_t address = ekv_pointer_load(format, page + at);
        uint32_t suffix = page[4] ? page[at + pointer + 1] & (uint32_t)~EKV_SEPARATOR_CUT : 0;
        if (suffix > size - at - head)
            return;
        line(page[4] ? "page" : "record");
        printf("+0x%02x  0x%08x", at, address);
        if (page[4]) {
            printf("  from %u shared bytes and '", page[at + pointer]);
            print_bytes(page + at + head, suffix, true);
            printf("'%s", page[at + pointer + 1] & EKV_SEPARATOR_CUT ? ", cut" : "");
        } else {
            printf("  fingerprint %02x", page[at + pointer]);
            print_target(survey, address);
        }
        putchar('\n');
        at += head + suffix;
    }
}

/* --- Frames ---------------------------------------------------------------------------------- */

static void print_store(const uint8_t *at)
{
    uint32_t retain = ekv_load32(at);
    printf("retain %u%s, label '", retain & EKV_RETAIN_SECONDS_MAX,
           retain > EKV_RETAIN_SECONDS_MAX ? " s" : "");
    print_bytes(at + 4, strnlen((const char *)at + 4, 31), true);
    puts("'");
}

static void print_state(const uint8_t *at)
{
    printf("replay from sector %u (sequence %u) +0x%x, next run %u, virgin from %u\n",
           (unsigned)ekv_load(at + 4, 3), ekv_load32(at + 7), (unsigned)ekv_load(at + 11, 3),
           ekv_load32(at), (unsigned)ekv_load(at + 29, 3));
    line("");
    printf("counted to %llu, in runs to %llu: %u keys, %u with attributes, %llu bytes live\n",
           (unsigned long long)ekv_load(at + 14, 6), (unsigned long long)ekv_load(at + 40, 6),
           ekv_load32(at + 20), ekv_load32(at + 36), (unsigned long long)ekv_load(at + 24, 5));
}

static void print_run(const uint8_t *at)
{
    printf("%u: root 0x%08x, height %u, level %u, %u entries, up to sequence %u", ekv_load32(at),
           ekv_load32(at + 4), at[23], at[22], ekv_load32(at + 8), ekv_load32(at + 12));
    if (ekv_load32(at + 16))
        printf(", filter of %u blocks at 0x%08x", (unsigned)ekv_load(at + 20, 2),
               ekv_load32(at + 16));
    putchar('\n');
}

static void print_order(const uint8_t *at)
{
    for (uint8_t i = 0; i < at[0]; i++)
        printf("%s%u", i ? " " : "", ekv_load32(at + 1 + 4 * i));
    puts(at[0] ? "" : "no runs");
}

/* Sectors of a table item; `what` is of the number behind each, NULL: there is none. */
static void print_table(const uint8_t *at, const char *what)
{
    uint32_t sector = (uint32_t)ekv_load(at, 3), size = what ? 2 : 1;
    const uint8_t *entry = at + EKV_ITEM_TABLE_HEAD_SIZE;
    for (uint8_t i = 0; i < at[3]; i++, entry += size) {
        sector += entry[0];
        printf("%s%u", i ? " " : "", sector);
        if (what)
            printf("(%u)", entry[1]);
    }
    printf("%s%s\n", what ? "  in brackets: " : "", what ? what : "");
}

/* Prints an item and returns its size behind the byte that says which it is; 0: it is none. */
static uint32_t print_item(uint8_t kind, const uint8_t *at, uint32_t size)
{
    static const char *const names[] = {"?",   "store", "state",   "run",    "order",
                                        "log", "free",  "retired", "resting"};
    uint32_t entry = ekv_item_entry_size(kind);
    uint32_t wanted = kind == EKV_ITEM_STORE            ? EKV_ITEM_STORE_SIZE
                      : kind == EKV_ITEM_STATE          ? EKV_ITEM_STATE_SIZE
                      : kind == EKV_ITEM_RUN            ? EKV_ITEM_RUN_SIZE
                      : kind == EKV_ITEM_ORDER          ? 1 + (size ? 4u * at[0] : 0)
                      : size < EKV_ITEM_TABLE_HEAD_SIZE ? EKV_ITEM_TABLE_HEAD_SIZE
                                                        : EKV_ITEM_TABLE_HEAD_SIZE + at[3] * entry;
    if (kind < EKV_ITEM_STORE || kind > EKV_ITEM_RESTING || wanted > size)
        return 0;
    line(names[kind]);
    if (kind == EKV_ITEM_STORE)
        print_store(at);
    else if (kind == EKV_ITEM_STATE)
        print_state(at);
    else if (kind == EKV_ITEM_RUN)
        print_run(at);
    else if (kind == EKV_ITEM_ORDER)
        print_order(at);
    else
        print_table(at, kind == EKV_ITEM_LOG       ? "live units"
                        : kind == EKV_ITEM_RESTING ? "generation"
                                                   : NULL);
    return wanted;
}

void sector_print_frame(const uint8_t *frame)
{
    uint32_t size = (uint32_t)ekv_load(frame + 5, 2);
    const uint8_t *at = frame + EKV_FRAME_HEAD_SIZE;
    while (size > 0) {
        uint32_t used = print_item(at[0], at + 1, size - 1);
        if (used == 0) {
            line("?");
            printf("%u bytes that are no item\n", size);
            return;
        }
        at += 1 + used;
        size -= 1 + used;
    }
}
