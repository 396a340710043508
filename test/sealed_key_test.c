/*
 * Sealed private keys through every way that OpenSSL has of loading a key: what works for the same key in plain text works, with one
 * call of the KMS; the rest fails, with none; and the error queue is left as a plain key, or one entry of ours, would leave it.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <stdio.h>
#include <string.h>
#include <openssl/decoder.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/store.h>
#include "testutil.h"
#include "sealed_key.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define KEYS     3

static KMSENV_TEST *t;         /* remembers no data key */
static KMSENV_TEST *down;      /* its KMS cannot be used */
static TEST_KEY keys[KEYS];

static uint64_t kms_calls(void)
{
    return kmsenv_test_counter(t, "kmsenv.kms-calls");
}

/* --- ways of loading ------------------------------------------------------ */

typedef EVP_PKEY *LOAD(const TEST_KEY *key, const TEST_FILES *f);

static BIO *text(const char *s)
{
    return BIO_new_mem_buf(s, -1);
}

static EVP_PKEY *pem_and_free(BIO *bio)
{
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);

    BIO_free(bio);
    return pkey;
}

static EVP_PKEY *by_pem_memory(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return pem_and_free(text(f->pem)); }
static EVP_PKEY *by_pem_bio_file(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return pem_and_free(BIO_new_file(f->pem_path, "r")); }
static EVP_PKEY *by_pem_cert_key(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return pem_and_free(text(f->cert_key)); }
static EVP_PKEY *by_pem_key_cert(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return pem_and_free(BIO_new_file(f->key_cert_path, "r")); }

static EVP_PKEY *by_pem_stdio(const TEST_KEY *key, const TEST_FILES *f)
{
    FILE *in = fopen(f->pem_path, "r");
    EVP_PKEY *pkey = NULL;

    (void)key;
    if (TEST_ptr(in)) {
        pkey = PEM_read_PrivateKey(in, NULL, NULL, NULL);
        fclose(in);
    }
    return pkey;
}

/* The certificate and the key of a bundle, one after the other from one BIO. */
static EVP_PKEY *both(const char *bundle, int key_first)
{
    BIO *bio = text(bundle);
    EVP_PKEY *pkey = key_first ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

    if (!key_first)
        pkey = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    if (cert == NULL) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    X509_free(cert);
    BIO_free(bio);
    return pkey;
}

static EVP_PKEY *by_pem_cert_then_key(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return both(f->cert_key, 0); }
static EVP_PKEY *by_pem_key_then_cert(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return both(f->key_cert, 1); }

static EVP_PKEY *by_pem_old_type(const TEST_KEY *key, const TEST_FILES *f)
{
    EVP_PKEY *pkey = EVP_PKEY_new();
    BIO *bio = text(f->pem);
    RSA *rsa = key->id == EVP_PKEY_RSA ? PEM_read_bio_RSAPrivateKey(bio, NULL, NULL, NULL) : NULL;
    EC_KEY *ec = key->id == EVP_PKEY_EC ? PEM_read_bio_ECPrivateKey(bio, NULL, NULL, NULL) : NULL;

    if ((rsa == NULL || !EVP_PKEY_assign_RSA(pkey, rsa)) && (ec == NULL || !EVP_PKEY_assign_EC_KEY(pkey, ec))) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    BIO_free(bio);
    return pkey;
}

/* With the certificate, so that libssl checks that they belong together. */
static EVP_PKEY *by_ssl(const TEST_KEY *key, const char *path, int type, int as_rsa)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(t->libctx, NULL, TLS_server_method());
    EVP_PKEY *pkey = NULL;

    if (TEST_ptr(ctx) && TEST_true(SSL_CTX_use_certificate(ctx, key->cert))
            && (as_rsa ? SSL_CTX_use_RSAPrivateKey_file(ctx, path, type) : SSL_CTX_use_PrivateKey_file(ctx, path, type))
            && TEST_true(SSL_CTX_check_private_key(ctx)) && TEST_ptr(pkey = SSL_CTX_get0_privatekey(ctx)))
        EVP_PKEY_up_ref(pkey);
    SSL_CTX_free(ctx);
    return pkey;
}

