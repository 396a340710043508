#include <string.h>
#include <openssl/crypto.h>
#include "dek/der.h"
#include "kmsenv/format.h"

char *kmsenv_der_get_text(const ASN1_UTF8STRING *s)
{
    const unsigned char *p = ASN1_STRING_get0_data(s);
    int n = ASN1_STRING_length(s), i, used;
    unsigned long c;

    if (n < 1 || n > KMSENV_NAME_MAX)
        return NULL;
    for (i = 0; i < n; i += used) {
        used = UTF8_getc(p + i, n - i, &c);
        if (used <= 0 || c < 0x20 || c == 0x7f)
            return NULL;
    }
    return OPENSSL_strndup((const char *)p, (size_t)n);
}

int kmsenv_der_set_text(ASN1_UTF8STRING *s, const char *text)
{
    return ASN1_STRING_set(s, text, (int)strlen(text));
}
