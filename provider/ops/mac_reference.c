#include <openssl/crypto.h>
#include <openssl/err.h>
#include "ops/mac_reference.h"
#include "ops/reference_table.h"
#include "ops/skey.h"

/*
 * The last of a key as an argument, and of one as a parameter: one call may have both. Kept so that re-keying with the same
 * reference costs no search.
 */
enum { ARGUMENT, PARAMETER, WAYS };

typedef struct reference_st {
    const KMSENV_INNER_MAC *mac;
    void *inner;                       /* the inner provider's context */
    KMSENV_PROVCTX *provctx;
    KMSENV_DEK *dek[WAYS];
    int refused;                       /* the last key given was a reference to nothing */
} REFERENCE;

/* --- contexts ------------------------------------------------------------- */

static void *reference_newctx(KMSENV_PROVCTX *provctx, size_t n)
{
    const KMSENV_INNER_MAC *mac = &provctx->references->mac[n];
    REFERENCE *r = OPENSSL_zalloc(sizeof(*r));

    if (r == NULL)
        return NULL;
    r->mac = mac;
    r->provctx = provctx;
    if ((r->inner = mac->newctx(mac->provctx)) != NULL)
        return r;
    OPENSSL_free(r);
    return NULL;
}

static OSSL_FUNC_mac_freectx_fn reference_freectx;
static void reference_freectx(void *vctx)
{
    REFERENCE *r = vctx;

    if (r == NULL)
        return;
    r->mac->freectx(r->inner);
    kmsenv_dek_free(r->dek[ARGUMENT]);
    kmsenv_dek_free(r->dek[PARAMETER]);
    OPENSSL_free(r);
}

static OSSL_FUNC_mac_dupctx_fn reference_dupctx;
static void *reference_dupctx(void *vctx)
{
    const REFERENCE *r = vctx;
    REFERENCE *copy = OPENSSL_memdup(r, sizeof(*r));
    int i;

    if (copy == NULL)
        return NULL;
    if ((copy->inner = r->mac->dupctx(r->inner)) == NULL) {
        OPENSSL_free(copy);
        return NULL;
    }
    for (i = 0; i < WAYS; i++)
        if (copy->dek[i] != NULL)
            kmsenv_dek_up_ref(copy->dek[i]);
    return copy;
}

/* --- keys ----------------------------------------------------------------- */

/* A call of the inner provider's init, or of its set_ctx_params. */
typedef struct call_st {
    int is_init;
    const unsigned char *key;
    size_t keylen;
    const OSSL_PARAM *params;
} CALL;

static int hand_over(const REFERENCE *r, const CALL *c)
{
    return c->is_init ? r->mac->init(r->inner, c->key, c->keylen, c->params) : r->mac->set_ctx_params(r->inner, c->params);
}

/* With the name of a digest or cipher, which may have to be brought in first. Success leaves the error queue as it was. */
static int hand_over_names(const REFERENCE *r, const CALL *c)
{
    ERR_set_mark();
    if (hand_over(r, c)) {
        ERR_clear_last_mark();
        return 1;
    }
    if (!kmsenv_mac_params_complete(r->provctx, c->params)) {
        ERR_clear_last_mark();
        return 0;
    }
    ERR_pop_to_mark();
    return hand_over(r, c);
}

/* Not inlined: most calls have nothing of the kind. */
static __attribute__((noinline)) int hand_over_edited(REFERENCE *r, CALL *c, int found)
{
    OSSL_PARAM *edited = NULL;
    int ok;

    if (found & (KMSENV_MAC_REFERENCE | KMSENV_MAC_OURSELVES)) {
        if ((edited = kmsenv_mac_params_edit(r->provctx, &r->dek[PARAMETER], c->params)) == NULL) {
            r->refused |= found & KMSENV_MAC_REFERENCE;
            return 0;                  /* never the bytes of the reference */
        }
        c->params = edited;
    }
    ok = found & KMSENV_MAC_NAME ? hand_over_names(r, c) : hand_over(r, c);
    OPENSSL_free(edited);
    return ok;
}