static EVP_PKEY *by_ssl_pem(const TEST_KEY *key, const TEST_FILES *f) { return by_ssl(key, f->pem_path, SSL_FILETYPE_PEM, 0); }
static EVP_PKEY *by_ssl_bundle(const TEST_KEY *key, const TEST_FILES *f) { return by_ssl(key, f->cert_key_path, SSL_FILETYPE_PEM, 0); }
static EVP_PKEY *by_ssl_rsa(const TEST_KEY *key, const TEST_FILES *f) { return by_ssl(key, f->pem_path, SSL_FILETYPE_PEM, 1); }
static EVP_PKEY *by_ssl_der(const TEST_KEY *key, const TEST_FILES *f) { return by_ssl(key, f->der_path, SSL_FILETYPE_ASN1, 0); }

static EVP_PKEY *decode(const void *data, size_t n, const char *input, const char *structure, const char *type, int selection)
{
    EVP_PKEY *pkey = NULL;
    OSSL_DECODER_CTX *ctx = OSSL_DECODER_CTX_new_for_pkey(&pkey, input, structure, type, selection, t->libctx, NULL);
    const unsigned char *p = data;

    if (!TEST_ptr(ctx) || !OSSL_DECODER_from_data(ctx, &p, &n)) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    OSSL_DECODER_CTX_free(ctx);
    return pkey;
}

#define PEM_OF(f) (f)->pem, strlen((f)->pem)
#define DER_OF(f) (f)->der.data, (f)->der.len
#define DECODE(name, input, structure, type, selection)                            \
    static EVP_PKEY *name(const TEST_KEY *key, const TEST_FILES *f)                 \
    {                                                                               \
        (void)key;                                                                  \
        return decode(input(f), structure, type, selection);                        \
    }
#define PEM_INPUT(f) PEM_OF(f), "PEM"
#define DER_INPUT(f) DER_OF(f), "DER"
#define ANY_INPUT(f) PEM_OF(f), NULL
DECODE(by_decoder_pem, PEM_INPUT, NULL, NULL, 0)
DECODE(by_decoder_pem_keypair, PEM_INPUT, NULL, NULL, EVP_PKEY_KEYPAIR)
DECODE(by_decoder_pem_type, PEM_INPUT, NULL, key->type, EVP_PKEY_KEYPAIR)
DECODE(by_decoder_any, ANY_INPUT, NULL, NULL, 0)
DECODE(by_decoder_der, DER_INPUT, NULL, NULL, EVP_PKEY_KEYPAIR)
DECODE(by_decoder_public, PEM_INPUT, NULL, NULL, EVP_PKEY_PUBLIC_KEY)
DECODE(by_decoder_wrong_type, PEM_INPUT, NULL, "X448", EVP_PKEY_KEYPAIR)
DECODE(by_decoder_pkcs8, PEM_INPUT, "PrivateKeyInfo", key->type, EVP_PKEY_KEYPAIR)
DECODE(by_decoder_type_specific, PEM_INPUT, "type-specific", key->type, EVP_PKEY_KEYPAIR)
DECODE(by_decoder_der_pkcs8, DER_INPUT, "PrivateKeyInfo", NULL, EVP_PKEY_KEYPAIR)

