#include <string.h>
#include "envelope/schedule.h"

#define LABEL_LEN (sizeof(KMSENV_MESSAGE_LABEL) - 1)
#define INFO_LEN  (LABEL_LEN + KMSENV_CIPHER_OID_LEN + 1 + KMSENV_SALT_LEN)

_Static_assert(32 + INFO_LEN + 1 <= KMSENV_SCHEDULE_WORK, "T(1), info and a counter fit the work area");

int kmsenv_schedule_derive(const KMSENV_HMAC *prk, EVP_MD_CTX *scratch, const KMSENV_HEADER *header,
                           unsigned char *work, unsigned char commitment[KMSENV_COMMITMENT_LEN], KMSENV_ERROR *err)
{
    /* T(n) = HMAC(PRK, T(n-1) || info || n); T(1) is the CEK, T(2) the commitment */
    unsigned char *info = work + 32;

    memcpy(info, KMSENV_MESSAGE_LABEL, LABEL_LEN);
    memcpy(info + LABEL_LEN, header->cipher_oid, KMSENV_CIPHER_OID_LEN);
    info[LABEL_LEN + KMSENV_CIPHER_OID_LEN] = (unsigned char)header->segment_bits;
    memcpy(info + LABEL_LEN + KMSENV_CIPHER_OID_LEN + 1, header->salt, KMSENV_SALT_LEN);
    info[INFO_LEN] = 1;
    if (!kmsenv_hmac(prk, scratch, info, INFO_LEN + 1, work, err))
        return 0;
    info[INFO_LEN] = 2;
    return kmsenv_hmac(prk, scratch, work, 32 + INFO_LEN + 1, commitment, err);
}
