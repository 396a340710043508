/*
 * Our PEM blocks, in two steps as libcrypto chains decoders: PEM to DER with the name of its
 * structure, then that structure to a key object. All are offered every key that the process
 * loads, and pass by what is not ours: nothing but a comparison of the label, or of the first bytes.
 *
 * libcrypto collects the decoders of a chain in two rounds. First, those that are called like a type of key, if their
 * does_selection() says so; then, those that are called like what one of the chain takes ("DER"), unasked. OpenSSL 3.0 does
 * so at each load, and compares each decoder with each name, which is most of what we cost there: hence is_collected().
 */
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include "compat/core_dispatch.h"
#include "compat/core_version.h"
#include "envelope/sealed_key.h"
#include "ops/core_bio.h"
#include "ops/key.h"

#define BLOCK_MAX (KMSENV_SEALED_KEY_MAX / 48 * 66)    /* lines of base64, be they as badly filled as with CRLF */

static int check_data_key(const unsigned char *der, size_t n, KMSENV_ERROR *err);

enum { DATA_KEY, SEALED_KEY };
static const char *const labels[] = { [DATA_KEY] = KMSENV_PEM_DATA_KEY, [SEALED_KEY] = KMSENV_PEM_SEALED_KEY };
/* What is in the blocks. Checked in the first step: what fails in the second, OSSL_STORE may only call unsupported. */
static int (*const checks[])(const unsigned char *der, size_t n, KMSENV_ERROR *err) = {
    [DATA_KEY] = check_data_key, [SEALED_KEY] = kmsenv_sealed_key_check
};

typedef struct decoder_st {
    KMSENV_PROVCTX *provctx;
    enum { ANYTHING, PRIVATE_KEY, SOMETHING_ELSE } asked;      /* 3.5 and later tell it, in OSSL_STORE */
} DECODER;

static OSSL_FUNC_decoder_newctx_fn decoder_newctx;
static void *decoder_newctx(void *provctx)
{
    DECODER *ctx = OPENSSL_zalloc(sizeof(*ctx));

    if (ctx != NULL)
        ctx->provctx = provctx;
    return ctx;
}

static OSSL_FUNC_decoder_freectx_fn decoder_freectx;
static void decoder_freectx(void *ctx)
{
    OPENSSL_free(ctx);
}

static OSSL_FUNC_decoder_settable_ctx_params_fn decoder_settable_ctx_params;
static const OSSL_PARAM *decoder_settable_ctx_params(void *provctx)
{
    static const OSSL_PARAM settable[] = { OSSL_PARAM_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE, NULL, 0), OSSL_PARAM_END };

    (void)provctx;
    return settable;
}

static OSSL_FUNC_decoder_set_ctx_params_fn decoder_set_ctx_params;
static int decoder_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    static const char *const private_keys[] = { "EncryptedPrivateKeyInfo", "PrivateKeyInfo", "type-specific" };
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_OBJECT_PARAM_DATA_STRUCTURE);
    const char *structure = NULL;
    DECODER *ctx = vctx;
    size_t i;

    if (p == NULL)
        return 1;
    if (!OSSL_PARAM_get_utf8_string_ptr(p, &structure))
        return 0;
    for (i = 0; i < sizeof(private_keys) / sizeof(private_keys[0]) && OPENSSL_strcasecmp(structure, private_keys[i]) != 0; i++)
        ;
    ctx->asked = i < sizeof(private_keys) / sizeof(private_keys[0]) ? PRIVATE_KEY : SOMETHING_ELSE;
    return 1;
}

/* libcrypto does not always ask does_selection: decode() does it, too. 0: whatever there is. */
static int is_selected(int selection)
{
    return selection == 0 || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
}

/* Is it worth while to compare our names (3.0)? Later versions compare numbers, and remember the chain. */
static int is_collected(const KMSENV_PROVCTX *provctx)
{
    return provctx->core_version > KMSENV_CORE_VERSION(3, 0);
}

/* Of those that are called DER: the first round never finds them. */
static OSSL_FUNC_decoder_does_selection_fn der_does_selection;
static int der_does_selection(void *provctx, int selection)
{
    return is_collected(provctx) && is_selected(selection);
}

/*
 * On 3.0 the decoder of sealed keys does that of data keys as well, for all that look for private keys: one decoder less.
 * Who looks for anything is also OSSL_STORE when it looks into a file, and cannot do anything with a key object there.
 */
static int is_data_key_in_der(const KMSENV_PROVCTX *provctx, int selection)
{
    return !is_collected(provctx) && selection != 0;
}

static OSSL_FUNC_decoder_does_selection_fn data_key_does_selection;
static int data_key_does_selection(void *provctx, int selection)
{
    return is_selected(selection) && !is_data_key_in_der(provctx, selection);
}

/* --- data that is handed on ------------------------------------------------ */

