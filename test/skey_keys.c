#include <stdio.h>
#include <string.h>
#include <openssl/params.h>
#include "testutil.h"
#include "dek/keyring.h"
#include "skey_keys.h"

static KMSENV_CRYPTO *crypto;

OSSL_LIB_CTX *skey_plain;
KMSENV_TEST *skey_ours;
SKEY_KNOWN skey_known[SKEY_LENGTHS];
const size_t skey_lengths[SKEY_LENGTHS] = { 16, 24, 32, 64 };
const unsigned char skey_iv[16] = "iviviviviviviv!";

static void to_hex(const unsigned char *p, size_t n, char *out)
{
    size_t i;

    for (i = 0; i < n; i++)
        sprintf(out + 2 * i, "%02x", p[i]);
}

int skey_setup(void)
{
    static const KMSENV_TEST_SETUP setup = { .settings = KMSENV_TEST_LOCAL SKEY_KEYRING "key-references = yes\n" };
    size_t i;

    crypto = kmsenv_crypto_new(NULL, NULL, "default");
    skey_plain = OSSL_LIB_CTX_new();
    if (!TEST_ptr(crypto) || !TEST_ptr(skey_plain) || !TEST_ptr(skey_ours = kmsenv_test_new_ex(&setup)))
        return 0;
    for (i = 0; i < SKEY_LENGTHS; i++) {
        kmsenv_test_fill(skey_known[i].key, skey_lengths[i], 100 + (unsigned)i);
        if (!known_key_put(skey_ours, crypto, skey_known[i].key, skey_lengths[i], skey_known[i].reference))
            return 0;
        to_hex(skey_known[i].reference, 32, skey_known[i].hex);
    }
    return 1;
}

void skey_cleanup(void)
{
    kmsenv_test_free(skey_ours);
    kmsenv_crypto_free(crypto);
    OSSL_LIB_CTX_free(skey_plain);
}

uint64_t skey_kms_calls(void)
{
    return kmsenv_test_counter(skey_ours, "kmsenv.kms-calls");
}

KMSENV_TEST *skey_another(const char *settings)
{
    KMSENV_TEST_SETUP setup = { settings, NULL, 0, skey_ours };

    return kmsenv_test_new_ex(&setup);
}

EVP_SKEY *skey_import_text(OSSL_LIB_CTX *libctx, const char *type, const char *name, const char *text)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(name, (char *)text, 0), OSSL_PARAM_construct_end() };

    return EVP_SKEY_import(libctx, type, "provider=kmsenv", SKEY_ALL, params);
}

EVP_SKEY *skey_import_octets(OSSL_LIB_CTX *libctx, const char *type, const char *name, const void *bytes, size_t n)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_octet_string(name, (void *)bytes, n), OSSL_PARAM_construct_end() };

    return EVP_SKEY_import(libctx, type, "provider=kmsenv", SKEY_ALL, params);
}

EVP_SKEY *skey_by_reference(int i)
{
    return skey_import_text(skey_ours->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_REFERENCE, skey_known[i].hex);
}

int skey_stream(const KMSENV_TEST *t, const char *name, EVP_SKEY *skey, unsigned char out[SKEY_INPUT])
{
    EVP_CIPHER *c = EVP_CIPHER_fetch(t->libctx, name, "provider=kmsenv");
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char in[SKEY_INPUT] = { 0 };
    int n = 0, ok = TEST_ptr(c) && EVP_CipherInit_SKEY(ctx, c, skey, skey_iv, sizeof(skey_iv), 1, NULL)
                    && EVP_EncryptUpdate(ctx, out, &n, in, SKEY_INPUT) && n == SKEY_INPUT;

    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(c);
    return ok;
}

