#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <openssl/crypto.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/store.h>
#include <openssl/x509.h>
#include "cli/cli.h"
#include "cli/private_key.h"

#define SECURE_HEAP  (1024 * 1024)
#define SECURE_LEAST 64
/* PBKDF2-HMAC-SHA256: what is advised for pass phrases at the time of writing. */
#define ITERATIONS   600000
#define SALT_LEN     16

void kmsenv_private_key_protect(void)
{
    const struct rlimit none = { 0, 0 };

    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
    if (!CRYPTO_secure_malloc_initialized())
        CRYPTO_secure_malloc_init(SECURE_HEAP, SECURE_LEAST);
}

static int openssl_failed(KMSENV_ERROR *err, const char *what)
{
    char text[KMSENV_ERROR_TEXT_MAX];
    int reason = kmsenv_cli_take_error("kmsenv", text, sizeof(text));

    return kmsenv_error_set(err, reason == KMSENV_R_NONE ? KMSENV_R_PARAMETER_INVALID : reason, "%s: %.350s", what, text);
}

/* --- telling which key it is ---------------------------------------------- */

static void add_kind(KMSENV_BUFFER *about, const EVP_PKEY *pkey)
{
    char group[80];
    size_t n;

    kmsenv_buffer_printf(about, "Key: %s", EVP_PKEY_get0_type_name(pkey));
    if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), &n))
        kmsenv_buffer_printf(about, ", %s", group);
    kmsenv_buffer_printf(about, ", %d bits\n", EVP_PKEY_get_bits(pkey));
}

/* Of the SubjectPublicKeyInfo, as a certificate has it. */
static void add_fingerprint(KMSENV_BUFFER *about, const EVP_PKEY *pkey)
{
    unsigned char *der = NULL, digest[EVP_MAX_MD_SIZE];
    int len = i2d_PUBKEY(pkey, &der), i;
    unsigned n = 0;

    if (len > 0 && EVP_Digest(der, (size_t)len, digest, &n, EVP_sha256(), NULL)) {
        kmsenv_buffer_add_text(about, "Public-Key-SHA256: ");
        for (i = 0; i < (int)n; i++)
            kmsenv_buffer_printf(about, "%02x", digest[i]);
        kmsenv_buffer_add_text(about, "\n");
    }
    OPENSSL_free(der);
}

static void describe(KMSENV_BUFFER *about, const EVP_PKEY *pkey)
{
    ERR_set_mark();
    add_kind(about, pkey);
    add_fingerprint(about, pkey);
    ERR_pop_to_mark();
}

/* --- reading -------------------------------------------------------------- */

/* The private keys in these bytes: how many there are, and the first one. */
static int load_all(const unsigned char *data, size_t n, KMSENV_PASSPHRASE *pass, EVP_PKEY **pkey)
{
    UI_METHOD *ui = kmsenv_passphrase_ui();
    BIO *bio = BIO_new_mem_buf(data, (int)n);
    OSSL_STORE_CTX *store = bio == NULL || ui == NULL ? NULL : OSSL_STORE_attach(bio, "file", NULL, NULL, ui, pass, NULL, NULL, NULL);
    OSSL_STORE_INFO *info;
    int count = 0;

    if (store != NULL && OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY)) {
        while (!OSSL_STORE_eof(store) && !OSSL_STORE_error(store)) {
            if ((info = OSSL_STORE_load(store)) == NULL)
                continue;
            if (OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY && count++ == 0)
                *pkey = OSSL_STORE_INFO_get1_PKEY(info);
            OSSL_STORE_INFO_free(info);
        }
    }
    OSSL_STORE_close(store);
    BIO_free(bio);
    UI_destroy_method(ui);
    return count;
}

