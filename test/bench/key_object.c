/* Symmetric key objects, which OpenSSL has since 3.5. */
#include <openssl/core_dispatch.h>
#include <openssl/params.h>
#include "bench.h"
#include "kmsenv/params.h"

#ifdef OSSL_OP_SKEYMGMT
void *bench_key_object(const unsigned char reference[32])
{
    OSSL_PARAM params[] = { OSSL_PARAM_octet_string(KMSENV_SKEY_PARAM_REFERENCE, (void *)reference, 32), OSSL_PARAM_END };
    EVP_SKEY *skey = EVP_SKEY_import(NULL, KMSENV_CIPHER_ENVELOPE, NULL, OSSL_SKEYMGMT_SELECT_ALL, params);

    bench_check(skey != NULL, "importing a key object");
    return skey;
}

int bench_key_object_init(EVP_CIPHER_CTX *ctx, void *object, const unsigned char iv[12], int sealing)
{
    return EVP_CipherInit_SKEY(ctx, NULL, object, iv, 12, sealing, NULL);
}
#else
void *bench_key_object(const unsigned char reference[32])
{
    (void)reference;
    bench_check(0, "importing a key object (OpenSSL before 3.5)");
    return NULL;
}

int bench_key_object_init(EVP_CIPHER_CTX *ctx, void *object, const unsigned char iv[12], int sealing)
{
    (void)ctx, (void)object, (void)iv, (void)sealing;
    return 0;
}
#endif
