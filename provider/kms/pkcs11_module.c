/* Modules and sessions: loaded and initialised once per process, initialised again in a child. */
#include <pthread.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/clock.h"
#include "core/library.h"
#include "core/lock.h"
#include "kms/pkcs11.h"

#define IDLE_MAX   16          /* sessions of a module that wait for their next operation */
#define SLOTS_MAX  1024
#define P11_KIT_LIBRARY "libp11-kit.so.0"   /* is, itself, the module that stands for all the others */

struct kmsenv_pkcs11_module_st {
    KMSENV_PKCS11_MODULE *next;
    char *path;
    CK_FUNCTION_LIST *f;
    KMSENV_LOCK *lock;                       /* of what follows */
    int ready;                               /* initialised ... */
    unsigned generation;                     /* ... in this process */
    int busy;                                /* a thread is behind the gate ... */
    unsigned busy_generation;                /* ... in this process */
    KMSENV_PKCS11_SESSION idle[IDLE_MAX];
    size_t idle_count;
    KMSENV_PKCS11_REFUSAL *refusals;         /* of the thread behind the gate */
};

/* Modules are never unloaded and have one state per process: so they are listed per process. */
static struct {
    pthread_once_t once;
    KMSENV_LOCK *lock;
    KMSENV_PKCS11_MODULE *first;
} modules = { .once = PTHREAD_ONCE_INIT };

static void make_lock(void)
{
    modules.lock = kmsenv_lock_new(KMSENV_LEVEL_KMS);
}

/* --- loading -------------------------------------------------------------- */

static KMSENV_PKCS11_MODULE *find_module(const char *path)
{
    KMSENV_PKCS11_MODULE *m;

    for (m = modules.first; m != NULL && strcmp(m->path, path) != 0; m = m->next)
        ;
    return m;
}

static void free_module(KMSENV_PKCS11_MODULE *m)
{
    if (m == NULL)
        return;
    kmsenv_lock_free(m->lock);
    OPENSSL_free(m->path);
    OPENSSL_free(m);
}

static KMSENV_PKCS11_MODULE *load(const char *path, KMSENV_ERROR *err)
{
    const char *name = strcmp(path, KMSENV_PKCS11_P11_KIT) == 0 ? P11_KIT_LIBRARY : path;
    CK_C_GetFunctionList get_list = NULL;
    const KMSENV_SYMBOL wanted = { "C_GetFunctionList", &get_list };
    KMSENV_PKCS11_MODULE *m;
    char fault[200];
    CK_RV rv;

    if ((m = OPENSSL_zalloc(sizeof(*m))) == NULL || (m->path = OPENSSL_strdup(path)) == NULL
        || (m->lock = kmsenv_lock_new(KMSENV_LEVEL_KMS)) == NULL) {
        free_module(m);
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a PKCS#11 module");
        return NULL;
    }
    if (kmsenv_library_load(name, &wanted, 1, fault, sizeof(fault)) == NULL)
        kmsenv_error_set(err, KMSENV_R_KMS_UNREACHABLE, "the PKCS#11 module %.160s cannot be loaded: %s; install it, or set "
                         "pkcs11-module", name, fault);
    else if ((rv = get_list(&m->f)) != CKR_OK)
        kmsenv_pkcs11_fault(NULL, "C_GetFunctionList", rv, err);
    else if (m->f == NULL || m->f->version.major < 2)
        kmsenv_error_set(err, KMSENV_R_KMS_UNSUPPORTED, "%.160s is not a module of PKCS#11 version 2 or 3", name);
    else
        return m;
    free_module(m);
    return NULL;
}

/* Two threads may load it at the same time, which does no harm; one of them lists it. */
static KMSENV_PKCS11_MODULE *get_module(const char *path, KMSENV_ERROR *err)
{
    KMSENV_PKCS11_MODULE *m, *mine;

    pthread_once(&modules.once, make_lock);
    if (modules.lock == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a PKCS#11 module");
        return NULL;
    }
    kmsenv_lock_take(modules.lock);
    m = find_module(path);
    kmsenv_lock_release(modules.lock);
    if (m != NULL || (mine = load(path, err)) == NULL)
        return m;
    kmsenv_lock_take(modules.lock);
    if ((m = find_module(path)) == NULL) {
        mine->next = modules.first;
        modules.first = m = mine;
        mine = NULL;
    }
    kmsenv_lock_release(modules.lock);
    free_module(mine);
    return m;
}

/* --- the gate ------------------------------------------------------------- */

int kmsenv_pkcs11_gate_enter(KMSENV_PKCS11_MODULE *m, uint64_t deadline_ms, KMSENV_ERROR *err)
{
    int free_now, waiting = 1;

    kmsenv_lock_take(m->lock);
    while (!(free_now = !m->busy || m->busy_generation != kmsenv_fork_generation()) && waiting)
        waiting = kmsenv_lock_wait(m->lock, deadline_ms);
    if (free_now) {
        m->busy = 1;
        m->busy_generation = kmsenv_fork_generation();
    }
    kmsenv_lock_release(m->lock);
    if (free_now)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_UNREACHABLE, "the module does not come back to another thread, which waits for it to "
                            "initialise itself or to log in");
}

