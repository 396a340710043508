/* Requests to the dedicated gateway, and their signatures. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include "kms/alibaba_instance.h"
#include "kms/alibaba_instance.pb.h"
#include "kms/base64.h"
#include "kms/proto.h"
#include "kms/sign.h"

#define API_VERSION "dkms-gcs-0.2"
#define METHOD      "RSA_PKCS1_SHA_256"
#define MEDIA_TYPE  "application/x-protobuf"
#define PREFIX      "x-kms-"

const char *kmsenv_instance_action_name(const KMSENV_INSTANCE_ACTION *action)
{
    static const char *const name[][2] = { { "GenerateDataKey", "AdvanceGenerateDataKey" },
                                           { "Encrypt", "AdvanceEncrypt" },
                                           { "Decrypt", "AdvanceDecrypt" } };

    return name[action->kind][action->advance != 0];
}

/* --- requests ------------------------------------------------------------- */

static KMSENV_PROTO_BYTES bytes(const unsigned char *data, size_t n)
{
    KMSENV_PROTO_BYTES field = { data, n };

    return field;
}

static void write_generate(const KMSENV_INSTANCE_ACTION *a, KMSENV_BUFFER *body)
{
    const kmsenv_instance_GenerateDataKeyRequest plain = {
        .KeyId = kmsenv_proto_text(a->key_id), .Algorithm = kmsenv_proto_text(a->algorithm),
        .NumberOfBytes = (int32_t)a->number_of_bytes, .Aad = bytes(a->aad, a->aad_len) };
    const kmsenv_instance_AdvanceGenerateDataKeyRequest advance = {
        .KeyId = kmsenv_proto_text(a->key_id), .NumberOfBytes = (int32_t)a->number_of_bytes, .Aad = bytes(a->aad, a->aad_len) };

    if (a->advance)
        kmsenv_proto_write(kmsenv_instance_AdvanceGenerateDataKeyRequest_fields, &advance, body);
    else
        kmsenv_proto_write(kmsenv_instance_GenerateDataKeyRequest_fields, &plain, body);
}

static void write_encrypt(const KMSENV_INSTANCE_ACTION *a, KMSENV_BUFFER *body)
{
    const kmsenv_instance_EncryptRequest message = {
        .KeyId = kmsenv_proto_text(a->key_id), .Plaintext = bytes(a->plaintext, a->plaintext_len),
        .Algorithm = kmsenv_proto_text(a->algorithm), .Aad = bytes(a->aad, a->aad_len), .Iv = bytes(a->iv, a->iv_len) };

    kmsenv_proto_write(kmsenv_instance_EncryptRequest_fields, &message, body);
}

static void write_decrypt(const KMSENV_INSTANCE_ACTION *a, KMSENV_BUFFER *body)
{
    const kmsenv_instance_DecryptRequest message = {
        .CiphertextBlob = bytes(a->ciphertext, a->ciphertext_len), .KeyId = kmsenv_proto_text(a->key_id),
        .Algorithm = kmsenv_proto_text(a->algorithm), .Aad = bytes(a->aad, a->aad_len), .Iv = bytes(a->iv, a->iv_len) };

    kmsenv_proto_write(kmsenv_instance_DecryptRequest_fields, &message, body);
}

int kmsenv_instance_body(const KMSENV_INSTANCE_ACTION *a, KMSENV_BUFFER *body, KMSENV_ERROR *err)
{
    static void (*const write[])(const KMSENV_INSTANCE_ACTION *, KMSENV_BUFFER *) = { write_generate, write_encrypt, write_decrypt };

    if (a->aad_len > KMSENV_INSTANCE_AAD_MAX || a->number_of_bytes > KMSENV_INSTANCE_PLAINTEXT_MAX)
        return kmsenv_error_set(err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the encryption context or the data key is too large for the KMS: "
                                "it takes %d and %d bytes", KMSENV_INSTANCE_AAD_MAX, KMSENV_INSTANCE_PLAINTEXT_MAX);
    write[a->kind](a, body);
    return kmsenv_json_finish(body, err);
}

