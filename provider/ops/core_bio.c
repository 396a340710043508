#include <string.h>
#include "ops/core_bio.h"

#define LINE_MAX_LEN 256     /* PEM_read_bio() reads lines of 254 characters at most */
#define BEGIN        "-----BEGIN "
#define END          "-----END "
#define DASHES       "-----"

void kmsenv_core_bio_init(KMSENV_CORE_BIO *functions, const OSSL_DISPATCH *in)
{
    for (; in->function_id != 0; in++) {
        switch (in->function_id) {
        case OSSL_FUNC_BIO_READ_EX:
            functions->read_ex = OSSL_FUNC_BIO_read_ex(in);
            break;
        case OSSL_FUNC_BIO_WRITE_EX:
            functions->write_ex = OSSL_FUNC_BIO_write_ex(in);
            break;
        case OSSL_FUNC_BIO_GETS:
            functions->read_line = OSSL_FUNC_BIO_gets(in);
            break;
        default:
            break;
        }
    }
}

int kmsenv_core_bio_write(const KMSENV_PROVCTX *provctx, OSSL_CORE_BIO *bio, const void *data, size_t n)
{
    const char *p = data;
    size_t written;

    for (; n > 0; p += written, n -= written)
        if (provctx->bio.write_ex == NULL || !provctx->bio.write_ex(bio, p, n, &written) || written == 0)
            return 0;
    return 1;
}

int kmsenv_core_bio_read(const KMSENV_PROVCTX *provctx, OSSL_CORE_BIO *bio, KMSENV_BUFFER *out)
{
    char chunk[4096];
    size_t n;

    while (provctx->bio.read_ex != NULL && provctx->bio.read_ex(bio, chunk, sizeof(chunk), &n) && n > 0)
        if (!kmsenv_buffer_add(out, chunk, n))
            return 0;
    return out->length > 0;
}

/* Is it "-----BEGIN LABEL-----" for one of them? */
static int is_label(const char *line, const char *const *labels, size_t count, size_t *index)
{
    const char *label = line + sizeof(BEGIN) - 1;
    size_t i, n;

    for (i = 0; i < count; i++) {
        n = strlen(labels[i]);
        if (strncmp(label, labels[i], n) == 0 && strncmp(label + n, DASHES, sizeof(DASHES) - 1) == 0) {
            *index = i;
            return 1;
        }
    }
    return 0;
}

int kmsenv_core_bio_pem(const KMSENV_PROVCTX *provctx, OSSL_CORE_BIO *bio, const char *const *labels, size_t count, size_t *index,
                        KMSENV_BUFFER *out)
{
    char line[LINE_MAX_LEN];
    int inside = 0, ours = 0, n;

    while (provctx->bio.read_line != NULL && (n = provctx->bio.read_line(bio, line, sizeof(line))) > 0) {
        if (!inside && strncmp(line, BEGIN, sizeof(BEGIN) - 1) == 0) {
            inside = 1;
            ours = is_label(line, labels, count, index);
        }
        if (ours && !kmsenv_buffer_add(out, line, (size_t)n))
            return 1;       /* too large: out->failed */
        /* A foreign block is read to its end, where the other decoders would leave the BIO. */
        if (inside && strncmp(line, END, sizeof(END) - 1) == 0)
            return ours;
    }
    return ours;
}
