#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/clock.h"
#include "core/secret.h"
#include "dek/deks.h"

#define PRKS_MAX 16   /* caller's keys remembered per DEK; further ones are extracted each time */

typedef struct prk_st {
    unsigned char *caller_key;     /* secret memory */
    KMSENV_HMAC *mac;
    struct prk_st *next;
} PRK;

struct kmsenv_dek_st {
    KMSENV_CRYPTO *crypto;
    size_t length;
    unsigned char *secret;
    unsigned char reference[KMSENV_DEK_LEN_MAX];   /* to it: as many bytes of this as the DEK has; the id is in it */
    unsigned char *der[2];         /* with and without the wraps */
    size_t der_len[2];
    KMSENV_HMAC *prk;              /* for a caller without a key */
    PRK *_Atomic other_prks;       /* for callers with one; entries are only ever added */
    /* What changes is kept off the cache lines of what every message reads. */
    _Alignas(64) atomic_int refs;
    _Atomic uint64_t until_ms;
    _Atomic int64_t messages_left, bytes_left;
};

int kmsenv_dek_id_of(KMSENV_CRYPTO *crypto, const unsigned char *secret, size_t length,
                     unsigned char id[KMSENV_DEK_ID_LEN], KMSENV_ERROR *err)
{
    unsigned char mac[32];

    if (!kmsenv_crypto_hmac_sha256(crypto, secret, length, KMSENV_DEK_ID_LABEL, strlen(KMSENV_DEK_ID_LABEL), mac, err))
        return 0;
    memcpy(id, mac, KMSENV_DEK_ID_LEN);
    OPENSSL_cleanse(mac, sizeof(mac));
    return 1;
}

/* PRK never leaves secret memory but for HMAC's own state in libcrypto, which cleanses it. */
static KMSENV_HMAC *extract(KMSENV_DEK *dek, const unsigned char caller_key[KMSENV_CALLER_KEY_LEN], KMSENV_ERROR *err)
{
    unsigned char *prk = kmsenv_secret_zalloc(32);
    KMSENV_HMAC *mac = NULL;

    if (prk == NULL)
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no secret memory for a key schedule");
    else if (kmsenv_crypto_hmac_sha256(dek->crypto, caller_key, KMSENV_CALLER_KEY_LEN, dek->secret, dek->length, prk, err))
        mac = kmsenv_hmac_new(dek->crypto, prk, err);
    kmsenv_secret_free(prk);
    return mac;
}

KMSENV_DEK *kmsenv_dek_new(KMSENV_CRYPTO *crypto, const KMSENV_DATA_KEY *key, unsigned char *secret, KMSENV_ERROR *err)
{
    static const unsigned char no_key[KMSENV_CALLER_KEY_LEN];
    unsigned char id[KMSENV_DEK_ID_LEN];
    KMSENV_DEK *dek = aligned_alloc(_Alignof(KMSENV_DEK), sizeof(*dek));

    if (dek == NULL) {
        kmsenv_secret_free(secret);
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a data key");
        return NULL;
    }
    memset(dek, 0, sizeof(*dek));
    atomic_init(&dek->refs, 1);
    dek->crypto = crypto;
    dek->secret = secret;
    dek->length = key->length;
    kmsenv_reference_make(key->id, dek->reference);
    if (!kmsenv_dek_id_of(crypto, secret, key->length, id, err))
        goto failed;
    if (CRYPTO_memcmp(id, key->id, sizeof(id)) != 0) {
        kmsenv_error_set(err, KMSENV_R_DATA_KEY_MISMATCH, "the KMS returned another data key than the one named in the message");
        goto failed;
    }
    if (!kmsenv_data_key_encode(key, 0, &dek->der[0], &dek->der_len[0], err)
            || !kmsenv_data_key_encode(key, 1, &dek->der[1], &dek->der_len[1], err)
            || (dek->prk = extract(dek, no_key, err)) == NULL)
        goto failed;
    return dek;
failed:
    kmsenv_dek_free(dek);
    return NULL;
}

int kmsenv_dek_up_ref(KMSENV_DEK *dek)
{
    atomic_fetch_add_explicit(&dek->refs, 1, memory_order_relaxed);
    return 1;
}

