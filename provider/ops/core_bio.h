/* Reading and writing the core's BIOs. */
#ifndef KMSENV_OPS_CORE_BIO_H
# define KMSENV_OPS_CORE_BIO_H
# include "core/buffer.h"
# include "ops/provctx.h"

/* Takes the functions out of the core's dispatch table. */
void kmsenv_core_bio_init(KMSENV_CORE_BIO *functions, const OSSL_DISPATCH *in);
/* All n bytes. */
int kmsenv_core_bio_write(const KMSENV_PROVCTX *provctx, OSSL_CORE_BIO *bio, const void *data, size_t n);
/*
 * What is left, if is_ours() says so by the first 64 bytes (fewer if there are no more): 1, and up to out->limit bytes are
 * in out; out->failed if there is more. Otherwise 0: it may be somebody's private key, of which no copy is made.
 */
int kmsenv_core_bio_read(const KMSENV_PROVCTX *provctx, OSSL_CORE_BIO *bio, int (*is_ours)(const unsigned char *p, size_t n),
                         KMSENV_BUFFER *out);
/*
 * The next PEM block. Returns 1 if its label is one of labels[0..count): *index says which, and the block, from its first
 * line to its last, is in out. Any other block is passed over, without being decoded: 0. So is the end of the input.
 */
int kmsenv_core_bio_pem(const KMSENV_PROVCTX *provctx, OSSL_CORE_BIO *bio, const char *const *labels, size_t count, size_t *index,
                        KMSENV_BUFFER *out);

#endif
