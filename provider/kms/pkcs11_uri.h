/*
 * The URI of a key in a PKCS#11 token (RFC 7512), as far as it says which token and which key:
 *
 *   pkcs11:token=prod;object=backup;id=%01
 *
 * What a URI could say besides is refused: a PIN or where to find one, a module, a slot. Those are
 * settings, for the URI goes into every message and comes back from everywhere.
 */
#ifndef KMSENV_KMS_PKCS11_URI_H
# define KMSENV_KMS_PKCS11_URI_H
# include <stddef.h>
# include "core/buffer.h"
# include "core/error.h"

# define KMSENV_PKCS11_VALUE_MAX 128   /* bytes of an attribute, decoded */
# define KMSENV_PKCS11_URI_MAX   1024  /* bytes of a URI that is read */

/* In the order of the canonical form. The first four are of the token. */
enum kmsenv_pkcs11_attribute {
    KMSENV_PKCS11_TOKEN, KMSENV_PKCS11_MANUFACTURER, KMSENV_PKCS11_SERIAL, KMSENV_PKCS11_MODEL,
    KMSENV_PKCS11_OBJECT, KMSENV_PKCS11_ID, KMSENV_PKCS11_ATTRIBUTES
};

/* One attribute, decoded. Text is UTF-8 without control characters; id is any bytes. length 0 = the URI has none. */
typedef struct kmsenv_pkcs11_value_st {
    unsigned char data[KMSENV_PKCS11_VALUE_MAX];
    size_t length;
} KMSENV_PKCS11_VALUE;

typedef struct kmsenv_pkcs11_uri_st {
    KMSENV_PKCS11_VALUE value[KMSENV_PKCS11_ATTRIBUTES];
} KMSENV_PKCS11_URI;

/* Reads n bytes. Errors name the attribute and the remedy but never a value, which might be a PIN; their reason is CONFIG_INVALID. */
int kmsenv_pkcs11_uri_parse(KMSENV_PKCS11_URI *uri, const char *text, size_t n, KMSENV_ERROR *err);
/* Sets an attribute. 0, and it stays as it is, if these bytes cannot be its value. */
int kmsenv_pkcs11_uri_set(KMSENV_PKCS11_URI *uri, int attribute, const void *data, size_t n);
/* Appends the canonical form of what names a key: token, object and id. */
int kmsenv_pkcs11_uri_write(const KMSENV_PKCS11_URI *uri, KMSENV_BUFFER *out);
/* Does it say which token (token or serial)? Which key (object or id)? */
int kmsenv_pkcs11_uri_names_token(const KMSENV_PKCS11_URI *uri);
int kmsenv_pkcs11_uri_names_key(const KMSENV_PKCS11_URI *uri);
/*
 * Can the key that a wrap names be the one that is configured? What the configuration says of token, object and id the wrap
 * must say as well, and nothing that both say may differ. A wrap may say more: the id besides the label.
 */
int kmsenv_pkcs11_uri_matches(const KMSENV_PKCS11_URI *configured, const KMSENV_PKCS11_URI *wrap);
/* Do both say the same of the token? */
int kmsenv_pkcs11_uri_same_token(const KMSENV_PKCS11_URI *a, const KMSENV_PKCS11_URI *b);

#endif
