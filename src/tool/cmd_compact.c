/* `ekv compact`: reclaims now what writes would reclaim later, bit by bit. */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "store.h"

/* What a compaction can change. */
struct figures {
    uint64_t free_size; /* bytes of sectors that hold nothing */
    uint64_t live_size;
    uint32_t runs;
};

static struct figures figures_of(const struct store *store, struct ekv_stat *stat)
{
    ekv_stat(store->db, stat);
    return (struct figures){(uint64_t)(stat->sectors_free + stat->sectors_ready) *
                                stat->geometry.sector_size,
                            stat->live_size, stat->runs};
}

static void report(const struct tool *tool, const struct figures *before,
                   const struct figures *after, const struct ekv_stat *stat)
{
    if (tool->json) {
        json_line(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "schema",
                            "ekv.compact.1", "free_size_before", (json_int_t)before->free_size,
                            "free_size", (json_int_t)after->free_size, "live_size_before",
                            (json_int_t)before->live_size, "live_size",
                            (json_int_t)after->live_size, "runs_before", (json_int_t)before->runs,
                            "runs", (json_int_t)after->runs, "erases", (json_int_t)stat->erases,
                            "programmed_size", (json_int_t)stat->programmed_size));
        return;
    }
    printf("free    %s before, %s now, of %s\n", size_text(before->free_size),
           size_text(after->free_size),
           size_text((uint64_t)stat->geometry.sector_size * stat->geometry.sector_count));
    printf("runs    %u before, %u now\n", before->runs, after->runs);
    printf("cost    %llu erases, %s programmed\n", (unsigned long long)stat->erases,
           size_text(stat->programmed_size));
}

static int compact(struct tool *tool, struct store *store)
{
    struct ekv_stat stat;
    struct figures before = figures_of(store, &stat), after;
    bool show = isatty(STDERR_FILENO);
    uint32_t left = 0;
    int error;
    do {
        error = ekv_compact(store->db, &left);
        if (show && left % 16 == 0) {
            after = figures_of(store, &stat);
            fprintf(stderr, "\r%s: %s free \033[K", tool->program, size_text(after.free_size));
        }
    } while (!error && left > 0);
    if (show)
        fputs("\r\033[K", stderr);
    if (error) {
        message(tool, "%s cannot be compacted: %s", tool->image,
                store->image.error[0] ? store->image.error : result_text(error));
        return error;
    }
    after = figures_of(store, &stat);
    report(tool, &before, &after, &stat);
    return EKV_OK;
}

static int run(struct tool *tool)
{
    struct store store;
    char **operands;
    const char *value;
    int count, option = tool_option(tool, &value);
    if (option != OPTION_END)
        return tool_option_status(tool, option);
    if (!tool_operands(tool, 0, 0, &operands, &count) ||
        store_open_mounted(tool, &store, true) != EKV_OK)
        return STATUS_FAILED;
    int error = compact(tool, &store);
    int closed = store_close(tool, &store);
    return error || closed ? STATUS_FAILED : STATUS_OK;
}

const struct command command_compact = {
    .name = "compact",
    .operands = "",
    .summary = "Reclaim all the space that can be reclaimed, and merge the index",
    .details =
        "Writes reclaim what they need, so a store gets along without this; it makes the next\n"
        "writes cheap and drops old versions of keys, at the cost of erases, which wear the\n"
        "flash. Prints what was free before and is now. The image must not be mounted.\n",
    .run = run,
};
