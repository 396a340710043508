#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "cli/bulk.h"
#include "kmsenv/format.h"

/* Fits the cache of a CPU, and a part of a message is read in steps of it; costs 65 bytes per MiB. */
#define SEGMENT_BITS 18

static int open_plain(KMSENV_BULK *b, const char *path, KMSENV_ERROR *err)
{
    b->source.fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (b->source.fd < 0)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "cannot be opened: %s", strerror(errno));
    return kmsenv_source_init(&b->source, b->source.fd, b->progress.name, err);
}

static void close_plain(KMSENV_BULK *b)
{
    if (b->source.fd > STDERR_FILENO)
        close(b->source.fd);
}

/* --segment-bits, or the setting if it says something else than its default, which is for streams. */
static unsigned choose_bits(const KMSENV_BULK *b)
{
    if (b->segment_bits != 0)
        return b->segment_bits;
    return b->runtime->segment_bits != KMSENV_SEGMENT_BITS_MAX ? b->runtime->segment_bits : SEGMENT_BITS;
}

static int put_header(KMSENV_BULK *b, KMSENV_TRANSFER *t, KMSENV_ERROR *err)
{
    size_t len;
    const unsigned char *header = kmsenv_message_get0_header(b->message, &len);

    t->out_start = len;
    return b->out.positional ? kmsenv_output_write_at(&b->out, 0, header, len, err) : kmsenv_output_write(&b->out, header, len, err);
}

static int seal(KMSENV_BULK *b, KMSENV_ERROR *err)
{
    unsigned bits = choose_bits(b);
    KMSENV_SEGMENTS *segments;
    KMSENV_TRANSFER t;
    int ok;

    if (!kmsenv_message_set_segment_bits(b->message, bits, err))
        return 0;
    if (!b->source.positional && bits > KMSENV_HELD_BITS)
        return kmsenv_transfer_stream(b->message, NULL, 0, &b->source, &b->out, &b->progress, err);
    if ((segments = kmsenv_segments_new(b->message, NULL, 0, err)) == NULL)
        return 0;
    t = kmsenv_bulk_transfer(b, segments);
    ok = put_header(b, &t, err) && kmsenv_transfer_run(&t, err);
    kmsenv_segments_free(segments);
    return ok;
}

static int run(int argc, char **argv)
{
    KMSENV_BULK b = { .command = &kmsenv_command_seal, .sealing = 1, .open = open_plain, .move = seal, .close = close_plain };

    return kmsenv_bulk_run(&b, argc, argv);
}

static const struct option options[] = {
    KMSENV_BULK_OPTIONS,
    { "profile", required_argument, NULL, KMSENV_BULK_PROFILE },
    { "data-key", required_argument, NULL, KMSENV_BULK_DATA_KEY },
    { "detached", no_argument, NULL, KMSENV_BULK_DETACHED },
    { "segment-bits", required_argument, NULL, KMSENV_BULK_SEGMENT_BITS },
    { NULL, 0, NULL, 0 }
};

const KMSENV_COMMAND kmsenv_command_seal = {
    .name = "seal",
    .synopsis = "[OPTION...] [FILE...]",
    .summary = "Encrypt files, or standard input, as messages that openssl enc -d -kms-envelope reads",
    .help = "  --output OUT, -o    instead of FILE.kms; - is standard output\n"
            "  --force, -f         replace an existing file; write to a terminal\n"
            "  --keep              mode and times of FILE for the output, and its owner if root does it\n"
            "  --profile NAME,...  profiles that wrap the data key; the first generates it\n"
            "  --context A=B,...   encryption context, instead of the profiles' own\n"
            "  --key-file FILE     32 secret bytes, or 64 digits, that opening takes besides the KMS\n"
            "  --data-key KEY      an id or reference of the keyring, or a PEM file, instead of a new data key\n"
            "  --detached          write the wrapped data key into the keyring, not into the message\n"
            "  --segment-bits N    segments of 2^N bytes, 12 to 35; default 18\n"
            "  --threads N         1 to 64; default: one per CPU\n"
            "  --quiet, -q         no progress\n"
            "  --progress          progress also if standard error is no terminal\n"
            "Each FILE gets a FILE.kms beside it, when that is complete. FILE stays.\n"
            "Without FILE, or with -, standard input is sealed to standard output.\n",
    .options = options,
    .run = run
};
