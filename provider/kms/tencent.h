/*
 * Tencent Cloud API 3.0: what goes over the wire, apart from the transport. Used by the KMS back
 * end (tencent.c), by its credentials (tencent_credentials.c, which asks STS), and by tests.
 */
#ifndef KMSENV_KMS_TENCENT_H
# define KMSENV_KMS_TENCENT_H
# include "kms/context.h"
# include "kms/json.h"
# include "kms/kms.h"
# include "kms/rest.h"
# include "kms/tc3.h"

# define KMSENV_TENCENT_KMS_VERSION   "2019-01-18"
# define KMSENV_TENCENT_STS_VERSION   "2018-08-13"
# define KMSENV_TENCENT_PLAINTEXT_MAX 4096

/* Where an action is sent and how it is signed. The service name is part of the signature, whatever the host is called. */
typedef struct kmsenv_tencent_target_st {
    const KMSENV_ENDPOINT *endpoint;
    const char *service, *version, *region;
} KMSENV_TENCENT_TARGET;

/* The parameters of an action of the KMS. What is NULL or 0 is left out. */
typedef struct kmsenv_tencent_action_st {
    const char *name;
    const char *key_id, *destination_key_id;
    size_t number_of_bytes;
    const unsigned char *plaintext;
    size_t plaintext_len;
    const unsigned char *ciphertext;            /* text, as the KMS gave it */
    size_t ciphertext_len;
    const KMSENV_CONTEXT *context, *source_context, *destination_context;   /* empty is left out too */
} KMSENV_TENCENT_ACTION;

/* The JSON of an action's parameters. */
int kmsenv_tencent_body(const KMSENV_TENCENT_ACTION *action, KMSENV_BUFFER *body, KMSENV_ERROR *err);
/* Adds target, Host and the X-TC headers to a request whose body is complete; not yet Authorization. */
int kmsenv_tencent_frame(const KMSENV_TENCENT_TARGET *target, const char *action, int64_t timestamp, const char *token,
                         KMSENV_REQUEST *request, KMSENV_ERROR *err);
/* Signs it with a credential; NULL = an action that needs none ("SKIP"). cache may be NULL. */
int kmsenv_tencent_sign(KMSENV_CRYPTO *crypto, KMSENV_TC3_CACHE *cache, const KMSENV_TENCENT_TARGET *target, int64_t timestamp,
                        const KMSENV_CREDENTIAL *credential, KMSENV_REQUEST *request, KMSENV_ERROR *err);

/* A reply taken apart. */
typedef struct kmsenv_tencent_reply_st {
    KMSENV_JSON *json;
    const KMSENV_JSON *response;                /* the member Response; NULL if there is none */
    char request_id[80];
    char code[96];                              /* of the error; "" if there is none */
} KMSENV_TENCENT_REPLY;

/* Parses; secrets are taken out of the text (kms/json.h). Fills err unless the verdict is OK. To be reset in any case. */
KMSENV_VERDICT kmsenv_tencent_parse(KMSENV_REPLY *http, KMSENV_JSON_SECRET *secrets, size_t count,
                                    KMSENV_TENCENT_REPLY *reply, KMSENV_ERROR *err);
void kmsenv_tencent_reply_reset(KMSENV_TENCENT_REPLY *reply);

/* The reply of an action of the KMS. */
KMSENV_VERDICT kmsenv_tencent_result(KMSENV_REPLY *http, KMSENV_RESULT *result, KMSENV_ERROR *err);

/* --- tencent_credentials.c ------------------------------------------------ */

typedef struct kmsenv_tencent_chain_st KMSENV_TENCENT_CHAIN;

extern const KMSENV_CREDENTIAL_SOURCE kmsenv_tencent_sources[];
/* The argument of those sources. Reads settings only. section and http must outlive it. */
KMSENV_TENCENT_CHAIN *kmsenv_tencent_chain_new(const KMSENV_SECTION *section, KMSENV_HTTP *http, KMSENV_CRYPTO *crypto,
                                               KMSENV_ERROR *err);
void kmsenv_tencent_chain_free(KMSENV_TENCENT_CHAIN *chain);

/* Path of the metadata service about a role; NULL: about which role there is. */
int kmsenv_tencent_role_path(const char *role, char *out, size_t room);
/* Its replies: the role's credentials; those of AssumeRoleWithWebIdentity. */
int kmsenv_tencent_role_credential(KMSENV_REPLY *reply, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
KMSENV_VERDICT kmsenv_tencent_sts_credential(KMSENV_REPLY *reply, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
/* The body of AssumeRoleWithWebIdentity. */
int kmsenv_tencent_sts_body(const char *role_arn, const char *session, const char *token, const char *provider,
                            KMSENV_BUFFER *body, KMSENV_ERROR *err);

#endif
