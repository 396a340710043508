#include <stdio.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include "compat/core_version.h"

unsigned kmsenv_core_version(const OSSL_CORE_HANDLE *handle, OSSL_FUNC_core_get_params_fn *get_params)
{
    char *text = NULL;
    OSSL_PARAM params[2] = {
        OSSL_PARAM_construct_utf8_ptr(OSSL_PROV_PARAM_CORE_VERSION, &text, 0), OSSL_PARAM_construct_end()
    };
    unsigned major, minor;

    if (get_params == NULL || !get_params(handle, params) || text == NULL || sscanf(text, "%3u.%3u", &major, &minor) != 2
            || major < 3 || minor > 255)
        return KMSENV_CORE_VERSION(3, 0);
    return KMSENV_CORE_VERSION(major, minor);
}