static EVP_PKEY *store(const char *uri, int expect)
{
    OSSL_STORE_CTX *ctx = OSSL_STORE_open_ex(uri, t->libctx, NULL, NULL, NULL, NULL, NULL, NULL);
    OSSL_STORE_INFO *info;
    EVP_PKEY *pkey = NULL;

    if (!TEST_ptr(ctx) || (expect != 0 && !TEST_true(OSSL_STORE_expect(ctx, expect)))) {
        OSSL_STORE_close(ctx);
        return NULL;
    }
    while (!OSSL_STORE_eof(ctx) && !OSSL_STORE_error(ctx)) {
        info = OSSL_STORE_load(ctx);
        if (info != NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY && pkey == NULL)
            pkey = OSSL_STORE_INFO_get1_PKEY(info);
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(ctx);
    return pkey;
}

static EVP_PKEY *by_store_uri(const TEST_KEY *key, const TEST_FILES *f)
{
    char uri[128];

    (void)key;
    snprintf(uri, sizeof(uri), "file:%s", f->pem_path);
    return store(uri, 0);
}

static EVP_PKEY *by_store_path(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return store(f->pem_path, 0); }
static EVP_PKEY *by_store_expecting(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return store(f->pem_path, OSSL_STORE_INFO_PKEY); }
static EVP_PKEY *by_store_bundle(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return store(f->cert_key_path, 0); }
static EVP_PKEY *by_store_key_of_bundle(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return store(f->key_cert_path, OSSL_STORE_INFO_PKEY); }
static EVP_PKEY *by_store_certificates(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return store(f->key_cert_path, OSSL_STORE_INFO_CERT); }
static EVP_PKEY *by_store_der(const TEST_KEY *key, const TEST_FILES *f) { (void)key; return store(f->der_path, OSSL_STORE_INFO_PKEY); }

static EVP_PKEY *by_d2i_auto(const TEST_KEY *key, const TEST_FILES *f)
{
    const unsigned char *p = f->der.data;

    (void)key;
    return d2i_AutoPrivateKey_ex(NULL, &p, (long)f->der.len, t->libctx, NULL);
}

static EVP_PKEY *by_d2i_type(const TEST_KEY *key, const TEST_FILES *f)
{
    const unsigned char *p = f->der.data;

    return d2i_PrivateKey_ex(key->id, NULL, &p, (long)f->der.len, t->libctx, NULL);
}

static EVP_PKEY *by_d2i_bio(const TEST_KEY *key, const TEST_FILES *f)
{
    BIO *bio = BIO_new_file(f->der_path, "rb");
    EVP_PKEY *pkey = d2i_PrivateKey_ex_bio(bio, NULL, t->libctx, NULL);

    (void)key;
    BIO_free(bio);
    return pkey;
}

static EVP_PKEY *pkcs8(PKCS8_PRIV_KEY_INFO *info)
{
    EVP_PKEY *pkey = info == NULL ? NULL : EVP_PKCS82PKEY_ex(info, t->libctx, NULL);

    PKCS8_PRIV_KEY_INFO_free(info);
    return pkey;
}

static EVP_PKEY *by_pem_pkcs8(const TEST_KEY *key, const TEST_FILES *f)
{
    BIO *bio = text(f->pem);
    EVP_PKEY *pkey = pkcs8(PEM_read_bio_PKCS8_PRIV_KEY_INFO(bio, NULL, NULL, NULL));

    (void)key;
    BIO_free(bio);
    return pkey;
}

static EVP_PKEY *by_d2i_pkcs8(const TEST_KEY *key, const TEST_FILES *f)
{
    const unsigned char *p = f->der.data;

    (void)key;
    return pkcs8(d2i_PKCS8_PRIV_KEY_INFO(NULL, &p, (long)f->der.len));
}

/*
 * works; calls of the KMS; when it works, errors of OpenSSL's that stay behind; when the KMS cannot be used, how many errors of
 * OpenSSL's come before ours. On OpenSSL 3.0 d2i functions try three structures, and forget no error of the first two; later
 * versions try one, and forget more errors of the store. Those that read DER from a BIO read one element, which is the header
 * of a message and not all of it.
 */
#define RSA_ONLY  1
#define NO_ED     2    /* there are no such functions for ED25519 */
#define FROM_3_5  8    /* works there: DER for which PKCS#8 is asked; on 3.0 libcrypto leaves our decoder out */
#define NO_OLD    4    /* with an older error in the queue, PEM_read_bio_PrivateKey() looks no further than the first block */
static const struct { const char *name; LOAD *load; int works, calls, left, before, flags; } ways[] = {
    { "PEM_read_bio_PrivateKey, memory", by_pem_memory, 1, 1, 0, 0, 0 },
    { "PEM_read_bio_PrivateKey, file", by_pem_bio_file, 1, 1, 0, 0, 0 },
    { "PEM_read_PrivateKey", by_pem_stdio, 1, 1, 0, 0, 0 },
    { "PEM_read_bio_PrivateKey, certificate before", by_pem_cert_key, 1, 1, 0, 0, NO_OLD },
    { "PEM_read_bio_PrivateKey, certificate behind", by_pem_key_cert, 1, 1, 0, 0, 0 },
    { "PEM_read_bio_X509, then key", by_pem_cert_then_key, 1, 1, 0, 0, 0 },
    { "PEM_read_bio_PrivateKey, then certificate", by_pem_key_then_cert, 1, 1, 0, 0, 0 },
    { "PEM_read_bio_RSAPrivateKey, ECPrivateKey", by_pem_old_type, 1, 1, 0, 0, NO_ED },
    { "SSL_CTX_use_PrivateKey_file", by_ssl_pem, 1, 1, 0, 0, 0 },
    { "SSL_CTX_use_PrivateKey_file, bundle", by_ssl_bundle, 1, 1, 0, 0, NO_OLD },
    { "SSL_CTX_use_RSAPrivateKey_file", by_ssl_rsa, 1, 1, 0, 0, RSA_ONLY },
    { "OSSL_DECODER PEM", by_decoder_pem, 1, 1, 0, 0, 0 },
    { "OSSL_DECODER PEM, key pair", by_decoder_pem_keypair, 1, 1, 0, 0, 0 },
    { "OSSL_DECODER PEM, type", by_decoder_pem_type, 1, 1, 0, 0, 0 },
    { "OSSL_DECODER any", by_decoder_any, 1, 1, 0, 0, 0 },
    { "OSSL_DECODER DER", by_decoder_der, 1, 1, 0, 0, 0 },
    { "OSSL_STORE file:", by_store_uri, 1, 1, 0, 1, 0 },
    { "OSSL_STORE path", by_store_path, 1, 1, 0, 1, 0 },
    { "OSSL_STORE, keys expected", by_store_expecting, 1, 1, 0, 1, 0 },
    { "OSSL_STORE bundle", by_store_bundle, 1, 1, 0, 1, 0 },
    { "OSSL_STORE bundle, keys expected", by_store_key_of_bundle, 1, 1, 0, 1, 0 },
    { "OSSL_STORE DER", by_store_der, 1, 1, 0, 0, 0 },
    { "d2i_AutoPrivateKey", by_d2i_auto, 1, 1, 2, 2, 0 },
    { "d2i_PrivateKey", by_d2i_type, 1, 1, 2, 2, 0 },
    { "d2i_PrivateKey_bio", by_d2i_bio, 0, 0, 0, 0, 0 },
    { "SSL_CTX_use_PrivateKey_file, DER", by_ssl_der, 0, 0, 0, 0, 0 },
    { "OSSL_STORE bundle, certificates expected", by_store_certificates, 0, 0, 0, 0, 0 },
    { "OSSL_DECODER PEM, public key", by_decoder_public, 0, 0, 0, 0, 0 },
    { "OSSL_DECODER PEM, another type", by_decoder_wrong_type, 0, 1, 0, 0, 0 },
    { "OSSL_DECODER PEM, PKCS#8", by_decoder_pkcs8, 0, 0, 0, 0, 0 },
    { "OSSL_DECODER PEM, type-specific", by_decoder_type_specific, 0, 0, 0, 0, 0 },
    { "OSSL_DECODER DER, PKCS#8", by_decoder_der_pkcs8, 0, 1, 0, 0, FROM_3_5 },
    { "PEM_read_bio_PKCS8_PRIV_KEY_INFO", by_pem_pkcs8, 0, 0, 0, 0, 0 },
    { "d2i_PKCS8_PRIV_KEY_INFO", by_d2i_pkcs8, 0, 0, 0, 0, 0 }
};

/* --- they work, or do not ------------------------------------------------- */

typedef struct outcome_st {
    EVP_PKEY *pkey;
    unsigned long codes[16];   /* what is in the error queue afterwards */
    int n, ours;
    uint64_t calls;
} OUTCOME;

static int is_ours(unsigned long code)
{
    const char *lib = ERR_lib_error_string(code);

    return lib != NULL && strcmp(lib, "kmsenv") == 0;
}

/* old: the program left an error in the queue before, which OpenSSL and we have to leave alone. */
static void load(int way, const TEST_KEY *key, const TEST_FILES *f, int old, OUTCOME *out)
{
    uint64_t before = kms_calls();
    unsigned long code;

    memset(out, 0, sizeof(*out));
    ERR_clear_error();
    if (old)
        ERR_raise(ERR_LIB_USER, 42);
    out->pkey = ways[way].load(key, f);
    while ((code = ERR_get_error()) != 0 && out->n < COUNT(out->codes)) {
        out->ours += is_ours(code);
        out->codes[out->n++] = code;
    }
    out->calls = kms_calls() - before;
}

static void show(const char *what, const OUTCOME *out)
{
    char line[120];
    int i;

    for (i = 0; i < out->n; i++) {
        ERR_error_string_n(out->codes[i], line, sizeof(line));
        TEST_info("%s: %s", what, line);
    }
}

static int has_old_error(const OUTCOME *out)
{
    return TEST_int_ge(out->n, 1) && TEST_int_eq(ERR_GET_LIB(out->codes[0]), ERR_LIB_USER) && TEST_int_eq(ERR_GET_REASON(out->codes[0]), 42);
}

static int is_3_5(void)
{
    return OpenSSL_version_num() >= 0x30500000;
}

static int works_here(int way)
{
    return ways[way].works || ((ways[way].flags & FROM_3_5) != 0 && is_3_5());
}

static int check_way(int way, const TEST_KEY *key, int old)
{
    int works = works_here(way) && !(old && (ways[way].flags & NO_OLD) != 0), left = is_3_5() ? 0 : ways[way].left, ok;
    OUTCOME plain, sealed;

    load(way, key, &key->plain, old, &plain);
    load(way, key, &key->sealed, old, &sealed);
    ok = TEST_size_t_eq(plain.calls, 0) && (!old || (has_old_error(&plain) && has_old_error(&sealed)));
    if (works)
        ok = ok && test_key_is(key, plain.pkey) && test_key_is(key, sealed.pkey) && TEST_int_eq(plain.n, old)
             && TEST_int_eq(sealed.n, old + left) && TEST_size_t_eq(sealed.calls, (size_t)ways[way].calls)
             && TEST_int_eq(sealed.ours, 0);
    else
        ok = ok && TEST_ptr_null(sealed.pkey) && TEST_size_t_le(sealed.calls, (size_t)ways[way].calls) && TEST_int_le(sealed.ours, 1);
    if (!ok) {
        TEST_info("%s: %s%s", ways[way].name, key->type, old ? ", after an error" : "");
        show("plain", &plain);
        show("sealed", &sealed);
    }
    EVP_PKEY_free(plain.pkey);
    EVP_PKEY_free(sealed.pkey);
    return ok;
}

static int test_way(int way)
{
    int i, ok = 1;

    for (i = 0; i < KEYS; i++)
        if ((ways[way].flags & (i == 0 ? 0 : i == 1 ? RSA_ONLY : RSA_ONLY | NO_ED)) == 0)
            ok = check_way(way, &keys[i], 0) && check_way(way, &keys[i], 1) && ok;
    return ok;
}

/* --- the KMS is down ------------------------------------------------------ */

static KMSENV_TEST *use(KMSENV_TEST *other)
{
    KMSENV_TEST *before = t;

    t = other;
    OSSL_LIB_CTX_set0_default(t->libctx);
    return before;
}

/* Where the first error of ours has to be: later versions than 3.0 may forget those that were before it, or leave some behind it. */
static int place_of_ours(int way, int old, const OUTCOME *out)
{
    int at = old;

    if (!is_3_5())
        return old + ways[way].before;
    while (at < out->n && at < old + ways[way].before && !is_ours(out->codes[at]))
        at++;
    return at;
}

/* The program's own error stays; then, there is one of ours. */
static int test_way_with_kms_down(int way)
{
    const TEST_KEY *key = &keys[(ways[way].flags & RSA_ONLY) != 0 ? 0 : 1];
    KMSENV_TEST *up = use(down);
    OUTCOME sealed;
    int old, ok = 1, at;

    for (old = 0; old < 2 && (ways[way].flags & FROM_3_5 ? is_3_5() : ways[way].calls > 0) && ok; old++) {
        load(way, key, &key->sealed, old, &sealed);
        at = place_of_ours(way, old, &sealed);
        ok = TEST_ptr_null(sealed.pkey) && (!old || has_old_error(&sealed));
        if (!old || (ways[way].flags & NO_OLD) == 0)
            ok = ok && TEST_int_eq(sealed.ours, 1) && TEST_int_lt(at, sealed.n) && TEST_true(is_ours(sealed.codes[at]))
                 && TEST_int_eq(ERR_GET_REASON(sealed.codes[at]), KMSENV_R_KEY_FILE_INVALID);
        if (!ok)
            show(ways[way].name, &sealed);
        EVP_PKEY_free(sealed.pkey);
    }
    use(up);
    return ok;
}

/* --- those who look for something else ------------------------------------ */

static int read_infos(const TEST_KEY *key, const TEST_FILES *f)
{
    BIO *bio = text(f->key_cert);
    STACK_OF(X509_INFO) *infos = PEM_X509_INFO_read_bio(bio, NULL, NULL, NULL);
    int ok = TEST_ptr(infos) && TEST_int_gt(sk_X509_INFO_num(infos), 0);

    (void)key;
    sk_X509_INFO_pop_free(infos, X509_INFO_free);
    BIO_free(bio);
    return ok;
}

static int ssl_ca_file(const TEST_KEY *key, const TEST_FILES *f)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(t->libctx, NULL, TLS_client_method());
    int ok = TEST_true(SSL_CTX_load_verify_locations(ctx, f->key_cert_path, NULL))
             && TEST_true(SSL_CTX_use_certificate_chain_file(ctx, f->key_cert_path));

    (void)key;
    SSL_CTX_free(ctx);
    return ok;
}

