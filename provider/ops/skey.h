/*
 * Symmetric key objects (EVP_SKEY, since OpenSSL 3.5): a wrapped data key, or the bytes of an ordinary key. All that ciphers and
 * MACs of this provider are initialised with is this type, whatever the name of the key management: the core only compares
 * providers.
 */
#ifndef KMSENV_OPS_SKEY_H
# define KMSENV_OPS_SKEY_H
# include "compat/core_dispatch.h"
# include "ops/key.h"

typedef struct kmsenv_skey_st {
    KMSENV_PROVCTX *provctx;
    KMSENV_KEY *key;                   /* a wrapped data key: nothing secret. NULL: */
    unsigned char *bytes;              /* an ordinary key, secret memory */
    size_t length;                     /* of bytes */
    int in_keyring;                    /* the data key is in the keyring: that has its wraps, also after they were rewrapped */
    unsigned char reference[KMSENV_REFERENCE_LEN];   /* to a data key */
    char id[2 * KMSENV_REFERENCE_LEN + 1];           /* reference in lower-case hex; empty for an ordinary key */
} KMSENV_SKEY;                         /* immutable: any number of threads may use one */

/* Takes key over, also on failure. */
KMSENV_SKEY *kmsenv_skey_new_data_key(KMSENV_PROVCTX *provctx, KMSENV_KEY *key, int in_keyring);
/* Copies bytes. */
KMSENV_SKEY *kmsenv_skey_new_bytes(KMSENV_PROVCTX *provctx, const void *bytes, size_t length);
void kmsenv_skey_free(KMSENV_SKEY *skey);

/*
 * The bytes to key an algorithm with. For a data key that is its DEK, which the KMS may have to be asked for. *dek: the DEK that the
 * caller got here before and holds a reference to, or NULL; on success replaced by the one that *bytes belong to (NULL for an ordinary
 * key). *bytes: borrowed from it, or from skey. Returns 0 with an error raised; then nothing has changed.
 */
int kmsenv_skey_get0_bytes(const KMSENV_SKEY *skey, KMSENV_DEK **dek, const unsigned char **bytes, size_t *length);

/* Raises the error that the key has `length` bytes and must have `wanted`. Returns 0. */
int kmsenv_skey_unsuitable(const KMSENV_SKEY *skey, size_t length, size_t wanted);

/* --- skeymgmt.c ------------------------------------------------------------ */

/* The key management of data keys, for a cipher with keys of that many bytes: so long are those it generates. NULL if none is. */
const OSSL_DISPATCH *kmsenv_skeymgmt_functions(size_t key_length);
/* The same under names of the default provider, which take ordinary keys, too. */
extern const OSSL_DISPATCH kmsenv_skeymgmt_aes_functions[];
extern const OSSL_DISPATCH kmsenv_skeymgmt_generic_functions[];

#endif
