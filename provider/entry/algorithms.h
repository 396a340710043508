/* What the provider offers. */
#ifndef KMSENV_ENTRY_ALGORITHMS_H
# define KMSENV_ENTRY_ALGORITHMS_H
# include <stddef.h>
# include <openssl/core.h>

# define KMSENV_CIPHERS_MAX 4

/* Fills a table of ciphers for that block size, terminated; `out` has room for KMSENV_CIPHERS_MAX entries. */
void kmsenv_ciphers_fill(OSSL_ALGORITHM *out, size_t block_size);

#endif
