#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/bulk.h"
#include "kmsenv/format.h"

/* --- options --------------------------------------------------------------- */

static int number(KMSENV_BULK *b, const char *what, unsigned min, unsigned max, unsigned *out)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(optarg, &end, 10);
    if (errno == 0 && end != optarg && *end == '\0' && n >= (long)min && n <= (long)max) {
        *out = (unsigned)n;
        return -1;
    }
    return kmsenv_cli_usage(b->command, "%s: --%s accepts %u to %u", b->command->name, what, min, max);
}

/* Returns -1, or an exit status. */
static int take_option(KMSENV_BULK *b, int option)
{
    switch (option) {
    case KMSENV_BULK_OUTPUT: b->output = optarg; break;
    case KMSENV_BULK_FORCE: b->force = 1; break;
    case KMSENV_BULK_KEEP: b->keep = 1; break;
    case KMSENV_BULK_PROFILE: b->profile = optarg; break;
    case KMSENV_BULK_CONTEXT: b->context = optarg; break;
    case KMSENV_BULK_KEY_FILE: b->key_file = optarg; break;
    case KMSENV_BULK_DATA_KEY: b->data_key = optarg; break;
    case KMSENV_BULK_DETACHED: b->detached = 1; break;
    case KMSENV_BULK_RANGE: b->range = optarg; break;
    case KMSENV_BULK_STREAM: b->stream = 1; break;
    case KMSENV_BULK_QUIET: b->when = KMSENV_PROGRESS_NEVER; break;
    case KMSENV_BULK_PROGRESS: b->when = KMSENV_PROGRESS_ALWAYS; break;
    case KMSENV_BULK_THREADS: return number(b, "threads", 1, KMSENV_THREADS_MAX, &b->threads);
    case KMSENV_BULK_SEGMENT_BITS:
        return number(b, "segment-bits", KMSENV_SEGMENT_BITS_MIN, KMSENV_SEGMENT_BITS_MAX, &b->segment_bits);
    default: break;
    }
    return -1;
}

static unsigned cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    return (unsigned)CPU_COUNT(&set) > KMSENV_THREADS_MAX ? KMSENV_THREADS_MAX : (unsigned)CPU_COUNT(&set);
}

/* Do options and operands go together? Returns -1, or an exit status. */
static int check(KMSENV_BULK *b, int files)
{
    if (files > 1 && (b->output != NULL || b->range != NULL))
        return kmsenv_cli_usage(b->command, "%s: %s goes with one file", b->command->name, b->output != NULL ? "--output" : "--range");
    if (b->keep && b->range != NULL)
        return kmsenv_cli_usage(b->command, "%s: --keep does not go with --range", b->command->name);
    if (b->data_key != NULL && (b->profile != NULL || b->context != NULL || b->detached))
        return kmsenv_cli_usage(b->command, "%s: --data-key does not go with --profile, --context and --detached: "
                                "the data key has its wraps", b->command->name);
    if (b->range != NULL && b->output == NULL)
        b->output = "-";
    return -1;
}

/* --- a file ---------------------------------------------------------------- */

/* Where the output of a file goes, to be freed. */
static char *output_name(const KMSENV_BULK *b, const char *path, KMSENV_ERROR *err)
{
    size_t len = strlen(path), suffix = sizeof(KMSENV_SUFFIX) - 1;
    char *name = NULL;

    if (b->output != NULL || strcmp(path, "-") == 0) {
        name = strdup(b->output != NULL ? b->output : "-");
    } else if (b->sealing) {
        if (asprintf(&name, "%s" KMSENV_SUFFIX, path) < 0)
            name = NULL;
    } else if (len > suffix && strcmp(path + len - suffix, KMSENV_SUFFIX) == 0 && path[len - suffix - 1] != '/') {
        name = strndup(path, len - suffix);
    } else {
        kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "its name does not end in " KMSENV_SUFFIX ": say with -o where the plaintext goes");
        return NULL;
    }
    if (name == NULL)
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a name");
    return name;
}

/* The permissions of a new file: as of any tool's; and nobody may read the plaintext who could not read the message. */
static mode_t mode_of(const KMSENV_BULK *b)
{
    mode_t mask = umask(0), mode;

    umask(mask);
    mode = 0666 & ~mask;
    if (b->keep)
        return b->source.st.st_mode & 0777;
    if (!b->sealing && S_ISREG(b->source.st.st_mode))
        mode &= b->source.st.st_mode | S_IRUSR | S_IWUSR;
    return mode;
}

