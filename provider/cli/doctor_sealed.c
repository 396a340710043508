/* Which messages, sealed keys and data keys the configuration can open. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/found.h"
#include "core/buffer.h"
#include "core/clock.h"
#include "dek/deks.h"
#include "envelope/sealed_key.h"

#define PATH_ROOM   4096
#define DEPTH_MAX   8
#define ENTRIES_MAX 20000     /* below one directory */

/* Where programs have their keys. */
static const char *const usual[] = {
    "/etc/apache2", "/etc/bind", "/etc/dovecot", "/etc/haproxy", "/etc/letsencrypt", "/etc/lighttpd", "/etc/mosquitto",
    "/etc/nginx", "/etc/openvpn", "/etc/postfix", "/etc/postgresql", "/etc/redis", "/etc/ssl", "/etc/stunnel", "/etc/unbound",
    "/var/lib/postgresql",
};

OSSL_provider_init_fn OSSL_provider_init;

typedef struct search_st {
    OSSL_LIB_CTX *libctx;
    OSSL_PROVIDER *provider, *standard;
    KMSENV_PROVCTX *provctx;
    KMSENV_DEKS *deks;
    int try;
    KMSENV_REPORT *report;
    size_t entries, found, closed;     /* of one directory */
} SEARCH;

/* --- the provider --------------------------------------------------------- */

/* The provider from inside of this command, in a library context of its own, as the configuration has it. */
static int start(SEARCH *s, const KMSENV_INSTALLATION *in)
{
    const char *name = kmsenv_installation_name(in);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const KMSENV_RUNTIME *runtime = NULL;

    if ((s->libctx = OSSL_LIB_CTX_new()) != NULL && OSSL_PROVIDER_add_builtin(s->libctx, name, OSSL_provider_init)
            && (in->section == NULL || OSSL_LIB_CTX_load_config(s->libctx, in->file))
            && (s->standard = OSSL_PROVIDER_load(s->libctx, "default")) != NULL
            && (s->provider = OSSL_PROVIDER_load(s->libctx, name)) != NULL) {
        s->provctx = OSSL_PROVIDER_get0_provider_ctx(s->provider);
        runtime = s->provctx->runtime(s->provctx, &err);
    }
    ERR_clear_error();
    if (runtime == NULL)
        kmsenv_reportf(s->report, KMSENV_CHECK_FAILED, "files", "correct the configuration first",
                       "cannot be judged: the configuration cannot be used: %s", err.text);
    else
        s->deks = runtime->deks;
    return s->deks != NULL;
}

static void stop(SEARCH *s)
{
    if (s->provider != NULL)
        OSSL_PROVIDER_unload(s->provider);
    if (s->standard != NULL)
        OSSL_PROVIDER_unload(s->standard);
    OSSL_LIB_CTX_free(s->libctx);
}

/* --- one file ------------------------------------------------------------- */

static void fail(SEARCH *s, const char *path, const KMSENV_FOUND *found, const KMSENV_ERROR *err)
{
    static const char configure[] = "configure a profile for that key, name the key in the decrypt-keys of one, or rewrap the data key";
    const char *remedy = err->reason == KMSENV_R_NO_USABLE_WRAP ? configure : kmsenv_doctor_remedy(err->reason);

    kmsenv_reportf(s->report, KMSENV_CHECK_FAILED, path, remedy == NULL ? "restore the file from a copy" : remedy, "%s%s%s",
                   found->kind == NULL ? "" : found->kind, found->kind == NULL ? "" : ": ", err->text);
}

static void no_profile(const KMSENV_DATA_KEY *key, KMSENV_ERROR *err)
{
    char kms[64], id[64];

    if (err->reason == KMSENV_R_NONE)
        kmsenv_error_set(err, KMSENV_R_NO_USABLE_WRAP, "cannot be opened with this configuration: no profile answers for key '%s' of kms = %s%s",
                         kmsenv_shown(key->wrap[0].blob.key_id, id), kmsenv_shown(key->wrap[0].kms, kms),
                         key->wraps > 1 ? ", or those of the other wraps" : "");
}

/* The private key in it; it is cleansed at once. */
static int open_sealed_key(SEARCH *s, const KMSENV_FOUND *found, KMSENV_ERROR *err)
{
    KMSENV_BUFFER key;
    int ok;

    kmsenv_buffer_init(&key, found->sealed_len, 1);
    ok = kmsenv_sealed_key_open(s->deks, s->provctx->crypto, &s->provctx->counters, found->sealed, found->sealed_len, &key, err);
    kmsenv_buffer_reset(&key);
    return ok;
}

/* The KMS unwraps the data key, and what comes must have its id. */
static int unwrap(SEARCH *s, const KMSENV_FOUND *found, KMSENV_ERROR *err)
{
    KMSENV_DEK_REQUEST *request = kmsenv_dek_request_new(s->deks);
    KMSENV_DEK *dek = request == NULL ? NULL : kmsenv_deks_get_to_decrypt(s->deks, request, found->der, found->der_len, NULL, err);

    kmsenv_dek_free(dek);
    kmsenv_dek_request_free(request);
    return dek != NULL;
}

