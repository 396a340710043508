/*
 * A token of SoftHSM in a scratch folder, made by the test program itself: which so becomes an
 * application that uses the same PKCS#11 module as the provider does.
 */
#ifndef KMSENV_TEST_TOKEN_H
# define KMSENV_TEST_TOKEN_H
# include <p11-kit/pkcs11.h>

# define KMSENV_TOKEN_MODULE "/usr/lib/softhsm/libsofthsm2.so"
# define KMSENV_TOKEN_LABEL  "app"
# define KMSENV_TOKEN_PIN    "kmsenv-test-pin"

/* Makes the token; sets SOFTHSM2_CONF. The program is initialised and logged in, in one session, afterwards. */
int kmsenv_token_new(void);
/* An AES key. usage: one letter each for encrypt, decrypt, wrap, unwrap ("edwu"), and x for extractable. */
int kmsenv_token_make_key(const char *label, const char *usage, CK_ULONG bytes);
CK_FUNCTION_LIST *kmsenv_token_functions(void);
CK_SESSION_HANDLE kmsenv_token_session(void);
/* Removes the folder. */
void kmsenv_token_free(void);

#endif
