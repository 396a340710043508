/*
 * Back end `pkcs11`: the master key is in a token (an HSM, a smart card) behind a PKCS#11 module,
 * and data keys are wrapped inside of it. The key id of a wrap is the key's URI (kms/pkcs11_uri.h),
 * its extra is described in pkcs11_wrap.c, modules and sessions in pkcs11.h.
 *
 * The URI of a wrap chooses among the keys that the configuration allows, in the one token that it
 * names; module and PIN are settings.
 */
#include <string.h>
#include <stdatomic.h>
#include <openssl/crypto.h>
#include "core/clock.h"
#include "core/secret.h"
#include "kms/apart.h"
#include "kms/pkcs11.h"
#include "kms/registry.h"
#include "kmsenv/format.h"

#define KEYS_MAX 16          /* key-id and decrypt-keys */

/* Pauses before the attempts: a session that is gone is soon replaced; what is being restarted or plugged in takes its time. */
static const unsigned pause_ms[] = { 0, 10, 150 };
#define ATTEMPTS (int)(sizeof(pause_ms) / sizeof(pause_ms[0]))

typedef struct pkcs11_st {
    KMSENV_CRYPTO *crypto;
    char *module;
    char key_id[KMSENV_NAME_MAX + 1];      /* canonical */
    KMSENV_PKCS11_URI key[KEYS_MAX];       /* the first is key-id */
    size_t keys;
    int wrap;                              /* by key wrapping, not by AES-GCM */
    KMSENV_BUFFER pin;
    KMSENV_PKCS11_ACCESS access;
    atomic_int proven;                     /* a wrap of this process could be opened again */
} PKCS11;

