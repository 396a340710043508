#include <openssl/crypto.h>
#include "kmsenv/params.h"
#include "ops/generation.h"

static int set_text(KMSENV_GENERATION *g, const OSSL_PARAM *p, int (*fn)(KMSENV_DEK_REQUEST *, const char *, KMSENV_ERROR *),
                    KMSENV_ERROR *err)
{
    char *text = NULL;      /* a copy: a parameter's string need not be terminated */
    int ok;

    if (!OSSL_PARAM_get_utf8_string(p, &text, 0))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "parameter %s is not a UTF-8 string", p->key);
    ok = fn(g->request, text, err);
    OPENSSL_free(text);
    return ok;
}

static int set_profile(KMSENV_GENERATION *g, const OSSL_PARAM *p, KMSENV_ERROR *err)
{
    return set_text(g, p, kmsenv_dek_request_set_profiles, err);
}

static int set_context(KMSENV_GENERATION *g, const OSSL_PARAM *p, KMSENV_ERROR *err)
{
    return set_text(g, p, kmsenv_dek_request_set_context, err);
}

static int set_bits(KMSENV_GENERATION *g, const OSSL_PARAM *p, KMSENV_ERROR *err)
{
    size_t bits;

    if (!OSSL_PARAM_get_size_t(p, &bits) || bits % 8 != 0 || !kmsenv_dek_length_is_valid(bits / 8))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "parameter bits; accepted: 128, 192, 256, 512");
    g->length = bits / 8;
    return 1;
}

static int set_keyring(KMSENV_GENERATION *g, const OSSL_PARAM *p, KMSENV_ERROR *err)
{
    char word[8], *text = word;

    return (OSSL_PARAM_get_utf8_string(p, &text, sizeof(word)) && kmsenv_setting_boolean(word, &g->keep))
           || kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "parameter keyring; accepted: yes, no");
}

static const struct { const char *name; int (*set)(KMSENV_GENERATION *, const OSSL_PARAM *, KMSENV_ERROR *); } own_param[] = {
    { KMSENV_PKEY_PARAM_BITS, set_bits },
    { KMSENV_PKEY_PARAM_PROFILE, set_profile },
    { KMSENV_PKEY_PARAM_CONTEXT, set_context },
    { KMSENV_PKEY_PARAM_KEYRING, set_keyring }
};

int kmsenv_generation_set(KMSENV_GENERATION *g, const OSSL_PARAM params[], KMSENV_ERROR *err)
{
    const OSSL_PARAM *p;
    size_t i;

    for (i = 0; params != NULL && i < sizeof(own_param) / sizeof(own_param[0]); i++)
        if ((p = OSSL_PARAM_locate_const(params, own_param[i].name)) != NULL && !own_param[i].set(g, p, err))
            return 0;
    return 1;
}

const OSSL_PARAM *kmsenv_generation_settable(void)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_size_t(KMSENV_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_utf8_string(KMSENV_PKEY_PARAM_PROFILE, NULL, 0),
        OSSL_PARAM_utf8_string(KMSENV_PKEY_PARAM_CONTEXT, NULL, 0),
        OSSL_PARAM_utf8_string(KMSENV_PKEY_PARAM_KEYRING, NULL, 0),
        OSSL_PARAM_END
    };

    return settable;
}

KMSENV_GENERATION *kmsenv_generation_new(KMSENV_PROVCTX *provctx, size_t length, int keep, KMSENV_ERROR *err)
{
    const KMSENV_RUNTIME *runtime = provctx->runtime(provctx, err);
    KMSENV_GENERATION *g;

    if (runtime == NULL)
        return NULL;
    if ((g = OPENSSL_zalloc(sizeof(*g))) != NULL) {
        g->provctx = provctx;
        g->length = length;
        g->keep = keep;
        if ((g->request = kmsenv_dek_request_new(runtime->deks)) != NULL)
            return g;
    }
    kmsenv_generation_free(g);
    kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a data key");
    return NULL;
}

void kmsenv_generation_free(KMSENV_GENERATION *g)
{
    if (g == NULL)
        return;
    kmsenv_dek_request_free(g->request);
    OPENSSL_free(g);
}

KMSENV_KEY *kmsenv_generation_run(const KMSENV_GENERATION *g, KMSENV_ERROR *err)
{
    const KMSENV_RUNTIME *runtime = g->provctx->runtime(g->provctx, err);
    KMSENV_KEY *key = NULL;
    KMSENV_DEK *dek = NULL;
    const unsigned char *der;
    size_t len;

    if (runtime == NULL)
        return NULL;
    if (g->keep && kmsenv_deks_get0_keyring(runtime->deks) == NULL)
        kmsenv_error_set(err, KMSENV_R_KEYRING_FAILED, "there is no keyring to keep the new data key in: set 'keyring' in openssl.cnf, or "
                         "generate it with the parameter keyring:no and store it yourself");
    else if ((key = kmsenv_key_new(g->provctx)) == NULL)
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a key object");
    else
        dek = kmsenv_deks_make(g->request, g->length, g->keep, err);
    if (dek != NULL && (der = kmsenv_dek_get0_der(dek, 0, &len)) != NULL && kmsenv_key_set(key, der, len, err)) {
        kmsenv_dek_free(dek);
        return key;
    }
    kmsenv_dek_free(dek);
    kmsenv_key_free(key);
    return NULL;
}
