#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "cli/cli.h"
#include "cli/pool.h"
#include "cli/rewrap.h"
#include "core/clock.h"
#include "core/lock.h"
#include "dek/keyring.h"

#define IN_A_ROW_MAX 10      /* failures that have the same cause for every file: then the run is ended */
#define RATE_MAX     1000000

enum { TO = 1, ADD, FORCE, VERIFY, IN_KMS, DRY_RUN, RATE, JOBS, VERBOSE };

static atomic_int stop;      /* 1: a signal; 2: see IN_A_ROW_MAX */

typedef struct run_st {
    KMSENV_REWRAP_RUN run;             /* first */
    KMSENV_REWRAP_OPTIONS options;
    KMSENV_BUFFER names;               /* of profiles */
    uint64_t interval_us;              /* between operations of a KMS; 0 = no limit */
    size_t jobs;
    int verbose;
    KMSENV_POOL *pool;
    KMSENV_LOCK *lock;                 /* of what follows: */
    uint64_t next_us;                  /* when the next operation may begin */
    unsigned long long outcomes[KMSENV_REWRAP_OUTCOMES], in_kms, here, kept;
    unsigned in_a_row;
} RUN;

/* What a thread gets: a file in a directory that is open. */
typedef struct task_st {
    int dir;                           /* -1: path is all there is */
    const char *path;                  /* of the directory, or of the file */
    unsigned char id[KMSENV_DEK_ID_LEN];   /* the file in the directory */
} TASK;

/* --- pace ----------------------------------------------------------------- */

static void wait_for_turn(void *arg)
{
    struct timespec ts;
    uint64_t now, turn;
    RUN *r = arg;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    now = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
    kmsenv_lock_take(r->lock);
    turn = r->next_us > now ? r->next_us : now;
    r->next_us = turn + r->interval_us;
    kmsenv_lock_release(r->lock);
    ts.tv_sec = (time_t)(turn / 1000000);
    ts.tv_nsec = (long)(turn % 1000000) * 1000;
    while (turn > now && !stop && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

/* --- one file ------------------------------------------------------------- */

/* Not this file's fault, but that of the KMS, the credentials or the disk. */
static int is_general(int reason)
{
    return kmsenv_reason_is_unreachable(reason) || reason == KMSENV_R_KMS_CREDENTIALS || reason == KMSENV_R_KMS_CLOCK
           || reason == KMSENV_R_CONFIG_INVALID || reason == KMSENV_R_KEYRING_FAILED || reason == KMSENV_R_KEY_FILE_INVALID;
}

static void count(RUN *r, const KMSENV_REWRAP_ITEM *item, int reason)
{
    kmsenv_lock_take(r->lock);
    r->outcomes[item->outcome]++;
    if (item->outcome == KMSENV_REWRAP_DONE) {
        r->in_kms += item->in_kms;
        r->here += item->here;
        r->kept += item->kept;
    }
    r->in_a_row = item->outcome == KMSENV_REWRAP_FAILED && is_general(reason) ? r->in_a_row + 1 : 0;
    if (r->in_a_row == IN_A_ROW_MAX && !stop)
        stop = 2;
    kmsenv_lock_release(r->lock);
}

static void tell(const RUN *r, const char *path, const KMSENV_REWRAP_ITEM *item, const KMSENV_ERROR *err)
{
    static const char *const did[] = { "rewrapped", "unchanged", "", "skipped" };
    const char *text = kmsenv_buffer_text(&item->story);
    FILE *out = item->outcome == KMSENV_REWRAP_FAILED ? stderr : stdout;

    if (item->outcome != KMSENV_REWRAP_FAILED && !r->verbose)
        return;
    flockfile(out);
    fputs(out == stderr ? "kmsenv: " : "", out);
    kmsenv_cli_print_text(out, path, strlen(path));
    fputs(": ", out);
    if (out == stderr) {
        kmsenv_cli_print_text(out, err->text, strlen(err->text));
    } else {
        fprintf(out, "%s%s: ", r->run.dry_run && item->outcome == KMSENV_REWRAP_DONE ? "would be " : "", did[item->outcome]);
        kmsenv_cli_print_text(out, text, strlen(text));
    }
    fputc('\n', out);
    funlockfile(out);
}

/* The directory and the name of a file whose path may lead over symbolic links: those of what they lead to. */
static int open_real(KMSENV_REPLACE *file, const char *path, char real[PATH_MAX], KMSENV_ERROR *err)
{
    char *slash;
    int dir;

    if (realpath(path, real) == NULL)
        return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "cannot be opened: %s", strerror(errno));
    slash = strrchr(real, '/');
    *slash = '\0';
    dir = open(slash == real ? "/" : real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "its directory cannot be read: %s", strerror(errno));
    if (kmsenv_replace_open(file, dir, slash + 1, err)) {
        file->sync_dir = 1;
        return 1;
    }
    close(dir);
    return err->reason != KMSENV_R_NONE ? 0 : kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "it is being replaced");
}

