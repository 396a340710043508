/* What the provider offers. */
#ifndef KMSENV_ENTRY_ALGORITHMS_H
# define KMSENV_ENTRY_ALGORITHMS_H
# include <stddef.h>
# include <openssl/core.h>
# include "ops/provctx.h"

/*
 * Everything but ciphers, MACs and the managements of their keys, which depends on nothing but OpenSSL's version. NULL if
 * there is nothing for that operation.
 */
const OSSL_ALGORITHM *kmsenv_algorithms_query(int operation_id, unsigned core_version);

/* The ciphers and MACs of a provider context. Immutable; made when one is first asked for. */
typedef struct kmsenv_tables_st KMSENV_TABLES;

/*
 * The envelope ciphers, with by_reference every cipher and MAC of the inner provider under a name of our own ("KMS-AES-256-GCM"),
 * and with ordinary_names under its own names too; and the managements of key objects for them. NULL if there is no memory.
 */
KMSENV_TABLES *kmsenv_tables_new(const KMSENV_PROVCTX *provctx);
void kmsenv_tables_free(KMSENV_TABLES *tables);
/* Of an operation, terminated; NULL if it is none of OSSL_OP_CIPHER, OSSL_OP_MAC, OSSL_OP_SKEYMGMT. */
const OSSL_ALGORITHM *kmsenv_tables_get0(const KMSENV_TABLES *tables, int operation_id);
/* NULL without by_reference. */
const KMSENV_REFERENCE_TABLE *kmsenv_tables_get0_references(const KMSENV_TABLES *tables);

#endif
