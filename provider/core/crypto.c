/*
 * The only file that fetches. Fetching takes OpenSSL's locks, so it happens once per provider
 * context and what was fetched is shared by reference.
 */
#include <stdatomic.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include "core/crypto.h"
#include "core/lock.h"
#include "core/secret.h"

#define NOT_OURSELVES "provider!=kmsenv"
#define STRENGTH 256   /* bits asked of the random generators */

struct kmsenv_crypto_st {
    OSSL_LIB_CTX *libctx;
    char *provider_name;
    KMSENV_LOCK *lock;
    atomic_int ready;
    OSSL_PROVIDER *provider, *base;
    OSSL_PROVIDER *tables[2];          /* whose tables were handed out: they stay loaded */
    OSSL_PROVIDER *legacy;             /* loaded when something was asked for that might be in it */
    EVP_CIPHER *gcm[3];
    EVP_MAC *hmac;
    EVP_MD *sha256;
};

KMSENV_CRYPTO *kmsenv_crypto_new(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const char *provider_name)
{
    KMSENV_CRYPTO *c = OPENSSL_zalloc(sizeof(*c));

    if (c == NULL)
        return NULL;
    c->libctx = in != NULL ? OSSL_LIB_CTX_new_from_dispatch(handle, in) : OSSL_LIB_CTX_new();
    c->provider_name = OPENSSL_strdup(provider_name);
    c->lock = kmsenv_lock_new(KMSENV_LEVEL_PROVIDER);
    if (c->libctx == NULL || c->provider_name == NULL || c->lock == NULL) {
        kmsenv_crypto_free(c);
        return NULL;
    }
    return c;
}

static void unload(OSSL_PROVIDER **provider)
{
    if (*provider != NULL)
        OSSL_PROVIDER_unload(*provider);
    *provider = NULL;
}

static void drop_fetched(KMSENV_CRYPTO *c)
{
    size_t i;

    for (i = 0; i < 3; i++) {
        EVP_CIPHER_free(c->gcm[i]);
        c->gcm[i] = NULL;
    }
    EVP_MAC_free(c->hmac);
    c->hmac = NULL;
    EVP_MD_free(c->sha256);
    c->sha256 = NULL;
    unload(&c->provider);
    unload(&c->base);
}

void kmsenv_crypto_free(KMSENV_CRYPTO *crypto)
{
    if (crypto == NULL)
        return;
    drop_fetched(crypto);
    unload(&crypto->tables[0]);
    unload(&crypto->tables[1]);
    unload(&crypto->legacy);
    OSSL_LIB_CTX_free(crypto->libctx);
    OPENSSL_free(crypto->provider_name);
    kmsenv_lock_free(crypto->lock);
    OPENSSL_free(crypto);
}

int kmsenv_crypto_set_provider(KMSENV_CRYPTO *crypto, const char *provider_name)
{
    char *name = OPENSSL_strdup(provider_name), *old = name;

    if (name == NULL)
        return 0;
    kmsenv_lock_take(crypto->lock);
    if (!atomic_load(&crypto->ready)) {
        old = crypto->provider_name;
        crypto->provider_name = name;
    }
    kmsenv_lock_release(crypto->lock);
    OPENSSL_free(old);
    return 1;
}

OSSL_LIB_CTX *kmsenv_crypto_get0_libctx(const KMSENV_CRYPTO *crypto)
{
    return crypto->libctx;
}

/* kmsenv itself would look for an inner provider of its own, and so on until the stack ends. It tells what it is under any name. */
static OSSL_PROVIDER *load_another(KMSENV_CRYPTO *c, const char *name)
{
    OSSL_PROVIDER *provider = OSSL_PROVIDER_load(c->libctx, name);
    char *title = NULL;
    OSSL_PARAM params[2] = { OSSL_PARAM_construct_utf8_ptr(OSSL_PROV_PARAM_NAME, &title, 0), OSSL_PARAM_construct_end() };

    if (provider != NULL && OSSL_PROVIDER_get_params(provider, params) && title != NULL && strncmp(title, "kmsenv:", 7) == 0)
        unload(&provider);
    return provider;
}

