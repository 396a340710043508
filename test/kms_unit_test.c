/* What the KMS room reads and writes, fed with hostile input: JSON, contexts, INI files, endpoints, headers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/secret.h"
#include "kms/context.h"
#include "kms/credentials.h"
#include "kms/endpoint.h"
#include "kms/json.h"
#include "kms/request.h"
#include "kms/rest.h"
#include "kms/tencent.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* --- JSON: reading -------------------------------------------------------- */

/* Parses n bytes of text, taking "Secret" out. secret may be NULL. */
static KMSENV_JSON *parse(const void *text, size_t n, KMSENV_BUFFER *left, KMSENV_BUFFER *secret, int *found, KMSENV_ERROR *err)
{
    KMSENV_JSON_SECRET s = { "Secret", secret, 0 };
    KMSENV_JSON *json;

    kmsenv_buffer_init(left, KMSENV_REPLY_BODY_MAX, 1);
    kmsenv_error_clear(err);
    if (!TEST_true(kmsenv_buffer_add(left, text, n)))
        return NULL;
    json = kmsenv_json_parse(left, &s, secret == NULL ? 0 : 1, err);
    *found = s.found;
    return json;
}

static const char *const good_json[] = {
    "{}", "[]", " \t\r\n{ } ", "null", "true", "-0", "0.5e+10", "\"\"", "[1,[2,[3]]]",
    "{\"a\":{\"b\":[{\"c\":null}]},\"b\":false}",
    "\"\\u00e9\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\\"\\\\\"", "\"\xc3\xa9\xf0\x9f\x98\x80\"", "{\"\":1}",
    "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]"
};

static int test_good_json(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER left;
    int found, ok;
    KMSENV_JSON *json = parse(good_json[i], strlen(good_json[i]), &left, NULL, &found, &err);

    ok = TEST_ptr(json) && TEST_int_eq(err.reason, KMSENV_R_NONE);
    kmsenv_json_free(json);
    kmsenv_buffer_reset(&left);
    return ok;
}

static const struct { const char *text; size_t n; } bad_json[] = {
#define BAD(text) { text, sizeof(text) - 1 }
    BAD(""), BAD(" "), BAD("{"), BAD("}"), BAD("{]"), BAD("[1,]"), BAD("{\"a\"}"), BAD("{\"a\":}"), BAD("{\"a\":1,}"),
    BAD("{a:1}"), BAD("{'a':1}"), BAD("{\"a\" 1}"), BAD("{\"a\":1 \"b\":2}"), BAD("nul"), BAD("nulll"), BAD("True"), BAD("{}x"),
    BAD("{}{}"), BAD("{}\0"), BAD("{\0}"), BAD("01"), BAD("1."), BAD(".5"), BAD("1e"), BAD("+1"), BAD("-"), BAD("0x10"),
    BAD("NaN"), BAD("Infinity"), BAD("\""), BAD("\"\\"), BAD("\"\\x\""), BAD("\"\\u12\""), BAD("\"\\u12g4\""),
    BAD("\"\\u0000\""), BAD("\"a\0b\""), BAD("\"\n\""), BAD("\"\\ud800\""), BAD("\"\\ud800x\""), BAD("\"\\ud800\\u0041\""),
    BAD("\"\\udc00\""), BAD("\"\\ud800\\u"), BAD("\"\xc3\""), BAD("\"\xc0\x80\""), BAD("\"\xed\xa0\x80\""), BAD("\"\xf4\x90\x80\x80\""),
    BAD("\"\xff\""), BAD("\"\xe0\x80\x80\""), BAD("\"\xf0\x80\x80\x80\""), BAD("\xef\xbb\xbf{}"), BAD("/* */{}"),
    BAD("{\"a\":1,\"a\":2}"), BAD("{\"x\":{\"a\":1,\"\\u0061\":2}}"), BAD("[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]"),
    BAD("11111111111111111111111111111111111111111"), BAD("{\"Secret\":1}"), BAD("{\"Secret\":{}}"), BAD("{\"Secret\":[\"x\"]}"),
    BAD("{\"Secret\":true}"), BAD("{\"Secret\":\"a\",\"Secret\":\"b\"}"), BAD("{\"Secret\":\"a\",\"x\":{\"Secret\":\"b\"}}"),
    BAD("{\"Secret\":\"a"), BAD("{\"Secret\":\"\\u0000\"}"), BAD("<html></html>")
#undef BAD
};

