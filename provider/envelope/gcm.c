#include "envelope/gcm.h"

int kmsenv_gcm_failed(KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_CRYPTO_FAILED, "AES-GCM failed in the inner provider");
}

int kmsenv_gcm_start(EVP_CIPHER_CTX *gcm, const EVP_CIPHER *cipher, const unsigned char *key,
                     uint64_t number, int sealing, KMSENV_ERROR *err)
{
    unsigned char nonce[KMSENV_NONCE_LEN] = { 0 };

    if (number >= KMSENV_SEGMENTS_MAX)
        return kmsenv_error_set(err, KMSENV_R_INPUT_TOO_LARGE, "a message has at most 2^32 segments: use larger ones (segment-bits)");
    nonce[8] = (unsigned char)(number >> 24);
    nonce[9] = (unsigned char)(number >> 16);
    nonce[10] = (unsigned char)(number >> 8);
    nonce[11] = (unsigned char)number;
    return EVP_CipherInit_ex2(gcm, cipher, key, nonce, sealing, NULL) || kmsenv_gcm_failed(err);
}

int kmsenv_gcm_aad(EVP_CIPHER_CTX *gcm, const void *aad, size_t n, KMSENV_ERROR *err)
{
    int len;

    return n == 0 || EVP_CipherUpdate(gcm, NULL, &len, aad, (int)n) || kmsenv_gcm_failed(err);
}

int kmsenv_gcm_crypt_pieces(EVP_CIPHER_CTX *gcm, unsigned char *out, const unsigned char *in, size_t n, KMSENV_ERROR *err)
{
    size_t piece;

    for (; n > 0; n -= piece, in += piece, out += piece) {
        piece = n > KMSENV_GCM_PIECE_MAX ? KMSENV_GCM_PIECE_MAX : n;
        if (!kmsenv_gcm_crypt(gcm, out, in, piece, err))
            return 0;
    }
    return 1;
}

int kmsenv_gcm_seal_end(EVP_CIPHER_CTX *gcm, unsigned char flag, unsigned char trailer[KMSENV_TRAILER_LEN], KMSENV_ERROR *err)
{
    int len;

    if (!kmsenv_gcm_crypt(gcm, trailer, &flag, 1, err))
        return 0;
    return (EVP_EncryptFinal_ex(gcm, trailer + 1, &len)
            && EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_GET_TAG, KMSENV_TAG_LEN, trailer + 1))
        || kmsenv_gcm_failed(err);
}

int kmsenv_gcm_damaged(uint64_t number, KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_MESSAGE_DAMAGED,
                            "segment %llu of the message was altered, or other additional data were authenticated with it",
                            (unsigned long long)number);
}

int kmsenv_gcm_open_end(EVP_CIPHER_CTX *gcm, const unsigned char trailer[KMSENV_TRAILER_LEN], uint64_t number,
                        unsigned char *flag, KMSENV_ERROR *err)
{
    unsigned char none[KMSENV_TAG_LEN];
    int len;

    if (!kmsenv_gcm_crypt(gcm, flag, trailer, 1, err))
        return 0;
    if (!EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_SET_TAG, KMSENV_TAG_LEN, (void *)(trailer + 1))
            || !EVP_DecryptFinal_ex(gcm, none, &len)
            || (*flag != KMSENV_FLAG_MORE && *flag != KMSENV_FLAG_LAST))
        return kmsenv_gcm_damaged(number, err);
    return 1;
}
