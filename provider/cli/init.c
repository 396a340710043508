#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "core/crypto.h"
#include "kms/local_key.h"

enum { KEY_FILE = 1, ROTATE };

/* Reads the file back as the provider will, and tells what is in it. */
static int show(const char *path, int rotated, KMSENV_ERROR *err)
{
    KMSENV_LOCAL_KEY *key = kmsenv_local_key_load(path, err);

    if (key == NULL)
        return kmsenv_cli_error(err);
    printf("%s: local master key %s, version %lu\n", path, kmsenv_local_key_id(key),
           (unsigned long)kmsenv_local_key_newest(key));
    if (rotated)
        printf("New data keys are wrapped under this version; the %zu before it still open older messages.\n",
               kmsenv_local_key_count(key) - 1);
    else
        printf("Keep a copy of this file in a safe place: what is encrypted under it cannot be read without it.\n");
    kmsenv_local_key_free(key);
    return KMSENV_EXIT_OK;
}

static int make(const char *path, int rotate)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CRYPTO *crypto = kmsenv_crypto_new(NULL, NULL, "default");
    int ok, status;

    if (crypto == NULL)
        return kmsenv_cli_failed("out of memory");
    ok = rotate ? kmsenv_local_key_rotate(path, crypto, &err) : kmsenv_local_key_create(path, crypto, &err);
    status = ok ? show(path, rotate, &err) : kmsenv_cli_error(&err);
    kmsenv_crypto_free(crypto);
    return kmsenv_cli_finish(status);
}

static int run(int argc, char **argv)
{
    const KMSENV_COMMAND *self = &kmsenv_command_init;
    const char *path = NULL;
    int option, status, rotate = 0;

    while ((option = kmsenv_cli_option(self, argc, argv, &status)) != -1) {
        if (option == KEY_FILE)
            path = optarg;
        else
            rotate = 1;
    }
    if (status != -1)
        return status;
    if (path == NULL || *path == '\0')
        return kmsenv_cli_usage(self, "init: --key-file is required");
    if (optind < argc)
        return kmsenv_cli_usage(self, "init: '%s' is one argument too many", argv[optind]);
    return make(path, rotate);
}

static const struct option options[] = {
    { "key-file", required_argument, NULL, KEY_FILE },
    { "rotate", no_argument, NULL, ROTATE },
    { NULL, 0, NULL, 0 }
};

const KMSENV_COMMAND kmsenv_command_init = {
    .name = "init",
    .synopsis = "--key-file PATH [--rotate]",
    .summary = "Make a local master key, or add a version to one",
    .help = "  --key-file PATH     the file to make (mode 0600); one that exists is never overwritten\n"
            "  --rotate            add a version to the key in PATH; older versions keep decrypting,\n"
            "                      running programs take the new one at their next use of the key\n",
    .options = options,
    .run = run
};
