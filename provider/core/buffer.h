/* A growable byte buffer, in ordinary or in secret memory. */
#ifndef KMSENV_CORE_BUFFER_H
# define KMSENV_CORE_BUFFER_H
# include <stddef.h>

typedef struct kmsenv_buffer_st {
    unsigned char *data;   /* always followed by a NUL that length does not count, once anything was added */
    size_t length;         /* bytes in use */
    size_t room;           /* bytes allocated */
    size_t limit;          /* length never exceeds this; an add beyond it fails */
    int secret;            /* secret memory: cleansed when it grows and when freed */
    int failed;            /* an add failed (memory or limit); further adds fail, so one check at the end is enough */
} KMSENV_BUFFER;

void kmsenv_buffer_init(KMSENV_BUFFER *b, size_t limit, int secret);
/* Frees (and cleanses if secret) the contents; the buffer can be used again. */
void kmsenv_buffer_reset(KMSENV_BUFFER *b);
int kmsenv_buffer_add(KMSENV_BUFFER *b, const void *data, size_t n);
int kmsenv_buffer_add_text(KMSENV_BUFFER *b, const char *text);
int kmsenv_buffer_printf(KMSENV_BUFFER *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The contents as text, "" when empty. Borrowed; valid until the next call on b. */
const char *kmsenv_buffer_text(const KMSENV_BUFFER *b);

#endif
