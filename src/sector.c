/* Owns the map of sectors: state, live count, the pool of erased ones, the virgin mark.
 *
 * Invariants: each sector has exactly one state and `counts` counts them; a ready sector was erased
 * and stamped in this session and nothing was programmed in it since; a sector is erased only when
 * it is free, and it becomes free only after that is durable on flash (a manifest edit). A virgin
 * sector (number >= `virgin`) was never programmed; the mark saved on flash runs ahead of the true
 * one, so that after a power cut no sector that may have been programmed counts as virgin.
 *
 * Wear: free sectors are taken in rotation, out of each window of sixteen the least erased one.
 *
 * A power cut during an erase leaves a sector without a valid stamp A; it is free at the next mount
 * and will be erased again. Its erase count is then taken to be the largest known.
 */
#include "sector.h"

#include <assert.h>
#include <string.h>

#include "crc32c.h"

enum { WINDOW = 16, PIECE = 64, RUN_MORE = 1 << 24, RUN_FIRST = RUN_MORE - 1 };

size_t ekv_sectors_memory_size(uint32_t sector_count)
{
    return (sector_count + 1) / 2 + sector_count;
}

void ekv_sectors_init(struct ekv_sectors *sectors, const struct ekv_flash *flash, uint64_t store_id,
                      uint8_t *memory, uint32_t *sequences)
{
    uint32_t count = flash->geometry.sector_count;
    memset(sectors, 0, sizeof *sectors);
    sectors->flash = *flash;
    ekv_format_init(&sectors->format, &flash->geometry, store_id);
    sectors->states = memory;
    sectors->lives = memory + (count + 1) / 2;
    memset(memory, 0, ekv_sectors_memory_size(count));
    sectors->sequences = sequences;
    if (sequences)
        memset(sequences, 0, count * sizeof sequences[0]);
    sectors->counts[EKV_SECTOR_FREE] = count;
    sectors->virgin = sectors->virgin_saved = count;
    for (uint32_t i = 0; i < sectors->format.ring_count; i++)
        ekv_sector_set(sectors, i, EKV_SECTOR_MANIFEST);
}

static uint8_t nibble(const struct ekv_sectors *sectors, uint32_t sector)
{
    assert(sector < sectors->format.geometry.sector_count);
    return sectors->states[sector / 2] >> (sector % 2 * 4) & 15;
}

bool ekv_sector_distrusted(const struct ekv_sectors *sectors, uint32_t sector)
{
    for (uint32_t i = 0; i < sectors->distrusted_count; i++)
        if (sectors->distrusted[i] == sector)
            return true;
    return false;
}

void ekv_sector_distrust(struct ekv_sectors *sectors, uint32_t sector)
{
    if (!ekv_sector_distrusted(sectors, sector) && sectors->distrusted_count < EKV_DISTRUST_MAX)
        sectors->distrusted[sectors->distrusted_count++] = sector;
}

static void forget_distrust(struct ekv_sectors *sectors, uint32_t sector)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sectors->distrusted_count; i++)
        if (sectors->distrusted[i] != sector)
            sectors->distrusted[kept++] = sectors->distrusted[i];
    sectors->distrusted_count = kept;
}

static void nibble_set(struct ekv_sectors *sectors, uint32_t sector, uint8_t value)
{
    uint8_t *byte = &sectors->states[sector / 2];
    uint32_t shift = sector % 2 * 4;
    *byte = (uint8_t)((*byte & ~(15u << shift)) | (uint32_t)value << shift);
}

enum ekv_sector_state ekv_sector_state(const struct ekv_sectors *sectors, uint32_t sector)
{
    return (enum ekv_sector_state)(nibble(sectors, sector) & 7);
}

bool ekv_sector_holds_log(const struct ekv_sectors *sectors, uint32_t sector)
{
    enum ekv_sector_state state = ekv_sector_state(sectors, sector);
    return state == EKV_SECTOR_LOG || state == EKV_SECTOR_LIMBO || state == EKV_SECTOR_EMPTIED;
}

void ekv_sector_note_sequence(const struct ekv_sectors *sectors, uint32_t sector, uint32_t sequence)
{
    if (sectors->sequences)
        sectors->sequences[sector] = sequence;
}

