/*
 * Where the bytes of `kmsenv seal` and `kmsenv open` go. A new file gets its name when it is
 * complete and on disk, and not before: it is written without a name, or where the file system
 * cannot do that, under a temporary one that is removed on failure and by SIGINT, SIGTERM and SIGHUP.
 * Standard output, devices and FIFOs take the bytes in order, as they come.
 */
#ifndef KMSENV_CLI_OUTPUT_FILE_H
# define KMSENV_CLI_OUTPUT_FILE_H
# include <stdint.h>
# include <sys/stat.h>
# include "core/error.h"

typedef struct kmsenv_output_st {
    const char *name;        /* for people; borrowed */
    int fd;                  /* -1 = not open */
    int positional;          /* a new file: kmsenv_output_write_at() works; otherwise kmsenv_output_write() does */
    int waits;               /* it takes bytes when somebody else is ready for them: a pipe */
    int force;               /* an existing file is replaced; a terminal gets anything */
    int guards_terminal;     /* it is a terminal, which shall not get control characters */
    char *path;              /* of the new file, symbolic links resolved */
    char *temporary;         /* its name until then; NULL = it has none */
} KMSENV_OUTPUT;

/*
 * path "-" = standard output. input: of the source, which must not be the same file. An existing file is refused
 * unless force. text: what is written may be text, and then a terminal may get it.
 */
int kmsenv_output_open(KMSENV_OUTPUT *o, const char *path, const struct stat *input, int force, int text, KMSENV_ERROR *err);
int kmsenv_output_write_at(KMSENV_OUTPUT *o, uint64_t offset, const unsigned char *p, size_t n, KMSENV_ERROR *err);
int kmsenv_output_write(KMSENV_OUTPUT *o, const unsigned char *p, size_t n, KMSENV_ERROR *err);
/* Complete: mode, on request owner (if allowed) and times of like, then disk, then name. Frees like kmsenv_output_discard(). */
int kmsenv_output_commit(KMSENV_OUTPUT *o, mode_t mode, const struct stat *like, KMSENV_ERROR *err);
/* Nothing is left of a new file. Does nothing after a commit. */
void kmsenv_output_discard(KMSENV_OUTPUT *o);

#endif
