#include <pthread.h>
#include <signal.h>
#include "kms/apart.h"
#include "kms/guard.h"

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
