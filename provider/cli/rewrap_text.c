/* PEM: data keys and sealed keys between whatever else is in the file, which stays as it is, byte by byte. */
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include "cli/pem_text.h"
#include "cli/rewrap.h"
#include "envelope/header.h"

#define TEXT_MAX (4 * 1024 * 1024)

/* A message in memory: its header is made anew. */
static int rewrap_sealed_key(KMSENV_REWRAP_ITEM *item, const unsigned char *der, size_t len, unsigned char **out, size_t *outlen,
                             KMSENV_ERROR *err)
{
    unsigned char *header = NULL, *all;
    size_t total, n = 0;

    *out = NULL;
    if (kmsenv_header_length(der, len, &total, err) != 1 || total > len)
        return err->reason != KMSENV_R_NONE ? 0 : kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "its header is cut off");
    if (!kmsenv_rewrap_header(item, der, total, &header, &n, err))
        return 0;
    if (header == NULL)
        return 1;
    *outlen = n + len - total;
    all = *outlen > KMSENV_SEALED_KEY_MAX ? NULL : OPENSSL_realloc(header, *outlen);
    if (all == NULL) {
        OPENSSL_free(header);
        return kmsenv_error_set(err, KMSENV_R_HEADER_TOO_LARGE, "the sealed key would have %zu bytes, of at most %d, or there is no memory",
                                *outlen, KMSENV_SEALED_KEY_MAX);
    }
    memcpy(all + n, der + total, len - total);
    *out = all;
    return 1;
}

static const struct {
    const char *label;
    int (*rewrap)(KMSENV_REWRAP_ITEM *item, const unsigned char *der, size_t len, unsigned char **out, size_t *outlen, KMSENV_ERROR *err);
} kinds[] = {
    { KMSENV_PEM_DATA_KEY, kmsenv_rewrap_data_key }, { KMSENV_PEM_SEALED_KEY, rewrap_sealed_key }
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* The bytes in a block. NULL with err. */
static unsigned char *decode(const unsigned char *text, const KMSENV_PEM_BLOCK *block, long *len, KMSENV_ERROR *err)
{
    BIO *bio = block->end == 0 ? NULL : BIO_new_mem_buf(text + block->start, (int)(block->end - block->start));
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;

    ERR_set_mark();
    if (bio == NULL || !PEM_read_bio(bio, &name, &header, &der, len) || *header != '\0') {
        kmsenv_error_set(err, KMSENV_R_MESSAGE_MALFORMED, "the PEM block is damaged, or it has headers");
        OPENSSL_free(der);
        der = NULL;
    }
    ERR_pop_to_mark();
    OPENSSL_free(name);
    OPENSSL_free(header);
    BIO_free(bio);
    return der;
}

/* A block, with line ends like those of the one it replaces. */
static void add_block(KMSENV_BUFFER *out, const unsigned char *text, const KMSENV_PEM_BLOCK *block, const unsigned char *der, size_t n)
{
    const unsigned char *feed = memchr(text + block->start, '\n', block->end - block->start);
    int returns = feed != NULL && feed[-1] == '\r';
    KMSENV_BUFFER made;
    size_t i;

    kmsenv_buffer_init(&made, TEXT_MAX, 0);
    kmsenv_pem_add(&made, block->label, der, n);
    for (i = 0; i < made.length; i++) {
        if (made.data[i] == '\n' && returns)
            kmsenv_buffer_add_text(out, "\r");
        kmsenv_buffer_add(out, &made.data[i], 1);
    }
    out->failed |= made.failed;
    kmsenv_buffer_reset(&made);
}

static int rewrap_block(KMSENV_REWRAP_ITEM *item, size_t kind, const unsigned char *text, const KMSENV_PEM_BLOCK *block,
                        KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    unsigned char *der, *made = NULL;
    size_t made_len = 0;
    long len = 0;
    int ok;

    ok = (der = decode(text, block, &len, err)) != NULL && kinds[kind].rewrap(item, der, (size_t)len, &made, &made_len, err);
    if (!ok)
        kmsenv_error_prefix(err, "line %zu, %s: ", block->line, block->label);
    else if (made == NULL)
        kmsenv_buffer_add(out, text + block->start, block->end - block->start);
    else
        add_block(out, text, block, made, made_len);
    OPENSSL_free(der);
    OPENSSL_free(made);
    return ok;
}

/* The new text into out; *blocks: how many there are that are ours, *changed: whether one is another one now. */
static int rewrap_blocks(KMSENV_REWRAP_ITEM *item, const unsigned char *text, size_t n, KMSENV_BUFFER *out, size_t *blocks,
                         KMSENV_ERROR *err)
{
    KMSENV_PEM_BLOCK block;
    size_t at = 0, done = 0, kind;

    while (kmsenv_pem_next(text, n, &at, &block)) {
        for (kind = 0; kind < KINDS && strcmp(kinds[kind].label, block.label) != 0; kind++)
            ;
        if (kind == KINDS)
            continue;
        kmsenv_buffer_add(out, text + done, block.start - done);
        if (!rewrap_block(item, kind, text, &block, out, err))
            return 0;
        done = block.end;
        ++*blocks;
    }
    kmsenv_buffer_add(out, text + done, n - done);
    return !out->failed || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the new text");
}

static int none_found(const unsigned char *text, size_t n, KMSENV_ERROR *err)
{
    int base64 = n >= 8 && (memcmp(text, "MI", 2) == 0 || memcmp(text, "U2FsdGVk", 8) == 0);

    return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "%s", base64
                            ? "it looks like base64: decode it first (openssl base64 -d -A)"
                            : "neither a message nor a PEM block \"" KMSENV_PEM_DATA_KEY "\" or \"" KMSENV_PEM_SEALED_KEY "\"");
}

int kmsenv_rewrap_text(KMSENV_REWRAP_ITEM *item, KMSENV_ERROR *err)
{
    size_t n = (size_t)item->file.st.st_size, blocks = 0;
    unsigned char *text = item->file.st.st_size > TEXT_MAX ? NULL : OPENSSL_malloc(n + 1);
    KMSENV_BUFFER out;
    int ok;

    if (text == NULL)
        return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "not a message, and too large (more than 4 MiB) to look for PEM in it");
    /* Keys that are not ours and not sealed may be in the same file. */
    kmsenv_buffer_init(&out, 2 * TEXT_MAX, item->id == NULL);
    ok = kmsenv_replace_read(&item->file, text, n, 0, err) && rewrap_blocks(item, text, n, &out, &blocks, err)
         && (blocks > 0 || none_found(text, n, err));
    if (ok && item->outcome == KMSENV_REWRAP_DONE && !item->run->dry_run)
        ok = kmsenv_replace_commit(&item->file, out.data, out.length, n, 0, err);
    kmsenv_buffer_reset(&out);
    OPENSSL_clear_free(text, n + 1);
    return ok;
}
