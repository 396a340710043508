/*
 * Golden request vectors: what vendors' SDKs sent, compared with what we would send; and what was
 * answered, fed to our parsers. The directory is the argument, or KMSENV_TEST_VECTORS. Every file
 * of a vendor that we have a back end for must have been run, or the test fails.
 */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "testutil.h"
#include "kms/base64.h"
#include "vectors.h"

typedef enum option_en { OPT_ERR = -1, OPT_EOF = 0, OPT_EXPECT, OPT_TEST_ENUM } OPTION;

static const struct { const char *vendor; int (*run)(const cJSON *, KMSENV_CRYPTO *); } runners[] = {
    { "tencent", vectors_tencent },
    { "alibaba", vectors_alibaba },
    { "alibaba-dkms", vectors_alibaba_instance },
    { "aws", vectors_aws },
    { "vault", vectors_vault },
    { "gcp", vectors_google },
    { "azure", vectors_azure },
};

static const char *directory;
static int expect = -1;

const OPTIONS *test_get_options(void)
{
    static const OPTIONS options[] = {
        OPT_TEST_OPTIONS_WITH_EXTRA_USAGE("[directory]\n"),
        { "expect", OPT_EXPECT, 'n', "How many vectors must have been run" },
        { NULL }
    };
    return options;
}

/* --- reading vectors ------------------------------------------------------ */

const cJSON *vector_at(const cJSON *json, const char *path)
{
    char name[64];
    size_t n;

    for (; json != NULL && *path != '\0'; path += n + (path[n] == '/')) {
        n = strcspn(path, "/");
        if (n >= sizeof(name))
            return NULL;
        memcpy(name, path, n);
        name[n] = '\0';
        json = cJSON_IsArray(json) ? cJSON_GetArrayItem(json, atoi(name)) : cJSON_GetObjectItemCaseSensitive(json, name);
    }
    return json == NULL || cJSON_IsNull(json) ? NULL : json;
}

const char *vector_text(const cJSON *json, const char *path)
{
    const cJSON *found = vector_at(json, path);

    return found == NULL ? NULL : cJSON_GetStringValue((cJSON *)found);
}

const char *vector_header(const cJSON *message, const char *name)
{
    const cJSON *header;

    cJSON_ArrayForEach(header, vector_at(message, "headers"))
        if (strcasecmp(vector_text(header, "0"), name) == 0)
            return vector_text(header, "1");
    return NULL;
}

int vector_reply(const cJSON *response, KMSENV_REPLY *reply)
{
    const cJSON *header, *status = vector_at(response, "status");
    const char *body = vector_text(response, "body_utf8"), *base64 = vector_text(response, "body_base64");
    unsigned char decoded[8192];
    size_t n = sizeof(decoded);

    kmsenv_reply_init(reply);
    if (!TEST_ptr(status) || !TEST_true(body != NULL || base64 != NULL))
        return 0;
    if (body == NULL && !TEST_true(kmsenv_base64_decode(base64, strlen(base64), decoded, &n)))
        return 0;
    reply->status = status->valueint;
    cJSON_ArrayForEach(header, vector_at(response, "headers"))
        kmsenv_buffer_printf(&reply->headers, "%s: %s\r\n", header->string, cJSON_GetStringValue((cJSON *)header));
    return TEST_true(body != NULL ? kmsenv_buffer_add_text(&reply->body, body) : kmsenv_buffer_add(&reply->body, decoded, n))
           && TEST_false(reply->headers.failed);
}

int vector_file(const char *vendor, const char *name, KMSENV_BUFFER *out)
{
    char path[4096], chunk[4096];
    FILE *f;
    size_t n;

    snprintf(path, sizeof(path), "%s/%s/%s", directory, vendor, name);
    if (!TEST_ptr(f = fopen(path, "rb")))
        return 0;
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        kmsenv_buffer_add(out, chunk, n);
    fclose(f);
    return TEST_false(out->failed) && TEST_size_t_gt(out->length, 0);
}

/* An encryption context is a string with JSON in it: two texts of one map are the same context, and no text that of {}. */
static int same_context(const char *a, const char *b)
{
    cJSON *x = cJSON_Parse(a == NULL ? "{}" : a), *y = cJSON_Parse(b == NULL ? "{}" : b);
    int same = x != NULL && y != NULL && cJSON_Compare(x, y, 1);

    cJSON_Delete(x);
    cJSON_Delete(y);
    return same;
}

/* Takes the contexts out of both bodies, if they agree. */
static int drop_contexts(cJSON *ours, cJSON *theirs)
{
    static const char *const name[] = { "EncryptionContext", "SourceEncryptionContext", "DestinationEncryptionContext" };
    size_t i;

    for (i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
        if (!TEST_true(same_context(vector_text(ours, name[i]), vector_text(theirs, name[i]))))
            return 0;
        cJSON_DeleteItemFromObjectCaseSensitive(ours, name[i]);
        cJSON_DeleteItemFromObjectCaseSensitive(theirs, name[i]);
    }
    return 1;
}

