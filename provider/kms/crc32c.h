/* CRC-32C (Castagnoli), the checksum of Google's services: finds damage on the way, not forgery. */
#ifndef KMSENV_KMS_CRC32C_H
# define KMSENV_KMS_CRC32C_H
# include <stddef.h>
# include <stdint.h>

/* Reflected, begins and ends with all ones: that of "123456789" is 0xe3069283. */
uint32_t kmsenv_crc32c(const void *data, size_t n);

#endif
