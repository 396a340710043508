/*
 * One message from a source to an output: the bulk of the work of `kmsenv seal` and `kmsenv open`.
 */
#ifndef KMSENV_CLI_TRANSFER_H
# define KMSENV_CLI_TRANSFER_H
# include "cli/output_file.h"
# include "cli/progress.h"
# include "cli/source.h"
# include "envelope/segments.h"

/*
 * What goes out in order, of a message being opened, is held back until its segment is verified. That is done in memory up
 * to this size; a larger segment is read twice.
 */
# define KMSENV_HELD_BITS    26
# define KMSENV_THREADS_MAX  64

typedef struct kmsenv_transfer_st {
    KMSENV_SEGMENTS *segments;
    int sealing;
    KMSENV_SOURCE *in;          /* plaintext; or segments, from the first one on */
    KMSENV_OUTPUT *out;
    uint64_t out_start;         /* sealing: bytes of the header, which is in out already */
    uint64_t plaintext;         /* bytes of it in all, if in is positional */
    uint64_t from, to;          /* opening: the bytes of the plaintext that go out; 0, UINT64_MAX = all */
    unsigned threads;
    KMSENV_PROGRESS *progress;
} KMSENV_TRANSFER;

/*
 * Segments by several threads. If in is not positional, 2^KMSENV_HELD_BITS is the largest segment. Opening: everything
 * that went out was verified, but for a positional out, whose bytes are good only if this returns 1.
 */
int kmsenv_transfer_run(const KMSENV_TRANSFER *t, KMSENV_ERROR *err);
/*
 * The stream's way, for one segment of any size from a source that is read once: what goes out is verified only when this
 * returns 1. header: what was read of a message to open already.
 */
int kmsenv_transfer_stream(KMSENV_MESSAGE *m, const unsigned char *header, size_t len, KMSENV_SOURCE *in, KMSENV_OUTPUT *out,
                           KMSENV_PROGRESS *progress, KMSENV_ERROR *err);

#endif
