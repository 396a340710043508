/* What `kmsenv inspect` found, and the two ways to print it (inspect_print.c). */
#ifndef KMSENV_CLI_INSPECT_H
# define KMSENV_CLI_INSPECT_H
# include <stddef.h>
# include <stdint.h>
# include "dek/data_key.h"
# include "envelope/header.h"

typedef struct kmsenv_inspected_st {
    const char *name;              /* the file, "-" for standard input */
    int base64;
    const unsigned char *salt;     /* of `openssl enc -pass`, 8 bytes; NULL = none */
    KMSENV_DATA_KEY *key;
    size_t block, line;            /* of a sealed key in PEM: number of its block and line in the file, from 1; block 0 = another thing */
    const char *comment;           /* of a sealed key: the lines above it that tell which key it is, comment_len bytes. Nothing protects them */
    size_t comment_len;
    size_t header_bytes;           /* 0 = a data key by itself, not a message: nothing below applies */
    KMSENV_HEADER header;
    int body_known;                /* the size of the body is: */
    uint64_t body_bytes, segments, plaintext_bytes;
    const char *body_fault;        /* why that size cannot be; NULL = it can */
} KMSENV_INSPECTED;

void kmsenv_inspect_print_text(const KMSENV_INSPECTED *m);
void kmsenv_inspect_print_json(const KMSENV_INSPECTED *m);

#endif