static int to_pkcs8(const EVP_PKEY *pkey, KMSENV_BUFFER *der, KMSENV_ERROR *err)
{
    OSSL_ENCODER_CTX *ctx = OSSL_ENCODER_CTX_new_for_pkey(pkey, EVP_PKEY_KEYPAIR, "DER", "PrivateKeyInfo", NULL);
    BIO *bio = BIO_new(BIO_s_secmem());
    unsigned char *data;
    long n;
    int ok;

    ok = ctx != NULL && bio != NULL && OSSL_ENCODER_CTX_get_num_encoders(ctx) > 0 && OSSL_ENCODER_to_bio(ctx, bio)
         && (n = BIO_get_mem_data(bio, &data)) > 0 && kmsenv_buffer_add(der, data, (size_t)n);
    BIO_free(bio);
    OSSL_ENCODER_CTX_free(ctx);
    return ok || openssl_failed(err, "the key cannot be written as PKCS#8: it may be in a token, or have no private part");
}

/* What OpenSSL says of the causes is of no help: "unsupported". */
static int unreadable(const KMSENV_KEY_FILE *file, const KMSENV_PASSPHRASE *pass, KMSENV_ERROR *err)
{
    if (pass->refused)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "needs a pass phrase; where there is no terminal, use --passin");
    if (pass->wanted)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "cannot be decrypted: another pass phrase?");
    if (file->is_pem)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "the PEM block %s of line %zu is damaged, or no key that OpenSSL can read",
                                file->block.label, file->block.line);
    return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "has no private key that OpenSSL can read");
}

int kmsenv_private_key_load(const KMSENV_KEY_FILE *file, KMSENV_PASSPHRASE *pass, KMSENV_BUFFER *der, KMSENV_BUFFER *about, KMSENV_ERROR *err)
{
    size_t start = file->is_pem ? file->block.start : 0, end = file->is_pem ? file->block.end : file->text.length;
    EVP_PKEY *pkey = NULL;
    int count, ok;

    ERR_clear_error();
    count = load_all(file->text.data + start, end - start, pass, &pkey);
    if (count == 1) {
        describe(about, pkey);
        ok = to_pkcs8(pkey, der, err);
    } else if (count > 1) {
        ok = kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "has %d private keys: one at a time", count);
    } else {
        ok = unreadable(file, pass, err);
    }
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    if (!ok)
        kmsenv_error_prefix(err, "%.200s: ", file->name);
    return ok;
}

int kmsenv_private_key_check(const KMSENV_BUFFER *der, KMSENV_ERROR *err)
{
    const unsigned char *p = der->data;
    PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &p, (long)der->length);
    EVP_PKEY *pkey = info == NULL || p != der->data + der->length ? NULL : EVP_PKCS82PKEY(info);

    PKCS8_PRIV_KEY_INFO_free(info);
    if (pkey == NULL)
        return openssl_failed(err, "what was sealed is no private key (PKCS#8)");
    EVP_PKEY_free(pkey);
    return 1;
}

/* --- writing -------------------------------------------------------------- */

static X509_SIG *encrypt(const KMSENV_BUFFER *der, const KMSENV_PASSPHRASE *pass)
{
    const unsigned char *p = der->data;
    PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &p, (long)der->length);
    X509_ALGOR *scheme = PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), ITERATIONS, NULL, SALT_LEN, NULL, NID_hmacWithSHA256);
    X509_SIG *encrypted = NULL;

    if (info != NULL && scheme != NULL)
        encrypted = PKCS8_set0_pbe(pass->text, (int)strlen(pass->text), info, scheme);
    if (encrypted == NULL)
        X509_ALGOR_free(scheme);
    PKCS8_PRIV_KEY_INFO_free(info);
    return encrypted;
}

int kmsenv_private_key_add_pem(KMSENV_BUFFER *out, const KMSENV_BUFFER *der, KMSENV_PASSPHRASE *pass, KMSENV_ERROR *err)
{
    X509_SIG *encrypted;
    unsigned char *data = NULL;
    int len;

    if (pass == NULL) {
        kmsenv_pem_add(out, PEM_STRING_PKCS8INF, der->data, der->length);
        return 1;
    }
    if (!kmsenv_passphrase_get(pass, err))
        return 0;
    encrypted = encrypt(der, pass);
    len = encrypted == NULL ? -1 : i2d_X509_SIG(encrypted, &data);
    if (len > 0)
        kmsenv_pem_add(out, PEM_STRING_PKCS8, data, (size_t)len);
    OPENSSL_free(data);
    X509_SIG_free(encrypted);
    return len > 0 || openssl_failed(err, "the key cannot be encrypted");
}
