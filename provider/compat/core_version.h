/*
 * Which OpenSSL this is that has loaded us: known at run time only, because one module serves several. For what no
 * function or parameter of the core tells.
 */
#ifndef KMSENV_COMPAT_CORE_VERSION_H
# define KMSENV_COMPAT_CORE_VERSION_H
# include <openssl/core_dispatch.h>

# define KMSENV_CORE_VERSION(major, minor) ((unsigned)(major) << 8 | (unsigned)(minor))

/* KMSENV_CORE_VERSION(3, 0) and so on; the oldest that is supported, 3.0, if the core does not say. get_params may be NULL. */
unsigned kmsenv_core_version(const OSSL_CORE_HANDLE *handle, OSSL_FUNC_core_get_params_fn *get_params);

#endif
