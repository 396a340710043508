/*
 * A PKCS#11 module in front of another one: writes down what is called, fails when it is told to,
 * and has some of the ways in which tokens differ.
 *
 *   PKCS11_SHIM_MODULE  the module behind it
 *   PKCS11_SHIM_LOG     a line "PID FUNCTION RETURN-VALUE" for every call that is watched
 *   PKCS11_SHIM_RULES   a file of lines "FUNCTION WORD". When FUNCTION is called, the first such line is taken out of the file, and
 *                       WORD is what happens: a return value (0xb3), or something that another part of the process does
 *                       just before: finalize, close-all, logout. A line that begins with '*' stays
 *   PKCS11_SHIM_IV      what becomes of the IV of AES-GCM: replace (it is overwritten), zeros (none but zeros is taken, and
 *                       overwritten), append (one of 16 bytes follows the tag), hide (another one is used, and not told)
 *   PKCS11_SHIM_KWP     CKM_AES_KEY_WRAP_KWP is there and CKM_AES_KEY_WRAP_PAD is not
 *   PKCS11_SHIM_FLAGS   further flags of CK_TOKEN_INFO, a number; or those that it has not, a number after '~'
 *   PKCS11_SHIM_VAGUE   a wrong PIN is CKR_FUNCTION_FAILED
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include <p11-kit/pkcs11.h>

#define RULES_MAX 8192
#define KWP 0x210bUL
#define EXPORT __attribute__((visibility("default")))

static CK_FUNCTION_LIST *real, list;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static CK_SLOT_ID last_slot;
static CK_SESSION_HANDLE last_session;
static __thread unsigned char appended[16];

static const char *setting(const char *name)
{
    const char *value = getenv(name);

    return value == NULL ? "" : value;
}

static void note(const char *function, CK_RV rv)
{
    char line[128];
    int n = snprintf(line, sizeof(line), "%d %s 0x%lx\n", (int)getpid(), function, rv);
    int fd = open(setting("PKCS11_SHIM_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);

    if (fd >= 0 && write(fd, line, (size_t)n) != n)
        abort();
    close(fd);
}

/* ---- rules */

/* The first rule for function, copied to word; taken out of text unless it stays. */
static int find_rule(char *text, const char *function, char word[32])
{
    char *line, *name, *end;
    size_t n = strlen(function);

    for (line = text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        name = line + (*line == '*');
        if (strncmp(name, function, n) != 0 || name[n] != ' ')
            continue;
        snprintf(word, 32, "%.*s", (int)(end - name - (long)n - 1), name + n + 1);
        if (*line != '*')
            memmove(line, end + 1, strlen(end + 1) + 1);
        return 1;
    }
    return 0;
}

static int take_rule(const char *function, char word[32])
{
    const char *path = setting("PKCS11_SHIM_RULES");
    char text[RULES_MAX] = "";
    FILE *file;
    int found;

    pthread_mutex_lock(&mutex);
    if ((file = fopen(path, "r")) != NULL) {
        text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
        fclose(file);
    }
    found = find_rule(text, function, word);
    if (found && (file = fopen(path, "w")) != NULL) {
        fputs(text, file);
        fclose(file);
    }
    pthread_mutex_unlock(&mutex);
    return found;
}

/* What a rule says that the function returns; CKR_OK: it is to be called. */
static CK_RV rule(const char *function)
{
    char word[32];

    if (!take_rule(function, word))
        return CKR_OK;
    if (strcmp(word, "finalize") == 0)
        real->C_Finalize(NULL);
    else if (strcmp(word, "close-all") == 0)
        real->C_CloseAllSessions(last_slot);
    else if (strcmp(word, "logout") == 0)
        real->C_Logout(last_session);
    else
        return strtoul(word, NULL, 0);
    return CKR_OK;
}

