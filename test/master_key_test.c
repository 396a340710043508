/*
 * The public half of a master key, its name: in and out of DER, PEM, certificates and parameters, what can be done with it and
 * what not, and CMS (RFC 9629) to a certificate that has it. Nobody is asked but profiles that are configured.
 */
#include <string.h>
#include <openssl/cms.h>
#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include "testutil.h"
#include "kmsenv_test.h"
#include "kmsenv/format.h"

#define COUNT(a)   ((int)(sizeof(a) / sizeof((a)[0])))
#define TYPE       KMSENV_KEYMGMT_MASTER_KEY
#define KEM_IN_CMS 0x30600000UL

static KMSENV_TEST *t;
static EVP_PKEY *handle;          /* kms:main */

static uint64_t kms_calls(void)
{
    return kmsenv_test_counter(t, "kmsenv.kms-calls");
}

/* The public half by a name, as anybody can write it. NULL with its errors left. */
static EVP_PKEY *named(const char *kms, size_t kms_len, const char *key_id)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(t->libctx, TYPE, NULL);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(KMSENV_PKEY_PARAM_KMS, (char *)kms, kms_len),
        OSSL_PARAM_construct_utf8_string(KMSENV_PKEY_PARAM_KEY_ID, (char *)key_id, 0), OSSL_PARAM_construct_end()
    };
    EVP_PKEY *pkey = NULL;

    if (TEST_ptr(ctx) && TEST_int_gt(EVP_PKEY_fromdata_init(ctx), 0) && EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) <= 0)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static EVP_PKEY *decoded(const unsigned char *der, size_t len)
{
    const unsigned char *p = der;

    return d2i_PUBKEY_ex(NULL, &p, (long)len, t->libctx, NULL);
}

/* Every way out and in. The result is the public half. */
enum { BY_DER, BY_PEM, BY_DECODER, BY_PARAMETERS, BY_DUP, WAYS };

static EVP_PKEY *by_pem(const EVP_PKEY *pkey)
{
    BIO *bio = BIO_new(BIO_s_mem());
    EVP_PKEY *back = NULL;
    char *text;

    if (TEST_int_gt(PEM_write_bio_PUBKEY(bio, (EVP_PKEY *)pkey), 0) && TEST_long_gt(BIO_get_mem_data(bio, &text), 60)
            && TEST_mem_eq(text, 27, "-----BEGIN PUBLIC KEY-----\n", 27))
        back = PEM_read_bio_PUBKEY_ex(bio, NULL, NULL, NULL, t->libctx, NULL);
    BIO_free(bio);
    return back;
}

static EVP_PKEY *by_parameters(const EVP_PKEY *pkey)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(t->libctx, TYPE, NULL);
    OSSL_PARAM *params = NULL;
    EVP_PKEY *back = NULL;

    if (TEST_true(EVP_PKEY_todata(pkey, EVP_PKEY_PUBLIC_KEY, &params)) && TEST_int_gt(EVP_PKEY_fromdata_init(ctx), 0)
            && !TEST_int_gt(EVP_PKEY_fromdata(ctx, &back, EVP_PKEY_PUBLIC_KEY, params), 0))
        back = NULL;
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(ctx);
    return back;
}

static EVP_PKEY *through(int way, EVP_PKEY *pkey)
{
    OSSL_DECODER_CTX *ctx;
    unsigned char *der = NULL;
    const unsigned char *p;
    int n = i2d_PUBKEY(pkey, &der);
    size_t len = (size_t)n;
    EVP_PKEY *back = NULL;

    if (!TEST_int_gt(n, 40))
        return NULL;
    if (way == BY_PEM) {
        back = by_pem(pkey);
    } else if (way == BY_PARAMETERS) {
        back = by_parameters(pkey);
    } else if (way == BY_DUP) {
        if (TEST_ptr(back = decoded(der, len))) {
            EVP_PKEY *copy = EVP_PKEY_dup(back);

            EVP_PKEY_free(back);
            back = copy;
        }
    } else if (way == BY_DECODER) {           /* nothing said about what it is */
        ctx = OSSL_DECODER_CTX_new_for_pkey(&back, NULL, NULL, NULL, 0, t->libctx, NULL);
        p = der;
        TEST_true(OSSL_DECODER_from_data(ctx, &p, &len));
        OSSL_DECODER_CTX_free(ctx);
    } else {
        back = decoded(der, len);
    }
    OPENSSL_free(der);
    return back;
}

