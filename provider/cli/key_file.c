/* Which of the things in a file is the key. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "cli/pem_decode.h"
#include "cli/private_key.h"
#include "core/secret.h"
#include "envelope/sealed_key.h"

#define CHUNK 4096

/* What a PEM block is; a label of another kind is no key. */
typedef enum { OTHER, PLAIN, SEALED, PUBLIC, REFUSED } KIND;

static const struct { const char *label; KIND kind; const char *why; } labels[] = {
    { KMSENV_PEM_SEALED_KEY, SEALED, NULL },
    { KMSENV_PEM_DATA_KEY, REFUSED, "a data key, which is encrypted under its master key already" },
    { KMSENV_PEM_LOCAL_MASTER_KEY, REFUSED, "a local master key, under which others are sealed" },
    { "PKCS#11 PROVIDER URI", REFUSED, "a reference to a key in a token, which does not leave it" },
    { "TSS2 PRIVATE KEY", REFUSED, "a key of a TPM, which does not leave it" },
    { "OPENSSH PRIVATE KEY", REFUSED, "in a format that OpenSSL does not read; ssh-keygen -p -m PKCS8 converts it" },
    { "PUBLIC KEY", PUBLIC, NULL },
    { "RSA PUBLIC KEY", PUBLIC, NULL }
};

static int failed(KMSENV_ERROR *err, const KMSENV_KEY_FILE *file, const char *what)
{
    return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%.200s: %s", file->name, what);
}

static int read_all(KMSENV_KEY_FILE *file, int fd, KMSENV_ERROR *err)
{
    unsigned char *chunk = kmsenv_secret_zalloc(CHUNK);
    ssize_t n = -1;

    if (chunk == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a key");
    while (!file->text.failed && ((n = read(fd, chunk, CHUNK)) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0)
            kmsenv_buffer_add(&file->text, chunk, (size_t)n);
    kmsenv_secret_free(chunk);
    if (file->text.failed)
        return failed(err, file, "more than 1 MiB: not a file with a key");
    if (n < 0)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%.200s: cannot be read: %s", file->name, strerror(errno));
    return file->text.length > 0 || failed(err, file, "is empty");
}

int kmsenv_key_file_read(KMSENV_KEY_FILE *file, const char *path, KMSENV_ERROR *err)
{
    int fd, ok;

    memset(file, 0, sizeof(*file));
    file->name = strcmp(path, "-") == 0 ? "standard input" : path;
    kmsenv_buffer_init(&file->text, KMSENV_KEY_FILE_MAX, 1);
    fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 && errno == ENOENT && strncmp(path, "pkcs11:", 7) == 0)
        return failed(err, file, "a key in a token does not leave it, and need not be sealed; name a file");
    if (fd < 0)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%.200s: cannot be opened: %s", file->name, strerror(errno));
    ok = read_all(file, fd, err);
    if (fd != STDIN_FILENO)
        close(fd);
    return ok;
}

void kmsenv_key_file_reset(KMSENV_KEY_FILE *file)
{
    kmsenv_buffer_reset(&file->text);
}

static KIND kind_of(const char *label, const char **why)
{
    static const char end[] = "PRIVATE KEY";
    size_t i, n = strlen(label);

    for (i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        if (strcmp(label, labels[i].label) == 0) {
            *why = labels[i].why;
            return labels[i].kind;
        }
    }
    return n >= sizeof(end) - 1 && strcmp(label + n - (sizeof(end) - 1), end) == 0 ? PLAIN : OTHER;
}

/* What the file has instead of the key that was looked for. */
static int not_there(const KMSENV_KEY_FILE *file, KIND wanted, const size_t count[], const char *why, KMSENV_ERROR *err)
{
    if (wanted == PLAIN && count[SEALED] > 0)
        return failed(err, file, "is sealed already; to move it to another master key, use kmsenv rewrap");
    if (wanted == SEALED && count[PLAIN] > 0)
        return failed(err, file, "is not sealed: it has a private key, but no PEM block " KMSENV_PEM_SEALED_KEY);
    if (why != NULL)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%.200s: is %s", file->name, why);
    if (count[PUBLIC] > 0)
        return failed(err, file, "has a public key only");
    return failed(err, file, wanted == PLAIN ? "has no private key" : "has no PEM block " KMSENV_PEM_SEALED_KEY);
}

static int find(KMSENV_KEY_FILE *file, KIND wanted, KMSENV_ERROR *err)
{
    const unsigned char *text = file->text.data;
    size_t at = 0, count[REFUSED + 1] = { 0 }, first = 0;
    const char *why = NULL;
    KMSENV_PEM_BLOCK block;
    KIND kind;

    while (kmsenv_pem_next(text, file->text.length, &at, &block)) {
        file->is_pem = 1;
        kind = kind_of(block.label, &why);
        if (kind != OTHER && kind != PUBLIC && block.end == 0)
            return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%.200s: the PEM block %s of line %zu has no end", file->name,
                                    block.label, block.line);
        if (kind == PLAIN || kind == SEALED) {
            if (count[PLAIN] + count[SEALED] > 0)
                return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%.200s: has more than one private key, at lines %zu and %zu: "
                                        "one at a time", file->name, first, block.line);
            first = block.line;
            file->block = block;
        }
        count[kind]++;
    }
    return !file->is_pem || count[wanted] > 0 || not_there(file, wanted, count, why, err);
}

