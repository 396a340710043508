/* Texts in our ASN.1 structures. */
#ifndef KMSENV_DEK_DER_H
# define KMSENV_DEK_DER_H
# include <openssl/asn1.h>

/* 1..KMSENV_NAME_MAX bytes of UTF-8 without control characters, to be freed; NULL if that is not what is there. */
char *kmsenv_der_get_text(const ASN1_UTF8STRING *s);
int kmsenv_der_set_text(ASN1_UTF8STRING *s, const char *text);

#endif