/* --- both halves ---------------------------------------------------------- */

typedef int CRYPT(EVP_PKEY_CTX *ctx, unsigned char *out, size_t *outlen, const unsigned char *in, size_t inlen);

static int direct(EVP_PKEY *pkey, int encrypts, const unsigned char *in, size_t inlen, unsigned char *out, size_t *outlen)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(t->libctx, pkey, NULL);
    CRYPT *run = encrypts ? EVP_PKEY_encrypt : EVP_PKEY_decrypt;
    int ok = (encrypts ? EVP_PKEY_encrypt_init(ctx) : EVP_PKEY_decrypt_init(ctx)) > 0 && run(ctx, out, outlen, in, inlen) > 0;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static int kem(EVP_PKEY *pkey, int encapsulates, unsigned char *wrapped, size_t *len, unsigned char *secret, size_t *secret_len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(t->libctx, pkey, NULL);
    int ok = encapsulates
             ? EVP_PKEY_encapsulate_init(ctx, NULL) > 0 && EVP_PKEY_encapsulate(ctx, wrapped, len, secret, secret_len) > 0
             : EVP_PKEY_decapsulate_init(ctx, NULL) > 0 && EVP_PKEY_decapsulate(ctx, secret, secret_len, wrapped, *len) > 0;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* With the public half one encrypts, with the handle one decrypts; the other way round is refused without a call. */
static int check_use(EVP_PKEY *pub)
{
    unsigned char out[24576], secret[64], back[64];
    size_t n = sizeof(out), secret_len = sizeof(secret), m = sizeof(back);
    uint64_t before = kms_calls();
    int ok = TEST_true(kem(pub, 1, out, &n, secret, &secret_len)) && TEST_true(kem(handle, 0, out, &n, back, &m))
             && TEST_mem_eq(back, m, secret, secret_len) && TEST_size_t_eq(kms_calls() - before, 2)
             && TEST_false(kem(pub, 0, out, &n, back, &m)) && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "kms:PROFILE"));

    n = sizeof(out);
    m = sizeof(back);
    return ok && TEST_true(direct(pub, 1, (const unsigned char *)"abc", 3, out, &n)) && TEST_true(direct(handle, 0, out, n, back, &m))
           && TEST_mem_eq(back, m, "abc", 3) && TEST_false(direct(pub, 0, out, n, back, &m))
           && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "kms:PROFILE")) && TEST_size_t_eq(kms_calls() - before, 4);
}

static int test_public_half(int way)
{
    uint64_t before = kms_calls();
    EVP_PKEY *pub = through(way, handle), *other = kmsenv_test_load(t, "kms:other");
    char kms[64], key_id[64], profile[64];
    size_t n;
    int ok = TEST_ptr(pub) && TEST_ptr(other) && TEST_true(EVP_PKEY_is_a(pub, TYPE)) && TEST_true(EVP_PKEY_is_a(pub, KMSENV_OID_MASTER_KEY))
             && TEST_int_eq(EVP_PKEY_eq(pub, handle), 1) && TEST_int_eq(EVP_PKEY_eq(handle, pub), 1)
             && TEST_int_eq(EVP_PKEY_eq(pub, other), 0) && TEST_int_eq(EVP_PKEY_get_security_bits(pub), 256)
             && TEST_true(EVP_PKEY_get_utf8_string_param(pub, KMSENV_PKEY_PARAM_KMS, kms, sizeof(kms), &n)) && TEST_str_eq(kms, "local")
             && TEST_true(EVP_PKEY_get_utf8_string_param(handle, KMSENV_PKEY_PARAM_KEY_ID, key_id, sizeof(key_id), &n))
             && TEST_true(EVP_PKEY_get_utf8_string_param(handle, KMSENV_PKEY_PARAM_PROFILE, profile, sizeof(profile), &n))
             && TEST_str_eq(profile, "main")
             && TEST_false(EVP_PKEY_get_utf8_string_param(pub, KMSENV_PKEY_PARAM_PROFILE, profile, sizeof(profile), &n))
             && TEST_size_t_eq(kms_calls(), before) && TEST_true(kmsenv_test_no_error()) && check_use(pub);

    EVP_PKEY_free(pub);
    EVP_PKEY_free(other);
    return ok;
}

