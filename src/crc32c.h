/* CRC-32C (Castagnoli), as in iSCSI (RFC 3720, appendix B.4) and SSE 4.2. */
#ifndef EKV_CRC32C_H
#define EKV_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to begin) over `size` bytes. crc32c(0, "123456789", 9) is 0xe3069283. */
uint32_t ekv_crc32c(uint32_t crc, const void *data, size_t size);

#endif