static void try_it(SEARCH *s, const char *path, const KMSENV_FOUND *found)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    uint64_t start = kmsenv_clock_ms();

    if ((found->sealed != NULL ? open_sealed_key : unwrap)(s, found, &err))
        kmsenv_reportf(s->report, KMSENV_CHECK_OK, path, NULL, "%s: %s in %" PRIu64 " ms", found->kind,
                       found->sealed != NULL ? "opened" : "its data key was unwrapped", kmsenv_clock_ms() - start);
    else
        fail(s, path, found, &err);
}

static void judge(SEARCH *s, const char *path, const KMSENV_FOUND *found, const KMSENV_DATA_KEY *key)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    const char *profile = NULL;
    size_t w;

    for (w = 0; w < key->wraps && profile == NULL; w++)
        profile = kmsenv_deks_profile_for(s->deks, key->wrap[w].kms, key->wrap[w].blob.key_id, &err);
    if (profile == NULL) {
        no_profile(key, &err);
        fail(s, path, found, &err);
    } else if (!s->try) {
        kmsenv_reportf(s->report, KMSENV_CHECK_OK, path, NULL, "%s: profile %s answers for it", found->kind, profile);
    } else {
        try_it(s, path, found);
    }
}

static void judge_found(SEARCH *s, const char *path, const KMSENV_FOUND *found)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *kept = NULL;
    unsigned char *der = NULL;
    size_t len;

    if (found->key->wraps > 0) {
        judge(s, path, found, found->key);
        return;
    }
    if (kmsenv_deks_find(s->deks, found->key->id, &der, &len, &err))
        kept = kmsenv_data_key_parse(der, len, &err);
    if (kept == NULL)
        fail(s, path, found, &err);
    else
        judge(s, path, found, kept);
    kmsenv_data_key_free(kept);
    OPENSSL_free(der);
}

/* named: by the user; otherwise it is one of many in a directory, of which most are not ours. */
static void check_file(SEARCH *s, const char *path, int named)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_FOUND found;
    int ok = kmsenv_found_look(&found, path, named, &err);

    s->found += found.kind != NULL;
    if (ok && found.kind != NULL)
        judge_found(s, path, &found);
    else if (ok && named)
        kmsenv_report(s->report, KMSENV_CHECK_NOTE, path, "not a message, sealed key or data key, neither in PEM nor in DER", NULL);
    else if (!ok && (named || found.kind != NULL))
        fail(s, path, &found, &err);
    else if (!ok)
        s->closed++;
    kmsenv_found_reset(&found);
}

/* --- directories ---------------------------------------------------------- */

static void search(SEARCH *s, const char *path, unsigned depth)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (depth > 0 ? O_NOFOLLOW : 0));
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    char below[PATH_ROOM];
    struct stat st;

    if (dir == NULL) {
        s->closed++;
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(dir)) != NULL && s->entries < ENTRIES_MAX) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0
                || snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) >= (int)sizeof(below)
                || fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        s->entries++;
        if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
            search(s, below, depth + 1);
        else if (S_ISREG(st.st_mode))
            check_file(s, below, 0);
    }
    closedir(dir);
}

static void check_directory(SEARCH *s, const char *path)
{
    s->entries = s->found = s->closed = 0;
    search(s, path, 0);
    if (s->closed > 0)
        kmsenv_reportf(s->report, KMSENV_CHECK_NOTE, path, "run doctor as root, or as the user whose files they are",
                       "%zu of the files and directories in it cannot be read by this user", s->closed);
    if (s->entries >= ENTRIES_MAX)
        kmsenv_reportf(s->report, KMSENV_CHECK_NOTE, path, "name the directories below it, one by one", "only the first %d entries were looked at", ENTRIES_MAX);
    kmsenv_reportf(s->report, KMSENV_CHECK_OK, path, NULL, "%zu entries, of which %zu are messages, sealed keys or data keys", s->entries, s->found);
}

static void check_path(SEARCH *s, const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        check_directory(s, path);
    else
        check_file(s, path, 1);
}

static void check_keyring(SEARCH *s)
{
    const char *dirs = kmsenv_deks_get0_keyring(s->deks);
    char *copy = dirs == NULL ? NULL : strdup(dirs), *rest = copy, *path;

    while (copy != NULL && (path = strsep(&rest, ":")) != NULL)
        if (access(path, F_OK) == 0)
            check_directory(s, path);
    free(copy);
}

void kmsenv_doctor_check_sealed(const KMSENV_INSTALLATION *in, char **files, int scan, int try, KMSENV_REPORT *report)
{
    SEARCH s = { .try = try, .report = report };
    size_t i;

    if ((*files != NULL || scan) && start(&s, in)) {
        for (; *files != NULL; files++)
            check_path(&s, *files);
        for (i = 0; scan && i < sizeof(usual) / sizeof(usual[0]); i++)
            if (access(usual[i], F_OK) == 0)
                check_directory(&s, usual[i]);
        if (scan)
            check_keyring(&s);
    }
    stop(&s);
}
