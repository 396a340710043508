/* Data keys without a KMS: the DataKey structure, its limits and its one encoding; the keyring's files; key references. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include "testutil.h"
#include "core/secret.h"
#include "dek/dek.h"
#include "dek/deks.h"
#include "dek/keyring.h"
#include "kmsenv_der.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

static KMSENV_CRYPTO *crypto;
static KMSENV_TEST *scratch;      /* for its folder */

/* --- the structure -------------------------------------------------------- */

static int set_wrap(KMSENV_WRAP *w, size_t name_len, size_t ciphertext_len, size_t extra_len, const char *context)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char *name = OPENSSL_zalloc(name_len + 1);

    memset(name, 'n', name_len);
    w->kms = OPENSSL_strdup("local");
    w->blob.key_id = name;
    w->blob.ciphertext = OPENSSL_zalloc(ciphertext_len + 1);
    w->blob.ciphertext_len = ciphertext_len;
    w->blob.extra = extra_len == 0 ? NULL : OPENSSL_zalloc(extra_len);
    w->blob.extra_len = extra_len;
    return context == NULL || TEST_true(kmsenv_context_parse(&w->context, context, &err));
}

static KMSENV_DATA_KEY *new_key(size_t wraps, size_t name_len, size_t ciphertext_len, size_t extra_len, const char *context)
{
    KMSENV_DATA_KEY *key = kmsenv_data_key_new();

    if (!TEST_ptr(key))
        return NULL;
    key->length = 32;
    kmsenv_test_fill(key->id, sizeof(key->id), 5);
    for (; key->wraps < wraps; key->wraps++)
        if (!set_wrap(&key->wrap[key->wraps], name_len, ciphertext_len, extra_len, context))
            break;
    return key;
}

static KMSENV_TEST_BYTES encode(const KMSENV_DATA_KEY *key, int detached)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_TEST_BYTES out = { NULL, 0 };
    unsigned char *der = NULL;
    size_t n = 0;

    if (TEST_true(kmsenv_data_key_encode(key, detached, &der, &n, &err)) && TEST_ptr(out.data = malloc(n))) {
        memcpy(out.data, der, n);
        out.len = n;
    }
    OPENSSL_free(der);
    return out;
}

static const struct { size_t wraps, name, ciphertext, extra; const char *context; size_t length; } shapes[] = {
    { 0, 0, 0, 0, NULL, 32 }, { 1, 1, 1, 0, NULL, 16 }, { 1, 32, 64, 0, "a=b", 24 }, { 2, 40, 300, 20, "a=b,c=d", 64 },
    { 1, 512, 16384, 4096, NULL, 32 }, { 16, 20, 100, 0, NULL, 32 }, { 1, 127, 128, 129, "z=1,zz=2", 32 },
};

static int test_there_and_back(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = new_key(shapes[i].wraps, shapes[i].name, shapes[i].ciphertext, shapes[i].extra, shapes[i].context);
    KMSENV_DATA_KEY *read = NULL;
    KMSENV_TEST_BYTES der = { NULL, 0 };
    size_t w;
    int ok = TEST_ptr(key);

    if (ok) {
        key->length = shapes[i].length;
        der = encode(key, 0);
    }
    ok = ok && TEST_ptr(der.data) && TEST_ptr(read = kmsenv_data_key_parse(der.data, der.len, &err))
        && TEST_size_t_eq(read->length, shapes[i].length) && TEST_size_t_eq(read->wraps, shapes[i].wraps)
        && TEST_mem_eq(read->id, sizeof(read->id), key->id, sizeof(key->id));
    for (w = 0; ok && w < shapes[i].wraps; w++)
        ok = TEST_str_eq(read->wrap[w].kms, "local") && TEST_str_eq(read->wrap[w].blob.key_id, key->wrap[w].blob.key_id)
            && TEST_size_t_eq(read->wrap[w].blob.ciphertext_len, shapes[i].ciphertext)
            && TEST_size_t_eq(read->wrap[w].blob.extra_len, shapes[i].extra)
            && TEST_true(kmsenv_context_equal(&read->wrap[w].context, &key->wrap[w].context));
    kmsenv_data_key_free(read);
    kmsenv_data_key_free(key);
    kmsenv_test_bytes_reset(&der);
    return ok && kmsenv_test_no_error();
}

