#include <stdio.h>
#include <string.h>
#include <openssl/store.h>
#include "testutil.h"
#include "dek/dek.h"
#include "dek/deks.h"
#include "dek/keyring.h"
#include "known_key.h"

#define PATH_LEN 128

/* The handle of the master key. */
static EVP_PKEY *load_master_key(OSSL_LIB_CTX *libctx)
{
    OSSL_STORE_CTX *store = OSSL_STORE_open_ex("kms://default", libctx, NULL, NULL, NULL, NULL, NULL, NULL);
    OSSL_STORE_INFO *info = store == NULL ? NULL : OSSL_STORE_load(store);
    EVP_PKEY *pkey = info == NULL ? NULL : OSSL_STORE_INFO_get1_PKEY(info);

    OSSL_STORE_INFO_free(info);
    OSSL_STORE_close(store);
    return pkey;
}

static int wrap(EVP_PKEY *master, OSSL_LIB_CTX *libctx, const unsigned char *key, size_t keylen, KMSENV_WRAP *out)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(libctx, master, NULL);
    unsigned char blob[32768];
    char id[64];
    size_t n = sizeof(blob);
    int ok = TEST_ptr(ctx) && TEST_int_gt(EVP_PKEY_encrypt_init(ctx), 0) && TEST_int_gt(EVP_PKEY_encrypt(ctx, blob, &n, key, keylen), 0)
             && TEST_true(EVP_PKEY_get_utf8_string_param(master, KMSENV_PKEY_PARAM_KEY_ID, id, sizeof(id), NULL));

    EVP_PKEY_CTX_free(ctx);
    if (!ok)
        return 0;
    out->kms = OPENSSL_strdup("local");
    out->blob.key_id = OPENSSL_strdup(id);
    out->blob.ciphertext = OPENSSL_memdup(blob, n);
    out->blob.ciphertext_len = n;
    return 1;
}

int known_key_put(const KMSENV_TEST *t, KMSENV_CRYPTO *crypto, const unsigned char *key, size_t keylen,
                  unsigned char reference[KMSENV_TEST_REFERENCE_MAX])
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *dk = kmsenv_data_key_new();
    EVP_PKEY *master = load_master_key(t->libctx);
    char dir[PATH_LEN];
    unsigned char *der = NULL;
    size_t len;
    int ok;

    snprintf(dir, sizeof(dir), "%s/keys", t->dir);
    memset(reference, 0, KMSENV_TEST_REFERENCE_MAX);
    ok = TEST_ptr(dk) && TEST_ptr(master) && wrap(master, t->libctx, key, keylen, &dk->wrap[0]);
    if (ok) {
        dk->wraps = 1;
        dk->length = keylen;
        ok = TEST_true(kmsenv_dek_id_of(crypto, key, keylen, dk->id, &err))
             && TEST_true(kmsenv_data_key_encode(dk, 0, &der, &len, &err))
             && TEST_true(kmsenv_keyring_store(dir, dk->id, der, len, &err));
        kmsenv_reference_make(dk->id, reference);
    }
    OPENSSL_free(der);
    EVP_PKEY_free(master);
    kmsenv_data_key_free(dk);
    return ok;
}

unsigned char *known_key_value(const char *text, size_t *len)
{
    unsigned char *out;
    long n = 0;

    if (*text == '"') {
        *len = strlen(text) - 2;
        return OPENSSL_memdup(text + 1, *len + 1);
    }
    out = *text == '\0' ? OPENSSL_zalloc(1) : OPENSSL_hexstr2buf(text, &n);
    *len = (size_t)n;
    return out;
}
