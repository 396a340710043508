/* From key references to data keys. */
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/lhash.h>
#include "core/clock.h"
#include "core/lock.h"
#include "dek/deks_local.h"
#include "dek/keyring.h"

static const unsigned char reference_mark[KMSENV_REFERENCE_MARK_LEN] = KMSENV_REFERENCE_MARK;

/* --- the bytes ------------------------------------------------------------ */

int kmsenv_reference_parse(const unsigned char *key, size_t len, const unsigned char **id, size_t *idlen)
{
    size_t i;

    if (!kmsenv_reference_is(key, len))
        return 0;
    for (i = KMSENV_REFERENCE_LEN; i < len; i++)
        if (key[i] != 0)
            return 0;
    *id = key + sizeof(reference_mark);
    *idlen = len < KMSENV_REFERENCE_LEN ? len - sizeof(reference_mark) : KMSENV_DEK_ID_LEN;
    return 1;
}

void kmsenv_reference_make(const unsigned char id[KMSENV_DEK_ID_LEN], unsigned char out[KMSENV_REFERENCE_LEN])
{
    memcpy(out, reference_mark, sizeof(reference_mark));
    memcpy(out + sizeof(reference_mark), id, KMSENV_DEK_ID_LEN);
}

int kmsenv_reference_from_hex(const char *hex, unsigned char out[KMSENV_DEK_LEN_MAX], size_t *len)
{
    unsigned char id[KMSENV_DEK_ID_LEN];
    size_t digits = strlen(hex), i;
    const unsigned char *rest;
    int high, low;

    if (digits % 2 != 0 || digits > 2 * KMSENV_DEK_LEN_MAX)
        return 0;
    for (i = 0; i < digits / 2; i++) {
        high = OPENSSL_hexchar2int((unsigned char)hex[2 * i]);
        low = OPENSSL_hexchar2int((unsigned char)hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return 0;
        out[i] = (unsigned char)(high << 4 | low);
    }
    if (kmsenv_reference_parse(out, digits / 2, &rest, len)) {
        *len = digits / 2;
        return 1;
    }
    if (!kmsenv_dek_id_from_hex(hex, id))
        return 0;
    kmsenv_reference_make(id, out);
    *len = KMSENV_REFERENCE_LEN;
    return 1;
}

/* --- what they mean ------------------------------------------------------- */

typedef struct meaning_st {
    unsigned char id[KMSENV_DEK_ID_LEN];   /* as far as the reference has it */
    size_t idlen;
    unsigned char *der;
    size_t der_len;
    uint64_t found_ms;
    struct meaning_st *next, **link;   /* the list of all, and what points to this one in it */
} MEANING;

DEFINE_LHASH_OF(MEANING);

struct kmsenv_references_st {
    KMSENV_LOCK *lock;
    LHASH_OF(MEANING) *table;
    MEANING *all;                      /* lh_*_doall() compiled for OpenSSL 3.0 crashes on 3.3 and later */
    size_t entries;
    uint64_t max_age_ms;
};

static unsigned long meaning_hash(const MEANING *m)
{
    unsigned long hash;

    memcpy(&hash, m->id, sizeof(hash));    /* ids are HMACs: any part of one is as good as a hash */
    return hash;
}

static int meaning_cmp(const MEANING *a, const MEANING *b)
{
    return a->idlen != b->idlen || memcmp(a->id, b->id, a->idlen) != 0;
}

static void meaning_free(MEANING *m)
{
    if (m == NULL)
        return;
    OPENSSL_free(m->der);
    OPENSSL_free(m);
}

static void join(KMSENV_REFERENCES *r, MEANING *m)
{
    m->next = r->all;
    m->link = &r->all;
    if (m->next != NULL)
        m->next->link = &m->next;
    r->all = m;
}

static void leave(MEANING *m)
{
    *m->link = m->next;
    if (m->next != NULL)
        m->next->link = m->link;
}

static void free_all(KMSENV_REFERENCES *r)
{
    MEANING *m, *next;

    for (m = r->all; m != NULL; m = next) {
        next = m->next;
        meaning_free(m);
    }
    r->all = NULL;
}

KMSENV_REFERENCES *kmsenv_references_new(size_t entries, uint64_t max_age_ms)
{
    KMSENV_REFERENCES *r = OPENSSL_zalloc(sizeof(*r));

    if (r == NULL)
        return NULL;
    r->entries = entries;
    r->max_age_ms = max_age_ms;
    r->lock = kmsenv_lock_new(KMSENV_LEVEL_CACHE);
    r->table = lh_MEANING_new(meaning_hash, meaning_cmp);
    if (r->lock != NULL && r->table != NULL)
        return r;
    kmsenv_references_free(r);
    return NULL;
}

void kmsenv_references_free(KMSENV_REFERENCES *references)
{
    if (references == NULL)
        return;
    lh_MEANING_free(references->table);
    free_all(references);
    kmsenv_lock_free(references->lock);
    OPENSSL_free(references);
}

/* A copy of what is remembered, if that is not too old. */
static int recall(KMSENV_REFERENCES *r, const MEANING *asked, unsigned char **der, size_t *len)
{
    const MEANING *m;

    *der = NULL;
    kmsenv_lock_take(r->lock);
    m = lh_MEANING_retrieve(r->table, asked);
    if (m != NULL && asked->found_ms - m->found_ms < r->max_age_ms && (*der = OPENSSL_memdup(m->der, m->der_len)) != NULL)
        *len = m->der_len;
    kmsenv_lock_release(r->lock);
    return *der != NULL;
}

/* Not remembering is no failure. The table is small and cheap to fill: when it is full it starts anew. */
static void remember(KMSENV_REFERENCES *r, const MEANING *asked, const unsigned char *der, size_t len)
{
    MEANING *m = OPENSSL_memdup(asked, sizeof(*asked)), *old;

    if (m == NULL || (m->der = OPENSSL_memdup(der, len)) == NULL) {
        OPENSSL_free(m);
        return;
    }
    m->der_len = len;
    kmsenv_lock_take(r->lock);
    if (lh_MEANING_num_items(r->table) >= r->entries) {
        lh_MEANING_flush(r->table);
        free_all(r);
    }
    if ((old = lh_MEANING_insert(r->table, m)) != NULL)
        leave(old);
    if (lh_MEANING_error(r->table))
        old = m;
    else
        join(r, m);
    kmsenv_lock_release(r->lock);
    meaning_free(old);
}

/* From memory if *remembered, which says on return whether it was; otherwise from the keyring. */
static int find(KMSENV_DEKS *deks, const unsigned char *reference, size_t len, int *remembered,
                unsigned char **der, size_t *der_len, KMSENV_ERROR *err)
{
    MEANING asked = { .found_ms = kmsenv_clock_coarse_ms() };
    const unsigned char *id;
    KMSENV_DATA_KEY *key;
    int ok;

    if (!kmsenv_reference_parse(reference, len, &id, &asked.idlen))
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "the key begins like a key reference but is none: what follows "
                                "its %d bytes must be zeros", KMSENV_REFERENCE_LEN);
    memcpy(asked.id, id, asked.idlen);
    if ((*remembered = *remembered && recall(deks->references, &asked, der, der_len)) != 0)
        return 1;
    if ((key = kmsenv_keyring_find(deks->keyring, id, asked.idlen, err)) == NULL)
        return 0;
    if ((ok = kmsenv_data_key_encode(key, 0, der, der_len, err)) != 0)
        remember(deks->references, &asked, *der, *der_len);
    kmsenv_data_key_free(key);
    return ok;
}

