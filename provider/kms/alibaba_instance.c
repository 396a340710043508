/*
 * Back end `alibaba-instance`: a KMS instance of Alibaba Cloud through its dedicated gateway, the way of the "KMS Instance
 * SDK". The ciphertext of a wrap is the CiphertextBlob's bytes, `extra` says how it was made (alibaba_instance.h).
 *
 * Plain operations use the first version of a key for ever, so that a rotation would change nothing; they are for
 * instances of the hardware kind only, which do not have the Advance ones. A wrap is opened by its own kind of
 * operation, whatever `calls` says today.
 *
 * An encryption context is sent as its canonical JSON, as additional authenticated data; a key whose algorithm does not
 * authenticate is refused then.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/alibaba_instance.h"
#include "kms/registry.h"
#include "kms/result.h"

#define REMEDY "set client-key-file and client-key-password to the ClientKey of an access point of the KMS instance"
#define TRIAL  32     /* bytes of the data key that describe makes */

typedef struct instance_st {
    char *key_id;
    int advance;
    KMSENV_HTTP *http;
    KMSENV_CRYPTO *crypto;
    KMSENV_INSTANCE_CHAIN chain;
    KMSENV_REST rest;
} INSTANCE;

static const KMSENV_SETTING settings[] = {
    { "key-id", KMSENV_TEXT, NULL, 0, 0, "the id of a key, or alias/NAME", "The symmetric key in the KMS instance." },
    { "instance-id", KMSENV_TEXT, NULL, 0, 0, "the id of a KMS instance, such as kst-hzz0123456789abcdefgh",
      "The KMS instance; its gateway is https://ID.cryptoservice.kms.aliyuncs.com." },
    { "endpoint", KMSENV_TEXT, NULL, 0, 0, "https://HOST or https://HOST:PORT", "Where the gateway answers, instead of instance-id." },
    { "calls", KMSENV_CHOICE, "advance", 0, 0, "advance|plain",
      "Operations for new data keys; plain ones (for instances of the hardware kind) use the first version of the key for ever, "
      "whatever is rotated." },
    { "client-key-file", KMSENV_PATH, NULL, 0, 0, NULL,
      "The ClientKey of an access point of the KMS instance, as downloaded (clientKey_*.json)." },
    { "client-key-password", KMSENV_SECRET, NULL, 0, 0, NULL,
      "Its password, such as file:/etc/kmsenv/clientKey_Password.txt; without it CLIENT_KEY_PASSWORD." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

static void instance_free(void *kms)
{
    INSTANCE *k = kms;

    if (k == NULL)
        return;
    kmsenv_credentials_free(k->rest.credentials);
    kmsenv_http_free(k->http);
    OPENSSL_free(k->key_id);
    OPENSSL_free(k);
}

/* --- settings ------------------------------------------------------------- */

static int is_key_id(const char *text)
{
    int alias = kmsenv_instance_is_alias(text);
    const char *name = alias ? text + strlen("alias/") : text;
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./");

    return n > 0 && name[n] == '\0' && strlen(text) <= (alias ? KMSENV_NAME_MAX : KMSENV_INSTANCE_KEY_MAX)
           && (alias || strchr(name, '/') == NULL);
}

static int copy_key_id(INSTANCE *k, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *text = kmsenv_section_text(section, "key-id");

    if (text == NULL)
        return kmsenv_section_missing(section, "key-id", err);
    if (!is_key_id(text))
        return kmsenv_section_invalid(section, err, "key-id is not that of a key of a KMS instance; accepted: an id such as "
                                      "key-hzz0123456789abcdefgh, or alias/NAME");
    if ((k->key_id = OPENSSL_strdup(text)) != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static int find_endpoint(INSTANCE *k, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *id = kmsenv_section_text(section, "instance-id"), *set = kmsenv_section_text(section, "endpoint");
    char text[KMSENV_ENDPOINT_TEXT_MAX];

    if (id == NULL && set == NULL)
        return kmsenv_section_missing(section, "instance-id", err);
    if (id != NULL && set != NULL)
        return kmsenv_section_invalid(section, err, "instance-id stands for an endpoint, and endpoint names one: leave one of them out");
    if (id != NULL && (strlen(id) > 63 || strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(id)))
        return kmsenv_section_invalid(section, err, "instance-id is not that of a KMS instance, such as kst-hzz0123456789abcdefgh");
    snprintf(text, sizeof(text), "https://%s.cryptoservice.kms.aliyuncs.com", id == NULL ? "" : id);
    return kmsenv_http_endpoint(k->http, &k->rest.endpoint, set == NULL ? text : set, set == NULL ? "instance-id" : "endpoint", err)
           || kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(section));
}

static int set_up(INSTANCE *k, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    if (!copy_key_id(k, section, err) || (k->rest.http = k->http = kmsenv_http_new(section, err)) == NULL
        || !find_endpoint(k, section, err))
        return 0;
    k->advance = strcmp(kmsenv_section_text(section, "calls"), "advance") == 0;
    k->chain.section = section;
    k->chain.crypto = k->crypto;
    k->rest.credentials = kmsenv_credentials_new(kmsenv_instance_sources, "auto", REMEDY, &k->chain);
    if (k->rest.credentials != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static void *instance_new(const KMSENV_SECTION *section, const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    INSTANCE *k = OPENSSL_zalloc(sizeof(*k));

    if (k == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
        return NULL;
    }
    k->crypto = services->crypto;
    k->rest.counters = services->counters;
    if (set_up(k, section, err))
        return k;
    instance_free(k);
    return NULL;
}

static const char *instance_key_id(void *kms, KMSENV_ERROR *err)
{
    (void)err;
    return ((INSTANCE *)kms)->key_id;
}

/* --- operations ----------------------------------------------------------- */

typedef struct job_st {
    INSTANCE *k;
    KMSENV_INSTANCE_ACTION *action;
    KMSENV_RESULT *result;
    KMSENV_INSTANCE_WRAP wrap;         /* out */
} JOB;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    request->secret = job->action->plaintext != NULL;
    return kmsenv_instance_body(job->action, &request->body, err)
           && kmsenv_instance_frame(job->k->crypto, &job->k->rest.endpoint, kmsenv_instance_action_name(job->action), credential->id,
                                    now, request, err)
           && kmsenv_instance_sign(credential->signer, request, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    JOB *job = arg;

    return kmsenv_instance_result(job->action, reply, job->result, &job->wrap, err);
}

/* Makes the call with the context, and gives a new wrap its extra. */
static int perform(INSTANCE *k, KMSENV_CALL *call, KMSENV_INSTANCE_ACTION *action, KMSENV_RESULT *result)
{
    JOB job = { .k = k, .action = action, .result = result };
    const KMSENV_REST_CALL rest = { build, parse, &job };
    KMSENV_BUFFER aad;
    int ok;

    kmsenv_buffer_init(&aad, KMSENV_CONTEXT_TEXT_MAX, 0);
    if (call->context->count == 0 || kmsenv_context_json(call->context, &aad)) {
        action->aad = aad.data;
        action->aad_len = aad.length;
        ok = kmsenv_rest_operation(&k->rest, &rest, kmsenv_instance_action_name(action), result, call)
             && (result->blob == NULL || kmsenv_instance_wrap_print(&job.wrap, result->blob, call->err));
    } else {
        ok = kmsenv_error_set(call->err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the encryption context has more than %d bytes",
                              KMSENV_CONTEXT_TEXT_MAX);
    }
    kmsenv_buffer_reset(&aad);
    return ok;
}

static int instance_generate(void *kms, KMSENV_CALL *call, size_t len, unsigned char *dek, KMSENV_BLOB *out)
{
    INSTANCE *k = kms;
    KMSENV_INSTANCE_ACTION action = { .kind = KMSENV_INSTANCE_GENERATE, .advance = k->advance, .key_id = k->key_id,
                                      .number_of_bytes = len };
    KMSENV_RESULT result = { .key_id = k->key_id, .plaintext = dek, .room = len, .blob = out };

    return perform(k, call, &action, &result)
           && kmsenv_result_length(&result, kmsenv_instance_action_name(&action), len, call->err);
}

static int instance_encrypt(void *kms, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    INSTANCE *k = kms;
    KMSENV_INSTANCE_ACTION action = { .kind = KMSENV_INSTANCE_ENCRYPT, .advance = k->advance, .key_id = k->key_id,
                                      .plaintext = in, .plaintext_len = inlen };
    KMSENV_RESULT result = { .key_id = k->key_id, .blob = out };

    return perform(k, call, &action, &result);
}

/* AdvanceDecrypt finds key, version, algorithm and IV in the ciphertext; Decrypt must be told all but the version. */
static int instance_decrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    KMSENV_INSTANCE_WRAP wrap;
    KMSENV_INSTANCE_ACTION action = { .kind = KMSENV_INSTANCE_DECRYPT, .ciphertext = in->ciphertext,
                                      .ciphertext_len = in->ciphertext_len };
    KMSENV_RESULT result = { .key_id = wrap.key_id, .plaintext = out, .room = *outlen };

    if (!kmsenv_instance_wrap_parse(&wrap, in, call->err))
        return 0;
    action.advance = wrap.advance;
    if (!wrap.advance) {
        action.key_id = wrap.key_id;
        action.algorithm = wrap.algorithm;
        action.iv = wrap.iv;
        action.iv_len = wrap.iv_len;
    }
    if (!perform(kms, call, &action, &result))
        return 0;
    *outlen = result.plaintext_len;
    return 1;
}

/* The gateway has no operation that tells of a key: a data key is made and unwrapped for trial, which is what the key is for. */
static int instance_describe(void *kms, KMSENV_CALL *call, char *state, size_t room)
{
    unsigned char *made = kmsenv_secret_zalloc(TRIAL), *opened = kmsenv_secret_zalloc(TRIAL);
    KMSENV_BLOB blob = { 0 };
    size_t n = TRIAL;
    int ok;

    if (made == NULL || opened == NULL)
        ok = kmsenv_error_set(call->err, KMSENV_R_OUT_OF_MEMORY, "no memory to try the key");
    else
        ok = instance_generate(kms, call, TRIAL, made, &blob) && instance_decrypt(kms, call, &blob, opened, &n);
    if (ok && (n != TRIAL || CRYPTO_memcmp(made, opened, TRIAL) != 0))
        ok = kmsenv_result_malformed(call->err, "another data key than the one that was wrapped");
    if (ok)
        OPENSSL_strlcpy(state, "Enabled", room);
    kmsenv_blob_reset(&blob);
    kmsenv_secret_free(made);
    kmsenv_secret_free(opened);
    return ok;
}

const KMSENV_KMS_METHOD kmsenv_kms_alibaba_instance = {
    .name = "alibaba-instance",
    .title = "a KMS instance of Alibaba Cloud",
    .settings = settings,
    .network = 1,
    .plaintext_max = KMSENV_INSTANCE_PLAINTEXT_MAX,
    .new = instance_new,
    .free = instance_free,
    .key_id = instance_key_id,
    .generate = instance_generate,
    .encrypt = instance_encrypt,
    .decrypt = instance_decrypt,
    .describe = instance_describe
};
