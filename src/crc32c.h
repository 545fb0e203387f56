/* CRC-32C (Castagnoli), as in iSCSI (RFC 3720, appendix B.4) and SSE 4.2. */
#ifndef EKV_CRC32C_H
#define EKV_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to begin) over `size` bytes. crc32c(0, "123456789", 9) is 0xe3069283. */
uint32_t ekv_crc32c(uint32_t crc, const void *data, size_t size);

/* True if flipping one bit of `size` bytes, or of their checksum behind them, would make that fit.
 * `wrong` is the exclusive or of the checksum there and the one that the bytes give; `byte` is
 * where that bit is, `mask` which one. There is at most one such bit in up to 2^28 bytes. */
bool ekv_crc32c_flipped(uint32_t wrong, size_t size, size_t *byte, uint8_t *mask);

#endif
