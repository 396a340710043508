#include <string.h>
#include <openssl/crypto.h>
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/inspect.h"
#include "cli/pem_decode.h"
#include "dek/data_key.h"
#include "envelope/header.h"
#include "envelope/sealed_key.h"
#include "envelope/segments.h"

enum { JSON = 1 };

/* What the size of the body says, without a key. */
static void measure_body(KMSENV_INSPECTED *m, uint64_t bytes)
{
    KMSENV_BODY body;

    kmsenv_body_measure(m->header.segment_bits, bytes, &body);
    m->body_known = 1;
    m->body_bytes = bytes;
    m->body_fault = body.fault;
    m->segments = body.segments;
    m->plaintext_bytes = body.plaintext;
}

static int parse_message(KMSENV_INSPECTED *m, const unsigned char *der, size_t total, KMSENV_ERROR *err)
{
    if (!kmsenv_header_parse(der, total, &m->header, err)
            || (m->key = kmsenv_data_key_parse(m->header.data_key, m->header.data_key_len, err)) == NULL)
        return 0;
    m->header_bytes = total;
    return 1;
}

static int read_message(KMSENV_INSPECTED *m, KMSENV_INPUT *in, KMSENV_ERROR *err)
{
    size_t total;

    if (!kmsenv_input_header(in, &total, err) || !parse_message(m, in->data, total, err))
        return 0;
    if (in->size_known && in->size >= total)
        measure_body(m, in->size - total);
    return 1;
}

/* --- PEM: files of a keyring, sealed keys ---------------------------------- */

static int parse_data_key(KMSENV_INSPECTED *m, const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    m->block = 0;
    return (m->key = kmsenv_data_key_parse(der, len, err)) != NULL;
}

static int parse_sealed_key(KMSENV_INSPECTED *m, const unsigned char *der, size_t len, KMSENV_ERROR *err)
{
    size_t total;

    if (!kmsenv_sealed_key_check(der, len, err) || kmsenv_header_length(der, len, &total, err) != 1 || !parse_message(m, der, total, err))
        return 0;
    measure_body(m, len - total);
    return 1;
}

typedef int PARSE(KMSENV_INSPECTED *m, const unsigned char *der, size_t len, KMSENV_ERROR *err);
static const struct { const char *label; PARSE *parse; } labels[] = {
    { KMSENV_PEM_DATA_KEY, parse_data_key }, { KMSENV_PEM_SEALED_KEY, parse_sealed_key }
};

static PARSE *parser_of(const char *label)
{
    size_t i;

    for (i = 0; i < sizeof(labels) / sizeof(labels[0]); i++)
        if (strcmp(label, labels[i].label) == 0)
            return labels[i].parse;
    return NULL;
}

/* The lines that seal-key writes above a sealed key. */
static void find_comment(KMSENV_INSPECTED *m, const KMSENV_INPUT *in, size_t block)
{
    static const char *const starts[] = { "Public-Key-SHA256: ", "Key: " };
    size_t at = block, from, i;

    for (i = 0; i < sizeof(starts) / sizeof(starts[0]) && at > 0; i++) {
        for (from = at - 1; from > 0 && in->data[from - 1] != '\n'; from--)
            ;
        if (at - from > strlen(starts[i]) && memcmp(in->data + from, starts[i], strlen(starts[i])) == 0)
            at = from;
    }
    m->comment = (const char *)in->data + at;
    m->comment_len = block - at;
}

/*
 * All blocks of ours. The first time over nothing is printed, so that what is damaged leaves no half of a result. *count: how
 * many there are. Other kinds of PEM are not decoded: they may be secret.
 */
