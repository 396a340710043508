/* What the vendors' HMAC signatures have in common. */
#ifndef KMSENV_KMS_SIGN_H
# define KMSENV_KMS_SIGN_H
# include <stdint.h>
# include "core/buffer.h"
# include "core/crypto.h"
# include "kms/request.h"

# define KMSENV_HEX_SHA256 65    /* room for 64 digits and NUL */

/* Lower-case hexadecimal digits of n bytes, and NUL, into out (2n + 1). */
void kmsenv_sign_hex(const unsigned char *in, size_t n, char *out);
/* Hexadecimal SHA-256 of a text. */
int kmsenv_sign_hash(KMSENV_CRYPTO *crypto, const void *data, size_t n, char out[KMSENV_HEX_SHA256], KMSENV_ERROR *err);
/* A UTC time by strftime() format. 0 if it does not fit or the time is beyond calendars. */
int kmsenv_sign_time(int64_t unix_time, const char *format, char *out, size_t room);
/* key = HMAC-SHA256(key, text), in place. */
int kmsenv_sign_step(KMSENV_CRYPTO *crypto, unsigned char key[32], const char *text, KMSENV_ERROR *err);
/*
 * Headers in the canonical form that SigV4 and ACS3 have in common: "name:value\n" each, names in lower case and sorted. names gets
 * them joined by ';'. wanted: which headers ("Name: value") to take; NULL = all. fold: one blank where a value has several.
 */
void kmsenv_sign_headers(const KMSENV_REQUEST *request, int (*wanted)(const char *line), int fold, KMSENV_BUFFER *names,
                         KMSENV_BUFFER *out);

#endif
