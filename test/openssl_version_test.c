/*
 * The process and the provider in it use one OpenSSL, and it is the one that the tests are to run with
 * (test/run --openssl): not another that the loader happened to find, and not two.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/opensslv.h>
#include "testutil.h"
#include "kmsenv_test.h"

typedef const char *VERSION_FN(int);

static KMSENV_TEST *t;

/* The file that code of libcrypto comes from. */
static char *file_of(const void *code)
{
    Dl_info info;

    return dladdr(code, &info) != 0 ? realpath(info.dli_fname, NULL) : NULL;
}

static int test_file(void)
{
    const char *given = getenv("KMSENV_TEST_LIBCRYPTO");
    char *want = given != NULL ? realpath(given, NULL) : NULL, *got = file_of((const void *)OpenSSL_version);
    int ok = TEST_ptr(want) && TEST_str_eq(got, want);

    free(want);
    free(got);
    return ok;
}

static int test_version(void)
{
    const char *want = getenv("KMSENV_TEST_OPENSSL_VERSION");

    return TEST_ptr(want) && TEST_str_eq(OpenSSL_version(OPENSSL_VERSION_STRING), want)
        && TEST_str_eq(OPENSSL_VERSION_STR, want);
}

static int test_module(void)
{
    void *module = dlopen(KMSENV_TEST_MODULE_DIR "/kmsenv.so", RTLD_LAZY | RTLD_NOLOAD), *code = NULL;
    char *ours = file_of((const void *)OpenSSL_version), *its = NULL;
    int ok = TEST_ptr(module) && TEST_ptr(code = dlsym(module, "OpenSSL_version"))
             && TEST_str_eq(its = file_of(code), ours)
             && TEST_str_eq(((VERSION_FN *)code)(OPENSSL_VERSION_STRING), OpenSSL_version(OPENSSL_VERSION_STRING));

    free(ours);
    free(its);
    if (module != NULL)
        dlclose(module);
    return ok;
}

static int test_only_one(void)
{
    char line[4352], *ours = file_of((const void *)OpenSSL_version);
    FILE *maps = fopen("/proc/self/maps", "r");
    int seen = 0, ok = TEST_ptr(maps) && TEST_ptr(ours);

    while (ok && fgets(line, sizeof(line), maps) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strstr(line, "/libcrypto") == NULL)
            continue;
        seen++;
        ok = TEST_str_eq(strchr(line, '/'), ours);
    }
    if (maps != NULL)
        fclose(maps);
    free(ours);
    return ok && TEST_int_gt(seen, 0);
}

int setup_tests(void)
{
    if (!TEST_ptr(t = kmsenv_test_new(KMSENV_TEST_LOCAL)))
        return 0;
    ADD_TEST(test_file);
    ADD_TEST(test_version);
    ADD_TEST(test_module);
    ADD_TEST(test_only_one);
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_test_free(t);
}
