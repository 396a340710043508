/*
 * Back end `local`: the master key is in a file of this machine (kms/local_key.h). For laptops,
 * tests and escrow; the key is only as safe as the file.
 *
 * The wrap of n bytes P under version V of the key with the id I (32 characters), for the
 * encryption context (N1, V1) .. (Nk, Vk), pairs in the order of the bytes of their names:
 *
 *   ciphertext = uint32be(V) || nonce || C || tag             4 + 12 + n + 16 bytes
 *   C, tag     = AES-256-GCM(key V, nonce, AAD, P)            nonce: 12 random bytes; tag: 16 bytes
 *   AAD        = "kmsenv local wrap v1" || uint32be(V) || I
 *                || for each pair: uint32be(length of Ni) || Ni || uint32be(length of Vi) || Vi
 *
 * Text goes in as its bytes, without a NUL; lengths count bytes. There is no `extra`.
 */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/buffer.h"
#include "core/lock.h"
#include "core/secret.h"
#include "kms/kms.h"
#include "kms/local_key.h"
#include "kms/registry.h"
#include "kmsenv/format.h"

#define WRAP_LABEL    "kmsenv local wrap v1"
#define VERSION_LEN   4
#define OVERHEAD      (VERSION_LEN + KMSENV_NONCE_LEN + KMSENV_TAG_LEN)
#define PLAINTEXT_MAX 4096
#define AAD_MAX       16384

typedef struct local_st {
    KMSENV_CRYPTO *crypto;
    char *path;
    char id[KMSENV_LOCAL_KEY_ID_LEN + 1];   /* under lock until set; from then on it does not change */
    KMSENV_LOCK *lock;                      /* of key and id */
    KMSENV_LOCAL_KEY *key;                  /* what was loaded last; NULL before the first use */
} LOCAL;

static const KMSENV_SETTING settings[] = {
    { "key-file", KMSENV_PATH, NULL, 0, 0, NULL,
      "File with the local master key, made with `kmsenv init --key-file PATH`; required. It must belong to root or "
      "to the user of the process and have mode 0600 or 0400. A changed file is read again at the next use." },
    { "key-id", KMSENV_TEXT, NULL, 0, 0, "32 lower-case hexadecimal digits",
      "Key-Id that the key file must have; without it, the id of the file is taken at the first use." },
    { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};

static void local_free(void *kms)
{
    LOCAL *local = kms;

    if (local == NULL)
        return;
    kmsenv_local_key_free(local->key);
    kmsenv_lock_free(local->lock);
    OPENSSL_free(local->path);
    OPENSSL_free(local);
}

static int set_id(LOCAL *local, const KMSENV_SECTION *section, KMSENV_ERROR *err)
{
    const char *id = kmsenv_section_text(section, "key-id");

    if (id == NULL)
        return 1;
    if (strlen(id) != KMSENV_LOCAL_KEY_ID_LEN || strspn(id, "0123456789abcdef") != KMSENV_LOCAL_KEY_ID_LEN)
        return kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "section [%s]: key-id = '%.64s' is not a key id; "
                                "accepted: 32 lower-case hexadecimal digits, as after Key-Id: in the key file",
                                kmsenv_section_name(section), id);
    memcpy(local->id, id, KMSENV_LOCAL_KEY_ID_LEN);
    return 1;
}

static void *local_new(const KMSENV_SECTION *section, const KMSENV_SERVICES *services, KMSENV_ERROR *err)
{
    const char *path = kmsenv_section_text(section, "key-file");
    LOCAL *local;

    if (path == NULL) {
        kmsenv_section_missing(section, "key-file", err);
        return NULL;
    }
    if ((local = OPENSSL_zalloc(sizeof(*local))) == NULL
        || (local->path = OPENSSL_strdup(path)) == NULL
        || (local->lock = kmsenv_lock_new(KMSENV_LEVEL_KMS)) == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "section [%s]: no memory", kmsenv_section_name(section));
        local_free(local);
        return NULL;
    }
    local->crypto = services->crypto;
    if (set_id(local, section, err))
        return local;
    local_free(local);
    return NULL;
}

/* Takes over a key just loaded, if it is the one we stand for: its id may not change under messages in flight. */
static int adopt(LOCAL *local, KMSENV_LOCAL_KEY *key, KMSENV_ERROR *err)
{
    const char *id = kmsenv_local_key_id(key);
    KMSENV_LOCAL_KEY *old = NULL;
    int same;

    kmsenv_lock_take(local->lock);
    if (local->id[0] == '\0')
        memcpy(local->id, id, KMSENV_LOCAL_KEY_ID_LEN);
    if ((same = strcmp(local->id, id) == 0)) {
        kmsenv_local_key_up_ref(key);
        old = local->key;
        local->key = key;
    }
    kmsenv_lock_release(local->lock);
    kmsenv_local_key_free(old);
    if (same)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KEY_FILE_INVALID, "%s holds the key %s, expected was %s: set key-id to the "
                            "one that is meant, or restart the program if the file was replaced on purpose",
                            local->path, id, local->id);
}