static const KMSENV_SETTING settings[] = {
    { "key-id", KMSENV_TEXT, NULL, 0, 0, "a PKCS#11 URI such as pkcs11:token=prod;object=backup",
      "URI (RFC 7512) of an AES key: token or serial, and object or id." },
    { "decrypt-keys", KMSENV_TEXT, NULL, 0, 0, "PKCS#11 URIs, separated by ','",
      "Further keys of the same token that data keys may be unwrapped with through this profile, for example after a change of key-id." },
    { "pkcs11-module", KMSENV_TEXT, KMSENV_PKCS11_P11_KIT, 0, 0, "an absolute path, or p11-kit",
      "The PKCS#11 module (a shared library); p11-kit stands for all those that are set up on the system." },
    { "pin", KMSENV_SECRET, NULL, 0, 0, NULL,
      "PIN of the user. One that the token has refused is not tried again. Without it there is no login." },
    { "mechanism", KMSENV_CHOICE, "aes-gcm", 0, 0, "aes-gcm|aes-kwp",
      "How data keys are wrapped. aes-gcm binds the encryption context; aes-kwp (AES key wrapping with padding) cannot." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

static void pkcs11_free(void *kms)
{
    PKCS11 *p = kms;

    if (p == NULL)
        return;
    kmsenv_buffer_reset(&p->pin);
    OPENSSL_free(p->module);
    OPENSSL_free(p);
}

/* --- settings ------------------------------------------------------------- */

static int add_key(PKCS11 *p, const char *setting, const char *text, size_t n, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    KMSENV_PKCS11_URI *uri = &p->key[p->keys];

    if (p->keys == KEYS_MAX)
        return kmsenv_section_invalid(section, err, "decrypt-keys has more than %d keys", KEYS_MAX - 1);
    if (!kmsenv_pkcs11_uri_parse(uri, text, n, err))
        return kmsenv_error_prefix(err, "section [%s]: %s: ", kmsenv_section_name(section), setting);
    if (!kmsenv_pkcs11_uri_names_token(uri) || !kmsenv_pkcs11_uri_names_key(uri))
        return kmsenv_section_invalid(section, err, "%s must name a token (token or serial) and a key (object or id), such as "
                                      "pkcs11:token=prod;object=backup", setting);
    if (p->keys > 0 && !kmsenv_pkcs11_uri_same_token(uri, &p->key[0]))
        return kmsenv_section_invalid(section, err, "decrypt-keys must be of the token of key-id, said in the same way; another token "
                                      "needs a profile of its own, with its PIN");
    p->keys++;
    return 1;
}

static int set_keys(PKCS11 *p, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *text = kmsenv_section_text(section, "key-id");
    KMSENV_BUFFER id;
    size_t n;

    if (text == NULL)
        return kmsenv_section_missing(section, "key-id", err);
    if (!add_key(p, "key-id", text, strlen(text), section, err))
        return 0;
    kmsenv_buffer_init(&id, KMSENV_NAME_MAX, 0);
    if (!kmsenv_pkcs11_uri_write(&p->key[0], &id)) {
        kmsenv_buffer_reset(&id);
        return kmsenv_section_invalid(section, err, "key-id is longer than %d bytes", KMSENV_NAME_MAX);
    }
    OPENSSL_strlcpy(p->key_id, kmsenv_buffer_text(&id), sizeof(p->key_id));
    kmsenv_buffer_reset(&id);
    if ((text = kmsenv_section_text(section, "decrypt-keys")) == NULL)
        return 1;
    for (text += strspn(text, ", "); *text != '\0'; text += n, text += strspn(text, ", ")) {
        n = strcspn(text, ", ");
        if (!add_key(p, "decrypt-keys", text, n, section, err))
            return 0;
    }
    return 1;
}

static int set_module(PKCS11 *p, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *module = kmsenv_section_text(section, "pkcs11-module");

    if (module[0] != '/' && strcmp(module, KMSENV_PKCS11_P11_KIT) != 0)
        return kmsenv_section_invalid(section, err, "pkcs11-module is not an absolute path, nor p11-kit");
    if ((p->module = OPENSSL_strdup(module)) != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
}

static int check_context(const PKCS11 *p, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    if (!p->wrap || kmsenv_section_text(section, "context") == NULL)
        return 1;
    return kmsenv_section_invalid(section, err, "mechanism = aes-kwp cannot bind an encryption context: remove context, or use "
                                  "mechanism = aes-gcm");
}

static void *pkcs11_new(const KMSENV_SECTION *section, const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    PKCS11 *p = OPENSSL_zalloc(sizeof(*p));

    if (p == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
        return NULL;
    }
    kmsenv_buffer_init(&p->pin, KMSENV_PKCS11_PIN_MAX, 1);
    p->crypto = services->crypto;
    p->wrap = strcmp(kmsenv_section_text(section, "mechanism"), "aes-kwp") == 0;
    if (set_keys(p, section, err) && set_module(p, section, err) && check_context(p, section, err)) {
        p->access = (KMSENV_PKCS11_ACCESS){ section, p->module, &p->key[0], &p->pin };
        return p;
    }
    pkcs11_free(p);
    return NULL;
}

/* --- key ids -------------------------------------------------------------- */

static const char *pkcs11_key_id(void *kms, KMSENV_ERROR *err)
{
    (void)err;
    return ((PKCS11 *)kms)->key_id;
}

/* The configured key that a wrap's URI can mean, as wanted: with what the wrap says besides. 0 if there is none; 2 if it is key-id's. */
static int find_configured(const PKCS11 *p, const char *key_id, KMSENV_PKCS11_URI *wanted)
{
    KMSENV_PKCS11_URI wrap;
    size_t i;

    if (!kmsenv_pkcs11_uri_parse(&wrap, key_id, strlen(key_id), NULL))
        return 0;
    for (i = 0; i < p->keys && !kmsenv_pkcs11_uri_matches(&p->key[i], &wrap); i++)
        ;
    if (i == p->keys)
        return 0;
    *wanted = p->key[i];
    /* The id names a key for good; its label may have changed since. */
    if (wrap.value[KMSENV_PKCS11_ID].length > 0)
        wanted->value[KMSENV_PKCS11_ID] = wrap.value[KMSENV_PKCS11_ID];
    else
        wanted->value[KMSENV_PKCS11_OBJECT] = wrap.value[KMSENV_PKCS11_OBJECT];
    return i == 0 ? 2 : 1;
}

static int pkcs11_matches(void *kms, const char *key_id)
{
    KMSENV_PKCS11_URI wanted;

    return find_configured(kms, key_id, &wanted);
}

/* --- operations ----------------------------------------------------------- */

typedef struct job_st {
    PKCS11 *p;
    KMSENV_CALL *call;
    KMSENV_PKCS11_URI uri;                 /* of the key */
    int (*step)(struct job_st *job, KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w);
    const unsigned char *in;               /* what the step needs: */
    size_t inlen;
    const KMSENV_BLOB *wrap;
    unsigned char *out;
    size_t *outlen;
    KMSENV_BLOB *blob;
    char *state;
    size_t room;
    int ok;
} JOB;

/* *retry: another attempt may fare better. */
static int attempt(JOB *job, int *retry)
{
    KMSENV_PKCS11_WRAP w = { CK_INVALID_HANDLE, job->call->context, job->p->crypto, job->call->err };
    KMSENV_PKCS11_SESSION s;
    int ok = 0;

    job->call->attempts++;
    if (kmsenv_pkcs11_open(&job->p->access, job->call->deadline_ms, &s, job->call->err)) {
        ok = kmsenv_pkcs11_find_key(&s, &job->uri, &w.key, job->call->err) && job->step(job, &s, &w);
        kmsenv_pkcs11_close(&s);
    }
    *retry = s.fate >= KMSENV_PKCS11_RETRY;
    return ok;
}

static void run(void *arg)
{
    JOB *job = arg;
    int i, retry = 1;

    for (i = 0; i < ATTEMPTS && retry && !job->ok; i++) {
        if (i > 0) {
            if (kmsenv_clock_ms() + pause_ms[i] >= job->call->deadline_ms)
                break;
            kmsenv_clock_sleep_ms(pause_ms[i]);
        }
        job->ok = attempt(job, &retry);
    }
}

/* A module may use OpenSSL itself, and what it leaves in the error queue would be the caller's. */
static int perform(JOB *job)
{
    if (!kmsenv_apart_run_here(run, job) && !kmsenv_apart_run(run, job))
        return kmsenv_error_set(job->call->err, KMSENV_R_OUT_OF_MEMORY, "no thread for the PKCS#11 module; check the limit on processes");
    return job->ok;
}

/* What the first data key of a process is wrapped to is opened again: some tokens have ways of their own with IVs. */
static int prove(JOB *job, KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w)
{
    unsigned char *back;
    size_t n = job->inlen;
    int same, opened;

    if (atomic_load(&job->p->proven))
        return 1;
    if ((back = kmsenv_secret_zalloc(n)) == NULL)
        return kmsenv_error_set(w->err, KMSENV_R_OUT_OF_MEMORY, "no memory to wrap a data key");
    opened = kmsenv_pkcs11_unwrap(s, w, job->blob, back, &n);
    same = opened && n == job->inlen && CRYPTO_memcmp(back, job->in, n) == 0;
    kmsenv_secret_free(back);
    /* A key that may only encrypt cannot be asked. */
    if (!same && (opened || w->err->reason == KMSENV_R_KMS_WRAP_REJECTED))
        return kmsenv_error_set(w->err, KMSENV_R_KMS_UNSUPPORTED, "the token does not open what it has wrapped just now, so its way of "
                                "doing %s is not known here; use the other mechanism", job->p->wrap ? "aes-kwp" : "aes-gcm");
    if (!same && w->err->reason != KMSENV_R_KMS_ACCESS_DENIED)
        return 0;
    atomic_store(&job->p->proven, 1);
    return 1;
}

static int encrypt_step(JOB *job, KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w)
{
    int ok = job->p->wrap ? kmsenv_pkcs11_kwp(s, w, job->in, job->inlen, job->blob)
                          : kmsenv_pkcs11_gcm(s, w, job->in, job->inlen, job->blob);

    if (ok && kmsenv_pkcs11_name_key(s, &job->uri, w->key, &job->blob->key_id, w->err) && prove(job, s, w))
        return 1;
    kmsenv_blob_reset(job->blob);
    return 0;
}

static int pkcs11_encrypt(void *kms, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    PKCS11 *p = kms;
    JOB job = { .p = p, .call = call, .uri = p->key[0], .step = encrypt_step, .in = in, .inlen = inlen, .blob = out };

    return perform(&job);
}

static int decrypt_step(JOB *job, KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w)
{
    return kmsenv_pkcs11_unwrap(s, w, job->wrap, job->out, job->outlen);
}

static int pkcs11_decrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    PKCS11 *p = kms;
    JOB job = { .p = p, .call = call, .uri = p->key[0], .step = decrypt_step, .wrap = in, .out = out, .outlen = outlen };

    if (in->key_id != NULL && !find_configured(p, in->key_id, &job.uri))
        return kmsenv_error_set(call->err, KMSENV_R_KMS_WRAP_REJECTED, "the data key is wrapped under another key than key-id and "
                                "decrypt-keys name");
    return perform(&job);
}

static int describe_step(JOB *job, KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w)
{
    return kmsenv_pkcs11_key_state(s, w->key, job->p->wrap, job->state, job->room, w->err);
}

static int pkcs11_describe(void *kms, KMSENV_CALL *call, char *state, size_t room)
{
    PKCS11 *p = kms;
    JOB job = { .p = p, .call = call, .uri = p->key[0], .step = describe_step, .state = state, .room = room };

    return perform(&job);
}

const KMSENV_KMS_METHOD kmsenv_kms_pkcs11 = {
    .name = "pkcs11",
    .title = "PKCS#11 token",
    .settings = settings,
    .network = 0,
    .plaintext_max = KMSENV_PKCS11_PLAINTEXT_MAX,
    .new = pkcs11_new,
    .free = pkcs11_free,
    .key_id = pkcs11_key_id,
    .matches = pkcs11_matches,
    .generate = NULL,
    .encrypt = pkcs11_encrypt,
    .decrypt = pkcs11_decrypt,
    .reencrypt = NULL,
    .describe = pkcs11_describe
};
