/* OSSL_PROVIDER_self_test(): does the inner provider compute what the message format needs? */
#ifndef KMSENV_ENTRY_SELF_TEST_H
# define KMSENV_ENTRY_SELF_TEST_H
# include "core/crypto.h"

/* Known answers: data key id, key schedule, and one sealed segment. */
int kmsenv_self_test(KMSENV_CRYPTO *crypto, KMSENV_ERROR *err);

#endif
