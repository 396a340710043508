#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include "compat/core_version.h"
#include "entry/algorithms.h"
#include "kmsenv/format.h"
#include "kmsenv/params.h"
#include "ops/cipher_envelope.h"
#include "ops/reference_table.h"
#include "ops/key.h"
#include "ops/skey.h"

#define PROPERTIES "provider=kmsenv"
/* Decoders and the like take nothing away from a FIPS user: with fips=yes as a default property they would not be found. */
#define AROUND     "provider=kmsenv,fips=yes"

/* libcrypto looks for the type of a public key by the identifier in it. */
#define MASTER_KEY KMSENV_KEYMGMT_MASTER_KEY ":" KMSENV_OID_MASTER_KEY
#define PUBLIC     ",structure=SubjectPublicKeyInfo"

static const struct { const char *names, *description; size_t key_bits; } envelope[] = {
    { KMSENV_CIPHER_ENVELOPE ":kms-envelope-256", "Envelope under a KMS, AES-256-GCM", 256 },
    { KMSENV_CIPHER_ENVELOPE_192, "Envelope under a KMS, AES-192-GCM", 192 },
    { KMSENV_CIPHER_ENVELOPE_128, "Envelope under a KMS, AES-128-GCM", 128 }
};
#define ENVELOPES (sizeof(envelope) / sizeof(envelope[0]))

struct kmsenv_tables_st {
    KMSENV_REFERENCE_TABLE *references;
    OSSL_ALGORITHM ciphers[ENVELOPES + 2 * KMSENV_REFERENCE_CIPHERS_MAX + 1];
    OSSL_ALGORITHM macs[2 * KMSENV_REFERENCE_MACS_MAX + 1];
    OSSL_ALGORITHM skeymgmts[ENVELOPES + KMSENV_REFERENCE_CIPHERS_MAX + 3];
};

static const OSSL_ALGORITHM keymgmts[] = {
    { KMSENV_KEYMGMT_DATA_KEY, PROPERTIES, kmsenv_keymgmt_data_key_functions, "Data key wrapped by a KMS" },
    { MASTER_KEY, PROPERTIES, kmsenv_keymgmt_master_key_functions, "Master key of a KMS" },
    { NULL, NULL, NULL, NULL }
};

/* Under the name of the structure that libcrypto asks for when it writes a private key; ours is what comes. */
static const OSSL_ALGORITHM encoders[] = {
    { KMSENV_KEYMGMT_DATA_KEY, AROUND ",output=pem,structure=PrivateKeyInfo", kmsenv_encoder_data_key_pem_functions, NULL },
    { KMSENV_KEYMGMT_DATA_KEY, AROUND ",output=der,structure=PrivateKeyInfo", kmsenv_encoder_data_key_der_functions, NULL },
    { KMSENV_KEYMGMT_DATA_KEY, AROUND ",output=text", kmsenv_encoder_data_key_text_functions, NULL },
    { MASTER_KEY, AROUND ",output=pem" PUBLIC, kmsenv_encoder_master_key_pem_functions, NULL },
    { MASTER_KEY, AROUND ",output=der" PUBLIC, kmsenv_encoder_master_key_der_functions, NULL },
    { MASTER_KEY, AROUND ",output=text", kmsenv_encoder_master_key_text_functions, NULL },
    { MASTER_KEY, AROUND ",output=pem,structure=PrivateKeyInfo", kmsenv_encoder_master_key_private_functions, NULL },
    { MASTER_KEY, AROUND ",output=der,structure=PrivateKeyInfo", kmsenv_encoder_master_key_private_functions, NULL },
    { NULL, NULL, NULL, NULL }
};

/*
 * libcrypto chains decoders by name: what one is called is what the next one takes. Each is in the chain of every key that
 * a process loads, and costs it something: ops/decoder.c. The first is for OpenSSL 3.5 and later only.
 */
