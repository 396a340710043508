/* What the files of this room share about KMSENV_DEKS; not for other rooms. */
#ifndef KMSENV_DEK_DEKS_LOCAL_H
# define KMSENV_DEK_DEKS_LOCAL_H
# include "dek/cache.h"
# include "dek/deks.h"

# define KMSENV_PROFILES_MAX 16
# define KMSENV_NEW_DEK_LEN  32      /* bytes of the DEKs made for messages, whatever the AES size */

struct kmsenv_deks_st {
    const KMSENV_SECTION *section;
    KMSENV_SERVICES services;
    KMSENV_KMS *profile[KMSENV_PROFILES_MAX];
    size_t count;
    KMSENV_CACHE *cache;
    const char *keyring;             /* setting `keyring`, NULL = none */
    int reuse;                       /* setting `dek-reuse` */
    size_t min_wraps;                /* setting `min-wraps`, 0 = all */
    KMSENV_DEK_REQUEST *defaults;        /* what a message asks for that says nothing */
};

struct kmsenv_dek_request_st {
    KMSENV_DEKS *deks;
    size_t profile[KMSENV_PROFILES_MAX];     /* indices into deks->profile */
    size_t count;
    KMSENV_CONTEXT context;
    int has_context;                         /* context was given: it replaces the profiles' own */
    int detached;
    unsigned char *data_key;                 /* DER of a given DEK, NULL = make one */
    size_t data_key_len;
    const KMSENV_DEK *answer;                /* what was got for it last; only compared. NULL when it changes */
    unsigned char *name;                     /* bytes that name the answer in the cache */
    size_t name_len;
    uint64_t hash;
};

/* The context that a wrap of profile i gets. */
const KMSENV_CONTEXT *kmsenv_dek_request_context_for(const KMSENV_DEK_REQUEST *request, size_t i);
/* KMSENV_CACHE_LOADs: make.c (arg is a KMSENV_DEK_REQUEST), unwrap.c (arg is a KMSENV_UNWRAP). */
KMSENV_DEK *kmsenv_dek_make(void *request, KMSENV_ERROR *err);
typedef struct kmsenv_unwrap_st { KMSENV_DEKS *deks; const unsigned char *der; size_t len; } KMSENV_UNWRAP;
KMSENV_DEK *kmsenv_dek_unwrap(void *unwrap, KMSENV_ERROR *err);

#endif
