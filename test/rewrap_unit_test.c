/* Data keys wrapped anew: what is planned, who is asked, what comes of refusals, damage and lies. The KMSes are fakes in here. */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "dek/rewrap.h"
#include "kmsenv_test.h"

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))
#define PROFILES 4
#define DEK      32

/*
 * Four profiles: old and new are of a kind that re-encrypts, each with its key and new with that of `former` too; plain is of
 * a kind that does not; far is of the first kind and cannot re-encrypt from any key but its own.
 */
typedef struct fake_st {
    const char *profile, *key, *decrypt_keys;
    const KMSENV_KMS_METHOD *method;
    int fails, refuses, lies;        /* reason of every operation; of reencrypt alone; reencrypt gives another data key */
    int encrypts, decrypts, reencrypts;
} FAKE;

static KMSENV_KMS_METHOD service, simple;
static FAKE fake[PROFILES];
static KMSENV_CRYPTO *crypto;
static KMSENV_SECTION *provider_section, *section[PROFILES];
static KMSENV_DEKS *deks;
static KMSENV_KMS *kms[PROFILES];
static unsigned char dek[DEK];

/* --- the KMSes: a ciphertext is key '|' context '|' data key, all of it to be seen ---- */

static void *fake_new(const KMSENV_SECTION *s, const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    int i;

    (void)services;
    (void)err;
    for (i = 0; i < PROFILES && strcmp(fake[i].profile, kmsenv_section_name(s)) != 0; i++)
        ;
    return &fake[i];
}

static void fake_free(void *impl)
{
    (void)impl;
}

static const char *fake_key_id(void *impl, KMSENV_ERROR *err)
{
    (void)err;
    return ((FAKE *)impl)->key;
}

static size_t put_start(unsigned char out[256], const char *key, const KMSENV_CONTEXT *context)
{
    return (size_t)snprintf((char *)out, 256, "%s|%s|", key, context->count == 0 ? "" : context->value[0]);
}

static int wrap(const char *key, const KMSENV_CONTEXT *context, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    unsigned char text[256];
    size_t n = put_start(text, key, context);

    memcpy(text + n, in, inlen);
    out->ciphertext = OPENSSL_memdup(text, n + inlen);
    out->ciphertext_len = n + inlen;
    return 1;
}

static int unwrap(KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    unsigned char text[256];
    size_t n = put_start(text, in->key_id, call->context);

    if (in->ciphertext_len <= n || in->ciphertext_len - n > *outlen || memcmp(in->ciphertext, text, n) != 0)
        return kmsenv_error_set(call->err, KMSENV_R_KMS_WRAP_REJECTED, "does not open");
    memcpy(out, in->ciphertext + n, *outlen = in->ciphertext_len - n);
    return 1;
}

static int answer(const FAKE *f, KMSENV_CALL *call)
{
    return f->fails == 0 || kmsenv_error_set(call->err, f->fails, "told to fail");
}

static int fake_encrypt(void *impl, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    FAKE *f = impl;

    f->encrypts++;
    return answer(f, call) && wrap(f->key, call->context, in, inlen, out);
}

static int fake_decrypt(void *impl, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    FAKE *f = impl;

    f->decrypts++;
    return answer(f, call) && unwrap(call, in, out, outlen);
}

static int fake_reencrypt(void *impl, KMSENV_CALL *call, const KMSENV_BLOB *in, KMSENV_BLOB *out)
{
    unsigned char inside[64];
    size_t n = sizeof(inside);
    FAKE *f = impl;

    f->reencrypts++;
    if (f->refuses != 0)
        return kmsenv_error_set(call->err, f->refuses, "would not");
    if (!answer(f, call) || !unwrap(call, in, inside, &n))
        return 0;
    inside[0] ^= (unsigned char)f->lies;
    return wrap(f->key, call->context, inside, n, out);
}

static int fake_may(void *impl, const KMSENV_BLOB *in, const KMSENV_CONTEXT *context)
{
    (void)context;
    return strcmp(((FAKE *)impl)->profile, "far") != 0 || strcmp(in->key_id, "k-far") == 0;
}

/* --- set-up --------------------------------------------------------------- */