/* A reference to the key as the file is now. The file is read again only when it changed. */
static KMSENV_LOCAL_KEY *current_key(LOCAL *local, KMSENV_ERROR *err)
{
    KMSENV_LOCAL_KEY *key;

    kmsenv_lock_take(local->lock);
    if ((key = local->key) != NULL)
        kmsenv_local_key_up_ref(key);
    kmsenv_lock_release(local->lock);
    if (key != NULL && kmsenv_local_key_is_current(key, local->path))
        return key;
    kmsenv_local_key_free(key);
    if ((key = kmsenv_local_key_load(local->path, err)) == NULL)
        return NULL;
    if (adopt(local, key, err))
        return key;
    kmsenv_local_key_free(key);
    return NULL;
}

static const char *local_key_id(void *kms, KMSENV_ERROR *err)
{
    LOCAL *local = kms;
    KMSENV_LOCAL_KEY *key;
    int known;

    kmsenv_lock_take(local->lock);
    known = local->id[0] != '\0';
    kmsenv_lock_release(local->lock);
    if (known)
        return local->id;
    if ((key = current_key(local, err)) == NULL)
        return NULL;
    kmsenv_local_key_free(key);
    return local->id;
}

static void put32(unsigned char out[4], uint32_t n)
{
    out[0] = (unsigned char)(n >> 24);
    out[1] = (unsigned char)(n >> 16);
    out[2] = (unsigned char)(n >> 8);
    out[3] = (unsigned char)n;
}

static uint32_t get32(const unsigned char in[4])
{
    return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
}

static void add_counted(KMSENV_BUFFER *aad, const char *text)
{
    unsigned char len[4];

    put32(len, (uint32_t)strlen(text));
    kmsenv_buffer_add(aad, len, sizeof(len));
    kmsenv_buffer_add_text(aad, text);
}

