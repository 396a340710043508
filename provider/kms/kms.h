/*
 * The KMS room, as the rooms above see it, and the interface that a back end implements.
 * Adding a KMS: one file with a KMSENV_KMS_METHOD, one line in registry.c.
 *
 * A KMSENV_KMS is one profile's connection to its KMS. It may be used from many threads at
 * once. No function here is called with a lock of ours held.
 */
#ifndef KMSENV_KMS_KMS_H
# define KMSENV_KMS_KMS_H
# include <stddef.h>
# include <stdint.h>
# include "core/counters.h"
# include "core/crypto.h"
# include "core/error.h"
# include "core/settings.h"
# include "kms/context.h"

typedef struct kmsenv_kms_st KMSENV_KMS;
typedef struct kmsenv_audit_st KMSENV_AUDIT;

/* What a back end may use of the provider it lives in. All borrowed, valid for the KMS's life; counters, audit may be NULL. */
typedef struct kmsenv_services_st {
    KMSENV_CRYPTO *crypto;
    KMSENV_COUNTERS *counters;
    KMSENV_AUDIT *audit;
} KMSENV_SERVICES;

/* What a KMS made of a data key. Owned by the holder; release with kmsenv_blob_reset(). */
typedef struct kmsenv_blob_st {
    char *key_id;                  /* the CMK's id as the wrap records it; NULL in a back end's reply = the configured key-id */
    unsigned char *ciphertext;     /* opaque bytes, 1..KMSENV_CIPHERTEXT_MAX */
    size_t ciphertext_len;
    unsigned char *extra;          /* back-end data needed to unwrap; NULL, 0 if none; at most 4096 bytes */
    size_t extra_len;
} KMSENV_BLOB;
void kmsenv_blob_reset(KMSENV_BLOB *blob);

/* One operation: what goes in besides the data, and what comes back besides the result. */
typedef struct kmsenv_call_st {
    const KMSENV_CONTEXT *context;   /* encryption context, never NULL, maybe empty */
    uint64_t deadline_ms;            /* monotonic (core/clock.h); set by kms.c from `kms-timeout` */
    const char *dek_id_hex;          /* for the audit line, NULL if not known yet */
    KMSENV_ERROR *err;               /* filled on failure; its reason is the class of the error */
    char request_id[80];             /* out: the KMS's id of the request, "" if none */
    unsigned attempts;               /* out: requests sent */
} KMSENV_CALL;

/*
 * A back end. Functions return 1, or 0 with call->err filled. They do not log, count, keep
 * breakers or guard against re-entry: kms.c does that for all of them. Key bytes (dek, in of
 * encrypt, out of decrypt) are in secret memory of the caller and must not be copied elsewhere.
 */
typedef struct kmsenv_kms_method_st {
    const char *name;                  /* value of the setting `kms` and of Wrap.kms */
    const char *title;                 /* for people: "Tencent Cloud KMS" */
    const KMSENV_SETTING *settings;    /* settings of this kind of profile */
    int network;                       /* takes the settings of kms/http.h too */
    size_t plaintext_max;              /* bytes that encrypt accepts */
    int extra_is_hint;                 /* the service opens a ciphertext without what we put into `extra` */
    size_t wrap_room;                  /* bytes that a wrap is likely to take in a message's header, with key id and extra; 0 = 250 */

    /* Reads the settings only: no I/O, no fetch. */
    void *(*new)(const KMSENV_SECTION *section, const KMSENV_SERVICES *services, KMSENV_ERROR *err);
    void (*free)(void *kms);
    /* The CMK's id for matching a wrap against this profile; borrowed; may do file I/O but no network. NULL with err on failure. */
    const char *(*key_id)(void *kms, KMSENV_ERROR *err);
    /* Does a wrap's key_id name a CMK of this profile: 2 its key-id, 1 one of decrypt-keys, 0 neither? NULL: they are compared as text. */
    int (*matches)(void *kms, const char *key_id);
    /* A new data key of len bytes (16, 24, 32 or 64), made in the KMS. NULL: the service has none; RAND and encrypt are used. */
    int (*generate)(void *kms, KMSENV_CALL *call, size_t len, unsigned char *dek, KMSENV_BLOB *out);
    int (*encrypt)(void *kms, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out);
    /* *outlen: room on entry, length on return. A reply that is about another CMK than in->key_id is an error. */
    int (*decrypt)(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen);
    /*
     * Under the newest version of this profile's CMK, without the plaintext leaving the KMS. NULL: the service has none.
     * KMS_UNSUPPORTED: not for this key. in->key_id may name a CMK that this profile does not answer for.
     */
    int (*reencrypt)(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, KMSENV_BLOB *out);
    /* Could the service do that for a wrap with this key id and context, as far as is known without asking? NULL: yes, if there is reencrypt. */
    int (*may_reencrypt)(void *kms, const KMSENV_BLOB *in, const KMSENV_CONTEXT *context);
    /* Is the CMK there and usable? On success *state gets a word such as "Enabled". */
    int (*describe)(void *kms, KMSENV_CALL *call, char *state, size_t room);
} KMSENV_KMS_METHOD;

