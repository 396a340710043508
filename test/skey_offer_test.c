/*
 * What is offered for symmetric key objects to any core, of whatever version: the tables, and their functions called as a core that
 * knows them calls them. Also with a libcrypto before 3.5, which has no API for them.
 */
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include "testutil.h"
#include "compat/core_dispatch.h"
#include "kmsenv_test.h"

#define COUNT(a)  ((int)(sizeof(a) / sizeof((a)[0])))
#define SETTINGS  KMSENV_TEST_LOCAL "keyring = @/keys\n"
#define SECRET    OSSL_SKEYMGMT_SELECT_SECRET_KEY

static KMSENV_TEST *t[2];              /* without key-references, and with */
static OSSL_PROVIDER *provider[2];

static const OSSL_ALGORITHM *find(int which, int operation, const char *name)
{
    int no_store;
    const OSSL_ALGORITHM *a = OSSL_PROVIDER_query_operation(provider[which], operation, &no_store);
    size_t n = strlen(name);

    for (; a != NULL && a->algorithm_names != NULL; a++)
        if (OPENSSL_strncasecmp(a->algorithm_names, name, n) == 0 && (a->algorithm_names[n] == '\0' || a->algorithm_names[n] == ':'))
            return a;
    return NULL;
}

static void (*function(const OSSL_ALGORITHM *a, int id))(void)
{
    const OSSL_DISPATCH *f = a == NULL ? NULL : a->implementation;

    for (; f != NULL && f->function_id != 0; f++)
        if (f->function_id == id)
            return f->function;
    return NULL;
}

static const struct { const char *name; int with[2], generates; } offers[] = {
    { "kms-envelope", { 1, 1 }, 1 }, { "kms-envelope-192", { 1, 1 }, 1 }, { "kms-envelope-128", { 1, 1 }, 1 },
    { "KMS-AES-256-CBC", { 1, 1 }, 1 }, { "KMS-AES-128-GCM", { 1, 1 }, 1 }, { "KMS-ChaCha20", { 1, 1 }, 1 },
    { "KMS-AES-256-XTS", { 1, 1 }, 1 }, { "AES", { 0, 1 }, 0 }, { "GENERIC-SECRET", { 0, 1 }, 0 }, { "AES-256-CBC", { 0, 0 }, 0 },
    { "kms-master-key", { 0, 0 }, 0 }
};

static int test_offer(int n)
{
    int which = n % 2, i = n / 2;
    const OSSL_ALGORITHM *a = find(which, OSSL_OP_SKEYMGMT, offers[i].name);

    if (!offers[i].with[which])
        return TEST_ptr_null(a);
    return TEST_ptr(a) && TEST_str_eq(a->property_definition, "provider=kmsenv") && TEST_true(function(a, OSSL_FUNC_SKEYMGMT_FREE) != NULL)
           && TEST_true(function(a, OSSL_FUNC_SKEYMGMT_IMPORT) != NULL) && TEST_true(function(a, OSSL_FUNC_SKEYMGMT_EXPORT) != NULL)
           && TEST_true(function(a, OSSL_FUNC_SKEYMGMT_IMP_SETTABLE_PARAMS) != NULL)
           && TEST_int_eq(function(a, OSSL_FUNC_SKEYMGMT_GENERATE) != NULL, offers[i].generates);
}

/* Each cipher can be initialised both ways: with the new function alone one is refused before 3.5. */
static int test_ciphers(int which)
{
    int no_store, count = 0, ok = 1;
    const OSSL_ALGORITHM *a = OSSL_PROVIDER_query_operation(provider[which], OSSL_OP_CIPHER, &no_store);

    for (; a->algorithm_names != NULL && ok; a++, count++)
        ok = TEST_true(function(a, OSSL_FUNC_CIPHER_ENCRYPT_INIT) != NULL) && TEST_true(function(a, OSSL_FUNC_CIPHER_DECRYPT_INIT) != NULL)
             && TEST_true(function(a, OSSL_FUNC_CIPHER_ENCRYPT_SKEY_INIT) != NULL)
             && TEST_true(function(a, OSSL_FUNC_CIPHER_DECRYPT_SKEY_INIT) != NULL);
    return ok && TEST_int_ge(count, 120 * (which + 1));
}

typedef struct core_st {
    void *provctx;
    OSSL_FUNC_skeymgmt_generate_fn *generate;
    OSSL_FUNC_skeymgmt_import_fn *import;
    OSSL_FUNC_skeymgmt_get_key_id_fn *get_key_id;
    OSSL_FUNC_skeymgmt_free_fn *free;
    OSSL_FUNC_cipher_newctx_fn *newctx;
    OSSL_FUNC_cipher_freectx_fn *freectx;
    OSSL_FUNC_cipher_encrypt_skey_init_fn *init[2];
    OSSL_FUNC_cipher_update_fn *update;
} CORE;

