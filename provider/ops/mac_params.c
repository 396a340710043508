#include <ctype.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include "ops/mac_reference.h"

#define OURSELVES "kmsenv"

/* --- looking -------------------------------------------------------------- */

/* Of whatever type: some MACs of OpenSSL 3.0 take the bytes of any. */
static int is_key(const OSSL_PARAM *p)
{
    return strcmp(p->key, OSSL_MAC_PARAM_KEY) == 0 && p->data != NULL;
}

static int is_text(const OSSL_PARAM *p, const char *name)
{
    return strcmp(p->key, name) == 0 && p->data_type == OSSL_PARAM_UTF8_STRING && p->data != NULL;
}

static int is_ours(const OSSL_PARAM *p)
{
    return is_text(p, OSSL_MAC_PARAM_PROPERTIES) && strstr(p->data, OURSELVES) != NULL;
}

static int kind_of(const OSSL_PARAM *p)
{
    switch (p->key[0]) {
    case 'k':
        return !is_key(p) ? 0 : kmsenv_reference_is(p->data, p->data_size) ? KMSENV_MAC_REFERENCE : KMSENV_MAC_KEY;
    case 'c':
    case 'd':
        return is_text(p, OSSL_MAC_PARAM_DIGEST) || is_text(p, OSSL_MAC_PARAM_CIPHER) ? KMSENV_MAC_NAME : 0;
    case 'p':
        return is_ours(p) ? KMSENV_MAC_OURSELVES : 0;
    default:
        return 0;
    }
}

int kmsenv_mac_params_look(const OSSL_PARAM params[])
{
    const OSSL_PARAM *p;
    int found = 0;

    for (p = params; p != NULL && p->key != NULL; p++)
        found |= kind_of(p);
    return found;
}

/* --- editing -------------------------------------------------------------- */

/* Takes the word off the beginning of *text, in any case, and the blanks around it. */
static int skip(const char **text, const char *word)
{
    size_t n = strlen(word);
    int found;

    while (isspace((unsigned char)**text))
        ++*text;
    if ((found = OPENSSL_strncasecmp(*text, word, n) == 0))
        *text += n;
    while (isspace((unsigned char)**text))
        ++*text;
    return found;
}

static int asks_for_us(const char *clause)
{
    skip(&clause, "?");
    return skip(&clause, "provider") && skip(&clause, "=") && skip(&clause, OURSELVES) && (*clause == '\0' || *clause == ',');
}

/* Copies a property query without the clauses that ask for this provider. */
static void write_query(char *out, const char *query)
{
    char *start = out;
    size_t n;

    for (;; query += n + 1) {
        n = strcspn(query, ",");
        if (!asks_for_us(query)) {
            if (out > start)
                *out++ = ',';
            memcpy(out, query, n);
            out += n;
        }
        if (query[n] == '\0')
            break;
    }
    *out = '\0';
}

/* What a copy takes. */
typedef struct size_st {
    size_t params, queries;            /* bytes of property queries, with their ends */
    int keys;
} SIZE;

static SIZE size_of(const OSSL_PARAM params[])
{
    SIZE n = { 0, 0, 0 };

    for (; params[n.params].key != NULL; n.params++) {
        n.keys += is_key(&params[n.params]);
        if (is_ours(&params[n.params]))
            n.queries += strlen(params[n.params].data) + 1;
    }
    return n;
}

static int raise_error(const KMSENV_PROVCTX *provctx, int reason, const char *text)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    kmsenv_error_set(&err, reason, "%s", text);
    return kmsenv_reporter_raise(provctx->reporter, &err);
}

/* *room: for a query, and moved behind it. */
static int edit(KMSENV_PROVCTX *provctx, KMSENV_DEK **dek, OSSL_PARAM *p, char **room)
{
    const unsigned char *secret;

    if (is_key(p) && kmsenv_reference_is(p->data, p->data_size)) {
        if ((secret = kmsenv_reference_resolve(provctx, dek, p->data, p->data_size)) == NULL)
            return 0;
        p->data = (void *)secret;      /* of the same length */
    } else if (is_ours(p)) {
        write_query(*room, p->data);
        p->data = *room;
        p->data_size = strlen(*room);
        *room += p->data_size + 1;
    }
    return 1;
}

/* One allocation: the array, and the property query behind it. Of two keys one could be looked at here, and the other inside. */
OSSL_PARAM *kmsenv_mac_params_edit(KMSENV_PROVCTX *provctx, KMSENV_DEK **dek, const OSSL_PARAM params[])
{
    const SIZE n = size_of(params);
    OSSL_PARAM *copy;
    char *room;
    size_t i;

    if (n.keys > 1 && kmsenv_mac_params_look(params) & KMSENV_MAC_REFERENCE) {
        raise_error(provctx, KMSENV_R_PARAMETER_INVALID, "the key is given twice, once as a key reference");
        return NULL;
    }
    if ((copy = OPENSSL_malloc((n.params + 1) * sizeof(*copy) + n.queries)) == NULL) {
        raise_error(provctx, KMSENV_R_OUT_OF_MEMORY, "no memory for the parameters of a MAC");
        return NULL;
    }
    memcpy(copy, params, (n.params + 1) * sizeof(*copy));
    room = (char *)&copy[n.params + 1];
    for (i = 0; i < n.params; i++)
        if (!edit(provctx, dek, &copy[i], &room)) {
            OPENSSL_free(copy);
            return NULL;
        }
    return copy;
}

/* --- completing ----------------------------------------------------------- */

int kmsenv_mac_params_complete(KMSENV_PROVCTX *provctx, const OSSL_PARAM params[])
{
    static const struct { const char *param, *what; int operation; } kind[] = {
        { OSSL_MAC_PARAM_DIGEST, "digest", OSSL_OP_DIGEST }, { OSSL_MAC_PARAM_CIPHER, "cipher", OSSL_OP_CIPHER }
    };
    const OSSL_PARAM *query = OSSL_PARAM_locate_const(params, OSSL_MAC_PARAM_PROPERTIES), *p;
    const char *properties = query != NULL && is_text(query, OSSL_MAC_PARAM_PROPERTIES) ? query->data : NULL;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t i;

    for (i = 0; i < sizeof(kind) / sizeof(kind[0]); i++) {
        p = OSSL_PARAM_locate_const(params, kind[i].param);
        if (p == NULL || !is_text(p, kind[i].param)
            || kmsenv_crypto_offers(provctx->crypto, kind[i].operation, p->data, properties))
            continue;
        kmsenv_error_set(&err, KMSENV_R_CRYPTO_FAILED,
                         "the %s '%.64s'%s%.128s%s is not to be had inside this provider, which sees no other provider of the program "
                         "than OpenSSL's own: for a key that is no reference, fetch the MAC with the properties provider!=kmsenv",
                         kind[i].what, (const char *)p->data, properties == NULL ? "" : " with the properties '",
                         properties == NULL ? "" : properties, properties == NULL ? "" : "'");
        return kmsenv_reporter_raise(provctx->reporter, &err);
    }
    return 1;
}
