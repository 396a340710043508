/*
 * Back end `azure`: Azure Key Vault and Managed HSM. The service makes no data keys: they are made here
 * and wrapped there (wrapkey), with RSA-OAEP-256 or, on a Managed HSM, A256KW. The ciphertext of a wrap
 * is the bytes of `value`; `extra` says with what it was wrapped (azure.h), for unwrapkey needs the very
 * version of the key. An encryption context is put inside the wrap (azure_bind.c). Whoever has the public
 * part of an RSA key can make wraps as well: a wrap does not tell who made it.
 *
 * The key id of a wrap is the identifier of the key without its version. Requests go to the vault of
 * the profile only; a wrap of another vault, as `decrypt-keys` may let in, is an error.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/clock.h"
#include "core/secret.h"
#include "kms/azure.h"
#include "kms/registry.h"

#define REMEDY  "set client-secret, AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE, or give the machine a managed identity"
#define API_MAX 32

typedef struct azure_st {
    KMSENV_CRYPTO *crypto;
    KMSENV_AZURE_KEY key;              /* its version: what to wrap with, "" = the newest */
    char *key_id;                      /* without the version */
    const KMSENV_AZURE_ALGORITHM *algorithm;
    char api[API_MAX];
    KMSENV_HTTP *http;
    KMSENV_AZURE_CHAIN *chain;
    KMSENV_REST rest;
} AZURE;