static int fetch_all(KMSENV_CRYPTO *c)
{
    static const char *const name[3] = { "AES-128-GCM", "AES-192-GCM", "AES-256-GCM" };
    size_t i;

    c->provider = load_another(c, c->provider_name);
    if (c->provider == NULL)
        return 0;
    /* The FIPS module has no encoders and no seed source of its own; "base" completes it. */
    if (strcmp(c->provider_name, "default") != 0)
        c->base = OSSL_PROVIDER_load(c->libctx, "base");
    for (i = 0; i < 3; i++)
        if ((c->gcm[i] = EVP_CIPHER_fetch(c->libctx, name[i], NOT_OURSELVES)) == NULL)
            return 0;
    c->hmac = EVP_MAC_fetch(c->libctx, OSSL_MAC_NAME_HMAC, NOT_OURSELVES);
    c->sha256 = EVP_MD_fetch(c->libctx, "SHA256", NOT_OURSELVES);
    return c->hmac != NULL && c->sha256 != NULL;
}

int kmsenv_crypto_ready(KMSENV_CRYPTO *crypto, KMSENV_ERROR *err)
{
    int ok;

    if (atomic_load_explicit(&crypto->ready, memory_order_acquire))
        return 1;
    /* Held across fetches into our own context only: nothing there can come back to us. */
    kmsenv_lock_take(crypto->lock);
    ok = atomic_load(&crypto->ready);
    if (!ok) {
        ERR_set_mark();
        if ((ok = fetch_all(crypto)))
            atomic_store_explicit(&crypto->ready, 1, memory_order_release);
        else
            drop_fetched(crypto);
        ERR_pop_to_mark();
        if (!ok)     /* here, because the name may change without the lock */
            kmsenv_error_set(err, KMSENV_R_CRYPTO_FAILED,
                             "the inner provider '%s' (setting crypto-provider) cannot be loaded or lacks AES-GCM, HMAC or SHA-256",
                             crypto->provider_name);
    }
    kmsenv_lock_release(crypto->lock);
    return ok;
}

/* Under the lock. The chosen provider, if it can be had, and the default one for what that lacks: without that one, none. */
static size_t load_for_tables(KMSENV_CRYPTO *c)
{
    size_t n = 0;

    if (strcmp(c->provider_name, "default") != 0 && (c->tables[0] = load_another(c, c->provider_name)) != NULL)
        n++;
    if ((c->tables[n] = OSSL_PROVIDER_load(c->libctx, "default")) != NULL)
        return n + 1;
    unload(&c->tables[0]);
    return 0;
}

size_t kmsenv_crypto_tables(KMSENV_CRYPTO *crypto, int operation, KMSENV_CRYPTO_TABLE out[2])
{
    size_t i, n;
    int no_store;

    kmsenv_lock_take(crypto->lock);
    ERR_set_mark();
    n = crypto->tables[0] == NULL ? load_for_tables(crypto) : crypto->tables[1] == NULL ? 1 : 2;
    for (i = 0; i < n; i++) {
        out[i].algorithms = OSSL_PROVIDER_query_operation(crypto->tables[i], operation, &no_store);
        out[i].provctx = OSSL_PROVIDER_get0_provider_ctx(crypto->tables[i]);
    }
    ERR_pop_to_mark();
    kmsenv_lock_release(crypto->lock);
    return n;
}

static int has(const KMSENV_CRYPTO *crypto, int operation, const char *name, const char *properties)
{
    EVP_MD *md = NULL;
    EVP_CIPHER *cipher = NULL;
    int found;

    if (operation == OSSL_OP_DIGEST)
        md = EVP_MD_fetch(crypto->libctx, name, properties);
    else
        cipher = EVP_CIPHER_fetch(crypto->libctx, name, properties);
    found = md != NULL || cipher != NULL;
    EVP_MD_free(md);
    EVP_CIPHER_free(cipher);
    return found;
}

int kmsenv_crypto_offers(KMSENV_CRYPTO *crypto, int operation, const char *name, const char *properties)
{
    int found;

    ERR_set_mark();
    if (!(found = has(crypto, operation, name, properties))) {
        kmsenv_lock_take(crypto->lock);
        if (crypto->legacy == NULL)
            crypto->legacy = OSSL_PROVIDER_load(crypto->libctx, "legacy");
        kmsenv_lock_release(crypto->lock);
        found = has(crypto, operation, name, properties);
    }
    ERR_pop_to_mark();
    return found;
}

