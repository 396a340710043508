/* What all back ends have in common: re-entry guard, deadline, circuit breaker, checks, counters, audit, error prefix. */
#include <string.h>
#include <openssl/crypto.h>
#include "core/clock.h"
#include "core/lock.h"
#include "kms/apart.h"
#include "kms/audit.h"
#include "kms/guard.h"
#include "kms/kms.h"

#define EXTRA_MAX 4096

const KMSENV_SETTING kmsenv_profile_settings[] = {
    { "kms", KMSENV_TEXT, NULL, 0, 0, "the name of a KMS, such as tencent or local", "Which KMS the profile stands for." },
    { "key-id", KMSENV_TEXT, NULL, 0, 0, "the id of a key in that KMS", "The master key." },
    { "decrypt-keys", KMSENV_TEXT, NULL, 0, 0, "ids of keys, separated by ','",
      "Further master keys that data keys may be unwrapped with through this profile, for example after a change of key-id." },
    { "context", KMSENV_PAIRS, NULL, 0, 0, NULL, "Encryption context for new data keys, if the caller gives none." },
    { "kms-timeout", KMSENV_SECONDS, "10", 1, 300, NULL, "How long one operation of the KMS may take, with all its retries. The profiles of one data key share the longest of theirs." },
    { "breaker-failures", KMSENV_NUMBER, "5", 1, 1000, NULL,
      "So many times in a row unreachable, and the KMS is left alone for a while." },
    { "breaker-seconds", KMSENV_SECONDS, "10", 1, 3600, NULL, "How long it is left alone; then one call tries whether it is back." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

struct kmsenv_kms_st {
    const KMSENV_KMS_METHOD *method;
    void *impl;
    char *profile;
    char *configured_key;               /* for error texts; NULL if only the back end knows */
    char *decrypt_keys;                 /* NULL = none */
    KMSENV_CONTEXT context;             /* for new data keys */
    uint64_t timeout_ms, breaker_ms, breaker_failures;
    KMSENV_SERVICES services;
    KMSENV_LOCK *lock;                  /* of the breaker: */
    uint64_t failures;                  /* in a row */
    uint64_t open_until_ms;             /* 0 = closed */
    int trial;                          /* a call is trying whether the KMS is back ... */
    unsigned trial_generation;          /* ... in this process */
};

void kmsenv_blob_reset(KMSENV_BLOB *blob)
{
    OPENSSL_free(blob->key_id);
    OPENSSL_free(blob->ciphertext);
    OPENSSL_free(blob->extra);
    memset(blob, 0, sizeof(*blob));
}

int kmsenv_kms_thread_is_inside(void)
{
    return kmsenv_guard_is_inside();
}

int kmsenv_kms_set_reentered(KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_KMS_REENTERED, "asked for from within a call to a KMS: the TLS key or proxy that the "
                            "call needs must not itself need a KMS");
}

/* --- making one ----------------------------------------------------------- */

static int copy_text(char **to, const char *text)
{
    return text == NULL || (*to = OPENSSL_strdup(text)) != NULL;
}

static int set_context(KMSENV_KMS *kms, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *text = kmsenv_section_text(section, "context");

    kmsenv_context_init(&kms->context);
    if (text == NULL || kmsenv_context_parse(&kms->context, text, err))
        return 1;
    if (err != NULL)
        err->reason = KMSENV_R_CONFIG_INVALID;
    return kmsenv_error_prefix(err, "section [%s]: setting 'context': ", kmsenv_section_name(section));
}

KMSENV_KMS *kmsenv_kms_new(const char *profile, const KMSENV_KMS_METHOD *method, const KMSENV_SECTION *section,
                           const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    KMSENV_KMS *kms = OPENSSL_zalloc(sizeof(*kms));

    if (kms == NULL || !copy_text(&kms->profile, profile)
        || !copy_text(&kms->configured_key, kmsenv_section_text(section, "key-id"))
        || !copy_text(&kms->decrypt_keys, kmsenv_section_text(section, "decrypt-keys"))
        || (kms->lock = kmsenv_lock_new(KMSENV_LEVEL_KMS)) == NULL) {
        kmsenv_kms_free(kms);
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "profile %.80s: no memory", profile);
        return NULL;
    }
    kms->method = method;
    kms->services = *services;
    kms->timeout_ms = kmsenv_section_number(section, "kms-timeout") * 1000;
    kms->breaker_failures = kmsenv_section_number(section, "breaker-failures");
    kms->breaker_ms = kmsenv_section_number(section, "breaker-seconds") * 1000;
    if (set_context(kms, section, err) && (kms->impl = method->new(section, services, err)) != NULL)
        return kms;
    kmsenv_error_prefix(err, "profile %.80s (%s): ", profile, method->name);
    kmsenv_kms_free(kms);
    return NULL;
}

