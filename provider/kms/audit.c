#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "core/buffer.h"
#include "core/descriptor.h"
#include "core/lock.h"
#include "kms/audit.h"
#include "kms/json.h"

#define LINE_MAX_BYTES 8192   /* well under what one write(2) to a file keeps together */

struct kmsenv_audit_st {
    char *path;               /* NULL = syslog */
    KMSENV_LOCK *lock;        /* of file */
    KMSENV_DESCRIPTOR file;
};

KMSENV_AUDIT *kmsenv_audit_new(const char *target, KMSENV_ERROR *err)
{
    KMSENV_AUDIT *a;
    int to_syslog;

    if (target == NULL || *target == '\0')
        return NULL;
    to_syslog = strcmp(target, "syslog") == 0;
    if (!to_syslog && target[0] != '/') {
        kmsenv_error_set(err, KMSENV_R_CONFIG_INVALID, "audit-log = '%.80s'; accepted: an absolute path, or syslog", target);
        return NULL;
    }
    if ((a = OPENSSL_zalloc(sizeof(*a))) != NULL) {
        a->file.fd = -1;
        a->path = to_syslog ? NULL : OPENSSL_strdup(target);
        a->lock = kmsenv_lock_new(KMSENV_LEVEL_AUDIT);
        if (a->lock != NULL && (to_syslog || a->path != NULL))
            return a;
    }
    kmsenv_audit_free(a);
    kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the audit log");
    return NULL;
}

void kmsenv_audit_free(KMSENV_AUDIT *audit)
{
    if (audit == NULL)
        return;
    kmsenv_descriptor_set(&audit->file, -1);
    kmsenv_lock_free(audit->lock);
    OPENSSL_free(audit->path);
    OPENSSL_free(audit);
}

static void add_time(KMSENV_BUFFER *line)
{
    struct timespec now;
    char text[40] = "", day[24] = "";
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &tm) != NULL && strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm) > 0)
        snprintf(text, sizeof(text), "%s.%03ldZ", day, now.tv_nsec / 1000000);
    kmsenv_json_add_text(line, "time", text);
}

/* Texts may come from a message's header: whatever is not UTF-8 is left out. */
static void add_text(KMSENV_BUFFER *line, const char *name, const char *text)
{
    if (text != NULL && *text != '\0' && kmsenv_json_is_utf8(text, strlen(text)))
        kmsenv_json_add_text(line, name, text);
}

static void make_line(KMSENV_BUFFER *line, const KMSENV_AUDIT_EVENT *e)
{
    const char *outcome = e->reason == KMSENV_R_NONE ? "ok" : kmsenv_reason_text(e->reason);

    kmsenv_json_open(line, NULL);
    add_time(line);
    add_text(line, "operation", e->operation);
    add_text(line, "profile", e->profile);
    add_text(line, "kms", e->kms);
    add_text(line, "keyId", e->key_id);
    add_text(line, "dekId", e->dek_id);
    add_text(line, "requestId", e->request_id);
    kmsenv_json_add_number(line, "attempts", e->attempts);
    kmsenv_json_add_number(line, "milliseconds", (int64_t)e->milliseconds);
    kmsenv_json_add_text(line, "outcome", outcome == NULL ? "unknown" : outcome);
    kmsenv_json_add_number(line, "pid", getpid());
    kmsenv_json_close(line);
}

/* Was the log moved away (rotated) since it was opened? */
static int is_moved(const KMSENV_AUDIT *a)
{
    struct stat now;

    return lstat(a->path, &now) != 0 || now.st_ino != a->file.inode || now.st_dev != a->file.device;
}

/*
 * A descriptor of our own to write to, so that no lock is held while the disk is slow. -1 = none.
 * The file stays open: a server may give up the right to open it, or fork workers that never had it.
 */
static int borrow_fd(KMSENV_AUDIT *a)
{
    int fd;

    kmsenv_lock_take(a->lock);
    if (!kmsenv_descriptor_is_ours(&a->file))
        a->file.fd = -1;
    if (a->file.fd < 0 || is_moved(a)) {
        fd = open(a->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
        if (fd >= 0)
            kmsenv_descriptor_set(&a->file, fd);
    }
    fd = a->file.fd < 0 ? -1 : fcntl(a->file.fd, F_DUPFD_CLOEXEC, 3);
    kmsenv_lock_release(a->lock);
    return fd;
}

void kmsenv_audit_write(KMSENV_AUDIT *audit, const KMSENV_AUDIT_EVENT *event)
{
    KMSENV_BUFFER line;
    int fd, saved = errno;

    if (audit == NULL)
        return;
    kmsenv_buffer_init(&line, LINE_MAX_BYTES, 0);
    make_line(&line, event);
    if (line.failed) {
        kmsenv_buffer_reset(&line);
        return;
    }
    if (audit->path == NULL) {
        syslog(LOG_AUTHPRIV | LOG_INFO, "kmsenv: %s", kmsenv_buffer_text(&line));
    } else if ((fd = borrow_fd(audit)) >= 0) {
        kmsenv_buffer_add(&line, "\n", 1);
        while (write(fd, line.data, line.length) < 0 && errno == EINTR)
            ;
        close(fd);
    }
    kmsenv_buffer_reset(&line);
    errno = saved;
}
