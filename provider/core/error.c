#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include "core/error.h"

struct kmsenv_reporter_st {
    const OSSL_CORE_HANDLE *handle;
    OSSL_FUNC_core_new_error_fn *new_error;
    OSSL_FUNC_core_set_error_debug_fn *set_error_debug;
    OSSL_FUNC_core_vset_error_fn *vset_error;
};

static const OSSL_ITEM reason_items[] = {
#define REASON_ITEM(symbol, number, text) { number, (void *)text },
    KMSENV_REASONS(REASON_ITEM)
#undef REASON_ITEM
    { 0, NULL }
};

const OSSL_ITEM *kmsenv_reason_items(void)
{
    return reason_items;
}

const char *kmsenv_reason_text(int reason)
{
    const OSSL_ITEM *item;

    for (item = reason_items; item->id != 0; item++)
        if ((int)item->id == reason)
            return item->ptr;
    return NULL;
}

int kmsenv_reason_is_unreachable(int reason)
{
    return reason == KMSENV_R_KMS_UNREACHABLE || reason == KMSENV_R_KMS_THROTTLED;
}

int kmsenv_reason_is_refusal(int reason)
{
    switch (reason) {
    case KMSENV_R_KMS_ACCESS_DENIED:
    case KMSENV_R_KMS_KEY_DISABLED:
    case KMSENV_R_KMS_KEY_NOT_FOUND:
    case KMSENV_R_KMS_WRAP_REJECTED:
    case KMSENV_R_KMS_REQUEST_REJECTED:
        return 1;
    default:
        return 0;
    }
}

int kmsenv_error_set(KMSENV_ERROR *err, int reason, const char *fmt, ...)
{
    va_list args;

    if (err == NULL)
        return 0;
    err->reason = reason;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    return 0;
}

int kmsenv_error_prefix(KMSENV_ERROR *err, const char *fmt, ...)
{
    char old[KMSENV_ERROR_TEXT_MAX];
    va_list args;
    int n;

    if (err == NULL)
        return 0;
    memcpy(old, err->text, sizeof(old));
    va_start(args, fmt);
    n = vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(err->text))
        snprintf(err->text + n, sizeof(err->text) - (size_t)n, "%s", old);
    return 0;
}

void kmsenv_error_clear(KMSENV_ERROR *err)
{
    if (err == NULL)
        return;
    err->reason = KMSENV_R_NONE;
    err->text[0] = '\0';
}

KMSENV_REPORTER *kmsenv_reporter_new(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in)
{
    KMSENV_REPORTER *r = OPENSSL_zalloc(sizeof(*r));

    if (r == NULL)
        return NULL;
    r->handle = handle;
    for (; in->function_id != 0; in++) {
        switch (in->function_id) {
        case OSSL_FUNC_CORE_NEW_ERROR:
            r->new_error = OSSL_FUNC_core_new_error(in);
            break;
        case OSSL_FUNC_CORE_SET_ERROR_DEBUG:
            r->set_error_debug = OSSL_FUNC_core_set_error_debug(in);
            break;
        case OSSL_FUNC_CORE_VSET_ERROR:
            r->vset_error = OSSL_FUNC_core_vset_error(in);
            break;
        default:
            break;
        }
    }
    return r;
}

void kmsenv_reporter_free(KMSENV_REPORTER *reporter)
{
    OPENSSL_free(reporter);
}

static void vset(const KMSENV_REPORTER *r, int reason, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    r->vset_error(r->handle, (uint32_t)reason, fmt, args);
    va_end(args);
}

int kmsenv_reporter_raise(const KMSENV_REPORTER *reporter, const KMSENV_ERROR *err)
{
    if (reporter == NULL || reporter->new_error == NULL || reporter->vset_error == NULL
            || err->reason == KMSENV_R_NONE)
        return 0;
    reporter->new_error(reporter->handle);
    /* Files and functions of ours say nothing to a user: the text does. */
    if (reporter->set_error_debug != NULL)
        reporter->set_error_debug(reporter->handle, "kmsenv", 0, "");
    vset(reporter, err->reason, "%s", err->text);
    return 0;
}
