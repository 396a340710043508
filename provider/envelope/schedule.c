#include <string.h>
#include <openssl/crypto.h>
#include "envelope/schedule.h"

#define LABEL_LEN (sizeof(KMSENV_MESSAGE_LABEL) - 1)
#define INFO_LEN  (LABEL_LEN + KMSENV_CIPHER_OID_LEN + 1 + KMSENV_SALT_LEN)

/* T(n) = HMAC(PRK, T(n-1) || info || n): `in` is all of that. */
static int expand_step(EVP_MAC_CTX *prk, const unsigned char *in, size_t n, unsigned char out[32])
{
    size_t len = 0;

    return EVP_MAC_init(prk, NULL, 0, NULL) && EVP_MAC_update(prk, in, n)
        && EVP_MAC_final(prk, out, &len, 32) && len == 32;
}

int kmsenv_schedule_derive(EVP_MAC_CTX *prk, const KMSENV_HEADER *header, unsigned char cek[32],
                           unsigned char commitment[KMSENV_COMMITMENT_LEN], KMSENV_ERROR *err)
{
    unsigned char in[32 + INFO_LEN + 1], *info = in + 32;
    int ok;

    memcpy(info, KMSENV_MESSAGE_LABEL, LABEL_LEN);
    memcpy(info + LABEL_LEN, header->cipher_oid, KMSENV_CIPHER_OID_LEN);
    info[LABEL_LEN + KMSENV_CIPHER_OID_LEN] = (unsigned char)header->segment_bits;
    memcpy(info + LABEL_LEN + KMSENV_CIPHER_OID_LEN + 1, header->salt, KMSENV_SALT_LEN);
    info[INFO_LEN] = 1;
    ok = expand_step(prk, info, INFO_LEN + 1, cek);
    if (ok) {
        memcpy(in, cek, 32);
        info[INFO_LEN] = 2;
        ok = expand_step(prk, in, sizeof(in), commitment);
    }
    OPENSSL_cleanse(in, 32);
    return ok || kmsenv_error_set(err, KMSENV_R_CRYPTO_FAILED, "deriving the key of a message failed");
}
