/*
 * How data keys are wrapped inside of a token. The extra of a wrap says how:
 *
 *   0x01 || IV                CKM_AES_GCM with this IV, 12 to 16 bytes, and a tag of 16 bytes at the end of the ciphertext.
 *                             AAD: the canonical JSON of the encryption context; empty if that is
 *   0x02                      CKM_AES_KEY_WRAP_KWP (RFC 5649)
 *   0x03                      CKM_AES_KEY_WRAP_PAD, of tokens that do not have the former: each is to be unwrapped by its own kind
 *
 * Key wrapping wraps objects: the data key becomes one of the session, and is one for a moment when it is unwrapped.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/pkcs11.h"
#include "kms/result.h"
#include "kmsenv/format.h"

#define IV_LEN     12
#define IV_MAX     16
#define TAG_LEN    16
#define WRAP_MAX   (KMSENV_PKCS11_PLAINTEXT_MAX + 64)

enum { BY_GCM = 1, BY_KWP = 2, BY_PAD = 3 };

/* --- AES-GCM -------------------------------------------------------------- */

typedef struct gcm_st {
    unsigned char iv[IV_MAX];
    KMSENV_BUFFER aad;
    CK_GCM_PARAMS params;
    CK_MECHANISM mechanism;
} GCM;

static int gcm_init(GCM *gcm, const KMSENV_PKCS11_WRAP *w, size_t iv_len)
{
    memset(gcm, 0, sizeof(*gcm));
    kmsenv_buffer_init(&gcm->aad, KMSENV_CONTEXT_TEXT_MAX, 0);
    if (w->context->count > 0 && !kmsenv_context_json(w->context, &gcm->aad)) {
        kmsenv_buffer_reset(&gcm->aad);
        return kmsenv_error_set(w->err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the encryption context has more than %d bytes",
                                KMSENV_CONTEXT_TEXT_MAX);
    }
    gcm->params = (CK_GCM_PARAMS){ gcm->iv, iv_len, 8 * iv_len, gcm->aad.data, gcm->aad.length, 8 * TAG_LEN };
    gcm->mechanism = (CK_MECHANISM){ CKM_AES_GCM, &gcm->params, sizeof(gcm->params) };
    return 1;
}

static void gcm_reset(GCM *gcm)
{
    kmsenv_buffer_reset(&gcm->aad);
}

/*
 * With an IV of ours. Tokens that make IVs themselves either put theirs in place of ours; or refuse ours, and want zeros there
 * to be replaced; or append it to the ciphertext, whose length shows it.
 */
static CK_RV encrypt_init(KMSENV_PKCS11_SESSION *s, CK_OBJECT_HANDLE key, GCM *gcm)
{
    CK_RV rv = s->f->C_EncryptInit(s->handle, &gcm->mechanism, key);

    if (rv != CKR_MECHANISM_PARAM_INVALID && rv != CKR_ARGUMENTS_BAD)
        return rv;
    memset(gcm->iv, 0, sizeof(gcm->iv));
    return s->f->C_EncryptInit(s->handle, &gcm->mechanism, key);
}

/* ciphertext: n bytes from the token for inlen bytes; the IV is in gcm, or behind the tag. */
static int take_gcm(const GCM *gcm, const KMSENV_PKCS11_WRAP *w, const unsigned char *ciphertext, size_t n, size_t inlen,
                    KMSENV_BLOB *out)
{
    static const unsigned char zeros[IV_MAX];
    unsigned char extra[1 + IV_MAX] = { BY_GCM };
    size_t sealed = inlen + TAG_LEN, iv_len = IV_LEN;

    if (n == sealed) {
        memcpy(extra + 1, gcm->iv, IV_LEN);
    } else if (n > sealed && n - sealed >= IV_LEN && n - sealed <= IV_MAX) {
        iv_len = n - sealed;
        memcpy(extra + 1, ciphertext + sealed, iv_len);
    } else {
        return kmsenv_error_set(w->err, KMSENV_R_KMS_REPLY_MALFORMED, "C_Encrypt: %zu bytes of ciphertext for %zu bytes", n, inlen);
    }
    if (CRYPTO_memcmp(extra + 1, zeros, iv_len) == 0)
        return kmsenv_error_set(w->err, KMSENV_R_KMS_UNSUPPORTED, "the token refuses an IV of ours and does not say which one it "
                                "has used; use mechanism = aes-kwp");
    return kmsenv_blob_copy(out, ciphertext, sealed, w->err) && kmsenv_blob_extra(out, extra, 1 + iv_len, w->err);
}