static const KMSENV_SETTING settings[] = {
    { "key-id", KMSENV_TEXT, NULL, 0, 0, "https://VAULT.vault.azure.net/keys/NAME, perhaps with /VERSION",
      "Identifier of the key; with a version, that one wraps, otherwise the newest." },
    { "algorithm", KMSENV_CHOICE, "RSA-OAEP-256", 0, 0, "RSA-OAEP-256|A256KW",
      "How data keys are wrapped: RSA-OAEP-256 with an RSA key (long wraps, for which block-size = 1024 or 2048 may be needed), "
      "A256KW with a 256-bit oct key of a Managed HSM." },
    { "endpoint", KMSENV_TEXT, NULL, 0, 0, "https://HOST or https://HOST:PORT",
      "Where the vault answers, if not at the host in key-id." },
    { "api-version", KMSENV_TEXT, KMSENV_AZURE_API, 0, 0, "the version of the API, such as " KMSENV_AZURE_API " or 7.4",
      "Version of the vault's API to speak, for clouds that do not have this one." },
    { "credentials", KMSENV_CHOICE, "auto", 0, 0, "auto|settings|environment|workload-identity|app-service|instance",
      "Where tokens come from; auto tries all in this order." },
    { "tenant-id", KMSENV_TEXT, NULL, 0, 0, "the id or domain of a tenant", "Tenant to sign in at; without it AZURE_TENANT_ID." },
    { "client-id", KMSENV_TEXT, NULL, 0, 0, "the id of an application or identity",
      "Application to sign in as, or user-assigned managed identity to use; without it AZURE_CLIENT_ID." },
    { "client-secret", KMSENV_SECRET, NULL, 0, 0, NULL, "Secret of the application." },
    { "federated-token-file", KMSENV_PATH, NULL, 0, 0, NULL,
      "File with the token of a workload (Kubernetes) to sign in with; without it AZURE_FEDERATED_TOKEN_FILE." },
    { "authority", KMSENV_TEXT, NULL, 0, 0, "https://HOST",
      "Where to sign in; without it AZURE_AUTHORITY_HOST, then that of the cloud the vault is in." },
    { "resource", KMSENV_TEXT, NULL, 0, 0, "https://HOST, such as https://vault.azure.net",
      "What tokens are asked for; without it by the host in key-id." },
    { "metadata-endpoint", KMSENV_TEXT, "http://169.254.169.254", 0, 0,
      "http://169.254.169.254, or an address of this machine", "Where the metadata service of the instance answers." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

static void azure_free(void *kms)
{
    AZURE *a = kms;

    if (a == NULL)
        return;
    kmsenv_credentials_free(a->rest.credentials);
    kmsenv_azure_chain_free(a->chain);
    kmsenv_http_free(a->http);
    OPENSSL_free(a->key_id);
    OPENSSL_free(a);
}

/* --- settings ------------------------------------------------------------- */

static int no_memory(const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static int set_key(AZURE *a, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *text = kmsenv_section_text(section, "key-id"), *api = kmsenv_section_text(section, "api-version");
    char key_id[sizeof(a->key.vault) + sizeof(a->key.name) + 16];

    if (text == NULL)
        return kmsenv_section_missing(section, "key-id", err);
    if (!kmsenv_azure_key_parse(&a->key, text))
        return kmsenv_section_invalid(section, err, "key-id is not the identifier of a key; accepted: https://VAULT.vault.azure.net/keys/NAME, "
                                      "with https://, and perhaps /VERSION of %d hexadecimal digits", KMSENV_AZURE_VERSION_LEN);
    if (strlen(api) >= sizeof(a->api) || strspn(api, "abcdefghijklmnopqrstuvwxyz0123456789.-") != strlen(api))
        return kmsenv_section_invalid(section, err, "api-version is not one; accepted: such as %s or 7.4", KMSENV_AZURE_API);
    snprintf(a->api, sizeof(a->api), "%s", api);
    snprintf(key_id, sizeof(key_id), "https://%s/keys/%s", a->key.vault, a->key.name);
    a->algorithm = kmsenv_azure_algorithm_find(kmsenv_section_text(section, "algorithm"));
    return (a->key_id = OPENSSL_strdup(key_id)) != NULL || no_memory(section, err);
}

static int set_up(AZURE *a, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *endpoint = kmsenv_section_text(section, "endpoint");

    if (!set_key(a, section, err) || (a->rest.http = a->http = kmsenv_http_new(section, err)) == NULL)
        return 0;
    if (!kmsenv_http_endpoint(a->http, &a->rest.endpoint, endpoint == NULL ? a->key.vault : endpoint, "endpoint", err))
        return kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(section));
    if ((a->chain = kmsenv_azure_chain_new(section, a->key.vault, a->http, err)) == NULL)
        return 0;
    a->rest.credentials = kmsenv_credentials_new(kmsenv_azure_sources, kmsenv_section_text(section, "credentials"), REMEDY, a->chain);
    return a->rest.credentials != NULL || no_memory(section, err);
}

static void *azure_new(const KMSENV_SECTION *section, const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    AZURE *a = OPENSSL_zalloc(sizeof(*a));

    if (a == NULL) {
        no_memory(section, err);
        return NULL;
    }
    a->crypto = services->crypto;
    a->rest.counters = services->counters;
    if (set_up(a, section, err))
        return a;
    azure_free(a);
    return NULL;
}

static const char *azure_key_id(void *kms, KMSENV_ERROR *err)
{
    (void)err;
    return ((AZURE *)kms)->key_id;
}

/* --- operations ----------------------------------------------------------- */

typedef struct job_st {
    AZURE *a;
    const KMSENV_AZURE_ACTION *action;
    KMSENV_RESULT *result;
} JOB;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    (void)now;
    request->secret = 1;               /* for the token, if for nothing else */
    return (job->action->value == NULL || kmsenv_azure_body(job->action, &request->body, err))
           && kmsenv_azure_frame(&job->a->rest.endpoint, job->action, job->a->api, credential->token, request, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    return kmsenv_azure_result(reply, job->action, kmsenv_clock_unix(), job->result, err);
}

static int perform(AZURE *a, KMSENV_CALL *call, const KMSENV_AZURE_ACTION *action, KMSENV_RESULT *result)
{
    JOB job = { a, action, result };
    const KMSENV_REST_CALL rest = { build, parse, &job };

    return kmsenv_rest_operation(&a->rest, &rest, action->verb == NULL ? "key" : action->verb, result, call);
}

/* Does it fit, with what the context adds? Before anything is sent. */
static int check_length(const AZURE *a, KMSENV_CALL *call, size_t n)
{
    size_t room = KMSENV_AZURE_PLAINTEXT_MAX - (call->context->count > 0 ? KMSENV_AZURE_SEAL_LEN : 0);

    if (n > room)
        return kmsenv_error_set(call->err, KMSENV_R_KMS_INPUT_TOO_LARGE, "Azure Key Vault wraps at most %zu bytes%s, not %zu", room,
                                call->context->count > 0 ? " under an encryption context" : "", n);
    if (n >= a->algorithm->min && n % a->algorithm->multiple == 0)
        return 1;
    return kmsenv_error_set(call->err, KMSENV_R_KMS_REQUEST_REJECTED, "%s wraps %zu bytes or more, in multiples of %zu, not %zu",
                            a->algorithm->name, a->algorithm->min, a->algorithm->multiple, n);
}

static int azure_encrypt(void *kms, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    AZURE *a = kms;
    KMSENV_AZURE_ACTION action = { .verb = "wrapkey", .key = &a->key, .algorithm = a->algorithm->name };
    KMSENV_RESULT result = { .blob = out };
    KMSENV_BUFFER bound;
    int ok;

    if (!check_length(a, call, inlen))
        return 0;
    kmsenv_buffer_init(&bound, KMSENV_AZURE_PLAINTEXT_MAX, 1);
    ok = kmsenv_azure_bind(a->crypto, call->context, in, inlen, &bound, call->err);
    action.value = bound.data;
    action.value_len = bound.length;
    ok = ok && perform(a, call, &action, &result);
    kmsenv_buffer_reset(&bound);
    return ok;
}

/* The key that a wrap is to be opened with: in the vault of this profile, of the version that the wrap was made with. */
static int wrap_key(const AZURE *a, const KMSENV_BLOB *in, KMSENV_AZURE_KEY *key, const KMSENV_AZURE_ALGORITHM **algorithm,
                    KMSENV_ERROR *err)
{
    if (!kmsenv_azure_key_parse(key, in->key_id == NULL ? a->key_id : in->key_id) || key->version[0] != '\0')
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key names no key of Azure Key Vault");
    if (strcmp(key->vault, a->key.vault) != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the key of the wrapped data key is in another vault than the %s of "
                                "this profile; configure a profile for it", a->key.vault);
    if (!kmsenv_azure_extra_parse(in->extra, in->extra_len, algorithm, key->version))
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key does not say how it was wrapped: `extra` must be 1 "
                                "(RSA-OAEP-256) or 2 (A256KW), and the 16 bytes of the version of the key");
    return 1;
}

static int azure_decrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    AZURE *a = kms;
    KMSENV_AZURE_KEY key;
    const KMSENV_AZURE_ALGORITHM *algorithm;
    KMSENV_AZURE_ACTION action = { .verb = "unwrapkey", .key = &key, .value = in->ciphertext, .value_len = in->ciphertext_len };
    KMSENV_RESULT result = { .room = *outlen + KMSENV_AZURE_SEAL_LEN };
    int ok;

    if (!wrap_key(a, in, &key, &algorithm, call->err))
        return 0;
    if ((result.plaintext = kmsenv_secret_zalloc(result.room)) == NULL)
        return kmsenv_error_set(call->err, KMSENV_R_OUT_OF_MEMORY, "no memory for what is unwrapped");
    action.algorithm = algorithm->name;
    ok = perform(a, call, &action, &result)
         && kmsenv_azure_unbind(a->crypto, call->context, result.plaintext, &result.plaintext_len, call->err);
    if (ok && result.plaintext_len > *outlen)
        ok = kmsenv_result_malformed(call->err, "more data than expected");
    if (ok) {
        memcpy(out, result.plaintext, result.plaintext_len);
        *outlen = result.plaintext_len;
    }
    kmsenv_secret_free(result.plaintext);
    return ok;
}

static int azure_describe(void *kms, KMSENV_CALL *call, char *state, size_t room)
{
    AZURE *a = kms;
    const KMSENV_AZURE_ACTION action = { .key = &a->key, .algorithm = a->algorithm->name };
    KMSENV_RESULT result = { .state = state, .state_room = room };

    return perform(a, call, &action, &result);
}

const KMSENV_KMS_METHOD kmsenv_kms_azure = {
    .name = "azure",
    .title = "Azure Key Vault",
    .settings = settings,
    .network = 1,
    .wrap_room = 420,
    .plaintext_max = KMSENV_AZURE_PLAINTEXT_MAX,
    .new = azure_new,
    .free = azure_free,
    .key_id = azure_key_id,
    .encrypt = azure_encrypt,
    .decrypt = azure_decrypt,
    .describe = azure_describe
};