static int begin(void)
{
    static const FAKE initial[PROFILES] = {
        { "old", "k-old", NULL, &service }, { "new", "k-new", "k-former", &service },
        { "plain", "k-plain", NULL, &simple }, { "far", "k-far", NULL, &service }
    };
    KMSENV_SERVICES services = { crypto, NULL, NULL };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int i;

    memcpy(fake, initial, sizeof(fake));
    provider_section = kmsenv_section_new("kmsenv_sect");
    if (!TEST_true(kmsenv_section_add_table(provider_section, kmsenv_deks_settings)))
        return 0;
    for (i = 0; i < PROFILES; i++) {
        section[i] = kmsenv_section_new(fake[i].profile);
        if (!TEST_true(kmsenv_section_add_table(section[i], kmsenv_profile_settings))
            || (fake[i].decrypt_keys != NULL && !TEST_true(kmsenv_section_set(section[i], "decrypt-keys", fake[i].decrypt_keys, &err)))
            || !TEST_ptr(kms[i] = kmsenv_kms_new(fake[i].profile, fake[i].method, section[i], &services, &err)))
            return 0;
    }
    return TEST_ptr(deks = kmsenv_deks_new(provider_section, kms, PROFILES, &services, &err));
}

static int end(int ok)
{
    int i;

    kmsenv_deks_free(deks);
    deks = NULL;
    for (i = 0; i < PROFILES; i++)
        kmsenv_section_free(section[i]);
    kmsenv_section_free(provider_section);
    return ok && kmsenv_test_no_error();
}

/* "service:k-old:billing,simple:k-plain:" and so on: kind, key and context of each wrap, which holds the data key. */
static KMSENV_DATA_KEY *key_of(const char *wraps)
{
    KMSENV_DATA_KEY *key = kmsenv_data_key_new();
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char kind[32], id[32], context[32], text[48];
    KMSENV_WRAP *w;
    int n;

    key->length = DEK;
    if (!TEST_true(kmsenv_dek_id_of(crypto, dek, DEK, key->id, &err)))
        return key;
    for (; *wraps != '\0'; wraps += n, wraps += *wraps == ',') {
        context[0] = '\0';
        sscanf(wraps, "%31[^:]:%31[^:]:%31[^,]", kind, id, context);
        n = (int)strcspn(wraps, ",");
        w = &key->wrap[key->wraps++];
        w->kms = OPENSSL_strdup(kind);
        w->blob.key_id = OPENSSL_strdup(id);
        snprintf(text, sizeof(text), "app=%s", context);
        if (context[0] != '\0' && !TEST_true(kmsenv_context_parse(&w->context, text, &err)))
            break;
        wrap(id, &w->context, dek, DEK, &w->blob);
    }
    return key;
}

static const char *told(const KMSENV_DATA_KEY *key, char out[512])
{
    size_t i, n = 0;

    out[0] = '\0';
    for (i = 0; i < key->wraps; i++)
        n += (size_t)snprintf(out + n, 512 - n, "%s%s:%s:%s", i > 0 ? "," : "", key->wrap[i].kms, key->wrap[i].blob.key_id,
                              key->wrap[i].context.count == 0 ? "" : key->wrap[i].context.value[0]);
    return out;
}

/* Every wrap holds the data key, under the key and the context that it says. */
static int is_sound(const KMSENV_DATA_KEY *key)
{
    unsigned char out[64];
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t i, n;

    for (i = 0; i < key->wraps; i++) {
        KMSENV_CALL call = { .context = &key->wrap[i].context, .err = &err };

        n = sizeof(out);
        if (!TEST_true(unwrap(&call, &key->wrap[i].blob, out, &n)) || !TEST_mem_eq(out, n, dek, DEK))
            return 0;
    }
    return 1;
}

/* calls: decrypts, encrypts, reencrypts of all profiles together. expected: the new wraps; NULL: it fails with reason. */
static int rewrap(const KMSENV_REWRAP_OPTIONS *options, const KMSENV_DATA_KEY *key, const char *expected, const char *calls, int reason)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REWRAP *r = kmsenv_rewrap_new(deks, options, &err);
    KMSENV_REWRAP_PLAN plan;
    KMSENV_DATA_KEY *made = NULL;
    unsigned char *der = NULL;
    char seen[512], counted[64];
    size_t len = 0;
    int ok = TEST_ptr(r), done, i, n[3] = { 0, 0, 0 };

    if (!ok)
        TEST_info("%s", err.text);
    done = ok && kmsenv_rewrap_plan(r, key, &plan, &err)
           && (plan.count == 0 || kmsenv_rewrap_perform(r, key, &plan, &der, &len, &err));
    for (i = 0; i < PROFILES; i++) {
        n[0] += fake[i].decrypts;
        n[1] += fake[i].encrypts;
        n[2] += fake[i].reencrypts;
    }
    snprintf(counted, sizeof(counted), "%d %d %d", n[0], n[1], n[2]);
    ok = ok && TEST_int_eq(done, expected != NULL) && TEST_int_eq(err.reason, reason) && TEST_str_eq(counted, calls);
    if (ok && done && plan.count == 0)
        ok = TEST_str_eq(expected, "");
    else if (ok && done)
        ok = TEST_ptr(made = kmsenv_data_key_parse(der, len, &err)) && TEST_str_eq(told(made, seen), expected) && is_sound(made)
             && TEST_mem_eq(made->id, sizeof(made->id), key->id, sizeof(key->id)) && TEST_size_t_eq(made->length, key->length);
    else if (ok)
        ok = TEST_ptr_null(der);
    if (!ok)
        TEST_info("%s; expected %s, calls %s", err.text, expected == NULL ? "failure" : expected, counted);
    kmsenv_data_key_free(made);
    OPENSSL_free(der);
    kmsenv_rewrap_free(r);
    return ok;
}

