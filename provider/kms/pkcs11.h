/*
 * PKCS#11: what the files pkcs11*.c share. Nobody else includes this, nor calls a module.
 *
 * A module belongs to the process and not to us: the application may use the same one, and it has
 * one state per process whoever asks. So we keep modules per process, too; we initialise one that
 * nobody has initialised yet but never finalise any, and close no session when OpenSSL goes away,
 * for the module may be gone by then. Sessions that are idle wait for the next operation.
 *
 * Nothing can interrupt a function of a module: `kms-timeout` bounds how long we wait for other
 * threads and keeps another attempt from being made, but not how long the token takes.
 */
#ifndef KMSENV_KMS_PKCS11_H
# define KMSENV_KMS_PKCS11_H
# include <p11-kit/pkcs11.h>
# include "kms/kms.h"
# include "kms/pkcs11_uri.h"

# define KMSENV_PKCS11_PLAINTEXT_MAX 4096
# define KMSENV_PKCS11_P11_KIT       "p11-kit"   /* value of pkcs11-module that stands for the modules of the system */
# define KMSENV_PKCS11_PIN_MAX       256

/* Later than the header of Debian 12. */
# define KMSENV_CKM_AES_KEY_WRAP_KWP     0x210bUL
# define KMSENV_CKR_AEAD_DECRYPT_FAILED  0x42UL

typedef struct kmsenv_pkcs11_module_st KMSENV_PKCS11_MODULE;

/* What sessions with a token are opened with. Borrowed from a profile. */
typedef struct kmsenv_pkcs11_access_st {
    const KMSENV_SECTION *section;       /* where the PIN is */
    const char *module;                  /* an absolute path, or KMSENV_PKCS11_P11_KIT */
    const KMSENV_PKCS11_URI *token;
    KMSENV_BUFFER *pin;                  /* the one that was read last; of the thread that logs in */
} KMSENV_PKCS11_ACCESS;

/* What becomes of a session after its operation. */
enum kmsenv_pkcs11_fate {
    KMSENV_PKCS11_KEEP,      /* it waits for the next one */
    KMSENV_PKCS11_CLOSE,
    KMSENV_PKCS11_RETRY,     /* closed, and the operation may succeed in a new one */
    KMSENV_PKCS11_VOID       /* likewise, but it and all those of its age are gone: their handles may be somebody else's by now */
};

/* A session while one thread has it. */
typedef struct kmsenv_pkcs11_session_st {
    KMSENV_PKCS11_MODULE *module;
    CK_FUNCTION_LIST *f;
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE handle;
    CK_TOKEN_INFO token;
    unsigned generation;                 /* of the process that opened it */
    enum kmsenv_pkcs11_fate fate;
} KMSENV_PKCS11_SESSION;

/* --- pkcs11_error.c ------------------------------------------------------- */

/* Fills err with what a function's return value means, notes in s (may be NULL) what it means for the session. Returns 0. */
int kmsenv_pkcs11_fault(KMSENV_PKCS11_SESSION *s, const char *function, CK_RV rv, KMSENV_ERROR *err);
/* Is it the token's verdict on a PIN, which trying again would only count as one more wrong PIN? */
int kmsenv_pkcs11_refuses_pin(CK_RV rv);
/* Does it say nothing about what went wrong? */
int kmsenv_pkcs11_is_vague(CK_RV rv);

/* --- pkcs11_module.c, pkcs11_login.c -------------------------------------- */

/* A session with the token, logged in if there is a PIN. To be ended, if 1 was returned, with kmsenv_pkcs11_close(). */
int kmsenv_pkcs11_open(const KMSENV_PKCS11_ACCESS *access, uint64_t deadline_ms, KMSENV_PKCS11_SESSION *s, KMSENV_ERROR *err);
void kmsenv_pkcs11_close(KMSENV_PKCS11_SESSION *s);
/* Does the token still answer in this session? */
int kmsenv_pkcs11_answers(KMSENV_PKCS11_SESSION *s);

/* Between the two files. One thread at a time is behind the gate of a module: it initialises it, or logs in. */
int kmsenv_pkcs11_gate_enter(KMSENV_PKCS11_MODULE *m, uint64_t deadline_ms, KMSENV_ERROR *err);
void kmsenv_pkcs11_gate_leave(KMSENV_PKCS11_MODULE *m);
/*
 * A PIN that a token of the module has refused. Only for the thread behind the gate; what it changes it does under the
 * module's lock, so that a child finds it whole.
 */
typedef struct kmsenv_pkcs11_refusal_st {
    struct kmsenv_pkcs11_refusal_st *next;
    CK_TOKEN_INFO token;
    CK_RV rv;
    char *pin;                           /* secret memory */
} KMSENV_PKCS11_REFUSAL;
const KMSENV_PKCS11_REFUSAL *kmsenv_pkcs11_refusals(const KMSENV_PKCS11_MODULE *m);
void kmsenv_pkcs11_refuse(KMSENV_PKCS11_MODULE *m, KMSENV_PKCS11_REFUSAL *refusal);   /* takes it */
void kmsenv_pkcs11_swap(KMSENV_PKCS11_MODULE *m, KMSENV_BUFFER *a, KMSENV_BUFFER *b);
/* Logs in, unless that is done or not needed. */
int kmsenv_pkcs11_login(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_ACCESS *access, uint64_t deadline_ms, KMSENV_ERROR *err);

/* --- pkcs11_key.c --------------------------------------------------------- */

/* The one AES key of the token that has the object and id of uri. */
int kmsenv_pkcs11_find_key(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_URI *uri, CK_OBJECT_HANDLE *key, KMSENV_ERROR *err);
/* What names the key for good: token, label and id as the token has them. */
int kmsenv_pkcs11_name_key(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_URI *uri, CK_OBJECT_HANDLE key, char **out, KMSENV_ERROR *err);
/* A word on the state of the key for a profile that wraps with key wrapping (wrap), or encrypts. */
int kmsenv_pkcs11_key_state(KMSENV_PKCS11_SESSION *s, CK_OBJECT_HANDLE key, int wrap, char *state, size_t room, KMSENV_ERROR *err);

/* --- pkcs11_wrap.c -------------------------------------------------------- */

/* What is wrapped, or unwrapped, with which key. */
typedef struct kmsenv_pkcs11_wrap_st {
    CK_OBJECT_HANDLE key;
    const KMSENV_CONTEXT *context;
    KMSENV_CRYPTO *crypto;
    KMSENV_ERROR *err;
} KMSENV_PKCS11_WRAP;

/* Fills ciphertext and extra of out. */
int kmsenv_pkcs11_gcm(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w, const unsigned char *in, size_t inlen, KMSENV_BLOB *out);
int kmsenv_pkcs11_kwp(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w, const unsigned char *in, size_t inlen, KMSENV_BLOB *out);
/* By whichever of them, as in->extra says. *outlen: room on entry. */
int kmsenv_pkcs11_unwrap(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_WRAP *w, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen);

#endif