void ekv_sector_set(struct ekv_sectors *sectors, uint32_t sector, enum ekv_sector_state state)
{
    if (state == EKV_SECTOR_FREE && ekv_sector_distrusted(sectors, sector))
        state = EKV_SECTOR_RETIRED;
    if (state == EKV_SECTOR_RETIRED)
        forget_distrust(sectors, sector);
    sectors->counts[ekv_sector_state(sectors, sector)]--;
    sectors->counts[state]++;
    nibble_set(sectors, sector, (uint8_t)state | EKV_SECTOR_DIRTY);
    sectors->lives[sector] = 0;
    if (!ekv_sector_holds_log(sectors, sector))
        ekv_sector_note_sequence(sectors, sector, 0);
}

/* A host's store has tens of thousands of sectors and asks this at each edit: sixteen at a time. */
uint32_t ekv_sector_next_dirty(const struct ekv_sectors *sectors, uint32_t sector)
{
    const uint64_t flags = 0x8888888888888888; /* EKV_SECTOR_DIRTY in each nibble */
    uint32_t count = sectors->format.geometry.sector_count;
    while (sector < count) {
        uint64_t states = flags;
        if (sector % 16 == 0 && count - sector >= 16)
            memcpy(&states, sectors->states + sector / 2, sizeof states);
        if (states & flags) {
            if (nibble(sectors, sector) & EKV_SECTOR_DIRTY)
                break;
            sector++;
        } else {
            sector += 16;
        }
    }
    return sector;
}

void ekv_sector_clean(struct ekv_sectors *sectors, uint32_t sector)
{
    nibble_set(sectors, sector, nibble(sectors, sector) & 7);
}

/* Live units up to an offset of a sector; differences of it telescope. */
static uint32_t units(const struct ekv_sectors *sectors, uint32_t offset)
{
    return (uint32_t)((uint64_t)offset * EKV_LIVE_MAX / sectors->format.geometry.sector_size);
}

int ekv_sectors_view(const struct ekv_sectors *sectors, uint32_t address, void *buffer,
                     uint32_t size, const uint8_t **bytes)
{
    uint32_t flash_size = ekv_flash_size(&sectors->flash);
    bool inside = address <= flash_size && size <= flash_size - address;
    *bytes = inside ? ekv_mends_map(&sectors->mends, &sectors->flash, address, size) : NULL;
    if (*bytes)
        return EKV_OK;
    *bytes = buffer;
    return ekv_sectors_read(sectors, address, buffer, size);
}

uint32_t ekv_sector_units(const struct ekv_sectors *sectors, uint32_t address, uint32_t size)
{
    uint32_t offset = ekv_offset_of(&sectors->format, address);
    return units(sectors, offset + size) - units(sectors, offset);
}

void ekv_sector_live_add(struct ekv_sectors *sectors, uint32_t address, uint32_t size)
{
    uint32_t sector = ekv_sector_of(&sectors->format, address);
    sectors->lives[sector] =
        (uint8_t)(sectors->lives[sector] + ekv_sector_units(sectors, address, size));
    nibble_set(sectors, sector, nibble(sectors, sector) | EKV_SECTOR_DIRTY);
}

int ekv_sector_live_remove(struct ekv_sectors *sectors, uint32_t address, uint32_t size)
{
    uint32_t sector = ekv_sector_of(&sectors->format, address);
    uint32_t removed = ekv_sector_units(sectors, address, size);
    if (ekv_sector_state(sectors, sector) != EKV_SECTOR_LOG)
        return EKV_OK; /* a snapshot's sector in limbo: not counted any more */
    if (removed > sectors->lives[sector])
        return EKV_CORRUPT;
    sectors->lives[sector] = (uint8_t)(sectors->lives[sector] - removed);
    nibble_set(sectors, sector, nibble(sectors, sector) | EKV_SECTOR_DIRTY);
    return EKV_OK;
}

uint32_t ekv_sector_erase_count(const struct ekv_sectors *sectors, uint32_t sector)
{
    uint8_t bytes[EKV_STAMP_A_SIZE];
    struct ekv_stamp_a stamp;
    uint32_t address = ekv_address(&sectors->format, sector, 0);
    if (ekv_sectors_read(sectors, address, bytes, sizeof bytes) ||
        ekv_stamp_a_decode(bytes, &stamp))
        return 0;
    return stamp.erase_count;
}

