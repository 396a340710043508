#include <string.h>
#include <openssl/asn1t.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include "dek/der.h"
#include "dek/key_name.h"
#include "kmsenv/format.h"

#define DER_MAX (2 * KMSENV_NAME_MAX + 64)

typedef struct name_st { ASN1_UTF8STRING *kms, *key_id; } NAME;
ASN1_SEQUENCE(NAME) = {
    ASN1_SIMPLE(NAME, kms, ASN1_UTF8STRING),
    ASN1_SIMPLE(NAME, key_id, ASN1_UTF8STRING)
} static_ASN1_SEQUENCE_END(NAME)

/* For reading: d2i_X509_PUBKEY() would look for a decoder of the key, and find the one that asks. */
typedef struct public_key_st { X509_ALGOR *algorithm; ASN1_BIT_STRING *name; } PUBLIC_KEY;
ASN1_SEQUENCE(PUBLIC_KEY) = {
    ASN1_SIMPLE(PUBLIC_KEY, algorithm, X509_ALGOR),
    ASN1_SIMPLE(PUBLIC_KEY, name, ASN1_BIT_STRING)
} static_ASN1_SEQUENCE_END(PUBLIC_KEY)

/* The AlgorithmIdentifier: the one object identifier (KMSENV_OID_MASTER_KEY). */
static const unsigned char algorithm_der[] = {
    0x30, 0x16, 0x06, 0x14, 0x69, 0x81, 0xa0, 0x91, 0xf8, 0xe7, 0x81, 0x9d, 0x8a, 0x92, 0xdb, 0x8a, 0xfe, 0x85, 0xd6, 0xc4,
    0xec, 0x97, 0xe7, 0x32
};

int kmsenv_key_name_is(const unsigned char *p, size_t n)
{
    size_t skip;

    if (n < 2 || p[0] != 0x30)
        return 0;
    skip = p[1] < 0x80 ? 2 : 2 + (size_t)(p[1] & 0x7f);
    return skip + sizeof(algorithm_der) <= n && memcmp(p + skip, algorithm_der, sizeof(algorithm_der)) == 0;
}

void kmsenv_key_name_reset(KMSENV_KEY_NAME *name)
{
    OPENSSL_free(name->kms);
    OPENSSL_free(name->key_id);
    name->kms = name->key_id = NULL;
}

int kmsenv_key_name_equal(const KMSENV_KEY_NAME *a, const KMSENV_KEY_NAME *b)
{
    return a->kms != NULL && b->kms != NULL && strcmp(a->kms, b->kms) == 0 && strcmp(a->key_id, b->key_id) == 0;
}

static NAME *make_name(const char *kms, const char *key_id)
{
    NAME *asn1 = (NAME *)ASN1_item_new(ASN1_ITEM_rptr(NAME));

    if (asn1 != NULL && kmsenv_der_set_text(asn1->kms, kms) && kmsenv_der_set_text(asn1->key_id, key_id))
        return asn1;
    ASN1_item_free((ASN1_VALUE *)asn1, ASN1_ITEM_rptr(NAME));
    return NULL;
}

/* --- reading -------------------------------------------------------------- */

static int malformed(KMSENV_ERROR *err, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_MESSAGE_MALFORMED, "public key of a master key malformed: %s", what);
}

/* As kmsenv_der_get_text(), and without U+0080 to U+009F, which terminals obey: `openssl x509 -text` shows it of any certificate. */
static char *get_text(const ASN1_UTF8STRING *s)
{
    char *text = kmsenv_der_get_text(s);
    const char *p;

    for (p = text; p != NULL && (p = strchr(p, '\xc2')) != NULL; p++)
        if ((unsigned char)p[1] < 0xa0) {
            OPENSSL_free(text);
            return NULL;
        }
    return text;
}

static int get_name(const NAME *from, KMSENV_KEY_NAME *to, KMSENV_ERROR *err)
{
    to->kms = get_text(from->kms);
    to->key_id = get_text(from->key_id);
    if (to->kms != NULL && to->key_id != NULL)
        return 1;
    kmsenv_key_name_reset(to);
    return kmsenv_error_set(err, KMSENV_R_MESSAGE_MALFORMED, "the name of a master key: kind of KMS and key id are 1 to %d bytes "
                            "each, without control characters", KMSENV_NAME_MAX);
}

