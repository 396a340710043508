#include <string.h>
#include <openssl/crypto.h>
#include "ops/reference_table.h"

#define PREFIX "KMS-"

/* The n-th algorithm of an operation: 0 if it cannot be keyed by reference. */
typedef int ADAPT(KMSENV_REFERENCE_TABLE *t, size_t n, const OSSL_DISPATCH *inner, void *provctx);

/* The algorithms of one operation, in the table. */
typedef struct list_st {
    KMSENV_REFERENCE_ENTRY *entry;
    size_t *count, max;
    ADAPT *adapt;
} LIST;

static int adapt_cipher(KMSENV_REFERENCE_TABLE *t, size_t n, const OSSL_DISPATCH *inner, void *provctx)
{
    memset(&t->cipher[n], 0, sizeof(t->cipher[n]));
    t->cipher[n].provctx = provctx;
    return kmsenv_cipher_reference_adapt(inner, n, &t->cipher[n], t->cipher_entry[n].functions);
}

static int adapt_mac(KMSENV_REFERENCE_TABLE *t, size_t n, const OSSL_DISPATCH *inner, void *provctx)
{
    memset(&t->mac[n], 0, sizeof(t->mac[n]));
    t->mac[n].provctx = provctx;
    return kmsenv_mac_reference_adapt(inner, n, &t->mac[n], t->mac_entry[n].functions);
}

static size_t first_name(const char *names)
{
    return strcspn(names, ":");
}

static int is_known(const LIST *l, const char *names)
{
    size_t i, n = first_name(names);

    for (i = 0; i < *l->count; i++)
        if (first_name(l->entry[i].names) == n && OPENSSL_strncasecmp(l->entry[i].names, names, n) == 0)
            return 1;
    return 0;
}

/* "KMS-" and the name by which people know the algorithm; its object identifier and other names stay with the ordinary one. */
static char *own_name(const char *names)
{
    size_t n = first_name(names);
    char *name = OPENSSL_malloc(sizeof(PREFIX) + n);

    if (name == NULL)
        return NULL;
    memcpy(name, PREFIX, sizeof(PREFIX) - 1);
    memcpy(name + sizeof(PREFIX) - 1, names, n);
    name[sizeof(PREFIX) - 1 + n] = '\0';
    return name;
}

/* All of a provider that can be given a reference. A table that lacks one would let a reference be used as a key. */
static int add_all(KMSENV_REFERENCE_TABLE *t, const LIST *l, const KMSENV_CRYPTO_TABLE *from)
{
    const OSSL_ALGORITHM *a;
    KMSENV_REFERENCE_ENTRY *e;

    for (a = from->algorithms; a != NULL && a->algorithm_names != NULL; a++) {
        if (is_known(l, a->algorithm_names))
            continue;
        if (*l->count == l->max)
            return 0;
        if (!l->adapt(t, *l->count, a->implementation, from->provctx))
            continue;
        e = &l->entry[*l->count];
        e->names = a->algorithm_names;
        if ((e->own_name = own_name(e->names)) == NULL)
            return 0;
        ++*l->count;
    }
    return 1;
}

static int fill(KMSENV_REFERENCE_TABLE *t, KMSENV_CRYPTO *crypto, int operation, const LIST *l)
{
    KMSENV_CRYPTO_TABLE from[2];
    size_t i, n = kmsenv_crypto_tables(crypto, operation, from);

    for (i = 0; i < n && add_all(t, l, &from[i]); i++)
        ;
    return n > 0 && i == n;
}

static int fill_all(KMSENV_REFERENCE_TABLE *t, KMSENV_CRYPTO *crypto)
{
    const LIST ciphers = { t->cipher_entry, &t->ciphers, KMSENV_REFERENCE_CIPHERS_MAX, adapt_cipher },
               macs = { t->mac_entry, &t->macs, KMSENV_REFERENCE_MACS_MAX, adapt_mac };

    return fill(t, crypto, OSSL_OP_CIPHER, &ciphers) && fill(t, crypto, OSSL_OP_MAC, &macs);
}

KMSENV_REFERENCE_TABLE *kmsenv_reference_table_new(KMSENV_CRYPTO *crypto)
{
    KMSENV_REFERENCE_TABLE *t = OPENSSL_zalloc(sizeof(*t));

    if (t != NULL && fill_all(t, crypto))
        return t;
    kmsenv_reference_table_free(t);
    return NULL;
}

static void free_names(KMSENV_REFERENCE_ENTRY *entry, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++)
        OPENSSL_free(entry[i].own_name);
}

void kmsenv_reference_table_free(KMSENV_REFERENCE_TABLE *table)
{
    if (table == NULL)
        return;
    free_names(table->cipher_entry, table->ciphers);
    free_names(table->mac_entry, table->macs);
    OPENSSL_free(table);
}
