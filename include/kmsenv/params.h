/*
 * Names of the kmsenv provider's parameters (OSSL_PARAM keys) and algorithms.
 */
#ifndef KMSENV_PARAMS_H
# define KMSENV_PARAMS_H

/* Cipher names for EVP_CIPHER_fetch(). The number is the AES key size of the message body. */
# define KMSENV_CIPHER_ENVELOPE       "kms-envelope"        /* AES-256-GCM */
# define KMSENV_CIPHER_ENVELOPE_192   "kms-envelope-192"
# define KMSENV_CIPHER_ENVELOPE_128   "kms-envelope-128"

/* Settable on a kms-envelope context, after init and before the first data byte. */
# define KMSENV_CIPHER_PARAM_PROFILE      "kmsenv.profile"       /* UTF-8: profile name(s), comma separated; first generates */
# define KMSENV_CIPHER_PARAM_CONTEXT      "kmsenv.context"       /* UTF-8: encryption context, "name=value,name=value" */
# define KMSENV_CIPHER_PARAM_SEGMENT_BITS "kmsenv.segment-bits"  /* unsigned: log2 of the segment size, 12..35 */
# define KMSENV_CIPHER_PARAM_DATA_KEY     "kmsenv.data-key"      /* octets: DER DataKey, or a key reference */
# define KMSENV_CIPHER_PARAM_WRAPS        "kmsenv.wraps"         /* UTF-8: "inline" or "detached" */

/* Gettable from a kms-envelope context once the header is known. */
# define KMSENV_CIPHER_PARAM_HEADER       "kmsenv.header"        /* octets: DER MessageHeader */
# define KMSENV_CIPHER_PARAM_DATA_KEY_ID  "kmsenv.data-key-id"   /* octets: 24 bytes */

/* Counters of the provider, OSSL_PROVIDER_get_params(), unsigned 64 bit. */
# define KMSENV_COUNTERS(X) \
    X(KMS_CALLS,        "kmsenv.kms-calls",        "operations asked of a KMS, whatever their outcome") \
    X(KMS_FAILURES,     "kmsenv.kms-failures",     "operations asked of a KMS that failed") \
    X(KMS_ATTEMPTS,     "kmsenv.kms-attempts",     "requests sent, retries included") \
    X(CACHE_HITS,       "kmsenv.cache-hits",       "data keys taken from the cache") \
    X(CACHE_MISSES,     "kmsenv.cache-misses",     "data keys that had to be asked for") \
    X(CACHE_ENTRIES,    "kmsenv.cache-entries",    "data keys in the cache now") \
    X(GRACE_USES,       "kmsenv.grace-uses",       "uses of an over-age data key because the KMS was unreachable") \
    X(REFUSALS_CACHED,  "kmsenv.refusals-cached",  "calls answered from a remembered refusal") \
    X(BREAKER_OPEN,     "kmsenv.breaker-open",     "calls not made because the circuit breaker was open") \
    X(MESSAGES_SEALED,  "kmsenv.messages-sealed",  "messages encrypted to their end") \
    X(MESSAGES_OPENED,  "kmsenv.messages-opened",  "messages decrypted and verified to their end") \
    X(BYTES_SEALED,     "kmsenv.bytes-sealed",     "plaintext bytes encrypted") \
    X(BYTES_OPENED,     "kmsenv.bytes-opened",     "plaintext bytes decrypted") \
    X(UNLOCKED_BYTES,   "kmsenv.unlocked-bytes",   "bytes of secret memory that could not be locked (RLIMIT_MEMLOCK)")

#endif