void kmsenv_kms_free(KMSENV_KMS *kms)
{
    if (kms == NULL)
        return;
    if (kms->impl != NULL)
        kms->method->free(kms->impl);
    kmsenv_lock_free(kms->lock);
    OPENSSL_free(kms->profile);
    OPENSSL_free(kms->configured_key);
    OPENSSL_free(kms->decrypt_keys);
    kmsenv_context_reset(&kms->context);
    OPENSSL_free(kms);
}

const char *kmsenv_kms_profile(const KMSENV_KMS *kms)
{
    return kms->profile;
}

uint64_t kmsenv_kms_timeout_ms(const KMSENV_KMS *kms)
{
    return kms->timeout_ms;
}

const KMSENV_CONTEXT *kmsenv_kms_context(const KMSENV_KMS *kms)
{
    return &kms->context;
}

const KMSENV_KMS_METHOD *kmsenv_kms_method(const KMSENV_KMS *kms)
{
    return kms->method;
}

/* Is word one of those in list, which are separated by commas and blanks? */
static int is_listed(const char *list, const char *word)
{
    size_t n, length = strlen(word);

    for (; *list != '\0'; list += n) {
        list += strspn(list, ", ");
        n = strcspn(list, ", ");
        if (n == length && n > 0 && memcmp(list, word, n) == 0)
            return 1;
    }
    return 0;
}

const char *kmsenv_kms_own_key_id(KMSENV_KMS *kms, KMSENV_ERROR *err)
{
    const char *own = kms->method->key_id(kms->impl, err);

    if (own == NULL)
        kmsenv_error_prefix(err, "profile %.80s (%s): ", kms->profile, kms->method->name);
    return own;
}

int kmsenv_kms_is_own(KMSENV_KMS *kms, const char *kind, const char *key_id, KMSENV_ERROR *err)
{
    const char *own;

    if (strcmp(kind, kms->method->name) != 0)
        return 0;
    if (kms->method->matches != NULL)
        return kms->method->matches(kms->impl, key_id) == 2;
    own = kmsenv_kms_own_key_id(kms, err);
    return own != NULL && strcmp(own, key_id) == 0;
}

int kmsenv_kms_matches(KMSENV_KMS *kms, const char *kind, const char *key_id, KMSENV_ERROR *err)
{
    if (strcmp(kind, kms->method->name) != 0)
        return 0;
    if (kms->method->matches != NULL)
        return kms->method->matches(kms->impl, key_id) != 0;
    return (kms->decrypt_keys != NULL && is_listed(kms->decrypt_keys, key_id)) || kmsenv_kms_is_own(kms, kind, key_id, err);
}

/* --- circuit breaker ------------------------------------------------------ */

/* May a call be made now? If not, err says why. */
static int breaker_admit(KMSENV_KMS *kms, KMSENV_ERROR *err)
{
    uint64_t now = kmsenv_clock_ms(), left = 0;
    int trying = 0, admitted;

    kmsenv_lock_take(kms->lock);
    if (kms->open_until_ms > now)
        left = kms->open_until_ms - now;
    else if (kms->open_until_ms != 0)
        trying = kms->trial && kms->trial_generation == kmsenv_fork_generation();
    admitted = left == 0 && !trying;
    if (admitted && kms->open_until_ms != 0) {
        kms->trial = 1;
        kms->trial_generation = kmsenv_fork_generation();
    }
    kmsenv_lock_release(kms->lock);
    if (admitted)
        return 1;
    kmsenv_count(kms->services.counters, KMSENV_COUNTER_BREAKER_OPEN, 1);
    if (trying)
        return kmsenv_error_set(err, KMSENV_R_KMS_UNREACHABLE, "circuit breaker open: it was unreachable, and another call is "
                                "trying whether it is back");
    return kmsenv_error_set(err, KMSENV_R_KMS_UNREACHABLE, "circuit breaker open: unreachable %llu times in a row, not tried again "
                            "for another %llu.%llu s", (unsigned long long)kms->breaker_failures,
                            (unsigned long long)(left / 1000), (unsigned long long)(left % 1000 / 100));
}