int skey_expect(const char *name, const unsigned char *key, unsigned char out[SKEY_INPUT])
{
    EVP_CIPHER *c = EVP_CIPHER_fetch(skey_plain, name, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char in[SKEY_INPUT] = { 0 };
    int n = 0, ok = TEST_true(EVP_EncryptInit_ex2(ctx, c, key, skey_iv, NULL)) && TEST_true(EVP_EncryptUpdate(ctx, out, &n, in, SKEY_INPUT));

    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(c);
    return ok;
}

static EVP_SKEY *import_pointer(const char *type, const void *bytes, size_t n)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_octet_ptr(OSSL_OBJECT_PARAM_REFERENCE, (void **)&bytes, n), OSSL_PARAM_construct_end() };

    return EVP_SKEY_import(skey_ours->libctx, type, NULL, SKEY_ALL, params);
}

EVP_SKEY *skey_import_way(int way)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char text[200], dir[80];
    KMSENV_DATA_KEY *dk = NULL;
    unsigned char *der = NULL;
    EVP_SKEY *skey = NULL;
    size_t len;

    snprintf(dir, sizeof(dir), "%s/keys", skey_ours->dir);
    switch (way) {
    case 0: return skey_by_reference(2);
    case 1: return skey_import_text(skey_ours->libctx, KMSENV_CIPHER_ENVELOPE_128, KMSENV_SKEY_PARAM_REFERENCE, SKEY_ID(2));
    case 2: snprintf(text, sizeof(text), "kms-key:%.48s", SKEY_ID(2));
            return skey_import_text(skey_ours->libctx, "KMS-AES-256-CTR", KMSENV_SKEY_PARAM_REFERENCE, text);
    case 3: snprintf(text, sizeof(text), "KMS-KEY://%.64s", skey_known[2].hex);
            return skey_import_text(skey_ours->libctx, "KMS-AES-256-CTR", KMSENV_SKEY_PARAM_REFERENCE, text);
    case 4: return skey_import_octets(skey_ours->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_REFERENCE, skey_known[2].reference, 32);
    case 5: return import_pointer(KMSENV_CIPHER_ENVELOPE, skey_known[2].reference, 32);
    case 6: return skey_import_octets(skey_ours->libctx, KMSENV_CIPHER_ENVELOPE, OSSL_SKEY_PARAM_RAW_BYTES, skey_known[2].reference, 32);
    case 7: return skey_import_octets(skey_ours->libctx, OSSL_SKEY_TYPE_AES, OSSL_SKEY_PARAM_RAW_BYTES, skey_known[2].reference, 32);
    case 8: return skey_import_text(skey_ours->libctx, OSSL_SKEY_TYPE_GENERIC, KMSENV_SKEY_PARAM_REFERENCE, skey_known[2].hex);
    case 9: snprintf(text, sizeof(text), "%s/%.48s.pem", dir, SKEY_ID(2));
            return skey_import_text(skey_ours->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_FILE, text);
    case 10:   /* cut, as for a cipher with a key of 16 bytes */
            return skey_import_octets(skey_ours->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_REFERENCE, skey_known[2].reference, 16);
    default: break;
    }
    if (TEST_ptr(dk = kmsenv_keyring_load(dir, skey_known[2].reference + 8, &err)) && TEST_true(kmsenv_data_key_encode(dk, 0, &der, &len, &err)))
        skey = skey_import_octets(skey_ours->libctx, KMSENV_CIPHER_ENVELOPE, KMSENV_SKEY_PARAM_DATA_KEY, der, len);
    OPENSSL_free(der);
    kmsenv_data_key_free(dk);
    return skey;
}
EVP_SKEY *skey_generate(const KMSENV_TEST *t, const char *type, size_t bits, const char *keyring)
{
    OSSL_PARAM params[3], *p = params;

    if (bits > 0)
        *p++ = OSSL_PARAM_construct_size_t(KMSENV_PKEY_PARAM_BITS, &bits);
    if (keyring != NULL)
        *p++ = OSSL_PARAM_construct_utf8_string(KMSENV_PKEY_PARAM_KEYRING, (char *)keyring, 0);
    *p = OSSL_PARAM_construct_end();
    return EVP_SKEY_generate(t->libctx, type, NULL, params);
}
