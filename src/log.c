/* Owns the head of the log: where the next record goes, the page buffer, the chain of sectors.
 *
 * Invariants: [flushed, offset) of the head sector lies in `pages`, in as many program pages as
 * `page_max` says; no byte of the head at or after `flushed` was ever programmed; the successor
 * named by the head's stamp B was erased and stamped before the name was written. A record does not
 * cross sectors, and the room for a close and an open record stays free at the end of each.
 *
 * A power cut leaves the records up to some program whole, the one program in flight in any state,
 * and blank flash behind it.
 */
#include "log.h"

#include <assert.h>
#include <string.h>

#include "crc32c.h"

enum { PIECE = 64 };

static uint32_t body_end(const struct ekv_log *log)
{
    return log->sectors->format.geometry.sector_size - log->sectors->format.close_room;
}

uint32_t ekv_log_room(const struct ekv_log *log)
{
    return log->offset < body_end(log) ? body_end(log) - log->offset : 0;
}

bool ekv_log_can_close(const struct ekv_log *log)
{
    return log->offset <= body_end(log);
}

/* Stamps `sector` and makes it the head. If that fails the head stays where it is, the sector is
 * retired and `next` free. */
static int enter(struct ekv_log *log, uint32_t sector, uint32_t sequence, uint32_t next,
                 uint32_t previous_end)
{
    struct ekv_stamp_b stamp = {
        .kind = EKV_KIND_LOG,
        .sequence = sequence,
        .next = next,
        .virgin = ekv_sectors_virgin_save(log->sectors),
        .previous_end = previous_end,
    };
    int error = ekv_sector_stamp(log->sectors, sector, &stamp);
    if (error) {
        ekv_sector_set(log->sectors, sector, EKV_SECTOR_RETIRED);
        if (next != EKV_NO_SECTOR)
            ekv_sector_set(log->sectors, next, EKV_SECTOR_FREE);
        return error;
    }
    log->sector = sector;
    log->sequence = sequence;
    log->next = next;
    log->offset = log->flushed = log->sectors->format.body_offset;
    log->failed = log->open = false;
    return EKV_OK;
}

int ekv_log_start(struct ekv_log *log, uint32_t sequence, uint32_t previous_end)
{
    struct ekv_sectors *sectors = log->sectors;
    for (;;) {
        uint32_t first, second = EKV_NO_SECTOR;
        /* Both are ready before the first is taken: the lock is let go for an erase, and whoever
         * reads then must not meet a log sector without a stamp. */
        while (sectors->counts[EKV_SECTOR_READY] < 2) {
            int error = ekv_sector_prepare(sectors);
            if (error == EKV_FULL && sectors->counts[EKV_SECTOR_READY] > 0)
                break;
            if (error)
                return error;
        }
        bool pair = sectors->counts[EKV_SECTOR_READY] > 1;
        int error = ekv_sector_take(sectors, EKV_SECTOR_LOG, &first);
        if (!error && pair)
            error = ekv_sector_take(sectors, EKV_SECTOR_LOG, &second);
        if (error)
            return error; /* a sync failed: no other sector helps */
        error = enter(log, first, sequence, second, previous_end);
        if (error != EKV_IO || ekv_sectors_failing(sectors))
            return error;
    }
}

int ekv_log_roll(struct ekv_log *log)
{
    uint32_t successor;
    if (log->next == EKV_NO_SECTOR)
        return EKV_FULL;
    int error = ekv_log_flush(log);
    if (error)
        return error;
    error = ekv_sector_take(log->sectors, EKV_SECTOR_LOG, &successor);
    if (error == EKV_FULL && log->last_resort)
        successor = EKV_NO_SECTOR;
    else if (error)
        return error;
    error = enter(log, log->next, log->sequence + 1, successor, log->offset);
    if (error) {
        log->next = EKV_NO_SECTOR;
        log->failed = true;
    }
    return error;
}