/* A copy of the handle is a handle. */
static int test_copy(void)
{
    EVP_PKEY *copy = EVP_PKEY_dup(handle);
    unsigned char out[24576], back[64];
    size_t n = sizeof(out), m = sizeof(back);
    int ok = TEST_ptr(copy) && TEST_int_eq(EVP_PKEY_eq(copy, handle), 1) && TEST_true(direct(copy, 1, (const unsigned char *)"abc", 3, out, &n))
             && TEST_true(direct(copy, 0, out, n, back, &m)) && TEST_mem_eq(back, m, "abc", 3) && TEST_true(kmsenv_test_no_error());

    EVP_PKEY_free(copy);
    return ok;
}

/* --- what is not handed out ------------------------------------------------ */

static const struct { const char *type, *structure; int selection; } secret_ways[] = {
    { "PEM", "PrivateKeyInfo", EVP_PKEY_KEYPAIR }, { "DER", "PrivateKeyInfo", EVP_PKEY_KEYPAIR }, { "PEM", NULL, EVP_PKEY_KEYPAIR },
    { "DER", NULL, EVP_PKEY_KEYPAIR }
};

static int test_no_private_key(int i)
{
    OSSL_ENCODER_CTX *ctx = OSSL_ENCODER_CTX_new_for_pkey(handle, secret_ways[i].selection, secret_ways[i].type, secret_ways[i].structure, NULL);
    unsigned char *out = NULL;
    size_t n = 0;
    int ok = TEST_ptr(ctx) && TEST_false(OSSL_ENCODER_to_data(ctx, &out, &n)) && TEST_ptr_null(out)
             && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "never leaves its KMS|kms:PROFILE"));

    OSSL_ENCODER_CTX_free(ctx);
    return ok;
}

static int test_no_private_parameters(void)
{
    OSSL_PARAM *params = NULL;
    int ok = TEST_false(EVP_PKEY_todata(handle, EVP_PKEY_KEYPAIR, &params)) && TEST_ptr_null(params)
             && TEST_ulong_eq(ERR_GET_REASON(ERR_peek_error()), KMSENV_R_PARAMETER_INVALID);

    ERR_clear_error();
    return ok;
}

static int test_print(void)
{
    BIO *bio = BIO_new(BIO_s_mem());
    EVP_PKEY *pub = through(BY_DER, handle);
    char *text;
    int ok = TEST_int_gt(EVP_PKEY_print_private(bio, handle, 0, NULL), 0) && TEST_int_gt(BIO_write(bio, "", 1), 0)
             && TEST_long_gt(BIO_get_mem_data(bio, &text), 20) && TEST_ptr(strstr(text, "KMS: local\nKey id: ")) && TEST_ptr(strstr(text, "Profile: main\n"));

    BIO_reset(bio);
    ok = ok && TEST_int_gt(EVP_PKEY_print_public(bio, pub, 0, NULL), 0) && TEST_int_gt(BIO_write(bio, "", 1), 0)
         && TEST_long_gt(BIO_get_mem_data(bio, &text), 20) && TEST_ptr(strstr(text, "KMS: local\nKey id: ")) && TEST_ptr_null(strstr(text, "Profile"))
         && TEST_true(kmsenv_test_no_error());
    EVP_PKEY_free(pub);
    BIO_free(bio);
    return ok;
}

/* --- hostile names --------------------------------------------------------- */

static int read_der(EVP_PKEY *pkey, unsigned char *der, size_t room, size_t *len)
{
    unsigned char *p = der;
    int n = i2d_PUBKEY(pkey, NULL);

    if (!TEST_int_gt(n, 0) || !TEST_size_t_le((size_t)n, room))
        return 0;
    *len = (size_t)i2d_PUBKEY(pkey, &p);
    return 1;
}

