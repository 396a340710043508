/* Which algorithms of the inner providers are offered keyed by reference, and under which names. */
#ifndef KMSENV_OPS_REFERENCE_TABLE_H
# define KMSENV_OPS_REFERENCE_TABLE_H
# include "ops/cipher_reference.h"
# include "ops/mac_reference.h"

typedef struct kmsenv_reference_entry_st {
    const char *names;                 /* as the inner provider registers them */
    char *own_name;                    /* "KMS-AES-256-GCM" */
    OSSL_DISPATCH functions[KMSENV_REFERENCE_FUNCTIONS];
} KMSENV_REFERENCE_ENTRY;

/* Of a provider context. Immutable. */
struct kmsenv_reference_table_st {
    size_t ciphers;
    KMSENV_INNER_CIPHER cipher[KMSENV_REFERENCE_CIPHERS_MAX];
    KMSENV_REFERENCE_ENTRY cipher_entry[KMSENV_REFERENCE_CIPHERS_MAX];
    size_t macs;
    KMSENV_INNER_MAC mac[KMSENV_REFERENCE_MACS_MAX];
    KMSENV_REFERENCE_ENTRY mac_entry[KMSENV_REFERENCE_MACS_MAX];
};
/* NULL if there is no memory, no inner provider, or one with more algorithms than there is room for. */
KMSENV_REFERENCE_TABLE *kmsenv_reference_table_new(KMSENV_CRYPTO *crypto);
void kmsenv_reference_table_free(KMSENV_REFERENCE_TABLE *table);

#endif
