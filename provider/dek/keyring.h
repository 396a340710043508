/*
 * The keyring: directories of wrapped data keys, one PEM file "<hex id>.pem" each, label
 * KMSENV_PEM_DATA_KEY. Nothing in it is secret. The first directory is the one written to.
 */
#ifndef KMSENV_DEK_KEYRING_H
# define KMSENV_DEK_KEYRING_H
# include "dek/data_key.h"

/* dirs: the setting `keyring`, directories separated by ':'; NULL = no keyring. Returns the data key of id, or NULL with err. */
KMSENV_DATA_KEY *kmsenv_keyring_load(const char *dirs, const unsigned char id[KMSENV_DEK_ID_LEN], KMSENV_ERROR *err);
/* The same by the first idlen bytes of the id, 8 or more: an error if two data keys begin so. */
KMSENV_DATA_KEY *kmsenv_keyring_find(const char *dirs, const unsigned char *id, size_t idlen, KMSENV_ERROR *err);
/* The data key in a file of that format, wherever it is and whatever its id. */
KMSENV_DATA_KEY *kmsenv_keyring_read(const char *path, KMSENV_ERROR *err);
/* The ids of all data keys, sorted, each once: *ids is OPENSSL_free()d by the caller, NULL if there are none. */
int kmsenv_keyring_list(const char *dirs, unsigned char (**ids)[KMSENV_DEK_ID_LEN], size_t *count, KMSENV_ERROR *err);
/* The id in a file's name. 0 if it is not the name of a data key's file, which is in lower case. */
int kmsenv_keyring_id_of_name(const char *name, unsigned char id[KMSENV_DEK_ID_LEN]);
/* Writes der (a DataKey with its wraps) as a new file, whole or not at all. A file of that id already there is left alone: success. */
int kmsenv_keyring_store(const char *dirs, const unsigned char id[KMSENV_DEK_ID_LEN],
                         const unsigned char *der, size_t len, KMSENV_ERROR *err);

#endif
