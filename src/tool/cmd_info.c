/* `ekv info` for people, `ekv stat` for scripts: the figures of a store.
 *
 * Both read the same figures; the erase counts come from the stamps of the sectors, which the
 * engine keeps on flash.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "host/survey.h"
#include "store.h"

struct wear {
    uint32_t stamped; /* sectors that tell their erase count */
    uint32_t max;
    uint64_t sum;
};

static void read_wear(const struct store *store, struct wear *wear)
{
    const struct ekv_flash *flash = &store->image.flash;
    *wear = (struct wear){0};
    for (uint32_t sector = 0; sector < flash->geometry.sector_count; sector++) {
        struct ekv_stamp_a stamp;
        const uint8_t *bytes = flash->map + (size_t)sector * flash->geometry.sector_size;
        if (ekv_stamp_a_decode(bytes, &stamp) != EKV_OK || stamp.sector != sector)
            continue;
        wear->stamped++;
        wear->sum += stamp.erase_count;
        if (stamp.erase_count > wear->max)
            wear->max = stamp.erase_count;
    }
}

static double wear_mean(const struct wear *wear, const struct ekv_stat *stat)
{
    return (double)wear->sum / stat->geometry.sector_count;
}

static json_int_t integer(uint64_t number)
{
    return (json_int_t)number;
}

/* How far back the flash remembers. */
struct past {
    uint64_t oldest;   /* version, 0: none */
    int64_t time;      /* of its commit, 0: not known */
    uint64_t complete; /* from this version on nothing is missing */
};

static void read_past(const struct store *store, struct past *past)
{
    struct survey_source source = survey_source_of_flash(&store->image.flash);
    struct survey_place *places;
    struct survey survey;
    int64_t offset = 0;
    uint32_t count;
    *past = (struct past){0};
    if (survey_find(&source, &offset, &places, &count) != EKV_OK)
        return;
    if (survey_open(&survey, &source, &places[0], NULL) == EKV_OK) {
        past->oldest = survey.oldest;
        past->complete = survey.complete;
        for (uint32_t i = 0; i < survey.record_count; i++)
            if (survey.records[i].version == survey.oldest && survey.records[i].valid)
                past->time = survey.records[i].time;
        survey_close(&survey);
    }
    free(places);
}

static json_t *figures(const struct store *store, const char *schema)
{
    struct ekv_stat stat;
    struct wear wear;
    ekv_stat(store->db, &stat);
    read_wear(store, &wear);
    json_t *object = json_pack(
        "{s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "schema", schema,
        "format_version", EKV_FORMAT_VERSION, "store_id", id_text(stat.store_id), "size",
        integer(ekv_flash_size(&store->image.flash)), "sector_size",
        integer(stat.geometry.sector_size), "sector_count", integer(stat.geometry.sector_count),
        "write_unit", integer(stat.geometry.write_unit), "program_once",
        (int)stat.geometry.program_once, "keys", integer(stat.keys), "live_size",
        integer(stat.live_size), "capacity_size", integer(stat.capacity_size), "key_size_max",
        integer(stat.key_size_max), "record_overhead", integer(stat.record_overhead), "version",
        integer(stat.version));
    json_set_bytes(object, "label", stat.label, strnlen(stat.label, sizeof stat.label));
    json_t *more = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:I, s:f}", "sectors_log",
        integer(stat.sectors_log), "sectors_index", integer(stat.sectors_index), "sectors_manifest",
        integer(stat.sectors_manifest), "sectors_free", integer(stat.sectors_free), "sectors_ready",
        integer(stat.sectors_ready), "sectors_pinned", integer(stat.sectors_pinned),
        "sectors_retired", integer(stat.sectors_retired), "runs", integer(stat.runs),
        "memtable_count", integer(stat.memtable_count), "memtable_capacity",
        integer(stat.memtable_capacity), "damaged", (int)stat.damaged, "recovered",
        (int)stat.recovered, "erases_max", integer(wear.max), "erases_mean",
        wear_mean(&wear, &stat));
    json_add(object, more);
    struct past past;
    read_past(store, &past);
    json_add(object, json_pack("{s:I, s:I}", "oldest_version", integer(past.oldest),
                               "complete_version", integer(past.complete)));
    return object;
}

