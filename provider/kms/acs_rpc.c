#include <string.h>
#include "kms/acs.h"
#include "kms/base64.h"

#define SECRET_MAX 4096

int kmsenv_acs_rpc_string_to_sign(const char *method, const KMSENV_BUFFER *canonical, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    kmsenv_buffer_add_text(out, method);
    kmsenv_buffer_add_text(out, "&%2F&");
    kmsenv_text_encode(out, kmsenv_buffer_text(canonical), canonical->length);
    return !out->failed || kmsenv_error_set(err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the parameters are too large to be signed");
}

/* base64(HMAC-SHA1(secret + "&", text)) */
static int make_signature(const KMSENV_ACS_SIGNER *s, const KMSENV_BUFFER *text, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    unsigned char mac[20];
    KMSENV_BUFFER key;
    int ok;

    kmsenv_buffer_init(&key, SECRET_MAX, 1);
    kmsenv_buffer_add_text(&key, s->secret);
    kmsenv_buffer_add(&key, "&", 1);
    if (key.failed)
        ok = kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the secret of the access key is longer than %d bytes", SECRET_MAX - 1);
    else
        ok = kmsenv_crypto_hmac_sha1(s->crypto, key.data, key.length, text->data, text->length, mac, err)
             && (kmsenv_base64_add(out, mac, sizeof(mac)) || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to sign a request"));
    kmsenv_buffer_reset(&key);
    return ok;
}

int kmsenv_acs_rpc_sign(const KMSENV_ACS_SIGNER *signer, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    int query = strchr(kmsenv_buffer_text(&request->target), '?') != NULL, ok;
    KMSENV_BUFFER canonical, text, signature;

    kmsenv_buffer_init(&canonical, KMSENV_REQUEST_BODY_MAX, 1);
    kmsenv_buffer_init(&text, 3 * KMSENV_REQUEST_BODY_MAX, 1);
    kmsenv_buffer_init(&signature, 64, 0);
    ok = kmsenv_acs_canonical_params(request, 1, &canonical, err)
         && kmsenv_acs_rpc_string_to_sign(request->method, &canonical, &text, err)
         && make_signature(signer, &text, &signature, err);
    if (ok)
        kmsenv_form_add(query ? &request->target : &request->body, "Signature", kmsenv_buffer_text(&signature));
    kmsenv_buffer_reset(&canonical);
    kmsenv_buffer_reset(&text);
    kmsenv_buffer_reset(&signature);
    return ok;
}
