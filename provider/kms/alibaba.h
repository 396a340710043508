/*
 * Alibaba Cloud KMS (API 2016-01-20, shared gateway): what goes over the wire, apart from the transport, and
 * where credentials come from. Used by the back end (alibaba.c) and by tests.
 */
#ifndef KMSENV_KMS_ALIBABA_H
# define KMSENV_KMS_ALIBABA_H
# include "kms/acs.h"
# include "kms/context.h"
# include "kms/json.h"
# include "kms/kms.h"
# include "kms/rest.h"

# define KMSENV_ALIBABA_PLAINTEXT_MAX  4096     /* the service's own limit is 6 KB, perhaps of base64 */
# define KMSENV_ALIBABA_CIPHERTEXT_MAX 8192
# define KMSENV_ALIBABA_REGION_MAX     40

/* --- alibaba_name.c ------------------------------------------------------- */

/* Is it an alias, or the ARN of one: another name that may mean another key tomorrow? */
int kmsenv_alibaba_is_alias(const char *key_id);
/* The id in the ARN of a key, or the id itself. */
const char *kmsenv_alibaba_bare_id(const char *key_id);
/* Is it an id, alias/NAME, or the ARN of a key or alias? */
int kmsenv_alibaba_is_key_id(const char *text);
/* The region in an ARN. 0 if there is none. */
int kmsenv_alibaba_arn_region(const char *key_id, char *out, size_t room);
/* "https://SERVICE[-vpc].REGION.aliyuncs.com"; region NULL: without one. 0 if region is none. */
int kmsenv_alibaba_endpoint(const char *service, int vpc, const char *region, char *out, size_t room);

/* --- alibaba_wire.c ------------------------------------------------------- */

/* The parameters of an action. What is NULL or 0 is left out. */
typedef struct kmsenv_alibaba_action_st {
    const char *name;
    const char *key_id, *destination_key_id, *key_spec;
    size_t number_of_bytes;
    const unsigned char *plaintext;
    size_t plaintext_len;
    const unsigned char *ciphertext;            /* bytes */
    size_t ciphertext_len;
    const KMSENV_CONTEXT *context, *source_context, *destination_context;   /* empty is left out too */
} KMSENV_ALIBABA_ACTION;

/* Where parameters go. AUTO: into the query, as with the vendor's clients, unless they are secret or long. */
typedef enum kmsenv_alibaba_place_en { KMSENV_ALIBABA_AUTO, KMSENV_ALIBABA_QUERY, KMSENV_ALIBABA_FORM } KMSENV_ALIBABA_PLACE;

/* What a request is made with, apart from the action. */
typedef struct kmsenv_alibaba_frame_st {
    const KMSENV_ENDPOINT *endpoint;
    int rpc;                                    /* RPC v1 with HMAC-SHA1, not ACS3-HMAC-SHA256 */
    KMSENV_ALIBABA_PLACE place;
    KMSENV_ACS_SIGNER signer;
    const char *token;                          /* NULL = none */
    int64_t timestamp;
    const char *nonce;                          /* another one for every request */
} KMSENV_ALIBABA_FRAME;

# define KMSENV_ALIBABA_NONCE 33                /* room for 32 digits and NUL */
int kmsenv_alibaba_nonce(KMSENV_CRYPTO *crypto, char out[KMSENV_ALIBABA_NONCE], KMSENV_ERROR *err);
/* The whole request, signed. Its method is POST, or GET with everything in the query. */
int kmsenv_alibaba_request(const KMSENV_ALIBABA_FRAME *frame, const KMSENV_ALIBABA_ACTION *action, KMSENV_REQUEST *request,
                           KMSENV_ERROR *err);
/* Reads the reply. Under an alias (result->key_id) the id of the key that it meant is put into the blob's extra. */
KMSENV_VERDICT kmsenv_alibaba_result(KMSENV_REPLY *http, KMSENV_RESULT *result, KMSENV_ERROR *err);

/* --- alibaba_credentials.c ------------------------------------------------ */

