/*
 * The entry point. Init copies what it is given and allocates: no fetch, no random numbers, no
 * file, no network. The configuration is read at the first use (ops/provctx.h).
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include "compat/core_dispatch.h"
#include "compat/core_version.h"
#include "core/secret.h"
#include "entry/algorithms.h"
#include "entry/runtime.h"
#include "entry/self_test.h"
#include "ops/cipher_envelope.h"
#include "ops/core_bio.h"

typedef struct provider_st {
    KMSENV_PROVCTX provctx;        /* first: what operations get is a pointer to it */
    KMSENV_SOURCE source;
    _Atomic(KMSENV_INSTANCE *) instance;
    _Atomic(KMSENV_TABLES *) tables;
} PROVIDER;

static OSSL_FUNC_provider_teardown_fn provider_teardown;
static OSSL_FUNC_provider_gettable_params_fn provider_gettable_params;
static OSSL_FUNC_provider_get_params_fn provider_get_params;
static OSSL_FUNC_provider_query_operation_fn provider_query_operation;
static OSSL_FUNC_provider_get_reason_strings_fn provider_get_reason_strings;
static OSSL_FUNC_provider_self_test_fn provider_self_test;
/* The one symbol of the module that others see (kmsenv.map). */
__attribute__((visibility("default"))) OSSL_provider_init_fn OSSL_provider_init;

/* --- the runtime ---------------------------------------------------------- */

/* No lock: two threads may both make one, and the second throws its own away. */
static const KMSENV_RUNTIME *get_runtime(KMSENV_PROVCTX *provctx, KMSENV_ERROR *err)
{
    PROVIDER *p = (PROVIDER *)provctx;
    KMSENV_INSTANCE *in = atomic_load_explicit(&p->instance, memory_order_acquire), *made;
    const KMSENV_RUNTIME *runtime;

    if (in == NULL) {
        if ((made = kmsenv_instance_new(&p->source, provctx)) == NULL) {
            kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the provider");
            return NULL;
        }
        if (atomic_compare_exchange_strong(&p->instance, &in, made))
            in = made;
        else
            kmsenv_instance_free(made);
    }
    runtime = kmsenv_instance_get0_runtime(in);
    if (runtime->error.reason != KMSENV_R_NONE) {
        *err = runtime->error;
        return NULL;
    }
    return runtime;
}

/* --- parameters ----------------------------------------------------------- */

static const char *const counter_name[] = {
#define COUNTER_NAME(symbol, name, help) name,
    KMSENV_COUNTERS(COUNTER_NAME)
#undef COUNTER_NAME
};

static const OSSL_PARAM *provider_gettable_params(void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_NAME, NULL, 0),
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_VERSION, NULL, 0),
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_BUILDINFO, NULL, 0),
        OSSL_PARAM_int(OSSL_PROV_PARAM_STATUS, NULL),
        OSSL_PARAM_utf8_ptr(KMSENV_PROV_PARAM_KEYRING, NULL, 0),
#define COUNTER_PARAM(symbol, name, help) OSSL_PARAM_uint64(name, NULL),
        KMSENV_COUNTERS(COUNTER_PARAM)
#undef COUNTER_PARAM
        OSSL_PARAM_END
    };

    (void)provctx;
    return gettable;
}

static int set_text(OSSL_PARAM params[], const char *name, const char *text)
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, name);

    return p == NULL || OSSL_PARAM_set_utf8_ptr(p, text);
}

/* Asked for by name only: it reads the configuration. */
static int set_keyring(PROVIDER *provider, OSSL_PARAM params[])
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const KMSENV_RUNTIME *runtime;
    const char *dirs;

    if (OSSL_PARAM_locate(params, KMSENV_PROV_PARAM_KEYRING) == NULL)
        return 1;
    ERR_set_mark();
    runtime = get_runtime(&provider->provctx, &err);
    ERR_pop_to_mark();
    if (runtime == NULL)
        return kmsenv_reporter_raise(provider->provctx.reporter, &err);
    dirs = kmsenv_deks_get0_keyring(runtime->deks);
    return set_text(params, KMSENV_PROV_PARAM_KEYRING, dirs == NULL ? "" : dirs);
}

