/* Sets of id, secret and token, wherever they are written down. */
#include "kms/credentials.h"

#define ID_MAX     256
#define SECRET_MAX 1024
#define TOKEN_MAX  8192
#define FILE_BYTES 262144

void kmsenv_credential_texts_init(KMSENV_CREDENTIAL_TEXTS *t)
{
    kmsenv_buffer_init(&t->id, ID_MAX, 1);
    kmsenv_buffer_init(&t->secret, SECRET_MAX, 1);
    kmsenv_buffer_init(&t->token, TOKEN_MAX, 1);
}

void kmsenv_credential_texts_reset(KMSENV_CREDENTIAL_TEXTS *t)
{
    kmsenv_buffer_reset(&t->id);
    kmsenv_buffer_reset(&t->secret);
    kmsenv_buffer_reset(&t->token);
}

int kmsenv_credential_texts_set(const KMSENV_CREDENTIAL_TEXTS *t, int64_t expires, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    return kmsenv_credential_set(out, kmsenv_buffer_text(&t->id), kmsenv_buffer_text(&t->secret),
                                 t->token.length == 0 ? NULL : kmsenv_buffer_text(&t->token), expires, err);
}

/* A place to read single values from: FOUND, ABSENT or FAILED with err. */
typedef int READ(const void *place, const char *name, KMSENV_BUFFER *out, KMSENV_ERROR *err);

static int from_place(READ *read, const void *place, const KMSENV_CREDENTIAL_NAMES *names, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_CREDENTIAL_TEXTS t;
    int id, secret, found = KMSENV_SOURCE_FAILED;

    kmsenv_credential_texts_init(&t);
    if ((id = read(place, names->id, &t.id, err)) == KMSENV_SOURCE_FAILED
        || (secret = read(place, names->secret, &t.secret, err)) == KMSENV_SOURCE_FAILED)
        goto end;
    if (id != secret) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "only one of %s and %s is set", names->id, names->secret);
        goto end;
    }
    if ((found = id) == KMSENV_SOURCE_ABSENT) {
        kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "%s not set", names->id);
        goto end;
    }
    found = (names->token == NULL || read(place, names->token, &t.token, err) != KMSENV_SOURCE_FAILED)
            && kmsenv_credential_texts_set(&t, 0, out, err);
 end:
    kmsenv_credential_texts_reset(&t);
    return found;
}

/* --- settings ------------------------------------------------------------- */

static int read_setting(const void *place, const char *name, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    return kmsenv_credentials_setting(place, name, out, err);
}

int kmsenv_credentials_from_settings(const KMSENV_SECTION *section, const KMSENV_CREDENTIAL_NAMES *names, KMSENV_CREDENTIAL *out,
                                     KMSENV_ERROR *err)
{
    return from_place(read_setting, section, names, out, err);
}

/* --- environment ---------------------------------------------------------- */

static int read_variable(const void *place, const char *name, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const char *value = kmsenv_credentials_env(name);

    (void)place;
    if (value == NULL)
        return KMSENV_SOURCE_ABSENT;
    if (kmsenv_buffer_add_text(out, value))
        return KMSENV_SOURCE_FOUND;
    return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "%s is longer than %zu bytes", name, out->limit);
}

int kmsenv_credentials_from_env(const KMSENV_CREDENTIAL_NAMES *names, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    return from_place(read_variable, NULL, names, out, err);
}

/* --- INI files ------------------------------------------------------------ */

typedef struct ini_st {
    const KMSENV_BUFFER *text;
    const char *section;
} INI;

static int read_ini(const void *place, const char *name, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const INI *ini = place;

    return kmsenv_credentials_ini(ini->text, ini->section, name, out, err);
}

int kmsenv_credentials_from_ini(const char *path, const char *section, const KMSENV_CREDENTIAL_NAMES *names,
                                KMSENV_CREDENTIAL *out, KMSENV_ERROR *err)
{
    KMSENV_BUFFER text;
    const INI ini = { &text, section };
    int found;

    kmsenv_buffer_init(&text, FILE_BYTES, 1);
    found = kmsenv_credentials_file(path, &text, err);
    if (found == KMSENV_SOURCE_FOUND) {
        found = from_place(read_ini, &ini, names, out, err);
        kmsenv_error_prefix(found == KMSENV_SOURCE_FOUND ? NULL : err, "%.200s: ", path);
    }
    kmsenv_buffer_reset(&text);
    return found;
}