/* --- tests ---------------------------------------------------------------- */

#define OLD   "service:k-old:"
#define NEW   "service:k-new:"
#define PLAIN "simple:k-plain:"
#define FAR   "service:k-far:"
#define ALIEN "service:k-alien:"

static const struct {
    const char *profiles;
    int add, force;
    const char *before, *after, *calls;      /* after "": nothing to do; NULL: no profile answers */
} plans[] = {
    /* renewal: by who answers, in the service or not; others' wraps stay, in their places */
    { NULL, 0, 0, OLD, OLD, "0 0 1" },
    { NULL, 0, 0, PLAIN, PLAIN, "1 1 0" },
    { NULL, 0, 0, OLD "x," PLAIN "x", OLD "x," PLAIN "x", "1 1 1" },
    { NULL, 0, 0, "service:k-former:", NEW, "0 0 1" },
    { NULL, 0, 0, ALIEN "," OLD, ALIEN "," OLD, "0 0 1" },
    { NULL, 0, 0, ALIEN, NULL, "0 0 0" },
    { NULL, 0, 0, "simple:k-old:", NULL, "0 0 0" },
    { NULL, 0, 0, "service:k-former:," NEW, NEW, "0 0 1" },
    /* other profiles: by the new one's service, if it can; no other wraps stay */
    { "new", 0, 0, OLD "x", NEW "x", "0 0 1" },
    { "new", 0, 0, PLAIN, NEW, "1 1 0" },
    { "new", 0, 0, PLAIN "," OLD, NEW, "0 0 1" },
    { "plain", 0, 0, OLD "x", PLAIN "x", "1 1 0" },
    { "plain,new", 0, 0, OLD, PLAIN "," NEW, "1 1 1" },
    { "far", 0, 0, OLD, FAR, "1 1 0" },
    { "far", 0, 1, FAR, FAR, "0 0 1" },
    { "new", 0, 0, ALIEN, NULL, "0 0 0" },
    { "new", 0, 0, ALIEN "," PLAIN, NEW, "1 1 0" },
    { "plain,far", 0, 0, OLD "x", PLAIN "x," FAR "x", "1 2 0" },
    /* as wanted already */
    { "new", 0, 0, NEW, "", "0 0 0" },
    { "new", 0, 1, NEW, NEW, "0 0 1" },
    { "new,plain", 0, 0, PLAIN "," NEW, "", "0 0 0" },
    { "new", 0, 0, NEW "," ALIEN, NEW, "0 0 1" },
    { "new", 0, 0, "service:k-former:", NEW, "0 0 1" },
    /* one more */
    { "plain", 1, 0, OLD "x", OLD "x," PLAIN "x", "1 1 0" },
    { "new", 1, 0, OLD "," ALIEN, OLD "," ALIEN "," NEW, "0 0 1" },
    { "new", 1, 0, OLD "," NEW, "", "0 0 0" },
    { "new", 1, 1, NEW "," OLD, OLD "," NEW, "0 0 1" },
    { "new,plain", 1, 0, NEW "," OLD, NEW "," OLD "," PLAIN, "1 1 0" },
};

static int test_plans(int i)
{
    KMSENV_REWRAP_OPTIONS options = { .profiles = plans[i].profiles, .add = plans[i].add, .force = plans[i].force };
    KMSENV_DATA_KEY *key = NULL;
    int ok = begin() && TEST_ptr(key = key_of(plans[i].before))
             && rewrap(&options, key, plans[i].after, plans[i].calls, plans[i].after == NULL ? KMSENV_R_NO_USABLE_WRAP : 0);

    kmsenv_data_key_free(key);
    return end(ok);
}

#define ACCESS_DENIED KMSENV_R_KMS_ACCESS_DENIED

