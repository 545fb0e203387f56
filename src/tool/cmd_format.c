/* `ekv format`, also called mkfs.ekv: an empty store in an image file or on an MTD device, or one
 * with content.
 *
 * A new file is filled with 0xff, as a chip comes from the factory, before the store is written:
 * so the same options give the same bytes, and no sector need be erased later. What an existing
 * file holds is only ever overwritten with --force.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/quantity.h"
#include "populate.h"
#include "raw.h"
#include "store.h"

enum {
    LETTER_BLANK = 256,
    LETTER_RETAIN,
    LETTER_ID,
    LETTER_ONCE,
    LETTER_POPULATE,
    LETTER_OWNER,
    LABEL_MAX = 31,
    SECTOR_SIZE_DEFAULT = 4096, /* or what the device needs */
};

struct format_job {
    uint64_t size; /* 0: that of the file */
    uint64_t sector_size;
    uint64_t write_unit;   /* 0, like the sector's size: not given */
    uint32_t retain_count; /* these two as in struct ekv_format_options */
    uint32_t retain_seconds;
    uint64_t store_id;
    const char *label;
    bool id_given;
    bool program_once;
    bool blank;
    bool force;
    const char *populate; /* where the content comes from, or NULL */
    struct files_options files;
    struct content content;
};

static const struct option_spec options[] = {
    {"size", 's', "SIZE", "size of the flash (needed for a new file)"},
    {"sector", 'b', "SIZE", "size of a sector, 512 to 256K (default 4096, or the device's)"},
    {"write-unit", 'w', "N", "smallest number of bytes to program (default 1, or the device's)"},
    {"program-once", LETTER_ONCE, NULL, "a part with ECC: no unit is programmed twice"},
    {"label", 'L', "TEXT", "a name for the store, up to 31 bytes"},
    {"retain", LETTER_RETAIN, "N|SPAN", "keep N versions of each key, or a span (7d, 12h)"},
    {"id", LETTER_ID, "N", "the store's id, such as 0x1234 (default: by chance)"},
    {"blank", LETTER_BLANK, NULL, "the file reads 0xff everywhere: erase nothing"},
    {"force", 'f', NULL, "overwrite what the file holds"},
    {"populate", LETTER_POPULATE, "PATH", "fill it with a directory or a tar archive (- : stdin)"},
    {"owner", LETTER_OWNER, "UID:GID",
     "whose its files are; 'same' as there (default: who mounts)"},
    {0},
};

static bool take_owner(struct tool *tool, struct files_options *files, const char *text)
{
    unsigned long long uid, gid;
    char end;
    files->same_owner = strcmp(text, "same") == 0;
    if (files->same_owner)
        return true;
    if (sscanf(text, "%10llu:%10llu%c", &uid, &gid, &end) != 2 || *text == '-' ||
        uid > UINT32_MAX || gid > UINT32_MAX) {
        message(tool, "--owner %s is neither a pair of numbers such as 0:0 nor 'same'", text);
        return false;
    }
    files->owner_given = true;
    files->uid = (uint32_t)uid;
    files->gid = (uint32_t)gid;
    return true;
}

static bool take_option(struct tool *tool, struct format_job *job, int option, const char *value)
{
    switch (option) {
    case 's':
        return option_size(tool, "--size", value, 1, UINT32_MAX, &job->size);
    case 'b':
        return option_size(tool, "--sector", value, EKV_SECTOR_SIZE_MIN, EKV_SECTOR_SIZE_MAX,
                           &job->sector_size);
    case 'w':
        return option_size(tool, "--write-unit", value, 1, EKV_WRITE_UNIT_MAX, &job->write_unit);
    case LETTER_RETAIN:
        if (quantity_retention(value, &job->retain_count, &job->retain_seconds))
            return true;
        message(tool,
                "--retain %s: write 5 for versions (at most 255), or a span such as 12h or 7d",
                value);
        return false;
    case LETTER_ID:
        job->id_given = true;
        return option_size(tool, "--id", value, 0, UINT64_MAX, &job->store_id);
    case LETTER_BLANK:
        return job->blank = true;
    case LETTER_ONCE:
        return job->program_once = true;
    case LETTER_POPULATE:
        job->populate = value;
        return true;
    case LETTER_OWNER:
        return take_owner(tool, &job->files, value);
    case 'L':
        job->label = value;
        if (strlen(value) <= LABEL_MAX)
            return true;
        message(tool, "the label has %zu bytes: at most %d", strlen(value), LABEL_MAX);
        return false;
    default:
        return job->force = true;
    }
}

/* FNV-1a, so that a reproducible id depends on all that makes the image. */
static uint64_t mix(uint64_t hash, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ at[i]) * 0x100000001b3u;
    return hash;
}