static int test_bad_json(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER left, secret;
    int found, ok;

    kmsenv_buffer_init(&secret, 100, 1);
    ok = TEST_ptr_null(parse(bad_json[i].text, bad_json[i].n, &left, &secret, &found, &err))
         && TEST_int_eq(err.reason, KMSENV_R_KMS_REPLY_MALFORMED) && TEST_true(err.text[0] != '\0');
    kmsenv_buffer_reset(&left);
    kmsenv_buffer_reset(&secret);
    return ok;
}

static const struct { const char *text, *secret, *left; } taken[] = {
    { "{\"Secret\":\"abc\"}", "abc", "{\"Secret\":\"xxx\"}" },
    { "{ \"a\" : [ { \"Secret\" :\t\"YWJj\" } ] }", "YWJj", "{ \"a\" : [ { \"Secret\" :\t\"xxxx\" } ] }" },
    { "{\"\\u0053ecret\":\"a\\u00e9\\n\\\"\"}", "a\xc3\xa9\n\"", "{\"\\u0053ecret\":\"xxxxxxxxxxx\"}" },
    { "{\"Secret\":\"\\ud83d\\ude00\"}", "\xf0\x9f\x98\x80", "{\"Secret\":\"xxxxxxxxxxxx\"}" },
    { "{\"Secret\":\"\"}", "", "{\"Secret\":\"\"}" },
    { "{\"Secret\":null}", NULL, "{\"Secret\":null}" },
    { "{\"secret\":\"abc\",\"Secrets\":\"def\",\"x\":\"Secret\"}", NULL, "{\"secret\":\"abc\",\"Secrets\":\"def\",\"x\":\"Secret\"}" },
};

static int test_taken(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER left, secret;
    int found, ok;
    KMSENV_JSON *json;

    kmsenv_buffer_init(&secret, 100, 1);
    json = parse(taken[i].text, strlen(taken[i].text), &left, &secret, &found, &err);
    ok = TEST_ptr(json) && TEST_int_eq(found, taken[i].secret != NULL)
         && TEST_str_eq(kmsenv_buffer_text(&secret), taken[i].secret == NULL ? "" : taken[i].secret)
         && TEST_str_eq(kmsenv_buffer_text(&left), taken[i].left);
    kmsenv_json_free(json);
    kmsenv_buffer_reset(&left);
    kmsenv_buffer_reset(&secret);
    return ok;
}

/* A secret longer than its buffer, too many values, and a number of names that a careless search would choke on. */
static int test_json_limits(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER text, left, secret;
    int i, found, ok;

    kmsenv_buffer_init(&text, KMSENV_REPLY_BODY_MAX, 0);
    kmsenv_buffer_init(&secret, 10, 1);
    ok = TEST_ptr_null(parse("{\"Secret\":\"elevenchars\"}", 24, &left, &secret, &found, &err))
         && TEST_int_eq(err.reason, KMSENV_R_KMS_REPLY_MALFORMED);
    kmsenv_buffer_reset(&left);
    kmsenv_buffer_add_text(&text, "[0");
    for (i = 0; i < KMSENV_JSON_VALUES_MAX; i++)
        kmsenv_buffer_add_text(&text, ",0");
    kmsenv_buffer_add_text(&text, "]");
    ok &= TEST_ptr_null(parse(text.data, text.length, &left, NULL, &found, &err)) && TEST_ptr(strstr(err.text, "too many"));
    kmsenv_buffer_reset(&left);
    kmsenv_buffer_reset(&text);
    for (i = 0; i < 100000; i++)
        kmsenv_buffer_add_text(&text, "[");
    ok &= TEST_ptr_null(parse(text.data, text.length, &left, NULL, &found, &err)) && TEST_ptr(strstr(err.text, "deep"));
    kmsenv_buffer_reset(&left);
    kmsenv_buffer_reset(&text);
    kmsenv_buffer_reset(&secret);
    return ok;
}