static void work(void *arg, const void *element)
{
    const TASK *task = element;
    char name[2 * KMSENV_DEK_ID_LEN + 8], path[PATH_MAX], real[PATH_MAX];
    RUN *r = arg;
    KMSENV_REWRAP_ITEM item = { .run = &r->run, .file = { .fd = -1, .stop = &stop } };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    int ok;

    if (stop)
        return;
    kmsenv_buffer_init(&item.story, 65536, 0);
    if (task->dir < 0) {
        snprintf(path, sizeof(path), "%s", task->path);
        ok = open_real(&item.file, path, real, &err);
    } else {
        kmsenv_dek_id_hex(task->id, name);
        memcpy(name + 2 * KMSENV_DEK_ID_LEN, ".pem", 5);
        snprintf(path, sizeof(path), "%s/%s", task->path, name);
        item.id = task->id;
        ok = kmsenv_replace_open(&item.file, task->dir, name, &err)
             || (err.reason == KMSENV_R_NONE && open_real(&item.file, path, real, &err));
    }
    if (!ok || !kmsenv_rewrap_file(&item, &err))
        item.outcome = KMSENV_REWRAP_FAILED;
    kmsenv_replace_close(&item.file);
    if (item.file.sync_dir)
        close(item.file.dir);
    count(r, &item, err.reason);
    tell(r, path, &item, &err);
    kmsenv_buffer_reset(&item.story);
}

/* --- a keyring ------------------------------------------------------------ */

/*
 * The ids go through a file, and not through memory: there may be millions. And not from readdir() at once: while files
 * are replaced, some file systems tell names twice, or without end.
 */