/* input_type (NULL: none) tells 3.5 and later that the structure is what was asked for, whatever that was. */
static int emit_der(unsigned char *der, size_t len, const char *structure, const char *input_type, OSSL_CALLBACK *cb, void *cbarg)
{
    int type = OSSL_OBJECT_PKEY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, der, len),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE, (char *)structure, 0),
        OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
        OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end()
    };

    if (input_type != NULL)
        params[3] = OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_INPUT_TYPE, (char *)input_type, 0);
    return cb(params, cbarg);
}

/*
 * As libcrypto's own decoder of encrypted PKCS#8 does: no type of key is named, so that all of them are offered it. The
 * private key is in secret memory until libcrypto has it.
 */
static int unseal(KMSENV_PROVCTX *provctx, const unsigned char *der, size_t len, OSSL_CALLBACK *cb, void *cbarg)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const KMSENV_RUNTIME *runtime;
    KMSENV_BUFFER key;
    int ok;

    kmsenv_buffer_init(&key, len, 1);
    ERR_set_mark();
    ok = (runtime = provctx->runtime(provctx, &err)) != NULL
         && kmsenv_sealed_key_open(runtime->deks, provctx->crypto, &provctx->counters, der, len, &key, &err);
    ERR_pop_to_mark();
    if (ok) {
        ok = emit_der(key.data, key.length, "PrivateKeyInfo", "DER", cb, cbarg);
    } else {
        kmsenv_error_prefix(&err, "sealed private key: ");
        kmsenv_reporter_raise(provctx->reporter, &err);
    }
    kmsenv_buffer_reset(&key);
    return ok;
}

/* --- PEM to DER ----------------------------------------------------------- */

/*
 * Where a private key is expected, libcrypto would drop the cause of a failure of the second step, so it is done at once
 * (3.5 and later).
 */
static int hand_on(const DECODER *ctx, size_t which, unsigned char *der, size_t len, OSSL_CALLBACK *cb, void *cbarg)
{
    return which == SEALED_KEY && ctx->asked == PRIVATE_KEY ? unseal(ctx->provctx, der, len, cb, cbarg)
                                                                          : emit_der(der, len, KMSENV_STRUCTURE, NULL, cb, cbarg);
}

static int decode_block(const DECODER *ctx, const KMSENV_BUFFER *block, size_t which, OSSL_CALLBACK *cb, void *cbarg)
{
    BIO *bio = block->failed ? NULL : BIO_new_mem_buf(block->data, (int)block->length);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long len = 0;
    int ok = 0;

    ERR_set_mark();
    if (bio == NULL || !PEM_read_bio(bio, &name, &header, &der, &len) || *header != '\0')
        kmsenv_error_set(&err, KMSENV_R_MESSAGE_MALFORMED, "damaged, or it has headers, or more than %d bytes", BLOCK_MAX);
    else
        ok = checks[which](der, (size_t)len, &err);
    ERR_pop_to_mark();
    if (ok) {
        ok = hand_on(ctx, which, der, (size_t)len, cb, cbarg);
    } else {
        kmsenv_error_prefix(&err, "PEM block %s: ", labels[which]);
        kmsenv_reporter_raise(ctx->provctx->reporter, &err);
    }
    BIO_free(bio);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    return ok;
}

static OSSL_FUNC_decoder_decode_fn decode_pem;
static int decode_pem(void *vctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, void *cbarg,
                      OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
    const DECODER *ctx = vctx;
    KMSENV_BUFFER block;
    size_t which;
    int ok = 1;      /* not ours is no failure */

    (void)pw_cb;
    (void)pw_cbarg;
    if (!is_selected(selection))
        return 1;
    kmsenv_buffer_init(&block, BLOCK_MAX, 0);
    if (kmsenv_core_bio_pem(ctx->provctx, in, labels, sizeof(labels) / sizeof(labels[0]), &which, &block))
        ok = decode_block(ctx, &block, which, cb, cbarg);
    kmsenv_buffer_reset(&block);
    return ok;
}

static int check_data_key(const unsigned char *der, size_t n, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *key = kmsenv_data_key_parse(der, n, err);

    kmsenv_data_key_free(key);
    return key != NULL;
}

/* --- DER to a key object -------------------------------------------------- */

/* A DataKey is a SEQUENCE that begins with an OCTET STRING of 24 bytes and a small INTEGER: no key format in use does. */
static int looks_like_data_key(const unsigned char *der, size_t n)
{
    size_t skip;

    if (n < 4 || der[0] != 0x30)
        return 0;
    skip = der[1] < 0x80 ? 2 : 2 + (size_t)(der[1] & 0x7f);
    return skip + KMSENV_DEK_ID_LEN + 4 <= n && der[skip] == 0x04 && der[skip + 1] == KMSENV_DEK_ID_LEN
        && der[skip + 2 + KMSENV_DEK_ID_LEN] == 0x02 && der[skip + 3 + KMSENV_DEK_ID_LEN] == 1;
}

/* der.failed: it is ours, and cannot be. */
static void set_too_large(const KMSENV_BUFFER *der, KMSENV_ERROR *err)
{
    kmsenv_error_set(err, KMSENV_R_INPUT_TOO_LARGE, "more than %zu bytes, or no memory for them", der->limit);
}

