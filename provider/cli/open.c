#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/bulk.h"
#include "cli/input.h"
#include "envelope/header.h"
#include "kmsenv/format.h"

typedef struct sealed_st {
    KMSENV_INPUT input;
    size_t header_len;
    KMSENV_HEADER header;
} SEALED;

/* Opens the message as far as its header. */
static int open_sealed(KMSENV_BULK *b, const char *path, KMSENV_ERROR *err)
{
    SEALED *s = b->own;

    if (!kmsenv_input_open(&s->input, path, err))
        return 0;
    if (s->input.salted)
        return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "was made with a passphrase (openssl enc -pass): "
                                "open it with openssl enc -d -kms-envelope");
    if (s->input.base64)
        return kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "is base64 text: decode it first (openssl base64 -d)");
    if (!kmsenv_input_header(&s->input, &s->header_len, err)
            || !kmsenv_header_parse(s->input.data, s->header_len, &s->header, err)
            || !kmsenv_source_init(&b->source, s->input.fd, b->progress.name, err))
        return 0;
    if (!b->source.positional)
        b->source.start = s->header_len;
    return 1;
}

static void close_sealed(KMSENV_BULK *b)
{
    SEALED *s = b->own;

    kmsenv_input_close(&s->input);
}

/* --- ranges ---------------------------------------------------------------- */

/* Digits up to end, or to the end of the text. */
static int offset(const char *text, const char *end, uint64_t *out)
{
    char *stop;

    if (*text < '0' || *text > '9')
        return 0;
    errno = 0;
    *out = strtoull(text, &stop, 10);
    return errno == 0 && stop == end;
}

/* "A-B", "A-" or "-N", as in HTTP, of so many bytes. */
static int set_range(const char *text, uint64_t size, KMSENV_TRANSFER *t, KMSENV_ERROR *err)
{
    const char *dash = strchr(text, '-'), *end = text + strlen(text);
    uint64_t first = 0, last = size - 1;
    int ok = dash != NULL;

    if (ok && dash == text) {
        ok = offset(text + 1, end, &last) && last > 0;
        first = last > size ? 0 : size - last;
        last = size - 1;
    } else if (ok) {
        ok = offset(text, dash, &first) && (dash + 1 == end || (offset(dash + 1, end, &last) && first <= last));
    }
    if (!ok)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID,
                                "--range %.60s: accepted: A-B (both included, from 0), A- (to the end), -N (the last N bytes)", text);
    if (size == 0 || first >= size || last >= size)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "--range %.60s: the plaintext has %llu bytes", text, (unsigned long long)size);
    t->from = first;
    t->to = last + 1;
    return 1;
}

/* --- opening --------------------------------------------------------------- */

/* A segment that is too large to be held back, from where it cannot be read twice. */
static int open_stream(KMSENV_BULK *b, KMSENV_ERROR *err)
{
    const SEALED *s = b->own;

    if (!b->out.positional && !b->stream)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "has segments of 2^%u bytes, which cannot be verified before they go out "
                                "if the input is no file: name files, or with --stream take bytes that are not verified until the end",
                                s->header.segment_bits);
    return kmsenv_transfer_stream(b->message, s->input.data, s->header_len, &b->source, &b->out, &b->progress, err);
}

static int open_segments(KMSENV_BULK *b, KMSENV_ERROR *err)
{
    const SEALED *s = b->own;
    KMSENV_SEGMENTS *segments;
    KMSENV_TRANSFER t = kmsenv_bulk_transfer(b, NULL);
    KMSENV_BODY body;
    int ok;

    if (b->source.positional) {
        kmsenv_body_measure(s->header.segment_bits, b->source.size, &body);
        if (body.fault != NULL)
            return kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "after a header of %zu bytes there are %llu: %s", s->header_len,
                                    (unsigned long long)b->source.size, body.fault);
        t.plaintext = body.plaintext;
    }
    if (b->range != NULL && !set_range(b->range, t.plaintext, &t, err))
        return 0;
    if ((segments = kmsenv_segments_new(b->message, s->input.data, s->header_len, err)) == NULL)
        return 0;
    t.segments = segments;
    ok = kmsenv_transfer_run(&t, err);
    kmsenv_segments_free(segments);
    return ok;
}

static int open_message(KMSENV_BULK *b, KMSENV_ERROR *err)
{
    const SEALED *s = b->own;

    if (!b->source.positional && b->range != NULL)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "--range needs a file");
    if (!b->source.positional && s->header.segment_bits > KMSENV_HELD_BITS) {
        if (!kmsenv_source_gather(&b->source, ((size_t)1 << KMSENV_HELD_BITS) + KMSENV_TRAILER_LEN, err))
            return 0;
        if (!b->source.positional)
            return open_stream(b, err);
    }
    return open_segments(b, err);
}

static int run(int argc, char **argv)
{
    SEALED sealed = { .header_len = 0 };
    KMSENV_BULK b = { .command = &kmsenv_command_open, .open = open_sealed, .move = open_message, .close = close_sealed, .own = &sealed };

    return kmsenv_bulk_run(&b, argc, argv);
}

static const struct option options[] = {
    KMSENV_BULK_OPTIONS,
    { "range", required_argument, NULL, KMSENV_BULK_RANGE },
    { "stream", no_argument, NULL, KMSENV_BULK_STREAM },
    { NULL, 0, NULL, 0 }
};

const KMSENV_COMMAND kmsenv_command_open = {
    .name = "open",
    .synopsis = "[OPTION...] [FILE...]",
    .summary = "Decrypt messages of kmsenv seal or openssl enc; a file appears when all of it is verified",
    .help = "  --output OUT, -o    instead of FILE without .kms; - is standard output\n"
            "  --force, -f         replace an existing file; write anything to a terminal\n"
            "  --keep              mode and times of FILE for the output, and its owner if root does it\n"
            "  --range A-B         only these bytes of the plaintext, from 0 on, both included; also A- and -N;\n"
            "                      to standard output, if there is no --output\n"
            "  --context A=B,...   refuse messages whose encryption context has not these pairs\n"
            "  --key-file FILE     the 32 secret bytes, or 64 digits, that the message was sealed with\n"
            "  --stream            let bytes out before they are verified, where there is no other way\n"
            "  --threads N         1 to 64; default: one per CPU\n"
            "  --quiet, -q         no progress\n"
            "  --progress          progress also if standard error is no terminal\n"
            "Each FILE.kms gives a FILE beside it. Without FILE, or with -, standard input is opened to\n"
            "standard output: verified up to what came out; only the exit status says that it is all.\n",
    .options = options,
    .run = run
};
