#include <string.h>
#include <openssl/crypto.h>
#include "envelope/schedule.h"

#define LABEL_LEN (sizeof(KMSENV_MESSAGE_LABEL) - 1)
#define INFO_LEN  (LABEL_LEN + KMSENV_CIPHER_OID_LEN + 1 + KMSENV_SALT_LEN)

int kmsenv_schedule_derive(const KMSENV_HMAC *prk, EVP_MD_CTX *scratch, const KMSENV_HEADER *header, unsigned char cek[32],
                           unsigned char commitment[KMSENV_COMMITMENT_LEN], KMSENV_ERROR *err)
{
    /* T(n) = HMAC(PRK, T(n-1) || info || n); T(1) is the CEK, T(2) the commitment */
    unsigned char in[32 + INFO_LEN + 1], *info = in + 32;
    int ok;

    memcpy(info, KMSENV_MESSAGE_LABEL, LABEL_LEN);
    memcpy(info + LABEL_LEN, header->cipher_oid, KMSENV_CIPHER_OID_LEN);
    info[LABEL_LEN + KMSENV_CIPHER_OID_LEN] = (unsigned char)header->segment_bits;
    memcpy(info + LABEL_LEN + KMSENV_CIPHER_OID_LEN + 1, header->salt, KMSENV_SALT_LEN);
    info[INFO_LEN] = 1;
    ok = kmsenv_hmac(prk, scratch, info, INFO_LEN + 1, cek, err);
    if (ok) {
        memcpy(in, cek, 32);
        info[INFO_LEN] = 2;
        ok = kmsenv_hmac(prk, scratch, in, sizeof(in), commitment, err);
    }
    OPENSSL_cleanse(in, 32);
    return ok;
}
