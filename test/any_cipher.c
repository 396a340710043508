#include <string.h>
#include "any_cipher.h"

static int is_aead(const EVP_CIPHER *c)
{
    return (EVP_CIPHER_get_flags(c) & EVP_CIPH_FLAG_AEAD_CIPHER) != 0 && strstr(EVP_CIPHER_get0_name(c), "HMAC") == NULL;
}

int any_cipher_is_random(const EVP_CIPHER *c)
{
    return EVP_CIPHER_is_a(c, "DES3-WRAP");
}

static int set_key(EVP_CIPHER_CTX *ctx, const unsigned char *key, KMSENV_TEST_SKEY *skey, const unsigned char *iv, int ivlen, int enc)
{
    if (skey != NULL)
        return kmsenv_test_skey_init(ctx, skey, ivlen > 0 ? iv : NULL, (size_t)EVP_CIPHER_CTX_get_iv_length(ctx), enc);   /* CCM: 7, not 12 */
    return EVP_CipherInit_ex(ctx, NULL, NULL, key, ivlen > 0 ? iv : NULL, enc);
}

EVP_CIPHER_CTX *any_cipher_start(const EVP_CIPHER *c, int enc, const unsigned char *key, KMSENV_TEST_SKEY *skey, const ANY_SEALED *in)
{
    static const unsigned char iv[16] = "iviviviviviviv!";
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int mode = EVP_CIPHER_get_mode(c), ivlen = EVP_CIPHER_get_iv_length(c);

    EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    if (!EVP_CipherInit_ex(ctx, c, NULL, NULL, NULL, enc)
        || (mode == EVP_CIPH_CCM_MODE && !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, ANY_TAG, enc ? NULL : (void *)in->tag))
        || !set_key(ctx, key, skey, iv, ivlen, enc)
        || (!enc && is_aead(c) && mode != EVP_CIPH_CCM_MODE
            && !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, ANY_TAG, (void *)in->tag))) {
        EVP_CIPHER_CTX_free(ctx);
        return NULL;
    }
    EVP_CIPHER_CTX_set_padding(ctx, 0);
    return ctx;
}

int any_cipher_encrypt(const EVP_CIPHER *c, const unsigned char *key, KMSENV_TEST_SKEY *skey, const unsigned char *in, int inlen,
                       ANY_SEALED *out)
{
    EVP_CIPHER_CTX *ctx = any_cipher_start(c, 1, key, skey, NULL);
    int n = 0, last = 0, total, ok;

    memset(out, 0, sizeof(*out));
    if (ctx == NULL)
        return 0;
    ok = (EVP_CIPHER_get_mode(c) != EVP_CIPH_CCM_MODE || EVP_EncryptUpdate(ctx, NULL, &total, NULL, inlen))
         && EVP_EncryptUpdate(ctx, out->data, &n, in, inlen) && EVP_EncryptFinal_ex(ctx, out->data + n, &last)
         && (!is_aead(c) || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, ANY_TAG, out->tag));
    out->len = n + last;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

int any_cipher_decrypt(const EVP_CIPHER *c, const unsigned char *key, KMSENV_TEST_SKEY *skey, const ANY_SEALED *in, unsigned char *out)
{
    EVP_CIPHER_CTX *ctx = any_cipher_start(c, 0, key, skey, in);
    int n = 0, last = 0, total, ok, mode = EVP_CIPHER_get_mode(c);

    if (ctx == NULL)
        return -1;
    ok = (mode != EVP_CIPH_CCM_MODE || EVP_DecryptUpdate(ctx, NULL, &total, NULL, in->len))
         && EVP_DecryptUpdate(ctx, out, &n, in->data, in->len)
         && (mode == EVP_CIPH_CCM_MODE || EVP_DecryptFinal_ex(ctx, out + n, &last));
    EVP_CIPHER_CTX_free(ctx);
    return ok ? n + last : -1;
}
