/* What of ours is in a file: a message, a sealed key or a data key. Private keys of other kinds are not read. */
#ifndef KMSENV_CLI_FOUND_H
# define KMSENV_CLI_FOUND_H
# include <stddef.h>
# include "core/error.h"
# include "dek/data_key.h"

# define KMSENV_PEM_BLOCK_MAX 262144    /* bytes of a PEM file that are looked at */

typedef struct kmsenv_found_st {
    const char *kind;              /* "message", "sealed key", "data key"; NULL = nothing of ours */
    KMSENV_DATA_KEY *key;
    unsigned char *der;            /* DataKey */
    size_t der_len;
    unsigned char *sealed;         /* a sealed key, whole and well-formed; NULL for the other kinds */
    size_t sealed_len;
} KMSENV_FOUND;

/*
 * named: by the user. It may be a link then, and have text before a PEM block. 1 with *found, whose kind is NULL if there is nothing of ours; 0 with
 * err if the file cannot be read, or what is ours in it is damaged. To be reset in any case. Only regular files are opened
 * for more than a look.
 */
int kmsenv_found_look(KMSENV_FOUND *found, const char *path, int named, KMSENV_ERROR *err);
void kmsenv_found_reset(KMSENV_FOUND *found);

#endif