static int to_output(KMSENV_BULK *b, const char *name, KMSENV_ERROR *err)
{
    int ok;

    if (!kmsenv_output_open(&b->out, name, &b->source.st, b->force, !b->sealing, err))
        return 0;
    if (b->keep && !(b->out.positional && S_ISREG(b->source.st.st_mode)))
        ok = kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "--keep needs a file on both sides: %s has no mode and times to keep",
                              b->out.positional ? b->source.name : b->out.name);
    else
        ok = kmsenv_message_init(b->message, b->sealing, NULL, err) && b->move(b, err)
            && kmsenv_output_commit(&b->out, mode_of(b), b->keep ? &b->source.st : NULL, err);
    kmsenv_output_discard(&b->out);
    return ok;
}

static int one_file(KMSENV_BULK *b, const char *path)
{
    const char *shown = strcmp(path, "-") == 0 ? "standard input" : path;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char *name = output_name(b, path, &err);
    int ok = 0;

    b->progress.file++;
    b->progress.name = shown;
    memset(&b->source, 0, sizeof(b->source));
    if (name != NULL) {
        ok = b->open(b, path, &err) && to_output(b, name, &err);
        kmsenv_source_reset(&b->source);
        b->close(b);
    }
    free(name);
    kmsenv_progress_clear(&b->progress);
    if (ok)
        return KMSENV_EXIT_OK;
    kmsenv_error_prefix(&err, "%s: ", shown);
    return kmsenv_cli_error(&err);
}

/* --- all files ------------------------------------------------------------- */

static int prepare(KMSENV_BULK *b, KMSENV_ERROR *err)
{
    KMSENV_PROVCTX *provctx = kmsenv_cli_own_provider(err);

    if (provctx == NULL || (b->runtime = provctx->runtime(provctx, err)) == NULL)
        return 0;
    /* No caller's buffer limits the header here. */
    b->message = kmsenv_message_new(b->runtime->deks, provctx->crypto, &provctx->counters, KMSENV_CEK_LEN_MAX,
                                    KMSENV_HEADER_MAX + KMSENV_TRAILER_LEN, b->runtime->segment_bits);
    if (b->message == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a message");
    return kmsenv_bulk_set_keys(b, err);
}

static uint64_t total_size(char **files, int count)
{
    uint64_t sum = 0;
    struct stat st;
    int i;

    for (i = 0; i < count; i++) {
        if (strcmp(files[i], "-") == 0 ? fstat(STDIN_FILENO, &st) != 0 : stat(files[i], &st) != 0)
            continue;
        if (!S_ISREG(st.st_mode))
            return 0;
        sum += (uint64_t)st.st_size;
    }
    return sum;
}

static int run_files(KMSENV_BULK *b, char **files, int count)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int i, status = KMSENV_EXIT_OK;

    if (!prepare(b, &err)) {
        status = kmsenv_cli_error(&err);
    } else {
        kmsenv_progress_start(&b->progress, b->when, b->range != NULL ? 0 : total_size(files, count), (unsigned)count);
        for (i = 0; i < count; i++)
            if (one_file(b, files[i]) != KMSENV_EXIT_OK)
                status = KMSENV_EXIT_FAILED;
    }
    kmsenv_message_free(b->message);
    return status;
}

int kmsenv_bulk_run(KMSENV_BULK *b, int argc, char **argv)
{
    static char dash[] = "-", *standard_input[] = { dash };
    int option, status, bad;

    while ((option = kmsenv_cli_option(b->command, argc, argv, &status)) != -1)
        if ((bad = take_option(b, option)) != -1)
            return bad;
    if (status != -1 || (status = check(b, argc - optind)) != -1)
        return status;
    if (b->threads == 0)
        b->threads = cpus();
    return optind == argc ? run_files(b, standard_input, 1) : run_files(b, argv + optind, argc - optind);
}

KMSENV_TRANSFER kmsenv_bulk_transfer(KMSENV_BULK *b, KMSENV_SEGMENTS *segments)
{
    KMSENV_TRANSFER t = {
        .segments = segments, .sealing = b->sealing, .in = &b->source, .out = &b->out, .plaintext = b->source.size,
        .to = UINT64_MAX, .threads = b->threads, .progress = &b->progress
    };

    return t;
}
