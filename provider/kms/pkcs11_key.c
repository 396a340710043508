/* Keys of a token: finding the one that is meant, its name, what it may be used for. */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "kms/pkcs11.h"
#include "kmsenv/format.h"

static CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
static CK_KEY_TYPE aes = CKK_AES;
static CK_BBOOL yes = CK_TRUE;

static void add_value(CK_ATTRIBUTE *template, CK_ULONG *count, CK_ATTRIBUTE_TYPE type, const KMSENV_PKCS11_VALUE *value)
{
    if (value->length > 0)
        template[(*count)++] = (CK_ATTRIBUTE){ type, (void *)value->data, value->length };
}

/* Up to two of the keys that there are. *n: how many. */
static int search(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_URI *uri, CK_OBJECT_HANDLE found[2], CK_ULONG *n, KMSENV_ERROR *err)
{
    CK_ATTRIBUTE template[5] = {
        { CKA_CLASS, &secret_key, sizeof(secret_key) }, { CKA_KEY_TYPE, &aes, sizeof(aes) }, { CKA_TOKEN, &yes, sizeof(yes) }
    };
    CK_ULONG count = 3, more = 0;
    CK_RV rv, end;

    add_value(template, &count, CKA_LABEL, &uri->value[KMSENV_PKCS11_OBJECT]);
    add_value(template, &count, CKA_ID, &uri->value[KMSENV_PKCS11_ID]);
    if ((rv = s->f->C_FindObjectsInit(s->handle, template, count)) != CKR_OK)
        return kmsenv_pkcs11_fault(s, "C_FindObjectsInit", rv, err);
    *n = 0;
    rv = s->f->C_FindObjects(s->handle, found, 2, n);
    if (rv == CKR_OK && *n == 1)    /* a module may give one at a time */
        rv = s->f->C_FindObjects(s->handle, found + 1, 1, &more);
    end = s->f->C_FindObjectsFinal(s->handle);
    *n += more;
    if (rv != CKR_OK)
        return kmsenv_pkcs11_fault(s, "C_FindObjects", rv, err);
    return end == CKR_OK || kmsenv_pkcs11_fault(s, "C_FindObjectsFinal", end, err);
}

int kmsenv_pkcs11_find_key(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_URI *uri, CK_OBJECT_HANDLE *key, KMSENV_ERROR *err)
{
    CK_OBJECT_HANDLE found[2];
    CK_SESSION_INFO info = { 0 };
    CK_ULONG n;

    if (!search(s, uri, found, &n, err))
        return 0;
    if (n == 1) {
        *key = found[0];
        return 1;
    }
    if (n > 1)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_NOT_FOUND, "the token has several AES keys of that label or id: add id=... or "
                                "object=... to key-id, so that it names one");
    s->f->C_GetSessionInfo(s->handle, &info);
    return kmsenv_error_set(err, KMSENV_R_KMS_KEY_NOT_FOUND, "the token has no such AES key%s",
                            info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS ? ""
                            : " among those that can be seen without a login; set pin");
}

/* An attribute of the key becomes one of the URI. One that is empty, too long or no text stays as it is configured. */
static void read_value(KMSENV_PKCS11_SESSION *s, CK_OBJECT_HANDLE key, CK_ATTRIBUTE_TYPE type, KMSENV_PKCS11_URI *uri, int which)
{
    unsigned char data[KMSENV_PKCS11_VALUE_MAX];
    CK_ATTRIBUTE a = { type, data, sizeof(data) };

    if (s->f->C_GetAttributeValue(s->handle, key, &a, 1) == CKR_OK && a.ulValueLen <= sizeof(data))
        kmsenv_pkcs11_uri_set(uri, which, data, a.ulValueLen);
}

int kmsenv_pkcs11_name_key(KMSENV_PKCS11_SESSION *s, const KMSENV_PKCS11_URI *uri, CK_OBJECT_HANDLE key, char **out, KMSENV_ERROR *err)
{
    size_t n = sizeof(s->token.label);
    KMSENV_PKCS11_URI name = *uri;
    KMSENV_BUFFER text;

    while (n > 0 && s->token.label[n - 1] == ' ')
        n--;
    kmsenv_pkcs11_uri_set(&name, KMSENV_PKCS11_TOKEN, s->token.label, n);
    read_value(s, key, CKA_LABEL, &name, KMSENV_PKCS11_OBJECT);
    read_value(s, key, CKA_ID, &name, KMSENV_PKCS11_ID);
    kmsenv_buffer_init(&text, KMSENV_NAME_MAX, 0);
    *out = kmsenv_pkcs11_uri_write(&name, &text) ? OPENSSL_strdup(kmsenv_buffer_text(&text)) : NULL;
    kmsenv_buffer_reset(&text);
    if (*out != NULL)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "label and id of the key are too long: written as a URI they have more "
                            "than %d bytes", KMSENV_NAME_MAX);
}

static int has(KMSENV_PKCS11_SESSION *s, CK_OBJECT_HANDLE key, CK_ATTRIBUTE_TYPE type)
{
    CK_BBOOL value = CK_FALSE;
    CK_ATTRIBUTE a = { type, &value, sizeof(value) };

    return s->f->C_GetAttributeValue(s->handle, key, &a, 1) == CKR_OK && a.ulValueLen == sizeof(value) && value != CK_FALSE;
}

int kmsenv_pkcs11_key_state(KMSENV_PKCS11_SESSION *s, CK_OBJECT_HANDLE key, int wrap, char *state, size_t room, KMSENV_ERROR *err)
{
    int to = has(s, key, wrap ? CKA_WRAP : CKA_ENCRYPT), from = has(s, key, wrap ? CKA_UNWRAP : CKA_DECRYPT);
    CK_ULONG bytes = 0;
    CK_ATTRIBUTE length = { CKA_VALUE_LEN, &bytes, sizeof(bytes) };

    if (!to && !from)
        return kmsenv_error_set(err, KMSENV_R_KMS_KEY_DISABLED, "the key has neither %s; set them, or choose the other mechanism",
                                wrap ? "CKA_WRAP nor CKA_UNWRAP" : "CKA_ENCRYPT nor CKA_DECRYPT");
    if (s->f->C_GetAttributeValue(s->handle, key, &length, 1) != CKR_OK)
        bytes = 0;
    snprintf(state, room, "Enabled, AES-%lu%s%s%s", bytes * 8, to ? "" : ", for decryption only", from ? "" : ", for encryption only",
             has(s, key, CKA_EXTRACTABLE) ? ", but it can be extracted from the token" : "");
    return 1;
}
