/*
 * The dedicated gateway of an Alibaba Cloud KMS instance: protocol buffers over HTTPS, signed with the RSA key of a
 * ClientKey (API version dkms-gcs-0.2). What goes over the wire, apart from the transport, and where credentials come
 * from. Used by the back end (alibaba_instance.c) and by tests.
 */
#ifndef KMSENV_KMS_ALIBABA_INSTANCE_H
# define KMSENV_KMS_ALIBABA_INSTANCE_H
# include "core/signer.h"
# include "kms/kms.h"
# include "kms/rest.h"

# define KMSENV_INSTANCE_PLAINTEXT_MAX 6144     /* bytes, as the vendor advises for one operation */
# define KMSENV_INSTANCE_AAD_MAX       8192     /* bytes, what the service takes */
# define KMSENV_INSTANCE_KEY_MAX       128      /* bytes of the id of a key, as the service says it */
# define KMSENV_INSTANCE_ALGORITHM_MAX 32
# define KMSENV_INSTANCE_IV_MAX        32

/* Is it an alias, another name that may mean another key tomorrow? */
int kmsenv_instance_is_alias(const char *key_id);

/* --- alibaba_instance_wrap.c ---------------------------------------------- */

/*
 * What must be known of a wrap besides its ciphertext: its `extra`. The encoding is ours:
 *   1 byte       1, the version of this encoding
 *   1 byte       'A' if made by an Advance operation, which alone use newer versions of a key; 'P' if by a plain one
 *   three times  1 byte, a length n, and n bytes: the id of the key, which key-id names or its alias meant; the
 *                algorithm, as the service calls it; the IV
 * and nothing after that. An id has 1..128 bytes, an algorithm 0..32, an IV 0..32.
 */
typedef struct kmsenv_instance_wrap_st {
    int advance;
    char key_id[KMSENV_INSTANCE_KEY_MAX + 1];
    char algorithm[KMSENV_INSTANCE_ALGORITHM_MAX + 1];
    unsigned char iv[KMSENV_INSTANCE_IV_MAX];
    size_t iv_len;
} KMSENV_INSTANCE_WRAP;
int kmsenv_instance_wrap_print(const KMSENV_INSTANCE_WRAP *wrap, KMSENV_BLOB *blob, KMSENV_ERROR *err);
/* Strict. Errors: WRAP_REJECTED, also if the key is another than blob->key_id, unless that is an alias. */
int kmsenv_instance_wrap_parse(KMSENV_INSTANCE_WRAP *wrap, const KMSENV_BLOB *blob, KMSENV_ERROR *err);

/* --- alibaba_instance_wire.c ---------------------------------------------- */

typedef enum kmsenv_instance_kind_en { KMSENV_INSTANCE_GENERATE, KMSENV_INSTANCE_ENCRYPT, KMSENV_INSTANCE_DECRYPT } KMSENV_INSTANCE_KIND;

/* An operation and its parameters. What is NULL or 0 is left out. */
typedef struct kmsenv_instance_action_st {
    KMSENV_INSTANCE_KIND kind;
    int advance;
    const char *key_id, *algorithm;
    size_t number_of_bytes;
    const unsigned char *plaintext, *ciphertext, *iv, *aad;
    size_t plaintext_len, ciphertext_len, iv_len, aad_len;
} KMSENV_INSTANCE_ACTION;
/* "AdvanceGenerateDataKey" and so on. */
const char *kmsenv_instance_action_name(const KMSENV_INSTANCE_ACTION *action);

int kmsenv_instance_body(const KMSENV_INSTANCE_ACTION *action, KMSENV_BUFFER *body, KMSENV_ERROR *err);
/* Adds target and headers to a request whose body is complete; not yet Authorization. */
int kmsenv_instance_frame(KMSENV_CRYPTO *crypto, const KMSENV_ENDPOINT *endpoint, const char *action, const char *client_key_id,
                          int64_t timestamp, KMSENV_REQUEST *request, KMSENV_ERROR *err);
/* What is signed: some headers, and all that are called x-kms-*. */
int kmsenv_instance_string_to_sign(const KMSENV_REQUEST *request, KMSENV_BUFFER *out, KMSENV_ERROR *err);
/* Adds Authorization to a request that is complete otherwise. */
int kmsenv_instance_sign(const KMSENV_SIGNER *signer, KMSENV_REQUEST *request, KMSENV_ERROR *err);

/* --- alibaba_instance_reply.c --------------------------------------------- */

/*
 * Reads the reply to action: result as usual (an alias as its key_id stands for any key), and wrap, which may be NULL:
 * what the service says of the key, the algorithm and the IV. Sets no extra.
 */
KMSENV_VERDICT kmsenv_instance_result(const KMSENV_INSTANCE_ACTION *action, KMSENV_REPLY *http, KMSENV_RESULT *result,
                                      KMSENV_INSTANCE_WRAP *wrap, KMSENV_ERROR *err);

/* --- alibaba_instance_credentials.c --------------------------------------- */

typedef struct kmsenv_instance_chain_st {
    const KMSENV_SECTION *section;
    KMSENV_CRYPTO *crypto;
} KMSENV_INSTANCE_CHAIN;

/* Takes a KMSENV_INSTANCE_CHAIN as its argument. */
extern const KMSENV_CREDENTIAL_SOURCE kmsenv_instance_sources[];
/* A ClientKey file, {"KeyId": ..., "PrivateKeyData": ...}, with its password: out->id and out->signer. text is blotted. */
int kmsenv_instance_client_key(KMSENV_CRYPTO *crypto, KMSENV_BUFFER *text, const char *password, KMSENV_CREDENTIAL *out,
                               KMSENV_ERROR *err);

#endif
