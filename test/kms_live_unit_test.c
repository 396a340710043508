/*
 * Back ends over the network, against the stand-in (kms/server.py), by the interface of the KMS room: also the
 * operations that no message needs (describe, re-encrypt). One line in `kinds` per back end.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cjson/cJSON.h>
#include <openssl/crypto.h>
#include "testutil.h"
#include "core/clock.h"
#include "core/secret.h"
#include "kms/kms.h"
#include "kms/http.h"

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))
#define KEY          "00000000-1111-11ee-8888-fa4e00000001"     /* these three: kms/server.py */
#define ID           "AKIDtesttesttesttesttesttesttest0001"
#define SECRET       "TESTsecretTESTsecretTESTsecret01"
#define OTHER_KEY    "00000000-2222-22ee-8888-fa4e00000002"
#define WAIT_MS      30000

/* Settings besides endpoint, ca-file and key-id. unsupported: the dialect's name of an error of ReEncrypt that it is not offered. */
static const struct { const char *name, *dialect, *settings[12], *unsupported; } kinds[] = {
    { "alibaba", "alibaba", { "region", "cn-hangzhou", "access-key-id", ID, "access-key-secret", SECRET }, "unsupported" },
    { "alibaba", "alibaba", { "region", "cn-hangzhou", "access-key-id", ID, "access-key-secret", SECRET, "signature", "hmac-sha1" },
      "unsupported" },
    { "aws", "aws", { "region", "eu-central-1", "access-key-id", ID, "secret-access-key", SECRET }, NULL },
    { "tencent", "tencent", { "region", "ap-guangzhou", "secret-id", ID, "secret-key", SECRET }, NULL }
};

static KMSENV_CRYPTO *crypto;
static KMSENV_COUNTERS counters;

/* --- the stand-in --------------------------------------------------------- */

typedef struct standin_st {
    pid_t pid;
    int stdin_fd;                     /* it ends when this is closed */
    char dir[64], ca[96];
    int port, control;
} STANDIN;

static void run_server(const STANDIN *s, const char *dialect, const int in[2], const int out[2])
{
    dup2(in[0], 0);
    dup2(out[1], 1);
    close(in[1]);
    close(out[0]);
    unsetenv("LD_PRELOAD");
    unsetenv("OPENSSL_MODULES");     /* of the OpenSSL under test: Python's is the system's */
    execl("/usr/bin/python3", "python3", KMSENV_TEST_DATA_DIR "/kms/server.py", "--dir", s->dir, "--dialect", dialect, (char *)NULL);
    _exit(127);
}

static int read_ports(STANDIN *s, const char *line, const char *dialect)
{
    cJSON *all = cJSON_Parse(line), *ports = cJSON_GetObjectItem(all, "ports");
    const cJSON *port = cJSON_GetObjectItem(ports, dialect), *control = cJSON_GetObjectItem(ports, "control");
    int ok = TEST_ptr(port) && TEST_ptr(control);

    if (ok) {
        s->port = port->valueint;
        s->control = control->valueint;
    }
    cJSON_Delete(all);
    return ok;
}

static int standin_start(STANDIN *s, const char *dialect)
{
    char line[2048] = "";
    int in[2], out[2], ok;
    FILE *f;

    memset(s, 0, sizeof(*s));
    snprintf(s->dir, sizeof(s->dir), "/tmp/kmsenv-live-XXXXXX");
    if (!TEST_ptr(mkdtemp(s->dir)) || !TEST_int_eq(pipe(in), 0) || !TEST_int_eq(pipe(out), 0)
        || !TEST_int_ge(s->pid = fork(), 0))
        return 0;
    if (s->pid == 0)
        run_server(s, dialect, in, out);
    snprintf(s->ca, sizeof(s->ca), "%s/ca.pem", s->dir);
    close(in[0]);
    close(out[1]);
    s->stdin_fd = in[1];
    f = fdopen(out[0], "r");
    alarm(WAIT_MS / 1000);            /* a server that says nothing ends the test */
    ok = TEST_ptr(f) && TEST_ptr(fgets(line, sizeof(line), f)) && read_ports(s, line, dialect);
    alarm(0);
    if (f != NULL)
        fclose(f);
    return ok;
}

