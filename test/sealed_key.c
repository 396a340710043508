#include <stdio.h>
#include <string.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include "testutil.h"
#include "kmsenv/format.h"
#include "sealed_key.h"

char *test_pem(const char *label, const unsigned char *data, size_t n)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL, *out = NULL;
    long len;

    if (TEST_int_gt(PEM_write_bio(bio, label, "", data, (long)n), 0) && TEST_long_gt(len = BIO_get_mem_data(bio, &text), 0))
        out = OPENSSL_strndup(text, (size_t)len);
    BIO_free(bio);
    return out;
}

static char *join(const char *a, const char *b)
{
    size_t n = strlen(a) + strlen(b) + 1;
    char *out = OPENSSL_malloc(n);

    if (TEST_ptr(out))
        snprintf(out, n, "%s%s", a, b);
    return out;
}

static int write_bytes(const char *path, const void *data, size_t n)
{
    BIO *bio = BIO_new_file(path, "wb");
    int ok = TEST_ptr(bio) && TEST_int_eq(BIO_write(bio, data, (int)n), (int)n);

    BIO_free(bio);
    return ok;
}

static int make_files(TEST_FILES *f, const char *label, const char *cert, const char *dir, const char *name)
{
    snprintf(f->pem_path, sizeof(f->pem_path), "%s/%s.pem", dir, name);
    snprintf(f->der_path, sizeof(f->der_path), "%s/%s.der", dir, name);
    snprintf(f->cert_key_path, sizeof(f->cert_key_path), "%s/%s-ck.pem", dir, name);
    snprintf(f->key_cert_path, sizeof(f->key_cert_path), "%s/%s-kc.pem", dir, name);
    return TEST_ptr(f->pem = test_pem(label, f->der.data, f->der.len))
        && TEST_ptr(f->cert_key = join(cert, f->pem)) && TEST_ptr(f->key_cert = join(f->pem, cert))
        && write_bytes(f->pem_path, f->pem, strlen(f->pem)) && write_bytes(f->der_path, f->der.data, f->der.len)
        && write_bytes(f->cert_key_path, f->cert_key, strlen(f->cert_key))
        && write_bytes(f->key_cert_path, f->key_cert, strlen(f->key_cert));
}

static X509 *self_signed(EVP_PKEY *pkey, const EVP_MD *md)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_NAME_new();   /* that of cert is constant from OpenSSL 4.0 on */

    if (!TEST_ptr(cert) || !TEST_ptr(name)
            || !TEST_true(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0))
            || !TEST_true(X509_set_version(cert, X509_VERSION_3)) || !TEST_true(X509_set_issuer_name(cert, name))
            || !TEST_true(X509_set_subject_name(cert, name))
            || !TEST_ptr(X509_gmtime_adj(X509_getm_notBefore(cert), -60)) || !TEST_ptr(X509_gmtime_adj(X509_getm_notAfter(cert), 3600))
            || !TEST_true(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1)) || !TEST_true(X509_set_pubkey(cert, pkey))
            || !TEST_int_gt(X509_sign(cert, pkey, md), 0)) {
        X509_free(cert);
        cert = NULL;
    }
    X509_NAME_free(name);
    return cert;
}

static EVP_PKEY *generate(int i, OSSL_LIB_CTX *libctx)
{
    switch (i) {
    case 0:
        return EVP_PKEY_Q_keygen(libctx, NULL, "RSA", (size_t)2048);
    case 1:
        return EVP_PKEY_Q_keygen(libctx, NULL, "EC", "P-256");
    default:
        return EVP_PKEY_Q_keygen(libctx, NULL, "ED25519");
    }
}

static int to_der(const EVP_PKEY *pkey, KMSENV_TEST_BYTES *out)
{
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pkey);
    int len = info == NULL ? -1 : i2d_PKCS8_PRIV_KEY_INFO(info, NULL);
    unsigned char *p;

    if (TEST_int_gt(len, 0) && TEST_ptr(p = out->data = malloc((size_t)len)))
        out->len = (size_t)i2d_PKCS8_PRIV_KEY_INFO(info, &p);
    PKCS8_PRIV_KEY_INFO_free(info);
    return out->len > 0;
}

int test_key_make(TEST_KEY *key, int i, const KMSENV_TEST *t)
{
    static const struct { const char *type; int id; } types[] = {
        { "RSA", EVP_PKEY_RSA }, { "EC", EVP_PKEY_EC }, { "ED25519", EVP_PKEY_ED25519 }
    };
    unsigned char *der = NULL;
    char name[32];
    int len;

    key->type = types[i].type;
    key->id = types[i].id;
    if (!TEST_ptr(key->pkey = generate(i, t->libctx)) || !TEST_ptr(key->cert = self_signed(key->pkey, i == 2 ? NULL : EVP_sha256()))
            || !TEST_int_gt(len = i2d_X509(key->cert, &der), 0))
        return 0;
    key->cert_pem = test_pem(PEM_STRING_X509, der, (size_t)len);
    OPENSSL_free(der);
    if (!TEST_ptr(key->cert_pem) || !to_der(key->pkey, &key->plain.der)
            || !TEST_true(kmsenv_test_crypt(t, 1, key->plain.der.data, key->plain.der.len, &key->sealed.der)))
        return 0;
    snprintf(name, sizeof(name), "plain%d", i);
    if (!make_files(&key->plain, PEM_STRING_PKCS8INF, key->cert_pem, t->dir, name))
        return 0;
    snprintf(name, sizeof(name), "sealed%d", i);
    return make_files(&key->sealed, KMSENV_PEM_SEALED_KEY, key->cert_pem, t->dir, name);
}

static void reset_files(TEST_FILES *f)
{
    kmsenv_test_bytes_reset(&f->der);
    OPENSSL_free(f->pem);
    OPENSSL_free(f->cert_key);
    OPENSSL_free(f->key_cert);
}

void test_key_reset(TEST_KEY *key)
{
    EVP_PKEY_free(key->pkey);
    X509_free(key->cert);
    OPENSSL_free(key->cert_pem);
    reset_files(&key->plain);
    reset_files(&key->sealed);
}

int test_key_is(const TEST_KEY *key, const EVP_PKEY *pkey)
{
    KMSENV_TEST_BYTES der = { NULL, 0 };
    int ok = TEST_ptr(pkey) && TEST_int_eq(EVP_PKEY_eq(key->pkey, pkey), 1) && to_der(pkey, &der)
             && TEST_mem_eq(der.data, der.len, key->plain.der.data, key->plain.der.len);

    kmsenv_test_bytes_reset(&der);
    return ok;
}
