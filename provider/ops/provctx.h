/*
 * What an operation needs of the provider it belongs to. Made by entry, borrowed by ops.
 *
 * Configuration is read at the first use, not at init: a mistake in it fails the operation
 * that needs it, with one clear error, and leaves the process and its other providers alone.
 */
#ifndef KMSENV_OPS_PROVCTX_H
# define KMSENV_OPS_PROVCTX_H
# include <openssl/core_dispatch.h>
# include "core/counters.h"
# include "core/crypto.h"
# include "core/error.h"
# include "dek/deks.h"

typedef struct kmsenv_provctx_st KMSENV_PROVCTX;
typedef struct kmsenv_reference_table_st KMSENV_REFERENCE_TABLE;   /* ops/reference_table.h */

/* What the configuration made. Immutable. */
typedef struct kmsenv_runtime_st {
    KMSENV_DEKS *deks;               /* NULL if error.reason is set */
    unsigned segment_bits;
    KMSENV_ERROR error;
} KMSENV_RUNTIME;

/* The core's functions for the BIOs that it hands to decoders and encoders. */
typedef struct kmsenv_core_bio_st {
    OSSL_FUNC_BIO_read_ex_fn *read_ex;
    OSSL_FUNC_BIO_write_ex_fn *write_ex;
    OSSL_FUNC_BIO_gets_fn *read_line;
} KMSENV_CORE_BIO;

struct kmsenv_provctx_st {
    KMSENV_REPORTER *reporter;
    KMSENV_CRYPTO *crypto;
    KMSENV_COUNTERS counters;
    unsigned core_version;              /* compat/core_version.h */
    size_t block_size;
    int ordinary_names;                 /* setting key-references, as far as it can be known at init */
    int by_reference;                   /* are ciphers and MACs by reference offered at all? */
    KMSENV_CORE_BIO bio;
    const KMSENV_REFERENCE_TABLE *_Atomic references;   /* set before a cipher of it can be fetched */
    /* The runtime, made on the first call. NULL with err filled if the configuration is wrong. */
    const KMSENV_RUNTIME *(*runtime)(KMSENV_PROVCTX *provctx, KMSENV_ERROR *err);
};

#endif
