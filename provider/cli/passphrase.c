#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include "cli/passphrase.h"
#include "core/secret.h"

static int from_environment(KMSENV_PASSPHRASE *p, const char *name, KMSENV_ERROR *err)
{
    const char *value = getenv(name);

    if (value == NULL)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s: the environment has no %.60s", p->option, name);
    if (strlen(value) >= KMSENV_PASSPHRASE_MAX)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s: a pass phrase has less than %d bytes", p->option, KMSENV_PASSPHRASE_MAX);
    memcpy(p->text, value, strlen(value) + 1);
    return 1;
}

/* The first line, read byte by byte: what follows is for others who read the same descriptor. */
static int from_descriptor(KMSENV_PASSPHRASE *p, int fd, KMSENV_ERROR *err)
{
    size_t n = 0;
    ssize_t r = 1;

    while (n < KMSENV_PASSPHRASE_MAX) {
        if ((r = read(fd, p->text + n, 1)) < 0 && errno == EINTR)
            continue;
        if (r <= 0 || p->text[n] == '\n')
            break;
        n++;
    }
    if (r < 0)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s: it cannot be read: %s", p->option, strerror(errno));
    if (n == KMSENV_PASSPHRASE_MAX)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s: a pass phrase has less than %d bytes", p->option, KMSENV_PASSPHRASE_MAX);
    if (n > 0 && p->text[n - 1] == '\r')
        n--;
    p->text[n] = '\0';
    return 1;
}

static int from_file(KMSENV_PASSPHRASE *p, const char *path, KMSENV_ERROR *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), ok;

    if (fd < 0)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s: %.200s: %s", p->option, path, strerror(errno));
    ok = from_descriptor(p, fd, err);
    close(fd);
    return ok;
}

static int from_number(KMSENV_PASSPHRASE *p, const char *number, KMSENV_ERROR *err)
{
    char *end;
    long fd = strtol(number, &end, 10);

    if (*number < '0' || *number > '9' || *end != '\0' || fd > 65535)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s: fd: takes the number of an open file descriptor", p->option);
    return from_descriptor(p, (int)fd, err);
}

int kmsenv_passphrase_init(KMSENV_PASSPHRASE *p, const char *option, const char *source, const char *what, KMSENV_ERROR *err)
{
    static const struct { const char *prefix; int (*read)(KMSENV_PASSPHRASE *, const char *, KMSENV_ERROR *); } sources[] = {
        { "env:", from_environment }, { "file:", from_file }, { "fd:", from_number }
    };
    size_t i, n;

    memset(p, 0, sizeof(*p));
    p->option = option;
    p->what = what;
    if (source == NULL)
        return 1;
    if ((p->text = kmsenv_secret_zalloc(KMSENV_PASSPHRASE_MAX + 1)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a pass phrase");
    for (i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        n = strlen(sources[i].prefix);
        if (strncmp(source, sources[i].prefix, n) == 0)
            return sources[i].read(p, source + n, err);
    }
    return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "%s takes env:NAME, file:PATH or fd:NUMBER; not the pass phrase itself, "
                            "which other users could see among the arguments", option);
}

void kmsenv_passphrase_reset(KMSENV_PASSPHRASE *p)
{
    kmsenv_secret_free(p->text);
    p->text = NULL;
}

int kmsenv_passphrase_get(KMSENV_PASSPHRASE *p, KMSENV_ERROR *err)
{
    char prompt[200];

    if (p->text != NULL)
        return 1;
    snprintf(prompt, sizeof(prompt), "Pass phrase for %.120s: ", p->what);
    if ((p->text = kmsenv_secret_zalloc(KMSENV_PASSPHRASE_MAX + 1)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a pass phrase");
    if (EVP_read_pw_string_min(p->text, p->verify ? 4 : 0, KMSENV_PASSPHRASE_MAX, prompt, p->verify) == 0)
        return 1;
    kmsenv_passphrase_reset(p);
    p->refused = 1;
    return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "no pass phrase was given; where there is no terminal, use %s", p->option);
}

static int give(char *buf, int size, int rwflag, void *userdata)
{
    KMSENV_PASSPHRASE *p = userdata;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t n;

    (void)rwflag;
    p->wanted = 1;
    if (p->refused || !kmsenv_passphrase_get(p, &err) || (n = strlen(p->text)) >= (size_t)size)
        return -1;
    memcpy(buf, p->text, n + 1);
    return (int)n;
}

UI_METHOD *kmsenv_passphrase_ui(void)
{
    return UI_UTIL_wrap_read_pem_callback(give, 0);
}