EVP_CIPHER *kmsenv_crypto_get0_gcm(const KMSENV_CRYPTO *crypto, size_t keylen)
{
    return keylen == 16 || keylen == 24 || keylen == 32 ? crypto->gcm[keylen / 8 - 2] : NULL;
}

static int failed(KMSENV_ERROR *err, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_CRYPTO_FAILED, "%s failed in the inner provider", what);
}

int kmsenv_crypto_random(KMSENV_CRYPTO *crypto, void *out, size_t n, KMSENV_ERROR *err)
{
    EVP_RAND_CTX *rand;

    if (!kmsenv_crypto_ready(crypto, err))
        return 0;
    /* What RAND_bytes_ex() does, without its search for the method of old that an application might have set. */
    rand = RAND_get0_public(crypto->libctx);
    return (rand != NULL && EVP_RAND_generate(rand, out, n, STRENGTH, 0, NULL, 0) == 1)
        || failed(err, "random generation");
}

int kmsenv_crypto_random_key(KMSENV_CRYPTO *crypto, void *out, size_t n, KMSENV_ERROR *err)
{
    if (!kmsenv_crypto_ready(crypto, err))
        return 0;
    return RAND_priv_bytes_ex(crypto->libctx, out, n, STRENGTH) == 1 || failed(err, "key generation");
}

int kmsenv_crypto_sha256(KMSENV_CRYPTO *crypto, const void *data, size_t n, unsigned char out[32], KMSENV_ERROR *err)
{
    unsigned int len = 0;

    if (!kmsenv_crypto_ready(crypto, err))
        return 0;
    return (EVP_Digest(data, n, out, &len, crypto->sha256, NULL) == 1 && len == 32) || failed(err, "SHA-256");
}

typedef struct mac_input_st { const void *key, *data; size_t keylen, n; } MAC_INPUT;

static int hmac(KMSENV_CRYPTO *crypto, const char *digest, const MAC_INPUT *in, unsigned char *out, size_t outlen)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)digest, 0),
        OSSL_PARAM_END
    };
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(crypto->hmac);
    size_t len = 0;
    int ok = ctx != NULL && EVP_MAC_init(ctx, in->key, in->keylen, params)
        && EVP_MAC_update(ctx, in->data, in->n) && EVP_MAC_final(ctx, out, &len, outlen) && len == outlen;

    EVP_MAC_CTX_free(ctx);
    return ok;
}

int kmsenv_crypto_hmac_sha256(KMSENV_CRYPTO *crypto, const void *key, size_t keylen,
                              const void *data, size_t n, unsigned char out[32], KMSENV_ERROR *err)
{
    const MAC_INPUT in = { key, data, keylen, n };

    if (!kmsenv_crypto_ready(crypto, err))
        return 0;
    return hmac(crypto, "SHA256", &in, out, 32) || failed(err, "HMAC-SHA-256");
}

int kmsenv_crypto_hmac_sha1(KMSENV_CRYPTO *crypto, const void *key, size_t keylen,
                            const void *data, size_t n, unsigned char out[20], KMSENV_ERROR *err)
{
    const MAC_INPUT in = { key, data, keylen, n };

    if (!kmsenv_crypto_ready(crypto, err))
        return 0;
    return hmac(crypto, "SHA1", &in, out, 20) || failed(err, "HMAC-SHA-1");
}

/* --- HMAC with a kept key state -------------------------------------------- */

#define SHA256_BLOCK 64

struct kmsenv_hmac_st {
    EVP_MD_CTX *inner, *outer;     /* digests that took the padded key */
};

/* A digest that took key XOR pad. The padded key is in secret memory of the caller. */
static EVP_MD_CTX *pad_key(KMSENV_CRYPTO *crypto, unsigned char *padded, const unsigned char key[32], unsigned char pad)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t i;

    for (i = 0; i < SHA256_BLOCK; i++)
        padded[i] = (unsigned char)((i < 32 ? key[i] : 0) ^ pad);
    if (ctx != NULL && EVP_DigestInit_ex2(ctx, crypto->sha256, NULL) && EVP_DigestUpdate(ctx, padded, SHA256_BLOCK))
        return ctx;
    EVP_MD_CTX_free(ctx);
    return NULL;
}

