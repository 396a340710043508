/*
 * AWS KMS (API 2014-11-01, JSON 1.1): what goes over the wire, apart from the transport, and where
 * credentials come from. Used by the back end (aws.c) and by tests.
 */
#ifndef KMSENV_KMS_AWS_H
# define KMSENV_KMS_AWS_H
# include "kms/context.h"
# include "kms/json.h"
# include "kms/kms.h"
# include "kms/rest.h"
# include "kms/sigv4.h"

# define KMSENV_AWS_PLAINTEXT_MAX  4096
# define KMSENV_AWS_CIPHERTEXT_MAX 6144     /* what Decrypt accepts */
# define KMSENV_AWS_REGION_MAX     40

/* Is it an alias, or the ARN of one: another name that may mean another key tomorrow? */
int kmsenv_aws_is_alias(const char *key_id);
/* Of the same partition, region and account? Also if one of the two is no ARN: it does not say. */
int kmsenv_aws_is_same_account(const char *key_id, const char *other);
/* Is it the ARN of a key, with a region (not an alias's)? */
int kmsenv_aws_is_key_arn(const char *key_id);
/* The region in an ARN. 0 if it is no ARN of the KMS. */
int kmsenv_aws_arn_region(const char *key_id, char *out, size_t room);
/* "https://SERVICE.REGION.amazonaws.com", or that of the partition the region is in. 0 if region is none. */
int kmsenv_aws_endpoint(const char *service, const char *region, char *out, size_t room);

/* The parameters of an action. What is NULL or 0 is left out. */
typedef struct kmsenv_aws_action_st {
    const char *name;
    const char *key_id, *source_key_id, *destination_key_id;
    size_t number_of_bytes;
    const unsigned char *plaintext;
    size_t plaintext_len;
    const unsigned char *ciphertext;            /* bytes */
    size_t ciphertext_len;
    const KMSENV_CONTEXT *context, *source_context, *destination_context;   /* empty is left out too */
} KMSENV_AWS_ACTION;

/* The JSON of an action's parameters. */
int kmsenv_aws_body(const KMSENV_AWS_ACTION *action, KMSENV_BUFFER *body, KMSENV_ERROR *err);
/* Adds target and headers to a request whose body is complete; not yet Authorization. */
int kmsenv_aws_frame(const KMSENV_ENDPOINT *endpoint, const char *action, int64_t timestamp, const char *token,
                     KMSENV_REQUEST *request, KMSENV_ERROR *err);

/*
 * The reply of an action. sent: the time in the request, to tell a wrong clock from a wrong secret; 0 = not known. If
 * result->key_id is an alias, the ARN of the key that it meant goes into the blob's extra.
 */
KMSENV_VERDICT kmsenv_aws_result(KMSENV_REPLY *http, int64_t sent, KMSENV_RESULT *result, KMSENV_ERROR *err);

/* --- aws_credentials.c ---------------------------------------------------- */

typedef struct kmsenv_aws_chain_st {
    const KMSENV_SECTION *section;
    KMSENV_HTTP *http;
    KMSENV_ENDPOINT metadata;
    KMSENV_REST sts;
    KMSENV_CRYPTO *crypto;             /* for requests that are signed; set by the back end, with region. Borrowed. */
    const char *region;
} KMSENV_AWS_CHAIN;

extern const KMSENV_CREDENTIAL_SOURCE kmsenv_aws_sources[];
/* The argument of those sources. Reads settings only. section and http must outlive it. */
KMSENV_AWS_CHAIN *kmsenv_aws_chain_new(const KMSENV_SECTION *section, const char *region, KMSENV_HTTP *http, KMSENV_ERROR *err);
void kmsenv_aws_chain_free(KMSENV_AWS_CHAIN *chain);

/* The access key of a profile in AWS's files, or in the one that is set. */
int kmsenv_aws_from_profile(const KMSENV_AWS_CHAIN *chain, const char *profile, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
int kmsenv_aws_from_environment(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);

/* --- aws_role.c: the role that a profile says is to be assumed; ABSENT if it says none --- */
int kmsenv_aws_from_role(KMSENV_AWS_CHAIN *chain, const char *profile, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out,
                         KMSENV_ERROR *err);

/* --- aws_identity.c, aws_sts.c: sources that ask a service ----------------- */

int kmsenv_aws_from_web_identity(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
int kmsenv_aws_from_container(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
int kmsenv_aws_from_instance(void *chain, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);

/* Their requests. The body of AssumeRoleWithWebIdentity: */
int kmsenv_aws_sts_body(const char *role_arn, const char *session, const char *token, KMSENV_BUFFER *body, KMSENV_ERROR *err);
int kmsenv_aws_sts_frame(const KMSENV_ENDPOINT *endpoint, KMSENV_REQUEST *request, KMSENV_ERROR *err);
/* relative, full: the values of the variables, one of them NULL. token: what Authorization is to be, NULL = none. */
int kmsenv_aws_container_request(const char *relative, const char *full, const char *token, KMSENV_ENDPOINT *endpoint,
                                 KMSENV_REQUEST *request, KMSENV_ERROR *err);
/* token NULL: the request for a token. role NULL: the request for the name of the role, "" ends the path there. */
int kmsenv_aws_instance_request(const KMSENV_ENDPOINT *endpoint, const char *token, const char *role, KMSENV_REQUEST *request,
                                KMSENV_ERROR *err);
/* Their replies. */
KMSENV_VERDICT kmsenv_aws_sts_credential(KMSENV_REPLY *reply, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
int kmsenv_aws_role_credential(KMSENV_REPLY *reply, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);

#endif
