/*
 * Google Cloud KMS (API v1, REST): what goes over the wire, apart from the transport, and where
 * tokens come from. Used by the back end (google.c) and by tests.
 */
#ifndef KMSENV_KMS_GOOGLE_H
# define KMSENV_KMS_GOOGLE_H
# include "core/signer.h"
# include "kms/json.h"
# include "kms/kms.h"
# include "kms/rest.h"

/* For keys in an HSM plaintext and additional data together are 8 KiB at most; all others take more. */
# define KMSENV_GOOGLE_PLAINTEXT_MAX (8192 - KMSENV_CONTEXT_TEXT_MAX)
# define KMSENV_GOOGLE_UNIVERSE      "googleapis.com"
# define KMSENV_GOOGLE_UNIVERSE_MAX  128
# define KMSENV_GOOGLE_TOKEN_MAX     16000    /* bytes of a token of any kind */
# define KMSENV_GOOGLE_PATH_MAX      512
/* The scope that a token needs to become that of a service account. */
# define KMSENV_GOOGLE_SCOPE_ALL     "https://www.googleapis.com/auth/cloud-platform"
# define KMSENV_GOOGLE_SCOPE_KMS     "https://www.googleapis.com/auth/cloudkms"

/* --- google_name.c: what keys and services are called --------------------- */

/*
 * Length of "projects/P/locations/L/keyRings/R/cryptoKeys/K" at the beginning of text, which may go on with
 * "/cryptoKeyVersions/N" and nothing else. 0 if it is no such name: any other could lead elsewhere in the API.
 */
size_t kmsenv_google_key_length(const char *text);
/* Is it a domain, such as googleapis.com? */
int kmsenv_google_is_universe(const char *text);
/* Takes "https://HOST/PATH?QUERY" apart; plain http and a port as kms/endpoint.h allows. path: from its slash on. */
int kmsenv_google_split_url(const char *url, int plain_http, const char *what, KMSENV_ENDPOINT *host, const char **path,
                            KMSENV_ERROR *err);
/*
 * A URL that a credentials file names for a service ("sts") must be https to a host of that service in the universe:
 * sts.googleapis.com, sts.REGION.googleapis.com, sts-NAME.p.googleapis.com. Nobody else is shown a credential.
 */
int kmsenv_google_service_url(const char *url, const char *service, const char *universe, const char *what,
                              KMSENV_ENDPOINT *host, const char **path, KMSENV_ERROR *err);

/* --- google_wire.c: the KMS ----------------------------------------------- */

/* What is NULL is left out. */
typedef struct kmsenv_google_operation_st {
    const char *verb;                    /* "encrypt", "decrypt"; NULL = have a look at the resource */
    const char *name;                    /* of the resource */
    const unsigned char *plaintext;
    size_t plaintext_len;
    const unsigned char *ciphertext;
    size_t ciphertext_len;
    const KMSENV_BUFFER *aad;            /* additional data that is authenticated */
    int checksums;                       /* send them, and insist on those of the reply */
} KMSENV_GOOGLE_OPERATION;
int kmsenv_google_body(const KMSENV_GOOGLE_OPERATION *op, KMSENV_BUFFER *body, KMSENV_ERROR *err);
/* Adds method, target and headers to a request whose body is complete: POST, or GET without a verb. quota_project: NULL = none. */
int kmsenv_google_frame(const KMSENV_ENDPOINT *endpoint, const char *name, const char *verb, const char *token,
                        const char *quota_project, KMSENV_REQUEST *request, KMSENV_ERROR *err);
/* "Authorization: Bearer TOKEN" */
int kmsenv_google_authorize(KMSENV_REQUEST *request, const char *token, KMSENV_ERROR *err);
/*
 * The code of an error reply, "PERMISSION_DENIED.SERVICE_DISABLED", or of an OAuth one, "invalid_grant"; "" if it has none. For
 * our error texts.
 */
void kmsenv_google_code(const KMSENV_JSON *reply, char *out, size_t room);
/* Was the request made at another time than the service believes it to be? sent: 0 = not known. */
int kmsenv_google_is_clock(const KMSENV_REPLY *http, int64_t sent);
/* result->key_id: the resource name that the reply must give or begin with. sent: when the request was made, 0 = not known. */
KMSENV_VERDICT kmsenv_google_result(KMSENV_REPLY *http, const KMSENV_GOOGLE_OPERATION *op, int64_t sent, KMSENV_RESULT *result,
                                    KMSENV_ERROR *err);

/* --- google_token.c: requests for tokens, and their replies ---------------- */

/* What a JWT claims. With key_id its header also says the type and the key; subject, scope: NULL = left out. */
typedef struct kmsenv_google_claims_st {
    const char *key_id;
    const char *issuer, *subject, *scope, *audience;
} KMSENV_GOOGLE_CLAIMS;
/* Good for an hour from now on (*expires). out: secret. */
int kmsenv_google_jwt(const KMSENV_SIGNER *signer, const KMSENV_GOOGLE_CLAIMS *claims, int64_t now, KMSENV_BUFFER *out,
                      int64_t *expires, KMSENV_ERROR *err);