static int provider_get_params(void *vprovider, OSSL_PARAM params[])
{
    PROVIDER *provider = vprovider;
    KMSENV_COUNTERS *counters = &provider->provctx.counters;
    OSSL_PARAM *p;
    size_t i;

    if (!set_text(params, OSSL_PROV_PARAM_NAME, "kmsenv: envelope encryption under a KMS")
            || !set_text(params, OSSL_PROV_PARAM_VERSION, KMSENV_VERSION)
            || !set_text(params, OSSL_PROV_PARAM_BUILDINFO, KMSENV_VERSION)
            || !set_keyring(provider, params))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS)) != NULL && !OSSL_PARAM_set_int(p, 1))
        return 0;
    kmsenv_count_set(counters, KMSENV_COUNTER_UNLOCKED_BYTES, kmsenv_secret_unlocked());
    for (i = 0; i < KMSENV_COUNTER_COUNT; i++)
        if ((p = OSSL_PARAM_locate(params, counter_name[i])) != NULL
                && !OSSL_PARAM_set_uint64(p, kmsenv_count_read(counters, (int)i)))
            return 0;
    return 1;
}

/* --- what is offered ------------------------------------------------------ */

/* No lock: as with the runtime. */
static const KMSENV_TABLES *get_tables(PROVIDER *p)
{
    KMSENV_TABLES *t = atomic_load_explicit(&p->tables, memory_order_acquire), *made;

    if (t == NULL) {
        if ((made = kmsenv_tables_new(&p->provctx)) == NULL)
            return NULL;
        if (atomic_compare_exchange_strong(&p->tables, &t, made))
            t = made;
        else
            kmsenv_tables_free(made);
    }
    /* By everyone: who finds the table made may be ahead of the thread that made it. */
    atomic_store(&p->provctx.references, kmsenv_tables_get0_references(t));
    return t;
}

static const OSSL_ALGORITHM *provider_query_operation(void *vprovider, int operation_id, int *no_store)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    PROVIDER *p = vprovider;
    const KMSENV_TABLES *tables;

    *no_store = 0;
    if (operation_id != OSSL_OP_CIPHER && operation_id != OSSL_OP_MAC && operation_id != OSSL_OP_SKEYMGMT)
        return kmsenv_algorithms_query(operation_id, p->provctx.core_version);
    if ((tables = get_tables(p)) == NULL) {
        *no_store = 1;      /* libcrypto remembers an answer, and would not ask again */
        kmsenv_error_set(&err, KMSENV_R_OUT_OF_MEMORY, "no memory for the tables of ciphers and MACs: key references do not work");
        kmsenv_reporter_raise(p->provctx.reporter, &err);
        return NULL;
    }
    return kmsenv_tables_get0(tables, operation_id);
}

static const OSSL_ITEM *provider_get_reason_strings(void *vprovider)
{
    (void)vprovider;
    return kmsenv_reason_items();
}

static int provider_self_test(void *vprovider)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    PROVIDER *p = vprovider;
    int ok;

    ERR_set_mark();
    /* The configuration says which inner provider it is. */
    ok = get_runtime(&p->provctx, &err) != NULL && kmsenv_self_test(p->provctx.crypto, &err);
    ERR_pop_to_mark();
    return ok || kmsenv_reporter_raise(p->provctx.reporter, &err);
}

/* --- life ----------------------------------------------------------------- */

static void provider_teardown(void *vprovider)
{
    PROVIDER *p = vprovider;

    if (p == NULL)
        return;
    kmsenv_instance_free(atomic_load(&p->instance));
    kmsenv_tables_free(atomic_load(&p->tables));
    kmsenv_crypto_free(p->provctx.crypto);
    kmsenv_reporter_free(p->provctx.reporter);
    free(p);
}

