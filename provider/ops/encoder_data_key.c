/* A wrapped data key as PEM, as DER and as text. Nothing in it is secret: there is nothing to encrypt with a pass phrase. */
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include "kmsenv/params.h"
#include "ops/encoder.h"
#include "ops/key.h"

#define TEXT_MAX (4 * KMSENV_HEADER_MAX)

/* Asked to encrypt what it writes, an encoder that cannot must not write it in the clear. */
static OSSL_FUNC_encoder_set_ctx_params_fn encoder_set_ctx_params;
static int encoder_set_ctx_params(void *ctx, const OSSL_PARAM params[])
{
    const KMSENV_PROVCTX *provctx = ctx;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    if (OSSL_PARAM_locate_const(params, OSSL_ENCODER_PARAM_CIPHER) == NULL)
        return 1;
    kmsenv_error_set(&err, KMSENV_R_PARAMETER_INVALID, "a wrapped data key is no secret and is not encrypted under a pass phrase: "
                     "leave the cipher out");
    return kmsenv_reporter_raise(provctx->reporter, &err);
}

static OSSL_FUNC_encoder_settable_ctx_params_fn encoder_settable_ctx_params;
static const OSSL_PARAM *encoder_settable_ctx_params(void *provctx)
{
    static const OSSL_PARAM settable[] = { OSSL_PARAM_utf8_string(OSSL_ENCODER_PARAM_CIPHER, NULL, 0), OSSL_PARAM_END };

    (void)provctx;
    return settable;
}

/* As a private key only: who asks for the public half of one wants something else. */
static OSSL_FUNC_encoder_does_selection_fn encoder_does_selection;
static int encoder_does_selection(void *provctx, int selection)
{
    (void)provctx;
    return selection == 0 || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
}

static OSSL_FUNC_encoder_import_object_fn encoder_import_object;
static void *encoder_import_object(void *ctx, int selection, const OSSL_PARAM params[])
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, KMSENV_PKEY_PARAM_DATA_KEY);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_KEY *key = kmsenv_key_new(ctx);
    const void *der;
    size_t len;

    (void)selection;
    if (key != NULL && p != NULL && OSSL_PARAM_get_octet_string_ptr(p, &der, &len) && der != NULL
            && kmsenv_key_set(key, der, len, &err))
        return key;
    kmsenv_key_free(key);
    return NULL;
}

static OSSL_FUNC_encoder_free_object_fn encoder_free_object;
static void encoder_free_object(void *obj)
{
    kmsenv_key_free(obj);
}

/* --- DER ------------------------------------------------------------------ */

static OSSL_FUNC_encoder_encode_fn encode_der;
static int encode_der(void *ctx, OSSL_CORE_BIO *out, const void *obj, const OSSL_PARAM abstract[], int selection,
                      OSSL_PASSPHRASE_CALLBACK *cb, void *cbarg)
{
    const KMSENV_KEY *key = obj;

    (void)abstract;
    (void)cb;
    (void)cbarg;
    return key != NULL && key->key != NULL && encoder_does_selection(ctx, selection)
           && kmsenv_core_bio_write(ctx, out, key->der, key->der_len);
}

/* --- PEM ------------------------------------------------------------------ */

static OSSL_FUNC_encoder_encode_fn encode_pem;
static int encode_pem(void *ctx, OSSL_CORE_BIO *out, const void *obj, const OSSL_PARAM abstract[], int selection,
                      OSSL_PASSPHRASE_CALLBACK *cb, void *cbarg)
{
    const KMSENV_KEY *key = obj;

    (void)abstract;
    (void)cb;
    (void)cbarg;
    return key != NULL && key->key != NULL && encoder_does_selection(ctx, selection)
           && kmsenv_encoder_write_pem(ctx, out, KMSENV_PEM_DATA_KEY, key->der, key->der_len);
}

/* --- text ----------------------------------------------------------------- */

static void add_hex(KMSENV_BUFFER *b, const unsigned char *bytes, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        kmsenv_buffer_printf(b, "%02x", bytes[i]);
}

