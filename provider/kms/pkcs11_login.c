/*
 * The login. It is the whole process's: one thread does it, the others find it done. A PIN that a
 * token has refused is never shown to it again by this process or its children, for every wrong
 * one counts and the last one locks the token; a PIN that was changed in the meantime is another.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/credentials.h"
#include "kms/pkcs11.h"

#define REFUSALS_MAX 16

static int is_user(const CK_SESSION_INFO *info)
{
    return info->state == CKS_RO_USER_FUNCTIONS || info->state == CKS_RW_USER_FUNCTIONS;
}

/*
 * 1: nothing to be done. 0 with err->reason NONE: a login is wanted. A session that is not as we opened it is another's: the
 * module was finalised and initialised in the meantime, and has given the handle away again.
 */
static int is_logged_in(KMSENV_PKCS11_SESSION *s, KMSENV_ERROR *err)
{
    CK_SESSION_INFO info;
    CK_RV rv = s->f->C_GetSessionInfo(s->handle, &info);

    kmsenv_error_clear(err);
    if (rv == CKR_OK && (info.slotID != s->slot || (info.flags & CKF_RW_SESSION) != 0))
        rv = CKR_SESSION_HANDLE_INVALID;
    return rv == CKR_OK ? is_user(&info) : kmsenv_pkcs11_fault(s, "C_GetSessionInfo", rv, err);
}

/* The PIN as the setting says now. A process that may no longer read its file uses what it has read before. */
static int read_pin(KMSENV_PKCS11_MODULE *m, const KMSENV_PKCS11_ACCESS *access, KMSENV_ERROR *err)
{
    KMSENV_BUFFER now;
    int ok;

    kmsenv_buffer_init(&now, KMSENV_PKCS11_PIN_MAX, 1);
    ok = kmsenv_credentials_setting(access->section, "pin", &now, err) == KMSENV_SOURCE_FOUND && now.length > 0;
    if (ok)
        kmsenv_pkcs11_swap(m, access->pin, &now);
    kmsenv_buffer_reset(&now);
    return access->pin->length > 0;
}

/* --- refused PINs --------------------------------------------------------- */

static int same_token(const CK_TOKEN_INFO *a, const CK_TOKEN_INFO *b)
{
    return memcmp(a->label, b->label, sizeof(a->label)) == 0
           && memcmp(a->serialNumber, b->serialNumber, sizeof(a->serialNumber)) == 0;
}

static int same_pin(const KMSENV_BUFFER *a, const char *b)
{
    return strlen(b) == a->length && CRYPTO_memcmp(a->data, b, a->length) == 0;
}

static int refused_before(KMSENV_PKCS11_SESSION *s, const KMSENV_BUFFER *pin, KMSENV_ERROR *err)
{
    const KMSENV_PKCS11_REFUSAL *r;
    size_t count = 0;

    for (r = kmsenv_pkcs11_refusals(s->module); r != NULL; r = r->next) {
        count++;
        if (same_token(&r->token, &s->token) && same_pin(pin, r->pin)) {
            kmsenv_pkcs11_fault(NULL, "C_Login", r->rv, err);
            err->reason = KMSENV_R_KMS_CREDENTIALS;   /* whatever the module called it */
            kmsenv_error_prefix(err, "not tried again with this PIN, so as not to lock the token: correct pin, or restart the "
                                "program; the token has said: ");
            return 1;
        }
    }
    if (count < REFUSALS_MAX)
        return 0;
    kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "%d PINs have been refused; restart the program with the right one", REFUSALS_MAX);
    return 1;
}

/* Without memory for it the fault stays as it is, and the next operation would try again: so it is reserved before. */
static KMSENV_PKCS11_REFUSAL *new_refusal(const KMSENV_PKCS11_SESSION *s, const KMSENV_BUFFER *pin)
{
    KMSENV_PKCS11_REFUSAL *r = OPENSSL_zalloc(sizeof(*r));

    if (r == NULL || (r->pin = kmsenv_secret_strndup((const char *)pin->data, pin->length)) == NULL) {
        OPENSSL_free(r);
        return NULL;
    }
    r->token = s->token;
    return r;
}

static void free_refusal(KMSENV_PKCS11_REFUSAL *r)
{
    if (r == NULL)
        return;
    kmsenv_secret_free(r->pin);
    OPENSSL_free(r);
}

/* --- login ---------------------------------------------------------------- */

/* What the token says of its PIN before it is shown one. */
static int check_flags(const CK_TOKEN_INFO *token, KMSENV_ERROR *err)
{
    if ((token->flags & CKF_USER_PIN_LOCKED) != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "the token's PIN is locked after too many wrong ones; the security "
                                "officer can unlock it");
    if ((token->flags & CKF_USER_PIN_FINAL_TRY) != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_CREDENTIALS, "one more wrong PIN would lock the token, so no login is tried; log in "
                                "by hand once with the right one: pkcs11-tool --login --list-objects");
    return 1;
}

/* Some modules have other words for a wrong PIN; then the flags tell that the token has counted one. */
static int was_counted(KMSENV_PKCS11_SESSION *s)
{
    const CK_FLAGS count = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED;
    CK_TOKEN_INFO now;

    return s->f->C_GetTokenInfo(s->slot, &now) == CKR_OK && (now.flags & count) != 0;
}

static int try_pin(KMSENV_PKCS11_SESSION *s, const KMSENV_BUFFER *pin, KMSENV_ERROR *err)
{
    KMSENV_PKCS11_REFUSAL *refusal;
    CK_RV rv;

    if (refused_before(s, pin, err))
        return 0;
    if ((refusal = new_refusal(s, pin)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to log in");
    rv = s->f->C_Login(s->handle, CKU_USER, pin->data, pin->length);
    if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) {
        free_refusal(refusal);
        return 1;
    }
    if (kmsenv_pkcs11_refuses_pin(rv) || was_counted(s)) {
        refusal->rv = rv;
        kmsenv_pkcs11_refuse(s->module, refusal);
    } else {
        free_refusal(refusal);
    }
    return kmsenv_pkcs11_fault(s, "C_Login", rv, err);
}

/* Behind the gate. */
static int log_in(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_ACCESS *access, KMSENV_ERROR *err)
{
    CK_RV rv;

    if (is_logged_in(s, err))
        return 1;
    if (err->reason != KMSENV_R_NONE)
        return 0;
    if ((rv = s->f->C_GetTokenInfo(s->slot, &s->token)) != CKR_OK)
        return kmsenv_pkcs11_fault(s, "C_GetTokenInfo", rv, err);
    if ((s->token.flags & CKF_LOGIN_REQUIRED) == 0)
        return 1;
    return check_flags(&s->token, err) && read_pin(s->module, access, err) && try_pin(s, access->pin, err);
}

int kmsenv_pkcs11_login(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_ACCESS *access, uint64_t deadline_ms, KMSENV_ERROR *err)
{
    int ok;

    if (is_logged_in(s, err))
        return 1;
    if (err->reason != KMSENV_R_NONE)
        return 0;
    if (!kmsenv_section_is_set(access->section, "pin"))
        return 1;                /* the key may be one that everybody sees */
    if (!kmsenv_pkcs11_gate_enter(s->module, deadline_ms, err))
        return 0;
    ok = log_in(s, access, err);
    kmsenv_pkcs11_gate_leave(s->module);
    return ok;
}
