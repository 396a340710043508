#include <string.h>
#include <openssl/crypto.h>
#include "core/clock.h"
#include "dek/deks_local.h"
#include "dek/keyring.h"

const KMSENV_SETTING kmsenv_deks_settings[] = {
    { "dek-max-age", KMSENV_SECONDS, "300", 1, 31536000, NULL,
      "Age at which a data key is replaced (encryption) or asked of the KMS again (decryption)." },
    { "dek-max-messages", KMSENV_NUMBER, "1048576", 1, 1099511627776, NULL,
      "Messages after which a data key for encryption is replaced." },
    { "dek-max-bytes", KMSENV_SIZE, "1T", 1, UINT64_MAX / 2, "bytes, or a number with K, M, G or T",
      "Plaintext bytes after which a data key for encryption is replaced." },
    { "dek-reuse", KMSENV_BOOLEAN, "yes", 0, 0, NULL,
      "`no` makes one data key, and so one KMS call, for every message." },
    { "kms-grace", KMSENV_SECONDS, "0", 0, 31536000, NULL,
      "How long beyond dek-max-age a data key stays usable while the KMS is unreachable. A KMS that answers and refuses ends its use at once." },
    { "sealed-key-cache", KMSENV_SECONDS, "60", 0, 86400, NULL,
      "How long a process remembers the data key of a sealed private key: programs read their keys more than once when they start." },
    { "cache-entries", KMSENV_NUMBER, "1024", 1, 1000000, NULL,
      "Data keys kept in memory." },
    { "negative-cache", KMSENV_SECONDS, "5", 0, 3600, NULL,
      "How long a refusal of the KMS is remembered instead of asking again." },
    { "min-wraps", KMSENV_NUMBER, NULL, 1, 16, NULL,
      "How many profiles must have wrapped a new data key for it to be used; unset: all of them." },
    { "wraps", KMSENV_CHOICE, "inline", 0, 0, "inline|detached",
      "Whether a message carries the wrapped data key, or only its id with the wraps in the keyring." },
    { "keyring", KMSENV_PATHS, NULL, 0, 0, NULL,
      "Directories of wrapped data keys, `<hex id>.pem`; new ones are written to the first. Before OpenSSL 3.5 ciphers and MACs by "
      "reference (KMS-...) are offered only where this is set, or key-references." },
    { "data-key", KMSENV_TEXT, NULL, 0, 0, "the id of a data key in the keyring, 48 hexadecimal digits",
      "Encrypt new messages under this data key instead of making one." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

int kmsenv_deks_no_kms(KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID,
                            "no KMS is configured: set 'kms' in openssl.cnf (or KMSENV_KMS in the environment)");
}

static int set_named_key(KMSENV_DEKS *d, KMSENV_ERROR *err)
{
    const char *hex = kmsenv_section_text(d->section, "data-key");
    unsigned char id[KMSENV_DEK_ID_LEN];

    if (hex == NULL)
        return 1;
    if (!kmsenv_dek_id_from_hex(hex, id))
        return kmsenv_section_invalid(d->section, err, "data-key is not the id of a data key; accepted: 48 hexadecimal digits");
    kmsenv_reference_make(id, d->named_key);
    d->has_named_key = 1;
    return 1;
}

static int make_caches(KMSENV_DEKS *d, KMSENV_COUNTERS *counters)
{
    KMSENV_CACHE_POLICY policy = {
        .entries = (size_t)kmsenv_section_number(d->section, "cache-entries"),
        .max_age_ms = kmsenv_section_number(d->section, "dek-max-age") * 1000,
        .grace_ms = kmsenv_section_number(d->section, "kms-grace") * 1000,
        .negative_ms = kmsenv_section_number(d->section, "negative-cache") * 1000,
        .max_messages = kmsenv_section_number(d->section, "dek-max-messages"),
        .max_bytes = kmsenv_section_number(d->section, "dek-max-bytes")
    };

    d->cache = kmsenv_cache_new(&policy, counters);
    d->references = kmsenv_references_new(policy.entries, policy.max_age_ms);
    policy.max_age_ms = kmsenv_section_number(d->section, "sealed-key-cache") * 1000;
    policy.no_refresh_ahead = 1;
    /* libcrypto may try one key twice in a row: a KMS that is down must not cost a program two of its timeouts. */
    policy.failure_ms = 1000;
    if (policy.max_age_ms > 0 && (d->sealed_keys = kmsenv_cache_new(&policy, counters)) == NULL)
        return 0;
    return d->cache != NULL && d->references != NULL;
}

KMSENV_DEKS *kmsenv_deks_new(const KMSENV_SECTION *section, KMSENV_KMS **profile, size_t count,
                             const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    KMSENV_DEKS *d = OPENSSL_zalloc(sizeof(*d));
    int has_caches = 0;
    size_t i;

    if (d != NULL) {
        d->section = section;
        d->services = *services;
        d->keyring = kmsenv_section_text(section, "keyring");
        d->reuse = kmsenv_section_boolean(section, "dek-reuse");
        d->min_wraps = (size_t)kmsenv_section_number(section, "min-wraps");
        d->count = count;
        memcpy(d->profile, profile, count * sizeof(profile[0]));
        has_caches = make_caches(d, services->counters);
        d->defaults = kmsenv_dek_request_new(d);
    } else {
        for (i = 0; i < count; i++)
            kmsenv_kms_free(profile[i]);
    }
    if (d == NULL || !has_caches || d->defaults == NULL
            || !set_named_key(d, err) || !kmsenv_dek_request_set_wraps(d->defaults, kmsenv_section_text(section, "wraps"), err)) {
        if (err->reason == KMSENV_R_NONE)
            kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the data keys");
        kmsenv_deks_free(d);
        return NULL;
    }
    return d;
}

void kmsenv_deks_free(KMSENV_DEKS *deks)
{
    size_t i;

    if (deks == NULL)
        return;
    kmsenv_cache_free(deks->cache);
    kmsenv_cache_free(deks->sealed_keys);
    kmsenv_references_free(deks->references);
    kmsenv_dek_request_free(deks->defaults);
    for (i = 0; i < deks->count; i++)
        kmsenv_kms_free(deks->profile[i]);
    OPENSSL_free(deks);
}

void kmsenv_budget_plan(KMSENV_BUDGET *budget, const KMSENV_KMS *kms)
{
    uint64_t timeout = kmsenv_kms_timeout_ms(kms);

    if (!kmsenv_kms_method(kms)->network)
        return;
    budget->calls++;
    if (budget->longest_ms < timeout)
        budget->longest_ms = timeout;
}

uint64_t kmsenv_budget_take(KMSENV_BUDGET *budget, const KMSENV_KMS *kms)
{
    uint64_t now = kmsenv_clock_ms(), share;

    if (!kmsenv_kms_method(kms)->network || budget->calls == 0)
        return 0;
    if (budget->end_ms == 0)
        budget->end_ms = now + budget->longest_ms;
    share = now < budget->end_ms ? (budget->end_ms - now) / budget->calls : 0;
    budget->calls--;
    return share > 0 ? share : 1;
}

const KMSENV_CONTEXT *kmsenv_dek_request_context_for(const KMSENV_DEK_REQUEST *request, size_t i)
{
    return request->has_context ? &request->context
        : kmsenv_kms_context(request->deks->profile[request->profile[i]]);
}

/* Must every wrap that names a context name at least what the reader asks for? */
static int check_context(const KMSENV_DEK_REQUEST *request, const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *key, *stored;
    size_t i;
    int ok = 1;

    if (request == NULL || !request->has_context || request->context.count == 0)
        return 1;
    if ((key = kmsenv_data_key_parse(der, len, err)) == NULL)
        return 0;
    if (key->wraps == 0) {
        stored = kmsenv_keyring_load(request->deks->keyring, key->id, err);
        kmsenv_data_key_free(key);
        if ((key = stored) == NULL)
            return 0;
    }
    for (i = 0; i < key->wraps && ok; i++)
        ok = kmsenv_context_contains(&key->wrap[i].context, &request->context);
    kmsenv_data_key_free(key);
    return ok || kmsenv_error_set(err, KMSENV_R_CONTEXT_MISMATCH,
                                  "the message was encrypted under another encryption context than the one asked for");
}

int kmsenv_dek_is_of(const KMSENV_DEK *dek, const unsigned char *der, size_t len)
{
    const unsigned char *known;
    size_t known_len;
    int detached;

    if (!kmsenv_dek_is_granted(dek, kmsenv_clock_coarse_ms()))
        return 0;
    for (detached = 0; detached < 2; detached++) {
        known = kmsenv_dek_get0_der(dek, detached, &known_len);
        if (known_len == len && memcmp(known, der, len) == 0)
            return 1;
    }
    return 0;
}

KMSENV_DEK *kmsenv_deks_get_to_decrypt(KMSENV_DEKS *deks, const KMSENV_DEK_REQUEST *request,
                                       const unsigned char *der, size_t len, KMSENV_DEK *have, KMSENV_ERROR *err)
{
    KMSENV_UNWRAP unwrap = { deks, der, len };
    KMSENV_CACHE_KEY key = { .bytes = der, .len = len, .have = have };
    int is_for_sealed_key = request != NULL && request->is_for_sealed_key;

    if (!check_context(request, der, len, err))
        return NULL;
    if (have != NULL && kmsenv_dek_is_of(have, der, len)) {
        kmsenv_count(deks->services.counters, KMSENV_COUNTER_CACHE_HITS, 1);
        return have;
    }
    /* The whole DataKey names the entry: a cached key is no reason to accept altered wraps. Part of its id is the hash. */
    memcpy(&key.hash, der + (len > 24 ? 8 : 0), len > 24 ? sizeof(key.hash) : 0);
    if (!is_for_sealed_key || deks->sealed_keys != NULL)
        return kmsenv_cache_get(is_for_sealed_key ? deks->sealed_keys : deks->cache, &key, kmsenv_dek_unwrap, &unwrap, err);
    kmsenv_count(deks->services.counters, KMSENV_COUNTER_CACHE_MISSES, 1);
    return kmsenv_dek_unwrap(&unwrap, err);
}

/* Without a lock, which threads that send small messages would queue for. */
static int may_go_on(KMSENV_DEK *have)
{
    return have != NULL && kmsenv_dek_is_granted(have, kmsenv_clock_coarse_ms())
        && !kmsenv_dek_is_spent(have) && kmsenv_dek_take_message(have);
}

KMSENV_DEK *kmsenv_deks_check_length(KMSENV_DEK *dek, KMSENV_DEK *have, size_t least, size_t most, KMSENV_ERROR *err)
{
    char hex[2 * KMSENV_DEK_ID_LEN + 1];
    size_t len;

    if (dek == NULL || ((len = kmsenv_dek_get_length(dek)) >= least && len <= most))
        return dek;
    kmsenv_dek_id_hex(kmsenv_dek_get0_id(dek), hex);
    kmsenv_error_set(err, KMSENV_R_DATA_KEY_UNSUITABLE, "the data key %s has %zu bytes; %zu%s are needed here", hex, len, least,
                     most > least ? " or more" : "");
    if (dek != have)
        kmsenv_dek_free(dek);
    return NULL;
}

KMSENV_DEK *kmsenv_deks_get_to_encrypt(KMSENV_DEKS *deks, KMSENV_DEK_REQUEST *request, size_t least,
                                       KMSENV_DEK *have, uint64_t used, KMSENV_ERROR *err)
{
    KMSENV_CACHE_KEY key = { request->name, request->name_len, request->hash, 1, have };
    KMSENV_DEK *dek;

    if (have != NULL && used > 0)
        kmsenv_dek_take_bytes(have, used);
    if (request->data_key != NULL) {
        dek = kmsenv_deks_get_to_decrypt(deks, NULL, request->data_key, request->data_key_len, have, err);
        return kmsenv_deks_check_length(dek, have, least, KMSENV_DEK_LEN_MAX, err);
    }
    if (deks->has_named_key && !request->has_profiles && !request->has_context)
        return kmsenv_deks_get_named(deks, deks->named_key, KMSENV_REFERENCE_LEN, least, have, err);
    if (request->count == 0) {
        kmsenv_deks_no_kms(err);
        return NULL;
    }
    if (!deks->reuse) {
        kmsenv_count(deks->services.counters, KMSENV_COUNTER_CACHE_MISSES, 1);
        return kmsenv_dek_make(request, err);
    }
    if (request->answer == have && may_go_on(have)) {
        kmsenv_count(deks->services.counters, KMSENV_COUNTER_CACHE_HITS, 1);
        return have;
    }
    dek = kmsenv_cache_get(deks->cache, &key, kmsenv_dek_make, request, err);
    request->answer = dek;
    return dek;
}