/* Offset of the byte that the buffer begins with. */
static uint32_t buffer_begin(const struct ekv_log *log)
{
    return log->flushed - log->flushed % EKV_PAGE_SIZE;
}

/* Programs what is buffered before `end`, page by page, and moves the rest to the buffer's begin.
 */
static int program(struct ekv_log *log, uint32_t end)
{
    uint32_t begin = buffer_begin(log);
    int error = log->flushed < end && log->failed ? EKV_IO : EKV_OK;
    while (!error && log->flushed < end) {
        uint32_t size = ekv_min(end - log->flushed, ekv_page_room(log->flushed));
        error = ekv_sector_program(log->sectors,
                                   ekv_address(&log->sectors->format, log->sector, log->flushed),
                                   log->pages + (log->flushed - begin), size);
        if (error)
            log->failed = true;
        else
            log->flushed += size;
    }
    uint32_t done = buffer_begin(log) - begin;
    if (done > 0 && log->offset > log->flushed)
        memmove(log->pages, log->pages + done, log->offset - buffer_begin(log));
    return error;
}

/* Adds bytes to the head through the buffer. */
static int append(struct ekv_log *log, const uint8_t *bytes, uint32_t size)
{
    while (size > 0) {
        uint32_t piece = ekv_min(size, ekv_page_room(log->offset));
        memcpy(log->pages + (log->offset - buffer_begin(log)), bytes, piece);
        log->offset += piece;
        bytes += piece;
        size -= piece;
        uint32_t held = log->offset - buffer_begin(log);
        if (held >= log->page_max * EKV_PAGE_SIZE) {
            int error = program(log, buffer_begin(log) + EKV_PAGE_SIZE);
            if (error)
                return error;
        }
    }
    return EKV_OK;
}

int ekv_log_flush(struct ekv_log *log)
{
    return program(log, log->offset);
}

int ekv_log_narrow(struct ekv_log *log)
{
    int error = program(log, log->offset - log->offset % EKV_PAGE_SIZE);
    if (!error)
        log->page_max = 1;
    return error;
}

void ekv_log_widen(struct ekv_log *log, uint32_t page_max)
{
    log->page_max = page_max;
}

bool ekv_log_is_buffered(const struct ekv_log *log, uint32_t address)
{
    return !log->failed && log->flushed < log->offset &&
           ekv_sector_of(&log->sectors->format, address) == log->sector &&
           ekv_offset_of(&log->sectors->format, address) >= log->flushed;
}

void ekv_log_rewrite(struct ekv_log *log, const struct ekv_record *record, uint32_t offset,
                     const void *bytes, uint32_t size)
{
    const struct ekv_format *format = &log->sectors->format;
    uint32_t begin = ekv_offset_of(format, record->address);
    uint32_t covered = record->layout.size - EKV_CRC_SIZE;
    uint8_t *at = log->pages + (begin - buffer_begin(log));
    assert(!log->open && ekv_log_is_buffered(log, record->address));
    assert(begin + record->layout.size <= log->offset && offset + size <= covered);
    memcpy(at + offset, bytes, size);
    ekv_store32(
        at + covered,
        ekv_crc32c(ekv_format_seed(format, EKV_KIND_LOG, log->sequence, begin), at, covered));
}

static int begin(struct ekv_log *log, const struct ekv_record_layout *layout, uint32_t *address)
{
    uint8_t head[EKV_RECORD_HEAD_MAX];
    ekv_record_head_encode(layout, head);
    *address = ekv_address(&log->sectors->format, log->sector, log->offset);
    log->open = true;
    log->record_begin = log->offset;
    log->record_end = log->offset + layout->size;
    log->crc = ekv_format_seed(&log->sectors->format, EKV_KIND_LOG, log->sequence, log->offset);
    return ekv_log_write(log, head, layout->head_size);
}

