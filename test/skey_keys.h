/* Symmetric key objects for tests: data keys of known bytes in the keyring of a test context, and what can be done with them. */
#ifndef KMSENV_TEST_SKEY_KEYS_H
# define KMSENV_TEST_SKEY_KEYS_H
# include <openssl/core_names.h>
# include <openssl/core_object.h>
# include <openssl/evp.h>
# include "known_key.h"

# define SKEY_LENGTHS 4
# define SKEY_INPUT   96
# define SKEY_KEYRING "keyring = @/keys\n"
# define SKEY_ALL     OSSL_SKEYMGMT_SELECT_ALL
# define SKEY_ID(i)   (skey_known[i].hex + 16)

typedef struct skey_known_st {
    unsigned char key[64], reference[KMSENV_TEST_REFERENCE_MAX];
    char hex[65];                      /* of the reference */
} SKEY_KNOWN;

extern OSSL_LIB_CTX *skey_plain;       /* the default provider alone */
extern KMSENV_TEST *skey_ours;         /* key-references = yes */
extern SKEY_KNOWN skey_known[SKEY_LENGTHS];
extern const size_t skey_lengths[SKEY_LENGTHS];
extern const unsigned char skey_iv[16];

int skey_setup(void);
void skey_cleanup(void);
uint64_t skey_kms_calls(void);
/* Another context with the same folder. */
KMSENV_TEST *skey_another(const char *settings);

EVP_SKEY *skey_import_text(OSSL_LIB_CTX *libctx, const char *type, const char *name, const char *text);
EVP_SKEY *skey_import_octets(OSSL_LIB_CTX *libctx, const char *type, const char *name, const void *bytes, size_t n);
EVP_SKEY *skey_by_reference(int i);
/* skey_known[2] by each of the ways that there are. */
# define SKEY_WAYS 12
# define SKEY_WAY_FILE 9
EVP_SKEY *skey_import_way(int way);
/* bits = 0, keyring = NULL: not said. */
EVP_SKEY *skey_generate(const KMSENV_TEST *t, const char *type, size_t bits, const char *keyring);
/* What a cipher of ours makes of zeros under a key object; 0 if init or update failed. */
int skey_stream(const KMSENV_TEST *t, const char *name, EVP_SKEY *skey, unsigned char out[SKEY_INPUT]);
/* What the default provider makes of it under the plain key. */
int skey_expect(const char *name, const unsigned char *key, unsigned char out[SKEY_INPUT]);

#endif
