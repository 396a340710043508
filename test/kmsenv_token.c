#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "testutil.h"
#include "kmsenv_token.h"

#define SO_PIN "kmsenv-test-so-pin"

static char directory[] = "/tmp/kmsenv-token-XXXXXX";
static CK_FUNCTION_LIST *f;
static CK_SESSION_HANDLE session;

CK_FUNCTION_LIST *kmsenv_token_functions(void)
{
    return f;
}

CK_SESSION_HANDLE kmsenv_token_session(void)
{
    return session;
}

static int is_ok(CK_RV rv)
{
    return TEST_ulong_eq(rv, CKR_OK);
}

static int load_module(void)
{
    char path[80], text[200];
    CK_C_GetFunctionList get = NULL;
    void *handle, *symbol;
    FILE *file;

    if (!TEST_ptr(mkdtemp(directory)))
        return 0;
    snprintf(path, sizeof(path), "%s/softhsm2.conf", directory);
    snprintf(text, sizeof(text), "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", directory);
    if (!TEST_ptr(file = fopen(path, "w")))
        return 0;
    fputs(text, file);
    fclose(file);
    setenv("SOFTHSM2_CONF", path, 1);
    if (!TEST_ptr(handle = dlopen(KMSENV_TOKEN_MODULE, RTLD_NOW | RTLD_LOCAL)) || !TEST_ptr(symbol = dlsym(handle, "C_GetFunctionList")))
        return 0;
    memcpy(&get, &symbol, sizeof(get));
    return is_ok(get(&f));
}

static int login(CK_USER_TYPE user, const char *pin)
{
    return is_ok(f->C_Login(session, user, (CK_UTF8CHAR *)pin, strlen(pin)));
}

static int make_token(void)
{
    CK_C_INITIALIZE_ARGS args = { .flags = CKF_OS_LOCKING_OK };
    CK_SLOT_ID slot[8];
    CK_ULONG n = 8;
    unsigned char label[32];

    memset(label, ' ', sizeof(label));
    memcpy(label, KMSENV_TOKEN_LABEL, strlen(KMSENV_TOKEN_LABEL));
    if (!is_ok(f->C_Initialize(&args)) || !is_ok(f->C_GetSlotList(CK_TRUE, slot, &n)) || !TEST_ulong_ge(n, 1)
        || !is_ok(f->C_InitToken(slot[0], (CK_UTF8CHAR *)SO_PIN, strlen(SO_PIN), label)))
        return 0;
    n = 8;
    return is_ok(f->C_GetSlotList(CK_TRUE, slot, &n))
           && is_ok(f->C_OpenSession(slot[0], CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session))
           && login(CKU_SO, SO_PIN) && is_ok(f->C_InitPIN(session, (CK_UTF8CHAR *)KMSENV_TOKEN_PIN, strlen(KMSENV_TOKEN_PIN))) && is_ok(f->C_Logout(session))
           && login(CKU_USER, KMSENV_TOKEN_PIN);
}

int kmsenv_token_make_key(const char *label, const char *usage, CK_ULONG bytes)
{
    static const struct { char letter; CK_ATTRIBUTE_TYPE type; } flag[] = {
        { 'e', CKA_ENCRYPT }, { 'd', CKA_DECRYPT }, { 'w', CKA_WRAP }, { 'u', CKA_UNWRAP }, { 'x', CKA_EXTRACTABLE }
    };
    CK_MECHANISM mechanism = { CKM_AES_KEY_GEN, NULL, 0 };
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE a[9] = {
        { CKA_TOKEN, &yes, sizeof(yes) }, { CKA_PRIVATE, &yes, sizeof(yes) }, { CKA_LABEL, (void *)label, strlen(label) },
        { CKA_VALUE_LEN, &bytes, sizeof(bytes) }
    };
    CK_OBJECT_HANDLE key;
    size_t i;

    for (i = 0; i < 5; i++)
        a[4 + i] = (CK_ATTRIBUTE){ flag[i].type, strchr(usage, flag[i].letter) == NULL ? &no : &yes, sizeof(yes) };
    return is_ok(f->C_GenerateKey(session, &mechanism, a, 9, &key));
}

int kmsenv_token_new(void)
{
    return load_module() && make_token();
}

void kmsenv_token_free(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", directory);   /* a name that mkdtemp() made */
    if (system(command) != 0)
        TEST_info("%s stays", directory);
}
