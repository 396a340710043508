/* PKCS#11 URIs. What is read can be written, and says the same when it is read again. */
#include <string.h>
#include "kms/pkcs11_uri.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_PKCS11_URI uri, again;
    KMSENV_BUFFER out, twice;

    if (!kmsenv_pkcs11_uri_parse(&uri, (const char *)data, size, &err)) {
        FUZZ_REQUIRE(err.reason == KMSENV_R_CONFIG_INVALID && err.text[0] != '\0');
        return 0;
    }
    kmsenv_buffer_init(&out, 4096, 0);
    kmsenv_buffer_init(&twice, 4096, 0);
    FUZZ_REQUIRE(kmsenv_pkcs11_uri_write(&uri, &out));
    if (out.length > 0) {
        FUZZ_REQUIRE(kmsenv_pkcs11_uri_parse(&again, kmsenv_buffer_text(&out), out.length, &err));
        FUZZ_REQUIRE(kmsenv_pkcs11_uri_write(&again, &twice) && out.length == twice.length
                     && memcmp(out.data, twice.data, out.length) == 0);
        FUZZ_REQUIRE(kmsenv_pkcs11_uri_matches(&uri, &again) == kmsenv_pkcs11_uri_names_key(&uri));
    }
    kmsenv_buffer_reset(&out);
    kmsenv_buffer_reset(&twice);
    return 0;
}
