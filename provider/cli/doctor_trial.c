/*
 * The provider in use: what a program would do with it, through public calls of OpenSSL only.
 * Encryption and decryption happen in two library contexts, and so in two instances of the
 * provider that share no cache: the KMS is really asked to unwrap.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include "cli/cli.h"
#include "cli/doctor.h"
#include "core/clock.h"
#include "kmsenv/params.h"

#define BLOCK_MAX     65536      /* the largest block size of the cipher */
#define MESSAGE_MAX   (BLOCK_MAX + 1024)

/* One instance of the provider. */
typedef struct instance_st {
    OSSL_LIB_CTX *libctx;
    OSSL_PROVIDER *ours, *standard;     /* loaded by us, when no configuration does it */
    EVP_CIPHER *cipher;
} INSTANCE;

static void close_instance(INSTANCE *x)
{
    EVP_CIPHER_free(x->cipher);
    if (x->ours != NULL)
        OSSL_PROVIDER_unload(x->ours);
    if (x->standard != NULL)
        OSSL_PROVIDER_unload(x->standard);
    OSSL_LIB_CTX_free(x->libctx);
    memset(x, 0, sizeof(*x));
}

/* Has OpenSSL say why it cannot load the module, which it does not when it reads the configuration. */
static void load_for_cause(INSTANCE *x, const KMSENV_INSTALLATION *in)
{
    const char *module = in->module == NULL ? kmsenv_installation_name(in) : in->module;
    size_t len = strlen(module);
    char file[4096];

    /* A plain name gets the ending added. */
    if (strchr(module, '/') == NULL && len > 3 && strcmp(module + len - 3, ".so") == 0)
        len -= 3;
    snprintf(file, sizeof(file), "%.*s", (int)len, module);
    ERR_clear_error();
    x->ours = OSSL_PROVIDER_load(x->libctx, file);
}

/* 0 with the error queue as OpenSSL leaves it. A configuration that fails to load a module is not an error to OpenSSL. */
static int open_instance(INSTANCE *x, const KMSENV_INSTALLATION *in)
{
    memset(x, 0, sizeof(*x));
    ERR_clear_error();
    if ((x->libctx = OSSL_LIB_CTX_new()) == NULL)
        return 0;
    if (in->file != NULL && !OSSL_LIB_CTX_load_config(x->libctx, in->file))
        return 0;
    if (in->section == NULL
            && ((x->standard = OSSL_PROVIDER_load(x->libctx, "default")) == NULL
                || (x->ours = OSSL_PROVIDER_load(x->libctx, "kmsenv")) == NULL))
        return 0;
    if (!OSSL_PROVIDER_available(x->libctx, kmsenv_installation_name(in))) {
        load_for_cause(x, in);
        return 0;
    }
    return (x->cipher = EVP_CIPHER_fetch(x->libctx, KMSENV_CIPHER_ENVELOPE, NULL)) != NULL;
}

static int check_provider(const KMSENV_INSTALLATION *in, KMSENV_REPORT *report)
{
    const char *version = "", *remedy = "check the setting module, or set OPENSSL_MODULES to the directory of kmsenv.so; "
                                        "the file must be readable by this user";
    OSSL_PARAM params[] = {
        OSSL_PARAM_DEFN(OSSL_PROV_PARAM_VERSION, OSSL_PARAM_UTF8_PTR, &version, 0), OSSL_PARAM_END
    };
    OSSL_PROVIDER *p;
    char text[1024];
    INSTANCE x;
    int ok = open_instance(&x, in);

    if (ok) {
        if ((p = OSSL_PROVIDER_load(x.libctx, kmsenv_installation_name(in))) != NULL) {
            OSSL_PROVIDER_get_params(p, params);
            OSSL_PROVIDER_unload(p);
        }
        kmsenv_reportf(report, KMSENV_CHECK_OK, "provider", NULL, "%s %s is loaded into OpenSSL %s and offers %s",
                       kmsenv_installation_name(in), version, OpenSSL_version(OPENSSL_VERSION_STRING), KMSENV_CIPHER_ENVELOPE);
    } else {
        kmsenv_cli_take_error(kmsenv_installation_name(in), text, sizeof(text));
        if (x.libctx != NULL && OSSL_PROVIDER_available(x.libctx, kmsenv_installation_name(in)))
            remedy = "check default_properties in the configuration file: it must not exclude kmsenv";
        kmsenv_reportf(report, KMSENV_CHECK_FAILED, "provider", remedy, "%s is not usable: %s", kmsenv_installation_name(in), text);
    }
    close_instance(&x);
    return ok;
}

/* A whole message through one EVP context. 0 with the error queue as it is. */
static int crypt(const INSTANCE *x, const char *profile, int enc, const unsigned char *in, size_t inlen,
                 unsigned char *out, size_t *outlen)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_DEFN(KMSENV_CIPHER_PARAM_PROFILE, OSSL_PARAM_UTF8_STRING, (void *)profile, strlen(profile)), OSSL_PARAM_END
    };
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, last = 0, ok;

    ok = ctx != NULL
        && EVP_CipherInit_ex2(ctx, x->cipher, NULL, NULL, enc, enc ? params : NULL)
        && EVP_CipherUpdate(ctx, out, &n, in, (int)inlen)
        && EVP_CipherFinal_ex(ctx, out + n, &last);
    EVP_CIPHER_CTX_free(ctx);
    *outlen = (size_t)n + (size_t)last;
    return ok;
}