/* Detached: the same id and length, no wraps. */
static int test_detached_encoding(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = new_key(2, 10, 10, 0, NULL), *read;
    KMSENV_TEST_BYTES der = encode(key, 1);
    int ok = TEST_ptr(read = kmsenv_data_key_parse(der.data, der.len, &err)) && TEST_size_t_eq(read->wraps, 0)
        && TEST_mem_eq(read->id, sizeof(read->id), key->id, sizeof(key->id));

    kmsenv_data_key_free(read);
    kmsenv_data_key_free(key);
    kmsenv_test_bytes_reset(&der);
    return ok;
}

static int refused(const KMSENV_TEST_BYTES *der)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = kmsenv_data_key_parse(der->data, der->len, &err);
    int ok = TEST_ptr_null(key) && TEST_int_eq(err.reason, KMSENV_R_MESSAGE_MALFORMED)
        && TEST_size_t_gt(strlen(err.text), 0) && kmsenv_test_no_error();

    kmsenv_data_key_free(key);
    return ok;
}

/* Elements replaced by what the format does not allow. "2" is the list of wraps, "20" the first, "203" its context. */
static const struct { const char *path; const char *with; size_t n; } bad[] = {
#define WITH(bytes) bytes, sizeof(bytes) - 1
    { "0", WITH("\x04\x17" "12345678901234567890123") }, { "0", WITH("\x04\x19" "1234567890123456789012345") },
    { "0", WITH("\x0c\x18" "123456789012345678901234") },
    { "1", WITH("\x02\x01\x00") }, { "1", WITH("\x02\x01\x11") }, { "1", WITH("\x02\x01\x80") }, { "1", WITH("\x02\x02\x00\x20") },
    { "1", WITH("\x02\x02\x01\x20") }, { "1", WITH("\x02\x09\x01\x00\x00\x00\x00\x00\x00\x00\x20") }, { "1", WITH("\x0a\x01\x20") },
    { "200", WITH("\x0c\x00") }, { "200", WITH("\x13\x05local") }, { "200", WITH("\x0c\x05lo\x00""al") },
    { "200", WITH("\x0c\x05lo\nal") }, { "200", WITH("\x0c\x02\xc3\x28") }, { "200", WITH("\x0c\x03\xed\xa0\x80") },
    { "201", WITH("\x0c\x00") }, { "201", WITH("\x0c\x01\x7f") }, { "201", WITH("\x0c\x02\xc0\xaf") },
    { "202", WITH("\x04\x00") }, { "202", WITH("\x24\x03\x04\x01x") }, { "202", WITH("\x03\x02\x00x") },
    { "203", WITH("\xa0\x02\x30\x00") }, { "203", WITH("\xa0\x00") },
    { "203", WITH("\xa0\x0a\x30\x08\x30\x06\x0c\x00\x0c\x02xy") },                                    /* empty name */
    { "203", WITH("\xa0\x12\x30\x10\x30\x06\x0c\x01""b\x0c\x01x\x30\x06\x0c\x01""a\x0c\x01x") },      /* not sorted */
    { "203", WITH("\xa0\x12\x30\x10\x30\x06\x0c\x01""a\x0c\x01x\x30\x06\x0c\x01""a\x0c\x01y") },      /* twice */
    { "203", WITH("\xa1\x03\x04\x01x\xa1\x03\x04\x01y") }, { "203", WITH("\xa1\x02\x04\x00") }, { "203", WITH("\xa2\x03\x04\x01x") },
    { "203", WITH("\xa1\x03\x04\x01x\xa0\x0a\x30\x08\x30\x06\x0c\x01""a\x0c\x01x") },                 /* wrong order */
    { "2", WITH("\x31\x00") }, { "2", WITH("") }, { "2", WITH("\x30\x02\x30\x00") }, { "2", WITH("\x30\x02\x05\x00") },
};

static int test_refused(int i)
{
    KMSENV_DATA_KEY *key = new_key(1, 10, 10, 0, "a=b");
    KMSENV_TEST_BYTES der = encode(key, 0), changed = { NULL, 0 };
    int ok = kmsenv_der_replace(&der, bad[i].path, (const unsigned char *)bad[i].with, bad[i].n, &changed) && refused(&changed);

    if (!ok)
        TEST_info("element %s of case %d", bad[i].path, i);
    kmsenv_data_key_free(key);
    kmsenv_test_bytes_reset(&der);
    kmsenv_test_bytes_reset(&changed);
    return ok;
}

