#include <stdlib.h>
#include <openssl/crypto.h>
#include "entry/runtime.h"
#include "kms/audit.h"

struct kmsenv_instance_st {
    KMSENV_RUNTIME runtime;
    KMSENV_CONFIG *config;
    KMSENV_SERVICES services;
};

static int make_deks(KMSENV_INSTANCE *in, KMSENV_ERROR *err)
{
    KMSENV_KMS *kms[KMSENV_CONFIG_PROFILES_MAX];
    const KMSENV_CONFIG *c = in->config;
    size_t i;

    for (i = 0; i < c->profiles; i++) {
        kms[i] = kmsenv_kms_new(c->profile[i].name, c->profile[i].method, c->profile[i].section, &in->services, err);
        if (kms[i] != NULL)
            continue;
        while (i-- > 0)
            kmsenv_kms_free(kms[i]);
        return 0;
    }
    in->runtime.deks = kmsenv_deks_new(c->provider, kms, c->profiles, &in->services, err);
    return in->runtime.deks != NULL;
}

/*
 * Two settings had to be known before the configuration was read: are they what is there? libcrypto takes a value that is
 * the name of a section for that section. Key references would be used as keys then, by who never asks us.
 */
static int check_early_settings(const KMSENV_SECTION *section, const KMSENV_PROVCTX *provctx, KMSENV_ERROR *err)
{
    const char *size = kmsenv_section_text(section, "block-size"), *name = NULL;

    if (size != NULL && strtoul(size, NULL, 10) != provctx->block_size)
        name = "block-size";
    else if (kmsenv_section_boolean(section, "key-references") != provctx->ordinary_names)
        name = "key-references";
    return name == NULL
        || kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "section [%s]: setting '%s' has the value '%s', which is also the name "
                            "of a section: rename that section", kmsenv_section_name(section), name, kmsenv_section_text(section, name));
}

static int make(KMSENV_INSTANCE *in, const KMSENV_SOURCE *source, const KMSENV_PROVCTX *provctx, KMSENV_ERROR *err)
{
    const char *log;

    in->config = kmsenv_config_load(source, kmsenv_crypto_get0_libctx(in->services.crypto), err);
    if (in->config == NULL || !check_early_settings(in->config->provider, provctx, err)
            || !kmsenv_crypto_set_provider(in->services.crypto, kmsenv_section_text(in->config->provider, "crypto-provider")))
        return 0;
    in->runtime.segment_bits = (unsigned)kmsenv_section_number(in->config->provider, "segment-bits");
    log = kmsenv_section_text(in->config->provider, "audit-log");
    if (log != NULL && (in->services.audit = kmsenv_audit_new(log, err)) == NULL)
        return 0;
    return make_deks(in, err);
}

KMSENV_INSTANCE *kmsenv_instance_new(const KMSENV_SOURCE *source, KMSENV_PROVCTX *provctx)
{
    KMSENV_INSTANCE *in = OPENSSL_zalloc(sizeof(*in));

    if (in == NULL)
        return NULL;
    in->services.crypto = provctx->crypto;
    in->services.counters = &provctx->counters;
    if (!make(in, source, provctx, &in->runtime.error) && in->runtime.error.reason == KMSENV_R_NONE)
        kmsenv_error_set(&in->runtime.error, KMSENV_R_OUT_OF_MEMORY, "no memory for the configuration");
    return in;
}

void kmsenv_instance_free(KMSENV_INSTANCE *instance)
{
    if (instance == NULL)
        return;
    kmsenv_deks_free(instance->runtime.deks);
    kmsenv_audit_free(instance->services.audit);
    kmsenv_config_free(instance->config);
    OPENSSL_free(instance);
}

const KMSENV_RUNTIME *kmsenv_instance_get0_runtime(const KMSENV_INSTANCE *instance)
{
    return &instance->runtime;
}
