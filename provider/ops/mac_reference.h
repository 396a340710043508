/*
 * The MACs of the inner provider, keyed by reference: by one in the place of the key, as an argument of init or as a
 * parameter, or (since OpenSSL 3.5) by a symmetric key object. Any other key passes through.
 *
 * The digests and ciphers that MACs are made of are those of the inner library context: there is no way to the application's.
 * What only OpenSSL's `legacy` provider has is fetched from there; what only other providers have is not to be had.
 */
#ifndef KMSENV_OPS_MAC_REFERENCE_H
# define KMSENV_OPS_MAC_REFERENCE_H
# include "ops/reference.h"

# define KMSENV_REFERENCE_MACS_MAX 32

/* The inner provider's functions for one MAC. Those it lacks are NULL. */
typedef struct kmsenv_inner_mac_st {
    void *provctx;                     /* its */
    OSSL_FUNC_mac_newctx_fn *newctx;
    OSSL_FUNC_mac_freectx_fn *freectx;
    OSSL_FUNC_mac_dupctx_fn *dupctx;
    OSSL_FUNC_mac_init_fn *init;
    OSSL_FUNC_mac_update_fn *update;
    OSSL_FUNC_mac_final_fn *final;
    OSSL_FUNC_mac_get_params_fn *get_params;
    OSSL_FUNC_mac_gettable_params_fn *gettable_params;
    OSSL_FUNC_mac_get_ctx_params_fn *get_ctx_params;
    OSSL_FUNC_mac_gettable_ctx_params_fn *gettable_ctx_params;
    OSSL_FUNC_mac_set_ctx_params_fn *set_ctx_params;
    OSSL_FUNC_mac_settable_ctx_params_fn *settable_ctx_params;
} KMSENV_INNER_MAC;

/*
 * Fills *out from an inner provider's functions, and functions[], terminated, with ours for the n-th MAC: those that the
 * inner provider has too, and init with a symmetric key object. Returns 0 if it lacks one that every MAC needs.
 */
int kmsenv_mac_reference_adapt(const OSSL_DISPATCH *inner, size_t n, KMSENV_INNER_MAC *out,
                               OSSL_DISPATCH functions[KMSENV_REFERENCE_FUNCTIONS]);

/* --- mac_params.c ---------------------------------------------------------- */

/* What there is among the parameters of a MAC that is not simply handed through. */
# define KMSENV_MAC_KEY       1        /* a key, which is no reference */
# define KMSENV_MAC_REFERENCE 2        /* a key that is one */
# define KMSENV_MAC_NAME      4        /* of a digest or cipher */
# define KMSENV_MAC_OURSELVES 8        /* a property query that mentions this provider */
int kmsenv_mac_params_look(const OSSL_PARAM params[]);

/*
 * A copy for the inner provider, to be freed with OPENSSL_free: a reference is replaced by the DEK's bytes, borrowed from
 * *dek (as kmsenv_reference_resolve), and a query for this provider by none, as whatever the inner context has is ours.
 * NULL with an error raised.
 */
OSSL_PARAM *kmsenv_mac_params_edit(KMSENV_PROVCTX *provctx, KMSENV_DEK **dek, const OSSL_PARAM params[]);

/*
 * After the inner provider failed: are the digest and the cipher among the parameters there, if need be since now? If not, an
 * error is raised that says so.
 */
int kmsenv_mac_params_complete(KMSENV_PROVCTX *provctx, const OSSL_PARAM params[]);

#endif