int ekv_log_begin(struct ekv_log *log, struct ekv_record_layout *layout, uint32_t *address)
{
    if (log->failed)
        return EKV_IO;
    assert(!log->open);
    ekv_record_measure(&log->sectors->format, layout);
    assert(layout->size <= ekv_format_record_size_max(&log->sectors->format));
    if (layout->size > ekv_log_room(log)) {
        int error = ekv_log_roll(log);
        if (error)
            return error;
    }
    return begin(log, layout, address);
}

int ekv_log_write(struct ekv_log *log, const void *data, uint32_t size)
{
    assert(log->offset + size + EKV_CRC_SIZE <= log->record_end);
    log->crc = ekv_crc32c(log->crc, data, size);
    return append(log, data, size);
}

int ekv_log_end(struct ekv_log *log)
{
    static const uint8_t zeroes[16];
    uint8_t crc[EKV_CRC_SIZE];
    uint32_t end = log->record_end - EKV_CRC_SIZE;
    while (log->offset < end) {
        int error = ekv_log_write(log, zeroes, ekv_min(end - log->offset, sizeof zeroes));
        if (error)
            return error;
    }
    ekv_store32(crc, log->crc);
    int error = append(log, crc, sizeof crc);
    assert(error || log->offset == log->record_end);
    log->open = error != EKV_OK;
    return error;
}

void ekv_log_drop(struct ekv_log *log)
{
    if (!log->open)
        return;
    log->open = false;
    log->offset = log->record_begin;
    if (log->flushed > log->offset) {
        log->flushed = log->offset;
        log->failed = true;
    }
}

int ekv_log_append_mark(struct ekv_log *log, uint8_t kind, const void *value, uint32_t size)
{
    uint32_t address;
    struct ekv_record_layout layout = {.type = kind, .value_size = size};
    if (log->failed)
        return EKV_IO;
    ekv_record_measure(&log->sectors->format, &layout);
    assert(layout.size <= log->sectors->format.geometry.sector_size - log->offset);
    int error = begin(log, &layout, &address);
    if (!error)
        error = ekv_log_write(log, value, size);
    if (!error)
        error = ekv_log_end(log);
    ekv_log_drop(log);
    return error ? error : ekv_log_flush(log);
}

/* A part of the log that is read from RAM: [begin, end), the byte at `begin` being `bytes[0]`. */
struct overlay {
    uint32_t begin;
    uint32_t end;
    const uint8_t *bytes;
};

/* Where the read goes on that has come to `address`: how many bytes come from `overlay`, if it
 * covers the address, or from before it begins. */
static bool overlay_covers(const struct overlay *overlay, uint32_t address, uint32_t *size)
{
    if (address < overlay->begin) {
        *size = ekv_min(*size, overlay->begin - address);
        return false;
    }
    if (address >= overlay->end)
        return false;
    *size = ekv_min(*size, overlay->end - address);
    return true;
}

static int read_overlaid(const struct ekv_log *log, const struct overlay overlays[2],
                         uint32_t address, uint8_t *bytes, uint32_t size)
{
    while (size > 0) {
        uint32_t piece = size;
        const struct overlay *source = NULL;
        for (uint32_t i = 0; i < 2 && !source; i++)
            if (overlay_covers(&overlays[i], address, &piece))
                source = &overlays[i];
        if (source) {
            memcpy(bytes, source->bytes + (address - source->begin), piece);
        } else {
            int error = ekv_sectors_read(log->sectors, address, bytes, piece);
            if (error)
                return error;
        }
        address += piece;
        bytes += piece;
        size -= piece;
    }
    return EKV_OK;
}

int ekv_log_read(const struct ekv_log *log, uint32_t address, void *buffer, uint32_t size)
{
    if (log->flushed == log->offset && !log->copy)
        return ekv_sectors_read(log->sectors, address, buffer, size);
    uint32_t head = ekv_address(&log->sectors->format, log->sector, 0);
    uint32_t flushed = head + log->flushed;
    struct overlay overlays[2] = {
        {flushed, head + log->offset, log->pages + flushed % EKV_PAGE_SIZE},
        {log->copy_address, log->copy ? log->copy_address + log->copy_size : 0, log->copy},
    };
    return read_overlaid(log, overlays, address, buffer, size);
}

