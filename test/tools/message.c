#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "message.h"

#define FAILED 0xffffffffu

OSSL_LIB_CTX *libctx;

void die(const char *what)
{
    fprintf(stderr, "envelope_tool: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(2);
}

void *need(void *p)
{
    if (p == NULL)
        die("out of memory");
    return p;
}

static BYTES read_file(const char *path)
{
    BYTES b = { NULL, 0 };
    FILE *in = fopen(path, "rb");
    long size;

    if (in == NULL || fseek(in, 0, SEEK_END) != 0 || (size = ftell(in)) < 0 || fseek(in, 0, SEEK_SET) != 0)
        die(path);
    b.len = (size_t)size;
    b.data = need(malloc(b.len + 1));
    if (fread(b.data, 1, b.len, in) != b.len)
        die(path);
    fclose(in);
    return b;
}

BUNDLE read_bundle(const char *path)
{
    BYTES file = read_file(path);
    BUNDLE b = { NULL, 0 };
    size_t at = 0, n, room = 0;

    while (at + 4 <= file.len) {
        n = (size_t)file.data[at] << 24 | (size_t)file.data[at + 1] << 16 | (size_t)file.data[at + 2] << 8 | file.data[at + 3];
        at += 4;
        if (n > file.len - at)
            die("bundle is cut off");
        if (b.count == room)
            b.record = need(realloc(b.record, (room = room * 2 + 16) * sizeof(*b.record)));
        b.record[b.count].data = need(malloc(n + 1));
        memcpy(b.record[b.count].data, file.data + at, n);
        b.record[b.count++].len = n;
        at += n;
    }
    free(file.data);
    return b;
}

void free_bundle(BUNDLE *b)
{
    while (b->count > 0)
        free(b->record[--b->count].data);
    free(b->record);
}

void write_record(FILE *out, const BYTES *b)
{
    size_t n = b->data == NULL ? FAILED : b->len;
    unsigned char head[4] = { (unsigned char)(n >> 24), (unsigned char)(n >> 16), (unsigned char)(n >> 8), (unsigned char)n };

    if (fwrite(head, 1, 4, out) != 4 || (b->data != NULL && fwrite(b->data, 1, b->len, out) != b->len))
        die("cannot write");
}

static BYTES unhex(const char *text)
{
    BYTES b = { NULL, 0 };
    long n = 0;

    if (*text == '\0')
        b.data = need(OPENSSL_zalloc(1));
    else if ((b.data = OPENSSL_hexstr2buf(text, &n)) == NULL)
        die("option is not hexadecimal");
    b.len = (size_t)n;
    return b;
}

static void set_key(OPTIONS *o, const char *value)
{
    BYTES b = unhex(value);

    if (b.len != sizeof(o->key))
        die("key must have 32 bytes");
    memcpy(o->key, b.data, b.len);
    o->has_key = 1;
    OPENSSL_clear_free(b.data, b.len);
}

static void read_option(OPTIONS *o, const char *word)
{
    const char *value = strchr(word, '=');
    size_t n = value == NULL ? 0 : (size_t)(value++ - word);

#define IS(name) (n == sizeof(name) - 1 && memcmp(word, name, n) == 0)
    if (IS("key"))
        set_key(o, value);
    else if (IS("aad"))
        o->aad = unhex(value);
    else if (IS("data-key"))
        o->data_key = unhex(value);
    else if (IS("bits"))
        o->bits = (unsigned int)strtoul(value, NULL, 10);
    else if (IS("chunk"))
        o->chunk = strtoul(value, NULL, 10);
    else if (IS("cipher"))
        o->cipher = value;
    else if (IS("context"))
        o->context = value;
    else if (IS("profile"))
        o->profile = value;
    else if (IS("wraps"))
        o->wraps = value;
    else if (IS("properties"))
        o->properties = value;
    else
        die(word);
#undef IS
}

OPTIONS read_options(char **words, int count)
{
    OPTIONS o;
    int i;

    memset(&o, 0, sizeof(o));
    o.cipher = KMSENV_CIPHER_ENVELOPE;
    for (i = 0; i < count; i++)
        read_option(&o, words[i]);
    return o;
}

void free_options(OPTIONS *o)
{
    OPENSSL_free(o->aad.data);
    OPENSSL_free(o->data_key.data);
    OPENSSL_cleanse(o->key, sizeof(o->key));
}

/* ---- one message */

int start(EVP_CIPHER_CTX *ctx, const OPTIONS *o, int enc)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(libctx, o->cipher, o->properties);
    OSSL_PARAM params[6], *p = params;
    unsigned int bits = o->bits;
    int ok, n;

    if (o->bits != 0)
        *p++ = OSSL_PARAM_construct_uint(KMSENV_CIPHER_PARAM_SEGMENT_BITS, &bits);
    if (o->context != NULL)
        *p++ = OSSL_PARAM_construct_utf8_string(KMSENV_CIPHER_PARAM_CONTEXT, (char *)o->context, 0);
    if (o->profile != NULL)
        *p++ = OSSL_PARAM_construct_utf8_string(KMSENV_CIPHER_PARAM_PROFILE, (char *)o->profile, 0);
    if (o->wraps != NULL)
        *p++ = OSSL_PARAM_construct_utf8_string(KMSENV_CIPHER_PARAM_WRAPS, (char *)o->wraps, 0);
    if (o->data_key.data != NULL)
        *p++ = OSSL_PARAM_construct_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY, o->data_key.data, o->data_key.len);
    *p = OSSL_PARAM_construct_end();
    ok = cipher != NULL
        && EVP_CipherInit_ex2(ctx, cipher, o->has_key ? o->key : NULL, NULL, enc, params)
        && (o->aad.data == NULL || EVP_CipherUpdate(ctx, NULL, &n, o->aad.data, (int)o->aad.len));
    EVP_CIPHER_free(cipher);
    return ok;
}

int process(const OPTIONS *o, int enc, const BYTES *in, BYTES *out)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    size_t at, part, chunk = o->chunk != 0 ? o->chunk : (in->len != 0 ? in->len : 1);
    int n = 0, ok = ctx != NULL && start(ctx, o, enc);

    out->len = 0;
    out->data = need(malloc(in->len + in->len / 64 + OUT_SLACK));
    for (at = 0; ok && at < in->len; at += part) {
        part = in->len - at < chunk ? in->len - at : chunk;
        ok = EVP_CipherUpdate(ctx, out->data + out->len, &n, in->data + at, (int)part);
        if (ok && (size_t)n > part + 31)
            die("an update wrote more than the cipher promises");
        out->len += ok ? (size_t)n : 0;
    }
    ok = ok && EVP_CipherFinal_ex(ctx, out->data + out->len, &n);
    out->len += ok ? (size_t)n : 0;
    EVP_CIPHER_CTX_free(ctx);
    if (!ok) {
        free(out->data);
        out->data = NULL;
    }
    return ok;
}
