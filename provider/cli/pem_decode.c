#include <openssl/err.h>
#include <openssl/pem.h>
#include "cli/pem_decode.h"

int kmsenv_pem_decode(const unsigned char *text, const KMSENV_PEM_BLOCK *block, unsigned char **der, size_t *len, KMSENV_ERROR *err)
{
    BIO *bio = block->end == 0 ? NULL : BIO_new_mem_buf(text + block->start, (int)(block->end - block->start));
    char *name = NULL, *header = NULL;
    long n = 0;
    int ok;

    *der = NULL;
    ERR_set_mark();
    ok = bio != NULL && PEM_read_bio(bio, &name, &header, der, &n) && *header == '\0';
    ERR_pop_to_mark();
    if (ok) {
        *len = (size_t)n;
    } else {
        kmsenv_error_set(err, KMSENV_R_MESSAGE_MALFORMED, "the PEM block %s of line %zu is damaged, or it has headers", block->label, block->line);
        OPENSSL_free(*der);
        *der = NULL;
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    BIO_free(bio);
    return ok;
}
