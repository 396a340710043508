#include <stdlib.h>
#include "cli/transfer.h"

#define PIECE  262144
#define ROOM   (PIECE + KMSENV_HEADER_MAX + 1024)    /* the header comes out with the first piece or with final */

typedef struct stream_st {
    KMSENV_MESSAGE *message;
    KMSENV_OUTPUT *out;
    uint64_t written;
    unsigned char in[PIECE], made[ROOM];
} STREAM;

static int put(STREAM *s, size_t n, KMSENV_ERROR *err)
{
    int ok = s->out->positional ? kmsenv_output_write_at(s->out, s->written, s->made, n, err)
                                : kmsenv_output_write(s->out, s->made, n, err);

    s->written += n;
    return ok;
}

static int pump(STREAM *s, KMSENV_SOURCE *in, KMSENV_PROGRESS *progress, KMSENV_ERROR *err)
{
    size_t got, made;
    int ended = 0;

    while (!ended) {
        if (!kmsenv_source_read(in, s->in, PIECE, &got, &ended, err)
                || !kmsenv_message_update(s->message, s->made, &made, ROOM, s->in, got, err)
                || !put(s, made, err))
            return 0;
        progress->done += got;
        kmsenv_progress_draw(progress);
    }
    return kmsenv_message_final(s->message, s->made, &made, ROOM, err) && put(s, made, err);
}

int kmsenv_transfer_stream(KMSENV_MESSAGE *m, const unsigned char *header, size_t len, KMSENV_SOURCE *in, KMSENV_OUTPUT *out,
                           KMSENV_PROGRESS *progress, KMSENV_ERROR *err)
{
    STREAM *s = malloc(sizeof(*s));
    size_t made;
    int ok;

    if (s == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a stream");
    s->message = m;
    s->out = out;
    s->written = 0;
    ok = (len == 0 || kmsenv_message_update(m, s->made, &made, ROOM, header, len, err)) && pump(s, in, progress, err);
    free(s);
    return ok;
}
