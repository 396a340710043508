/* Part of envelope_tool: bundles of records, options of a command, one message through EVP. */
#ifndef KMSENV_TEST_MESSAGE_H
# define KMSENV_TEST_MESSAGE_H
# include <stdio.h>
# include <openssl/evp.h>
# include "kmsenv/format.h"
# include "kmsenv/params.h"

/* Room that a message may need beyond its data, with few segments. */
# define OUT_SLACK (KMSENV_HEADER_MAX + 4096)

typedef struct bytes_st { unsigned char *data; size_t len; } BYTES;

typedef struct bundle_st { BYTES *record; size_t count; } BUNDLE;

typedef struct options_st {
    unsigned char key[KMSENV_CALLER_KEY_LEN];
    int has_key;
    BYTES aad, data_key;
    unsigned int bits;         /* 0 = not given */
    size_t chunk;              /* bytes per update; 0 = all at once */
    const char *cipher, *context, *profile, *wraps, *properties;
} OPTIONS;

extern OSSL_LIB_CTX *libctx;

/* Ends the process with status 2; also prints OpenSSL's errors. */
void die(const char *what) __attribute__((noreturn));
/* p, which must not be NULL. */
void *need(void *p);

/* Every record has room for one byte more. */
BUNDLE read_bundle(const char *path);
void free_bundle(BUNDLE *b);
/* data == NULL writes the mark of a failure. */
void write_record(FILE *out, const BYTES *b);

OPTIONS read_options(char **words, int count);
void free_options(OPTIONS *o);

/* Fetches, initialises, and gives the AAD. */
int start(EVP_CIPHER_CTX *ctx, const OPTIONS *o, int enc);
/* A whole message; out->data is malloced, NULL after a failure. */
int process(const OPTIONS *o, int enc, const BYTES *in, BYTES *out);

#endif
