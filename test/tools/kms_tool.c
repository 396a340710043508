/*
 * One operation of a back end that no cipher reaches, for scenarios:
 *   kms_tool describe KIND NAME=VALUE...
 * prints one line of JSON: {"ok": true, "text": STATE}, or {"ok": false, "reason": NUMBER, "text": ERROR}.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/kms.h"

static int set_all(KMSENV_SECTION *section, char **words, int count, KMSENV_ERROR *err)
{
    char *value;
    int i;

    for (i = 0; i < count; i++) {
        if ((value = strchr(words[i], '=')) == NULL)
            return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "not NAME=VALUE: %s", words[i]);
        *value++ = '\0';
        if (!kmsenv_section_set(section, words[i], value, err))
            return 0;
    }
    return 1;
}

static void answer(int ok, const KMSENV_ERROR *err, const char *text)
{
    printf("{\"ok\": %s, \"reason\": %d, \"text\": \"", ok ? "true" : "false", err->reason);
    for (; *text != '\0'; text++)
        printf((unsigned char)*text < 0x20 || *text == '"' || *text == '\\' ? "\\u%04x" : "%c", (unsigned char)*text);
    printf("\"}\n");
}

int main(int argc, char **argv)
{
    const KMSENV_KMS_METHOD *method = argc < 3 ? NULL : kmsenv_kms_method_find(argv[2]);
    KMSENV_SERVICES services = { kmsenv_crypto_new(NULL, NULL, "default"), NULL, NULL };
    KMSENV_SECTION *section = kmsenv_section_new("tool");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_KMS *kms = NULL;
    char state[80];
    int ok;

    if (method == NULL || strcmp(argv[1], "describe") != 0 || services.crypto == NULL || section == NULL) {
        fputs("usage: kms_tool describe KIND NAME=VALUE...\n", stderr);
        return 2;
    }
    kmsenv_secret_prepare();
    ok = kmsenv_kms_add_tables(section, method) && set_all(section, argv + 3, argc - 3, &err)
         && (kms = kmsenv_kms_new("prod", method, section, &services, &err)) != NULL
         && kmsenv_kms_describe(kms, state, sizeof(state), &err);
    answer(ok, &err, ok ? state : err.text);
    kmsenv_kms_free(kms);
    kmsenv_section_free(section);
    kmsenv_crypto_free(services.crypto);
    return 0;
}
