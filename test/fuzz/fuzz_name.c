/* The public key of a master key, as anybody's certificate has it. What is accepted has one encoding only. */
#include <string.h>
#include <openssl/crypto.h>
#include "dek/key_name.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_KEY_NAME name = { NULL, NULL };
    unsigned char *again = NULL;
    size_t n = 0;

    if (kmsenv_key_name_parse(&name, data, size, &err)) {
        FUZZ_REQUIRE(err.reason == KMSENV_R_NONE && kmsenv_key_name_is(data, size) && *name.kms != '\0' && *name.key_id != '\0');
        FUZZ_REQUIRE(kmsenv_key_name_encode(&name, &again, &n, &err) && n == size && memcmp(again, data, n) == 0);
    } else {
        FUZZ_REQUIRE(err.reason != KMSENV_R_NONE && name.kms == NULL && name.key_id == NULL);
    }
    OPENSSL_free(again);
    kmsenv_key_name_reset(&name);
    return 0;
}