int ekv_log_sequence(const struct ekv_log *log, uint32_t address, uint32_t *sequence)
{
    const struct ekv_sectors *sectors = log->sectors;
    struct ekv_stamp_b stamp;
    uint32_t sector = ekv_sector_of(&sectors->format, address);
    if (sector >= sectors->format.geometry.sector_count)
        return EKV_NOT_FOUND;
    *sequence = sector == log->sector ? log->sequence : ekv_sector_known_sequence(sectors, sector);
    if (*sequence != 0)
        return EKV_OK;
    if (!ekv_sector_holds_log(sectors, sector))
        return EKV_NOT_FOUND; /* perhaps being erased this very moment */
    if (sector == log->next)
        return EKV_NOT_FOUND; /* not stamped yet */
    struct ekv_mend mend;
    int error = ekv_sector_stamp_read(sectors, sector, &stamp);
    if (error == EKV_NOT_FOUND && (log->settled || sectors->lives[sector] > 0) &&
        ekv_sector_stamp_flipped(sectors, sector, &stamp, &mend))
        error = EKV_OK; /* whatever lies there is verified with that number */
    bool lies = !error && (stamp.kind != EKV_KIND_LOG || stamp.sequence > log->sequence);
    if (error == EKV_NOT_FOUND || lies)
        return log->settled ? ekv_corrupt() : EKV_NOT_FOUND;
    if (error)
        return error;
    *sequence = stamp.sequence;
    if (log->settled && !sectors->locks) /* nobody else reads now */
        ekv_sector_note_sequence(sectors, sector, stamp.sequence);
    return EKV_OK;
}

/* The rest of a sector where it lies, if the flash is mapped and holds all of it; otherwise NULL.
 */
static const uint8_t *in_place(const struct ekv_log *log, uint32_t address, uint32_t size)
{
    const struct ekv_sectors *sectors = log->sectors;
    bool buffered =
        log->flushed != log->offset && ekv_sector_of(&sectors->format, address) == log->sector;
    return buffered || log->copy ? NULL
                                 : ekv_mends_map(&sectors->mends, &sectors->flash, address, size);
}

int ekv_record_read(const struct ekv_log *log, uint32_t address, struct ekv_record *record)
{
    const struct ekv_format *format = &log->sectors->format;
    if (address >= ekv_flash_size(&log->sectors->flash))
        return EKV_NOT_FOUND;
    uint32_t offset = ekv_offset_of(format, address);
    if (offset < format->body_offset || (offset & (format->alignment - 1)) != 0)
        return EKV_NOT_FOUND;
    uint32_t room = format->geometry.sector_size - offset;
    record->address = address;
    record->mapped = in_place(log, address, room);
    record->peek_size = record->mapped ? room : ekv_min(room, EKV_RECORD_PEEK);
    int error =
        record->mapped ? EKV_OK : ekv_log_read(log, address, record->peek, record->peek_size);
    if (error)
        return error;
    return ekv_record_head_decode(format, ekv_record_peek(record), record->peek_size, room,
                                  &record->layout);
}

static int read_checked(const struct ekv_log *log, uint32_t address, uint32_t sequence,
                        struct ekv_record *record)
{
    int error = ekv_record_read(log, address, record);
    if (!error)
        error = ekv_record_verify(log, record, sequence);
    return error == EKV_CORRUPT ? EKV_NOT_FOUND : error;
}

int ekv_record_find(const struct ekv_log *log, uint32_t address, uint32_t sequence,
                    struct ekv_record *record)
{
    const struct ekv_format *format = &log->sectors->format;
    struct ekv_record_layout close = {.type = EKV_RECORD_CLOSE, .value_size = EKV_CLOSE_SIZE};
    int error = read_checked(log, address, sequence, record);
    ekv_record_measure(format, &close);
    if (error != EKV_NOT_FOUND ||
        ekv_offset_of(format, address) + close.size >= format->geometry.sector_size)
        return error;
    error = read_checked(log, address + close.size, sequence, record);
    return error || ekv_record_kind(record) == EKV_RECORD_OPEN ? error : EKV_NOT_FOUND;
}