static int call(REFERENCE *r, CALL *c)
{
    int found = kmsenv_mac_params_look(c->params), ok;

    ok = found & ~KMSENV_MAC_KEY ? hand_over_edited(r, c, found) : hand_over(r, c);
    if (ok && (c->key != NULL || found & (KMSENV_MAC_KEY | KMSENV_MAC_REFERENCE)))
        r->refused = 0;
    return ok;
}

static OSSL_FUNC_mac_init_fn reference_init;
static int reference_init(void *vctx, const unsigned char *key, size_t keylen, const OSSL_PARAM params[])
{
    REFERENCE *r = vctx;
    CALL c = { 1, key, keylen, params };

    if (key != NULL && kmsenv_reference_is(key, keylen)
        && (c.key = kmsenv_reference_resolve(r->provctx, &r->dek[ARGUMENT], key, keylen)) == NULL) {
        r->refused = 1;
        return 0;
    }
    return call(r, &c);
}

/* The bytes of an ordinary key object may be a reference like any other key; those of a data key are its DEK. */
static OSSL_FUNC_mac_init_skey_fn reference_init_skey;
static int reference_init_skey(void *vctx, void *vskey, const OSSL_PARAM params[])
{
    REFERENCE *r = vctx;
    const KMSENV_SKEY *skey = vskey;
    CALL c = { 1, NULL, 0, params };

    if (skey == NULL)
        return call(r, &c);
    if (!kmsenv_skey_get0_bytes(skey, &r->dek[ARGUMENT], &c.key, &c.keylen)) {
        r->refused = 1;
        return 0;
    }
    return skey->key == NULL ? reference_init(r, c.key, c.keylen, params) : call(r, &c);
}

static OSSL_FUNC_mac_set_ctx_params_fn reference_set_ctx_params;
static int reference_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    CALL c = { 0, NULL, 0, params };

    return call(vctx, &c);
}

/* --- handed through ------------------------------------------------------- */

static OSSL_FUNC_mac_update_fn reference_update;
static int reference_update(void *vctx, const unsigned char *in, size_t inl)
{
    const REFERENCE *r = vctx;

    return r->refused ? kmsenv_reference_refuse(r->provctx) : r->mac->update(r->inner, in, inl);
}

static OSSL_FUNC_mac_final_fn reference_final;
static int reference_final(void *vctx, unsigned char *out, size_t *outl, size_t outsize)
{
    const REFERENCE *r = vctx;

    return r->refused ? kmsenv_reference_refuse(r->provctx) : r->mac->final(r->inner, out, outl, outsize);
}

static OSSL_FUNC_mac_get_ctx_params_fn reference_get_ctx_params;
static int reference_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
    const REFERENCE *r = vctx;

    return r->mac->get_ctx_params(r->inner, params);
}

/* --- which MAC? ----------------------------------------------------------- */

static const KMSENV_INNER_MAC *nth(void *provctx, size_t n)
{
    return &((KMSENV_PROVCTX *)provctx)->references->mac[n];
}

static void *inner_of(void *vctx)
{
    return vctx == NULL ? NULL : ((REFERENCE *)vctx)->inner;
}

#define MAC(n)                                                                                          \
    static OSSL_FUNC_mac_newctx_fn newctx_##n;                                                          \
    static void *newctx_##n(void *p) { return reference_newctx(p, n); }                                 \
    static OSSL_FUNC_mac_gettable_params_fn gettable_##n;                                               \
    static const OSSL_PARAM *gettable_##n(void *p)                                                      \
    { return nth(p, n)->gettable_params(nth(p, n)->provctx); }                                          \
    static OSSL_FUNC_mac_gettable_ctx_params_fn gettable_ctx_##n;                                       \
    static const OSSL_PARAM *gettable_ctx_##n(void *c, void *p)                                         \
    { return nth(p, n)->gettable_ctx_params(inner_of(c), nth(p, n)->provctx); }                         \
    static OSSL_FUNC_mac_settable_ctx_params_fn settable_ctx_##n;                                       \
    static const OSSL_PARAM *settable_ctx_##n(void *c, void *p)                                         \
    { return nth(p, n)->settable_ctx_params(inner_of(c), nth(p, n)->provctx); }
