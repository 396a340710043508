/*
 * What the C tests share: a library context with the built provider in it, configured as a user
 * does it, by a file; and messages made and opened the way an application does, except that the
 * output buffer ends exactly where OpenSSL says it does, at a page that cannot be touched.
 */
#ifndef KMSENV_TEST_H
# define KMSENV_TEST_H
# include <stddef.h>
# include <stdint.h>
# include <openssl/core.h>
# include <openssl/evp.h>
# include <openssl/types.h>
# include "kmsenv/params.h"
# include "kmsenv/reasons.h"

typedef struct kmsenv_test_st {
    OSSL_LIB_CTX *libctx;
    char dir[64];             /* scratch folder: a.pem and b.pem (local master keys), keys/ (empty), openssl.cnf */
    int owns_dir;
} KMSENV_TEST;

typedef struct kmsenv_test_setup_st {
    const char *settings;     /* lines of our section, then sections of profiles; '@' stands for the scratch folder */
    const char *properties;   /* default_properties, or NULL */
    int first;                /* our provider is listed before the default provider */
    const KMSENV_TEST *same;  /* use the scratch folder (and so the keys) of this one, which must live longer */
} KMSENV_TEST_SETUP;

/* One profile with a local key */
# define KMSENV_TEST_LOCAL "kms = local\nkey-file = @/a.pem\n"

/* NULL, with the test failed, if the provider is not there afterwards. */
KMSENV_TEST *kmsenv_test_new_ex(const KMSENV_TEST_SETUP *setup);
KMSENV_TEST *kmsenv_test_new(const char *settings);
void kmsenv_test_free(KMSENV_TEST *t);
/* Writes text to dir/name with mode 0600. '@' in text stands for the scratch folder. */
int kmsenv_test_write(const KMSENV_TEST *t, const char *name, const char *text);
/* A counter of the provider in t, UINT64_MAX if it cannot be read. */
uint64_t kmsenv_test_counter(const KMSENV_TEST *t, const char *name);

/* The first key that OSSL_STORE finds at uri; NULL, with the errors left in the queue. */
EVP_PKEY *kmsenv_test_load(const KMSENV_TEST *t, const char *uri);

/* n bytes, followed by a page that cannot be touched. */
unsigned char *kmsenv_test_guarded(size_t n);
void kmsenv_test_guarded_free(unsigned char *p, size_t n);
/* n bytes that look random and are the same each time. */
void kmsenv_test_fill(unsigned char *p, size_t n, unsigned seed);

typedef struct kmsenv_test_bytes_st {
    unsigned char *data;      /* NULL when nothing was made */
    size_t len;
} KMSENV_TEST_BYTES;
void kmsenv_test_bytes_reset(KMSENV_TEST_BYTES *b);

/* A cipher context as EVP_CipherInit_ex2() leaves it. key may be NULL: then init gets none. */
EVP_CIPHER_CTX *kmsenv_test_ctx(const KMSENV_TEST *t, int enc, const unsigned char *key, const OSSL_PARAM *params);
/*
 * The whole of `in` in updates of `chunk` bytes (0 = one update), then final, into out, which is
 * reset first. Fails the test if an update emits more than inl + 31 or final more than a block.
 * Returns 0 if an EVP call failed; its errors stay in the queue, what was released before is in out.
 */
int kmsenv_test_run(EVP_CIPHER_CTX *ctx, const unsigned char *in, size_t inlen, size_t chunk, KMSENV_TEST_BYTES *out);
/* Both of the above with a context of its own, no key and no parameters. */
int kmsenv_test_crypt(const KMSENV_TEST *t, int enc, const unsigned char *in, size_t inlen, KMSENV_TEST_BYTES *out);
int kmsenv_test_crypt_key(const KMSENV_TEST *t, int enc, const unsigned char *key, const OSSL_PARAM *params,
                          const unsigned char *in, size_t inlen, size_t chunk, KMSENV_TEST_BYTES *out);

# define KMSENV_TEST_ANY (-1)   /* any of our reasons */
/* The error queue holds exactly one entry, ours, with this reason and a sentence. Clears the queue. */
int kmsenv_test_error_is(int reason);
/* The same, and the sentence contains each of the words, which are separated by '|'. */
int kmsenv_test_error_says(int reason, const char *words);
/* The error queue is empty. */
int kmsenv_test_no_error(void);

#endif