/* One more than each limit allows. The writer does not check, so it makes the bad ones. */
static const struct { size_t name, ciphertext, extra; } beyond[] = {
    { 513, 10, 0 }, { 10, 16385, 0 }, { 10, 10, 4097 }, { 0, 10, 0 }, { 10, 0, 0 },
};

static int test_beyond_limits(int i)
{
    KMSENV_DATA_KEY *key = new_key(1, beyond[i].name, beyond[i].ciphertext, beyond[i].extra, NULL);
    KMSENV_TEST_BYTES der = encode(key, 0);
    int ok = TEST_ptr(der.data) && refused(&der);

    kmsenv_data_key_free(key);
    kmsenv_test_bytes_reset(&der);
    return ok;
}

static int test_too_many_wraps(void)
{
    KMSENV_DATA_KEY *key = new_key(16, 10, 10, 0, NULL);
    KMSENV_TEST_BYTES der = encode(key, 0), more = { NULL, 0 };
    unsigned char twice[200];
    KMSENV_DER e;
    size_t n;
    int ok = kmsenv_der_find(&der, "20", &e) && TEST_size_t_lt(2 * (n = e.end - e.at), sizeof(twice));

    if (ok) {
        memcpy(twice, der.data + e.at, n);
        memcpy(twice + n, der.data + e.at, n);
        ok = kmsenv_der_replace(&der, "20", twice, 2 * n, &more) && refused(&more);
    }
    kmsenv_data_key_free(key);
    kmsenv_test_bytes_reset(&der);
    kmsenv_test_bytes_reset(&more);
    return ok;
}

static int test_cut_and_appended(void)
{
    KMSENV_DATA_KEY *key = new_key(2, 10, 10, 10, "a=b");
    KMSENV_TEST_BYTES der = encode(key, 0), m = { malloc(der.len + 1), 0 };
    int ok = TEST_ptr(m.data);

    if (ok) {
        memcpy(m.data, der.data, der.len);
        m.data[der.len] = 0;
    }
    for (m.len = 0; ok && m.len <= der.len + 1; m.len++)
        ok = m.len == der.len || refused(&m);
    kmsenv_data_key_free(key);
    kmsenv_test_bytes_reset(&der);
    kmsenv_test_bytes_reset(&m);
    return ok;
}

/* --- the data key in memory ----------------------------------------------- */

static unsigned char *secret_of(unsigned char fill, size_t n)
{
    unsigned char *p = kmsenv_secret_zalloc(n);

    if (p != NULL)
        memset(p, fill, n);
    return p;
}

/* The id is HMAC-SHA256(secret, "kmsenv data key id"), cut to 24 bytes: known answer from another implementation. */
static int test_id(void)
{
    static const unsigned char expected[KMSENV_DEK_ID_LEN] = {
        0x3c, 0x5d, 0x30, 0x3e, 0x45, 0xb3, 0xf3, 0xe2, 0xc8, 0xde, 0x71, 0xb6,
        0x72, 0x12, 0xfb, 0xa9, 0x4c, 0x09, 0x2f, 0xe1, 0xf3, 0x84, 0x40, 0x64
    };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    unsigned char *secret = secret_of(0x11, 32), id[KMSENV_DEK_ID_LEN];
    int ok = TEST_ptr(secret) && TEST_true(kmsenv_dek_id_of(crypto, secret, 32, id, &err))
        && TEST_mem_eq(id, sizeof(id), expected, sizeof(expected));

    kmsenv_secret_free(secret);
    return ok;
}

static int test_id_must_match(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = new_key(0, 0, 0, 0, NULL);
    KMSENV_DEK *dek = NULL;
    unsigned char *secret = secret_of(1, 32);
    int ok = TEST_ptr(secret) && TEST_ptr_null(dek = kmsenv_dek_new(crypto, key, secret, &err))
        && TEST_int_eq(err.reason, KMSENV_R_DATA_KEY_MISMATCH);

    secret = secret_of(1, 32);
    kmsenv_error_clear(&err);
    ok = ok && TEST_true(kmsenv_dek_id_of(crypto, secret, 32, key->id, &err))
        && TEST_ptr(dek = kmsenv_dek_new(crypto, key, secret, &err)) && TEST_size_t_eq(kmsenv_dek_get_length(dek), 32);
    kmsenv_dek_free(dek);
    kmsenv_data_key_free(key);
    return ok;
}