int kmsenv_pkcs11_gcm(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    unsigned char ciphertext[WRAP_MAX];
    CK_ULONG n = sizeof(ciphertext);
    const char *function = "C_EncryptInit";
    int ok = 0;
    CK_RV rv;
    GCM gcm;

    if (!gcm_init(&gcm, w, IV_LEN))
        return 0;
    if (kmsenv_crypto_random(w->crypto, gcm.iv, IV_LEN, w->err)) {
        if ((rv = encrypt_init(s, w->key, &gcm)) == CKR_OK) {
            function = "C_Encrypt";
            rv = s->f->C_Encrypt(s->handle, (CK_BYTE *)in, inlen, ciphertext, &n);
        }
        ok = rv == CKR_OK ? take_gcm(&gcm, w, ciphertext, n, inlen, out) : kmsenv_pkcs11_fault(s, function, rv, w->err);
    }
    gcm_reset(&gcm);
    return ok;
}

/* --- key wrapping --------------------------------------------------------- */

static CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
static CK_KEY_TYPE generic = CKK_GENERIC_SECRET;
static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

/* A data key for a moment: not kept, and its value may leave the token, wrapped or as it is. */
#define OBJECT_ATTRIBUTES \
    { CKA_CLASS, &secret_key, sizeof(secret_key) }, { CKA_KEY_TYPE, &generic, sizeof(generic) }, { CKA_TOKEN, &no, sizeof(no) }, \
    { CKA_SENSITIVE, &no, sizeof(no) }, { CKA_EXTRACTABLE, &yes, sizeof(yes) }
#define OBJECT_COUNT 5

static const struct { CK_MECHANISM_TYPE type; unsigned char kind; } wrapping[] = {
    { KMSENV_CKM_AES_KEY_WRAP_KWP, BY_KWP }, { CKM_AES_KEY_WRAP_PAD, BY_PAD }
};

static int no_context(const KMSENV_PKCS11_WRAP *w)
{
    if (w->context->count == 0)
        return 1;
    return kmsenv_error_set(w->err, KMSENV_R_KMS_UNSUPPORTED, "AES key wrapping cannot bind an encryption context: use mechanism = "
                            "aes-gcm, or no context");
}

/* Of other lengths some tokens give back a multiple of 8, the padding with it (SoftHSM 2.6 does); data keys are none. */
static int is_wrappable(const KMSENV_PKCS11_WRAP *w, size_t n)
{
    if (n >= 16 && n % 8 == 0)
        return 1;
    return kmsenv_error_set(w->err, KMSENV_R_KMS_INPUT_TOO_LARGE, "aes-kwp wraps a multiple of 8 bytes, 16 or more, not %zu; use mechanism "
                            "= aes-gcm", n);
}

/* Which of the two kinds does the token have? -1, with err: none. */
static int choose_wrapping(KMSENV_PKCS11_SESSION *s, KMSENV_ERROR *err)
{
    CK_MECHANISM_INFO info;
    int i;

    for (i = 0; i < 2; i++)
        if (s->f->C_GetMechanismInfo(s->slot, wrapping[i].type, &info) == CKR_OK && (info.flags & CKF_WRAP) != 0)
            return i;
    kmsenv_error_set(err, KMSENV_R_KMS_UNSUPPORTED, "the token has neither CKM_AES_KEY_WRAP_KWP nor CKM_AES_KEY_WRAP_PAD; use "
                     "mechanism = aes-gcm");
    return -1;
}

int kmsenv_pkcs11_kwp(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    CK_ATTRIBUTE template[OBJECT_COUNT + 1] = { OBJECT_ATTRIBUTES, { CKA_VALUE, (void *)in, inlen } };
    unsigned char ciphertext[WRAP_MAX];
    CK_ULONG n = sizeof(ciphertext);
    CK_MECHANISM mechanism = { 0 };
    CK_OBJECT_HANDLE object;
    int which;
    CK_RV rv;

    if (!no_context(w) || !is_wrappable(w, inlen) || (which = choose_wrapping(s, w->err)) < 0)
        return 0;
    mechanism.mechanism = wrapping[which].type;
    if ((rv = s->f->C_CreateObject(s->handle, template, OBJECT_COUNT + 1, &object)) != CKR_OK)
        return kmsenv_pkcs11_fault(s, "C_CreateObject", rv, w->err);
    rv = s->f->C_WrapKey(s->handle, &mechanism, w->key, object, ciphertext, &n);
    s->f->C_DestroyObject(s->handle, object);
    if (rv != CKR_OK)
        return kmsenv_pkcs11_fault(s, "C_WrapKey", rv, w->err);
    return kmsenv_blob_copy(out, ciphertext, n, w->err) && kmsenv_blob_extra(out, &wrapping[which].kind, 1, w->err);
}

/* --- unwrapping ----------------------------------------------------------- */

