/*
 * A small heap of locked pages. Blocks are powers of two from 64 bytes to 32 KiB, cut from
 * regions of 64 KiB; larger ones get pages of their own. A block starts with a header that
 * knows its size, so that free cleanses all of it. The lock is held for a list operation only.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "core/lock.h"
#include "core/secret.h"

#define REGION_SIZE   65536u
#define CLASS_MIN     6           /* 64 bytes */
#define CLASS_MAX     15          /* 32 KiB */
#define REGIONS_MAX   1024        /* 64 MiB of small blocks */

typedef struct block_st {
    size_t size;                  /* bytes of the block with this header; 0 never */
    size_t wanted;                /* bytes the caller asked for */
    struct block_st *next;        /* in a free list, or in the list of large blocks */
    struct block_st *prev;        /* large blocks only */
} BLOCK;

static struct {
    pthread_once_t once;
    KMSENV_LOCK *lock;
    BLOCK *free_list[CLASS_MAX + 1];
    void *region[REGIONS_MAX];
    size_t regions;
    BLOCK *large;
    atomic_size_t unlocked;
} heap = { .once = PTHREAD_ONCE_INIT };

static void lock_pages(void *p, size_t n)
{
    if (mlock(p, n) != 0)
        atomic_fetch_add(&heap.unlocked, n);
}

/* Locks on memory are not inherited by a child: take them again. */
static void relock_in_child(void)
{
    BLOCK *b;
    size_t i;

    atomic_store(&heap.unlocked, 0);
    for (i = 0; i < heap.regions; i++)
        lock_pages(heap.region[i], REGION_SIZE);
    for (b = heap.large; b != NULL; b = b->next)
        lock_pages(b, b->size);
}

static void heap_init(void)
{
    heap.lock = kmsenv_lock_new(KMSENV_LEVEL_SECRET);
    kmsenv_fork_on_child(relock_in_child);
}

static void *map_pages(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    madvise(p, n, MADV_DONTDUMP);
    lock_pages(p, n);
    return p;
}

static int class_of(size_t n)
{
    int c = CLASS_MIN;

    while (c <= CLASS_MAX && ((size_t)1 << c) < n)
        c++;
    return c;
}

/* Cuts a new region into blocks of one class. Called with the lock held. */
static int add_region(int c)
{
    size_t size = (size_t)1 << c, at;
    unsigned char *p;

    if (heap.regions == REGIONS_MAX || (p = map_pages(REGION_SIZE)) == NULL)
        return 0;
    heap.region[heap.regions++] = p;
    for (at = 0; at + size <= REGION_SIZE; at += size) {
        BLOCK *b = (BLOCK *)(void *)(p + at);

        b->size = size;
        b->next = heap.free_list[c];
        heap.free_list[c] = b;
    }
    return 1;
}

static BLOCK *take_small(int c)
{
    BLOCK *b = NULL;

    kmsenv_lock_take(heap.lock);
    if (heap.free_list[c] != NULL || add_region(c)) {
        b = heap.free_list[c];
        heap.free_list[c] = b->next;
    }
    kmsenv_lock_release(heap.lock);
    return b;
}

static BLOCK *take_large(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    BLOCK *b;

    n = (n + page - 1) / page * page;
    if ((b = map_pages(n)) == NULL)
        return NULL;
    b->size = n;
    kmsenv_lock_take(heap.lock);
    b->prev = NULL;
    b->next = heap.large;
    if (b->next != NULL)
        b->next->prev = b;
    heap.large = b;
    kmsenv_lock_release(heap.lock);
    return b;
}

void kmsenv_secret_prepare(void)
{
    pthread_once(&heap.once, heap_init);
}

void *kmsenv_secret_zalloc(size_t n)
{
    BLOCK *b;
    int c;

    if (n == 0 || n > SIZE_MAX / 2)
        return NULL;
    kmsenv_secret_prepare();
    if (heap.lock == NULL)
        return NULL;
    c = class_of(n + sizeof(BLOCK));
    b = c <= CLASS_MAX ? take_small(c) : take_large(n + sizeof(BLOCK));
    if (b == NULL)
        return NULL;
    b->wanted = n;
    memset(b + 1, 0, b->size - sizeof(*b));
    return b + 1;
}

static void free_large(BLOCK *b)
{
    kmsenv_lock_take(heap.lock);
    if (b->next != NULL)
        b->next->prev = b->prev;
    if (b->prev != NULL)
        b->prev->next = b->next;
    else
        heap.large = b->next;
    kmsenv_lock_release(heap.lock);
    munmap(b, b->size);
}

void kmsenv_secret_free(void *p)
{
    BLOCK *b;
    int c;

    if (p == NULL)
        return;
    b = (BLOCK *)p - 1;
    OPENSSL_cleanse(p, b->size - sizeof(*b));
    if (b->size > (size_t)1 << CLASS_MAX) {
        free_large(b);
        return;
    }
    c = class_of(b->size);
    kmsenv_lock_take(heap.lock);
    b->next = heap.free_list[c];
    heap.free_list[c] = b;
    kmsenv_lock_release(heap.lock);
}

void *kmsenv_secret_realloc(void *p, size_t n)
{
    BLOCK *b;
    void *q;

    if (p == NULL)
        return kmsenv_secret_zalloc(n);
    b = (BLOCK *)p - 1;
    if (n == 0 || n > SIZE_MAX / 2)
        return NULL;
    if (n <= b->size - sizeof(*b)) {
        if (n < b->wanted)
            OPENSSL_cleanse((unsigned char *)p + n, b->wanted - n);
        b->wanted = n;
        return p;
    }
    if ((q = kmsenv_secret_zalloc(n)) == NULL)
        return NULL;
    memcpy(q, p, b->wanted);
    kmsenv_secret_free(p);
    return q;
}

char *kmsenv_secret_strndup(const char *s, size_t n)
{
    char *copy = kmsenv_secret_zalloc(n + 1);

    if (copy != NULL)
        memcpy(copy, s, n);
    return copy;
}

size_t kmsenv_secret_unlocked(void)
{
    return atomic_load(&heap.unlocked);
}
