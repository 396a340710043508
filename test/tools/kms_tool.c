/*
 * One operation of a back end that no cipher reaches, for scenarios:
 *   kms_tool describe|reencrypt KIND NAME=VALUE...
 * prints one line of JSON: {"ok": true, "text": STATE or "opens"}, or {"ok": false, "reason": NUMBER, "text": ERROR}.
 * reencrypt: makes a data key, has it wrapped anew, and unwraps that: the same key, or it is an error.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/kms.h"

#define LEN 32

static int reencrypt(KMSENV_KMS *kms, KMSENV_ERROR *err)
{
    unsigned char *made = kmsenv_secret_zalloc(LEN), *opened = kmsenv_secret_zalloc(LEN);
    const KMSENV_CONTEXT *context = kmsenv_kms_context(kms);
    KMSENV_BLOB first = { 0 }, second = { 0 };
    size_t n = LEN;
    int ok = made != NULL && opened != NULL && kmsenv_kms_generate(kms, context, LEN, made, &first, err)
             && kmsenv_kms_reencrypt(kms, context, NULL, &first, &second, err)
             && kmsenv_kms_decrypt(kms, context, NULL, &second, opened, &n, err)
             && (memcmp(made, opened, LEN) == 0 || kmsenv_error_set(err, KMSENV_R_DATA_KEY_MISMATCH, "another key came out"));

    kmsenv_blob_reset(&first);
    kmsenv_blob_reset(&second);
    kmsenv_secret_free(made);
    kmsenv_secret_free(opened);
    return ok;
}

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
    char state[80] = "opens";
    int ok;

    if (method == NULL || services.crypto == NULL || section == NULL) {
        fputs("usage: kms_tool describe|reencrypt KIND NAME=VALUE...\n", stderr);
        return 2;
    }
    kmsenv_secret_prepare();
    ok = kmsenv_kms_add_tables(section, method) && set_all(section, argv + 3, argc - 3, &err)
         && (kms = kmsenv_kms_new("prod", method, section, &services, &err)) != NULL
         && (strcmp(argv[1], "describe") == 0 ? kmsenv_kms_describe(kms, state, sizeof(state), &err) : reencrypt(kms, &err));
    answer(ok, &err, ok ? state : err.text);
    kmsenv_kms_free(kms);
    kmsenv_section_free(section);
    kmsenv_crypto_free(services.crypto);
    return 0;
}