/* What every profile may contain, whatever its KMS: read by kms.c, and by the rooms above (kms, context). */
extern const KMSENV_SETTING kmsenv_profile_settings[];

/* registry.c */
const KMSENV_KMS_METHOD *kmsenv_kms_method_find(const char *name);
const KMSENV_KMS_METHOD *const *kmsenv_kms_methods(void);          /* NULL-terminated */
/* Gives a profile's section the tables that its kind accepts. */
int kmsenv_kms_add_tables(KMSENV_SECTION *section, const KMSENV_KMS_METHOD *method);

/* kms.c: guard against re-entry, deadline, circuit breaker, counters, audit; then the back end. The section must outlive the KMS. */
KMSENV_KMS *kmsenv_kms_new(const char *profile, const KMSENV_KMS_METHOD *method, const KMSENV_SECTION *section,
                           const KMSENV_SERVICES *services, KMSENV_ERROR *err);
void kmsenv_kms_free(KMSENV_KMS *kms);
const char *kmsenv_kms_profile(const KMSENV_KMS *kms);
const KMSENV_KMS_METHOD *kmsenv_kms_method(const KMSENV_KMS *kms);
/* The profile's own encryption context (setting `context`), maybe empty. Borrowed. */
const KMSENV_CONTEXT *kmsenv_kms_context(const KMSENV_KMS *kms);
/* The id of its CMK, as wraps name it; may read a file. NULL with err. Borrowed. */
const char *kmsenv_kms_own_key_id(KMSENV_KMS *kms, KMSENV_ERROR *err);
/*
 * Does this profile answer for a wrap of that kind and key id (its own key-id, or one of
 * `decrypt-keys`)? 0 with err filled if the profile cannot tell (its key file is missing, say).
 */
int kmsenv_kms_matches(KMSENV_KMS *kms, const char *kind, const char *key_id, KMSENV_ERROR *err);
/* The same for its own key-id only, which it encrypts under. */
int kmsenv_kms_is_own(KMSENV_KMS *kms, const char *kind, const char *key_id, KMSENV_ERROR *err);

/* Setting `kms-timeout`. */
uint64_t kmsenv_kms_timeout_ms(const KMSENV_KMS *kms);

int kmsenv_kms_generate(KMSENV_KMS *kms, const KMSENV_CONTEXT *context, size_t len,
                        unsigned char *dek, KMSENV_BLOB *out, KMSENV_ERROR *err);
int kmsenv_kms_encrypt(KMSENV_KMS *kms, const KMSENV_CONTEXT *context, const char *dek_id_hex,
                       const unsigned char *in, size_t inlen, KMSENV_BLOB *out, KMSENV_ERROR *err);
int kmsenv_kms_decrypt(KMSENV_KMS *kms, const KMSENV_CONTEXT *context, const char *dek_id_hex,
                       const KMSENV_BLOB *in, unsigned char *out, size_t *outlen, KMSENV_ERROR *err);
/* The same for a caller that has not always as long as kms-timeout: at most limit_ms; 0 = no limit of its own. */
int kmsenv_kms_generate_within(KMSENV_KMS *kms, uint64_t limit_ms, const KMSENV_CONTEXT *context, size_t len,
                               unsigned char *dek, KMSENV_BLOB *out, KMSENV_ERROR *err);
int kmsenv_kms_encrypt_within(KMSENV_KMS *kms, uint64_t limit_ms, const KMSENV_CONTEXT *context, const char *dek_id_hex,
                              const unsigned char *in, size_t inlen, KMSENV_BLOB *out, KMSENV_ERROR *err);
int kmsenv_kms_decrypt_within(KMSENV_KMS *kms, uint64_t limit_ms, const KMSENV_CONTEXT *context, const char *dek_id_hex,
                              const KMSENV_BLOB *in, unsigned char *out, size_t *outlen, KMSENV_ERROR *err);
/* Inside the KMS, or KMS_UNSUPPORTED: decrypt and encrypt are then for the caller, who can check in between what came out. */
int kmsenv_kms_reencrypt(KMSENV_KMS *kms, const KMSENV_CONTEXT *context, const char *dek_id_hex,
                         const KMSENV_BLOB *in, KMSENV_BLOB *out, KMSENV_ERROR *err);
/* Is kmsenv_kms_reencrypt() worth a try for that wrap? Asks nobody. */
int kmsenv_kms_may_reencrypt(const KMSENV_KMS *kms, const KMSENV_BLOB *in, const KMSENV_CONTEXT *context);
int kmsenv_kms_describe(KMSENV_KMS *kms, char *state, size_t room, KMSENV_ERROR *err);

/* Is this thread inside a KMS call now? (TLS of the KMS client itself may need keys.) */
int kmsenv_kms_thread_is_inside(void);
/*
 * The error of whoever needs a KMS there; returns 0. Nor may such a thread wait for another one's call: that could be waiting
 * for the very call that this one is inside of.
 */
int kmsenv_kms_set_reentered(KMSENV_ERROR *err);

#endif