/* Cut anywhere: no key, and nothing read that is not there. Altered anywhere: no key, or another one. */
static int test_damaged(void)
{
    unsigned char der[256], *cut;
    uint64_t before = kms_calls();
    EVP_PKEY *pkey;
    size_t n, i;
    int ok = read_der(handle, der, sizeof(der) - 1, &n);

    for (i = 1; ok && i < n; i++) {
        cut = kmsenv_test_guarded(i);
        memcpy(cut, der, i);
        ok = TEST_ptr_null(decoded(cut, i));
        kmsenv_test_guarded_free(cut, i);
        der[i] ^= 1;
        if ((pkey = decoded(der, n)) != NULL)
            ok = ok && TEST_int_eq(EVP_PKEY_eq(pkey, handle), 0);
        EVP_PKEY_free(pkey);
        der[i] ^= 1;
    }
    ERR_clear_error();
    return ok && TEST_size_t_eq(kms_calls(), before);
}

#define ALGORITHM "\x30\x16\x06\x14\x69\x81\xa0\x91\xf8\xe7\x81\x9d\x8a\x92\xdb\x8a\xfe\x85\xd6\xc4\xec\x97\xe7\x32"
#define DER(text) { text, sizeof(text) - 1 }

static const struct { const char *der; size_t len; } malformed[] = {
    DER("\x30\x24" ALGORITHM "\x03\x0a\x00\x30\x07\x0c\x01" "a" "\x0c\x02" "b"),                   /* shorter than it says */
    DER("\x30\x23" ALGORITHM "\x03\x09\x01\x30\x06\x0c\x01" "a" "\x0c\x01" "b"),                   /* unused bits */
    DER("\x30\x21" ALGORITHM "\x03\x07\x00\x30\x04\x0c\x00\x0c\x00"),                              /* empty texts */
    DER("\x30\x23" ALGORITHM "\x03\x09\x00\x30\x06\x0c\x01" "a" "\x0c\x01" "\n"),                  /* a control character */
    DER("\x30\x23" ALGORITHM "\x03\x09\x00\x30\x06\x0c\x01" "a" "\x0c\x01" "\0"),
    DER("\x30\x24" ALGORITHM "\x03\x0a\x00\x30\x07\x0c\x01" "a" "\x0c\x02" "\xc2\x9b"),              /* what moves cursors of terminals */
    DER("\x30\x23" ALGORITHM "\x03\x09\x00\x30\x06\x0c\x01" "a" "\x0c\x01" "\xff"),                /* not UTF-8 */
    DER("\x30\x23" ALGORITHM "\x03\x09\x00\x30\x06\x04\x01" "a" "\x0c\x01" "b"),                   /* another type */
    DER("\x30\x20" ALGORITHM "\x03\x06\x00\x30\x03\x0c\x01" "a"),                                  /* no key id */
    DER("\x30\x26" ALGORITHM "\x03\x0c\x00\x30\x09\x0c\x01" "a" "\x0c\x01" "b" "\x0c\x01" "c"),     /* one text more */
    DER("\x30\x81\x23" ALGORITHM "\x03\x09\x00\x30\x06\x0c\x01" "a" "\x0c\x01" "b"),               /* BER */
    DER("\x30\x24" ALGORITHM "\x03\x0a\x00\x30\x81\x06\x0c\x01" "a" "\x0c\x01" "b"),
    DER("\x30\x23" ALGORITHM "\x04\x09\x00\x30\x06\x0c\x01" "a" "\x0c\x01" "b"),                   /* an OCTET STRING */
    DER("\x30\x25" ALGORITHM "\x03\x09\x00\x30\x06\x0c\x01" "a" "\x0c\x01" "b" "\x05\x00"),        /* something after it */
    DER("\x30\x19" ALGORITHM "\x03\x01\x00"), DER("\x30\x18" ALGORITHM "\x03\x00"), DER("\x30\x16" ALGORITHM), DER("\x30\x17" ALGORITHM "\x03"),
    DER("\x30\x1c" ALGORITHM "\x03\x84\xff\xff"), DER("\x30\x80" ALGORITHM "\x03\x09\x00\x30\x06\x0c\x01" "a" "\x0c\x01" "b" "\0\0")
};
static const unsigned char well_formed[] = "\x30\x23" ALGORITHM "\x03\x09\x00\x30\x06\x0c\x01" "a" "\x0c\x01" "b";

