/* Sealed private keys in one process: how often the KMS is asked, threads, what is damaged, and keys that are not ours. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include "testutil.h"
#include "kmsenv/format.h"
#include "sealed_key.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define THREADS  4
#define LOADS    25

static KMSENV_TEST *t;
static TEST_KEY keys[3];

static EVP_PKEY *load_text(OSSL_LIB_CTX *libctx, const char *text)
{
    BIO *bio = BIO_new_mem_buf(text, -1);
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, NULL, libctx, NULL);

    BIO_free(bio);
    return pkey;
}

static int load(const KMSENV_TEST *with, const TEST_KEY *key)
{
    EVP_PKEY *pkey = load_text(with->libctx, key->sealed.pem);
    int ok = test_key_is(key, pkey);

    EVP_PKEY_free(pkey);
    return ok;
}

static KMSENV_TEST *same(const char *settings)
{
    KMSENV_TEST_SETUP setup = { settings, NULL, 0, t };

    return kmsenv_test_new_ex(&setup);
}

static size_t calls(const KMSENV_TEST *with)
{
    return (size_t)kmsenv_test_counter(with, "kmsenv.kms-calls");
}

/* --- the data key is remembered ------------------------------------------- */

/* All three keys are sealed under one data key. */
static int test_remembered(void)
{
    KMSENV_TEST *fresh = same(KMSENV_TEST_LOCAL);
    int i, ok = TEST_ptr(fresh);

    for (i = 0; i < 30 && ok; i++)
        ok = load(fresh, &keys[i % 3]);
    ok = ok && TEST_size_t_eq(calls(fresh), 1) && TEST_true(kmsenv_test_no_error());
    kmsenv_test_free(fresh);
    return ok;
}

static int test_not_remembered(void)
{
    KMSENV_TEST *fresh = same(KMSENV_TEST_LOCAL "sealed-key-cache = 0\n");
    int i, ok = TEST_ptr(fresh);

    for (i = 0; i < 6 && ok; i++)
        ok = load(fresh, &keys[i % 3]) && TEST_size_t_eq(calls(fresh), (size_t)i + 1);
    kmsenv_test_free(fresh);
    return ok;
}

static int test_forgotten(void)
{
    KMSENV_TEST *fresh = same(KMSENV_TEST_LOCAL "sealed-key-cache = 1\ndek-max-age = 300\n");
    const struct timespec more = { 1, 300000000 };
    int ok = TEST_ptr(fresh) && load(fresh, &keys[0]) && load(fresh, &keys[1]) && TEST_size_t_eq(calls(fresh), 1);

    nanosleep(&more, NULL);
    ok = ok && load(fresh, &keys[0]) && load(fresh, &keys[1]) && TEST_size_t_eq(calls(fresh), 2);
    kmsenv_test_free(fresh);
    return ok;
}

/* A data key that messages left in memory is not one for sealed keys, whose time may be shorter. */
static int test_apart_from_messages(void)
{
    KMSENV_TEST *fresh = same(KMSENV_TEST_LOCAL "sealed-key-cache = 0\n");
    KMSENV_TEST_BYTES out = { NULL, 0 };
    int ok = TEST_ptr(fresh) && TEST_true(kmsenv_test_crypt(fresh, 0, keys[0].sealed.der.data, keys[0].sealed.der.len, &out))
             && TEST_mem_eq(out.data, out.len, keys[0].plain.der.data, keys[0].plain.der.len) && TEST_size_t_eq(calls(fresh), 1)
             && load(fresh, &keys[0]) && TEST_size_t_eq(calls(fresh), 2);

    kmsenv_test_bytes_reset(&out);
    kmsenv_test_free(fresh);
    return ok;
}

/* libcrypto tries a key more than once; a KMS that fails is asked once. */
static int test_failure_is_remembered(void)
{
    KMSENV_TEST *down = same("kms = local\nkey-file = @/nothing.pem\n");
    int ok = TEST_ptr(down) && TEST_ptr_null(load_text(down->libctx, keys[0].sealed.pem))
             && TEST_true(kmsenv_test_error_says(KMSENV_R_KEY_FILE_INVALID, "sealed private key|nothing.pem"))
             && TEST_ptr_null(load_text(down->libctx, keys[0].sealed.pem))
             && TEST_true(kmsenv_test_error_is(KMSENV_R_KEY_FILE_INVALID)) && TEST_size_t_le(calls(down), 1);

    kmsenv_test_free(down);
    return ok;
}

/* --- threads -------------------------------------------------------------- */

typedef struct job_st {
    const KMSENV_TEST *with;
    int first, ok;
} JOB;