/* Some tokens call a wrap that does not open a general error. One that still answers has not failed. */
static int unwrap_fault(KMSENV_PKCS11_SESSION *s, const char *function, CK_RV rv, KMSENV_ERROR *err)
{
    if (!kmsenv_pkcs11_is_vague(rv) || !kmsenv_pkcs11_answers(s))
        return kmsenv_pkcs11_fault(s, function, rv, err);
    return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "%s: 0x%lx: the token does not open the wrapped data key: it is damaged, "
                            "was wrapped by another key, or its encryption context is not the one given", function, rv);
}

static int too_long(const KMSENV_PKCS11_WRAP *w, size_t n)
{
    return kmsenv_error_set(w->err, KMSENV_R_KMS_WRAP_REJECTED, "%zu bytes come out of the wrapped data key, more than it can hold", n);
}

static int open_gcm(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    unsigned char *plaintext = NULL;      /* tokens may want room for as much as the ciphertext has */
    CK_ULONG n = in->ciphertext_len;
    const char *function = "C_DecryptInit";
    int ok = 0;
    CK_RV rv;
    GCM gcm;

    if (!gcm_init(&gcm, w, in->extra_len - 1))
        return 0;
    memcpy(gcm.iv, in->extra + 1, in->extra_len - 1);
    if ((plaintext = kmsenv_secret_zalloc(n)) == NULL) {
        gcm_reset(&gcm);
        return kmsenv_error_set(w->err, KMSENV_R_OUT_OF_MEMORY, "no memory to unwrap a data key");
    }
    if ((rv = s->f->C_DecryptInit(s->handle, &gcm.mechanism, w->key)) == CKR_OK) {
        function = "C_Decrypt";
        rv = s->f->C_Decrypt(s->handle, in->ciphertext, in->ciphertext_len, plaintext, &n);
    }
    if (rv != CKR_OK)
        unwrap_fault(s, function, rv, w->err);
    else if (n > *outlen)
        too_long(w, n);
    else
        ok = 1;
    if (ok) {
        memcpy(out, plaintext, n);
        *outlen = n;
    }
    kmsenv_secret_free(plaintext);
    gcm_reset(&gcm);
    return ok;
}

/* The value of an object that was unwrapped. */
static int read_object(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w, CK_OBJECT_HANDLE object, unsigned char *out, size_t *outlen)
{
    CK_ATTRIBUTE value = { CKA_VALUE, NULL, 0 };
    CK_RV rv = s->f->C_GetAttributeValue(s->handle, object, &value, 1);

    if (rv == CKR_OK && value.ulValueLen > *outlen)
        return too_long(w, value.ulValueLen);
    value.pValue = out;
    if (rv == CKR_OK)
        rv = s->f->C_GetAttributeValue(s->handle, object, &value, 1);
    if (rv != CKR_OK)
        return kmsenv_pkcs11_fault(s, "C_GetAttributeValue", rv, w->err);
    if (value.ulValueLen > *outlen)
        return too_long(w, value.ulValueLen);
    *outlen = value.ulValueLen;
    return 1;
}

static int open_kwp(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    CK_MECHANISM mechanism = { in->extra[0] == BY_KWP ? KMSENV_CKM_AES_KEY_WRAP_KWP : CKM_AES_KEY_WRAP_PAD, NULL, 0 };
    CK_ATTRIBUTE template[OBJECT_COUNT] = { OBJECT_ATTRIBUTES };
    CK_OBJECT_HANDLE object;
    CK_RV rv;
    int ok;

    if (!no_context(w))
        return 0;
    rv = s->f->C_UnwrapKey(s->handle, &mechanism, w->key, in->ciphertext, in->ciphertext_len, template, OBJECT_COUNT, &object);
    if (rv != CKR_OK)
        return unwrap_fault(s, "C_UnwrapKey", rv, w->err);
    ok = read_object(s, w, object, out, outlen);
    s->f->C_DestroyObject(s->handle, object);
    return ok;
}

int kmsenv_pkcs11_unwrap(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    int kind = in->extra_len > 0 ? in->extra[0] : 0;

    if (in->ciphertext_len <= WRAP_MAX) {
        if (kind == BY_GCM && in->extra_len >= 1 + IV_LEN && in->extra_len <= 1 + IV_MAX && in->ciphertext_len > TAG_LEN)
            return open_gcm(s, w, in, out, outlen);
        if ((kind == BY_KWP || kind == BY_PAD) && in->extra_len == 1)
            return open_kwp(s, w, in, out, outlen);
    }
    return kmsenv_error_set(w->err, KMSENV_R_KMS_WRAP_REJECTED, "the wrap is not of a kind that is known here, or too long: it is "
                            "damaged, or of a later version of kmsenv");
}