/* --- the keyring ---------------------------------------------------------- */

static void path_to(const char *dir, const unsigned char *id, char *out, size_t room)
{
    char hex[2 * KMSENV_DEK_ID_LEN + 1];

    kmsenv_dek_id_hex(id, hex);
    snprintf(out, room, "%s/%s/%s.pem", scratch->dir, dir, hex);
}

static int put_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    int ok = TEST_ptr(f) && TEST_int_ge(fputs(text, f), 0);

    return (f == NULL || fclose(f) == 0) && ok;
}

static int files_in(const char *dir)
{
    char path[160];
    struct dirent *e;
    DIR *d;
    int n = 0;

    snprintf(path, sizeof(path), "%s/%s", scratch->dir, dir);
    if ((d = opendir(path)) == NULL)
        return -1;
    while ((e = readdir(d)) != NULL)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static int loads(const char *dirs, const KMSENV_DATA_KEY *like)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = kmsenv_keyring_load(dirs, like->id, &err);
    int ok = TEST_ptr(key) && TEST_mem_eq(key->id, sizeof(key->id), like->id, sizeof(like->id))
        && TEST_size_t_eq(key->wraps, like->wraps) && TEST_size_t_eq(key->length, like->length);

    kmsenv_data_key_free(key);
    return ok && kmsenv_test_no_error();
}

static int load_fails(const char *dirs, const unsigned char *id, int reason, const char *word)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = kmsenv_keyring_load(dirs, id, &err);
    int ok = TEST_ptr_null(key) && TEST_int_eq(err.reason, reason) && TEST_ptr(strstr(err.text, word));

    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_data_key_free(key);
    return ok && kmsenv_test_no_error();
}

/* Written once, whole, readable by all, with nothing left beside it; found in whichever folder it is. */
static int test_keyring(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = new_key(1, 10, 10, 0, "a=b");
    KMSENV_TEST_BYTES der = encode(key, 0);
    char one[80], both[200], path[160];
    struct stat before, after;
    int ok;

    snprintf(one, sizeof(one), "%s/keys", scratch->dir);
    snprintf(both, sizeof(both), "%s/none:%s/keys", scratch->dir, scratch->dir);
    path_to("keys", key->id, path, sizeof(path));
    ok = TEST_true(kmsenv_keyring_store(one, key->id, der.data, der.len, &err))
        && TEST_int_eq(files_in("keys"), 1) && TEST_int_eq(stat(path, &before), 0)
        && TEST_int_eq(before.st_mode & 0777, 0644) && loads(one, key) && loads(both, key)
        && TEST_true(kmsenv_keyring_store(one, key->id, der.data, der.len, &err))
        && TEST_int_eq(stat(path, &after), 0) && TEST_true(before.st_ino == after.st_ino) && TEST_int_eq(files_in("keys"), 1);
    key->id[0] ^= 1;
    ok = ok && load_fails(one, key->id, KMSENV_R_DATA_KEY_NOT_FOUND, one)
        && load_fails(NULL, key->id, KMSENV_R_DATA_KEY_NOT_FOUND, "keyring")
        && TEST_false(kmsenv_keyring_store(NULL, key->id, der.data, der.len, &err))
        && TEST_int_eq(err.reason, KMSENV_R_KEYRING_FAILED)
        && TEST_false(kmsenv_keyring_store("/nonexistent/folder", key->id, der.data, der.len, &err))
        && TEST_int_eq(err.reason, KMSENV_R_KEYRING_FAILED) && TEST_ptr(strstr(err.text, "/nonexistent/folder"));
    unlink(path);
    kmsenv_data_key_free(key);
    kmsenv_test_bytes_reset(&der);
    return ok;
}

