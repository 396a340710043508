/* Other wraps for a data key: making them. */
#include <string.h>
#include <openssl/crypto.h>
#include "dek/rewrap_local.h"

/* --- the object ----------------------------------------------------------- */

static int set_targets(KMSENV_REWRAP *r, KMSENV_ERROR *err)
{
    KMSENV_DEK_REQUEST *request = kmsenv_dek_request_new(r->deks);
    int ok = request != NULL || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to wrap data keys anew");

    ok = ok && kmsenv_dek_request_set_profiles(request, r->options.profiles, err);
    if (ok) {
        memcpy(r->target, request->profile, request->count * sizeof(r->target[0]));
        r->targets = request->count;
    }
    kmsenv_dek_request_free(request);
    return ok;
}

KMSENV_REWRAP *kmsenv_rewrap_new(KMSENV_DEKS *deks, const KMSENV_REWRAP_OPTIONS *options, KMSENV_ERROR *err)
{
    KMSENV_REWRAP *r = OPENSSL_zalloc(sizeof(*r));

    if (r == NULL || (r->lock = kmsenv_lock_new(KMSENV_LEVEL_CACHE)) == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to wrap data keys anew");
        kmsenv_rewrap_free(r);
        return NULL;
    }
    r->deks = deks;
    r->options = *options;
    if (deks->count == 0 ? kmsenv_deks_no_kms(err) : options->profiles == NULL || set_targets(r, err))
        return r;
    kmsenv_rewrap_free(r);
    return NULL;
}

void kmsenv_rewrap_free(KMSENV_REWRAP *rewrap)
{
    if (rewrap == NULL)
        return;
    while (rewrap->refusals > 0)
        OPENSSL_free(rewrap->refused[--rewrap->refusals].key_id);
    kmsenv_lock_free(rewrap->lock);
    OPENSSL_free(rewrap);
}

/* Under the lock. */
static int is_noted(const KMSENV_REWRAP *r, const KMSENV_KMS *kms, const char *key_id)
{
    size_t i;

    for (i = 0; i < r->refusals; i++)
        if (r->refused[i].kms == kms && strcmp(r->refused[i].key_id, key_id) == 0)
            return 1;
    return 0;
}

int kmsenv_rewrap_is_refused(KMSENV_REWRAP *rewrap, const KMSENV_KMS *kms, const char *key_id)
{
    int found;

    kmsenv_lock_take(rewrap->lock);
    found = is_noted(rewrap, kms, key_id);
    kmsenv_lock_release(rewrap->lock);
    return found;
}

void kmsenv_rewrap_note_refusal(KMSENV_REWRAP *rewrap, const KMSENV_KMS *kms, const char *key_id)
{
    char *copy = OPENSSL_strdup(key_id);

    kmsenv_lock_take(rewrap->lock);
    if (copy != NULL && rewrap->refusals < KMSENV_REWRAP_REFUSED_MAX && !is_noted(rewrap, kms, key_id)) {
        rewrap->refused[rewrap->refusals].kms = kms;
        rewrap->refused[rewrap->refusals++].key_id = copy;
        copy = NULL;
    }
    kmsenv_lock_release(rewrap->lock);
    OPENSSL_free(copy);
}

/* --- one data key --------------------------------------------------------- */

typedef struct work_st {
    KMSENV_REWRAP *rewrap;
    const KMSENV_DATA_KEY *key;
    char hex[2 * KMSENV_DEK_ID_LEN + 1];
    KMSENV_DEK *dek;                 /* NULL = not opened, the usual case where services re-encrypt */
    size_t opened;                   /* the wrap it came from */
    KMSENV_DATA_KEY *out;
} WORK;

static void pace(const WORK *k)
{
    if (k->rewrap->options.pace != NULL)
        k->rewrap->options.pace(k->rewrap->options.pace_arg);
}

/* From some of the wraps: n of them, from the one at `at` on. A view of the data key, which owns nothing. */
static int open_some(WORK *k, size_t at, size_t n, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY view = *k->key;
    size_t which;
    KMSENV_DEK *dek;

    view.wraps = n;
    memmove(view.wrap, view.wrap + at, n * sizeof(view.wrap[0]));
    pace(k);
    if ((dek = kmsenv_dek_unwrap_any(k->rewrap->deks, &view, &which, err)) == NULL)
        return 0;
    kmsenv_dek_free(k->dek);
    k->dek = dek;
    k->opened = at + which;
    return 1;
}

/*
 * The data key, from that wrap or one of the same context if possible; from any that opens otherwise. Which one it is
 * matters, because its context is known then to be what the KMS has bound.
 */
static int open_for(WORK *k, size_t w, KMSENV_ERROR *err)
{
    KMSENV_ERROR ignored = KMSENV_ERROR_INIT;
    size_t after;

    if (k->dek != NULL && (w == KMSENV_REWRAP_ANY || kmsenv_context_equal(&k->key->wrap[k->opened].context, &k->key->wrap[w].context)))
        return 1;
    if (w == KMSENV_REWRAP_ANY)
        return open_some(k, 0, k->key->wraps, err);
    if (open_some(k, w, 1, err) || k->dek != NULL) {
        kmsenv_error_clear(err);
        return 1;
    }
    after = k->key->wraps - w - 1;
    if ((w > 0 && open_some(k, 0, w, &ignored)) || (after > 0 && open_some(k, w + 1, after, &ignored))) {
        kmsenv_error_clear(err);
        return 1;
    }
    return 0;
}

static int set_names(KMSENV_WRAP *wrap, const char *kms, const KMSENV_CONTEXT *context, KMSENV_ERROR *err)
{
    wrap->kms = OPENSSL_strdup(kms);
    return (wrap->kms != NULL && kmsenv_context_copy(&wrap->context, context))
           || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a wrap");
}

