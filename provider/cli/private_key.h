/*
 * Files with a private key: plain, in any format that OpenSSL reads, and sealed. Their bytes, and the key as PKCS#8, are in
 * secret memory; only OpenSSL's own decoders copy them elsewhere, for as long as they work.
 */
#ifndef KMSENV_CLI_PRIVATE_KEY_H
# define KMSENV_CLI_PRIVATE_KEY_H
# include <openssl/evp.h>
# include "cli/output_file.h"
# include "cli/passphrase.h"
# include "cli/pem_text.h"
# include "core/buffer.h"
# include "core/error.h"
# include "kmsenv/format.h"

# define KMSENV_KEY_FILE_MAX (1024 * 1024)
# define KMSENV_PKCS8_MAX    (KMSENV_SEALED_KEY_MAX - KMSENV_HEADER_MAX)    /* 64 KiB; an RSA key of 16384 bits has 10 */

typedef struct kmsenv_key_file_st {
    const char *name;              /* for errors */
    KMSENV_BUFFER text;            /* the whole file */
    int is_pem;
    KMSENV_PEM_BLOCK block;        /* PEM: the key */
} KMSENV_KEY_FILE;

/* Nothing of this process goes into a core dump or to a debugger, and OpenSSL's own secure memory is there. Before keys are read. */
void kmsenv_private_key_protect(void);

/* path "-" is standard input. To be reset in any case. */
int kmsenv_key_file_read(KMSENV_KEY_FILE *file, const char *path, KMSENV_ERROR *err);
void kmsenv_key_file_reset(KMSENV_KEY_FILE *file);
/* Finds the one plain, or sealed, key in the file; file->block is it. Fails if there is none, or more than one; keep: or if it is not PEM. */
int kmsenv_key_file_find_plain(KMSENV_KEY_FILE *file, int keep, KMSENV_ERROR *err);
int kmsenv_key_file_find_sealed(KMSENV_KEY_FILE *file, int keep, KMSENV_ERROR *err);

/* The bytes of the sealed key that was found, a message in DER. */
int kmsenv_key_file_message(const KMSENV_KEY_FILE *file, KMSENV_BUFFER *message, KMSENV_ERROR *err);
/* Writes block, which takes the place of the key, and with keep what is around it in the file, too; and commits out, with mode 0600. */
int kmsenv_key_file_write(const KMSENV_KEY_FILE *file, int keep, const KMSENV_BUFFER *block, KMSENV_OUTPUT *out, KMSENV_ERROR *err);

/* The plain key that was found, as PKCS#8 (PrivateKeyInfo), into der, which is secret; and *about, lines that tell which key it is. */
int kmsenv_private_key_load(const KMSENV_KEY_FILE *file, KMSENV_PASSPHRASE *pass, KMSENV_BUFFER *der, KMSENV_BUFFER *about, KMSENV_ERROR *err);
/* Is it PKCS#8 of a key that OpenSSL can use? */
int kmsenv_private_key_check(const KMSENV_BUFFER *der, KMSENV_ERROR *err);
/* Adds the PEM of the key, encrypted if there is a pass phrase. */
int kmsenv_private_key_add_pem(KMSENV_BUFFER *out, const KMSENV_BUFFER *der, KMSENV_PASSPHRASE *pass, KMSENV_ERROR *err);

#endif
