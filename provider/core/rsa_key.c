#include <string.h>
#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <openssl/x509.h>
#include "core/rsa_key.h"

#define NOT_OURSELVES "provider!=kmsenv"
#define TEXT_MAX      65536

/* --- PKCS#1 --------------------------------------------------------------- */

/* The members of an RSAPrivateKey (RFC 8017 A.1.2) after its version. */
static const char *const members[] = {
    OSSL_PKEY_PARAM_RSA_N, OSSL_PKEY_PARAM_RSA_E, OSSL_PKEY_PARAM_RSA_D, OSSL_PKEY_PARAM_RSA_FACTOR1, OSSL_PKEY_PARAM_RSA_FACTOR2,
    OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1
};
#define MEMBERS (sizeof(members) / sizeof(members[0]))

/* Enters a value with that tag; its length, or -1. */
static long enter(const unsigned char **p, const unsigned char *end, int wanted)
{
    int tag, class, how;
    long len;

    how = ASN1_get_object(p, &len, &tag, &class, (long)(end - *p));
    return (how & 0x81) == 0 && tag == wanted && class == V_ASN1_UNIVERSAL && len > 0 && len <= end - *p ? len : -1;
}

/* The next INTEGER, not negative. "Secure" numbers are cleansed when they grow and go. */
static BIGNUM *take_number(const unsigned char **p, const unsigned char *end)
{
    long len = enter(p, end, V_ASN1_INTEGER);
    BIGNUM *number = len < 0 || ((*p)[0] & 0x80) != 0 ? NULL : BN_secure_new();

    if (number != NULL && BN_bin2bn(*p, (int)len, number) == NULL) {
        BN_clear_free(number);
        return NULL;
    }
    if (number != NULL)
        *p += len;
    return number;
}