static int keep(const KMSENV_WRAP *from, KMSENV_WRAP *to, KMSENV_ERROR *err)
{
    to->blob.key_id = OPENSSL_strdup(from->blob.key_id);
    to->blob.ciphertext = OPENSSL_memdup(from->blob.ciphertext, from->blob.ciphertext_len);
    to->blob.ciphertext_len = from->blob.ciphertext_len;
    if (from->blob.extra_len > 0)
        to->blob.extra = OPENSSL_memdup(from->blob.extra, from->blob.extra_len);
    to->blob.extra_len = from->blob.extra_len;
    if (to->blob.key_id == NULL || to->blob.ciphertext == NULL || (to->blob.extra == NULL) != (to->blob.extra_len == 0))
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a wrap");
    return set_names(to, from->kms, &from->context, err);
}

/* By the service. 0 with err: it is down, say; or 0 without: it would not, and the data key has to be opened. *why: its reason. */
static int make_in_kms(WORK *k, const KMSENV_REWRAP_STEP *step, KMSENV_WRAP *to, int *why, KMSENV_ERROR *err)
{
    const KMSENV_WRAP *from = &k->key->wrap[step->wrap];

    pace(k);
    if (kmsenv_kms_reencrypt(step->kms, &from->context, k->hex, &from->blob, &to->blob, err))
        return set_names(to, from->kms, &from->context, err);
    *why = err->reason;
    if (k->rewrap->options.in_kms || (*why != KMSENV_R_KMS_UNSUPPORTED && !kmsenv_reason_is_refusal(*why)))
        return 0;
    if (*why != KMSENV_R_KMS_WRAP_REJECTED && *why != KMSENV_R_KMS_REQUEST_REJECTED)
        kmsenv_rewrap_note_refusal(k->rewrap, step->kms, from->blob.key_id);
    kmsenv_error_clear(err);
    return 0;
}

static int make_here(WORK *k, const KMSENV_REWRAP_STEP *step, KMSENV_WRAP *to, KMSENV_ERROR *err)
{
    const KMSENV_CONTEXT *context;

    if (k->rewrap->options.in_kms)
        return kmsenv_error_set(err, KMSENV_R_KMS_UNSUPPORTED, "profile %.80s: %s cannot re-encrypt this wrap, and the data key "
                                "is not to leave the KMS", kmsenv_kms_profile(step->kms), kmsenv_kms_method(step->kms)->title);
    if (!open_for(k, step->wrap, err))
        return 0;
    context = &k->key->wrap[k->opened].context;
    pace(k);
    return kmsenv_kms_encrypt(step->kms, context, k->hex, kmsenv_dek_get0_secret(k->dek), k->key->length, &to->blob, err)
           && set_names(to, kmsenv_kms_method(step->kms)->name, context, err);
}

static int verify(const WORK *k, KMSENV_KMS *kms, const KMSENV_WRAP *made, KMSENV_ERROR *err)
{
    KMSENV_DEK *dek;

    pace(k);
    if ((dek = kmsenv_dek_unwrap_one(k->rewrap->deks, kms, k->key, made, err)) == NULL)
        return kmsenv_error_prefix(err, "the new wrap does not open: ");
    kmsenv_dek_free(dek);
    return 1;
}

static int take_step(WORK *k, KMSENV_REWRAP_STEP *step, KMSENV_ERROR *err)
{
    KMSENV_WRAP *to = &k->out->wrap[k->out->wraps++];
    int why = KMSENV_R_NONE;

    if (step->kms == NULL)
        return keep(&k->key->wrap[step->wrap], to, err);
    if (step->in_kms && !make_in_kms(k, step, to, &why, err)) {
        if (err->reason != KMSENV_R_NONE)
            return 0;
        step->in_kms = 0;
    }
    if (!step->in_kms && !make_here(k, step, to, err))
        return why == KMSENV_R_NONE ? 0
               : kmsenv_error_prefix(err, "the service does not re-encrypt it (%s), and: ", kmsenv_reason_text(why));
    return !k->rewrap->options.verify || verify(k, step->kms, to, err);
}

/* What a reader would refuse must not take the place of what it accepts. */
static int encode(const KMSENV_DATA_KEY *key, unsigned char **der, size_t *len, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *again;

    if (!kmsenv_data_key_encode(key, 0, der, len, err))
        return 0;
    again = kmsenv_data_key_parse(*der, *len, err);
    kmsenv_data_key_free(again);
    if (again != NULL)
        return 1;
    OPENSSL_free(*der);
    *der = NULL;
    return kmsenv_error_prefix(err, "with its new wraps: ");
}

int kmsenv_rewrap_perform(KMSENV_REWRAP *rewrap, const KMSENV_DATA_KEY *key, KMSENV_REWRAP_PLAN *plan,
                          unsigned char **der, size_t *len, KMSENV_ERROR *err)
{
    WORK k = { .rewrap = rewrap, .key = key, .out = kmsenv_data_key_new() };
    size_t i;
    int ok = k.out != NULL || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a data key");

    kmsenv_dek_id_hex(key->id, k.hex);
    if (ok) {
        memcpy(k.out->id, key->id, KMSENV_DEK_ID_LEN);
        k.out->length = key->length;
    }
    for (i = 0; ok && i < plan->count; i++)
        ok = take_step(&k, &plan->step[i], err);
    ok = ok && encode(k.out, der, len, err);
    kmsenv_dek_free(k.dek);
    kmsenv_data_key_free(k.out);
    return ok;
}