#define CALL(function, ...) \
    do { \
        CK_RV rv_ = rule(#function); \
        if (rv_ == CKR_OK) \
            rv_ = real->function(__VA_ARGS__); \
        note(#function, rv_); \
        return rv_; \
    } while (0)

/* ---- sessions */

/*
 * A login writes to the token's files, and SoftHSM in another process that reads them meanwhile takes the token for damaged,
 * or for good as not there: so they wait for each other. Returns what files_done() wants.
 */
static int files_begin(void)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s.lock", setting("PKCS11_SHIM_LOG"));
    if ((fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) >= 0 && flock(fd, LOCK_EX) != 0)
        abort();
    return fd;
}

static void files_done(int fd)
{
    if (fd >= 0)
        close(fd);
}

static CK_RV initialize(void *args)
{
    CK_RV rv = rule("C_Initialize");
    int fd = files_begin();

    if (rv == CKR_OK)
        rv = real->C_Initialize(args);
    files_done(fd);
    note("C_Initialize", rv);
    return rv;
}

static CK_RV get_slots(CK_BBOOL present, CK_SLOT_ID *slot, CK_ULONG *n) { CALL(C_GetSlotList, present, slot, n); }
static CK_RV session_info(CK_SESSION_HANDLE s, CK_SESSION_INFO *info) { CALL(C_GetSessionInfo, s, info); }
static CK_RV close_session(CK_SESSION_HANDLE s) { CALL(C_CloseSession, s); }

static CK_RV token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    const char *flags = setting("PKCS11_SHIM_FLAGS");
    CK_RV rv = rule("C_GetTokenInfo");
    int fd = files_begin();

    if (rv == CKR_OK && (rv = real->C_GetTokenInfo(slot, info)) == CKR_OK) {
        if (*flags == '~')
            info->flags &= ~strtoul(flags + 1, NULL, 0);
        else
            info->flags |= strtoul(flags, NULL, 0);
    }
    files_done(fd);
    note("C_GetTokenInfo", rv);
    return rv;
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify, CK_SESSION_HANDLE *s)
{
    last_slot = slot;
    CALL(C_OpenSession, slot, flags, application, notify, s);
}

static CK_RV login(CK_SESSION_HANDLE s, CK_USER_TYPE user, CK_UTF8CHAR *pin, CK_ULONG n)
{
    CK_RV rv = rule("C_Login");
    int fd = files_begin();

    last_session = s;
    if (rv == CKR_OK)
        rv = real->C_Login(s, user, pin, n);
    files_done(fd);
    if (rv == CKR_PIN_INCORRECT && *setting("PKCS11_SHIM_VAGUE") != '\0')
        rv = CKR_FUNCTION_FAILED;
    note("C_Login", rv);
    return rv;
}

static CK_RV find_init(CK_SESSION_HANDLE s, CK_ATTRIBUTE *a, CK_ULONG n) { CALL(C_FindObjectsInit, s, a, n); }
static CK_RV get_value(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *a, CK_ULONG n) { CALL(C_GetAttributeValue, s, o, a, n); }

/* ---- AES-GCM */

static int iv_is(const char *word)
{
    return strcmp(setting("PKCS11_SHIM_IV"), word) == 0;
}

static int is_zeros(const unsigned char *p, size_t n)
{
    while (n > 0 && p[n - 1] == 0)
        n--;
    return n == 0;
}

static void random_bytes(unsigned char *out, size_t n)
{
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, out, n) != (ssize_t)n)
        abort();
    close(fd);
}

/* The parameters that the token really uses for encryption. 0 if it takes none of these. */
static int token_iv(CK_GCM_PARAMS *p, unsigned char hidden[12])
{
    if (iv_is("zeros") && !is_zeros(p->pIv, p->ulIvLen))
        return 0;
    if (iv_is("zeros") || iv_is("replace"))
        random_bytes(p->pIv, p->ulIvLen);
    if (iv_is("append")) {
        random_bytes(appended, sizeof(appended));
        p->pIv = appended;
        p->ulIvLen = sizeof(appended);
        p->ulIvBits = 8 * sizeof(appended);
    }
    if (iv_is("hide")) {
        random_bytes(hidden, 12);
        p->pIv = hidden;
    }
    return 1;
}