/* A message as it is, without PEM? */
static int is_message(const KMSENV_KEY_FILE *file)
{
    return kmsenv_sealed_key_is(file->text.data, file->text.length);
}

static int check_keep(const KMSENV_KEY_FILE *file, int keep, KMSENV_ERROR *err)
{
    return !keep || failed(err, file, "is not PEM: there is nothing around its key for --keep-comment");
}

int kmsenv_key_file_find_plain(KMSENV_KEY_FILE *file, int keep, KMSENV_ERROR *err)
{
    const size_t sealed[REFUSED + 1] = { [SEALED] = 1 };

    if (!find(file, PLAIN, err))
        return 0;
    if (file->is_pem)
        return 1;
    return is_message(file) ? not_there(file, PLAIN, sealed, NULL, err) : check_keep(file, keep, err);
}

int kmsenv_key_file_find_sealed(KMSENV_KEY_FILE *file, int keep, KMSENV_ERROR *err)
{
    const size_t none[REFUSED + 1] = { 0 };

    if (!find(file, SEALED, err))
        return 0;
    if (file->is_pem)
        return 1;
    return is_message(file) ? check_keep(file, keep, err) : not_there(file, SEALED, none, NULL, err);
}

int kmsenv_key_file_message(const KMSENV_KEY_FILE *file, KMSENV_BUFFER *message, KMSENV_ERROR *err)
{
    unsigned char *der = NULL;
    const unsigned char *data = file->text.data;
    size_t len = file->text.length;
    int ok = 1;

    if (file->is_pem) {
        ok = kmsenv_pem_decode(file->text.data, &file->block, &der, &len, err);
        data = der;
    }
    if (ok && !kmsenv_buffer_add(message, data, len))
        ok = kmsenv_error_set(err, KMSENV_R_INPUT_TOO_LARGE, "more than %zu bytes are no sealed key", message->limit);
    OPENSSL_free(der);
    return ok;
}

/* --- writing -------------------------------------------------------------- */

int kmsenv_key_file_write(const KMSENV_KEY_FILE *file, int keep, const KMSENV_BUFFER *block, KMSENV_OUTPUT *out, KMSENV_ERROR *err)
{
    const unsigned char *text = file->text.data;
    size_t end = file->block.end;

    if (block->failed)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the text of a key");
    return (!keep || kmsenv_output_write(out, text, file->block.start, err))
        && kmsenv_output_write(out, block->data, block->length, err)
        && (!keep || kmsenv_output_write(out, text + end, file->text.length - end, err))
        && kmsenv_output_commit(out, S_IRUSR | S_IWUSR, NULL, err);
}