/* True if an open record seems to begin `distance` bytes behind a place that was read. */
static int opens_behind(const struct ekv_log *log, const struct ekv_record *record,
                        uint32_t distance, bool *opens)
{
    uint8_t head[3] = {0};
    uint32_t size = log->sectors->format.geometry.sector_size;
    uint32_t offset = ekv_offset_of(&log->sectors->format, record->address) + distance;
    int error = EKV_OK;
    if (distance + sizeof head <= record->peek_size)
        memcpy(head, ekv_record_peek(record) + distance, sizeof head);
    else if (offset + sizeof head <= size)
        error = ekv_log_read(log, record->address + distance, head, sizeof head);
    *opens = ekv_type_kind(head[0]) == EKV_RECORD_OPEN && head[1] == 0 && head[2] == 0;
    return error;
}

int ekv_record_step(const struct ekv_log *log, uint32_t address, uint32_t sequence,
                    struct ekv_record *record)
{
    struct ekv_record_layout close = {.type = EKV_RECORD_CLOSE, .value_size = EKV_CLOSE_SIZE};
    struct ekv_record found;
    bool opens;
    record->address = address;
    record->peek_size = 0;
    int read = ekv_record_read(log, address, record);
    if (read < 0)
        return read;
    ekv_record_measure(&log->sectors->format, &close);
    int error = opens_behind(log, record, close.size, &opens);
    if (error || !opens)
        return error ? error : read;
    error = ekv_record_find(log, address, sequence, &found);
    if (error == EKV_OK)
        *record = found;
    return error == EKV_NOT_FOUND ? read : error;
}

int ekv_record_bytes(const struct ekv_log *log, const struct ekv_record *record, uint32_t offset,
                     void *buffer, uint32_t size)
{
    assert(offset <= record->layout.size && size <= record->layout.size - offset);
    if (offset + size <= record->peek_size) {
        memcpy(buffer, ekv_record_peek(record) + offset, size);
        return EKV_OK;
    }
    return ekv_log_read(log, record->address + offset, buffer, size);
}

/* Where bytes of a record go that is being checked: those from `offset` in it on. */
struct part {
    uint32_t offset;
    uint32_t size;
    uint8_t *bytes;
};

/* Copies what of a part lies in `size` bytes of the record, from `offset` on. */
static void copy_part(const struct part *part, uint32_t offset, const uint8_t *bytes, uint32_t size)
{
    uint32_t begin = ekv_max(offset, part->offset);
    uint32_t end = ekv_min(offset + size, part->offset + part->size);
    if (begin < end)
        memcpy(part->bytes + (begin - part->offset), bytes + (begin - offset), end - begin);
}

static int verify(const struct ekv_log *log, const struct ekv_record *record, uint32_t sequence,
                  const struct part *part)
{
    uint8_t piece[PIECE + EKV_CRC_SIZE];
    const struct ekv_format *format = &log->sectors->format;
    uint32_t crc =
        ekv_format_seed(format, EKV_KIND_LOG, sequence, ekv_offset_of(format, record->address));
    uint32_t size = record->layout.size - EKV_CRC_SIZE;
    uint32_t offset = ekv_min(size, record->peek_size), length = 0;
    crc = ekv_crc32c(crc, ekv_record_peek(record), offset);
    copy_part(part, 0, ekv_record_peek(record), offset);
    if (record->mapped)
        return ekv_load32(record->mapped + size) == crc ? EKV_OK : EKV_CORRUPT;
    do { /* the last piece comes with the record's checksum */
        length = ekv_min(size - offset, PIECE);
        uint32_t end = offset + length == size ? EKV_CRC_SIZE : 0;
        int error = ekv_record_bytes(log, record, offset, piece, length + end);
        if (error)
            return error;
        crc = ekv_crc32c(crc, piece, length);
        copy_part(part, offset, piece, length);
        offset += length;
    } while (offset < size);
    return ekv_load32(piece + length) == crc ? EKV_OK : EKV_CORRUPT;
}

