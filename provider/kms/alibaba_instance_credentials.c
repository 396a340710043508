/*
 * Where the ClientKey of a KMS instance is found. The vendor's SDKs are given file and password by the program that uses
 * them; CLIENT_KEY_PASSWORD is what all the vendor's examples call the variable with the password.
 */
#include <string.h>
#include "core/secret.h"
#include "kms/alibaba_instance.h"
#include "kms/base64.h"
#include "kms/json.h"

#define FILE_MAX_SIZE  65536
#define PASSWORD_MAX   1024
#define PASSWORD_ENV   "CLIENT_KEY_PASSWORD"

static int set_id(const KMSENV_JSON *json, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const char *id = kmsenv_json_text(kmsenv_json_get(json, "KeyId"));
    char word[256];

    kmsenv_text_word(word, sizeof(word), id);
    if (id == NULL || *id == '\0' || strcmp(id, word) != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "it has no KeyId, or one that is none");
    return kmsenv_credential_set(out, id, NULL, NULL, 0, err);
}

static int set_signer(KMSENV_CRYPTO *crypto, const KMSENV_JSON_SECRET *data, const char *password, KMSENV_CREDENTIAL *out,
                      KMSENV_ERROR *err)
{
    size_t n = data->value->length;
    unsigned char *der = n == 0 ? NULL : kmsenv_secret_zalloc(n);

    if (!data->found || n == 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "it has no PrivateKeyData");
    if (der == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for credentials");
    if (kmsenv_base64_decode(kmsenv_buffer_text(data->value), data->value->length, der, &n))
        out->signer = kmsenv_signer_from_pkcs12(crypto, der, n, password, err);
    else
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "its PrivateKeyData is not base64");
    kmsenv_secret_free(der);
    return out->signer != NULL;
}

int kmsenv_instance_client_key(KMSENV_CRYPTO *crypto, KMSENV_BUFFER *text, const char *password, KMSENV_CREDENTIAL *out,
                               KMSENV_ERROR *err)
{
    KMSENV_BUFFER value;
    KMSENV_JSON_SECRET data = { "PrivateKeyData", &value, 0 };
    KMSENV_JSON *json;
    int ok;

    kmsenv_buffer_init(&value, FILE_MAX_SIZE, 1);
    if ((json = kmsenv_json_parse(text, &data, 1, err)) == NULL)
        ok = kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "it is not JSON");
    else
        ok = set_id(json, out, err) && set_signer(crypto, &data, password, out, err);
    kmsenv_json_free(json);
    kmsenv_buffer_reset(&value);
    return ok;
}

/* --- where the two are ---------------------------------------------------- */

static int find_password(const KMSENV_SECTION *section, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    int found = kmsenv_credentials_setting(section, "client-key-password", out, err);
    const char *value = kmsenv_credentials_env(PASSWORD_ENV);

    if (found != KMSENV_SOURCE_ABSENT)
        return found;
    if (value == NULL)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "client-key-file is set, but no password for it: set "
                                "client-key-password, or " PASSWORD_ENV);
    return kmsenv_buffer_add_text(out, value)
           || kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, PASSWORD_ENV " is longer than %d bytes", PASSWORD_MAX);
}

static int from_client_key(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    const KMSENV_INSTANCE_CHAIN *chain = arg;
    const char *path = kmsenv_section_text(chain->section, "client-key-file");
    KMSENV_BUFFER text, password;
    int found;

    (void)now;
    (void)deadline_ms;
    if (path == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "setting client-key-file not set");
        return KMSENV_SOURCE_ABSENT;
    }
    kmsenv_buffer_init(&text, FILE_MAX_SIZE, 1);
    kmsenv_buffer_init(&password, PASSWORD_MAX, 1);
    found = kmsenv_credentials_file(path, &text, err) == KMSENV_SOURCE_FOUND && find_password(chain->section, &password, err);
    if (found && !kmsenv_instance_client_key(chain->crypto, &text, kmsenv_buffer_text(&password), out, err))
        found = kmsenv_error_prefix(err, "the ClientKey file %.200s: ", path);
    kmsenv_buffer_reset(&text);
    kmsenv_buffer_reset(&password);
    return found;
}

const KMSENV_CREDENTIAL_SOURCE kmsenv_instance_sources[] = {
    { "ClientKey", from_client_key },
    { NULL, NULL }
};
