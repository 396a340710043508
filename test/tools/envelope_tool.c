/*
 * A program that uses the envelope cipher as an application does, driven by scenario tests
 * through its standard input: one command per line, one line of JSON per answer.
 *
 *   envelope_tool CONFIG-FILE
 *
 *   seal IN OUT [option...]     each record of the bundle IN becomes a message in the bundle OUT
 *   open IN OUT [option...]     the other way; a record that fails has the length 0xffffffff
 *   damage IN [option...]       opens the first message of IN with each byte changed and cut at each length
 *   threads N COUNT SIZE [option...]       N threads seal COUNT messages of SIZE bytes each
 *   threads-open N COUNT IN [option...]    N threads open COUNT messages each, those of IN in turn
 *   fork IN OUT [option...]     parent and child seal IN at the same time, to OUT.parent and OUT.child
 *   begin [option...]           starts a message and leaves it open
 *   end                         finishes it
 *   load FILE                   loads the private key in a PEM file, and frees it
 *   counters                    the provider's counters
 *   unload                      frees the library context, and the provider with it
 *
 * Options: key=HEX aad=HEX bits=N chunk=N cipher=NAME context=TEXT profile=TEXT wraps=WORD
 * data-key=HEX properties=TEXT. A bundle is a file of records: uint32be length, bytes.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include "message.h"

#define WORDS_MAX   24
#define THREADS_MAX 256

static OSSL_PROVIDER *provider;     /* borrowed from libctx */
static EVP_CIPHER_CTX *held;        /* of begin and end */

/* ---- answers */

/* Members of the answer besides ok, from a format; then the newest error, if there is one. Ends the line. */
__attribute__((format(printf, 2, 3)))
static void answer(int ok, const char *format, ...)
{
    const char *data = NULL, *reason, *at;
    int flags = 0;
    unsigned long code, entries = 0, e;
    va_list args;

    printf("{\"ok\": %s", ok ? "true" : "false");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    code = ERR_peek_last_error_data(&data, &flags);
    reason = code == 0 ? NULL : ERR_reason_error_string(code);
    printf(", \"reason\": %d, \"error\": \"%s: ", code == 0 ? 0 : ERR_GET_REASON(code), reason == NULL ? "" : reason);
    for (at = (flags & ERR_TXT_STRING) != 0 ? data : ""; *at != '\0'; at++)
        printf((unsigned char)*at < 0x20 || *at == '"' || *at == '\\' ? "\\u%04x" : "%c", (unsigned char)*at);
    while ((e = ERR_get_error()) != 0)
        entries++;
    printf("\", \"entries\": %lu}\n", entries);
    fflush(stdout);
}

/* ---- commands; each gets its words after the name */

/* Number of records that failed, of *total. */
static size_t process_file(const OPTIONS *o, int enc, const char *from, const char *to, size_t *total)
{
    BUNDLE in = read_bundle(from);
    FILE *out = fopen(to, "wb");
    BYTES result;
    size_t i, failed = 0;

    if (out == NULL)
        die(to);
    for (i = 0; i < in.count; i++) {
        failed += !process(o, enc, &in.record[i], &result);
        write_record(out, &result);
        free(result.data);
    }
    if (fclose(out) != 0)
        die(to);
    *total = in.count;
    free_bundle(&in);
    return failed;
}

static void many(char **words, int count, int enc)
{
    OPTIONS o = read_options(words + 2, count - 2);
    size_t total, failed = process_file(&o, enc, words[0], words[1], &total);

    answer(failed == 0, ", \"records\": %zu, \"failed\": %zu", total, failed);
    free_options(&o);
}

static void do_seal(char **words, int count) { many(words, count, 1); }
static void do_open(char **words, int count) { many(words, count, 0); }

/* 1 if the damaged message is taken for good. */
static int accepts(const OPTIONS *o, const BYTES *message)
{
    BYTES result;
    int ok = process(o, 0, message, &result);

    free(result.data);
    ERR_clear_error();
    return ok;
}

