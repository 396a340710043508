/* The back end `local` and its key file, from inside: strict reading, rotation, wraps. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/clock.h"
#include "core/crypto.h"
#include "kms/kms.h"
#include "kms/local_key.h"
#include "kms/registry.h"

#define ID    "00112233445566778899aabbccddeeff"
#define BEGIN "-----BEGIN KMSENV LOCAL MASTER KEY-----\n"
#define END   "-----END KMSENV LOCAL MASTER KEY-----\n"
/* Bytes 00 01 .. 1f and a0 a1 .. bf: obviously test keys. */
#define KEY_1 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
#define KEY_2 "oKGio6SlpqeoqaqrrK2ur7CxsrO0tba3uLm6u7y9vr8=\n"
#define BLOCK(id, version, created, key) \
    BEGIN "Key-Id: " id "\nVersion: " version "\nCreated: " created "\n\n" key END
#define GOOD_1 BLOCK(ID, "1", "2024-01-31T12:00:00Z", KEY_1)
#define GOOD_2 BLOCK(ID, "2", "2024-02-01T12:00:00Z", KEY_2)

static char directory[] = "/tmp/kmsenv-local-XXXXXX";
static char path[64];
static KMSENV_CRYPTO *crypto;
static const KMSENV_CONTEXT no_context;

static int write_file(const char *text, size_t n, mode_t mode)
{
    int fd, ok;

    unlink(path);
    if (!TEST_int_ge(fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600), 0))
        return 0;
    ok = TEST_true(write(fd, text, n) == (ssize_t)n) && TEST_int_eq(fchmod(fd, mode), 0);
    close(fd);
    return ok;
}

static int write_text(const char *text)
{
    return write_file(text, strlen(text), 0600);
}

/* --- the file ------------------------------------------------------------- */

static const struct { const char *text; size_t count; uint32_t newest; } good[] = {
    { GOOD_1, 1, 1 },
    { GOOD_1 GOOD_2, 2, 2 },
    { "# kept by the key officers\n\n" GOOD_1 "\n\n# second\n" GOOD_2 "\n", 2, 2 },
    { BLOCK(ID, "7", "2024-01-31T12:00:00Z", KEY_1) BLOCK(ID, "4294967295", "2024-01-31T12:00:00Z", KEY_2), 2, UINT32_MAX },
};

static int test_good_file(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_LOCAL_KEY *key = NULL;
    const unsigned char *bytes;
    int ok = write_text(good[i].text)
        && TEST_ptr(key = kmsenv_local_key_load(path, &err))
        && TEST_size_t_eq(kmsenv_local_key_count(key), good[i].count)
        && TEST_uint_eq(kmsenv_local_key_newest(key), good[i].newest)
        && TEST_str_eq(kmsenv_local_key_id(key), ID)
        && TEST_ptr_null(kmsenv_local_key_get0(key, 3))
        && TEST_ptr(bytes = kmsenv_local_key_get0(key, good[i].newest))
        && TEST_uchar_eq(bytes[1], i == 0 ? 0x01 : 0xa1)
        && TEST_int_eq(kmsenv_local_key_is_current(key, path), 1)
        && TEST_int_eq(chmod(path, 0400), 0)
        && TEST_int_eq(kmsenv_local_key_is_current(key, path), 0);

    kmsenv_local_key_free(key);
    return ok;
}

