/* The provider in a library context of its own, with a local key made from fixed bytes, for targets that go through EVP. */
#ifndef KMSENV_FUZZ_PROVIDER_H
# define KMSENV_FUZZ_PROVIDER_H
# include <fcntl.h>
# include <string.h>
# include <unistd.h>
# include <openssl/core_dispatch.h>
# include <openssl/err.h>
# include <openssl/evp.h>
# include <openssl/provider.h>
# include "kmsenv/params.h"
# include "fuzz.h"

OSSL_provider_init_fn OSSL_provider_init;

/* The key a.pem of test/kmsenv_test.c, under which the seeds were made. */
static const char fuzz_key[] =
    "-----BEGIN KMSENV LOCAL MASTER KEY-----\n"
    "Key-Id: 000102030405060708090a0b0c0d0e0f\n"
    "Version: 1\n"
    "Created: 2024-01-01T00:00:00Z\n"
    "\n"
    "dGVzdCBrZXkgQSB0ZXN0IGtleSBBIHRlc3Qga2V5IEE=\n"
    "-----END KMSENV LOCAL MASTER KEY-----\n";
static OSSL_LIB_CTX *fuzz_libctx;
static EVP_CIPHER *fuzz_cipher;

static void fuzz_provider_start(void)
{
    static char dir[200], path[256];
    const char *tmp = getenv("TMPDIR");
    int fd;

    snprintf(dir, sizeof(dir), "%s/kmsenv-fuzz-XXXXXX", tmp != NULL && strlen(tmp) < 150 ? tmp : "/tmp");
    FUZZ_REQUIRE(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/a.pem", dir);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    FUZZ_REQUIRE(fd >= 0 && write(fd, fuzz_key, strlen(fuzz_key)) == (ssize_t)strlen(fuzz_key));
    close(fd);
    FUZZ_REQUIRE(setenv("KMSENV_KMS", "local", 1) == 0 && setenv("KMSENV_KEY_FILE", path, 1) == 0);
    FUZZ_REQUIRE(setenv("KMSENV_NEGATIVE_CACHE", "0", 1) == 0);
    FUZZ_REQUIRE((fuzz_libctx = OSSL_LIB_CTX_new()) != NULL);
    FUZZ_REQUIRE(OSSL_PROVIDER_load(fuzz_libctx, "default") != NULL);
    FUZZ_REQUIRE(OSSL_PROVIDER_add_builtin(fuzz_libctx, "kmsenv", OSSL_provider_init));
    FUZZ_REQUIRE(OSSL_PROVIDER_load(fuzz_libctx, "kmsenv") != NULL);
    FUZZ_REQUIRE((fuzz_cipher = EVP_CIPHER_fetch(fuzz_libctx, KMSENV_CIPHER_ENVELOPE, "provider=kmsenv")) != NULL);
}

/* After a failure: one entry in the queue, ours; after success: none. */
static void fuzz_check_queue(int ok)
{
    unsigned long e = ERR_get_error();

    FUZZ_REQUIRE((e == 0) == (ok != 0));
    FUZZ_REQUIRE(e == 0 || (ERR_lib_error_string(e) != NULL && strcmp(ERR_lib_error_string(e), "kmsenv") == 0));
    FUZZ_REQUIRE(ERR_peek_error() == 0);
}

#endif
