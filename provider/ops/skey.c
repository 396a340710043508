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

/* The mark that every key reference begins with, in hex; what follows is the id. */
static void set_id(KMSENV_SKEY *s)
{
    static const char mark[] = "6b6d73656e763a01";

    memcpy(s->id, mark, sizeof(mark) - 1);
    kmsenv_dek_id_hex(s->key->key->id, s->id + sizeof(mark) - 1);
}

KMSENV_SKEY *kmsenv_skey_new_data_key(KMSENV_PROVCTX *provctx, KMSENV_KEY *key)
{
    KMSENV_SKEY *s = key == NULL || key->key == NULL ? NULL : new_empty(provctx);

    if (s == NULL) {
        kmsenv_key_free(key);
        return NULL;
    }
    s->key = key;
    set_id(s);
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

/* Replaces the DEK held, if it is another one. */
static int hold(KMSENV_DEK **held, KMSENV_DEK *dek)
{
    if (dek == NULL)
        return 0;
    if (dek != *held)
        kmsenv_dek_free(*held);
    *held = dek;
    return 1;
}

int kmsenv_skey_get0_bytes(const KMSENV_SKEY *skey, KMSENV_DEK **dek, const unsigned char **bytes, size_t *length)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const KMSENV_RUNTIME *runtime;
    int ok;

    if (skey->key == NULL) {
        kmsenv_dek_free(*dek);
        *dek = NULL;
        *bytes = skey->bytes;
        *length = skey->length;
        return 1;
    }
    ERR_set_mark();
    ok = (runtime = skey->provctx->runtime(skey->provctx, &err)) != NULL
         && hold(dek, kmsenv_deks_get_to_decrypt(runtime->deks, NULL, skey->key->der, skey->key->der_len, *dek, &err));
    ERR_pop_to_mark();
    if (!ok)
        return kmsenv_reporter_raise(skey->provctx->reporter, &err);
    *bytes = kmsenv_dek_get0_secret(*dek);
    *length = kmsenv_dek_get_length(*dek);
    return 1;
}