static void do_damage(char **words, int count)
{
    static const unsigned char masks[] = { 0x01, 0x80, 0xff };
    OPTIONS o = read_options(words + 1, count - 1);
    BUNDLE in = read_bundle(words[0]);
    BYTES message = in.record[0], cut;
    size_t i, m, accepted = 0, tried = 0, last = 0;

    if (!accepts(&o, &message))
        die("the message is not good before it is damaged");
    for (i = 0; i < message.len; i++) {
        for (m = 0; m < sizeof(masks); m++, tried++) {
            message.data[i] ^= masks[m];
            if (accepts(&o, &message))
                accepted++, last = i;
            message.data[i] ^= masks[m];
        }
    }
    for (cut = message, cut.len = 0; cut.len < message.len; cut.len++, tried++)
        if (accepts(&o, &cut))
            accepted++, last = cut.len;
    cut = message;
    cut.len++;                       /* read_bundle leaves room for one byte more */
    for (i = 0; i < 256; i += 85, tried++) {
        cut.data[message.len] = (unsigned char)i;
        if (accepts(&o, &cut))
            accepted++, last = message.len;
    }
    answer(accepted == 0, ", \"tried\": %zu, \"accepted\": %zu, \"last\": %zu", tried, accepted, last);
    free_bundle(&in);
    free_options(&o);
}

typedef struct worker_st {
    const OPTIONS *options;
    const BUNDLE *in;
    pthread_barrier_t *barrier;
    size_t count, first, failed;
    int enc;
    unsigned long error;
} WORKER;

static void *work(void *arg)
{
    WORKER *w = arg;
    BYTES result;
    size_t i;

    pthread_barrier_wait(w->barrier);
    for (i = 0; i < w->count; i++) {
        if (!process(w->options, w->enc, &w->in->record[(w->first + i) % w->in->count], &result)) {
            w->failed++;
            w->error = ERR_peek_last_error();
            ERR_clear_error();
        }
        free(result.data);
    }
    return NULL;
}

static void run_threads(char **words, int count, const BUNDLE *in, int enc)
{
    OPTIONS o = read_options(words + 3, count - 3);
    size_t i, failed = 0, threads = strtoul(words[0], NULL, 10);
    pthread_t thread[THREADS_MAX];
    WORKER worker[THREADS_MAX];
    pthread_barrier_t barrier;
    int reason = 0;

    if (threads < 1 || threads > THREADS_MAX || pthread_barrier_init(&barrier, NULL, (unsigned int)threads) != 0)
        die("number of threads");
    for (i = 0; i < threads; i++) {
        worker[i] = (WORKER){ &o, in, &barrier, strtoul(words[1], NULL, 10), i, 0, enc, 0 };
        if (pthread_create(&thread[i], NULL, work, &worker[i]) != 0)
            die("pthread_create");
    }
    for (i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
        failed += worker[i].failed;
        if (worker[i].failed != 0)
            reason = ERR_GET_REASON(worker[i].error);
    }
    pthread_barrier_destroy(&barrier);
    answer(failed == 0, ", \"failed\": %zu, \"thread_reason\": %d", failed, reason);
    free_options(&o);
}

static void do_threads(char **words, int count)
{
    BYTES data;
    BUNDLE in = { &data, 1 };

    data.len = strtoul(words[2], NULL, 10);
    data.data = need(calloc(1, data.len + 1));
    run_threads(words, count, &in, 1);
    free(data.data);
}

static void do_threads_open(char **words, int count)
{
    BUNDLE in = read_bundle(words[2]);

    if (in.count == 0)
        die("empty bundle");
    run_threads(words, count, &in, 0);
    free_bundle(&in);
}

static void do_fork(char **words, int count)
{
    OPTIONS o = read_options(words + 2, count - 2);
    char path[4096];
    size_t failed, total;
    int status = -1;
    pid_t child;

    fflush(stdout);
    if ((child = fork()) < 0)
        die("fork");
    snprintf(path, sizeof(path), "%s%s", words[1], child == 0 ? ".child" : ".parent");
    failed = process_file(&o, 1, words[0], path, &total);
    if (child == 0)
        _exit(failed == 0 ? 0 : 1);
    while (waitpid(child, &status, 0) < 0)
        ;
    answer(failed == 0 && status == 0, ", \"failed\": %zu, \"child\": %d", failed, status);
    free_options(&o);
}

