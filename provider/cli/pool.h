/* Threads that work off a queue of bounded length. What is queued are elements of one size, copied in and out. */
#ifndef KMSENV_CLI_POOL_H
# define KMSENV_CLI_POOL_H
# include <stddef.h>

typedef struct kmsenv_pool_st KMSENV_POOL;

# define KMSENV_POOL_THREADS_MAX 64

/* NULL if not even one thread is to be had. work is called by several threads at once. */
KMSENV_POOL *kmsenv_pool_new(size_t threads, size_t element, void (*work)(void *arg, const void *element), void *arg);
/* Waits until everything that was added is done. NULL is fine. */
void kmsenv_pool_free(KMSENV_POOL *pool);
/* Waits while the queue is full. */
void kmsenv_pool_add(KMSENV_POOL *pool, const void *element);
/* Waits until everything that was added is done. */
void kmsenv_pool_wait(KMSENV_POOL *pool);

#endif