/* Bodies. Two forms to oauth2, one to sts, JSON to iamcredentials. */
int kmsenv_google_assertion_form(const char *jwt, KMSENV_BUFFER *body, KMSENV_ERROR *err);
int kmsenv_google_refresh_form(const char *refresh_token, const char *client_id, const char *client_secret, KMSENV_BUFFER *body,
                               KMSENV_ERROR *err);
int kmsenv_google_exchange_form(const char *audience, const char *scope, const char *subject_token, const char *subject_token_type,
                                KMSENV_BUFFER *body, KMSENV_ERROR *err);
/* delegates: an array of strings; NULL = none. */
int kmsenv_google_impersonate_body(const char *scope, int64_t seconds, const KMSENV_JSON *delegates, KMSENV_BUFFER *body,
                                   KMSENV_ERROR *err);
/* Adds target and headers; path from its slash on. token: NULL for forms, which carry what they need. */
int kmsenv_google_token_frame(const KMSENV_ENDPOINT *endpoint, const char *path, const char *token, KMSENV_REQUEST *request,
                              KMSENV_ERROR *err);

typedef struct kmsenv_google_token_st {
    KMSENV_BUFFER text;                  /* secret; initialised and reset by the caller */
    int64_t expires;                     /* Unix seconds */
} KMSENV_GOOGLE_TOKEN;
void kmsenv_google_token_init(KMSENV_GOOGLE_TOKEN *token);
void kmsenv_google_token_reset(KMSENV_GOOGLE_TOKEN *token);
/* The reply of all of them and of the metadata service. now: when it was asked for. */
KMSENV_VERDICT kmsenv_google_token_result(KMSENV_REPLY *http, int64_t now, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err);

/* --- google_credentials.c ------------------------------------------------- */

typedef struct kmsenv_google_chain_st {
    const KMSENV_SECTION *section;
    KMSENV_CRYPTO *crypto;
    KMSENV_HTTP *http;
    char universe[KMSENV_GOOGLE_UNIVERSE_MAX];
    KMSENV_ENDPOINT tokens;              /* setting token-endpoint; */
    int has_tokens;                      /* is there one? */
} KMSENV_GOOGLE_CHAIN;

extern const KMSENV_CREDENTIAL_SOURCE kmsenv_google_sources[];
/* The argument of those sources. Reads settings only. section, crypto and http must outlive it. */
KMSENV_GOOGLE_CHAIN *kmsenv_google_chain_new(const KMSENV_SECTION *section, KMSENV_CRYPTO *crypto, KMSENV_HTTP *http,
                                             KMSENV_ERROR *err);
void kmsenv_google_chain_free(KMSENV_GOOGLE_CHAIN *chain);
/* account: "default" or the address of a service account. */
int kmsenv_google_metadata_request(const KMSENV_ENDPOINT *endpoint, const char *account, KMSENV_REQUEST *request, KMSENV_ERROR *err);
/* Its reply: anybody may answer at that address, but only the metadata service does with this header. */
int kmsenv_google_metadata_token(KMSENV_REPLY *reply, int64_t now, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err);

/* --- google_file.c: credentials files ------------------------------------- */

/* What a file of credentials says. Secrets are taken out of its text; all of them belong to whoever opened it. */
typedef struct kmsenv_google_file_st {
    KMSENV_JSON *json;
    KMSENV_BUFFER private_key, client_secret, refresh_token, authorization;
} KMSENV_GOOGLE_FILE;
int kmsenv_google_file_parse(KMSENV_GOOGLE_FILE *file, KMSENV_BUFFER *text, KMSENV_ERROR *err);
void kmsenv_google_file_reset(KMSENV_GOOGLE_FILE *file);

/* One wish for a token. */
typedef struct kmsenv_google_wish_st {
    const KMSENV_GOOGLE_CHAIN *chain;
    const KMSENV_GOOGLE_FILE *file;
    const char *scope;                   /* that the token must have */
    int self_signed;                     /* a token that a service account's key signs for the KMS will do as well */
    int64_t now;
    uint64_t deadline_ms;
} KMSENV_GOOGLE_WISH;
/* A token by what json, the file or a part of it, says. */
int kmsenv_google_file_token(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err);
/* Asks a service for a token. url: as the file has it. make: adds the body. token: NULL = none is needed. */
typedef struct kmsenv_google_ask_st {
    const char *service, *what, *url, *token;
    int (*make)(const void *arg, int64_t now, KMSENV_BUFFER *body, KMSENV_ERROR *err);
    const void *arg;
} KMSENV_GOOGLE_ASK;
int kmsenv_google_ask(const KMSENV_GOOGLE_WISH *wish, const KMSENV_GOOGLE_ASK *ask, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err);
/* Turns a token into one of the service account that a URL names. scope: as in wish. */
int kmsenv_google_impersonate(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, const char *token, KMSENV_GOOGLE_TOKEN *out,
                              KMSENV_ERROR *err);

/* --- google_federation.c: workload identity federation --------------------- */

int kmsenv_google_from_external(const KMSENV_GOOGLE_WISH *wish, const KMSENV_JSON *json, KMSENV_GOOGLE_TOKEN *out, KMSENV_ERROR *err);

#endif
