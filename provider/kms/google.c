/*
 * Back end `google`: Google Cloud KMS. The ciphertext of a wrap is the service's bytes, which say by
 * themselves what version of the key made them; there is no `extra`. A wrap records the key, never a
 * version. The service makes no data keys, and wraps none anew: kms.c does both with what is here.
 * An encryption context is bound as additional authenticated data, by its canonical JSON.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/google.h"
#include "kms/registry.h"

#define REMEDY "set credentials-file or GOOGLE_APPLICATION_CREDENTIALS, or run this where a service account is attached"

typedef struct google_st {
    char *name;                        /* of what encrypts: the key, or one of its versions */
    char *key_id;                      /* of the key */
    char *quota_project;               /* NULL = what the credentials say */
    KMSENV_HTTP *http;
    KMSENV_GOOGLE_CHAIN *chain;
    KMSENV_REST rest;
} GOOGLE;

static const KMSENV_SETTING settings[] = {
    { "key-id", KMSENV_TEXT, NULL, 0, 0, "projects/P/locations/L/keyRings/R/cryptoKeys/K",
      "Name of the key; /cryptoKeyVersions/N after it has that version encrypt, instead of the primary one." },
    { "endpoint", KMSENV_TEXT, NULL, 0, 0, "https://HOST or https://HOST:PORT",
      "Where the KMS answers; without it https://cloudkms.UNIVERSE-DOMAIN." },
    { "universe-domain", KMSENV_TEXT, NULL, 0, 0, "a domain, such as googleapis.com",
      "Domain of the services, also of those that give tokens; without it GOOGLE_CLOUD_UNIVERSE_DOMAIN, then googleapis.com." },
    { "quota-project", KMSENV_TEXT, NULL, 0, 0, "the id of a project",
      "Project that calls are charged to; without it GOOGLE_CLOUD_QUOTA_PROJECT, then what the credentials say." },
    { "credentials", KMSENV_CHOICE, "auto", 0, 0, "auto|settings|file|instance",
      "Where the access token comes from; auto tries all in this order." },
    { "access-token", KMSENV_SECRET, NULL, 0, 0, NULL, "An access token, for trials: it is good for an hour." },
    { "credentials-file", KMSENV_PATH, NULL, 0, 0, NULL,
      "JSON file with credentials; without it GOOGLE_APPLICATION_CREDENTIALS, then gcloud's application_default_credentials.json." },
    { "scope", KMSENV_TEXT, NULL, 0, 0, "an OAuth scope, such as https://www.googleapis.com/auth/cloud-platform",
      "Scope of tokens that credentials in a file are exchanged for; without it that of the KMS (a service account signs its own token)." },
    { "service-account", KMSENV_TEXT, "default", 0, 0, "default, or the address of a service account",
      "Which service account of the instance to use." },
    { "metadata-endpoint", KMSENV_TEXT, NULL, 0, 0, "http://169.254.169.254, http://metadata.google.internal, or an address of this machine",
      "Where the metadata service answers; without it GCE_METADATA_IP, GCE_METADATA_HOST, then http://169.254.169.254." },
    { "token-endpoint", KMSENV_TEXT, NULL, 0, 0, "https://HOST or https://HOST:PORT",
      "Where the services answer that give tokens, instead of oauth2, sts and iamcredentials of the universe." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

static void google_free(void *kms)
{
    GOOGLE *g = kms;

    if (g == NULL)
        return;
    kmsenv_credentials_free(g->rest.credentials);
    kmsenv_google_chain_free(g->chain);
    kmsenv_http_free(g->http);
    OPENSSL_free(g->name);
    OPENSSL_free(g->key_id);
    OPENSSL_free(g->quota_project);
    OPENSSL_free(g);
}

/* --- settings ------------------------------------------------------------- */

static int set_names(GOOGLE *g, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *name = kmsenv_section_text(section, "key-id"), *project = kmsenv_section_text(section, "quota-project");
    const char *account = kmsenv_section_text(section, "service-account");
    size_t n;

    if (name == NULL)
        return kmsenv_section_missing(section, "key-id", err);
    if ((n = kmsenv_google_key_length(name)) == 0)
        return kmsenv_section_invalid(section, err, "key-id is not the name of a key; accepted: projects/P/locations/L/keyRings/R/"
                                      "cryptoKeys/K, perhaps with /cryptoKeyVersions/N");
    if (strlen(account) > 256 || strspn(account, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@.-_") != strlen(account))
        return kmsenv_section_invalid(section, err, "service-account is neither default nor the address of a service account");
    if (project == NULL)
        project = kmsenv_credentials_env("GOOGLE_CLOUD_QUOTA_PROJECT");
    if ((g->name = OPENSSL_strdup(name)) != NULL && (g->key_id = OPENSSL_strndup(name, n)) != NULL
        && (project == NULL || (g->quota_project = OPENSSL_strdup(project)) != NULL))
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static int set_up(GOOGLE *g, const KMSENV_SERVICES *services, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *endpoint = kmsenv_section_text(section, "endpoint");
    char usual[KMSENV_GOOGLE_UNIVERSE_MAX + 32];

    if (!set_names(g, section, err) || (g->rest.http = g->http = kmsenv_http_new(section, err)) == NULL)
        return 0;
    if ((g->chain = kmsenv_google_chain_new(section, services->crypto, g->http, err)) == NULL)
        return kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(section));
    snprintf(usual, sizeof(usual), "https://cloudkms.%s", g->chain->universe);
    if (!kmsenv_http_endpoint(g->http, &g->rest.endpoint, endpoint == NULL ? usual : endpoint, "endpoint", err))
        return kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(section));
    g->rest.counters = services->counters;
    g->rest.credentials = kmsenv_credentials_new(kmsenv_google_sources, kmsenv_section_text(section, "credentials"), REMEDY, g->chain);
    if (g->rest.credentials != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static void *google_new(const KMSENV_SECTION *section, const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    GOOGLE *g = OPENSSL_zalloc(sizeof(*g));

    if (g == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
        return NULL;
    }
    if (set_up(g, services, section, err))
        return g;
    google_free(g);
    return NULL;
}

static const char *google_key_id(void *kms, KMSENV_ERROR *err)
{
    (void)err;
    return ((GOOGLE *)kms)->key_id;
}

/* --- operations ----------------------------------------------------------- */

typedef struct job_st {
    const GOOGLE *g;
    const KMSENV_GOOGLE_OPERATION *op;
    KMSENV_RESULT *result;
    int64_t sent;
} JOB;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    JOB *job = arg;
    const char *project = job->g->quota_project;

    if (project == NULL && *credential->id != '\0')
        project = credential->id;
    job->sent = now;
    request->secret = job->op->plaintext != NULL;
    return (job->op->verb == NULL || kmsenv_google_body(job->op, &request->body, err))
           && kmsenv_google_frame(&job->g->rest.endpoint, job->op->name, job->op->verb, credential->token, project, request, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    return kmsenv_google_result(reply, job->op, job->sent, job->result, err);
}

/* op: without what all operations have. The context becomes additional data, if there is one. */
static int perform(GOOGLE *g, KMSENV_CALL *call, KMSENV_GOOGLE_OPERATION *op, KMSENV_RESULT *result)
{
    JOB job = { .g = g, .op = op, .result = result };
    const KMSENV_REST_CALL rest = { build, parse, &job };
    KMSENV_BUFFER aad;
    int ok;

    kmsenv_buffer_init(&aad, KMSENV_CONTEXT_TEXT_MAX, 0);
    ok = call->context->count == 0 || kmsenv_context_json(call->context, &aad);
    if (!ok)
        kmsenv_error_set(call->err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the encryption context has more than %d bytes", KMSENV_CONTEXT_TEXT_MAX);
    op->aad = aad.length == 0 ? NULL : &aad;
    op->checksums = 1;
    ok = ok && kmsenv_rest_operation(&g->rest, &rest, op->verb == NULL ? "get" : op->verb, result, call);
    kmsenv_buffer_reset(&aad);
    return ok;
}

static int google_encrypt(void *kms, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    GOOGLE *g = kms;
    KMSENV_GOOGLE_OPERATION op = { .verb = "encrypt", .name = g->name, .plaintext = in, .plaintext_len = inlen };
    KMSENV_RESULT result = { .key_id = g->name, .blob = out };

    return perform(g, call, &op, &result);
}

/* The key is named in the path of the request: it must be the name of a key, and nothing more. */
static int google_decrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    GOOGLE *g = kms;
    const char *key = in->key_id == NULL ? g->key_id : in->key_id;
    KMSENV_GOOGLE_OPERATION op = { .verb = "decrypt", .name = key, .ciphertext = in->ciphertext, .ciphertext_len = in->ciphertext_len };
    KMSENV_RESULT result = { .key_id = key, .plaintext = out, .room = *outlen };

    if (kmsenv_google_key_length(key) != strlen(key) || *key == '\0')
        return kmsenv_error_set(call->err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key names no key of Google Cloud KMS; those are "
                                "projects/P/locations/L/keyRings/R/cryptoKeys/K, without a version");
    if (!perform(g, call, &op, &result))
        return 0;
    *outlen = result.plaintext_len;
    return 1;
}

static int google_describe(void *kms, KMSENV_CALL *call, char *state, size_t room)
{
    GOOGLE *g = kms;
    KMSENV_GOOGLE_OPERATION op = { .name = g->name };
    KMSENV_RESULT result = { .key_id = g->name, .state = state, .state_room = room };

    return perform(g, call, &op, &result);
}

const KMSENV_KMS_METHOD kmsenv_kms_google = {
    .name = "google",
    .title = "Google Cloud KMS",
    .settings = settings,
    .network = 1,
    .plaintext_max = KMSENV_GOOGLE_PLAINTEXT_MAX,
    .new = google_new,
    .free = google_free,
    .key_id = google_key_id,
    .encrypt = google_encrypt,
    .decrypt = google_decrypt,
    .describe = google_describe
};