typedef struct kmsenv_alibaba_chain_st {
    const KMSENV_SECTION *section;
    KMSENV_HTTP *http;
    KMSENV_CRYPTO *crypto;
    KMSENV_ENDPOINT metadata, sts;
} KMSENV_ALIBABA_CHAIN;

extern const KMSENV_CREDENTIAL_SOURCE kmsenv_alibaba_sources[];
/* The argument of those sources. Reads settings only. section and http must outlive it. */
KMSENV_ALIBABA_CHAIN *kmsenv_alibaba_chain_new(const KMSENV_SECTION *section, KMSENV_HTTP *http, KMSENV_CRYPTO *crypto,
                                               KMSENV_ERROR *err);
void kmsenv_alibaba_chain_free(KMSENV_ALIBABA_CHAIN *chain);
/* A variable that switches something: is it "true", in any case? */
int kmsenv_alibaba_env_true(const char *name);

/* --- alibaba_cli.c, alibaba_profile.c: the command line tool's JSON file, the SDKs' INI file -- */

int kmsenv_alibaba_from_cli(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
int kmsenv_alibaba_from_file(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);

/* --- alibaba_identity.c: sources that are asked over plain HTTP ------------ */

int kmsenv_alibaba_from_ecs(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
int kmsenv_alibaba_from_uri(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
/* The same with a role that something else names; NULL = ask for its name. */
int kmsenv_alibaba_from_ecs_role(const KMSENV_ALIBABA_CHAIN *chain, const char *role, uint64_t deadline_ms, KMSENV_CREDENTIAL *out,
                                 KMSENV_ERROR *err);

/* Their requests. Of the instance: path "" asks for the name of the role; token NULL = version 1 of the service. */
int kmsenv_alibaba_ecs_token_request(const KMSENV_ENDPOINT *endpoint, KMSENV_REQUEST *request, KMSENV_ERROR *err);
int kmsenv_alibaba_ecs_request(const KMSENV_ENDPOINT *endpoint, const char *token, const char *role, KMSENV_REQUEST *request,
                               KMSENV_ERROR *err);
/* uri: http or https, with a query perhaps. plain_http: http to other machines is allowed. */
int kmsenv_alibaba_uri_request(const char *uri, int plain_http, KMSENV_ENDPOINT *endpoint, KMSENV_REQUEST *request, KMSENV_ERROR *err);
/* Their reply; what is in it, with secret and token taken out into t. */
int kmsenv_alibaba_role_credential(KMSENV_REPLY *reply, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
int kmsenv_alibaba_read_set(const KMSENV_JSON *json, KMSENV_CREDENTIAL_TEXTS *t, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);

/* --- alibaba_sts.c: sources that ask STS ----------------------------------- */

/* A role to assume. What is NULL or 0 is left out, or chosen. */
typedef struct kmsenv_alibaba_role_st {
    const char *role_arn, *session, *policy, *external_id;
    int64_t duration;
    const char *provider_arn, *token_file;      /* AssumeRoleWithOIDC with the token in the file; NULL = AssumeRole */
    const KMSENV_CREDENTIAL *by;                /* who assumes it, for AssumeRole */
    const char *sts_endpoint, *sts_region;      /* where, unless the setting sts-endpoint says it */
    int vpc;
} KMSENV_ALIBABA_ROLE;

int kmsenv_alibaba_from_oidc(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
int kmsenv_alibaba_assume(const KMSENV_ALIBABA_CHAIN *chain, const KMSENV_ALIBABA_ROLE *role, int64_t now, uint64_t deadline_ms,
                          KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
/* The requests, whole. frame: without rpc and place; the signer of AssumeRole is in it. token: of OIDC. */
int kmsenv_alibaba_sts_request(const KMSENV_ALIBABA_FRAME *frame, const KMSENV_ALIBABA_ROLE *role, const char *token,
                               KMSENV_REQUEST *request, KMSENV_ERROR *err);
KMSENV_VERDICT kmsenv_alibaba_sts_credential(KMSENV_REPLY *reply, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);

#endif
