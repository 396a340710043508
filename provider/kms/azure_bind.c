/*
 * Encryption contexts for a service that binds none: RSA-OAEP and AES key wrap have no additional
 * authenticated data. So the context goes inside. What is wrapped under a context is
 *
 *     data || "kmsenv:c" || SHA-256(canonical JSON of the context)
 *
 * and whoever unwraps it with kmsenv needs the same context: a wrap cannot be altered without its data
 * being known, and the data key is what the attacker has not got. Without a context it is the data
 * alone. What the service's own binding gives besides is not to be had: the context is not in the
 * service's log, and no policy of the service can ask for it.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "kms/azure.h"

#define LABEL      "kmsenv:c"
#define LABEL_LEN  8
#define DIGEST_LEN 32

static int has_seal(const unsigned char *data, size_t n)
{
    return n > KMSENV_AZURE_SEAL_LEN && memcmp(data + n - KMSENV_AZURE_SEAL_LEN, LABEL, LABEL_LEN) == 0;
}

static int digest(KMSENV_CRYPTO *crypto, const KMSENV_CONTEXT *context, unsigned char out[DIGEST_LEN], KMSENV_ERROR *err)
{
    KMSENV_BUFFER json;
    int ok;

    kmsenv_buffer_init(&json, KMSENV_CONTEXT_TEXT_MAX, 0);
    ok = kmsenv_context_json(context, &json)
         || kmsenv_error_set(err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the encryption context has more than %d bytes", KMSENV_CONTEXT_TEXT_MAX);
    ok = ok && kmsenv_crypto_sha256(crypto, json.data, json.length, out, err);
    kmsenv_buffer_reset(&json);
    return ok;
}

int kmsenv_azure_bind(KMSENV_CRYPTO *crypto, const KMSENV_CONTEXT *context, const unsigned char *data, size_t n, KMSENV_BUFFER *out,
                      KMSENV_ERROR *err)
{
    unsigned char hash[DIGEST_LEN];

    if (context->count == 0 && has_seal(data, n))   /* it would be taken for one of a context */
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "data that ends like this cannot be wrapped without an encryption "
                                "context; give one");
    if (!kmsenv_buffer_add(out, data, n)
        || (context->count > 0
            && (!digest(crypto, context, hash, err) || !kmsenv_buffer_add(out, LABEL, LABEL_LEN)
                || !kmsenv_buffer_add(out, hash, DIGEST_LEN))))
        return out->failed ? kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for what is to be wrapped") : 0;
    return 1;
}

int kmsenv_azure_unbind(KMSENV_CRYPTO *crypto, const KMSENV_CONTEXT *context, const unsigned char *data, size_t *n, KMSENV_ERROR *err)
{
    unsigned char hash[DIGEST_LEN];
    int sealed = has_seal(data, *n);

    if (sealed != (context->count > 0))
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key is bound to %s encryption context: it was altered "
                                "or is from elsewhere", sealed ? "an" : "no");
    if (!sealed)
        return 1;
    if (!digest(crypto, context, hash, err))
        return 0;
    if (CRYPTO_memcmp(hash, data + *n - DIGEST_LEN, DIGEST_LEN) != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key is bound to another encryption context");
    *n -= KMSENV_AZURE_SEAL_LEN;
    return 1;
}