static const OSSL_DISPATCH provider_functions[] = {
    { OSSL_FUNC_PROVIDER_GET_REASON_STRINGS, (void (*)(void))provider_get_reason_strings },    /* first: see below */
    { OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))provider_teardown },
    { OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, (void (*)(void))provider_gettable_params },
    { OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))provider_get_params },
    { OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))provider_query_operation },
    { OSSL_FUNC_PROVIDER_SELF_TEST, (void (*)(void))provider_self_test },
    { 0, NULL }
};

/*
 * A program with a libcrypto of its own inside (linked statically) gets another one with the modules it loads. That one
 * is cleaned up first; a module that has a library context there, like OpenSSL's own legacy provider, then frees
 * its copy of us, and with reason strings to unload libcrypto crashes (3.0). Such programs see numbers of reasons.
 */
static const OSSL_DISPATCH *functions_for(const OSSL_DISPATCH *in)
{
    for (; in->function_id != 0; in++)
        if (in->function_id == OSSL_FUNC_CRYPTO_MALLOC)
            return provider_functions + (OSSL_FUNC_CRYPTO_malloc(in) == CRYPTO_malloc ? 0 : 1);
    return provider_functions;
}

/* What must be known before the configuration is read; a wrong value is reported when it is. */
static size_t block_size_of(const KMSENV_SOURCE *source)
{
    const char *text = kmsenv_config_peek(source, "block-size");
    size_t n = text == NULL ? 0 : (size_t)strtoul(text, NULL, 10), room;

    if (kmsenv_cipher_envelope_functions(256, n) != NULL)
        return n;
    room = kmsenv_config_header_room(source);
    for (n = KMSENV_BLOCK_SIZE_MIN; n < room && n < KMSENV_BLOCK_SIZE_MAX; n *= 2)
        ;
    return n;
}

/* The same, for a boolean; when it is wrong the answer is yes: better an error than a reference used as a key. */
static int ordinary_names_of(const KMSENV_SOURCE *source)
{
    const char *text = kmsenv_config_peek(source, "key-references");
    int yes = 0;

    return text != NULL && (!kmsenv_setting_boolean(text, &yes) || yes);
}

/*
 * A reference is one to the keyring, and a key object (from 3.5 on) needs none. Where there is neither, 130 algorithms that nobody
 * can use are left out: OpenSSL 3.0 goes through all of all providers for each key and each certificate that it reads.
 */
static int is_by_reference(const PROVIDER *p)
{
    return p->provctx.ordinary_names || p->provctx.core_version >= KMSENV_CORE_VERSION(3, 5)
           || kmsenv_config_peek(&p->source, "keyring") != NULL;
}

int OSSL_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_DISPATCH **out, void **vprovider)
{
    PROVIDER *p = aligned_alloc(_Alignof(PROVIDER), sizeof(*p));   /* the counters stand on cache lines */
    const OSSL_DISPATCH *fn;
    const char *crypto_provider;

    if (p == NULL)
        return 0;
    memset(p, 0, sizeof(*p));
    kmsenv_secret_prepare();
    p->source.handle = handle;
    for (fn = in; fn->function_id != 0; fn++)
        if (fn->function_id == OSSL_FUNC_CORE_GET_PARAMS)
            p->source.get_params = OSSL_FUNC_core_get_params(fn);
    p->provctx.core_version = kmsenv_core_version(handle, p->source.get_params);
    kmsenv_core_bio_init(&p->provctx.bio, in);
    p->provctx.block_size = block_size_of(&p->source);
    p->provctx.runtime = get_runtime;
    p->provctx.reporter = kmsenv_reporter_new(handle, in);
    crypto_provider = kmsenv_config_peek(&p->source, "crypto-provider");
    p->provctx.crypto = kmsenv_crypto_new(handle, in, crypto_provider == NULL ? "default" : crypto_provider);
    p->provctx.ordinary_names = ordinary_names_of(&p->source);
    p->provctx.by_reference = is_by_reference(p);
    if (p->provctx.reporter == NULL || p->provctx.crypto == NULL) {
        provider_teardown(p);
        return 0;
    }
    *vprovider = p;
    *out = functions_for(in);
    return 1;
}
