/* kmsenv seal-key, and open-key, which is the way back. */
#include <string.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "cli/cli.h"
#include "cli/private_key.h"
#include "core/secret.h"
#include "envelope/sealed_key.h"

/* Room that the largest header and the last segment need: of a cipher it is only 512 bytes, for the sake of its callers. */
#define BLOCK_SIZE (KMSENV_HEADER_MAX + 64)

enum { OUT = 'o', FORCE = 'f', PROFILE = 1, CONTEXT, PASSIN, PASSOUT, ENCRYPT, KEEP_COMMENT, NO_COMMENT };

typedef struct request_st {
    const char *key, *out;
    const char *profiles, *context;    /* NULL: as configured */
    const char *pass;                  /* where the pass phrase is; NULL: ask for it */
    int force, keep, no_comment, encrypt;
} REQUEST;

/* What is different: which key of a file is meant, and what takes its place. */
typedef struct job_st {
    int (*find)(KMSENV_KEY_FILE *file, int keep, KMSENV_ERROR *err);
    int (*make_block)(const REQUEST *r, KMSENV_PROVCTX *provctx, const KMSENV_KEY_FILE *file, KMSENV_BUFFER *block, KMSENV_ERROR *err);
} JOB;

/* --- sealing -------------------------------------------------------------- */

static KMSENV_MESSAGE *new_message(const REQUEST *r, KMSENV_PROVCTX *provctx, KMSENV_ERROR *err)
{
    const KMSENV_RUNTIME *runtime = provctx->runtime(provctx, err);
    KMSENV_MESSAGE *m;

    if (runtime == NULL)
        return NULL;
    m = kmsenv_message_new(runtime->deks, provctx->crypto, &provctx->counters, KMSENV_CEK_LEN_MAX, BLOCK_SIZE, runtime->segment_bits);
    if (m == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a message");
    } else if ((r->profiles != NULL && !kmsenv_dek_request_set_profiles(kmsenv_message_get0_request(m), r->profiles, err))
               || (r->context != NULL && !kmsenv_dek_request_set_context(kmsenv_message_get0_request(m), r->context, err))) {
        kmsenv_message_free(m);
        m = NULL;
    }
    return m;
}