/* As RFC 9110 wants it. Not by strftime(): that speaks the language of the application's locale. */
static int http_date(int64_t timestamp, char *out, size_t room)
{
    static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = (time_t)timestamp;
    struct tm tm;
    int n;

    if (gmtime_r(&t, &tm) == NULL)
        return 0;
    n = snprintf(out, room, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon,
                 tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    return n > 0 && (size_t)n < room;
}

int kmsenv_instance_frame(KMSENV_CRYPTO *crypto, const KMSENV_ENDPOINT *endpoint, const char *action, const char *client_key_id,
                          int64_t timestamp, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    char date[40], hash[KMSENV_HEX_SHA256], *p;

    if (!http_date(timestamp, date, sizeof(date)))
        return kmsenv_error_set(err, KMSENV_R_KMS_CLOCK, "this machine's clock is beyond calendars; set it (NTP)");
    if (!kmsenv_sign_hash(crypto, kmsenv_buffer_text(&request->body), request->body.length, hash, err))
        return 0;
    for (p = hash; *p != '\0'; p++)
        if (*p >= 'a' && *p <= 'f')
            *p = (char)(*p - 'a' + 'A');
    kmsenv_buffer_printf(&request->target, "%s/", endpoint->path);
    return kmsenv_request_add_header(request, "Host", endpoint->authority, err)
           && kmsenv_request_add_header(request, "Accept", MEDIA_TYPE, err)
           && kmsenv_request_add_header(request, "Content-Type", MEDIA_TYPE, err)
           && kmsenv_request_add_header(request, "Date", date, err)
           && kmsenv_request_add_header(request, "x-kms-apiversion", API_VERSION, err)
           && kmsenv_request_add_header(request, "x-kms-apiname", action, err)
           && kmsenv_request_add_header(request, "x-kms-signaturemethod", METHOD, err)
           && kmsenv_request_add_header(request, "x-kms-acccesskeyid", client_key_id, err)   /* spelt so in the protocol */
           && kmsenv_request_add_header(request, "Content-Sha256", hash, err);
}

/* --- signature ------------------------------------------------------------ */

static int add_line(KMSENV_BUFFER *out, const KMSENV_REQUEST *request, const char *header, KMSENV_ERROR *err)
{
    const char *value = kmsenv_request_header(request, header);

    if (value == NULL)
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "a request without the header %s cannot be signed", header);
    kmsenv_buffer_printf(out, "%s\n", value);
    return 1;
}

/* The header whose name is the least of those above `above` (NULL: of all). NULL if there is none. */
static const char *next_header(const KMSENV_REQUEST *request, const char *above)
{
    const char *least = NULL, *header;
    size_t i;

    for (i = 0; i < request->headers; i++) {
        header = request->header[i];
        if (strncasecmp(header, PREFIX, strlen(PREFIX)) == 0 && (above == NULL || strcasecmp(header, above) > 0)
            && (least == NULL || strcasecmp(header, least) < 0))
            least = header;
    }
    return least;
}

int kmsenv_instance_string_to_sign(const KMSENV_REQUEST *request, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const char *header = NULL, *p;
    char c;

    kmsenv_buffer_printf(out, "%s\n", request->method);
    if (!add_line(out, request, "Content-Sha256", err) || !add_line(out, request, "Content-Type", err)
        || !add_line(out, request, "Date", err))
        return 0;
    while ((header = next_header(request, header)) != NULL) {
        for (p = header; *p != ':'; p++) {
            c = *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p;
            kmsenv_buffer_add(out, &c, 1);
        }
        kmsenv_buffer_printf(out, ":%s\n", p + 2);
    }
    kmsenv_buffer_add_text(out, kmsenv_buffer_text(&request->target));
    return !out->failed || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a signature");
}

int kmsenv_instance_sign(const KMSENV_SIGNER *signer, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    KMSENV_BUFFER text, signature, header;
    int ok;

    kmsenv_buffer_init(&text, 16384, 0);
    kmsenv_buffer_init(&signature, 1024, 0);
    kmsenv_buffer_init(&header, 2048, 0);
    kmsenv_buffer_add_text(&header, "Bearer ");
    ok = kmsenv_instance_string_to_sign(request, &text, err)
         && kmsenv_signer_sign(signer, text.data, text.length, &signature, err)
         && (kmsenv_base64_add(&header, signature.data, signature.length)
             || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a signature"))
         && kmsenv_request_add_header(request, "Authorization", kmsenv_buffer_text(&header), err)
         && kmsenv_request_check(request, err);
    kmsenv_buffer_reset(&text);
    kmsenv_buffer_reset(&signature);
    kmsenv_buffer_reset(&header);
    return ok;
}
