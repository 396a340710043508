/* What the vendors' HMAC signatures have in common. */
#ifndef KMSENV_KMS_SIGN_H
# define KMSENV_KMS_SIGN_H
# include <stdint.h>
# include "core/buffer.h"
# include "core/crypto.h"

# define KMSENV_HEX_SHA256 65    /* room for 64 digits and NUL */

/* Lower-case hexadecimal digits of n bytes, and NUL, into out (2n + 1). */
void kmsenv_sign_hex(const unsigned char *in, size_t n, char *out);
/* Hexadecimal SHA-256 of a text. */
int kmsenv_sign_hash(KMSENV_CRYPTO *crypto, const void *data, size_t n, char out[KMSENV_HEX_SHA256], KMSENV_ERROR *err);
/* A UTC time by strftime() format. 0 if it does not fit or the time is beyond calendars. */
int kmsenv_sign_time(int64_t unix_time, const char *format, char *out, size_t room);
/* key = HMAC-SHA256(key, text), in place. */
int kmsenv_sign_step(KMSENV_CRYPTO *crypto, unsigned char key[32], const char *text, KMSENV_ERROR *err);

#endif
