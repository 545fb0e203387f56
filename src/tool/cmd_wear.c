/* `ekv wear`: how often sectors were erased, and how long the flash will last at that.
 *
 * The counts are in the stamps. What a day costs follows from the commit times, if the store has
 * any: the erases so far over the time between the oldest and the newest commit that are left would
 * count those of before, so what is taken is the log: how far it grew in that time, and how many
 * erases it takes for a sector of log.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "look.h"

enum { BARS_MAX = 16, BAR_WIDTH = 40, ENDURANCE = 100000 };

static const struct option_spec options[] = {
    {"endurance", 'e', "N", "erases that a sector stands (default 100000)"},
    {0},
};

struct wear {
    uint32_t stamped, unknown;
    uint32_t min, max;
    uint64_t sum;
    uint64_t log_sequence; /* sectors of log that were ever written */
    int64_t first, last;   /* times of commits */
    uint64_t first_position, last_position;
    double erases_a_day; /* of the whole flash; below 0: not known */
    double years;        /* until the most erased sector has reached the endurance */
};

static void count_erases(const struct survey *survey, struct wear *wear)
{
    wear->min = UINT32_MAX;
    for (uint32_t i = 0; i < survey->format.geometry.sector_count; i++) {
        const struct survey_sector *sector = &survey->sectors[i];
        if (!sector->stamped) {
            wear->unknown++;
            continue;
        }
        wear->stamped++;
        wear->sum += sector->erase_count;
        wear->max = sector->erase_count > wear->max ? sector->erase_count : wear->max;
        wear->min = sector->erase_count < wear->min ? sector->erase_count : wear->min;
        if (sector->kind == EKV_KIND_LOG && sector->sequence > wear->log_sequence)
            wear->log_sequence = sector->sequence;
    }
    wear->min = wear->stamped ? wear->min : 0;
}

static void find_times(const struct survey *survey, struct wear *wear)
{
    for (uint32_t i = 0; i < survey->record_count; i++) {
        const struct survey_record *record = &survey->records[i];
        if (!record->valid || record->time == 0 || record->flags & EKV_RECORD_MOVED)
            continue;
        if (wear->first == 0 || record->position < wear->first_position) {
            wear->first = record->time;
            wear->first_position = record->position;
        }
        if (wear->last == 0 || record->position > wear->last_position) {
            wear->last = record->time;
            wear->last_position = record->position;
        }
    }
}

static void extrapolate(const struct survey *survey, struct wear *wear, uint64_t endurance)
{
    double days = (double)(wear->last - wear->first) / (86400.0 * 1000000.0);
    double sectors =
        (double)(wear->last_position - wear->first_position) / survey->format.geometry.sector_size;
    wear->erases_a_day = wear->years = -1;
    if (days <= 0 || wear->log_sequence == 0 || wear->sum == 0)
        return;
    wear->erases_a_day = sectors * ((double)wear->sum / (double)wear->log_sequence) / days;
    /* The most erased sector keeps its lead in proportion. */
    double mean = (double)wear->sum / wear->stamped;
    double most_a_day =
        wear->erases_a_day / survey->format.geometry.sector_count * ((double)wear->max / mean);
    double left = endurance > wear->max ? (double)(endurance - wear->max) : 0;
    if (most_a_day > 0)
        wear->years = left / most_a_day / 365.25;
}

/* Counts in up to BARS_MAX ranges of equal width. */
static uint32_t histogram(const struct survey *survey, const struct wear *wear,
                          uint32_t bars[BARS_MAX], uint32_t *width)
{
    uint32_t span = wear->max - wear->min + 1;
    *width = (span + BARS_MAX - 1) / BARS_MAX;
    memset(bars, 0, BARS_MAX * sizeof *bars);
    for (uint32_t i = 0; i < survey->format.geometry.sector_count; i++)
        if (survey->sectors[i].stamped)
            bars[(survey->sectors[i].erase_count - wear->min) / *width]++;
    return (span + *width - 1) / *width;
}

