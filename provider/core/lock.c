/*
 * The registry of locks is process-wide: it and the fork generation are, with the secret heap,
 * the libraries that are loaded when they are needed, and the PKCS#11 modules, the only mutable
 * globals of the module.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <openssl/crypto.h>
#include "core/lock.h"

struct kmsenv_lock_st {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int level;
    KMSENV_LOCK *next;
    KMSENV_LOCK **link;      /* what points to us */
};

#define CHILD_HOOKS_MAX 4

static struct {
    pthread_once_t once;
    pthread_mutex_t mutex;               /* guards the lists; taken before any lock */
    KMSENV_LOCK *list[KMSENV_LEVELS];
    void (*child_hook[CHILD_HOOKS_MAX])(void);
    atomic_uint generation;
} forks = { .once = PTHREAD_ONCE_INIT, .mutex = PTHREAD_MUTEX_INITIALIZER };

static void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

/* Held for some tens of instructions: a waiter that spins has it before one that sleeps was put to bed. */
static void mutex_init(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(mutex, &attr);
    pthread_mutexattr_destroy(&attr);
}

static void before_fork(void)
{
    KMSENV_LOCK *lock;
    int level;

    pthread_mutex_lock(&forks.mutex);
    for (level = 0; level < KMSENV_LEVELS; level++)
        for (lock = forks.list[level]; lock != NULL; lock = lock->next)
            pthread_mutex_lock(&lock->mutex);
}

static void release_all(void)
{
    KMSENV_LOCK *lock;
    int level;

    for (level = KMSENV_LEVELS - 1; level >= 0; level--)
        for (lock = forks.list[level]; lock != NULL; lock = lock->next)
            pthread_mutex_unlock(&lock->mutex);
    pthread_mutex_unlock(&forks.mutex);
}

static void after_fork_in_child(void)
{
    KMSENV_LOCK *lock;
    int i, level;

    atomic_fetch_add(&forks.generation, 1);
    /* The waiters of the parent do not exist here; a condition that counts them would never rest. */
    for (level = 0; level < KMSENV_LEVELS; level++)
        for (lock = forks.list[level]; lock != NULL; lock = lock->next)
            cond_init(&lock->changed);
    for (i = 0; i < CHILD_HOOKS_MAX && forks.child_hook[i] != NULL; i++)
        forks.child_hook[i]();
    release_all();
}

static void install_handlers(void)
{
    pthread_atfork(before_fork, release_all, after_fork_in_child);
}

unsigned kmsenv_fork_generation(void)
{
    return atomic_load_explicit(&forks.generation, memory_order_relaxed);
}

void kmsenv_fork_on_child(void (*fn)(void))
{
    int i;

    pthread_once(&forks.once, install_handlers);
    pthread_mutex_lock(&forks.mutex);
    for (i = 0; i < CHILD_HOOKS_MAX; i++) {
        if (forks.child_hook[i] == NULL)
            forks.child_hook[i] = fn;
        if (forks.child_hook[i] == fn)
            break;
    }
    pthread_mutex_unlock(&forks.mutex);
}

KMSENV_LOCK *kmsenv_lock_new(int level)
{
    KMSENV_LOCK *lock = OPENSSL_zalloc(sizeof(*lock));

    if (lock == NULL)
        return NULL;
    pthread_once(&forks.once, install_handlers);
    mutex_init(&lock->mutex);
    cond_init(&lock->changed);
    lock->level = level;
    pthread_mutex_lock(&forks.mutex);
    lock->next = forks.list[level];
    lock->link = &forks.list[level];
    if (lock->next != NULL)
        lock->next->link = &lock->next;
    forks.list[level] = lock;
    pthread_mutex_unlock(&forks.mutex);
    return lock;
}

void kmsenv_lock_free(KMSENV_LOCK *lock)
{
    if (lock == NULL)
        return;
    pthread_mutex_lock(&forks.mutex);
    *lock->link = lock->next;
    if (lock->next != NULL)
        lock->next->link = lock->link;
    pthread_mutex_unlock(&forks.mutex);
    pthread_cond_destroy(&lock->changed);
    pthread_mutex_destroy(&lock->mutex);
    OPENSSL_free(lock);
}

void kmsenv_lock_take(KMSENV_LOCK *lock)
{
    pthread_mutex_lock(&lock->mutex);
}

void kmsenv_lock_release(KMSENV_LOCK *lock)
{
    pthread_mutex_unlock(&lock->mutex);
}

int kmsenv_lock_wait(KMSENV_LOCK *lock, uint64_t deadline_ms)
{
    struct timespec t = { (time_t)(deadline_ms / 1000), (long)(deadline_ms % 1000) * 1000000 };

    return pthread_cond_timedwait(&lock->changed, &lock->mutex, &t) == 0;
}

void kmsenv_lock_wake(KMSENV_LOCK *lock)
{
    pthread_cond_broadcast(&lock->changed);
}
