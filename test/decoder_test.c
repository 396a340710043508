/* What the decoders of this provider take for theirs, and what they leave to others. */
#include <string.h>
#include <openssl/decoder.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include "testutil.h"
#include "kmsenv_test.h"
#include "kmsenv/format.h"

static KMSENV_TEST *t;
static EVP_PKEY *rsa, *ec;
static KMSENV_TEST_BYTES sealed;

/* The text of the sealed key, with something around it; OPENSSL_free. */
static char *text_with(const char *before, const char *after)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data, *text = NULL;
    long n;

    if (TEST_int_ge(BIO_puts(bio, before), 0) && TEST_int_gt(PEM_write_bio(bio, KMSENV_PEM_SEALED_KEY, "", sealed.data, (long)sealed.len), 0)
            && TEST_int_ge(BIO_puts(bio, after), 0) && (n = BIO_get_mem_data(bio, &data)) > 0)
        text = OPENSSL_strndup(data, (size_t)n);
    BIO_free(bio);
    return text;
}

static EVP_PKEY *read_text_of(const KMSENV_TEST *where, const char *text, const char *propq)
{
    BIO *bio = BIO_new_mem_buf(text, -1);
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, NULL, where->libctx, propq);

    BIO_free(bio);
    return pkey;
}

static EVP_PKEY *read_text(const char *text)
{
    return read_text_of(t, text, NULL);
}

/* Text before a key, as OpenSSL itself passes over it: some of it looks like the beginning of a block. */
static int test_text_before(int i)
{
    static const char *const before[] = {
        "subject=CN = localhost\n", "-----BEGIN of a text\n", "-----BEGIN \n", "-----BEGIN-----\n", "-----BEGIN KMS SEALED KEY----\n",
        "-----BEGIN KMS SEALED KEY-----, an example of a label\n", " -----BEGIN CERTIFICATE-----\n", "-----END OF TEXT-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----   \r\nAAAA\r\n-----END CERTIFICATE-----\r\n"
    };
    char *text = text_with(i < 10 ? before[i] : "", "-----BEGIN KMS SEALED KEY-----\nAAAA\n-----END KMS SEALED KEY-----\n");
    EVP_PKEY *pkey = text == NULL ? NULL : read_text(text);
    int ok = TEST_ptr(pkey) && TEST_int_eq(EVP_PKEY_eq(pkey, rsa), 1) && kmsenv_test_no_error();

    EVP_PKEY_free(pkey);
    OPENSSL_free(text);
    return ok;
}

/* Any number of characters before the label, so that it comes to stand at the end of a line that is read in parts. */
static int test_long_lines(void)
{
    char before[1024];
    EVP_PKEY *pkey;
    size_t n;
    char *text;
    int ok = 1;

    for (n = 1; ok && n < sizeof(before) - 2; n++) {
        memset(before, 'x', n);
        memcpy(before + n, "\n", 2);
        text = text_with(before, before);
        ok = TEST_ptr(text) && TEST_ptr(pkey = read_text(text)) && kmsenv_test_no_error();
        if (ok)
            EVP_PKEY_free(pkey);
        OPENSSL_free(text);
    }
    return ok;
}

static EVP_PKEY *read_der(const unsigned char *der, size_t n)
{
    EVP_PKEY *pkey = NULL;
    OSSL_DECODER_CTX *ctx = OSSL_DECODER_CTX_new_for_pkey(&pkey, "DER", NULL, NULL, 0, t->libctx, NULL);

    if (ctx != NULL)
        OSSL_DECODER_from_data(ctx, &der, &n);
    OSSL_DECODER_CTX_free(ctx);
    return pkey;
}

/* Keys in the forms of OpenSSL 0.9, sealed with `openssl enc`: the error says what is wrong. */
static int test_sealed_in_old_form(int i)
{
    KMSENV_TEST_BYTES old = { NULL, 0 };
    unsigned char *der = NULL;
    int n = i2d_PrivateKey(i == 0 ? rsa : ec, &der);
    int ok = TEST_int_gt(n, 0) && TEST_true(kmsenv_test_crypt(t, 1, der, (size_t)n, &old))
        && TEST_ptr_null(read_der(old.data, old.len))
        && kmsenv_test_error_says(KMSENV_R_MESSAGE_MALFORMED, "sealed private key|PKCS#8");

    OPENSSL_free(der);
    kmsenv_test_bytes_reset(&old);
    return ok;
}

