#include <string.h>
#include <openssl/crypto.h>
#include "core/buffer.h"
#include "dek/deks_local.h"

/* FNV-1a: it finds the place in a table of a few entries that this process made itself. */
static uint64_t hash_of(const unsigned char *p, size_t n)
{
    uint64_t h = 14695981039346656037u;

    while (n-- > 0)
        h = (h ^ *p++) * 1099511628211u;
    return h;
}

/* Everything that decides which DEK the request gets, in one string of bytes. */
static int set_name(KMSENV_DEK_REQUEST *r)
{
    KMSENV_BUFFER b;
    size_t i;

    kmsenv_buffer_init(&b, KMSENV_HEADER_MAX, 0);
    /* The count says where the profiles end: no context may read like one more of them. */
    kmsenv_buffer_printf(&b, "new %d %d %zu", r->detached, r->has_context, r->count);
    for (i = 0; i < r->count; i++)
        kmsenv_buffer_printf(&b, " %zu", r->profile[i]);
    for (i = 0; i < r->context.count; i++) {
        kmsenv_buffer_add(&b, r->context.name[i], strlen(r->context.name[i]) + 1);
        kmsenv_buffer_add(&b, r->context.value[i], strlen(r->context.value[i]) + 1);
    }
    if (b.failed) {
        kmsenv_buffer_reset(&b);
        return 0;
    }
    OPENSSL_free(r->name);
    r->answer = NULL;
    r->name = b.data;
    r->name_len = b.length;
    r->hash = hash_of(b.data, b.length);
    return 1;
}

static int no_memory(KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the parameters of a message");
}

void kmsenv_dek_request_set_sealed_key(KMSENV_DEK_REQUEST *request)
{
    request->is_for_sealed_key = 1;
}

KMSENV_DEK_REQUEST *kmsenv_dek_request_new(KMSENV_DEKS *deks)
{
    KMSENV_DEK_REQUEST *r;
    size_t i;

    if (deks->defaults != NULL)
        return kmsenv_dek_request_dup(deks->defaults);
    if ((r = OPENSSL_zalloc(sizeof(*r))) == NULL)
        return NULL;
    r->deks = deks;
    r->count = deks->count;
    for (i = 0; i < r->count; i++)
        r->profile[i] = i;
    if (!set_name(r)) {
        kmsenv_dek_request_free(r);
        return NULL;
    }
    return r;
}

void kmsenv_dek_request_free(KMSENV_DEK_REQUEST *request)
{
    if (request == NULL)
        return;
    kmsenv_context_reset(&request->context);
    OPENSSL_free(request->data_key);
    OPENSSL_free(request->name);
    OPENSSL_free(request);
}

KMSENV_DEK_REQUEST *kmsenv_dek_request_dup(const KMSENV_DEK_REQUEST *request)
{
    KMSENV_DEK_REQUEST *r = OPENSSL_memdup(request, sizeof(*request));

    if (r == NULL)
        return NULL;
    kmsenv_context_init(&r->context);
    r->name = OPENSSL_memdup(request->name, request->name_len);
    r->data_key = request->data_key == NULL ? NULL : OPENSSL_memdup(request->data_key, request->data_key_len);
    if (r->name == NULL || (r->data_key == NULL) != (request->data_key == NULL)
            || !kmsenv_context_copy(&r->context, &request->context)) {
        kmsenv_dek_request_free(r);
        return NULL;
    }
    return r;
}

static int profile_index(const KMSENV_DEKS *deks, const char *name, size_t len, size_t *index)
{
    size_t i;

    for (i = 0; i < deks->count; i++) {
        const char *known = kmsenv_kms_profile(deks->profile[i]);

        if (strlen(known) == len && memcmp(known, name, len) == 0) {
            *index = i;
            return 1;
        }
    }
    return 0;
}

static int is_chosen(const size_t *chosen, size_t count, size_t index)
{
    while (count-- > 0)
        if (chosen[count] == index)
            return 1;
    return 0;
}

int kmsenv_dek_request_set_profiles(KMSENV_DEK_REQUEST *request, const char *names, KMSENV_ERROR *err)
{
    size_t chosen[KMSENV_PROFILES_MAX], count = 0, len, index;
    const char *p = names + strspn(names, " ");
    char shown[64];

    for (;;) {
        len = strcspn(p, ", ");
        if (!profile_index(request->deks, p, len, &index))
            return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID,
                                    "'%s' names a profile that is not configured; accepted: names of the setting 'profiles', separated by ','",
                                    kmsenv_shown(names, shown));
        if (is_chosen(chosen, count, index) || count == KMSENV_PROFILES_MAX)
            return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "'%s' names a profile twice", kmsenv_shown(names, shown));
        chosen[count++] = index;
        p += len;
        p += strspn(p, " ");
        if (*p == '\0')
            break;
        if (*p == ',')
            p++;
        p += strspn(p, " ");
    }
    memcpy(request->profile, chosen, count * sizeof(chosen[0]));
    request->count = count;
    request->has_profiles = 1;
    return set_name(request) || no_memory(err);
}

int kmsenv_dek_request_set_context(KMSENV_DEK_REQUEST *request, const char *text, KMSENV_ERROR *err)
{
    KMSENV_CONTEXT context;

    kmsenv_context_init(&context);
    if (!kmsenv_context_parse(&context, text, err)) {
        kmsenv_context_reset(&context);
        return 0;
    }
    kmsenv_context_reset(&request->context);
    request->context = context;
    request->has_context = 1;
    return set_name(request) || no_memory(err);
}

int kmsenv_dek_request_set_wraps(KMSENV_DEK_REQUEST *request, const char *text, KMSENV_ERROR *err)
{
    if (strcmp(text, "inline") != 0 && strcmp(text, "detached") != 0)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "parameter kmsenv.wraps; accepted: inline, detached");
    request->detached = text[0] == 'd';
    return set_name(request) || no_memory(err);
}

int kmsenv_dek_request_is_detached(const KMSENV_DEK_REQUEST *request)
{
    return request->detached;
}

int kmsenv_dek_request_set_data_key(KMSENV_DEK_REQUEST *request, const unsigned char *bytes, size_t len, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *key;

    OPENSSL_free(request->data_key);
    request->data_key = NULL;
    if (len == 0)
        return 1;
    if (kmsenv_reference_is(bytes, len))
        return kmsenv_references_find(request->deks, bytes, len, &request->data_key, &request->data_key_len, err);
    if ((key = kmsenv_data_key_parse(bytes, len, err)) == NULL)
        return 0;
    kmsenv_data_key_free(key);
    request->data_key = OPENSSL_memdup(bytes, len);
    request->data_key_len = len;
    return request->data_key != NULL || no_memory(err);
}

int kmsenv_dek_request_has_data_key(const KMSENV_DEK_REQUEST *request)
{
    return request->data_key != NULL;
}

int kmsenv_dek_request_is_data_key(const KMSENV_DEK_REQUEST *request, const unsigned char *der, size_t len)
{
    return request->data_key != NULL && request->data_key_len == len && memcmp(request->data_key, der, len) == 0;
}
