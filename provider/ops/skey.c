/* Symmetric key objects, and the way from one to the bytes of a key. */
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include "core/secret.h"
#include "ops/skey.h"

static KMSENV_SKEY *new_empty(KMSENV_PROVCTX *provctx)
{
    KMSENV_SKEY *s = OPENSSL_zalloc(sizeof(*s));

    if (s != NULL)
        s->provctx = provctx;
    return s;
}

static void set_reference(KMSENV_SKEY *s)
{
    static const char digits[] = "0123456789abcdef";
    size_t i;

    kmsenv_reference_make(s->key->key->id, s->reference);
    for (i = 0; i < sizeof(s->reference); i++) {
        s->id[2 * i] = digits[s->reference[i] >> 4];
        s->id[2 * i + 1] = digits[s->reference[i] & 15];
    }
}

KMSENV_SKEY *kmsenv_skey_new_data_key(KMSENV_PROVCTX *provctx, KMSENV_KEY *key, int in_keyring)
{
    KMSENV_SKEY *s = key == NULL || key->key == NULL ? NULL : new_empty(provctx);

    if (s == NULL) {
        kmsenv_key_free(key);
        return NULL;
    }
    s->key = key;
    s->in_keyring = in_keyring;
    set_reference(s);
    return s;
}

KMSENV_SKEY *kmsenv_skey_new_bytes(KMSENV_PROVCTX *provctx, const void *bytes, size_t length)
{
    KMSENV_SKEY *s = new_empty(provctx);

    if (s == NULL)
        return NULL;
    if ((s->bytes = kmsenv_secret_zalloc(length == 0 ? 1 : length)) == NULL) {
        kmsenv_skey_free(s);
        return NULL;
    }
    if (length > 0)
        memcpy(s->bytes, bytes, length);
    s->length = length;
    return s;
}

void kmsenv_skey_free(KMSENV_SKEY *skey)
{
    if (skey == NULL)
        return;
    kmsenv_key_free(skey->key);
    kmsenv_secret_free(skey->bytes);
    OPENSSL_free(skey);
}

/* Is it the key's DEK, and may that be used without asking? No lock. */
static int is_at_hand(const KMSENV_SKEY *skey, const KMSENV_DEK *dek)
{
    if (dek == NULL)
        return 0;
    return skey->in_keyring ? kmsenv_dek_is_named(dek, skey->reference, sizeof(skey->reference))
                            : kmsenv_dek_is_of(dek, skey->key->der, skey->key->der_len);
}

/* Not inlined: room for an error costs those that need none. */
static __attribute__((noinline)) int ask(const KMSENV_SKEY *skey, KMSENV_DEK **held)
{
    const KMSENV_DATA_KEY *key = skey->key->key;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const KMSENV_RUNTIME *runtime;
    KMSENV_DEK *dek = NULL;

    ERR_set_mark();
    if ((runtime = skey->provctx->runtime(skey->provctx, &err)) != NULL)
        dek = skey->in_keyring ? kmsenv_deks_get_by_id(runtime->deks, key->id, key->length, *held, &err)
                               : kmsenv_deks_get_to_decrypt(runtime->deks, NULL, skey->key->der, skey->key->der_len, *held, &err);
    ERR_pop_to_mark();
    if (dek == NULL) {
        kmsenv_error_prefix(&err, "key object: ");
        return kmsenv_reporter_raise(skey->provctx->reporter, &err);
    }
    if (dek != *held)
        kmsenv_dek_free(*held);
    *held = dek;
    return 1;
}

int kmsenv_skey_get0_bytes(const KMSENV_SKEY *skey, KMSENV_DEK **dek, const unsigned char **bytes, size_t *length)
{
    if (skey->key == NULL) {
        kmsenv_dek_free(*dek);
        *dek = NULL;
        *bytes = skey->bytes;
        *length = skey->length;
        return 1;
    }
    if (!is_at_hand(skey, *dek) && !ask(skey, dek))
        return 0;
    *bytes = kmsenv_dek_get0_secret(*dek);
    *length = kmsenv_dek_get_length(*dek);
    return 1;
}

int kmsenv_skey_unsuitable(const KMSENV_SKEY *skey, size_t length, size_t wanted)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    kmsenv_error_set(&err, KMSENV_R_DATA_KEY_UNSUITABLE, "the key object%s%s has %zu bytes; what it was given to needs a key of %zu",
                     skey->key == NULL ? "" : " ", skey->id, length, wanted);
    return kmsenv_reporter_raise(skey->provctx->reporter, &err);
}