static const OSSL_ALGORITHM decoders[] = {
    { "DER", AROUND ",input=der", kmsenv_decoder_der_functions, NULL },
    { "DER", AROUND ",input=pem", kmsenv_decoder_pem_functions, NULL },
    { KMSENV_KEYMGMT_DATA_KEY, AROUND ",input=der,structure=" KMSENV_STRUCTURE, kmsenv_decoder_data_key_functions, NULL },
    { "DER", AROUND ",input=der,structure=" KMSENV_STRUCTURE, kmsenv_decoder_sealed_key_functions, NULL },
    { MASTER_KEY, AROUND ",input=der" PUBLIC, kmsenv_decoder_master_key_functions, NULL },
    { NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM stores[] = {
    { "kms", AROUND, kmsenv_store_functions, "Master keys: kms:PROFILE" },
    { "kms-key", AROUND, kmsenv_store_functions, "Data keys of the keyring: kms-key:ID" },
    { NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM asym_ciphers[] = {
    { MASTER_KEY, PROPERTIES, kmsenv_asym_cipher_functions, "Small secrets encrypted by the KMS itself" },
    { NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM kems[] = {
    { MASTER_KEY, PROPERTIES, kmsenv_kem_functions, "GenerateDataKey and Decrypt" },
    { NULL, NULL, NULL, NULL }
};

const OSSL_ALGORITHM *kmsenv_algorithms_query(int operation_id, unsigned core_version)
{
    static const struct { int operation; const OSSL_ALGORITHM *algorithms; } table[] = {
        { OSSL_OP_KEYMGMT, keymgmts }, { OSSL_OP_ENCODER, encoders }, { OSSL_OP_DECODER, decoders }, { OSSL_OP_STORE, stores },
        { OSSL_OP_ASYM_CIPHER, asym_ciphers }, { OSSL_OP_KEM, kems }
    };
    size_t i;

    if (operation_id == OSSL_OP_DECODER && core_version < KMSENV_CORE_VERSION(3, 5))
        return decoders + 1;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].operation == operation_id)
            return table[i].algorithms;
    return NULL;
}

static void add(OSSL_ALGORITHM **at, const char *names, const OSSL_DISPATCH *functions, const char *description)
{
    (*at)->algorithm_names = names;
    (*at)->property_definition = PROPERTIES;
    (*at)->implementation = functions;
    (*at)->algorithm_description = description;
    ++*at;
}

static void add_references(OSSL_ALGORITHM **at, const KMSENV_REFERENCE_ENTRY *entry, size_t count, int ordinary_names)
{
    size_t i;

    for (i = 0; i < count; i++)
        add(at, entry[i].own_name, entry[i].functions, "Keyed by reference");
    for (i = 0; ordinary_names && i < count; i++)
        add(at, entry[i].names, entry[i].functions, "Keyed by reference, or by any other key");
}

static void add_envelopes(OSSL_ALGORITHM **at, size_t block_size)
{
    size_t i;

    for (i = 0; i < ENVELOPES; i++)
        add(at, envelope[i].names, kmsenv_cipher_envelope_functions(envelope[i].key_bits, block_size), envelope[i].description);
}

/*
 * `openssl enc` looks for a key management of the cipher's name. Each is an algorithm of its own: as names of one they would be names
 * of one cipher, too. Those of the default provider go with its names of ciphers, or key objects and ciphers would not fit together.
 */
static void add_skeymgmts(OSSL_ALGORITHM **at, const KMSENV_REFERENCE_TABLE *r, int ordinary_names)
{
    const OSSL_DISPATCH *functions;
    size_t i;

    for (i = 0; i < ENVELOPES; i++)
        add(at, envelope[i].names, kmsenv_skeymgmt_functions(envelope[i].key_bits / 8), "Data key wrapped by a KMS");
    for (i = 0; i < r->ciphers; i++)
        if ((functions = kmsenv_skeymgmt_functions(r->cipher[i].key_length)) != NULL)
            add(at, r->cipher_entry[i].own_name, functions, "Data key wrapped by a KMS");
    if (!ordinary_names)
        return;
    add(at, OSSL_SKEY_TYPE_AES, kmsenv_skeymgmt_aes_functions, "Key, or key reference");
    add(at, OSSL_SKEY_TYPE_GENERIC, kmsenv_skeymgmt_generic_functions, "Key, or key reference");
}

/* All but the envelopes. */
static int add_by_reference(KMSENV_TABLES *t, OSSL_ALGORITHM *cipher, KMSENV_CRYPTO *crypto, int ordinary_names)
{
    const KMSENV_REFERENCE_TABLE *r = t->references = kmsenv_reference_table_new(crypto);
    OSSL_ALGORITHM *mac = t->macs, *skeymgmt = t->skeymgmts;

    if (r == NULL)
        return 0;
    add_references(&cipher, r->cipher_entry, r->ciphers, ordinary_names);
    add_references(&mac, r->mac_entry, r->macs, ordinary_names);
    add_skeymgmts(&skeymgmt, r, ordinary_names);
    return 1;
}

KMSENV_TABLES *kmsenv_tables_new(const KMSENV_PROVCTX *provctx)
{
    KMSENV_TABLES *t = OPENSSL_zalloc(sizeof(*t));
    OSSL_ALGORITHM *at;

    if (t == NULL)
        return NULL;
    at = t->ciphers;
    add_envelopes(&at, provctx->block_size);
    if (!provctx->by_reference || add_by_reference(t, at, provctx->crypto, provctx->ordinary_names))
        return t;
    OPENSSL_free(t);
    return NULL;
}

void kmsenv_tables_free(KMSENV_TABLES *tables)
{
    if (tables == NULL)
        return;
    kmsenv_reference_table_free(tables->references);
    OPENSSL_free(tables);
}

const OSSL_ALGORITHM *kmsenv_tables_get0(const KMSENV_TABLES *tables, int operation_id)
{
    switch (operation_id) {
    case OSSL_OP_CIPHER:
        return tables->ciphers;
    case OSSL_OP_MAC:
        return tables->macs;
    case OSSL_OP_SKEYMGMT:
        return tables->skeymgmts;
    default:
        return NULL;
    }
}

const KMSENV_REFERENCE_TABLE *kmsenv_tables_get0_references(const KMSENV_TABLES *tables)
{
    return tables->references;
}
