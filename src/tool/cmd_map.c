/* `ekv map`: a picture of the sectors, in the terminal, as SVG, or as a page of HTML.
 *
 * It goes by a survey, so it shows whatever is left of a store: damaged ones, parts of one, one
 * somewhere in a larger dump.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "look.h"
#include "map.h"

enum {
    LETTER_BY = 256,
    LETTER_SVG,
    LETTER_HTML,
    LETTER_COLOR,
    LETTER_WIDTH,
    COLUMNS_PLAIN = 64, /* sectors a row where nobody says how wide the output is */
    COLUMNS_MAX = 1 << 16,
    ADDRESS_WIDTH = 12,
    BROKEN_NAMED = 12,
};

enum form { FORM_TEXT, FORM_SVG, FORM_HTML };
enum colouring { COLOUR_AUTO, COLOUR_ALWAYS, COLOUR_NEVER };

struct picture {
    struct tool *tool;
    enum form form;
    enum map_by by;
    enum colouring colouring;
    uint64_t columns;
    const char *path; /* of -o */
};

static const struct option_spec options[] = {
    {"by", LETTER_BY, "WHAT", "colour by kind (the default), fill, age or wear"},
    {"svg", LETTER_SVG, NULL, "the picture as SVG"},
    {"html", LETTER_HTML, NULL, "one page to click through: sectors, keys, values, history"},
    {"output", 'o', "FILE", "write into FILE, not to standard output"},
    {"width", LETTER_WIDTH, "N", "sectors a row (default: as the terminal is wide)"},
    {"color", LETTER_COLOR, "WHEN", "auto (the default: on a terminal), always or never"},
    {0},
};

/* --- In the terminal ------------------------------------------------------------------------- */

static char role_letter(uint8_t role)
{
    static const char letters[SURVEY_ROLE_COUNT] = {
        [SURVEY_MISSING] = ' ', [SURVEY_MANIFEST] = 'M', [SURVEY_LOG] = 'L',
        [SURVEY_INDEX] = 'I',   [SURVEY_STALE] = 's',    [SURVEY_READY] = '.',
        [SURVEY_BLANK] = '_',   [SURVEY_FOREIGN] = '?',  [SURVEY_RETIRED] = 'x',
        [SURVEY_DAMAGED] = '!',
    };
    return letters[role];
}

static char letter_of(const struct map *map, uint32_t sector)
{
    if (map->by == MAP_KIND)
        return role_letter(map->survey->sectors[sector].role);
    double share = map_share(map, sector);
    int tenth = (int)(share * 10);
    return share < 0 ? '-' : (char)('0' + (tenth > 9 ? 9 : tenth));
}

static void print_coloured(char letter, struct map_colour colour)
{
    bool bright = colour.red * 3 + colour.green * 6 + colour.blue > 1400;
    printf("\033[48;2;%u;%u;%um\033[%dm%c", colour.red, colour.green, colour.blue, bright ? 30 : 97,
           letter);
}

static void print_cell(const struct map *map, uint32_t sector, bool coloured)
{
    char letter = letter_of(map, sector);
    if (!coloured) {
        putchar(letter);
        return;
    }
    double share = map_share(map, sector);
    print_coloured(letter, map->by == MAP_KIND ? map_role_colour(map->survey->sectors[sector].role)
                           : share < 0         ? map_role_colour(SURVEY_MISSING)
                                               : map_share_colour(share));
}

static void print_legend(const struct map *map, bool coloured)
{
    if (map->by != MAP_KIND) {
        const char *low, *high;
        map_scale_text(map, &low, &high);
        printf("0 to 9: from %s to %s; - : nothing to say\n", low, high);
        return;
    }
    const char *separator = "";
    for (uint32_t role = 0; role < SURVEY_ROLE_COUNT; role++) {
        if (map->role_counts[role] == 0)
            continue;
        fputs(separator, stdout);
        if (coloured)
            print_coloured(role_letter((uint8_t)role), map_role_colour(role));
        else
            putchar(role_letter((uint8_t)role));
        printf("%s %s %u", coloured ? "\033[0m" : "", map_role_text(role), map->role_counts[role]);
        separator = ", ";
    }
    putchar('\n');
}