static int inspect_blocks(const KMSENV_INPUT *in, const char *name, int print, int json, size_t *count, KMSENV_ERROR *err)
{
    size_t at = 0, number = 0, found = 0;
    KMSENV_PEM_BLOCK block;
    KMSENV_INSPECTED m;
    unsigned char *der;
    PARSE *parse;
    size_t len;
    int ok = 1;

    while (ok && kmsenv_pem_next(in->data, in->len, &at, &block)) {
        number++;
        if ((parse = parser_of(block.label)) == NULL)
            continue;
        m = (KMSENV_INSPECTED){ .name = name, .block = number, .line = block.line };
        find_comment(&m, in, block.start);
        ok = kmsenv_pem_decode(in->data, &block, &der, &len, err) && parse(&m, der, len, err);
        if (ok && print) {
            if (json && *count > 1)
                fputs(found == 0 ? "[\n" : ",\n", stdout);
            (json ? kmsenv_inspect_print_json : kmsenv_inspect_print_text)(&m);
        }
        found++;
        kmsenv_data_key_free(m.key);
        OPENSSL_free(der);
    }
    if (print && json && *count > 1)
        fputs("]\n", stdout);
    *count = found;
    return ok && (found > 0 || kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "PEM, but not of a kind shown here: \"%s\", \"%s\"",
                                                labels[0].label, labels[1].label));
}

/* Is it PEM, perhaps behind other text? Then all of it is read. A message begins with 0x30 and a byte that no text has. */
static int is_pem(KMSENV_INPUT *in, KMSENV_ERROR *err)
{
    KMSENV_PEM_BLOCK block;
    size_t at = 0;
    int r = in->base64 || in->salted ? 0 : kmsenv_input_need(in, 2, err);

    if (r <= 0 || (in->data[0] == 0x30 && in->data[1] >= 0x80))
        return r < 0 ? -1 : 0;
    if (kmsenv_input_need(in, KMSENV_INPUT_MAX, err) < 0)
        return -1;
    return kmsenv_pem_next(in->data, in->len, &at, &block);
}

static int inspect_input(KMSENV_INPUT *in, const char *name, int json, KMSENV_ERROR *err)
{
    KMSENV_INSPECTED m = { .name = name };
    size_t count = 0;
    int pem = is_pem(in, err), ok;

    if (pem != 0)
        return pem > 0 && inspect_blocks(in, name, 0, json, &count, err) && inspect_blocks(in, name, 1, json, &count, err);
    if ((ok = read_message(&m, in, err))) {
        m.base64 = in->base64;
        m.salt = in->salted ? in->salt : NULL;
        (json ? kmsenv_inspect_print_json : kmsenv_inspect_print_text)(&m);
    }
    kmsenv_data_key_free(m.key);
    return ok;
}

static int inspect(const char *path, int json)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_INPUT in;
    int status = KMSENV_EXIT_OK;

    if (!kmsenv_input_open(&in, path, &err) || !inspect_input(&in, path, json, &err)) {
        kmsenv_error_prefix(&err, "%s: ", strcmp(path, "-") == 0 ? "standard input" : path);
        status = kmsenv_cli_error(&err);
    }
    kmsenv_input_close(&in);
    return kmsenv_cli_finish(status);
}

static int run(int argc, char **argv)
{
    const KMSENV_COMMAND *self = &kmsenv_command_inspect;
    int option, status, json = 0;

    while ((option = kmsenv_cli_option(self, argc, argv, &status)) != -1)
        json = option == JSON;
    if (status != -1)
        return status;
    if (optind + 1 != argc)
        return kmsenv_cli_usage(self, "inspect: name one file, or - for standard input");
    return inspect(argv[optind], json);
}

static const struct option options[] = {
    { "json", no_argument, NULL, JSON },
    { NULL, 0, NULL, 0 }
};

const KMSENV_COMMAND kmsenv_command_inspect = {
    .name = "inspect",
    .synopsis = "[--json] FILE | -",
    .summary = "Show the header of a message or sealed key, or a data key of a keyring, without any KMS",
    .help = "  --json              as JSON, for programs\n"
            "Reads the header only. Nothing of it is verified: that takes the data key.\n"
            "Sealed keys and data keys are found in PEM files whatever else is in there.\n"
            "Messages in base64 (openssl enc -a) and behind the prefix of -pass are recognised.\n",
    .options = options,
    .run = run
};
