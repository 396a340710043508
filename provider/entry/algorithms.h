/* What the provider offers. */
#ifndef KMSENV_ENTRY_ALGORITHMS_H
# define KMSENV_ENTRY_ALGORITHMS_H
# include <stddef.h>
# include <openssl/core.h>
# include "ops/provctx.h"

/* Everything but ciphers, which depends on nothing. NULL if there is nothing for that operation. */
const OSSL_ALGORITHM *kmsenv_algorithms_query(int operation_id);

/* The ciphers of a provider context. Immutable; made when they are first asked for. */
typedef struct kmsenv_ciphers_st KMSENV_CIPHERS;

/*
 * The envelope ciphers, every cipher of the inner provider by reference under a name of our own ("KMS-AES-256-GCM"), and
 * with ordinary_names under its own names too. NULL if there is no memory.
 */
KMSENV_CIPHERS *kmsenv_ciphers_new(KMSENV_CRYPTO *crypto, size_t block_size, int ordinary_names);
void kmsenv_ciphers_free(KMSENV_CIPHERS *ciphers);
/* Terminated. */
const OSSL_ALGORITHM *kmsenv_ciphers_get0_table(const KMSENV_CIPHERS *ciphers);
const KMSENV_REFERENCE_TABLE *kmsenv_ciphers_get0_references(const KMSENV_CIPHERS *ciphers);

#endif
