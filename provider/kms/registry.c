#include <string.h>
#include "kms/http.h"
#include "kms/registry.h"

static const KMSENV_KMS_METHOD *const methods[] = {
    &kmsenv_kms_local,
    &kmsenv_kms_tencent,
    &kmsenv_kms_alibaba,
    &kmsenv_kms_alibaba_instance,
    &kmsenv_kms_aws,
    &kmsenv_kms_vault,
    &kmsenv_kms_google,
    &kmsenv_kms_pkcs11,
    &kmsenv_kms_azure,
    NULL
};

const KMSENV_KMS_METHOD *kmsenv_kms_method_find(const char *name)
{
    size_t i;

    for (i = 0; methods[i] != NULL; i++)
        if (strcmp(methods[i]->name, name) == 0)
            return methods[i];
    return NULL;
}

const KMSENV_KMS_METHOD *const *kmsenv_kms_methods(void)
{
    return methods;
}

/* The back end's own table comes first: what it says of a setting goes before what the others say. */
int kmsenv_kms_add_tables(KMSENV_SECTION *section, const KMSENV_KMS_METHOD *method)
{
    return kmsenv_section_add_table(section, method->settings)
           && (!method->network || kmsenv_section_add_table(section, kmsenv_http_settings))
           && kmsenv_section_add_table(section, kmsenv_profile_settings);
}
