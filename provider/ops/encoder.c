#include <openssl/err.h>
#include <openssl/pem.h>
#include "ops/encoder.h"

void *kmsenv_encoder_newctx(void *provctx)
{
    return provctx;
}

void kmsenv_encoder_freectx(void *ctx)
{
    (void)ctx;
}

int kmsenv_encoder_write_pem(const KMSENV_PROVCTX *provctx, OSSL_CORE_BIO *out, const char *label, const unsigned char *der, size_t len)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    long n;
    int ok;

    ERR_set_mark();
    ok = bio != NULL && PEM_write_bio(bio, label, "", der, (long)len) > 0 && (n = BIO_get_mem_data(bio, &text)) > 0
         && kmsenv_core_bio_write(provctx, out, text, (size_t)n);
    ERR_pop_to_mark();
    BIO_free(bio);
    return ok;
}
