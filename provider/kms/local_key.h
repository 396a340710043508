/*
 * The local master key file: one PEM block per version, the newest last.
 *
 *   -----BEGIN KMSENV LOCAL MASTER KEY-----
 *   Key-Id: <32 lower-case hex digits, the same in all blocks>
 *   Version: <decimal, larger than that of the block before>
 *   Created: <YYYY-MM-DDTHH:MM:SSZ>
 *   <empty line>
 *   <base64 of the 32 key bytes: one line of 44 characters>
 *   -----END KMSENV LOCAL MASTER KEY-----
 *
 * Between blocks there may be empty lines and lines that start with '#'. The file is read
 * strictly: what is not exactly this is an error that names the line. It must be a regular file
 * of at most 64 KiB that belongs to the process's effective user or to root (root itself may use
 * anyone's) and that nobody but its owner may read or write. A symbolic link is followed (configuration management and mounted
 * secrets use them): what counts is the file it leads to.
 */
#ifndef KMSENV_KMS_LOCAL_KEY_H
# define KMSENV_KMS_LOCAL_KEY_H
# include <stddef.h>
# include <stdint.h>
# include "core/crypto.h"
# include "core/error.h"

# define KMSENV_LOCAL_KEY_LEN      32
# define KMSENV_LOCAL_KEY_ID_LEN   32        /* characters */
# define KMSENV_LOCAL_FILE_MAX     65536

/* The contents of one key file at one time. Immutable; key bytes in secret memory. */
typedef struct kmsenv_local_key_st KMSENV_LOCAL_KEY;

/* Errors are KMSENV_R_KEY_FILE_INVALID. Does file I/O; call with no lock held. */
KMSENV_LOCAL_KEY *kmsenv_local_key_load(const char *path, KMSENV_ERROR *err);
/* The last reference frees. NULL is fine. */
void kmsenv_local_key_free(KMSENV_LOCAL_KEY *key);
void kmsenv_local_key_up_ref(KMSENV_LOCAL_KEY *key);
/* Is the file at path still the one that was loaded? No: it is another, changed, or gone. */
int kmsenv_local_key_is_current(const KMSENV_LOCAL_KEY *key, const char *path);

const char *kmsenv_local_key_id(const KMSENV_LOCAL_KEY *key);
size_t kmsenv_local_key_count(const KMSENV_LOCAL_KEY *key);
uint32_t kmsenv_local_key_newest(const KMSENV_LOCAL_KEY *key);
/* The 32 bytes of a version, borrowed; NULL if the file has no such version. */
const unsigned char *kmsenv_local_key_get0(const KMSENV_LOCAL_KEY *key, uint32_t version);

/*
 * local_key_write.c, for the command. Both leave the file whole or as it was, on disk when they
 * return 1, and never print or return key bytes.
 */
/* Makes a key file with version 1. An existing file of any kind is left alone: an error. */
int kmsenv_local_key_create(const char *path, KMSENV_CRYPTO *crypto, KMSENV_ERROR *err);
/* Adds a version. Owner and mode stay. Two rotations at the same time cannot lose a version: one is refused. */
int kmsenv_local_key_rotate(const char *path, KMSENV_CRYPTO *crypto, KMSENV_ERROR *err);

/*
 * Between the two files: opens the file and checks what kind it is, whose, and who may read it.
 * Returns the descriptor, -1 on error.
 */
struct stat;
int kmsenv_local_file_open(const char *path, struct stat *st, KMSENV_ERROR *err);

#endif
