/* What the files of `kmsenv rewrap` share: one run, and one file of it. */
#ifndef KMSENV_CLI_REWRAP_H
# define KMSENV_CLI_REWRAP_H
# include "cli/replace.h"
# include "core/buffer.h"
# include "dek/rewrap.h"

enum kmsenv_rewrap_outcome {
    KMSENV_REWRAP_DONE, KMSENV_REWRAP_UNCHANGED, KMSENV_REWRAP_FAILED, KMSENV_REWRAP_SKIPPED, KMSENV_REWRAP_OUTCOMES
};

/* The same for all files of a run. */
typedef struct kmsenv_rewrap_run_st {
    KMSENV_REWRAP *rewrap;
    int dry_run;
} KMSENV_REWRAP_RUN;

/* One file. */
typedef struct kmsenv_rewrap_item_st {
    const KMSENV_REWRAP_RUN *run;
    KMSENV_REPLACE file;
    const unsigned char *id;           /* a keyring's file, and its data key must be this one; NULL = any */
    int outcome;                       /* of its data keys, the first that is in enum kmsenv_rewrap_outcome */
    size_t in_kms, here, kept;         /* wraps */
    KMSENV_BUFFER story;               /* for people: what was done to each wrap, or why nothing */
} KMSENV_REWRAP_ITEM;

/* Does all there is to do for the open item->file. 0 with err: the file is as it was. */
int kmsenv_rewrap_file(KMSENV_REWRAP_ITEM *item, KMSENV_ERROR *err);

/*
 * For the kinds of content. The new form of what is in (memory or file) into *out (OPENSSL_free) and *outlen; *out is NULL
 * if it stays as it is, and item->outcome says why.
 */
int kmsenv_rewrap_data_key(KMSENV_REWRAP_ITEM *item, const unsigned char *der, size_t len, unsigned char **out, size_t *outlen,
                           KMSENV_ERROR *err);
/* A header of exactly len bytes. */
int kmsenv_rewrap_header(KMSENV_REWRAP_ITEM *item, const unsigned char *header, size_t len, unsigned char **out, size_t *outlen,
                         KMSENV_ERROR *err);
/* A message that begins at `at` in item->file, header bytes long up to its body. */
int kmsenv_rewrap_message(KMSENV_REWRAP_ITEM *item, size_t at, size_t header, KMSENV_ERROR *err);
/* Text with PEM blocks, the whole of item->file. */
int kmsenv_rewrap_text(KMSENV_REWRAP_ITEM *item, KMSENV_ERROR *err);

#endif