static void standin_stop(STANDIN *s)
{
    static const char *const files[] = { "ca.pem", "server.pem", "rogue.pem", "wrong-name.pem", "expired.pem", "keys.json", "log.jsonl" };
    char path[128];
    size_t i;

    if (s->pid > 0) {
        close(s->stdin_fd);
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
    }
    for (i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", s->dir, files[i]);
        unlink(path);
    }
    rmdir(s->dir);
}

/* One request to its control port. */
static int control(const STANDIN *s, KMSENV_HTTP *http, const char *path, const char *json)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_ENDPOINT to;
    KMSENV_REQUEST r;
    KMSENV_REPLY reply;
    char url[64];
    int ok;

    snprintf(url, sizeof(url), "http://127.0.0.1:%d", s->control);
    kmsenv_request_init(&r, "POST");
    kmsenv_reply_init(&reply);
    kmsenv_buffer_add_text(&r.target, path);
    kmsenv_buffer_add_text(&r.body, json);
    ok = TEST_true(kmsenv_endpoint_parse(&to, url, 0, "control", &err)) && TEST_true(kmsenv_request_add_header(&r, "Host", to.authority, &err))
         && TEST_true(kmsenv_http_send(http, &to, &r, kmsenv_clock_ms() + WAIT_MS, &reply, &err)) && TEST_int_eq(reply.status, 200);
    if (!ok)
        TEST_info("%s %s", kmsenv_buffer_text(&reply.body), err.text);
    kmsenv_request_reset(&r);
    kmsenv_reply_reset(&reply);
    return ok;
}

/* --- a profile ------------------------------------------------------------ */

typedef struct profile_st { KMSENV_SECTION *section; KMSENV_KMS *kms; } PROFILE;

static int profile_open(PROFILE *p, int kind, const STANDIN *s, const char *key_id)
{
    const KMSENV_KMS_METHOD *method = kmsenv_kms_method_find(kinds[kind].name);
    const KMSENV_SERVICES services = { crypto, &counters, NULL };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char endpoint[64];
    size_t i;
    int ok;

    snprintf(endpoint, sizeof(endpoint), "https://127.0.0.1:%d", s->port);
    p->kms = NULL;
    p->section = kmsenv_section_new("kms_prod");
    ok = TEST_ptr(method) && TEST_ptr(p->section) && TEST_true(kmsenv_kms_add_tables(p->section, method))
         && TEST_true(kmsenv_section_set(p->section, "endpoint", endpoint, &err))
         && TEST_true(kmsenv_section_set(p->section, "ca-file", s->ca, &err))
         && TEST_true(kmsenv_section_set(p->section, "key-id", key_id, &err));
    for (i = 0; ok && kinds[kind].settings[i] != NULL; i += 2)
        ok = TEST_true(kmsenv_section_set(p->section, kinds[kind].settings[i], kinds[kind].settings[i + 1], &err));
    ok = ok && TEST_ptr(p->kms = kmsenv_kms_new("prod", method, p->section, &services, &err));
    if (!ok)
        TEST_info("%s", err.text);
    return ok;
}

static void profile_close(PROFILE *p)
{
    kmsenv_kms_free(p->kms);
    kmsenv_section_free(p->section);
}

static int opens(KMSENV_KMS *kms, const KMSENV_CONTEXT *context, const KMSENV_BLOB *blob, const unsigned char *dek)
{
    unsigned char *out = kmsenv_secret_zalloc(64);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t n = 64;
    int ok = TEST_ptr(out) && TEST_true(kmsenv_kms_decrypt(kms, context, NULL, blob, out, &n, &err)) && TEST_mem_eq(out, n, dek, 64);

    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_secret_free(out);
    return ok;
}

static int is_state(KMSENV_KMS *kms, const char *state, int reason)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char seen[40];
    int ok = TEST_int_eq(kmsenv_kms_describe(kms, seen, sizeof(seen), &err), reason == 0) && TEST_int_eq(err.reason, reason)
             && (state == NULL || TEST_str_eq(seen, state));

    if (!ok)
        TEST_info("%s", err.text);
    return ok;
}

/* Where the service says that it cannot, nobody else does it either. */
static int is_unsupported(KMSENV_KMS *to, const KMSENV_CONTEXT *context, const KMSENV_BLOB *blob)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BLOB anew = { 0 };

    return TEST_false(kmsenv_kms_reencrypt(to, context, NULL, blob, &anew, &err))
           && TEST_int_eq(err.reason, KMSENV_R_KMS_UNSUPPORTED) && TEST_ptr_null(anew.ciphertext);
}