#define ROW(n) { newctx_##n, gettable_##n, gettable_ctx_##n, settable_ctx_##n },

#define ALL(X) KMSENV_REFERENCE_SIXTEEN(X, 0x0) KMSENV_REFERENCE_SIXTEEN(X, 0x1)

ALL(MAC)

static const struct numbered_st {
    OSSL_FUNC_mac_newctx_fn *newctx;
    OSSL_FUNC_mac_gettable_params_fn *gettable_params;
    OSSL_FUNC_mac_gettable_ctx_params_fn *gettable_ctx_params;
    OSSL_FUNC_mac_settable_ctx_params_fn *settable_ctx_params;
} numbered[] = { ALL(ROW) };
_Static_assert(sizeof(numbered) / sizeof(numbered[0]) == KMSENV_REFERENCE_MACS_MAX, "as many as there may be MACs");

/* --- adapting ------------------------------------------------------------- */

typedef void (*FUNCTION)(void);

/* Puts an inner function where it belongs; returns ours for it, NULL if it is none that is handed through. */
static FUNCTION adapt_one(const OSSL_DISPATCH *f, size_t n, KMSENV_INNER_MAC *out)
{
#define HAND_THROUGH(ID, name, ours)                                                                    \
    case OSSL_FUNC_MAC_##ID:                                                                            \
        out->name = OSSL_FUNC_mac_##name(f);                                                            \
        return (FUNCTION)(ours);
    switch (f->function_id) {
    HAND_THROUGH(NEWCTX, newctx, numbered[n].newctx)
    HAND_THROUGH(FREECTX, freectx, reference_freectx)
    HAND_THROUGH(DUPCTX, dupctx, reference_dupctx)
    HAND_THROUGH(INIT, init, reference_init)
    HAND_THROUGH(UPDATE, update, reference_update)
    HAND_THROUGH(FINAL, final, reference_final)
    HAND_THROUGH(GET_PARAMS, get_params, out->get_params)      /* has no context at all: the inner one will do */
    HAND_THROUGH(GETTABLE_PARAMS, gettable_params, numbered[n].gettable_params)
    HAND_THROUGH(GET_CTX_PARAMS, get_ctx_params, reference_get_ctx_params)
    HAND_THROUGH(GETTABLE_CTX_PARAMS, gettable_ctx_params, numbered[n].gettable_ctx_params)
    HAND_THROUGH(SET_CTX_PARAMS, set_ctx_params, reference_set_ctx_params)
    HAND_THROUGH(SETTABLE_CTX_PARAMS, settable_ctx_params, numbered[n].settable_ctx_params)
    default:
        return NULL;
    }
#undef HAND_THROUGH
}

int kmsenv_mac_reference_adapt(const OSSL_DISPATCH *inner, size_t n, KMSENV_INNER_MAC *out,
                               OSSL_DISPATCH functions[KMSENV_REFERENCE_FUNCTIONS])
{
    static const OSSL_DISPATCH init_skey = { OSSL_FUNC_MAC_INIT_SKEY, (FUNCTION)reference_init_skey }, end = { 0, NULL };
    size_t count = 0;

    for (; inner->function_id != 0 && count + 2 < KMSENV_REFERENCE_FUNCTIONS; inner++) {
        functions[count].function_id = inner->function_id;
        if ((functions[count].function = adapt_one(inner, n, out)) != NULL)
            count++;
    }
    functions[count++] = init_skey;
    functions[count] = end;
    return out->newctx != NULL && out->freectx != NULL && out->init != NULL && out->update != NULL && out->final != NULL;
}
