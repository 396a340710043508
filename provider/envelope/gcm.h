/*
 * One segment through AES-GCM: nonce = 0^8 || uint32be(number), data || flag, tag. What seals and
 * opens messages, as a stream or segment by segment, comes here for it.
 */
#ifndef KMSENV_ENVELOPE_GCM_H
# define KMSENV_ENVELOPE_GCM_H
# include <stddef.h>
# include <stdint.h>
# include <openssl/evp.h>
# include "core/error.h"
# include "kmsenv/format.h"

# define KMSENV_SEGMENTS_MAX ((uint64_t)UINT32_MAX + 1)   /* of one message */

/* cipher, key: NULL = as this context had them for the segment before. */
int kmsenv_gcm_start(EVP_CIPHER_CTX *gcm, const EVP_CIPHER *cipher, const unsigned char *key,
                     uint64_t number, int sealing, KMSENV_ERROR *err);
/* Before the data; pieces may be empty. */
int kmsenv_gcm_aad(EVP_CIPHER_CTX *gcm, const void *aad, size_t n, KMSENV_ERROR *err);
/* Any number of bytes; in may be out. All data pass here: so it is inline, and EVP_Cipher() the thinnest way in. */
# define KMSENV_GCM_PIECE_MAX ((size_t)1 << 30)           /* bytes given to the inner cipher in one call */
int kmsenv_gcm_crypt_pieces(EVP_CIPHER_CTX *gcm, unsigned char *out, const unsigned char *in, size_t n, KMSENV_ERROR *err);
int kmsenv_gcm_failed(KMSENV_ERROR *err);                 /* returns 0 */
static inline int kmsenv_gcm_crypt(EVP_CIPHER_CTX *gcm, unsigned char *out, const unsigned char *in, size_t n, KMSENV_ERROR *err)
{
    if (n == 0 || n > KMSENV_GCM_PIECE_MAX)
        return kmsenv_gcm_crypt_pieces(gcm, out, in, n, err);
    return EVP_Cipher(gcm, out, in, (unsigned)n) == (int)n || kmsenv_gcm_failed(err);
}
/* Ends a segment: its flag and tag into trailer. */
int kmsenv_gcm_seal_end(EVP_CIPHER_CTX *gcm, unsigned char flag, unsigned char trailer[KMSENV_TRAILER_LEN], KMSENV_ERROR *err);
/* Verifies the segment that ends with this trailer; its flag into *flag. number: for the error. */
int kmsenv_gcm_open_end(EVP_CIPHER_CTX *gcm, const unsigned char trailer[KMSENV_TRAILER_LEN], uint64_t number,
                        unsigned char *flag, KMSENV_ERROR *err);
/* The error of a segment whose tag or flag is wrong. Returns 0. */
int kmsenv_gcm_damaged(uint64_t number, KMSENV_ERROR *err);

#endif
