#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include "testutil.h"
#include "kmsenv_test.h"

#define UPDATE_SURPLUS 31   /* what an update may emit beyond its input */
#define CONFIG_MAX     16384

/* Two local master keys, for tests only. */
static const char key_a[] =
    "-----BEGIN KMSENV LOCAL MASTER KEY-----\n"
    "Key-Id: 000102030405060708090a0b0c0d0e0f\n"
    "Version: 1\n"
    "Created: 2024-01-01T00:00:00Z\n"
    "\n"
    "dGVzdCBrZXkgQSB0ZXN0IGtleSBBIHRlc3Qga2V5IEE=\n"
    "-----END KMSENV LOCAL MASTER KEY-----\n";
static const char key_b[] =
    "-----BEGIN KMSENV LOCAL MASTER KEY-----\n"
    "Key-Id: f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff\n"
    "Version: 1\n"
    "Created: 2024-01-01T00:00:00Z\n"
    "\n"
    "dGVzdCBrZXkgQiB0ZXN0IGtleSBCIHRlc3Qga2V5IEI=\n"
    "-----END KMSENV LOCAL MASTER KEY-----\n";

/* text with every '@' replaced by dir, into out. Returns 0 if it does not fit. */
static int expand(const char *text, const char *dir, char *out, size_t room)
{
    size_t n = 0, len = strlen(dir);

    for (; *text != '\0'; text++) {
        if (n + len + 2 > room)
            return 0;
        if (*text == '@') {
            memcpy(out + n, dir, len);
            n += len;
        } else {
            out[n++] = *text;
        }
    }
    out[n] = '\0';
    return 1;
}

int kmsenv_test_write(const KMSENV_TEST *t, const char *name, const char *text)
{
    char path[160], *content = malloc(CONFIG_MAX);
    int fd = -1, ok = 0;

    snprintf(path, sizeof(path), "%s/%s", t->dir, name);
    if (!TEST_ptr(content) || !TEST_true(expand(text, t->dir, content, CONFIG_MAX)))
        goto end;
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ok = TEST_int_ge(fd, 0) && TEST_long_eq((long)write(fd, content, strlen(content)), (long)strlen(content));
end:
    if (fd >= 0)
        close(fd);
    free(content);
    return ok;
}

