/*
 * What loading a private key leaves of it in memory that was given back: blocks that are freed with a piece of the key in
 * them, and the stack. OpenSSL leaves pieces of every key, how many depends on the order in which it tries its decoders;
 * this provider must leave none, neither of a sealed key nor of others, which pass through its hands, too.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/pem.h>
#include "testutil.h"
#include "kmsenv_test.h"
#include "kmsenv/format.h"

#define NEEDLE_LEN 32
#define STACK_LEN  (1 << 20)

static unsigned char needle[2][NEEDLE_LEN];      /* of the key: in DER, and in base64 */
static atomic_int watching, ours, theirs;

/* How often is a piece of the key in these bytes? */
static int count_in(const void *p, size_t n)
{
    const unsigned char *at, *end = (const unsigned char *)p + n;
    int i, count = 0;

    for (i = 0; i < 2; i++)
        for (at = p; (at = memmem(at, (size_t)(end - at), needle[i], NEEDLE_LEN)) != NULL; at++)
            count++;
    return count;
}

/* Empty: what somebody before has left there is not of the one that gets the block, and may never write to all of it. */
static void *count_malloc(size_t n, const char *file, int line)
{
    void *p = malloc(n);

    (void)file;
    (void)line;
    if (p != NULL)
        memset(p, 0, malloc_usable_size(p));
    return p;
}

/* libcrypto's own are in providers/, with an s. */
static int is_ours(const char *file)
{
    return strstr(file, "provider/") != NULL;
}

static void count_free(void *p, const char *file, int line)
{
    (void)line;
    if (p != NULL && atomic_load(&watching))
        atomic_fetch_add(is_ours(file) ? &ours : &theirs, count_in(p, malloc_usable_size(p)));
    free(p);
}

/* Never in place, so that what would be left behind is seen. */
static void *count_realloc(void *p, size_t n, const char *file, int line)
{
    size_t old = p == NULL ? 0 : malloc_usable_size(p);
    void *q = n == 0 ? NULL : count_malloc(n, file, line);

    if (p != NULL && (q != NULL || n == 0)) {
        if (q != NULL)
            memcpy(q, p, old < n ? old : n);
        count_free(p, file, line);
    }
    return q;
}

/* Before anything is allocated, or libcrypto refuses. */
static __attribute__((constructor)) void watch_memory(void)
{
    if (!CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free))
        abort();
}

/* --- ways of loading ------------------------------------------------------ */

typedef struct load_st {
    OSSL_LIB_CTX *libctx;
    const unsigned char *data;
    size_t len;
    EVP_PKEY *(*way)(const struct load_st *load);
    int loaded;
} LOAD;

static EVP_PKEY *auto_der(const LOAD *l)
{
    const unsigned char *p = l->data;

    return d2i_AutoPrivateKey_ex(NULL, &p, (long)l->len, l->libctx, NULL);
}

static EVP_PKEY *decoder(const LOAD *l)
{
    EVP_PKEY *pkey = NULL;
    OSSL_DECODER_CTX *ctx = OSSL_DECODER_CTX_new_for_pkey(&pkey, NULL, NULL, NULL, 0, l->libctx, NULL);
    const unsigned char *p = l->data;
    size_t n = l->len;

    if (ctx != NULL)
        OSSL_DECODER_from_data(ctx, &p, &n);
    OSSL_DECODER_CTX_free(ctx);
    return pkey;
}

static EVP_PKEY *pem(const LOAD *l)
{
    BIO *bio = BIO_new_mem_buf(l->data, (int)l->len);
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, NULL, l->libctx, NULL);

    BIO_free(bio);
    return pkey;
}

static void *run(void *arg)
{
    LOAD *l = arg;
    EVP_PKEY *pkey = l->way(l);

    l->loaded = pkey != NULL;
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    return NULL;
}

/* 0 if it fails. */
static int run_on(unsigned char *stack, LOAD *l)
{
    pthread_attr_t attr;
    pthread_t thread;
    int ok;

    l->loaded = 0;
    atomic_store(&ours, 0);
    atomic_store(&theirs, 0);
    atomic_store(&watching, 1);
    ok = TEST_int_eq(pthread_attr_init(&attr), 0) && TEST_int_eq(pthread_attr_setstack(&attr, stack, STACK_LEN), 0)
        && TEST_int_eq(pthread_create(&thread, &attr, run, l), 0) && TEST_int_eq(pthread_join(thread, NULL), 0);
    atomic_store(&watching, 0);
    return ok && TEST_true(l->loaded);
}

static int leaves_nothing(LOAD *l)
{
    unsigned char *stack = aligned_alloc(4096, STACK_LEN);
    int ok = TEST_ptr(stack);

    if (ok) {
        memset(stack, 0, STACK_LEN);
        ok = run_on(stack, l) && run_on(stack, l);       /* the first time things are fetched, and stay */
        TEST_info("%d pieces left by OpenSSL", atomic_load(&theirs));
        ok = ok && TEST_int_eq(atomic_load(&ours), 0) && TEST_int_eq(count_in(stack, STACK_LEN), 0);
    }
    free(stack);
    return ok;
}

