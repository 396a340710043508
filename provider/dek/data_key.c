#include <stdio.h>
#include <string.h>
#include <openssl/asn1t.h>
#include <openssl/err.h>
#include "dek/data_key.h"
#include "dek/der.h"

#define EXTRA_MAX 4096

/* --- the templates -------------------------------------------------------- */

typedef struct pair_st { ASN1_UTF8STRING *name, *value; } PAIR;
DEFINE_STACK_OF(PAIR)
ASN1_SEQUENCE(PAIR) = {
    ASN1_SIMPLE(PAIR, name, ASN1_UTF8STRING),
    ASN1_SIMPLE(PAIR, value, ASN1_UTF8STRING)
} static_ASN1_SEQUENCE_END(PAIR)

typedef struct wrap_st {
    ASN1_UTF8STRING *kms, *key_id;
    ASN1_OCTET_STRING *ciphertext;
    STACK_OF(PAIR) *context;
    ASN1_OCTET_STRING *extra;
} WRAP;
DEFINE_STACK_OF(WRAP)
ASN1_SEQUENCE(WRAP) = {
    ASN1_SIMPLE(WRAP, kms, ASN1_UTF8STRING),
    ASN1_SIMPLE(WRAP, key_id, ASN1_UTF8STRING),
    ASN1_SIMPLE(WRAP, ciphertext, ASN1_OCTET_STRING),
    ASN1_EXP_SEQUENCE_OF_OPT(WRAP, context, PAIR, 0),
    ASN1_EXP_OPT(WRAP, extra, ASN1_OCTET_STRING, 1)
} static_ASN1_SEQUENCE_END(WRAP)

typedef struct data_key_st {
    ASN1_OCTET_STRING *id;
    ASN1_INTEGER *length;
    STACK_OF(WRAP) *wraps;
} DATA_KEY;
ASN1_SEQUENCE(DATA_KEY) = {
    ASN1_SIMPLE(DATA_KEY, id, ASN1_OCTET_STRING),
    ASN1_SIMPLE(DATA_KEY, length, ASN1_INTEGER),
    ASN1_SEQUENCE_OF(DATA_KEY, wraps, WRAP)
} static_ASN1_SEQUENCE_END(DATA_KEY)

/* --- small things --------------------------------------------------------- */

int kmsenv_dek_length_is_valid(size_t length)
{
    return length == 16 || length == 24 || length == 32 || length == 64;
}

void kmsenv_dek_id_hex(const unsigned char id[KMSENV_DEK_ID_LEN], char *out)
{
    static const char digit[] = "0123456789abcdef";
    size_t i;

    for (i = 0; i < KMSENV_DEK_ID_LEN; i++) {
        out[2 * i] = digit[id[i] >> 4];
        out[2 * i + 1] = digit[id[i] & 15];
    }
    out[2 * i] = '\0';
}

int kmsenv_dek_id_from_hex(const char *hex, unsigned char id[KMSENV_DEK_ID_LEN])
{
    size_t i;
    int high, low;

    if (strlen(hex) != 2 * KMSENV_DEK_ID_LEN)
        return 0;
    for (i = 0; i < KMSENV_DEK_ID_LEN; i++) {
        high = OPENSSL_hexchar2int((unsigned char)hex[2 * i]);
        low = OPENSSL_hexchar2int((unsigned char)hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return 0;
        id[i] = (unsigned char)(high << 4 | low);
    }
    return 1;
}

const char *kmsenv_shown(const char *text, char out[64])
{
    size_t i;

    for (i = 0; i < 60 && text[i] != '\0'; i++)
        out[i] = (unsigned char)text[i] < 0x20 || (unsigned char)text[i] >= 0x7f ? '?' : text[i];
    out[i] = '\0';
    if (text[i] != '\0')
        memcpy(out + i, "...", 4);
    return out;
}

KMSENV_DATA_KEY *kmsenv_data_key_new(void)
{
    return OPENSSL_zalloc(sizeof(KMSENV_DATA_KEY));
}

void kmsenv_data_key_free(KMSENV_DATA_KEY *key)
{
    size_t i;

    if (key == NULL)
        return;
    for (i = 0; i < key->wraps; i++)
        kmsenv_wrap_reset(&key->wrap[i]);
    OPENSSL_free(key);
}

void kmsenv_wrap_reset(KMSENV_WRAP *wrap)
{
    OPENSSL_free(wrap->kms);
    wrap->kms = NULL;
    kmsenv_blob_reset(&wrap->blob);
    kmsenv_context_reset(&wrap->context);
}

/* --- reading -------------------------------------------------------------- */

static int malformed(KMSENV_ERROR *err, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_MESSAGE_MALFORMED, "data key malformed: %s", what);
}