static void report_failure(const KMSENV_INSTALLATION *in, const char *subject, const char *what, uint64_t ms, KMSENV_REPORT *report)
{
    char text[1024];
    int reason = kmsenv_cli_take_error(kmsenv_installation_name(in), text, sizeof(text));

    kmsenv_reportf(report, KMSENV_CHECK_FAILED, subject, kmsenv_doctor_remedy(reason), "cannot %s (after %" PRIu64 " ms): %s",
                   what, ms, text);
}

/* Encrypts under the profile with one instance, decrypts with another. room: MESSAGE_MAX bytes each. */
static void round_trip(const KMSENV_INSTALLATION *in, const char *profile, unsigned char *message, unsigned char *back,
                       KMSENV_REPORT *report)
{
    static const unsigned char sample[] = "kmsenv doctor";
    char subject[KMSENV_PROFILE_NAME_MAX + 16];
    size_t len = 0, backlen = 0;
    uint64_t start = kmsenv_clock_ms(), sealed, opened;
    INSTANCE one, two = { 0 };
    int ok;

    snprintf(subject, sizeof(subject), "profile %s", profile);
    ok = open_instance(&one, in) && crypt(&one, profile, 1, sample, sizeof(sample), message, &len);
    sealed = kmsenv_clock_ms();
    if (!ok) {
        report_failure(in, subject, "make a data key", sealed - start, report);
    } else if (!open_instance(&two, in) || !crypt(&two, profile, 0, message, len, back, &backlen)) {
        report_failure(in, subject, "unwrap the data key it made", kmsenv_clock_ms() - sealed, report);
    } else {
        opened = kmsenv_clock_ms();
        if (backlen == sizeof(sample) && memcmp(back, sample, backlen) == 0)
            kmsenv_reportf(report, KMSENV_CHECK_OK, subject, NULL, "made a data key in %" PRIu64 " ms, unwrapped it in %" PRIu64 " ms",
                           sealed - start, opened - sealed);
        else
            kmsenv_report(report, KMSENV_CHECK_FAILED, subject, "what was decrypted is not what was encrypted", "please report this");
    }
    close_instance(&one);
    close_instance(&two);
}

/* After the round trips: what they needed could be locked, or not. */
static void check_memory(const KMSENV_INSTALLATION *in, KMSENV_REPORT *report)
{
    uint64_t unlocked = 0;
    OSSL_PARAM params[] = {
        OSSL_PARAM_DEFN("kmsenv.unlocked-bytes", OSSL_PARAM_UNSIGNED_INTEGER, &unlocked, sizeof(unlocked)), OSSL_PARAM_END
    };
    struct rlimit limit = { 0, 0 };
    OSSL_PROVIDER *p;
    INSTANCE x;

    if (open_instance(&x, in) && (p = OSSL_PROVIDER_load(x.libctx, kmsenv_installation_name(in))) != NULL) {
        OSSL_PROVIDER_get_params(p, params);
        OSSL_PROVIDER_unload(p);
        getrlimit(RLIMIT_MEMLOCK, &limit);
        if (unlocked == 0)
            kmsenv_report(report, KMSENV_CHECK_OK, "secret memory", "all of it is locked", NULL);
        else
            kmsenv_reportf(report, KMSENV_CHECK_NOTE, "secret memory", "raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK= of systemd)",
                           "%" PRIu64 " bytes could not be locked and may be swapped; the limit is %" PRIu64, unlocked,
                           (uint64_t)limit.rlim_cur);
    }
    ERR_clear_error();
    close_instance(&x);
}

/*
 * Are the ordinary ciphers ours where they are offered? If not, a reference is used as a key, and nobody notices. To be
 * listed first is not enough: libcrypto sorts the providers by name when a program loads one, or asks if it is there.
 */
static void check_references(const KMSENV_INSTALLATION *in, KMSENV_REPORT *report)
{
    static const char name[] = "AES-256-GCM";
    EVP_CIPHER *ours = NULL, *usual = NULL;
    const char *provider;
    INSTANCE x;

    if (open_instance(&x, in))
        ours = EVP_CIPHER_fetch(x.libctx, name, "provider=kmsenv,-fips");
    if (ours != NULL) {
        usual = EVP_CIPHER_fetch(x.libctx, name, NULL);
        provider = usual == NULL ? "nobody" : OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(usual));
        if (strcmp(provider, kmsenv_installation_name(in)) == 0)
            kmsenv_report(report, KMSENV_CHECK_OK, "key references", "a key reference works in place of a key", NULL);
        else
            kmsenv_reportf(report, KMSENV_CHECK_FAILED, "key references", "set default_properties = ?provider=kmsenv in the section "
                           "that alg_section names, or leave key-references out", "key-references = yes, but who asks for %s gets it "
                           "from %s: a key reference would be used as a key there", name, provider);
    }
    ERR_clear_error();
    EVP_CIPHER_free(ours);
    EVP_CIPHER_free(usual);
    close_instance(&x);
}

static size_t next_name(const char **list, char *name, size_t room)
{
    size_t n;

    *list += strspn(*list, ", \t");
    n = strcspn(*list, ", \t");
    snprintf(name, room, "%.*s", (int)n, *list);
    *list += n;
    return n;
}

void kmsenv_doctor_try(const KMSENV_INSTALLATION *in, const char *profile, KMSENV_REPORT *report)
{
    const char *list = profile != NULL ? profile : in->profiles != NULL ? in->profiles : "default";
    unsigned char *room = OPENSSL_malloc(2 * MESSAGE_MAX);
    char name[KMSENV_PROFILE_NAME_MAX];

    if (room == NULL || !check_provider(in, report)) {
        OPENSSL_free(room);
        return;
    }
    while (next_name(&list, name, sizeof(name)) > 0)
        round_trip(in, name, room, room + MESSAGE_MAX, report);
    check_references(in, report);
    check_memory(in, report);
    OPENSSL_free(room);
}
