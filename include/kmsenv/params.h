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

/* Key types for EVP_PKEY: a wrapped data key, and a master key of a KMS (which the store makes, from kms: URIs). */
# define KMSENV_KEYMGMT_DATA_KEY       "kms-envelope"
# define KMSENV_KEYMGMT_MASTER_KEY     "kms-master-key"

/* Settable when a data key is generated (EVP_PKEY_CTX, -pkeyopt). */
# define KMSENV_PKEY_PARAM_BITS        "bits"                  /* unsigned: 128, 192, 256 (default) or 512 */
# define KMSENV_PKEY_PARAM_PROFILE     "profile"               /* UTF-8: as kmsenv.profile */
# define KMSENV_PKEY_PARAM_CONTEXT     "context"               /* UTF-8: as kmsenv.context; also for operations with a master key */
# define KMSENV_PKEY_PARAM_KEYRING     "keyring"               /* UTF-8: "yes" writes the new key into the keyring, too */

/* Gettable from a key; the first is also what EVP_PKEY_fromdata() takes. */
# define KMSENV_PKEY_PARAM_DATA_KEY    "kmsenv.data-key"       /* octets: DER DataKey */
# define KMSENV_PKEY_PARAM_ID          "kmsenv.data-key-id"    /* octets: 24 bytes */
# define KMSENV_PKEY_PARAM_REFERENCE   "kmsenv.reference"      /* octets: 32 bytes, what a program uses as its key */
# define KMSENV_PKEY_PARAM_KMS         "kmsenv.kms"            /* UTF-8: kind of KMS of a master key */
# define KMSENV_PKEY_PARAM_KEY_ID      "kmsenv.key-id"         /* UTF-8: its id there */

/*
 * Symmetric key objects (EVP_SKEY, since OpenSSL 3.5) are of the types kms-envelope, kms-envelope-192, kms-envelope-128, and of one
 * for each KMS- cipher, which has its name. All are the same: a wrapped data key. They are generated with the parameters above, but
 * kept in the keyring unless "keyring" says no. One of these is what EVP_SKEY_import() takes; the second is what EVP_SKEY_export()
 * gives. A reference is a key reference or an id in hexadecimal, or kms-key:ID; or the octets of a key reference.
 */
# define KMSENV_SKEY_PARAM_REFERENCE   "reference"             /* UTF-8, or octets */
# define KMSENV_SKEY_PARAM_DATA_KEY    "kmsenv.data-key"       /* octets: DER DataKey */
# define KMSENV_SKEY_PARAM_FILE        "file"                  /* UTF-8: path of a PEM file with a data key */

/* Settable for a key encapsulation with a master key. */
# define KMSENV_KEM_PARAM_SECRET_LEN   "secret-length"         /* unsigned: bytes of the secret: 16, 24, 32 (default) or 64 */

/* Gettable from the provider: the setting `keyring` as it is in force; empty if there is none. */
# define KMSENV_PROV_PARAM_KEYRING     "kmsenv.keyring"        /* UTF-8 pointer */

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