static int emit_data_key(KMSENV_PROVCTX *provctx, const KMSENV_BUFFER *der, OSSL_CALLBACK *cb, void *cbarg)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_KEY *key = NULL;

    if (der->failed)
        set_too_large(der, &err);
    if (!der->failed && (key = kmsenv_key_new(provctx)) != NULL && kmsenv_key_set(key, der->data, der->length, &err))
        return kmsenv_key_emit(key, cb, cbarg);
    kmsenv_key_free(key);
    return kmsenv_reporter_raise(provctx->reporter, &err);
}

static OSSL_FUNC_decoder_decode_fn decode_data_key;
static int decode_data_key(void *vctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, void *cbarg,
                           OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
    KMSENV_PROVCTX *provctx = ((const DECODER *)vctx)->provctx;
    KMSENV_BUFFER der;
    int ok = 1;

    (void)pw_cb;
    (void)pw_cbarg;
    if (!is_selected(selection))
        return 1;
    kmsenv_buffer_init(&der, KMSENV_HEADER_MAX, 0);
    if (kmsenv_core_bio_read(provctx, in, looks_like_data_key, &der))
        ok = emit_data_key(provctx, &der, cb, cbarg);
    kmsenv_buffer_reset(&der);
    return ok;
}

/* --- DER of a sealed key to PrivateKeyInfo --------------------------------- */

static int unseal_all(KMSENV_PROVCTX *provctx, const KMSENV_BUFFER *der, OSSL_CALLBACK *cb, void *cbarg)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    if (!der->failed)
        return unseal(provctx, der->data, der->length, cb, cbarg);
    set_too_large(der, &err);
    kmsenv_error_prefix(&err, "sealed private key: ");
    return kmsenv_reporter_raise(provctx->reporter, &err);
}

static int looks_like_ours(const unsigned char *der, size_t n)
{
    return kmsenv_sealed_key_is(der, n) || looks_like_data_key(der, n);
}

static OSSL_FUNC_decoder_decode_fn decode_sealed_key;
static int decode_sealed_key(void *vctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, void *cbarg,
                             OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
    KMSENV_PROVCTX *provctx = ((const DECODER *)vctx)->provctx;
    KMSENV_BUFFER der;
    int ok = 1;

    (void)pw_cb;
    (void)pw_cbarg;
    if (!is_selected(selection))
        return 1;
    kmsenv_buffer_init(&der, KMSENV_SEALED_KEY_MAX, 0);
    if (kmsenv_core_bio_read(provctx, in, is_data_key_in_der(provctx, selection) ? looks_like_ours : kmsenv_sealed_key_is, &der))
        ok = looks_like_data_key(der.data, der.length) ? emit_data_key(provctx, &der, cb, cbarg)
                                                       : unseal_all(provctx, &der, cb, cbarg);
    kmsenv_buffer_reset(&der);
    return ok;
}

/* --- the same, where another structure is asked for ------------------------ */

/*
 * From 3.5 on, who reads DER asks for a structure more often: OSSL_STORE, when it expects keys, and d2i functions, which have
 * looked at it. Decoders that have another one in their properties are then left out. This one has none.
 */
static OSSL_FUNC_decoder_decode_fn decode_der;
static int decode_der(void *vctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, void *cbarg,
                      OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
    const DECODER *ctx = vctx;

    return ctx->asked == SOMETHING_ELSE || decode_sealed_key(vctx, in, selection, cb, cbarg, pw_cb, pw_cbarg);
}

/* --- tables --------------------------------------------------------------- */

#define FUNCTIONS(does_selection, decode)                                                               \
    {                                                                                                   \
        { OSSL_FUNC_DECODER_NEWCTX, (void (*)(void))decoder_newctx },                                   \
        { OSSL_FUNC_DECODER_FREECTX, (void (*)(void))decoder_freectx },                                 \
        { OSSL_FUNC_DECODER_SETTABLE_CTX_PARAMS, (void (*)(void))decoder_settable_ctx_params },         \
        { OSSL_FUNC_DECODER_SET_CTX_PARAMS, (void (*)(void))decoder_set_ctx_params },                   \
        { OSSL_FUNC_DECODER_DOES_SELECTION, (void (*)(void))does_selection },                           \
        { OSSL_FUNC_DECODER_DECODE, (void (*)(void))decode },                                           \
        { 0, NULL }                                                                                     \
    }
const OSSL_DISPATCH kmsenv_decoder_pem_functions[] = FUNCTIONS(der_does_selection, decode_pem);
const OSSL_DISPATCH kmsenv_decoder_data_key_functions[] = FUNCTIONS(data_key_does_selection, decode_data_key);
const OSSL_DISPATCH kmsenv_decoder_sealed_key_functions[] = FUNCTIONS(der_does_selection, decode_sealed_key);
const OSSL_DISPATCH kmsenv_decoder_der_functions[] = FUNCTIONS(der_does_selection, decode_der);