static int test_json_read(void)
{
    static const char text[] = "{\"s\":\"a\",\"n\":9007199254740992,\"f\":1.5,\"e\":1e300,\"z\":null,\"o\":{\"b\":true},\"m\":-3}";
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER left;
    int64_t n = 7;
    int found, ok;
    KMSENV_JSON *json = parse(text, sizeof(text) - 1, &left, NULL, &found, &err);

    ok = TEST_ptr(json) && TEST_str_eq(kmsenv_json_text(kmsenv_json_get(json, "s")), "a")
         && TEST_ptr_null(kmsenv_json_get(json, "S")) && TEST_ptr_null(kmsenv_json_get(json, "z"))
         && TEST_ptr_null(kmsenv_json_get(NULL, "s")) && TEST_ptr_null(kmsenv_json_get(kmsenv_json_get(json, "s"), "s"))
         && TEST_ptr_null(kmsenv_json_text(kmsenv_json_get(json, "n"))) && TEST_ptr_null(kmsenv_json_text(NULL))
         && TEST_ptr(kmsenv_json_get(kmsenv_json_get(json, "o"), "b"))
         && TEST_false(kmsenv_json_number(kmsenv_json_get(json, "f"), &n))
         && TEST_false(kmsenv_json_number(kmsenv_json_get(json, "e"), &n))
         && TEST_false(kmsenv_json_number(kmsenv_json_get(json, "s"), &n)) && TEST_true(n == 7)
         && TEST_true(kmsenv_json_number(kmsenv_json_get(json, "m"), &n)) && TEST_true(n == -3)
         && TEST_true(kmsenv_json_number(kmsenv_json_get(json, "n"), &n)) && TEST_true(n == 9007199254740992);
    kmsenv_json_free(json);
    kmsenv_buffer_reset(&left);
    return ok;
}

/* --- JSON: writing -------------------------------------------------------- */

static int test_json_write(void)
{
    KMSENV_BUFFER b;
    int ok;

    kmsenv_buffer_init(&b, 1000, 0);
    kmsenv_json_open(&b, NULL);
    kmsenv_json_add_text(&b, "a\"", "\"\\/\b\f\n\r\t\x01\x1f\x7f\xc3\xa9");
    kmsenv_json_open(&b, "o");
    kmsenv_json_add_number(&b, "n", -9007199254740993);
    kmsenv_json_add_bytes(&b, "nul", "x\0y", 3);
    kmsenv_json_close(&b);
    kmsenv_json_open(&b, "e");
    kmsenv_json_close(&b);
    kmsenv_json_add_base64(&b, "b", "\xff\xfe", 2);
    kmsenv_json_add_text(&b, "t", "");
    kmsenv_json_close(&b);
    ok = TEST_str_eq(kmsenv_buffer_text(&b),
                     "{\"a\\\"\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa9\",\"o\":{\"n\":-9007199254740993,"
                     "\"nul\":\"x\\u0000y\"},\"e\":{},\"b\":\"//4=\",\"t\":\"\"}");
    kmsenv_buffer_reset(&b);
    kmsenv_buffer_init(&b, 10, 0);
    kmsenv_json_add_text(&b, "long", "longer than the limit");
    ok &= TEST_true(b.failed);
    kmsenv_buffer_reset(&b);
    return ok;
}

/* --- contexts ------------------------------------------------------------- */