static void print_text(const struct survey *survey, const struct wear *wear, uint64_t endurance)
{
    uint32_t bars[BARS_MAX], width, most = 1;
    uint32_t count = histogram(survey, wear, bars, &width);
    for (uint32_t i = 0; i < count; i++)
        most = bars[i] > most ? bars[i] : most;
    printf("%-21s sectors\n", "erases");
    for (uint32_t i = 0; wear->stamped && i < count; i++) {
        char range[32];
        uint32_t from = wear->min + i * width;
        if (width == 1)
            snprintf(range, sizeof range, "%u", from);
        else
            snprintf(range, sizeof range, "%u-%u", from, from + width - 1);
        int length = (int)((uint64_t)bars[i] * BAR_WIDTH / most);
        printf("%21s %7u%s%.*s\n", range, bars[i], bars[i] ? " " : "", bars[i] ? length + 1 : 0,
               "#########################################");
    }
    if (wear->unknown)
        printf("%21s %7u\n", "not known", wear->unknown);
    printf("\nmost         %u\n", wear->max);
    if (wear->stamped)
        printf("mean         %.2f\n", (double)wear->sum / wear->stamped);
    printf("endurance    %llu, of which the most erased sector has used %.2f %%\n",
           (unsigned long long)endurance, 100.0 * wear->max / (double)endurance);
    if (wear->erases_a_day < 0) {
        puts("a day        not known: the commits that are left carry no times");
        return;
    }
    printf("a day        %.3g erases of the whole flash, between %s and %s\n", wear->erases_a_day,
           time_text(wear->first), time_text(wear->last));
    if (wear->years >= 0)
        printf("left         %.3g years at that rate\n", wear->years);
}

static void print_json(const struct survey *survey, const struct wear *wear, uint64_t endurance)
{
    uint32_t bars[BARS_MAX], width, count = histogram(survey, wear, bars, &width);
    json_t *object = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:f, s:I}", "schema", "ekv.wear.1", "sectors",
        (json_int_t)survey->format.geometry.sector_count, "unknown", (json_int_t)wear->unknown,
        "erases_min", (json_int_t)wear->min, "erases_max", (json_int_t)wear->max, "erases_mean",
        wear->stamped ? (double)wear->sum / wear->stamped : 0.0, "endurance",
        (json_int_t)endurance);
    json_t *list = json_array();
    for (uint32_t i = 0; wear->stamped && i < count; i++)
        json_array_append_new(list, json_pack("{s:I, s:I, s:I}", "from",
                                              (json_int_t)(wear->min + i * width), "to",
                                              (json_int_t)(wear->min + (i + 1) * width - 1),
                                              "sectors", (json_int_t)bars[i]));
    json_object_set_new(object, "histogram", list);
    if (wear->erases_a_day >= 0)
        json_object_set_new(object, "erases_a_day", json_real(wear->erases_a_day));
    if (wear->years >= 0)
        json_object_set_new(object, "years_left", json_real(wear->years));
    json_line(object);
}

static int run(struct tool *tool)
{
    struct look look;
    struct wear wear = {0};
    const char *value;
    char **operands;
    uint64_t endurance = ENDURANCE;
    int count, option;
    while ((option = tool_option(tool, &value)) > 0)
        if (!option_size(tool, "--endurance", value, 1, UINT32_MAX, &endurance))
            return STATUS_FAILED;
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 0, 0, &operands, &count) || look_open(tool, &look, NULL) != EKV_OK)
        return STATUS_FAILED;
    count_erases(&look.survey, &wear);
    find_times(&look.survey, &wear);
    extrapolate(&look.survey, &wear, endurance);
    if (tool->json)
        print_json(&look.survey, &wear, endurance);
    else
        print_text(&look.survey, &wear, endurance);
    look_close(&look);
    return STATUS_OK;
}

const struct command command_wear = {
    .name = "wear",
    .operands = "",
    .summary = "Print how often sectors were erased, and how long the flash will last",
    .details =
        "A histogram of erase counts, the most and the mean. From the commit times of the log\n"
        "that is left follow the erases a day, and the years until the most erased sector has\n"
        "reached the endurance that the part's data sheet gives.\n",
    .options = options,
    .run = run,
};
