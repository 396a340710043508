/* kms-envelope through BIO_f_cipher(), the way openssl enc and CMS use a cipher. */
#include <stdlib.h>
#include <string.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include "testutil.h"
#include "kmsenv/format.h"
#include "kmsenv_test.h"

#define DATA_LEN 20000
/* A BIO offers the cipher slices of 4096 bytes; reads of more than 256 bytes go straight to the caller's buffer. */
#define DIRECT   256

static unsigned char key[KMSENV_CALLER_KEY_LEN];
static unsigned char data[DATA_LEN];

static const struct { const char *settings; int block; } blocks[] = {
    { KMSENV_TEST_LOCAL, 512 },
    { KMSENV_TEST_LOCAL "block-size = 1024\n", 1024 },
    { KMSENV_TEST_LOCAL "block-size = 4096\n", 4096 },
    { KMSENV_TEST_LOCAL "block-size = 8192\n", 8192 },
};
#define BLOCKS (int)(sizeof(blocks) / sizeof(blocks[0]))
static KMSENV_TEST *providers[BLOCKS];

static const int slices[] = { 1, 16, 255, 256, 257, 300, 511, 512, 513, 1000, 4096, 5000, 8192, 8193, DATA_LEN };
#define SLICES (int)(sizeof(slices) / sizeof(slices[0]))

static BIO *cipher_bio(const KMSENV_TEST *t, int enc)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(t->libctx, KMSENV_CIPHER_ENVELOPE, NULL);
    BIO *bio = BIO_new(BIO_f_cipher());

    if (!TEST_ptr(cipher) || !TEST_ptr(bio) || !TEST_true(BIO_set_cipher(bio, cipher, key, NULL, enc))) {
        BIO_free(bio);
        bio = NULL;
    }
    EVP_CIPHER_free(cipher);
    return bio;
}

/* Writes in to a cipher BIO in slices; what comes out, into out. */
static int write_through(const KMSENV_TEST *t, int enc, const unsigned char *in, size_t inlen, int slice,
                         KMSENV_TEST_BYTES *out)
{
    BIO *bio = cipher_bio(t, enc), *mem = BIO_new(BIO_s_mem());
    char *text = NULL;
    size_t done, n;
    long len;
    int ok = TEST_ptr(bio) && TEST_ptr(mem) && TEST_ptr(BIO_push(bio, mem));

    for (done = 0; ok && done < inlen; done += n) {
        n = inlen - done < (size_t)slice ? inlen - done : (size_t)slice;
        ok = TEST_int_eq(BIO_write(bio, in + done, (int)n), (int)n);
    }
    ok = ok && TEST_int_eq(BIO_flush(bio), 1) && TEST_int_eq((int)BIO_get_cipher_status(bio), 1);
    len = BIO_get_mem_data(mem, &text);
    if (ok && TEST_ptr(out->data = malloc((size_t)len + 1))) {
        memcpy(out->data, text, (size_t)len);
        out->len = (size_t)len;
    }
    BIO_free(bio);
    BIO_free(mem);
    return ok;
}

/* Reads everything through a cipher BIO in slices. Returns 0 if a read failed; the errors stay in the queue. */
static int read_through(const KMSENV_TEST *t, int enc, const unsigned char *in, size_t inlen, int slice,
                        KMSENV_TEST_BYTES *out)
{
    BIO *bio = cipher_bio(t, enc), *mem = BIO_new_mem_buf(in, (int)inlen);
    unsigned char *room = kmsenv_test_guarded((size_t)slice);
    int n = 0, ok = TEST_ptr(bio) && TEST_ptr(mem) && TEST_ptr(BIO_push(bio, mem)) && TEST_ptr(room)
        && TEST_ptr(out->data = malloc(DATA_LEN + 8192 + 1));

    out->len = 0;
    while (ok && (n = BIO_read(bio, room, slice)) > 0) {
        if (!TEST_size_t_le(out->len + (size_t)n, DATA_LEN + 8192))
            ok = 0;
        else
            memcpy(out->data + out->len, room, (size_t)n);
        out->len += (size_t)n;
    }
    ok = ok && BIO_get_cipher_status(bio) == 1 && ERR_peek_error() == 0;
    BIO_free(bio);
    BIO_free(mem);
    kmsenv_test_guarded_free(room, (size_t)slice);
    return ok;
}