static const struct {
    const char *profiles, *before;
    int in_kms, verify;
    int who, refuses, fails, lies;           /* fake[who] */
    const char *after, *calls;
    int reason;
} troubles[] = {
    /* a service that would not: decrypt and encrypt, unless the data key is to stay */
    { "new", OLD "x", 0, 0, 1, ACCESS_DENIED, 0, 0, NEW "x", "1 1 1", 0 },
    { "new", OLD, 0, 0, 1, KMSENV_R_KMS_UNSUPPORTED, 0, 0, NEW, "1 1 1", 0 },
    { "new", OLD, 1, 0, 1, ACCESS_DENIED, 0, 0, NULL, "0 0 1", ACCESS_DENIED },
    { "new", PLAIN, 1, 0, 1, 0, 0, 0, NULL, "0 0 0", KMSENV_R_KMS_UNSUPPORTED },
    { "new", OLD, 1, 0, 1, 0, 0, 0, NEW, "0 0 1", 0 },
    /* one that is down: nothing */
    { "new", OLD, 0, 0, 1, KMSENV_R_KMS_UNREACHABLE, 0, 0, NULL, "0 0 1", KMSENV_R_KMS_UNREACHABLE },
    { "new", OLD, 0, 0, 1, KMSENV_R_KMS_THROTTLED, 0, 0, NULL, "0 0 1", KMSENV_R_KMS_THROTTLED },
    /* the old key is gone: another wrap helps, if there is one */
    { "new", "service:k-former:x," PLAIN "y", 0, 0, 1, KMSENV_R_KMS_KEY_NOT_FOUND, 0, 0, NEW "x", "1 1 1", 0 },
    { "plain", OLD "x", 0, 0, 0, 0, KMSENV_R_KMS_KEY_DISABLED, 0, NULL, "1 0 0", KMSENV_R_KMS_KEY_DISABLED },
    /* all or nothing */
    { "new,plain", OLD, 0, 0, 2, 0, ACCESS_DENIED, 0, NULL, "1 1 1", ACCESS_DENIED },
    /* each new wrap is opened, if that is wanted */
    { "new,plain", OLD, 0, 1, 1, 0, 0, 0, NEW "," PLAIN, "3 1 1", 0 },
    { "new", OLD, 0, 1, 1, 0, 0, 1, NULL, "1 0 1", KMSENV_R_DATA_KEY_MISMATCH },
};

static int test_troubles(int i)
{
    KMSENV_REWRAP_OPTIONS options = { .profiles = troubles[i].profiles, .in_kms = troubles[i].in_kms, .verify = troubles[i].verify };
    KMSENV_DATA_KEY *key = NULL;
    int ok = begin() && TEST_ptr(key = key_of(troubles[i].before));

    fake[troubles[i].who].refuses = troubles[i].refuses;
    fake[troubles[i].who].fails = troubles[i].fails;
    fake[troubles[i].who].lies = troubles[i].lies;
    ok = ok && rewrap(&options, key, troubles[i].after, troubles[i].calls, troubles[i].reason);
    kmsenv_data_key_free(key);
    return end(ok);
}

/* A context that no KMS has vouched for gets into no new wrap: neither of a wrap that does not open, nor of one not asked about. */
static int test_context_of_what_opened(int i)
{
    /* A service that is asked refuses, and its wrap does not open; then another is opened. */
    static const struct { const char *profiles, *calls; } cases[] = { { "far", "2 1 1" }, { "plain", "1 1 0" }, { "old", "2 1 1" } };
    KMSENV_REWRAP_OPTIONS options = { .profiles = cases[i].profiles };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = NULL;
    char after[64];
    int ok = begin() && TEST_ptr(key = key_of(i == 0 ? FAR "true," NEW "true" : i == 1 ? ALIEN "true," NEW "true" : OLD "true," NEW "true"))
             && TEST_true(kmsenv_context_parse(&key->wrap[0].context, "app=false", &err));

    options.force = 1;
    snprintf(after, sizeof(after), "%s:k-%s:true", i == 1 ? "simple" : "service", cases[i].profiles);
    ok = ok && rewrap(&options, key, after, cases[i].calls, 0);
    kmsenv_data_key_free(key);
    return end(ok);
}

/* A wrap that opens to something else than the data key is not one of it. */
static int test_other_data_key(void)
{
    KMSENV_REWRAP_OPTIONS options = { .profiles = "plain" };
    KMSENV_DATA_KEY *key = NULL;
    int ok = begin() && TEST_ptr(key = key_of(OLD));

    if (ok)
        key->wrap[0].blob.ciphertext[key->wrap[0].blob.ciphertext_len - 1] ^= 1;
    ok = ok && rewrap(&options, key, NULL, "1 0 0", KMSENV_R_DATA_KEY_MISMATCH);
    kmsenv_data_key_free(key);
    return end(ok);
}

