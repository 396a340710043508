#include <string.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/inspect.h"
#include "dek/data_key.h"
#include "envelope/header.h"
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

static int read_message(KMSENV_INSPECTED *m, KMSENV_INPUT *in, KMSENV_ERROR *err)
{
    size_t total;

    if (!kmsenv_input_header(in, &total, err) || !kmsenv_header_parse(in->data, total, &m->header, err)
            || (m->key = kmsenv_data_key_parse(m->header.data_key, m->header.data_key_len, err)) == NULL)
        return 0;
    m->header_bytes = total;
    if (in->size_known && in->size >= total)
        measure_body(m, in->size - total);
    return 1;
}

/* A file of a keyring: PEM around a DataKey. */
static int read_keyring_file(KMSENV_INSPECTED *m, KMSENV_INPUT *in, KMSENV_ERROR *err)
{
    static const char begin[] = "-----BEGIN " KMSENV_PEM_DATA_KEY "-----";
    unsigned char *der = NULL;
    BIO *bio = NULL;
    long len = 0;
    int r = kmsenv_input_need(in, sizeof(begin) - 1, err);

    /* Other kinds of PEM are not read any further: they may be secret. */
    if (r == 0 || (r > 0 && memcmp(in->data, begin, sizeof(begin) - 1) != 0))
        return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "PEM, but not of the kind shown here: \"%s\"", KMSENV_PEM_DATA_KEY);
    if (r < 0 || kmsenv_input_need(in, KMSENV_INPUT_MAX, err) < 0)
        return 0;
    if ((bio = BIO_new_mem_buf(in->data, (int)in->len)) != NULL
            && PEM_bytes_read_bio(&der, &len, NULL, KMSENV_PEM_DATA_KEY, bio, NULL, NULL))
        m->key = kmsenv_data_key_parse(der, (size_t)len, err);
    else
        kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "the PEM block \"%s\" is damaged", KMSENV_PEM_DATA_KEY);
    OPENSSL_free(der);
    BIO_free(bio);
    return m->key != NULL;
}

static int inspect(const char *path, int json)
{
    static const char pem[] = "-----BEGIN ";
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_INSPECTED m = { .name = path };
    KMSENV_INPUT in;
    int ok = kmsenv_input_open(&in, path, &err), status = KMSENV_EXIT_OK;

    if (ok && in.len >= 8 && memcmp(in.data, pem, 8) == 0)
        ok = read_keyring_file(&m, &in, &err);
    else if (ok)
        ok = read_message(&m, &in, &err);
    if (ok) {
        m.base64 = in.base64;
        m.salt = in.salted ? in.salt : NULL;
        (json ? kmsenv_inspect_print_json : kmsenv_inspect_print_text)(&m);
    } else {
        kmsenv_error_prefix(&err, "%s: ", strcmp(path, "-") == 0 ? "standard input" : path);
        status = kmsenv_cli_error(&err);
    }
    kmsenv_data_key_free(m.key);
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
    .summary = "Show the header of a message, or a data key of a keyring, without any KMS",
    .help = "  --json              as JSON, for programs\n"
            "Reads the header only. Nothing of it is verified: that takes the data key.\n"
            "Messages in base64 (openssl enc -a) and behind the prefix of -pass are recognised.\n",
    .options = options,
    .run = run
};