static void breaker_report(KMSENV_KMS *kms, int reason)
{
    kmsenv_lock_take(kms->lock);
    kms->trial = 0;
    if (reason != KMSENV_R_KMS_UNREACHABLE) {
        kms->failures = 0;
        kms->open_until_ms = 0;
    } else if (++kms->failures >= kms->breaker_failures) {
        kms->open_until_ms = kmsenv_clock_ms() + kms->breaker_ms;
    }
    kmsenv_lock_release(kms->lock);
}

/* --- one operation -------------------------------------------------------- */

typedef struct operation_st {
    KMSENV_KMS *kms;
    const char *name;
    KMSENV_CALL call;
    const char *key_id;        /* of the wrap; NULL = that of the profile */
    uint64_t start_ms;
    int admitted;
} OPERATION;

static const char *operation_key(const OPERATION *op)
{
    const char *key_id = op->key_id;

    if (key_id == NULL)
        key_id = op->kms->method->key_id(op->kms->impl, NULL);
    return key_id != NULL ? key_id : op->kms->configured_key;
}

/* Marks the thread as being inside and asks the breaker. operation_end() must follow, whatever is returned. */
static int operation_begin(OPERATION *op, KMSENV_KMS *kms, const char *name, uint64_t limit_ms, const KMSENV_CONTEXT *context,
                           const char *dek_id_hex, const char *key_id, KMSENV_ERROR *err)
{
    int inside = kmsenv_guard_is_inside();

    memset(op, 0, sizeof(*op));
    op->kms = kms;
    op->name = name;
    op->key_id = key_id;
    op->start_ms = kmsenv_clock_ms();
    op->call.context = context;
    op->call.dek_id_hex = dek_id_hex;
    op->call.deadline_ms = op->start_ms + (limit_ms > 0 && limit_ms < kms->timeout_ms ? limit_ms : kms->timeout_ms);
    op->call.err = err;
    kmsenv_error_clear(err);
    kmsenv_guard_enter();
    kmsenv_count(kms->services.counters, KMSENV_COUNTER_KMS_CALLS, 1);
    if (inside)
        return kmsenv_kms_set_reentered(err);
    return op->admitted = breaker_admit(kms, err);
}

/* Ends it: ok is what came of it. Returns ok. */
static int operation_end(OPERATION *op, int ok)
{
    const char *key_id;
    KMSENV_ERROR *err = op->call.err;
    KMSENV_AUDIT_EVENT event = { 0 };

    if (!ok && err->reason == KMSENV_R_NONE)
        kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "failed without a reason");
    if (op->admitted)
        breaker_report(op->kms, ok ? KMSENV_R_NONE : err->reason);
    key_id = err->reason == KMSENV_R_KMS_REENTERED ? op->kms->configured_key : operation_key(op);
    kmsenv_guard_leave();
    kmsenv_apart_wipe_stack();
    event.operation = op->name;
    event.profile = op->kms->profile;
    event.kms = op->kms->method->name;
    event.key_id = key_id;
    event.dek_id = op->call.dek_id_hex;
    event.request_id = op->call.request_id;
    event.attempts = op->call.attempts;
    event.milliseconds = kmsenv_clock_ms() - op->start_ms;
    event.reason = ok ? KMSENV_R_NONE : err->reason;
    kmsenv_audit_write(op->kms->services.audit, &event);
    if (ok) {
        kmsenv_error_clear(err);   /* what an attempt left that was followed by a better one */
        return 1;
    }
    kmsenv_count(op->kms->services.counters, KMSENV_COUNTER_KMS_FAILURES, 1);
    return kmsenv_error_prefix(err, "profile %.80s (%s, %.120s): ", op->kms->profile, op->kms->method->name,
                               key_id == NULL ? "key not known" : key_id);
}

