/* The cipher `kms-envelope`: dispatch tables by AES key size in bits and by block size in bytes. */
#ifndef KMSENV_OPS_CIPHER_ENVELOPE_H
# define KMSENV_OPS_CIPHER_ENVELOPE_H
# include <stddef.h>
# include <openssl/core.h>

# define KMSENV_BLOCK_SIZES    "512|1024|2048|4096|8192"
# define KMSENV_BLOCK_SIZE_MIN 512
# define KMSENV_BLOCK_SIZE_MAX 8192

/* NULL if there is no such table. */
const OSSL_DISPATCH *kmsenv_cipher_envelope_functions(size_t key_bits, size_t block_size);

#endif
