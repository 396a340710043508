#include <stdatomic.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "dek/cmk.h"
#include "dek/deks_local.h"

struct kmsenv_cmk_st {
    KMSENV_KMS *kms;
    char *key_id;
    int is_own;              /* the profile's own key: the one that it encrypts under */
    atomic_int refs;
};

/* --- life ----------------------------------------------------------------- */

static KMSENV_KMS *find_profile(const KMSENV_DEKS *deks, const char *profile, KMSENV_ERROR *err)
{
    char shown[64];
    size_t i;

    if (deks->count == 0) {
        kmsenv_deks_no_kms(err);
        return NULL;
    }
    if (profile == NULL || *profile == '\0')
        return deks->profile[0];
    for (i = 0; i < deks->count; i++)
        if (strcmp(kmsenv_kms_profile(deks->profile[i]), profile) == 0)
            return deks->profile[i];
    kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "there is no profile '%s'; accepted: names of the setting 'profiles'",
                     kmsenv_shown(profile, shown));
    return NULL;
}

static int set_key(KMSENV_CMK *cmk, const char *key_id, KMSENV_ERROR *err)
{
    const char *own = kmsenv_kms_own_key_id(cmk->kms, err);
    char shown[64];

    if (own == NULL)
        return 0;
    cmk->is_own = key_id == NULL || strcmp(key_id, own) == 0;
    if (!cmk->is_own && !kmsenv_kms_matches(cmk->kms, kmsenv_cmk_kms(cmk), key_id, err))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "profile %s does not answer for the key '%s'; accepted: its key-id, "
                                "and what its decrypt-keys names", kmsenv_kms_profile(cmk->kms), kmsenv_shown(key_id, shown));
    if ((cmk->key_id = OPENSSL_strdup(cmk->is_own ? own : key_id)) != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a master key");
}

KMSENV_CMK *kmsenv_cmk_new(KMSENV_DEKS *deks, const char *profile, const char *key_id, KMSENV_ERROR *err)
{
    KMSENV_CMK *cmk = OPENSSL_zalloc(sizeof(*cmk));

    if (cmk == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a master key");
        return NULL;
    }
    atomic_init(&cmk->refs, 1);
    if ((cmk->kms = find_profile(deks, profile, err)) != NULL && set_key(cmk, key_id, err))
        return cmk;
    kmsenv_cmk_free(cmk);
    return NULL;
}

KMSENV_CMK *kmsenv_cmk_new_named(KMSENV_DEKS *deks, const KMSENV_KEY_NAME *name, KMSENV_ERROR *err)
{
    char kms[64], key_id[64];
    size_t i;

    for (i = 0; i < deks->count; i++)
        if (kmsenv_kms_is_own(deks->profile[i], name->kms, name->key_id, err))
            return kmsenv_cmk_new(deks, kmsenv_kms_profile(deks->profile[i]), NULL, err);
    if (err->reason == KMSENV_R_NONE)
        kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "no profile encrypts under the key '%s' of the KMS '%s': configure one "
                         "with that key-id", kmsenv_shown(name->key_id, key_id), kmsenv_shown(name->kms, kms));
    return NULL;
}

int kmsenv_cmk_up_ref(KMSENV_CMK *cmk)
{
    atomic_fetch_add_explicit(&cmk->refs, 1, memory_order_relaxed);
    return 1;
}

void kmsenv_cmk_free(KMSENV_CMK *cmk)
{
    if (cmk == NULL || atomic_fetch_sub_explicit(&cmk->refs, 1, memory_order_acq_rel) > 1)
        return;
    OPENSSL_free(cmk->key_id);
    OPENSSL_free(cmk);
}

int kmsenv_cmk_equal(const KMSENV_CMK *a, const KMSENV_CMK *b)
{
    return strcmp(kmsenv_cmk_kms(a), kmsenv_cmk_kms(b)) == 0 && strcmp(a->key_id, b->key_id) == 0;
}

const char *kmsenv_cmk_profile(const KMSENV_CMK *cmk)
{
    return kmsenv_kms_profile(cmk->kms);
}

const char *kmsenv_cmk_kms(const KMSENV_CMK *cmk)
{
    return kmsenv_kms_method(cmk->kms)->name;
}

const char *kmsenv_cmk_key_id(const KMSENV_CMK *cmk)
{
    return cmk->key_id;
}

size_t kmsenv_cmk_plaintext_max(const KMSENV_CMK *cmk)
{
    return kmsenv_kms_method(cmk->kms)->plaintext_max;
}

/* --- operations ----------------------------------------------------------- */

/* The context to use: given, to be reset; or the profile's own. */
static const KMSENV_CONTEXT *get_context(const KMSENV_CMK *cmk, const char *text, KMSENV_CONTEXT *given, KMSENV_ERROR *err)
{
    kmsenv_context_init(given);
    if (text == NULL)
        return kmsenv_kms_context(cmk->kms);
    return kmsenv_context_parse(given, text, err) ? given : NULL;
}

static int may_encrypt(const KMSENV_CMK *cmk, KMSENV_ERROR *err)
{
    return cmk->is_own
           || kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "profile %s only decrypts under the key '%s': to encrypt under it, "
                               "configure a profile with that key-id", kmsenv_cmk_profile(cmk), cmk->key_id);
}

static int put(const unsigned char *from, size_t n, unsigned char *out, size_t *outlen, KMSENV_ERROR *err)
{
    if (n > *outlen)
        return kmsenv_error_set(err, KMSENV_R_OUTPUT_TOO_SMALL, "the output buffer has %zu bytes; %zu are needed", *outlen, n);
    memcpy(out, from, n);
    *outlen = n;
    return 1;
}

