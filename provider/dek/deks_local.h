/* What the files of this room share about KMSENV_DEKS; not for other rooms. */
#ifndef KMSENV_DEK_DEKS_LOCAL_H
# define KMSENV_DEK_DEKS_LOCAL_H
# include "dek/cache.h"
# include "dek/deks.h"

# define KMSENV_PROFILES_MAX 16
# define KMSENV_NEW_DEK_LEN  32      /* bytes of the DEKs made for messages, whatever the AES size */

/* Which data key of the keyring a reference means, remembered for dek-max-age (references.c). Nothing in it is secret. */
typedef struct kmsenv_references_st KMSENV_REFERENCES;
KMSENV_REFERENCES *kmsenv_references_new(size_t entries, uint64_t max_age_ms);
void kmsenv_references_free(KMSENV_REFERENCES *references);

struct kmsenv_deks_st {
    const KMSENV_SECTION *section;
    KMSENV_SERVICES services;
    KMSENV_KMS *profile[KMSENV_PROFILES_MAX];
    size_t count;
    KMSENV_CACHE *cache;
    KMSENV_CACHE *sealed_keys;       /* data keys of sealed private keys, for `sealed-key-cache`; NULL: it is 0 */
    KMSENV_REFERENCES *references;
    const char *keyring;             /* setting `keyring`, NULL = none */
    int reuse;                       /* setting `dek-reuse` */
    size_t min_wraps;                /* setting `min-wraps`, 0 = all */
    int has_named_key;               /* setting `data-key`, as a reference */
    unsigned char named_key[KMSENV_REFERENCE_LEN];
    KMSENV_DEK_REQUEST *defaults;        /* what a message asks for that says nothing */
};

struct kmsenv_dek_request_st {
    KMSENV_DEKS *deks;
    size_t profile[KMSENV_PROFILES_MAX];     /* indices into deks->profile */
    size_t count;
    KMSENV_CONTEXT context;
    int has_context;                         /* context was given: it replaces the profiles' own */
    int has_profiles;                        /* profiles were given */
    size_t length;                           /* of a new DEK; 0 = KMSENV_NEW_DEK_LEN */
    int detached;
    int is_for_sealed_key;
    unsigned char *data_key;                 /* DER of a given DEK, NULL = make one */
    size_t data_key_len;
    const KMSENV_DEK *answer;                /* what was got for it last; only compared. NULL when it changes */
    unsigned char *name;                     /* bytes that name the answer in the cache */
    size_t name_len;
    uint64_t hash;
};

/* The error when there is no profile at all. Returns 0. */
int kmsenv_deks_no_kms(KMSENV_ERROR *err);
/* The DEK that a reference of len bytes names, of `least` bytes or more. have, and what is returned: dek/deks.h. */
KMSENV_DEK *kmsenv_deks_get_named(KMSENV_DEKS *deks, const unsigned char *reference, size_t len, size_t least,
                                  KMSENV_DEK *have, KMSENV_ERROR *err);
/* dek, if its length is as it should be; otherwise it is given back (unless it is have): NULL with err. dek may be NULL. */
KMSENV_DEK *kmsenv_deks_check_length(KMSENV_DEK *dek, KMSENV_DEK *have, size_t least, size_t most, KMSENV_ERROR *err);
/*
 * One deadline for all the KMS calls that one data key takes, however many profiles there are: the longest kms-timeout of
 * theirs. Each call may take an equal share of the time that is left, so that a KMS that is down costs the others no more.
 */
typedef struct kmsenv_budget_st { uint64_t longest_ms, end_ms; size_t calls; } KMSENV_BUDGET;
void kmsenv_budget_plan(KMSENV_BUDGET *budget, const KMSENV_KMS *kms);        /* a call that may be made */
uint64_t kmsenv_budget_take(KMSENV_BUDGET *budget, const KMSENV_KMS *kms);    /* it is made now: how many ms it may take, 0 = any */

/* The context that a wrap of profile i gets. */
const KMSENV_CONTEXT *kmsenv_dek_request_context_for(const KMSENV_DEK_REQUEST *request, size_t i);
/* KMSENV_CACHE_LOADs: make.c (arg is a KMSENV_DEK_REQUEST), unwrap.c (arg is a KMSENV_UNWRAP). */
KMSENV_DEK *kmsenv_dek_make(void *request, KMSENV_ERROR *err);
typedef struct kmsenv_unwrap_st { KMSENV_DEKS *deks; const unsigned char *der; size_t len; } KMSENV_UNWRAP;
KMSENV_DEK *kmsenv_dek_unwrap(void *unwrap, KMSENV_ERROR *err);
/* A new DEK, never a cached one: from a wrap that this profile answers for; or from any, *which then being the one that opened. */
KMSENV_DEK *kmsenv_dek_unwrap_one(KMSENV_DEKS *deks, KMSENV_KMS *kms, const KMSENV_DATA_KEY *key, const KMSENV_WRAP *wrap,
                                  KMSENV_ERROR *err);
KMSENV_DEK *kmsenv_dek_unwrap_any(KMSENV_DEKS *deks, const KMSENV_DATA_KEY *key, size_t *which, KMSENV_ERROR *err);
/* NO_USABLE_WRAP, naming the first wrap; or that there is no profile at all. Returns 0. */
int kmsenv_deks_no_profile(const KMSENV_DEKS *deks, const KMSENV_DATA_KEY *key, KMSENV_ERROR *err);

#endif