static void print_broken(const struct map *map)
{
    uint32_t named = 0;
    for (uint32_t i = 0; i < map->survey->place.geometry.sector_count; i++) {
        if (map->survey->sectors[i].broken_count == 0)
            continue;
        if (named < BROKEN_NAMED)
            printf("%s %u", named ? "," : "broken in sector", i);
        named++;
    }
    if (named > BROKEN_NAMED)
        printf(" and %u more", named - BROKEN_NAMED);
    if (named)
        putchar('\n');
}

static uint32_t columns_of_terminal(void)
{
    struct winsize size;
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 ||
        size.ws_col <= ADDRESS_WIDTH + 8)
        return COLUMNS_PLAIN;
    return (uint32_t)(size.ws_col - ADDRESS_WIDTH) / 8 * 8;
}

static void print_text(const struct picture *picture, const struct map *map)
{
    const struct survey *survey = map->survey;
    const struct ekv_geometry *geometry = &survey->place.geometry;
    const char *no_colour = getenv("NO_COLOR");
    bool coloured = picture->colouring == COLOUR_ALWAYS ||
                    (picture->colouring == COLOUR_AUTO && isatty(STDOUT_FILENO) &&
                     !(no_colour && no_colour[0]));
    uint32_t columns = picture->columns ? (uint32_t)picture->columns : columns_of_terminal();
    const char *label = survey->manifest.label;
    print_bytes(map->name, strlen(map->name), true);
    if (label[0]) {
        printf(" (");
        print_bytes(label, strnlen(label, sizeof survey->manifest.label), true);
        putchar(')');
    }
    printf(": %u sectors of %s by %s\n", geometry->sector_count, size_text(geometry->sector_size),
           map_by_names[map->by]);
    for (uint32_t sector = 0; sector < geometry->sector_count; sector++) {
        if (sector % columns == 0)
            printf("0x%08llx  ", (unsigned long long)sector * geometry->sector_size);
        print_cell(map, sector, coloured);
        if ((sector + 1) % columns == 0 || sector + 1 == geometry->sector_count)
            printf("%s\n", coloured ? "\033[0m" : "");
    }
    print_legend(map, coloured);
    print_broken(map);
}

/* --- As JSON lines --------------------------------------------------------------------------- */

static void print_json(const struct picture *picture, const struct map *map)
{
    const struct survey *survey = map->survey;
    const struct ekv_geometry *geometry = &survey->place.geometry;
    json_t *object = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "schema", "ekv.map.1", "store_id",
                               id_text(survey->place.store_id), "offset", (json_int_t)map->offset,
                               "sector_size", (json_int_t)geometry->sector_size, "sector_count",
                               (json_int_t)geometry->sector_count, "erases_max",
                               (json_int_t)map->erase_count_max);
    json_set_bytes(object, "image", picture->tool->image, strlen(picture->tool->image));
    json_set_bytes(object, "label", survey->manifest.label,
                   strnlen(survey->manifest.label, sizeof survey->manifest.label));
    json_line(object);
    for (uint32_t i = 0; i < geometry->sector_count; i++) {
        const struct survey_sector *sector = &survey->sectors[i];
        object = json_pack(
            "{s:s, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:b}", "schema", "ekv.map.sector.1", "sector",
            (json_int_t)i, "address", (json_int_t)i * geometry->sector_size, "kind",
            survey_role_name(sector->role), "used_size", (json_int_t)sector->used_size, "live_size",
            (json_int_t)sector->live_size, "records", (json_int_t)sector->record_count, "broken",
            (json_int_t)sector->broken_count, "torn", (int)sector->torn);
        if (sector->stamped)
            json_object_set_new(object, "erases", json_integer(sector->erase_count));
        if (sector->sequence)
            json_object_set_new(object, "sequence", json_integer(sector->sequence));
        json_line(object);
    }
}

