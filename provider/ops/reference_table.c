#include <string.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include "ops/cipher_reference.h"

#define PREFIX "KMS-"

static size_t key_length(const KMSENV_INNER_CIPHER *cipher)
{
    size_t keylen = 0;
    OSSL_PARAM params[2] = { OSSL_PARAM_construct_size_t(OSSL_CIPHER_PARAM_KEYLEN, &keylen), OSSL_PARAM_construct_end() };

    return cipher->get_params(params) ? keylen : 0;
}

static size_t first_name(const char *names)
{
    return strcspn(names, ":");
}

static int is_known(const KMSENV_REFERENCE_TABLE *t, const char *names)
{
    size_t i, n = first_name(names);

    for (i = 0; i < t->count; i++)
        if (first_name(t->cipher[i].names) == n && OPENSSL_strncasecmp(t->cipher[i].names, names, n) == 0)
            return 1;
    return 0;
}

/* "KMS-" and the name by which people know the cipher; its object identifier and other names stay with the ordinary one. */
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

/* All ciphers of a provider that can be given a reference. A table that lacks one would let a reference be used as a key. */
static int add_all(KMSENV_REFERENCE_TABLE *t, const KMSENV_CRYPTO_TABLE *from)
{
    const OSSL_ALGORITHM *a;
    KMSENV_INNER_CIPHER *c;

    for (a = from->algorithms; a != NULL && a->algorithm_names != NULL; a++) {
        if (is_known(t, a->algorithm_names))
            continue;
        if (t->count == KMSENV_REFERENCE_CIPHERS_MAX)
            return 0;
        c = &t->cipher[t->count];
        memset(c, 0, sizeof(*c));
        c->names = a->algorithm_names;
        c->provctx = from->provctx;
        if (!kmsenv_cipher_reference_adapt(a->implementation, t->count, c, t->functions[t->count])
            || key_length(c) < KMSENV_REFERENCE_KEY_MIN)
            continue;
        if ((t->name[t->count] = own_name(c->names)) == NULL)
            return 0;
        t->count++;
    }
    return 1;
}

KMSENV_REFERENCE_TABLE *kmsenv_reference_table_new(KMSENV_CRYPTO *crypto)
{
    KMSENV_REFERENCE_TABLE *t = OPENSSL_zalloc(sizeof(*t));
    KMSENV_CRYPTO_TABLE from[2];
    size_t i, n;

    if (t == NULL)
        return NULL;
    n = kmsenv_crypto_tables(crypto, OSSL_OP_CIPHER, from);
    for (i = 0; i < n && add_all(t, &from[i]); i++)
        ;
    if (n > 0 && i == n)
        return t;
    kmsenv_reference_table_free(t);
    return NULL;
}

void kmsenv_reference_table_free(KMSENV_REFERENCE_TABLE *table)
{
    size_t i;

    if (table == NULL)
        return;
    for (i = 0; i < table->count; i++)
        OPENSSL_free(table->name[i]);
    OPENSSL_free(table);
}
