/*
 * Back end `vault`: the secrets engine transit of HashiCorp Vault and OpenBao. The ciphertext of a
 * wrap is the service's text "vault:vN:...", byte for byte. There is no `extra`.
 *
 * An encryption context is sent as its canonical JSON: as associated_data, or for a key that was
 * created with derived=true as the context that keys are derived from. The service ignores
 * parameters that an operation does not have, and `encrypt` may create a key that is not there.
 * Hence:
 *   - with associated_data a data key is made here and encrypted: Vault's `datakey` does not know
 *     associated_data (nor does that of OpenBao 2.4), and would hand out a wrap that can never be opened with it;
 *   - `rewrap` knows no associated_data either: decrypt and encrypt instead;
 *   - before `encrypt`, and before a context is relied on for derivation, the key is looked at.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "kms/registry.h"
#include "kms/vault.h"

#define REMEDY "set token, VAULT_TOKEN, role-id with secret-id, or kubernetes-role"

typedef struct vault_st {
    KMSENV_CRYPTO *crypto;
    char *key_id, *space;              /* space: NULL = none */
    char mount[256];
    int derived;
    KMSENV_HTTP *http;
    KMSENV_VAULT_CHAIN *chain;
    KMSENV_REST rest;
    KMSENV_VAULT_TARGET target;
} VAULT;

