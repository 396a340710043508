/*
 * The files that a configuration of OpenSSL consists of: itself and what it includes, down to the last. OpenSSL passes
 * over an include that it cannot open without a word, so somebody has to look.
 */
#ifndef KMSENV_CLI_CONF_FILES_H
# define KMSENV_CLI_CONF_FILES_H
# include <stddef.h>
# include <openssl/types.h>

# define KMSENV_CONF_FILES_MAX 64

typedef struct kmsenv_conf_files_st {
    size_t count;
    char *path[KMSENV_CONF_FILES_MAX];      /* as the configuration names them, whether they can be opened or not */
} KMSENV_CONF_FILES;

/*
 * root: where absolute paths begin, "" = at the root. text: gets all of it, with the included files in place of their
 * lines; may be NULL. 0 with errno if the first file cannot be read. The files are to be reset in any case.
 */
int kmsenv_conf_files_read(KMSENV_CONF_FILES *files, const char *root, const char *path, BIO *text);
void kmsenv_conf_files_reset(KMSENV_CONF_FILES *files);

#endif