static int ssl_client_ca(const TEST_KEY *key, const TEST_FILES *f)
{
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(f->key_cert_path);
    int ok = TEST_int_eq(sk_X509_NAME_num(names), 1);

    (void)key;
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return ok;
}

static int lookup_file(const TEST_KEY *key, const TEST_FILES *f)
{
    X509_STORE *certificates = X509_STORE_new();
    X509_LOOKUP *lookup = X509_STORE_add_lookup(certificates, X509_LOOKUP_file());
    int ok = TEST_int_gt(X509_load_cert_crl_file_ex(lookup, f->cert_key_path, X509_FILETYPE_PEM, t->libctx, NULL), 0);

    (void)key;
    X509_STORE_free(certificates);
    return ok;
}

static int read_certificate(const TEST_KEY *key, const TEST_FILES *f)
{
    BIO *bio = text(f->key_cert);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    int ok = TEST_ptr(cert) && TEST_int_eq(X509_cmp(cert, key->cert), 0);

    X509_free(cert);
    BIO_free(bio);
    return ok;
}

/* There is none; a sealed key is not taken for one, as a plain key is not. */
static int read_public_key(const TEST_KEY *key, const TEST_FILES *f)
{
    BIO *bio = text(f->key_cert);
    EVP_PKEY *pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);

    (void)key;
    BIO_free(bio);
    ERR_clear_error();
    return TEST_ptr_null(pkey);
}