static bool choose_id(struct tool *tool, struct format_job *job)
{
    int64_t epoch = 0;
    if (job->id_given)
        return true;
    if (source_date_epoch(&epoch) || (job->populate && !getenv("SOURCE_DATE_EPOCH"))) {
        uint64_t parts[] = {(uint64_t)epoch, job->size,         job->sector_size,
                            job->write_unit, job->program_once, job->content.hash};
        uint64_t hash = 0xcbf29ce484222325u;
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            for (int shift = 0; shift < 64; shift += 8)
                hash = mix(hash, &(unsigned char){(unsigned char)(parts[i] >> shift)}, 1);
        job->store_id = job->label ? mix(hash, job->label, strlen(job->label)) : hash;
        return true;
    }
    if (getenv("SOURCE_DATE_EPOCH")) {
        message(tool, "SOURCE_DATE_EPOCH is no number of seconds: correct it, or unset it");
        return false;
    }
    if (getrandom(&job->store_id, sizeof job->store_id, 0) != sizeof job->store_id) {
        message(tool, "there are no random numbers for the store's id: give one with --id");
        return false;
    }
    return true;
}

/* Looks whether what the job says is usable, before any file is made. */
static bool check_geometry(struct tool *tool, const struct format_job *job)
{
    struct ekv_geometry geometry = {(uint32_t)job->sector_size, 0, (uint32_t)job->write_unit,
                                    job->program_once};
    if ((job->sector_size & (job->sector_size - 1)) != 0) {
        message(tool, "--sector %llu is no power of two", (unsigned long long)job->sector_size);
        return false;
    }
    if ((job->write_unit & (job->write_unit - 1)) != 0) {
        message(tool, "--write-unit %llu is no power of two", (unsigned long long)job->write_unit);
        return false;
    }
    if (job->size % job->sector_size != 0) {
        message(tool,
                "%llu bytes are no multiple of the sector of %llu: give another --size or "
                "--sector",
                (unsigned long long)job->size, (unsigned long long)job->sector_size);
        return false;
    }
    if (job->size / job->sector_size < EKV_SECTOR_COUNT_MIN) {
        message(tool, "%llu bytes are %llu sectors: a store needs at least %d",
                (unsigned long long)job->size, (unsigned long long)(job->size / job->sector_size),
                EKV_SECTOR_COUNT_MIN);
        return false;
    }
    geometry.sector_count = (uint32_t)(job->size / job->sector_size);
    if (ekv_geometry_check(&geometry) != EKV_OK || ekv_memory_size(&geometry, NULL) == 0) {
        message(tool, "ekv cannot use flash of %u sectors of %u bytes with a write unit of %u",
                geometry.sector_count, geometry.sector_size, geometry.write_unit);
        return false;
    }
    return true;
}

/* What was not given is as the device needs it, or as usual. */
static void choose_geometry(struct format_job *job, const struct ekv_geometry *native)
{
    if (!job->sector_size)
        job->sector_size =
            native->sector_size > SECTOR_SIZE_DEFAULT ? native->sector_size : SECTOR_SIZE_DEFAULT;
    if (!job->write_unit)
        job->write_unit = native->write_unit ? native->write_unit : 1;
    job->program_once |= native->program_once;
}

/* Looks whether the device can erase and write in such pieces. */
static bool check_device(struct tool *tool, const struct format_job *job,
                         const struct ekv_geometry *native)
{
    if (native->sector_size == 0 ||
        (job->sector_size % native->sector_size == 0 && job->write_unit % native->write_unit == 0))
        return true;
    message(tool, "%s needs sectors of at least %u bytes and a write unit of at least %u",
            tool->image, native->sector_size, native->write_unit);
    return false;
}

/* Looks at what is there; false, with a message, when it must not be overwritten. */
static bool may_overwrite(struct tool *tool, const struct format_job *job, struct image *image)
{
    if (!job->blank || raw_uniform_byte(image) == 0xff)
        return raw_may_overwrite(tool, image, job->force);
    message(tool, "%s does not read 0xff everywhere: format it without --blank", tool->image);
    return false;
}

static int open_existing(struct tool *tool, struct format_job *job, struct image *image)
{
    struct image_window window = store_window(tool);
    window.size = job->size;
    window.loose = false;
    struct stat status;
    if (!tool->offset_given && job->size && stat(tool->image, &status) == 0 &&
        S_ISREG(status.st_mode) && (uint64_t)status.st_size != job->size) {
        message(tool, "%s has %llu bytes: leave out --size, or remove it first", tool->image,
                (unsigned long long)status.st_size);
        return EKV_INVALID;
    }
    int error = image_open(image, tool->image, IMAGE_READ_WRITE, &window);
    if (error) {
        message(tool, "%s", image->error);
        return error;
    }
    job->size = ekv_flash_size(&image->flash);
    choose_geometry(job, &image->native);
    if (!check_geometry(tool, job) || !check_device(tool, job, &image->native) ||
        !may_overwrite(tool, job, image))
        error = EKV_INVALID;
    if (error)
        image_close(image);
    return error;
}