/* A message that is no key, and larger than any. */
static int test_too_large(void)
{
    KMSENV_TEST_BYTES message = { NULL, 0 };
    unsigned char *data = OPENSSL_zalloc(KMSENV_SEALED_KEY_MAX);
    int ok = TEST_ptr(data) && TEST_true(kmsenv_test_crypt(t, 1, data, KMSENV_SEALED_KEY_MAX, &message))
        && TEST_ptr_null(read_der(message.data, message.len))
        && kmsenv_test_error_says(KMSENV_R_INPUT_TOO_LARGE, "sealed private key|more than");

    OPENSSL_free(data);
    kmsenv_test_bytes_reset(&message);
    return ok;
}

/* DER that begins as a data key does, and is none of ours: others may know it. */
static int test_like_a_data_key(void)
{
    unsigned char der[64] = { 0x30, 62, 0x04, 24, [28] = 0x04, 34 };
    unsigned long e;

    return TEST_ptr_null(read_der(der, sizeof(der))) && TEST_ulong_ne(e = ERR_peek_last_error(), 0)
        && TEST_str_eq(ERR_lib_error_string(e), "DECODER routines") && (ERR_clear_error(), 1);
}

/* --- properties ----------------------------------------------------------- */

/* From 3.5 on, decoders that are called like a type of key have to match: that of data keys, not that of sealed keys. */
static const struct { const char *properties; int data_key_until_3_5; } queries[] = {
    { "fips=yes", 0 }, { "?fips=yes", 0 }, { "provider=default", 1 }, { "?provider=default", 0 }, { "?provider=kmsenv", 0 }
};

static char *data_key_text(void)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(t->libctx, KMSENV_KEYMGMT_DATA_KEY, NULL);
    EVP_PKEY *pkey = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    char *data, *text = NULL;
    long n;

    if (TEST_int_gt(EVP_PKEY_keygen_init(ctx), 0) && TEST_int_gt(EVP_PKEY_keygen(ctx, &pkey), 0)
            && TEST_true(PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL)) && (n = BIO_get_mem_data(bio, &data)) > 0)
        text = OPENSSL_strndup(data, (size_t)n);
    BIO_free(bio);
    EVP_PKEY_free(pkey);
    EVP_PKEY_CTX_free(ctx);
    return text;
}

/* As default properties of the library context, and as those of the call. */
static int test_properties(int i)
{
    KMSENV_TEST_SETUP setup = { KMSENV_TEST_LOCAL, i % 2 == 0 ? queries[i / 2].properties : NULL, 0, t };
    const char *propq = i % 2 == 0 ? NULL : queries[i / 2].properties;
    int found = !queries[i / 2].data_key_until_3_5 || OpenSSL_version_num() < 0x30500000, ok;
    KMSENV_TEST *there = kmsenv_test_new_ex(&setup);
    char *text = text_with("", ""), *data_key = data_key_text();
    EVP_PKEY *pkey = NULL, *other = NULL;

    ok = TEST_ptr(there) && TEST_ptr(text) && TEST_ptr(data_key) && TEST_ptr(pkey = read_text_of(there, text, propq))
        && TEST_int_eq(EVP_PKEY_eq(pkey, rsa), 1) && TEST_true(kmsenv_test_no_error())
        && TEST_int_eq((other = read_text_of(there, data_key, propq)) != NULL, found);
    ERR_clear_error();
    EVP_PKEY_free(pkey);
    EVP_PKEY_free(other);
    OPENSSL_free(text);
    OPENSSL_free(data_key);
    kmsenv_test_free(there);
    return ok;
}

int setup_tests(void)
{
    PKCS8_PRIV_KEY_INFO *info;
    unsigned char *der = NULL;
    int n, ok;

    if (!TEST_ptr(t = kmsenv_test_new(KMSENV_TEST_LOCAL)) || !TEST_ptr(rsa = EVP_RSA_gen(2048)) || !TEST_ptr(ec = EVP_EC_gen("P-256"))
            || !TEST_ptr(info = EVP_PKEY2PKCS8(rsa)))
        return 0;
    n = i2d_PKCS8_PRIV_KEY_INFO(info, &der);
    ok = TEST_int_gt(n, 0) && TEST_true(kmsenv_test_crypt(t, 1, der, (size_t)n, &sealed));
    OPENSSL_free(der);
    PKCS8_PRIV_KEY_INFO_free(info);
    ADD_ALL_TESTS(test_text_before, 11);
    ADD_TEST(test_long_lines);
    ADD_ALL_TESTS(test_sealed_in_old_form, 2);
    ADD_TEST(test_too_large);
    ADD_TEST(test_like_a_data_key);
    ADD_ALL_TESTS(test_properties, 2 * (int)(sizeof(queries) / sizeof(queries[0])));
    return ok;
}

void cleanup_tests(void)
{
    kmsenv_test_bytes_reset(&sealed);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    kmsenv_test_free(t);
}