static int test_malformed(int i)
{
    unsigned char *der = kmsenv_test_guarded(malformed[i].len);
    OSSL_DECODER_CTX *ctx;
    EVP_PKEY *pkey = NULL;
    const unsigned char *p = der;
    size_t n = malformed[i].len;
    int ok;

    memcpy(der, malformed[i].der, n);
    ctx = OSSL_DECODER_CTX_new_for_pkey(&pkey, "DER", "SubjectPublicKeyInfo", TYPE, EVP_PKEY_PUBLIC_KEY, t->libctx, NULL);
    ok = TEST_ptr_null(decoded(der, n)) && TEST_ptr(ctx) && TEST_false(OSSL_DECODER_from_data(ctx, &p, &n)) && TEST_ptr_null(pkey);
    ERR_clear_error();
    OSSL_DECODER_CTX_free(ctx);
    kmsenv_test_guarded_free(der, malformed[i].len);
    return ok;
}

/* The control for all of the above. */
static int test_well_formed(void)
{
    EVP_PKEY *pkey = decoded(well_formed, sizeof(well_formed) - 1), *same = named("a", 1, "b");
    int ok = TEST_ptr(pkey) && TEST_ptr(same) && TEST_int_eq(EVP_PKEY_eq(pkey, same), 1) && TEST_true(kmsenv_test_no_error());

    EVP_PKEY_free(pkey);
    EVP_PKEY_free(same);
    return ok;
}

/* What cannot be written cannot be made either. */
static int test_wrong_names(void)
{
    static char large[KMSENV_NAME_MAX + 2];
    EVP_PKEY *pkey;
    unsigned char der[2048];
    size_t n;
    int ok;

    memset(large, 'x', sizeof(large) - 1);
    ok = TEST_ptr_null(named("a", 1, large)) && TEST_ulong_eq(ERR_GET_REASON(ERR_peek_error()), KMSENV_R_MESSAGE_MALFORMED);
    ERR_clear_error();
    ok = ok && TEST_ptr_null(named("a\nb", 3, "b")) && TEST_ptr_null(named("", 0, "b")) && TEST_ptr_null(named("a", 1, ""));
    ERR_clear_error();
    large[KMSENV_NAME_MAX] = '\0';
    ok = ok && TEST_ptr(pkey = named(large, KMSENV_NAME_MAX, large)) && read_der(pkey, der, sizeof(der), &n);
    if (ok) {
        EVP_PKEY *back = decoded(der, n);

        ok = TEST_ptr(back) && TEST_int_eq(EVP_PKEY_eq(pkey, back), 1);
        EVP_PKEY_free(back);
        EVP_PKEY_free(pkey);
    }
    return ok && TEST_true(kmsenv_test_no_error());
}

/* A name that is no configured profile's own key is refused, with a sentence, and nobody is asked. */
static const struct { const char *kms, *key_id; } strangers[] = {
    { "local", "00000000000000000000000000000000" }, { "aws", "arn:aws:kms:eu-central-1:111122223333:key/a" },
    { "vault", "https://attacker.example/v1/transit" }, { "kms:main", "main" }, { "local", "../a.pem" }
};

static int test_stranger(int i)
{
    uint64_t before = kms_calls();
    EVP_PKEY *pkey = named(strangers[i].kms, strlen(strangers[i].kms), strangers[i].key_id);
    unsigned char out[64], secret[64];
    size_t n = sizeof(out), m = sizeof(secret);
    int ok = TEST_ptr(pkey) && TEST_false(kem(pkey, 1, out, &n, secret, &m))
             && TEST_true(kmsenv_test_error_says(KMSENV_R_PARAMETER_INVALID, "no profile encrypts under the key|configure one"))
             && TEST_false(direct(pkey, 1, secret, 3, out, &n)) && TEST_true(kmsenv_test_error_is(KMSENV_R_PARAMETER_INVALID))
             && TEST_size_t_eq(kms_calls(), before) && TEST_int_eq(EVP_PKEY_eq(pkey, handle), 0);

    EVP_PKEY_free(pkey);
    return ok;
}

/* --- certificates and CMS -------------------------------------------------- */