/* --- tests ---------------------------------------------------------------- */

static KMSENV_TEST *t;
static struct { const char *label; KMSENV_TEST_BYTES der; BUF_MEM *text; } keys[] = {
    { PEM_STRING_PKCS8INF, { NULL, 0 }, NULL }, { PEM_STRING_RSA, { NULL, 0 }, NULL }, { KMSENV_PEM_SEALED_KEY, { NULL, 0 }, NULL }
};
enum { PKCS8, TRADITIONAL, SEALED, KEYS };

static const struct { const char *name; EVP_PKEY *(*way)(const LOAD *l); int text; } ways[] = {
    { "d2i_AutoPrivateKey", auto_der, 0 }, { "OSSL_DECODER, DER", decoder, 0 }, { "OSSL_DECODER, PEM", decoder, 1 }, { "PEM", pem, 1 }
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static int test_load(int i)
{
    size_t way = (size_t)i % WAYS, k = (size_t)i / WAYS;
    LOAD l = { .libctx = t->libctx, .way = ways[way].way };

    TEST_info("%s, %s", keys[k].label, ways[way].name);
    l.data = ways[way].text ? (const unsigned char *)keys[k].text->data : keys[k].der.data;
    l.len = ways[way].text ? keys[k].text->length : keys[k].der.len;
    return leaves_nothing(&l);
}

/* It finds what is there. */
static int test_search(void)
{
    unsigned char *p = OPENSSL_malloc(100);
    int ok = TEST_ptr(p);

    atomic_store(&ours, 0);
    atomic_store(&theirs, 0);
    atomic_store(&watching, 1);
    if (ok)
        memcpy(p + 50, needle[0], NEEDLE_LEN);
    CRYPTO_free(p, "x/provider/core/buffer.c", 1);
    if (ok && TEST_ptr(p = OPENSSL_malloc(100)))
        memcpy(p + 50, needle[1], NEEDLE_LEN);
    CRYPTO_free(p, "x/providers/implementations/x.c", 1);
    atomic_store(&watching, 0);
    return ok && TEST_int_eq(atomic_load(&ours), 1) && TEST_int_eq(atomic_load(&theirs), 1);
}

static int write_texts(void)
{
    size_t k;
    BIO *bio;

    for (k = 0; k < KEYS; k++) {
        bio = BIO_new(BIO_s_mem());
        if (!TEST_int_gt(PEM_write_bio(bio, keys[k].label, "", keys[k].der.data, (long)keys[k].der.len), 0)
                || !TEST_int_gt(BIO_get_mem_ptr(bio, &keys[k].text), 0))
            return 0;
        BIO_set_close(bio, BIO_NOCLOSE);
        BIO_free(bio);
    }
    return 1;
}

static int make_keys(void)
{
    EVP_PKEY *pkey = EVP_RSA_gen(2048);
    PKCS8_PRIV_KEY_INFO *info = pkey == NULL ? NULL : EVP_PKEY2PKCS8(pkey);
    int n = info == NULL ? -1 : i2d_PKCS8_PRIV_KEY_INFO(info, &keys[PKCS8].der.data);
    int m = pkey == NULL ? -1 : i2d_PrivateKey(pkey, &keys[TRADITIONAL].der.data);
    int ok = TEST_int_gt(n, 1000) && TEST_int_gt(m, 1000);

    if (ok) {
        keys[PKCS8].der.len = (size_t)n;
        keys[TRADITIONAL].der.len = (size_t)m;
        ok = TEST_true(kmsenv_test_crypt(t, 1, keys[PKCS8].der.data, keys[PKCS8].der.len, &keys[SEALED].der)) && write_texts();
    }
    PKCS8_PRIV_KEY_INFO_free(info);
    EVP_PKEY_free(pkey);
    return ok;
}

int setup_tests(void)
{
    if (!TEST_ptr(t = kmsenv_test_new(KMSENV_TEST_LOCAL)) || !make_keys())
        return 0;
    /* the private exponent is in the third quarter of PKCS#1; a whole line of it in base64, and the last */
    memcpy(needle[0], keys[TRADITIONAL].der.data + 400, NEEDLE_LEN);
    memcpy(needle[1], keys[TRADITIONAL].text->data + 900, NEEDLE_LEN);
    ADD_TEST(test_search);
    ADD_ALL_TESTS(test_load, KEYS * WAYS);
    return 1;
}

void cleanup_tests(void)
{
    size_t k;

    for (k = 0; k < KEYS; k++) {
        BUF_MEM_free(keys[k].text);
        free(keys[k].der.data);
    }
    kmsenv_test_free(t);
}