/* What is under the right name but is not the data key. */
static int test_bad_keyring_file(int i)
{
    static const struct { const char *text, *word; } files[] = {
        { "", "regular file" }, { "hello\n", "PEM" },
        { "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "PEM" },
        { "-----BEGIN KMS DATA KEY-----\nAAAA\n-----END KMS DATA KEY-----\n", "malformed" },
        { "-----BEGIN KMS DATA KEY-----\nAA", "PEM" },
    };
    unsigned char id[KMSENV_DEK_ID_LEN];
    char dirs[80], path[160];
    int ok;

    memset(id, 0x40 + i, sizeof(id));
    snprintf(dirs, sizeof(dirs), "%s/keys", scratch->dir);
    path_to("keys", id, path, sizeof(path));
    ok = put_file(path, files[i].text)
        && load_fails(dirs, id, i == 3 ? KMSENV_R_MESSAGE_MALFORMED : KMSENV_R_KEYRING_FAILED, files[i].word);
    unlink(path);
    return ok;
}

/* The data key of another id, one without wraps, a folder, a FIFO: none of them is used, none of them hangs. */
static int test_other_keyring_files(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = new_key(1, 10, 10, 0, NULL);
    KMSENV_TEST_BYTES der = encode(key, 0), bare = encode(key, 1);
    unsigned char other[KMSENV_DEK_ID_LEN] = { 1, 2, 3 };
    char dirs[80], path[160], wrong[160];
    int ok;

    snprintf(dirs, sizeof(dirs), "%s/keys", scratch->dir);
    path_to("keys", key->id, path, sizeof(path));
    path_to("keys", other, wrong, sizeof(wrong));
    ok = TEST_true(kmsenv_keyring_store(dirs, key->id, der.data, der.len, &err)) && TEST_int_eq(rename(path, wrong), 0)
        && load_fails(dirs, other, KMSENV_R_KEYRING_FAILED, "another id") && TEST_int_eq(unlink(wrong), 0)
        && TEST_true(kmsenv_keyring_store(dirs, key->id, bare.data, bare.len, &err))
        && load_fails(dirs, key->id, KMSENV_R_KEYRING_FAILED, "no wraps") && TEST_int_eq(unlink(path), 0)
        && TEST_int_eq(mkdir(path, 0700), 0) && load_fails(dirs, key->id, KMSENV_R_KEYRING_FAILED, path)
        && TEST_int_eq(rmdir(path), 0) && TEST_int_eq(mkfifo(path, 0600), 0)
        && load_fails(dirs, key->id, KMSENV_R_KEYRING_FAILED, "regular file") && TEST_int_eq(unlink(path), 0)
        && TEST_int_eq(files_in("keys"), 0);
    kmsenv_data_key_free(key);
    kmsenv_test_bytes_reset(&der);
    kmsenv_test_bytes_reset(&bare);
    return ok;
}

/* --- references ----------------------------------------------------------- */

static const struct { const char *bytes; size_t n, id; } references[] = {
    { WITH("kmsenv:\x01" "12345678"), 8 }, { WITH("kmsenv:\x01" "1234567812345678"), 16 },
    { WITH("kmsenv:\x01" "123456781234567812345678"), 24 },
    { WITH("kmsenv:\x01" "123456781234567812345678\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), 24 },
    { WITH("kmsenv:\x01" "1234567"), 0 }, { WITH("kmsenv:\x02" "12345678"), 0 }, { WITH("Kmsenv:\x01" "12345678"), 0 },
    { WITH("kmsenv:"), 0 }, { WITH(""), 0 }, { WITH("0123456789abcdef"), 0 }, { WITH(" kmsenv:\x01" "12345678"), 0 },
};

static int test_reference(int i)
{
    const unsigned char *id = NULL;
    size_t n = 0;
    int is = kmsenv_reference_parse((const unsigned char *)references[i].bytes, references[i].n, &id, &n);

    return TEST_int_eq(is, references[i].id != 0)
        && (!is || (TEST_size_t_eq(n, references[i].id) && TEST_mem_eq(id, n, "123456781234567812345678", n)));
}

int setup_tests(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;

    if (!TEST_ptr(scratch = kmsenv_test_new(KMSENV_TEST_LOCAL))
            || !TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default")) || !TEST_true(kmsenv_crypto_ready(crypto, &err)))
        return 0;
    ADD_ALL_TESTS(test_there_and_back, COUNT(shapes));
    ADD_TEST(test_detached_encoding);
    ADD_ALL_TESTS(test_refused, COUNT(bad));
    ADD_ALL_TESTS(test_beyond_limits, COUNT(beyond));
    ADD_TEST(test_too_many_wraps);
    ADD_TEST(test_cut_and_appended);
    ADD_TEST(test_id);
    ADD_TEST(test_id_must_match);
    ADD_TEST(test_keyring);
    ADD_ALL_TESTS(test_bad_keyring_file, 5);
    ADD_TEST(test_other_keyring_files);
    ADD_ALL_TESTS(test_reference, COUNT(references));
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_crypto_free(crypto);
    kmsenv_test_free(scratch);
}