static int get_bytes(const ASN1_OCTET_STRING *s, size_t max, unsigned char **out, size_t *outlen)
{
    int n = ASN1_STRING_length(s);

    if (n < 1 || (size_t)n > max)
        return 0;
    *out = OPENSSL_memdup(ASN1_STRING_get0_data(s), (size_t)n);
    *outlen = (size_t)n;
    return *out != NULL;
}

static int get_context(const STACK_OF(PAIR) *pairs, KMSENV_CONTEXT *context, KMSENV_ERROR *err)
{
    int i, n = sk_PAIR_num(pairs);
    const PAIR *p;

    if (n < 1)
        return malformed(err, "an empty encryption context must be left out");
    for (i = 0; i < n; i++) {
        p = sk_PAIR_value(pairs, i);
        if (!kmsenv_context_add(context, (const char *)ASN1_STRING_get0_data(p->name), (size_t)ASN1_STRING_length(p->name),
                                (const char *)ASN1_STRING_get0_data(p->value), (size_t)ASN1_STRING_length(p->value), err)) {
            if (err != NULL)
                err->reason = KMSENV_R_MESSAGE_MALFORMED;
            return 0;
        }
        /* add() sorts: a pair that did not end up last was out of order in the message. */
        if (strlen(context->name[i]) != (size_t)ASN1_STRING_length(p->name)
                || memcmp(context->name[i], ASN1_STRING_get0_data(p->name), strlen(context->name[i])) != 0)
            return malformed(err, "encryption context not sorted by name");
    }
    return 1;
}

static int get_wrap(const WRAP *from, KMSENV_WRAP *to, KMSENV_ERROR *err)
{
    if ((to->kms = kmsenv_der_get_text(from->kms)) == NULL)
        return malformed(err, "kms of a wrap is not a text of 1 to 512 bytes");
    if ((to->blob.key_id = kmsenv_der_get_text(from->key_id)) == NULL)
        return malformed(err, "keyId of a wrap is not a text of 1 to 512 bytes");
    if (!get_bytes(from->ciphertext, KMSENV_CIPHERTEXT_MAX, &to->blob.ciphertext, &to->blob.ciphertext_len))
        return malformed(err, "ciphertext of a wrap is not 1 to 16384 bytes");
    if (from->context != NULL && !get_context(from->context, &to->context, err))
        return 0;
    if (from->extra != NULL && !get_bytes(from->extra, EXTRA_MAX, &to->blob.extra, &to->blob.extra_len))
        return malformed(err, "extra of a wrap is not 1 to 4096 bytes");
    return 1;
}

static int get_data_key(const DATA_KEY *from, KMSENV_DATA_KEY *to, KMSENV_ERROR *err)
{
    int64_t length;
    int n = sk_WRAP_num(from->wraps);

    if (ASN1_STRING_length(from->id) != KMSENV_DEK_ID_LEN)
        return malformed(err, "id is not 24 bytes");
    memcpy(to->id, ASN1_STRING_get0_data(from->id), KMSENV_DEK_ID_LEN);
    if (!ASN1_INTEGER_get_int64(&length, from->length) || length < 0 || !kmsenv_dek_length_is_valid((size_t)length))
        return malformed(err, "length is not 16, 24, 32 or 64");
    to->length = (size_t)length;
    if (n > KMSENV_WRAPS_MAX)
        return malformed(err, "more than 16 wraps");
    for (; to->wraps < (size_t)n; to->wraps++) {
        if (!get_wrap(sk_WRAP_value(from->wraps, (int)to->wraps), &to->wrap[to->wraps], err)) {
            to->wraps++;       /* so that free() sees what was filled */
            return 0;
        }
    }
    return 1;
}

/* Is der the one and only encoding of what was read from it? */
static int is_canonical(const void *asn1, const ASN1_ITEM *item, const unsigned char *der, size_t len)
{
    unsigned char *again = NULL;
    int n = ASN1_item_i2d(asn1, &again, item);
    int same = n > 0 && (size_t)n == len && memcmp(again, der, len) == 0;

    OPENSSL_free(again);
    return same;
}

KMSENV_DATA_KEY *kmsenv_data_key_parse(const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *key = kmsenv_data_key_new();
    const unsigned char *p = der;
    DATA_KEY *asn1 = NULL;
    int ok = 0;

    ERR_set_mark();
    if (key == NULL)
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a data key");
    else if (len > KMSENV_HEADER_MAX
             || (asn1 = (DATA_KEY *)ASN1_item_d2i(NULL, &p, (long)len, ASN1_ITEM_rptr(DATA_KEY))) == NULL
             || p != der + len)
        malformed(err, "not the expected ASN.1 structure");
    else if (!is_canonical(asn1, ASN1_ITEM_rptr(DATA_KEY), der, len))
        malformed(err, "not in DER");
    else
        ok = get_data_key(asn1, key, err);
    ASN1_item_free((ASN1_VALUE *)asn1, ASN1_ITEM_rptr(DATA_KEY));
    ERR_pop_to_mark();
    if (ok)
        return key;
    kmsenv_data_key_free(key);
    return NULL;
}