static int look_up(CORE *core, const char *cipher)
{
    const OSSL_ALGORITHM *m = find(0, OSSL_OP_SKEYMGMT, cipher), *c = find(0, OSSL_OP_CIPHER, cipher);

    core->provctx = OSSL_PROVIDER_get0_provider_ctx(provider[0]);
    core->generate = (OSSL_FUNC_skeymgmt_generate_fn *)function(m, OSSL_FUNC_SKEYMGMT_GENERATE);
    core->import = (OSSL_FUNC_skeymgmt_import_fn *)function(m, OSSL_FUNC_SKEYMGMT_IMPORT);
    core->get_key_id = (OSSL_FUNC_skeymgmt_get_key_id_fn *)function(m, OSSL_FUNC_SKEYMGMT_GET_KEY_ID);
    core->free = (OSSL_FUNC_skeymgmt_free_fn *)function(m, OSSL_FUNC_SKEYMGMT_FREE);
    core->newctx = (OSSL_FUNC_cipher_newctx_fn *)function(c, OSSL_FUNC_CIPHER_NEWCTX);
    core->freectx = (OSSL_FUNC_cipher_freectx_fn *)function(c, OSSL_FUNC_CIPHER_FREECTX);
    core->init[0] = (OSSL_FUNC_cipher_encrypt_skey_init_fn *)function(c, OSSL_FUNC_CIPHER_DECRYPT_SKEY_INIT);
    core->init[1] = (OSSL_FUNC_cipher_encrypt_skey_init_fn *)function(c, OSSL_FUNC_CIPHER_ENCRYPT_SKEY_INIT);
    core->update = (OSSL_FUNC_cipher_update_fn *)function(c, OSSL_FUNC_CIPHER_UPDATE);
    return TEST_true(core->generate != NULL && core->import != NULL && core->get_key_id != NULL && core->free != NULL && core->newctx != NULL
                     && core->freectx != NULL && core->init[0] != NULL && core->init[1] != NULL && core->update != NULL);
}

static const char *const ciphers[] = { "KMS-AES-256-CTR", "KMS-AES-128-CTR", "KMS-ChaCha20" };

/* Made, named, imported by its name, and used both ways. */
static int test_calls(int i)
{
    static const unsigned char iv[16] = { 1, 2, 3 };
    unsigned char in[100], mid[100], out[100];
    OSSL_PARAM params[] = { OSSL_PARAM_END, OSSL_PARAM_END };
    void *made = NULL, *imported = NULL, *ctx;
    size_t n = 0;
    CORE core;
    int ok;

    kmsenv_test_fill(in, sizeof(in), 5);
    if (!look_up(&core, ciphers[i]) || !TEST_ptr(ctx = core.newctx(core.provctx)))
        return 0;
    ok = TEST_ptr(made = core.generate(core.provctx, params)) && TEST_ptr(core.get_key_id(made));
    if (ok)
        params[0] = OSSL_PARAM_construct_utf8_string(KMSENV_SKEY_PARAM_REFERENCE, (char *)core.get_key_id(made), 0);
    ok = ok && TEST_ptr(imported = core.import(core.provctx, SECRET, params))
         && TEST_str_eq(core.get_key_id(imported), core.get_key_id(made)) && TEST_true(core.init[1](ctx, made, iv, sizeof(iv), NULL))
         && TEST_true(core.update(ctx, mid, &n, sizeof(mid), in, sizeof(in))) && TEST_size_t_eq(n, sizeof(in))
         && TEST_mem_ne(mid, sizeof(mid), in, sizeof(in)) && TEST_true(core.init[0](ctx, imported, iv, sizeof(iv), NULL))
         && TEST_true(core.init[0](ctx, NULL, iv, sizeof(iv), NULL))
         && TEST_true(core.update(ctx, out, &n, sizeof(out), mid, sizeof(mid))) && TEST_mem_eq(out, n, in, sizeof(in))
         && TEST_true(kmsenv_test_no_error());
    core.freectx(ctx);
    core.free(made);
    core.free(imported);
    core.free(NULL);
    return ok;
}

int setup_tests(void)
{
    int i;

    if (!TEST_ptr(t[0] = kmsenv_test_new(SETTINGS)) || !TEST_ptr(t[1] = kmsenv_test_new(SETTINGS "key-references = yes\n")))
        return 0;
    for (i = 0; i < 2; i++)
        if (!TEST_ptr(provider[i] = OSSL_PROVIDER_load(t[i]->libctx, "kmsenv")))
            return 0;
    ADD_ALL_TESTS(test_offer, 2 * COUNT(offers));
    ADD_ALL_TESTS(test_ciphers, 2);
    ADD_ALL_TESTS(test_calls, COUNT(ciphers));
    return 1;
}

void cleanup_tests(void)
{
    int i;

    for (i = 0; i < 2; i++) {
        OSSL_PROVIDER_unload(provider[i]);
        kmsenv_test_free(t[i]);
    }
}
