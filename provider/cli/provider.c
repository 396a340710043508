/* The provider, as any program has it: by the configuration file, or loaded by name. */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include "cli/cli.h"

/* The module's entry point, which the command has inside. */
OSSL_provider_init_fn OSSL_provider_init;

int kmsenv_cli_take_error(const char *provider, char *text, size_t room)
{
    const char *data, *library;
    unsigned long code;
    int flags, reason = KMSENV_R_NONE;

    text[0] = '\0';
    while ((code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
        library = ERR_lib_error_string(code);
        if (library != NULL && strcmp(library, provider) == 0 && reason == KMSENV_R_NONE) {
            reason = ERR_GET_REASON(code);
            snprintf(text, room, "%s", (flags & ERR_TXT_STRING) != 0 && *data != '\0' ? data : ERR_reason_error_string(code));
        } else if (text[0] == '\0') {
            ERR_error_string_n(code, text, room);
            if ((flags & ERR_TXT_STRING) != 0)
                snprintf(text + strlen(text), room - strlen(text), ": %s", data);
        }
    }
    if (text[0] == '\0')
        snprintf(text, room, "OpenSSL gives no cause");
    return reason;
}

int kmsenv_cli_use_provider(KMSENV_ERROR *err)
{
    char text[KMSENV_ERROR_TEXT_MAX];

    ERR_clear_error();
    OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
    if (OSSL_PROVIDER_available(NULL, "kmsenv")
            || (OSSL_PROVIDER_load(NULL, "default") != NULL && OSSL_PROVIDER_load(NULL, "kmsenv") != NULL)) {
        ERR_clear_error();
        return 1;
    }
    kmsenv_cli_take_error("kmsenv", text, sizeof(text));
    return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "the provider kmsenv cannot be loaded (%.300s); kmsenv doctor tells more", text);
}

KMSENV_PROVCTX *kmsenv_cli_own_provider(KMSENV_ERROR *err)
{
    static OSSL_PROVIDER *provider;     /* of the whole process, and freed with libcrypto */

    if (provider == NULL && OSSL_PROVIDER_add_builtin(NULL, "kmsenv", OSSL_provider_init) && kmsenv_cli_use_provider(err))
        provider = OSSL_PROVIDER_load(NULL, "kmsenv");
    if (provider == NULL && err->reason == KMSENV_R_NONE)
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the provider");
    return provider == NULL ? NULL : OSSL_PROVIDER_get0_provider_ctx(provider);
}

int kmsenv_cli_openssl_error(const char *what)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char text[KMSENV_ERROR_TEXT_MAX];
    int reason = kmsenv_cli_take_error("kmsenv", text, sizeof(text));

    kmsenv_error_set(&err, reason == KMSENV_R_NONE ? KMSENV_R_WRONG_STATE : reason, "%s%s%s", what, *what == '\0' ? "" : ": ", text);
    return kmsenv_cli_error(&err);
}