/* --- writing -------------------------------------------------------------- */

static int put_context(const KMSENV_CONTEXT *from, STACK_OF(PAIR) **to)
{
    size_t i;
    PAIR *p;

    if (from->count == 0)
        return 1;
    if ((*to = sk_PAIR_new_null()) == NULL)
        return 0;
    for (i = 0; i < from->count; i++) {
        p = (PAIR *)ASN1_item_new(ASN1_ITEM_rptr(PAIR));
        if (p == NULL || !kmsenv_der_set_text(p->name, from->name[i]) || !kmsenv_der_set_text(p->value, from->value[i])
                || !sk_PAIR_push(*to, p)) {
            ASN1_item_free((ASN1_VALUE *)p, ASN1_ITEM_rptr(PAIR));
            return 0;
        }
    }
    return 1;
}

static WRAP *make_wrap(const KMSENV_WRAP *from)
{
    WRAP *w = (WRAP *)ASN1_item_new(ASN1_ITEM_rptr(WRAP));
    int ok = w != NULL && kmsenv_der_set_text(w->kms, from->kms) && kmsenv_der_set_text(w->key_id, from->blob.key_id)
        && ASN1_OCTET_STRING_set(w->ciphertext, from->blob.ciphertext, (int)from->blob.ciphertext_len)
        && put_context(&from->context, &w->context);

    if (ok && from->blob.extra_len > 0)
        ok = (w->extra = ASN1_OCTET_STRING_new()) != NULL
            && ASN1_OCTET_STRING_set(w->extra, from->blob.extra, (int)from->blob.extra_len);
    if (ok)
        return w;
    ASN1_item_free((ASN1_VALUE *)w, ASN1_ITEM_rptr(WRAP));
    return NULL;
}

static int put_wrap(const KMSENV_WRAP *from, STACK_OF(WRAP) *to)
{
    WRAP *w = make_wrap(from);

    if (w != NULL && sk_WRAP_push(to, w))
        return 1;
    ASN1_item_free((ASN1_VALUE *)w, ASN1_ITEM_rptr(WRAP));
    return 0;
}

int kmsenv_data_key_encode(const KMSENV_DATA_KEY *key, int detached, unsigned char **out, size_t *outlen, KMSENV_ERROR *err)
{
    DATA_KEY *asn1;
    size_t i;
    int n = -1, ok;

    ERR_set_mark();
    asn1 = (DATA_KEY *)ASN1_item_new(ASN1_ITEM_rptr(DATA_KEY));
    ok = asn1 != NULL && ASN1_OCTET_STRING_set(asn1->id, key->id, KMSENV_DEK_ID_LEN)
        && ASN1_INTEGER_set_uint64(asn1->length, key->length);
    for (i = 0; ok && !detached && i < key->wraps; i++)
        ok = put_wrap(&key->wrap[i], asn1->wraps);
    *out = NULL;
    if (ok)
        n = ASN1_item_i2d((const ASN1_VALUE *)asn1, out, ASN1_ITEM_rptr(DATA_KEY));
    ASN1_item_free((ASN1_VALUE *)asn1, ASN1_ITEM_rptr(DATA_KEY));
    ERR_pop_to_mark();
    if (n <= 0)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to encode a data key");
    *outlen = (size_t)n;
    return 1;
}

/* --- a wrap by itself ----------------------------------------------------- */

int kmsenv_wrap_parse(KMSENV_WRAP *wrap, const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    const unsigned char *p = der;
    WRAP *asn1 = NULL;
    int ok = 0;

    memset(wrap, 0, sizeof(*wrap));
    ERR_set_mark();
    if (len > KMSENV_HEADER_MAX
            || (asn1 = (WRAP *)ASN1_item_d2i(NULL, &p, (long)len, ASN1_ITEM_rptr(WRAP))) == NULL
            || p != der + len || !is_canonical(asn1, ASN1_ITEM_rptr(WRAP), der, len))
        malformed(err, "not a wrap in DER");
    else
        ok = get_wrap(asn1, wrap, err);
    ASN1_item_free((ASN1_VALUE *)asn1, ASN1_ITEM_rptr(WRAP));
    ERR_pop_to_mark();
    return ok;
}

int kmsenv_wrap_encode(const KMSENV_WRAP *wrap, unsigned char **out, size_t *outlen, KMSENV_ERROR *err)
{
    WRAP *asn1;
    int n;

    *out = NULL;
    ERR_set_mark();
    asn1 = make_wrap(wrap);
    n = asn1 == NULL ? -1 : ASN1_item_i2d((const ASN1_VALUE *)asn1, out, ASN1_ITEM_rptr(WRAP));
    ASN1_item_free((ASN1_VALUE *)asn1, ASN1_ITEM_rptr(WRAP));
    ERR_pop_to_mark();
    *outlen = n > 0 ? (size_t)n : 0;
    return n > 0 || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to write a wrap");
}