KMSENV_HMAC *kmsenv_hmac_new(KMSENV_CRYPTO *crypto, const unsigned char key[32], KMSENV_ERROR *err)
{
    unsigned char *padded = NULL;
    KMSENV_HMAC *h = NULL;

    if (kmsenv_crypto_ready(crypto, err) && (h = OPENSSL_zalloc(sizeof(*h))) != NULL
            && (padded = kmsenv_secret_zalloc(SHA256_BLOCK)) != NULL) {
        h->inner = pad_key(crypto, padded, key, 0x36);
        h->outer = pad_key(crypto, padded, key, 0x5c);
    }
    kmsenv_secret_free(padded);
    if (h != NULL && h->inner != NULL && h->outer != NULL)
        return h;
    kmsenv_hmac_free(h);
    failed(err, "HMAC-SHA-256");
    return NULL;
}

void kmsenv_hmac_free(KMSENV_HMAC *hmac)
{
    if (hmac == NULL)
        return;
    EVP_MD_CTX_free(hmac->inner);
    EVP_MD_CTX_free(hmac->outer);
    OPENSSL_free(hmac);
}

int kmsenv_hmac(const KMSENV_HMAC *hmac, EVP_MD_CTX *scratch, const void *data, size_t n, unsigned char out[32], KMSENV_ERROR *err)
{
    return (EVP_MD_CTX_copy_ex(scratch, hmac->inner)
            && EVP_DigestUpdate(scratch, data, n) && EVP_DigestFinal_ex(scratch, out, NULL)
            && EVP_MD_CTX_copy_ex(scratch, hmac->outer)
            && EVP_DigestUpdate(scratch, out, 32) && EVP_DigestFinal_ex(scratch, out, NULL))
        || failed(err, "HMAC-SHA-256");
}

/* --- AES-GCM in one shot --------------------------------------------------- */

int kmsenv_crypto_gcm_seal(KMSENV_CRYPTO *crypto, const unsigned char key[32], const unsigned char nonce[12],
                           const void *aad, size_t aadlen, const void *in, size_t n,
                           unsigned char *out, unsigned char tag[16], KMSENV_ERROR *err)
{
    EVP_CIPHER_CTX *ctx;
    int len, ok;

    if (!kmsenv_crypto_ready(crypto, err))
        return 0;
    ctx = EVP_CIPHER_CTX_new();
    ok = ctx != NULL && EVP_EncryptInit_ex2(ctx, crypto->gcm[2], key, nonce, NULL)
        && EVP_EncryptUpdate(ctx, NULL, &len, aad, (int)aadlen)
        && EVP_EncryptUpdate(ctx, out, &len, in, (int)n) && (size_t)len == n
        && EVP_EncryptFinal_ex(ctx, out + n, &len)
        && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, tag);
    EVP_CIPHER_CTX_free(ctx);
    return ok || failed(err, "AES-256-GCM");
}

int kmsenv_crypto_gcm_open(KMSENV_CRYPTO *crypto, const unsigned char key[32], const unsigned char nonce[12],
                           const void *aad, size_t aadlen, const void *in, size_t n,
                           const unsigned char tag[16], unsigned char *out, KMSENV_ERROR *err)
{
    EVP_CIPHER_CTX *ctx;
    int len, ready, ok;

    kmsenv_error_clear(err);
    if (!kmsenv_crypto_ready(crypto, err))
        return 0;
    ctx = EVP_CIPHER_CTX_new();
    ready = ctx != NULL && EVP_DecryptInit_ex2(ctx, crypto->gcm[2], key, nonce, NULL)
        && EVP_DecryptUpdate(ctx, NULL, &len, aad, (int)aadlen)
        && EVP_DecryptUpdate(ctx, out, &len, in, (int)n) && (size_t)len == n
        && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, (void *)tag);
    ok = ready && EVP_DecryptFinal_ex(ctx, out + n, &len);
    EVP_CIPHER_CTX_free(ctx);
    if (!ok)
        OPENSSL_cleanse(out, n);
    return ok || (ready ? 0 : failed(err, "AES-256-GCM"));
}