/* All of a message in one go. out is empty, and secret or not as it has to be. */
static int crypt_all(KMSENV_MESSAGE *m, int sealing, const KMSENV_BUFFER *in, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    static const unsigned char no_key[KMSENV_CALLER_KEY_LEN];
    size_t room = in->length + BLOCK_SIZE, n = 0, last = 0;
    unsigned char *text = kmsenv_secret_zalloc(room);
    int ok;

    if (text == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a key");
    ok = kmsenv_message_init(m, sealing, no_key, err)
         && kmsenv_message_update(m, text, &n, room, in->data, in->length, err)
         && kmsenv_message_final(m, text + n, &last, room - n, err);
    if (ok && !kmsenv_buffer_add(out, text, n + last))
        ok = kmsenv_error_set(err, KMSENV_R_INPUT_TOO_LARGE, "more than %zu bytes are no private key", out->limit);
    kmsenv_secret_free(text);
    return ok;
}

/* Opens it again for comparison: with the data key that is at hand, so the KMS is not asked twice. */
static int seal_pkcs8(const REQUEST *r, KMSENV_PROVCTX *provctx, const KMSENV_BUFFER *der, KMSENV_BUFFER *message, KMSENV_ERROR *err)
{
    KMSENV_MESSAGE *m = new_message(r, provctx, err);
    KMSENV_BUFFER back;
    int ok;

    kmsenv_buffer_init(&back, KMSENV_PKCS8_MAX, 1);
    ok = m != NULL && crypt_all(m, 1, der, message, err) && crypt_all(m, 0, message, &back, err);
    if (ok && (back.length != der->length || CRYPTO_memcmp(back.data, der->data, der->length) != 0))
        ok = kmsenv_error_set(err, KMSENV_R_CRYPTO_FAILED, "the sealed key did not open to what was sealed: nothing was written");
    kmsenv_buffer_reset(&back);
    kmsenv_message_free(m);
    return ok;
}

static int sealed_block(const REQUEST *r, KMSENV_PROVCTX *provctx, const KMSENV_KEY_FILE *file, KMSENV_BUFFER *block, KMSENV_ERROR *err)
{
    KMSENV_PASSPHRASE pass;
    KMSENV_BUFFER der, about, message;
    int ok;

    kmsenv_buffer_init(&der, KMSENV_PKCS8_MAX, 1);
    kmsenv_buffer_init(&about, 4096, 0);
    kmsenv_buffer_init(&message, KMSENV_SEALED_KEY_MAX, 0);
    ok = kmsenv_passphrase_init(&pass, "--passin", r->pass, file->name, err)
         && kmsenv_private_key_load(file, &pass, &der, &about, err)
         && seal_pkcs8(r, provctx, &der, &message, err);
    if (ok) {
        if (!r->no_comment)
            kmsenv_buffer_add(block, about.data, about.length);
        kmsenv_pem_add(block, KMSENV_PEM_SEALED_KEY, message.data, message.length);
    }
    kmsenv_passphrase_reset(&pass);
    kmsenv_buffer_reset(&der);
    kmsenv_buffer_reset(&about);
    kmsenv_buffer_reset(&message);
    return ok;
}

/* --- opening -------------------------------------------------------------- */

/* As the provider does it for other programs; and is the outcome a key? */
static int unseal(KMSENV_PROVCTX *provctx, const KMSENV_KEY_FILE *file, KMSENV_BUFFER *der, KMSENV_ERROR *err)
{
    const KMSENV_RUNTIME *runtime = provctx->runtime(provctx, err);
    KMSENV_BUFFER message;
    int ok;

    kmsenv_buffer_init(&message, KMSENV_SEALED_KEY_MAX, 0);
    ok = runtime != NULL && kmsenv_key_file_message(file, &message, err)
         && kmsenv_sealed_key_open(runtime->deks, provctx->crypto, &provctx->counters, message.data, message.length, der, err)
         && kmsenv_private_key_check(der, err);
    kmsenv_buffer_reset(&message);
    if (!ok)
        kmsenv_error_prefix(err, "%.200s: ", file->name);
    return ok;
}

static int plain_block(const REQUEST *r, KMSENV_PROVCTX *provctx, const KMSENV_KEY_FILE *file, KMSENV_BUFFER *block, KMSENV_ERROR *err)
{
    KMSENV_PASSPHRASE pass;
    KMSENV_BUFFER der;
    int ok;

    kmsenv_buffer_init(&der, KMSENV_PKCS8_MAX, 1);
    ok = kmsenv_passphrase_init(&pass, "--passout", r->pass, "the key to be written", err);
    pass.verify = 1;
    /* The pass phrase first: no key is unsealed for want of one. */
    ok = ok && (!r->encrypt || kmsenv_passphrase_get(&pass, err))
         && unseal(provctx, file, &der, err)
         && kmsenv_private_key_add_pem(block, &der, r->encrypt ? &pass : NULL, err);
    kmsenv_passphrase_reset(&pass);
    kmsenv_buffer_reset(&der);
    return ok;
}

/* --- both ----------------------------------------------------------------- */

static int convert(const JOB *job, const REQUEST *r, KMSENV_OUTPUT *out, KMSENV_ERROR *err)
{
    KMSENV_PROVCTX *provctx = kmsenv_cli_own_provider(err);
    KMSENV_KEY_FILE file;
    KMSENV_BUFFER block;
    int ok;

    /* The configuration is wrong more often than a key is. */
    if (provctx == NULL || provctx->runtime(provctx, err) == NULL)
        return 0;
    kmsenv_private_key_protect();
    kmsenv_buffer_init(&block, 2 * KMSENV_KEY_FILE_MAX, 1);
    ok = kmsenv_key_file_read(&file, r->key, err) && job->find(&file, r->keep, err)
         && job->make_block(r, provctx, &file, &block, err) && kmsenv_key_file_write(&file, r->keep, &block, out, err);
    kmsenv_key_file_reset(&file);
    kmsenv_buffer_reset(&block);
    return ok;
}

/* The output is opened first: nobody is asked for anything if it cannot be. */
static int run_job(const JOB *job, const REQUEST *r)
{
    const struct stat any = { 0 };     /* the key may be replaced by what becomes of it */
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_OUTPUT out;
    int ok = kmsenv_output_open(&out, r->out, &any, r->force, 1, &err) && convert(job, r, &out, &err);

    kmsenv_output_discard(&out);
    return ok ? KMSENV_EXIT_OK : kmsenv_cli_error(&err);
}

static void set_option(REQUEST *r, int option, char *value)
{
    const struct { int option; const char **text; int *flag; } targets[] = {
        { OUT, &r->out, NULL }, { FORCE, NULL, &r->force }, { PROFILE, &r->profiles, NULL }, { CONTEXT, &r->context, NULL },
        { PASSIN, &r->pass, NULL }, { PASSOUT, &r->pass, &r->encrypt }, { ENCRYPT, NULL, &r->encrypt },
        { KEEP_COMMENT, NULL, &r->keep }, { NO_COMMENT, NULL, &r->no_comment }
    };
    size_t i;

    for (i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        if (targets[i].option != option)
            continue;
        if (targets[i].text != NULL)
            *targets[i].text = value;
        if (targets[i].flag != NULL)
            *targets[i].flag = 1;
    }
}

/* -1 if all is well, or an exit status. */
static int read_options(const KMSENV_COMMAND *self, int argc, char **argv, REQUEST *r)
{
    int option, status;

    *r = (REQUEST){ .key = "-", .out = "-" };
    while ((option = kmsenv_cli_option(self, argc, argv, &status)) != -1)
        set_option(r, option, optarg);
    if (status == -1 && optind + 1 < argc)
        return kmsenv_cli_usage(self, "%s: one key at a time", self->name);
    if (optind < argc)
        r->key = argv[optind];
    return status;
}

static int run_seal(int argc, char **argv)
{
    static const JOB job = { kmsenv_key_file_find_plain, sealed_block };
    REQUEST r;
    int status = read_options(&kmsenv_command_seal_key, argc, argv, &r);

    return status == -1 ? run_job(&job, &r) : status;
}

static int run_open(int argc, char **argv)
{
    static const JOB job = { kmsenv_key_file_find_sealed, plain_block };
    const KMSENV_COMMAND *self = &kmsenv_command_open_key;
    REQUEST r;
    int to_stdout, status = read_options(self, argc, argv, &r);

    if (status != -1)
        return status;
    to_stdout = strcmp(r.out, "-") == 0;
    if (to_stdout && !r.encrypt && isatty(STDOUT_FILENO))
        return kmsenv_cli_usage(self, "open-key: a private key is not shown on a terminal: use --output, --encrypt or a pipe");
    status = run_job(&job, &r);
    if (status == KMSENV_EXIT_OK && !r.encrypt) {
        fputs("kmsenv: warning: ", stderr);
        kmsenv_cli_print_text(stderr, to_stdout ? "standard output" : r.out, to_stdout ? 15 : strlen(r.out));
        fputs(" has the private key in plain text now\n", stderr);
    }
    return status;
}

static const struct option seal_options[] = {
    { "output", required_argument, NULL, OUT },
    { "force", no_argument, NULL, FORCE },
    { "profile", required_argument, NULL, PROFILE },
    { "context", required_argument, NULL, CONTEXT },
    { "passin", required_argument, NULL, PASSIN },
    { "keep-comment", no_argument, NULL, KEEP_COMMENT },
    { "no-comment", no_argument, NULL, NO_COMMENT },
    { NULL, 0, NULL, 0 }
};

const KMSENV_COMMAND kmsenv_command_seal_key = {
    .name = "seal-key",
    .synopsis = "[OPTION...] [KEY | -]",
    .summary = "Seal a private key, for programs to load as they load any key file",
    .help = "  --output FILE, -o   write there, mode 0600, and not to standard output; a file that exists\n"
            "                      is left as it is\n"
            "  --force, -f         replace it\n"
            "  --profile P[,P...]  under the master keys of these profiles; any of them opens the key\n"
            "  --context N=V[,...] encryption context instead of the profiles' own\n"
            "  --passin SOURCE     pass phrase of KEY: env:NAME, file:PATH or fd:NUMBER; without it\n"
            "                      the terminal is asked if there has to be one\n"
            "  --keep-comment      keep everything around the key: certificates and other text\n"
            "  --no-comment        do not write the lines that tell which key it is\n"
            "KEY is a file, PEM or DER, of any kind that OpenSSL reads: PKCS#8, PKCS#12, RSA, EC and so on,\n"
            "encrypted or not; without it, or for -, standard input is read.\n",
    .options = seal_options,
    .run = run_seal
};

static const struct option open_options[] = {
    { "output", required_argument, NULL, OUT },
    { "force", no_argument, NULL, FORCE },
    { "encrypt", no_argument, NULL, ENCRYPT },
    { "passout", required_argument, NULL, PASSOUT },
    { "keep-comment", no_argument, NULL, KEEP_COMMENT },
    { NULL, 0, NULL, 0 }
};

const KMSENV_COMMAND kmsenv_command_open_key = {
    .name = "open-key",
    .synopsis = "[OPTION...] [SEALED | -]",
    .summary = "Turn a sealed private key back into one in plain text, or under a pass phrase",
    .help = "  --output FILE, -o   write there, mode 0600, and not to standard output; a file that exists\n"
            "                      is left as it is\n"
            "  --force, -f         replace it\n"
            "  --encrypt           encrypt it with a pass phrase, which the terminal is asked for\n"
            "  --passout SOURCE    the same with the pass phrase of env:NAME, file:PATH or fd:NUMBER\n"
            "  --keep-comment      keep everything around the key: certificates and other text\n"
            "SEALED is a file with a PEM block KMS SEALED KEY; without it, or for -, standard input is read.\n"
            "What comes is PKCS#8. Programs with the provider need no such file: they load the sealed one.\n",
    .options = open_options,
    .run = run_open
};
