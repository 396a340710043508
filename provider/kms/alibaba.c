/*
 * Back end `alibaba`: Alibaba Cloud KMS over its OpenAPI, at the shared gateway or that of a KMS instance. The ciphertext of a
 * wrap is the CiphertextBlob's bytes. Under an alias, `extra` is the id of the key that the alias meant: the alias may be
 * given to another key, and the wrap still opens.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/alibaba.h"
#include "kms/registry.h"

#define REMEDY "set access-key-id and access-key-secret"

typedef struct alibaba_st {
    KMSENV_CRYPTO *crypto;
    char *key_id;
    int rpc, instance;
    KMSENV_ALIBABA_PLACE place;
    KMSENV_HTTP *http;
    KMSENV_ALIBABA_CHAIN *chain;
    KMSENV_REST rest;
} ALIBABA;

static const KMSENV_SETTING settings[] = {
    { "key-id", KMSENV_TEXT, NULL, 0, 0, "the id or ARN of a key, or alias/NAME",
      "The symmetric key; its ARN says the region too, and is needed for a key of another account." },
    { "region", KMSENV_TEXT, NULL, 0, 0, "the name of a region, such as cn-hangzhou",
      "Region that the key is in; without it that of the ARN in key-id, then ALIBABA_CLOUD_REGION_ID." },
    { "network", KMSENV_CHOICE, "public", 0, 0, "public|vpc",
      "Which of the region's endpoints to use: kms.REGION.aliyuncs.com, or kms-vpc.REGION.aliyuncs.com inside a VPC." },
    { "instance", KMSENV_TEXT, NULL, 0, 0, "the id of a KMS instance, such as kst-hzz0123456789example",
      "Use the gateway of this KMS instance (INSTANCE.cryptoservice.kms.aliyuncs.com); its own CA must be in ca-file." },
    { "endpoint", KMSENV_TEXT, NULL, 0, 0, "https://HOST or https://HOST:PORT",
      "Where the KMS answers, instead of what region, network and instance say." },
    { "signature", KMSENV_CHOICE, "acs3-hmac-sha256", 0, 0, "acs3-hmac-sha256|hmac-sha1",
      "How requests are signed; hmac-sha1 is the older RPC signature, for gateways that know nothing else." },
    { "parameters", KMSENV_CHOICE, "auto", 0, 0, "auto|query|form",
      "Where parameters are sent; auto is the query, and the body for what is secret or long. With query a key that Encrypt wraps is "
      "part of a URL, which servers and proxies may log." },
    { "credentials", KMSENV_CHOICE, "auto", 0, 0, "auto|settings|environment|oidc|cli|file|ecs|uri",
      "Where credentials come from; auto tries all in this order." },
    { "access-key-id", KMSENV_SECRET, NULL, 0, 0, NULL, "Id of an AccessKey pair." },
    { "access-key-secret", KMSENV_SECRET, NULL, 0, 0, NULL, "Secret of an AccessKey pair." },
    { "security-token", KMSENV_SECRET, NULL, 0, 0, NULL, "STS token, if the AccessKey pair is a temporary one." },
    { "credentials-file", KMSENV_PATH, NULL, 0, 0, NULL,
      "INI file with credentials (source file); without it ALIBABA_CLOUD_CREDENTIALS_FILE, then ~/.alibabacloud/credentials." },
    { "cli-config-file", KMSENV_PATH, NULL, 0, 0, NULL,
      "Configuration of the aliyun command line tool (source cli); without it ~/.aliyun/config.json." },
    { "credentials-section", KMSENV_TEXT, NULL, 0, 0, "the name of a profile of Alibaba Cloud's tools",
      "Profile in either file; without it ALIBABA_CLOUD_PROFILE, then the tool's current one, or default." },
    { "ecs-role", KMSENV_TEXT, NULL, 0, 0, "the name of a RAM role",
      "RAM role of the ECS instance; without it ALIBABA_CLOUD_ECS_METADATA, or the metadata service is asked." },
    { "metadata-endpoint", KMSENV_TEXT, "http://100.100.100.200", 0, 0,
      "http://100.100.100.200, or an address of this machine", "Where the metadata service of the instance answers." },
    { "sts-endpoint", KMSENV_TEXT, NULL, 0, 0, "https://HOST or https://HOST:PORT",
      "Where roles are assumed; without it sts.aliyuncs.com, or what ALIBABA_CLOUD_STS_REGION and the files say." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

static void alibaba_free(void *kms)
{
    ALIBABA *a = kms;

    if (a == NULL)
        return;
    kmsenv_credentials_free(a->rest.credentials);
    kmsenv_alibaba_chain_free(a->chain);
    kmsenv_http_free(a->http);
    OPENSSL_free(a->key_id);
    OPENSSL_free(a);
}

/* --- settings ------------------------------------------------------------- */