int ekv_record_verify(const struct ekv_log *log, const struct ekv_record *record, uint32_t sequence)
{
    return verify(log, record, sequence, &(struct part){.size = 0});
}

int ekv_record_verified(const struct ekv_log *log, const struct ekv_record *record,
                        uint32_t sequence, uint32_t offset, void *buffer, uint32_t size)
{
    return verify(log, record, sequence, &(struct part){offset, size, buffer});
}

int ekv_record_flipped(const struct ekv_log *log, uint32_t address, uint32_t size,
                       uint32_t sequence, struct ekv_mend *mend, uint8_t *type)
{
    uint8_t piece[PIECE];
    size_t place = 0;
    const struct ekv_format *format = &log->sectors->format;
    uint32_t crc = ekv_format_seed(format, EKV_KIND_LOG, sequence, ekv_offset_of(format, address));
    uint32_t covered = size - ekv_min(size, EKV_CRC_SIZE);
    for (uint32_t offset = 0; offset < covered;) {
        uint32_t length = ekv_min(covered - offset, PIECE);
        int error = ekv_log_read(log, address + offset, piece, length);
        if (error)
            return error;
        crc = ekv_crc32c(crc, piece, length);
        if (offset == 0)
            *type = piece[0];
        offset += length;
    }
    int error = ekv_log_read(log, address + covered, piece, EKV_CRC_SIZE);
    if (error)
        return error;
    *mend = (struct ekv_mend){.mask = 0};
    if (covered == 0 || !ekv_crc32c_flipped(ekv_load32(piece) ^ crc, covered, &place, &mend->mask))
        return EKV_NOT_FOUND;
    mend->begin = address;
    mend->address = address + (uint32_t)place;
    *type ^= place == 0 ? mend->mask : 0;
    return EKV_OK;
}

int ekv_record_version(const struct ekv_log *log, const struct ekv_record *record,
                       uint32_t sequence, uint64_t *version)
{
    uint8_t bytes[EKV_RECORD_VERSION_SIZE];
    const struct ekv_format *format = &log->sectors->format;
    if (!(record->layout.type & EKV_RECORD_MOVED)) {
        *version = ekv_position(format, sequence, ekv_offset_of(format, record->address));
        return EKV_OK;
    }
    int error = ekv_record_bytes(log, record, ekv_record_version_offset(&record->layout), bytes,
                                 sizeof bytes);
    *version = ekv_load(bytes, sizeof bytes);
    return error;
}

int ekv_record_at(const struct ekv_log *log, uint32_t address, struct ekv_record *record)
{
    int error = ekv_record_read(log, address, record);
    return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
}

int ekv_found_at(const struct ekv_log *log, uint32_t address, struct ekv_found *found)
{
    int error = ekv_record_at(log, address, &found->record);
    if (!error)
        error = ekv_log_sequence(log, address, &found->sequence);
    return error == EKV_NOT_FOUND ? ekv_corrupt() : error;
}

int ekv_log_version(const struct ekv_log *log, uint32_t address, uint64_t *version)
{
    struct ekv_found found;
    int error = ekv_found_at(log, address, &found);
    return error ? error : ekv_record_version(log, &found.record, found.sequence, version);
}

int ekv_record_time(const struct ekv_log *log, const struct ekv_record *record, int64_t *time)
{
    uint8_t bytes[EKV_RECORD_TIME_SIZE];
    *time = 0;
    if (!(record->layout.type & EKV_RECORD_TIMED))
        return EKV_OK;
    int error =
        ekv_record_bytes(log, record, ekv_record_time_offset(&record->layout), bytes, sizeof bytes);
    if (!error)
        *time = (int64_t)ekv_load(bytes, sizeof bytes);
    return error;
}

