#include "entry/algorithms.h"
#include "kmsenv/params.h"
#include "ops/cipher_envelope.h"

#define PROPERTIES "provider=kmsenv"

static const struct { const char *names, *description; size_t key_bits; } ciphers[] = {
    { KMSENV_CIPHER_ENVELOPE ":kms-envelope-256", "Envelope under a KMS, AES-256-GCM", 256 },
    { KMSENV_CIPHER_ENVELOPE_192, "Envelope under a KMS, AES-192-GCM", 192 },
    { KMSENV_CIPHER_ENVELOPE_128, "Envelope under a KMS, AES-128-GCM", 128 }
};

void kmsenv_ciphers_fill(OSSL_ALGORITHM *out, size_t block_size)
{
    static const OSSL_ALGORITHM end = { NULL, NULL, NULL, NULL };
    size_t i;

    for (i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++) {
        out[i].algorithm_names = ciphers[i].names;
        out[i].property_definition = PROPERTIES;
        out[i].implementation = kmsenv_cipher_envelope_functions(ciphers[i].key_bits, block_size);
        out[i].algorithm_description = ciphers[i].description;
    }
    out[i] = end;
}
