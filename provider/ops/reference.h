/*
 * What ciphers and MACs keyed by reference have in common. Each is an adapter around one of the inner provider: its functions
 * do all the work, except that a key that is a key reference (dek/deks.h) stands for the data key it names.
 */
#ifndef KMSENV_OPS_REFERENCE_H
# define KMSENV_OPS_REFERENCE_H
# include <stddef.h>
# include "compat/core_dispatch.h"
# include "ops/provctx.h"

/* Functions of an algorithm, and the end. */
# define KMSENV_REFERENCE_FUNCTIONS 18

/*
 * The DEK that a key stands for which is a reference (kmsenv_reference_is). *dek: the one that the caller got here before and
 * holds a reference to, or NULL; on success replaced by that of the bytes. Re-keying with the same reference costs no search.
 * Returns NULL with an error raised; then nothing has changed.
 */
const unsigned char *kmsenv_reference_resolve(KMSENV_PROVCTX *provctx, KMSENV_DEK **dek, const unsigned char *key, size_t keylen);

/*
 * Programs exist that ignore what init returns. After a refused reference such a one must not go on under the key that the
 * inner context had before, or under none. Init without a key is no way out of it. Raises the error; returns 0.
 */
int kmsenv_reference_refuse(const KMSENV_PROVCTX *provctx);

/*
 * Some functions get no context to tell the algorithm by, so each algorithm needs its own: as many as there may be
 * algorithms, which differ in a number. They get the caller's provider context, and so serve any number of library contexts.
 * X(h0) ... X(hf).
 */
# define KMSENV_REFERENCE_SIXTEEN(X, h)                                                                 \
    X(h##0) X(h##1) X(h##2) X(h##3) X(h##4) X(h##5) X(h##6) X(h##7)                                     \
    X(h##8) X(h##9) X(h##a) X(h##b) X(h##c) X(h##d) X(h##e) X(h##f)

#endif
