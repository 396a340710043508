/* AWS Signature Version 4, in the Authorization header. Every header of the request is signed: what need not be signed is not sent. */
#ifndef KMSENV_KMS_SIGV4_H
# define KMSENV_KMS_SIGV4_H
# include <stdint.h>
# include "core/crypto.h"
# include "kms/request.h"

/* Keys of one day, in the order in which they are derived. To be cleansed by the caller. */
typedef struct kmsenv_sigv4_keys_st { unsigned char date[32], region[32], service[32], signing[32]; } KMSENV_SIGV4_KEYS;

/* Who signs, and for where. */
typedef struct kmsenv_sigv4_signer_st {
    KMSENV_CRYPTO *crypto;
    const char *region, *service, *id, *secret;
} KMSENV_SIGV4_SIGNER;

/* The parts, for themselves. signed_headers gets the names as in SignedHeaders. date: YYYYMMDD. */
int kmsenv_sigv4_canonical(KMSENV_CRYPTO *crypto, const KMSENV_REQUEST *request, KMSENV_BUFFER *signed_headers,
                           KMSENV_BUFFER *out, KMSENV_ERROR *err);
int kmsenv_sigv4_string_to_sign(const KMSENV_SIGV4_SIGNER *signer, const KMSENV_BUFFER *canonical, int64_t timestamp,
                                KMSENV_BUFFER *out, KMSENV_ERROR *err);
int kmsenv_sigv4_derive(const KMSENV_SIGV4_SIGNER *signer, const char *date, KMSENV_SIGV4_KEYS *keys, KMSENV_ERROR *err);
/* X-Amz-Date of a time, 17 bytes. */
int kmsenv_sigv4_time(int64_t timestamp, char *out, size_t room);
/* The whole: adds Authorization to a request that is complete otherwise, with Host and X-Amz-Date of the same time. */
int kmsenv_sigv4_sign(const KMSENV_SIGV4_SIGNER *signer, KMSENV_REQUEST *request, int64_t timestamp, KMSENV_ERROR *err);

#endif
