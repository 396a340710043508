#include <pthread.h>
#include <string.h>
#include <openssl/crypto.h>
#include "cli/pool.h"
#include "core/clock.h"
#include "core/lock.h"

#define QUEUE_PER_THREAD 4
#define WAIT_MS          60000     /* then a waiter looks again */

struct kmsenv_pool_st {
    void (*work)(void *arg, const void *element);
    void *arg;
    size_t element, threads, room;
    pthread_t thread[KMSENV_POOL_THREADS_MAX];
    KMSENV_LOCK *lock;               /* of what follows: */
    unsigned char *queue;            /* a ring of room elements */
    size_t first, count, busy;       /* busy: elements that a thread has taken and not done with */
    int closed;
};

/* The next element into out. 0 when there will be none. */
static int take(KMSENV_POOL *p, void *out)
{
    int taken;

    kmsenv_lock_take(p->lock);
    while (p->count == 0 && !p->closed)
        kmsenv_lock_wait(p->lock, kmsenv_clock_ms() + WAIT_MS);
    taken = p->count > 0;
    if (taken) {
        memcpy(out, p->queue + p->first * p->element, p->element);
        p->first = (p->first + 1) % p->room;
        p->count--;
        p->busy++;
        kmsenv_lock_wake(p->lock);
    }
    kmsenv_lock_release(p->lock);
    return taken;
}

static void *run(void *pool)
{
    KMSENV_POOL *p = pool;
    void *element = OPENSSL_malloc(p->element);

    while (element != NULL && take(p, element)) {
        p->work(p->arg, element);
        kmsenv_lock_take(p->lock);
        p->busy--;
        kmsenv_lock_wake(p->lock);
        kmsenv_lock_release(p->lock);
    }
    OPENSSL_free(element);
    return NULL;
}

KMSENV_POOL *kmsenv_pool_new(size_t threads, size_t element, void (*work)(void *arg, const void *element), void *arg)
{
    KMSENV_POOL *p = OPENSSL_zalloc(sizeof(*p));

    if (p == NULL)
        return NULL;
    p->work = work;
    p->arg = arg;
    p->element = element;
    p->room = threads * QUEUE_PER_THREAD;
    p->lock = kmsenv_lock_new(KMSENV_LEVEL_PROVIDER);
    p->queue = OPENSSL_malloc(p->room * element);
    while (p->lock != NULL && p->queue != NULL && p->threads < threads && p->threads < KMSENV_POOL_THREADS_MAX
           && pthread_create(&p->thread[p->threads], NULL, run, p) == 0)
        p->threads++;
    if (p->threads > 0)
        return p;
    kmsenv_pool_free(p);
    return NULL;
}

void kmsenv_pool_free(KMSENV_POOL *pool)
{
    if (pool == NULL)
        return;
    if (pool->lock != NULL) {
        kmsenv_lock_take(pool->lock);
        pool->closed = 1;
        kmsenv_lock_wake(pool->lock);
        kmsenv_lock_release(pool->lock);
    }
    while (pool->threads > 0)
        pthread_join(pool->thread[--pool->threads], NULL);
    kmsenv_lock_free(pool->lock);
    OPENSSL_free(pool->queue);
    OPENSSL_free(pool);
}

void kmsenv_pool_add(KMSENV_POOL *pool, const void *element)
{
    kmsenv_lock_take(pool->lock);
    while (pool->count == pool->room)
        kmsenv_lock_wait(pool->lock, kmsenv_clock_ms() + WAIT_MS);
    memcpy(pool->queue + (pool->first + pool->count) % pool->room * pool->element, element, pool->element);
    pool->count++;
    kmsenv_lock_wake(pool->lock);
    kmsenv_lock_release(pool->lock);
}

void kmsenv_pool_wait(KMSENV_POOL *pool)
{
    kmsenv_lock_take(pool->lock);
    while (pool->count > 0 || pool->busy > 0)
        kmsenv_lock_wait(pool->lock, kmsenv_clock_ms() + WAIT_MS);
    kmsenv_lock_release(pool->lock);
}
