/*
 * OpenSSL's own test of symmetric key objects (test/evp_skey_test.c of the version under test) in library contexts with kmsenv: active,
 * with key-references, and preferred to the default provider.
 */
#include <string.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include "testutil.h"
#include "kmsenv_test.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

typedef int TEST_FUNCTION(void);

static struct { const char *name; TEST_FUNCTION *function; } theirs[32];
static int count;

static void keep(const char *name, TEST_FUNCTION *function)
{
    theirs[count].name = name;
    theirs[count++].function = function;
}

/*
 * It asks for ciphers of the default provider and for key objects of any. With another provider preferred that cannot go together, whatever
 * that one offers: libcrypto converts nothing. There both are asked for without a provider.
 */
static int preferred;
static EVP_CIPHER *fetch_cipher(OSSL_LIB_CTX *ctx, const char *name, const char *properties)
{
    return EVP_CIPHER_fetch(ctx, name, preferred && strcmp(properties, "provider=default") == 0 ? NULL : properties);
}
#define EVP_CIPHER_fetch(ctx, name, properties) fetch_cipher(ctx, name, properties)

/* It leaves providers loaded at its end, which is fine for who runs once. */
static OSSL_PROVIDER *loaded[8];
static OSSL_PROVIDER *load(OSSL_LIB_CTX *ctx, const char *name)
{
    int i;

    for (i = 0; i < COUNT(loaded); i++)
        if (loaded[i] == NULL)
            return loaded[i] = OSSL_PROVIDER_load(ctx, name);
    return NULL;
}

static int unload(OSSL_PROVIDER *provider)
{
    int i;

    for (i = 0; i < COUNT(loaded); i++)
        if (loaded[i] == provider) {
            loaded[i] = NULL;
            break;
        }
    return OSSL_PROVIDER_unload(provider);
}
#define OSSL_PROVIDER_load(ctx, name)   load(ctx, name)
#define OSSL_PROVIDER_unload(provider)  unload(provider)

#undef ADD_TEST
#define ADD_TEST(function) keep(#function, function)
#define setup_tests   their_setup_tests
#define cleanup_tests their_cleanup_tests
int their_setup_tests(void);
void their_cleanup_tests(void);
#include "evp_skey_test.c"
#undef setup_tests
#undef cleanup_tests

static const KMSENV_TEST_SETUP setups[] = {
    { KMSENV_TEST_LOCAL, NULL, 0, NULL }, { KMSENV_TEST_LOCAL "key-references = yes\n", NULL, 0, NULL },
    { KMSENV_TEST_LOCAL "key-references = yes\n", NULL, 1, NULL }, { KMSENV_TEST_LOCAL "key-references = yes\n", "?provider=kmsenv", 1, NULL }
};

static void unload_all(void)
{
    int i;

    for (i = 0; i < COUNT(loaded); i++)
        if (loaded[i] != NULL)
            unload(loaded[i]);
}

static int test_theirs(int i)
{
    OSSL_LIB_CTX *own = libctx;
    KMSENV_TEST *t = kmsenv_test_new_ex(&setups[i]);
    int n, ok = TEST_ptr(t);

    preferred = setups[i].properties != NULL;
    for (n = 0; n < count && t != NULL; n++) {
        libctx = t->libctx;
        if (!theirs[n].function()) {
            TEST_error("%s", theirs[n].name);
            ok = 0;
        }
        unload_all();
    }
    libctx = own;
    kmsenv_test_free(t);
    return ok;
}

int setup_tests(void)
{
    if (!their_setup_tests() || !TEST_int_ge(count, 3))
        return 0;
    ADD_ALL_TESTS(test_theirs, COUNT(setups));
    return 1;
}

void cleanup_tests(void)
{
    their_cleanup_tests();
}
