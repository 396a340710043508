/* Replies of the dedicated gateway: protocol buffers, also for errors. */
#include <stdio.h>
#include <string.h>
#include "kms/alibaba_instance.h"
#include "kms/alibaba_instance.pb.h"
#include "kms/proto.h"

/* --- errors --------------------------------------------------------------- */

#define UNKNOWN_KEY "there is no such key in this KMS instance, or it is not among what the access point may use; check key-id"
#define STATE       "the key is disabled, pending deletion or not ready; enable it"
#define DAMAGED     "the wrapped data key is damaged, from elsewhere, or its encryption context is not the one given"
#define CLOCK       "this machine's clock is more than 15 minutes off; set it (NTP)"
#define PROTOCOL    "what answers there is not the dedicated gateway of a KMS instance; check endpoint"

/* "InvalidParam.NAME": the service says NAME in its message only. */
static const KMSENV_REST_CODE codes[] = {
    { "Rejected.Throttling", KMSENV_SAYS_THROTTLED, "too many requests for this KMS instance; slow down or enlarge it" },
    { "Throttling", KMSENV_SAYS_THROTTLED, "too many requests for this KMS instance; slow down or enlarge it" },
    { "ServiceUnavailableTemporary", KMSENV_SAYS_LATER, "the service is temporarily unavailable" },
    { "InternalFailure", KMSENV_SAYS_LATER, "a fault inside the service" },
    { "RequestTimeTooSkewed", KMSENV_SAYS_CLOCK, CLOCK },
    { "InvalidParam.Date", KMSENV_SAYS_CLOCK, CLOCK },
    { "InvalidParam.Authorization", KMSENV_SAYS_CREDENTIALS, "the signature is not understood there" },
    { "InvalidParam.CiphertextBlob", KMSENV_SAYS_WRAP, DAMAGED },
    { "InvalidParam.Aad", KMSENV_SAYS_WRAP, DAMAGED },
    { "InvalidParam.Iv", KMSENV_SAYS_WRAP, DAMAGED },
    { "InvalidParam", KMSENV_SAYS_REJECTED, "the service does not accept a parameter; check key-id" },
    { "InvalidParameter", KMSENV_SAYS_REJECTED, "the service does not accept a parameter; check key-id" },
    { "InvalidCiphertext", KMSENV_SAYS_WRAP, DAMAGED },
    { "MissingParameter", KMSENV_SAYS_REJECTED, PROTOCOL },
    { "InvalidApiName", KMSENV_SAYS_REJECTED, PROTOCOL },
    { "InvalidApiVersion", KMSENV_SAYS_REJECTED, PROTOCOL },
    { "SignatureNotMatch", KMSENV_SAYS_CREDENTIALS, "the signature is wrong: the ClientKey's id and private key do not belong together" },
    { "Unauthorized", KMSENV_SAYS_RENEW, "the ClientKey is unknown there: it was deleted, has expired, or is of another KMS instance" },
    { "UnsupportedOperation", KMSENV_SAYS_REJECTED,
      "the key does not allow this operation: it must be a symmetric one, and for calls = advance in an instance of the software kind" },
    { "Forbidden.KeyNotFound", KMSENV_SAYS_NOT_FOUND, UNKNOWN_KEY },
    { "Forbidden.AliasNotFound", KMSENV_SAYS_NOT_FOUND, UNKNOWN_KEY },
    { "Forbidden.KeyVersionNotFound", KMSENV_SAYS_WRAP, "the key has no such version: the wrapped data key is damaged or from elsewhere" },
    { "Forbidden.NoPermission", KMSENV_SAYS_DENIED, "the policy of the ClientKey's access point does not allow this key, or this network" },
    { "Forbidden", KMSENV_SAYS_DENIED, "the service forbids this operation on this key" },
    { "Rejected.UnsupportedOperation", KMSENV_SAYS_REJECTED, "the key does not allow this operation" },
    { "Rejected.Disabled", KMSENV_SAYS_DISABLED, STATE },
    { "Rejected.PendingDeletion", KMSENV_SAYS_DISABLED, STATE },
    { "Rejected.PendingImport", KMSENV_SAYS_DISABLED, STATE },
    { "Rejected.Unavailable", KMSENV_SAYS_DISABLED, STATE },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

/* When data keys are unwrapped, there is little else that a parameter which is not named could be. */
static const KMSENV_REST_CODE codes_of_decrypt[] = {
    { "InvalidParam", KMSENV_SAYS_WRAP, DAMAGED },
    { "InvalidParameter", KMSENV_SAYS_WRAP, DAMAGED },
    { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
};

/* The service's code, and the parameter it names in "The Param Date is invalid." */
static void set_code(const kmsenv_instance_Error *e, char *out, size_t room)
{
    static const char named[] = "The Param ";
    const size_t n = sizeof(named) - 1;
    char name[64];

    kmsenv_proto_word(e->ErrorCode, out, room);
    if (strcmp(out, "InvalidParam") != 0 || e->ErrorMessage.length <= n || memcmp(e->ErrorMessage.data, named, n) != 0)
        return;
    kmsenv_proto_word((KMSENV_PROTO_BYTES){ e->ErrorMessage.data + n, e->ErrorMessage.length - n }, name, sizeof(name));
    if (name[0] != '\0')
        snprintf(out + strlen(out), room - strlen(out), ".%s", name);
}

static KMSENV_VERDICT read_error(KMSENV_INSTANCE_KIND kind, const KMSENV_REPLY *http, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    kmsenv_instance_Error e = { 0 };
    char code[160] = "";

    if (kmsenv_proto_read(kmsenv_instance_Error_fields, &http->body, &e)) {
        kmsenv_proto_word(e.RequestId, result->request_id, sizeof(result->request_id));
        set_code(&e, code, sizeof(code));
    }
    if (code[0] == '\0')
        return kmsenv_rest_status(http, err);
    if (kind == KMSENV_INSTANCE_DECRYPT && (strcmp(code, "InvalidParam") == 0 || strcmp(code, "InvalidParameter") == 0))
        return kmsenv_rest_judge(codes_of_decrypt, code, http->status, result->request_id, err);
    return kmsenv_rest_judge(codes, code, http->status, result->request_id, err);
}

/* --- replies -------------------------------------------------------------- */

typedef struct fields_st {
    KMSENV_PROTO_BYTES key_id, plaintext, ciphertext, iv, algorithm, request_id;
} FIELDS;

static int read_generate(const KMSENV_BUFFER *body, FIELDS *f)
{
    kmsenv_instance_GenerateDataKeyResponse m = { 0 };
    int ok = kmsenv_proto_read(kmsenv_instance_GenerateDataKeyResponse_fields, body, &m);

    *f = (FIELDS){ m.KeyId, m.Plaintext, m.CiphertextBlob, m.Iv, m.Algorithm, m.RequestId };
    return ok;
}

static int read_encrypt(const KMSENV_BUFFER *body, FIELDS *f)
{
    kmsenv_instance_EncryptResponse m = { 0 };
    int ok = kmsenv_proto_read(kmsenv_instance_EncryptResponse_fields, body, &m);

    *f = (FIELDS){ .key_id = m.KeyId, .ciphertext = m.CiphertextBlob, .iv = m.Iv, .algorithm = m.Algorithm, .request_id = m.RequestId };
    return ok;
}

static int read_decrypt(const KMSENV_BUFFER *body, FIELDS *f)
{
    kmsenv_instance_DecryptResponse m = { 0 };
    int ok = kmsenv_proto_read(kmsenv_instance_DecryptResponse_fields, body, &m);

    *f = (FIELDS){ .key_id = m.KeyId, .plaintext = m.Plaintext, .algorithm = m.Algorithm, .request_id = m.RequestId };
    return ok;
}

/* A field that is to be a word, all of it. */
static int take_word(KMSENV_PROTO_BYTES field, char *out, size_t room)
{
    kmsenv_proto_word(field, out, room);
    return strlen(out) == field.length;
}

/* Are data authenticated with this algorithm, so that they are bound to an encryption context? */
static int is_authenticated(const char *algorithm)
{
    size_t n = strlen(algorithm);

    return n >= 4 && strcmp(algorithm + n - 4, "_GCM") == 0;
}

static int read_wrap(const KMSENV_INSTANCE_ACTION *a, const FIELDS *f, const KMSENV_RESULT *result, KMSENV_INSTANCE_WRAP *wrap,
                     KMSENV_ERROR *err)
{
    wrap->advance = a->advance != 0;
    if (!take_word(f->key_id, wrap->key_id, sizeof(wrap->key_id)) || wrap->key_id[0] == '\0')
        return kmsenv_result_malformed(err, "no KeyId, or one that is none");
    if (!take_word(f->algorithm, wrap->algorithm, sizeof(wrap->algorithm)))
        return kmsenv_result_malformed(err, "an Algorithm that is none");
    if (f->iv.length > sizeof(wrap->iv))
        return kmsenv_result_malformed(err, "an Iv that is too long");
    if (f->iv.length > 0)
        memcpy(wrap->iv, f->iv.data, f->iv.length);
    wrap->iv_len = f->iv.length;
    if (result->key_id != NULL && !kmsenv_instance_is_alias(result->key_id) && strcmp(result->key_id, wrap->key_id) != 0)
        return kmsenv_result_wrong_key(err, result->key_id);
    if (a->aad_len > 0 && !is_authenticated(wrap->algorithm))
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the key's algorithm %s binds nothing to an encryption context; use "
                                "a key for AES_GCM, or no context", wrap->algorithm[0] == '\0' ? "(not told)" : wrap->algorithm);
    if (result->blob != NULL && !a->advance
        && (wrap->algorithm[0] == '\0' || (is_authenticated(wrap->algorithm) && wrap->iv_len == 0)))
        return kmsenv_result_malformed(err, "no Algorithm or no Iv, without which the data key could not be unwrapped");
    return 1;
}

static int read_data(const FIELDS *f, KMSENV_RESULT *result, KMSENV_ERROR *err)
{
    if (result->plaintext != NULL && (f->plaintext.length == 0 || f->plaintext.length > result->room))
        return kmsenv_result_malformed(err, f->plaintext.length == 0 ? "no Plaintext" : "a Plaintext that is longer than expected");
    if (result->blob != NULL && (f->ciphertext.length == 0 || f->ciphertext.length > KMSENV_CIPHERTEXT_MAX))
        return kmsenv_result_malformed(err, f->ciphertext.length == 0 ? "no CiphertextBlob" : "a CiphertextBlob that is too long");
    if (result->blob != NULL && !kmsenv_blob_copy(result->blob, f->ciphertext.data, f->ciphertext.length, err))
        return 0;
    if (result->plaintext != NULL) {
        memcpy(result->plaintext, f->plaintext.data, f->plaintext.length);
        result->plaintext_len = f->plaintext.length;
    }
    return 1;
}

KMSENV_VERDICT kmsenv_instance_result(const KMSENV_INSTANCE_ACTION *action, KMSENV_REPLY *http, KMSENV_RESULT *result,
                                      KMSENV_INSTANCE_WRAP *wrap, KMSENV_ERROR *err)
{
    static int (*const read[])(const KMSENV_BUFFER *, FIELDS *) = { read_generate, read_encrypt, read_decrypt };
    KMSENV_INSTANCE_WRAP unused;
    FIELDS f;

    if (wrap == NULL)
        wrap = &unused;
    memset(wrap, 0, sizeof(*wrap));
    result->request_id[0] = '\0';
    if (http->status != 200)
        return read_error(action->kind, http, result, err);
    if (!read[action->kind](&http->body, &f)) {
        kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply is not the protocol buffers message that belongs to the "
                         "operation; check endpoint");
        return KMSENV_VERDICT_FINAL;
    }
    kmsenv_proto_word(f.request_id, result->request_id, sizeof(result->request_id));
    return read_wrap(action, &f, result, wrap, err) && read_data(&f, result, err) ? KMSENV_VERDICT_OK : KMSENV_VERDICT_FINAL;
}
