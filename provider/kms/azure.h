/*
 * Azure Key Vault and Managed HSM (REST API): what goes over the wire, apart from the transport, and
 * where tokens come from. Used by the back end (azure.c) and by tests.
 */
#ifndef KMSENV_KMS_AZURE_H
# define KMSENV_KMS_AZURE_H
# include "core/crypto.h"
# include "kms/json.h"
# include "kms/kms.h"
# include "kms/rest.h"

# define KMSENV_AZURE_API           "2025-07-01"
# define KMSENV_AZURE_PLAINTEXT_MAX 190     /* of RSA-OAEP-256 with the smallest key there is, one of 2048 bits */
# define KMSENV_AZURE_VERSION_LEN   32
# define KMSENV_AZURE_NAME_MAX      127

/* What the identifier of a key says: https://VAULT/keys/NAME or https://VAULT/keys/NAME/VERSION. */
typedef struct kmsenv_azure_key_st {
    char vault[272];                              /* as in a Host header, lower case */
    char name[KMSENV_AZURE_NAME_MAX + 1];
    char version[KMSENV_AZURE_VERSION_LEN + 1];   /* "" = none is named */
} KMSENV_AZURE_KEY;
/* 0 if it is not the identifier of a key. text may be NULL. */
int kmsenv_azure_key_parse(KMSENV_AZURE_KEY *key, const char *text);
/* Is it the same key? Also the same version, if expected names one. As the service has it, case does not matter. */
int kmsenv_azure_key_equal(const KMSENV_AZURE_KEY *expected, const KMSENV_AZURE_KEY *key);

/*
 * How data is wrapped. `extra` of a wrap is 17 bytes: the number of an algorithm below, and the version of the key,
 * whose 32 hexadecimal digits are 16 bytes. Anything else is refused; nothing in it can lead to another host or key.
 * (Short, for a wrap of RSA is long, and the header of a message must fit a block.)
 */
typedef struct kmsenv_azure_algorithm_st {
    const char *name;
    unsigned char number;
    const char *type;                             /* of the key, "RSA" or "oct"; "-HSM" may follow */
    size_t min, multiple;                         /* bytes that it wraps; at most KMSENV_AZURE_PLAINTEXT_MAX */
} KMSENV_AZURE_ALGORITHM;
/* NULL if it is none of ours. */
const KMSENV_AZURE_ALGORITHM *kmsenv_azure_algorithm_find(const char *name);
# define KMSENV_AZURE_EXTRA_LEN 17
/* version: of 32 digits. */
void kmsenv_azure_extra_make(unsigned char extra[KMSENV_AZURE_EXTRA_LEN], const KMSENV_AZURE_ALGORITHM *algorithm, const char *version);
int kmsenv_azure_extra_parse(const unsigned char *extra, size_t n, const KMSENV_AZURE_ALGORITHM **algorithm,
                             char version[KMSENV_AZURE_VERSION_LEN + 1]);

/* A request about a key, without the token. */
typedef struct kmsenv_azure_action_st {
    const char *verb;                             /* "wrapkey"; NULL = the key itself is asked for */
    const KMSENV_AZURE_KEY *key;
    const char *algorithm;
    const unsigned char *value;                   /* bytes; NULL = none */
    size_t value_len;
} KMSENV_AZURE_ACTION;
int kmsenv_azure_body(const KMSENV_AZURE_ACTION *action, KMSENV_BUFFER *body, KMSENV_ERROR *err);
/* Adds method, target and headers to a request whose body is complete. */
int kmsenv_azure_frame(const KMSENV_ENDPOINT *endpoint, const KMSENV_AZURE_ACTION *action, const char *api, const char *token,
                       KMSENV_REQUEST *request, KMSENV_ERROR *err);
/*
 * The reply. A ciphertext comes with the `extra` above; for the state of a key action->algorithm is what it is to be used
 * with. now: Unix seconds, for the dates of a key.
 */
KMSENV_VERDICT kmsenv_azure_result(KMSENV_REPLY *http, const KMSENV_AZURE_ACTION *action, int64_t now, KMSENV_RESULT *result,
                                   KMSENV_ERROR *err);

/* --- azure_bind.c ---------------------------------------------------------- */

# define KMSENV_AZURE_SEAL_LEN 40                 /* what a context adds to the data that is wrapped */

/* Puts into out (secret) what is to be wrapped for data under an encryption context. */
int kmsenv_azure_bind(KMSENV_CRYPTO *crypto, const KMSENV_CONTEXT *context, const unsigned char *data, size_t n, KMSENV_BUFFER *out,
                      KMSENV_ERROR *err);
/* Checks what was unwrapped against the context. *n: its length on entry, that of the data on return. */
int kmsenv_azure_unbind(KMSENV_CRYPTO *crypto, const KMSENV_CONTEXT *context, const unsigned char *data, size_t *n, KMSENV_ERROR *err);

/* --- azure_credentials.c, azure_token.c ------------------------------------ */

# define KMSENV_AZURE_RESOURCE_MAX 544

/* The cloud by the name of a vault: what tokens are asked for, and where. 0 if it is of no cloud known here. */
int kmsenv_azure_cloud(const char *host, char resource[KMSENV_AZURE_RESOURCE_MAX], const char **authority);

typedef struct kmsenv_azure_chain_st {
    const KMSENV_SECTION *section;
    KMSENV_HTTP *http;
    KMSENV_ENDPOINT metadata;
    KMSENV_REST login;                            /* without credentials of its own */
    char resource[KMSENV_AZURE_RESOURCE_MAX];     /* what tokens are for, such as https://vault.azure.net */
} KMSENV_AZURE_CHAIN;

extern const KMSENV_CREDENTIAL_SOURCE kmsenv_azure_sources[];
/* The argument of those sources. Reads settings only. host: of the vault. section and http must outlive it. */
KMSENV_AZURE_CHAIN *kmsenv_azure_chain_new(const KMSENV_SECTION *section, const char *host, KMSENV_HTTP *http, KMSENV_ERROR *err);
void kmsenv_azure_chain_free(KMSENV_AZURE_CHAIN *chain);

/* A sign-in: either a secret, or an assertion (the token of a workload). */
typedef struct kmsenv_azure_login_st {
    const char *tenant, *client, *secret, *assertion;
} KMSENV_AZURE_LOGIN;
int kmsenv_azure_login_body(const KMSENV_AZURE_LOGIN *login, const char *resource, KMSENV_BUFFER *body, KMSENV_ERROR *err);
int kmsenv_azure_login_frame(const KMSENV_ENDPOINT *authority, const KMSENV_AZURE_LOGIN *login, KMSENV_REQUEST *request, KMSENV_ERROR *err);
KMSENV_VERDICT kmsenv_azure_login_result(KMSENV_REPLY *http, int64_t now, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);

/* Managed identity: of the instance, or of App Service, whose endpoint and header value are in the environment. client may be NULL. */
int kmsenv_azure_instance_request(const KMSENV_ENDPOINT *metadata, const char *resource, const char *client, KMSENV_REQUEST *request,
                                  KMSENV_ERROR *err);
int kmsenv_azure_app_request(const char *url, const char *header, const char *resource, const char *client, KMSENV_ENDPOINT *endpoint,
                             KMSENV_REQUEST *request, KMSENV_ERROR *err);
int kmsenv_azure_identity_result(KMSENV_REPLY *http, int64_t now, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);

int kmsenv_azure_from_app(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
int kmsenv_azure_from_instance(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);

#endif