static EVP_PKEY *build(OSSL_LIB_CTX *libctx, OSSL_PARAM *params)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(libctx, "RSA", NOT_OURSELVES);
    EVP_PKEY *pkey = NULL;

    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) <= 0 || EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_KEYPAIR, params) <= 0)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static EVP_PKEY *from_pkcs1(OSSL_LIB_CTX *libctx, const unsigned char *der, size_t n)
{
    const unsigned char *p = der, *end = der + n;
    long len = enter(&p, end, V_ASN1_SEQUENCE);
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    BIGNUM *version = len < 0 || p + len != end ? NULL : take_number(&p, end), *number[MEMBERS] = { NULL };
    OSSL_PARAM *params = NULL;
    EVP_PKEY *pkey = NULL;
    size_t i;
    int ok = bld != NULL && version != NULL && BN_is_zero(version);   /* two primes */

    for (i = 0; ok && i < MEMBERS; i++)
        ok = (number[i] = take_number(&p, end)) != NULL && !BN_is_zero(number[i]) && OSSL_PARAM_BLD_push_BN(bld, members[i], number[i]);
    if (ok && p == end && (params = OSSL_PARAM_BLD_to_param(bld)) != NULL)
        pkey = build(libctx, params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(bld);
    for (i = 0; i < MEMBERS; i++)
        BN_clear_free(number[i]);
    BN_free(version);
    return pkey;
}

/* --- PKCS#8 and PEM ------------------------------------------------------- */

static EVP_PKEY *from_pkcs8(OSSL_LIB_CTX *libctx, const PKCS8_PRIV_KEY_INFO *p8)
{
    const ASN1_OBJECT *kind = NULL;
    const unsigned char *der = NULL;
    int n = 0;

    if (p8 == NULL || !PKCS8_pkey_get0(&kind, &der, &n, NULL, p8) || OBJ_obj2nid(kind) != NID_rsaEncryption || n <= 0)
        return NULL;
    return from_pkcs1(libctx, der, (size_t)n);
}

static EVP_PKEY *from_pkcs8_der(OSSL_LIB_CTX *libctx, const unsigned char *der, long n)
{
    PKCS8_PRIV_KEY_INFO *p8 = d2i_PKCS8_PRIV_KEY_INFO(NULL, &der, n);
    EVP_PKEY *pkey = from_pkcs8(libctx, p8);

    PKCS8_PRIV_KEY_INFO_free(p8);   /* cleanses */
    return pkey;
}

/* An encrypted key must not make us ask a terminal. */
static int no_password(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return -1;
}

EVP_PKEY *kmsenv_rsa_key_from_pem(OSSL_LIB_CTX *libctx, const void *pem, size_t n)
{
    unsigned char *der = NULL;
    EVP_PKEY *pkey = NULL;
    char *name = NULL;
    long len = 0;
    BIO *bio;

    ERR_set_mark();
    if (n > 0 && n <= TEXT_MAX && (bio = BIO_new_mem_buf(pem, (int)n)) != NULL) {
        if (PEM_bytes_read_bio_secmem(&der, &len, &name, PEM_STRING_EVP_PKEY, bio, no_password, NULL)) {
            if (strcmp(name, PEM_STRING_PKCS8INF) == 0)
                pkey = from_pkcs8_der(libctx, der, len);
            else if (strcmp(name, PEM_STRING_RSA) == 0)
                pkey = from_pkcs1(libctx, der, (size_t)len);
            OPENSSL_secure_free(name);
            OPENSSL_secure_clear_free(der, (size_t)len);
        }
        BIO_free(bio);
    }
    ERR_pop_to_mark();
    return pkey;
}

/* --- PKCS#12 -------------------------------------------------------------- */

/* Where a key is looked for: reader has the ciphers of the file, and the key is made for libctx. */
typedef struct search_st {
    OSSL_LIB_CTX *libctx, *reader;
    const char *password;
} SEARCH;

static EVP_PKEY *from_bag(const SEARCH *s, PKCS12_SAFEBAG *bag)
{
    PKCS8_PRIV_KEY_INFO *p8;
    EVP_PKEY *pkey;

    if (PKCS12_SAFEBAG_get_nid(bag) == NID_keyBag)
        return from_pkcs8(s->libctx, PKCS12_SAFEBAG_get0_p8inf(bag));
    if (PKCS12_SAFEBAG_get_nid(bag) != NID_pkcs8ShroudedKeyBag)
        return NULL;
    p8 = PKCS12_decrypt_skey_ex(bag, s->password, -1, s->reader, NULL);
    pkey = from_pkcs8(s->libctx, p8);
    PKCS8_PRIV_KEY_INFO_free(p8);
    return pkey;
}

/* A key in those parts that are encrypted as a whole, or in those that are not. */
static EVP_PKEY *from_safes(const SEARCH *s, const STACK_OF(PKCS7) *safes, int encrypted)
{
    STACK_OF(PKCS12_SAFEBAG) *bags;
    EVP_PKEY *pkey = NULL;
    PKCS7 *safe;
    int i, j;

    for (i = 0; pkey == NULL && i < sk_PKCS7_num(safes); i++) {
        safe = sk_PKCS7_value(safes, i);
        bags = NULL;
        if (encrypted && PKCS7_type_is_encrypted(safe))
            bags = PKCS12_unpack_p7encdata(safe, s->password, -1);
        else if (!encrypted && PKCS7_type_is_data(safe))
            bags = PKCS12_unpack_p7data(safe);
        for (j = 0; pkey == NULL && j < sk_PKCS12_SAFEBAG_num(bags); j++)
            pkey = from_bag(s, sk_PKCS12_SAFEBAG_value(bags, j));
        sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
    }
    return pkey;
}

static EVP_PKEY *open_pkcs12(const SEARCH *s, const unsigned char *der, size_t n)
{
    PKCS12 *p12 = PKCS12_init_ex(NID_pkcs7_data, s->reader, NULL);
    STACK_OF(PKCS7) *safes = NULL;
    EVP_PKEY *pkey = NULL;

    if (p12 != NULL && d2i_PKCS12(&p12, &der, (long)n) != NULL && PKCS12_mac_present(p12) && PKCS12_verify_mac(p12, s->password, -1)
        && (safes = PKCS12_unpack_authsafes(p12)) != NULL
        && (pkey = from_safes(s, safes, 0)) == NULL)
        pkey = from_safes(s, safes, 1);
    sk_PKCS7_pop_free(safes, PKCS7_free);
    PKCS12_free(p12);
    return pkey;
}

/*
 * Such files may be encrypted with ciphers of the last century, which the application's and the inner context lack. They
 * are loaded into a context that lasts as long as the reading.
 */
EVP_PKEY *kmsenv_rsa_key_from_pkcs12(OSSL_LIB_CTX *libctx, const void *der, size_t n, const char *password, int *legacy)
{
    SEARCH s = { libctx, OSSL_LIB_CTX_new(), password };
    OSSL_PROVIDER *usual, *old;
    EVP_PKEY *pkey = NULL;

    ERR_set_mark();
    usual = s.reader == NULL ? NULL : OSSL_PROVIDER_load(s.reader, "default");
    old = usual == NULL ? NULL : OSSL_PROVIDER_load(s.reader, "legacy");
    *legacy = old != NULL;
    if (usual != NULL && n > 0 && n <= TEXT_MAX)
        pkey = open_pkcs12(&s, der, n);
    if (old != NULL)
        OSSL_PROVIDER_unload(old);
    if (usual != NULL)
        OSSL_PROVIDER_unload(usual);
    OSSL_LIB_CTX_free(s.reader);
    ERR_pop_to_mark();
    return pkey;
}