static int make_dir(KMSENV_TEST *t)
{
    const char *tmp = getenv("TMPDIR");
    char keys[80];

    snprintf(t->dir, sizeof(t->dir), "%s/kmsenv-test-XXXXXX", tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
    if (!TEST_ptr(mkdtemp(t->dir)))
        return 0;
    t->owns_dir = 1;
    snprintf(keys, sizeof(keys), "%s/keys", t->dir);
    return TEST_int_eq(mkdir(keys, 0700), 0)
        && kmsenv_test_write(t, "a.pem", key_a) && kmsenv_test_write(t, "b.pem", key_b);
}

static int write_config(const KMSENV_TEST *t, const char *name, const KMSENV_TEST_SETUP *setup)
{
    char text[CONFIG_MAX];
    int n = snprintf(text, sizeof(text),
                     "config_diagnostics = 1\n"
                     "openssl_conf = init\n"
                     "[init]\nproviders = providers\nalg_section = algorithms\n"
                     "[algorithms]\n%s%s\n"
                     "[providers]\n%s\n"
                     "[default_sect]\nactivate = 1\n"
                     "[kmsenv_sect]\nmodule = %s/kmsenv.so\nactivate = 1\n%s\n",
                     setup->properties != NULL ? "default_properties = " : "",
                     setup->properties != NULL ? setup->properties : "",
                     setup->first ? "kmsenv = kmsenv_sect\ndefault = default_sect"
                                  : "default = default_sect\nkmsenv = kmsenv_sect",
                     KMSENV_TEST_MODULE_DIR, setup->settings);

    return TEST_int_lt(n, (int)sizeof(text)) && kmsenv_test_write(t, name, text);
}

/* Tests of one OpenSSL must not pass with another that happens to be found. */
static int runs_with_the_right_openssl(void)
{
    const char *version = getenv("KMSENV_TEST_OPENSSL_VERSION");

    return version == NULL || TEST_str_eq(OpenSSL_version(OPENSSL_VERSION_STRING), version);
}

KMSENV_TEST *kmsenv_test_new_ex(const KMSENV_TEST_SETUP *setup)
{
    KMSENV_TEST *t = calloc(1, sizeof(*t));
    char name[24], path[100];

    if (!TEST_ptr(t))
        return NULL;
    if (setup->same != NULL)
        memcpy(t->dir, setup->same->dir, sizeof(t->dir));
    else if (!make_dir(t))
        goto err;
    snprintf(name, sizeof(name), "openssl%s.cnf", setup->same == NULL ? "" : "-other");
    snprintf(path, sizeof(path), "%s/%s", t->dir, name);
    OPENSSL_load_builtin_modules();
    /* Where the provider looks for settings that nothing accepts. */
    if (!runs_with_the_right_openssl() || !write_config(t, name, setup)
            || !TEST_int_eq(setenv("OPENSSL_CONF", path, 1), 0)
            || !TEST_ptr(t->libctx = OSSL_LIB_CTX_new())
            || !TEST_true(OSSL_LIB_CTX_load_config(t->libctx, path))
            || !TEST_true(OSSL_PROVIDER_available(t->libctx, "default"))
            || !TEST_true(OSSL_PROVIDER_available(t->libctx, "kmsenv"))
            || !kmsenv_test_no_error())
        goto err;
    return t;
err:
    kmsenv_test_free(t);
    return NULL;
}

KMSENV_TEST *kmsenv_test_new(const char *settings)
{
    KMSENV_TEST_SETUP setup = { settings, NULL, 0, NULL };

    return kmsenv_test_new_ex(&setup);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void kmsenv_test_free(KMSENV_TEST *t)
{
    if (t == NULL)
        return;
    OSSL_LIB_CTX_free(t->libctx);
    if (t->owns_dir)
        nftw(t->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(t);
}

uint64_t kmsenv_test_counter(const KMSENV_TEST *t, const char *name)
{
    uint64_t value = UINT64_MAX;
    OSSL_PROVIDER *provider = OSSL_PROVIDER_load(t->libctx, "kmsenv");
    OSSL_PARAM params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };

    params[0] = OSSL_PARAM_construct_uint64(name, &value);
    if (!TEST_ptr(provider) || !TEST_true(OSSL_PROVIDER_get_params(provider, params))
            || !TEST_true(OSSL_PARAM_modified(&params[0])))
        value = UINT64_MAX;
    OSSL_PROVIDER_unload(provider);
    return value;
}

EVP_PKEY *kmsenv_test_load(const KMSENV_TEST *t, const char *uri)
{
    OSSL_STORE_CTX *store = OSSL_STORE_open_ex(uri, t->libctx, NULL, NULL, NULL, NULL, NULL, NULL);
    OSSL_STORE_INFO *info = store == NULL ? NULL : OSSL_STORE_load(store);
    EVP_PKEY *pkey = info == NULL ? NULL : OSSL_STORE_INFO_get1_PKEY(info);

    OSSL_STORE_INFO_free(info);
    OSSL_STORE_close(store);
    return pkey;
}

static size_t guarded_size(size_t n, size_t *page)
{
    *page = (size_t)sysconf(_SC_PAGESIZE);
    return (n + *page - 1) / *page * *page + *page;
}

unsigned char *kmsenv_test_guarded(size_t n)
{
    size_t page, size = guarded_size(n, &page);
    unsigned char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (!TEST_false(map == MAP_FAILED) || !TEST_int_eq(mprotect(map + size - page, page, PROT_NONE), 0))
        return NULL;
    return map + size - page - n;
}

void kmsenv_test_guarded_free(unsigned char *p, size_t n)
{
    size_t page, size = guarded_size(n, &page);

    if (p != NULL)
        munmap(p + n + page - size, size);
}

void kmsenv_test_fill(unsigned char *p, size_t n, unsigned seed)
{
    uint32_t x = seed * 2654435761u + 1;
    size_t i;

    for (i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (unsigned char)(x >> 24);
    }
}

void kmsenv_test_bytes_reset(KMSENV_TEST_BYTES *b)
{
    free(b->data);
    b->data = NULL;
    b->len = 0;
}

static int bytes_add(KMSENV_TEST_BYTES *b, const unsigned char *p, size_t n)
{
    unsigned char *grown = realloc(b->data, b->len + n + 1);

    if (!TEST_ptr(grown))
        return 0;
    b->data = grown;
    memcpy(b->data + b->len, p, n);
    b->len += n;
    return 1;
}

/* NULL also if init was refused; that is not a failure of the test. */
static EVP_CIPHER_CTX *new_ctx(const KMSENV_TEST *t, int enc, const unsigned char *key, const OSSL_PARAM *params)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(t->libctx, KMSENV_CIPHER_ENVELOPE, "provider=kmsenv");
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

    if (!TEST_ptr(cipher) || !TEST_ptr(ctx) || !EVP_CipherInit_ex2(ctx, cipher, key, NULL, enc, params)) {
        EVP_CIPHER_CTX_free(ctx);
        ctx = NULL;
    }
    EVP_CIPHER_free(cipher);
    return ctx;
}

EVP_CIPHER_CTX *kmsenv_test_ctx(const KMSENV_TEST *t, int enc, const unsigned char *key, const OSSL_PARAM *params)
{
    EVP_CIPHER_CTX *ctx = new_ctx(t, enc, key, params);

    TEST_ptr(ctx);
    return ctx;
}

/* -1: the test failed; 0: the EVP call failed; 1: fine */
static int run_final(EVP_CIPHER_CTX *ctx, unsigned char *room, size_t block, KMSENV_TEST_BYTES *out)
{
    int outl = 0;

    if (!EVP_CipherFinal_ex(ctx, room, &outl))
        return 0;
    return TEST_int_ge(outl, 0) && TEST_size_t_le((size_t)outl, block) && bytes_add(out, room, (size_t)outl) ? 1 : -1;
}

static int run_update(EVP_CIPHER_CTX *ctx, unsigned char *room, const unsigned char *in, size_t n,
                      KMSENV_TEST_BYTES *out)
{
    int outl = 0;

    if (!EVP_CipherUpdate(ctx, room, &outl, in, (int)n))
        return 0;
    return TEST_int_ge(outl, 0) && TEST_size_t_le((size_t)outl, n + UPDATE_SURPLUS)
        && bytes_add(out, room, (size_t)outl) ? 1 : -1;
}

int kmsenv_test_run(EVP_CIPHER_CTX *ctx, const unsigned char *in, size_t inlen, size_t chunk, KMSENV_TEST_BYTES *out)
{
    size_t block = (size_t)EVP_CIPHER_CTX_get_block_size(ctx), most, n, done;
    unsigned char *room, *end;
    int status = 1;

    kmsenv_test_bytes_reset(out);
    most = (chunk == 0 || chunk > inlen ? inlen : chunk) + block;
    if ((room = kmsenv_test_guarded(most)) == NULL || !bytes_add(out, room, 0))
        return 0;
    end = room + most;
    for (done = 0; done < inlen && status == 1; done += n) {
        n = chunk == 0 || chunk > inlen - done ? inlen - done : chunk;
        /* Room for inl + B bytes, as OpenSSL tells the provider, and not one more. */
        status = run_update(ctx, end - n - block, in + done, n, out);
    }
    if (status == 1)
        status = run_final(ctx, end - block, block, out);
    kmsenv_test_guarded_free(room, most);
    return status == 1;
}

int kmsenv_test_crypt_key(const KMSENV_TEST *t, int enc, const unsigned char *key, const OSSL_PARAM *params,
                          const unsigned char *in, size_t inlen, size_t chunk, KMSENV_TEST_BYTES *out)
{
    EVP_CIPHER_CTX *ctx;
    int ok;

    kmsenv_test_bytes_reset(out);
    ctx = new_ctx(t, enc, key, params);
    ok = ctx != NULL && kmsenv_test_run(ctx, in, inlen, chunk, out);
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

int kmsenv_test_crypt(const KMSENV_TEST *t, int enc, const unsigned char *in, size_t inlen, KMSENV_TEST_BYTES *out)
{
    return kmsenv_test_crypt_key(t, enc, NULL, NULL, in, inlen, 0, out);
}

static int says(const char *text, const char *words)
{
    char word[256];
    size_t n;

    for (; *words != '\0'; words += n + (words[n] == '|')) {
        n = strcspn(words, "|");
        snprintf(word, sizeof(word), "%.*s", (int)n, words);
        if (strstr(text, word) == NULL) {
            TEST_error("the error '%s' does not name '%s'", text, word);
            return 0;
        }
    }
    return 1;
}

int kmsenv_test_error_says(int reason, const char *words)
{
    const char *data = NULL;
    int flags = 0, ok;
    unsigned long e = ERR_get_error_all(NULL, NULL, NULL, &data, &flags);

    ok = TEST_ulong_ne(e, 0)
        && TEST_str_eq(ERR_lib_error_string(e), "kmsenv")
        && (reason == KMSENV_TEST_ANY || TEST_int_eq(ERR_GET_REASON(e), reason))
        && TEST_ptr(ERR_reason_error_string(e))
        && TEST_true((flags & ERR_TXT_STRING) != 0)
        && TEST_ptr(data) && TEST_size_t_gt(strlen(data), 0)
        && says(data, words);
    if (!ok && e != 0)
        TEST_info("the error was: %s: %s", ERR_reason_error_string(e), data == NULL ? "" : data);
    if (!TEST_ulong_eq(ERR_peek_error(), 0)) {
        TEST_openssl_errors();
        ok = 0;
    }
    ERR_clear_error();
    return ok;
}

int kmsenv_test_error_is(int reason)
{
    return kmsenv_test_error_says(reason, "");
}

int kmsenv_test_no_error(void)
{
    if (TEST_ulong_eq(ERR_peek_error(), 0))
        return 1;
    TEST_openssl_errors();
    return 0;
}
