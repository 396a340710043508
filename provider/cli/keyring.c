#include <string.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include "cli/cli.h"
#include "dek/deks.h"
#include "dek/keyring.h"
#include "kmsenv/params.h"

#define MESSAGE_MAX 66560     /* an empty message: the largest header and its last segment */

/* --- keys through OpenSSL ------------------------------------------------- */

/* The data key of a key object, parsed; NULL if it is another kind of key. */
static KMSENV_DATA_KEY *data_key_of(const EVP_PKEY *pkey, KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *key = NULL;
    unsigned char *der;
    size_t len = 0;

    if (!EVP_PKEY_is_a(pkey, KMSENV_KEYMGMT_DATA_KEY) || !EVP_PKEY_get_octet_string_param(pkey, KMSENV_PKEY_PARAM_DATA_KEY, NULL, 0, &len)
            || (der = OPENSSL_malloc(len)) == NULL) {
        kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "not a data key; accepted: PEM " KMSENV_PEM_DATA_KEY);
        return NULL;
    }
    if (EVP_PKEY_get_octet_string_param(pkey, KMSENV_PKEY_PARAM_DATA_KEY, der, len, &len))
        key = kmsenv_data_key_parse(der, len, err);
    OPENSSL_free(der);
    return key;
}

/* Calls fn for each data key that a URI stands for. Returns the worst status. */
static int for_each(const char *uri, int (*fn)(const KMSENV_DATA_KEY *))
{
    OSSL_STORE_CTX *store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int status = KMSENV_EXIT_OK;
    KMSENV_DATA_KEY *key;
    OSSL_STORE_INFO *info;

    if (store == NULL)
        return kmsenv_cli_openssl_error(uri);
    while (!OSSL_STORE_eof(store)) {
        if ((info = OSSL_STORE_load(store)) == NULL) {
            if (ERR_peek_error() != 0)
                status = kmsenv_cli_openssl_error("");
            continue;
        }
        key = OSSL_STORE_INFO_get_type(info) != OSSL_STORE_INFO_PKEY ? NULL : data_key_of(OSSL_STORE_INFO_get0_PKEY(info), &err);
        if (key == NULL || fn(key) != KMSENV_EXIT_OK)
            status = KMSENV_EXIT_FAILED;
        kmsenv_data_key_free(key);
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    return status;
}

/* --- list ----------------------------------------------------------------- */

static int list_one(const KMSENV_DATA_KEY *key)
{
    char hex[2 * KMSENV_DEK_ID_LEN + 1];
    size_t i;

    kmsenv_dek_id_hex(key->id, hex);
    printf("%s  %3zu bit ", hex, 8 * key->length);
    for (i = 0; i < key->wraps; i++) {
        printf(" %s:", key->wrap[i].kms);
        kmsenv_cli_print_text(stdout, key->wrap[i].blob.key_id, strlen(key->wrap[i].blob.key_id));
    }
    putchar('\n');
    return KMSENV_EXIT_OK;
}

/* --- check ---------------------------------------------------------------- */

/* Seals an empty message under it: the KMS has to unwrap it for that. */
static int can_be_used(const KMSENV_DATA_KEY *key)
{
    unsigned char reference[KMSENV_REFERENCE_LEN], *out = OPENSSL_malloc(MESSAGE_MAX);
    OSSL_PARAM params[] = {
        OSSL_PARAM_octet_string(KMSENV_CIPHER_PARAM_DATA_KEY, reference, sizeof(reference)), OSSL_PARAM_END
    };
    const char *name = key->length < 32 ? key->length < 24 ? KMSENV_CIPHER_ENVELOPE_128 : KMSENV_CIPHER_ENVELOPE_192
                                        : KMSENV_CIPHER_ENVELOPE;
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, "provider=kmsenv");
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, ok;

    kmsenv_reference_make(key->id, reference);
    ok = cipher != NULL && ctx != NULL && out != NULL && EVP_EncryptInit_ex2(ctx, cipher, NULL, NULL, params)
         && EVP_EncryptFinal_ex(ctx, out, &n);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    OPENSSL_free(out);
    return ok;
}

static int check_one(const KMSENV_DATA_KEY *key)
{
    char hex[2 * KMSENV_DEK_ID_LEN + 1];

    kmsenv_dek_id_hex(key->id, hex);
    ERR_clear_error();
    if (!can_be_used(key))
        return kmsenv_cli_openssl_error(hex);
    printf("%s  ok\n", hex);
    return KMSENV_EXIT_OK;
}

/* --- add ------------------------------------------------------------------ */