int ekv_sector_program(struct ekv_sectors *sectors, uint32_t address, const void *data,
                       uint32_t size)
{
    assert(size <= ekv_page_room(address));
    sectors->programs++;
    sectors->programmed_size += size;
    int error = ekv_flash_program(&sectors->flash, address, data, size);
    sectors->failures = error ? sectors->failures + 1 : 0;
    if (error)
        ekv_sector_distrust(sectors, ekv_sector_of(&sectors->format, address));
    return error;
}

/* A stamp takes whole write units; what it leaves of them stays 0xff. */
static int stamp_write(struct ekv_sectors *sectors, uint32_t address, const uint8_t *bytes,
                       uint32_t size, uint32_t total)
{
    assert(total <= sizeof sectors->scratch);
    memset(sectors->scratch, 0xff, total);
    memcpy(sectors->scratch, bytes, size);
    return ekv_sector_program(sectors, address, sectors->scratch, total);
}

static int stamp_a_write(struct ekv_sectors *sectors, uint32_t sector, uint32_t erase_count)
{
    uint8_t bytes[EKV_STAMP_A_SIZE];
    struct ekv_stamp_a stamp = {sectors->format.geometry, sectors->format.store_id, sector,
                                erase_count};
    ekv_stamp_a_encode(&stamp, bytes);
    sectors->erase_count_max = ekv_max(sectors->erase_count_max, erase_count);
    return stamp_write(sectors, ekv_address(&sectors->format, sector, 0), bytes, sizeof bytes,
                       ekv_stamp_b_offset(&sectors->format));
}

/* The wait of an erase is the one that readers must not share: the lock is let go. A sync that
 * fails leaves `freed_since_sync` set. */
static int erase_unlocked(struct ekv_sectors *sectors, uint32_t sector)
{
    int error = EKV_OK;
    bool barrier = sectors->freed_since_sync; /* readers set it too, while the lock is let go */
    sectors->freed_since_sync = false;
    if (sectors->locks)
        sectors->locks->unlock_write(sectors->lock_context);
    if (barrier)
        error = ekv_flash_sync(&sectors->flash, true);
    bool synced = error == EKV_OK;
    sectors->erased_since_sync |= synced;
    if (!error)
        error = ekv_flash_erase(&sectors->flash, sector);
    if (sectors->locks)
        sectors->locks->lock_write(sectors->lock_context);
    sectors->freed_since_sync |= !synced;
    sectors->failures += error != EKV_OK && synced;
    return error;
}

int ekv_sector_erase(struct ekv_sectors *sectors, uint32_t sector)
{
    uint32_t erase_count = ekv_sector_erase_count(sectors, sector);
    erase_count = erase_count ? erase_count + 1 : ekv_max(1, sectors->erase_count_max);
    sectors->erases++;
    int error = erase_unlocked(sectors, sector);
    return error ? error : stamp_a_write(sectors, sector, erase_count);
}

static int is_blank(const struct ekv_sectors *sectors, uint32_t sector, uint32_t offset,
                    bool *blank)
{
    uint8_t piece[PIECE];
    uint32_t size = sectors->format.geometry.sector_size;
    *blank = false;
    while (offset < size) {
        uint32_t length = ekv_min(PIECE, size - offset);
        uint32_t address = ekv_address(&sectors->format, sector, offset);
        int error = ekv_sectors_read(sectors, address, piece, length);
        if (error)
            return error;
        for (uint32_t i = 0; i < length; i++)
            if (piece[i] != 0xff)
                return EKV_OK;
        offset += length;
    }
    *blank = true;
    return EKV_OK;
}

int ekv_sector_looks_erased(const struct ekv_sectors *sectors, uint32_t sector, bool *erased)
{
    uint8_t bytes[EKV_STAMP_A_SIZE];
    struct ekv_stamp_a stamp;
    uint32_t address = ekv_address(&sectors->format, sector, 0);
    *erased = false;
    int error = ekv_sectors_read(sectors, address, bytes, sizeof bytes);
    if (error || ekv_stamp_a_decode(bytes, &stamp) || stamp.sector != sector ||
        stamp.store_id != sectors->format.store_id)
        return error;
    return is_blank(sectors, sector, ekv_stamp_b_offset(&sectors->format), erased);
}

