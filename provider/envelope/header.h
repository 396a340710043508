/*
 * The header of a message.
 *
 *   MessageHeader ::= SEQUENCE {
 *     format      UTF8String ("kms-envelope"),
 *     version     INTEGER (1),
 *     dataKey     DataKey,                      -- dek/data_key.h
 *     parameters  MessageParameters }
 *   MessageParameters ::= SEQUENCE {            -- authenticated: AAD of segment 0
 *     cipher      OBJECT IDENTIFIER,            -- id-aes128-GCM, id-aes192-GCM, id-aes256-GCM
 *     salt        OCTET STRING (SIZE(32)),
 *     segmentBits INTEGER (12..35),
 *     commitment  OCTET STRING (SIZE(32)) }
 *
 * All of it but the DataKey has one size and one encoding, so it is written from, and compared
 * with, a fixed pattern; that is also what makes the reader strict.
 */
#ifndef KMSENV_ENVELOPE_HEADER_H
# define KMSENV_ENVELOPE_HEADER_H
# include <stddef.h>
# include "core/error.h"
# include "kmsenv/format.h"

# define KMSENV_PARAMETERS_LEN   84    /* bytes of a DER MessageParameters */
# define KMSENV_CIPHER_OID_LEN   11    /* bytes of its cipher, tag and length included */

typedef struct kmsenv_header_st {
    size_t keylen;                     /* bytes of the AES key: 16, 24, 32 */
    unsigned segment_bits;
    const unsigned char *data_key;     /* DER DataKey */
    size_t data_key_len;
    const unsigned char *parameters;   /* DER MessageParameters, KMSENV_PARAMETERS_LEN bytes */
    const unsigned char *cipher_oid;   /* DER, KMSENV_CIPHER_OID_LEN bytes */
    const unsigned char *salt;         /* KMSENV_SALT_LEN bytes */
    const unsigned char *commitment;   /* KMSENV_COMMITMENT_LEN bytes */
} KMSENV_HEADER;                       /* pointers into the bytes that were parsed */

/*
 * How long is the header that starts with these bytes? 1 with *total, 0 if more bytes are
 * needed to tell (never with 4 or more), -1 with err if this cannot be a header.
 */
int kmsenv_header_length(const unsigned char *p, size_t n, size_t *total, KMSENV_ERROR *err);
/* Parses exactly len bytes. The DataKey inside is only delimited, not parsed. */
int kmsenv_header_parse(const unsigned char *p, size_t len, KMSENV_HEADER *out, KMSENV_ERROR *err);

/* DER of the MessageParameters with a zero commitment into out, KMSENV_PARAMETERS_LEN bytes; 0 if keylen or bits are out of range. */
int kmsenv_parameters_build(unsigned char *out, size_t keylen, unsigned segment_bits, const unsigned char salt[KMSENV_SALT_LEN]);
/* Where cipher, salt and commitment are in a MessageParameters. */
void kmsenv_parameters_locate(const unsigned char *parameters, KMSENV_HEADER *out);
/* Bytes of the header around a DataKey of that length, DataKey and parameters included. */
size_t kmsenv_header_size(size_t data_key_len);
/* Writes what comes before the DataKey; returns its length (at most 32 bytes). */
size_t kmsenv_header_build_start(unsigned char *out, size_t data_key_len);

#endif
