/*
 * Pass phrases of key files: asked for on the terminal by OpenSSL, which finds it even where standard input is a pipe, or from
 * a source in OpenSSL's notation: env:NAME, file:PATH, fd:NUMBER. Not pass:TEXT: other users see the arguments of a process.
 */
#ifndef KMSENV_CLI_PASSPHRASE_H
# define KMSENV_CLI_PASSPHRASE_H
# include <openssl/ui.h>
# include "core/error.h"

# define KMSENV_PASSPHRASE_MAX 1024

typedef struct kmsenv_passphrase_st {
    const char *option;            /* that gave the source, for errors */
    const char *what;              /* of which key, for the prompt */
    int verify;                    /* ask twice */
    char *text;                    /* secret memory; NULL: not known yet */
    int wanted;                    /* it was needed */
    int refused;                   /* and nobody gave one: OpenSSL tries more than once */
} KMSENV_PASSPHRASE;

/* source NULL: it will be asked for when it is needed. */
int kmsenv_passphrase_init(KMSENV_PASSPHRASE *p, const char *option, const char *source, const char *what, KMSENV_ERROR *err);
void kmsenv_passphrase_reset(KMSENV_PASSPHRASE *p);
/* Has p->text be known. */
int kmsenv_passphrase_get(KMSENV_PASSPHRASE *p, KMSENV_ERROR *err);
/* For functions of OpenSSL that may want it; userdata is the KMSENV_PASSPHRASE. UI_destroy_method() frees it. */
UI_METHOD *kmsenv_passphrase_ui(void);

#endif
