/* TC3-HMAC-SHA256, the signature of Tencent Cloud's API 3.0. Signed headers are content-type and host, as the vendor's own clients sign. */
#ifndef KMSENV_KMS_TC3_H
# define KMSENV_KMS_TC3_H
# include <stdint.h>
# include "core/crypto.h"
# include "kms/request.h"

/* Keys of one day, in the order in which they are derived. To be cleansed by the caller. */
typedef struct kmsenv_tc3_keys_st { unsigned char date[32], service[32], signing[32]; } KMSENV_TC3_KEYS;

/* The parts, for themselves. date: YYYY-MM-DD of the timestamp, UTC. */
int kmsenv_tc3_canonical(KMSENV_CRYPTO *crypto, const KMSENV_REQUEST *request, KMSENV_BUFFER *out, KMSENV_ERROR *err);
int kmsenv_tc3_string_to_sign(KMSENV_CRYPTO *crypto, const KMSENV_BUFFER *canonical, int64_t timestamp, const char *service,
                              KMSENV_BUFFER *out, KMSENV_ERROR *err);
int kmsenv_tc3_derive(KMSENV_CRYPTO *crypto, const char *secret_key, const char *date, const char *service,
                      KMSENV_TC3_KEYS *keys, KMSENV_ERROR *err);

/* The last signing key: it is the same for a day, and deriving it costs three quarters of a signature. For many threads. */
typedef struct kmsenv_tc3_cache_st KMSENV_TC3_CACHE;
KMSENV_TC3_CACHE *kmsenv_tc3_cache_new(void);
void kmsenv_tc3_cache_free(KMSENV_TC3_CACHE *cache);

/* Who signs. cache may be NULL. */
typedef struct kmsenv_tc3_signer_st {
    KMSENV_CRYPTO *crypto;
    KMSENV_TC3_CACHE *cache;
    const char *service, *secret_id, *secret_key;
} KMSENV_TC3_SIGNER;
/* The whole: adds the header Authorization to a request that has Host and Content-Type. */
int kmsenv_tc3_sign(const KMSENV_TC3_SIGNER *signer, KMSENV_REQUEST *request, int64_t timestamp, KMSENV_ERROR *err);

#endif