/* Anew under the key of `to`, in the same context; and not in another one. */
static int rewraps(KMSENV_KMS *to, const KMSENV_CONTEXT *context, const KMSENV_BLOB *blob, const unsigned char *dek)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CONTEXT other;
    KMSENV_BLOB anew = { 0 };
    int ok = TEST_true(kmsenv_kms_reencrypt(to, context, NULL, blob, &anew, &err)) && TEST_str_eq(anew.key_id, OTHER_KEY)
             && opens(to, context, &anew, dek);

    if (!ok)
        TEST_info("%s", err.text);
    kmsenv_blob_reset(&anew);
    kmsenv_context_init(&other);
    ok = ok && TEST_true(kmsenv_context_parse(&other, "app=other", &err))
         && TEST_false(kmsenv_kms_reencrypt(to, &other, NULL, blob, &anew, &err)) && TEST_int_eq(err.reason, KMSENV_R_KMS_WRAP_REJECTED)
         && TEST_ptr_null(anew.ciphertext);
    kmsenv_context_reset(&other);
    return ok;
}

/* --- tests ---------------------------------------------------------------- */

static int run_operations(int kind, const STANDIN *s, KMSENV_HTTP *http, KMSENV_KMS *kms, KMSENV_KMS *other)
{
    unsigned char *dek = kmsenv_secret_zalloc(64);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CONTEXT context;
    KMSENV_BLOB blob = { 0 }, direct = { 0 };
    char rule[160];
    int ok;

    kmsenv_context_init(&context);
    ok = TEST_true(kmsenv_context_parse(&context, "app=billing,env=it's (a) *star*~ & + more", &err))
         && is_state(kms, "Enabled", 0)
         && TEST_true(kmsenv_kms_generate(kms, &context, 64, dek, &blob, &err)) && opens(kms, &context, &blob, dek)
         && TEST_true(kmsenv_kms_encrypt(kms, &context, NULL, dek, 64, &direct, &err)) && opens(kms, &context, &direct, dek)
         && rewraps(other, &context, &blob, dek);
    if (ok && kinds[kind].unsupported != NULL) {
        snprintf(rule, sizeof(rule), "{\"misbehave\": [{\"do\": \"%s\", \"action\": \"ReEncrypt\"}]}", kinds[kind].unsupported);
        ok = control(s, http, "/control", rule) && is_unsupported(other, &context, &blob);
    }
    ok = ok && control(s, http, "/keys", "{\"key\": \"" KEY "\", \"state\": \"Disabled\"}")
         && is_state(kms, NULL, KMSENV_R_KMS_KEY_DISABLED)
         && control(s, http, "/keys", "{\"key\": \"" KEY "\", \"delete\": true}")
         && is_state(kms, NULL, KMSENV_R_KMS_KEY_NOT_FOUND);
    if (!ok)
        TEST_info("%s: %s", kinds[kind].name, err.text);
    kmsenv_blob_reset(&blob);
    kmsenv_blob_reset(&direct);
    kmsenv_context_reset(&context);
    kmsenv_secret_free(dek);
    return ok;
}

static int test_operations(int kind)
{
    KMSENV_SECTION *section = kmsenv_section_new("control");
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    PROFILE kms = { 0 }, other = { 0 };
    KMSENV_HTTP *http = NULL;
    STANDIN s;
    int ok = standin_start(&s, kinds[kind].dialect) && TEST_true(kmsenv_section_add_table(section, kmsenv_http_settings))
             && TEST_ptr(http = kmsenv_http_new(section, &err))
             && control(&s, http, "/keys", "{\"create\": \"" OTHER_KEY "\"}")
             && profile_open(&kms, kind, &s, KEY) && profile_open(&other, kind, &s, OTHER_KEY)
             && run_operations(kind, &s, http, kms.kms, other.kms);

    profile_close(&kms);
    profile_close(&other);
    kmsenv_http_free(http);
    kmsenv_section_free(section);
    standin_stop(&s);
    return ok;
}

int setup_tests(void)
{
    if (!TEST_ptr(crypto = kmsenv_crypto_new(NULL, NULL, "default")))
        return 0;
    ADD_ALL_TESTS(test_operations, COUNT(kinds));
    return 1;
}

void cleanup_tests(void)
{
    kmsenv_crypto_free(crypto);
}