static const struct { const char *text, *json; } good_context[] = {
    { "", "{}" },
    { "a=1", "{\"a\":\"1\"}" },
    { "b=2,a=1", "{\"a\":\"1\",\"b\":\"2\"}" },
    { "B=2,a=1,A=3", "{\"A\":\"3\",\"B\":\"2\",\"a\":\"1\"}" },
    { "a=", "{\"a\":\"\"}" },
    { "a\\=b=c\\,d,x=\\\\", "{\"a=b\":\"c,d\",\"x\":\"\\\\\"}" },
    { "a=b=c", "{\"a\":\"b=c\"}" },
    { "q=say \"hi\" / there", "{\"q\":\"say \\\"hi\\\" / there\"}" },
    { "\xc3\xa9=\xe6\x97\xa5,z=1,aa=2,a=1", "{\"a\":\"1\",\"aa\":\"2\",\"z\":\"1\",\"\xc3\xa9\":\"\xe6\x97\xa5\"}" },
};

static int test_good_context(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CONTEXT c, copy;
    KMSENV_BUFFER json;
    int ok;

    kmsenv_context_init(&c);
    kmsenv_context_init(&copy);
    kmsenv_buffer_init(&json, 2000, 0);
    ok = TEST_true(kmsenv_context_parse(&c, good_context[i].text, &err)) && TEST_true(kmsenv_context_json(&c, &json))
         && TEST_str_eq(kmsenv_buffer_text(&json), good_context[i].json)
         && TEST_true(kmsenv_context_copy(&copy, &c)) && TEST_true(kmsenv_context_equal(&copy, &c));
    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_context_reset(&c);
    kmsenv_context_reset(&copy);
    kmsenv_buffer_reset(&json);
    return ok;
}

static const char *const bad_context[] = {
    "a", "=1", "a=1,", ",a=1", "a=1,,b=2", "a=1,a=2", "a=1,b", "a=\\x", "a=1\\", "a\n=1", "a=\x01", "a=\x7f", "a=\xff", "\xc3=1", ","
};

static int test_bad_context(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CONTEXT c;

    kmsenv_context_init(&c);
    return TEST_false(kmsenv_context_parse(&c, bad_context[i], &err)) && TEST_int_eq(err.reason, KMSENV_R_PARAMETER_INVALID)
           && TEST_size_t_eq(c.count, 0);
}

/* {"n":"v..v"}: 8 bytes around the value. */
static int test_context_limits(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CONTEXT c, part;
    char value[KMSENV_CONTEXT_TEXT_MAX + 1], name[16];
    int i, ok;

    kmsenv_context_init(&c);
    kmsenv_context_init(&part);
    memset(value, 'v', sizeof(value));
    ok = TEST_false(kmsenv_context_add(&c, "n", 1, value, KMSENV_CONTEXT_TEXT_MAX - 7, &err)) && TEST_size_t_eq(c.count, 0)
         && TEST_true(kmsenv_context_add(&c, "n", 1, value, KMSENV_CONTEXT_TEXT_MAX - 8, &err))
         && TEST_false(kmsenv_context_add(&c, "m", 1, "", 0, &err)) && TEST_size_t_eq(c.count, 1)
         && TEST_false(kmsenv_context_add(&c, "x", 1, value, SIZE_MAX, &err)) && TEST_false(kmsenv_context_add(&c, "", 0, "", 0, &err))
         && TEST_false(kmsenv_context_add(&c, "a\0b", 3, "", 0, &err));
    kmsenv_context_reset(&c);
    for (i = 0; i < KMSENV_CONTEXT_PAIRS_MAX; i++) {
        snprintf(name, sizeof(name), "%d", 31 - i);
        ok = ok && TEST_true(kmsenv_context_add(&c, name, strlen(name), "v", 1, &err));
    }
    ok = ok && TEST_false(kmsenv_context_add(&c, "z", 1, "v", 1, &err))
         && TEST_true(kmsenv_context_parse(&part, "7=v,12=v", &err)) && TEST_true(kmsenv_context_contains(&c, &part))
         && TEST_false(kmsenv_context_contains(&part, &c)) && TEST_false(kmsenv_context_equal(&part, &c))
         && TEST_true(kmsenv_context_parse(&part, "7=w", &err)) && TEST_false(kmsenv_context_contains(&c, &part));
    kmsenv_context_reset(&c);
    kmsenv_context_reset(&part);
    return ok;
}

