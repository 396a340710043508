/* The bytes in a PEM block. */
#ifndef KMSENV_CLI_PEM_DECODE_H
# define KMSENV_CLI_PEM_DECODE_H
# include "cli/pem_text.h"
# include "core/error.h"

/*
 * Into *der (OPENSSL_free) and *len. A block with headers is refused: nobody is asked for a pass phrase. Not for secrets: they
 * would be in ordinary memory.
 */
int kmsenv_pem_decode(const unsigned char *text, const KMSENV_PEM_BLOCK *block, unsigned char **der, size_t *len, KMSENV_ERROR *err);

#endif
