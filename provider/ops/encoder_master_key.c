/* The public half of a master key as PEM, DER and text. There is nothing to write of the private half, and an encoder to say so. */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include "ops/encoder.h"
#include "ops/key.h"

#define TEXT_MAX 8192

/* Who asks for a private key does not want the public one instead. */
static OSSL_FUNC_encoder_does_selection_fn public_does_selection;
static int public_does_selection(void *provctx, int selection)
{
    (void)provctx;
    return selection == 0 || (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == OSSL_KEYMGMT_SELECT_PUBLIC_KEY;
}

static int encode(const KMSENV_PROVCTX *provctx, const KMSENV_MASTER_KEY *key, unsigned char **der, size_t *len)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    return key != NULL && key->name.kms != NULL
           && (kmsenv_key_name_encode(&key->name, der, len, &err) || kmsenv_reporter_raise(provctx->reporter, &err));
}

static OSSL_FUNC_encoder_encode_fn encode_der;
static int encode_der(void *ctx, OSSL_CORE_BIO *out, const void *obj, const OSSL_PARAM abstract[], int selection,
                      OSSL_PASSPHRASE_CALLBACK *cb, void *cbarg)
{
    unsigned char *der = NULL;
    size_t len;
    int ok;

    (void)abstract;
    (void)cb;
    (void)cbarg;
    ok = public_does_selection(ctx, selection) && encode(ctx, obj, &der, &len) && kmsenv_core_bio_write(ctx, out, der, len);
    OPENSSL_free(der);
    return ok;
}

static OSSL_FUNC_encoder_encode_fn encode_pem;
static int encode_pem(void *ctx, OSSL_CORE_BIO *out, const void *obj, const OSSL_PARAM abstract[], int selection,
                      OSSL_PASSPHRASE_CALLBACK *cb, void *cbarg)
{
    unsigned char *der = NULL;
    size_t len;
    int ok;

    (void)abstract;
    (void)cb;
    (void)cbarg;
    ok = public_does_selection(ctx, selection) && encode(ctx, obj, &der, &len)
         && kmsenv_encoder_write_pem(ctx, out, PEM_STRING_PUBLIC, der, len);
    OPENSSL_free(der);
    return ok;
}

/* Texts were checked when the name was set: UTF-8 without control characters. */
static OSSL_FUNC_encoder_encode_fn encode_text;
static int encode_text(void *ctx, OSSL_CORE_BIO *out, const void *obj, const OSSL_PARAM abstract[], int selection,
                       OSSL_PASSPHRASE_CALLBACK *cb, void *cbarg)
{
    const KMSENV_MASTER_KEY *key = obj;
    KMSENV_BUFFER b;
    int ok;

    (void)abstract;
    (void)cb;
    (void)cbarg;
    if (key == NULL || key->name.kms == NULL)
        return 0;
    kmsenv_buffer_init(&b, TEXT_MAX, 0);
    kmsenv_buffer_printf(&b, "KMS master key:\nKMS: %s\nKey id: %s\n", key->name.kms, key->name.key_id);
    if (key->cmk != NULL && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0)
        kmsenv_buffer_printf(&b, "Profile: %s\n", kmsenv_cmk_profile(key->cmk));
    ok = !b.failed && kmsenv_core_bio_write(ctx, out, b.data, b.length);
    kmsenv_buffer_reset(&b);
    return ok;
}

/* --- the private half ----------------------------------------------------- */

static OSSL_FUNC_encoder_does_selection_fn private_does_selection;
static int private_does_selection(void *provctx, int selection)
{
    (void)provctx;
    return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
}

static OSSL_FUNC_encoder_encode_fn encode_private;
static int encode_private(void *ctx, OSSL_CORE_BIO *out, const void *obj, const OSSL_PARAM abstract[], int selection,
                          OSSL_PASSPHRASE_CALLBACK *cb, void *cbarg)
{
    const KMSENV_PROVCTX *provctx = ctx;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    (void)out;
    (void)obj;
    (void)abstract;
    (void)selection;
    (void)cb;
    (void)cbarg;
    kmsenv_error_set(&err, KMSENV_R_PARAMETER_INVALID, "a master key never leaves its KMS: programs use it as kms:PROFILE, and only "
                     "its public half, its name, can be written (openssl pkey -pubout)");
    return kmsenv_reporter_raise(provctx->reporter, &err);
}

#define FUNCTIONS(does_selection, encode)                                           \
    {                                                                               \
        { OSSL_FUNC_ENCODER_NEWCTX, (void (*)(void))kmsenv_encoder_newctx },               \
        { OSSL_FUNC_ENCODER_FREECTX, (void (*)(void))kmsenv_encoder_freectx },             \
        { OSSL_FUNC_ENCODER_DOES_SELECTION, (void (*)(void))does_selection },       \
        { OSSL_FUNC_ENCODER_ENCODE, (void (*)(void))encode },                       \
        { 0, NULL }                                                                 \
    }
#define TEXT_FUNCTIONS(encode)                                                      \
    {                                                                               \
        { OSSL_FUNC_ENCODER_NEWCTX, (void (*)(void))kmsenv_encoder_newctx },               \
        { OSSL_FUNC_ENCODER_FREECTX, (void (*)(void))kmsenv_encoder_freectx },             \
        { OSSL_FUNC_ENCODER_ENCODE, (void (*)(void))encode },                       \
        { 0, NULL }                                                                 \
    }
const OSSL_DISPATCH kmsenv_encoder_master_key_pem_functions[] = FUNCTIONS(public_does_selection, encode_pem);
const OSSL_DISPATCH kmsenv_encoder_master_key_der_functions[] = FUNCTIONS(public_does_selection, encode_der);
const OSSL_DISPATCH kmsenv_encoder_master_key_text_functions[] = TEXT_FUNCTIONS(encode_text);
const OSSL_DISPATCH kmsenv_encoder_master_key_private_functions[] = FUNCTIONS(private_does_selection, encode_private);
