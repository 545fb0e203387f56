/* `dump --raw` and `load --raw`, and what keeps commands from overwriting what is not theirs.
 *
 * What is loaded is looked at before anything is erased: its size, and whether the device can erase
 * and write in the pieces of the store that it holds. What was written is read again, since a
 * locked or worn chip can take a program without a word.
 */
#include "raw.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store.h"

enum { PIECE_SIZE = 64 * 1024, PAGE_SIZE = 256, FILE_SECTOR_SIZE = 512 };

int raw_uniform_byte(const struct image *image)
{
    uint8_t buffer[EKV_SECTOR_SIZE_MIN], first = 0;
    for (uint32_t address = 0; address < ekv_flash_size(&image->flash); address += sizeof buffer) {
        if (ekv_flash_read(&image->flash, address, buffer, sizeof buffer) != EKV_OK)
            return -1;
        if (address == 0)
            first = buffer[0];
        if (buffer[0] != first || memcmp(buffer, buffer + 1, sizeof buffer - 1) != 0)
            return -1;
    }
    return first;
}

bool raw_may_overwrite(struct tool *tool, const struct image *image, bool force)
{
    int byte = force ? 0 : raw_uniform_byte(image);
    if (byte == 0xff || byte == 0x00)
        return true;
    struct ekv_flash copy = image->flash;
    int found = ekv_probe(&copy);
    message(tool,
            found == EKV_OK ? "%s holds an ekv store already: --force overwrites it"
                            : "%s holds data that are no ekv store: --force overwrites them",
            tool->image);
    return false;
}

static bool is_named(const struct tool *tool)
{
    if (!tool->image)
        message(tool, "which image or device? Name it with -C");
    return tool->image;
}

static void complain(const struct tool *tool, const struct image *image, int error)
{
    message(tool, "%s: %s", tool->image, image->error[0] ? image->error : result_text(error));
}

/* --- Out ------------------------------------------------------------------------------------- */

int raw_dump(struct tool *tool)
{
    struct image image;
    struct image_window window = store_window(tool);
    if (!is_named(tool))
        return STATUS_FAILED;
    if (isatty(STDOUT_FILENO)) {
        message(tool, "raw bytes are nothing for a terminal: send them into a file or a pipe");
        return STATUS_FAILED;
    }
    int error = image_open(&image, tool->image, IMAGE_VIEW, &window);
    if (error) {
        message(tool, "%s", image.error);
        return STATUS_FAILED;
    }
    uint8_t *buffer = allocate(PIECE_SIZE);
    uint32_t size = ekv_flash_size(&image.flash);
    for (uint32_t done = 0, part; done < size && !error && !ferror(stdout); done += part) {
        part = size - done < PIECE_SIZE ? size - done : PIECE_SIZE;
        error = ekv_flash_read(&image.flash, done, buffer, part);
        if (!error)
            fwrite(buffer, 1, part, stdout);
    }
    if (error)
        complain(tool, &image, error);
    free(buffer);
    image_close(&image);
    return error ? STATUS_FAILED : STATUS_OK;
}

/* --- In -------------------------------------------------------------------------------------- */

/* What is to be loaded, filled up to the size of the flash; NULL after a message. */
static uint8_t *take_input(struct tool *tool, struct input *input, uint32_t size)
{
    size_t there;
    const uint8_t *bytes = input_peek(input, (size_t)size + 1, &there);
    if (input->failed)
        return NULL;
    if (there == 0 || there > size) {
        message(tool, there == 0 ? "%s is empty" : "%s is larger than %s, which has %u bytes",
                input->name, tool->image, size);
        return NULL;
    }
    uint8_t *content = allocate(size);
    memcpy(content, bytes, there);
    memset(content + there, 0xff, size - there);
    return content;
}