static int open_target(struct tool *tool, struct format_job *job, struct image *image,
                       bool *created)
{
    *created = access(tool->image, F_OK) != 0;
    if (!*created)
        return open_existing(tool, job, image);
    if (job->size == 0 || tool->offset) {
        message(tool, "%s does not exist: %s", tool->image,
                tool->offset ? "with --offset the file must be there"
                             : "say with --size how large to make it, such as --size 4M");
        return EKV_INVALID;
    }
    choose_geometry(job, &(struct ekv_geometry){0});
    if (!check_geometry(tool, job))
        return EKV_INVALID;
    int error = image_create(image, tool->image, job->size);
    if (error)
        message(tool, "%s", image->error);
    return error;
}

static struct ekv_geometry geometry_of(const struct format_job *job)
{
    return (struct ekv_geometry){(uint32_t)job->sector_size,
                                 (uint32_t)(job->size / job->sector_size),
                                 (uint32_t)job->write_unit, job->program_once};
}

static struct ekv_format_options format_of(const struct format_job *job)
{
    return (struct ekv_format_options){.store_id = job->store_id,
                                       .label = job->label,
                                       .blank = true,
                                       .retain_count = job->retain_count,
                                       .retain_seconds = job->retain_seconds};
}

static bool is_blank(const uint8_t *bytes, uint32_t size)
{
    return bytes[0] == 0xff && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* Programs what is not blank, in whole write units: a part with ECC must not be given 0xff either.
 */
static int copy_image(const struct ekv_flash *flash, const uint8_t *bytes)
{
    uint32_t unit = flash->geometry.write_unit, size = ekv_flash_size(flash), end;
    int error = EKV_OK;
    for (uint32_t at = 0; at < size && !error; at = end) {
        bool blank = is_blank(bytes + at, unit);
        uint32_t sector_end = (at / flash->geometry.sector_size + 1) * flash->geometry.sector_size;
        end = at + unit;
        while (end < sector_end && is_blank(bytes + end, unit) == blank)
            end += unit;
        if (!blank)
            error = ekv_flash_program(flash, at, bytes + at, end - at);
    }
    return error;
}

/* Erases everything, so that nothing of before is left, and writes the store: an empty one, or the
 * bytes of `filled`. */
static int write_store(struct tool *tool, const struct format_job *job, struct image *image,
                       const uint8_t *filled)
{
    struct ekv_flash *flash = &image->flash;
    struct ekv_format_options format = format_of(job);
    flash->geometry = geometry_of(job);
    int error = EKV_OK;
    for (uint32_t sector = 0; sector < flash->geometry.sector_count && !error && !job->blank;
         sector++)
        error = ekv_flash_erase(flash, sector);
    size_t size = ekv_memory_size(&flash->geometry, NULL);
    void *memory = allocate(size);
    if (!error)
        error = filled ? copy_image(flash, filled) : ekv_format(flash, &format, memory, size);
    if (!error)
        error = ekv_flash_sync(flash, false);
    struct ekv_flash written = *flash;
    if (!error && ekv_probe(&written) != EKV_OK) { /* a chip can drop writes without a word */
        error = EKV_IO;
        snprintf(image->error, sizeof image->error,
                 "it does not hold what was written: it is locked, or broken");
    }
    free(memory);
    if (error)
        message(tool, "%s cannot be formatted: %s", tool->image,
                image->error[0] ? image->error : result_text(error));
    return error;
}

/* --- Content --------------------------------------------------------------------------------- */

/* Builds the filled image in memory; the caller frees it. NULL when it does not fit, with about
 * what is lacking, or after a message, with `lacking` 0. */
static uint8_t *build(struct tool *tool, struct format_job *job, uint64_t *lacking)
{
    struct ekv_geometry geometry = geometry_of(job);
    *lacking = 0;
    if (!choose_id(tool, job))
        return NULL;
    struct ekv_format_options format = format_of(job);
    uint8_t *bytes = allocate((size_t)job->size);
    int error = content_build(tool, &job->content, &geometry, &format, bytes, lacking);
    if (!error)
        return bytes;
    free(bytes);
    return NULL;
}

/* The smallest power of two that takes the content. */
static bool choose_size(struct tool *tool, struct format_job *job)
{
    uint64_t lacking = 1;
    choose_geometry(job, &(struct ekv_geometry){0});
    job->size = job->sector_size * EKV_SECTOR_COUNT_MIN;
    while (lacking > 0 && job->size <= UINT32_MAX / 2) {
        if (!check_geometry(tool, job))
            return false;
        if (job->size > job->content.size) {
            uint8_t *bytes = build(tool, job, &lacking);
            free(bytes);
            if (bytes)
                return true;
        }
        if (lacking > 0)
            job->size *= 2;
    }
    if (lacking > 0)
        message(tool, "%s holds %s: more than a store can", job->populate,
                size_text(job->content.size));
    return false;
}

static int write_populated(struct tool *tool, struct format_job *job, struct image *image)
{
    uint64_t lacking;
    uint8_t *bytes = build(tool, job, &lacking);
    if (!bytes && lacking)
        message(tool,
                "%s is too small for %s: of %s, about %s are lacking (without --size a new file "
                "is made as large as it takes)",
                tool->image, job->populate, size_text(job->size), size_text(lacking));
    if (!bytes)
        return EKV_FULL;
    int error = write_store(tool, job, image, bytes);
    free(bytes);
    return error;
}

static int write_image(struct tool *tool, struct format_job *job, struct image *image)
{
    if (job->populate)
        return write_populated(tool, job, image);
    return choose_id(tool, job) ? write_store(tool, job, image, NULL) : EKV_INVALID;
}

static void report(const struct tool *tool, const struct format_job *job)
{
    if (tool->json) {
        json_t *object = json_pack("{s:s}", "schema", "ekv.format.1");
        json_set_bytes(object, "image", tool->image, strlen(tool->image));
        json_add(object,
                 json_pack("{s:I, s:I, s:I, s:I, s:I, s:s}", "offset", (json_int_t)tool->offset,
                           "size", (json_int_t)job->size, "sector_size",
                           (json_int_t)job->sector_size, "sector_count",
                           (json_int_t)(job->size / job->sector_size), "write_unit",
                           (json_int_t)job->write_unit, "store_id", id_text(job->store_id)));
        json_set_bytes(object, "label", job->label ? job->label : "",
                       job->label ? strlen(job->label) : 0);
        json_line(object);
        return;
    }
    printf("%s: %s, %llu sectors of %s, write unit %llu, store id %s\n", tool->image,
           size_text(job->size), (unsigned long long)(job->size / job->sector_size),
           size_text(job->sector_size), (unsigned long long)job->write_unit,
           id_text(job->store_id));
}

/* Takes the words; what is there and can be done is looked at later. */
static bool take_words(struct tool *tool, struct format_job *job, int *status)
{
    char **operands;
    int count, option;
    const char *value;
    *status = STATUS_FAILED;
    while ((option = tool_option(tool, &value)) > 0)
        if (!take_option(tool, job, option, value))
            return false;
    if (option != OPTION_END) {
        *status = tool_option_status(tool, option);
        return false;
    }
    if (!tool_operands(tool, 0, 2, &operands, &count))
        return false;
    if (count > 0 && !tool->image) {
        tool->image = *operands++;
        count--;
    }
    if (count > 1 || (count > 0 && job->size != 0)) {
        message(tool, "one image and one size, please, but there is '%s' too", operands[0]);
        return false;
    }
    if (count > 0 && !option_size(tool, "the size", operands[0], 1, UINT32_MAX, &job->size))
        return false;
    if (!tool->image)
        message(tool, "which file is to be formatted? Name it with -C IMAGE");
    return tool->image != NULL;
}

static int format(struct tool *tool, struct format_job *job)
{
    struct image image;
    bool created;
    if (job->populate && job->size == 0 && access(tool->image, F_OK) != 0 &&
        !choose_size(tool, job))
        return STATUS_FAILED;
    if (open_target(tool, job, &image, &created) != EKV_OK)
        return STATUS_FAILED;
    int error = write_image(tool, job, &image);
    image_close(&image);
    if (error && created)
        unlink(tool->image);
    if (!error)
        report(tool, job);
    return error ? STATUS_FAILED : STATUS_OK;
}

static int run(struct tool *tool)
{
    struct format_job job = {0};
    int status;
    if (!take_words(tool, &job, &status))
        return status;
    if (job.populate && !content_read(tool, &job.content, job.populate, &job.files))
        return STATUS_FAILED;
    status = format(tool, &job);
    if (job.populate)
        content_free(&job.content);
    return status;
}

const struct command command_format = {
    .name = "format",
    .operands = "[IMAGE [SIZE]]",
    .summary = "Write an empty or filled store into an image file or a device",
    .details =
        "The image may be named with -C or as operand; a file is made if it is missing. What\n"
        "holds anything but zeroes or 0xff is only overwritten with --force. With\n"
        "SOURCE_DATE_EPOCH in the environment, and with --populate in any case, the same\n"
        "options give the same bytes. Also called as mkfs.ekv.\n",
    .options = options,
    .run = run,
};
