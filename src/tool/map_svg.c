/* The picture of an image as SVG: a square a sector, each with a title that says what it is. */
#include <string.h>

#include "map.h"

enum {
    WIDTH = 704, /* of the sectors */
    CELL_MIN = 8,
    CELL_MAX = 44,
    GAP = 2,
    MARGIN = 16,
    HEAD = 46,
    COLUMNS_MAX = 64,
    LEGEND_WIDTH = 176,
    LEGEND_ROW = 20,
};

/* How the sectors are laid out. */
struct layout {
    uint32_t columns, rows, cell, width, legend_y, height;
};

static void print_text(FILE *output, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '&'                  ? "&amp;"
                             : *text == '<'                ? "&lt;"
                             : *text == '>'                ? "&gt;"
                             : (unsigned char)*text < 0x20 ? "?"
                                                           : NULL;
        if (entity)
            fputs(entity, output);
        else
            fputc(*text, output);
    }
}

/* As many columns as make the picture about twice as wide as it is high. */
static uint32_t good_columns(uint32_t count)
{
    uint32_t columns = 8;
    while (columns < COLUMNS_MAX && columns * columns < 2 * count)
        columns *= 2;
    return columns;
}

static void print_colour(FILE *output, struct map_colour colour)
{
    fprintf(output, "fill=\"#%02x%02x%02x\"", colour.red, colour.green, colour.blue);
}

static struct map_colour colour_of(const struct map *map, uint32_t number)
{
    double share = map_share(map, number);
    if (map->by == MAP_KIND)
        return map_role_colour(map->survey->sectors[number].role);
    return share < 0 ? map_role_colour(SURVEY_MISSING) : map_share_colour(share);
}

static void print_cell(const struct map *map, const struct layout *layout, uint32_t number,
                       FILE *output)
{
    const struct survey_sector *sector = &map->survey->sectors[number];
    uint32_t size = map->survey->place.geometry.sector_size;
    uint32_t x = MARGIN + number % layout->columns * layout->cell;
    uint32_t y = HEAD + number / layout->columns * layout->cell, side = layout->cell - GAP;
    fprintf(output, "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" rx=\"2\" ", x, y, side,
            side);
    print_colour(output, colour_of(map, number));
    fprintf(output, " stroke=\"%s\"><title>Sector %u at 0x%x: %s",
            sector->broken_count ? "#d0342c\" stroke-width=\"2" : "#00000033", number,
            number * size, map_role_text(sector->role));
    if (sector->stamped)
        fprintf(output, ", erased %u time%s", sector->erase_count,
                sector->erase_count == 1 ? "" : "s");
    if (sector->live_size)
        fprintf(output, ", %u %% live", (unsigned)((uint64_t)sector->live_size * 100 / size));
    if (sector->broken_count)
        fprintf(output, ", %u broken", sector->broken_count);
    fputs("</title></rect>\n", output);
}

static void print_entry(uint32_t *x, uint32_t *y, uint32_t width, struct map_colour colour,
                        const char *text, FILE *output)
{
    if (*x > MARGIN && *x + LEGEND_WIDTH > width) {
        *x = MARGIN;
        *y += LEGEND_ROW;
    }
    fprintf(output, "<rect x=\"%u\" y=\"%u\" width=\"12\" height=\"12\" rx=\"2\" ", *x, *y);
    print_colour(output, colour);
    fprintf(output, " stroke=\"#00000033\"/><text x=\"%u\" y=\"%u\">", *x + 18, *y + 11);
    print_text(output, text);
    fputs("</text>\n", output);
    *x += LEGEND_WIDTH;
}

static struct layout layout_of(const struct map *map, uint32_t columns)
{
    uint32_t count = map->survey->place.geometry.sector_count, entries = 0;
    struct layout layout = {.columns = columns ? columns : good_columns(count)};
    layout.cell = WIDTH / layout.columns;
    layout.cell = layout.cell < CELL_MIN   ? CELL_MIN
                  : layout.cell > CELL_MAX ? CELL_MAX
                                           : layout.cell;
    layout.rows = (count + layout.columns - 1) / layout.columns;
    layout.width = 2 * MARGIN + layout.columns * layout.cell;
    if (layout.width < 2 * MARGIN + WIDTH)
        layout.width = 2 * MARGIN + WIDTH;
    layout.legend_y = HEAD + layout.rows * layout.cell + 10;
    for (uint32_t role = 0; role < SURVEY_ROLE_COUNT; role++)
        entries += map->role_counts[role] > 0;
    uint32_t in_row = (layout.width - MARGIN) / LEGEND_WIDTH;
    uint32_t legend_rows = map->by == MAP_KIND ? (entries + in_row - 1) / in_row : 1;
    layout.height = layout.legend_y + legend_rows * LEGEND_ROW + 6;
    return layout;
}

static void print_legend(const struct map *map, uint32_t width, uint32_t y, FILE *output)
{
    uint32_t x = MARGIN;
    const char *low, *high;
    if (map->by == MAP_KIND) {
        for (uint32_t role = 0; role < SURVEY_ROLE_COUNT; role++) {
            char text[64];
            snprintf(text, sizeof text, "%s (%u)", map_role_text(role), map->role_counts[role]);
            if (map->role_counts[role])
                print_entry(&x, &y, width, map_role_colour(role), text, output);
        }
        return;
    }
    map_scale_text(map, &low, &high);
    fprintf(output, "<text x=\"%u\" y=\"%u\" text-anchor=\"end\">%s</text>\n", MARGIN + 110, y + 11,
            low);
    for (int i = 0; i < 10; i++) {
        fprintf(output, "<rect x=\"%d\" y=\"%u\" width=\"14\" height=\"12\" ",
                MARGIN + 118 + 14 * i, y);
        print_colour(output, map_share_colour(i / 9.0));
        fputs("/>\n", output);
    }
    fprintf(output, "<text x=\"%d\" y=\"%u\">%s</text>\n", MARGIN + 118 + 146, y + 11, high);
}

void map_svg(const struct map *map, uint32_t columns, FILE *output)
{
    const struct survey *survey = map->survey;
    uint32_t count = survey->place.geometry.sector_count;
    struct layout layout = layout_of(map, columns);
    fprintf(output,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" "
            "viewBox=\"0 0 %u %u\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#1a2027\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#f8f9fa\"/>\n"
            "<text x=\"%d\" y=\"28\" font-size=\"15\" font-weight=\"bold\">",
            layout.width, layout.height, layout.width, layout.height, MARGIN);
    const char *title = survey->manifest.label[0] ? survey->manifest.label : map->name;
    print_text(output, key_text(title, strnlen(title, 255)));
    fprintf(output,
            "<tspan dx=\"10\" font-size=\"12\" font-weight=\"normal\">%s, %u sectors of %s, by %s",
            size_text((uint64_t)count * survey->place.geometry.sector_size), count,
            size_text(survey->place.geometry.sector_size), map_by_names[map->by]);
    fputs("</tspan></text>\n", output);
    for (uint32_t number = 0; number < count; number++)
        print_cell(map, &layout, number, output);
    print_legend(map, layout.width, layout.legend_y, output);
    fputs("</svg>\n", output);
}