static int same_body(const KMSENV_REQUEST *ours, const char *captured)
{
    cJSON *a, *b;
    int ok;

    if (*captured == '\0')
        return TEST_size_t_eq(ours->body.length, 0);
    a = cJSON_Parse(kmsenv_buffer_text(&ours->body));
    b = cJSON_Parse(captured);
    ok = TEST_ptr(a) && TEST_ptr(b) && drop_contexts(a, b) && TEST_true(cJSON_Compare(a, b, 1));
    if (!ok)
        TEST_info("ours %s\ncaptured %s", kmsenv_buffer_text(&ours->body), captured);
    cJSON_Delete(a);
    cJSON_Delete(b);
    return ok;
}

int vector_same_request(const KMSENV_REQUEST *ours, const cJSON *captured)
{
    return TEST_str_eq(ours->method, vector_text(captured, "method"))
           && TEST_str_eq(kmsenv_buffer_text(&ours->target), vector_text(captured, "target"))
           && TEST_str_eq(kmsenv_request_header(ours, "Host"), vector_text(captured, "host"))
           && same_body(ours, vector_text(captured, "body_utf8"));
}

int vector_same_headers(const KMSENV_REQUEST *ours, const cJSON *captured, const char *const *names)
{
    int ok = 1;

    for (; *names != NULL; names++) {
        if (!TEST_str_eq(kmsenv_request_header(ours, *names), vector_header(captured, *names))) {
            TEST_info("header %s", *names);
            ok = 0;
        }
    }
    return ok;
}

/* --- files ---------------------------------------------------------------- */

static cJSON *load(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    size_t n = 0;
    cJSON *json = NULL;

    if (f != NULL && (text = OPENSSL_zalloc((1 << 20) + 1)) != NULL && (n = fread(text, 1, 1 << 20, f)) > 0)
        json = cJSON_ParseWithLength(text, n);
    if (f != NULL)
        fclose(f);
    OPENSSL_free(text);
    return json;
}

static int is_vector_file(const struct dirent *e)
{
    size_t n = strlen(e->d_name);

    return n > 5 && isdigit((unsigned char)e->d_name[0]) && strcmp(e->d_name + n - 5, ".json") == 0;   /* others are keys that vectors name */
}

static int run_file(const char *path, const char *vendor, int (*run)(const cJSON *, KMSENV_CRYPTO *), KMSENV_CRYPTO *crypto)
{
    cJSON *json = load(path);
    int ok = TEST_ptr(json) && TEST_str_eq(vector_text(json, "format"), "kmsenv-golden-1")
             && TEST_str_eq(vector_text(json, "vendor"), vendor) && run(json, crypto);

    if (!ok)
        TEST_error("vector %s does not hold", path);
    cJSON_Delete(json);
    return ok;
}

/* All files of a vendor. Counts those that hold in *ran; returns how many there are. run NULL: we have no back end. */
static int run_vendor(const char *vendor, int (*run)(const cJSON *, KMSENV_CRYPTO *), KMSENV_CRYPTO *crypto, int *ran)
{
    struct dirent **entry = NULL;
    char path[4096];
    int i, n;

    snprintf(path, sizeof(path), "%s/%s", directory, vendor);
    n = scandir(path, &entry, is_vector_file, alphasort);
    for (i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "%s/%s/%s", directory, vendor, entry[i]->d_name);
        if (run != NULL)
            *ran += run_file(path, vendor, run, crypto);
        free(entry[i]);
    }
    free(entry);
    return n < 0 ? 0 : n;
}

static int is_vendor(const struct dirent *e)
{
    return e->d_name[0] != '.' && e->d_type != DT_REG;
}

static int test_vectors(void)
{
    KMSENV_CRYPTO *crypto = kmsenv_crypto_new(NULL, NULL, "default");
    struct dirent **entry = NULL;
    int i, k, n, here, found = 0, ran = 0;
    size_t r;

    n = scandir(directory, &entry, is_vendor, alphasort);
    for (i = 0; i < n; i++) {
        for (r = 0; r < sizeof(runners) / sizeof(runners[0]) && strcmp(runners[r].vendor, entry[i]->d_name) != 0; r++)
            ;
        k = ran;
        here = run_vendor(entry[i]->d_name, r < sizeof(runners) / sizeof(runners[0]) ? runners[r].run : NULL, crypto, &ran);
        if (r < sizeof(runners) / sizeof(runners[0])) {
            found += here;
            TEST_info("%s: %d of %d vectors hold", entry[i]->d_name, ran - k, here);
        } else {
            TEST_error("%s: there is no back end for these %d vectors", entry[i]->d_name, here);
            found += here;
        }
        free(entry[i]);
    }
    free(entry);
    kmsenv_crypto_free(crypto);
    return TEST_int_ge(n, 1) & TEST_int_gt(found, 0) & TEST_int_eq(ran, found) & (expect < 0 || TEST_int_eq(ran, expect));
}

int setup_tests(void)
{
    OPTION o;

    while ((o = opt_next()) != OPT_EOF) {
        switch (o) {
        case OPT_EXPECT:
            expect = atoi(opt_arg());
            break;
        case OPT_TEST_CASES:
            break;
        default:
            return 0;
        }
    }
    directory = test_get_argument_count() > 0 ? test_get_argument(0) : getenv("KMSENV_TEST_VECTORS");
    if (!TEST_ptr(directory))
        return 0;
    ADD_TEST(test_vectors);
    return 1;
}
