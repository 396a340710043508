/* What the files of a transfer share; not for others. */
#ifndef KMSENV_CLI_TRANSFER_LOCAL_H
# define KMSENV_CLI_TRANSFER_LOCAL_H
# include <pthread.h>
# include <stdatomic.h>
# include "cli/transfer.h"

# define KMSENV_PIECE 262144      /* bytes that go through at a time: they fit the cache of a CPU */

typedef struct kmsenv_crew_st {
    const KMSENV_TRANSFER *t;
    uint64_t full;            /* data bytes of a full segment */
    uint64_t count;           /* segments there are, if in is positional */
    uint64_t unit;            /* data bytes of the largest one */
    uint64_t first, end;      /* the segments wanted, the last one not included; UINT64_MAX = not known */
    int large;                /* segments are too large to be in memory as a whole: transfer_pieces.c */
    int whole;                /* they are in memory as a whole, because they wait there for something */
    int views;                /* they are not copied from the input */
    int emitting;             /* something goes out; otherwise it is only verified */
    KMSENV_SEGMENT *common;   /* large: the segment that all work on */
    unsigned workers;
    _Atomic uint64_t next;    /* the segment or piece that nobody has taken */
    pthread_mutex_t lock;     /* of the rest */
    pthread_cond_t may_read, may_go_on, finished;
    int reading;              /* somebody has the turn to read */
    int ended;                /* there is nothing more to read */
    uint64_t turn;            /* the segment to be written, or the piece to be sealed or opened, now */
    unsigned running;
    _Atomic int failed;
    uint64_t failed_at;       /* of several errors, that of the first segment is told */
    KMSENV_ERROR err;
} KMSENV_CREW;

typedef struct kmsenv_worker_st {
    KMSENV_CREW *crew;
    KMSENV_SEGMENT *segment;
    unsigned char *buffer;
    uint64_t number;          /* of the segment */
    uint64_t length;          /* data bytes of it */
    int last;
} KMSENV_WORKER;

/* transfer_turns.c. No lock is held between begin and end; begin returns 0 if there is nothing to do any more. */
int kmsenv_crew_begin_reading(KMSENV_CREW *c);
void kmsenv_crew_end_reading(KMSENV_CREW *c, int ended);
int kmsenv_crew_begin_turn(KMSENV_CREW *c, uint64_t number);
void kmsenv_crew_end_turn(KMSENV_CREW *c);
/* An error at w's segment: everybody stops. */
void kmsenv_crew_fail(const KMSENV_WORKER *w, const KMSENV_ERROR *err);

/* What a worker does until nothing is left; 0 with err, or without one if another worker has failed. */
int kmsenv_worker_do_segments(KMSENV_WORKER *w, KMSENV_ERROR *err);      /* transfer_segments.c */
int kmsenv_worker_do_pieces(KMSENV_WORKER *w, KMSENV_ERROR *err);        /* transfer_pieces.c */
/* Pieces of all segments wanted; of those before the first one. */
uint64_t kmsenv_crew_pieces(const KMSENV_CREW *c, uint64_t segments);

/* transfer_segments.c */
/* Which segment that is: its length, and whether it is the last. in is positional. */
void kmsenv_worker_locate(KMSENV_WORKER *w, uint64_t number);
/* Where in the input the segment is, and how many bytes. */
uint64_t kmsenv_worker_place(const KMSENV_WORKER *w, uint64_t *n);
/* out: of a segment being sealed, where its trailer goes; in: of one being opened, where it is. */
int kmsenv_worker_end_segment(const KMSENV_WORKER *w, KMSENV_SEGMENT *segment, unsigned char *out, const unsigned char *in, KMSENV_ERROR *err);
/* Puts out n bytes that are at this offset of the segment. */
int kmsenv_worker_put(const KMSENV_WORKER *w, uint64_t offset, const unsigned char *p, size_t n, KMSENV_ERROR *err);

#endif