/* The blob as it is, or in a Wrap if it cannot be opened without what goes with it. */
static int put_blob(KMSENV_CMK *cmk, KMSENV_BLOB *blob, unsigned char *out, size_t *outlen, KMSENV_ERROR *err)
{
    KMSENV_WRAP wrap = { .kms = (char *)kmsenv_cmk_kms(cmk), .blob = *blob };
    unsigned char *der;
    size_t n;
    int ok;

    if (blob->extra_len == 0 || kmsenv_kms_method(cmk->kms)->extra_is_hint)
        return put(blob->ciphertext, blob->ciphertext_len, out, outlen, err);
    if (!kmsenv_wrap_encode(&wrap, &der, &n, err))
        return 0;
    ok = put(der, n, out, outlen, err);
    OPENSSL_free(der);
    return ok;
}

int kmsenv_cmk_encrypt(KMSENV_CMK *cmk, const char *context, const unsigned char *in, size_t inlen,
                       unsigned char *out, size_t *outlen, KMSENV_ERROR *err)
{
    KMSENV_BLOB blob = { 0 };
    KMSENV_CONTEXT given;
    const KMSENV_CONTEXT *used;
    int ok;

    if (!may_encrypt(cmk, err))
        return 0;
    if (inlen > kmsenv_cmk_plaintext_max(cmk))
        return kmsenv_error_set(err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the input has more than the %zu bytes that this KMS (%s) takes: "
                                "use the cipher kms-envelope (openssl enc -kms-envelope), which has no limit",
                                kmsenv_cmk_plaintext_max(cmk), kmsenv_kms_method(cmk->kms)->title);
    ok = (used = get_context(cmk, context, &given, err)) != NULL
         && kmsenv_kms_encrypt(cmk->kms, used, NULL, in, inlen, &blob, err) && put_blob(cmk, &blob, out, outlen, err);
    kmsenv_blob_reset(&blob);
    kmsenv_context_reset(&given);
    return ok;
}

int kmsenv_cmk_generate(KMSENV_CMK *cmk, const char *context, unsigned char *key, size_t len,
                        unsigned char *out, size_t *outlen, KMSENV_ERROR *err)
{
    KMSENV_BLOB blob = { 0 };
    KMSENV_CONTEXT given;
    const KMSENV_CONTEXT *used;
    int ok;

    kmsenv_context_init(&given);
    if (!kmsenv_dek_length_is_valid(len))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "a secret of %zu bytes; accepted: 16, 24, 32 or 64", len);
    ok = may_encrypt(cmk, err) && (used = get_context(cmk, context, &given, err)) != NULL
         && kmsenv_kms_generate(cmk->kms, used, len, key, &blob, err) && put_blob(cmk, &blob, out, outlen, err);
    if (!ok)
        OPENSSL_cleanse(key, len);
    kmsenv_blob_reset(&blob);
    kmsenv_context_reset(&given);
    return ok;
}

/* What to send: a Wrap of this profile, or the bytes as they are. */
static int read_input(const KMSENV_CMK *cmk, const unsigned char *in, size_t inlen, KMSENV_WRAP *wrap, KMSENV_ERROR *err)
{
    KMSENV_ERROR ignored = KMSENV_ERROR_INIT;
    char kind[64], shown[64];

    if (kmsenv_wrap_parse(wrap, in, inlen, &ignored)) {
        if (kmsenv_kms_matches(cmk->kms, wrap->kms, wrap->blob.key_id, err))
            return 1;
        return err->reason != KMSENV_R_NONE ? 0
               : kmsenv_error_set(err, KMSENV_R_NO_USABLE_WRAP, "profile %s does not answer for what %s encrypted with key '%s'",
                                  kmsenv_cmk_profile(cmk), kmsenv_shown(wrap->kms, kind), kmsenv_shown(wrap->blob.key_id, shown));
    }
    kmsenv_wrap_reset(wrap);
    if (inlen == 0 || inlen > KMSENV_CIPHERTEXT_MAX)
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "a ciphertext of %zu bytes; those of a KMS have 1 to %d", inlen,
                                KMSENV_CIPHERTEXT_MAX);
    wrap->blob.key_id = OPENSSL_strdup(cmk->key_id);
    wrap->blob.ciphertext = OPENSSL_memdup(in, inlen);
    wrap->blob.ciphertext_len = inlen;
    return (wrap->blob.key_id != NULL && wrap->blob.ciphertext != NULL)
           || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a ciphertext");
}

int kmsenv_cmk_decrypt(KMSENV_CMK *cmk, const char *context, const unsigned char *in, size_t inlen,
                       unsigned char *out, size_t *outlen, KMSENV_ERROR *err)
{
    size_t room = kmsenv_cmk_plaintext_max(cmk), n = room;
    unsigned char *plaintext = kmsenv_secret_zalloc(room);
    KMSENV_CONTEXT given;
    const KMSENV_CONTEXT *used = get_context(cmk, context, &given, err);
    KMSENV_WRAP wrap = { 0 };
    int ok = plaintext != NULL || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no secret memory for a plaintext");

    ok = ok && used != NULL && read_input(cmk, in, inlen, &wrap, err)
         && kmsenv_kms_decrypt(cmk->kms, used, NULL, &wrap.blob, plaintext, &n, err) && put(plaintext, n, out, outlen, err);
    kmsenv_wrap_reset(&wrap);
    kmsenv_context_reset(&given);
    kmsenv_secret_free(plaintext);
    return ok;
}