static int read_parameters(const TEST_KEY *key, const TEST_FILES *f)
{
    BIO *bio = text(f->key_cert);
    EVP_PKEY *pkey = PEM_read_bio_Parameters(bio, NULL);

    (void)key;
    BIO_free(bio);
    ERR_clear_error();
    return TEST_ptr_null(pkey);
}

static int (*const others[])(const TEST_KEY *, const TEST_FILES *) = {
    read_infos, ssl_ca_file, ssl_client_ca, lookup_file, read_certificate, read_public_key, read_parameters
};

static int test_others_ask_no_kms(int i)
{
    KMSENV_TEST *up = t;
    uint64_t before;
    int k, ok = 1;

    for (k = 0; k < KEYS * 2 && ok; k++) {
        use(k % 2 == 0 ? up : down);
        before = kms_calls();
        ok = others[i](&keys[k / 2], &keys[k / 2].sealed) && TEST_size_t_eq(kms_calls(), before) && TEST_true(kmsenv_test_no_error());
        use(up);
    }
    return ok;
}

int setup_tests(void)
{
    static const KMSENV_TEST_SETUP without = { "kms = local\nkey-file = @/nothing.pem\nsealed-key-cache = 0\n", NULL, 0, NULL };
    KMSENV_TEST_SETUP setup = without;
    int i;

    if (!TEST_ptr(t = kmsenv_test_new(KMSENV_TEST_LOCAL "sealed-key-cache = 0\n")))
        return 0;
    setup.same = t;
    OSSL_LIB_CTX_set0_default(t->libctx);
    if (!TEST_ptr(down = kmsenv_test_new_ex(&setup)))
        return 0;
    for (i = 0; i < KEYS; i++)
        if (!test_key_make(&keys[i], i, t))
            return 0;
    ADD_ALL_TESTS(test_way, COUNT(ways));
    ADD_ALL_TESTS(test_way_with_kms_down, COUNT(ways));
    ADD_ALL_TESTS(test_others_ask_no_kms, COUNT(others));
    return 1;
}

void cleanup_tests(void)
{
    int i;

    for (i = 0; i < KEYS; i++)
        test_key_reset(&keys[i]);
    OSSL_LIB_CTX_set0_default(NULL);
    kmsenv_test_free(down);
    kmsenv_test_free(t);
}