static int store_key(const char *path, const KMSENV_DATA_KEY *key, KMSENV_ERROR *err)
{
    const char *dirs = "";
    OSSL_PARAM params[] = { OSSL_PARAM_DEFN(KMSENV_PROV_PARAM_KEYRING, OSSL_PARAM_UTF8_PTR, &dirs, 0), OSSL_PARAM_END };
    OSSL_PROVIDER *provider = OSSL_PROVIDER_load(NULL, "kmsenv");
    char hex[2 * KMSENV_DEK_ID_LEN + 1];
    unsigned char *der = NULL;
    size_t len;
    int ok;

    if (provider == NULL || !OSSL_PROVIDER_get_params(provider, params))
        return kmsenv_cli_openssl_error("");
    kmsenv_dek_id_hex(key->id, hex);
    ok = kmsenv_data_key_encode(key, 0, &der, &len, err)
         && kmsenv_keyring_store(*dirs == '\0' ? NULL : dirs, key->id, der, len, err);
    OPENSSL_free(der);
    OSSL_PROVIDER_unload(provider);
    if (!ok)
        return kmsenv_cli_error(err);
    printf("%s  added from %s\n", hex, path);
    return KMSENV_EXIT_OK;
}

static int add_file(const char *path)
{
    BIO *bio = BIO_new_file(path, "r");
    EVP_PKEY *pkey = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = NULL;
    int status;

    if (pkey == NULL)
        status = kmsenv_cli_openssl_error(path);
    else if ((key = data_key_of(pkey, &err)) == NULL)
        status = kmsenv_cli_failed("%s: %s", path, err.text);
    else
        status = store_key(path, key, &err);
    kmsenv_data_key_free(key);
    EVP_PKEY_free(pkey);
    BIO_free(bio);
    return status;
}

/* --- the command ---------------------------------------------------------- */

static int list_or_check(const char *id, int (*fn)(const KMSENV_DATA_KEY *))
{
    char uri[8 + 2 * KMSENV_DEK_ID_LEN + 1];

    if (strlen(id) > 2 * KMSENV_DEK_ID_LEN)
        return kmsenv_cli_failed("%.60s is not the id of a data key: those have 48 hexadecimal digits", id);
    snprintf(uri, sizeof(uri), "kms-key:%s", id);
    return for_each(uri, fn);
}

static int list_id(const char *id) { return list_or_check(id, list_one); }
static int check_id(const char *id) { return list_or_check(id, check_one); }

static int run(int argc, char **argv)
{
    static const struct { const char *name; int (*fn)(const char *); int all; } verbs[] = {
        { "list", list_id, 1 }, { "check", check_id, 1 }, { "add", add_file, 0 }
    };
    const KMSENV_COMMAND *self = &kmsenv_command_keyring;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t i, count = sizeof(verbs) / sizeof(verbs[0]);
    int status, result = KMSENV_EXIT_OK;

    while (kmsenv_cli_option(self, argc, argv, &status) != -1)
        ;
    if (status != -1)
        return status;
    for (i = 0; i < count && (optind == argc || strcmp(argv[optind], verbs[i].name) != 0); i++)
        ;
    if (i == count || (optind + 1 == argc && !verbs[i].all))
        return kmsenv_cli_usage(self, "keyring: %s", i == count ? "list, check or add?" : "add which files?");
    if (!kmsenv_cli_use_provider(&err))
        return kmsenv_cli_error(&err);
    if (optind + 1 == argc)
        result = verbs[i].fn("");
    while (++optind < argc)
        if (verbs[i].fn(argv[optind]) != KMSENV_EXIT_OK)
            result = KMSENV_EXIT_FAILED;
    return kmsenv_cli_finish(result);
}

static const char *const *words(const char *option, int operand)
{
    static const char *const verbs[] = { "list", "check", "add", NULL };

    return option == NULL && operand == 0 ? verbs : NULL;
}

static const struct option options[] = { { NULL, 0, NULL, 0 } };

const KMSENV_COMMAND kmsenv_command_keyring = {
    .name = "keyring",
    .synopsis = "list [ID...] | check [ID...] | add FILE...",
    .summary = "List, check or add wrapped data keys of the keyring",
    .help = "  list      id, size and wraps of each data key, or of those named; no KMS is asked\n"
            "  check     has the KMS unwrap each of them, and compares what comes with its id\n"
            "  add       copies data keys (PEM " KMSENV_PEM_DATA_KEY ") into the first directory of the\n"
            "            setting keyring; one that is there already stays as it is\n",
    .options = options,
    .run = run,
    .words = words
};