static void do_begin(char **words, int count)
{
    OPTIONS o = read_options(words, count);
    unsigned char out[OUT_SLACK];
    int n, ok;

    held = need(EVP_CIPHER_CTX_new());
    ok = start(held, &o, 1) && EVP_CipherUpdate(held, out, &n, (const unsigned char *)"held", 4);
    answer(ok, "%s", "");
    free_options(&o);
}

static void do_end(char **words, int count)
{
    unsigned char out[OUT_SLACK];
    int n, ok = EVP_CipherFinal_ex(held, out, &n);

    (void)words, (void)count;
    EVP_CIPHER_CTX_free(held);
    held = NULL;
    answer(ok, "%s", "");
}

static void do_load(char **words, int count)
{
    BIO *bio = BIO_new_file(words[0], "r");
    EVP_PKEY *pkey = bio == NULL ? NULL : PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, NULL, libctx, NULL);

    (void)count;
    answer(pkey != NULL, "%s", "");
    EVP_PKEY_free(pkey);
    BIO_free(bio);
}

static void do_counters(char **words, int count)
{
    uint64_t value;
    char text[4096];
    size_t at = 0, i;
    static const char *const names[] = {
#define NAME(symbol, name, help) name,
        KMSENV_COUNTERS(NAME)
#undef NAME
    };

    (void)words, (void)count;
    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        OSSL_PARAM params[2] = { OSSL_PARAM_uint64(names[i], &value), OSSL_PARAM_END };

        value = 0;
        if (!OSSL_PROVIDER_get_params(provider, params) || !OSSL_PARAM_modified(params))
            die(names[i]);
        at += (size_t)snprintf(text + at, sizeof(text) - at, ", \"%s\": %llu", names[i] + sizeof("kmsenv.") - 1,
                               (unsigned long long)value);
    }
    answer(1, "%s", text);
}

static void do_unload(char **words, int count)
{
    (void)words, (void)count;
    EVP_CIPHER_CTX_free(held);
    held = NULL;
    provider = NULL;
    OSSL_LIB_CTX_free(libctx);
    libctx = NULL;
    answer(1, "%s", "");
}

static const struct { const char *name; int words_min; int needs_provider; void (*run)(char **words, int count); } commands[] = {
    { "seal", 2, 1, do_seal },
    { "open", 2, 1, do_open },
    { "damage", 1, 1, do_damage },
    { "threads", 3, 1, do_threads },
    { "threads-open", 3, 1, do_threads_open },
    { "fork", 2, 1, do_fork },
    { "begin", 0, 1, do_begin },
    { "end", 0, 1, do_end },
    { "load", 1, 1, do_load },
    { "counters", 0, 1, do_counters },
    { "unload", 0, 0, do_unload },
};

static void run(char *line)
{
    char *words[WORDS_MAX], *word, *rest = line;
    size_t i;
    int count = 0;

    while (count < WORDS_MAX && (word = strsep(&rest, " \n")) != NULL)
        if (*word != '\0')
            words[count++] = word;
    for (i = 0; count > 0 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(words[0], commands[i].name) != 0)
            continue;
        if (count - 1 < commands[i].words_min || (commands[i].needs_provider && provider == NULL))
            break;
        commands[i].run(words + 1, count - 1);
        return;
    }
    die("no such command, too few words, or the provider is gone");
}

static int remember_ours(OSSL_PROVIDER *p, void *arg)
{
    (void)arg;
    if (strcmp(OSSL_PROVIDER_get0_name(p), "kmsenv") == 0)
        provider = p;
    return 1;
}

int main(int argc, char **argv)
{
    char line[65536];

    if (argc != 2)
        die("usage: envelope_tool CONFIG-FILE");
    if ((libctx = OSSL_LIB_CTX_new()) == NULL || !OSSL_LIB_CTX_load_config(libctx, argv[1]))
        die(argv[1]);
    /* A wrong module path in a configuration file is silently ignored by OpenSSL. */
    if (!OSSL_PROVIDER_available(libctx, "kmsenv"))
        die("the provider kmsenv is not loaded");
    OSSL_PROVIDER_do_all(libctx, remember_ours, NULL);
    answer(provider != NULL, ", \"pid\": %ld", (long)getpid());
    while (fgets(line, sizeof(line), stdin) != NULL)
        run(line);
    if (libctx != NULL)
        OSSL_LIB_CTX_free(libctx);
    return 0;
}
