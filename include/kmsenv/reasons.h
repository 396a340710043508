/*
 * Reason codes of the kmsenv provider.
 *
 * Every failure leaves exactly one entry of the provider in OpenSSL's error queue:
 * ERR_GET_REASON() of it is one of these numbers and its data (ERR_get_error_all) is a
 * sentence that names what failed, where, and what to do about it. The numbers never change.
 */
#ifndef KMSENV_REASONS_H
# define KMSENV_REASONS_H

/* X(symbol, number, text shown by ERR_reason_error_string) */
# define KMSENV_REASONS(X) \
    X(CONFIG_INVALID,          1, "configuration invalid") \
    X(OUT_OF_MEMORY,           2, "out of memory") \
    X(CRYPTO_FAILED,           3, "inner cryptographic operation failed") \
    X(WRONG_STATE,             4, "operation not possible in this state") \
    X(OUTPUT_TOO_SMALL,        5, "output buffer too small") \
    X(INPUT_TOO_LARGE,         6, "input too large") \
    X(PARAMETER_INVALID,       7, "parameter invalid") \
    X(HEADER_TOO_LARGE,        8, "message header does not fit the block size") \
    X(QUEUE_OVERRUN,           9, "more pending output than the caller has room for") \
    X(NOT_AN_ENVELOPE,        20, "not a kmsenv message") \
    X(MESSAGE_MALFORMED,      21, "envelope malformed") \
    X(MESSAGE_TRUNCATED,      22, "message truncated") \
    X(MESSAGE_DAMAGED,        23, "message damaged or altered") \
    X(COMMITMENT_MISMATCH,    24, "wrong data key or wrong caller's key") \
    X(CONTEXT_MISMATCH,       25, "encryption context mismatch") \
    X(NO_USABLE_WRAP,         40, "no configured profile can open this data key") \
    X(DATA_KEY_MISMATCH,      41, "unwrapped data key is not the one named") \
    X(DATA_KEY_NOT_FOUND,     42, "data key not in the keyring") \
    X(DATA_KEY_UNSUITABLE,    43, "data key unsuitable") \
    X(KEYRING_FAILED,         44, "keyring cannot be used") \
    X(TOO_FEW_WRAPS,          45, "too few profiles could wrap the data key") \
    X(KMS_UNREACHABLE,        60, "KMS unreachable") \
    X(KMS_THROTTLED,          61, "KMS throttles requests") \
    X(KMS_ACCESS_DENIED,      62, "KMS access denied") \
    X(KMS_KEY_DISABLED,       63, "KMS key disabled or being deleted") \
    X(KMS_KEY_NOT_FOUND,      64, "KMS key not found") \
    X(KMS_WRAP_REJECTED,      65, "KMS rejects the wrapped data key") \
    X(KMS_CREDENTIALS,        66, "KMS credentials missing or invalid") \
    X(KMS_REPLY_MALFORMED,    67, "KMS reply malformed") \
    X(KMS_REQUEST_REJECTED,   68, "KMS rejects the request") \
    X(KMS_INPUT_TOO_LARGE,    69, "input exceeds the KMS limit") \
    X(KMS_REENTERED,          70, "KMS call from within a KMS call") \
    X(KMS_CLOCK,              71, "clock differs too much from the KMS's") \
    X(KMS_UNSUPPORTED,        72, "operation not offered by this KMS") \
    X(KEY_FILE_INVALID,       80, "local key file unusable")

enum {
# define KMSENV_REASON_ENUM(symbol, number, text) KMSENV_R_##symbol = number,
    KMSENV_REASONS(KMSENV_REASON_ENUM)
# undef KMSENV_REASON_ENUM
    KMSENV_R_NONE = 0
};

#endif
