/*
 * The public half of a master key out of a SubjectPublicKeyInfo, as certificates have it. libcrypto offers it every public key
 * whose type is not known beforehand; what is not ours is passed by after a look at its first bytes. No KMS is asked, and no
 * configuration read: a certificate can be looked at where the key cannot be used.
 */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include "ops/core_bio.h"
#include "ops/key.h"

#define DER_MAX 4096

static OSSL_FUNC_decoder_newctx_fn decoder_newctx;
static void *decoder_newctx(void *provctx)
{
    return provctx;
}

static OSSL_FUNC_decoder_freectx_fn decoder_freectx;
static void decoder_freectx(void *ctx)
{
    (void)ctx;
}

/* Not if a private key is wanted: it is not in there. 0: whatever there is. */
static OSSL_FUNC_decoder_does_selection_fn decoder_does_selection;
static int decoder_does_selection(void *provctx, int selection)
{
    (void)provctx;
    return selection == 0 || (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == OSSL_KEYMGMT_SELECT_PUBLIC_KEY;
}

static OSSL_FUNC_decoder_decode_fn decode_public_key;
static int decode_public_key(void *ctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, void *cbarg,
                             OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
    KMSENV_PROVCTX *provctx = ctx;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_MASTER_KEY *key = NULL;
    KMSENV_BUFFER der;
    int ok = 1;      /* not ours is no failure */

    (void)pw_cb;
    (void)pw_cbarg;
    if (!decoder_does_selection(ctx, selection))
        return 1;
    kmsenv_buffer_init(&der, DER_MAX, 0);
    if (kmsenv_core_bio_read(provctx, in, kmsenv_key_name_is, &der)) {
        if (der.failed)
            kmsenv_error_set(&err, KMSENV_R_INPUT_TOO_LARGE, "public key of a master key: more than %d bytes, or no memory", DER_MAX);
        else
            key = kmsenv_master_key_new_public(provctx, der.data, der.length, &err);
        ok = key != NULL ? kmsenv_master_key_emit(key, cb, cbarg) : kmsenv_reporter_raise(provctx->reporter, &err);
    }
    kmsenv_buffer_reset(&der);
    return ok;
}

const OSSL_DISPATCH kmsenv_decoder_master_key_functions[] = {
    { OSSL_FUNC_DECODER_NEWCTX, (void (*)(void))decoder_newctx },
    { OSSL_FUNC_DECODER_FREECTX, (void (*)(void))decoder_freectx },
    { OSSL_FUNC_DECODER_DOES_SELECTION, (void (*)(void))decoder_does_selection },
    { OSSL_FUNC_DECODER_DECODE, (void (*)(void))decode_public_key },
    { 0, NULL }
};