static int copy_key_id(ALIBABA *a, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *text = kmsenv_section_text(section, "key-id");

    if (text == NULL)
        return kmsenv_section_missing(section, "key-id", err);
    if (!kmsenv_alibaba_is_key_id(text))
        return kmsenv_section_invalid(section, err, "key-id is not that of a key; accepted: the id of a key, alias/NAME, or "
                                      "acs:kms:REGION:ACCOUNT:key/ID, of at most %d bytes", KMSENV_NAME_MAX);
    if ((a->key_id = OPENSSL_strdup(text)) != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

/* An ARN says where its key is: asked elsewhere, the service does not find it. */
static int region_endpoint(const ALIBABA *a, const KMSENV_SECTION *section, char *out, size_t room, KMSENV_ERROR *err)
{
    const char *region = kmsenv_section_text(section, "region");
    int vpc = strcmp(kmsenv_section_text(section, "network"), "vpc") == 0;
    char arn[KMSENV_ALIBABA_REGION_MAX];

    if (kmsenv_alibaba_arn_region(a->key_id, arn, sizeof(arn))) {
        if (region != NULL && strcmp(region, arn) != 0)
            return kmsenv_section_invalid(section, err, "region is not the one in key-id; leave region out, or correct one of them");
        region = arn;
    }
    if (region == NULL && (region = kmsenv_credentials_env("ALIBABA_CLOUD_REGION_ID")) == NULL)
        return kmsenv_section_missing(section, "region", err);
    return kmsenv_alibaba_endpoint("kms", vpc, region, out, room)
           || kmsenv_section_invalid(section, err, "region is not the name of one, such as cn-hangzhou");
}

static int find_endpoint(ALIBABA *a, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *set = kmsenv_section_text(section, "endpoint"), *instance = kmsenv_section_text(section, "instance");
    char text[KMSENV_ENDPOINT_TEXT_MAX];

    if ((set != NULL) + (instance != NULL) + kmsenv_section_is_set(section, "network") > 1)
        return kmsenv_section_invalid(section, err, "endpoint, instance and network each say where the KMS is: leave only one of them");
    a->instance = instance != NULL;
    if (set != NULL)
        snprintf(text, sizeof(text), "%s", set);
    else if (instance != NULL)
        snprintf(text, sizeof(text), "https://%.100s.cryptoservice.kms.aliyuncs.com", instance);
    else if (!region_endpoint(a, section, text, sizeof(text), err))
        return 0;
    return kmsenv_http_endpoint(a->http, &a->rest.endpoint, text, instance != NULL ? "instance" : "endpoint", err)
           || kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(section));
}

static int set_up(ALIBABA *a, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *parameters = kmsenv_section_text(section, "parameters");

    a->rpc = strcmp(kmsenv_section_text(section, "signature"), "hmac-sha1") == 0;
    a->place = strcmp(parameters, "query") == 0 ? KMSENV_ALIBABA_QUERY
             : strcmp(parameters, "form") == 0 ? KMSENV_ALIBABA_FORM : KMSENV_ALIBABA_AUTO;
    if (!copy_key_id(a, section, err) || (a->rest.http = a->http = kmsenv_http_new(section, err)) == NULL
        || !find_endpoint(a, section, err))
        return 0;
    if ((a->chain = kmsenv_alibaba_chain_new(section, a->http, a->crypto, err)) == NULL)
        return kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(section));
    a->rest.credentials = kmsenv_credentials_new(kmsenv_alibaba_sources, kmsenv_section_text(section, "credentials"), REMEDY, a->chain);
    if (a->rest.credentials != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static void *alibaba_new(const KMSENV_SECTION *section, const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    ALIBABA *a = OPENSSL_zalloc(sizeof(*a));

    if (a == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
        return NULL;
    }
    a->crypto = services->crypto;
    a->rest.counters = services->counters;
    if (set_up(a, section, err))
        return a;
    alibaba_free(a);
    return NULL;
}

static const char *alibaba_key_id(void *kms, KMSENV_ERROR *err)
{
    (void)err;
    return ((ALIBABA *)kms)->key_id;
}

/* --- actions -------------------------------------------------------------- */

typedef struct job_st {
    ALIBABA *a;
    const KMSENV_ALIBABA_ACTION *action;
    KMSENV_RESULT *result;
} JOB;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const JOB *job = arg;
    char nonce[KMSENV_ALIBABA_NONCE];
    const KMSENV_ALIBABA_FRAME frame = { .endpoint = &job->a->rest.endpoint, .rpc = job->a->rpc, .place = job->a->place,
                                         .signer = { job->a->crypto, credential->id, credential->secret },
                                         .token = credential->token, .timestamp = now, .nonce = nonce };

    return kmsenv_alibaba_nonce(job->a->crypto, nonce, err) && kmsenv_alibaba_request(&frame, job->action, request, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    return kmsenv_alibaba_result(reply, ((JOB *)arg)->result, err);
}

static int perform(ALIBABA *a, KMSENV_CALL *call, const KMSENV_ALIBABA_ACTION *action, KMSENV_RESULT *result)
{
    JOB job = { a, action, result };
    const KMSENV_REST_CALL rest = { build, parse, &job };

    return kmsenv_rest_operation(&a->rest, &rest, action->name, result, call);
}

static int alibaba_generate(void *kms, KMSENV_CALL *call, size_t len, unsigned char *dek, KMSENV_BLOB *out)
{
    ALIBABA *a = kms;
    const char *spec = len == 32 ? "AES_256" : len == 16 ? "AES_128" : NULL;
    const KMSENV_ALIBABA_ACTION action = { .name = "GenerateDataKey", .key_id = a->key_id, .key_spec = spec,
                                           .number_of_bytes = spec == NULL ? len : 0, .context = call->context };
    KMSENV_RESULT result = { .key_id = a->key_id, .plaintext = dek, .room = len, .blob = out };

    return perform(a, call, &action, &result) && kmsenv_result_length(&result, action.name, len, call->err);
}

static int alibaba_encrypt(void *kms, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    ALIBABA *a = kms;
    const KMSENV_ALIBABA_ACTION action = { .name = "Encrypt", .key_id = a->key_id, .plaintext = in, .plaintext_len = inlen,
                                           .context = call->context };
    KMSENV_RESULT result = { .key_id = a->key_id, .blob = out };

    return perform(a, call, &action, &result);
}

/* The key that a wrap is to be opened with: what an alias meant then is in the wrap. */
static int wrap_key(const KMSENV_BLOB *in, char out[KMSENV_NAME_MAX + 1], KMSENV_ERROR *err)
{
    int recorded = in->extra_len > 0 && kmsenv_alibaba_is_alias(in->key_id);
    size_t n = recorded ? in->extra_len : strlen(in->key_id);

    if (n == 0 || n > KMSENV_NAME_MAX || (recorded && memchr(in->extra, '\0', n) != NULL))
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key names no key of Alibaba Cloud KMS");
    memcpy(out, recorded ? (const char *)in->extra : in->key_id, n);
    out[n] = '\0';
    return (kmsenv_alibaba_is_key_id(out) && !(recorded && kmsenv_alibaba_is_alias(out)))
           || kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key names no key of Alibaba Cloud KMS");
}

static int alibaba_decrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    char key[KMSENV_NAME_MAX + 1];
    const KMSENV_ALIBABA_ACTION action = { .name = "Decrypt", .ciphertext = in->ciphertext, .ciphertext_len = in->ciphertext_len,
                                           .context = call->context };
    KMSENV_RESULT result = { .key_id = key, .plaintext = out, .room = *outlen };

    if (!wrap_key(in, key, call->err) || !perform(kms, call, &action, &result))
        return 0;
    *outlen = result.plaintext_len;
    return 1;
}

/* Offered by the shared gateway only. */
static int alibaba_may_reencrypt(void *kms, const KMSENV_BLOB *in, const KMSENV_CONTEXT *context)
{
    (void)in;
    (void)context;
    return !((ALIBABA *)kms)->instance;
}

static int alibaba_reencrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, KMSENV_BLOB *out)
{
    ALIBABA *a = kms;
    const KMSENV_ALIBABA_ACTION action = { .name = "ReEncrypt", .destination_key_id = a->key_id, .ciphertext = in->ciphertext,
                                           .ciphertext_len = in->ciphertext_len, .source_context = call->context,
                                           .destination_context = call->context };
    KMSENV_RESULT result = { .key_id = a->key_id, .blob = out };

    return perform(a, call, &action, &result);
}

static int alibaba_describe(void *kms, KMSENV_CALL *call, char *state, size_t room)
{
    ALIBABA *a = kms;
    const KMSENV_ALIBABA_ACTION action = { .name = "DescribeKey", .key_id = a->key_id };
    KMSENV_RESULT result = { .key_id = a->key_id, .state = state, .state_room = room };

    return perform(a, call, &action, &result);
}

const KMSENV_KMS_METHOD kmsenv_kms_alibaba = {
    .name = "alibaba",
    .title = "Alibaba Cloud KMS",
    .settings = settings,
    .network = 1,
    .plaintext_max = KMSENV_ALIBABA_PLAINTEXT_MAX,
    .extra_is_hint = 1,
    .new = alibaba_new,
    .free = alibaba_free,
    .key_id = alibaba_key_id,
    .generate = alibaba_generate,
    .encrypt = alibaba_encrypt,
    .decrypt = alibaba_decrypt,
    .reencrypt = alibaba_reencrypt,
    .may_reencrypt = alibaba_may_reencrypt,
    .describe = alibaba_describe
};