/* Checks what a back end made, and gives it the key id it stands for. */
static int check_blob(OPERATION *op, KMSENV_BLOB *blob)
{
    const char *key_id;

    if (blob->ciphertext == NULL || blob->ciphertext_len == 0 || blob->ciphertext_len > KMSENV_CIPHERTEXT_MAX
        || blob->extra_len > EXTRA_MAX || (blob->extra == NULL) != (blob->extra_len == 0))
        return kmsenv_error_set(op->call.err, KMSENV_R_KMS_REPLY_MALFORMED, "the wrapped data key is empty or larger than %d bytes",
                                KMSENV_CIPHERTEXT_MAX);
    if (blob->key_id == NULL) {
        if ((key_id = op->kms->method->key_id(op->kms->impl, op->call.err)) == NULL)
            return 0;
        if ((blob->key_id = OPENSSL_strdup(key_id)) == NULL)
            return kmsenv_error_set(op->call.err, KMSENV_R_OUT_OF_MEMORY, "no memory for a wrapped data key");
    }
    if (blob->key_id[0] != '\0' && strlen(blob->key_id) <= KMSENV_NAME_MAX)
        return 1;
    return kmsenv_error_set(op->call.err, KMSENV_R_KMS_REPLY_MALFORMED, "the key id is empty or longer than %d bytes", KMSENV_NAME_MAX);
}

static int check_plaintext(OPERATION *op, size_t n)
{
    size_t limit = op->kms->method->plaintext_max;

    if (n > 0 && n <= limit)
        return 1;
    return kmsenv_error_set(op->call.err, KMSENV_R_KMS_INPUT_TOO_LARGE, "%s encrypts 1 to %zu bytes, not %zu",
                            op->kms->method->title, limit, n);
}

static int do_encrypt(OPERATION *op, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    return op->kms->method->encrypt(op->kms->impl, &op->call, in, inlen, out) && check_blob(op, out);
}

static int do_generate(OPERATION *op, size_t len, unsigned char *dek, KMSENV_BLOB *out)
{
    if (op->kms->method->generate != NULL)
        return op->kms->method->generate(op->kms->impl, &op->call, len, dek, out) && check_blob(op, out);
    return check_plaintext(op, len) && kmsenv_crypto_random_key(op->kms->services.crypto, dek, len, op->call.err)
           && do_encrypt(op, dek, len, out);
}

static int check_wrap(OPERATION *op, const KMSENV_BLOB *in)
{
    if (in->ciphertext != NULL && in->ciphertext_len > 0 && in->ciphertext_len <= KMSENV_CIPHERTEXT_MAX && in->extra_len <= EXTRA_MAX)
        return 1;
    return kmsenv_error_set(op->call.err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key is empty or larger than %d bytes",
                            KMSENV_CIPHERTEXT_MAX);
}

static int do_decrypt(OPERATION *op, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    size_t room = *outlen, n = room;

    if (!check_wrap(op, in) || !op->kms->method->decrypt(op->kms->impl, &op->call, in, out, &n))
        return 0;
    if (n > 0 && n <= room) {
        *outlen = n;
        return 1;
    }
    return kmsenv_error_set(op->call.err, KMSENV_R_KMS_REPLY_MALFORMED, "the unwrapped data is empty or larger than %zu bytes", room);
}

int kmsenv_kms_may_reencrypt(const KMSENV_KMS *kms, const KMSENV_BLOB *in, const KMSENV_CONTEXT *context)
{
    const KMSENV_KMS_METHOD *method = kms->method;

    return method->reencrypt != NULL && (method->may_reencrypt == NULL || method->may_reencrypt(kms->impl, in, context));
}

static int do_reencrypt(OPERATION *op, const KMSENV_BLOB *in, KMSENV_BLOB *out)
{
    if (!kmsenv_kms_may_reencrypt(op->kms, in, op->call.context))
        return kmsenv_error_set(op->call.err, KMSENV_R_KMS_UNSUPPORTED, "%s does not re-encrypt this", op->kms->method->title);
    return check_wrap(op, in) && op->kms->method->reencrypt(op->kms->impl, &op->call, in, out) && check_blob(op, out);
}

