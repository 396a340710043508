/*
 * From a DEK to the key of one message (design: key schedule), HKDF-Expand of RFC 5869:
 *
 *   OKM = Expand(PRK, "kmsenv message v1" || DER(cipher) || uint8(segmentBits) || salt, 64)
 *   CEK = OKM[0..keylen), commitment = OKM[32..64)
 */
#ifndef KMSENV_ENVELOPE_SCHEDULE_H
# define KMSENV_ENVELOPE_SCHEDULE_H
# include "core/crypto.h"
# include "envelope/header.h"

# define KMSENV_SCHEDULE_WORK 128   /* bytes of work area */

/*
 * scratch as for kmsenv_hmac(). work: KMSENV_SCHEDULE_WORK bytes of secret memory, so that the CEK
 * is nowhere else; its first 32 bytes are T(1) afterwards, of which header->keylen are the CEK.
 */
int kmsenv_schedule_derive(const KMSENV_HMAC *prk, EVP_MD_CTX *scratch, const KMSENV_HEADER *header,
                           unsigned char *work, unsigned char commitment[KMSENV_COMMITMENT_LEN], KMSENV_ERROR *err);

#endif
