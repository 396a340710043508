/*
 * HashiCorp Vault and OpenBao, secrets engine transit: what goes over the wire, apart from the
 * transport. Used by the back end (vault.c), by its credentials (vault_credentials.c), and by tests.
 */
#ifndef KMSENV_KMS_VAULT_H
# define KMSENV_KMS_VAULT_H
# include "kms/json.h"
# include "kms/kms.h"
# include "kms/rest.h"

# define KMSENV_VAULT_PLAINTEXT_MAX 32768
# define KMSENV_VAULT_PATH_MAX      768

/* Where requests are sent. space: the namespace, NULL = the root one. */
typedef struct kmsenv_vault_target_st {
    const KMSENV_ENDPOINT *endpoint;
    const char *space;
} KMSENV_VAULT_TARGET;

/* Is it a name that a transit key can have? Anything else could lead to another path of the API. */
int kmsenv_vault_is_key_name(const char *text);
/* Copies the path of a mount without slashes around it. 0 if it is none, or too long. */
int kmsenv_vault_mount(const char *text, char *out, size_t room);
/* "MOUNT/VERB/KEY"; errors: a key that no transit key is called (WRAP_REJECTED). */
int kmsenv_vault_path(const char *mount, const char *verb, const char *key, char *out, size_t room, KMSENV_ERROR *err);

/* The parameters of an operation. What is NULL or 0 is left out. */
typedef struct kmsenv_vault_parameters_st {
    size_t bits;
    const unsigned char *plaintext;
    size_t plaintext_len;
    const unsigned char *ciphertext;            /* text, as the service gave it */
    size_t ciphertext_len;
    const KMSENV_BUFFER *context;               /* bytes that a derived key is derived with */
    const KMSENV_BUFFER *associated_data;       /* bytes that are authenticated */
} KMSENV_VAULT_PARAMETERS;
int kmsenv_vault_body(const KMSENV_VAULT_PARAMETERS *p, KMSENV_BUFFER *body, KMSENV_ERROR *err);
/* Adds method, target and headers to a request whose body is complete: POST, or GET if it has none. token may be NULL. */
int kmsenv_vault_frame(const KMSENV_VAULT_TARGET *target, const char *path, const char *token, KMSENV_REQUEST *request,
                       KMSENV_ERROR *err);

/* A reply taken apart. */
typedef struct kmsenv_vault_reply_st {
    KMSENV_JSON *json;
    char request_id[80];
} KMSENV_VAULT_REPLY;
/* Parses; secrets are taken out of the text (kms/json.h). Fills err unless the verdict is OK. To be reset in any case. */
KMSENV_VERDICT kmsenv_vault_parse(KMSENV_REPLY *http, KMSENV_JSON_SECRET *secrets, size_t count, KMSENV_VAULT_REPLY *reply,
                                  KMSENV_ERROR *err);
void kmsenv_vault_reply_reset(KMSENV_VAULT_REPLY *reply);

/* What the replies about a key hold. */
typedef struct kmsenv_vault_key_st {
    const char *name;                           /* in: the key asked for */
    int derived;                                /* out: does it derive keys from a context? */
} KMSENV_VAULT_KEY;

/* The reply of an operation. key: where to put what is known of the key; NULL = not expected. */
KMSENV_VERDICT kmsenv_vault_result(KMSENV_REPLY *http, KMSENV_VAULT_KEY *key, KMSENV_RESULT *result, KMSENV_ERROR *err);

/* --- vault_credentials.c -------------------------------------------------- */

typedef struct kmsenv_vault_chain_st KMSENV_VAULT_CHAIN;

extern const KMSENV_CREDENTIAL_SOURCE kmsenv_vault_sources[];
/* The argument of those sources. Reads settings only. section, target and http must outlive it. */
KMSENV_VAULT_CHAIN *kmsenv_vault_chain_new(const KMSENV_SECTION *section, const KMSENV_VAULT_TARGET *target, KMSENV_HTTP *http,
                                           KMSENV_ERROR *err);
void kmsenv_vault_chain_free(KMSENV_VAULT_CHAIN *chain);
/* Address and namespace by the environment of the vendors' own clients; NULL if it has none. */
const char *kmsenv_vault_env(const char *name);

/* Bodies of the two sign-ins (secret_id may be NULL) and of the renewal. */
int kmsenv_vault_approle_body(const char *role_id, const char *secret_id, KMSENV_BUFFER *body, KMSENV_ERROR *err);
int kmsenv_vault_kubernetes_body(const char *role, const char *jwt, KMSENV_BUFFER *body, KMSENV_ERROR *err);
int kmsenv_vault_renew_body(const char *increment, KMSENV_BUFFER *body, KMSENV_ERROR *err);
/* The reply of all three. */
typedef struct kmsenv_vault_login_st {
    KMSENV_BUFFER token;                        /* secret; initialised and reset by the caller */
    int64_t lease;                              /* seconds; 0 = for ever */
    int renewable;
} KMSENV_VAULT_LOGIN;
KMSENV_VERDICT kmsenv_vault_login_result(KMSENV_REPLY *http, KMSENV_VAULT_LOGIN *login, KMSENV_ERROR *err);

#endif