int kmsenv_references_find(KMSENV_DEKS *deks, const unsigned char *reference, size_t len,
                           unsigned char **der, size_t *der_len, KMSENV_ERROR *err)
{
    int remembered = 1;

    return find(deks, reference, len, &remembered, der, der_len, err);
}

/* --- the data key --------------------------------------------------------- */

int kmsenv_dek_is_named(const KMSENV_DEK *dek, const unsigned char *key, size_t keylen)
{
    const unsigned char *id;
    size_t idlen;

    return kmsenv_reference_parse(key, keylen, &id, &idlen) && memcmp(kmsenv_dek_get0_id(dek), id, idlen) == 0
           && kmsenv_dek_is_granted(dek, kmsenv_clock_coarse_ms());
}

/* After the remembered wraps did not open: has somebody rewrapped the data key since? Otherwise err stays. */
static KMSENV_DEK *get_rewrapped(KMSENV_DEKS *deks, const unsigned char *reference, size_t len, const unsigned char *old, size_t old_len,
                                 KMSENV_DEK *have, KMSENV_ERROR *err)
{
    KMSENV_ERROR ignored = KMSENV_ERROR_INIT;
    KMSENV_DEK *dek = NULL;
    unsigned char *der;
    int remembered = 0;
    size_t n;

    if (!find(deks, reference, len, &remembered, &der, &n, &ignored))
        return NULL;
    if (n != old_len || memcmp(der, old, n) != 0) {
        kmsenv_error_clear(err);
        dek = kmsenv_deks_get_to_decrypt(deks, NULL, der, n, have, err);
    }
    OPENSSL_free(der);
    return dek;
}

