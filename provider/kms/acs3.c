#include <string.h>
#include <strings.h>
#include "kms/acs.h"
#include "kms/sign.h"

#define ALGORITHM "ACS3-HMAC-SHA256"
#define TEXT_MAX  (KMSENV_REQUEST_BODY_MAX + 65536)

static int fail(KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the request cannot be signed: " ALGORITHM " needs the headers Host, "
                            "x-acs-date and x-acs-signature-nonce, and memory");
}

static void add_line(KMSENV_BUFFER *out, const char *text, size_t n)
{
    kmsenv_buffer_add(out, text, n);
    kmsenv_buffer_add(out, "\n", 1);
}

/* The headers that the service wants to be signed if they are sent. */
static int is_signed(const char *line)
{
    return strncasecmp(line, "x-acs-", 6) == 0 || strncasecmp(line, "host:", 5) == 0 || strncasecmp(line, "content-type:", 13) == 0;
}

int kmsenv_acs3_canonical(KMSENV_CRYPTO *crypto, const KMSENV_REQUEST *request, KMSENV_BUFFER *signed_headers,
                          KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const char *target = kmsenv_buffer_text(&request->target);
    char hash[KMSENV_HEX_SHA256];

    if (kmsenv_request_header(request, "Host") == NULL || kmsenv_request_header(request, "x-acs-date") == NULL
        || kmsenv_request_header(request, "x-acs-signature-nonce") == NULL)
        return fail(err);
    if (!kmsenv_sign_hash(crypto, kmsenv_buffer_text(&request->body), request->body.length, hash, err))
        return 0;
    add_line(out, request->method, strlen(request->method));
    add_line(out, target, strcspn(target, "?"));
    if (!kmsenv_acs_canonical_params(request, 0, out, err))
        return 0;
    kmsenv_buffer_add(out, "\n", 1);
    kmsenv_sign_headers(request, is_signed, 0, signed_headers, out);
    kmsenv_buffer_add(out, "\n", 1);
    add_line(out, kmsenv_buffer_text(signed_headers), signed_headers->length);
    kmsenv_buffer_add_text(out, hash);
    return (!out->failed && !signed_headers->failed) || fail(err);
}

int kmsenv_acs3_string_to_sign(KMSENV_CRYPTO *crypto, const KMSENV_BUFFER *canonical, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    char hash[KMSENV_HEX_SHA256];

    if (!kmsenv_sign_hash(crypto, kmsenv_buffer_text(canonical), canonical->length, hash, err))
        return 0;
    kmsenv_buffer_printf(out, ALGORITHM "\n%s", hash);
    return !out->failed || fail(err);
}

/* The key is the secret itself. The canonical request has the session token in it. */
static int make_signature(const KMSENV_ACS_SIGNER *s, const KMSENV_REQUEST *request, KMSENV_BUFFER *names,
                          char out[KMSENV_HEX_SHA256], KMSENV_ERROR *err)
{
    unsigned char mac[32];
    KMSENV_BUFFER canonical, text;
    int ok;

    kmsenv_buffer_init(&canonical, TEXT_MAX, 1);
    kmsenv_buffer_init(&text, 256, 0);
    ok = kmsenv_acs3_canonical(s->crypto, request, names, &canonical, err)
         && kmsenv_acs3_string_to_sign(s->crypto, &canonical, &text, err)
         && kmsenv_crypto_hmac_sha256(s->crypto, s->secret, strlen(s->secret), text.data, text.length, mac, err);
    if (ok)
        kmsenv_sign_hex(mac, sizeof(mac), out);
    kmsenv_buffer_reset(&canonical);
    kmsenv_buffer_reset(&text);
    return ok;
}

static int add_hash(const KMSENV_ACS_SIGNER *s, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    char hash[KMSENV_HEX_SHA256];

    return kmsenv_request_header(request, "x-acs-content-sha256") != NULL
           || (kmsenv_sign_hash(s->crypto, kmsenv_buffer_text(&request->body), request->body.length, hash, err)
               && kmsenv_request_add_header(request, "x-acs-content-sha256", hash, err));
}

int kmsenv_acs3_sign(const KMSENV_ACS_SIGNER *signer, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    char signature[KMSENV_HEX_SHA256];
    KMSENV_BUFFER names, value;
    int ok;

    kmsenv_buffer_init(&names, 2048, 0);
    kmsenv_buffer_init(&value, 4096, 0);
    ok = add_hash(signer, request, err) && make_signature(signer, request, &names, signature, err);
    if (ok) {
        kmsenv_buffer_printf(&value, ALGORITHM " Credential=%s,SignedHeaders=%s,Signature=%s", signer->id, kmsenv_buffer_text(&names),
                             signature);
        ok = value.failed ? fail(err) : kmsenv_request_add_header(request, "Authorization", kmsenv_buffer_text(&value), err);
    }
    kmsenv_buffer_reset(&names);
    kmsenv_buffer_reset(&value);
    return ok;
}
