/* Base64, strict, without copies outside secret memory: the standard one with padding, and that of URLs and JWTs. */
#ifndef KMSENV_KMS_BASE64_H
# define KMSENV_KMS_BASE64_H
# include "core/buffer.h"

/* Appends the base64 text of n bytes. 0 if the buffer refuses. */
int kmsenv_base64_add(KMSENV_BUFFER *b, const void *data, size_t n);
/* Likewise with '-' and '_', and without padding (RFC 4648, 5). */
int kmsenv_base64url_add(KMSENV_BUFFER *b, const void *data, size_t n);
/*
 * Decodes n characters. *outlen: room on entry, length on return. Refuses (0, out cleansed)
 * everything that is not the one canonical text of some bytes: blanks, line breaks, missing
 * padding, bits set beyond the end.
 */
int kmsenv_base64_decode(const char *text, size_t n, unsigned char *out, size_t *outlen);
/* Likewise what kmsenv_base64url_add() writes. */
int kmsenv_base64url_decode(const char *text, size_t n, unsigned char *out, size_t *outlen);

#endif