/* --- INI and secret files ------------------------------------------------- */

static const struct { const char *text; int result; const char *value; } ini[] = {
    { "[default]\nkey=v\n", KMSENV_SOURCE_FOUND, "v" },
    { "\xef\xbb\xbf# c\r\n; d\r\n [ default ] \r\n  KEY  :  a = b  \r\n", KMSENV_SOURCE_FOUND, "a = b" },
    { "[other]\nkey=x\n[default]\nkey=v", KMSENV_SOURCE_FOUND, "v" },
    { "[default]\nkey=v\n[other]\nkey=x\n", KMSENV_SOURCE_FOUND, "v" },
    { "[default]\nkeys=v\nke=v\n", KMSENV_SOURCE_ABSENT, "" },
    { "[Default]\nkey=v\n", KMSENV_SOURCE_ABSENT, "" },
    { "[default]\nkey=\n", KMSENV_SOURCE_ABSENT, "" },
    { "key=v\n", KMSENV_SOURCE_ABSENT, "" },
    { "", KMSENV_SOURCE_ABSENT, "" },
    { "[default]\nkey=v\nkey=w\n", KMSENV_SOURCE_FAILED, NULL },
    { "[default]\nkey=v\n[default]\nKey=w\n", KMSENV_SOURCE_FAILED, NULL },
    { "[default\nkey=v\n", KMSENV_SOURCE_FAILED, NULL },
    { "[", KMSENV_SOURCE_FAILED, NULL },
    { "[default]\nkey\n", KMSENV_SOURCE_FAILED, NULL },
    { "[default]\n=v\n", KMSENV_SOURCE_FAILED, NULL },
    { "[default]\nkey=0123456789abcdefg\n", KMSENV_SOURCE_FAILED, NULL },
};

static int test_ini(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER text, out;
    int ok;

    kmsenv_buffer_init(&text, 1000, 1);
    kmsenv_buffer_init(&out, 16, 1);
    kmsenv_buffer_add_text(&text, ini[i].text);
    ok = TEST_int_eq(kmsenv_credentials_ini(&text, "default", "key", &out, &err), ini[i].result)
         && (ini[i].value == NULL || TEST_str_eq(kmsenv_buffer_text(&out), ini[i].value))
         && TEST_int_eq(err.reason != KMSENV_R_NONE, ini[i].result != KMSENV_SOURCE_FOUND);
    kmsenv_buffer_reset(&text);
    kmsenv_buffer_reset(&out);
    return ok;
}

static int read_file(const char *path, size_t limit, int expected, const char *value)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER out;
    int ok;

    kmsenv_buffer_init(&out, limit, 1);
    ok = TEST_int_eq(kmsenv_credentials_file(path, &out, &err), expected)
         && (value == NULL || TEST_str_eq(kmsenv_buffer_text(&out), value));
    kmsenv_buffer_reset(&out);
    return ok;
}

static int write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");

    return TEST_ptr(f) && TEST_true(fputs(text, f) >= 0) && TEST_int_eq(fclose(f), 0);
}

