#include "kms/crc32c.h"

#define POLYNOMIAL 0x82f63b78u   /* 0x1edc6f41, its bits reversed */

/*
 * Bit by bit: the data is a data key as a rule, and a look-up table would show in the cache which
 * of its lines were touched. A few KiB at most, once per call to a service in the network.
 */
uint32_t kmsenv_crc32c(const void *data, size_t n)
{
    const unsigned char *p = data;
    uint32_t crc = 0xffffffffu;
    int bit;

    for (; n > 0; n--) {
        crc ^= *p++;
        for (bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (POLYNOMIAL & (0u - (crc & 1u)));
    }
    return ~crc;
}