/* A certificate for pkey, signed with a key of its own. */
static X509 *certificate(EVP_PKEY *pkey)
{
    X509 *cert = X509_new_ex(t->libctx, NULL);
    EVP_PKEY *signer = EVP_PKEY_Q_keygen(t->libctx, NULL, "EC", "P-256");
    X509_NAME *name = X509_NAME_new();

    if (TEST_ptr(cert) && TEST_ptr(signer) && TEST_true(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"prod", -1, -1, 0))
            && TEST_true(X509_set_subject_name(cert, name)) && TEST_true(X509_set_issuer_name(cert, name))
            && TEST_true(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1)) && TEST_ptr(X509_gmtime_adj(X509_getm_notBefore(cert), 0))
            && TEST_ptr(X509_gmtime_adj(X509_getm_notAfter(cert), 1000)) && TEST_true(X509_set_pubkey(cert, pkey))
            && TEST_int_gt(X509_sign(cert, signer, EVP_sha256()), 0)) {
        unsigned char *der = NULL;
        const unsigned char *p;
        int n = i2d_X509(cert, &der);

        X509_free(cert);
        cert = X509_new_ex(t->libctx, NULL);
        p = der;
        if (!TEST_int_gt(n, 0) || !TEST_ptr(d2i_X509(&cert, &p, n)))
            cert = NULL;
        OPENSSL_free(der);
    }
    X509_NAME_free(name);
    EVP_PKEY_free(signer);
    return cert;
}

/* The certificate goes with the handle; where it comes from, and what else it says, is not asked for that. */
static int test_certificate(void)
{
    uint64_t before = kms_calls();
    X509 *cert = certificate(handle);
    EVP_PKEY *other = kmsenv_test_load(t, "kms:other"), *pub = cert == NULL ? NULL : X509_get0_pubkey(cert);
    int ok = TEST_ptr(pub) && TEST_int_eq(EVP_PKEY_eq(pub, handle), 1) && TEST_int_eq(X509_check_private_key(cert, handle), 1)
             && TEST_true(kmsenv_test_no_error()) && TEST_int_eq(X509_check_private_key(cert, other), 0) && TEST_size_t_eq(kms_calls(), before);

    ERR_clear_error();
    ok = ok && check_use(pub);
    EVP_PKEY_free(other);
    X509_free(cert);
    return ok;
}

static CMS_ContentInfo *cms_encrypt(X509 *cert, const char *text)
{
    STACK_OF(X509) *recipients = sk_X509_new_null();
    BIO *in = BIO_new_mem_buf(text, -1);
    CMS_ContentInfo *cms;

    sk_X509_push(recipients, cert);
    cms = CMS_encrypt_ex(recipients, in, EVP_aes_256_cbc(), CMS_BINARY, t->libctx, NULL);
    sk_X509_free(recipients);
    BIO_free(in);
    return cms;
}

/* 1 if it could be decrypted to the text. */
static int cms_decrypt(CMS_ContentInfo *cms, EVP_PKEY *pkey, X509 *cert, const char *text)
{
    BIO *out = BIO_new(BIO_s_mem());
    char *data;
    int ok = CMS_decrypt(cms, pkey, cert, NULL, out, 0) > 0 && (size_t)BIO_get_mem_data(out, &data) == strlen(text)
             && memcmp(data, text, strlen(text)) == 0;

    BIO_free(out);
    return ok;
}

/*
 * Before 3.6 libcrypto knows no KEM in CMS: it takes the key for one of key transport, asks the KMS to encrypt, and then cannot
 * write the message, as that has no identifier of the algorithm. If this fails, that has changed: see kmsenv-provider(7).
 */
static int check_no_cms(X509 *cert)
{
    CMS_ContentInfo *cms = cms_encrypt(cert, "hello");
    unsigned char *der = NULL;
    int ok = TEST_int_le(i2d_CMS_ContentInfo(cms, &der), 0) && TEST_ulong_ne(ERR_peek_error(), 0);

    ERR_clear_error();
    OPENSSL_free(der);
    CMS_ContentInfo_free(cms);
    return ok;
}

