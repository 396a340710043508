/*
 * Other wraps for a data key that stays the same: under the newest version of a master key, under another master key, or
 * for another set of profiles. Where the service re-encrypts, the data key does not leave the KMS.
 *
 * First a plan is made, which asks nobody; then it is carried out, all of it or nothing. The context of a new wrap is that
 * of the wrap it was made from, because that is the one that the KMS has vouched for.
 */
#ifndef KMSENV_DEK_REWRAP_H
# define KMSENV_DEK_REWRAP_H
# include "dek/deks.h"

typedef struct kmsenv_rewrap_options_st {
    const char *profiles;      /* names, separated by ','; NULL: each wrap is renewed by the profile that answers for it, others stay */
    int add;                   /* the wraps of these profiles are added to the others, instead of replacing them */
    int force;                 /* also where these profiles' wraps are there already */
    int verify;                /* each new wrap is unwrapped and compared with the id before it counts */
    int in_kms;                /* no data key may come into this process: where it would have to, that is an error */
    void (*pace)(void *arg);   /* called before each operation of a KMS, with no lock held; NULL = not */
    void *pace_arg;
} KMSENV_REWRAP_OPTIONS;

/* One wrap of the data key to be. */
# define KMSENV_REWRAP_ANY ((size_t)-1)
typedef struct kmsenv_rewrap_step_st {
    KMSENV_KMS *kms;           /* that makes it; NULL: an old one stays */
    size_t wrap;               /* the old one; KMSENV_REWRAP_ANY: whichever opens */
    int in_kms;                /* re-encrypted by the service; after kmsenv_rewrap_perform(): whether it was */
} KMSENV_REWRAP_STEP;

typedef struct kmsenv_rewrap_plan_st {
    size_t count;              /* 0: the wraps are as they should be, nothing is to be done */
    KMSENV_REWRAP_STEP step[KMSENV_WRAPS_MAX];
} KMSENV_REWRAP_PLAN;

/* May be used by several threads. */
typedef struct kmsenv_rewrap_st KMSENV_REWRAP;
KMSENV_REWRAP *kmsenv_rewrap_new(KMSENV_DEKS *deks, const KMSENV_REWRAP_OPTIONS *options, KMSENV_ERROR *err);
void kmsenv_rewrap_free(KMSENV_REWRAP *rewrap);

/* What is to be done for key, which has wraps. Asks no KMS; may read key files. */
int kmsenv_rewrap_plan(KMSENV_REWRAP *rewrap, const KMSENV_DATA_KEY *key, KMSENV_REWRAP_PLAN *plan, KMSENV_ERROR *err);
/* Does it: the DER of the new DataKey into *der (OPENSSL_free) and *len. */
int kmsenv_rewrap_perform(KMSENV_REWRAP *rewrap, const KMSENV_DATA_KEY *key, KMSENV_REWRAP_PLAN *plan,
                          unsigned char **der, size_t *len, KMSENV_ERROR *err);

#endif
