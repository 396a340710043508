#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include "dek/deks.h"
#include "entry/config.h"
#include "ops/cipher_envelope.h"

#define KEY_MAX 256    /* of "profile.setting" */

const KMSENV_SETTING kmsenv_provider_settings[] = {
    { "profiles", KMSENV_NAMES, NULL, 0, 0, NULL,
      "Names of the profiles, each with a section of its own; the first is the default one. Without it the provider's section is the one profile, named `default`." },
    { "block-size", KMSENV_CHOICE, NULL, 0, 0, KMSENV_BLOCK_SIZES,
      "What the cipher tells its callers to be its block size, in bytes: the header of a message must fit. Without it what the wraps of "
      "the profiles are likely to take: 512 for one of most KMSes." },
    { "segment-bits", KMSENV_NUMBER, "35", 12, 35, NULL,
      "Log2 of the segment size of new messages. Small segments are verified early and can be read by range; each costs 17 bytes." },
    { "key-references", KMSENV_BOOLEAN, "no", 0, 0, NULL,
      "Offer the ordinary ciphers (AES-256-GCM and all others with a key of 16 bytes or more) and MACs (HMAC, CMAC, GMAC, KMAC and all "
      "others) as well, so that a key reference in place of a key works in any program. Other keys pass through. "
      "The types AES and GENERIC-SECRET of symmetric key objects come with them." },
    { "audit-log", KMSENV_TEXT, NULL, 0, 0, "an absolute path, or syslog",
      "Where one JSON line per KMS operation is written." },
    { "crypto-provider", KMSENV_TEXT, "default", 0, 0, "the name of an OpenSSL provider such as default or fips",
      "The provider that does the inner AES-GCM, HMAC, SHA-256 and random numbers." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

/* --- raw values ----------------------------------------------------------- */

const char *kmsenv_config_core_text(const KMSENV_SOURCE *source, const char *key)
{
    char *value = NULL;
    OSSL_PARAM params[2] = { OSSL_PARAM_construct_utf8_ptr(key, &value, 0), OSSL_PARAM_construct_end() };

    if (source->get_params == NULL || !source->get_params(source->handle, params))
        return NULL;
    return value;
}

/* key-file = KMSENV_KEY_FILE */
static const char *environment_text(const char *name)
{
    char twin[KEY_MAX] = "KMSENV_";
    size_t i, at = strlen(twin);
    const char *value;

    for (i = 0; name[i] != '\0' && at + 1 < sizeof(twin); i++)
        twin[at++] = (char)(name[i] == '-' ? '_' : toupper((unsigned char)name[i]));
    twin[at] = '\0';
    value = secure_getenv(twin);
    return value == NULL || value[0] == '\0' ? NULL : value;
}

const char *kmsenv_config_peek(const KMSENV_SOURCE *source, const char *name)
{
    const char *value = environment_text(name);

    return value != NULL ? value : kmsenv_config_core_text(source, name);
}

/* --- before the rest ------------------------------------------------------ */

#define HEADER_ROOM 200    /* of a header without wraps, with some for an encryption context */
#define WRAP_ROOM   250

static size_t wrap_room(const char *kms)
{
    const KMSENV_KMS_METHOD *method = kms == NULL ? NULL : kmsenv_kms_method_find(kms);

    return method == NULL || method->wrap_room == 0 ? WRAP_ROOM : method->wrap_room;
}

size_t kmsenv_config_header_room(const KMSENV_SOURCE *source)
{
    const char *names = kmsenv_config_peek(source, "profiles"), *wraps = kmsenv_config_peek(source, "wraps");
    size_t n, room = HEADER_ROOM;
    char key[KEY_MAX];

    if (wraps != NULL && strcmp(wraps, "detached") == 0)
        return room;
    if (names == NULL)
        return room + wrap_room(kmsenv_config_peek(source, "kms"));
    for (names += strspn(names, ", "); *names != '\0'; names += strspn(names, ", ")) {
        n = strcspn(names, ", ");
        if (snprintf(key, sizeof(key), "%.*s.kms", (int)n, names) < KEY_MAX)
            room += wrap_room(kmsenv_config_core_text(source, key));
        names += n;
    }
    return room;
}

/* --- sections ------------------------------------------------------------- */

typedef struct loader_st {
    const KMSENV_SOURCE *source;
    KMSENV_CONFIG_FILE *file;      /* may be NULL */
    KMSENV_CONFIG *config;
    KMSENV_ERROR *err;
} LOADER;

/* The value of a setting of a profile (prefix) or of the flat section (NULL). *in_file: it stands in openssl.cnf. */
static const char *raw_text(const LOADER *l, const KMSENV_SECTION *section, const char *prefix, const char *name, int *in_file)
{
    char key[KEY_MAX];
    const char *value = prefix == NULL ? environment_text(name) : NULL;

    *in_file = value == NULL;
    if (value != NULL)
        return value;
    snprintf(key, sizeof(key), "%s%s%s", prefix == NULL ? "" : prefix, prefix == NULL ? "" : ".", name);
    value = kmsenv_config_core_text(l->source, key);
    if (value == NULL && l->file != NULL)
        value = kmsenv_config_file_text(l->file, kmsenv_section_name(section), name);
    return value;
}

static int no_memory(KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the configuration");
}

static int is_literal_secret(const KMSENV_SETTING *s, const char *value)
{
    return s->type == KMSENV_SECRET && strncmp(value, "env:", 4) != 0 && strncmp(value, "file:", 5) != 0;
}

static int set_one(const LOADER *l, KMSENV_SECTION *section, const char *prefix, const KMSENV_SETTING *s)
{
    int in_file;
    const char *value = raw_text(l, section, prefix, s->name, &in_file);

    if (value == NULL)
        return 1;
    if (in_file && is_literal_secret(s, value) && l->file != NULL && kmsenv_config_file_is_public(l->file))
        return kmsenv_error_set(l->err, KMSENV_R_CONFIG_INVALID,
                                "section [%s]: '%s' is a secret in a file that every user can read: "
                                "use env:NAME or file:/PATH, or take the read permission of others away",
                                kmsenv_section_name(section), s->name);
    return kmsenv_section_set(section, s->name, value, l->err);
}

static int fill(const LOADER *l, KMSENV_SECTION *section, const char *prefix)
{
    const KMSENV_SETTING *s;
    size_t i;

    for (i = 0; (s = kmsenv_section_at(section, i)) != NULL; i++)
        if (!set_one(l, section, prefix, s))
            return 0;
    return 1;
}

/* --- profiles ------------------------------------------------------------- */

static const char *kind_names(char *out, size_t room)
{
    const KMSENV_KMS_METHOD *const *m;
    size_t used = 0;

    out[0] = '\0';
    for (m = kmsenv_kms_methods(); *m != NULL && used < room; m++)
        used += (size_t)snprintf(out + used, room - used, "%s%s", used > 0 ? ", " : "", (*m)->name);
    return out;
}

/* Gives a section the tables of its kind of KMS and makes it a profile. */
static int add_profile(const LOADER *l, const char *name, const char *prefix, KMSENV_SECTION *section)
{
    const KMSENV_KMS_METHOD *method = NULL;
    KMSENV_CONFIG *c = l->config;
    char names[200];
    int in_file;
    const char *kind = raw_text(l, section, prefix, "kms", &in_file);

    if (kind != NULL)
        method = kmsenv_kms_method_find(kind);
    if (method == NULL)
        return kmsenv_error_set(l->err, KMSENV_R_CONFIG_INVALID, "section [%s] (profile '%s'): setting 'kms' %s%.40s%s; accepted: %s",
                                kmsenv_section_name(section), name, kind == NULL ? "is required" : "has the value '",
                                kind == NULL ? "" : kind, kind == NULL ? "" : "'", kind_names(names, sizeof(names)));
    if (!kmsenv_kms_add_tables(section, method)
            || (c->profile[c->profiles].name = OPENSSL_strdup(name)) == NULL)
        return no_memory(l->err);
    c->profile[c->profiles].method = method;
    c->profile[c->profiles++].section = section;
    return 1;
}

static int is_flat(const KMSENV_CONFIG *c)
{
    return c->profiles == 1 && c->profile[0].section == c->provider;
}

static int load_named(const LOADER *l, const char *name)
{
    const char *title = l->file == NULL ? NULL : kmsenv_config_file_section(l->file, name);
    KMSENV_SECTION *section = kmsenv_section_new(title != NULL ? title : name);

    if (section == NULL)
        return no_memory(l->err);
    if (!add_profile(l, name, name, section)) {
        kmsenv_section_free(section);
        return 0;
    }
    return (title == NULL || kmsenv_config_file_check(l->file, title, section, NULL, l->err))
        && fill(l, section, name);
}

static int load_profiles(const LOADER *l, const char *names)
{
    char name[KEY_MAX / 2];
    const char *p;
    size_t i, n;

    for (p = names; *p != '\0'; p += n, p += strspn(p, ", ")) {
        n = strcspn(p, ", ");
        if (l->config->profiles == KMSENV_CONFIG_PROFILES_MAX || n == 0 || n >= sizeof(name))
            return kmsenv_error_set(l->err, KMSENV_R_CONFIG_INVALID,
                                    "section [%s]: setting 'profiles' accepts 1 to 16 names of 1 to 127 characters",
                                    kmsenv_section_name(l->config->provider));
        snprintf(name, sizeof(name), "%.*s", (int)n, p);
        for (i = 0; i < l->config->profiles; i++)
            if (strcmp(l->config->profile[i].name, name) == 0)
                return kmsenv_error_set(l->err, KMSENV_R_CONFIG_INVALID, "section [%s]: setting 'profiles' names '%s' twice",
                                        kmsenv_section_name(l->config->provider), name);
        if (!load_named(l, name))
            return 0;
    }
    return 1;
}

/* --- all of it ------------------------------------------------------------ */

static int load(const LOADER *l)
{
    KMSENV_SECTION *flat = l->config->provider;
    const char *names;
    int in_file;

    if (!kmsenv_section_add_table(flat, kmsenv_provider_settings) || !kmsenv_section_add_table(flat, kmsenv_deks_settings))
        return no_memory(l->err);
    names = raw_text(l, flat, NULL, "profiles", &in_file);
    if (names == NULL && raw_text(l, flat, NULL, "kms", &in_file) != NULL && !add_profile(l, "default", NULL, flat))
        return 0;
    if (l->file != NULL
            && !kmsenv_config_file_check(l->file, kmsenv_config_file_section(l->file, NULL), flat, names, l->err))
        return 0;
    if (!fill(l, flat, NULL))
        return 0;
    names = kmsenv_section_text(flat, "profiles");
    return names == NULL || load_profiles(l, names);
}

KMSENV_CONFIG *kmsenv_config_load(const KMSENV_SOURCE *source, OSSL_LIB_CTX *libctx, KMSENV_ERROR *err)
{
    const char *name = kmsenv_config_core_text(source, OSSL_PROV_PARAM_CORE_PROV_NAME);
    LOADER l = { source, NULL, OPENSSL_zalloc(sizeof(KMSENV_CONFIG)), err };
    const char *title;

    if (name == NULL)
        name = "kmsenv";
    l.file = kmsenv_config_file_open(libctx, name, source);
    title = l.file == NULL ? name : kmsenv_config_file_section(l.file, NULL);
    if (l.config == NULL || (l.config->provider = kmsenv_section_new(title)) == NULL) {
        no_memory(err);
    } else if (load(&l)) {
        kmsenv_config_file_free(l.file);
        return l.config;
    }
    kmsenv_config_file_free(l.file);
    kmsenv_config_free(l.config);
    return NULL;
}

void kmsenv_config_free(KMSENV_CONFIG *config)
{
    size_t i;

    if (config == NULL)
        return;
    for (i = 0; i < config->profiles && !is_flat(config); i++)
        kmsenv_section_free(config->profile[i].section);
    for (i = 0; i < config->profiles; i++)
        OPENSSL_free(config->profile[i].name);
    kmsenv_section_free(config->provider);
    OPENSSL_free(config);
}