/* What a program is given as its key, for each length of key that this data key fits. */
static void add_references(KMSENV_BUFFER *b, const KMSENV_DATA_KEY *key)
{
    unsigned char reference[KMSENV_DEK_LEN_MAX] = { 0 };

    kmsenv_reference_make(key->id, reference);
    kmsenv_buffer_printf(b, "Reference (key of %zu bytes): ", key->length);
    add_hex(b, reference, key->length);
    kmsenv_buffer_add_text(b, "\n");
    if (key->length == KMSENV_REFERENCE_LEN)
        return;
    kmsenv_buffer_add_text(b, "Reference (kms-envelope): ");
    add_hex(b, reference, KMSENV_REFERENCE_LEN);
    kmsenv_buffer_add_text(b, "\n");
}

/* Texts were checked when the data key was read: UTF-8 without control characters. */
static void add_wrap(KMSENV_BUFFER *b, size_t number, const KMSENV_WRAP *wrap)
{
    size_t i;

    kmsenv_buffer_printf(b, "Wrap %zu:\n    KMS: %s\n    Key id: %s\n    Ciphertext: %zu bytes\n", number, wrap->kms, wrap->blob.key_id,
                         wrap->blob.ciphertext_len);
    if (wrap->blob.extra_len > 0)
        kmsenv_buffer_printf(b, "    Extra: %zu bytes\n", wrap->blob.extra_len);
    for (i = 0; i < wrap->context.count; i++)
        kmsenv_buffer_printf(b, "    Context: %s=%s\n", wrap->context.name[i], wrap->context.value[i]);
}

static OSSL_FUNC_encoder_encode_fn encode_text;
static int encode_text(void *ctx, OSSL_CORE_BIO *out, const void *obj, const OSSL_PARAM abstract[], int selection,
                       OSSL_PASSPHRASE_CALLBACK *cb, void *cbarg)
{
    const KMSENV_KEY *key = obj;
    KMSENV_BUFFER b;
    size_t i;
    int ok;

    (void)abstract;
    (void)selection;
    (void)cb;
    (void)cbarg;
    if (key == NULL || key->key == NULL)
        return 0;
    kmsenv_buffer_init(&b, TEXT_MAX, 0);
    kmsenv_buffer_printf(&b, "KMS data key: (%zu bit)\nId: ", 8 * key->key->length);
    add_hex(&b, key->key->id, KMSENV_DEK_ID_LEN);
    kmsenv_buffer_add_text(&b, "\n");
    add_references(&b, key->key);
    for (i = 0; i < key->key->wraps; i++)
        add_wrap(&b, i + 1, &key->key->wrap[i]);
    ok = !b.failed && kmsenv_core_bio_write(ctx, out, b.data, b.length);
    kmsenv_buffer_reset(&b);
    return ok;
}

#define COMMON                                                                          \
    { OSSL_FUNC_ENCODER_NEWCTX, (void (*)(void))kmsenv_encoder_newctx },                       \
    { OSSL_FUNC_ENCODER_FREECTX, (void (*)(void))kmsenv_encoder_freectx },                     \
    { OSSL_FUNC_ENCODER_DOES_SELECTION, (void (*)(void))encoder_does_selection },       \
    { OSSL_FUNC_ENCODER_IMPORT_OBJECT, (void (*)(void))encoder_import_object },         \
    { OSSL_FUNC_ENCODER_FREE_OBJECT, (void (*)(void))encoder_free_object }

const OSSL_DISPATCH kmsenv_encoder_data_key_pem_functions[] = {
    COMMON,
    { OSSL_FUNC_ENCODER_SET_CTX_PARAMS, (void (*)(void))encoder_set_ctx_params },
    { OSSL_FUNC_ENCODER_SETTABLE_CTX_PARAMS, (void (*)(void))encoder_settable_ctx_params },
    { OSSL_FUNC_ENCODER_ENCODE, (void (*)(void))encode_pem },
    { 0, NULL }
};
const OSSL_DISPATCH kmsenv_encoder_data_key_der_functions[] = {
    COMMON, { OSSL_FUNC_ENCODER_ENCODE, (void (*)(void))encode_der }, { 0, NULL }
};
const OSSL_DISPATCH kmsenv_encoder_data_key_text_functions[] = {
    COMMON, { OSSL_FUNC_ENCODER_ENCODE, (void (*)(void))encode_text }, { 0, NULL }
};
