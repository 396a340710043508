#include "cli/transfer_local.h"

void kmsenv_crew_fail(const KMSENV_WORKER *w, const KMSENV_ERROR *err)
{
    KMSENV_CREW *c = w->crew;

    pthread_mutex_lock(&c->lock);
    if (!c->failed || w->number < c->failed_at) {
        c->err = *err;
        c->failed_at = w->number;
    }
    c->failed = 1;
    pthread_cond_broadcast(&c->may_read);
    pthread_cond_broadcast(&c->may_go_on);
    pthread_mutex_unlock(&c->lock);
}

int kmsenv_crew_begin_reading(KMSENV_CREW *c)
{
    int ok;

    pthread_mutex_lock(&c->lock);
    while (c->reading && !c->failed)
        pthread_cond_wait(&c->may_read, &c->lock);
    ok = !c->failed && !c->ended;
    c->reading = ok;
    pthread_mutex_unlock(&c->lock);
    return ok;
}

void kmsenv_crew_end_reading(KMSENV_CREW *c, int ended)
{
    pthread_mutex_lock(&c->lock);
    c->reading = 0;
    c->ended = ended;
    if (ended)
        pthread_cond_broadcast(&c->may_read);
    else
        pthread_cond_signal(&c->may_read);
    pthread_mutex_unlock(&c->lock);
}

int kmsenv_crew_begin_turn(KMSENV_CREW *c, uint64_t number)
{
    int ok;

    pthread_mutex_lock(&c->lock);
    while (c->turn != number && !c->failed)
        pthread_cond_wait(&c->may_go_on, &c->lock);
    ok = !c->failed;
    pthread_mutex_unlock(&c->lock);
    return ok;
}

void kmsenv_crew_end_turn(KMSENV_CREW *c)
{
    pthread_mutex_lock(&c->lock);
    c->turn++;
    pthread_cond_broadcast(&c->may_go_on);
    pthread_mutex_unlock(&c->lock);
}