static KMSENV_DEK *get(KMSENV_DEKS *deks, const unsigned char *reference, size_t len, KMSENV_DEK *have, KMSENV_ERROR *err)
{
    KMSENV_DEK *dek = NULL;
    unsigned char *der;
    int remembered = 1;
    size_t der_len;

    if (have != NULL && kmsenv_dek_is_named(have, reference, len)) {
        kmsenv_count(deks->services.counters, KMSENV_COUNTER_CACHE_HITS, 1);
        return have;
    }
    if (find(deks, reference, len, &remembered, &der, &der_len, err)) {
        dek = kmsenv_deks_get_to_decrypt(deks, NULL, der, der_len, have, err);
        if (dek == NULL && remembered)
            dek = get_rewrapped(deks, reference, len, der, der_len, have, err);
        OPENSSL_free(der);
    }
    return dek;
}

KMSENV_DEK *kmsenv_deks_get_named(KMSENV_DEKS *deks, const unsigned char *reference, size_t len, size_t least,
                                  KMSENV_DEK *have, KMSENV_ERROR *err)
{
    return kmsenv_deks_check_length(get(deks, reference, len, have, err), have, least, KMSENV_DEK_LEN_MAX, err);
}

KMSENV_DEK *kmsenv_deks_get_by_reference(KMSENV_DEKS *deks, const unsigned char *key, size_t keylen, KMSENV_DEK *have,
                                         KMSENV_ERROR *err)
{
    KMSENV_DEK *dek = kmsenv_deks_check_length(get(deks, key, keylen, have, err), have, keylen, keylen, err);

    if (dek == NULL)
        kmsenv_error_prefix(err, "key reference: ");
    return dek;
}

KMSENV_DEK *kmsenv_deks_get_by_id(KMSENV_DEKS *deks, const unsigned char id[KMSENV_DEK_ID_LEN], size_t length, KMSENV_DEK *have,
                                  KMSENV_ERROR *err)
{
    unsigned char reference[KMSENV_REFERENCE_LEN];

    kmsenv_reference_make(id, reference);
    return kmsenv_deks_check_length(get(deks, reference, sizeof(reference), have, err), have, length, length, err);
}

int kmsenv_deks_find(KMSENV_DEKS *deks, const unsigned char id[KMSENV_DEK_ID_LEN], unsigned char **der, size_t *len, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *key = kmsenv_keyring_load(deks->keyring, id, err);
    int ok = key != NULL && kmsenv_data_key_encode(key, 0, der, len, err);

    kmsenv_data_key_free(key);
    return ok;
}

const char *kmsenv_deks_get0_keyring(const KMSENV_DEKS *deks)
{
    return deks->keyring;
}
