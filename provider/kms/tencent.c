/*
 * Back end `tencent`: Tencent Cloud KMS (API 2019-01-18). The ciphertext of a wrap is the text that
 * the service returned, byte for byte; it is not base64 and is never looked into. There is no `extra`.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "kms/registry.h"
#include "kms/tencent.h"

#define REMEDY "set secret-id and secret-key, or TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY"

typedef struct tencent_st {
    KMSENV_CRYPTO *crypto;
    KMSENV_TC3_CACHE *cache;
    char *region, *key_id;
    KMSENV_HTTP *http;
    KMSENV_TENCENT_CHAIN *chain;
    KMSENV_REST rest;
} TENCENT;

static const KMSENV_SETTING settings[] = {
    { "key-id", KMSENV_TEXT, NULL, 0, 0, "the id of a CMK, such as 23e80852-1e38-11e9-b129-5cb9019b4b01",
      "Id of the customer master key (not its alias)." },
    { "region", KMSENV_TEXT, NULL, 0, 0, "the name of a region, such as ap-guangzhou", "Region that the key is in." },
    { "endpoint", KMSENV_TEXT, "kms.tencentcloudapi.com", 0, 0, "https://HOST or https://HOST:PORT",
      "Where the KMS answers; another one inside a VPC (kms.internal.tencentcloudapi.com) or on the international site." },
    { "credentials", KMSENV_CHOICE, "auto", 0, 0, "auto|settings|environment|file|cvm-role|tke-oidc",
      "Where credentials come from; auto tries all in this order." },
    { "secret-id", KMSENV_SECRET, NULL, 0, 0, NULL, "SecretId of an API key." },
    { "secret-key", KMSENV_SECRET, NULL, 0, 0, NULL, "SecretKey of an API key." },
    { "token", KMSENV_SECRET, NULL, 0, 0, NULL, "Session token, if the API key is a temporary one." },
    { "credentials-file", KMSENV_PATH, NULL, 0, 0, NULL,
      "INI file with secret_id, secret_key and token; without it ~/.tencentcloud/credentials, then /etc/tencentcloud/credentials." },
    { "credentials-section", KMSENV_TEXT, "default", 0, 0, "the name of a section", "Section of the INI file to use." },
    { "cvm-role", KMSENV_TEXT, NULL, 0, 0, "the name of a CAM role",
      "Role of the virtual machine; without it the metadata service is asked." },
    { "metadata-endpoint", KMSENV_TEXT, "http://metadata.tencentyun.com", 0, 0,
      "http://metadata.tencentyun.com, or an address of this machine", "Where the metadata service of the virtual machine answers." },
    { "sts-endpoint", KMSENV_TEXT, "sts.tencentcloudapi.com", 0, 0, "https://HOST or https://HOST:PORT",
      "Where the service answers that gives credentials for a web identity." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

static void tencent_free(void *kms)
{
    TENCENT *t = kms;

    if (t == NULL)
        return;
    kmsenv_credentials_free(t->rest.credentials);
    kmsenv_tencent_chain_free(t->chain);
    kmsenv_tc3_cache_free(t->cache);
    kmsenv_http_free(t->http);
    OPENSSL_free(t->region);
    OPENSSL_free(t->key_id);
    OPENSSL_free(t);
}

/* Takes over a required text setting; it goes into a header or a JSON string. */
static int copy_setting(const KMSENV_SECTION *section, const char *name, char **out, KMSENV_ERROR *err)
{
    const char *text = kmsenv_section_text(section, name);

    if (text == NULL)
        return kmsenv_section_missing(section, name, err);
    if (strlen(text) > KMSENV_NAME_MAX || !kmsenv_json_is_utf8(text, strlen(text)))
        return kmsenv_section_invalid(section, err, "setting '%s' is longer than %d bytes or not UTF-8", name, KMSENV_NAME_MAX);
    if ((*out = OPENSSL_strdup(text)) != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static int set_up(TENCENT *t, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    if (!copy_setting(section, "key-id", &t->key_id, err) || !copy_setting(section, "region", &t->region, err)
        || (t->rest.http = t->http = kmsenv_http_new(section, err)) == NULL)
        return 0;
    if (!kmsenv_http_endpoint(t->http, &t->rest.endpoint, kmsenv_section_text(section, "endpoint"), "endpoint", err)
        || (t->chain = kmsenv_tencent_chain_new(section, t->http, t->crypto, err)) == NULL)
        return kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(section));
    t->rest.credentials = kmsenv_credentials_new(kmsenv_tencent_sources, kmsenv_section_text(section, "credentials"), REMEDY,
                                                 t->chain);
    if (t->rest.credentials != NULL && (t->cache = kmsenv_tc3_cache_new()) != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static void *tencent_new(const KMSENV_SECTION *section, const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    TENCENT *t = OPENSSL_zalloc(sizeof(*t));

    if (t == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
        return NULL;
    }
    t->crypto = services->crypto;
    t->rest.counters = services->counters;
    if (set_up(t, section, err))
        return t;
    tencent_free(t);
    return NULL;
}

static const char *tencent_key_id(void *kms, KMSENV_ERROR *err)
{
    (void)err;
    return ((TENCENT *)kms)->key_id;
}

/* --- actions -------------------------------------------------------------- */

typedef struct job_st {
    TENCENT *t;
    const KMSENV_TENCENT_ACTION *action;
    KMSENV_RESULT *result;
} JOB;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const JOB *job = arg;
    const KMSENV_TENCENT_TARGET target = { &job->t->rest.endpoint, "kms", KMSENV_TENCENT_KMS_VERSION, job->t->region };

    request->secret = job->action->plaintext != NULL;
    return kmsenv_tencent_body(job->action, &request->body, err)
           && kmsenv_tencent_frame(&target, job->action->name, now, credential->token, request, err)
           && kmsenv_tencent_sign(job->t->crypto, job->t->cache, &target, now, credential, request, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    return kmsenv_tencent_result(reply, job->result, err);
}

static int perform(TENCENT *t, KMSENV_CALL *call, const KMSENV_TENCENT_ACTION *action, KMSENV_RESULT *result)
{
    JOB job = { t, action, result };
    const KMSENV_REST_CALL rest = { build, parse, &job };

    return kmsenv_rest_operation(&t->rest, &rest, action->name, result, call);
}

static int tencent_generate(void *kms, KMSENV_CALL *call, size_t len, unsigned char *dek, KMSENV_BLOB *out)
{
    TENCENT *t = kms;
    const KMSENV_TENCENT_ACTION action = { .name = "GenerateDataKey", .key_id = t->key_id, .number_of_bytes = len,
                                           .context = call->context };
    KMSENV_RESULT result = { .key_id = t->key_id, .plaintext = dek, .room = len, .blob = out };

    return perform(t, call, &action, &result) && kmsenv_result_length(&result, action.name, len, call->err);
}

static int tencent_encrypt(void *kms, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    TENCENT *t = kms;
    const KMSENV_TENCENT_ACTION action = { .name = "Encrypt", .key_id = t->key_id, .plaintext = in, .plaintext_len = inlen,
                                           .context = call->context };
    KMSENV_RESULT result = { .key_id = t->key_id, .blob = out };

    return perform(t, call, &action, &result);
}

static int tencent_decrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    const KMSENV_TENCENT_ACTION action = { .name = "Decrypt", .ciphertext = in->ciphertext, .ciphertext_len = in->ciphertext_len,
                                           .context = call->context };
    KMSENV_RESULT result = { .key_id = in->key_id, .plaintext = out, .room = *outlen };

    if (!perform(kms, call, &action, &result))
        return 0;
    *outlen = result.plaintext_len;
    return 1;
}

/* If the CMK was not rotated since, the service returns the blob as it was: that is fine. */
static int tencent_reencrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, KMSENV_BLOB *out)
{
    TENCENT *t = kms;
    const KMSENV_TENCENT_ACTION action = { .name = "ReEncrypt", .destination_key_id = t->key_id, .ciphertext = in->ciphertext,
                                           .ciphertext_len = in->ciphertext_len, .source_context = call->context,
                                           .destination_context = call->context };
    KMSENV_RESULT result = { .key_id = t->key_id, .source_key_id = in->key_id, .blob = out };

    return perform(t, call, &action, &result);
}

static int tencent_describe(void *kms, KMSENV_CALL *call, char *state, size_t room)
{
    TENCENT *t = kms;
    const KMSENV_TENCENT_ACTION action = { .name = "DescribeKey", .key_id = t->key_id };
    KMSENV_RESULT result = { .state = state, .state_room = room };

    return perform(t, call, &action, &result);
}

const KMSENV_KMS_METHOD kmsenv_kms_tencent = {
    .name = "tencent",
    .title = "Tencent Cloud KMS",
    .settings = settings,
    .network = 1,
    .wrap_room = 300,
    .plaintext_max = KMSENV_TENCENT_PLAINTEXT_MAX,
    .new = tencent_new,
    .free = tencent_free,
    .key_id = tencent_key_id,
    .generate = tencent_generate,
    .encrypt = tencent_encrypt,
    .decrypt = tencent_decrypt,
    .reencrypt = tencent_reencrypt,
    .describe = tencent_describe
};