static int list_ids(RUN *r, DIR *d, FILE *ids)
{
    unsigned char id[KMSENV_DEK_ID_LEN];
    const struct dirent *e;

    while (errno = 0, (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (!kmsenv_keyring_id_of_name(e->d_name, id))
            r->outcomes[KMSENV_REWRAP_SKIPPED]++;       /* no thread is at work yet */
        else if (fwrite(id, sizeof(id), 1, ids) != 1)
            return 0;
    }
    return errno == 0 && fflush(ids) == 0 && fseeko(ids, 0, SEEK_SET) == 0;
}

static int add_all(RUN *r, TASK *task, FILE *ids)
{
    while (!stop && fread(task->id, sizeof(task->id), 1, ids) == 1)
        kmsenv_pool_add(r->pool, task);
    return !ferror(ids) || kmsenv_cli_failed("%s: the list of its data keys cannot be read", task->path) == KMSENV_EXIT_OK;
}

static int do_keyring(RUN *r, const char *path, DIR *d)
{
    TASK task = { .dir = dirfd(d), .path = path };
    FILE *ids = tmpfile();
    int fd = ids != NULL ? -1 : memfd_create("ids", MFD_CLOEXEC), ok;     /* where /tmp cannot be written */

    if (fd >= 0 && (ids = fdopen(fd, "w+")) == NULL)
        close(fd);
    if (!r->run.dry_run && faccessat(task.dir, ".", W_OK | X_OK, AT_EACCESS) != 0)
        ok = kmsenv_cli_failed("%s: the directory cannot be written: %s", path, strerror(errno)) == KMSENV_EXIT_OK;
    else if (ids == NULL || !list_ids(r, d, ids))
        ok = kmsenv_cli_failed("%s: the directory cannot be listed: %s", path, strerror(errno)) == KMSENV_EXIT_OK;
    else
        ok = add_all(r, &task, ids);
    kmsenv_pool_wait(r->pool);
    if (ids != NULL)
        fclose(ids);
    if (ok && !r->run.dry_run && fsync(task.dir) != 0 && errno != EINVAL)
        ok = kmsenv_cli_failed("%s: the directory cannot be synced: %s", path, strerror(errno)) == KMSENV_EXIT_OK;
    return ok;
}

static int do_operand(RUN *r, const char *path)
{
    TASK task = { .dir = -1, .path = path };
    DIR *d = opendir(path);
    int ok;

    if (d == NULL) {
        kmsenv_pool_add(r->pool, &task);      /* what is not there, or may not be read, is said there */
        return 1;
    }
    kmsenv_pool_wait(r->pool);      /* the count of other names is not locked */
    ok = do_keyring(r, path, d);
    closedir(d);
    return ok;
}

/* --- the command ---------------------------------------------------------- */

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static void print_summary(const RUN *r)
{
    printf("%s %llu, unchanged %llu, failed %llu, skipped %llu\n", r->run.dry_run ? "would rewrap" : "rewrapped",
           r->outcomes[KMSENV_REWRAP_DONE], r->outcomes[KMSENV_REWRAP_UNCHANGED], r->outcomes[KMSENV_REWRAP_FAILED],
           r->outcomes[KMSENV_REWRAP_SKIPPED]);
    printf("wraps: re-encrypted in the KMS %llu, made here %llu, kept %llu\n", r->in_kms, r->here, r->kept);
}

static int do_all(RUN *r, int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    int i, ok = 1;

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    for (i = optind; i < argc && !stop; i++)
        ok = do_operand(r, argv[i]) && ok;
    kmsenv_pool_free(r->pool);
    r->pool = NULL;
    print_summary(r);
    if (stop == 1)
        kmsenv_cli_failed("rewrap: stopped by a signal; what is done is done, run it again for the rest");
    if (stop == 2)
        kmsenv_cli_failed("rewrap: stopped, because %d files in a row failed for a reason that is not theirs; what is done is "
                          "done, run it again for the rest", IN_A_ROW_MAX);
    return kmsenv_cli_finish(ok && !stop && r->outcomes[KMSENV_REWRAP_FAILED] == 0 ? KMSENV_EXIT_OK : KMSENV_EXIT_FAILED);
}

static int start(RUN *r, int argc, char **argv)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_PROVCTX *provctx = kmsenv_cli_own_provider(&err);
    const KMSENV_RUNTIME *runtime = provctx == NULL ? NULL : provctx->runtime(provctx, &err);
    int status = KMSENV_EXIT_FAILED;

    if (runtime == NULL)
        return kmsenv_cli_error(&err);
    r->options.profiles = r->names.length == 0 ? NULL : kmsenv_buffer_text(&r->names);
    r->options.pace = r->interval_us == 0 ? NULL : wait_for_turn;
    r->options.pace_arg = r;
    r->run.rewrap = kmsenv_rewrap_new(runtime->deks, &r->options, &err);
    r->lock = kmsenv_lock_new(KMSENV_LEVEL_PROVIDER);
    r->pool = r->lock == NULL ? NULL : kmsenv_pool_new(r->jobs, sizeof(TASK), work, r);
    if (r->run.rewrap == NULL)
        status = kmsenv_cli_error(&err);
    else if (r->pool == NULL)
        status = kmsenv_cli_failed("out of memory");
    else
        status = do_all(r, argc, argv);
    kmsenv_pool_free(r->pool);
    kmsenv_rewrap_free(r->run.rewrap);
    kmsenv_lock_free(r->lock);
    return status;
}

/* A number of digits only, 1 to max; 0 otherwise. */
static uint64_t number_of(const char *text, uint64_t max)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t value = digits == 0 || digits > 9 || text[digits] != '\0' ? 0 : strtoull(text, NULL, 10);

    return value <= max ? value : 0;
}

