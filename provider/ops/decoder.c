/*
 * Our PEM blocks, in two steps as libcrypto chains decoders: PEM to DER with the name of its
 * structure, then that structure to a key object. Both are offered every key that the process
 * loads, and pass by what is not ours: nothing but a comparison of the label, or of the first bytes.
 */
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include "envelope/sealed_key.h"
#include "ops/core_bio.h"
#include "ops/key.h"

#define BLOCK_MAX (KMSENV_SEALED_KEY_MAX / 48 * 66)    /* lines of base64, be they as badly filled as with CRLF */

static int check_data_key(const unsigned char *der, size_t n, KMSENV_ERROR *err);

static const char *const labels[] = { KMSENV_PEM_DATA_KEY, KMSENV_PEM_SEALED_KEY };
/* What is in the blocks. Checked in the first step: what fails in the second, OSSL_STORE may only call unsupported. */
static const struct { const char *structure; int (*check)(const unsigned char *der, size_t n, KMSENV_ERROR *err); } contents[] = {
    { KMSENV_STRUCTURE_DATA_KEY, check_data_key }, { KMSENV_STRUCTURE_SEALED_KEY, kmsenv_sealed_key_check }
};

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

/* libcrypto does not always ask does_selection: decode() does it, too. 0: whatever there is. */
static int is_selected(int selection)
{
    return selection == 0 || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
}

static OSSL_FUNC_decoder_does_selection_fn decoder_does_selection;
static int decoder_does_selection(void *provctx, int selection)
{
    (void)provctx;
    return is_selected(selection);
}

/* --- PEM to DER ----------------------------------------------------------- */

static int emit_der(unsigned char *der, size_t len, const char *structure, OSSL_CALLBACK *cb, void *cbarg)
{
    int type = OSSL_OBJECT_PKEY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, der, len),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE, (char *)structure, 0),
        OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
        OSSL_PARAM_construct_end()
    };

    return cb(params, cbarg);
}

static int decode_block(const KMSENV_PROVCTX *provctx, const KMSENV_BUFFER *block, size_t which, OSSL_CALLBACK *cb, void *cbarg)
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
        ok = contents[which].check(der, (size_t)len, &err);
    ERR_pop_to_mark();
    if (ok) {
        ok = emit_der(der, (size_t)len, contents[which].structure, cb, cbarg);
    } else {
        kmsenv_error_prefix(&err, "PEM block %s: ", labels[which]);
        kmsenv_reporter_raise(provctx->reporter, &err);
    }
    BIO_free(bio);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    return ok;
}

static OSSL_FUNC_decoder_decode_fn decode_pem;
static int decode_pem(void *ctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, void *cbarg,
                      OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
    KMSENV_BUFFER block;
    size_t which;
    int ok = 1;      /* not ours is no failure */

    (void)pw_cb;
    (void)pw_cbarg;
    if (!is_selected(selection))
        return 1;
    kmsenv_buffer_init(&block, BLOCK_MAX, 0);
    if (kmsenv_core_bio_pem(ctx, in, labels, sizeof(labels) / sizeof(labels[0]), &which, &block))
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

static OSSL_FUNC_decoder_decode_fn decode_data_key;
static int decode_data_key(void *ctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, void *cbarg,
                           OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
    const KMSENV_PROVCTX *provctx = ctx;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER der;
    KMSENV_KEY *key = NULL;
    int ok = 1;

    (void)pw_cb;
    (void)pw_cbarg;
    if (!is_selected(selection))
        return 1;
    kmsenv_buffer_init(&der, KMSENV_HEADER_MAX, 0);
    if (kmsenv_core_bio_read(provctx, in, looks_like_data_key, &der)) {
        if (der.failed)
            set_too_large(&der, &err);
        if (!der.failed && (key = kmsenv_key_new(ctx)) != NULL && kmsenv_key_set(key, der.data, der.length, &err)) {
            ok = kmsenv_key_emit(key, cb, cbarg);
        } else {
            kmsenv_key_free(key);
            ok = kmsenv_reporter_raise(provctx->reporter, &err);
        }
    }
    kmsenv_buffer_reset(&der);
    return ok;
}

/* --- DER of a sealed key to PrivateKeyInfo --------------------------------- */

/*
 * As libcrypto's own decoder of encrypted PKCS#8 does: no type of key is named, so that all of them are offered it. The
 * private key is in secret memory until libcrypto has it.
 */
static int unseal(KMSENV_PROVCTX *provctx, const KMSENV_BUFFER *der, OSSL_CALLBACK *cb, void *cbarg)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const KMSENV_RUNTIME *runtime;
    KMSENV_BUFFER key;
    int ok;

    kmsenv_buffer_init(&key, der->length, 1);
    ERR_set_mark();
    if (der->failed)
        set_too_large(der, &err);
    ok = !der->failed && (runtime = provctx->runtime(provctx, &err)) != NULL
         && kmsenv_sealed_key_open(runtime->deks, provctx->crypto, &provctx->counters, der->data, der->length, &key, &err);
    ERR_pop_to_mark();
    if (ok) {
        ok = emit_der(key.data, key.length, "PrivateKeyInfo", cb, cbarg);
    } else {
        kmsenv_error_prefix(&err, "sealed private key: ");
        kmsenv_reporter_raise(provctx->reporter, &err);
    }
    kmsenv_buffer_reset(&key);
    return ok;
}

static OSSL_FUNC_decoder_decode_fn decode_sealed_key;
static int decode_sealed_key(void *ctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, void *cbarg,
                             OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
    KMSENV_BUFFER der;
    int ok = 1;

    (void)pw_cb;
    (void)pw_cbarg;
    if (!is_selected(selection))
        return 1;
    kmsenv_buffer_init(&der, KMSENV_SEALED_KEY_MAX, 0);
    if (kmsenv_core_bio_read(ctx, in, kmsenv_sealed_key_is, &der))
        ok = unseal(ctx, &der, cb, cbarg);
    kmsenv_buffer_reset(&der);
    return ok;
}

#define FUNCTIONS(decode)                                                               \
    {                                                                                   \
        { OSSL_FUNC_DECODER_NEWCTX, (void (*)(void))decoder_newctx },                   \
        { OSSL_FUNC_DECODER_FREECTX, (void (*)(void))decoder_freectx },                 \
        { OSSL_FUNC_DECODER_DOES_SELECTION, (void (*)(void))decoder_does_selection },   \
        { OSSL_FUNC_DECODER_DECODE, (void (*)(void))decode },                           \
        { 0, NULL }                                                                     \
    }
const OSSL_DISPATCH kmsenv_decoder_pem_functions[] = FUNCTIONS(decode_pem);
const OSSL_DISPATCH kmsenv_decoder_data_key_functions[] = FUNCTIONS(decode_data_key);
const OSSL_DISPATCH kmsenv_decoder_sealed_key_functions[] = FUNCTIONS(decode_sealed_key);