/* --- operations ----------------------------------------------------------- */

int kmsenv_kms_generate_within(KMSENV_KMS *kms, uint64_t limit_ms, const KMSENV_CONTEXT *context, size_t len,
                               unsigned char *dek, KMSENV_BLOB *out, KMSENV_ERROR *err)
{
    OPERATION op;
    int ok;

    memset(out, 0, sizeof(*out));
    ok = operation_begin(&op, kms, "generate", limit_ms, context, NULL, NULL, err) && do_generate(&op, len, dek, out);
    if (!ok) {
        OPENSSL_cleanse(dek, len);
        kmsenv_blob_reset(out);
    }
    return operation_end(&op, ok);
}

int kmsenv_kms_generate(KMSENV_KMS *kms, const KMSENV_CONTEXT *context, size_t len,
                        unsigned char *dek, KMSENV_BLOB *out, KMSENV_ERROR *err)
{
    return kmsenv_kms_generate_within(kms, 0, context, len, dek, out, err);
}

int kmsenv_kms_encrypt_within(KMSENV_KMS *kms, uint64_t limit_ms, const KMSENV_CONTEXT *context, const char *dek_id_hex,
                              const unsigned char *in, size_t inlen, KMSENV_BLOB *out, KMSENV_ERROR *err)
{
    OPERATION op;
    int ok;

    memset(out, 0, sizeof(*out));
    ok = operation_begin(&op, kms, "encrypt", limit_ms, context, dek_id_hex, NULL, err) && check_plaintext(&op, inlen)
         && do_encrypt(&op, in, inlen, out);
    if (!ok)
        kmsenv_blob_reset(out);
    return operation_end(&op, ok);
}

int kmsenv_kms_encrypt(KMSENV_KMS *kms, const KMSENV_CONTEXT *context, const char *dek_id_hex,
                       const unsigned char *in, size_t inlen, KMSENV_BLOB *out, KMSENV_ERROR *err)
{
    return kmsenv_kms_encrypt_within(kms, 0, context, dek_id_hex, in, inlen, out, err);
}

int kmsenv_kms_decrypt_within(KMSENV_KMS *kms, uint64_t limit_ms, const KMSENV_CONTEXT *context, const char *dek_id_hex,
                              const KMSENV_BLOB *in, unsigned char *out, size_t *outlen, KMSENV_ERROR *err)
{
    size_t room = *outlen;
    OPERATION op;
    int ok;

    ok = operation_begin(&op, kms, "decrypt", limit_ms, context, dek_id_hex, in->key_id, err) && do_decrypt(&op, in, out, outlen);
    if (!ok)
        OPENSSL_cleanse(out, room);
    return operation_end(&op, ok);
}

int kmsenv_kms_decrypt(KMSENV_KMS *kms, const KMSENV_CONTEXT *context, const char *dek_id_hex,
                       const KMSENV_BLOB *in, unsigned char *out, size_t *outlen, KMSENV_ERROR *err)
{
    return kmsenv_kms_decrypt_within(kms, 0, context, dek_id_hex, in, out, outlen, err);
}

int kmsenv_kms_reencrypt(KMSENV_KMS *kms, const KMSENV_CONTEXT *context, const char *dek_id_hex,
                         const KMSENV_BLOB *in, KMSENV_BLOB *out, KMSENV_ERROR *err)
{
    OPERATION op;
    int ok;

    memset(out, 0, sizeof(*out));
    ok = operation_begin(&op, kms, "reencrypt", 0, context, dek_id_hex, in->key_id, err) && do_reencrypt(&op, in, out);
    if (!ok)
        kmsenv_blob_reset(out);
    return operation_end(&op, ok);
}

int kmsenv_kms_describe(KMSENV_KMS *kms, char *state, size_t room, KMSENV_ERROR *err)
{
    KMSENV_CONTEXT none;
    OPERATION op;
    int ok;

    kmsenv_context_init(&none);
    state[0] = '\0';
    ok = operation_begin(&op, kms, "describe", 0, &none, NULL, NULL, err)
         && kms->method->describe(kms->impl, &op.call, state, room);
    return operation_end(&op, ok);
}
