#include <stdio.h>
#include "kms/pkcs11.h"

typedef struct row_st {
    CK_RV rv;
    const char *name;
    int reason;
    enum kmsenv_pkcs11_fate fate;
    const char *text;
} ROW;

#define CKR(name, reason, fate, text) { CKR_##name, "CKR_" #name, KMSENV_R_##reason, KMSENV_PKCS11_##fate, text }
#define TOKEN_GONE  "the token is not there any more; insert it, or bring its server back"
#define NO_SESSION  "the session with the token is gone"
#define NO_USE      "the key does not allow this; it needs CKA_ENCRYPT and CKA_DECRYPT for aes-gcm, CKA_WRAP and CKA_UNWRAP for aes-kwp"
#define NOT_THE_KEY "the key is not there any more"
#define NOT_AES     "the key is not one that this mechanism can use: it must be an AES key"
#define DAMAGED     "the wrapped data key is damaged, was wrapped by another key, or its encryption context is not the one given"
#define NO_OBJECTS  "the token does not let data keys be objects of a session, which aes-kwp needs; use aes-gcm"
#define TRY_OTHER   "the token does not have this mechanism; try the other one: mechanism = aes-gcm or aes-kwp"
#define TOKEN_FAULT "the token or its module has failed; its log should say more"

static const ROW rows[] = {
    CKR(HOST_MEMORY, OUT_OF_MEMORY, CLOSE, "no memory"),
    CKR(DEVICE_MEMORY, KMS_THROTTLED, CLOSE, "the token has no memory left"),
    CKR(GENERAL_ERROR, KMS_UNREACHABLE, RETRY, TOKEN_FAULT),
    CKR(FUNCTION_FAILED, KMS_UNREACHABLE, RETRY, TOKEN_FAULT),
    CKR(DEVICE_ERROR, KMS_UNREACHABLE, RETRY, TOKEN_FAULT),
    CKR(DEVICE_REMOVED, KMS_UNREACHABLE, VOID, TOKEN_GONE),
    CKR(TOKEN_NOT_PRESENT, KMS_UNREACHABLE, VOID, TOKEN_GONE),
    CKR(TOKEN_NOT_RECOGNIZED, KMS_UNREACHABLE, VOID, TOKEN_GONE),
    CKR(SLOT_ID_INVALID, KMS_UNREACHABLE, VOID, TOKEN_GONE),
    CKR(SESSION_HANDLE_INVALID, KMS_UNREACHABLE, VOID, NO_SESSION),
    CKR(SESSION_CLOSED, KMS_UNREACHABLE, VOID, NO_SESSION),
    CKR(CRYPTOKI_NOT_INITIALIZED, KMS_UNREACHABLE, VOID, "somebody else in this process has finalised the module"),
    CKR(USER_NOT_LOGGED_IN, KMS_CREDENTIALS, RETRY, "the token wants a login; set pin"),
    CKR(OPERATION_ACTIVE, KMS_UNREACHABLE, RETRY, NO_SESSION),
    CKR(OPERATION_NOT_INITIALIZED, KMS_UNREACHABLE, RETRY, NO_SESSION),
    CKR(SESSION_COUNT, KMS_THROTTLED, CLOSE, "the token has no session left; other programs hold them"),
    CKR(SESSION_READ_WRITE_SO_EXISTS, KMS_CREDENTIALS, CLOSE, "the security officer is logged in by another part of this process"),
    CKR(USER_ANOTHER_ALREADY_LOGGED_IN, KMS_CREDENTIALS, CLOSE, "another user is logged in by another part of this process"),
    CKR(USER_TOO_MANY_TYPES, KMS_CREDENTIALS, CLOSE, "another user is logged in by another part of this process"),
    CKR(USER_PIN_NOT_INITIALIZED, KMS_CREDENTIALS, CLOSE, "the token has no user PIN yet; initialise it"),
    CKR(PIN_INCORRECT, KMS_CREDENTIALS, CLOSE, "the token refuses the PIN"),
    CKR(PIN_INVALID, KMS_CREDENTIALS, CLOSE, "the PIN has characters that the token does not take"),
    CKR(PIN_LEN_RANGE, KMS_CREDENTIALS, CLOSE, "the PIN is shorter or longer than the token's can be"),
    CKR(PIN_EXPIRED, KMS_CREDENTIALS, CLOSE, "the PIN has expired; set a new one"),
    CKR(PIN_LOCKED, KMS_CREDENTIALS, CLOSE, "the PIN is locked after too many wrong ones; the security officer can unlock it"),
    CKR(FUNCTION_REJECTED, KMS_ACCESS_DENIED, CLOSE, "it was rejected at the token"),
    CKR(FUNCTION_CANCELED, KMS_ACCESS_DENIED, CLOSE, "it was cancelled at the token"),
    CKR(ACTION_PROHIBITED, KMS_ACCESS_DENIED, KEEP, NO_USE),
    CKR(KEY_FUNCTION_NOT_PERMITTED, KMS_ACCESS_DENIED, KEEP, NO_USE),
    CKR(KEY_HANDLE_INVALID, KMS_KEY_NOT_FOUND, KEEP, NOT_THE_KEY),
    CKR(OBJECT_HANDLE_INVALID, KMS_KEY_NOT_FOUND, KEEP, NOT_THE_KEY),
    CKR(WRAPPING_KEY_HANDLE_INVALID, KMS_KEY_NOT_FOUND, KEEP, NOT_THE_KEY),
    CKR(UNWRAPPING_KEY_HANDLE_INVALID, KMS_KEY_NOT_FOUND, KEEP, NOT_THE_KEY),
    CKR(KEY_TYPE_INCONSISTENT, KMS_REQUEST_REJECTED, KEEP, NOT_AES),
    CKR(KEY_SIZE_RANGE, KMS_REQUEST_REJECTED, KEEP, NOT_AES),
    CKR(WRAPPING_KEY_TYPE_INCONSISTENT, KMS_REQUEST_REJECTED, KEEP, NOT_AES),
    CKR(WRAPPING_KEY_SIZE_RANGE, KMS_REQUEST_REJECTED, KEEP, NOT_AES),
    CKR(UNWRAPPING_KEY_TYPE_INCONSISTENT, KMS_REQUEST_REJECTED, KEEP, NOT_AES),
    CKR(UNWRAPPING_KEY_SIZE_RANGE, KMS_REQUEST_REJECTED, KEEP, NOT_AES),
    CKR(KEY_NOT_WRAPPABLE, KMS_REQUEST_REJECTED, KEEP, NO_OBJECTS),
    CKR(KEY_UNEXTRACTABLE, KMS_REQUEST_REJECTED, KEEP, NO_OBJECTS),
    CKR(ATTRIBUTE_SENSITIVE, KMS_REQUEST_REJECTED, KEEP, NO_OBJECTS),
    CKR(ATTRIBUTE_VALUE_INVALID, KMS_REQUEST_REJECTED, KEEP, NO_OBJECTS),
    CKR(ATTRIBUTE_READ_ONLY, KMS_REQUEST_REJECTED, KEEP, NO_OBJECTS),
    CKR(TEMPLATE_INCONSISTENT, KMS_REQUEST_REJECTED, KEEP, NO_OBJECTS),
    CKR(TEMPLATE_INCOMPLETE, KMS_REQUEST_REJECTED, KEEP, NO_OBJECTS),
    CKR(SESSION_READ_ONLY, KMS_REQUEST_REJECTED, KEEP, NO_OBJECTS),
    CKR(MECHANISM_INVALID, KMS_UNSUPPORTED, KEEP, TRY_OTHER),
    CKR(FUNCTION_NOT_SUPPORTED, KMS_UNSUPPORTED, KEEP, "the token does not have this function; try the other mechanism"),
    CKR(MECHANISM_PARAM_INVALID, KMS_REQUEST_REJECTED, KEEP, "the token does not take this IV, tag or encryption context"),
    CKR(ARGUMENTS_BAD, KMS_REQUEST_REJECTED, CLOSE, "the module does not take these arguments"),
    CKR(DATA_INVALID, KMS_REQUEST_REJECTED, KEEP, "the token does not take this data"),
    CKR(DATA_LEN_RANGE, KMS_INPUT_TOO_LARGE, KEEP, "the token does not take so much data"),
    CKR(BUFFER_TOO_SMALL, KMS_REPLY_MALFORMED, CLOSE, "the token has more to return than there can be"),
    CKR(ENCRYPTED_DATA_INVALID, KMS_WRAP_REJECTED, KEEP, DAMAGED),
    CKR(ENCRYPTED_DATA_LEN_RANGE, KMS_WRAP_REJECTED, KEEP, DAMAGED),
    CKR(WRAPPED_KEY_INVALID, KMS_WRAP_REJECTED, KEEP, DAMAGED),
    CKR(WRAPPED_KEY_LEN_RANGE, KMS_WRAP_REJECTED, KEEP, DAMAGED),
    CKR(CANT_LOCK, KMS_UNSUPPORTED, CLOSE, "the module cannot be used by several threads"),
    CKR(NEED_TO_CREATE_THREADS, KMS_UNSUPPORTED, CLOSE, "the module wants threads of its own"),
    CKR(FIPS_SELF_TEST_FAILED, KMS_UNREACHABLE, CLOSE, "the token's self test has failed"),
    { KMSENV_CKR_AEAD_DECRYPT_FAILED, "CKR_AEAD_DECRYPT_FAILED", KMSENV_R_KMS_WRAP_REJECTED, KMSENV_PKCS11_KEEP, DAMAGED },
    { CKR_OK, "unknown", KMSENV_R_KMS_UNREACHABLE, KMSENV_PKCS11_CLOSE,
      "this return value is not known here; the module's manual should say more" }
};

int kmsenv_pkcs11_fault(KMSENV_PKCS11_SESSION *s, const char *function, CK_RV rv, KMSENV_ERROR *err)
{
    const ROW *row;

    for (row = rows; row->rv != CKR_OK && row->rv != rv; row++)
        ;
    if (s != NULL && s->fate < row->fate)
        s->fate = row->fate;
    return kmsenv_error_set(err, row->reason, "%s: %s (0x%lx): %s", function, row->name, rv, row->text);
}

int kmsenv_pkcs11_refuses_pin(CK_RV rv)
{
    return rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE || rv == CKR_PIN_EXPIRED
           || rv == CKR_PIN_LOCKED;
}

int kmsenv_pkcs11_is_vague(CK_RV rv)
{
    return rv == CKR_GENERAL_ERROR || rv == CKR_FUNCTION_FAILED || rv == CKR_ARGUMENTS_BAD || rv == CKR_DATA_INVALID
           || rv == CKR_MECHANISM_PARAM_INVALID;
}