void kmsenv_dek_free(KMSENV_DEK *dek)
{
    PRK *p, *next;

    if (dek == NULL || atomic_fetch_sub_explicit(&dek->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (p = atomic_load(&dek->other_prks); p != NULL; p = next) {
        next = p->next;
        kmsenv_secret_free(p->caller_key);
        kmsenv_hmac_free(p->mac);
        OPENSSL_free(p);
    }
    kmsenv_hmac_free(dek->prk);
    kmsenv_secret_free(dek->secret);
    OPENSSL_free(dek->der[0]);
    OPENSSL_free(dek->der[1]);
    free(dek);
}

/* The remembered context of that caller's key; *count says how many were looked at. */
static const PRK *find_prk(const PRK *p, const unsigned char *caller_key, int *count)
{
    for (*count = 0; p != NULL; p = p->next, ++*count)
        if (CRYPTO_memcmp(p->caller_key, caller_key, KMSENV_CALLER_KEY_LEN) == 0)
            return p;
    return NULL;
}

/* Remembers mac, which is taken over. Returns 0 if there is no memory to. */
static int add_prk(KMSENV_DEK *dek, const unsigned char *caller_key, KMSENV_HMAC *mac)
{
    PRK *p = OPENSSL_zalloc(sizeof(*p));

    if (p == NULL || (p->caller_key = kmsenv_secret_zalloc(KMSENV_CALLER_KEY_LEN)) == NULL) {
        OPENSSL_free(p);
        return 0;
    }
    p->mac = mac;
    memcpy(p->caller_key, caller_key, KMSENV_CALLER_KEY_LEN);
    p->next = atomic_load(&dek->other_prks);
    while (!atomic_compare_exchange_weak(&dek->other_prks, &p->next, p))
        ;
    return 1;
}

/* For each message, and its key may be secret: all bytes are looked at, whatever they are. */
static int is_none(const unsigned char caller_key[KMSENV_CALLER_KEY_LEN])
{
    unsigned char any = 0;
    size_t i;

    for (i = 0; i < KMSENV_CALLER_KEY_LEN; i++)
        any |= caller_key[i];
    return any == 0;
}

int kmsenv_dek_get_prk(KMSENV_DEK *dek, const unsigned char *caller_key,
                       const KMSENV_HMAC **prk, KMSENV_HMAC **own, KMSENV_ERROR *err)
{
    KMSENV_HMAC *mac;
    const PRK *p;
    int count;

    *own = NULL;
    *prk = dek->prk;
    if (caller_key == NULL || is_none(caller_key))
        return 1;
    p = find_prk(atomic_load_explicit(&dek->other_prks, memory_order_acquire), caller_key, &count);
    if (p != NULL) {
        *prk = p->mac;
        return 1;
    }
    if ((mac = extract(dek, caller_key, err)) == NULL)
        return 0;
    *prk = mac;
    if (count >= PRKS_MAX || !add_prk(dek, caller_key, mac))
        *own = mac;
    return 1;
}

const unsigned char *kmsenv_dek_get0_id(const KMSENV_DEK *dek)
{
    return dek->reference + KMSENV_REFERENCE_MARK_LEN;
}

const unsigned char *kmsenv_dek_get0_secret(const KMSENV_DEK *dek)
{
    return dek->secret;
}

const unsigned char *kmsenv_dek_get0_secret_named(const KMSENV_DEK *dek, const unsigned char *key, size_t keylen)
{
    return keylen == dek->length && memcmp(key, dek->reference, keylen) == 0
           && kmsenv_dek_is_granted(dek, kmsenv_clock_coarse_ms()) ? dek->secret : NULL;
}

size_t kmsenv_dek_get_length(const KMSENV_DEK *dek)
{
    return dek->length;
}

const unsigned char *kmsenv_dek_get0_der(const KMSENV_DEK *dek, int detached, size_t *len)
{
    *len = dek->der_len[detached != 0];
    return dek->der[detached != 0];
}

void kmsenv_dek_grant(KMSENV_DEK *dek, uint64_t until_ms, uint64_t messages, uint64_t bytes)
{
    atomic_store(&dek->messages_left, messages > INT64_MAX / 2 ? INT64_MAX / 2 : (int64_t)messages);
    atomic_store(&dek->bytes_left, bytes > INT64_MAX / 2 ? INT64_MAX / 2 : (int64_t)bytes);
    atomic_store(&dek->until_ms, until_ms);
}

void kmsenv_dek_revoke(KMSENV_DEK *dek)
{
    atomic_store(&dek->until_ms, 0);
}

int kmsenv_dek_is_granted(const KMSENV_DEK *dek, uint64_t now_ms)
{
    return now_ms < atomic_load_explicit(&dek->until_ms, memory_order_acquire);
}

int kmsenv_dek_take_message(KMSENV_DEK *dek)
{
    return atomic_fetch_sub_explicit(&dek->messages_left, 1, memory_order_relaxed) > 0;
}

void kmsenv_dek_take_bytes(KMSENV_DEK *dek, uint64_t n)
{
    atomic_fetch_sub_explicit(&dek->bytes_left, (int64_t)n, memory_order_relaxed);
}

int kmsenv_dek_is_spent(const KMSENV_DEK *dek)
{
    return atomic_load_explicit(&dek->messages_left, memory_order_relaxed) <= 0
        || atomic_load_explicit(&dek->bytes_left, memory_order_relaxed) <= 0;
}