static void *load_many(void *arg)
{
    JOB *job = arg;
    int i;

    job->ok = 1;
    for (i = 0; i < LOADS && job->ok; i++) {
        const TEST_KEY *key = &keys[(job->first + i) % 3];
        EVP_PKEY *pkey = load_text(job->with->libctx, i % 5 == 4 ? key->plain.pem : key->sealed.pem);

        job->ok = pkey != NULL && EVP_PKEY_eq(pkey, key->pkey) == 1 && ERR_peek_error() == 0;
        EVP_PKEY_free(pkey);
    }
    OPENSSL_thread_stop();
    return NULL;
}

static int test_threads(int cached)
{
    KMSENV_TEST *fresh = same(cached ? KMSENV_TEST_LOCAL : KMSENV_TEST_LOCAL "sealed-key-cache = 0\n");
    pthread_t thread[THREADS];
    JOB job[THREADS];
    int i, started, ok = TEST_ptr(fresh);

    for (started = 0; started < THREADS && ok; started++) {
        job[started] = (JOB){ fresh, started, 0 };
        ok = TEST_int_eq(pthread_create(&thread[started], NULL, load_many, &job[started]), 0);
        if (!ok)
            break;
    }
    for (i = 0; i < started; i++)
        ok = TEST_int_eq(pthread_join(thread[i], NULL), 0) && TEST_true(job[i].ok) && ok;
    ok = ok && TEST_size_t_eq(calls(fresh), cached ? 1 : THREADS * LOADS / 5 * 4);
    kmsenv_test_free(fresh);
    return ok;
}

/* --- damaged -------------------------------------------------------------- */

static const struct { const char *what; int at; int reason; } damages[] = {
    { "the version", 19, KMSENV_R_MESSAGE_MALFORMED },
    { "the id of the data key", 30, KMSENV_TEST_ANY },
    { "the last byte", -1, KMSENV_R_MESSAGE_DAMAGED },
    { "the first byte of the body", -2, KMSENV_R_MESSAGE_DAMAGED }
};

static int fails(const KMSENV_TEST_BYTES *message, int reason)
{
    char *pem = test_pem(KMSENV_PEM_SEALED_KEY, message->data, message->len);
    EVP_PKEY *pkey = load_text(t->libctx, pem);
    int ok = TEST_ptr_null(pkey) && TEST_true(kmsenv_test_error_is(reason));

    EVP_PKEY_free(pkey);
    OPENSSL_free(pem);
    return ok;
}

static int test_damaged(int i)
{
    KMSENV_TEST_BYTES copy = { malloc(keys[1].sealed.der.len), keys[1].sealed.der.len };
    size_t body = keys[1].plain.der.len + 17, at;
    int ok;

    memcpy(copy.data, keys[1].sealed.der.data, copy.len);
    at = damages[i].at >= 0 ? (size_t)damages[i].at : damages[i].at == -1 ? copy.len - 1 : copy.len - body;
    copy.data[at] ^= 1;
    ok = fails(&copy, damages[i].reason);
    if (!ok)
        TEST_info("%s", damages[i].what);
    free(copy.data);
    return ok;
}

static int test_truncated(void)
{
    KMSENV_TEST_BYTES part = keys[2].sealed.der;
    int ok = 1;

    for (part.len = 1; part.len < keys[2].sealed.der.len && ok; part.len++) {
        ok = fails(&part, KMSENV_TEST_ANY);
        if (!ok)
            TEST_info("%zu bytes", part.len);
    }
    return ok;
}

/* What was sealed is something else: a text, a key that is cut, two keys. */
static int test_not_a_key(int i)
{
    const KMSENV_TEST_BYTES *der = &keys[2].plain.der;
    unsigned char content[512] = "not a key at all";
    size_t len = i == 0 ? 16 : i == 1 ? der->len - 1 : 2 * der->len;
    KMSENV_TEST_BYTES message = { NULL, 0 };
    int ok;

    if (i > 0) {
        memcpy(content, der->data, der->len);
        memcpy(content + der->len, der->data, der->len);
    }
    ok = TEST_true(kmsenv_test_crypt(t, 1, content, len, &message)) && fails(&message, KMSENV_R_MESSAGE_MALFORMED);
    kmsenv_test_bytes_reset(&message);
    return ok;
}

static const char *const bad_pem[] = {
    "-----BEGIN KMS SEALED KEY-----\n-----END KMS SEALED KEY-----\n",
    "-----BEGIN KMS SEALED KEY-----\n!!!!\n-----END KMS SEALED KEY-----\n",
    "-----BEGIN KMS SEALED KEY-----\nMIH0\n",
    "-----BEGIN KMS SEALED KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\nMIH0\n-----END KMS SEALED KEY-----\n"
};

