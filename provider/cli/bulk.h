/* What `kmsenv seal` and `kmsenv open` share: options, names, and the way from one file to another. */
#ifndef KMSENV_CLI_BULK_H
# define KMSENV_CLI_BULK_H
# include "cli/cli.h"
# include "cli/transfer.h"
# include "envelope/message.h"

typedef struct kmsenv_bulk_st KMSENV_BULK;
struct kmsenv_bulk_st {
    const KMSENV_COMMAND *command;
    int sealing;
    /* One file: opens the source (owned by the caller from then on), */
    int (*open)(KMSENV_BULK *b, const char *path, KMSENV_ERROR *err);
    /* and moves what is in it to the output. */
    int (*move)(KMSENV_BULK *b, KMSENV_ERROR *err);
    void (*close)(KMSENV_BULK *b);
    void *own;                       /* of these functions */

    /* options */
    const char *output;              /* NULL = beside each file; "-" = standard output */
    const char *profile, *context, *key_file, *data_key;
    const char *range;
    unsigned segment_bits;           /* 0 = not given */
    unsigned threads;                /* 0 = one per CPU */
    int force, keep, detached, stream, when;

    /* while running */
    KMSENV_MESSAGE *message;         /* one for all files: so they share the data key */
    const KMSENV_RUNTIME *runtime;
    KMSENV_SOURCE source;
    KMSENV_OUTPUT out;
    KMSENV_PROGRESS progress;
};

enum {
    KMSENV_BULK_OUTPUT = 'o', KMSENV_BULK_FORCE = 'f', KMSENV_BULK_QUIET = 'q',
    KMSENV_BULK_KEEP = 1, KMSENV_BULK_CONTEXT, KMSENV_BULK_KEY_FILE, KMSENV_BULK_THREADS, KMSENV_BULK_PROGRESS,
    KMSENV_BULK_PROFILE, KMSENV_BULK_DATA_KEY, KMSENV_BULK_DETACHED, KMSENV_BULK_SEGMENT_BITS, KMSENV_BULK_RANGE, KMSENV_BULK_STREAM
};

# define KMSENV_BULK_OPTIONS \
    { "output", required_argument, NULL, KMSENV_BULK_OUTPUT }, \
    { "force", no_argument, NULL, KMSENV_BULK_FORCE }, \
    { "keep", no_argument, NULL, KMSENV_BULK_KEEP }, \
    { "context", required_argument, NULL, KMSENV_BULK_CONTEXT }, \
    { "key-file", required_argument, NULL, KMSENV_BULK_KEY_FILE }, \
    { "threads", required_argument, NULL, KMSENV_BULK_THREADS }, \
    { "quiet", no_argument, NULL, KMSENV_BULK_QUIET }, \
    { "progress", no_argument, NULL, KMSENV_BULK_PROGRESS }

# define KMSENV_SUFFIX ".kms"

/* The whole command: options, then each file. b: zeros but for the first members. */
int kmsenv_bulk_run(KMSENV_BULK *b, int argc, char **argv);
/* A transfer of b's source to b's output, to be completed. */
KMSENV_TRANSFER kmsenv_bulk_transfer(KMSENV_BULK *b, KMSENV_SEGMENTS *segments);
/* bulk_keys.c: what the message is sealed or opened under. */
int kmsenv_bulk_set_keys(KMSENV_BULK *b, KMSENV_ERROR *err);

#endif
