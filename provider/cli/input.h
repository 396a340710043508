/*
 * The bytes of a message in a file or on standard input, read no further than asked for, and the
 * two coats that `openssl enc` may have put around it: base64 (-a) and the "Salted__" prefix that
 * -pass and -k write.
 */
#ifndef KMSENV_CLI_INPUT_H
# define KMSENV_CLI_INPUT_H
# include <stddef.h>
# include <stdint.h>
# include "core/error.h"

# define KMSENV_INPUT_SALT_LEN 8

typedef struct kmsenv_input_st {
    int fd;
    unsigned char *data;          /* decoded bytes, without the coats */
    size_t len;
    size_t room;
    int base64;
    int ended;                    /* nothing follows */
    int salted;
    unsigned char salt[KMSENV_INPUT_SALT_LEN];
    int size_known;               /* a regular file without base64: */
    uint64_t size;                /* bytes of the message in it, read or not */
    unsigned char pending[8];     /* read ahead to recognise the coats, not yet in data */
    size_t pending_len;
} KMSENV_INPUT;

/* path "-" = standard input. Looks at the first bytes. 0 with err on failure. */
int kmsenv_input_open(KMSENV_INPUT *in, const char *path, KMSENV_ERROR *err);
void kmsenv_input_close(KMSENV_INPUT *in);
/* Has data hold at least n bytes (at most KMSENV_INPUT_MAX). 1 done, 0 the input ended before, -1 with err. */
int kmsenv_input_need(KMSENV_INPUT *in, size_t n, KMSENV_ERROR *err);
# define KMSENV_INPUT_MAX 1048576
/* Has data hold the header of a message, whose length goes into *total, and reads no further. */
int kmsenv_input_header(KMSENV_INPUT *in, size_t *total, KMSENV_ERROR *err);

#endif
