/*
 * What the benchmark programs share. Each prints one line "A B" per round: what the thing under
 * test cost and what its yardstick cost in the same round, in nanoseconds. The caller makes
 * ratios of them. Any failure ends the program: a figure of something that does not work is worthless.
 */
#ifndef KMSENV_BENCH_H
# define KMSENV_BENCH_H
# include <stddef.h>
# include <time.h>
# include <openssl/buffer.h>
# include <openssl/evp.h>

# define BENCH_HEADER_ROOM 1024    /* a message is at most that much longer than its data */

double bench_ns(clockid_t clock);
void bench_check(int ok, const char *what);
unsigned long bench_number(const char *text);

/* Ciphers to compare, from the default library context. */
EVP_CIPHER *bench_raw_cipher(void);
EVP_CIPHER *bench_envelope_cipher(void);
/* The reference to a new data key in the keyring; AES-256-GCM by reference, and such a one. */
void bench_reference(unsigned char key[32]);
EVP_CIPHER *bench_reference_cipher(unsigned char key[32]);
/* A key object (EVP_SKEY) of a reference, since OpenSSL 3.5, and what EVP_CipherInit_ex2(ctx, NULL, key, iv, ...) is with one. */
void *bench_key_object(const unsigned char reference[32]);
int bench_key_object_init(EVP_CIPHER_CTX *ctx, void *object, const unsigned char iv[12], int sealing);
/* Loads the provider; checks that what answers is really kmsenv. */
void bench_load_provider(OSSL_LIB_CTX *libctx);

/* One message made with the cipher; returns its length. */
size_t bench_seal(const EVP_CIPHER *cipher, unsigned char *out, const unsigned char *in, size_t n);

/* Self-signed. */
X509 *bench_certificate(OSSL_LIB_CTX *libctx, EVP_PKEY *pkey);
/* PEM of a new key of type "rsa" (2048 bit) or "ec" (P-256), sealed or not, or of a new "certificate"; and reading it. */
BUF_MEM *bench_key(const char *type, int sealed);
void bench_load_key(const BUF_MEM *pem, OSSL_LIB_CTX *libctx);
void bench_load_certificate(const BUF_MEM *pem, OSSL_LIB_CTX *libctx);

/*
 * Runs both sides `rounds` times, after one that does not count, and prints the pairs. A round is the
 * mean of `slices` runs of each side in turn: short slices see the same moods of the machine. Which
 * side goes first changes every time: what the first leaves in the caches is then no bias.
 */
typedef double BENCH_SIDE(void *arg, int side);
void bench_pairs(unsigned long rounds, unsigned long slices, BENCH_SIDE *run, void *arg);

/* The subcommands of bench_evp, with their arguments after the name. */
void bench_stream(unsigned long rounds, char **argv);
void bench_message(unsigned long rounds, char **argv);
void bench_mac(unsigned long rounds, char **argv);
void bench_threads(unsigned long rounds, char **argv);
void bench_pem(unsigned long rounds, char **argv);
void bench_tls(unsigned long rounds, char **argv);

#endif
