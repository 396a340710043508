/*
 * A small reader and rewriter of DER, for tests that take a message apart and put it together
 * again wrongly. It shares nothing with the provider's own.
 */
#ifndef KMSENV_DER_H
# define KMSENV_DER_H
# include <stddef.h>
# include "kmsenv_test.h"

typedef struct kmsenv_der_st {
    size_t at;         /* of the tag */
    size_t body;       /* of the content */
    size_t end;        /* first byte after it */
} KMSENV_DER;

/* The element at `at`. Fails the test if there is none. */
int kmsenv_der_read(const KMSENV_TEST_BYTES *m, size_t at, KMSENV_DER *out);
/*
 * The element at the end of a path of child numbers; "" is the element at offset 0. In a message
 * "2" is the dataKey, "220" its first wrap, "33" the commitment. Fails the test if there is none.
 */
int kmsenv_der_find(const KMSENV_TEST_BYTES *m, const char *path, KMSENV_DER *out);
/* How many children the element has; 0 if its content is not made of elements. */
size_t kmsenv_der_count(const KMSENV_TEST_BYTES *m, const KMSENV_DER *e);
/* m with the element at path replaced by n bytes, the lengths around it made right, into out, which is reset first. */
int kmsenv_der_replace(const KMSENV_TEST_BYTES *m, const char *path, const unsigned char *with, size_t n,
                       KMSENV_TEST_BYTES *out);
/* Tag and shortest length of a content of n bytes into out (room for 5). Returns how many bytes that are. */
size_t kmsenv_der_head(unsigned char tag, size_t n, unsigned char out[5]);

#endif
