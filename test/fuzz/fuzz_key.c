/*
 * Private keys as programs load them. The first byte says what the rest is: text with PEM blocks, or the DER of one
 * block with a label of ours, which then either loads or leaves one error of ours.
 */
#include "fuzz_provider.h"
#include <openssl/pem.h>
#include "kmsenv/format.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_provider_start();
    return 0;
}

static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return -1;
}

static EVP_PKEY *read_key(BIO *bio)
{
    return PEM_read_bio_PrivateKey_ex(bio, NULL, no_passphrase, NULL, fuzz_libctx, NULL);
}

/* All the keys in it; each one found is past what was read before. */
static void read_text(const uint8_t *data, size_t size)
{
    BIO *bio = BIO_new_mem_buf(data, (int)size);
    EVP_PKEY *pkey;

    FUZZ_REQUIRE(bio != NULL);
    while ((pkey = read_key(bio)) != NULL)
        EVP_PKEY_free(pkey);
    FUZZ_REQUIRE(ERR_peek_error() != 0);
    ERR_clear_error();
    BIO_free(bio);
}

static void read_block(const char *label, const uint8_t *data, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    EVP_PKEY *pkey;

    FUZZ_REQUIRE(bio != NULL && PEM_write_bio(bio, label, "", data, (long)size) > 0);
    pkey = read_key(bio);
    fuzz_check_queue(pkey != NULL);
    EVP_PKEY_free(pkey);
    BIO_free(bio);
}

static void read_der(const uint8_t *data, size_t size)
{
    const unsigned char *p = data;
    EVP_PKEY *pkey = d2i_AutoPrivateKey_ex(NULL, &p, (long)size, fuzz_libctx, NULL);

    FUZZ_REQUIRE(pkey == NULL || (p > data && p <= data + size));
    EVP_PKEY_free(pkey);
    ERR_clear_error();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    switch (data[0] % 3) {
    case 0:
        read_text(data + 1, size - 1);
        break;
    case 1:
        read_block(KMSENV_PEM_SEALED_KEY, data + 1, size - 1);
        read_der(data + 1, size - 1);
        break;
    default:
        read_block(KMSENV_PEM_DATA_KEY, data + 1, size - 1);
        break;
    }
    return 0;
}
