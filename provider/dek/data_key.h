/*
 * DataKey, the ASN.1 structure that names a DEK and carries its wraps (design: message format;
 * also the content of a keyring PEM).
 *
 *   DataKey ::= SEQUENCE {
 *     id      OCTET STRING (SIZE(24)),
 *     length  INTEGER,                       -- 16 | 24 | 32 | 64
 *     wraps   SEQUENCE OF Wrap }
 *   Wrap ::= SEQUENCE {
 *     kms         UTF8String,
 *     keyId       UTF8String,
 *     ciphertext  OCTET STRING,
 *     context     [0] EXPLICIT SEQUENCE OF SEQUENCE { name UTF8String, value UTF8String } OPTIONAL,
 *     extra       [1] EXPLICIT OCTET STRING OPTIONAL }
 *
 * Only one encoding of a value is accepted: DER, context pairs sorted by name without repeats,
 * an empty context or extra left out, texts in UTF-8 without control characters.
 */
#ifndef KMSENV_DEK_DATA_KEY_H
# define KMSENV_DEK_DATA_KEY_H
# include "core/error.h"
# include "kms/kms.h"
# include "kmsenv/format.h"

typedef struct kmsenv_wrap_st {
    char *kms;
    KMSENV_BLOB blob;          /* key_id, ciphertext, extra */
    KMSENV_CONTEXT context;
} KMSENV_WRAP;

typedef struct kmsenv_data_key_st {
    unsigned char id[KMSENV_DEK_ID_LEN];
    size_t length;             /* bytes of the DEK */
    size_t wraps;
    KMSENV_WRAP wrap[KMSENV_WRAPS_MAX];
} KMSENV_DATA_KEY;

/* An empty one; freed with everything in it. */
KMSENV_DATA_KEY *kmsenv_data_key_new(void);
void kmsenv_data_key_free(KMSENV_DATA_KEY *key);
/* Strict parse of exactly len bytes. NULL with MESSAGE_MALFORMED saying what is wrong. */
KMSENV_DATA_KEY *kmsenv_data_key_parse(const unsigned char *der, size_t len, KMSENV_ERROR *err);
/* DER of key into *out (OPENSSL_free) and *outlen. detached: without the wraps. */
int kmsenv_data_key_encode(const KMSENV_DATA_KEY *key, int detached, unsigned char **out, size_t *outlen, KMSENV_ERROR *err);
/* One wrap by itself, as DER: strict parse into *wrap (zeroed before; to be reset in any case), and encoding. */
int kmsenv_wrap_parse(KMSENV_WRAP *wrap, const unsigned char *der, size_t len, KMSENV_ERROR *err);
int kmsenv_wrap_encode(const KMSENV_WRAP *wrap, unsigned char **out, size_t *outlen, KMSENV_ERROR *err);
void kmsenv_wrap_reset(KMSENV_WRAP *wrap);
int kmsenv_dek_length_is_valid(size_t length);
/* Lower-case hex of an id, terminated: out has 2 * KMSENV_DEK_ID_LEN + 1 bytes. */
void kmsenv_dek_id_hex(const unsigned char id[KMSENV_DEK_ID_LEN], char *out);
/* The other way; 48 digits of either case and nothing else. */
int kmsenv_dek_id_from_hex(const char *hex, unsigned char id[KMSENV_DEK_ID_LEN]);
/* Text of a message for an error: cut to 60 bytes, anything not printable replaced. Static per call site: out has 64 bytes. */
const char *kmsenv_shown(const char *text, char out[64]);

#endif
