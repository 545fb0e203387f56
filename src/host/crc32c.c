/* CRC-32C on hosts: the core's, with the processor's instruction for it where there is one.
 *
 * libekv.a is built with this file in the place of src/crc32c.c. A get verifies some 500 bytes of
 * pages and records, which by the table, a byte a step, was two thirds of its time.
 */
#define ekv_crc32c ekv_crc32c_by_table
#include "../crc32c.c"
#undef ekv_crc32c

#include <string.h>

uint32_t ekv_crc32c(uint32_t crc, const void *data, size_t size);

#if defined(__x86_64__) && defined(__GNUC__)

#include <wmmintrin.h>

/* Three lanes at a time, since an instruction's result comes three cycles after it began. */
enum { LANE = 320, LANE_SHORT = 64 };

static inline uint64_t word_at(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline uint32_t half_at(const uint8_t *bytes)
{
    uint32_t half;
    memcpy(&half, bytes, sizeof half);
    return half;
}

/* The state behind three lanes of `lane` bytes. A lane's state, moved over the bytes behind it, is
 * multiplied by x^(8 * those bytes) modulo the polynomial: `by_two` and `by_one` are these factors
 * over x^33, bit by bit in reverse, which the carry-less product and the last instruction add. */
__attribute__((target("sse4.2,pclmul"))) static inline uint64_t
three_lanes(uint64_t state, const uint8_t *bytes, size_t lane, uint32_t by_two, uint32_t by_one)
{
    uint64_t second = 0, third = 0;
    for (size_t i = 0; i < lane; i += 8) {
        state = __builtin_ia32_crc32di(state, word_at(bytes + i));
        second = __builtin_ia32_crc32di(second, word_at(bytes + lane + i));
        third = __builtin_ia32_crc32di(third, word_at(bytes + 2 * lane + i));
    }
    __m128i moved = _mm_xor_si128(
        _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)state), _mm_cvtsi32_si128((int)by_two), 0),
        _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)second), _mm_cvtsi32_si128((int)by_one),
                             0));
    return third ^ __builtin_ia32_crc32di(0, (uint64_t)_mm_cvtsi128_si64(moved));
}

/* SSE 4.2 and PCLMUL, in every x86-64 processor since 2011: some six bytes a cycle. */
__attribute__((target("sse4.2,pclmul"))) static uint32_t
by_instruction(uint32_t crc, const uint8_t *bytes, size_t size)
{
    uint64_t state = (uint32_t)~crc;
    for (; size >= 3 * LANE; bytes += 3 * LANE, size -= 3 * LANE)
        state = three_lanes(state, bytes, LANE, 0x6b749fb2, 0xbac2fd7b);
    for (; size >= 3 * LANE_SHORT; bytes += 3 * LANE_SHORT, size -= 3 * LANE_SHORT)
        state = three_lanes(state, bytes, LANE_SHORT, 0x0d3b6092, 0x9e4addf8);
    for (; size >= 32; bytes += 32, size -= 32) {
        state = __builtin_ia32_crc32di(state, word_at(bytes));
        state = __builtin_ia32_crc32di(state, word_at(bytes + 8));
        state = __builtin_ia32_crc32di(state, word_at(bytes + 16));
        state = __builtin_ia32_crc32di(state, word_at(bytes + 24));
    }
    for (; size >= 8; bytes += 8, size -= 8)
        state = __builtin_ia32_crc32di(state, word_at(bytes));
    if (size & 4)
        state = __builtin_ia32_crc32si((uint32_t)state, half_at(bytes));
    bytes += size & 4;
    if (size & 2)
        state = __builtin_ia32_crc32hi((uint32_t)state, (uint16_t)(bytes[0] | bytes[1] << 8));
    bytes += size & 2;
    if (size & 1)
        state = __builtin_ia32_crc32qi((uint32_t)state, *bytes);
    return ~(uint32_t)state;
}

uint32_t ekv_crc32c(uint32_t crc, const void *data, size_t size)
{
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
        return by_instruction(crc, data, size);
    return ekv_crc32c_by_table(crc, data, size);
}

#else

uint32_t ekv_crc32c(uint32_t crc, const void *data, size_t size)
{
    return ekv_crc32c_by_table(crc, data, size);
}

#endif
