#include <inttypes.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/inspect.h"

static void text_string(const char *s)
{
    kmsenv_cli_print_text(stdout, s, strlen(s));
}

static void line(const char *name)
{
    printf("  %-13s ", name);
}

static void text_wrap(const KMSENV_WRAP *wrap, size_t number)
{
    char name[32];
    size_t i;

    snprintf(name, sizeof(name), "wrap %zu", number);
    line(name);
    text_string(wrap->kms);
    fputs(", key ", stdout);
    text_string(wrap->blob.key_id);
    printf(", %zu bytes", wrap->blob.ciphertext_len);
    if (wrap->blob.extra_len > 0)
        printf(" and %zu of the KMS's own", wrap->blob.extra_len);
    putchar('\n');
    for (i = 0; i < wrap->context.count; i++) {
        line(i == 0 ? "  context" : "");
        text_string(wrap->context.name[i]);
        fputs(" = ", stdout);
        text_string(wrap->context.value[i]);
        putchar('\n');
    }
}

static void text_key(const KMSENV_DATA_KEY *key)
{
    size_t i;

    line("data key");
    kmsenv_cli_print_hex(stdout, key->id, KMSENV_DEK_ID_LEN);
    printf(", %zu bytes\n", key->length);
    for (i = 0; i < key->wraps; i++)
        text_wrap(&key->wrap[i], i + 1);
    if (key->wraps == 0) {
        line("wraps");
        fputs("none (detached): ", stdout);
        kmsenv_cli_print_hex(stdout, key->id, KMSENV_DEK_ID_LEN);
        puts(".pem of the keyring has them");
    }
}

static void text_body(const KMSENV_INSPECTED *m)
{
    line("body");
    if (!m->body_known)
        puts("size not known from here");
    else if (m->body_fault != NULL)
        printf("%" PRIu64 " bytes: %s\n", m->body_bytes, m->body_fault);
    else
        printf("%" PRIu64 " bytes: %" PRIu64 " segment%s, %" PRIu64 " bytes of plaintext\n", m->body_bytes, m->segments,
               m->segments == 1 ? "" : "s", m->plaintext_bytes);
}

/* Calls fn for each line of the comment. */
static void each_comment(const KMSENV_INSPECTED *m, void (*fn)(const char *text, size_t n, size_t number))
{
    const char *at = m->comment, *end = at + m->comment_len, *feed;
    size_t number = 0;

    for (; at < end; at = feed + 1) {
        if ((feed = memchr(at, '\n', (size_t)(end - at))) == NULL)
            feed = end;
        fn(at, (size_t)(feed - at) - (feed > at && feed[-1] == '\r'), number++);
    }
}

static void text_comment(const char *text, size_t n, size_t number)
{
    line(number == 0 ? "comment" : "");
    kmsenv_cli_print_text(stdout, text, n);
    putchar('\n');
}

void kmsenv_inspect_print_text(const KMSENV_INSPECTED *m)
{
    text_string(m->name);
    if (m->header_bytes == 0) {
        puts(": data key of a keyring");
        text_key(m->key);
        return;
    }
    if (m->block > 0) {
        printf(": sealed private key, PEM block %zu, line %zu\n", m->block, m->line);
        each_comment(m, text_comment);
    } else {
        printf(": " KMSENV_FORMAT_NAME " message, version %d\n", KMSENV_FORMAT_VERSION);
    }
    if (m->base64) {
        line("encoding");
        puts("base64 (openssl enc -a)");
    }
    if (m->salt != NULL) {
        line("passphrase");
        fputs("needed besides the KMS (openssl enc -pass), salt ", stdout);
        kmsenv_cli_print_hex(stdout, m->salt, KMSENV_INPUT_SALT_LEN);
        putchar('\n');
    }
    text_key(m->key);
    line("cipher");
    printf("AES-%zu-GCM\n", 8 * m->header.keylen);
    line("salt");
    kmsenv_cli_print_hex(stdout, m->header.salt, KMSENV_SALT_LEN);
    putchar('\n');
    line("commitment");
    kmsenv_cli_print_hex(stdout, m->header.commitment, KMSENV_COMMITMENT_LEN);
    putchar('\n');
    line("segment size");
    printf("%" PRIu64 " bytes (2^%u)\n", (uint64_t)1 << m->header.segment_bits, m->header.segment_bits);
    line("header");
    printf("%zu bytes\n", m->header_bytes);
    text_body(m);
}

/* --- JSON ----------------------------------------------------------------- */

static void json_name(const char *separator, const char *name)
{
    printf("%s\"%s\": ", separator, name);
}