void kmsenv_pkcs11_gate_leave(KMSENV_PKCS11_MODULE *m)
{
    kmsenv_lock_take(m->lock);
    m->busy = 0;
    kmsenv_lock_wake(m->lock);
    kmsenv_lock_release(m->lock);
}

const KMSENV_PKCS11_REFUSAL *kmsenv_pkcs11_refusals(const KMSENV_PKCS11_MODULE *m)
{
    return m->refusals;
}

void kmsenv_pkcs11_refuse(KMSENV_PKCS11_MODULE *m, KMSENV_PKCS11_REFUSAL *refusal)
{
    kmsenv_lock_take(m->lock);
    refusal->next = m->refusals;
    m->refusals = refusal;
    kmsenv_lock_release(m->lock);
}

void kmsenv_pkcs11_swap(KMSENV_PKCS11_MODULE *m, KMSENV_BUFFER *a, KMSENV_BUFFER *b)
{
    KMSENV_BUFFER kept;

    kmsenv_lock_take(m->lock);
    kept = *a;
    *a = *b;
    *b = kept;
    kmsenv_lock_release(m->lock);
}

/* What the parent process had is not ours: its sessions must not even be closed. */
static int is_ready(KMSENV_PKCS11_MODULE *m)
{
    int ready;

    kmsenv_lock_take(m->lock);
    if (m->generation != kmsenv_fork_generation()) {
        m->generation = kmsenv_fork_generation();
        m->ready = 0;
        m->idle_count = 0;
    }
    ready = m->ready;
    kmsenv_lock_release(m->lock);
    return ready;
}

/* The application may have initialised the module for itself, or the module may have taken its state along into the child. */
static int initialise(KMSENV_PKCS11_MODULE *m, uint64_t deadline_ms, KMSENV_ERROR *err)
{
    CK_C_INITIALIZE_ARGS args = { .flags = CKF_OS_LOCKING_OK };
    CK_RV rv = CKR_OK;

    if (is_ready(m))
        return 1;
    if (!kmsenv_pkcs11_gate_enter(m, deadline_ms, err))
        return 0;
    if (!is_ready(m)) {
        rv = m->f->C_Initialize(&args);
        kmsenv_lock_take(m->lock);
        m->ready = rv == CKR_OK || rv == CKR_CRYPTOKI_ALREADY_INITIALIZED;
        kmsenv_lock_release(m->lock);
    }
    kmsenv_pkcs11_gate_leave(m);
    return rv == CKR_OK || rv == CKR_CRYPTOKI_ALREADY_INITIALIZED || kmsenv_pkcs11_fault(NULL, "C_Initialize", rv, err);
}

/* --- tokens --------------------------------------------------------------- */

/* A field of CK_TOKEN_INFO is padded with blanks. */
static int field_is(const KMSENV_PKCS11_VALUE *wanted, const unsigned char *field, size_t n)
{
    while (n > 0 && (field[n - 1] == ' ' || field[n - 1] == '\0'))
        n--;
    return wanted->length == 0 || (wanted->length == n && memcmp(wanted->data, field, n) == 0);
}

static int is_token(const CK_TOKEN_INFO *t, const KMSENV_PKCS11_URI *uri)
{
    return (t->flags & CKF_TOKEN_INITIALIZED) != 0
           && field_is(&uri->value[KMSENV_PKCS11_TOKEN], t->label, sizeof(t->label))
           && field_is(&uri->value[KMSENV_PKCS11_MANUFACTURER], t->manufacturerID, sizeof(t->manufacturerID))
           && field_is(&uri->value[KMSENV_PKCS11_SERIAL], t->serialNumber, sizeof(t->serialNumber))
           && field_is(&uri->value[KMSENV_PKCS11_MODEL], t->model, sizeof(t->model));
}

/*
 * fault: of a slot that could not be asked. It may be so for the moment only: a reader that is being plugged in, or SoftHSM
 * while another process logs in, which writes to the token's files.
 */
static int no_token(KMSENV_PKCS11_SESSION *s, size_t tokens, CK_RV fault, KMSENV_ERROR *err)
{
    s->fate = KMSENV_PKCS11_RETRY;
    if (fault != CKR_OK) {
        kmsenv_pkcs11_fault(NULL, "C_GetTokenInfo", fault, err);
        return kmsenv_error_prefix(err, "no token is as key-id says, but one could not be asked: ");
    }
    return kmsenv_error_set(err, KMSENV_R_KMS_UNREACHABLE, "no token is as key-id says (tokens that are there: %zu); insert it, "
                            "or list the tokens with: p11tool --list-tokens, pkcs11-tool -L", tokens);
}

