/*
 * The ciphers of the inner provider, keyed by reference: the same algorithms under the same rules,
 * except that a key that is a key reference (dek/deks.h) stands for the data key it names. Any
 * other key passes through.
 *
 * A caller's context holds one of the inner provider's, whose own functions do all the work: what
 * it offers (parameters, TLS modes, one-shot calls) is offered here, whatever the version of
 * OpenSSL, and a call costs one more jump.
 */
#ifndef KMSENV_OPS_CIPHER_REFERENCE_H
# define KMSENV_OPS_CIPHER_REFERENCE_H
# include <stddef.h>
# include "ops/reference.h"

# define KMSENV_REFERENCE_CIPHERS_MAX 192
# define KMSENV_REFERENCE_KEY_MIN     16      /* bytes; no shorter key can hold a reference */

/* The inner provider's functions for one cipher. Those it lacks are NULL. */
typedef struct kmsenv_inner_cipher_st {
    size_t key_length;                 /* bytes; where that can be changed, what it is at first */
    void *provctx;                     /* its */
    OSSL_FUNC_cipher_newctx_fn *newctx;
    OSSL_FUNC_cipher_freectx_fn *freectx;
    OSSL_FUNC_cipher_dupctx_fn *dupctx;
    OSSL_FUNC_cipher_encrypt_init_fn *encrypt_init;
    OSSL_FUNC_cipher_decrypt_init_fn *decrypt_init;
    OSSL_FUNC_cipher_update_fn *update;
    OSSL_FUNC_cipher_final_fn *final;
    OSSL_FUNC_cipher_cipher_fn *cipher;
    OSSL_FUNC_cipher_get_params_fn *get_params;
    OSSL_FUNC_cipher_gettable_params_fn *gettable_params;
    OSSL_FUNC_cipher_get_ctx_params_fn *get_ctx_params;
    OSSL_FUNC_cipher_gettable_ctx_params_fn *gettable_ctx_params;
    OSSL_FUNC_cipher_set_ctx_params_fn *set_ctx_params;
    OSSL_FUNC_cipher_settable_ctx_params_fn *settable_ctx_params;
} KMSENV_INNER_CIPHER;

/*
 * Fills *out from an inner provider's functions, and functions[], terminated, with ours for the n-th cipher: those that
 * the inner provider has too, and initialisation with a key object. Returns 0 if it lacks one that every cipher needs, or its
 * keys cannot hold a reference.
 */
int kmsenv_cipher_reference_adapt(const OSSL_DISPATCH *inner, size_t n, KMSENV_INNER_CIPHER *out,
                                  OSSL_DISPATCH functions[KMSENV_REFERENCE_FUNCTIONS]);

#endif
