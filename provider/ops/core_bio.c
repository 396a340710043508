#include <string.h>
#include <openssl/crypto.h>
#include "ops/core_bio.h"

#define LINE_MAX_LEN 255     /* PEM_read_bio() reads lines of 254 characters at most */
#define SNIFF_LEN    64
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

/* Up to n bytes; fewer only at the end. */
static size_t read_up_to(const KMSENV_PROVCTX *provctx, OSSL_CORE_BIO *bio, unsigned char *out, size_t n)
{
    size_t got = 0, more;

    while (got < n && provctx->bio.read_ex != NULL && provctx->bio.read_ex(bio, out + got, n - got, &more) && more > 0)
        got += more;
    return got;
}

int kmsenv_core_bio_read(const KMSENV_PROVCTX *provctx, OSSL_CORE_BIO *bio, int (*is_ours)(const unsigned char *p, size_t n),
                         KMSENV_BUFFER *out)
{
    unsigned char sniffed[SNIFF_LEN], chunk[4096];
    size_t n = read_up_to(provctx, bio, sniffed, sizeof(sniffed));
    int ours = is_ours(sniffed, n);

    if (ours && kmsenv_buffer_add(out, sniffed, n))
        while ((n = read_up_to(provctx, bio, chunk, sizeof(chunk))) > 0 && kmsenv_buffer_add(out, chunk, n))
            ;
    OPENSSL_cleanse(sniffed, sizeof(sniffed));
    return ours;
}

/* Without what libcrypto does not look at in a line either. */
static size_t trimmed_length(const char *line)
{
    size_t n = strlen(line);

    while (n > 0 && (unsigned char)line[n - 1] <= ' ')
        n--;
    return n;
}

/* Does a block begin there? A text may have lines that only look like it. */
static int is_begin(const char *line)
{
    size_t n = trimmed_length(line);

    return n >= sizeof(BEGIN) + sizeof(DASHES) - 2 && strncmp(line, BEGIN, sizeof(BEGIN) - 1) == 0
        && strncmp(line + n - (sizeof(DASHES) - 1), DASHES, sizeof(DASHES) - 1) == 0;
}

/* Is it "-----BEGIN LABEL-----" for one of them? */
static int is_label(const char *line, const char *const *labels, size_t count, size_t *index)
{
    const char *label = line + sizeof(BEGIN) - 1;
    size_t i, n, len = trimmed_length(label);

    for (i = 0; i < count; i++) {
        n = strlen(labels[i]);
        if (len == n + sizeof(DASHES) - 1 && strncmp(label, labels[i], n) == 0) {
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
        if (!inside && is_begin(line)) {
            inside = 1;
            ours = is_label(line, labels, count, index);
        }
        if (ours && !kmsenv_buffer_add(out, line, (size_t)n))
            break;          /* too large: out->failed */
        /* A foreign block is read to its end, where the other decoders would leave the BIO. */
        if (inside && strncmp(line, END, sizeof(END) - 1) == 0)
            break;
    }
    OPENSSL_cleanse(line, sizeof(line));      /* it may be of somebody's private key */
    return ours;
}