/* A service that will not re-encrypt from a key is not asked so again; damage of one wrap says nothing of the others. */
static int test_refusal_is_remembered(int i)
{
    KMSENV_REWRAP_OPTIONS options = { .profiles = "new" };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REWRAP *r = NULL;
    KMSENV_DATA_KEY *key = NULL;
    KMSENV_REWRAP_PLAN plan;
    unsigned char *der = NULL;
    size_t len, round;
    int ok = begin() && TEST_ptr(key = key_of(OLD)) && TEST_ptr(r = kmsenv_rewrap_new(deks, &options, &err));

    fake[1].refuses = i == 0 ? ACCESS_DENIED : KMSENV_R_KMS_WRAP_REJECTED;
    for (round = 0; ok && round < 3; round++) {
        ok = TEST_true(kmsenv_rewrap_plan(r, key, &plan, &err)) && TEST_size_t_eq(plan.count, 1)
             && TEST_int_eq(plan.step[0].in_kms, i == 1 || round == 0)
             && TEST_true(kmsenv_rewrap_perform(r, key, &plan, &der, &len, &err)) && TEST_int_eq(plan.step[0].in_kms, 0);
        OPENSSL_free(der);
        der = NULL;
    }
    ok = ok && TEST_int_eq(fake[1].reencrypts, i == 0 ? 1 : 3) && TEST_int_eq(fake[1].encrypts, 3) && TEST_int_eq(fake[0].decrypts, 3);
    kmsenv_rewrap_free(r);
    kmsenv_data_key_free(key);
    return end(ok);
}

static int test_too_many(void)
{
    static const char *const sixteen = OLD "," OLD "," OLD "," OLD "," OLD "," OLD "," OLD "," OLD "," OLD "," OLD "," OLD "," OLD ","
                                       OLD "," OLD "," OLD "," OLD;
    KMSENV_REWRAP_OPTIONS options = { .profiles = "plain", .add = 1 };
    KMSENV_DATA_KEY *key = NULL;
    int ok = begin() && TEST_ptr(key = key_of(sixteen)) && TEST_size_t_eq(key->wraps, 16)
             && rewrap(&options, key, NULL, "0 0 0", KMSENV_R_PARAMETER_INVALID);

    kmsenv_data_key_free(key);
    return end(ok);
}

static void count_pace(void *arg)
{
    ++*(int *)arg;
}

/* Before each operation, none of them missed. */
static int test_pace(void)
{
    int paced = 0;
    KMSENV_REWRAP_OPTIONS options = { .profiles = "new,plain", .verify = 1, .pace = count_pace, .pace_arg = &paced };
    KMSENV_DATA_KEY *key = NULL;
    int ok = begin() && TEST_ptr(key = key_of(OLD)) && rewrap(&options, key, NEW "," PLAIN, "3 1 1", 0) && TEST_int_eq(paced, 5);

    kmsenv_data_key_free(key);
    return end(ok);
}

static int test_wrong_profiles(int i)
{
    static const char *const names[] = { "", ",", "none", "new,none", "new,new", "new,", "New" };
    KMSENV_REWRAP_OPTIONS options = { .profiles = names[i] };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok = begin() && TEST_ptr_null(kmsenv_rewrap_new(deks, &options, &err)) && TEST_int_eq(err.reason, KMSENV_R_PARAMETER_INVALID);

    return end(ok);
}

int setup_tests(void)
{
    if (!TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default")))
        return 0;
    kmsenv_secret_prepare();
    service = (KMSENV_KMS_METHOD){ .name = "service", .title = "Service", .plaintext_max = 64, .new = fake_new, .free = fake_free,
                                   .key_id = fake_key_id, .encrypt = fake_encrypt, .decrypt = fake_decrypt,
                                   .reencrypt = fake_reencrypt, .may_reencrypt = fake_may };
    simple = service;
    simple.name = simple.title = "simple";
    simple.reencrypt = NULL;
    kmsenv_test_fill(dek, sizeof(dek), 9);
    ADD_ALL_TESTS(test_plans, COUNT(plans));
    ADD_ALL_TESTS(test_troubles, COUNT(troubles));
    ADD_ALL_TESTS(test_context_of_what_opened, 3);
    ADD_TEST(test_other_data_key);
    ADD_ALL_TESTS(test_refusal_is_remembered, 2);
    ADD_TEST(test_too_many);
    ADD_TEST(test_pace);
    ADD_ALL_TESTS(test_wrong_profiles, 7);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_crypto_free(crypto);
}