/* Whether a store in what is loaded could be written there. */
static bool suits(struct tool *tool, struct image *image, const struct input *input,
                  const uint8_t *content)
{
    struct ekv_flash flash = image->flash;
    struct ekv_geometry geometry = flash.geometry;
    flash.map = content;
    int error = ekv_probe(&flash);
    if (error == EKV_GEOMETRY)
        message(tool, "%s holds a store that is larger than %s", input->name, tool->image);
    if (error)
        return error != EKV_GEOMETRY;
    image->flash.geometry = flash.geometry;
    error = image_check_sectors(image);
    image->flash.geometry = geometry;
    if (error)
        message(tool, "%s does not suit: %s", input->name, image->error);
    return !error;
}

static int write_sector(const struct image *image, uint32_t sector, const uint8_t *content)
{
    const struct ekv_flash *flash = &image->flash;
    uint32_t size = flash->geometry.sector_size, address = sector * size;
    int error = ekv_flash_erase(flash, sector);
    for (uint32_t done = 0; done < size && !error; done += PAGE_SIZE) {
        const uint8_t *page = content + address + done;
        if (page[0] != 0xff || memcmp(page, page + 1, PAGE_SIZE - 1) != 0)
            error = ekv_flash_program(flash, address + done, page, PAGE_SIZE);
    }
    return error;
}

/* Makes one sector as it is to be; `written` counts those that were not. */
static int load_sector(struct tool *tool, const struct image *image, uint32_t sector,
                       const uint8_t *content, uint8_t *buffer, uint32_t *written)
{
    uint32_t size = image->flash.geometry.sector_size, address = sector * size;
    int error = ekv_flash_read(&image->flash, address, buffer, size);
    if (!error && memcmp(buffer, content + address, size) == 0)
        return EKV_OK;
    if (!error)
        error = write_sector(image, sector, content);
    if (!error)
        error = ekv_flash_read(&image->flash, address, buffer, size);
    if (error) {
        complain(tool, image, error);
        return error;
    }
    ++*written;
    if (memcmp(buffer, content + address, size) == 0)
        return EKV_OK;
    message(tool, "%s does not hold what was written at 0x%x: it is locked, or worn out",
            tool->image, address);
    return EKV_IO;
}

static int load(struct tool *tool, struct image *image, const uint8_t *content, uint32_t *written)
{
    uint32_t size = image->size, sector_size = image->native.sector_size;
    if (sector_size == 0)
        sector_size = FILE_SECTOR_SIZE;
    image->flash.geometry =
        (struct ekv_geometry){sector_size, size / sector_size,
                              image->native.write_unit ? image->native.write_unit : 1, false};
    uint8_t *buffer = allocate(sector_size);
    int error = EKV_OK;
    for (uint32_t sector = 0; sector < image->flash.geometry.sector_count && !error; sector++)
        error = load_sector(tool, image, sector, content, buffer, written);
    if (!error && ekv_flash_sync(&image->flash, false) != EKV_OK) {
        error = EKV_IO;
        complain(tool, image, error);
    }
    free(buffer);
    return error;
}

int raw_load(struct tool *tool, struct input *input, bool force)
{
    struct image image;
    struct image_window window = store_window(tool);
    uint32_t written = 0;
    if (!is_named(tool))
        return STATUS_FAILED;
    int error = image_open(&image, tool->image, IMAGE_READ_WRITE, &window);
    if (error) {
        message(tool, "%s", image.error);
        return STATUS_FAILED;
    }
    uint8_t *content = take_input(tool, input, image.size);
    if (!content || !suits(tool, &image, input, content) || !raw_may_overwrite(tool, &image, force))
        error = EKV_INVALID;
    if (!error)
        error = load(tool, &image, content, &written);
    if (!error && tool->json)
        json_line(json_pack("{s:s, s:I, s:I, s:I}", "schema", "ekv.load-raw.1", "size",
                            (json_int_t)image.size, "sector_size",
                            (json_int_t)image.flash.geometry.sector_size, "sectors_written",
                            (json_int_t)written));
    else if (!error)
        printf("%s: %u of %u sectors written\n", tool->image, written,
               image.flash.geometry.sector_count);
    free(content);
    image_close(&image);
    return error ? STATUS_FAILED : STATUS_OK;
}