static int is_canonical(const KMSENV_KEY_NAME *name, const unsigned char *der, size_t len)
{
    KMSENV_ERROR ignored = KMSENV_ERROR_INIT;
    unsigned char *again;
    size_t n;
    int same = kmsenv_key_name_encode(name, &again, &n, &ignored) && n == len && memcmp(again, der, len) == 0;

    OPENSSL_free(again);
    return same;
}

static NAME *get_asn1(const unsigned char *der, size_t len)
{
    PUBLIC_KEY *key = (PUBLIC_KEY *)ASN1_item_d2i(NULL, &der, (long)len, ASN1_ITEM_rptr(PUBLIC_KEY));
    const unsigned char *p;
    NAME *name = NULL;

    if (key != NULL && (p = ASN1_STRING_get0_data(key->name)) != NULL)
        name = (NAME *)ASN1_item_d2i(NULL, &p, ASN1_STRING_length(key->name), ASN1_ITEM_rptr(NAME));
    ASN1_item_free((ASN1_VALUE *)key, ASN1_ITEM_rptr(PUBLIC_KEY));
    return name;
}

int kmsenv_key_name_parse(KMSENV_KEY_NAME *name, const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    NAME *asn1 = NULL;
    int ok = 0;

    ERR_set_mark();
    if (len > DER_MAX || !kmsenv_key_name_is(der, len) || (asn1 = get_asn1(der, len)) == NULL)
        malformed(err, "not the expected ASN.1 structure");
    else if ((ok = get_name(asn1, name, err)) != 0 && !is_canonical(name, der, len))
        ok = malformed(err, "not in DER, or more than that");
    if (!ok)
        kmsenv_key_name_reset(name);
    ASN1_item_free((ASN1_VALUE *)asn1, ASN1_ITEM_rptr(NAME));
    ERR_pop_to_mark();
    return ok;
}

int kmsenv_key_name_set(KMSENV_KEY_NAME *name, const char *kms, const char *key_id, KMSENV_ERROR *err)
{
    NAME *asn1 = make_name(kms, key_id);
    int ok = asn1 == NULL ? kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the name of a master key")
             : get_name(asn1, name, err);

    ASN1_item_free((ASN1_VALUE *)asn1, ASN1_ITEM_rptr(NAME));
    return ok;
}

/* --- writing -------------------------------------------------------------- */

/* As set0: der is the result's, if there is one. */
static X509_PUBKEY *enclose(unsigned char *der, int len)
{
    ASN1_OBJECT *algorithm = OBJ_txt2obj(KMSENV_OID_MASTER_KEY, 1);
    X509_PUBKEY *key = X509_PUBKEY_new();

    if (key != NULL && algorithm != NULL && X509_PUBKEY_set0_param(key, algorithm, V_ASN1_UNDEF, NULL, der, len))
        return key;
    X509_PUBKEY_free(key);
    ASN1_OBJECT_free(algorithm);
    return NULL;
}

int kmsenv_key_name_encode(const KMSENV_KEY_NAME *name, unsigned char **out, size_t *outlen, KMSENV_ERROR *err)
{
    NAME *asn1;
    X509_PUBKEY *key = NULL;
    unsigned char *der = NULL;
    int n;

    *out = NULL;
    ERR_set_mark();
    asn1 = make_name(name->kms, name->key_id);
    n = asn1 == NULL ? -1 : ASN1_item_i2d((const ASN1_VALUE *)asn1, &der, ASN1_ITEM_rptr(NAME));
    if (n > 0 && (key = enclose(der, n)) != NULL) {
        der = NULL;
        *outlen = (size_t)i2d_X509_PUBKEY(key, out);
    }
    ASN1_item_free((ASN1_VALUE *)asn1, ASN1_ITEM_rptr(NAME));
    X509_PUBKEY_free(key);
    OPENSSL_free(der);
    ERR_pop_to_mark();
    return *out != NULL || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to write the name of a master key");
}
