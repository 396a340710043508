#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <openssl/async.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include "kms/apart.h"
#include "kms/guard.h"

#define WIPE (12 * 1024)   /* deeper than a request on a connection that is up goes */

__attribute__((noinline)) void kmsenv_apart_wipe_stack(void)
{
    unsigned char area[WIPE];

    OPENSSL_cleanse(area, sizeof(area));
}

typedef struct job_st {
    void (*run)(void *arg);
    void *arg;
} JOB;

static void *thread_main(void *arg)
{
    const JOB *job = arg;

    kmsenv_guard_enter();
    job->run(job->arg);
    kmsenv_guard_leave();
    kmsenv_apart_wipe_stack();
    return NULL;
}

int kmsenv_apart_run(void (*run)(void *arg), void *arg)
{
    JOB job = { run, arg };
    sigset_t all, before;
    pthread_t thread;
    int cancel, failed;

    sigfillset(&all);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);   /* the job is in this stack frame */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&thread, NULL, thread_main, &job);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed)
        pthread_join(thread, NULL);
    pthread_setcancelstate(cancel, NULL);
    return !failed;
}

/* Only SIGPIPE is kept off: whoever wants to interrupt the program must not have to wait for the network. */
int kmsenv_apart_run_here(void (*run)(void *arg), void *arg)
{
    static const struct timespec at_once = { 0, 0 };
    sigset_t pipe, pending, before;
    int cancel, saved = errno;

    if (ERR_peek_error() != 0 || ASYNC_get_current_job() != NULL)
        return 0;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigpending(&pending);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    kmsenv_guard_enter();
    run(arg);
    kmsenv_guard_leave();
    if (!sigismember(&pending, SIGPIPE))   /* one that a write here made is not the caller's */
        while (sigtimedwait(&pipe, NULL, &at_once) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_setcancelstate(cancel, NULL);
    ERR_clear_error();
    errno = saved;
    return 1;
}
