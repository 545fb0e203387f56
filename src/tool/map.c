/* What colours and characters of a sector stand for. */
#define _GNU_SOURCE
#include "map.h"

#include <string.h>

const char *const map_by_names[MAP_BY_COUNT] = {"kind", "fill", "age", "wear"};

static bool in_use(uint8_t role)
{
    return role == SURVEY_MANIFEST || role == SURVEY_LOG || role == SURVEY_INDEX;
}

struct map map_of(const struct survey *survey, const char *path, uint64_t offset, enum map_by by)
{
    struct map map = {.survey = survey,
                      .name = basename(path),
                      .offset = (int64_t)offset + survey->place.offset,
                      .by = by};
    for (uint32_t i = 0; i < SURVEY_ROLE_COUNT; i++)
        map.sequence_min[i] = UINT32_MAX;
    for (uint32_t i = 0; i < survey->place.geometry.sector_count; i++) {
        const struct survey_sector *sector = &survey->sectors[i];
        map.role_counts[sector->role]++;
        if (sector->stamped && sector->erase_count > map.erase_count_max)
            map.erase_count_max = sector->erase_count;
        if (sector->sequence == 0)
            continue;
        if (sector->sequence < map.sequence_min[sector->role])
            map.sequence_min[sector->role] = sector->sequence;
        if (sector->sequence > map.sequence_max[sector->role])
            map.sequence_max[sector->role] = sector->sequence;
    }
    return map;
}

double map_share(const struct map *map, uint32_t number)
{
    const struct survey_sector *sector = &map->survey->sectors[number];
    uint32_t low = map->sequence_min[sector->role], high = map->sequence_max[sector->role];
    switch (map->by) {
    case MAP_FILL:
        if (sector->role != SURVEY_LOG && sector->role != SURVEY_STALE && sector->live_size == 0)
            return -1;
        return (double)sector->live_size / map->survey->place.geometry.sector_size;
    case MAP_AGE:
        if (!in_use(sector->role) || sector->sequence == 0)
            return -1;
        return high == low ? 1 : (double)(sector->sequence - low) / (high - low);
    case MAP_WEAR:
        if (!sector->stamped)
            return -1;
        return map->erase_count_max ? (double)sector->erase_count / map->erase_count_max : 0;
    default:
        return -1;
    }
}

const char *map_role_text(enum survey_role role)
{
    switch (role) {
    case SURVEY_MISSING:
        return "not in this dump";
    case SURVEY_STALE:
        return "free, old content";
    case SURVEY_READY:
        return "free, erased";
    case SURVEY_FOREIGN:
        return "free, foreign content";
    default:
        return survey_role_name(role);
    }
}

struct map_colour map_role_colour(enum survey_role role)
{
    static const struct map_colour colours[SURVEY_ROLE_COUNT] = {
        [SURVEY_MISSING] = {0xe9, 0xe9, 0xe9}, [SURVEY_MANIFEST] = {0x8b, 0x5c, 0xc7},
        [SURVEY_LOG] = {0x2f, 0x6f, 0xd0},     [SURVEY_INDEX] = {0x0f, 0x8f, 0x86},
        [SURVEY_STALE] = {0xaa, 0xb6, 0xc4},   [SURVEY_READY] = {0xdf, 0xe8, 0xd2},
        [SURVEY_BLANK] = {0xf2, 0xf3, 0xf5},   [SURVEY_FOREIGN] = {0xd9, 0xa4, 0x41},
        [SURVEY_RETIRED] = {0x4a, 0x4f, 0x57}, [SURVEY_DAMAGED] = {0xd0, 0x34, 0x2c},
    };
    return colours[role];
}

/* Five points of the scale "viridis", which reads well in grey and for the colour-blind. */
struct map_colour map_share_colour(double share)
{
    static const struct map_colour points[] = {
        {68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}};
    enum { LAST = sizeof points / sizeof *points - 1 };
    double at = (share < 0 ? 0 : share > 1 ? 1 : share) * LAST;
    int low = at >= LAST ? LAST - 1 : (int)at;
    double part = at - low;
    const struct map_colour *from = &points[low], *to = &points[low + 1];
    return (struct map_colour){(uint8_t)(from->red + part * (to->red - from->red)),
                               (uint8_t)(from->green + part * (to->green - from->green)),
                               (uint8_t)(from->blue + part * (to->blue - from->blue))};
}

void map_scale_text(const struct map *map, const char **low, const char **high)
{
    static char erases[24];
    snprintf(erases, sizeof erases, "%u", map->erase_count_max);
    *low = map->by == MAP_FILL  ? "nothing live"
           : map->by == MAP_AGE ? "oldest of its kind"
                                : "0 erases";
    *high = map->by == MAP_FILL ? "all live" : map->by == MAP_AGE ? "newest" : erases;
}