static int test_secret_files(void)
{
    char dir[] = "/tmp/kmsenv-unit-XXXXXX", path[64], link_path[64];
    int ok;

    if (!TEST_ptr(mkdtemp(dir)))
        return 0;
    snprintf(path, sizeof(path), "%s/file", dir);
    snprintf(link_path, sizeof(link_path), "%s/link", dir);
    ok = read_file(path, 16, KMSENV_SOURCE_ABSENT, NULL) && read_file(dir, 16, KMSENV_SOURCE_FAILED, NULL)
         && write_file(path, " s3cret \r\n\n") && read_file(path, 16, KMSENV_SOURCE_FOUND, " s3cret")
         && TEST_int_eq(symlink(path, link_path), 0) && read_file(link_path, 16, KMSENV_SOURCE_FOUND, " s3cret")
         && write_file(path, "\n \n") && read_file(path, 16, KMSENV_SOURCE_FAILED, NULL)
         && write_file(path, "") && read_file(path, 16, KMSENV_SOURCE_FAILED, NULL)
         && write_file(path, "0123456789abcdefg") && read_file(path, 16, KMSENV_SOURCE_FAILED, NULL)
         && TEST_int_eq(unlink(path), 0) && TEST_int_eq(mkfifo(path, 0600), 0)
         && read_file(path, 16, KMSENV_SOURCE_FAILED, NULL);   /* and does not wait for a writer */
    unlink(link_path);
    unlink(path);
    rmdir(dir);
    return ok;
}

/* --- endpoints and headers ------------------------------------------------ */

static const struct { const char *text; int plain; const char *authority, *path; unsigned port; int loopback; } endpoints[] = {
    { "kms.tencentcloudapi.com", 0, "kms.tencentcloudapi.com", "", 443, 0 },
    { "HTTPS://KMS.Example.COM:443/", 0, "kms.example.com", "", 443, 0 },
    { "https://kms.example.com:8443/a/b/", 0, "kms.example.com:8443", "/a/b", 8443, 0 },
    { "http://127.0.0.1:80", 0, "127.0.0.1", "", 80, 1 },
    { "http://127.255.1.2:81", 0, "127.255.1.2:81", "", 81, 1 },
    { "http://localhost:8080", 0, "localhost:8080", "", 8080, 1 },
    { "http://[::1]:8080", 0, "[::1]:8080", "", 8080, 1 },
    { "[2001:db8::1]:8443", 0, "[2001:db8::1]:8443", "", 8443, 0 },
    { "http://kms.example.com", 1, "kms.example.com", "", 80, 0 },
    { "127.0.0.1.example.com:1", 0, "127.0.0.1.example.com:1", "", 1, 0 },
};

static int test_endpoint(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT e;

    return TEST_true(kmsenv_endpoint_parse(&e, endpoints[i].text, endpoints[i].plain, "endpoint", &err))
           && TEST_str_eq(e.authority, endpoints[i].authority) && TEST_str_eq(e.path, endpoints[i].path)
           && TEST_uint_eq(e.port, endpoints[i].port) && TEST_int_eq(e.loopback, endpoints[i].loopback);
}

static const char *const bad_endpoints[] = {
    "", "https://", "https:///x", "http://kms.example.com", "http://127.0.0.1.example.com", "http://127.1", "http://2130706433",
    "http://[::ffff:127.0.0.1]", "http://localhost.example.com", "ftp://h", "https://user:secret@h", "https://h:0", "https://h:65536",
    "https://h:", "https://h:8x", "https://h:99999999999", "https://[::1", "https://[h]", "https://::1", "https://h?x", "https://h/#x",
    "https://h/../x", "https://h/a b", "h h", "https://h\r\nX: y", "https://-h", "https://.h", "https://h%41"
};

static int test_bad_endpoint(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT e;

    return TEST_false(kmsenv_endpoint_parse(&e, bad_endpoints[i], 0, "endpoint", &err))
           && TEST_int_eq(err.reason, KMSENV_R_CONFIG_INVALID) && TEST_ptr(strstr(err.text, "endpoint"))
           && TEST_ptr_null(strstr(err.text, "secret")) && TEST_ptr_null(strchr(err.text, '\n'));
}