static const KMSENV_SETTING settings[] = {
    { "key-id", KMSENV_TEXT, NULL, 0, 0, "the name of a transit key", "Name of the transit key." },
    { "endpoint", KMSENV_TEXT, NULL, 0, 0, "https://HOST or https://HOST:PORT",
      "Address of the server; without it BAO_ADDR, VAULT_ADDR, then https://127.0.0.1:8200." },
    { "namespace", KMSENV_TEXT, NULL, 0, 0, "the path of a namespace, such as team/backup",
      "Namespace of mount and sign-in; without it BAO_NAMESPACE, VAULT_NAMESPACE, then none." },
    { "mount", KMSENV_TEXT, "transit", 0, 0, "a path, such as transit", "Where the transit engine is mounted." },
    { "derived", KMSENV_BOOLEAN, "no", 0, 0, NULL,
      "Was the key created with derived=true? Then the encryption context is what keys are derived from." },
    { "credentials", KMSENV_CHOICE, "auto", 0, 0, "auto|settings|approle|kubernetes|environment|file",
      "Where the token comes from; auto tries all in this order." },
    { "token", KMSENV_SECRET, NULL, 0, 0, NULL, "A token." },
    { "token-file", KMSENV_PATH, NULL, 0, 0, NULL, "File with a token; without it BAO_TOKEN_PATH, then ~/.vault-token." },
    { "role-id", KMSENV_SECRET, NULL, 0, 0, NULL, "RoleID, to sign in with AppRole." },
    { "secret-id", KMSENV_SECRET, NULL, 0, 0, NULL, "SecretID that goes with role-id." },
    { "approle-mount", KMSENV_TEXT, "approle", 0, 0, "a path, such as approle", "Where the sign-in with AppRole is mounted." },
    { "kubernetes-role", KMSENV_TEXT, NULL, 0, 0, "the name of a role", "Role, to sign in with the service account of a pod." },
    { "kubernetes-mount", KMSENV_TEXT, "kubernetes", 0, 0, "a path, such as kubernetes",
      "Where the sign-in with Kubernetes is mounted." },
    { "jwt-file", KMSENV_PATH, "/var/run/secrets/kubernetes.io/serviceaccount/token", 0, 0, NULL,
      "File with the token of the service account." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

static void vault_free(void *kms)
{
    VAULT *v = kms;

    if (v == NULL)
        return;
    kmsenv_credentials_free(v->rest.credentials);
    kmsenv_vault_chain_free(v->chain);
    kmsenv_http_free(v->http);
    OPENSSL_free(v->key_id);
    OPENSSL_free(v->space);
    OPENSSL_free(v);
}

static int set_names(VAULT *v, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *key = kmsenv_section_text(section, "key-id"), *space = kmsenv_section_text(section, "namespace");

    if (key == NULL)
        return kmsenv_section_missing(section, "key-id", err);
    if (!kmsenv_vault_is_key_name(key))
        return kmsenv_section_invalid(section, err, "key-id is not the name of a transit key: those are "
                                "letters, digits, '_', '-' and '.'");
    if (!kmsenv_vault_mount(kmsenv_section_text(section, "mount"), v->mount, sizeof(v->mount)))
        return kmsenv_section_invalid(section, err, "mount is not the path of a mount, such as transit");
    if (space == NULL)
        space = kmsenv_vault_env("NAMESPACE");
    v->derived = kmsenv_section_boolean(section, "derived");
    if ((v->key_id = OPENSSL_strdup(key)) != NULL && (space == NULL || (v->space = OPENSSL_strdup(space)) != NULL))
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static int set_up(VAULT *v, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *endpoint = kmsenv_section_text(section, "endpoint");

    if (endpoint == NULL && (endpoint = kmsenv_vault_env("ADDR")) == NULL)
        endpoint = "https://127.0.0.1:8200";
    if (!set_names(v, section, err) || (v->rest.http = v->http = kmsenv_http_new(section, err)) == NULL)
        return 0;
    v->target.endpoint = &v->rest.endpoint;
    v->target.space = v->space;
    if (!kmsenv_http_endpoint(v->http, &v->rest.endpoint, endpoint, "endpoint", err)
        || (v->chain = kmsenv_vault_chain_new(section, &v->target, v->http, err)) == NULL)
        return kmsenv_error_prefix(err, "section [%s]: ", kmsenv_section_name(section));
    v->rest.credentials = kmsenv_credentials_new(kmsenv_vault_sources, kmsenv_section_text(section, "credentials"), REMEDY, v->chain);
    if (v->rest.credentials != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static void *vault_new(const KMSENV_SECTION *section, const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    VAULT *v = OPENSSL_zalloc(sizeof(*v));

    if (v == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
        return NULL;
    }
    v->crypto = services->crypto;
    v->rest.counters = services->counters;
    if (set_up(v, section, err))
        return v;
    vault_free(v);
    return NULL;
}

static const char *vault_key_id(void *kms, KMSENV_ERROR *err)
{
    (void)err;
    return ((VAULT *)kms)->key_id;
}

/* --- operations ----------------------------------------------------------- */

typedef struct job_st {
    VAULT *v;
    const char *path;
    const KMSENV_VAULT_PARAMETERS *parameters;   /* NULL = a request without a body */
    KMSENV_VAULT_KEY *key;                       /* NULL = the reply is not about a key */
    KMSENV_RESULT *result;
} JOB;

static int build(void *arg, int64_t now, const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    (void)now;
    request->secret = job->parameters != NULL && job->parameters->plaintext != NULL;
    return (job->parameters == NULL || kmsenv_vault_body(job->parameters, &request->body, err))
           && kmsenv_vault_frame(&job->v->target, job->path, credential->token, request, err)
           && kmsenv_request_check(request, err);
}

static KMSENV_VERDICT parse(void *arg, KMSENV_REPLY *reply, KMSENV_ERROR *err)
{
    const JOB *job = arg;

    return kmsenv_vault_result(reply, job->key, job->result, err);
}

/* verb: "decrypt"; name: the key to ask for, which a header may have chosen among those configured. */
static int perform(VAULT *v, KMSENV_CALL *call, const char *verb, const char *name, JOB job)
{
    char path[KMSENV_VAULT_PATH_MAX + sizeof(v->mount)];
    const KMSENV_REST_CALL rest = { build, parse, &job };

    job.v = v;
    job.path = path;
    return kmsenv_vault_path(v->mount, verb, name, path, sizeof(path), call->err)
           && kmsenv_rest_operation(&v->rest, &rest, verb, job.result, call);
}

/* The context as bytes, and where it goes. A derived key always needs one, if only that of no pairs. */
static int set_context(const VAULT *v, const KMSENV_CALL *call, KMSENV_VAULT_PARAMETERS *p, KMSENV_BUFFER *json)
{
    kmsenv_buffer_init(json, KMSENV_CONTEXT_TEXT_MAX, 0);
    if (call->context->count == 0 && !v->derived)
        return 1;
    p->context = v->derived ? json : NULL;
    p->associated_data = v->derived ? NULL : json;
    if (kmsenv_context_json(call->context, json))
        return 1;
    kmsenv_buffer_reset(json);
    return kmsenv_error_set(call->err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the encryption context has more than %d bytes",
                            KMSENV_CONTEXT_TEXT_MAX);
}

/* Is the key there, and of the kind that the profile says? */
static int check_key(VAULT *v, KMSENV_CALL *call)
{
    KMSENV_VAULT_KEY key = { v->key_id, 0 };
    KMSENV_RESULT result = { 0 };

    if (!perform(v, call, "keys", v->key_id, (JOB){ .key = &key, .result = &result }))
        return 0;
    if (key.derived == v->derived)
        return 1;
    return kmsenv_error_set(call->err, KMSENV_R_KMS_REQUEST_REJECTED, "the transit key %s created with derived=true; set derived = %s",
                            key.derived ? "was" : "was not", key.derived ? "yes" : "no");
}

static int vault_encrypt(void *kms, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    VAULT *v = kms;
    KMSENV_VAULT_PARAMETERS p = { .plaintext = in, .plaintext_len = inlen };
    KMSENV_RESULT result = { .blob = out };
    KMSENV_BUFFER json;
    int ok;

    if (!check_key(v, call) || !set_context(v, call, &p, &json))
        return 0;
    ok = perform(v, call, "encrypt", v->key_id, (JOB){ .parameters = &p, .result = &result });
    kmsenv_buffer_reset(&json);
    return ok;
}

static int make_in_service(VAULT *v, KMSENV_CALL *call, size_t len, unsigned char *dek, KMSENV_BLOB *out)
{
    KMSENV_VAULT_PARAMETERS p = { .bits = 8 * len };
    KMSENV_RESULT result = { .plaintext = dek, .room = len, .blob = out };
    KMSENV_BUFFER json;
    int ok;

    if ((v->derived && !check_key(v, call)) || !set_context(v, call, &p, &json))
        return 0;
    ok = perform(v, call, "datakey/plaintext", v->key_id, (JOB){ .parameters = &p, .result = &result });
    kmsenv_buffer_reset(&json);
    return ok && kmsenv_result_length(&result, "datakey", len, call->err);
}

/* The service makes keys of 128, 256 and 512 bits. */
static int vault_generate(void *kms, KMSENV_CALL *call, size_t len, unsigned char *dek, KMSENV_BLOB *out)
{
    VAULT *v = kms;

    if ((len == 16 || len == 32 || len == 64) && (v->derived || call->context->count == 0))
        return make_in_service(v, call, len, dek, out);
    return kmsenv_crypto_random_key(v->crypto, dek, len, call->err) && vault_encrypt(v, call, dek, len, out);
}

static int vault_decrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    VAULT *v = kms;
    KMSENV_VAULT_PARAMETERS p = { .ciphertext = in->ciphertext, .ciphertext_len = in->ciphertext_len };
    KMSENV_RESULT result = { .plaintext = out, .room = *outlen };
    KMSENV_BUFFER json;
    int ok;

    if (!set_context(v, call, &p, &json))
        return 0;
    ok = perform(v, call, "decrypt", in->key_id == NULL ? v->key_id : in->key_id, (JOB){ .parameters = &p, .result = &result });
    kmsenv_buffer_reset(&json);
    if (ok)
        *outlen = result.plaintext_len;
    return ok;
}

/* `rewrap` is for wraps of the same key and without associated_data. */
static int vault_may_reencrypt(void *kms, const KMSENV_BLOB *in, const KMSENV_CONTEXT *context)
{
    const VAULT *v = kms;

    return (v->derived || context->count == 0) && (in->key_id == NULL || strcmp(in->key_id, v->key_id) == 0);
}

static int vault_reencrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, KMSENV_BLOB *out)
{
    VAULT *v = kms;
    KMSENV_VAULT_PARAMETERS p = { .ciphertext = in->ciphertext, .ciphertext_len = in->ciphertext_len };
    KMSENV_RESULT result = { .blob = out };
    KMSENV_BUFFER json;
    int ok;

    if (!set_context(v, call, &p, &json))
        return 0;
    ok = perform(v, call, "rewrap", v->key_id, (JOB){ .parameters = &p, .result = &result });
    kmsenv_buffer_reset(&json);
    return ok;
}

static int vault_describe(void *kms, KMSENV_CALL *call, char *state, size_t room)
{
    if (!check_key(kms, call))
        return 0;
    OPENSSL_strlcpy(state, "Enabled", room);
    return 1;
}

const KMSENV_KMS_METHOD kmsenv_kms_vault = {
    .name = "vault",
    .title = "Vault or OpenBao transit",
    .settings = settings,
    .network = 1,
    .wrap_room = 200,
    .plaintext_max = KMSENV_VAULT_PLAINTEXT_MAX,
    .new = vault_new,
    .free = vault_free,
    .key_id = vault_key_id,
    .generate = vault_generate,
    .encrypt = vault_encrypt,
    .decrypt = vault_decrypt,
    .reencrypt = vault_reencrypt,
    .may_reencrypt = vault_may_reencrypt,
    .describe = vault_describe
};
