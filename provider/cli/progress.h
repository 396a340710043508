/*
 * A line on standard error that says how far the work is: bar, bytes, rate, time left. It comes
 * after a second of work, if standard error is a terminal or it was asked for.
 */
#ifndef KMSENV_CLI_PROGRESS_H
# define KMSENV_CLI_PROGRESS_H
# include <stdatomic.h>
# include <stdint.h>

typedef struct kmsenv_progress_st {
    int shown;                   /* may it be shown at all */
    _Atomic uint64_t done;       /* bytes, counted by any thread */
    uint64_t total;              /* bytes of all files, 0 = not known */
    unsigned file, files;        /* of how many; from 1 */
    const char *name;            /* of the file at work */
    uint64_t started_ms;
    uint64_t drawn_ms;           /* when it was drawn last */
    int drawn;                   /* something is on the line now */
} KMSENV_PROGRESS;

enum { KMSENV_PROGRESS_AUTO, KMSENV_PROGRESS_NEVER, KMSENV_PROGRESS_ALWAYS };

void kmsenv_progress_start(KMSENV_PROGRESS *p, int when, uint64_t total, unsigned files);
/* Draws the line, if it is time for it. */
void kmsenv_progress_draw(KMSENV_PROGRESS *p);
/* Clears the line: before other words on standard error, and at the end. */
void kmsenv_progress_clear(KMSENV_PROGRESS *p);
/* A line for these figures into out, at most width columns. For the drawing, and for tests. */
void kmsenv_progress_line(const KMSENV_PROGRESS *p, uint64_t done, uint64_t elapsed_ms, unsigned width, char *out, size_t room);

#endif