static int make_aad(KMSENV_BUFFER *aad, const KMSENV_LOCAL_KEY *key, uint32_t version, const KMSENV_CALL *call)
{
    unsigned char number[VERSION_LEN];
    size_t i;

    put32(number, version);
    kmsenv_buffer_add_text(aad, WRAP_LABEL);
    kmsenv_buffer_add(aad, number, sizeof(number));
    kmsenv_buffer_add_text(aad, kmsenv_local_key_id(key));
    for (i = 0; i < call->context->count; i++) {
        add_counted(aad, call->context->name[i]);
        add_counted(aad, call->context->value[i]);
    }
    if (aad->failed)
        return kmsenv_error_set(call->err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the encryption context is too large");
    return 1;
}

/* Under the newest version of key, into out->ciphertext and out->key_id. */
static int wrap(LOCAL *local, KMSENV_CALL *call, const KMSENV_LOCAL_KEY *key,
                const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    uint32_t version = kmsenv_local_key_newest(key);
    unsigned char *text = OPENSSL_malloc(OVERHEAD + inlen), *nonce;
    KMSENV_BUFFER aad;
    int ok;

    if (text == NULL)
        return kmsenv_error_set(call->err, KMSENV_R_OUT_OF_MEMORY, "no memory to wrap a data key");
    kmsenv_buffer_init(&aad, AAD_MAX, 0);
    put32(text, version);
    nonce = text + VERSION_LEN;
    ok = kmsenv_crypto_random(local->crypto, nonce, KMSENV_NONCE_LEN, call->err)
        && make_aad(&aad, key, version, call)
        && kmsenv_crypto_gcm_seal(local->crypto, kmsenv_local_key_get0(key, version), nonce, aad.data, aad.length,
                                  in, inlen, nonce + KMSENV_NONCE_LEN, nonce + KMSENV_NONCE_LEN + inlen, call->err);
    kmsenv_buffer_reset(&aad);
    if (ok && (out->key_id = OPENSSL_strdup(kmsenv_local_key_id(key))) == NULL)
        ok = kmsenv_error_set(call->err, KMSENV_R_OUT_OF_MEMORY, "no memory to wrap a data key");
    if (!ok) {
        OPENSSL_free(text);
        return 0;
    }
    out->ciphertext = text;
    out->ciphertext_len = OVERHEAD + inlen;
    return 1;
}

static int check_wrap(const LOCAL *local, KMSENV_CALL *call, const KMSENV_LOCAL_KEY *key, const KMSENV_BLOB *in,
                      size_t room)
{
    uint32_t version;

    if (in->key_id != NULL && strcmp(in->key_id, kmsenv_local_key_id(key)) != 0)
        return kmsenv_error_set(call->err, KMSENV_R_KMS_WRAP_REJECTED,
                                "the data key is wrapped under the local key %.64s, but %s holds the key %s",
                                in->key_id, local->path, kmsenv_local_key_id(key));
    if (in->ciphertext_len <= OVERHEAD || in->ciphertext_len - OVERHEAD > PLAINTEXT_MAX
        || in->ciphertext_len - OVERHEAD > room)
        return kmsenv_error_set(call->err, KMSENV_R_KMS_WRAP_REJECTED,
                                "a wrapped data key of %zu bytes is not one of the local key", in->ciphertext_len);
    version = get32(in->ciphertext);
    if (kmsenv_local_key_get0(key, version) == NULL)
        return kmsenv_error_set(call->err, KMSENV_R_KMS_WRAP_REJECTED, "the data key is wrapped under version %lu of "
                                "the local key, which is not in %s (newest there: %lu)",
                                (unsigned long)version, local->path, (unsigned long)kmsenv_local_key_newest(key));
    return 1;
}

static int unwrap(LOCAL *local, KMSENV_CALL *call, const KMSENV_LOCAL_KEY *key, const KMSENV_BLOB *in,
                  unsigned char *out, size_t *outlen)
{
    const unsigned char *nonce = in->ciphertext + VERSION_LEN, *text = nonce + KMSENV_NONCE_LEN;
    KMSENV_BUFFER aad;
    uint32_t version;
    size_t len;
    int ok;

    if (!check_wrap(local, call, key, in, *outlen))
        return 0;
    version = get32(in->ciphertext);
    len = in->ciphertext_len - OVERHEAD;
    kmsenv_buffer_init(&aad, AAD_MAX, 0);
    kmsenv_error_clear(call->err);
    ok = make_aad(&aad, key, version, call)
        && kmsenv_crypto_gcm_open(local->crypto, kmsenv_local_key_get0(key, version), nonce, aad.data, aad.length,
                                  text, len, text + len, out, call->err);
    kmsenv_buffer_reset(&aad);
    if (ok) {
        *outlen = len;
        return 1;
    }
    OPENSSL_cleanse(out, len);
    if (call->err->reason == KMSENV_R_NONE)
        kmsenv_error_set(call->err, KMSENV_R_KMS_WRAP_REJECTED, "version %lu of the local key in %s does not open the "
                         "wrapped data key: it is damaged, or its encryption context is not the one given",
                         (unsigned long)version, local->path);
    return 0;
}

static int local_encrypt(void *kms, KMSENV_CALL *call, const unsigned char *in, size_t inlen, KMSENV_BLOB *out)
{
    KMSENV_LOCAL_KEY *key;
    int ok;

    if (inlen == 0 || inlen > PLAINTEXT_MAX)
        return kmsenv_error_set(call->err, KMSENV_R_KMS_INPUT_TOO_LARGE,
                                "the local key encrypts 1 to %d bytes, not %zu", PLAINTEXT_MAX, inlen);
    if ((key = current_key(kms, call->err)) == NULL)
        return 0;
    ok = wrap(kms, call, key, in, inlen, out);
    kmsenv_local_key_free(key);
    return ok;
}

static int local_decrypt(void *kms, KMSENV_CALL *call, const KMSENV_BLOB *in, unsigned char *out, size_t *outlen)
{
    KMSENV_LOCAL_KEY *key = current_key(kms, call->err);
    int ok = key != NULL && unwrap(kms, call, key, in, out, outlen);

    kmsenv_local_key_free(key);
    return ok;
}

static int local_describe(void *kms, KMSENV_CALL *call, char *state, size_t room)
{
    KMSENV_LOCAL_KEY *key = current_key(kms, call->err);

    if (key == NULL)
        return 0;
    snprintf(state, room, "Enabled, version %lu", (unsigned long)kmsenv_local_key_newest(key));
    kmsenv_local_key_free(key);
    return 1;
}

const KMSENV_KMS_METHOD kmsenv_kms_local = {
    .name = "local",
    .title = "local key file",
    .settings = settings,
    .network = 0,
    .plaintext_max = PLAINTEXT_MAX,
    .wrap_room = 140,
    .new = local_new,
    .free = local_free,
    .key_id = local_key_id,
    .generate = NULL,
    .encrypt = local_encrypt,
    .decrypt = local_decrypt,
    .reencrypt = NULL,      /* the KMS is this process: there is no inside */
    .describe = local_describe
};
