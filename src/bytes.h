/* Little-endian integers and varints in byte buffers, and the small arithmetic that goes with them.
 */
#ifndef EKV_BYTES_H
#define EKV_BYTES_H

#include <stdint.h>

static inline uint32_t ekv_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t ekv_max(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* `alignment` is a power of two. */
static inline uint32_t ekv_align(uint32_t value, uint32_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

/* Integers of `size` bytes, 1 to 8. */
static inline void ekv_store(uint8_t *bytes, uint64_t value, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t ekv_load(const uint8_t *bytes, uint32_t size)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < size; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

/* The usual size, in a form that compilers make one access of. */
static inline uint32_t ekv_load32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static inline void ekv_store32(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
    bytes[2] = (uint8_t)(value >> 16);
    bytes[3] = (uint8_t)(value >> 24);
}

/* Varints: seven bits a byte, lowest first, at most five bytes for 32 bits (as in Protocol
 * Buffers). */
enum { EKV_VARINT_MAX = 5 };

static inline uint32_t ekv_varint_size(uint32_t value)
{
    uint32_t size = 1;
    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}

static inline uint32_t ekv_varint_store(uint8_t *bytes, uint32_t value)
{
    uint32_t size = 0;
    while (value >= 0x80) {
        bytes[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[size++] = (uint8_t)value;
    return size;
}

/* Returns the bytes consumed, or 0 if they hold no shortest-form 32-bit varint. */
static inline uint32_t ekv_varint_load(const uint8_t *bytes, uint32_t size, uint32_t *value)
{
    uint64_t sum = 0;
    if (size > 0 && bytes[0] < 0x80) { /* most are */
        *value = bytes[0];
        return 1;
    }
    for (uint32_t i = 0; i < size && i < EKV_VARINT_MAX; i++) {
        sum |= (uint64_t)(bytes[i] & 0x7f) << (7 * i);
        if (bytes[i] & 0x80)
            continue;
        if (sum > UINT32_MAX || (bytes[i] == 0 && i > 0))
            return 0;
        *value = (uint32_t)sum;
        return i + 1;
    }
    return 0;
}

#endif
