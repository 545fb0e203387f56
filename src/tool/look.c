/* Opens an image for a survey, and prints what surveys tell.
 *
 * Nothing is expected of the file but that it can be read: the store may lie anywhere in it, and
 * only a part of it may be there.
 */
#define _GNU_SOURCE
#include "look.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- Opening --------------------------------------------------------------------------------- */

/* What else lies in the dump. A store that was formatted over is not worth a word. */
static void tell_others(struct tool *tool, const struct survey_place *places, uint32_t count)
{
    uint32_t others = 0, other = 0;
    for (uint32_t i = 1; i < count; i++) {
        if (places[i].offset == places[0].offset)
            continue;
        other = others++ == 0 ? i : other;
    }
    if (others > 0)
        message(tool,
                "%s holds %u stores; this is the one at %lld (id %s). Name another with --offset, "
                "such as --offset %lld",
                tool->image, others + 1, (long long)places[0].offset, id_text(places[0].store_id),
                (long long)places[other].offset);
}

static void tell_missing(struct tool *tool, const struct survey *survey)
{
    const struct ekv_format *format = &survey->format;
    uint32_t missing = 0;
    for (uint32_t i = 0; i < format->geometry.sector_count; i++)
        missing += survey->sectors[i].role == SURVEY_MISSING;
    if (missing > 0)
        message(tool, "%s lacks %u of the %u sectors of its store: what lies in them is skipped",
                tool->image, missing, format->geometry.sector_count);
    if (!survey->manifest.found)
        message(tool, "%s: no manifest can be read; what is current is told by the newest versions",
                tool->image);
    else if (!survey->manifest.whole)
        message(tool, "%s: the manifest is damaged; what is current is told by the newest versions",
                tool->image);
}

static int survey_image(struct look *look, const struct ekv_key *key)
{
    struct tool *tool = look->tool;
    struct survey_source source = survey_source_of_flash(&look->image.flash);
    struct survey_options options = {.key = key};
    struct survey_place *places = NULL;
    uint32_t count = 0;
    int error = survey_find(&source, NULL, &places, &count);
    if (!error) {
        tell_others(tool, places, count);
        error = survey_open(&look->survey, &source, &places[0], &options);
    }
    free(places);
    if (error == EKV_NO_STORE)
        message(tool, "%s holds no sector of an ekv store%s", tool->image,
                tool->offset_given ? " from there on" : "");
    else if (error)
        message(tool, "%s: %s", tool->image,
                look->image.error[0] ? look->image.error : result_text(error));
    else if (!key)
        tell_missing(tool, &look->survey);
    return error;
}

int look_open(struct tool *tool, struct look *look, const struct ekv_key *key)
{
    memset(look, 0, sizeof *look);
    look->tool = tool;
    if (!tool->image) {
        message(tool, "which image? Name it with -C IMAGE");
        return EKV_INVALID;
    }
    struct image_window window = {.offset = tool->offset, .loose = true};
    int error = image_open(&look->image, tool->image, IMAGE_VIEW, &window);
    if (!error && (error = image_load(&look->image)) != EKV_OK) {
        message(tool, "%s", look->image.error);
        image_close(&look->image);
        return error;
    }
    if (error) {
        message(tool, "%s", look->image.error);
        return error;
    }
    error = survey_image(look, key);
    if (error)
        image_close(&look->image);
    return error;
}

void look_close(struct look *look)
{
    survey_close(&look->survey);
    image_close(&look->image);
}

/* --- Moments --------------------------------------------------------------------------------- */

bool look_moment(const struct look *look, const char *name, const char *text, uint64_t *version)
{
    struct moment moment;
    if (!moment_parse(text, strlen(text), &moment)) {
        message(look->tool,
                "%s '%s' is no moment: write a version such as 271936, or a time such as "
                "2026-11-21T10:00:00",
                name, text);
        return false;
    }
    *version = moment.version;
    if (!moment.timed || survey_time_version(&look->survey, moment.time, version) == EKV_OK)
        return true;
    message(look->tool, "nothing is known of %s: no older commit with a time is left in %s", text,
            look->tool->image);
    return false;
}

/* --- Values ---------------------------------------------------------------------------------- */

int look_write_value(const struct look *look, const struct survey_record *record, FILE *output,
                     const char *name)
{
    struct tool *tool = look->tool;
    uint8_t *value;
    uint64_t size, lost;
    int error = survey_value(&look->survey, record, &value, &size, &lost);
    if (error == EKV_NOT_FOUND || (!error && size > 0 && lost == size)) {
        message(tool, "version %llu of '%s' cannot be read: nothing of its value is left",
                (unsigned long long)record->version, key_text(record->key, record->key_size));
        if (!error)
            free(value);
        return STATUS_NO;
    }
    if (error) {
        message(tool, "the value of '%s' cannot be read: %s",
                key_text(record->key, record->key_size), result_text(error));
        return STATUS_FAILED;
    }
    int status = STATUS_OK;
    if (record->mendable)
        message(tool, "version %llu of '%s' had one flipped bit, which is put right here",
                (unsigned long long)record->version, key_text(record->key, record->key_size));
    if (lost > 0) {
        message(tool, "%llu of the %llu bytes of '%s' are lost, and zeroes here",
                (unsigned long long)lost, (unsigned long long)size,
                key_text(record->key, record->key_size));
        status = STATUS_FAILED;
    }
    if (fwrite(value, 1, size, output) != size) {
        message(tool, "%s cannot be written: %s", name, strerror(errno));
        status = STATUS_FAILED;
    }
    free(value);
    return status;
}

/* --- Words ----------------------------------------------------------------------------------- */

const char *look_state(const struct survey_record *record)
{
    if (record->torn)
        return "torn";
    if (!record->valid)
        return "damaged";
    if (record->state == SURVEY_PENDING)
        return "uncommitted";
    if (record->state == SURVEY_UNKNOWN)
        return "unknown";
    if (record->kind == EKV_RECORD_DELETE)
        return "removed";
    return record->current ? "current" : "old";
}

void look_json_key(json_t *object, const struct survey_record *record)
{
    json_set_bytes(object, "key", record->key, record->key_size);
    if (record->space != EKV_USER)
        json_object_set_new(object, "space", json_string(SPACE_ATTRIBUTES));
}
