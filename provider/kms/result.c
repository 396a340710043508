#include <string.h>
#include <openssl/crypto.h>
#include "kms/base64.h"
#include "kms/result.h"

/* --- replies -------------------------------------------------------------- */

int kmsenv_result_malformed(KMSENV_ERROR *err, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has %s", what);
}

int kmsenv_result_wrong_key(KMSENV_ERROR *err, const char *expected)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply is about another key than the %.200s asked for", expected);
}

int kmsenv_result_plaintext(KMSENV_RESULT *result, const KMSENV_JSON_SECRET *member, KMSENV_ERROR *err)
{
    size_t n = result->room;

    if (!member->found)
        return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has no %s", member->name);
    if (!kmsenv_base64_decode(kmsenv_buffer_text(member->value), member->value->length, result->plaintext, &n))
        return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has a %s that is not base64, or longer than the "
                                "%zu bytes expected", member->name, result->room);
    result->plaintext_len = n;
    return 1;
}

int kmsenv_result_length(KMSENV_RESULT *result, const char *operation, size_t len, KMSENV_ERROR *err)
{
    if (result->plaintext_len == len)
        return 1;
    OPENSSL_cleanse(result->plaintext, result->room);
    return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "%s: the reply has a data key of %zu bytes instead of %zu", operation,
                            result->plaintext_len, len);
}

/* --- what a wrap is made of ----------------------------------------------- */

static int copy(unsigned char **to, size_t *to_len, const void *from, size_t n, KMSENV_ERROR *err)
{
    if ((*to = OPENSSL_memdup(from, n)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a wrapped data key");
    *to_len = n;
    return 1;
}

int kmsenv_blob_copy(KMSENV_BLOB *blob, const void *ciphertext, size_t n, KMSENV_ERROR *err)
{
    return copy(&blob->ciphertext, &blob->ciphertext_len, ciphertext, n, err);
}

int kmsenv_blob_extra(KMSENV_BLOB *blob, const void *extra, size_t n, KMSENV_ERROR *err)
{
    return copy(&blob->extra, &blob->extra_len, extra, n, err);
}

int kmsenv_blob_base64(KMSENV_BLOB *blob, const char *member, const char *text, size_t max, KMSENV_ERROR *err)
{
    size_t n = max;

    if (text == NULL)
        return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has no %s", member);
    if ((blob->ciphertext = OPENSSL_malloc(max)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a wrapped data key");
    if (!kmsenv_base64_decode(text, strlen(text), blob->ciphertext, &n) || n == 0) {
        kmsenv_blob_reset(blob);
        return kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has a %s that is not base64 of 1 to %zu bytes", member, max);
    }
    blob->ciphertext_len = n;
    return 1;
}

/* --- parameters ----------------------------------------------------------- */

void kmsenv_json_add_text_if(KMSENV_BUFFER *body, const char *name, const char *text)
{
    if (text != NULL && *text != '\0')
        kmsenv_json_add_text(body, name, text);
}

void kmsenv_json_add_context(KMSENV_BUFFER *body, const char *name, const KMSENV_CONTEXT *context)
{
    size_t i;

    if (context == NULL || context->count == 0)
        return;
    kmsenv_json_open(body, name);
    for (i = 0; i < context->count; i++)
        kmsenv_json_add_text(body, context->name[i], context->value[i]);
    kmsenv_json_close(body);
}

int kmsenv_json_finish(KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    if (!body->failed)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the parameters are too large for one request to the KMS");
}