/* The least erased of the next sixteen free sectors in rotation; EKV_NO_SECTOR if none is free. */
static uint32_t choose(struct ekv_sectors *sectors)
{
    uint32_t count = sectors->format.geometry.sector_count;
    uint32_t best = EKV_NO_SECTOR, best_count = UINT32_MAX, seen = 0;
    uint32_t sector = sectors->cursor;
    for (uint32_t i = 0; i < count && seen < WINDOW; i++, sector++) {
        if (sector >= count)
            sector = 0;
        if (ekv_sector_state(sectors, sector) != EKV_SECTOR_FREE || sector >= sectors->virgin)
            continue;
        seen++;
        uint32_t erase_count = ekv_sector_erase_count(sectors, sector);
        if (erase_count < best_count) {
            best = sector;
            best_count = erase_count;
        }
    }
    if (best != EKV_NO_SECTOR)
        sectors->cursor = best + 1;
    return best;
}

/* Takes the sector at the virgin mark into use: no erase if it reads blank. EKV_NOT_FOUND: no free
 * sector lies beyond the mark. */
static int prepare_virgin(struct ekv_sectors *sectors, uint32_t *sector)
{
    uint32_t count = sectors->format.geometry.sector_count;
    bool blank = false;
    while (sectors->virgin < count && ekv_sector_state(sectors, sectors->virgin) != EKV_SECTOR_FREE)
        sectors->virgin++; /* the mark on flash lied */
    if (sectors->virgin == count)
        return EKV_NOT_FOUND;
    int error = EKV_OK;
    if (sectors->virgin < sectors->virgin_saved)
        error = is_blank(sectors, sectors->virgin, 0, &blank);
    *sector = sectors->virgin;
    if (error)
        return error;
    sectors->virgin++;
    return blank ? stamp_a_write(sectors, *sector, 1) : ekv_sector_erase(sectors, *sector);
}

/* Whether another ready sector can be remembered, whichever it is. */
static bool has_ready_room(const struct ekv_sectors *sectors)
{
    return sectors->ready_runs < EKV_READY_MAX && sectors->counts[EKV_SECTOR_READY] < EKV_AHEAD_MAX;
}

static void ready_add(struct ekv_sectors *sectors, uint32_t sector)
{
    uint32_t *last = sectors->ready_runs ? &sectors->ready[sectors->ready_runs - 1] : NULL;
    if (last && (*last & RUN_FIRST) + *last / RUN_MORE + 1 == sector)
        *last += RUN_MORE;
    else
        sectors->ready[sectors->ready_runs++] = sector;
    ekv_sector_set(sectors, sector, EKV_SECTOR_READY);
}

/* The sector that has been ready for longest. */
static uint32_t ready_remove(struct ekv_sectors *sectors)
{
    uint32_t *first = &sectors->ready[0], sector = *first & RUN_FIRST;
    if (*first >= RUN_MORE)
        *first = *first - RUN_MORE + 1;
    else
        memmove(first, first + 1, --sectors->ready_runs * sizeof *first);
    return sector;
}

int ekv_sector_prepare(struct ekv_sectors *sectors)
{
    assert(has_ready_room(sectors));
    while (sectors->counts[EKV_SECTOR_FREE] > 0) {
        uint32_t sector, failures = sectors->failures;
        int error;
        bool fresh = sectors->virgin < sectors->virgin_saved;
        uint32_t chosen = fresh ? EKV_NO_SECTOR : choose(sectors);
        if (chosen != EKV_NO_SECTOR) {
            sector = chosen;
            error = ekv_sector_erase(sectors, sector);
        } else {
            error = prepare_virgin(sectors, &sector);
        }
        if (error == EKV_NOT_FOUND)
            return EKV_FULL;
        bool its_own = sectors->failures > failures && !ekv_sectors_failing(sectors);
        if (error == EKV_IO && its_own) {
            ekv_sector_set(sectors, sector, EKV_SECTOR_RETIRED);
            continue;
        }
        if (error)
            return error;
        ready_add(sectors, sector);
        return EKV_OK;
    }
    return EKV_FULL;
}

/* What a crash of the host loses of a sector in use is blank only if its erase survives. The lock
 * is let go as for the erase. */
