/*
 * Secret memory: locked against swapping (mlock), kept out of core dumps (MADV_DONTDUMP),
 * cleansed when freed. One process-wide heap of small size classes; it is not used on the
 * per-message path. If the kernel refuses to lock (RLIMIT_MEMLOCK) the memory is used all the
 * same and counted: see kmsenv_secret_unlocked().
 */
#ifndef KMSENV_CORE_SECRET_H
# define KMSENV_CORE_SECRET_H
# include <stddef.h>

/* Makes the heap's lock; to be called once before any other lock of ours is held. Maps nothing. */
void kmsenv_secret_prepare(void);
/* n bytes of zeros, n >= 1; NULL if there is no memory. */
void *kmsenv_secret_zalloc(size_t n);
/* Cleanses the whole block and returns it to the heap. NULL is fine. */
void kmsenv_secret_free(void *p);
/* Like realloc: contents kept, growth zeroed, the old block cleansed. On failure p stays valid. */
void *kmsenv_secret_realloc(void *p, size_t n);
char *kmsenv_secret_strndup(const char *s, size_t n);
/* Bytes of the heap that could not be locked. */
size_t kmsenv_secret_unlocked(void);

#endif
