#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "dek/dek.h"
#include "entry/self_test.h"
#include "envelope/schedule.h"

/*
 * The DEK 00..1f, the salt 20..3f, segments of 2^35 bytes, no caller's key; the one segment of a
 * message that says "kmsenv". Computed by test/reader.py, which was written from the format alone.
 */
static const unsigned char expected_id[24] = {
    0x8c, 0x70, 0xb0, 0xda, 0x16, 0xd2, 0xfe, 0x27, 0xbb, 0x87, 0x63, 0x37, 0x92, 0x60, 0x10, 0x89,
    0x51, 0x66, 0x5e, 0x6d, 0x77, 0xb7, 0x0b, 0x43
};
static const unsigned char expected_commitment[32] = {
    0x3f, 0xcd, 0xfb, 0x98, 0xfe, 0xfa, 0xb0, 0x77, 0x75, 0xbd, 0xdd, 0xd5, 0xcb, 0x2d, 0x00, 0x7a,
    0x7b, 0x91, 0x9f, 0x41, 0x70, 0x63, 0xc6, 0x72, 0xc7, 0x43, 0x61, 0x8b, 0xb6, 0x47, 0xb0, 0xa1
};
static const unsigned char expected_segment[23] = {
    0x73, 0xa6, 0x17, 0xc7, 0x21, 0x6d, 0xe4, 0x4d, 0x4c, 0x1f, 0x69, 0x6f, 0x60, 0xc1, 0xba, 0xc9,
    0x78, 0x92, 0x60, 0x04, 0xa6, 0xfb, 0x31
};

#define DATA     "kmsenv"
#define DATA_LEN (sizeof(DATA) - 1)
#define BODY_LEN (DATA_LEN + 1)

static int check_schedule(KMSENV_DEK *dek, KMSENV_HEADER *header, unsigned char *cek, unsigned char *commitment, KMSENV_ERROR *err)
{
    EVP_MD_CTX *scratch = EVP_MD_CTX_new();
    const KMSENV_HMAC *prk;
    KMSENV_HMAC *own;
    int ok;

    ok = scratch != NULL && kmsenv_dek_get_prk(dek, NULL, &prk, &own, err)
        && kmsenv_schedule_derive(prk, scratch, header, cek, commitment, err);
    EVP_MD_CTX_free(scratch);
    return ok && CRYPTO_memcmp(commitment, expected_commitment, sizeof(expected_commitment)) == 0;
}

static int check_segment(KMSENV_CRYPTO *crypto, const unsigned char *parameters, const unsigned char *cek, KMSENV_ERROR *err)
{
    static const unsigned char nonce[KMSENV_NONCE_LEN];
    unsigned char in[BODY_LEN], out[BODY_LEN + KMSENV_TAG_LEN];

    memcpy(in, DATA, DATA_LEN);
    in[DATA_LEN] = KMSENV_FLAG_LAST;
    return kmsenv_crypto_gcm_seal(crypto, cek, nonce, parameters, KMSENV_PARAMETERS_LEN, in, BODY_LEN, out, out + BODY_LEN, err)
        && memcmp(out, expected_segment, sizeof(expected_segment)) == 0;
}

/* secret: room for a DEK (taken over) and, behind it, a CEK. */
static int check_all(KMSENV_CRYPTO *crypto, unsigned char *secret, unsigned char *cek, KMSENV_ERROR *err)
{
    unsigned char parameters[KMSENV_PARAMETERS_LEN], salt[KMSENV_SALT_LEN];
    KMSENV_DATA_KEY key = { .length = 32 };
    KMSENV_HEADER header = { .keylen = 32, .segment_bits = 35 };
    KMSENV_DEK *dek;
    size_t i;
    int ok;

    for (i = 0; i < 32; i++) {
        secret[i] = (unsigned char)i;
        salt[i] = (unsigned char)(32 + i);
    }
    memcpy(key.id, expected_id, sizeof(expected_id));
    if ((dek = kmsenv_dek_new(crypto, &key, secret, err)) == NULL)
        return 0;
    kmsenv_parameters_build(parameters, header.keylen, header.segment_bits, salt);
    kmsenv_parameters_locate(parameters, &header);
    ok = check_schedule(dek, &header, cek, parameters + (header.commitment - parameters), err)
        && check_segment(crypto, parameters, cek, err);
    kmsenv_dek_free(dek);
    return ok;
}

int kmsenv_self_test(KMSENV_CRYPTO *crypto, KMSENV_ERROR *err)
{
    unsigned char *secret = kmsenv_secret_zalloc(32), *cek = kmsenv_secret_zalloc(KMSENV_SCHEDULE_WORK);
    int ok = 0;

    if (secret != NULL && cek != NULL)
        ok = check_all(crypto, secret, cek, err);
    else
        kmsenv_secret_free(secret);
    kmsenv_secret_free(cek);
    if (!ok && err->reason == KMSENV_R_NONE)
        kmsenv_error_set(err, KMSENV_R_CRYPTO_FAILED, "self test: the inner provider gives a wrong answer");
    return ok;
}
