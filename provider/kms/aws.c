/*
 * Back end `aws`: AWS KMS. The ciphertext of a wrap is the CiphertextBlob's bytes. Under an alias, `extra`
 * is the ARN of the key that the alias meant: the alias may be given to another key, and the wrap still opens.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/aws.h"
#include "kms/registry.h"

#define REMEDY "set access-key-id and secret-access-key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

typedef struct aws_st {
    KMSENV_CRYPTO *crypto;
    char *key_id, region[KMSENV_AWS_REGION_MAX];
    KMSENV_HTTP *http;
    KMSENV_AWS_CHAIN *chain;
    KMSENV_REST rest;
} AWS;

static const KMSENV_SETTING settings[] = {
    { "key-id", KMSENV_TEXT, NULL, 0, 0, "the ARN or id of a KMS key, or alias/NAME",
      "The symmetric KMS key; best its ARN, which says the region too." },
    { "region", KMSENV_TEXT, NULL, 0, 0, "the name of a region, such as eu-central-1",
      "Region that the key is in; without it that of the ARN in key-id, then AWS_REGION, AWS_DEFAULT_REGION." },
    { "endpoint", KMSENV_TEXT, NULL, 0, 0, "https://HOST or https://HOST:PORT",
      "Where the KMS answers, such as an interface endpoint; without it https://kms.REGION.amazonaws.com." },
    { "fips", KMSENV_BOOLEAN, "no", 0, 0, NULL, "Use the region's FIPS endpoint (kms-fips)." },
    { "credentials", KMSENV_CHOICE, "auto", 0, 0, "auto|settings|environment|web-identity|file|container|instance",
      "Where credentials come from; auto tries all in this order." },
    { "access-key-id", KMSENV_SECRET, NULL, 0, 0, NULL, "Id of an access key." },
    { "secret-access-key", KMSENV_SECRET, NULL, 0, 0, NULL, "Secret of an access key." },
    { "session-token", KMSENV_SECRET, NULL, 0, 0, NULL, "Session token, if the access key is a temporary one." },
    { "credentials-file", KMSENV_PATH, NULL, 0, 0, NULL,
      "INI file with access keys; without it AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials, then AWS_CONFIG_FILE or ~/.aws/config." },
    { "credentials-section", KMSENV_TEXT, NULL, 0, 0, "the name of a profile of AWS",
      "Profile in the INI files, with an access key or a role to assume (role_arn); without it AWS_PROFILE, then default." },
    { "metadata-endpoint", KMSENV_TEXT, "http://169.254.169.254", 0, 0,
      "http://169.254.169.254, or an address of this machine", "Where the metadata service of the instance answers." },
    { "sts-endpoint", KMSENV_TEXT, NULL, 0, 0, "https://HOST or https://HOST:PORT",
      "Where the service answers that gives credentials for a web identity; without it https://sts.REGION.amazonaws.com." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

static void aws_free(void *kms)
{
    AWS *a = kms;

    if (a == NULL)
        return;
    kmsenv_credentials_free(a->rest.credentials);
    kmsenv_aws_chain_free(a->chain);
    kmsenv_http_free(a->http);
    OPENSSL_free(a->key_id);
    OPENSSL_free(a);
}

/* --- settings ------------------------------------------------------------- */