static void json_string(const char *s)
{
    kmsenv_cli_print_json(stdout, s, strlen(s));
}

static void json_hex(const char *separator, const char *name, const unsigned char *data, size_t n)
{
    json_name(separator, name);
    putchar('"');
    kmsenv_cli_print_hex(stdout, data, n);
    putchar('"');
}

static void json_base64(const char *separator, const char *name, const unsigned char *data, size_t n)
{
    unsigned char text[5];
    size_t i, part;

    json_name(separator, name);
    putchar('"');
    for (i = 0; i < n; i += part) {
        part = n - i < 3 ? n - i : 3;
        EVP_EncodeBlock(text, data + i, (int)part);
        fputs((const char *)text, stdout);
    }
    putchar('"');
}

static void json_wrap(const KMSENV_WRAP *wrap, size_t number)
{
    size_t i;

    json_name(number == 0 ? "\n      {" : ",\n      {", "kms");
    json_string(wrap->kms);
    json_name(", ", "keyId");
    json_string(wrap->blob.key_id);
    json_base64(", ", "ciphertext", wrap->blob.ciphertext, wrap->blob.ciphertext_len);
    json_name(", ", "context");
    putchar('{');
    for (i = 0; i < wrap->context.count; i++) {
        if (i > 0)
            fputs(", ", stdout);
        json_string(wrap->context.name[i]);
        fputs(": ", stdout);
        json_string(wrap->context.value[i]);
    }
    putchar('}');
    if (wrap->blob.extra_len > 0)
        json_base64(", ", "extra", wrap->blob.extra, wrap->blob.extra_len);
    putchar('}');
}

static void json_key(const KMSENV_DATA_KEY *key)
{
    size_t i;

    json_hex(",\n  \"dataKey\": {", "id", key->id, KMSENV_DEK_ID_LEN);
    printf(", \"length\": %zu, \"wraps\": [", key->length);
    for (i = 0; i < key->wraps; i++)
        json_wrap(&key->wrap[i], i);
    fputs("]}", stdout);
}

static void json_parameters(const KMSENV_INSPECTED *m)
{
    printf(",\n  \"parameters\": {\"cipher\": \"AES-%zu-GCM\", \"segmentBits\": %u, \"segmentBytes\": %" PRIu64,
           8 * m->header.keylen, m->header.segment_bits, (uint64_t)1 << m->header.segment_bits);
    json_hex(", ", "salt", m->header.salt, KMSENV_SALT_LEN);
    json_hex(", ", "commitment", m->header.commitment, KMSENV_COMMITMENT_LEN);
    putchar('}');
}

static void json_body(const KMSENV_INSPECTED *m)
{
    printf(",\n  \"body\": {\"bytes\": %" PRIu64, m->body_bytes);
    if (m->body_fault != NULL) {
        json_name(", ", "fault");
        json_string(m->body_fault);
    } else {
        printf(", \"segments\": %" PRIu64 ", \"plaintextBytes\": %" PRIu64, m->segments, m->plaintext_bytes);
    }
    putchar('}');
}

static void json_comment(const char *text, size_t n, size_t number)
{
    fputs(number == 0 ? "" : ", ", stdout);
    kmsenv_cli_print_json(stdout, text, n);
}

static void json_sealed_key(const KMSENV_INSPECTED *m)
{
    printf(",\n  \"format\": \"" KMSENV_PEM_SEALED_KEY "\",\n  \"block\": %zu,\n  \"line\": %zu,\n  \"comment\": [", m->block, m->line);
    each_comment(m, json_comment);
    printf("],\n  \"version\": %d", KMSENV_FORMAT_VERSION);
}

void kmsenv_inspect_print_json(const KMSENV_INSPECTED *m)
{
    json_name("{\n  ", "file");
    json_string(m->name);
    if (m->header_bytes == 0) {
        fputs(",\n  \"format\": \"" KMSENV_PEM_DATA_KEY "\"", stdout);
        json_key(m->key);
        fputs("\n}\n", stdout);
        return;
    }
    if (m->block > 0)
        json_sealed_key(m);
    else
        printf(",\n  \"format\": \"" KMSENV_FORMAT_NAME "\",\n  \"version\": %d,\n  \"base64\": %s", KMSENV_FORMAT_VERSION,
               m->base64 ? "true" : "false");
    if (m->salt != NULL)
        json_hex(",\n  ", "passphraseSalt", m->salt, KMSENV_INPUT_SALT_LEN);
    printf(",\n  \"headerBytes\": %zu", m->header_bytes);
    json_key(m->key);
    json_parameters(m);
    if (m->body_known)
        json_body(m);
    fputs("\n}\n", stdout);
}