static int test_bad_pem(int i)
{
    return TEST_ptr_null(load_text(t->libctx, bad_pem[i])) && TEST_true(kmsenv_test_error_is(KMSENV_TEST_ANY));
}

/* --- keys that are not ours ------------------------------------------------ */

static char *encrypted(const TEST_KEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data, *out = NULL;
    long n;

    if (TEST_true(PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, EVP_aes_128_cbc(), "pass", 4, NULL, NULL)) && (n = BIO_get_mem_data(bio, &data)) > 0)
        out = OPENSSL_strndup(data, (size_t)n);
    BIO_free(bio);
    return out;
}

static char *foreign(int i)
{
    static const char *const texts[] = {
        "", "no PEM at all\n", "-----BEGIN KMS SEALED KEYS-----\nMIH0\n-----END KMS SEALED KEYS-----\n",
        "-----BEGIN SEALED KEY-----\nMIH0\n-----END SEALED KEY-----\n", "-----BEGIN KMS SEALED KEY----\nMIH0\n-----END KMS SEALED KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nMIH0\n-----END PRIVATE KEY-----\n"
    };

    if (i < 3)
        return OPENSSL_strdup(keys[i].plain.pem);
    if (i < 6)
        return encrypted(&keys[i - 3]);
    return OPENSSL_strdup(i == 6 ? keys[0].cert_pem : texts[i - 7]);
}

static int give_pass(char *buf, int size, int rwflag, void *arg)
{
    (void)rwflag;
    (*(int *)arg)++;
    memcpy(buf, "pass", size < 5 ? 0 : 5);
    return 4;
}

static EVP_PKEY *load_foreign(OSSL_LIB_CTX *libctx, const char *text, int *asked, unsigned long codes[16], int *n)
{
    BIO *bio = BIO_new_mem_buf(text, -1);
    EVP_PKEY *pkey;

    ERR_clear_error();
    pkey = PEM_read_bio_PrivateKey_ex(bio, NULL, give_pass, asked, libctx, NULL);
    for (*n = 0; ERR_peek_error() != 0 && *n < 16; (*n)++)
        codes[*n] = ERR_get_error();
    BIO_free(bio);
    return pkey;
}

/* The same key, the same errors, the same number of prompts as without this provider. */
static int test_foreign(int i)
{
    OSSL_LIB_CTX *without = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *standard = OSSL_PROVIDER_load(without, "default");
    unsigned long codes[2][16] = { { 0 } };
    int asked[2] = { 0, 0 }, n[2], ok;
    size_t before = calls(t);
    char *text = foreign(i);
    EVP_PKEY *one, *two;

    one = load_foreign(without, text, &asked[0], codes[0], &n[0]);
    two = load_foreign(t->libctx, text, &asked[1], codes[1], &n[1]);
    ok = TEST_ptr(standard) && TEST_int_eq(one == NULL, two == NULL) && TEST_int_eq(i < 6, one != NULL) && TEST_int_eq(asked[0], asked[1])
         && TEST_int_eq(asked[0] > 0, i >= 3 && i < 6) && TEST_int_eq(n[0], n[1]) && TEST_mem_eq(codes[0], sizeof(codes[0]), codes[1], sizeof(codes[1]))
         && (one == NULL || (test_key_is(&keys[i % 3], one) && test_key_is(&keys[i % 3], two))) && TEST_size_t_eq(calls(t), before);
    EVP_PKEY_free(one);
    EVP_PKEY_free(two);
    OPENSSL_free(text);
    OSSL_PROVIDER_unload(standard);
    OSSL_LIB_CTX_free(without);
    return ok;
}

int setup_tests(void)
{
    int i;

    if (!TEST_ptr(t = kmsenv_test_new(KMSENV_TEST_LOCAL)))
        return 0;
    for (i = 0; i < COUNT(keys); i++)
        if (!test_key_make(&keys[i], i, t))
            return 0;
    ADD_TEST(test_remembered);
    ADD_TEST(test_not_remembered);
    ADD_TEST(test_forgotten);
    ADD_TEST(test_apart_from_messages);
    ADD_TEST(test_failure_is_remembered);
    ADD_ALL_TESTS(test_threads, 2);
    ADD_ALL_TESTS(test_damaged, COUNT(damages));
    ADD_TEST(test_truncated);
    ADD_ALL_TESTS(test_not_a_key, 3);
    ADD_ALL_TESTS(test_bad_pem, COUNT(bad_pem));
    ADD_ALL_TESTS(test_foreign, 13);
    return 1;
}

void cleanup_tests(void)
{
    int i;

    for (i = 0; i < COUNT(keys); i++)
        test_key_reset(&keys[i]);
    kmsenv_test_free(t);
}
