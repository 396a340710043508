/*
 * What an operation needs of the provider it belongs to. Made by entry, borrowed by ops.
 *
 * Configuration is read at the first use, not at init: a mistake in it fails the operation
 * that needs it, with one clear error, and leaves the process and its other providers alone.
 */
#ifndef KMSENV_OPS_PROVCTX_H
# define KMSENV_OPS_PROVCTX_H
# include "core/counters.h"
# include "core/crypto.h"
# include "core/error.h"
# include "dek/deks.h"

typedef struct kmsenv_provctx_st KMSENV_PROVCTX;

/* What the configuration made. Immutable. */
typedef struct kmsenv_runtime_st {
    KMSENV_DEKS *deks;               /* NULL if error.reason is set */
    unsigned segment_bits;
    KMSENV_ERROR error;
} KMSENV_RUNTIME;

struct kmsenv_provctx_st {
    KMSENV_REPORTER *reporter;
    KMSENV_CRYPTO *crypto;
    KMSENV_COUNTERS counters;
    size_t block_size;
    /* The runtime, made on the first call. NULL with err filled if the configuration is wrong. */
    const KMSENV_RUNTIME *(*runtime)(KMSENV_PROVCTX *provctx, KMSENV_ERROR *err);
};

#endif
