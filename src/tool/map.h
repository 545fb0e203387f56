/* What the pictures of a survey share: the terminal's, the SVG and the page. */
#ifndef EKV_TOOL_MAP_H
#define EKV_TOOL_MAP_H

#include "host/survey.h"
#include "tool.h"

enum map_by { MAP_KIND, MAP_FILL, MAP_AGE, MAP_WEAR, MAP_BY_COUNT };

/* How sectors are to be shown. `survey` must outlive it. */
struct map {
    const struct survey *survey;
    const char *name; /* of the image, without directories */
    int64_t offset;   /* of the store in it */
    enum map_by by;
    uint32_t erase_count_max;
    uint32_t sequence_min[SURVEY_ROLE_COUNT], sequence_max[SURVEY_ROLE_COUNT];
    uint32_t role_counts[SURVEY_ROLE_COUNT];
};

/* "kind", "fill", "age", "wear". */
extern const char *const map_by_names[MAP_BY_COUNT];

/* `offset` is where in the file of that path the survey's source begins. */
struct map map_of(const struct survey *survey, const char *path, uint64_t offset, enum map_by by);

/* What the colour of a sector stands for, 0 to 1: how much of it is live, how recently it was put
 * to use among those of its kind, its erases by the most of any. Below 0: that cannot be said. */
double map_share(const struct map *map, uint32_t sector);

/* "log", "free, erased", ...: for people. */
const char *map_role_text(enum survey_role role);

struct map_colour {
    uint8_t red, green, blue;
};

/* Colours of roles, and of shares from dark (0) to bright (1). */
struct map_colour map_role_colour(enum survey_role role);
struct map_colour map_share_colour(double share);

/* What both ends of the colours of shares mean, such as "0 erases" and "12". */
void map_scale_text(const struct map *map, const char **low, const char **high);

/* Writes a picture as SVG; `columns` sectors a row, 0: as is good. */
void map_svg(const struct map *map, uint32_t columns, FILE *output);

/* Writes the whole store as one page of HTML that needs nothing else. Errors: EKV_IO, EKV_MEMORY of
 * the survey; whether `output` took it all is for the caller to see. */
EKV_MUST_CHECK int map_html(const struct map *map, FILE *output);

/* --- The page (map_page.c, embedded by embed.cmake) ------------------------------------------ */

/* A file of src/tool/page/, as it was at build time. */
struct page_file {
    const char *name;
    const unsigned char *bytes;
    size_t size;
};

/* All of them, up to one without a name. */
extern const struct page_file page_files[];

#endif