static CK_RV encrypt_init(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key)
{
    CK_GCM_PARAMS params = *(CK_GCM_PARAMS *)m->pParameter;
    CK_MECHANISM used = { m->mechanism, &params, sizeof(params) };
    unsigned char hidden[12];
    CK_RV rv = rule("C_EncryptInit");

    if (rv == CKR_OK)
        rv = token_iv(&params, hidden) ? real->C_EncryptInit(s, &used, key) : CKR_MECHANISM_PARAM_INVALID;
    note("C_EncryptInit", rv);
    return rv;
}

static CK_RV encrypt(CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *outlen)
{
    CK_RV rv = rule("C_Encrypt");

    if (rv == CKR_OK)
        rv = real->C_Encrypt(s, in, n, out, outlen);
    if (rv == CKR_OK && iv_is("append")) {
        memcpy(out + *outlen, appended, sizeof(appended));
        *outlen += sizeof(appended);
    }
    note("C_Encrypt", rv);
    return rv;
}

static CK_RV decrypt_init(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key) { CALL(C_DecryptInit, s, m, key); }

static CK_RV decrypt(CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *outlen)
{
    CALL(C_Decrypt, s, in, n, out, outlen);
}

/* ---- key wrapping */

/* The mechanism as the module behind knows it. */
static CK_MECHANISM_TYPE behind(CK_MECHANISM_TYPE type)
{
    if (*setting("PKCS11_SHIM_KWP") == '\0')
        return type;
    return type == KWP ? CKM_AES_KEY_WRAP_PAD : type == CKM_AES_KEY_WRAP_PAD ? KWP : type;
}

static CK_RV mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    CALL(C_GetMechanismInfo, slot, behind(type), info);
}

static CK_RV create(CK_SESSION_HANDLE s, CK_ATTRIBUTE *a, CK_ULONG n, CK_OBJECT_HANDLE *o) { CALL(C_CreateObject, s, a, n, o); }
static CK_RV destroy(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o) { CALL(C_DestroyObject, s, o); }

static CK_RV wrap(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE by, CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *n)
{
    CK_MECHANISM used = { behind(m->mechanism), m->pParameter, m->ulParameterLen };

    CALL(C_WrapKey, s, &used, by, key, out, n);
}

static CK_RV unwrap(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE by, CK_BYTE *in, CK_ULONG n, CK_ATTRIBUTE *a, CK_ULONG count,
                    CK_OBJECT_HANDLE *key)
{
    CK_MECHANISM used = { behind(m->mechanism), m->pParameter, m->ulParameterLen };

    CALL(C_UnwrapKey, s, &used, by, in, n, a, count, key);
}

EXPORT CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    void *handle = dlopen(setting("PKCS11_SHIM_MODULE"), RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get = NULL;
    void *symbol = handle == NULL ? NULL : dlsym(handle, "C_GetFunctionList");

    memcpy(&get, &symbol, sizeof(get));
    if (get == NULL || get(&real) != CKR_OK)
        return CKR_GENERAL_ERROR;
    list = *real;
    list.C_Initialize = initialize;
    list.C_GetSlotList = get_slots;
    list.C_GetTokenInfo = token_info;
    list.C_OpenSession = open_session;
    list.C_CloseSession = close_session;
    list.C_GetSessionInfo = session_info;
    list.C_Login = login;
    list.C_FindObjectsInit = find_init;
    list.C_GetAttributeValue = get_value;
    list.C_EncryptInit = encrypt_init;
    list.C_Encrypt = encrypt;
    list.C_DecryptInit = decrypt_init;
    list.C_Decrypt = decrypt;
    list.C_GetMechanismInfo = mechanism_info;
    list.C_CreateObject = create;
    list.C_DestroyObject = destroy;
    list.C_WrapKey = wrap;
    list.C_UnwrapKey = unwrap;
    *out = &list;
    return CKR_OK;
}