static int test_metadata_endpoint(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT e;

    return TEST_true(kmsenv_metadata_endpoint(&e, "http://metadata.vendor.example", "metadata.vendor.example", &err))
           && TEST_true(kmsenv_metadata_endpoint(&e, "http://127.0.0.1:1234", "metadata.vendor.example", &err))
           && TEST_false(kmsenv_metadata_endpoint(&e, "http://other.example", "metadata.vendor.example", &err))
           && TEST_false(kmsenv_metadata_endpoint(&e, "http://metadata.vendor.example.com", "metadata.vendor.example", &err));
}

static int test_headers(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST r;
    int i, ok;

    kmsenv_request_init(&r, "POST");
    ok = TEST_true(kmsenv_request_add_header(&r, "X-A", "b c", &err)) && TEST_str_eq(kmsenv_request_header(&r, "x-a"), "b c")
         && TEST_ptr_null(kmsenv_request_header(&r, "X")) && TEST_false(kmsenv_request_add_header(&r, "X-B", "secret\r\nEvil: 1", &err))
         && TEST_ptr_null(strstr(err.text, "secret")) && TEST_false(kmsenv_request_add_header(&r, "X-B", "", &err))
         && TEST_false(kmsenv_request_add_header(&r, "X-B", " x", &err)) && TEST_false(kmsenv_request_add_header(&r, "X B", "x", &err))
         && TEST_false(kmsenv_request_add_header(&r, "X-B", "x\x7f", &err)) && TEST_size_t_eq(r.headers, 1);
    for (i = 1; i < KMSENV_REQUEST_HEADERS_MAX; i++)
        ok = ok && TEST_true(kmsenv_request_add_header(&r, "X-C", "d", &err));
    ok = ok && TEST_false(kmsenv_request_add_header(&r, "X-C", "d", &err)) && TEST_false(kmsenv_request_check(&r, &err));
    kmsenv_request_reset(&r);
    return ok;
}

static const struct { const char *date; int64_t unix_time; } dates[] = {
    { "Tue, 14 Nov 2023 22:13:20 GMT", 1700000000 },
    { "Thu, 01 Jan 1970 00:00:00 GMT", 0 },
    { "Fri, 29 Feb 2040 23:59:59 GMT", 2214172799 },
    { "Tuesday, 14-Nov-23 22:13:20 GMT", 0 },
    { "Tue, 14 ovD 2023 22:13:20 GMT", 0 },
    { "Tue, 14 Nov", 0 },
    { "", 0 },
};

static int test_date(int i)
{
    KMSENV_REPLY r;
    char text[8];
    int ok;

    kmsenv_reply_init(&r);
    kmsenv_buffer_printf(&r.headers, "Xdate: x\r\ndate:  %s\r\nLong: 12345678\x01\r\n\r\n", dates[i].date);
    ok = TEST_true(kmsenv_reply_date(&r) == dates[i].unix_time) && TEST_true(kmsenv_reply_header(&r, "long", text, sizeof(text)))
         && TEST_str_eq(text, "1234567") && TEST_false(kmsenv_reply_header(&r, "absent", text, sizeof(text)));
    kmsenv_reply_reset(&r);
    return ok;
}

/* --- Tencent -------------------------------------------------------------- */

/* A wrap that is not the service's is refused before it is sent anywhere. */
static int test_tencent_ciphertext(void)
{
    static const char *const bad[] = { "", "a\"b\x01", "a b", "\xc3\xa9", "a\nb" };
    KMSENV_TENCENT_ACTION action = { .name = "Decrypt" };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER body;
    size_t i;
    int ok = 1;

    for (i = 0; ok && i < sizeof(bad) / sizeof(bad[0]); i++) {
        action.ciphertext = (const unsigned char *)bad[i];
        action.ciphertext_len = strlen(bad[i]);
        kmsenv_buffer_init(&body, 1000, 1);
        ok = TEST_false(kmsenv_tencent_body(&action, &body, &err)) && TEST_int_eq(err.reason, KMSENV_R_KMS_WRAP_REJECTED);
        kmsenv_buffer_reset(&body);
    }
    return ok;
}