static int copy_key_id(AWS *a, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *text = kmsenv_section_text(section, "key-id");

    if (text == NULL)
        return kmsenv_section_missing(section, "key-id", err);
    if (strlen(text) > KMSENV_NAME_MAX
        || strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/_-") != strlen(text))
        return kmsenv_section_invalid(section, err, "key-id is not that of a KMS key; accepted: an ARN, the id of a key, alias/NAME, of at most 512 bytes");
    if (strncmp(text, "arn:", 4) == 0 && !kmsenv_aws_is_key_arn(text) && !kmsenv_aws_is_alias(text))
        return kmsenv_section_invalid(section, err, "key-id is an ARN, but not of a key; accepted: arn:aws:kms:REGION:ACCOUNT:key/ID");
    if ((a->key_id = OPENSSL_strdup(text)) != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

/* An ARN says where its key is: asked elsewhere, the service does not find it. */
static int find_region(AWS *a, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *text = kmsenv_section_text(section, "region");

    if (kmsenv_aws_arn_region(a->key_id, a->region, sizeof(a->region)))
        return text == NULL || strcmp(text, a->region) == 0
               || kmsenv_section_invalid(section, err, "region is not the one in key-id; leave region out, or correct one of them");
    if (text == NULL)
        text = kmsenv_credentials_env("AWS_REGION");
    if (text == NULL)
        text = kmsenv_credentials_env("AWS_DEFAULT_REGION");
    if (text == NULL)
        return kmsenv_section_missing(section, "region", err);
    if (strlen(text) >= sizeof(a->region))
        return kmsenv_section_invalid(section, err, "region is not the name of one, such as eu-central-1");
    snprintf(a->region, sizeof(a->region), "%s", text);
    return 1;
}

static int find_endpoint(AWS *a, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *set = kmsenv_section_text(section, "endpoint");
    int fips = kmsenv_section_boolean(section, "fips");
    char text[KMSENV_ENDPOINT_TEXT_MAX];

    if (set != NULL && fips)
        return kmsenv_section_invalid(section, err, "fips = yes chooses an endpoint, and endpoint names one: leave one of them out");
    if (!kmsenv_aws_endpoint(fips ? "kms-fips" : "kms", a->region, text, sizeof(text)))
        return kmsenv_section_invalid(section, err, "region is not the name of one, such as eu-central-1");
    return kmsenv_http_endpoint(a->http, &a->rest.endpoint, set == NULL ? text : set, "endpoint", err)
           || kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(section));
}

static int set_up(AWS *a, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    if (!copy_key_id(a, section, err) || !find_region(a, section, err)
        || (a->rest.http = a->http = kmsenv_http_new(section, err)) == NULL || !find_endpoint(a, section, err))
        return 0;
    if ((a->chain = kmsenv_aws_chain_new(section, a->region, a->http, err)) == NULL)
        return kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(section));
    a->chain->crypto = a->crypto;
    a->chain->region = a->region;
    a->rest.credentials = kmsenv_credentials_new(kmsenv_aws_sources, kmsenv_section_text(section, "credentials"), REMEDY, a->chain);
    if (a->rest.credentials != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static void *aws_new(const KMSENV_SECTION *section, const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    AWS *a = OPENSSL_zalloc(sizeof(*a));

    if (a == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
        return NULL;
    }
    a->crypto = services->crypto;
    a->rest.counters = services->counters;
    if (set_up(a, section, err))
        return a;
    aws_free(a);
    return NULL;
}

static const char *aws_key_id(void *kms, KMSENV_ERROR *err)
{
    (void)err;
    return ((AWS *)kms)->key_id;
}

/* --- actions -------------------------------------------------------------- */

typedef struct job_st {
    AWS *a;
    const KMSENV_AWS_ACTION *action;
    KMSENV_RESULT *result;
    int64_t sent;
} JOB;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    JOB *job = arg;
    const KMSENV_SIGV4_SIGNER signer = { job->a->crypto, job->a->region, "kms", credential->id, credential->secret };

    job->sent = now;
    request->secret = job->action->plaintext != NULL;
    return kmsenv_aws_body(job->action, &request->body, err)
           && kmsenv_aws_frame(&job->a->rest.endpoint, job->action->name, now, credential->token, request, err)
           && kmsenv_sigv4_sign(&signer, request, now, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    return kmsenv_aws_result(reply, job->sent, job->result, err);
}

static int perform(AWS *a, KMSENV_CALL *call, const KMSENV_AWS_ACTION *action, KMSENV_RESULT *result)
{
    JOB job = { .a = a, .action = action, .result = result };
    const KMSENV_REST_CALL rest = { build, parse, &job };

    return kmsenv_rest_operation(&a->rest, &rest, action->name, result, call);
}

static int aws_generate(void *kms, KMSENV_CALL *call, size_t len, unsigned char *dek, KMSENV_BLOB *out)
{
    AWS *a = kms;
    const KMSENV_AWS_ACTION action = { .name = "GenerateDataKey", .key_id = a->key_id, .number_of_bytes = len,
                                       .context = call->context };
    KMSENV_RESULT result = { .key_id = a->key_id, .plaintext = dek, .room = len, .blob = out };

    return perform(a, call, &action, &result) && kmsenv_result_length(&result, action.name, len, call->err);
}

static int aws_encrypt(void *kms, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    AWS *a = kms;
    const KMSENV_AWS_ACTION action = { .name = "Encrypt", .key_id = a->key_id, .plaintext = in, .plaintext_len = inlen,
                                       .context = call->context };
    KMSENV_RESULT result = { .key_id = a->key_id, .blob = out };

    return perform(a, call, &action, &result);
}

/* The key that a wrap is to be opened with: always named, so that the service uses no other that we may use. */
static int wrap_key(const AWS *a, const KMSENV_BLOB *in, char out[KMSENV_NAME_MAX + 1], KMSENV_ERROR *err)
{
    char region[KMSENV_AWS_REGION_MAX];
    int recorded = in->extra_len > 0 && kmsenv_aws_is_alias(in->key_id);
    size_t n = recorded ? in->extra_len : strlen(in->key_id);

    if (n > KMSENV_NAME_MAX || (recorded && memchr(in->extra, '\0', n) != NULL))
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key names no key of AWS KMS");
    memcpy(out, recorded ? (const char *)in->extra : in->key_id, n);
    out[n] = '\0';
    if (!kmsenv_json_is_utf8(out, n)
        || (recorded && (!kmsenv_aws_is_key_arn(out) || !kmsenv_aws_arn_region(out, region, sizeof(region))
                         || strcmp(region, a->region) != 0 || !kmsenv_aws_is_same_account(in->key_id, out))))
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key names no key of AWS KMS in %s of the "
                                "alias's account", a->region);
    return 1;
}

static int aws_decrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    char key[KMSENV_NAME_MAX + 1];
    const KMSENV_AWS_ACTION action = { .name = "Decrypt", .key_id = key, .ciphertext = in->ciphertext,
                                       .ciphertext_len = in->ciphertext_len, .context = call->context };
    KMSENV_RESULT result = { .key_id = key, .plaintext = out, .room = *outlen };

    if (!wrap_key(kms, in, key, call->err) || !perform(kms, call, &action, &result))
        return 0;
    *outlen = result.plaintext_len;
    return 1;
}

/* Not from a key in another region. */
static int aws_may_reencrypt(void *kms, const KMSENV_BLOB *in, const KMSENV_CONTEXT *context)
{
    char region[KMSENV_AWS_REGION_MAX];

    (void)context;
    return !kmsenv_aws_arn_region(in->key_id, region, sizeof(region)) || strcmp(region, ((AWS *)kms)->region) == 0;
}

static int aws_reencrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, KMSENV_BLOB *out)
{
    AWS *a = kms;
    char key[KMSENV_NAME_MAX + 1];
    const KMSENV_AWS_ACTION action = { .name = "ReEncrypt", .source_key_id = key, .destination_key_id = a->key_id,
                                       .ciphertext = in->ciphertext, .ciphertext_len = in->ciphertext_len,
                                       .source_context = call->context, .destination_context = call->context };
    KMSENV_RESULT result = { .key_id = a->key_id, .blob = out };

    return wrap_key(a, in, key, call->err) && perform(a, call, &action, &result);
}

static int aws_describe(void *kms, KMSENV_CALL *call, char *state, size_t room)
{
    AWS *a = kms;
    const KMSENV_AWS_ACTION action = { .name = "DescribeKey", .key_id = a->key_id };
    KMSENV_RESULT result = { .state = state, .state_room = room };

    return perform(a, call, &action, &result);
}

const KMSENV_KMS_METHOD kmsenv_kms_aws = {
    .name = "aws",
    .title = "AWS KMS",
    .settings = settings,
    .network = 1,
    .wrap_room = 300,
    .plaintext_max = KMSENV_AWS_PLAINTEXT_MAX,
    .extra_is_hint = 1,
    .new = aws_new,
    .free = aws_free,
    .key_id = aws_key_id,
    .generate = aws_generate,
    .encrypt = aws_encrypt,
    .decrypt = aws_decrypt,
    .reencrypt = aws_reencrypt,
    .may_reencrypt = aws_may_reencrypt,
    .describe = aws_describe
};