static void print_info(const struct tool *tool, const struct store *store)
{
    struct ekv_stat stat;
    struct wear wear;
    struct past past;
    ekv_stat(store->db, &stat);
    read_wear(store, &wear);
    printf("image        %s%s\n", tool->image,
           store->image.copied ? " (in use: a view of this moment)" : "");
    printf("store        %s, format %d", id_text(stat.store_id), EKV_FORMAT_VERSION);
    if (stat.label[0]) {
        printf(", label ");
        print_bytes(stat.label, strnlen(stat.label, sizeof stat.label), true);
    }
    const char *state = stat.damaged ? "damaged: it can only be read; 'ekv check' says where"
                        : stat.recovered && !store->image.copied
                            ? "not closed by its last user; the next write recovers it"
                            : "clean";
    printf("\nstate        %s\n", state);
    printf("flash        %s: %u sectors of %s, write unit %u%s\n",
           size_text(ekv_flash_size(&store->image.flash)), stat.geometry.sector_count,
           size_text(stat.geometry.sector_size), stat.geometry.write_unit,
           stat.geometry.program_once ? ", programmed once" : "");
    printf("keys         %llu\n", (unsigned long long)stat.keys);
    printf("space        %s of %s used (%.1f %%)\n", size_text(stat.live_size),
           size_text(stat.capacity_size),
           stat.capacity_size ? 100.0 * (double)stat.live_size / (double)stat.capacity_size : 0.0);
    printf("sectors      %u log, %u index, %u manifest, %u free, %u erased and ready",
           stat.sectors_log, stat.sectors_index, stat.sectors_manifest, stat.sectors_free,
           stat.sectors_ready);
    if (stat.sectors_retired)
        printf(", %u retired", stat.sectors_retired);
    printf("\nindex        %u run%s, %u key%s not in one yet\n", stat.runs,
           stat.runs == 1 ? "" : "s", stat.memtable_count, stat.memtable_count == 1 ? "" : "s");
    read_past(store, &past);
    printf("newest       version %llu\n", (unsigned long long)stat.version);
    if (past.oldest) {
        printf("oldest       version %llu%s%s", (unsigned long long)past.oldest,
               past.time ? " of " : "", past.time ? time_text(past.time) : "");
        if (past.complete)
            printf("; all that came from %llu on is there\n", (unsigned long long)past.complete);
        else
            puts("; the whole log is still there");
    }
    printf("wear         %u erases of a sector at most, %.2f on average\n", wear.max,
           wear_mean(&wear, &stat));
    printf("limits       keys up to %u bytes; a small key takes %llu bytes beside its own\n",
           stat.key_size_max, (unsigned long long)stat.record_overhead);
}

static int run(struct tool *tool)
{
    struct store store;
    char **operands;
    const char *value;
    int count, option = tool_option(tool, &value);
    bool info = tool->command == &command_info;
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 0, 0, &operands, &count) ||
        store_open_mounted(tool, &store, false) != EKV_OK)
        return STATUS_FAILED;
    if (tool->json)
        json_line(figures(&store, info ? "ekv.info.1" : "ekv.stat.1"));
    else if (info)
        print_info(tool, &store);
    else
        print_figures(figures(&store, "ekv.stat.1"));
    return store_close(tool, &store) ? STATUS_FAILED : STATUS_OK;
}

const struct command command_info = {
    .name = "info",
    .operands = "",
    .summary = "Print what a store is and how full and worn it is",
    .details = "Works on a mounted image too: then of the moment at which it was looked at.\n",
    .run = run,
};

const struct command command_stat = {
    .name = "stat",
    .operands = "",
    .summary = "Print the figures of a store, one 'name value' a line",
    .details = "Sizes are in bytes. The names are those of 'ekv info --json'.\n",
    .run = run,
};
