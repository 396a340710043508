/*
 * Another beginning for a file that exists, whole or not at all, whenever the machine stops.
 *
 * Usually a new file with the same owner, mode and extended attributes, which then takes the place of the old one; what
 * follows the beginning is shared with the old file (FICLONE) or copied by the kernel if the file system can. If the file
 * system cannot share blocks and the new beginning has the size of the old one, a large file is changed in place: the new
 * beginning is written to a journal beside it first, and whoever finds a journal finishes the work (rewrap_message.c).
 */
#ifndef KMSENV_CLI_REPLACE_H
# define KMSENV_CLI_REPLACE_H
# include <stdatomic.h>
# include <stddef.h>
# include <stdint.h>
# include <sys/stat.h>
# include "core/error.h"

/* What stands behind the file's name: an unfinished new file, and the journal. */
# define KMSENV_REPLACE_NEW     ".kmsenv-new"
# define KMSENV_REPLACE_JOURNAL ".kmsenv-header"
# define KMSENV_REPLACE_NAME_MAX 512

typedef struct kmsenv_replace_st {
    int dir;                            /* borrowed */
    const char *name;                   /* in dir; borrowed */
    int fd;                             /* for reading */
    int locked;                         /* nobody else is at work on the file */
    int sync_dir;                       /* set by the caller: else it syncs dir, once for many files */
    atomic_int *stop;                   /* the same: give up if it is not 0; NULL = never. Borrowed */
    struct stat st;
} KMSENV_REPLACE;

/* Opens and locks a regular file. A symbolic link is an error: errno is ELOOP then, and err is not filled. */
int kmsenv_replace_open(KMSENV_REPLACE *r, int dir, const char *name, KMSENV_ERROR *err);
void kmsenv_replace_close(KMSENV_REPLACE *r);
/* Exactly n bytes from `at`. */
int kmsenv_replace_read(const KMSENV_REPLACE *r, void *out, size_t n, uint64_t at, KMSENV_ERROR *err);
/* The file is then head, followed by what it has from tail_at on. body: that is the body of a message, so a journal may be used. */
int kmsenv_replace_commit(KMSENV_REPLACE *r, const unsigned char *head, size_t n, uint64_t tail_at, int body, KMSENV_ERROR *err);

/* The journal's bytes, OPENSSL_malloc()ed; *n = 0: there is none, or one of more than max bytes. */
int kmsenv_replace_read_journal(const KMSENV_REPLACE *r, size_t max, unsigned char **data, size_t *n, KMSENV_ERROR *err);
/* Writes the beginning in place that a journal holds, and removes the journal. data NULL: only removes it. */
int kmsenv_replace_finish(KMSENV_REPLACE *r, const unsigned char *data, size_t n, KMSENV_ERROR *err);

#endif