static int set_option(RUN *r, int option, const char *value)
{
    uint64_t number = option == RATE || option == JOBS ? number_of(value, option == RATE ? RATE_MAX : KMSENV_POOL_THREADS_MAX) : 1;

    switch (option) {
    case TO:
    case ADD:
        if (r->names.length > 0 && r->options.add != (option == ADD))
            return kmsenv_cli_usage(&kmsenv_command_rewrap, "rewrap: --to or --add, not both");
        r->options.add = option == ADD;
        kmsenv_buffer_printf(&r->names, "%s%s", r->names.length > 0 ? "," : "", *value == '\0' ? "," : value);
        break;
    case FORCE: r->options.force = 1; break;
    case VERIFY: r->options.verify = 1; break;
    case IN_KMS: r->options.in_kms = 1; break;
    case DRY_RUN: r->run.dry_run = 1; break;
    case VERBOSE: r->verbose = 1; break;
    case JOBS: r->jobs = (size_t)number; break;
    default: r->interval_us = number == 0 ? 0 : 1000000 / number;
    }
    if (number == 0)
        return kmsenv_cli_usage(&kmsenv_command_rewrap, "rewrap: --%s takes a number from 1 to %d", option == RATE ? "rate" : "jobs",
                                option == RATE ? RATE_MAX : KMSENV_POOL_THREADS_MAX);
    return -1;
}

static int run(int argc, char **argv)
{
    RUN r = { .jobs = 4 };
    int option, status, bad = -1;

    kmsenv_buffer_init(&r.names, 65536, 0);
    while (bad == -1 && (option = kmsenv_cli_option(&kmsenv_command_rewrap, argc, argv, &status)) != -1)
        bad = set_option(&r, option, optarg);
    if (bad != -1)
        status = bad;
    else if (status == -1 && r.options.verify && r.options.in_kms)
        status = kmsenv_cli_usage(&kmsenv_command_rewrap, "rewrap: --verify brings data keys here, --in-kms forbids that");
    else if (status == -1 && optind == argc)
        status = kmsenv_cli_usage(&kmsenv_command_rewrap, "rewrap: name files or directories");
    else if (status == -1)
        status = start(&r, argc, argv);
    kmsenv_buffer_reset(&r.names);
    return status;
}

static const struct option options[] = {
    { "to", required_argument, NULL, TO },
    { "add", required_argument, NULL, ADD },
    { "force", no_argument, NULL, FORCE },
    { "verify", no_argument, NULL, VERIFY },
    { "in-kms", no_argument, NULL, IN_KMS },
    { "dry-run", no_argument, NULL, DRY_RUN },
    { "rate", required_argument, NULL, RATE },
    { "jobs", required_argument, NULL, JOBS },
    { "verbose", no_argument, NULL, VERBOSE },
    { NULL, 0, NULL, 0 }
};

const KMSENV_COMMAND kmsenv_command_rewrap = {
    .name = "rewrap",
    .synopsis = "[--to PROFILES | --add PROFILES] [OPTION...] FILE | DIRECTORY...",
    .summary = "Wrap data keys anew: newest master key, another one, or other profiles",
    .help = "FILE: a message, PEM with data keys or sealed keys, or a data key; DIRECTORY: a keyring. Without\n"
            "--to and --add, each wrap is renewed by the profile that answers for it.\n"
            "\n"
            "  --to PROFILES       the wraps are those of these profiles (A,B), and no others\n"
            "  --add PROFILES      the wraps of these profiles are added\n"
            "  --force             also where these wraps are there already\n"
            "  --verify            unwrap each new wrap and check it before the old ones are given up\n"
            "  --in-kms            fail where a data key would have to leave the KMS\n"
            "  --dry-run           tell what would be done; no KMS is asked, nothing is written\n"
            "  --rate N            begin at most N operations of KMSes in a second\n"
            "  --jobs N            work on N files at a time; 4 unless given\n"
            "  --verbose           a line for each file\n",
    .options = options,
    .run = run
};