/* --- The command ----------------------------------------------------------------------------- */

/* Draws into `output`; standard output, or the file of -o. */
static int draw(const struct picture *picture, const struct map *map, FILE *output)
{
    int error = EKV_OK;
    if (picture->form == FORM_SVG)
        map_svg(map, (uint32_t)picture->columns, output);
    else if (picture->form == FORM_HTML)
        error = map_html(map, output);
    else if (picture->tool->json)
        print_json(picture, map);
    else
        print_text(picture, map);
    if (error)
        message(picture->tool, "%s: %s", picture->tool->image, result_text(error));
    return error ? STATUS_FAILED : STATUS_OK;
}

static int draw_to_file(const struct picture *picture, const struct map *map)
{
    FILE *output = fopen(picture->path, "we");
    int status = STATUS_FAILED;
    bool written = false;
    if (output) {
        status = draw(picture, map, output);
        written = !ferror(output);
        written = fclose(output) == 0 && written;
    }
    if (!written) {
        message(picture->tool, "%s cannot be written: %s", picture->path, strerror(errno));
        return STATUS_FAILED;
    }
    return status;
}

static bool take_option(struct tool *tool, struct picture *picture, int option, const char *value)
{
    switch (option) {
    case LETTER_BY:
        for (int by = 0; by < MAP_BY_COUNT; by++)
            if (strcmp(value, map_by_names[by]) == 0) {
                picture->by = (enum map_by)by;
                return true;
            }
        message(tool, "--by %s: by kind, fill, age or wear", value);
        return false;
    case LETTER_COLOR:
        picture->colouring = strcmp(value, "always") == 0  ? COLOUR_ALWAYS
                             : strcmp(value, "never") == 0 ? COLOUR_NEVER
                                                           : COLOUR_AUTO;
        if (picture->colouring != COLOUR_AUTO || strcmp(value, "auto") == 0)
            return true;
        message(tool, "--color %s: auto, always or never", value);
        return false;
    case LETTER_WIDTH:
        return option_size(tool, "--width", value, 1, COLUMNS_MAX, &picture->columns);
    case 'o':
        picture->path = strcmp(value, "-") == 0 ? NULL : value;
        return true;
    default:
        if (picture->form != FORM_TEXT) {
            message(tool, "--svg and --html exclude each other");
            return false;
        }
        picture->form = option == LETTER_SVG ? FORM_SVG : FORM_HTML;
        return true;
    }
}

static int run(struct tool *tool)
{
    struct picture picture = {.tool = tool};
    char **operands;
    const char *value;
    int count, option;
    while ((option = tool_option(tool, &value)) > 0)
        if (!take_option(tool, &picture, option, value))
            return STATUS_FAILED;
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 0, 0, &operands, &count))
        return STATUS_FAILED;
    if (picture.path && picture.form == FORM_TEXT) {
        message(tool, "-o goes with --svg or --html");
        return STATUS_FAILED;
    }
    struct look look;
    if (look_open(tool, &look, NULL) != EKV_OK)
        return STATUS_FAILED;
    struct map map = map_of(&look.survey, tool->image, tool->offset, picture.by);
    int status = picture.path ? draw_to_file(&picture, &map) : draw(&picture, &map, stdout);
    look_close(&look);
    return status;
}

const struct command command_map = {
    .name = "map",
    .operands = "",
    .summary = "A picture of the sectors, as text, SVG or a page to click through",
    .details =
        "One character a sector: M manifest, L log, I index, s free with old content, . erased,\n"
        "_ blank, ? foreign bytes, x retired, ! damaged. With fill, age and wear a digit, 0 to 9.\n"
        "The page of --html holds the whole store and its history and needs nothing else.\n"
        "Works on damaged images, on parts of one, and finds the store in a larger dump.\n",
    .options = options,
    .run = run,
};
