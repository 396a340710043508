/*
 * What an operation of a KMS gives, and the reading of it: what the back ends have in common
 * once the transport is done and before the vendor's own shapes begin.
 */
#ifndef KMSENV_KMS_RESULT_H
# define KMSENV_KMS_RESULT_H
# include "kms/json.h"
# include "kms/kms.h"
# include "kms/request.h"

/* Zero it, then say what is expected. */
typedef struct kmsenv_result_st {
    const char *key_id;                /* in: the reply must be about this CMK; NULL = any */
    const char *source_key_id;         /* in: and have re-encrypted from this one, if the service tells; NULL = any */
    unsigned char *plaintext;          /* in: where it goes, secret memory; NULL = none expected */
    size_t room;                       /* in: bytes of room there */
    size_t plaintext_len;              /* out */
    KMSENV_BLOB *blob;                 /* in: where the ciphertext goes; NULL = none expected */
    char *state;                       /* in: where the state of the CMK goes; NULL = not expected */
    size_t state_room;
    char request_id[80];               /* out: "" if the service gives none */
} KMSENV_RESULT;

/* "the reply has WHAT" as KMS_REPLY_MALFORMED. Returns 0. */
int kmsenv_result_malformed(KMSENV_ERROR *err, const char *what);
/* The reply is about another CMK. Returns 0. */
int kmsenv_result_wrong_key(KMSENV_ERROR *err, const char *expected);
/* result->plaintext from a base64 member that was taken out of the reply. */
int kmsenv_result_plaintext(KMSENV_RESULT *result, const KMSENV_JSON_SECRET *member, KMSENV_ERROR *err);
/* blob->ciphertext: a copy of n bytes; or what base64 text (NULL = the member is missing) decodes to, 1..max bytes. */
int kmsenv_blob_copy(KMSENV_BLOB *blob, const void *ciphertext, size_t n, KMSENV_ERROR *err);
int kmsenv_blob_base64(KMSENV_BLOB *blob, const char *member, const char *text, size_t max, KMSENV_ERROR *err);
/* blob->extra: a copy of n bytes. */
int kmsenv_blob_extra(KMSENV_BLOB *blob, const void *extra, size_t n, KMSENV_ERROR *err);
/* The data key must have len bytes; otherwise it is cleansed and an error. operation: as in error texts. */
int kmsenv_result_length(KMSENV_RESULT *result, const char *operation, size_t len, KMSENV_ERROR *err);

/* Members of JSON parameters: what is NULL or empty is left out. */
void kmsenv_json_add_text_if(KMSENV_BUFFER *body, const char *name, const char *text);
/* An encryption context as an object of strings. */
void kmsenv_json_add_context(KMSENV_BUFFER *body, const char *name, const KMSENV_CONTEXT *context);
/* The end of a body: one check for all the adds to it. */
int kmsenv_json_finish(KMSENV_BUFFER *body, KMSENV_ERROR *err);

#endif