int ekv_record_ordinal(const struct ekv_log *log, const struct ekv_record *record, uint8_t *ordinal)
{
    *ordinal = 0;
    if (!ekv_type_is_counted(record->layout.type))
        return EKV_OK;
    return ekv_record_bytes(log, record, ekv_record_ordinal_offset(&record->layout), ordinal,
                            EKV_RECORD_ORDINAL_SIZE);
}

int ekv_record_key(const struct ekv_log *log, const struct ekv_record *record,
                   uint8_t prefix[EKV_KEY_PREFIX], struct ekv_key *key)
{
    uint32_t size = ekv_min(record->layout.key_size, EKV_KEY_PREFIX);
    *key = (struct ekv_key){prefix, record->layout.key_size, ekv_record_space(record),
                            record->address + record->layout.head_size};
    if (record->mapped) {
        key->bytes = record->mapped + record->layout.head_size;
        key->rest = 0;
        return EKV_OK;
    }
    return ekv_record_bytes(log, record, record->layout.head_size, prefix, size);
}

/* Compares a piece of a key with the same piece of a record's key. */
static int compare_piece(const struct ekv_log *log, const struct ekv_record *record,
                         struct ekv_key key, uint32_t offset, uint32_t size, int *order)
{
    uint8_t mine[PIECE / 2], theirs[PIECE / 2];
    const uint8_t *bytes = (const uint8_t *)key.bytes + offset;
    if (key.rest && offset + size > EKV_KEY_PREFIX) {
        int error = ekv_log_read(log, key.rest + offset, mine, size);
        if (error)
            return error;
        bytes = mine;
    }
    int error = ekv_record_bytes(log, record, record->layout.head_size + offset, theirs, size);
    if (!error)
        *order = memcmp(bytes, theirs, size);
    return error;
}

int ekv_record_compare(const struct ekv_log *log, const struct ekv_record *record,
                       struct ekv_key key, int *order)
{
    uint32_t size = ekv_min(key.size, record->layout.key_size);
    uint32_t done = ekv_min(size, record->peek_size - record->layout.head_size);
    if (key.rest)
        done = ekv_min(done, EKV_KEY_PREFIX);
    *order = (int)key.space - (int)ekv_record_space(record);
    if (*order == 0 && done > 0)
        *order = memcmp(key.bytes, ekv_record_peek(record) + record->layout.head_size, done);
    while (*order == 0 && done < size) {
        uint32_t length = ekv_min(size - done, PIECE / 2);
        int error = compare_piece(log, record, key, done, length, order);
        if (error)
            return error;
        done += length;
    }
    if (*order == 0)
        *order = key.size < record->layout.key_size ? -1 : key.size > record->layout.key_size;
    return EKV_OK;
}

uint32_t ekv_key_hash(struct ekv_key key)
{
    return ekv_hash_end(ekv_hash_update(ekv_hash_begin(key.space), key.bytes, key.size));
}

int ekv_record_hash(const struct ekv_log *log, const struct ekv_record *record, uint32_t *hash)
{
    uint8_t piece[PIECE];
    uint32_t size = record->layout.key_size;
    uint32_t done = ekv_min(size, record->peek_size - record->layout.head_size);
    *hash = ekv_hash_begin(ekv_record_space(record));
    *hash = ekv_hash_update(*hash, ekv_record_peek(record) + record->layout.head_size, done);
    while (done < size) {
        uint32_t length = ekv_min(size - done, PIECE);
        int error =
            ekv_log_read(log, record->address + record->layout.head_size + done, piece, length);
        if (error)
            return error;
        *hash = ekv_hash_update(*hash, piece, length);
        done += length;
    }
    *hash = ekv_hash_end(*hash);
    return EKV_OK;
}

int ekv_corrupt(void)
{
    return EKV_CORRUPT;
}
