/* Everything outside of itself that a configuration makes the provider use: files, and the network. */
#ifndef KMSENV_CLI_NEEDS_H
# define KMSENV_CLI_NEEDS_H
# include <stddef.h>
# include "cli/installation.h"

# define KMSENV_NEEDS_MAX 128

typedef enum kmsenv_need_kind_en {
    KMSENV_NEED_READ,         /* a file */
    KMSENV_NEED_MODULE,       /* a file that is mapped to be executed */
    KMSENV_NEED_DIRECTORY,    /* all the files in it */
    KMSENV_NEED_APPEND        /* a file, made if it is not there */
} KMSENV_NEED_KIND;

typedef struct kmsenv_needs_st {
    size_t count;
    struct {
        KMSENV_NEED_KIND kind;
        char *path;
        const char *what;     /* "the module", or the name of a setting. Static */
    } need[KMSENV_NEEDS_MAX];
    int network;              /* a KMS in the network */
    int pkcs11;
} KMSENV_NEEDS;

/* root: as in kmsenv_installation_open(). To be reset. */
void kmsenv_needs_collect(KMSENV_NEEDS *needs, const KMSENV_INSTALLATION *in, const char *root);
void kmsenv_needs_reset(KMSENV_NEEDS *needs);
/* Is path the same as the directory or file `top`, or below it? */
int kmsenv_path_is_below(const char *path, const char *top);
/*
 * What keeps this process from using a path: "", or the first directory or file on its way that it may not use, with mode
 * and owner, or that is not there. Returns out.
 */
const char *kmsenv_path_obstacle(const char *path, KMSENV_NEED_KIND kind, char *out, size_t room);

#endif
