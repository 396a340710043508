/*
 * <openssl/core_dispatch.h> and <openssl/core_object.h> of the newest OpenSSL, as far as this provider uses them, on any
 * that is supported (3.0 on). A core does not look at functions whose numbers it does not know, so one table serves all:
 * what a version added is offered to it even by a module that was compiled with older headers.
 *
 * Symmetric key objects (EVP_SKEY): operation and functions since 3.5, in OSSL_STORE since 4.0.
 */
#ifndef KMSENV_COMPAT_CORE_DISPATCH_H
# define KMSENV_COMPAT_CORE_DISPATCH_H
# include <openssl/core_dispatch.h>
# include <openssl/core_names.h>
# include <openssl/core_object.h>
# include <openssl/store.h>

# ifndef OSSL_OP_SKEYMGMT
#  define OSSL_OP_SKEYMGMT                        15
#  define OSSL_FUNC_CIPHER_ENCRYPT_SKEY_INIT      19
#  define OSSL_FUNC_CIPHER_DECRYPT_SKEY_INIT      20
#  define OSSL_FUNC_MAC_INIT_SKEY                 13
#  define OSSL_FUNC_SKEYMGMT_FREE                 1
#  define OSSL_FUNC_SKEYMGMT_IMPORT               2
#  define OSSL_FUNC_SKEYMGMT_EXPORT               3
#  define OSSL_FUNC_SKEYMGMT_GENERATE             4
#  define OSSL_FUNC_SKEYMGMT_GET_KEY_ID           5
#  define OSSL_FUNC_SKEYMGMT_IMP_SETTABLE_PARAMS  6
#  define OSSL_FUNC_SKEYMGMT_GEN_SETTABLE_PARAMS  7
#  define OSSL_SKEYMGMT_SELECT_PARAMETERS         0x01
#  define OSSL_SKEYMGMT_SELECT_SECRET_KEY         0x02
#  define OSSL_SKEYMGMT_SELECT_ALL                (OSSL_SKEYMGMT_SELECT_PARAMETERS | OSSL_SKEYMGMT_SELECT_SECRET_KEY)
#  define OSSL_SKEY_TYPE_GENERIC                  "GENERIC-SECRET"
#  define OSSL_SKEY_TYPE_AES                      "AES"
#  define OSSL_SKEY_PARAM_RAW_BYTES               "raw-bytes"
OSSL_CORE_MAKE_FUNC(int, cipher_encrypt_skey_init,
                    (void *cctx, void *skeydata, const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[]))
OSSL_CORE_MAKE_FUNC(int, cipher_decrypt_skey_init,
                    (void *cctx, void *skeydata, const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[]))
OSSL_CORE_MAKE_FUNC(int, mac_init_skey, (void *mctx, void *key, const OSSL_PARAM params[]))
OSSL_CORE_MAKE_FUNC(void, skeymgmt_free, (void *keydata))
OSSL_CORE_MAKE_FUNC(const OSSL_PARAM *, skeymgmt_imp_settable_params, (void *provctx))
OSSL_CORE_MAKE_FUNC(void *, skeymgmt_import, (void *provctx, int selection, const OSSL_PARAM params[]))
OSSL_CORE_MAKE_FUNC(int, skeymgmt_export, (void *keydata, int selection, OSSL_CALLBACK *param_cb, void *cbarg))
OSSL_CORE_MAKE_FUNC(const OSSL_PARAM *, skeymgmt_gen_settable_params, (void *provctx))
OSSL_CORE_MAKE_FUNC(void *, skeymgmt_generate, (void *provctx, const OSSL_PARAM params[]))
OSSL_CORE_MAKE_FUNC(const char *, skeymgmt_get_key_id, (void *keydata))
# endif

# ifndef OSSL_OBJECT_PARAM_INPUT_TYPE
#  define OSSL_OBJECT_PARAM_INPUT_TYPE            "input-type"
# endif
# ifndef OSSL_OBJECT_SKEY
#  define OSSL_OBJECT_SKEY                        5
# endif
# ifndef OSSL_STORE_INFO_SKEY
#  define OSSL_STORE_INFO_SKEY                    7
# endif

#endif
