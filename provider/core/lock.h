/*
 * Locks that survive fork(). Every lock of the module is made here and is taken, in order of
 * its level, by the handler that runs before fork(), so that what it protects is whole in the
 * child. A lock is held for a few instructions only: never across a callback, an EVP call into
 * the application's context, or the network.
 */
#ifndef KMSENV_CORE_LOCK_H
# define KMSENV_CORE_LOCK_H
# include <stdint.h>

typedef struct kmsenv_lock_st KMSENV_LOCK;   /* a mutex with a condition variable */

/* Levels: a thread that holds a lock may take another of a higher level only. */
enum kmsenv_lock_level {
    KMSENV_LEVEL_PROVIDER = 1, KMSENV_LEVEL_CACHE, KMSENV_LEVEL_DEK, KMSENV_LEVEL_KMS,
    KMSENV_LEVEL_HTTP, KMSENV_LEVEL_AUDIT, KMSENV_LEVEL_SECRET, KMSENV_LEVELS
};

KMSENV_LOCK *kmsenv_lock_new(int level);
void kmsenv_lock_free(KMSENV_LOCK *lock);
void kmsenv_lock_take(KMSENV_LOCK *lock);
void kmsenv_lock_release(KMSENV_LOCK *lock);
/* Waits for kmsenv_lock_wake(), at most until the monotonic deadline. Returns 0 when that has passed. */
int kmsenv_lock_wait(KMSENV_LOCK *lock, uint64_t deadline_ms);
void kmsenv_lock_wake(KMSENV_LOCK *lock);   /* all waiters */

/* How many fork()s lie between the first process and this one. State that other threads or sockets own is void when it changes. */
unsigned kmsenv_fork_generation(void);
/* Called by the child's handler with no lock held by others: must be async-signal-safe in spirit (no allocation). */
void kmsenv_fork_on_child(void (*fn)(void));

#endif