static int settle_erases(struct ekv_sectors *sectors)
{
    if (!sectors->erased_since_sync || !ekv_flash_unordered(&sectors->flash))
        return EKV_OK;
    if (sectors->locks)
        sectors->locks->unlock_write(sectors->lock_context);
    int error = ekv_flash_sync(&sectors->flash, true);
    if (sectors->locks)
        sectors->locks->lock_write(sectors->lock_context);
    sectors->erased_since_sync = error != EKV_OK;
    return error;
}

void ekv_sectors_want(struct ekv_sectors *sectors, uint32_t count)
{
    sectors->wanted = ekv_flash_unordered(&sectors->flash) ? count : 0;
}

/* One sector, or all that are wanted: the more, the fewer syncs. */
static int prepare_wanted(struct ekv_sectors *sectors)
{
    int error = ekv_sector_prepare(sectors);
    while (!error && sectors->counts[EKV_SECTOR_READY] < sectors->wanted && has_ready_room(sectors))
        error = ekv_sector_prepare(sectors);
    return error == EKV_FULL && sectors->counts[EKV_SECTOR_READY] > 0 ? EKV_OK : error;
}

int ekv_sector_take(struct ekv_sectors *sectors, enum ekv_sector_state state, uint32_t *sector)
{
    int error = EKV_OK;
    if (sectors->counts[EKV_SECTOR_READY] == 0)
        error = prepare_wanted(sectors);
    if (!error)
        error = settle_erases(sectors);
    if (error)
        return error;
    *sector = ready_remove(sectors);
    sectors->wanted -= sectors->wanted > 0;
    ekv_sector_set(sectors, *sector, state);
    return EKV_OK;
}

int ekv_sector_stamp(struct ekv_sectors *sectors, uint32_t sector, const struct ekv_stamp_b *stamp)
{
    uint8_t bytes[EKV_STAMP_B_SIZE];
    uint32_t offset = ekv_stamp_b_offset(&sectors->format);
    ekv_stamp_b_encode(&sectors->format, stamp, sector, bytes);
    int error = stamp_write(sectors, ekv_address(&sectors->format, sector, offset), bytes,
                            sizeof bytes, sectors->format.body_offset - offset);
    if (!error && stamp->kind == EKV_KIND_LOG)
        ekv_sector_note_sequence(sectors, sector, stamp->sequence);
    return error;
}

int ekv_sector_stamp_read(const struct ekv_sectors *sectors, uint32_t sector,
                          struct ekv_stamp_b *stamp)
{
    uint8_t bytes[EKV_STAMP_B_SIZE];
    uint32_t offset = ekv_stamp_b_offset(&sectors->format);
    int error = ekv_sectors_read(sectors, ekv_address(&sectors->format, sector, offset), bytes,
                                 sizeof bytes);
    return error ? error : ekv_stamp_b_decode(&sectors->format, bytes, sector, stamp);
}

bool ekv_sector_stamp_flipped(const struct ekv_sectors *sectors, uint32_t sector,
                              struct ekv_stamp_b *stamp, struct ekv_mend *mend)
{
    uint8_t bytes[EKV_STAMP_B_SIZE];
    uint32_t covered = EKV_STAMP_B_SIZE - EKV_CRC_SIZE;
    uint32_t address = ekv_address(&sectors->format, sector, ekv_stamp_b_offset(&sectors->format));
    size_t place;
    if (ekv_sectors_read(sectors, address, bytes, sizeof bytes))
        return false;
    uint32_t crc = ekv_crc32c(ekv_format_seed(&sectors->format, 0, sector, 0), bytes, covered);
    if (!ekv_crc32c_flipped(ekv_load32(bytes + covered) ^ crc, covered, &place, &mend->mask))
        return false;
    bytes[place] ^= mend->mask;
    *mend = (struct ekv_mend){.address = address + (uint32_t)place,
                              .begin = ekv_address(&sectors->format, sector, 0),
                              .mask = mend->mask};
    return ekv_stamp_b_decode(&sectors->format, bytes, sector, stamp) == EKV_OK;
}

uint32_t ekv_sectors_virgin_save(struct ekv_sectors *sectors)
{
    uint32_t count = sectors->format.geometry.sector_count;
    uint32_t mark = ekv_min(count, sectors->virgin + EKV_VIRGIN_STEP);
    sectors->virgin_saved = ekv_max(sectors->virgin_saved, mark);
    return sectors->virgin_saved;
}
