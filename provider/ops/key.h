/*
 * Key objects (EVP_PKEY): a wrapped data key, and a master key of a KMS. Neither holds anything
 * secret, and the plaintext of a data key is never exported.
 */
#ifndef KMSENV_OPS_KEY_H
# define KMSENV_OPS_KEY_H
# include <stdatomic.h>
# include <openssl/core_dispatch.h>
# include "dek/cmk.h"
# include "dek/data_key.h"
# include "ops/provctx.h"

/* A wrapped data key. Immutable once filled; shared by reference. */
typedef struct kmsenv_key_st {
    KMSENV_PROVCTX *provctx;
    KMSENV_DATA_KEY *key;              /* NULL: not filled yet */
    unsigned char *der;
    size_t der_len;
    atomic_int refs;
} KMSENV_KEY;

KMSENV_KEY *kmsenv_key_new(KMSENV_PROVCTX *provctx);
void kmsenv_key_free(KMSENV_KEY *key);
/* Fills it with what a DER DataKey says, which must have wraps. */
int kmsenv_key_set(KMSENV_KEY *key, const unsigned char *der, size_t len, KMSENV_ERROR *err);
/* keymgmt, encoders and decoder agree on this: a reference to an object is the address of a pointer to it. */
int kmsenv_key_emit(KMSENV_KEY *key, OSSL_CALLBACK *cb, void *cbarg);

extern const OSSL_DISPATCH kmsenv_keymgmt_data_key_functions[];
extern const OSSL_DISPATCH kmsenv_encoder_data_key_pem_functions[];
extern const OSSL_DISPATCH kmsenv_encoder_data_key_der_functions[];
extern const OSSL_DISPATCH kmsenv_encoder_data_key_text_functions[];

/* Between the two steps of decoding: a DataKey or a message. */
# define KMSENV_STRUCTURE "KmsEnvelope"
extern const OSSL_DISPATCH kmsenv_decoder_pem_functions[];           /* PEM with a label of ours to DER */
extern const OSSL_DISPATCH kmsenv_decoder_data_key_functions[];      /* DER DataKey to a key object */
extern const OSSL_DISPATCH kmsenv_decoder_sealed_key_functions[];    /* DER of a sealed private key to PrivateKeyInfo */
extern const OSSL_DISPATCH kmsenv_decoder_der_functions[];           /* the same, where another structure is asked for */

/*
 * A master key: keydata is a KMSENV_MASTER_KEY. With cmk it came from the store, and is both halves of a key pair; without, it is
 * its name only, a public key from wherever. Neither knows an address.
 */
typedef struct kmsenv_master_key_st {
    KMSENV_PROVCTX *provctx;
    KMSENV_KEY_NAME name;              /* empty until the object is filled */
    KMSENV_CMK *cmk;
} KMSENV_MASTER_KEY;
KMSENV_MASTER_KEY *kmsenv_master_key_new(KMSENV_PROVCTX *provctx, const char *profile, const char *key_id, KMSENV_ERROR *err);
/* The public half, from its DER. */
KMSENV_MASTER_KEY *kmsenv_master_key_new_public(KMSENV_PROVCTX *provctx, const unsigned char *der, size_t len, KMSENV_ERROR *err);
void kmsenv_master_key_free(KMSENV_MASTER_KEY *key);
/* Hands it to the core, as kmsenv_key_emit() does. */
int kmsenv_master_key_emit(KMSENV_MASTER_KEY *key, OSSL_CALLBACK *cb, void *cbarg);

extern const OSSL_DISPATCH kmsenv_keymgmt_master_key_functions[];
extern const OSSL_DISPATCH kmsenv_encoder_master_key_pem_functions[];
extern const OSSL_DISPATCH kmsenv_encoder_master_key_der_functions[];
extern const OSSL_DISPATCH kmsenv_encoder_master_key_text_functions[];
extern const OSSL_DISPATCH kmsenv_encoder_master_key_private_functions[];   /* says that there is nothing to write */
extern const OSSL_DISPATCH kmsenv_decoder_master_key_functions[];           /* DER SubjectPublicKeyInfo to a key object */
extern const OSSL_DISPATCH kmsenv_asym_cipher_functions[];
extern const OSSL_DISPATCH kmsenv_kem_functions[];

extern const OSSL_DISPATCH kmsenv_store_functions[];

#endif
