/* PEM blocks in a text as it is: where they are, and writing one. Nothing is decoded. */
#ifndef KMSENV_CLI_PEM_TEXT_H
# define KMSENV_CLI_PEM_TEXT_H
# include <stddef.h>
# include "core/buffer.h"

# define KMSENV_PEM_LABEL_MAX 80

typedef struct kmsenv_pem_block_st {
    char label[KMSENV_PEM_LABEL_MAX + 1];
    size_t start, end;             /* in the text, from its BEGIN to after the line of its END; end = 0: it has no END */
    size_t line;                   /* number of its first line, from 1 */
} KMSENV_PEM_BLOCK;

/*
 * The next block that begins at *at or later. 0 if there is none. *at is set to where to go on; it is 0 at first, and block is
 * what the call before made of it if it is not.
 */
int kmsenv_pem_next(const unsigned char *text, size_t n, size_t *at, KMSENV_PEM_BLOCK *block);
/* Adds a block to out; check out->failed. */
void kmsenv_pem_add(KMSENV_BUFFER *out, const char *label, const unsigned char *data, size_t n);

#endif