static const struct { const char *text; mode_t mode; const char *says; } bad[] = {
    { "", 0600, "holds no key" },
    { "\n# nothing\n", 0600, "holds no key" },
    { "hello\n", 0600, "line 1: expected '-----BEGIN KMSENV LOCAL MASTER KEY-----'" },
    { "-----BEGIN PRIVATE KEY-----\n", 0600, "line 1: expected '-----BEGIN KMSENV" },
    { GOOD_1 "x", 0600, "line 8: expected" },
    { BEGIN, 0600, "line 1: expected 'Key-Id: '" },
    { BEGIN "Version: 1\n", 0600, "line 2: expected 'Key-Id: '" },
    { BLOCK("00112233445566778899aabbccddeef", "1", "2024-01-31T12:00:00Z", KEY_1), 0600, "line 2: expected 'Key-Id: '" },
    { BLOCK("00112233445566778899AABBCCDDEEFF", "1", "2024-01-31T12:00:00Z", KEY_1), 0600, "line 2: expected 'Key-Id: '" },
    { BLOCK(ID "0", "1", "2024-01-31T12:00:00Z", KEY_1), 0600, "line 2: expected 'Key-Id: '" },
    { BLOCK(ID, "0", "2024-01-31T12:00:00Z", KEY_1), 0600, "line 3: expected 'Version: '" },
    { BLOCK(ID, "01", "2024-01-31T12:00:00Z", KEY_1), 0600, "line 3: expected 'Version: '" },
    { BLOCK(ID, "", "2024-01-31T12:00:00Z", KEY_1), 0600, "line 3: expected 'Version: '" },
    { BLOCK(ID, "-1", "2024-01-31T12:00:00Z", KEY_1), 0600, "line 3: expected 'Version: '" },
    { BLOCK(ID, "4294967296", "2024-01-31T12:00:00Z", KEY_1), 0600, "line 3: expected 'Version: '" },
    { BLOCK(ID, "99999999999999999999", "2024-01-31T12:00:00Z", KEY_1), 0600, "line 3: expected 'Version: '" },
    { BLOCK(ID, "1", "yesterday", KEY_1), 0600, "line 4: expected 'Created: '" },
    { BLOCK(ID, "1", "2024-01-31 12:00:00Z", KEY_1), 0600, "line 4: expected 'Created: '" },
    { BLOCK(ID, "1", "2024-01-31T12:00:00Z\nMore: 1", KEY_1), 0600, "line 5: expected an empty line" },
    { BLOCK(ID, "1", "2024-01-31T12:00:00Z", "AAECAwQ=\n"), 0600, "line 6: expected the key" },
    { BLOCK(ID, "1", "2024-01-31T12:00:00Z", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh==\n"), 0600, "line 6: expected the key" },
    { BLOCK(ID, "1", "2024-01-31T12:00:00Z", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8A\n"), 0600, "line 6: expected the key" },
    { BLOCK(ID, "1", "2024-01-31T12:00:00Z", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8 \n"), 0600, "line 6: expected the key" },
    { BLOCK(ID, "1", "2024-01-31T12:00:00Z", KEY_1 KEY_2), 0600, "line 7: expected '-----END" },
    { BEGIN "Key-Id: " ID "\nVersion: 1\nCreated: 2024-01-31T12:00:00Z\n\n" KEY_1, 0600, "line 6: expected '-----END" },
    { GOOD_1 GOOD_1, 0600, "line 10: expected a larger version" },
    { GOOD_2 GOOD_1, 0600, "line 10: expected a larger version" },
    { GOOD_1 BLOCK("ff112233445566778899aabbccddeeff", "2", "2024-01-31T12:00:00Z", KEY_2), 0600, "line 9: expected the same Key-Id" },
    { "-----BEGIN KMSENV LOCAL MASTER KEY-----\r\n", 0600, "line 1: expected" },
    { GOOD_1, 0640, "mode 0640" },
    { GOOD_1, 0604, "chmod 600" },
    { GOOD_1, 0620, "chmod 600" },
};

static int test_bad_file(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_LOCAL_KEY *key = NULL;
    int ok = write_file(bad[i].text, strlen(bad[i].text), bad[i].mode)
        && TEST_ptr_null(key = kmsenv_local_key_load(path, &err))
        && TEST_int_eq(err.reason, KMSENV_R_KEY_FILE_INVALID)
        && TEST_ptr(strstr(err.text, bad[i].says))
        && TEST_ptr(strstr(err.text, path))
        && TEST_ptr_null(strstr(err.text, "AAECAwQ"));

    if (!ok)
        TEST_info("error text: %s", err.text);
    kmsenv_local_key_free(key);
    return ok;
}

static int expect_refused(const char *what, const char *says)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_LOCAL_KEY *key = kmsenv_local_key_load(what, &err);
    int ok = TEST_ptr_null(key) && TEST_int_eq(err.reason, KMSENV_R_KEY_FILE_INVALID)
        && TEST_ptr(strstr(err.text, says));

    if (!ok)
        TEST_info("error text: %s", err.text);
    kmsenv_local_key_free(key);
    return ok;
}

static int test_odd_files(void)
{
    static char large[KMSENV_LOCAL_FILE_MAX + 2];
    char link[80];
    KMSENV_LOCAL_KEY *key = NULL;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok;

    memset(large, '\n', sizeof(large));
    snprintf(link, sizeof(link), "%s.link", path);
    ok = write_file(large, KMSENV_LOCAL_FILE_MAX + 1, 0600) && expect_refused(path, "at most 65536")
        && write_file("\0\0\0\0", 4, 0600) && expect_refused(path, "line 1: expected")
        && TEST_int_eq(unlink(path), 0) && expect_refused(path, "kmsenv init --key-file")
        && TEST_int_eq(mkfifo(path, 0600), 0) && expect_refused(path, "not a regular file")
        && expect_refused(directory, "not a regular file")
        && write_text(GOOD_1) && TEST_int_eq(symlink(path, link), 0)
        && TEST_ptr(key = kmsenv_local_key_load(link, &err))
        && TEST_int_eq(chmod(path, 0644), 0) && expect_refused(link, "mode 0644");
    unlink(link);
    kmsenv_local_key_free(key);
    return ok;
}

/* A file cut anywhere is refused (but for its last line end), and no change of a byte makes more of it than it was. */
static int test_damaged_file(void)
{
    static const unsigned char change[] = { 0x00, '\n', 0x01, 0x80 };   /* set to, set to, xor, xor */
    char text[] = GOOD_1;
    KMSENV_LOCAL_KEY *key;
    size_t i, j, n = strlen(text);
    int ok = 1, loaded = 0;

    for (i = 0; ok && i < n; i++) {
        key = write_file(text, i, 0600) ? kmsenv_local_key_load(path, NULL) : NULL;
        ok = i == n - 1 ? TEST_ptr(key) : TEST_ptr_null(key);
        kmsenv_local_key_free(key);
    }
    for (i = 0; ok && i < 4 * n; i++) {
        char old = text[i / 4];

        j = i % 4;
        text[i / 4] = (char)(j < 2 ? change[j] : (unsigned char)old ^ change[j]);
        key = write_file(text, n, 0600) ? kmsenv_local_key_load(path, NULL) : NULL;
        ok = key == NULL || TEST_size_t_eq(kmsenv_local_key_count(key), 1);
        loaded += key != NULL;
        kmsenv_local_key_free(key);
        text[i / 4] = old;
    }
    /* Digits of the id, the version and the time, and letters of the key, may become others. */
    return ok && TEST_int_gt(loaded, 0) && TEST_int_lt(loaded, 120);
}

/* --- creating and rotating ------------------------------------------------ */

static int count_entries(void)
{
    char command[128];
    FILE *p;
    int n = -1;

    snprintf(command, sizeof(command), "ls -A '%s' | wc -l", directory);
    if ((p = popen(command, "r")) == NULL || fscanf(p, "%d", &n) != 1)
        n = -1;
    if (p != NULL)
        pclose(p);
    return n;
}

static int test_create_and_rotate(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_LOCAL_KEY *one = NULL, *two = NULL;
    struct stat st;
    mode_t mask = umask(0);
    int ok;

    unlink(path);
    ok = TEST_true(kmsenv_local_key_create(path, crypto, &err))
        && TEST_int_eq(stat(path, &st), 0) && TEST_uint_eq(st.st_mode & 07777, 0600)
        && TEST_ptr(one = kmsenv_local_key_load(path, &err))
        && TEST_uint_eq(kmsenv_local_key_newest(one), 1)
        && TEST_false(kmsenv_local_key_create(path, crypto, &err))
        && TEST_int_eq(err.reason, KMSENV_R_KEY_FILE_INVALID) && TEST_ptr(strstr(err.text, "--rotate"))
        && TEST_int_eq(kmsenv_local_key_is_current(one, path), 1)
        && TEST_int_eq(chmod(path, 0400), 0)
        && TEST_true(kmsenv_local_key_rotate(path, crypto, &err))
        && TEST_int_eq(stat(path, &st), 0) && TEST_uint_eq(st.st_mode & 07777, 0400)
        && TEST_int_eq(kmsenv_local_key_is_current(one, path), 0)
        && TEST_ptr(two = kmsenv_local_key_load(path, &err))
        && TEST_uint_eq(kmsenv_local_key_newest(two), 2)
        && TEST_str_eq(kmsenv_local_key_id(two), kmsenv_local_key_id(one))
        && TEST_mem_eq(kmsenv_local_key_get0(one, 1), 32, kmsenv_local_key_get0(two, 1), 32)
        && TEST_mem_ne(kmsenv_local_key_get0(two, 1), 32, kmsenv_local_key_get0(two, 2), 32)
        && TEST_int_eq(count_entries(), 1);
    if (!ok)
        TEST_info("error text: %s", err.text);
    umask(mask);
    kmsenv_local_key_free(one);
    kmsenv_local_key_free(two);
    return ok;
}

/* A rotation that cannot be finished leaves the file as it was, and nothing beside it. */
static int test_rotate_refused(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_LOCAL_KEY *key = NULL;
    int i, ok = 1;

    for (i = 0; ok && i < 2; i++) {
        static const char *const text[] = {
            GOOD_1 "x\n", BLOCK(ID, "4294967295", "2024-01-31T12:00:00Z", KEY_1)
        };

        ok = write_text(text[i]) && TEST_false(kmsenv_local_key_rotate(path, crypto, &err))
            && TEST_int_eq(err.reason, KMSENV_R_KEY_FILE_INVALID) && TEST_int_eq(count_entries(), 1);
    }
    ok = ok && TEST_ptr(key = kmsenv_local_key_load(path, &err)) && TEST_size_t_eq(kmsenv_local_key_count(key), 1);
    kmsenv_local_key_free(key);
    return ok;
}

/* Rotated until it is full: refused with a clear error, and the file stays as it was. */
static int test_rotate_to_the_limit(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_LOCAL_KEY *key = NULL;
    char *text = OPENSSL_zalloc(KMSENV_LOCAL_FILE_MAX + 1024), *p = text;
    unsigned n = 0;
    int ok = TEST_ptr(text);

    while (ok && (size_t)(p - text) + strlen(GOOD_1) + 2 <= KMSENV_LOCAL_FILE_MAX)
        p += sprintf(p, BEGIN "Key-Id: " ID "\nVersion: %u\nCreated: 2024-01-31T12:00:00Z\n\n" KEY_1 END, ++n);
    ok = ok && write_text(text) && TEST_ptr(key = kmsenv_local_key_load(path, &err))
        && TEST_uint_eq(kmsenv_local_key_newest(key), n)
        && TEST_false(kmsenv_local_key_rotate(path, crypto, &err))
        && TEST_int_eq(err.reason, KMSENV_R_KEY_FILE_INVALID) && TEST_ptr(strstr(err.text, "65536"))
        && TEST_int_eq(kmsenv_local_key_is_current(key, path), 1) && TEST_int_eq(count_entries(), 1);
    OPENSSL_free(text);
    kmsenv_local_key_free(key);
    return ok;
}

/* --- wraps ---------------------------------------------------------------- */

typedef struct fixture_st {
    KMSENV_SECTION *section;
    void *kms;
    KMSENV_ERROR err;
    KMSENV_CALL call;
} FIXTURE;

static int fixture_open(FIXTURE *f, const char *key_id)
{
    KMSENV_SERVICES services = { 0 };

    memset(f, 0, sizeof(*f));
    services.crypto = crypto;
    f->call.context = &no_context;
    f->call.deadline_ms = kmsenv_clock_ms() + 10000;
    f->call.err = &f->err;
    return TEST_ptr(f->section = kmsenv_section_new("kms_test"))
        && TEST_true(kmsenv_section_add_table(f->section, kmsenv_kms_local.settings))
        && TEST_true(kmsenv_section_set(f->section, "key-file", path, &f->err))
        && (key_id == NULL || TEST_true(kmsenv_section_set(f->section, "key-id", key_id, &f->err)))
        && TEST_ptr(f->kms = kmsenv_kms_local.new(f->section, &services, &f->err));
}

static void fixture_close(FIXTURE *f)
{
    kmsenv_kms_local.free(f->kms);
    kmsenv_section_free(f->section);
}

static int wrap_test_key(FIXTURE *f, KMSENV_BLOB *blob)
{
    static const unsigned char dek[32] = { 1, 2, 3, 4 };

    memset(blob, 0, sizeof(*blob));
    return TEST_true(kmsenv_kms_local.encrypt(f->kms, &f->call, dek, sizeof(dek), blob))
        && TEST_size_t_eq(blob->ciphertext_len, 4 + 12 + 32 + 16);
}

static int unwrap(FIXTURE *f, const KMSENV_BLOB *blob)
{
    unsigned char out[64];
    size_t len = sizeof(out);

    return kmsenv_kms_local.decrypt(f->kms, &f->call, blob, out, &len)
        && TEST_size_t_eq(len, 32) && TEST_uchar_eq(out[3], 4);
}

/* A wrap of version 1 opens after a rotation that the running back end notices; the next one is of version 2. */
static int test_wrap_and_rotate(void)
{
    FIXTURE f;
    KMSENV_BLOB old = { 0 }, moved = { 0 };
    char state[32] = "";
    int ok;

    unlink(path);
    ok = TEST_true(kmsenv_local_key_create(path, crypto, NULL)) && fixture_open(&f, NULL)
        && wrap_test_key(&f, &old) && TEST_uchar_eq(old.ciphertext[3], 1)
        && TEST_str_eq(old.key_id, kmsenv_kms_local.key_id(f.kms, &f.err))
        && unwrap(&f, &old)
        && TEST_true(kmsenv_local_key_rotate(path, crypto, &f.err))
        && TEST_true(kmsenv_kms_local.describe(f.kms, &f.call, state, sizeof(state)))
        && TEST_str_eq(state, "Enabled, version 2")
        && unwrap(&f, &old)
        && wrap_test_key(&f, &moved)
        && TEST_uchar_eq(moved.ciphertext[3], 2) && unwrap(&f, &moved)
        && TEST_int_eq(unlink(path), 0)
        && TEST_false(unwrap(&f, &old)) && TEST_int_eq(f.err.reason, KMSENV_R_KEY_FILE_INVALID)
        && TEST_ptr(strstr(f.err.text, "kmsenv init --key-file"));
    kmsenv_blob_reset(&old);
    kmsenv_blob_reset(&moved);
    fixture_close(&f);
    return ok;
}

/* Every byte of a wrap counts; so do its length and its encryption context. */
static int test_wrap_damaged(void)
{
    FIXTURE f;
    KMSENV_BLOB blob = { 0 };
    KMSENV_CONTEXT context = { 1, { (char *)"tenant" }, { (char *)"a" } };
    size_t i, whole;
    int ok;

    unlink(path);
    ok = TEST_true(kmsenv_local_key_create(path, crypto, NULL)) && fixture_open(&f, NULL) && wrap_test_key(&f, &blob);
    for (i = 0; ok && i < blob.ciphertext_len; i++) {
        blob.ciphertext[i] ^= 0x10;
        ok = TEST_false(unwrap(&f, &blob)) && TEST_int_eq(f.err.reason, KMSENV_R_KMS_WRAP_REJECTED);
        blob.ciphertext[i] ^= 0x10;
    }
    whole = blob.ciphertext_len;
    for (i = 0; ok && i < whole; i++) {
        blob.ciphertext_len = i;
        ok = TEST_false(unwrap(&f, &blob)) && TEST_int_eq(f.err.reason, KMSENV_R_KMS_WRAP_REJECTED);
    }
    blob.ciphertext_len = whole;
    f.call.context = &context;
    ok = ok && TEST_false(unwrap(&f, &blob)) && TEST_int_eq(f.err.reason, KMSENV_R_KMS_WRAP_REJECTED);
    f.call.context = &no_context;
    ok = ok && unwrap(&f, &blob);
    kmsenv_blob_reset(&blob);
    fixture_close(&f);
    return ok;
}

static int test_key_id(void)
{
    FIXTURE f, g;
    KMSENV_BLOB blob = { 0 };
    int ok;

    memset(&g, 0, sizeof(g));
    ok = write_text(GOOD_1) && fixture_open(&f, ID) && wrap_test_key(&f, &blob) && unwrap(&f, &blob)
        /* another key in the place of ours */
        && write_text(BLOCK("ff112233445566778899aabbccddeeff", "1", "2024-01-31T12:00:00Z", KEY_1))
        && TEST_false(unwrap(&f, &blob)) && TEST_int_eq(f.err.reason, KMSENV_R_KEY_FILE_INVALID)
        && fixture_open(&g, NULL) && TEST_false(unwrap(&g, &blob))
        && TEST_int_eq(g.err.reason, KMSENV_R_KMS_WRAP_REJECTED)
        && write_text(GOOD_1) && unwrap(&f, &blob);
    kmsenv_blob_reset(&blob);
    fixture_close(&f);
    fixture_close(&g);
    return ok;
}

/* The wrap of a fixed key and nonce, computed by an independent implementation from the comment in local.c. */
static int test_known_wrap(void)
{
    static const unsigned char known[] = {
        0x00, 0x00, 0x00, 0x02, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37,
        0x38, 0x39, 0x3a, 0x3b, 0xff, 0x78, 0x30, 0xed, 0x95, 0x43, 0x20, 0xe3,
        0x20, 0x34, 0xd7, 0x68, 0xfe, 0x14, 0x42, 0xf7, 0xe1, 0x11, 0x97, 0x1f,
        0x15, 0x69, 0x8e, 0x3b, 0x8a, 0xd3, 0xe6, 0xb8, 0x7f, 0x74, 0x9c, 0xd0,
        0x67, 0x36, 0x86, 0x8a, 0xb2, 0x20, 0x90, 0xa8, 0xa0, 0xed, 0xe0, 0xdf,
        0xee, 0x1c, 0xee, 0xcb
    };
    KMSENV_CONTEXT context = { 2, { (char *)"app", (char *)"tenant" }, { (char *)"", (char *)"\xc3\xa9t\xc3\xa9" } };
    KMSENV_BLOB blob = { (char *)ID, (unsigned char *)known, sizeof(known), NULL, 0 };
    FIXTURE f;
    int ok = write_text(GOOD_1 GOOD_2) && fixture_open(&f, NULL);

    f.call.context = &context;
    ok = ok && unwrap(&f, &blob);
    fixture_close(&f);
    return ok;
}

int setup_tests(void)
{
    if (!TEST_ptr(mkdtemp(directory)) || !TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default")))
        return 0;
    snprintf(path, sizeof(path), "%s/master.pem", directory);
    ADD_ALL_TESTS(test_good_file, (int)(sizeof(good) / sizeof(good[0])));
    ADD_ALL_TESTS(test_bad_file, (int)(sizeof(bad) / sizeof(bad[0])));
    ADD_TEST(test_odd_files);
    ADD_TEST(test_damaged_file);
    ADD_TEST(test_create_and_rotate);
    ADD_TEST(test_rotate_refused);
    ADD_TEST(test_rotate_to_the_limit);
    ADD_TEST(test_wrap_and_rotate);
    ADD_TEST(test_wrap_damaged);
    ADD_TEST(test_key_id);
    ADD_TEST(test_known_wrap);
    return 1;
}

void cleanup_tests(void)
{
    unlink(path);
    rmdir(directory);
    kmsenv_crypto_free(crypto);
}