static int test_write(int idx)
{
    KMSENV_TEST *t = providers[idx / SLICES];
    int slice = slices[idx % SLICES], ok;
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };

    ok = write_through(t, 1, data, DATA_LEN, slice, &sealed)
        && TEST_size_t_le(sealed.len, DATA_LEN + (size_t)blocks[idx / SLICES].block)
        && write_through(t, 0, sealed.data, sealed.len, slice, &opened)
        && TEST_mem_eq(opened.data, opened.len, data, DATA_LEN)
        && kmsenv_test_no_error();
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok;
}

/*
 * Reads of more than 256 bytes: OpenSSL 3.0 takes a block off what room is left, comes to a negative
 * length when that is between 256 bytes and a block, and fails. Those reads may fail, loudly; they may
 * not give other bytes. Reads of at most 256 bytes must work.
 */
static int test_read(int idx)
{
    KMSENV_TEST *t = providers[idx / SLICES];
    int slice = slices[idx % SLICES], ok;
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 }, read = { NULL, 0 };

    ok = TEST_true(kmsenv_test_crypt_key(t, 1, key, NULL, data, DATA_LEN, 0, &sealed));
    if (ok && read_through(t, 0, sealed.data, sealed.len, slice, &opened))
        ok = TEST_mem_eq(opened.data, opened.len, data, DATA_LEN);
    else
        ok = ok && TEST_int_gt(slice, DIRECT) && TEST_ulong_ne(ERR_peek_error(), 0)
            && TEST_size_t_le(opened.len, DATA_LEN) && TEST_mem_eq(opened.data, opened.len, data, opened.len);
    ERR_clear_error();
    if (ok && !read_through(t, 1, data, DATA_LEN, slice, &read))
        ok = TEST_int_gt(slice, DIRECT) && TEST_ulong_ne(ERR_peek_error(), 0);
    else
        ok = ok && TEST_true(kmsenv_test_crypt_key(t, 0, key, NULL, read.data, read.len, 0, &opened))
            && TEST_mem_eq(opened.data, opened.len, data, DATA_LEN);
    ERR_clear_error();
    if (!ok)
        TEST_info("block %d, reads of %d bytes", blocks[idx / SLICES].block, slice);
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    kmsenv_test_bytes_reset(&read);
    return ok;
}

static int test_empty(void)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    int ok = write_through(providers[0], 1, data, 0, 1, &sealed)
        && TEST_size_t_gt(sealed.len, 0)
        && TEST_true(read_through(providers[0], 0, sealed.data, sealed.len, 256, &opened))
        && TEST_size_t_eq(opened.len, 0);

    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok && kmsenv_test_no_error();
}

/* A damaged message: the cipher status says so at the end. */
static int test_damage_is_reported(void)
{
    KMSENV_TEST_BYTES sealed = { NULL, 0 }, opened = { NULL, 0 };
    int ok = TEST_true(kmsenv_test_crypt_key(providers[0], 1, key, NULL, data, DATA_LEN, 0, &sealed));

    if (ok)
        sealed.data[sealed.len - 1] ^= 1;
    ok = ok && TEST_false(read_through(providers[0], 0, sealed.data, sealed.len, 256, &opened))
        && kmsenv_test_error_is(KMSENV_R_MESSAGE_DAMAGED);
    kmsenv_test_bytes_reset(&sealed);
    kmsenv_test_bytes_reset(&opened);
    return ok;
}

int setup_tests(void)
{
    int i;

    kmsenv_test_fill(data, sizeof(data), 1);
    kmsenv_test_fill(key, sizeof(key), 2);
    for (i = 0; i < BLOCKS; i++)
        if (!TEST_ptr(providers[i] = kmsenv_test_new(blocks[i].settings)))
            return 0;
    ADD_ALL_TESTS(test_write, BLOCKS * SLICES);
    ADD_ALL_TESTS(test_read, BLOCKS * SLICES);
    ADD_TEST(test_empty);
    ADD_TEST(test_damage_is_reported);
    return 1;
}

void cleanup_tests(void)
{
    int i;

    for (i = 0; i < BLOCKS; i++)
        kmsenv_test_free(providers[i]);
}