/* Of the slots listed, the one with the token; s gets slot and token. */
static int pick_slot(KMSENV_PKCS11_SESSION *s, const CK_SLOT_ID *slot, size_t count, const KMSENV_PKCS11_URI *uri, KMSENV_ERROR *err)
{
    size_t i, found = 0, tokens = 0;
    CK_RV rv, fault = CKR_OK;
    CK_TOKEN_INFO token;

    for (i = 0; i < count; i++) {
        if ((rv = s->f->C_GetTokenInfo(slot[i], &token)) != CKR_OK) {
            fault = rv == CKR_TOKEN_NOT_PRESENT || rv == CKR_TOKEN_NOT_RECOGNIZED ? fault : rv;
            continue;
        }
        tokens++;
        if (!is_token(&token, uri))
            continue;
        found++;
        s->slot = slot[i];
        s->token = token;
    }
    if (found == 1)
        return 1;
    if (found == 0)
        return no_token(s, tokens, fault, err);
    return kmsenv_error_set(err, KMSENV_R_KMS_KEY_NOT_FOUND, "%zu tokens are as key-id says; add serial=... to it", found);
}

static int find_slot(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_URI *uri, KMSENV_ERROR *err)
{
    CK_SLOT_ID *slot = NULL;
    CK_ULONG count = 0;
    CK_RV rv = s->f->C_GetSlotList(CK_TRUE, NULL, &count);
    int ok = 0;

    if (rv == CKR_OK && (count = count > SLOTS_MAX ? SLOTS_MAX : count) > 0) {
        if ((slot = OPENSSL_zalloc(count * sizeof(*slot))) == NULL)
            return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the list of slots");
        rv = s->f->C_GetSlotList(CK_TRUE, slot, &count);
    }
    if (rv == CKR_OK)
        ok = pick_slot(s, slot, count, uri, err);
    else
        kmsenv_pkcs11_fault(s, "C_GetSlotList", rv, err);
    OPENSSL_free(slot);
    return ok;
}

/* --- sessions ------------------------------------------------------------- */

static int take_idle(KMSENV_PKCS11_MODULE *m, const KMSENV_PKCS11_URI *uri, KMSENV_PKCS11_SESSION *s)
{
    size_t i;
    int found = 0;

    kmsenv_lock_take(m->lock);
    for (i = m->idle_count; i-- > 0 && !found;) {
        if ((found = is_token(&m->idle[i].token, uri))) {
            *s = m->idle[i];
            m->idle[i] = m->idle[--m->idle_count];
        }
    }
    kmsenv_lock_release(m->lock);
    return found;
}

static int open_new(const KMSENV_PKCS11_ACCESS *access, KMSENV_PKCS11_SESSION *s, KMSENV_ERROR *err)
{
    CK_RV rv;

    if (!find_slot(s, access->token, err))
        return 0;
    rv = s->f->C_OpenSession(s->slot, CKF_SERIAL_SESSION, NULL, NULL, &s->handle);
    return rv == CKR_OK || kmsenv_pkcs11_fault(s, "C_OpenSession", rv, err);
}

int kmsenv_pkcs11_open(const KMSENV_PKCS11_ACCESS *access, uint64_t deadline_ms, KMSENV_PKCS11_SESSION *s, KMSENV_ERROR *err)
{
    KMSENV_PKCS11_MODULE *m = get_module(access->module, err);

    memset(s, 0, sizeof(*s));
    if (m == NULL || !initialise(m, deadline_ms, err))
        return 0;
    if (!take_idle(m, access->token, s)) {
        s->module = m;
        s->f = m->f;
        s->generation = kmsenv_fork_generation();
        if (!open_new(access, s, err)) {
            kmsenv_pkcs11_close(s);
            return 0;
        }
    }
    if (kmsenv_pkcs11_login(s, access, deadline_ms, err))
        return 1;
    kmsenv_pkcs11_close(s);
    return 0;
}

/* Asked again, a module says CKR_CRYPTOKI_ALREADY_INITIALIZED if it is. */
static void forget_all(KMSENV_PKCS11_MODULE *m)
{
    kmsenv_lock_take(m->lock);
    m->idle_count = 0;
    m->ready = 0;
    kmsenv_lock_release(m->lock);
}

void kmsenv_pkcs11_close(KMSENV_PKCS11_SESSION *s)
{
    KMSENV_PKCS11_MODULE *m = s->module;
    int kept = 0;

    if (m == NULL || s->generation != kmsenv_fork_generation())
        return;
    if (s->handle != CK_INVALID_HANDLE && s->fate == KMSENV_PKCS11_KEEP) {
        kmsenv_lock_take(m->lock);
        if ((kept = m->idle_count < IDLE_MAX))
            m->idle[m->idle_count++] = *s;
        kmsenv_lock_release(m->lock);
    }
    if (s->handle != CK_INVALID_HANDLE && !kept && s->fate != KMSENV_PKCS11_VOID)
        s->f->C_CloseSession(s->handle);
    if (s->fate == KMSENV_PKCS11_VOID)
        forget_all(m);
    s->handle = CK_INVALID_HANDLE;
}

int kmsenv_pkcs11_answers(KMSENV_PKCS11_SESSION *s)
{
    CK_SESSION_INFO info;
    CK_TOKEN_INFO token;

    return s->f->C_GetSessionInfo(s->handle, &info) == CKR_OK && s->f->C_GetTokenInfo(s->slot, &token) == CKR_OK;
}