/* A kept signing key changes nothing: whatever comes after whatever, the signature is the one made without it. */
static int test_tc3_cache(void)
{
    static const struct { int64_t time; const char *service, *secret; } turns[] = {
        { 1700000000, "kms", "a" }, { 1700000001, "kms", "a" }, { 1700000000 + 86400, "kms", "a" }, { 1700000000, "kms", "a" },
        { 1700000000, "sts", "a" }, { 1700000000, "kms", "b" }, { 1700000000, "kms", "ab" }, { 1700000000, "kms", "" },
        { 1700000000, "kms", "a" }
    };
    KMSENV_CRYPTO *crypto = kmsenv_crypto_new(NULL, NULL, "default");
    KMSENV_TC3_CACHE *cache = kmsenv_tc3_cache_new();
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_REQUEST with, without;
    size_t i;
    int ok = TEST_ptr(cache);

    for (i = 0; ok && i < sizeof(turns) / sizeof(turns[0]); i++) {
        KMSENV_TC3_SIGNER signer = { crypto, cache, turns[i].service, "id", turns[i].secret };

        kmsenv_request_init(&with, "POST");
        kmsenv_request_init(&without, "POST");
        ok = kmsenv_request_add_header(&with, "Host", "h", &err) && kmsenv_request_add_header(&without, "Host", "h", &err)
             && kmsenv_request_add_header(&with, "Content-Type", "t", &err)
             && kmsenv_request_add_header(&without, "Content-Type", "t", &err)
             && TEST_true(kmsenv_tc3_sign(&signer, &with, turns[i].time, &err));
        signer.cache = NULL;
        ok = ok && TEST_true(kmsenv_tc3_sign(&signer, &without, turns[i].time, &err))
             && TEST_str_eq(kmsenv_request_header(&with, "Authorization"), kmsenv_request_header(&without, "Authorization"));
        kmsenv_request_reset(&with);
        kmsenv_request_reset(&without);
    }
    kmsenv_tc3_cache_free(cache);
    kmsenv_crypto_free(crypto);
    return ok;
}

static int test_codes(void)
{
    static const KMSENV_REST_CODE table[] = {
        { "A", 1, KMSENV_VERDICT_FINAL, "" }, { "A.B", 2, KMSENV_VERDICT_FINAL, "" }, { NULL, 0, KMSENV_VERDICT_FINAL, NULL }
    };

    return TEST_int_eq(kmsenv_rest_find_code(table, "A")->reason, 1) && TEST_int_eq(kmsenv_rest_find_code(table, "A.C")->reason, 1)
           && TEST_int_eq(kmsenv_rest_find_code(table, "A.B.C")->reason, 2) && TEST_ptr_null(kmsenv_rest_find_code(table, "AB"))
           && TEST_ptr_null(kmsenv_rest_find_code(table, ""));
}

int setup_tests(void)
{
    ADD_ALL_TESTS(test_good_json, COUNT(good_json));
    ADD_ALL_TESTS(test_bad_json, COUNT(bad_json));
    ADD_ALL_TESTS(test_taken, COUNT(taken));
    ADD_TEST(test_json_limits);
    ADD_TEST(test_json_read);
    ADD_TEST(test_json_write);
    ADD_ALL_TESTS(test_good_context, COUNT(good_context));
    ADD_ALL_TESTS(test_bad_context, COUNT(bad_context));
    ADD_TEST(test_context_limits);
    ADD_ALL_TESTS(test_ini, COUNT(ini));
    ADD_TEST(test_secret_files);
    ADD_ALL_TESTS(test_endpoint, COUNT(endpoints));
    ADD_ALL_TESTS(test_bad_endpoint, COUNT(bad_endpoints));
    ADD_TEST(test_metadata_endpoint);
    ADD_TEST(test_headers);
    ADD_ALL_TESTS(test_date, COUNT(dates));
    ADD_TEST(test_tencent_ciphertext);
    ADD_TEST(test_tc3_cache);
    ADD_TEST(test_codes);
    return 1;
}
