/* What rewrap.c and rewrap_plan.c share. */
#ifndef KMSENV_DEK_REWRAP_LOCAL_H
# define KMSENV_DEK_REWRAP_LOCAL_H
# include "core/lock.h"
# include "dek/deks_local.h"
# include "dek/rewrap.h"

# define KMSENV_REWRAP_REFUSED_MAX 64

struct kmsenv_rewrap_st {
    KMSENV_DEKS *deks;
    KMSENV_REWRAP_OPTIONS options;
    size_t target[KMSENV_PROFILES_MAX];    /* indices into deks->profile; those of options.profiles */
    size_t targets;
    KMSENV_LOCK *lock;                     /* of what follows: */
    /* Re-encryption that a service said it would not do: asking again for each of a million data keys would be of no use. */
    struct { const KMSENV_KMS *kms; char *key_id; } refused[KMSENV_REWRAP_REFUSED_MAX];
    size_t refusals;
};

/* Was kms remembered not to re-encrypt from the key of that id? */
int kmsenv_rewrap_is_refused(KMSENV_REWRAP *rewrap, const KMSENV_KMS *kms, const char *key_id);
void kmsenv_rewrap_note_refusal(KMSENV_REWRAP *rewrap, const KMSENV_KMS *kms, const char *key_id);

#endif
