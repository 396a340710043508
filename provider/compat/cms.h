/* What CMS (RFC 5652, RFC 9629) asks a key for since OpenSSL 3.6. Older ones do not ask. */
#ifndef KMSENV_COMPAT_CMS_H
# define KMSENV_COMPAT_CMS_H
# include <openssl/cms.h>
# include <openssl/core_names.h>

# ifndef OSSL_PKEY_PARAM_CMS_RI_TYPE
#  define OSSL_PKEY_PARAM_CMS_RI_TYPE "ri-type"     /* int: kind of RecipientInfo */
# endif
# ifndef CMS_RECIPINFO_KEM
#  define CMS_RECIPINFO_KEM 5
# endif

#endif