static int check_cms(X509 *cert, EVP_PKEY *other)
{
    uint64_t before = kms_calls();
    CMS_ContentInfo *cms = cms_encrypt(cert, "hello");
    unsigned char *der = NULL;
    int n = cms == NULL ? 0 : i2d_CMS_ContentInfo(cms, &der), ok;
    const unsigned char *p = der;

    CMS_ContentInfo_free(cms);
    cms = CMS_ContentInfo_new_ex(t->libctx, NULL);
    ok = TEST_int_gt(n, 200) && TEST_size_t_eq(kms_calls() - before, 1) && TEST_ptr(d2i_CMS_ContentInfo(&cms, &p, n))
         && TEST_true(cms_decrypt(cms, handle, cert, "hello")) && TEST_size_t_eq(kms_calls() - before, 2)
         && TEST_true(cms_decrypt(cms, handle, NULL, "hello")) && TEST_size_t_eq(kms_calls() - before, 3)
         && TEST_true(kmsenv_test_no_error()) && TEST_false(cms_decrypt(cms, other, NULL, "hello"))
         && TEST_ulong_eq(ERR_GET_REASON(ERR_peek_error()), KMSENV_R_KMS_WRAP_REJECTED);
    ERR_clear_error();
    before = kms_calls();
    ok = ok && TEST_false(cms_decrypt(cms, X509_get0_pubkey(cert), cert, "hello"))       /* the public half opens nothing */
         && TEST_ulong_eq(ERR_GET_REASON(ERR_peek_error()), KMSENV_R_PARAMETER_INVALID) && TEST_size_t_eq(kms_calls(), before);
    ERR_clear_error();
    CMS_ContentInfo_free(cms);
    OPENSSL_free(der);
    return ok;
}

static int test_cms(void)
{
    X509 *cert = certificate(handle);
    EVP_PKEY *other = kmsenv_test_load(t, "kms:other");
    int ok = TEST_ptr(cert) && TEST_ptr(other) && (OpenSSL_version_num() >= KEM_IN_CMS ? check_cms(cert, other) : check_no_cms(cert));

    EVP_PKEY_free(other);
    X509_free(cert);
    return ok;
}

/* A stranger's certificate: nothing is asked of anybody, and no message comes of it. */
static int test_cms_to_stranger(void)
{
    uint64_t before = kms_calls();
    EVP_PKEY *stranger = named("vault", 5, "https://attacker.example");
    X509 *cert = TEST_ptr(stranger) ? certificate(stranger) : NULL;
    CMS_ContentInfo *cms = cert == NULL ? NULL : cms_encrypt(cert, "hello");
    int ok = TEST_ptr(cert) && TEST_ptr_null(cms) && TEST_ulong_eq(ERR_GET_REASON(ERR_peek_error()), KMSENV_R_PARAMETER_INVALID)
             && TEST_size_t_eq(kms_calls(), before);

    ERR_clear_error();
    CMS_ContentInfo_free(cms);
    X509_free(cert);
    EVP_PKEY_free(stranger);
    return ok;
}

int setup_tests(void)
{
    if (!TEST_ptr(t = kmsenv_test_new("profiles = main, other\nmain = kms_main\nother = kms_other\n"
                                      "[kms_main]\nkms = local\nkey-file = @/a.pem\n[kms_other]\nkms = local\nkey-file = @/b.pem\n"))
            || !TEST_ptr(handle = kmsenv_test_load(t, "kms:main")))
        return 0;
    ADD_ALL_TESTS(test_public_half, WAYS);
    ADD_TEST(test_copy);
    ADD_ALL_TESTS(test_no_private_key, COUNT(secret_ways));
    ADD_TEST(test_no_private_parameters);
    ADD_TEST(test_print);
    ADD_TEST(test_damaged);
    ADD_ALL_TESTS(test_malformed, COUNT(malformed));
    ADD_TEST(test_well_formed);
    ADD_TEST(test_wrong_names);
    ADD_ALL_TESTS(test_stranger, COUNT(strangers));
    ADD_TEST(test_certificate);
    ADD_TEST(test_cms);
    ADD_TEST(test_cms_to_stranger);
    return 1;
}

void cleanup_tests(void)
{
    EVP_PKEY_free(handle);
    kmsenv_test_free(t);
}
